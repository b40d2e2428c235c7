/* SPDX-License-Identifier: BSD-2-Clause */
/* Evaluations small enough for the reference backend. */
#ifndef TEST_EVALUATION_TOY_H
#define TEST_EVALUATION_TOY_H

#include <string.h>

#include "evaluate/evaluation.h"
#include "small_model.h"

enum { TOY_COUNT = 7 };

/* Every family of attack, both objectives, a guard and a curve; 7 images are four batches of 2. */
static const char *const toy_protocol =
    "{\"name\": \"toy\", \"epsilons\": [0, 0.1], \"draws\": 2, \"repeats\": 3, \"sections\": ["
    " {\"name\": \"c\", \"objective\": \"classifier\", \"attacks\": ["
    "  {\"name\": \"pgd\", \"method\": \"pgd\", \"loss\": \"margin\", \"steps\": 2},"
    "  {\"name\": \"fab\", \"method\": \"fab-targeted\", \"loss\": \"margin\", \"steps\": 2, \"target_classes\": 2},"
    "  {\"name\": \"square\", \"method\": \"square\", \"loss\": \"margin\", \"queries\": 3}]},"
    " {\"name\": \"d\", \"objective\": \"defence\", \"epsilons\": [0.1], \"attacks\": ["
    "  {\"name\": \"apgd\", \"method\": \"apgd\", \"loss\": \"margin\", \"steps\": 2, \"eot\": 2},"
    "  {\"name\": \"fixed\", \"method\": \"pgd\", \"loss\": \"margin\", \"steps\": 1, \"fixed_draws\": true},"
    "  {\"name\": \"noise\", \"method\": \"noise\", \"loss\": \"margin\"},"
    "  {\"name\": \"transfer\", \"method\": \"fgsm\", \"objective\": \"classifier\"}]},"
    " {\"name\": \"guard\", \"objective\": \"classifier\", \"epsilons\": [0.95], \"guard\": true, \"attacks\": ["
    "  {\"name\": \"pgd\", \"method\": \"pgd\", \"steps\": 5}]},"
    " {\"name\": \"curve\", \"objective\": \"classifier\", \"epsilons\": [0.1], \"curve\": [1, 2], \"attacks\": ["
    "  {\"name\": \"pgd\", \"method\": \"pgd\"}]}]}";

static carso_context *toy_context;
static carso_model *toy_model;
static float toy_pixels[TOY_COUNT * SMALL_IMAGE];
static int32_t toy_labels[TOY_COUNT];
static carso_images toy_images;
static carso_evaluation_options toy_options;

/* Labels are the classifier's predictions but for one, so that there is something to attack. */
static inline void toy_label(const carso_model *model)
{
    carso_prediction *prediction;
    ck_assert_int_eq(carso_predict(model, &toy_images, NULL, &prediction), CARSO_OK);
    memcpy(toy_labels, carso_prediction_labels(prediction), sizeof toy_labels);
    carso_prediction_destroy(prediction);
    toy_labels[4] = (toy_labels[4] + 1) % SMALL_CLASSES;
}

static inline void toy_open(void)
{
    toy_context = named_context("reference", 0);
    toy_model = small_model(toy_context);
    fill_images(toy_pixels, TOY_COUNT);
    toy_images = describe_images(toy_pixels, TOY_COUNT);
    toy_label(toy_model);
    carso_evaluation_options_init(&toy_options, sizeof toy_options);
    toy_options.protocol = toy_protocol;
    toy_options.batch = 2;
    toy_options.seed = 8;
}

static inline void toy_close(void)
{
    carso_model_destroy(toy_model);
    carso_context_destroy(toy_context);
}

static inline carso_evaluation *toy_evaluation(const carso_model *model)
{
    carso_evaluation *evaluation = NULL;
    ck_assert_int_eq(carso_evaluation_create(model, &toy_images, toy_labels, &toy_options, &evaluation), CARSO_OK);
    return evaluation;
}

static inline void toy_run(carso_evaluation *evaluation)
{
    int32_t finished = 0;
    while (!finished) {
        ck_assert_int_eq(carso_evaluation_step(evaluation, NULL, NULL, &finished), CARSO_OK);
    }
}

static inline json_t *toy_result(carso_evaluation *evaluation)
{
    const char *const text = carso_evaluation_result(evaluation);
    ck_assert_ptr_nonnull(text);
    json_t *const result = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(result);
    return result;
}

/* The result's text without its times. To be freed. */
static inline char *toy_timeless(carso_evaluation *evaluation)
{
    json_t *const result = toy_result(evaluation);
    size_t i, j;
    json_t *cell, *attack;
    json_array_foreach(json_object_get(result, "cells"), i, cell)
    {
        json_object_del(cell, "seconds");
        json_array_foreach(json_object_get(cell, "attacks"), j, attack)
            json_object_del(attack, "seconds");
    }
    char *const text = json_dumps(result, 0);
    json_decref(result);
    return text;
}

/* Results but for times, and every column of every image. */
static inline void toy_check_same(carso_evaluation *a, carso_evaluation *b)
{
    char *const first = toy_timeless(a), *const second = toy_timeless(b);
    size_t same = 0;
    while (first[same] && first[same] == second[same]) {
        same++;
    }
    const size_t shown = same < 40 ? 0 : same - 40;
    ck_assert_msg(first[same] == second[same], "%.80s\n%.80s", first + shown, second + shown);
    free(first);
    free(second);
    ck_assert_uint_eq(a->columns.count, b->columns.count);
    ck_assert_int_eq(a->columns.rows, b->columns.rows);
    for (size_t i = 0; i < a->columns.count; i++) {
        ck_assert_msg(memcmp(a->columns.column[i].data, b->columns.column[i].data,
                             a->columns.column[i].size * (size_t)a->columns.rows) == 0,
                      "%s", a->columns.column[i].name);
    }
}

static inline void toy_check_message(const char *a, const char *b)
{
    char message[1024];
    carso_context_message(toy_context, message, sizeof message);
    ck_assert_msg(strstr(message, a) && strstr(message, b), "\"%s\" has no \"%s\" or no \"%s\"", message, a, b);
}

/* Whether the result has the flag, in any place. */
static inline bool toy_has_flag(carso_evaluation *evaluation, const char *name)
{
    json_t *const flags = cso_evaluation_flags(evaluation);
    bool found = false;
    size_t i;
    json_t *flag;
    ck_assert_ptr_nonnull(flags);
    json_array_foreach(flags, i, flag)
        found = found || strcmp(json_string_value(json_object_get(flag, "flag")), name) == 0;
    json_decref(flags);
    return found;
}

#endif
