/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CSO_API_ATTACK_OPTIONS_H
#define CSO_API_ATTACK_OPTIONS_H

#include "api/image_batch.h"
#include "carso/attack.h"

/* All but targets, which are the batch's. */
carso_status cso_attack_options_check(const carso_model *model, const carso_attack_options *options);

static inline bool cso_attack_is_fab(const carso_attack_options *options)
{
    return options->method == CARSO_ATTACK_FAB || options->method == CARSO_ATTACK_FAB_TARGETED;
}

/* Whether the attack chooses targets. */
static inline bool cso_attack_ranks_targets(const carso_attack_options *options)
{
    return options->method == CARSO_ATTACK_APGD_TARGETED || options->method == CARSO_ATTACK_FAB_TARGETED;
}

/* Runs from each start. */
int cso_attack_target_sets(const carso_model *model, const carso_attack_options *options);
/* Of one run, the start among them. */
int64_t cso_attack_evaluated_steps(const carso_attack_options *options);

#endif
