/* SPDX-License-Identifier: BSD-2-Clause */
/* Life of models, and what they say of themselves. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"

#define LEAST_SIDE 8
#define LARGEST_SIDE 4096
#define CLASS_NAME_SIZE 256

carso_status cso_model_allocate(carso_context *context, carso_model **out)
{
    *out = NULL;
    carso_model *model = cso_allocate(context, 1, sizeof *model);
    if (model == NULL) {
        return cso_fail_memory(context, "model");
    }
    if (pthread_mutex_init(&model->lock, NULL) != 0) {
        cso_release(context, model);
        return cso_fail(context, CARSO_ERROR_OUT_OF_MEMORY, "no lock could be made for the model");
    }
    atomic_init(&model->references, 1);
    model->context = context;
    cso_context_retain(context);
    *out = model;
    return CARSO_OK;
}

void cso_model_retain(carso_model *model)
{
    atomic_fetch_add_explicit(&model->references, 1, memory_order_relaxed);
}

static void release_classifier(carso_model *model)
{
    if (model->classifier_references == NULL) {
        return;
    }
    if (atomic_fetch_sub_explicit(model->classifier_references, 1, memory_order_acq_rel) == 1) {
        cso_graph_destroy(model->classifier);
        cso_release(model->context, model->classifier_references);
    }
}

static void release_class_names(carso_model *model)
{
    if (model->class_name == NULL) {
        return;
    }
    for (int32_t i = 0; i < model->classes; i++) {
        cso_release(model->context, model->class_name[i]);
    }
    cso_release(model->context, model->class_name);
    model->class_name = NULL;
}

void carso_model_destroy(carso_model *model)
{
    if (model == NULL || atomic_fetch_sub_explicit(&model->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    carso_context *context = model->context;
    for (int i = 0; i < CSO_PROGRAM_COUNT; i++) {
        cso_program_destroy(model->program[i]);
    }
    cso_purifier_destroy(context, model->purifier);
    release_classifier(model);
    release_class_names(model);
    cso_release(context, model->tap);
    cso_release(context, model->description);
    json_decref(model->provenance);
    pthread_mutex_destroy(&model->lock);
    cso_release(context, model);
    carso_context_destroy(context);
}

carso_status cso_model_set_input(carso_model *model, const carso_model_options *options)
{
    const carso_context *context = model->context;
    if (options->channels != 1 && options->channels != 3) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%d image channels are neither 1 (gray) nor 3 (colour)",
                        options->channels);
    }
    if (options->image_height < LEAST_SIDE || options->image_height > LARGEST_SIDE ||
        options->image_width < LEAST_SIDE || options->image_width > LARGEST_SIDE) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "image size %dx%d (height x width) is not in %d..%d",
                        options->image_height, options->image_width, LEAST_SIDE, LARGEST_SIDE);
    }
    if (options->classes < 2 || options->classes > CSO_MAX_DIMENSION) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%d classes are not in 2..%d", options->classes,
                        CSO_MAX_DIMENSION);
    }
    for (int i = 0; i < options->channels; i++) {
        if (!isfinite(options->mean[i])) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "mean of channel %d is not finite", i);
        }
        if (!isfinite(options->deviation[i]) || options->deviation[i] < 1e-6f || options->deviation[i] > 1e6f) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "deviation %g of channel %d is not in 1e-6..1e6",
                            options->deviation[i], i);
        }
    }
    model->channels = options->channels;
    model->height = options->image_height;
    model->width = options->image_width;
    model->classes = options->classes;
    memcpy(model->mean, options->mean, (size_t)options->channels * sizeof *model->mean);
    memcpy(model->deviation, options->deviation, (size_t)options->channels * sizeof *model->deviation);
    return cso_model_set_class_names(model, options->class_names);
}

static bool is_text(const char *text)
{
    json_t *string = json_string(text); /* checks UTF-8 */
    json_decref(string);
    return string != NULL;
}

