/* SPDX-License-Identifier: BSD-2-Clause */
/* Losses of the classifier in training, in double. Sums over the batch; gradients are written, times scale. */
#ifndef CSO_TRAIN_CLASSIFIER_LOSS_H
#define CSO_TRAIN_CLASSIFIER_LOSS_H

#include <stdint.h>

/* Cross-entropy with targets (1 - smoothing) at the label plus smoothing / classes everywhere. logits [count][classes]. */
double cso_cross_entropy(const double *logits, const int32_t *labels, int64_t count, int classes, double smoothing,
                         double scale, double *gradient);

/* TRADES (Zhang et al. 2019): sum of KL(softmax(clean) || softmax(attacked)). losses [count] and the gradients may be NULL. */
double cso_softmax_divergence(const double *clean, const double *attacked, int64_t count, int classes, double scale,
                              double *losses, double *clean_gradient, double *attacked_gradient);

/* How many images have their largest logit at the label. */
int64_t cso_count_correct(const double *logits, const int32_t *labels, int64_t count, int classes);

#endif
