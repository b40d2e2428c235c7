/* SPDX-License-Identifier: BSD-2-Clause */
#include "samples.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *const split_names[] = {"train", "test", NULL};

size_t samples_image_size(const samples *held)
{
    return (size_t)held->channels * (size_t)held->height * (size_t)held->width;
}

void samples_release(samples *held)
{
    for (uint64_t i = 0; held->names && i < held->count; i++) {
        free(held->names[i]);
    }
    free(held->names);
    free(held->pixels);
    free(held->labels);
    *held = (samples){0};
}

carso_images samples_describe(const samples *held, const float *pixels, uint64_t first, uint64_t count)
{
    carso_images images;
    carso_images_init(&images, sizeof images);
    images.data = pixels + (size_t)first * samples_image_size(held);
    images.count = count;
    images.width = held->width;
    images.height = held->height;
    images.type = CARSO_PIXEL_FLOAT32;
    images.layout = CARSO_LAYOUT_CHW;
    images.order = held->channels == 1 ? CARSO_ORDER_GRAY : CARSO_ORDER_RGB;
    return images;
}

const char *samples_name(const samples *held, uint64_t index, char *text, size_t size)
{
    if (held->names) {
        return held->names[index];
    }
    snprintf(text, size, "%llu", (unsigned long long)(held->first + index));
    return text;
}

/* One HWC image of bytes, of 1 or 3 channels, to CHW floats of the wanted number of channels. */
static void spread(const samples *held, const uint8_t *bytes, int32_t channels, float *out)
{
    size_t plane = (size_t)held->height * (size_t)held->width;
    for (int32_t c = 0; c < held->channels; c++) {
        for (size_t i = 0; i < plane; i++) {
            out[(size_t)c * plane + i] = (float)bytes[i * (size_t)channels + (size_t)(c < channels ? c : 0)] / 255.0f;
        }
    }
}

static bool allocate(samples *out)
{
    out->pixels = malloc((size_t)out->count * samples_image_size(out) * sizeof *out->pixels);
    if (!out->pixels) {
        complain("out of memory for %llu images", (unsigned long long)out->count);
    }
    return out->pixels != NULL;
}

exit_status samples_from_dataset(carso_context *context, const carso_dataset *dataset, uint64_t first, uint64_t count, samples *out)
{
    carso_dataset_info info = {.struct_size = sizeof info};
    carso_dataset_get_info(dataset, &info);
    *out = (samples){.count = count, .first = first, .channels = info.channels, .height = info.height, .width = info.width};
    if (!allocate(out)) {
        return STATUS_FAILURE;
    }
    out->labels = malloc((size_t)count * sizeof *out->labels);
    uint64_t *indices = malloc((size_t)count * sizeof *indices);
    uint8_t *bytes = malloc((size_t)count * samples_image_size(out));
    carso_status status = out->labels && indices && bytes ? CARSO_OK : CARSO_ERROR_OUT_OF_MEMORY;
    for (uint64_t i = 0; status == CARSO_OK && i < count; i++) {
        indices[i] = first + i;
    }
    if (status == CARSO_OK) {
        status = carso_dataset_read(dataset, indices, (size_t)count, NULL, bytes, out->labels);
    }
    for (uint64_t i = 0; status == CARSO_OK && i < count; i++) {
        size_t place = (size_t)i * samples_image_size(out);
        spread(out, bytes + place, out->channels, out->pixels + place);
    }
    free(indices);
    free(bytes);
    if (status != CARSO_OK) {
        samples_release(out);
        return session_failure(context, status, "cannot read the images");
    }
    return STATUS_OK;
}

