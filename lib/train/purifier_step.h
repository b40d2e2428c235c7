/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The purifier in training: losses and parameter gradients of one sub-batch, the latent's noise given.
 *
 *   encode: image -> frozen classifier's taps -> condition; (image, condition) -> mean, log-variance
 *   host:   latent = mean + noise * exp(log-variance / 2), KL, pixel loss
 *   decode: (latent, condition) -> pixels before the sigmoid
 */
#ifndef CSO_TRAIN_PURIFIER_STEP_H
#define CSO_TRAIN_PURIFIER_STEP_H

#include "model/model.h"

typedef struct cso_purifier_network {
    carso_context *context;
    carso_model *model; /* the classifier's */
    /* Trainable copies of the model's purifier. BatchNorm is in evaluation mode in them, in training mode in the programs but draw. */
    cso_graph *condition, *encoder, *decoder;
    cso_program *encode; /* image -> condition, mean, log_variance */
    cso_program *decode; /* latent, condition -> pre_sigmoid */
    cso_program *draw;   /* latent, condition -> reconstruction, as in prediction */
    int64_t image_size, condition_size, latent_size;
} cso_purifier_network;

/* INVALID_ARGUMENT where the model has no purifier, or one without its encoder. */
carso_status cso_purifier_network_create(const carso_model *model, cso_purifier_network **out);
void cso_purifier_network_destroy(cso_purifier_network *network); /* accepts NULL */

/* Largest sub-batch whose two plans keep the memory limit together; at least 2. */
carso_status cso_purifier_network_batch_limit(cso_purifier_network *network, int64_t *out);

typedef struct cso_purifier_batch {
    int64_t count;       /* >= 2 */
    const float *images;  /* [count][C][H][W], attacked or not */
    const float *targets; /* the same, clean */
    const double *noise;  /* [count][latent_size], standard normal */
    double beta, free_bits;
    double scale; /* of the gradients: 1, or 1 / images of the whole batch */
} cso_purifier_batch;

typedef struct cso_purifier_losses {
    /* Sums over the batch, not scaled. total = reconstruction + beta * KL term (free bits included in total only). */
    double total, reconstruction, divergence;
    /* Where not NULL, filled: [count][...]. */
    double *mean, *log_variance, *condition, *pre_sigmoid;
} cso_purifier_losses;

/* Adds scale * d total / d parameter to the parameters' gradients, and moves the running statistics as a training run does. The losses
 * are for the caller to check: where total is not finite, gradients are left alone. */
carso_status cso_purifier_step(cso_purifier_network *network, const cso_purifier_batch *batch,
                               cso_purifier_losses *losses);

/* Root mean square difference between the reconstructions that two latents [count][latent_size] each give under the same conditions
 * [count][condition_size], as in prediction. */
carso_status cso_purifier_diversity(cso_purifier_network *network, int64_t count, const double *condition,
                                    const double *first_latent, const double *second_latent, double *out);

#endif
