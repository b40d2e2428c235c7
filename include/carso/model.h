/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Models: a frozen classifier and, optionally, the purifier trained for it.
 *
 * A model is immutable and may be used from any number of threads at once. Training makes new models.
 */
#ifndef CARSO_MODEL_H
#define CARSO_MODEL_H

#include "carso/context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct carso_model carso_model;

/** Architectures that carso_model_create can build. Since 0.1. */
typedef enum carso_architecture {
    /** Pre-activation WideResNet-depth-width with SiLU (Zagoruyko and Komodakis 2016; CARSO, table 5). */
    CARSO_WIDE_RESNET = 0,
    /** Three convolutions and a linear layer, ReLU, for images of 28x28 and 32x32. */
    CARSO_SMALL_CNN = 1
} carso_architecture;

/** Options of carso_model_create. Since 0.1. */
typedef struct carso_model_options {
    size_t struct_size;
    int32_t architecture; /**< carso_architecture; SMALL_CNN */
    int32_t depth;        /**< WIDE_RESNET: 6n + 4, n >= 1; 28 */
    int32_t width;        /**< multiplies 16, 32, 64 channels, 1 to 64; 0: 10 for WIDE_RESNET, 1 for SMALL_CNN; 0 */
    int32_t channels;     /**< of the image: 1 or 3; 3 */
    int32_t image_height; /**< 8 to 4096; 32 */
    int32_t image_width;  /**< 8 to 4096; 32 */
    int32_t classes;      /**< 2 to 65536; 10 */
    int32_t reserved;
    float mean[3];        /**< standardisation inside the model, per channel, in units of [0, 1]; 0 */
    float deviation[3];   /**< > 0; 1 */
    /** NULL, or classes names, copied. */
    const char *const *class_names;
    /** Of the random initial weights; 0 */
    uint64_t seed;
} carso_model_options;

/** Options of carso_model_add_purifier. Since 0.1. */
typedef struct carso_purifier_options {
    size_t struct_size;
    /** Features of the compressed representation, f_crepr in table 13; 0: 512, or 768 where an image side is over 32. */
    int32_t condition_size;
    /** Features of the latent, f_joint in table 13; 0: 128, or 192 where an image side is over 32. */
    int32_t latent_size;
    /** Channels of the decoder's seed (table 10: 256); halved from layer to layer as in the table. 16 to 1024, a multiple of 8. */
    int32_t seed_channels;
    int32_t reserved;
    /** Of the random initial weights; 0 */
    uint64_t seed;
} carso_purifier_options;

/** What a model is. Filled by carso_model_get_info. Since 0.1. */
typedef struct carso_model_info {
    size_t struct_size;
    int32_t channels;
    int32_t image_height;
    int32_t image_width;
    int32_t classes;
    int32_t has_purifier;          /**< 0 or 1; if 0, the purifier's fields are 0 */
    int32_t taps;
    int32_t condition_size;
    int32_t latent_size;
    uint64_t classifier_parameters; /**< numbers in the file, running statistics included */
    uint64_t purifier_parameters;
    uint64_t classifier_multiply_adds; /**< per image */
    uint64_t condition_multiply_adds;  /**< tap encoders and representation encoder, per image */
    uint64_t decoder_multiply_adds;    /**< per draw */
} carso_model_info;

CARSO_API void carso_model_options_init(carso_model_options *options, size_t size);
CARSO_API void carso_purifier_options_init(carso_purifier_options *options, size_t size);

/**
 * Names of the presets, which are the paper's scenarios (a), (b) and (c): "cifar10", "cifar100", "tinyimagenet"; in
 * this order, NULL from the number of presets on. Static strings. Since 0.1.
 */
CARSO_API const char *carso_preset_name(size_t index);

/**
 * Like carso_model_options_init, with a preset's classifier: WideResNet-28-10, image size, classes and their names where
 * they are known, standardisation of the data set. class_names then points to static memory.
 * NOT_FOUND: no preset has this name; INVALID_ARGUMENT: a NULL, or size smaller than a size_t. *options then stays as it
 * was. Source: table 5 and section 5.1. Since 0.1.
 */
CARSO_API carso_status carso_model_options_preset(carso_model_options *options, size_t size, const char *name);

/** The same for the purifier of a preset. Source: tables 6 to 13. Since 0.1. */
CARSO_API carso_status carso_purifier_options_preset(carso_purifier_options *options, size_t size, const char *name);

/**
 * Builds a classifier with random weights, without a purifier. Since 0.1.
 */
CARSO_API carso_status carso_model_create(carso_context *context, const carso_model_options *options,
                                          carso_model **out_model);

/**
 * A new model: this one's classifier (shared, not copied) and a new purifier with random weights for its taps.
 * Source: tables 4, 6 to 11 and 13. UNSUPPORTED where the image is under 28x28 or a tap cannot be encoded. Since 0.1.
 */
