/* SPDX-License-Identifier: BSD-2-Clause */
/* Images inside of a page: PNG in base64, as a data: address. */
#ifndef INLINE_PNG_H
#define INLINE_PNG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* bytes [height][width][channels], channels 1 or 3. False: no memory; nothing is written then. */
bool inline_png_write(FILE *stream, const uint8_t *bytes, int32_t width, int32_t height, int32_t channels);

#endif
