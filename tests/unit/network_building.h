/* SPDX-License-Identifier: BSD-2-Clause */
/* Small graphs with reproducible weights, for the tests of programs and passes. */
#ifndef TEST_NETWORK_BUILDING_H
#define TEST_NETWORK_BUILDING_H

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "graph/program.h"

typedef struct network {
    carso_context *context;
    cso_graph *graph;
    uint64_t state;
    bool trainable; /* parameters made from here on */
    bool training;  /* BatchNorm made from here on */
} network;

static inline carso_context *backend_context(const char *backend)
{
    carso_context_options options;
    carso_context *context = NULL;

    carso_context_options_init(&options, sizeof options);
    options.backend = backend;
    options.threads = 1;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
    return context;
}

/* In [-1, 1). */
static inline double next_number(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(*state >> 33) / (double)(UINT64_C(1) << 30) - 1.0;
}

static inline network network_open(carso_context *context)
{
    network net = {.context = context, .state = 20231};

    ck_assert_int_eq(cso_graph_create(context, &net.graph), CARSO_OK);
    return net;
}

static inline cso_shape image_shape(int64_t channels, int64_t height, int64_t width)
{
    return (cso_shape){.rank = 3, .dimension = {channels, height, width}};
}

static inline cso_shape feature_shape(int64_t features) { return (cso_shape){.rank = 1, .dimension = {features}}; }

static inline int add_input(network *net, const char *name, cso_shape shape)
{
    int value;

    ck_assert_int_eq(cso_graph_add_input(net->graph, name, shape, &value), CARSO_OK);
    return value;
}

/* Uniform in center +- spread. */
static inline int add_parameter(network *net, const char *node, const char *what, int rank, const int64_t *dimension,
                                double center, double spread)
{
    char name[128];
    size_t count = 1;
    cso_parameter *parameter;
    float *values;
    int index;

    for (int i = 0; i < rank; i++) {
        count *= (size_t)dimension[i];
    }
    values = malloc(count * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < count; i++) {
        values[i] = (float)(center + spread * next_number(&net->state));
    }
    ck_assert_int_eq(cso_parameter_create(net->context, rank, dimension, values, &parameter), CARSO_OK);
    free(values);
    if (net->trainable) {
        cso_parameter *copy;

        ck_assert_int_eq(cso_parameter_create_trainable(parameter, &copy), CARSO_OK);
        cso_parameter_release(parameter);
        parameter = copy;
    }
    snprintf(name, sizeof name, "%s.%s", node, what);
    ck_assert_int_eq(cso_graph_add_parameter(net->graph, name, parameter, &index), CARSO_OK);
    cso_parameter_release(parameter);
    return index;
}

static inline int add_node(network *net, cso_op_kind kind, const cso_attributes *attributes, const char *name,
                           const int *input, int input_count, const int *parameter)
{
    int value = -1;
    const carso_status status =
        cso_graph_add_node(net->graph, kind, attributes, name, input, input_count, parameter, NULL, &value);
    char message[1024];

    carso_context_message(net->context, message, sizeof message);
    ck_assert_msg(status == CARSO_OK, "%s: %s", name, message);
    return value;
}

static inline cso_attributes window(int kernel, int stride, int padding)
{
    cso_attributes attributes = cso_attributes_default();

    for (int i = 0; i < 2; i++) {
        attributes.kernel[i] = kernel;
        attributes.stride[i] = stride;
        attributes.pad_begin[i] = attributes.pad_end[i] = padding;
    }
    return attributes;
}

static inline int64_t channels_of(const network *net, int value) { return net->graph->value[value].shape.dimension[0]; }

static inline int add_convolution(network *net, const char *name, int x, int64_t channels, int kernel, int stride,
                                  int groups, bool bias)
{
    cso_attributes attributes = window(kernel, stride, kernel / 2);
    const int64_t dimension[4] = {channels, channels_of(net, x) / groups, kernel, kernel};
    int parameter[CSO_MAX_PARAMETERS] = {-1, -1, -1, -1};

    attributes.groups = groups;
    parameter[0] = add_parameter(net, name, "weight", 4, dimension, 0.0, 0.4);
    if (bias) {
        parameter[1] = add_parameter(net, name, "bias", 1, &channels, 0.0, 0.3);
    }
    return add_node(net, CSO_OP_CONVOLUTION, &attributes, name, &x, 1, parameter);
}

