/* SPDX-License-Identifier: BSD-2-Clause */
/* The JSON form of a graph, as docs/graph.md describes it. What is read is hostile. */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "graph/graph.h"

#define WHERE_SIZE 320
#define KIND(name) (1U << CSO_OP_##name)

typedef enum attribute_type {
    ATTRIBUTE_PAIR,
    ATTRIBUTE_INTEGER,
    ATTRIBUTE_BOOLEAN,
    ATTRIBUTE_NUMBER,
    ATTRIBUTE_CHANNELS
} attribute_type;

/* An attribute and the kinds that have it. UNFLATTEN's "shape" is apart, being no attribute in memory. */
typedef struct attribute {
    const char *key;
    attribute_type type;
    size_t offset;
    uint32_t kinds;
} attribute;

static const attribute attribute_table[] = {
    {"kernel", ATTRIBUTE_PAIR, offsetof(cso_attributes, kernel), KIND(MAX_POOL) | KIND(AVERAGE_POOL)},
    {"stride", ATTRIBUTE_PAIR, offsetof(cso_attributes, stride),
     KIND(CONVOLUTION) | KIND(TRANSPOSED_CONVOLUTION) | KIND(MAX_POOL) | KIND(AVERAGE_POOL)},
    {"dilation", ATTRIBUTE_PAIR, offsetof(cso_attributes, dilation), KIND(CONVOLUTION) | KIND(TRANSPOSED_CONVOLUTION)},
    {"pad_begin", ATTRIBUTE_PAIR, offsetof(cso_attributes, pad_begin),
     KIND(CONVOLUTION) | KIND(TRANSPOSED_CONVOLUTION) | KIND(MAX_POOL) | KIND(AVERAGE_POOL)},
    {"pad_end", ATTRIBUTE_PAIR, offsetof(cso_attributes, pad_end),
     KIND(CONVOLUTION) | KIND(TRANSPOSED_CONVOLUTION) | KIND(MAX_POOL) | KIND(AVERAGE_POOL)},
    {"output_padding", ATTRIBUTE_PAIR, offsetof(cso_attributes, output_padding), KIND(TRANSPOSED_CONVOLUTION)},
    {"groups", ATTRIBUTE_INTEGER, offsetof(cso_attributes, groups), KIND(CONVOLUTION) | KIND(TRANSPOSED_CONVOLUTION)},
    {"count_padding", ATTRIBUTE_BOOLEAN, offsetof(cso_attributes, count_padding), KIND(AVERAGE_POOL)},
    {"slope", ATTRIBUTE_NUMBER, offsetof(cso_attributes, slope), KIND(LEAKY_RELU)},
    {"factor", ATTRIBUTE_NUMBER, offsetof(cso_attributes, factor), KIND(SCALE)},
    {"epsilon", ATTRIBUTE_NUMBER, offsetof(cso_attributes, epsilon), KIND(BATCH_NORM)},
    {"momentum", ATTRIBUTE_NUMBER, offsetof(cso_attributes, momentum), KIND(BATCH_NORM)},
    {"mean", ATTRIBUTE_CHANNELS, offsetof(cso_attributes, mean), KIND(STANDARDISE)},
    {"deviation", ATTRIBUTE_CHANNELS, offsetof(cso_attributes, deviation), KIND(STANDARDISE)},
};

#define ATTRIBUTE_COUNT (sizeof attribute_table / sizeof *attribute_table)

static bool has_attribute(const attribute *it, cso_op_kind kind)
{
    return (it->kinds >> kind & 1U) != 0;
}

/* Writing. NULL or false: memory ran out. */

static bool put(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0;
}

/* Takes over both; NULL where either is. */
static json_t *finish(json_t *value, bool complete)
{
    if (!complete) {
        json_decref(value);
        return NULL;
    }
    return value;
}

static json_t *integers_to_json(const int64_t *number, int count)
{
    json_t *array = json_array();
    bool complete = array != NULL;
    for (int i = 0; i < count && complete; i++) {
        complete = json_array_append_new(array, json_integer(number[i])) == 0;
    }
    return finish(array, complete);
}

static json_t *numbers_to_json(const float *number, int count)
{
    json_t *array = json_array();
    bool complete = array != NULL;
    for (int i = 0; i < count && complete; i++) {
        complete = json_array_append_new(array, json_real(number[i])) == 0;
    }
    return finish(array, complete);
}

