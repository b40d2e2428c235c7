/* SPDX-License-Identifier: BSD-2-Clause */
/* FAB on any objective whose loss is a margin: positive where an image is misclassified. */
#ifndef CSO_ATTACK_FAB_H
#define CSO_ATTACK_FAB_H

#include "attack/search.h"

/*
 * iterations are steps. Without targets each step looks for the nearest of the boundaries to all other classes, with
 * them for that to the target; misclassified is an image either way. Returns, and reports, as cso_search_perform, but
 * that the nearest point found is kept, where it is within epsilon.
 */
carso_status cso_fab_run(const cso_objective *objective, const cso_search *search, const float *images,
                         const int32_t *labels, int64_t count, float *adversarial, const cso_attack_report *report);

/* Evaluations of the objective, with draws of their own, by one run at most. */
#define CSO_FAB_EVALUATIONS(iterations) (2 * (uint64_t)(iterations) + 4)

#endif
