/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Attacks on the classifier alone and on the whole defence.
 */
#ifndef CARSO_ATTACK_H
#define CARSO_ATTACK_H

#include "carso/predict.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Methods. Since 0.1. */
typedef enum carso_attack_method {
    /** One signed step of epsilon (Goodfellow et al. 2015). */
    CARSO_ATTACK_FGSM = 0,
    /**
     * Projected gradient ascent in the l-infinity ball (Madry et al. 2018); on the defence each step's gradient is the
     * mean over eot sets of fresh draws (expectation over transformation, Athalye et al. 2018).
     */
    CARSO_ATTACK_PGD = 1,
    /**
     * Auto-PGD (Croce and Hein 2020): PGD with momentum whose step starts at 2 epsilon and is halved where progress
     * stalls, going back to the best point. Its random start, gradients and draws are those of PGD. The point with the
     * largest loss is kept; last_loss on the defence is that point's with draws that did not choose it.
     */
    CARSO_ATTACK_APGD = 2,
    /**
     * APGD on the targeted loss, once towards each of the target_classes most likely other classes (by the mean logits
     * of the image itself), restarts times each; kept is the largest untargeted loss, which first_loss and last_loss
     * are.
     */
    CARSO_ATTACK_APGD_TARGETED = 3,
    /**
     * Square attack (Andriushchenko et al. 2020): random search that needs no gradient, with the schedule of AutoAttack
     * (initial share of the image 0.8). On the defence each query is the mean loss over eot sets of fresh draws.
     */
    CARSO_ATTACK_SQUARE = 4,
    /**
     * FAB (Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack"): the
     * nearest misclassified point it can find, kept where that is within epsilon; carso_attack_result_distance says how
     * near, even where it is not. Each step computes the gradients towards all other classes. Of loss only the
     * aggregation is used: what is raised and reported is its margin. On the defence a point counts as misclassified by
     * its mean margin over eot sets of fresh draws.
     */
    CARSO_ATTACK_FAB = 5,
    /** FAB towards one boundary at a time: that to each of the target_classes most likely other classes. */
    CARSO_ATTACK_FAB_TARGETED = 6
} carso_attack_method;

/** Norms that bound |delta|. Since 0.1. */
typedef enum carso_norm {
    CARSO_NORM_LINF = 0, /**< per component */
    CARSO_NORM_L2 = 1    /**< root of the sum of squares over the image */
} carso_norm;

/** Options of carso_attack. Since 0.1. */
typedef struct carso_attack_options {
    size_t struct_size;
    int32_t method;    /**< carso_attack_method; PGD */
    int32_t objective; /**< carso_objective; CLASSIFIER */
    int32_t loss;      /**< carso_loss; CROSS_ENTROPY */
    int32_t steps;     /**< PGD, APGD, FAB: 0 to 1000000; 40 */
    double epsilon;    /**< bound on |delta| in the norm, in units of [0, 1]; 8/255 */
    double step_size;  /**< PGD: >= 0; 0.01 */
    int32_t random_start; /**< PGD, APGD: 1 starts at a uniform point of the ball; 1 */
    int32_t restarts;     /**< all but FGSM: >= 1, the restart with the largest final loss is kept; 1 */
    int32_t draws;        /**< DEFENCE: draws per evaluation, N; 8 */
    int32_t eot;          /**< DEFENCE: evaluations with fresh draws averaged per step; 1 */
    uint64_t seed;        /**< 0 */
    uint64_t first_image; /**< index of the first image, as in carso_predict_options */
    carso_progress_callback progress; /**< unit "steps", or of SQUARE "queries", over all runs and sub-batches */
    void *progress_user;
    int32_t norm; /**< carso_norm; LINF, which FGSM needs */
    /**
     * APGD, SQUARE, FAB: 1 leaves an image alone once the loss's aggregation misclassifies it (or predicts its target,
     * where targets are given) in each of the eot evaluations of a point, and keeps that point; 0. On the defence that
     * is one lucky set of draws, and a weaker attack.
     */
    int32_t early_stop;
    double momentum;        /**< PGD: >= 0, decay of the sum of normalised gradients (Dong et al. 2018); 0 */
    int32_t queries;        /**< SQUARE: 1 to 1000000; 5000 */
    /** APGD_TARGETED, FAB_TARGETED: >= 1, at most as many as there are other classes are used; 9 */
    int32_t target_classes;
    /**
     * NULL: untargeted. Else [count] classes, none the label, that the loss is to favour: log P of the target, its
     * log-odds, target against label, or the targeted DLR, of four classes or more. Not with APGD_TARGETED,
     * FAB, FAB_TARGETED.
     */
    const int32_t *targets;
    /**
     * NULL, or a loss of the caller's own, raised in place of loss, of which then only the aggregation is used, to tell
     * what is misclassified. Without targets where APGD_TARGETED compares its runs. Not with FAB, FAB_TARGETED.
     */
    carso_loss_callback loss_function;
    void *loss_user;
    /**
     * DEFENCE: 1 holds the draws still: all steps of a run use the same eot sets. What is reported of the
     * point kept is of fresh ones; 0.
     */
    int32_t fixed_draws;
    /**
     * DEFENCE: 1 attacks the classifier alone in its place, with one draw. first_loss, last_loss and the choice among
     * restarts and targets are the defence's, all else is of the attack on the classifier; 0.
     */
    int32_t transfer;
} carso_attack_options;

