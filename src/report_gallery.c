/* SPDX-License-Identifier: BSD-2-Clause */
/* Images with what was done to them and what is made of them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "inline_png.h"
#include "report.h"

#define SHOWN_WRONG 8
#define SHOWN_RIGHT 4
#define RECONSTRUCTIONS 3

/* What a card shows. */
typedef struct gallery {
    report *page;
    int32_t shape[3];
    size_t size;
    double epsilon;
    int32_t cell;
    bool defended; /* the cell attacks the defence */
    uint8_t *bytes; /* [height][width][channels] */
} gallery;

static const char *class_name(const gallery *held, int32_t label)
{
    const char *name =
        json_string_value(json_array_get(json_object_get(held->page->result, "class_names"), (size_t)label));
    return label < 0 ? "not finite" : name ? name : "?";
}

/* pixels [channels][height][width] in [0, 1]. prediction -2: none. */
static void figure(gallery *held, const float *pixels, const char *caption, int32_t prediction, int32_t label)
{
    FILE *stream = held->page->stream;
    size_t plane = (size_t)held->shape[1] * (size_t)held->shape[2], channels = (size_t)held->shape[0];
    for (size_t i = 0; i < plane; i++) {
        for (size_t c = 0; c < channels; c++) {
            held->bytes[i * channels + c] = (uint8_t)lrintf(255 * fminf(1, fmaxf(0, pixels[c * plane + i])));
        }
    }
    fputs("<figure><img alt=\"", stream);
    report_text(held->page, caption);
    fputs("\" src=\"", stream);
    held->page->failed =
        !inline_png_write(stream, held->bytes, held->shape[2], held->shape[1], held->shape[0]) || held->page->failed;
    fputs("\"><figcaption>", stream);
    report_text(held->page, caption);
    if (prediction > -2) {
        bool right = prediction == label;
        fprintf(stream, "<br><span class=\"%s\">%s ", right ? "good" : "bad", right ? "&#10003;" : "&#10007;");
        report_text(held->page, class_name(held, prediction));
        fputs("</span>", stream);
    }
    fputs("</figcaption></figure>\n", stream);
}

/* Around mid-gray, magnified so that the largest component reaches black or white. */
static void difference(gallery *held, const float *from, const float *to)
{
    float *shown = malloc(held->size * sizeof *shown);
    if (!shown) {
        held->page->failed = true;
        return;
    }
    double scale = 0;
    for (size_t i = 0; i < held->size; i++) {
        scale = fmax(scale, fabs((double)to[i] - (double)from[i]));
    }
    scale = scale > 0 ? scale : 1;
    for (size_t i = 0; i < held->size; i++) {
        shown[i] = (float)(0.5 + ((double)to[i] - (double)from[i]) / (2 * scale));
    }
    figure(held, shown, scale < 1 ? "difference, magnified" : "difference", -2, 0);
    free(shown);
}

static void reconstructions(gallery *held, const float *pixels, int64_t position, const char *caption)
{
    const carso_model *model = held->page->model;
    const json_t *configuration = json_object_get(held->page->result, "configuration");
    carso_prediction *prediction = NULL;
    carso_predict_options options;
    carso_images image;
    carso_predict_options_init(&options, sizeof options);
    options.draws = RECONSTRUCTIONS;
    options.seed = (uint64_t)json_integer_value(json_object_get(configuration, "seed"));
    options.first_image =
        (uint64_t)json_integer_value(json_object_get(configuration, "first_image")) + (uint64_t)position;
    options.keep_reconstructions = 1;
    carso_images_init(&image, sizeof image);
    image.data = pixels;
    image.width = held->shape[2];
    image.height = held->shape[1];
    image.type = CARSO_PIXEL_FLOAT32;
    image.layout = CARSO_LAYOUT_CHW;
    image.order = held->shape[0] == 1 ? CARSO_ORDER_GRAY : CARSO_ORDER_RGB;
    /* A page without them is better than none. */
    if (carso_purify(model, &image, &options, &prediction) != CARSO_OK) {
        return;
    }
    for (size_t d = 0; d < RECONSTRUCTIONS; d++) {
        figure(held, carso_prediction_reconstructions(prediction) + d * held->size, caption, -2, 0);
    }
    carso_prediction_destroy(prediction);
}

