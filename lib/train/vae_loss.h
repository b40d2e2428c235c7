/* SPDX-License-Identifier: BSD-2-Clause */
/* The purifier's loss (CARSO section 4.4) and the reparameterised latent, with gradients, in double. */
#ifndef CSO_TRAIN_VAE_LOSS_H
#define CSO_TRAIN_VAE_LOSS_H

#include <stddef.h>
#include <stdint.h>

/* Sum of the binary cross-entropies of sigmoid(logits) and targets in [0, 1], computed from the logits so that it stays exact where
 * the sigmoid saturates. gradient (may be NULL): written, scale * d sum / d logits. */
double cso_pixel_loss(const double *logits, const float *targets, size_t count, double scale, double *gradient);

/* z = mean + noise * exp(log_variance / 2). */
void cso_reparameterise(const double *mean, const double *log_variance, const double *noise, size_t count,
                        double *latent);

/* Adds to the gradients of mean and log_variance what comes back through the latent. */
void cso_reparameterise_gradient(const double *log_variance, const double *noise, const double *latent_gradient,
                                 size_t count, double *mean_gradient, double *log_variance_gradient);

typedef struct cso_divergence {
    double sum;  /* of KL(N(mean, variance) || N(0, I)) over the batch, in nats */
    double term; /* what enters the loss: sum where free_bits is 0 */
} cso_divergence;

/*
 * mean, log_variance: [count][features]. A feature whose divergence, averaged over the batch, is not over free_bits enters the loss as
 * the constant count * free_bits and so has no gradient (Kingma et al. 2016). Gradients (both NULL or both set): written, scale *
 * d term / d mean and d log_variance.
 */
cso_divergence cso_divergence_loss(const double *mean, const double *log_variance, int64_t count, int64_t features,
                                   double free_bits, double scale, double *mean_gradient,
                                   double *log_variance_gradient);

#endif
