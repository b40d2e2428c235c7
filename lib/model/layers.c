/* SPDX-License-Identifier: BSD-2-Clause */
#include "model/layers.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

cso_window cso_window_square(int32_t kernel, int32_t stride, int32_t padding)
{
    const cso_window window = {{kernel, kernel}, {stride, stride}, {padding, padding}, {padding, padding}, {0, 0}};
    return window;
}

void cso_layers_name(cso_layers *layers, char name[CSO_LAYER_NAME_SIZE], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(name, CSO_LAYER_NAME_SIZE, format, arguments);
    va_end(arguments);
    if (layers->status == CARSO_OK && (length < 0 || length >= CSO_LAYER_NAME_SIZE)) {
        layers->status = cso_fail(layers->context, CARSO_ERROR_INVALID_ARGUMENT,
                                  "layer name '%.40s...' is longer than %d bytes", name, CSO_LAYER_NAME_SIZE - 1);
    }
}

cso_shape cso_layers_shape(const cso_layers *layers, int value)
{
    const cso_shape none = {0, {0, 0, 0}};
    return layers->status != CARSO_OK || value < 0 ? none : layers->graph->value[value].shape;
}

int cso_layers_input(cso_layers *layers, const char *name, cso_shape shape)
{
    int value = -1;
    if (layers->status == CARSO_OK) {
        layers->status = cso_graph_add_input(layers->graph, name, shape, &value);
    }
    return layers->status == CARSO_OK ? value : -1;
}

static int add_node(cso_layers *layers, cso_op_kind kind, const cso_attributes *attributes, const char *name,
                    const int *input, int input_count, const int *parameter, const cso_shape *shape)
{
    int value = -1;
    if (layers->status == CARSO_OK) {
        layers->status =
            cso_graph_add_node(layers->graph, kind, attributes, name, input, input_count, parameter, shape, &value);
    }
    return layers->status == CARSO_OK ? value : -1;
}

/* Index of the new parameter, -1 after a failure. fan_in 0: every element is constant. */
static int add_parameter(cso_layers *layers, const char *layer, const char *role, int rank, const int64_t *dimension,
                         int64_t fan_in, float constant)
{
    char name[CSO_LAYER_NAME_SIZE];
    cso_layers_name(layers, name, "%s.%s", layer, role);
    if (layers->status != CARSO_OK) {
        return -1;
    }
    cso_parameter *parameter = NULL;
    if (layers->lookup != NULL) {
        layers->status = layers->lookup(layers->user, name, rank, dimension, &parameter);
    } else {
        layers->status =
            cso_initial_parameter(layers->context, layers->seed, name, rank, dimension, fan_in, constant, &parameter);
    }
    if (layers->status != CARSO_OK) {
        return -1;
    }
    int index = -1;
    layers->status = cso_graph_add_parameter(layers->graph, name, parameter, &index);
    cso_parameter_release(parameter);
    return layers->status == CARSO_OK ? index : -1;
}

int cso_layers_standardise(cso_layers *layers, const char *name, int input, int channels, const float *mean,
                           const float *deviation)
{
    cso_attributes attributes = cso_attributes_default();
    memcpy(attributes.mean, mean, (size_t)channels * sizeof *mean);
    memcpy(attributes.deviation, deviation, (size_t)channels * sizeof *deviation);
    return add_node(layers, CSO_OP_STANDARDISE, &attributes, name, &input, 1, NULL, NULL);
}

static cso_attributes window_attributes(const cso_window *window)
{
    cso_attributes attributes = cso_attributes_default();
    for (int i = 0; i < 2; i++) {
        attributes.kernel[i] = window->kernel[i];
        attributes.stride[i] = window->stride[i];
        attributes.pad_begin[i] = window->pad_begin[i];
        attributes.pad_end[i] = window->pad_end[i];
        attributes.output_padding[i] = window->output_padding[i];
    }
    return attributes;
}