static inline int add_transposed(network *net, const char *name, int x, int64_t channels, int kernel, int stride,
                                 int groups)
{
    cso_attributes attributes = window(kernel, stride, kernel / 2);
    const int64_t dimension[4] = {channels_of(net, x), channels / groups, kernel, kernel};
    int parameter[CSO_MAX_PARAMETERS] = {-1, -1, -1, -1};

    attributes.groups = groups;
    parameter[0] = add_parameter(net, name, "weight", 4, dimension, 0.0, 0.4);
    parameter[1] = add_parameter(net, name, "bias", 1, &channels, 0.0, 0.3);
    return add_node(net, CSO_OP_TRANSPOSED_CONVOLUTION, &attributes, name, &x, 1, parameter);
}

static inline int add_linear(network *net, const char *name, int x, int64_t features)
{
    const cso_attributes attributes = cso_attributes_default();
    const int64_t dimension[2] = {features, channels_of(net, x)};
    int parameter[CSO_MAX_PARAMETERS] = {-1, -1, -1, -1};

    parameter[0] = add_parameter(net, name, "weight", 2, dimension, 0.0, 0.4);
    parameter[1] = add_parameter(net, name, "bias", 1, &features, 0.0, 0.3);
    return add_node(net, CSO_OP_LINEAR, &attributes, name, &x, 1, parameter);
}

static inline int add_batch_norm(network *net, const char *name, int x)
{
    cso_attributes attributes = cso_attributes_default();
    const int64_t channels = channels_of(net, x);
    int parameter[CSO_MAX_PARAMETERS];

    attributes.training = net->training;
    parameter[0] = add_parameter(net, name, "weight", 1, &channels, 1.0, 0.5);
    parameter[1] = add_parameter(net, name, "bias", 1, &channels, 0.0, 0.5);
    parameter[2] = add_parameter(net, name, "running_mean", 1, &channels, 0.0, 0.5);
    parameter[3] = add_parameter(net, name, "running_var", 1, &channels, 1.0, 0.6);
    return add_node(net, CSO_OP_BATCH_NORM, &attributes, name, &x, 1, parameter);
}

static inline int add_plain(network *net, cso_op_kind kind, const char *name, int x)
{
    cso_attributes attributes = cso_attributes_default();

    attributes.slope = kind == CSO_OP_LEAKY_RELU ? 0.1f : 0.0f;
    attributes.factor = kind == CSO_OP_SCALE ? 0.7f : attributes.factor;
    return add_node(net, kind, &attributes, name, &x, 1, NULL);
}

static inline int add_join(network *net, cso_op_kind kind, const char *name, const int *input, int count)
{
    const cso_attributes attributes = cso_attributes_default();

    return add_node(net, kind, &attributes, name, input, count, NULL);
}

static inline int add_sum(network *net, const char *name, int a, int b)
{
    return add_join(net, CSO_OP_ADD, name, (const int[]){a, b}, 2);
}

static inline cso_program *make_program(const network *net, const cso_program_request *request)
{
    cso_program *program = NULL;
    const carso_status status = cso_program_create(net->graph, request, &program);
    char message[1024];

    carso_context_message(net->context, message, sizeof message);
    ck_assert_msg(status == CARSO_OK, "%s", message);
    return program;
}

static inline size_t value_count(const network *net, int value, int64_t batch)
{
    return (size_t)(cso_shape_count(&net->graph->value[value].shape) * batch);
}

static inline double *random_values(size_t count, uint64_t seed)
{
    double *const values = malloc((count + 1) * sizeof *values);

    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < count; i++) {
        values[i] = next_number(&seed);
    }
    return values;
}

#endif