static size_t attribute_size(attribute_type type)
{
    static const size_t size[] = {
        [ATTRIBUTE_PAIR] = sizeof(int32_t[2]),   [ATTRIBUTE_INTEGER] = sizeof(int32_t),
        [ATTRIBUTE_BOOLEAN] = sizeof(bool),      [ATTRIBUTE_NUMBER] = sizeof(float),
        [ATTRIBUTE_CHANNELS] = sizeof(float[4]),
    };
    return size[type];
}

static json_t *attribute_to_json(attribute_type type, const void *field, int channels)
{
    int32_t pair[2];
    float number;
    bool flag;
    switch (type) {
    case ATTRIBUTE_PAIR:
        memcpy(pair, field, sizeof pair);
        return integers_to_json((const int64_t[2]){pair[0], pair[1]}, 2);
    case ATTRIBUTE_INTEGER:
        memcpy(pair, field, sizeof *pair);
        return json_integer(pair[0]);
    case ATTRIBUTE_BOOLEAN:
        memcpy(&flag, field, sizeof flag);
        return json_boolean(flag);
    case ATTRIBUTE_NUMBER:
        memcpy(&number, field, sizeof number);
        return json_real(number);
    case ATTRIBUTE_CHANNELS:
        return numbers_to_json(field, channels);
    }
    return NULL;
}

static json_t *attributes_to_json(const cso_graph *graph, const cso_node *node)
{
    const cso_attributes neutral = cso_attributes_default();
    const cso_shape *input = &graph->value[node->input[0]].shape;
    const cso_shape *output = &graph->value[node->output].shape;
    json_t *object = json_object();
    bool complete = object != NULL;
    for (size_t i = 0; i < ATTRIBUTE_COUNT && complete; i++) {
        const attribute *it = &attribute_table[i];
        const char *field = (const char *)&node->attributes + it->offset;
        if (has_attribute(it, node->kind) &&
            memcmp(field, (const char *)&neutral + it->offset, attribute_size(it->type)) != 0) {
            complete = put(object, it->key, attribute_to_json(it->type, field, (int)input->dimension[0]));
        }
    }
    if (node->kind == CSO_OP_UNFLATTEN && complete) {
        complete = put(object, "shape", integers_to_json(output->dimension, output->rank));
    }
    return finish(object, complete);
}

static json_t *parameters_to_json(const cso_graph *graph, const cso_node *node)
{
    json_t *object = json_object();
    bool complete = object != NULL;
    for (int i = 0; i < CSO_MAX_PARAMETERS && complete; i++) {
        if (node->parameter[i] >= 0) {
            complete = put(object, cso_parameter_role(i), json_string(graph->parameter[node->parameter[i]].name));
        }
    }
    return finish(object, complete);
}

static json_t *node_to_json(const cso_graph *graph, const cso_node *node)
{
    json_t *object = json_object();
    json_t *inputs = json_array();
    json_t *parameters = parameters_to_json(graph, node);
    json_t *attributes = attributes_to_json(graph, node);
    bool complete = object != NULL && inputs != NULL && parameters != NULL && attributes != NULL;
    for (int i = 0; i < node->input_count && complete; i++) {
        complete = json_array_append_new(inputs, json_string(graph->value[node->input[i]].name)) == 0;
    }
    complete = complete && put(object, "op", json_string(cso_op_kind_name(node->kind)));
    complete = complete && put(object, "name", json_string(graph->value[node->output].name));
    complete = complete && json_object_set(object, "inputs", inputs) == 0;
    if (complete && json_object_size(parameters) > 0) {
        complete = json_object_set(object, "parameters", parameters) == 0;
    }
    if (complete && json_object_size(attributes) > 0) {
        complete = json_object_set(object, "attributes", attributes) == 0;
    }
    json_decref(inputs);
    json_decref(parameters);
    json_decref(attributes);
    return finish(object, complete);
}

static json_t *input_to_json(const cso_value *value)
{
    json_t *object = json_object();
    bool complete = object != NULL;
    complete = complete && put(object, "name", json_string(value->name));
    complete = complete && put(object, "shape", integers_to_json(value->shape.dimension, value->shape.rank));
    return finish(object, complete);
}

carso_status cso_graph_to_json(const cso_graph *graph, json_t **out)
{
    json_t *object = json_object();
    json_t *inputs = json_array();
    json_t *nodes = json_array();
    bool complete = object != NULL && inputs != NULL && nodes != NULL;
    for (int i = 0; i < graph->input_count && complete; i++) {
        complete = json_array_append_new(inputs, input_to_json(&graph->value[graph->input[i]])) == 0;
    }
    for (int i = 0; i < graph->node_count && complete; i++) {
        complete = json_array_append_new(nodes, node_to_json(graph, &graph->node[i])) == 0;
    }
    complete = complete && json_object_set(object, "inputs", inputs) == 0;
    complete = complete && json_object_set(object, "nodes", nodes) == 0;
    json_decref(inputs);
    json_decref(nodes);
    *out = finish(object, complete);
    return *out == NULL ? cso_fail_memory(graph->context, "JSON values") : CARSO_OK;
}