static int add_product(cso_layers *layers, cso_op_kind kind, const cso_attributes *attributes, const char *name,
                       const char *layer, int input, int rank, const int64_t *dimension, int64_t outputs, bool bias)
{
    /* PyTorch counts the second dimension as a weight's inputs, for transposed convolutions too. */
    int64_t fan_in = 1;
    for (int i = 1; i < rank; i++) {
        fan_in *= dimension[i];
    }
    int parameter[CSO_MAX_PARAMETERS] = {-1, -1, -1, -1};
    parameter[0] = add_parameter(layers, layer, "weight", rank, dimension, fan_in, 0.0f);
    if (bias) {
        parameter[1] = add_parameter(layers, layer, "bias", 1, &outputs, fan_in, 0.0f);
    }
    return add_node(layers, kind, attributes, name, &input, 1, parameter, NULL);
}

int cso_layers_convolution(cso_layers *layers, const char *name, int input, int64_t channels, const cso_window *window,
                           bool bias)
{
    const cso_attributes attributes = window_attributes(window);
    const int64_t dimension[4] = {channels, cso_layers_shape(layers, input).dimension[0], window->kernel[0],
                                  window->kernel[1]};
    return add_product(layers, CSO_OP_CONVOLUTION, &attributes, name, name, input, 4, dimension, channels, bias);
}

int cso_layers_transposed_convolution(cso_layers *layers, const char *name, const char *layer, int input,
                                      int64_t channels, const cso_window *window, bool bias)
{
    const cso_attributes attributes = window_attributes(window);
    const int64_t dimension[4] = {cso_layers_shape(layers, input).dimension[0], channels, window->kernel[0],
                                  window->kernel[1]};
    return add_product(layers, CSO_OP_TRANSPOSED_CONVOLUTION, &attributes, name, layer, input, 4, dimension, channels,
                       bias);
}

int cso_layers_linear(cso_layers *layers, const char *name, const char *layer, int input, int64_t features, bool bias)
{
    const cso_attributes attributes = cso_attributes_default();
    const int64_t dimension[2] = {features, cso_layers_shape(layers, input).dimension[0]};
    return add_product(layers, CSO_OP_LINEAR, &attributes, name, layer, input, 2, dimension, features, bias);
}

int cso_layers_batch_norm(cso_layers *layers, const char *name, int input)
{
    static const char *const role[CSO_MAX_PARAMETERS] = {"weight", "bias", "running_mean", "running_var"};
    static const float constant[CSO_MAX_PARAMETERS] = {1.0f, 0.0f, 0.0f, 1.0f};
    const cso_attributes attributes = cso_attributes_default();
    const int64_t channels = cso_layers_shape(layers, input).dimension[0];
    int parameter[CSO_MAX_PARAMETERS];
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        parameter[i] = add_parameter(layers, name, role[i], 1, &channels, 0, constant[i]);
    }
    return add_node(layers, CSO_OP_BATCH_NORM, &attributes, name, &input, 1, parameter, NULL);
}

int cso_layers_plain(cso_layers *layers, cso_op_kind kind, const char *name, int input)
{
    const cso_attributes attributes = cso_attributes_default();
    return add_node(layers, kind, &attributes, name, &input, 1, NULL, NULL);
}

int cso_layers_leaky_relu(cso_layers *layers, const char *name, int input, float slope)
{
    cso_attributes attributes = cso_attributes_default();
    attributes.slope = slope;
    return add_node(layers, CSO_OP_LEAKY_RELU, &attributes, name, &input, 1, NULL, NULL);
}

int cso_layers_add(cso_layers *layers, const char *name, int left, int right)
{
    const cso_attributes attributes = cso_attributes_default();
    const int input[2] = {left, right};
    return add_node(layers, CSO_OP_ADD, &attributes, name, input, 2, NULL, NULL);
}

int cso_layers_concatenate(cso_layers *layers, const char *name, const int *input, int count)
{
    const cso_attributes attributes = cso_attributes_default();
    return add_node(layers, CSO_OP_CONCATENATE, &attributes, name, input, count, NULL, NULL);
}

int cso_layers_unflatten(cso_layers *layers, const char *name, int input, cso_shape shape)
{
    const cso_attributes attributes = cso_attributes_default();
    return add_node(layers, CSO_OP_UNFLATTEN, &attributes, name, &input, 1, NULL, &shape);
}
