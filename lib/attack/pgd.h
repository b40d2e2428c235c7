/* SPDX-License-Identifier: BSD-2-Clause */
/* FGSM and PGD on any objective. Used by carso_attack and by the trainers. */
#ifndef CSO_ATTACK_PGD_H
#define CSO_ATTACK_PGD_H

#include "carso/attack.h"
#include "model/run.h"

/* What is attacked: evaluates the loss and its gradient at images [count][C][H][W] float, given per-image keys; step
 * and repeat select fresh draws. gradient may be NULL. */
typedef struct cso_objective {
    void *self;
    carso_status (*evaluate)(void *self, const float *images, int64_t count, const uint64_t *image_index,
                             uint32_t first_draw, const int32_t *labels, double *losses, float *gradient);
    int64_t image_size; /* C * H * W */
    uint32_t draws;     /* consumed by one evaluation */
    const carso_context *context;
    /* NULL, or used in place of evaluate where a gradient is wanted: the gradient of image i is gradient *
     * 2^exponent[i], so that no loss is too steep or too flat for float. */
    carso_status (*evaluate_scaled)(void *self, const float *images, int64_t count, const uint64_t *image_index,
                                    uint32_t first_draw, const int32_t *labels, double *losses, float *gradient,
                                    int32_t *exponent);
} cso_objective;

typedef struct cso_pgd {
    bool fgsm; /* one step of epsilon from the original; steps, step_size, restarts, random_start are not read */
    int steps, restarts, eot;
    bool random_start;
    /* per image, so that one call can mix strengths */
    const double *epsilon;
    const double *step_size;
    uint64_t seed;
    cso_purpose purpose; /* of the random start */
    const uint64_t *image_index;
    carso_progress_callback progress;
    void *progress_user;
} cso_pgd;

/*
 * images: originals, in [0, 1]; adversarial: out, within [0, 1] and epsilon. report and its arrays may be NULL; with no
 * report and one restart the losses at the last points are not computed. An image whose loss or gradient is not finite
 * goes back to the last point where both were (the original, where there is none; its losses are then what they are)
 * and stays there for that restart, while the others go on. Returns NON_FINITE where any was met, after finishing.
 * CANCELLED: adversarial holds the last points whose loss is known.
 * Evaluation e of restart r consumes draws (r * evaluations + e) * objective->draws onwards.
 */
typedef struct cso_pgd_report {
    double *first_loss, *last_loss;
    uint8_t *non_finite;
    double *zero_gradient;
} cso_pgd_report;

carso_status cso_pgd_run(const cso_objective *objective, const cso_pgd *pgd, const float *images, const int32_t *labels,
                         int64_t count, float *adversarial, const cso_pgd_report *report);

#endif
