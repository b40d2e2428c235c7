/* SPDX-License-Identifier: BSD-2-Clause */
#include "samples.h"

#include <stdlib.h>
#include <string.h>

#include "source.h"

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

static carso_status read_dataset(const carso_dataset *dataset, samples *out)
{
    carso_reader *reader;
    carso_reader_options options;
    carso_read_batch batch = {.struct_size = sizeof batch};
    carso_reader_options_init(&options, sizeof options);
    options.first = out->first;
    carso_status status = carso_reader_open(dataset, NULL, out->count, &options, &reader);
    while (status == CARSO_OK) {
        status = carso_reader_next(reader, &batch);
        if (status != CARSO_OK || batch.count == 0) {
            break;
        }
        memcpy(out->labels + batch.first, batch.labels, (size_t)batch.count * sizeof *out->labels);
        for (uint64_t i = 0; i < batch.count; i++) {
            size_t size = samples_image_size(out);
            spread(out, batch.pixels + (size_t)i * size, out->channels, out->pixels + (size_t)(batch.first + i) * size);
        }
        if (session_interrupted()) {
            status = CARSO_CANCELLED;
        }
    }
    carso_reader_destroy(reader);
    return status;
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
    out->names = info.classes == 0 ? calloc((size_t)count, sizeof *out->names) : NULL;
    carso_status status = out->labels && (out->names || info.classes > 0) ? CARSO_OK : CARSO_ERROR_OUT_OF_MEMORY;
    for (uint64_t i = 0; status == CARSO_OK && out->names && i < count; i++) {
        out->names[i] = strdup(carso_dataset_file(dataset, first + i));
        status = out->names[i] ? CARSO_OK : CARSO_ERROR_OUT_OF_MEMORY;
    }
    if (status == CARSO_OK) {
        status = read_dataset(dataset, out);
    }
    if (status != CARSO_OK) {
        samples_release(out);
        return session_failure(context, status, "cannot read the images");
    }
    if (info.classes == 0) {
        free(out->labels);
        out->labels = NULL;
    }
    return STATUS_OK;
}

static exit_status load_dataset(carso_context *context, const carso_model_info *model, const sample_settings *settings,
                                const char *path, samples *out)
{
    carso_dataset *dataset;
    exit_status status = source_open(context, model, (carso_split)settings->split, 1, &path, &dataset);
    if (status != STATUS_OK) {
        return status;
    }
    uint64_t first = (uint64_t)settings->first, count = source_count(dataset, path, first, (uint64_t)settings->count);
    status = count == 0 ? STATUS_FAILURE : samples_from_dataset(context, dataset, first, count, out);
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

exit_status samples_load(carso_context *context, const carso_model *model, const sample_settings *settings, int inputs,
                         char **input, samples *out)
{
    carso_model_info info = {.struct_size = sizeof info};
    int files = 0;
    *out = (samples){0};
    carso_model_get_info(model, &info);
    for (int i = 0; i < inputs; i++) {
        files += source_is_image(input[i]);
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
