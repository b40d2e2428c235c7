/* SPDX-License-Identifier: BSD-2-Clause */
/* Losses of the draws' logits that attacks raise, with their gradients, in double (carso_loss in carso/predict.h). */
#ifndef CSO_ATTACK_LOSSES_H
#define CSO_ATTACK_LOSSES_H

#include "model/run.h"
#include "carso/predict.h"

/* Classes that the loss needs, or 0 where any two will do. */
int cso_loss_least_classes(carso_loss loss, bool targeted);

/* The margin of what the loss aggregates the draws to. */
carso_loss cso_loss_margin(carso_loss loss);

/* user of cso_loss_function. Arrays are indexed by image of the call, but for wrong where there are sets of draws. */
typedef struct cso_loss_request {
    carso_loss loss;
    const int32_t *labels;
    int64_t images; /* of the call; needed where it has several sets of draws */
    const carso_context *context;
    /*
     * NULL, or classes other than the label to raise: a cross-entropy becomes log P of the target, log-odds those of
     * the target, a margin target against label, DLR (z_target - z_label) / (z_1 - (z_3 + z_4) / 2), z_k the k-th largest.
     */
    const int32_t *targets;
    /* NULL, or out [sets][images]: 1 where the loss's own aggregation does not predict the label, or where
     * wants_target, predicts the target. */
    uint8_t *wrong;
    bool wants_target;
    /* NULL, or the caller's own loss, in place of loss but for its aggregation; labels may then be NULL where wrong is. */
    carso_loss_callback function;
    void *function_user;
    const uint64_t *image_index; /* needed with function */
} cso_loss_request;

/*
 * A cso_logit_function. CALLBACK: the caller's own loss failed. An image with a logit that is not finite gets a loss and
 * a gradient of NaN. The gradient of the paper's cross-entropy is 0 where it underflows double; nothing pretends
 * otherwise.
 */
carso_status cso_loss_function(void *user, int64_t first, int64_t count, int draws, int classes, const double *logits,
                               double *losses, double *logit_gradient);

#endif
