/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Labelled image data sets: IDX, CIFAR binary, folders of images. Unlabelled image files. Reading ahead.
 */
#ifndef CARSO_DATA_H
#define CARSO_DATA_H

#include "carso/image.h"

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
    /** "idx", "cifar10", "cifar100", "folder", "tinyimagenet", "files"; a static string */
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
 *   a folder with val/val_annotations.txt, val/images and train/CLASS/images (Tiny-ImageNet-200; test is its val);
 *   a folder with one folder per class of PNG or JPEG images of one size, or with train/ and test/ holding such.
 *   A folder of classes without train/ and test/ is the same for both splits.
 * path may also name one of the IDX image files. Compressed and small formats are held in memory; image folders are
 * read as they are asked for.
 * An IDX set of 10 classes of 28x28 whose path has "fashion" in it gets Fashion-MNIST's class names; CIFAR takes its
 * names from batches.meta.txt or fine_label_names.txt beside.
 * Tiny-ImageNet: classes in the order of their identifiers' bytes, called by their first word in words.txt beside, if any.
 * Image folders: classes in the order of their names' bytes, and so the files of each; the images are the first of every
 * class, the second of every class and so on, so that the first N are of all classes (Tiny-ImageNet's train likewise).
 * The classes are those of train/ and test/ together; names beginning with a dot are passed over. Up to 64 images, spread
 * over the set, are looked at: if any has colour the set has three channels, and gray images are read as RGB.
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
 * A permutation of 0 .. count-1 that depends on (count, seed, epoch) alone. out_indices [count of the data set].
 * Since 0.1.
 */
CARSO_API carso_status carso_dataset_shuffle(const carso_dataset *dataset, uint64_t seed, uint64_t epoch,
                                             uint64_t *out_indices);

/** Options of carso_dataset_open_with and carso_dataset_open_files. Since 0.1. */
typedef struct carso_dataset_options {
    size_t struct_size;
    int32_t split; /**< carso_split; TRAIN. Ignored by carso_dataset_open_files. */
    /**
     * What image files are read as, or all three 0: found by looking at some of them. Where given, no file is looked at
     * on opening: a damaged one, or one of another size, is an error when it is read. A file in colour whose pixels are
     * gray throughout then is a gray image as well. Data sets that are not made of image files keep their own shape.
     */
    int32_t channels;
    int32_t height; /**< 1 to 16384 */
    int32_t width;  /**< 1 to 16384 */
} carso_dataset_options;

CARSO_API void carso_dataset_options_init(carso_dataset_options *options, size_t size);

/** carso_dataset_open with options. Since 0.1. */
CARSO_API carso_status carso_dataset_open_with(carso_context *context, const char *path,
                                               const carso_dataset_options *options, carso_dataset **out_dataset);

/**
 * A data set of image files without labels: format "files", no classes, every label -1. paths names files, whatever
 * they are called, and folders, of which all PNG and JPEG files are taken at any depth: those directly inside first, then
 * those of its folders, each in the order of their names' bytes; names beginning with a dot are passed over, and of the
 * folders within one that is named none is searched twice, however many links lead to it. A file that does not exist is an
 * error when it is read.
 * INVALID_ARGUMENT; NOT_FOUND: no image at all; IO: a folder cannot be read, or folders are more than 64 deep; and what
 * carso_dataset_open returns where the shape is not given. Since 0.1.
 */
CARSO_API carso_status carso_dataset_open_files(carso_context *context, const char *const *paths, size_t count,
                                                const carso_dataset_options *options, carso_dataset **out_dataset);

/** Path of the file of an image; NULL where images have no files of their own, or out of range. Since 0.1. */
CARSO_API const char *carso_dataset_file(const carso_dataset *dataset, uint64_t index);

/** Reads batches of a data set ahead of their use, on threads of its own. Since 0.1. */
typedef struct carso_reader carso_reader;

/** Options of carso_reader_open. Since 0.1. */
typedef struct carso_reader_options {
    size_t struct_size;
    uint64_t batch;  /**< images in a batch, of which the last may have fewer; 64 */
    int32_t threads; /**< 1 to 256; 0: half of the machine's cores, 1 to 8 */
    int32_t ahead;   /**< batches held beyond the one handed out, 1 to 256; 2 */
    /**
     * 1: an image that cannot be read (NOT_FOUND, IO, BAD_FORMAT, UNSUPPORTED) does not end the reading: its pixels are 0
     * and the batch says why; 0
     */
    int32_t keep_going;
    int32_t reserved;
    uint64_t first; /**< where indices is NULL: the first image; 0 */
    const carso_read_options *reading; /**< as in carso_dataset_read; NULL */
} carso_reader_options;

CARSO_API void carso_reader_options_init(carso_reader_options *options, size_t size);

/** A batch, whose arrays are valid until the next call of carso_reader_next or _destroy. Since 0.1. */
typedef struct carso_read_batch {
    size_t struct_size;
    uint64_t first; /**< position of its first image in the list */
    uint64_t count; /**< 0: the list has ended */
    const uint8_t *pixels;       /**< [count][height][width][channels] */
    const int32_t *labels;       /**< [count] */
    const int32_t *statuses;     /**< [count] carso_status */
    const char *const *messages; /**< [count] what is wrong with an image, NULL where its status is OK */
} carso_read_batch;

/**
 * Reads count images: those of indices [count], which is copied, or where that is NULL count from options->first on.
 * Holds options->ahead + 1 batches, however long the list is. The batches are, bit by bit, those of carso_dataset_read.
 * The data set must outlive the reader. Its threads have all signals blocked; where none can be started, images are read
 * by carso_reader_next itself. INVALID_ARGUMENT, OUT_OF_MEMORY. Since 0.1.
 */
CARSO_API carso_status carso_reader_open(const carso_dataset *dataset, const uint64_t *indices, uint64_t count,
                                         const carso_reader_options *options, carso_reader **out_reader);

/**
 * Hands out the next batch in *out_batch, whose struct_size the caller has set, and waits for it where it is not there
 * yet. An error is that of the first image of the batch that could not be read, and comes again with each further call.
 * INVALID_ARGUMENT also in a process forked after carso_reader_open, which has none of its threads; there the reader can
 * be destroyed and nothing else. Thread-safety: one thread at a time. Since 0.1.
 */
CARSO_API carso_status carso_reader_next(carso_reader *reader, carso_read_batch *out_batch);

/** Ends the threads, after the images that they are at. Accepts NULL. Since 0.1. */
CARSO_API void carso_reader_destroy(carso_reader *reader);

/**
 * One image that the library decoded and holds, as opposed to carso_images, which describes images that the caller
 * holds. Immutable. Since 0.1.
 */
typedef struct carso_image carso_image;

/**
 * Decodes a PNG or JPEG file, recognised by its content, to 8-bit gray or RGB: 16-bit components are rounded, palettes
 * looked up, an alpha channel is dropped; colour profiles and orientation marks are not applied.
 * The caller destroys *out_image, which keeps the context alive; NULL on failure.
 * NOT_FOUND, IO; BAD_FORMAT: damaged, neither PNG nor JPEG, or over 64 Mi pixels (found before memory is taken);
 * OUT_OF_MEMORY; UNSUPPORTED: CMYK, or a build without image files.
 * Thread-safety: any thread. Since 0.1.
 */
CARSO_API carso_status carso_image_read(carso_context *context, const char *path, carso_image **out_image);

CARSO_API void carso_image_destroy(carso_image *image);

/**
 * Describes the pixels, to be passed to any call that takes images: UINT8, HWC, GRAY or RGB, dense, count 1.
 * Fills *out_images, whose struct_size the caller has set (carso_images_init does); its data is valid until the image
 * is destroyed. Thread-safety: any thread. Since 0.1.
 */
CARSO_API carso_status carso_image_get_images(const carso_image *image, carso_images *out_images);

/**
 * Writes image index of images to an 8-bit gray or RGB PNG file; float components are rounded to the nearest of the 256
 * values. The file appears whole or not at all: on failure, what was at path is as before.
 * INVALID_ARGUMENT: index out of range, size 0 or over 64 Mi pixels, or path names something other than a regular file;
 * INVALID_IMAGE; NOT_FOUND (the folder); IO; OUT_OF_MEMORY; UNSUPPORTED: a build without image files.
 * Thread-safety: any thread. Since 0.1.
 */
CARSO_API carso_status carso_image_write_png(carso_context *context, const char *path, const carso_images *images,
                                             uint64_t index);

#ifdef __cplusplus
}
#endif
#endif