CARSO_API carso_status carso_model_add_purifier(const carso_model *model, const carso_purifier_options *options,
                                                carso_model **out_model);

/** Loads a model file (docs/model-format.md); weights are mapped, not copied, where the backend allows. Since 0.1. */
CARSO_API carso_status carso_model_load(carso_context *context, const char *path, carso_model **out_model);

/** The same from memory, which must outlive the model and stay unchanged. Since 0.1. */
CARSO_API carso_status carso_model_load_memory(carso_context *context, const void *data, size_t size,
                                               carso_model **out_model);

/** Writes a model file: to a temporary file beside path, synced, then renamed. A failure leaves path as it was. Since 0.1. */
CARSO_API carso_status carso_model_save(const carso_model *model, const char *path);

/**
 * A new model with this one's structure and weights from safetensors files of other programs:
 *   checkpoints of the classifier, named as its layers are ("layer.0.block.0.conv_0.weight" for a WideResNet);
 *   the purifier, whole ("decoder.0.1.weight") or as its three parts in a file each, whose names lack the part's name
 *   ("0.1.weight"): tap encoders, representation encoder and decoder;
 *   or both, prefixed "classifier." and "purifier.", as in model files.
 * A prefix that all names of a file share ("module.", "model.") is stripped. Tensors called num_batches_tracked are passed
 * over. Strict otherwise: every tensor of a part must be there once, as F32 of the right shape, and nothing else; BAD_FORMAT
 * where not, and then each tensor at fault is logged at warning level, and nothing is imported.
 * Where only a classifier is given, the purifier is left out: it belongs to the weights that it was trained for. Where only
 * a purifier is given, the classifier stays. A purifier given without its encoder, which only training needs, is one
 * without.
 * paths: count names of files; they stay mapped as long as the model lives. Since 0.1.
 */
CARSO_API carso_status carso_model_import(const carso_model *model, const char *const *paths, size_t count,
                                          carso_model **out_model);

/** How one tensor that a model computes differs from a stored one. Since 0.1. */
typedef struct carso_deviation {
    size_t struct_size;
    const char *name;          /**< in the file; valid during the call */
    uint64_t count;            /**< elements compared */
    double largest_difference; /**< NaN: something computed is not a number */
    double scale;              /**< largest magnitude among the stored */
    uint64_t position;         /**< of the largest difference, in the flattened tensor */
    double stored;             /**< there */
    double computed;           /**< there */
    int32_t departs;           /**< 1: largest_difference is not within tolerance * scale; else 0 */
    int32_t reserved;
} carso_deviation;

/** Called once for each tensor compared. */
typedef void (*carso_deviation_callback)(const carso_deviation *deviation, void *user);

/**
 * Computes what a file of golden tensors stores and compares, in the order in which it is computed, so that the first
 * tensor that departs says where to look. Names in the safetensors file: "input" [batch][C][H][W] in [0, 1]; of what is
 * compared any: "tap." + a layer's name, "classifier_logits", and where the model has a purifier "condition" and, with
 * "latent" [draws][batch][latent size], "reconstructions" and "sample_logits". Others are passed over. Metadata "strides"
 * may hold a JSON object with a number n for a tensor of which only elements 0, n, 2n, .. of the flattened are stored.
 * tolerance: relative to the largest magnitude of a tensor; 1e-4 suits float32. callback may be NULL.
 * out_departures: number of tensors that depart. BAD_FORMAT: the file does not fit the model, or has nothing to compare.
 * Since 0.1.
 */
CARSO_API carso_status carso_model_verify(const carso_model *model, const char *golden_path, double tolerance,
                                          carso_deviation_callback callback, void *user, int32_t *out_departures);

/** Gives up the caller's reference. Running calls on the model must have returned. Since 0.1. */
CARSO_API void carso_model_destroy(carso_model *model);

/** Fills *out_info, whose struct_size the caller has set. Since 0.1. */
CARSO_API carso_status carso_model_get_info(const carso_model *model, carso_model_info *out_info);

/** Name of a class, its number in decimal where the file has none; NULL out of range. Valid as long as the model. Since 0.1. */
CARSO_API const char *carso_model_class_name(const carso_model *model, int32_t index);

/**
 * The layers with their definitions (as the paper's tables write them), shapes, parameters and multiply-adds, taps,
 * purifier with the parts that it has (tables 4 and 6 to 11), and provenance as JSON text; valid as long as the model.
 * NULL where memory ran out. Since 0.1.
 */
CARSO_API const char *carso_model_describe(const carso_model *model);

/** The context that the model belongs to. Since 0.1. */
CARSO_API carso_context *carso_model_context(const carso_model *model);

#ifdef __cplusplus
}
#endif
#endif
