/* SPDX-License-Identifier: BSD-2-Clause */
#include "grid.h"

#include <string.h>

#include "picture.h"

static label_tone tone_of(const samples *held, int row, int32_t label)
{
    if (!held->labels) {
        return TONE_PLAIN;
    }
    return held->labels[row] == label ? TONE_GOOD : TONE_BAD;
}

static int32_t highest(const double *logits, int32_t classes)
{
    int32_t best = 0;
    for (int32_t i = 1; i < classes; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

/* Columns from column on: each with the classifier's opinion of it. */
static void draw_reconstructions(picture *grid, const carso_model *model, const samples *held,
                                 const carso_prediction *robust, int rows, int column, int shown)
{
    const float *pixels = carso_prediction_reconstructions(robust);
    const double *logits = carso_prediction_logits(robust);
    size_t size = samples_image_size(held);
    int32_t classes = carso_prediction_classes(robust);
    for (int draw = 0; draw < shown; draw++) {
        char heading[32];
        snprintf(heading, sizeof heading, "draw %d", draw + 1);
        picture_heading(grid, column + draw, heading);
        for (int row = 0; row < rows; row++) {
            size_t place = (size_t)draw * (size_t)rows + (size_t)row;
            int32_t label = highest(logits + place * (size_t)classes, classes);
            picture_image(grid, row, column + draw, pixels + place * size, carso_model_class_name(model, label),
                          tone_of(held, row, label));
        }
    }
}

static void draw_classified(picture *grid, const carso_model *model, const samples *held, const float *pixels,
                            const carso_prediction *plain, int rows, int column, const char *heading)
{
    picture_heading(grid, column, heading);
    for (int row = 0; row < rows; row++) {
        int32_t label = carso_prediction_labels(plain)[row];
        picture_image(grid, row, column, pixels + (size_t)row * samples_image_size(held),
                      carso_model_class_name(model, label), tone_of(held, row, label));
    }
}

static void draw_perturbation(picture *grid, const samples *held, const float *attacked, double epsilon, int rows)
{
    picture_heading(grid, 1, "perturbation");
    for (int row = 0; row < rows; row++) {
        size_t start = (size_t)row * samples_image_size(held);
        char label[32];
        snprintf(label, sizeof label, "epsilon %.3g", epsilon);
        picture_difference(grid, row, 1, held->pixels + start, attacked + start, epsilon, label);
    }
}

exit_status grid_write(const carso_model *model, const samples *held, const float *attacked, double epsilon,
                       int32_t draws, uint64_t seed, const char *path)
{
    carso_context *context = carso_model_context(model);
    carso_model_info info = {.struct_size = sizeof info};
    carso_predict_options options;
    carso_prediction *clean = NULL, *plain = NULL, *robust = NULL;
    picture *grid = NULL;
    int rows = held->count < GRID_ROWS ? (int)held->count : GRID_ROWS;
    const float *input = attacked ? attacked : held->pixels;
    carso_images clean_images = samples_describe(held, held->pixels, 0, (uint64_t)rows);
    carso_images images = samples_describe(held, input, 0, (uint64_t)rows);
    carso_model_get_info(model, &info);
    int shown = info.has_purifier ? (draws < GRID_DRAWS ? (int)draws : GRID_DRAWS) : 0;
    int before = attacked ? 3 : 1;

    carso_predict_options_init(&options, sizeof options);
    options.draws = draws;
    options.seed = seed;
    options.first_image = held->first;
    options.keep_reconstructions = 1;
    carso_status status = carso_predict(model, &clean_images, &options, &clean);
    if (status == CARSO_OK) {
        status = carso_predict(model, &images, &options, &plain);
    }
    if (status == CARSO_OK && info.has_purifier) {
        status = carso_predict_robust(model, &images, &options, &robust);
    }
    if (status == CARSO_OK) {
        grid = picture_create(rows, before + shown, held->channels, held->height, held->width);
        if (grid) {
            draw_classified(grid, model, held, held->pixels, clean, rows, 0, "image");
            if (attacked) {
                draw_perturbation(grid, held, attacked, epsilon, rows);
                draw_classified(grid, model, held, attacked, plain, rows, 2, "attacked");
            }
            if (robust) {
                draw_reconstructions(grid, model, held, robust, rows, before, shown);
            }
            status = picture_write(grid, context, path);
        } else {
            status = CARSO_ERROR_OUT_OF_MEMORY;
        }
    }
    picture_destroy(grid);
    carso_prediction_destroy(clean);
    carso_prediction_destroy(plain);
    carso_prediction_destroy(robust);
    return status == CARSO_OK ? STATUS_OK : session_failure(context, status, "cannot write the picture %s", path);
}
