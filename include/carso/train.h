/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Training: the purifier as in the paper, and the classifier adversarially, one call per batch.
 */
#ifndef CARSO_TRAIN_H
#define CARSO_TRAIN_H

#include "carso/data.h"
#include "carso/image.h"
#include "carso/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A trainer has its own weights, optimiser state and random-number position. One thread at a time. Since 0.1. */
typedef struct carso_trainer carso_trainer;

/** Options of carso_trainer_create_purifier; defaults are scenario (a) of the paper, section 5.1 and table 14. Since 0.1. */
typedef struct carso_purifier_training_options {
    size_t struct_size;
    int32_t steps_per_epoch; /**< batches in an epoch, >= 1; must be set */
    int32_t epochs;          /**< of the whole run; 200 */
    /** Images computed at once; larger batches accumulate gradients, and BatchNorm's batch is then this; 0: from the memory limit */
    int32_t sub_batch;
    /** 1: the schedules below move with every step; 0: with every epoch, as in the paper; 0 */
    int32_t schedule_by_step;
    double adversarial_fraction; /**< of each batch, split evenly over FGSM and PGD at epsilon / 2 and epsilon; 0.5 */
    double epsilon;              /**< 8/255 */
    int32_t pgd_steps;           /**< 40 */
    int32_t lookahead_steps;     /**< 6 */
    double pgd_step_size;        /**< 0.01 */
    double lookahead_rate;       /**< how far the slow weights move; 0.8 */
    double learning_rate_start;  /**< 5e-9 */
    double learning_rate_peak;   /**< 0.064 */
    double learning_rate_end;    /**< 4.346e-4 */
    double warm_up_epochs;       /**< linear from start to peak; 25 */
    double plateau_epochs;       /**< 25 */
    double annealing_epochs;     /**< linear from peak to end; 150 */
    double beta_start_epoch;     /**< beta is 0 until here; 25 */
    double beta_full_epoch;      /**< and reaches beta_final here, linearly; 34 */
    double beta_final;           /**< 1 */
    /** Nats per latent feature, averaged over the batch, that the KL term leaves free; 0, as in the paper */
    double free_bits;
    /** 1 divides the loss by the batch size: the same method at another scale of the learning rate; 0 */
    int32_t mean_loss;
    /** 1 divides epsilon and step size by the mean of the standardisation's deviations, as the authors' code does; 0 */
    int32_t epsilon_over_deviation;
    uint64_t seed; /**< of weights' noise, attacks and latents; 0 */
} carso_purifier_training_options;

/** Options of carso_trainer_create_classifier (Madry et al. 2018; TRADES, Zhang et al. 2019). Since 0.1. */
typedef struct carso_classifier_training_options {
    size_t struct_size;
    int32_t steps_per_epoch;    /**< must be set */
    int32_t epochs;             /**< 30 */
    int32_t sub_batch;          /**< as above; 0 */
    int32_t pgd_steps;          /**< 0 trains on clean images; 10 */
    double epsilon;             /**< 8/255 */
    double pgd_step_size;       /**< 2/255 */
    double epsilon_ramp_epochs; /**< epsilon and step size rise linearly from 0 over these; 5 */
    /** 0: adversarial training on the attacked images; > 0: TRADES with this weight of the KL term, 6 is usual */
    double trades_beta;
    double learning_rate;       /**< SGD, peak; 0.1 */
    double momentum;            /**< Nesterov's; 0.9 */
    double weight_decay;        /**< 5e-4 */
    double warm_up_epochs;      /**< learning rate rises from 0; 1. Then it falls along a half cosine to 0. */
    double label_smoothing;     /**< 0 */
    uint64_t seed;              /**< 0 */
} carso_classifier_training_options;

/** What a step measured. Since 0.1. */
typedef struct carso_train_report {
    size_t struct_size;
    uint64_t step;         /**< of this step, from 0 */
    double epoch;          /**< step / steps_per_epoch */
    double learning_rate;
    double loss;           /**< per image */
    double gradient_norm;  /**< l2, of the loss that the optimiser saw */
    double adversarial_share; /**< of the batch */
    /* purifier */
    double reconstruction; /**< binary cross-entropy, nats per image */
    double kl;             /**< nats per image */
    double beta;
    /** Root mean square difference of two draws' reconstructions of the batch's first images: near 0, the posterior has collapsed */
    double draw_diversity;
    int32_t collapsed;     /**< 1: beta > 0 and KL under 0.1 nats per image; a warning is logged once */
    /* classifier */
    int32_t reserved;
    double epsilon;        /**< of this step's attack */
    double accuracy;       /**< share of the batch that is right on the images trained on */
} carso_train_report;

