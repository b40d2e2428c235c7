/* SPDX-License-Identifier: BSD-2-Clause */
#include "seeds.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include <jpeglib.h>

#include "carso/carso.h"

#define SIDE 28
#define ROOM 4096

static bytes reserve(size_t size)
{
    bytes content = {.data = calloc(size + ROOM, 1), .size = size, .capacity = size + ROOM};
    return content;
}

static bytes read_back(const char *path)
{
    bytes content = {0};
    FILE *file = fopen(path, "rb");
    if (file && fseek(file, 0, SEEK_END) == 0) {
        content = reserve((size_t)ftell(file));
        rewind(file);
        if (content.data && fread(content.data, 1, content.size, file) != content.size) {
            free(content.data);
            content.data = NULL;
        }
    }
    if (file) {
        fclose(file);
    }
    return content;
}

static carso_status make_model(carso_context *context, carso_model **out)
{
    carso_model_options options;
    carso_purifier_options purifier;
    carso_model *classifier = NULL;
    carso_model_options_init(&options, sizeof options);
    options.channels = 1;
    options.image_height = options.image_width = SIDE;
    options.classes = 2;
    carso_purifier_options_init(&purifier, sizeof purifier);
    purifier.condition_size = 4;
    purifier.latent_size = 2;
    purifier.seed_channels = 16;
    carso_status status = carso_model_create(context, &options, &classifier);
    if (status == CARSO_OK) {
        status = carso_model_add_purifier(classifier, &purifier, out);
        carso_model_destroy(classifier);
    }
    return status;
}

static carso_status save_checkpoint(const carso_model *model, const char *path)
{
    carso_purifier_training_options options;
    carso_trainer *trainer = NULL;
    carso_purifier_training_options_init(&options, sizeof options);
    options.steps_per_epoch = 2;
    options.pgd_steps = 1;
    carso_status status = carso_trainer_create_purifier(model, &options, &trainer);
    if (status == CARSO_OK) {
        status = carso_trainer_save(trainer, path);
        carso_trainer_destroy(trainer);
    }
    return status;
}

static bytes make_file(target_kind kind, const char *folder)
{
    static uint8_t pixels[9 * 7 * 3];
    char path[4096];
    carso_context_options options;
    carso_context *context = NULL;
    carso_model *model = NULL;
    carso_images images;
    carso_status status;
    snprintf(path, sizeof path, "%s/seed", folder);
    carso_context_options_init(&options, sizeof options);
    options.backend = "reference";
    options.threads = 1;
    status = carso_context_create(&options, &context);
    if (status == CARSO_OK && kind == TARGET_PNG) {
        for (size_t i = 0; i < sizeof pixels; i++) {
            pixels[i] = (uint8_t)(i * i);
        }
        carso_images_init(&images, sizeof images);
        images.data = pixels;
        images.width = 9;
        images.height = 7;
        status = carso_image_write_png(context, path, &images, 0);
    } else if (status == CARSO_OK) {
        status = make_model(context, &model);
        if (status == CARSO_OK) {
            status = kind == TARGET_CHECKPOINT ? save_checkpoint(model, path) : carso_model_save(model, path);
        }
    }
    carso_model_destroy(model);
    carso_context_destroy(context);
    bytes content = {0};
    if (status == CARSO_OK) {
        content = read_back(path);
    }
    remove(path);
    return content;
}

static bytes make_idx(bool labels)
{
    static const uint8_t images_header[16] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3};
    static const uint8_t labels_file[10] = {0, 0, 8, 1, 0, 0, 0, 2, 1, 0};
    bytes content = reserve(labels ? 10 : 16 + 2 * 6);
    if (content.data) {
        memcpy(content.data, labels ? labels_file : images_header, labels ? 10 : 16);
    }
    return content;
}

static bytes make_gzip(void)
{
    bytes plain = make_idx(false), packed = reserve(256);
    z_stream stream = {0};
    if (!plain.data || !packed.data || deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        free(plain.data);
        free(packed.data);
        return (bytes){0};
    }
    stream.next_in = plain.data;
    stream.avail_in = (uInt)plain.size;
    stream.next_out = packed.data;
    stream.avail_out = 256;
    deflate(&stream, Z_FINISH);
    packed.size = (size_t)stream.total_out;
    deflateEnd(&stream);
    free(plain.data);
    return packed;
}

static bytes make_jpeg(void)
{
    struct jpeg_compress_struct writer;
    struct jpeg_error_mgr errors;
    unsigned char *packed = NULL;
    unsigned long size = 0;
    writer.err = jpeg_std_error(&errors);
    jpeg_create_compress(&writer);
    jpeg_mem_dest(&writer, &packed, &size);
    writer.image_width = 19;
    writer.image_height = 13;
    writer.input_components = 3;
    writer.in_color_space = JCS_RGB;
    jpeg_set_defaults(&writer);
    jpeg_simple_progression(&writer);
    jpeg_start_compress(&writer, TRUE);
    while (writer.next_scanline < writer.image_height) {
        JSAMPLE row[19 * 3];
        JSAMPROW rows[1] = {row};
        for (size_t i = 0; i < sizeof row; i++) {
            row[i] = (JSAMPLE)(i * 5 + writer.next_scanline * 16);
        }
        jpeg_write_scanlines(&writer, rows, 1);
    }
    jpeg_finish_compress(&writer);
    jpeg_destroy_compress(&writer);
    bytes content = reserve(size);
    if (content.data) {
        memcpy(content.data, packed, size);
    }
    free(packed);
    return content;
}

bytes seed_make(target_kind kind, const char *folder)
{
    switch (kind) {
    case TARGET_IDX_IMAGES:
    case TARGET_IDX_LABELS:
        return make_idx(kind == TARGET_IDX_LABELS);
    case TARGET_IDX_GZIP:
        return make_gzip();
    case TARGET_CIFAR10:
        return reserve((size_t)3 * 3073);
    case TARGET_CIFAR100:
        return reserve((size_t)3 * 3074);
    case TARGET_JPEG:
        return make_jpeg();
    default:
        return make_file(kind, folder);
    }
}
