/* SPDX-License-Identifier: BSD-2-Clause */
/* From described images to dense float [count][C][H][W] in RGB order. */
#ifndef CSO_API_PIXELS_H
#define CSO_API_PIXELS_H

#include "carso/image.h"

/*
 * Checks the description against channels, height, width; *out_resolved is the same with every stride given.
 * INVALID_ARGUMENT: NULL, count 0, strides that leave the address space. INVALID_IMAGE: size, type, layout or order are
 * not what is expected, both of which the message gives.
 */
carso_status cso_pixels_check(const carso_context *context, const carso_images *images, int32_t channels,
                              int32_t height, int32_t width, carso_images *out_resolved);
/* Converts images first .. first + count - 1 of a resolved description; INVALID_IMAGE names image, place and value of
 * what is not in [0, 1]. */
carso_status cso_pixels_read(const carso_context *context, const carso_images *resolved, uint64_t first, uint64_t count,
                             float *out);

#endif
