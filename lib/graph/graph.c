/* SPDX-License-Identifier: BSD-2-Clause */
#include "graph/graph.h"

#include <stdio.h>
#include <string.h>

carso_status cso_graph_create(carso_context *context, cso_graph **out)
{
    *out = NULL;
    cso_graph *graph = cso_allocate(context, 1, sizeof *graph);
    if (graph == NULL) {
        return cso_fail_memory(context, "graphs");
    }
    graph->context = context;
    *out = graph;
    return CARSO_OK;
}

void cso_graph_destroy(cso_graph *graph)
{
    if (graph == NULL) {
        return;
    }
    const carso_context *context = graph->context;
    for (int i = 0; i < graph->value_count; i++) {
        cso_release(context, graph->value[i].name);
    }
    for (int i = 0; i < graph->node_count; i++) {
        cso_release(context, graph->node[i].input);
    }
    for (int i = 0; i < graph->parameter_count; i++) {
        cso_release(context, graph->parameter[i].name);
        cso_parameter_release(graph->parameter[i].parameter);
    }
    cso_release(context, graph->value);
    cso_release(context, graph->node);
    cso_release(context, graph->parameter);
    cso_release(context, graph->input);
    cso_release(context, graph->value_index.slot);
    cso_release(context, graph->parameter_index.slot);
    cso_release(context, graph);
}

int cso_graph_find_value(const cso_graph *graph, const char *name)
{
    return cso_name_index_find(&graph->value_index, graph->value, sizeof *graph->value, name);
}

int cso_graph_find_parameter(const cso_graph *graph, const char *name)
{
    return cso_name_index_find(&graph->parameter_index, graph->parameter, sizeof *graph->parameter, name);
}

/* Room for one more element in *array. */
static carso_status grow(const carso_context *context, void **array, int *capacity, int count, size_t size)
{
    if (count < *capacity) {
        return CARSO_OK;
    }
    const int wider_capacity = count < 8 ? 16 : 2 * count;
    void *wider = cso_allocate(context, (size_t)wider_capacity, size);
    if (wider == NULL) {
        return cso_fail_memory(context, "parts of a graph");
    }
    if (count > 0) {
        memcpy(wider, *array, (size_t)count * size);
    }
    cso_release(context, *array);
    *array = wider;
    *capacity = wider_capacity;
    return CARSO_OK;
}

static carso_status grow_values(cso_graph *graph)
{
    void *array = graph->value;
    carso_status status =
        grow(graph->context, &array, &graph->value_capacity, graph->value_count, sizeof *graph->value);
    graph->value = array;
    if (status == CARSO_OK) {
        status = cso_name_index_reserve(graph->context, &graph->value_index, graph->value, sizeof *graph->value,
                                        graph->value_count, graph->value_count + 1);
    }
    return status;
}

static carso_status grow_nodes(cso_graph *graph)
{
    void *array = graph->node;
    const carso_status status =
        grow(graph->context, &array, &graph->node_capacity, graph->node_count, sizeof *graph->node);
    graph->node = array;
    return status;
}

static carso_status grow_inputs(cso_graph *graph)
{
    void *array = graph->input;
    const carso_status status =
        grow(graph->context, &array, &graph->input_capacity, graph->input_count, sizeof *graph->input);
    graph->input = array;
    return status;
}

static carso_status grow_parameters(cso_graph *graph)
{
    void *array = graph->parameter;
    carso_status status =
        grow(graph->context, &array, &graph->parameter_capacity, graph->parameter_count, sizeof *graph->parameter);
    graph->parameter = array;
    if (status == CARSO_OK) {
        status = cso_name_index_reserve(graph->context, &graph->parameter_index, graph->parameter,
                                        sizeof *graph->parameter, graph->parameter_count, graph->parameter_count + 1);
    }
    return status;
}

/* What may stand in a message, a table and a file. */
carso_status cso_graph_check_name(const carso_context *context, const char *what, const char *name)
{
    const size_t length = name == NULL ? 0 : strnlen(name, CSO_MAX_NAME + 1);
    if (length < 1 || length > CSO_MAX_NAME) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "the name of %s must have 1 to %d characters", what,
                        CSO_MAX_NAME);
    }
    for (size_t i = 0; i < length; i++) {
        if (name[i] <= ' ' || name[i] > '~') {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                            "the name of %s has at %zu a space or a character that is not printable ASCII", what, i);
        }
    }
    return CARSO_OK;
}

static carso_status check_value_name(const cso_graph *graph, const char *what, const char *name)
{
    const carso_status status = cso_graph_check_name(graph->context, what, name);
    if (status == CARSO_OK && cso_graph_find_value(graph, name) >= 0) {
        return cso_fail(graph->context, CARSO_ERROR_INVALID_ARGUMENT, "two values of a graph are named '%.200s'", name);
    }
    return status;
}

