/* SPDX-License-Identifier: BSD-2-Clause */
/* How an image fares from step to step: what an average over the steps of an attack hides. */
#ifndef CSO_ATTACK_COURSE_H
#define CSO_ATTACK_COURSE_H

#include <stdbool.h>
#include <stdint.h>

/* A gradient with at least this share of components that are zero or tiny has vanished. */
#define CSO_VANISHED_SHARE 0.99
/* Losses are compared between this many equal parts of a run. */
#define CSO_COURSE_PARTS 4

typedef struct cso_course_part {
    uint32_t count;
    int64_t first_step;
    double sum, squares; /* of loss - start */
} cso_course_part;

/* Of one run. Zeroed. */
typedef struct cso_course {
    uint32_t gradients;  /* at points that are classified right: one that is not needs no gradient any more */
    uint32_t vanished;   /* of these the last ones, without a break, that have vanished */
    int64_t vanished_at; /* step of the first of those */
    bool started;
    double start; /* first loss */
    cso_course_part part[CSO_COURSE_PARTS];
} cso_course;

void cso_course_add_gradient(cso_course *course, int64_t step, bool vanished);
/* Of a finite loss; steps: of the whole run, the start among them. */
void cso_course_add_loss(cso_course *course, int64_t step, int64_t steps, double loss);

/*
 * Step from which on every gradient has vanished; -1 where that is none, or only the last ones of a run: less than a
 * quarter of it, or a single one of several.
 */
int64_t cso_course_vanished_from(const cso_course *course);
/*
 * Step from which on the loss has lost what it had won: in the last part of the run its mean is below that of the best
 * part by more than the scatter within both explains, and has less than half of the rise left. -1: it has not, or the run
 * is too short to tell.
 */
int64_t cso_course_fell_from(const cso_course *course);

#endif
