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

/* One HWC image of bytes to CHW floats. */
static void spread(const samples *held, const uint8_t *bytes, float *out)
{
    size_t plane = (size_t)held->height * (size_t)held->width;
    for (int32_t c = 0; c < held->channels; c++) {
        for (size_t i = 0; i < plane; i++) {
            out[(size_t)c * plane + i] = (float)bytes[i * (size_t)held->channels + (size_t)c] / 255.0f;
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
            spread(out, batch.pixels + (size_t)i * size, out->pixels + (size_t)(batch.first + i) * size);
        }
        if (session_interrupted()) {
            status = CARSO_CANCELLED;
        }
    }
    carso_reader_destroy(reader);
    return status;
}

exit_status samples_from_dataset(carso_context *context, const carso_dataset *dataset, uint64_t first, uint64_t count,
                                 samples *out)
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

exit_status samples_load(carso_context *context, const carso_model *model, const sample_settings *settings, int inputs,
                         char **input, samples *out)
{
    const char *const *path = (const char *const *)input;
    carso_model_info info = {.struct_size = sizeof info};
    carso_dataset *dataset;
    int files = 0;
    *out = (samples){0};
    carso_model_get_info(model, &info);
    for (int i = 0; i < inputs; i++) {
        files += source_is_image(input[i]);
    }
    if (files < inputs && inputs > 1) {
        complain("give either PNG or JPEG files, or one data set");
        return STATUS_USAGE;
    }
    exit_status status = source_open(context, &info, (carso_split)settings->split, inputs, path, &dataset);
    if (status != STATUS_OK) {
        return status;
    }
    /* Which part is asked of a data set alone. */
    uint64_t first = files > 0 ? 0 : (uint64_t)settings->first, wanted = files > 0 ? 0 : (uint64_t)settings->count;
    uint64_t count = source_count(dataset, input[0], first, wanted);
    status = count == 0 ? STATUS_FAILURE : samples_from_dataset(context, dataset, first, count, out);
    carso_dataset_destroy(dataset);
    return status;
}
