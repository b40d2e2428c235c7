/* SPDX-License-Identifier: BSD-2-Clause */
#include "data/dataset.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "data/data_file.h"

carso_status cso_dataset_number_classes(carso_dataset *dataset)
{
    carso_status status = CARSO_OK;
    for (size_t i = dataset->class_names.count; i < (size_t)dataset->info.classes && status == CARSO_OK; i++) {
        char number[24];
        snprintf(number, sizeof number, "%zu", i);
        status = cso_name_list_append(dataset->context, &dataset->class_names, number);
    }
    return status;
}

static carso_status open_format(carso_dataset *dataset, const char *path, carso_split split)
{
    char images[PATH_MAX];
    struct stat facts;
    cso_cifar cifar;
    const carso_split other = split == CARSO_SPLIT_TRAIN ? CARSO_SPLIT_TEST : CARSO_SPLIT_TRAIN;
    if (stat(path, &facts) != 0) {
        return cso_fail_system(dataset->context, errno, "%s: cannot open", path);
    }
    if (!S_ISDIR(facts.st_mode)) {
        return cso_idx_open(dataset, path);
    }
    if (cso_idx_find(path, split, images, sizeof images)) {
        return cso_idx_open(dataset, images);
    }
    if (cso_cifar_find(path, split, &cifar)) {
        return cso_cifar_open(dataset, path, split, cifar);
    }
    if (cso_idx_find(path, other, images, sizeof images) || cso_cifar_find(path, other, &cifar)) {
        return cso_fail(dataset->context, CARSO_ERROR_NOT_FOUND, "%s: has files of the %s split only", path,
                        other == CARSO_SPLIT_TRAIN ? "training" : "test");
    }
    if (cso_tiny_imagenet_find(path)) {
        return cso_tiny_imagenet_open(dataset, path, split);
    }
    return cso_folder_open(dataset, path, split);
}

static carso_status create(carso_context *context, const carso_dataset_options *options, carso_dataset **out)
{
    carso_dataset *dataset = cso_allocate(context, 1, sizeof *dataset);
    *out = dataset;
    if (dataset == NULL) {
        return cso_fail_memory(context, "a data set");
    }
    dataset->context = context;
    cso_context_retain(context);
    dataset->info.channels = options->channels;
    dataset->info.height = options->height;
    dataset->info.width = options->width;
    dataset->shape_given = options->width > 0;
    return CARSO_OK;
}

/* Of a data set that is opened: hands it out, or destroys it. */
static carso_status conclude(carso_status status, carso_dataset *dataset, carso_dataset **out)
{
    if (status == CARSO_OK) {
        status = cso_dataset_number_classes(dataset);
    }
    if (status != CARSO_OK) {
        cso_dataset_destroy(dataset);
        dataset = NULL;
    }
    *out = dataset;
    return status;
}

carso_status cso_dataset_open(carso_context *context, const char *path, const carso_dataset_options *options,
                              carso_dataset **out)
{
    carso_dataset *dataset;
    carso_status status = create(context, options, &dataset);
    if (status == CARSO_OK) {
        status = open_format(dataset, path, (carso_split)options->split);
    }
    return conclude(status, dataset, out);
}

carso_status cso_dataset_open_files(carso_context *context, const char *const *paths, size_t count,
                                    const carso_dataset_options *options, carso_dataset **out)
{
    carso_dataset *dataset;
    carso_status status = create(context, options, &dataset);
    if (status == CARSO_OK) {
        status = cso_file_set_open(dataset, paths, count);
    }
    return conclude(status, dataset, out);
}

void cso_dataset_destroy(carso_dataset *dataset)
{
    if (dataset == NULL) {
        return;
    }
    carso_context *context = dataset->context;
    cso_name_list_release(context, &dataset->class_names);
    cso_name_list_release(context, &dataset->files);
    cso_release(context, dataset->labels);
    cso_release(context, dataset->pixels);
    cso_release(context, dataset);
    carso_context_destroy(context);
}

carso_status cso_dataset_read(const carso_dataset *dataset, const uint64_t *indices, size_t count,
                              const carso_read_options *options, uint8_t *out_pixels, int32_t *out_labels)
{
    const bool augment = options != NULL && (options->crop_padding != 0 || options->mirror != 0);
    const size_t size = dataset->image_size;
    uint8_t *original = NULL;
    carso_status status = CARSO_OK;
    for (size_t i = 0; i < count; i++) {
        if (indices[i] >= dataset->info.count) {
            return cso_fail(dataset->context, CARSO_ERROR_INVALID_ARGUMENT,
                            "index %zu of the list is %" PRIu64 "; the data set has %" PRIu64 " images", i, indices[i],
                            dataset->info.count);
        }
    }
    if (augment && dataset->pixels == NULL) {
        original = cso_allocate_raw(dataset->context, size, 1);
        if (original == NULL) {
            return cso_fail_memory(dataset->context, "an image");
        }
    }
    for (size_t i = 0; i < count && status == CARSO_OK; i++) {
        uint8_t *out = out_pixels + i * size;
        const uint8_t *image = dataset->pixels == NULL ? original : dataset->pixels + indices[i] * size;
        if (dataset->pixels == NULL) {
            uint8_t *place = augment ? original : out;
            status = dataset->shape_given ? cso_file_set_read(dataset, indices[i], place)
                                          : cso_folder_read(dataset, indices[i], place);
        } else if (!augment) {
            memcpy(out, image, size);
        }
        if (augment && status == CARSO_OK) {
            cso_augment(&dataset->info, options, indices[i], image, out);
        }
        if (out_labels != NULL) {
            out_labels[i] = dataset->labels == NULL ? -1 : dataset->labels[indices[i]];
        }
    }
    cso_release(dataset->context, original);
    return status;
}