carso_status cso_model_set_class_names(carso_model *model, const char *const *names)
{
    const carso_context *context = model->context;
    release_class_names(model);
    model->class_name = cso_allocate(context, (size_t)model->classes, sizeof *model->class_name);
    if (model->class_name == NULL) {
        return cso_fail_memory(context, "class names");
    }
    for (int32_t i = 0; i < model->classes; i++) {
        char number[16];
        const char *name = number;
        if (names == NULL) {
            snprintf(number, sizeof number, "%d", i);
        } else {
            name = names[i];
            if (name == NULL || strnlen(name, CLASS_NAME_SIZE) == CLASS_NAME_SIZE || !is_text(name)) {
                return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                                "name of class %d is NULL, not UTF-8, or longer than %d bytes", i, CLASS_NAME_SIZE - 1);
            }
        }
        model->class_name[i] = cso_duplicate_string(context, name);
        if (model->class_name[i] == NULL) {
            return cso_fail_memory(context, "class names");
        }
    }
    return CARSO_OK;
}

static carso_status set_taps(carso_model *model, const int *tap, int tap_count)
{
    model->tap = cso_allocate(model->context, (size_t)tap_count, sizeof *model->tap);
    if (model->tap == NULL) {
        return cso_fail_memory(model->context, "taps");
    }
    if (tap_count > 0) {
        memcpy(model->tap, tap, (size_t)tap_count * sizeof *tap);
    }
    model->tap_count = tap_count;
    return CARSO_OK;
}

carso_status cso_model_set_classifier(carso_model *model, cso_graph *graph, int logits, const int *tap, int tap_count)
{
    atomic_int *references = cso_allocate(model->context, 1, sizeof *references);
    if (references == NULL) {
        cso_graph_destroy(graph);
        return cso_fail_memory(model->context, "classifier");
    }
    atomic_init(references, 1);
    model->classifier = graph;
    model->classifier_references = references;
    model->logits = logits;
    return set_taps(model, tap, tap_count);
}

carso_status cso_model_share_classifier(const carso_model *model, carso_model **out)
{
    carso_model *shared = NULL;
    carso_status status = cso_model_allocate(model->context, &shared);
    if (status != CARSO_OK) {
        goto fail;
    }
    shared->channels = model->channels;
    shared->height = model->height;
    shared->width = model->width;
    shared->classes = model->classes;
    memcpy(shared->mean, model->mean, sizeof shared->mean);
    memcpy(shared->deviation, model->deviation, sizeof shared->deviation);
    status = cso_model_set_class_names(shared, (const char *const *)model->class_name);
    if (status != CARSO_OK) {
        goto fail;
    }
    atomic_fetch_add_explicit(model->classifier_references, 1, memory_order_relaxed);
    shared->classifier = model->classifier;
    shared->classifier_references = model->classifier_references;
    shared->logits = model->logits;
    status = set_taps(shared, model->tap, model->tap_count);
    if (status != CARSO_OK) {
        goto fail;
    }
    if (model->provenance != NULL) {
        shared->provenance = json_deep_copy(model->provenance);
        if (shared->provenance == NULL) {
            status = cso_fail_memory(model->context, "provenance");
            goto fail;
        }
    }
    *out = shared;
    return CARSO_OK;

fail:
    carso_model_destroy(shared);
    *out = NULL;
    return status;
}

uint64_t cso_graph_parameter_numbers(const cso_graph *graph)
{
    uint64_t count = 0;
    for (int i = 0; graph != NULL && i < graph->parameter_count; i++) {
        count += graph->parameter[i].parameter->count;
    }
    return count;
}

uint64_t cso_graph_multiply_adds(const cso_graph *graph)
{
    uint64_t count = 0;
    for (int i = 0; graph != NULL && i < graph->node_count; i++) {
        count += cso_graph_node_multiply_adds(graph, i);
    }
    return count;
}
