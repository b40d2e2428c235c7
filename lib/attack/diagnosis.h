/* SPDX-License-Identifier: BSD-2-Clause */
/* What an attack's evaluations met, counted per image and per step, so that masked gradients can be told. */
#ifndef CSO_ATTACK_DIAGNOSIS_H
#define CSO_ATTACK_DIAGNOSIS_H

#include "attack/course.h"
#include "base/context.h"

/* A component that is not 0 but smaller than this, in units of loss per unit of [0, 1], is tiny. */
#define CSO_TINY_SLOPE 1e-10

/* Sums over what was evaluated at a step. */
typedef struct cso_step_record {
    uint64_t evaluations; /* of an image */
    uint64_t non_finite;  /* of these: loss or gradient */
    uint64_t wrong;
    double loss; /* of the finite ones */
    uint64_t gradients; /* finite ones */
    uint64_t flat;      /* of these: zero in every component */
    uint64_t components, zero, tiny;
} cso_step_record;

typedef struct cso_image_record {
    uint32_t non_finite_losses, non_finite_gradients; /* of evaluations, each set of draws being one */
    uint64_t components, zero, tiny;
    uint64_t right_components, right_weak; /* at points classified right: all, zero or tiny ones */
    cso_course course; /* of the run under way */
    int64_t vanished_from, fell_from; /* over the runs before, as in the report */
    bool has_gradients, has_losses;   /* of those */
} cso_image_record;

/*
 * Out, all arrays [count], each may be NULL; filled by attacks that are OK, CANCELLED, NON_FINITE or stopped by the
 * caller's own loss.
 */
typedef struct cso_attack_report {
    double *first_loss, *last_loss;
    uint8_t *non_finite;
    double *zero_gradient, *tiny_gradient; /* shares of the components of all gradients */
    uint32_t *non_finite_losses, *non_finite_gradients;
    double *weak_gradient; /* share of zero and tiny components in gradients at points classified right; NaN: none were */
    /* As cso_course_vanished_from and cso_course_fell_from where that is so in every run, the latest step; else -1. */
    int32_t *vanished_from, *fell_from;
    double *distance; /* FAB: of the nearest misclassified point, INFINITY where none was found */
    /* Added to. Entry k is of steps k * stride .. (k + 1) * stride - 1, the last one of all that follow as well. */
    cso_step_record *steps;
    int64_t step_count, step_stride;
    int64_t evaluated_steps; /* of a run, the start among them; where fell_from is wanted */
} cso_attack_report;

typedef struct cso_diagnosis {
    int64_t count;
    cso_image_record *image; /* [count] */
    const cso_attack_report *report; /* or NULL */
} cso_diagnosis;

/* count and report are set before. */
carso_status cso_diagnosis_open(cso_diagnosis *diagnosis, const carso_context *context);
void cso_diagnosis_close(cso_diagnosis *diagnosis, const carso_context *context);

/* One evaluation, a mean of several, of an image at a step. finite: so were loss and gradient. */
void cso_diagnosis_add_loss(cso_diagnosis *diagnosis, int64_t image, int64_t step, bool finite, double loss,
                            bool wrong);
/* The gradient is the mean of evaluations, gradient * 2^exponent / evaluations, at a point that is wrong or not. */
void cso_diagnosis_add_gradient(cso_diagnosis *diagnosis, int64_t image, int64_t step, const double *gradient,
                                int32_t exponent, int evaluations, size_t size, bool wrong);
/* Between runs, of which each begins at step 0. */
void cso_diagnosis_end_run(cso_diagnosis *diagnosis);

/* Fills all of the report that is the diagnosis's. */
void cso_diagnosis_finish(cso_diagnosis *diagnosis);

/* NON_FINITE, naming the first, where an image of non_finite [count] is marked; image_index: [count], their numbers for
 * the caller. */
carso_status cso_diagnosis_check_finite(const carso_context *context, const uint8_t *non_finite,
                                        const uint64_t *image_index, int64_t count);

/* part / whole; 0 of nothing. */
double cso_diagnosis_share(uint64_t part, uint64_t whole);

#endif
