/* SPDX-License-Identifier: BSD-2-Clause */
/* A fixture: a small model, images, options that take little time, and a result to be replaced by another attack. */
#ifndef TEST_ATTACK_CASE_H
#define TEST_ATTACK_CASE_H

#include <check.h>
#include <math.h>
#include <string.h>

#include "attack/objective.h"
#include "carso/attack.h"
#include "counting_allocator.h"
#include "small_model.h"

enum { COUNT = 3, ALL = COUNT * SMALL_IMAGE };

static carso_context *context;
static carso_model *model;
static float pixels[ALL];
static carso_images images;
static const int32_t labels[COUNT] = {0, 2, 3};
static carso_attack_options options;
static carso_attack_result *result;

static inline void set_up(void)
{
    context = named_context("reference", 0);
    model = small_model(context);
    fill_images(pixels, COUNT);
    images = describe_images(pixels, COUNT);
    carso_attack_options_init(&options, sizeof options);
    options.steps = 4;
    options.epsilon = 0.1;
    options.step_size = 0.03;
    options.draws = 2;
    options.seed = 12;
    result = NULL;
}

static inline void tear_down(void)
{
    carso_model_destroy(model);
    carso_context_destroy(context);
    carso_attack_result_destroy(result); /* outlives what made it */
}

static inline void check_message(const char *a, const char *b)
{
    char message[512];
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(strstr(message, a) && strstr(message, b), "\"%s\" has no \"%s\" or no \"%s\"", message, a, b);
}

static inline void again(carso_status expected)
{
    carso_attack_result_destroy(result);
    result = NULL;
    ck_assert_int_eq(carso_attack(model, &images, labels, &options, &result), expected);
    ck_assert_ptr_nonnull(result);
}

static inline void check_bounds(void)
{
    const float *const attacked = carso_attack_result_images(result);
    for (int k = 0; k < ALL; k++) {
        ck_assert(attacked[k] >= 0 && attacked[k] <= 1);
        ck_assert(fabs((double)attacked[k] - (double)pixels[k]) <= options.epsilon);
    }
}

static inline void refused(carso_status expected, const char *a, const char *b)
{
    carso_attack_result *out = (carso_attack_result *)&options;
    ck_assert_int_eq(carso_attack(model, &images, labels, &options, &out), expected);
    ck_assert_ptr_null(out);
    check_message(a, b);
}

static inline carso_model *few_classes(int classes)
{
    carso_model_options how;
    carso_model *few = NULL;
    carso_model_options_init(&how, sizeof how);
    how.channels = 1;
    how.image_height = how.image_width = 28;
    how.classes = classes;
    ck_assert_int_eq(carso_model_create(context, &how, &few), CARSO_OK);
    return few;
}

#endif
