/* SPDX-License-Identifier: BSD-2-Clause */
#include "picture.h"

#include <stdlib.h>
#include <string.h>

#include "glyphs.h"

#define CELL_SIDE 84 /* an image is enlarged by the whole factor that comes nearest */
#define MARGIN 8
#define TEXT_HEIGHT (GLYPH_HEIGHT + 6)

struct picture {
    int rows, columns, channels, height, width, factor;
    int full_width, full_height;
    uint8_t *rgb;
};

picture *picture_create(int rows, int columns, int channels, int height, int width)
{
    picture *grid = calloc(1, sizeof *grid);
    int larger = height > width ? height : width;
    if (!grid) {
        return NULL;
    }
    grid->rows = rows;
    grid->columns = columns;
    grid->channels = channels;
    grid->height = height;
    grid->width = width;
    grid->factor = larger < CELL_SIDE ? (CELL_SIDE + larger / 2) / larger : 1;
    grid->full_width = MARGIN + columns * (width * grid->factor + MARGIN);
    grid->full_height = MARGIN + TEXT_HEIGHT + rows * (height * grid->factor + TEXT_HEIGHT + MARGIN);
    grid->rgb = malloc((size_t)grid->full_width * (size_t)grid->full_height * 3);
    if (!grid->rgb) {
        free(grid);
        return NULL;
    }
    memset(grid->rgb, 255, (size_t)grid->full_width * (size_t)grid->full_height * 3);
    return grid;
}

void picture_destroy(picture *grid)
{
    if (grid) {
        free(grid->rgb);
        free(grid);
    }
}

static uint8_t *point(const picture *grid, int x, int y)
{
    return grid->rgb + ((size_t)y * (size_t)grid->full_width + (size_t)x) * 3;
}

static int cell_left(const picture *grid, int column) { return MARGIN + column * (grid->width * grid->factor + MARGIN); }

static int cell_top(const picture *grid, int row)
{
    return MARGIN + TEXT_HEIGHT + row * (grid->height * grid->factor + TEXT_HEIGHT + MARGIN);
}

static void draw_text(picture *grid, int left, int top, const char *text, label_tone tone)
{
    static const uint8_t colors[][3] = {{40, 40, 40}, {0, 110, 40}, {190, 20, 20}};
    int room = grid->width * grid->factor;
    for (int used = 0; *text && used + GLYPH_WIDTH <= room; text++, used += GLYPH_WIDTH + 1) {
        for (int y = 0; y < GLYPH_HEIGHT; y++) {
            for (int x = 0; x < GLYPH_WIDTH; x++) {
                if (glyph_point(*text, x, y)) {
                    memcpy(point(grid, left + used + x, top + y), colors[tone], 3);
                }
            }
        }
    }
}

void picture_heading(picture *grid, int column, const char *text)
{
    draw_text(grid, cell_left(grid, column), MARGIN, text, TONE_PLAIN);
}

void picture_image(picture *grid, int row, int column, const float *pixels, const char *label, label_tone tone)
{
    int left = cell_left(grid, column), top = cell_top(grid, row), factor = grid->factor;
    size_t plane = (size_t)grid->height * (size_t)grid->width;
    for (int y = 0; y < grid->height * factor; y++) {
        for (int x = 0; x < grid->width * factor; x++) {
            size_t source = (size_t)(y / factor) * (size_t)grid->width + (size_t)(x / factor);
            for (int c = 0; c < 3; c++) {
                float value = pixels[(grid->channels == 3 ? (size_t)c * plane : 0) + source];
                value = value < 0 ? 0 : value > 1 ? 1 : value;
                point(grid, left + x, top + y)[c] = (uint8_t)(value * 255 + 0.5f);
            }
        }
    }
    draw_text(grid, left, top + grid->height * factor + 3, label, tone);
}

void picture_difference(picture *grid, int row, int column, const float *from, const float *to, double epsilon,
                        const char *label)
{
    size_t size = (size_t)grid->channels * (size_t)grid->height * (size_t)grid->width;
    float *shown = malloc(size * sizeof *shown);
    if (!shown) {
        return;
    }
    for (size_t i = 0; i < size; i++) {
        shown[i] = epsilon > 0 ? (float)(0.5 + 0.5 * ((double)to[i] - (double)from[i]) / epsilon) : 0.5f;
    }
    picture_image(grid, row, column, shown, label, TONE_PLAIN);
    free(shown);
}

carso_status picture_write(const picture *grid, carso_context *context, const char *path)
{
    carso_images images;
    carso_images_init(&images, sizeof images);
    images.data = grid->rgb;
    images.width = grid->full_width;
    images.height = grid->full_height;
    return carso_image_write_png(context, path, &images, 0);
}
