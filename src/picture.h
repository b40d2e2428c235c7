/* SPDX-License-Identifier: BSD-2-Clause */
/* A grid of small images with headings and labels, written as a PNG. */
#ifndef PICTURE_H
#define PICTURE_H

#include "carso/carso.h"

typedef enum label_tone { TONE_PLAIN, TONE_GOOD, TONE_BAD } label_tone;

typedef struct picture picture;

/* For rows x columns images of width x height pixels and 1 or 3 channels, enlarged to about 84 points. NULL: no memory. */
picture *picture_create(int rows, int columns, int channels, int height, int width);
void picture_heading(picture *grid, int column, const char *text);
/* pixels [channels][height][width] in [0, 1]. label: under the image, cut to fit. */
void picture_image(picture *grid, int row, int column, const float *pixels, const char *label, label_tone tone);
/* The difference of two images around mid-gray, magnified so that epsilon reaches black or white. */
void picture_difference(picture *grid, int row, int column, const float *from, const float *to, double epsilon,
                        const char *label);
carso_status picture_write(const picture *grid, carso_context *context, const char *path);
void picture_destroy(picture *grid);

#endif
