/* SPDX-License-Identifier: BSD-2-Clause */
/* Auto-PGD on any objective, untargeted and targeted. */
#ifndef CSO_ATTACK_APGD_H
#define CSO_ATTACK_APGD_H

#include "attack/search.h"

/* iterations are steps. Returns, and reports, as cso_search_perform. */
carso_status cso_apgd_run(const cso_objective *objective, const cso_search *search, const float *images,
                          const int32_t *labels, int64_t count, float *adversarial, const cso_attack_report *report);

/* The checkpoint after current, which comes after last, all in shares of the steps. Here for tests. */
double cso_apgd_next_checkpoint(double last, double current);

#endif
