/* SPDX-License-Identifier: BSD-2-Clause */
#include "carso/data.h"

#include "api/pixels.h"
#include "api/read_options.h"
#include "base/random.h"
#include "data/dataset.h"
#include "data/image_file.h"

struct carso_image {
    carso_context *context;
    cso_image_facts facts;
    uint8_t *pixels;
};

void carso_read_options_init(carso_read_options *options, size_t size)
{
    const carso_read_options defaults = {0};
    cso_options_fill(options, size, &defaults, sizeof defaults);
}

void carso_dataset_options_init(carso_dataset_options *options, size_t size)
{
    const carso_dataset_options defaults = {.split = CARSO_SPLIT_TRAIN};
    cso_options_fill(options, size, &defaults, sizeof defaults);
}

static carso_status resolve_options(const carso_context *context, const char *call, const carso_dataset_options *given,
                                    carso_dataset_options *out)
{
    carso_dataset_options_init(out, sizeof *out);
    const carso_status status = cso_options_copy(context, "data set options", out, sizeof *out, given);
    if (status != CARSO_OK) {
        return status;
    }
    if (out->split != CARSO_SPLIT_TRAIN && out->split != CARSO_SPLIT_TEST) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s: split is %d; expected %d (train) or %d (test)",
                        call, (int)out->split, CARSO_SPLIT_TRAIN, CARSO_SPLIT_TEST);
    }
    if (out->channels == 0 && out->height == 0 && out->width == 0) {
        return CARSO_OK;
    }
    if ((out->channels != 1 && out->channels != 3) || out->height < 1 || out->height > CSO_LARGEST_SIDE ||
        out->width < 1 || out->width > CSO_LARGEST_SIDE) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "%s: the shape is %dx%dx%d; expected 1 or 3 channels and sides of 1 to %d, or all 0", call,
                        (int)out->channels, (int)out->height, (int)out->width, CSO_LARGEST_SIDE);
    }
    return CARSO_OK;
}

static carso_status open_set(carso_context *context, const char *call, const char *path,
                             const carso_dataset_options *options, carso_dataset **out_dataset)
{
    carso_dataset_options resolved;
    if (out_dataset != NULL) {
        *out_dataset = NULL;
    }
    if (context == NULL || path == NULL || out_dataset == NULL) {
        return cso_fail_missing(context, call,
                                context == NULL ? "context"
                                : path == NULL  ? "path"
                                                : "out_dataset");
    }
    const carso_status status = resolve_options(context, call, options, &resolved);
    return status == CARSO_OK ? cso_dataset_open(context, path, &resolved, out_dataset) : status;
}

carso_status carso_dataset_open(carso_context *context, const char *path, carso_split split,
                                carso_dataset **out_dataset)
{
    carso_dataset_options options;
    carso_dataset_options_init(&options, sizeof options);
    options.split = (int32_t)split;
    return open_set(context, "carso_dataset_open", path, &options, out_dataset);
}

carso_status carso_dataset_open_with(carso_context *context, const char *path, const carso_dataset_options *options,
                                     carso_dataset **out_dataset)
{
    return open_set(context, "carso_dataset_open_with", path, options, out_dataset);
}

carso_status carso_dataset_open_files(carso_context *context, const char *const *paths, size_t count,
                                      const carso_dataset_options *options, carso_dataset **out_dataset)
{
    carso_dataset_options resolved;
    if (out_dataset != NULL) {
        *out_dataset = NULL;
    }
    if (context == NULL || paths == NULL || out_dataset == NULL) {
        return cso_fail_missing(context, "carso_dataset_open_files",
                                context == NULL ? "context"
                                : paths == NULL ? "paths"
                                                : "out_dataset");
    }
    if (count == 0) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_dataset_open_files: count is 0");
    }
    for (size_t i = 0; i < count; i++) {
        if (paths[i] == NULL) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_dataset_open_files: path %zu is NULL", i);
        }
    }
    const carso_status status = resolve_options(context, "carso_dataset_open_files", options, &resolved);
    return status == CARSO_OK ? cso_dataset_open_files(context, paths, count, &resolved, out_dataset) : status;
}

