/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Evaluation: which accuracy is left under the strongest of several attacks, scored with fresh draws, and what speaks
 * against believing it (docs/robustness.md).
 */
#ifndef CARSO_EVALUATE_H
#define CARSO_EVALUATE_H

#include "carso/attack.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Options of carso_evaluation_create. Since 0.1. */
typedef struct carso_evaluation_options {
    size_t struct_size;
    /** "quick", "paper" or "adaptive", or a description in JSON (docs/robustness.md), which begins with '{'; "quick" */
    const char *protocol;
    /** NULL, or epsilon_count bounds that take the place of the protocol's; sections that state their own keep those. */
    const double *epsilons;
    uint64_t epsilon_count;
    int32_t norm;        /**< carso_norm; LINF */
    int32_t draws;       /**< of the defence, N, 1 to 65536; 0: the protocol's, which are 8 unless it says otherwise; 0 */
    int32_t repeats;     /**< predictions that an image is scored on, M, 1 to 1000; 0: the protocol's; 0 */
    int32_t aggregation; /**< carso_aggregation, of the defence that is scored; CARSO */
    /**
     * Images that are attacked together, 1 to 65536; 100. Results may differ in their last bits with other batches, and
     * so between an evaluation and its repetition with another number.
     */
    int32_t batch;
    /** This evaluation takes batch shard, shard + shards, ... alone; 0 of 1. carso_evaluation_merge joins them. */
    int32_t shard;
    int32_t shards;
    int32_t reserved;
    uint64_t seed;        /**< 0 */
    uint64_t first_image; /**< index of the first image, as in carso_predict_options */
    /**
     * NULL, or the loss that a description's attacks of loss "callback" raise. That it is the same function in a resumed
     * evaluation is up to the caller.
     */
    carso_loss_callback loss_function;
    void *loss_user;
} carso_evaluation_options;

typedef struct carso_evaluation carso_evaluation;

CARSO_API void carso_evaluation_options_init(carso_evaluation_options *options, size_t size);

/**
 * Checks and copies images and labels [count] of all shards; nothing is computed yet. Sections of the protocol that
 * attack the defence are left out where the model has no purifier, and attacks whose loss needs more classes than the
 * model has; the result tells. BAD_FORMAT: the description cannot be used; the message names the place.
 * Serves one thread at a time. Since 0.1.
 */
CARSO_API carso_status carso_evaluation_create(const carso_model *model, const carso_images *images,
                                               const int32_t *labels, const carso_evaluation_options *options,
                                               carso_evaluation **out_evaluation);

/**
 * Takes the next step, which is one attack on one batch or a scoring of one; after the last, and from then on, returns
 * OK with *out_finished 1. What is not finite is no failure here: it is counted and flagged; CALLBACK is one. Another
 * status leaves the evaluation as it was before the step, which can be tried again; CANCELLED where progress asked for it.
 * progress: of the whole evaluation, unit "evaluations" (of the classifier). total is an estimate that changes from step
 * to step, for images that an attack breaks need no more. May be NULL. Since 0.1.
 */
CARSO_API carso_status carso_evaluation_step(carso_evaluation *evaluation, carso_progress_callback progress, void *user,
                                             int32_t *out_finished);

/**
 * Writes all that is known so far, at any time, as a safetensors file (docs/robustness.md): originals, adversarials,
 * figures of each image. As carso_model_save, it appears whole or not at all. Since 0.1.
 */
CARSO_API carso_status carso_evaluation_save(carso_evaluation *evaluation, const char *path);

/**
 * Goes on from a file of carso_evaluation_save: what follows is the same, bit for bit, as without the interruption.
 * evaluation: new, of the same model, images, labels and options. INVALID_ARGUMENT: the file is of another model, of
 * other data or options, or of another release; BAD_FORMAT: it is damaged. evaluation is then as it was. Since 0.1.
 */
CARSO_API carso_status carso_evaluation_resume(carso_evaluation *evaluation, const char *path);

/** Reads a file of carso_evaluation_save to look at. The result takes no steps: UNSUPPORTED. Since 0.1. */
CARSO_API carso_status carso_evaluation_open(carso_context *context, const char *path,
                                             carso_evaluation **out_evaluation);

/**
 * Tells how this evaluation is repeated, as a command line or in words, in place of what was told before: files keep it, and the result
 * has it in "commands", a merged one's those of all shards. A resumed evaluation that was not told has what its file has. command is
 * copied. INVALID_ARGUMENT: it is not UTF-8. Since 0.1.
 */
CARSO_API carso_status carso_evaluation_set_command(carso_evaluation *evaluation, const char *command);

/**
 * Joins the files of all shards of one evaluation, each finished, given in any order: the result is that of the whole.
 * INVALID_ARGUMENT: they do not belong together, or one is missing. Since 0.1.
 */
CARSO_API carso_status carso_evaluation_merge(carso_context *context, const char *const *paths, size_t count,
                                              carso_evaluation **out_evaluation);

CARSO_API void carso_evaluation_destroy(carso_evaluation *evaluation);

/**
 * Configuration, figures and flags of the images that are finished, as JSON text (docs/robustness.md); valid until the
 * next call with this evaluation, NULL where memory ran out. Since 0.1.
 */
CARSO_API const char *carso_evaluation_result(carso_evaluation *evaluation);

/** Images that are finished: all those asked for, or those of the shard, where the evaluation is. Since 0.1. */
CARSO_API uint64_t carso_evaluation_count(const carso_evaluation *evaluation);

/** out_shape [3]: channels, height and width of an image. Since 0.1. */
CARSO_API void carso_evaluation_shape(const carso_evaluation *evaluation, int32_t *out_shape);

/**
 * Arrays over the finished images, valid until the evaluation is stepped or destroyed:
 *   images [count][channels][height][width] float32: cell -1 the originals, cell c what the attacks of the result's
 *   cell c made of them, the original where no attack found a worse point; NULL for a cell that there is not;
 *   positions [count]: index among the images that were given; labels [count]: the true ones;
 *   predictions [count]: majority of the M predictions that score, of the classifier or defence as the cell has it;
 *   cell -1 the classifier and -2 the defence on the originals; -1 where logits are not finite. Since 0.1.
 */
CARSO_API const float *carso_evaluation_images(const carso_evaluation *evaluation, int32_t cell);
CARSO_API const int64_t *carso_evaluation_positions(const carso_evaluation *evaluation);
CARSO_API const int32_t *carso_evaluation_labels(const carso_evaluation *evaluation);
CARSO_API const int32_t *carso_evaluation_predictions(const carso_evaluation *evaluation, int32_t cell);

#ifdef __cplusplus
}
#endif
#endif