/* Room and name have been made; cannot fail. */
static int push_value(cso_graph *graph, char *name, const cso_shape *shape, int producer)
{
    const int place = graph->value_count++;
    graph->value[place] = (cso_value){.name = name, .shape = *shape, .producer = producer};
    cso_name_index_insert(&graph->value_index, graph->value, sizeof *graph->value, place);
    return place;
}

carso_status cso_graph_add_input(cso_graph *graph, const char *name, cso_shape shape, int *out_value)
{
    char where[256];
    carso_status status = check_value_name(graph, "a graph's input", name);
    if (status != CARSO_OK) {
        return status;
    }
    if (graph->input_count >= CSO_GRAPH_MAX_INPUTS) {
        return cso_fail(graph->context, CARSO_ERROR_INVALID_ARGUMENT, "a graph may have at most %d inputs",
                        CSO_GRAPH_MAX_INPUTS);
    }
    snprintf(where, sizeof where, "input '%.200s'", name);
    status = cso_shape_check(graph->context, where, "its shape", &shape);
    if (status == CARSO_OK) {
        status = grow_values(graph);
    }
    if (status == CARSO_OK) {
        status = grow_inputs(graph);
    }
    if (status != CARSO_OK) {
        return status;
    }
    char *own_name = cso_duplicate_string(graph->context, name);
    if (own_name == NULL) {
        return cso_fail_memory(graph->context, "names of a graph");
    }
    const int place = push_value(graph, own_name, &shape, -1);
    graph->input[graph->input_count++] = place;
    if (out_value != NULL) {
        *out_value = place;
    }
    return CARSO_OK;
}

carso_status cso_graph_add_parameter(cso_graph *graph, const char *name, cso_parameter *parameter, int *out_index)
{
    carso_status status = cso_graph_check_name(graph->context, "a parameter", name);
    if (status != CARSO_OK) {
        return status;
    }
    if (parameter == NULL) {
        return cso_fail(graph->context, CARSO_ERROR_INVALID_ARGUMENT, "parameter '%.200s' is NULL", name);
    }
    if (cso_graph_find_parameter(graph, name) >= 0) {
        return cso_fail(graph->context, CARSO_ERROR_INVALID_ARGUMENT, "two parameters of a graph are named '%.200s'",
                        name);
    }
    if (graph->parameter_count >= CSO_GRAPH_MAX_PARAMETERS) {
        return cso_fail(graph->context, CARSO_ERROR_INVALID_ARGUMENT, "a graph may have at most %d parameters",
                        CSO_GRAPH_MAX_PARAMETERS);
    }
    status = grow_parameters(graph);
    if (status != CARSO_OK) {
        return status;
    }
    char *own_name = cso_duplicate_string(graph->context, name);
    if (own_name == NULL) {
        return cso_fail_memory(graph->context, "names of a graph");
    }
    const int place = graph->parameter_count++;
    graph->parameter[place] = (cso_named_parameter){.name = own_name, .parameter = parameter};
    cso_parameter_retain(parameter);
    cso_name_index_insert(&graph->parameter_index, graph->parameter, sizeof *graph->parameter, place);
    if (out_index != NULL) {
        *out_index = place;
    }
    return CARSO_OK;
}

/* Checks indices and gathers the parameters that they name. */
static carso_status gather_parameters(const cso_graph *graph, const char *where, const int *index, cso_parameter **out)
{
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        const int place = index == NULL ? -1 : index[i];
        if (place < -1 || place >= graph->parameter_count) {
            return cso_fail(graph->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: there is no parameter number %d", where,
                            place);
        }
        out[i] = place < 0 ? NULL : graph->parameter[place].parameter;
    }
    return CARSO_OK;
}

/* The checked node, but for its place in the graph. input_shape: input_count entries to work with. */
static carso_status infer_node(const cso_graph *graph, const char *where, cso_op_kind kind,
                               const cso_attributes *attributes, const int *input, int input_count,
                               const int *parameter, const cso_shape *shape, cso_shape *input_shape, cso_node *node,
                               cso_shape *out)
{
    cso_parameter *gathered[CSO_MAX_PARAMETERS];
    for (int i = 0; i < input_count; i++) {
        if (input[i] < 0 || input[i] >= graph->value_count) {
            return cso_fail(graph->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: there is no value number %d", where,
                            input[i]);
        }
        input_shape[i] = graph->value[input[i]].shape;
    }
    carso_status status = gather_parameters(graph, where, parameter, gathered);
    if (status != CARSO_OK) {
        return status;
    }
    const cso_attributes neutral = cso_attributes_default();
    node->kind = kind;
    node->attributes =
        cso_attributes_for(kind, attributes == NULL ? &neutral : attributes, gathered[0], input_shape[0].dimension[0]);
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        node->parameter[i] = parameter == NULL ? -1 : parameter[i];
    }
    status =
        cso_op_infer(graph->context, where, kind, &node->attributes, input_shape, input_count, gathered, shape, out);
    if (status == CARSO_OK && node->attributes.training && (gathered[2]->constant || gathered[3]->constant)) {
        status = cso_fail(
            graph->context, CARSO_ERROR_INVALID_ARGUMENT,
            "%s: in training it changes its running statistics, which are constant; use trainable parameters", where);
    }
    return status;
}