void carso_dataset_destroy(carso_dataset *dataset) { cso_dataset_destroy(dataset); }

carso_status carso_dataset_get_info(const carso_dataset *dataset, carso_dataset_info *out_info)
{
    if (dataset == NULL || out_info == NULL) {
        return cso_fail_missing(dataset == NULL ? NULL : dataset->context, "carso_dataset_get_info",
                                dataset == NULL ? "dataset" : "out_info");
    }
    return cso_struct_fill(dataset->context, "carso_dataset_get_info", out_info, &dataset->info, sizeof dataset->info);
}

const char *carso_dataset_class_name(const carso_dataset *dataset, int32_t index)
{
    if (dataset == NULL || index < 0 || index >= dataset->info.classes) {
        return NULL;
    }
    return cso_name_list_at(&dataset->class_names, (size_t)index);
}

const char *carso_dataset_file(const carso_dataset *dataset, uint64_t index)
{
    return dataset == NULL || index >= dataset->files.count ? NULL : cso_name_list_at(&dataset->files, (size_t)index);
}

carso_status cso_read_options_resolve(const carso_dataset *dataset, const carso_read_options *given,
                                      carso_read_options *out)
{
    carso_read_options_init(out, sizeof *out);
    const carso_status status = cso_options_copy(dataset->context, "read options", out, sizeof *out, given);
    if (status != CARSO_OK) {
        return status;
    }
    const int32_t side = dataset->info.height < dataset->info.width ? dataset->info.height : dataset->info.width;
    if (out->crop_padding < 0 || out->crop_padding > side) {
        return cso_fail(dataset->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "read options: crop_padding is %d, not in 0 to %d", (int)out->crop_padding, (int)side);
    }
    if (out->mirror != 0 && out->mirror != 1) {
        return cso_fail(dataset->context, CARSO_ERROR_INVALID_ARGUMENT, "read options: mirror is %d, not 0 or 1",
                        (int)out->mirror);
    }
    return CARSO_OK;
}

carso_status carso_dataset_read(const carso_dataset *dataset, const uint64_t *indices, size_t count,
                                const carso_read_options *options, uint8_t *out_pixels, int32_t *out_labels)
{
    carso_read_options resolved;
    if (dataset == NULL) {
        return cso_fail_missing(NULL, "carso_dataset_read", "dataset");
    }
    if (count == 0) {
        return cso_fail(dataset->context, CARSO_ERROR_INVALID_ARGUMENT, "carso_dataset_read: count is 0");
    }
    if (indices == NULL || out_pixels == NULL) {
        return cso_fail_missing(dataset->context, "carso_dataset_read", indices == NULL ? "indices" : "out_pixels");
    }
    const carso_status status = cso_read_options_resolve(dataset, options, &resolved);
    return status == CARSO_OK ? cso_dataset_read(dataset, indices, count, &resolved, out_pixels, out_labels) : status;
}

carso_status carso_dataset_shuffle(const carso_dataset *dataset, uint64_t seed, uint64_t epoch, uint64_t *out_indices)
{
    if (dataset == NULL || out_indices == NULL) {
        return cso_fail_missing(dataset == NULL ? NULL : dataset->context, "carso_dataset_shuffle",
                                dataset == NULL ? "dataset" : "out_indices");
    }
    const cso_random stream = {.seed = seed, .purpose = CSO_PURPOSE_SHUFFLE, .image = epoch};
    cso_random_permutation(&stream, dataset->info.count, out_indices);
    return CARSO_OK;
}

