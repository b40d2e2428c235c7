/* SPDX-License-Identifier: BSD-2-Clause */
/* What all data sets are once they are open, and the formats that open them. */
#ifndef CSO_DATA_DATASET_H
#define CSO_DATA_DATASET_H

#include "base/context.h"
#include "carso/data.h"
#include "data/name_list.h"

#define CSO_LARGEST_SIDE 16384

struct carso_dataset {
    carso_context *context;
    carso_dataset_info info;
    size_t image_size; /* height * width * channels */
    bool shape_given;  /* what image files are read as; found by looking at them else */
    cso_name_list class_names;
    int32_t *labels;     /* [count]; NULL: not known */
    uint8_t *pixels;     /* [count][height][width][channels]; NULL: read from files as they are asked for */
    cso_name_list files; /* one for each image, where pixels is NULL */
};

/* Options are checked. */
carso_status cso_dataset_open(carso_context *context, const char *path, const carso_dataset_options *options,
                              carso_dataset **out);
carso_status cso_dataset_open_files(carso_context *context, const char *const *paths, size_t count,
                                    const carso_dataset_options *options, carso_dataset **out);
void cso_dataset_destroy(carso_dataset *dataset);
/* Arguments are checked; options NULL: no augmentation. */
carso_status cso_dataset_read(const carso_dataset *dataset, const uint64_t *indices, size_t count,
                              const carso_read_options *options, uint8_t *out_pixels, int32_t *out_labels);

/* Formats: fill an empty data set; what they leave on failure is destroyed by the caller. */

/* images_path: one of the image files. */
carso_status cso_idx_open(carso_dataset *dataset, const char *images_path);
/* Path of the image file of a split in a folder; false: none there. */
bool cso_idx_find(const char *folder, carso_split split, char *out, size_t size);

typedef enum cso_cifar { CSO_CIFAR_10, CSO_CIFAR_100 } cso_cifar;
bool cso_cifar_find(const char *folder, carso_split split, cso_cifar *out);
carso_status cso_cifar_open(carso_dataset *dataset, const char *folder, carso_split split, cso_cifar which);

carso_status cso_folder_open(carso_dataset *dataset, const char *path, carso_split split);
carso_status cso_folder_read(const carso_dataset *dataset, uint64_t index, uint8_t *out);

/* What other sets of image files take from it. Adds the names of the folders, or of the image files, that path holds, in
 * the order of their bytes. */
carso_status cso_folder_list(const carso_context *context, const char *path, bool folders, cso_name_list *out);
/* Size and channels, from a few images of all classes: a wrong size is found now rather than in the middle of training.
 * Of no images where the shape is given. */
carso_status cso_folder_probe(carso_dataset *dataset);
/* From files class by class to the first of every class, the second of every class and so on: a set's first N images are
 * then of all classes. */
carso_status cso_folder_interleave(carso_dataset *dataset);

bool cso_tiny_imagenet_find(const char *folder);
carso_status cso_tiny_imagenet_open(carso_dataset *dataset, const char *folder, carso_split split);

carso_status cso_file_set_open(carso_dataset *dataset, const char *const *paths, size_t count);
/* As the shape given. */
carso_status cso_file_set_read(const carso_dataset *dataset, uint64_t index, uint8_t *out);

/* "0", "1", .. for every class that has no name. */
carso_status cso_dataset_number_classes(carso_dataset *dataset);

/* Crop and mirror of one image by (seed, epoch, index) alone; out and image do not overlap. */
void cso_augment(const carso_dataset_info *info, const carso_read_options *options, uint64_t index,
                 const uint8_t *image, uint8_t *out);

#endif
