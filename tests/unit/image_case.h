/* SPDX-License-Identifier: BSD-2-Clause */
/* Images, and files of them in the temporary folder. */
#ifndef TEST_IMAGE_CASE_H
#define TEST_IMAGE_CASE_H

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "carso/data.h"
#include "config.h"
#include "counted_folder.h"

static inline carso_images describe(const void *data, int width, int height, int order)
{
    carso_images images;
    carso_images_init(&images, sizeof images);
    images.data = data;
    images.width = width;
    images.height = height;
    images.order = order;
    return images;
}

#if CSO_HAVE_IMAGES

#include <jpeglib.h>

static inline void write_jpeg(const char *name, int width, int height, int components, bool progressive,
                              const uint8_t *pixels)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    FILE *file = fopen(scratch_file(name), "wb");
    ck_assert_ptr_nonnull(file);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, file);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = components;
    jpeg.in_color_space = components == 1 ? JCS_GRAYSCALE : components == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 100, TRUE);
    if (progressive) {
        jpeg_simple_progression(&jpeg);
    }
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < jpeg.image_height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(pixels + (size_t)jpeg.next_scanline * (size_t)width * (size_t)components);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    ck_assert_int_eq(fclose(file), 0);
}

/* Smooth, so that JPEG keeps it to within a few values. */
static inline void put_image(const char *name, int width, int height, int order, uint8_t value)
{
    uint8_t pixels[16 * 16 * 3];
    memset(pixels, value, sizeof pixels);
    const carso_images images = describe(pixels, width, height, order);
    ck_assert_int_eq(carso_image_write_png(context, scratch_file(name), &images, 0), CARSO_OK);
}

#endif

#endif
