/* SPDX-License-Identifier: BSD-2-Clause */
/* PNG and JPEG files as 8-bit gray or RGB, [height][width][channels]. UNSUPPORTED in a build without the two libraries.
 */
#ifndef CSO_DATA_IMAGE_FILE_H
#define CSO_DATA_IMAGE_FILE_H

#include <stdio.h>

#include "base/context.h"

/* Decoding takes at most 3 bytes for each. */
#define CSO_MOST_PIXELS ((int64_t)64 << 20)

typedef struct cso_image_facts {
    int32_t width, height;
    int32_t channels; /* 1 gray, 3 RGB */
} cso_image_facts;

/* From the header alone. */
carso_status cso_image_file_measure(const carso_context *context, const char *path, cso_image_facts *out);
/*
 * *pixels NULL: fills *facts, and *pixels with memory that the caller releases. Else the image must be of *facts,
 * except that gray is read as RGB where *facts says 3 channels, and goes to *pixels.
 */
carso_status cso_image_file_read(const carso_context *context, const char *path, cso_image_facts *facts,
                                 uint8_t **pixels);
/* Atomically. */
carso_status cso_image_file_write_png(const carso_context *context, const char *path, const cso_image_facts *facts,
                                      const uint8_t *pixels);

/* Between image_file.c and the decoders. */
typedef struct cso_image_decoding {
    const carso_context *context;
    const char *path;
    FILE *file;
    bool measure_only;
    bool given; /* pixels and facts are the caller's wishes */
    cso_image_facts facts;
    uint8_t *pixels;
} cso_image_decoding;

/* What a decoder asks once it has read the header, before it takes memory: compares with the limit and the wishes, sets
 * facts, and allocates pixels where none are given and they are wanted. */
carso_status cso_image_decoding_accept(cso_image_decoding *decoding, uint64_t width, uint64_t height, int32_t channels);

/* Leave nothing behind but decoding->pixels, on failure too. file is at its start. */
carso_status cso_png_decode(cso_image_decoding *decoding);
carso_status cso_jpeg_decode(cso_image_decoding *decoding);

#endif