/* Reading. */

/* What is put into messages must not carry control characters into a log. */
static const char *shown(const char *text)
{
    for (size_t i = 0; text[i] != '\0'; i++) {
        if (text[i] < ' ' || text[i] > '~') {
            return "(not printable)";
        }
    }
    return text;
}

/* Building a graph finds fault with arguments; here they came from a file. */
static carso_status of_file(carso_status status)
{
    return status == CARSO_ERROR_INVALID_ARGUMENT ? CARSO_ERROR_BAD_FORMAT : status;
}

static carso_status check_keys(const carso_context *context, const json_t *object, const char *where,
                               const char *const *allowed, size_t allowed_count)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object)) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: it must be an object", where);
    }
    json_object_foreach((json_t *)object, key, value)
    {
        bool known = false;
        for (size_t i = 0; i < allowed_count && !known; i++) {
            known = strcmp(key, allowed[i]) == 0;
        }
        if (!known) {
            return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: unknown key \"%.100s\"", where, shown(key));
        }
    }
    return CARSO_OK;
}

static carso_status integers_from_json(const carso_context *context, const json_t *json, const char *where,
                                       const char *key, size_t least, size_t most, int64_t *out, size_t *out_count)
{
    const size_t count = json_array_size(json);
    if (!json_is_array(json) || count < least || count > most) {
        return least == most ? cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: \"%s\" must be an array of %zu integers",
                                        where, key, least)
                             : cso_fail(context, CARSO_ERROR_BAD_FORMAT,
                                        "%s: \"%s\" must be an array of %zu to %zu integers", where, key, least, most);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *element = json_array_get(json, i);
        const int64_t number = json_integer_value(element);
        if (!json_is_integer(element) || number < 0 || number > INT32_MAX) {
            return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: \"%s\" must hold integers of 0 to %d", where, key,
                            INT32_MAX);
        }
        out[i] = number;
    }
    if (out_count != NULL) {
        *out_count = count;
    }
    return CARSO_OK;
}

static carso_status number_from_json(const carso_context *context, const json_t *json, const char *where,
                                     const char *key, float *out)
{
    const double number = json_number_value(json);
    if (!json_is_number(json) || !(fabs(number) <= (double)FLT_MAX)) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: \"%s\" must be a number that float32 can hold", where,
                        key);
    }
    *out = (float)number;
    return CARSO_OK;
}

static carso_status shape_from_json(const carso_context *context, const json_t *json, const char *where, cso_shape *out)
{
    size_t rank = 0;
    *out = (cso_shape){0};
    const carso_status status = integers_from_json(context, json, where, "shape", 1, 3, out->dimension, &rank);
    out->rank = (int)rank;
    return status;
}

static carso_status channels_from_json(const carso_context *context, const json_t *json, const char *where,
                                       const char *key, int64_t channels, float *out)
{
    const size_t count = json_array_size(json);
    /* More channels than 4 are found fault with when the shape is inferred. */
    if (!json_is_array(json) || (int64_t)count != channels || count > 4) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT,
                        "%s: \"%s\" must be an array of one number for each of the input's channels, at most 4", where,
                        key);
    }
    carso_status status = CARSO_OK;
    for (size_t i = 0; i < count && status == CARSO_OK; i++) {
        status = number_from_json(context, json_array_get(json, i), where, key, &out[i]);
    }
    return status;
}

static carso_status attribute_from_json(const carso_context *context, const json_t *json, const char *where,
                                        const attribute *it, int64_t channels, void *field)
{
    int64_t integer[2] = {0, 0};
    int32_t pair[2];
    float number[4] = {0.0F};
    carso_status status = CARSO_OK;
    switch (it->type) {
    case ATTRIBUTE_PAIR:
        status = integers_from_json(context, json, where, it->key, 2, 2, integer, NULL);
        pair[0] = (int32_t)integer[0];
        pair[1] = (int32_t)integer[1];
        memcpy(field, pair, sizeof pair);
        break;
    case ATTRIBUTE_INTEGER:
        if (!json_is_integer(json) || json_integer_value(json) < 0 || json_integer_value(json) > INT32_MAX) {
            return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: \"%s\" must be an integer of 0 to %d", where, it->key,
                            INT32_MAX);
        }
        pair[0] = (int32_t)json_integer_value(json);
        memcpy(field, pair, sizeof *pair);
        break;
    case ATTRIBUTE_BOOLEAN:
        if (!json_is_boolean(json)) {
            return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: \"%s\" must be true or false", where, it->key);
        }
        memcpy(field, &(const bool){json_is_true(json)}, sizeof(bool));
        break;
    case ATTRIBUTE_NUMBER:
        status = number_from_json(context, json, where, it->key, number);
        memcpy(field, number, sizeof *number);
        break;
    case ATTRIBUTE_CHANNELS:
        status = channels_from_json(context, json, where, it->key, channels, number);
        if (status == CARSO_OK) {
            memcpy(field, number, (size_t)channels * sizeof *number);
        }
        break;
    }
    return status;
}

