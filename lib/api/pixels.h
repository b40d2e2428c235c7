/* SPDX-License-Identifier: BSD-2-Clause */
/* From described images to dense float [count][C][H][W] in RGB order. */
#ifndef CSO_API_PIXELS_H
#define CSO_API_PIXELS_H

#include "carso/image.h"

/* Checks the description against channels, height, width (INVALID_IMAGE / INVALID_ARGUMENT with a message). */
carso_status cso_pixels_check(const carso_context *context, const carso_images *images, int32_t channels, int32_t height, int32_t width,
                              carso_images *out_resolved);
/* Converts images first .. first + count - 1 of a resolved description; INVALID_IMAGE names image, place and value of what is
 * not in [0, 1]. */
carso_status cso_pixels_read(const carso_context *context, const carso_images *resolved, uint64_t first, uint64_t count, float *out);

#endif
