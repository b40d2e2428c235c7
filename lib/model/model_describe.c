/* SPDX-License-Identifier: BSD-2-Clause */
/* What a model is, as JSON for people and programs. */
#include <stdio.h>
#include <string.h>

#include "model/layer_text.h"
#include "model/model.h"

#define TAP_ENCODER "repr_compressors."
#define INPUT_ENCODER "input_compressor."

/* Adding to an object or array of jansson's takes the value over, on failure too; a value that could not be made counts
 * as a failure. */
static void set(json_t *object, const char *key, json_t *value, bool *failed)
{
    if (json_object_set_new(object, key, value) != 0) {
        *failed = true;
    }
}

static void append(json_t *array, json_t *value, bool *failed)
{
    if (json_array_append_new(array, value) != 0) {
        *failed = true;
    }
}

static json_t *shape_json(const cso_shape *shape, bool *failed)
{
    json_t *array = json_array();
    for (int i = 0; i < shape->rank; i++) {
        append(array, json_integer(shape->dimension[i]), failed);
    }
    return array;
}

static json_t *numbers_json(const float *number, int count, bool *failed)
{
    json_t *array = json_array();
    for (int i = 0; i < count; i++) {
        append(array, json_real((double)number[i]), failed);
    }
    return array;
}

static json_t *value_json(const cso_value *value, bool *failed)
{
    json_t *object = json_object();
    set(object, "name", json_string(value->name), failed);
    set(object, "shape", shape_json(&value->shape, failed), failed);
    return object;
}

static uint64_t node_parameters(const cso_graph *graph, const cso_node *node)
{
    uint64_t count = 0;
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        if (node->parameter[i] >= 0) {
            count += graph->parameter[node->parameter[i]].parameter->count;
        }
    }
    return count;
}

static json_t *layer_json(const cso_graph *graph, int index, bool *failed)
{
    const cso_node *node = &graph->node[index];
    json_t *object = value_json(&graph->value[node->output], failed);
    set(object, "kind", json_string(cso_op_kind_name(node->kind)), failed);
    char definition[CSO_LAYER_TEXT_SIZE];
    cso_layer_text(graph, node, definition);
    set(object, "definition", json_string(definition), failed);
    json_t *inputs = json_array();
    for (int i = 0; i < node->input_count; i++) {
        append(inputs, json_string(graph->value[node->input[i]].name), failed);
    }
    set(object, "inputs", inputs, failed);
    set(object, "parameters", json_integer((json_int_t)node_parameters(graph, node)), failed);
    set(object, "multiply_adds", json_integer((json_int_t)cso_graph_node_multiply_adds(graph, index)), failed);
    return object;
}

static json_t *graph_json(const cso_graph *graph, bool *failed)
{
    json_t *object = json_object(), *layers = json_array();
    for (int i = 0; i < graph->node_count; i++) {
        append(layers, layer_json(graph, i, failed), failed);
    }
    set(object, "parameters", json_integer((json_int_t)cso_graph_parameter_numbers(graph)), failed);
    set(object, "multiply_adds", json_integer((json_int_t)cso_graph_multiply_adds(graph)), failed);
    set(object, "layers", layers, failed);
    return object;
}

static json_t *input_json(const carso_model *model, bool *failed)
{
    json_t *object = json_object();
    set(object, "channels", json_integer(model->channels), failed);
    set(object, "height", json_integer(model->height), failed);
    set(object, "width", json_integer(model->width), failed);
    set(object, "mean", numbers_json(model->mean, model->channels, failed), failed);
    set(object, "deviation", numbers_json(model->deviation, model->channels, failed), failed);
    return object;
}

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