/* json may be NULL: none given. */
static carso_status attributes_from_json(const carso_context *context, const json_t *json, const char *where,
                                         cso_op_kind kind, int64_t channels, cso_attributes *out, cso_shape *shape,
                                         bool *has_shape)
{
    const char *key;
    json_t *value;
    carso_status status = CARSO_OK;
    *out = cso_attributes_default();
    *has_shape = false;
    if (json == NULL) {
        return CARSO_OK;
    }
    if (!json_is_object(json)) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: \"attributes\" must be an object", where);
    }
    json_object_foreach((json_t *)json, key, value)
    {
        const attribute *it = NULL;
        for (size_t i = 0; i < ATTRIBUTE_COUNT && it == NULL; i++) {
            if (has_attribute(&attribute_table[i], kind) && strcmp(key, attribute_table[i].key) == 0) {
                it = &attribute_table[i];
            }
        }
        if (it != NULL) {
            status = attribute_from_json(context, value, where, it, channels, (char *)out + it->offset);
        } else if (kind == CSO_OP_UNFLATTEN && strcmp(key, "shape") == 0) {
            *has_shape = true;
            status = shape_from_json(context, value, where, shape);
        } else {
            status = cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: this operation has no attribute \"%.100s\"", where,
                              shown(key));
        }
        if (status != CARSO_OK) {
            return status;
        }
    }
    return CARSO_OK;
}

/* The index of the parameter in graph, which lookup gives where graph does not have it yet. */
static carso_status parameter_from_json(cso_graph *graph, const json_t *json, const char *where,
                                        cso_parameter_lookup lookup, void *user, int *out)
{
    const char *name = json_string_value(json);
    cso_parameter *parameter = NULL;
    if (name == NULL) {
        return cso_fail(graph->context, CARSO_ERROR_BAD_FORMAT, "%s: the name of a parameter must be a string", where);
    }
    *out = cso_graph_find_parameter(graph, name);
    if (*out >= 0) {
        return CARSO_OK;
    }
    carso_status status = cso_graph_check_name(graph->context, "a parameter", name);
    if (status == CARSO_OK) {
        status = lookup(user, name, &parameter);
    }
    if (status == CARSO_OK) {
        status = cso_graph_add_parameter(graph, name, parameter, out);
        cso_parameter_release(parameter);
    }
    return of_file(status);
}

static carso_status parameters_from_json(cso_graph *graph, const json_t *json, const char *where,
                                         cso_parameter_lookup lookup, void *user, int out[CSO_MAX_PARAMETERS])
{
    const char *role[CSO_MAX_PARAMETERS];
    carso_status status = CARSO_OK;
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        role[i] = cso_parameter_role(i);
        out[i] = -1;
    }
    if (json == NULL) {
        return CARSO_OK;
    }
    status = check_keys(graph->context, json, where, role, CSO_MAX_PARAMETERS);
    for (int i = 0; i < CSO_MAX_PARAMETERS && status == CARSO_OK; i++) {
        const json_t *name = json_object_get(json, role[i]);
        if (name != NULL) {
            status = parameter_from_json(graph, name, where, lookup, user, &out[i]);
        }
    }
    return status;
}

static carso_status node_inputs_from_json(const cso_graph *graph, const json_t *json, const char *where, int *out)
{
    const size_t count = json_array_size(json);
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(json, i));
        if (name == NULL) {
            return cso_fail(graph->context, CARSO_ERROR_BAD_FORMAT, "%s: \"inputs\" must hold names of values", where);
        }
        out[i] = cso_graph_find_value(graph, name);
        if (out[i] < 0) {
            return cso_fail(graph->context, CARSO_ERROR_BAD_FORMAT,
                            "%s: it uses the value '%.200s', which no input or earlier node defines; nodes must come "
                            "in an order in which they "
                            "can run, without a cycle",
                            where, shown(name));
        }
    }
    return CARSO_OK;
}

