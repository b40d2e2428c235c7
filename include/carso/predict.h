/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Prediction, purification, robust prediction, and exact gradients to the image.
 */
#ifndef CARSO_PREDICT_H
#define CARSO_PREDICT_H

#include "carso/image.h"
#include "carso/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/** How the logits of the draws become one prediction. Since 0.1. */
typedef enum carso_aggregation {
    /** softmax_i(sum over draws of exp(logit_i)): the paper's, section 4.5. */
    CARSO_AGGREGATE_CARSO = 0,
    /** softmax of the mean logits (appendix D). */
    CARSO_AGGREGATE_LOGIT = 1,
    /** Mean of the draws' probabilities (appendix D). */
    CARSO_AGGREGATE_PROBABILITY = 2
} carso_aggregation;

/** Options of the calls below. Since 0.1. */
typedef struct carso_predict_options {
    size_t struct_size;
    int32_t draws;       /**< N, 1 to 65536; 8 as in the paper. Ignored by carso_predict. */
    /** carso_aggregation; CARSO. Ignored by carso_predict, whose probabilities are the softmax of the logits. */
    int32_t aggregation;
    uint64_t seed;       /**< of the latents; 0 */
    /** Index of the first image: image i of the batch draws the latents of (seed, first_image + i); 0 */
    uint64_t first_image;
    int32_t keep_reconstructions; /**< predict_robust: 1 keeps them in the result; 0 */
    int32_t reserved;
    carso_progress_callback progress; /**< NULL: none. Unit "images". */
    void *progress_user;
} carso_predict_options;

typedef struct carso_prediction carso_prediction;

CARSO_API void carso_predict_options_init(carso_predict_options *options, size_t size);

/*
 * All three return INVALID_ARGUMENT, INVALID_IMAGE, OUT_OF_MEMORY, BACKEND, UNSUPPORTED (no purifier), CANCELLED, or
 * NON_FINITE where a logit or a reconstruction is not finite; the message names the first such image. Any thread.
 */

/** The classifier alone. The result has one draw. Since 0.1. */
CARSO_API carso_status carso_predict(const carso_model *model, const carso_images *images,
                                     const carso_predict_options *options, carso_prediction **out_prediction);

/** Reconstructions only: the result has reconstructions and neither labels nor logits. Since 0.1. */
CARSO_API carso_status carso_purify(const carso_model *model, const carso_images *images,
                                    const carso_predict_options *options, carso_prediction **out_prediction);

/** The defence: purify, classify each draw, aggregate. Since 0.1. */
CARSO_API carso_status carso_predict_robust(const carso_model *model, const carso_images *images,
                                            const carso_predict_options *options, carso_prediction **out_prediction);

CARSO_API void carso_prediction_destroy(carso_prediction *prediction);

/** Number of images, classes, draws. Since 0.1. */
CARSO_API uint64_t carso_prediction_count(const carso_prediction *prediction);
CARSO_API int32_t carso_prediction_classes(const carso_prediction *prediction);
CARSO_API int32_t carso_prediction_draws(const carso_prediction *prediction);

/**
 * Arrays of the result, valid until it is destroyed; NULL where the result has none. Shapes:
 *   labels [count]; probabilities and log_odds [count][classes], log_odds_i = log(p_i / (1 - p_i)) computed in double
 *   and finite (values beyond a double, which thousands of draws with logits near 700 reach, become +-DBL_MAX);
 *   logits [draws][count][classes];
 *   agreement [count]: how many draws have the aggregated label as their own arg max;
 *   reconstructions [draws][count][channels][height][width] in [0, 1], RGB order. Since 0.1.
 */
CARSO_API const int32_t *carso_prediction_labels(const carso_prediction *prediction);
CARSO_API const double *carso_prediction_probabilities(const carso_prediction *prediction);
CARSO_API const double *carso_prediction_log_odds(const carso_prediction *prediction);
CARSO_API const double *carso_prediction_logits(const carso_prediction *prediction);
CARSO_API const int32_t *carso_prediction_agreement(const carso_prediction *prediction);
CARSO_API const float *carso_prediction_reconstructions(const carso_prediction *prediction);

/** What is attacked or differentiated. Since 0.1. */
typedef enum carso_objective {
    CARSO_OBJECTIVE_CLASSIFIER = 0,
    CARSO_OBJECTIVE_DEFENCE = 1
} carso_objective;

/**
 * A loss of the draws' logits, one number per image, that an attack raises. DLR is the difference of logits ratio
 * (Croce and Hein 2020), of three classes or more, UNSUPPORTED with fewer:
 * (largest other z - z of the label) / (largest z - third largest z). Since 0.1.
 */