static void card(gallery *held, uint64_t row)
{
    const carso_evaluation *evaluation = held->page->evaluation;
    FILE *stream = held->page->stream;
    const float *clean = carso_evaluation_images(evaluation, -1) + row * held->size;
    const float *attacked = carso_evaluation_images(evaluation, held->cell) + row * held->size;
    int32_t label = carso_evaluation_labels(evaluation)[row];
    int64_t position = carso_evaluation_positions(evaluation)[row];
    carso_model_info info = {.struct_size = sizeof info};
    bool reconstructs =
        held->page->model && carso_model_get_info(held->page->model, &info) == CARSO_OK && info.has_purifier;
    fprintf(stream, "<div class=\"card\"><p>Image %lld: <b>", (long long)position);
    report_text(held->page, class_name(held, label));
    fputs("</b></p><div class=\"row\">\n", stream);
    figure(held, clean, "clean", carso_evaluation_predictions(evaluation, held->defended ? -2 : -1)[row], label);
    difference(held, clean, attacked);
    figure(held, attacked, "attacked", carso_evaluation_predictions(evaluation, held->cell)[row], label);
    if (reconstructs) {
        reconstructions(held, clean, position, "from clean");
        reconstructions(held, attacked, position, "from attacked");
    }
    fputs("</div></div>\n", stream);
}

/* The last plain cell, of the defence where there is one. */
static int32_t choose_cell(const json_t *result)
{
    const json_t *cells = json_object_get(result, "cells");
    int32_t chosen = -1;
    bool defended = false;
    for (size_t i = 0; i < json_array_size(cells); i++) {
        const json_t *cell = json_array_get(cells, i);
        bool is_defence = strcmp(report_string(cell, "objective"), "defence") == 0;
        if (strcmp(report_string(cell, "role"), "plain") == 0 && report_real(cell, "epsilon") > 0 && (is_defence || !defended)) {
            chosen = (int32_t)i;
            defended = defended || is_defence;
        }
    }
    return chosen;
}

/* Images that were right at first, and are now wrong or right. */
static void show(gallery *held, uint64_t count, bool wrong, int most)
{
    const carso_evaluation *evaluation = held->page->evaluation;
    const int32_t *labels = carso_evaluation_labels(evaluation),
                  *attacked = carso_evaluation_predictions(evaluation, held->cell);
    const int32_t *clean = carso_evaluation_predictions(evaluation, held->defended ? -2 : -1);
    for (uint64_t row = 0; row < count && most > 0; row++) {
        if (clean[row] == labels[row] && (attacked[row] != labels[row]) == wrong) {
            card(held, row);
            most--;
        }
    }
}

void report_gallery(report *page)
{
    gallery held = {.page = page, .cell = choose_cell(page->result)};
    uint64_t count = carso_evaluation_count(page->evaluation);
    if (held.cell < 0 || count == 0) {
        return;
    }
    const json_t *cell = json_array_get(json_object_get(page->result, "cells"), (size_t)held.cell);
    held.defended = strcmp(report_string(cell, "objective"), "defence") == 0;
    held.epsilon = report_real(cell, "epsilon");
    carso_evaluation_shape(page->evaluation, held.shape);
    held.size = (size_t)held.shape[0] * (size_t)held.shape[1] * (size_t)held.shape[2];
    held.bytes = malloc(held.size);
    if (!held.bytes) {
        page->failed = true;
        return;
    }
    fputs("<h2>Images</h2>\n<p class=\"lead\">The first that the attacks of &ldquo;", page->stream);
    report_text(page, report_string(cell, "section"));
    fprintf(page->stream, "&rdquo; at epsilon %.4g made the %s get wrong, and the first that it still gets right, with no difference where no worse "
                          "point was found; under each what most predictions say.</p>\n",
            held.epsilon, report_string(cell, "objective"));
    show(&held, count, true, SHOWN_WRONG);
    show(&held, count, false, SHOWN_RIGHT);
    free(held.bytes);
}