carso_status cso_graph_add_node(cso_graph *graph, cso_op_kind kind, const cso_attributes *attributes, const char *name,
                                const int *input, int input_count, const int *parameter, const cso_shape *shape,
                                int *out_value)
{
    const carso_context *context = graph->context;
    char where[320];
    cso_node node = {.input_count = input_count};
    cso_shape output = {0};
    cso_shape *input_shape = NULL;
    char *own_name = NULL;
    carso_status status = check_value_name(graph, "a node", name);
    if (status != CARSO_OK) {
        return status;
    }
    snprintf(where, sizeof where, "node '%.200s' (%s)", name, cso_op_kind_name(kind));
    if (input_count < 1 || input_count > CSO_GRAPH_MAX_INPUTS || input == NULL) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s: it has %d inputs; it must have 1 to %d", where,
                        input_count, CSO_GRAPH_MAX_INPUTS);
    }
    if (graph->node_count >= CSO_GRAPH_MAX_NODES) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "a graph may have at most %d nodes",
                        CSO_GRAPH_MAX_NODES);
    }
    input_shape = cso_allocate(context, (size_t)input_count, sizeof *input_shape);
    if (input_shape == NULL) {
        return cso_fail_memory(context, "parts of a graph");
    }
    status =
        infer_node(graph, where, kind, attributes, input, input_count, parameter, shape, input_shape, &node, &output);
    if (status == CARSO_OK) {
        status = grow_values(graph);
    }
    if (status == CARSO_OK) {
        status = grow_nodes(graph);
    }
    if (status != CARSO_OK) {
        goto fail;
    }
    node.input = cso_allocate(context, (size_t)input_count, sizeof *node.input);
    own_name = cso_duplicate_string(context, name);
    if (node.input == NULL || own_name == NULL) {
        status = cso_fail_memory(context, "parts of a graph");
        goto fail;
    }
    memcpy(node.input, input, (size_t)input_count * sizeof *input);
    node.output = push_value(graph, own_name, &output, graph->node_count);
    graph->node[graph->node_count++] = node;
    cso_release(context, input_shape);
    if (out_value != NULL) {
        *out_value = node.output;
    }
    return CARSO_OK;

fail:
    cso_release(context, input_shape);
    cso_release(context, node.input);
    cso_release(context, own_name);
    return status;
}

/* Adds src's node with other inputs, parameters and name. map_value, map_parameter: places in dst of src's. */
static carso_status copy_node(cso_graph *dst, const cso_graph *src, const cso_node *node, const char *name,
                              const int *map_value, const int *map_parameter, bool training, int *out_value)
{
    int parameter[CSO_MAX_PARAMETERS];
    cso_attributes attributes = node->attributes;
    const cso_shape *shape = node->kind == CSO_OP_UNFLATTEN ? &src->value[node->output].shape : NULL;
    attributes.training = node->kind == CSO_OP_BATCH_NORM && training;
    int *input = cso_allocate(dst->context, (size_t)node->input_count, sizeof *input);
    if (input == NULL) {
        return cso_fail_memory(dst->context, "parts of a graph");
    }
    for (int i = 0; i < node->input_count; i++) {
        input[i] = map_value[node->input[i]];
    }
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        parameter[i] = node->parameter[i] < 0 ? -1 : map_parameter[node->parameter[i]];
    }
    const carso_status status =
        cso_graph_add_node(dst, node->kind, &attributes, name, input, node->input_count, parameter, shape, out_value);
    cso_release(dst->context, input);
    return status;
}

static carso_status join(const cso_graph *graph, const char *prefix, const char *name, char joined[CSO_MAX_NAME + 1])
{
    const int length = snprintf(joined, CSO_MAX_NAME + 1, "%s%s", prefix, name);
    if (length < 0 || length > CSO_MAX_NAME) {
        return cso_fail(graph->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "the name '%.200s%.200s' has more than %d characters", prefix, name, CSO_MAX_NAME);
    }
    return CARSO_OK;
}

