/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Building networks layer by layer: a layer adds its node and its parameters to a graph. After the first failure, which
 * status keeps, every call does nothing and returns -1, so that a builder checks once at its end.
 */
#ifndef CSO_MODEL_LAYERS_H
#define CSO_MODEL_LAYERS_H

#include "model/model.h"

#define CSO_LAYER_NAME_SIZE 192

typedef struct cso_layers {
    carso_context *context;
    cso_graph *graph;
    carso_status status;
    uint64_t seed;            /* of random weights, where lookup is NULL */
    cso_shaped_lookup lookup; /* of given weights */
    void *user;
} cso_layers;

/* [0] is vertical, [1] horizontal. */
typedef struct cso_window {
    int32_t kernel[2], stride[2], pad_begin[2], pad_end[2], output_padding[2];
} cso_window;

cso_window cso_window_square(int32_t kernel, int32_t stride, int32_t padding);

/* Writes a name; fails where it is too long. */
void cso_layers_name(cso_layers *layers, char name[CSO_LAYER_NAME_SIZE], const char *format, ...)
    __attribute__((format(printf, 3, 4)));

int cso_layers_input(cso_layers *layers, const char *name, cso_shape shape);
int cso_layers_standardise(cso_layers *layers, const char *name, int input, int channels, const float *mean,
                           const float *deviation);
/* Parameters name.weight, and name.bias where bias. */
int cso_layers_convolution(cso_layers *layers, const char *name, int input, int64_t channels, const cso_window *window,
                           bool bias);
/* layer: prefix of the parameters' names, which need not be the node's. */
int cso_layers_transposed_convolution(cso_layers *layers, const char *name, const char *layer, int input,
                                      int64_t channels, const cso_window *window, bool bias);
int cso_layers_linear(cso_layers *layers, const char *name, const char *layer, int input, int64_t features, bool bias);
/* Parameters name.weight, .bias, .running_mean, .running_var. */
int cso_layers_batch_norm(cso_layers *layers, const char *name, int input);
/* Kinds with one input and no attributes. */
int cso_layers_plain(cso_layers *layers, cso_op_kind kind, const char *name, int input);
int cso_layers_leaky_relu(cso_layers *layers, const char *name, int input, float slope);
int cso_layers_add(cso_layers *layers, const char *name, int left, int right);
int cso_layers_concatenate(cso_layers *layers, const char *name, const int *input, int count);
int cso_layers_unflatten(cso_layers *layers, const char *name, int input, cso_shape shape);

/* Of a value; rank 0 after a failure. */
cso_shape cso_layers_shape(const cso_layers *layers, int value);

#endif
