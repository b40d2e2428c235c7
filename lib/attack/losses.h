/* SPDX-License-Identifier: BSD-2-Clause */
/* Losses of the draws' logits that attacks raise, with their gradients, in double (carso_loss in carso/predict.h). */
#ifndef CSO_ATTACK_LOSSES_H
#define CSO_ATTACK_LOSSES_H

#include "model/run.h"
#include "carso/predict.h"

/* user of cso_loss_function. labels is indexed by image of the call. */
typedef struct cso_loss_request {
    carso_loss loss;
    const int32_t *labels;
    const carso_context *context;
} cso_loss_request;

/*
 * A cso_logit_function. An image with a logit that is not finite gets a loss and a gradient of NaN. The gradient of the
 * paper's cross-entropy is 0 where it underflows double; nothing pretends otherwise.
 */
carso_status cso_loss_function(void *user, int64_t first, int64_t count, int draws, int classes, const double *logits,
                               double *losses, double *logit_gradient);

#endif
