/* SPDX-License-Identifier: BSD-2-Clause */
/* Writing models, and checkpoints, which are models with more in them: docs/model-format.md. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/safetensors.h"
#include "model/model.h"

#define MOST_SETTINGS 8

typedef struct model_writer {
    const carso_context *context;
    cso_tensor_write *tensor;
    size_t tensor_count;
    size_t own_count; /* the first so many tensors have names that are released */
    const char **key;
    const char **value;
    char *owned[MOST_SETTINGS]; /* values, which are released */
    size_t setting_count;
} model_writer;

static carso_status add_graph(model_writer *writer, const cso_graph *graph, const char *prefix)
{
    for (int i = 0; graph != NULL && i < graph->parameter_count; i++) {
        const cso_named_parameter *named = &graph->parameter[i];
        const size_t size = strlen(prefix) + strlen(named->name) + 1;
        char *name = cso_allocate_raw(writer->context, size, 1);
        if (name == NULL) {
            return cso_fail_memory(writer->context, "names of tensors");
        }
        snprintf(name, size, "%s%s", prefix, named->name);
        cso_tensor_write *tensor = &writer->tensor[writer->tensor_count++];
        writer->own_count = writer->tensor_count;
        tensor->name = name;
        tensor->type = CSO_TENSOR_F32;
        tensor->rank = named->parameter->rank;
        memcpy(tensor->dimension, named->parameter->dimension, (size_t)tensor->rank * sizeof *tensor->dimension);
        tensor->data = named->parameter->host;
    }
    return CARSO_OK;
}

static carso_status add_text(model_writer *writer, const char *key, const char *text)
{
    char *copy = cso_duplicate_string(writer->context, text);
    if (copy == NULL) {
        return cso_fail_memory(writer->context, "settings of the model file");
    }
    writer->owned[writer->setting_count] = copy;
    writer->key[writer->setting_count] = key;
    writer->value[writer->setting_count++] = copy;
    return CARSO_OK;
}

/* Takes json over; NULL counts as memory that ran out. */
static carso_status add_json(model_writer *writer, const char *key, json_t *json)
{
    char *text = json == NULL ? NULL : cso_json_text(writer->context, json, NULL);
    json_decref(json);
    if (text == NULL) {
        return cso_fail_memory(writer->context, "settings of the model file");
    }
    writer->owned[writer->setting_count] = text;
    writer->key[writer->setting_count] = key;
    writer->value[writer->setting_count++] = text;
    return CARSO_OK;
}

static json_t *numbers_json(const float *number, int count)
{
    json_t *array = json_array();
    for (int i = 0; i < count; i++) {
        if (json_array_append_new(array, json_real((double)number[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *input_json(const carso_model *model)
{
    json_t *object = json_object();
    int failed = json_object_set_new(object, "channels", json_integer(model->channels));
    failed |= json_object_set_new(object, "height", json_integer(model->height));
    failed |= json_object_set_new(object, "width", json_integer(model->width));
    failed |= json_object_set_new(object, "mean", numbers_json(model->mean, model->channels));
    failed |= json_object_set_new(object, "deviation", numbers_json(model->deviation, model->channels));
    if (failed != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *purifier_json(const cso_purifier *purifier)
{
    json_t *object = json_object();
    int failed = json_object_set_new(object, "condition_size", json_integer(purifier->condition_size));
    failed |= json_object_set_new(object, "latent_size", json_integer(purifier->latent_size));
    failed |= json_object_set_new(object, "seed_channels", json_integer(purifier->seed_channels));
    failed |= json_object_set_new(object, "encoder", json_boolean(purifier->encoder != NULL));
    if (failed != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *strings_json(const carso_model *model, bool taps)
{
    json_t *array = json_array();
    const int count = taps ? model->tap_count : model->classes;
    for (int i = 0; i < count; i++) {
        const char *text = taps ? model->classifier->value[model->tap[i]].name : model->class_name[i];
        if (json_array_append_new(array, json_string(text)) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static carso_status add_settings(model_writer *writer, const carso_model *model)
{
    json_t *graph = NULL;
    carso_status status = add_text(writer, "format", "carso/1");
    if (status == CARSO_OK) {
        status = add_json(writer, "input", input_json(model));
    }
    if (status == CARSO_OK) {
        status = cso_graph_to_json(model->classifier, &graph);
    }
    if (status == CARSO_OK) {
        status = add_json(writer, "graph", graph);
    }
    if (status == CARSO_OK) {
        status = add_text(writer, "logits", model->classifier->value[model->logits].name);
    }
    if (status == CARSO_OK) {
        status = add_json(writer, "taps", strings_json(model, true));
    }
    if (status == CARSO_OK) {
        status = add_json(writer, "classes", strings_json(model, false));
    }
    if (status == CARSO_OK && model->purifier != NULL) {
        status = add_json(writer, "purifier", purifier_json(model->purifier));
    }
    if (status == CARSO_OK && model->provenance != NULL) {
        status = add_json(writer, "provenance", json_incref(model->provenance));
    }
    return status;
}

static size_t parameter_count(const cso_graph *graph)
{
    return graph == NULL ? 0 : (size_t)graph->parameter_count;
}

carso_status cso_model_write(const carso_model *model, const char *path, const cso_tensor_write *extra,
                             size_t extra_count, const char *const *keys, const char *const *values,
                             size_t metadata_count)
{
    carso_context *context = model->context;
    const cso_purifier *purifier = model->purifier;
    model_writer writer = {.context = context};
    size_t most = parameter_count(model->classifier) + extra_count;
    if (purifier != NULL) {
        most += parameter_count(purifier->condition) + parameter_count(purifier->encoder) +
                parameter_count(purifier->decoder);
    }
    writer.tensor = cso_allocate(context, most, sizeof *writer.tensor);
    writer.key = cso_allocate(context, MOST_SETTINGS + metadata_count, sizeof *writer.key);
    writer.value = cso_allocate(context, MOST_SETTINGS + metadata_count, sizeof *writer.value);
    carso_status status = CARSO_OK;
    if (writer.tensor == NULL || writer.key == NULL || writer.value == NULL) {
        status = cso_fail_memory(context, "parts of the model file");
    }

    if (status == CARSO_OK) {
        status = add_settings(&writer, model);
    }
    if (status == CARSO_OK) {
        status = add_graph(&writer, model->classifier, "classifier.");
    }
    if (status == CARSO_OK && purifier != NULL) {
        status = add_graph(&writer, purifier->condition, "purifier.");
    }
    if (status == CARSO_OK && purifier != NULL) {
        status = add_graph(&writer, purifier->encoder, "purifier.");
    }
    if (status == CARSO_OK && purifier != NULL) {
        status = add_graph(&writer, purifier->decoder, "purifier.");
    }
    if (status == CARSO_OK) {
        for (size_t i = 0; i < extra_count; i++) {
            writer.tensor[writer.tensor_count++] = extra[i];
        }
        size_t settings = writer.setting_count;
        for (size_t i = 0; i < metadata_count; i++, settings++) {
            writer.key[settings] = keys[i];
            writer.value[settings] = values[i];
        }
        status = cso_safetensors_write(context, path, writer.tensor, writer.tensor_count, writer.key, writer.value,
                                       settings);
    }

    for (size_t i = 0; i < writer.own_count; i++) {
        cso_release(context, (char *)(uintptr_t)writer.tensor[i].name);
    }
    for (size_t i = 0; i < writer.setting_count; i++) {
        cso_release(context, writer.owned[i]);
    }
    cso_release(context, writer.value);
    cso_release(context, writer.key);
    cso_release(context, writer.tensor);
    return status;
}
