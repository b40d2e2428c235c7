/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/classifier_loss.h"

#include <math.h>
#include <stddef.h>

static double log_sum_exp(const double *logits, int classes)
{
    double largest = logits[0];
    for (int i = 1; i < classes; i++) {
        largest = logits[i] > largest ? logits[i] : largest;
    }
    double sum = 0;
    for (int i = 0; i < classes; i++) {
        sum += exp(logits[i] - largest);
    }
    return largest + log(sum);
}

double cso_cross_entropy(const double *logits, const int32_t *labels, int64_t count, int classes, double smoothing,
                         double scale, double *gradient)
{
    double total = 0;
    for (int64_t image = 0; image < count; image++) {
        const double *l = logits + image * classes;
        const double normaliser = log_sum_exp(l, classes);
        for (int i = 0; i < classes; i++) {
            const double target = (i == labels[image] ? 1 - smoothing : 0) + smoothing / classes;
            if (target > 0) {
                total += target * (normaliser - l[i]);
            }
            gradient[image * classes + i] = scale * (exp(l[i] - normaliser) - target);
        }
    }
    return total;
}

double cso_softmax_divergence(const double *clean, const double *attacked, int64_t count, int classes, double scale,
                              double *losses, double *clean_gradient, double *attacked_gradient)
{
    double total = 0;
    for (int64_t image = 0; image < count; image++) {
        const double *p = clean + image * classes;
        const double *q = attacked + image * classes;
        const double p_normaliser = log_sum_exp(p, classes);
        const double q_normaliser = log_sum_exp(q, classes);
        double divergence = 0;
        for (int i = 0; i < classes; i++) {
            divergence += exp(p[i] - p_normaliser) * ((p[i] - p_normaliser) - (q[i] - q_normaliser));
        }
        total += divergence;
        if (losses) {
            losses[image] = divergence;
        }
        for (int i = 0; i < classes; i++) {
            const double log_p = p[i] - p_normaliser;
            const double log_q = q[i] - q_normaliser;
            if (clean_gradient) {
                clean_gradient[image * classes + i] = scale * exp(log_p) * (log_p - log_q - divergence);
            }
            if (attacked_gradient) {
                attacked_gradient[image * classes + i] = scale * (exp(log_q) - exp(log_p));
            }
        }
    }
    return total;
}

int64_t cso_count_correct(const double *logits, const int32_t *labels, int64_t count, int classes)
{
    int64_t correct = 0;
    for (int64_t image = 0; image < count; image++) {
        const double *l = logits + image * classes;
        int best = 0;
        for (int i = 1; i < classes; i++) {
            best = l[i] > l[best] ? i : best;
        }
        correct += best == labels[image];
    }
    return correct;
}