static carso_status node_from_json(cso_graph *graph, const json_t *json, size_t number, cso_parameter_lookup lookup,
                                   void *user)
{
    static const char *const key[] = {"op", "name", "inputs", "parameters", "attributes"};
    carso_context *context = graph->context;
    char where[WHERE_SIZE];
    const char *op;
    const char *name;
    const json_t *inputs;
    cso_op_kind kind;
    cso_attributes attributes;
    cso_shape shape = {0};
    bool has_shape;
    int parameter[CSO_MAX_PARAMETERS];
    snprintf(where, sizeof where, "node %zu", number);
    carso_status status = cso_json_string(context, json, "name", where, &name);
    if (status == CARSO_OK) {
        snprintf(where, sizeof where, "node %zu '%.200s'", number, shown(name));
        status = check_keys(context, json, where, key, sizeof key / sizeof *key);
    }
    if (status == CARSO_OK) {
        status = cso_json_string(context, json, "op", where, &op);
    }
    if (status == CARSO_OK && !cso_op_kind_parse(op, &kind)) {
        status = cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: there is no operation \"%.100s\"", where, shown(op));
    }
    if (status == CARSO_OK) {
        status = cso_json_array(context, json, "inputs", where, CSO_GRAPH_MAX_INPUTS, &inputs);
    }
    if (status != CARSO_OK) {
        return status;
    }
    const int input_count = (int)json_array_size(inputs);
    if (input_count == 0) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: it has no inputs", where);
    }
    int *input = cso_allocate(context, (size_t)input_count, sizeof *input);
    if (input == NULL) {
        return cso_fail_memory(context, "parts of a graph");
    }
    status = node_inputs_from_json(graph, inputs, where, input);
    if (status == CARSO_OK) {
        status = attributes_from_json(context, json_object_get(json, "attributes"), where, kind,
                                      graph->value[input[0]].shape.dimension[0], &attributes, &shape, &has_shape);
    }
    if (status == CARSO_OK) {
        status = parameters_from_json(graph, json_object_get(json, "parameters"), where, lookup, user, parameter);
    }
    if (status == CARSO_OK) {
        status = of_file(cso_graph_add_node(graph, kind, &attributes, name, input, input_count, parameter,
                                            has_shape ? &shape : NULL, NULL));
    }
    cso_release(context, input);
    return status;
}

static carso_status input_from_json(cso_graph *graph, const json_t *json, size_t number)
{
    static const char *const key[] = {"name", "shape"};
    char where[WHERE_SIZE];
    const char *name;
    cso_shape shape;
    snprintf(where, sizeof where, "graph input %zu", number);
    carso_status status = check_keys(graph->context, json, where, key, sizeof key / sizeof *key);
    if (status == CARSO_OK) {
        status = cso_json_string(graph->context, json, "name", where, &name);
    }
    if (status == CARSO_OK) {
        status = shape_from_json(graph->context, json_object_get(json, "shape"), where, &shape);
    }
    return status == CARSO_OK ? of_file(cso_graph_add_input(graph, name, shape, NULL)) : status;
}

carso_status cso_graph_from_json(carso_context *context, const json_t *json, cso_parameter_lookup lookup, void *user,
                                 cso_graph **out)
{
    static const char *const key[] = {"inputs", "nodes"};
    const json_t *inputs;
    const json_t *nodes;
    cso_graph *graph = NULL;
    *out = NULL;
    carso_status status = check_keys(context, json, "graph", key, sizeof key / sizeof *key);
    if (status == CARSO_OK) {
        status = cso_json_array(context, json, "inputs", "graph", CSO_GRAPH_MAX_INPUTS, &inputs);
    }
    if (status == CARSO_OK) {
        status = cso_json_array(context, json, "nodes", "graph", CSO_GRAPH_MAX_NODES, &nodes);
    }
    if (status == CARSO_OK) {
        status = cso_graph_create(context, &graph);
    }
    if (status != CARSO_OK) {
        return status;
    }
    for (size_t i = 0; i < json_array_size(inputs) && status == CARSO_OK; i++) {
        status = input_from_json(graph, json_array_get(inputs, i), i);
    }
    for (size_t i = 0; i < json_array_size(nodes) && status == CARSO_OK; i++) {
        status = node_from_json(graph, json_array_get(nodes, i), i, lookup, user);
    }
    if (status != CARSO_OK) {
        cso_graph_destroy(graph);
        return status;
    }
    *out = graph;
    return CARSO_OK;
}