carso_status carso_image_read(carso_context *context, const char *path, carso_image **out_image)
{
    if (out_image != NULL) {
        *out_image = NULL;
    }
    if (context == NULL || path == NULL || out_image == NULL) {
        return cso_fail_missing(context, "carso_image_read",
                                context == NULL ? "context"
                                : path == NULL  ? "path"
                                                : "out_image");
    }
    carso_image *image = cso_allocate(context, 1, sizeof *image);
    if (image == NULL) {
        return cso_fail_memory(context, "an image");
    }
    const carso_status status = cso_image_file_read(context, path, &image->facts, &image->pixels);
    if (status != CARSO_OK) {
        cso_release(context, image);
        return status;
    }
    image->context = context;
    cso_context_retain(context);
    *out_image = image;
    return CARSO_OK;
}

void carso_image_destroy(carso_image *image)
{
    if (image != NULL) {
        carso_context *context = image->context;
        cso_release(context, image->pixels);
        cso_release(context, image);
        carso_context_destroy(context);
    }
}

carso_status carso_image_get_images(const carso_image *image, carso_images *out_images)
{
    carso_images description;
    if (image == NULL || out_images == NULL) {
        return cso_fail_missing(image == NULL ? NULL : image->context, "carso_image_get_images",
                                image == NULL ? "image" : "out_images");
    }
    carso_images_init(&description, sizeof description);
    description.data = image->pixels;
    description.width = image->facts.width;
    description.height = image->facts.height;
    description.order = image->facts.channels == 1 ? CARSO_ORDER_GRAY : CARSO_ORDER_RGB;
    return cso_struct_fill(image->context, "carso_image_get_images", out_images, &description, sizeof description);
}

/* From [C][H][W] in [0, 1] to [H][W][C] in 0 to 255. */
static void quantise(const float *from, const cso_image_facts *facts, uint8_t *to)
{
    const size_t plane = (size_t)facts->width * (size_t)facts->height;
    const size_t channels = (size_t)facts->channels;
    for (size_t i = 0; i < plane; i++) {
        for (size_t c = 0; c < channels; c++) {
            to[i * channels + c] = (uint8_t)(from[c * plane + i] * 255.0f + 0.5f);
        }
    }
}

carso_status carso_image_write_png(carso_context *context, const char *path, const carso_images *images, uint64_t index)
{
    carso_images found;
    float *values = NULL;
    uint8_t *pixels = NULL;
    if (context == NULL || path == NULL || images == NULL) {
        return cso_fail_missing(context, "carso_image_write_png",
                                context == NULL ? "context"
                                : path == NULL  ? "path"
                                                : "images");
    }
    carso_images_init(&found, sizeof found);
    carso_status status = cso_options_copy(context, "images", &found, sizeof found, images);
    if (status != CARSO_OK) {
        return status;
    }
    const cso_image_facts facts = {found.width, found.height, found.order == CARSO_ORDER_GRAY ? 1 : 3};
    if (facts.width < 1 || facts.height < 1 || facts.width > CSO_MOST_PIXELS / facts.height) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "images: %dx%d pixels, not in 1 to %lld in all",
                        (int)facts.width, (int)facts.height, (long long)CSO_MOST_PIXELS);
    }
    status = cso_pixels_check(context, images, facts.channels, facts.height, facts.width, &found);
    if (status != CARSO_OK) {
        return status;
    }
    if (index >= found.count) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "carso_image_write_png: index is %llu; there are %llu images", (unsigned long long)index,
                        (unsigned long long)found.count);
    }
    const size_t components = (size_t)facts.width * (size_t)facts.height * (size_t)facts.channels;
    values = cso_allocate_raw(context, components, sizeof *values);
    pixels = cso_allocate_raw(context, components, 1);
    status = values == NULL || pixels == NULL ? cso_fail_memory(context, "an image")
                                              : cso_pixels_read(context, &found, index, 1, values);
    if (status == CARSO_OK) {
        quantise(values, &facts, pixels);
        status = cso_image_file_write_png(context, path, &facts, pixels);
    }
    cso_release(context, pixels);
    cso_release(context, values);
    return status;
}