typedef enum carso_loss {
    /** Cross-entropy of the mean logits. */
    CARSO_LOSS_CROSS_ENTROPY = 0,
    /** Largest other mean logit minus that of the label. */
    CARSO_LOSS_MARGIN = 1,
    /** Cross-entropy of the mean of the draws' probabilities. */
    CARSO_LOSS_PROBABILITY_CROSS_ENTROPY = 2,
    /** Minus the log-odds of the label under the paper's aggregation, which does not saturate. */
    CARSO_LOSS_LOG_ODDS = 3,
    /** Cross-entropy of the paper's aggregation itself, in double; its gradient vanishes where it saturates. */
    CARSO_LOSS_CARSO_CROSS_ENTROPY = 4,
    /** DLR of the mean logits. */
    CARSO_LOSS_DLR = 5,
    /** Margin of the logarithms of the mean of the draws' probabilities: with one draw, that of its logits. */
    CARSO_LOSS_PROBABILITY_MARGIN = 6,
    /** DLR of the logarithms of the mean of the draws' probabilities: with one draw, that of its logits. */
    CARSO_LOSS_PROBABILITY_DLR = 7,
    /** DLR of the sums over draws of exp(logit): of what the paper's aggregation takes the softmax of. */
    CARSO_LOSS_CARSO_DLR = 8,
    /**
     * Margin of the logarithms of the sums over draws of exp(logit): its sign is that of the paper's aggregation, and
     * it does not saturate. With one draw, that of its logits.
     */
    CARSO_LOSS_CARSO_MARGIN = 9
} carso_loss;

/**
 * What a carso_loss_callback is called with: some of the images of the call that it was given to, with all their draws.
 * Since 0.1.
 */
typedef struct carso_loss_batch {
    size_t struct_size;
    uint64_t count;
    int32_t draws; /**< 1 of the classifier */
    int32_t classes;
    const double *logits;        /**< [draws][count][classes] */
    const int32_t *labels;       /**< [count]; NULL where carso_gradient was given none */
    const int32_t *targets;      /**< [count], or NULL: untargeted */
    const uint64_t *image_index; /**< [count]: first_image and the image's place in the call, added */
    double *losses;              /**< out [count]; NaN before */
    double *logit_gradient;      /**< out [draws][count][classes], d loss / d logits; NaN before. NULL: not wanted */
} carso_loss_batch;

/**
 * A loss of the caller's own, which attacks raise. Returns 0, or anything else to end the call with CALLBACK. A loss or
 * slope that is left NaN is met as NON_FINITE. Called from the thread that made the call; it may make calls of its own.
 */
typedef int (*carso_loss_callback)(const carso_loss_batch *batch, void *user);

/** Options of carso_gradient. Since 0.1. */
typedef struct carso_gradient_options {
    size_t struct_size;
    int32_t objective; /**< carso_objective; CLASSIFIER */
    int32_t loss;      /**< carso_loss; CROSS_ENTROPY */
    int32_t draws;     /**< DEFENCE: N; 8 */
    int32_t reserved;
    uint64_t seed;        /**< as in carso_predict_options */
    uint64_t first_image; /**< as in carso_predict_options */
    /**
     * NULL, or the caller's own d loss / d logits [draws][count][classes] (one draw for CLASSIFIER), used in place of
     * loss; labels may then be NULL and out_losses must be NULL.
     */
    const double *logit_gradient;
    carso_progress_callback progress;
    void *progress_user;
    /** NULL: untargeted. Else [count] classes other than the label, as in carso_attack_options. */
    const int32_t *targets;
    /** NULL, or used in place of loss; labels may then be NULL. Not with logit_gradient. */
    carso_loss_callback loss_function;
    void *loss_user;
} carso_gradient_options;

CARSO_API void carso_gradient_options_init(carso_gradient_options *options, size_t size);

/**
 * d loss / d image, exact through both uses of the classifier, for the draws that predict_robust would make.
 * labels [count]; out_gradient [count][channels][height][width], RGB order, per unit of [0, 1];
 * out_losses [count] or NULL; out_logits [draws][count][classes] or NULL.
 * NON_FINITE: some are not finite; the outputs are filled and the message names the images. CALLBACK: the loss function
 * failed. Since 0.1.
 */
CARSO_API carso_status carso_gradient(const carso_model *model, const carso_images *images, const int32_t *labels,
                                      const carso_gradient_options *options, float *out_gradient, double *out_losses,
                                      double *out_logits);

#ifdef __cplusplus
}
#endif
#endif