static exit_status load_dataset(carso_context *context, const carso_model_info *model, const sample_settings *settings,
                                const char *path, samples *out)
{
    carso_dataset *dataset;
    carso_dataset_info info = {.struct_size = sizeof info};
    carso_status opened = carso_dataset_open(context, path, (carso_split)settings->split, &dataset);
    if (opened != CARSO_OK) {
        return session_failure(context, opened, "cannot open %s", path);
    }
    carso_dataset_get_info(dataset, &info);
    uint64_t first = (uint64_t)settings->first, wanted = (uint64_t)settings->count;
    exit_status status = STATUS_FAILURE;
    if (info.channels != model->channels || info.height != model->image_height || info.width != model->image_width) {
        complain("the images of %s are %dx%dx%d (channels, height, width), the model takes %dx%dx%d", path, (int)info.channels,
                 (int)info.height, (int)info.width, (int)model->channels, (int)model->image_height, (int)model->image_width);
    } else if (info.classes != model->classes) {
        complain("%s has %d classes, the model %d", path, (int)info.classes, (int)model->classes);
    } else if (first >= info.count) {
        complain("--first: %s has %llu images, there is no number %llu", path, (unsigned long long)info.count,
                 (unsigned long long)first);
    } else {
        uint64_t left = info.count - first;
        status = samples_from_dataset(context, dataset, first, wanted > 0 && wanted < left ? wanted : left, out);
    }
    carso_dataset_destroy(dataset);
    return status;
}

static bool is_gray(const uint8_t *rgb, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++) {
        if (rgb[3 * i] != rgb[3 * i + 1] || rgb[3 * i] != rgb[3 * i + 2]) {
            return false;
        }
    }
    return true;
}

static exit_status load_file(carso_context *context, const char *path, uint64_t index, samples *out)
{
    carso_image *image;
    carso_images described;
    carso_images_init(&described, sizeof described);
    carso_status read = carso_image_read(context, path, &image);
    if (read == CARSO_OK) {
        read = carso_image_get_images(image, &described);
    }
    if (read != CARSO_OK) {
        return session_failure(context, read, "cannot read %s", path);
    }
    int32_t channels = described.order == CARSO_ORDER_GRAY ? 1 : 3;
    exit_status status = STATUS_FAILURE;
    if (described.width != out->width || described.height != out->height) {
        complain("%s is %dx%d, the model takes %dx%d (width, height); scale it first", path, (int)described.width,
                 (int)described.height, (int)out->width, (int)out->height);
    } else if (channels == 3 && out->channels == 1 && !is_gray(described.data, (size_t)out->width * (size_t)out->height)) {
        complain("%s is in colour, the model takes gray images; convert it first", path);
    } else {
        spread(out, described.data, channels, out->pixels + (size_t)index * samples_image_size(out));
        status = STATUS_OK;
    }
    carso_image_destroy(image);
    return status;
}

static exit_status load_files(carso_context *context, const carso_model_info *model, int inputs, char **input, samples *out)
{
    *out = (samples){.count = (uint64_t)inputs, .channels = model->channels, .height = model->image_height, .width = model->image_width};
    out->names = calloc((size_t)inputs, sizeof *out->names);
    if (!out->names || !allocate(out)) {
        samples_release(out);
        return STATUS_FAILURE;
    }
    exit_status status = STATUS_OK;
    for (int i = 0; i < inputs && status == STATUS_OK; i++) {
        out->names[i] = strdup(input[i]);
        status = out->names[i] ? load_file(context, input[i], (uint64_t)i, out) : STATUS_FAILURE;
    }
    if (status != STATUS_OK) {
        samples_release(out);
    }
    return status;
}

static bool is_image_file(const char *path)
{
    static const char *const endings[] = {".png", ".jpg", ".jpeg"};
    size_t length = strlen(path);
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t ending = strlen(endings[i]);
        if (length > ending && strcasecmp(path + length - ending, endings[i]) == 0) {
            return true;
        }
    }
    return false;
}

exit_status samples_load(carso_context *context, const carso_model *model, const sample_settings *settings, int inputs,
                         char **input, samples *out)
{
    carso_model_info info = {.struct_size = sizeof info};
    int files = 0;
    *out = (samples){0};
    carso_model_get_info(model, &info);
    for (int i = 0; i < inputs; i++) {
        files += is_image_file(input[i]);
    }
    if (files == 0 && inputs == 1) {
        return load_dataset(context, &info, settings, input[0], out);
    }
    if (files < inputs) {
        complain("give either PNG or JPEG files, or one data set");
        return STATUS_USAGE;
    }
    return load_files(context, &info, inputs, input, out);
}
