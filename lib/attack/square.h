/* SPDX-License-Identifier: BSD-2-Clause */
/* Square attack on any objective. */
#ifndef CSO_ATTACK_SQUARE_H
#define CSO_ATTACK_SQUARE_H

#include "attack/search.h"

/* iterations are queries, the first of which is the start. Returns, and reports, as cso_search_perform. */
carso_status cso_square_run(const cso_objective *objective, const cso_search *search, const float *images,
                            const int32_t *labels, int64_t count, float *adversarial, const cso_attack_report *report);

#endif
