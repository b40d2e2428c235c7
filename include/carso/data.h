/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Labelled image data sets: IDX, CIFAR binary, folders of images.
 */
#ifndef CARSO_DATA_H
#define CARSO_DATA_H

#include "carso/context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct carso_dataset carso_dataset;

/** Part of a data set. Since 0.1. */
typedef enum carso_split {
    CARSO_SPLIT_TRAIN = 0,
    CARSO_SPLIT_TEST = 1
} carso_split;

/** What a data set is. Since 0.1. */
typedef struct carso_dataset_info {
    size_t struct_size;
    uint64_t count;
    int32_t channels; /**< 1 gray, 3 RGB */
    int32_t height;
    int32_t width;
    int32_t classes;
    /** "idx", "cifar10", "cifar100", "folder"; a static string */
    const char *format;
} carso_dataset_info;

/** Options of carso_dataset_read. Since 0.1. */
typedef struct carso_read_options {
    size_t struct_size;
    /** Augmentation: zero-pad by so many pixels on each side and crop at a random place; 0 */
    int32_t crop_padding;
    /** Augmentation: 1 mirrors half of the images; 0 */
    int32_t mirror;
    uint64_t seed;  /**< of the augmentation; 0 */
    uint64_t epoch; /**< the augmentation of an image depends on (seed, epoch, image index) alone; 0 */
} carso_read_options;

CARSO_API void carso_read_options_init(carso_read_options *options, size_t size);

/**
 * Opens a data set; the format is recognised from what is there:
 *   a folder with (train|t10k)-images-idx3-ubyte[.gz] and the labels beside (MNIST, Fashion-MNIST);
 *   a folder with data_batch_1.bin .. and test_batch.bin (CIFAR-10) or train.bin and test.bin (CIFAR-100, fine labels);
 *   a folder with one folder per class of PNG or JPEG images of one size, or with train/ and test/ holding such. A folder
 *   of classes without train/ and test/ is the same for both splits.
 * path may also name one of the IDX image files. Compressed and small formats are held in memory; image folders are read
 * as they are asked for.
 * NOT_FOUND, IO, BAD_FORMAT (the message names the file and what is wrong), UNSUPPORTED. Since 0.1.
 */
CARSO_API carso_status carso_dataset_open(carso_context *context, const char *path, carso_split split,
                                          carso_dataset **out_dataset);

CARSO_API void carso_dataset_destroy(carso_dataset *dataset);

/** Fills *out_info, whose struct_size the caller has set. Since 0.1. */
CARSO_API carso_status carso_dataset_get_info(const carso_dataset *dataset, carso_dataset_info *out_info);

/** Name of a class (folder name, CIFAR or Fashion-MNIST name, or number); NULL out of range. Since 0.1. */
CARSO_API const char *carso_dataset_class_name(const carso_dataset *dataset, int32_t index);

/**
 * Reads count images by index. out_pixels [count][height][width][channels] uint8, out_labels [count] (may be NULL).
 * Thread-safety: any number of threads on one data set. Since 0.1.
 */
CARSO_API carso_status carso_dataset_read(const carso_dataset *dataset, const uint64_t *indices, size_t count,
                                          const carso_read_options *options, uint8_t *out_pixels, int32_t *out_labels);

/**
 * A permutation of 0 .. count-1 that depends on (count, seed, epoch) alone. out_indices [count of the data set]. Since 0.1.
 */
CARSO_API carso_status carso_dataset_shuffle(const carso_dataset *dataset, uint64_t seed, uint64_t epoch,
                                             uint64_t *out_indices);

#ifdef __cplusplus
}
#endif
#endif