/* Of the node called name in one of the purifier's graphs: what the paper has a table for (docs/purifier.md). */
static void part_name(const cso_purifier *purifier, const cso_graph *graph, const char *name, char *part, size_t size)
{
    int tap = 0;
    if (graph == purifier->decoder) {
        snprintf(part, size, "decoder");
    } else if (graph == purifier->encoder) {
        snprintf(part, size, "%s",
                 begins(name, INPUT_ENCODER) || strcmp(name, "standardise") == 0 ? "input_encoder" : "joint_encoder");
    } else if (sscanf(name, TAP_ENCODER "%d.", &tap) == 1) {
        snprintf(part, size, "tap_encoder.%d", tap);
    } else {
        snprintf(part, size, "representation_encoder");
    }
}

static void add_to(json_t *object, const char *key, uint64_t number, bool *failed)
{
    const json_int_t sum = json_integer_value(json_object_get(object, key)) + (json_int_t)number;
    set(object, key, json_integer(sum), failed);
}

/* Appends the parts of a graph, whose layers follow one another. */
static void append_parts(json_t *parts, const cso_purifier *purifier, const cso_graph *graph, bool *failed)
{
    json_t *part = NULL, *layers = NULL;
    char last[64] = "";
    for (int i = 0; graph != NULL && i < graph->node_count; i++) {
        const cso_node *node = &graph->node[i];
        const char *name = graph->value[node->output].name;
        char own[64];
        part_name(purifier, graph, name, own, sizeof own);
        if (strcmp(own, last) != 0) {
            snprintf(last, sizeof last, "%s", own);
            part = json_object();
            layers = json_array();
            set(part, "name", json_string(own), failed);
            set(part, "layers", layers, failed);
            append(parts, part, failed);
        }
        /* part and layers are the array's: gone if that failed, which the caller then says. */
        if (*failed) {
            return;
        }
        append(layers, json_string(name), failed);
        add_to(part, "parameters", node_parameters(graph, node), failed);
        add_to(part, "multiply_adds", cso_graph_node_multiply_adds(graph, i), failed);
    }
}

static json_t *parts_json(const cso_purifier *purifier, bool *failed)
{
    json_t *parts = json_array();
    append_parts(parts, purifier, purifier->condition, failed);
    append_parts(parts, purifier, purifier->encoder, failed);
    append_parts(parts, purifier, purifier->decoder, failed);
    return parts;
}

static json_t *purifier_json(const cso_purifier *purifier, bool *failed)
{
    if (purifier == NULL) {
        return json_null();
    }
    json_t *object = json_object();
    set(object, "condition_size", json_integer(purifier->condition_size), failed);
    set(object, "latent_size", json_integer(purifier->latent_size), failed);
    set(object, "seed_channels", json_integer(purifier->seed_channels), failed);
    set(object, "condition", graph_json(purifier->condition, failed), failed);
    set(object, "encoder", purifier->encoder == NULL ? json_null() : graph_json(purifier->encoder, failed), failed);
    set(object, "decoder", graph_json(purifier->decoder, failed), failed);
    set(object, "parts", parts_json(purifier, failed), failed);
    return object;
}

carso_status cso_model_describe_json(const carso_model *model, json_t **out)
{
    bool failed = false;
    json_t *object = json_object(), *classes = json_array(), *taps = json_array();
    for (int32_t i = 0; i < model->classes; i++) {
        append(classes, json_string(model->class_name[i]), &failed);
    }
    for (int i = 0; i < model->tap_count; i++) {
        append(taps, value_json(&model->classifier->value[model->tap[i]], &failed), &failed);
    }
    set(object, "input", input_json(model, &failed), &failed);
    set(object, "classes", classes, &failed);
    set(object, "classifier", graph_json(model->classifier, &failed), &failed);
    set(object, "logits", json_string(model->classifier->value[model->logits].name), &failed);
    set(object, "taps", taps, &failed);
    set(object, "purifier", purifier_json(model->purifier, &failed), &failed);
    set(object, "provenance", model->provenance == NULL ? json_null() : json_deep_copy(model->provenance), &failed);
    if (failed) {
        json_decref(object);
        *out = NULL;
        return cso_fail_memory(model->context, "description");
    }
    *out = object;
    return CARSO_OK;
}
