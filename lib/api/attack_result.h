/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CSO_API_ATTACK_RESULT_H
#define CSO_API_ATTACK_RESULT_H

#include "api/image_batch.h"
#include "attack/diagnosis.h"
#include "carso/attack.h"

struct carso_attack_result {
    carso_context *context;
    uint64_t count;
    float *images;
    double *first_loss, *last_loss;
    uint8_t *non_finite;
    double *zero_gradient, *tiny_gradient;
    uint32_t *non_finite_losses, *non_finite_gradients;
    double *weak_gradient;               /* as in cso_attack_report; not in the public interface, as the following */
    int32_t *vanished_from, *fell_from;
    double *distance; /* NULL but of FAB */
    cso_step_record *steps;
    int64_t evaluated_steps; /* the start among them */
    int64_t step_count, step_stride;
};

/* evaluated_steps: the start among them; has_distance: of FAB. *out can be given to _destroy whatever the result. */
carso_status cso_attack_result_allocate(const cso_image_batch *batch, int64_t evaluated_steps, bool has_distance,
                                        carso_attack_result **out);

#endif
