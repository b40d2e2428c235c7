/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/vae_loss.h"

#include <math.h>
#include <stdbool.h>

double cso_pixel_loss(const double *logits, const float *targets, size_t count, double scale, double *gradient)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        const double logit = logits[i];
        const double target = targets[i];
        const double small = exp(-fabs(logit));
        /* fmax(logit, 0) would drop NaN. */
        sum += (logit < 0 ? 0 : logit) - logit * target + log1p(small);
        if (gradient) {
            gradient[i] = scale * ((logit < 0 ? small : 1) / (1 + small) - target);
        }
    }
    return sum;
}

void cso_reparameterise(const double *mean, const double *log_variance, const double *noise, size_t count,
                        double *latent)
{
    for (size_t i = 0; i < count; i++) {
        latent[i] = mean[i] + noise[i] * exp(.5 * log_variance[i]);
    }
}

void cso_reparameterise_gradient(const double *log_variance, const double *noise, const double *latent_gradient,
                                 size_t count, double *mean_gradient, double *log_variance_gradient)
{
    for (size_t i = 0; i < count; i++) {
        mean_gradient[i] += latent_gradient[i];
        log_variance_gradient[i] += latent_gradient[i] * noise[i] * .5 * exp(.5 * log_variance[i]);
    }
}

cso_divergence cso_divergence_loss(const double *mean, const double *log_variance, int64_t count, int64_t features,
                                   double free_bits, double scale, double *mean_gradient, double *log_variance_gradient)
{
    cso_divergence divergence = {0, 0};
    for (int64_t feature = 0; feature < features; feature++) {
        double sum = 0;
        for (int64_t image = 0; image < count; image++) {
            const double m = mean[image * features + feature];
            const double l = log_variance[image * features + feature];
            /* With expm1 the rounding error falls with l: a collapsed posterior lives near l = 0. */
            sum += .5 * (m * m + (expm1(l) - l));
        }
        const double free_sum = free_bits * (double)count;
        const bool free_of_charge = free_bits > 0 && sum <= free_sum;
        divergence.sum += sum;
        divergence.term += free_of_charge ? free_sum : sum;
        if (!mean_gradient) {
            continue;
        }
        for (int64_t image = 0; image < count; image++) {
            const int64_t i = image * features + feature;
            mean_gradient[i] = free_of_charge ? 0 : scale * mean[i];
            log_variance_gradient[i] = free_of_charge ? 0 : scale * .5 * expm1(log_variance[i]);
        }
    }
    return divergence;
}
