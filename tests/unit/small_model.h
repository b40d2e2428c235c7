/* SPDX-License-Identifier: BSD-2-Clause */
/* Models small enough for the reference backend, with random weights, and images for them. */
#ifndef TEST_SMALL_MODEL_H
#define TEST_SMALL_MODEL_H

#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "carso/image.h"
#include "model/model.h"

enum { SMALL_SIDE = 28, SMALL_IMAGE = SMALL_SIDE * SMALL_SIDE, SMALL_CLASSES = 4 };

static inline carso_context *named_context(const char *backend, uint64_t memory_limit)
{
    carso_context_options options;
    carso_context *context = NULL;
    carso_context_options_init(&options, sizeof options);
    options.backend = backend;
    options.threads = 1;
    options.memory_limit = memory_limit;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
    return context;
}

static inline carso_model *small_classifier(carso_context *context)
{
    carso_model_options options;
    carso_model *model = NULL;
    carso_model_options_init(&options, sizeof options);
    options.architecture = CARSO_SMALL_CNN;
    options.width = 1;
    options.channels = 1;
    options.image_height = options.image_width = SMALL_SIDE;
    options.classes = SMALL_CLASSES;
    options.mean[0] = 0.4f;
    options.deviation[0] = 0.3f;
    options.seed = 5;
    ck_assert_int_eq(carso_model_create(context, &options, &model), CARSO_OK);
    return model;
}

/* Replaces parameter number index of a graph by factor times it. Before the model is first used. */
static inline void scale_parameter(cso_graph *graph, int index, float factor)
{
    cso_parameter *const old = graph->parameter[index].parameter;
    cso_parameter *scaled = NULL;
    float *const values = malloc(old->count * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (size_t k = 0; k < old->count; k++) {
        values[k] = factor * old->host[k];
    }
    ck_assert_int_eq(cso_parameter_create(graph->context, old->rank, old->dimension, values, &scaled), CARSO_OK);
    free(values);
    cso_parameter_release(old);
    graph->parameter[index].parameter = scaled;
}

/* Larger weights: with those of a new model the prediction hardly depends on the image. */
static inline void amplify(cso_graph *graph, float factor)
{
    for (int i = 0; i < graph->parameter_count; i++) {
        if (graph->parameter[i].parameter->rank > 1) {
            scale_parameter(graph, i, factor);
        }
    }
}

static inline carso_model *small_model(carso_context *context)
{
    carso_purifier_options options;
    carso_model *const classifier = small_classifier(context), *model = NULL;
    carso_purifier_options_init(&options, sizeof options);
    options.condition_size = 24;
    options.latent_size = 8;
    options.seed_channels = 16;
    options.seed = 6;
    ck_assert_int_eq(carso_model_add_purifier(classifier, &options, &model), CARSO_OK);
    amplify(model->purifier->condition, 2.5f);
    amplify(model->purifier->decoder, 2.0f);
    carso_model_destroy(classifier);
    return model;
}

/* In (0, 1). */
static inline void fill_images(float *images, int count)
{
    uint64_t state = 99;
    for (int k = 0; k < count * SMALL_IMAGE; k++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        images[k] = (float)((state >> 41) + 1) / 8388610.0f;
    }
}

static inline carso_images describe_images(const float *images, int count)
{
    carso_images description;
    carso_images_init(&description, sizeof description);
    description.data = images;
    description.count = (uint64_t)count;
    description.width = description.height = SMALL_SIDE;
    description.type = CARSO_PIXEL_FLOAT32;
    description.order = CARSO_ORDER_GRAY;
    return description;
}

static inline void spoil_parameter(cso_graph *graph, const char *name)
{
    const int index = cso_graph_find_parameter(graph, name);
    ck_assert_int_ge(index, 0);
    scale_parameter(graph, index, NAN);
}

#endif