static carso_status append_parameters(cso_graph *dst, const cso_graph *src, const char *prefix, int *map)
{
    char name[CSO_MAX_NAME + 1];
    const int before = dst->parameter_count;
    for (int i = 0; i < src->parameter_count; i++) {
        cso_parameter *parameter = src->parameter[i].parameter;
        map[i] = -1;
        for (int j = 0; j < before && map[i] < 0; j++) {
            map[i] = dst->parameter[j].parameter == parameter ? j : -1;
        }
        if (map[i] >= 0) {
            continue;
        }
        carso_status status = join(dst, prefix, src->parameter[i].name, name);
        if (status == CARSO_OK) {
            status = cso_graph_add_parameter(dst, name, parameter, &map[i]);
        }
        if (status != CARSO_OK) {
            return status;
        }
    }
    return CARSO_OK;
}

/* src's inputs: the dst values that stand for them. */
static carso_status append_inputs(const cso_graph *dst, const cso_graph *src, const int *input_value, int *map)
{
    for (int i = 0; i < src->input_count; i++) {
        const cso_value *wanted = &src->value[src->input[i]];
        if (input_value[i] < 0 || input_value[i] >= dst->value_count) {
            return cso_fail(dst->context, CARSO_ERROR_INVALID_ARGUMENT,
                            "there is no value number %d to be input '%.200s'", input_value[i], wanted->name);
        }
        const cso_value *given = &dst->value[input_value[i]];
        bool same = given->shape.rank == wanted->shape.rank;
        for (int j = 0; j < wanted->shape.rank && same; j++) {
            same = given->shape.dimension[j] == wanted->shape.dimension[j];
        }
        if (!same) {
            return cso_fail(dst->context, CARSO_ERROR_INVALID_ARGUMENT,
                            "value '%.200s' does not have the shape of input '%.200s'", given->name, wanted->name);
        }
        map[src->input[i]] = input_value[i];
    }
    return CARSO_OK;
}

carso_status cso_graph_append(cso_graph *dst, const cso_graph *src, const char *prefix, const int *input_value,
                              bool training, int *out_value)
{
    const carso_context *context = dst->context;
    char name[CSO_MAX_NAME + 1];
    int *map_value = cso_allocate(context, (size_t)src->value_count, sizeof *map_value);
    int *map_parameter = cso_allocate(context, (size_t)src->parameter_count, sizeof *map_parameter);
    carso_status status = CARSO_OK;
    if (map_value == NULL || map_parameter == NULL) {
        status = cso_fail_memory(context, "parts of a graph");
    }
    if (status == CARSO_OK) {
        status = append_inputs(dst, src, input_value, map_value);
    }
    if (status == CARSO_OK) {
        status = append_parameters(dst, src, prefix, map_parameter);
    }
    for (int i = 0; i < src->node_count && status == CARSO_OK; i++) {
        const cso_node *node = &src->node[i];
        status = join(dst, prefix, src->value[node->output].name, name);
        if (status == CARSO_OK) {
            status = copy_node(dst, src, node, name, map_value, map_parameter, training, &map_value[node->output]);
        }
    }
    if (status == CARSO_OK && out_value != NULL) {
        memcpy(out_value, map_value, (size_t)src->value_count * sizeof *out_value);
    }
    cso_release(context, map_value);
    cso_release(context, map_parameter);
    return status;
}

/* Values of src are copied in their order, so that every index stays what it is. */
static carso_status clone_into(cso_graph *dst, const cso_graph *src, bool training, const int *same_place)
{
    carso_status status = CARSO_OK;
    for (int i = 0; i < src->parameter_count && status == CARSO_OK; i++) {
        cso_parameter *copy;
        status = cso_parameter_create_trainable(src->parameter[i].parameter, &copy);
        if (status == CARSO_OK) {
            status = cso_graph_add_parameter(dst, src->parameter[i].name, copy, NULL);
            cso_parameter_release(copy);
        }
    }
    for (int i = 0; i < src->value_count && status == CARSO_OK; i++) {
        const cso_value *value = &src->value[i];
        if (value->producer < 0) {
            status = cso_graph_add_input(dst, value->name, value->shape, NULL);
        } else {
            status =
                copy_node(dst, src, &src->node[value->producer], value->name, same_place, same_place, training, NULL);
        }
    }
    return status;
}

carso_status cso_graph_clone_trainable(const cso_graph *src, bool training, cso_graph **out)
{
    const int places = src->value_count > src->parameter_count ? src->value_count : src->parameter_count;
    cso_graph *graph;
    *out = NULL;
    carso_status status = cso_graph_create(src->context, &graph);
    if (status != CARSO_OK) {
        return status;
    }
    int *same_place = cso_allocate(src->context, (size_t)places, sizeof *same_place);
    if (same_place == NULL) {
        status = cso_fail_memory(src->context, "parts of a graph");
    } else {
        for (int i = 0; i < places; i++) {
            same_place[i] = i;
        }
        status = clone_into(graph, src, training, same_place);
    }
    cso_release(src->context, same_place);
    if (status != CARSO_OK) {
        cso_graph_destroy(graph);
        return status;
    }
    *out = graph;
    return CARSO_OK;
}
