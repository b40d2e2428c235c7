/* SPDX-License-Identifier: BSD-2-Clause */
/* FGSM and PGD on any objective. Used by carso_attack and by the trainers. */
#ifndef CSO_ATTACK_PGD_H
#define CSO_ATTACK_PGD_H

#include "attack/query.h"
#include "carso/attack.h"

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
    carso_norm norm;        /* L2: steps along the gradient over its length; not with fgsm */
    double momentum;        /* g = momentum * g + gradient / |gradient|_1 takes the gradient's place; 0: none */
    const int32_t *targets; /* [count], or NULL */
    bool fixed_draws;       /* of each restart, but for the last loss */
    /* NULL, or what the losses reported and the choice of a restart are of, in place of what is attacked. Its eot. */
    const cso_objective *judge;
    int judge_eot;
} cso_pgd;

/*
 * images: originals, in [0, 1]; adversarial: out, within [0, 1] and epsilon. report may be NULL; with no
 * report and one restart the losses at the last points are not computed. An image whose loss or gradient is not finite
 * goes back to the last point where both were (the original, where there is none; its losses are then what they are)
 * and stays there for that restart, while the others go on. Returns NON_FINITE where any was met, after finishing.
 * CANCELLED, CALLBACK: adversarial holds the last points whose loss is known.
 * Evaluation e of restart r consumes draws (r * evaluations + e) * objective->draws onwards.
 */
carso_status cso_pgd_run(const cso_objective *objective, const cso_pgd *pgd, const float *images, const int32_t *labels,
                         int64_t count, float *adversarial, const cso_attack_report *report);

#endif