typedef struct carso_attack_result carso_attack_result;

CARSO_API void carso_attack_options_init(carso_attack_options *options, size_t size);

/**
 * Attacks a batch. labels [count] are the true ones.
 * NON_FINITE: a logit, loss or gradient was not finite; *out_result is then valid and its mask names the images.
 * CANCELLED, CALLBACK (the loss function failed): *out_result is valid and holds the last points whose loss is known;
 * images not reached are the originals, with losses of NaN. Otherwise NULL on failure. UNSUPPORTED: DEFENCE without a
 * purifier, or too few classes for DLR.
 * The latents are never those of predict_robust or carso_gradient with the same seed. Since 0.1.
 */
CARSO_API carso_status carso_attack(const carso_model *model, const carso_images *images, const int32_t *labels,
                                    const carso_attack_options *options, carso_attack_result **out_result);

CARSO_API void carso_attack_result_destroy(carso_attack_result *result);
CARSO_API uint64_t carso_attack_result_count(const carso_attack_result *result);

/**
 * Arrays of the result, valid until it is destroyed:
 *   images [count][channels][height][width], float32 in [0, 1], within epsilon of the originals, RGB order;
 *   first_loss, last_loss [count]: at the (first restart's) start and at the point kept, each the mean over eot sets of
 *   fresh draws; of APGD, SQUARE and FAB at the image itself, which is kept where no point has a larger loss
 *   (FAB: where none that is misclassified was found within epsilon);
 *   non_finite [count]: 1 where a logit, loss or gradient was not finite at any step: the image went back to its last
 *   finite point and stayed there;
 *   zero_gradient [count]: share, over steps, of gradient components that are exactly zero. Since 0.1.
 */
CARSO_API const float *carso_attack_result_images(const carso_attack_result *result);
CARSO_API const double *carso_attack_result_first_loss(const carso_attack_result *result);
CARSO_API const double *carso_attack_result_last_loss(const carso_attack_result *result);
CARSO_API const uint8_t *carso_attack_result_non_finite(const carso_attack_result *result);
CARSO_API const double *carso_attack_result_zero_gradient(const carso_attack_result *result);

/**
 * More arrays of the result:
 *   tiny_gradient [count]: share, over steps, of gradient components that are not zero but smaller than 1e-10, in units
 *   of loss per unit of [0, 1];
 *   non_finite_losses, non_finite_gradients [count]: evaluations, each of the eot sets being one, with a loss, or a
 *   gradient, that was not finite. An image where that happened is moved no further in that run. Since 0.1.
 */
CARSO_API const double *carso_attack_result_tiny_gradient(const carso_attack_result *result);
CARSO_API const uint32_t *carso_attack_result_non_finite_losses(const carso_attack_result *result);
CARSO_API const uint32_t *carso_attack_result_non_finite_gradients(const carso_attack_result *result);

/**
 * FAB, FAB_TARGETED: [count] norms of the smallest change found that makes the mean margin positive, 0 where it is so
 * unchanged, INFINITY where none was found; it may be larger than epsilon. NULL of other methods. Since 0.1.
 */
CARSO_API const double *carso_attack_result_distance(const carso_attack_result *result);

/**
 * What an attack met at a step, over the images, restarts and targets that were evaluated there: images that are done,
 * or were not finite, no longer are. An evaluation is the mean over eot sets of draws. Since 0.1.
 */
typedef struct carso_attack_step {
    size_t struct_size; /**< set by the caller */
    uint64_t first_step;     /**< 0: the start; of SQUARE step k is query k */
    uint64_t steps;          /**< that this entry sums up: 1, but for attacks of more than 1000 */
    uint64_t evaluations;    /**< of an image */
    uint64_t non_finite;     /**< of these, with a loss or gradient that is not finite */
    uint64_t misclassified;  /**< of these, by the loss's aggregation in each of the eot sets (or the target reached) */
    uint64_t gradients;      /**< finite ones */
    uint64_t flat_gradients; /**< of these, zero in every component */
    double mean_loss;        /**< of those that are finite, NaN where none is */
    double zero_gradient;    /**< share of the gradients' components that are exactly zero; 0 without gradients */
    double tiny_gradient;    /**< as tiny_gradient above */
} carso_attack_step;

/** Number of entries. Since 0.1. */
CARSO_API uint64_t carso_attack_result_step_count(const carso_attack_result *result);
/** INVALID_ARGUMENT: a NULL argument, or index past the end. Since 0.1. */
CARSO_API carso_status carso_attack_result_get_step(const carso_attack_result *result, uint64_t index,
                                                    carso_attack_step *out_step);

#ifdef __cplusplus
}
#endif
#endif
