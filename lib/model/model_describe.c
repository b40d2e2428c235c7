/* SPDX-License-Identifier: BSD-2-Clause */
/* What a model is, as JSON for people and programs. */
#include "model/model.h"

/* Adding to an object or array of jansson's takes the value over, on failure too; a value that could not be made counts
 * as a failure. */
static void set(json_t *object, const char *key, json_t *value, bool *failed)
{
    if (json_object_set_new(object, key, value) != 0)
        *failed = true;
}

static void append(json_t *array, json_t *value, bool *failed)
{
    if (json_array_append_new(array, value) != 0)
        *failed = true;
}

static json_t *shape_json(const cso_shape *shape, bool *failed)
{
    json_t *array = json_array();
    for (int i = 0; i < shape->rank; i++)
        append(array, json_integer(shape->dimension[i]), failed);
    return array;
}

static json_t *numbers_json(const float *number, int count, bool *failed)
{
    json_t *array = json_array();
    for (int i = 0; i < count; i++)
        append(array, json_real((double)number[i]), failed);
    return array;
}

static json_t *value_json(const cso_value *value, bool *failed)
{
    json_t *object = json_object();
    set(object, "name", json_string(value->name), failed);
    set(object, "shape", shape_json(&value->shape, failed), failed);
    return object;
}

static json_t *layer_json(const cso_graph *graph, int index, bool *failed)
{
    const cso_node *node = &graph->node[index];
    json_t *object = value_json(&graph->value[node->output], failed);
    set(object, "kind", json_string(cso_op_kind_name(node->kind)), failed);
    json_t *inputs = json_array();
    for (int i = 0; i < node->input_count; i++)
        append(inputs, json_string(graph->value[node->input[i]].name), failed);
    set(object, "inputs", inputs, failed);
    json_int_t parameters = 0;
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        if (node->parameter[i] >= 0)
            parameters += (json_int_t)graph->parameter[node->parameter[i]].parameter->count;
    }
    set(object, "parameters", json_integer(parameters), failed);
    set(object, "multiply_adds", json_integer((json_int_t)cso_graph_node_multiply_adds(graph, index)), failed);
    return object;
}

static json_t *graph_json(const cso_graph *graph, bool *failed)
{
    json_t *object = json_object(), *layers = json_array();
    for (int i = 0; i < graph->node_count; i++)
        append(layers, layer_json(graph, i, failed), failed);
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

static json_t *purifier_json(const cso_purifier *purifier, bool *failed)
{
    if (purifier == NULL)
        return json_null();
    json_t *object = json_object();
    set(object, "condition_size", json_integer(purifier->condition_size), failed);
    set(object, "latent_size", json_integer(purifier->latent_size), failed);
    set(object, "seed_channels", json_integer(purifier->seed_channels), failed);
    set(object, "condition", graph_json(purifier->condition, failed), failed);
    set(object, "encoder", purifier->encoder == NULL ? json_null() : graph_json(purifier->encoder, failed), failed);
    set(object, "decoder", graph_json(purifier->decoder, failed), failed);
    return object;
}

carso_status cso_model_describe_json(const carso_model *model, json_t **out)
{
    bool failed = false;
    json_t *object = json_object(), *classes = json_array(), *taps = json_array();
    for (int32_t i = 0; i < model->classes; i++)
        append(classes, json_string(model->class_name[i]), &failed);
    for (int i = 0; i < model->tap_count; i++)
        append(taps, value_json(&model->classifier->value[model->tap[i]], &failed), &failed);
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