CARSO_API void carso_purifier_training_options_init(carso_purifier_training_options *options, size_t size);
CARSO_API void carso_classifier_training_options_init(carso_classifier_training_options *options, size_t size);

/**
 * Like carso_purifier_training_options_init, with what a preset (carso_preset_name) was trained with: fraction of attacked
 * images, epochs, phases of the learning rate and of beta. out_batch: images in a step, over all devices, as in the
 * paper; may be NULL. Returns what carso_model_options_preset does. Source: section 5.1 and table 14. Since 0.1.
 */
CARSO_API carso_status carso_purifier_training_options_preset(carso_purifier_training_options *options, size_t size,
                                                              const char *name, int32_t *out_batch);

/** Trains the model's purifier; the classifier stays frozen. The model must have a purifier with its encoder. Since 0.1. */
CARSO_API carso_status carso_trainer_create_purifier(const carso_model *model,
                                                     const carso_purifier_training_options *options,
                                                     carso_trainer **out_trainer);

/** Trains the model's classifier. A purifier that the model may have is left out of the result. Since 0.1. */
CARSO_API carso_status carso_trainer_create_classifier(const carso_model *model,
                                                       const carso_classifier_training_options *options,
                                                       carso_trainer **out_trainer);

/**
 * One step on a batch (at least 2 images): attacks, losses, gradients, update. labels [count].
 * NON_FINITE: the step's loss or gradient is not finite; nothing was updated and the message says where.
 * out_report may be NULL; else its struct_size must be set. Since 0.1.
 */
CARSO_API carso_status carso_train_step(carso_trainer *trainer, const carso_images *images, const int32_t *labels,
                                        carso_train_report *out_report);

/** The model with the weights reached (the slow ones of Lookahead). Since 0.1. */
CARSO_API carso_status carso_trainer_get_model(const carso_trainer *trainer, carso_model **out_model);

/** Steps done. Since 0.1. */
CARSO_API uint64_t carso_trainer_step(const carso_trainer *trainer);

/**
 * Tells where the batches come from: the data set's name (UTF-8, at most 255 bytes), the images of an epoch, those of a step, and the
 * augmentation that they are read with (NULL: none; its seed and epoch are not looked at). Checkpoints and the model's provenance keep
 * it. INVALID_ARGUMENT where the trainer was told of other numbers or another augmentation before, in the training that a checkpoint
 * goes on with too: it would not come to the same result. Since 0.1.
 */
CARSO_API carso_status carso_trainer_set_data(carso_trainer *trainer, const char *name, uint64_t images,
                                              uint64_t batch, const carso_read_options *reading);

/**
 * Whether the training is that of a purifier (a classifier) with these options, which a caller that goes on from a checkpoint wants to
 * know. options NULL: the defaults. INVALID_ARGUMENT where it is not; the message names the first that differs, with both values.
 * Since 0.1.
 */
CARSO_API carso_status carso_trainer_check_purifier(const carso_trainer *trainer,
                                                    const carso_purifier_training_options *options);
CARSO_API carso_status carso_trainer_check_classifier(const carso_trainer *trainer,
                                                      const carso_classifier_training_options *options);

/** Writes a checkpoint, atomically as carso_model_save does. It is a model file too, of the model as reached. Since 0.1. */
CARSO_API carso_status carso_trainer_save(const carso_trainer *trainer, const char *path);

/**
 * Loads a checkpoint: the trainer goes on with the same bits as if it had never stopped, given the same batches, backend
 * and threads. Since 0.1.
 */
CARSO_API carso_status carso_trainer_load(carso_context *context, const char *path, carso_trainer **out_trainer);

CARSO_API void carso_trainer_destroy(carso_trainer *trainer);

#ifdef __cplusplus
}
#endif
#endif
