/* SPDX-License-Identifier: BSD-2-Clause */
/* What an attack attacks, and one evaluation of it. */
#ifndef CSO_ATTACK_QUERY_H
#define CSO_ATTACK_QUERY_H

#include "attack/diagnosis.h"
#include "model/run.h"

/* One evaluation at images [count][C][H][W], or several, each with a set of draws; first_draw selects fresh ones. */
typedef struct cso_query {
    const float *images;
    int64_t count;
    const uint64_t *image_index; /* [count]: keys of the draws */
    uint32_t first_draw;
    const int32_t *labels;
    const int32_t *targets; /* [count], or NULL: untargeted */
    int sets;               /* 0 and 1: one; more only of objectives that take them */
    double *losses;         /* out [sets][count] */
    float *gradient;        /* out, the sum over sets; or NULL */
    int32_t *exponent;      /* out [count]; needed with gradient: that of image i is gradient * 2^exponent[i] */
    uint8_t *wrong;         /* out [sets][count]: 1 where not classified as labels say; or NULL */
    uint8_t *bad_gradient;  /* out [sets][count]: 1 where a set's part in gradient is not finite; or NULL */
    carso_status (*between)(void *user); /* NULL, or called while the objective works: not OK is CANCELLED */
    void *between_user;
} cso_query;

/* What is attacked: evaluates the loss and its gradient at images [count][C][H][W] float, given per-image keys;
 * first_draw selects fresh draws. gradient may be NULL. */
typedef struct cso_objective {
    void *self;
    carso_status (*evaluate)(void *self, const float *images, int64_t count, const uint64_t *image_index,
                             uint32_t first_draw, const int32_t *labels, double *losses, float *gradient);
    int64_t image_size; /* C * H * W */
    uint32_t draws;     /* consumed by one evaluation; 0: it is deterministic */
    const carso_context *context;
    /* NULL, or used in place of evaluate where a gradient is wanted: the gradient of image i is gradient *
     * 2^exponent[i], so that no loss is too steep or too flat for float. */
    carso_status (*evaluate_scaled)(void *self, const float *images, int64_t count, const uint64_t *image_index,
                                    uint32_t first_draw, const int32_t *labels, double *losses, float *gradient,
                                    int32_t *exponent);
    /* NULL, or used in place of both; without it there are no targets and nothing is known to be wrong. */
    carso_status (*query)(void *self, const cso_query *query);
    /* A query may be of several sets of draws, set s from first_draw + s * draws on. With them it costs less than that
     * many queries. */
    bool takes_sets;
} cso_objective;

/* Whether an attack that ends with it hands out the points that it has: they are as good as they are. */
static inline bool cso_keeps_points(carso_status status)
{
    return status == CARSO_OK || status == CARSO_CANCELLED || status == CARSO_ERROR_CALLBACK;
}

/* exponent is filled with 0 and wrong with 0 where the objective does not know better. */
carso_status cso_objective_query(const cso_objective *objective, const cso_query *query);

/* sum * 2^sum_exponent += gradient * 2^exponent */
void cso_gradient_add(double *sum, int32_t *sum_exponent, const float *gradient, int32_t exponent, size_t size);

/*
 * The mean over eot evaluations with fresh draws at images of a batch, of which those that are done are left out.
 * Opened and closed once an attack.
 */
typedef struct cso_mean_query {
    const cso_objective *objective;
    const uint64_t *image_index;
    const int32_t *labels;
    int64_t count;
    int eot;
    int judge_eot; /* the largest that judges will have */
    const cso_attack_report *report;  /* or NULL */
    carso_status (*between)(void *user); /* NULL, or called between parts of the eot evaluations: not OK ends the run */
    void *between_user;
    uint32_t next_draw;
    bool fixed; /* evaluations use the draws from fixed_draw on, all of them the same */
    uint32_t fixed_draw;
    int64_t step; /* that evaluations are counted for; < 0: none */
    bool only_gradients; /* losses of finite evaluations are not counted */
    /* Out, per image of the batch; not touched for those that are done. */
    double *loss;
    double *gradient; /* [count][size], times a power of two and eot */
    uint8_t *wrong;   /* in every one of the eot evaluations */
    uint8_t *bad;     /* a loss or gradient was not finite, of any one of them */
    int32_t *sum_exponent; /* d loss / d image of image i is gradient * 2^sum_exponent[i] / eot */
    cso_diagnosis diagnosis;
    /* Of the images that are not done, next to each other; losses, wrong and bad_gradient of room evaluations. */
    int room;
    float *packed_images, *packed_gradient;
    uint64_t *packed_index;
    int32_t *packed_labels, *packed_targets, *packed_exponent;
    double *packed_loss;
    uint8_t *packed_wrong, *packed_bad_gradient;
    int64_t *member;
} cso_mean_query;

/* The fields before next_draw are set before; with_gradient: whether any evaluation will want one. */
carso_status cso_mean_query_open(cso_mean_query *work, bool with_gradient);
void cso_mean_query_close(cso_mean_query *work);

/* done [count], or NULL: none is. targets [count], or NULL. */
carso_status cso_mean_query_run(cso_mean_query *work, const float *points, const uint8_t *done, const int32_t *targets,
                                bool with_gradient);

/* From now on all evaluations use the same draws, which no earlier one has used. */
void cso_mean_query_fix_draws(cso_mean_query *work);

/*
 * Judges points, with fresh draws, counted for no step: loss, wrong, bad of an objective other than the attack's own, or
 * of that where judge is NULL. eot is of judge.
 */
carso_status cso_mean_query_judge(cso_mean_query *work, const cso_objective *judge, int eot, const float *points,
                                  const uint8_t *done, const int32_t *targets);

#endif
