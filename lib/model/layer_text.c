/* SPDX-License-Identifier: BSD-2-Clause */
#include "model/layer_text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

typedef struct writer {
    char *text;
    size_t length;
} writer;

static void put(writer *to, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* No layer's text comes near the limit. */
static void put(writer *to, const char *format, ...)
{
    const size_t left = CSO_LAYER_TEXT_SIZE - to->length;
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(to->text + to->length, left, format, arguments);
    va_end(arguments);
    to->length += (size_t)length < left ? (size_t)length : left - 1;
}

static void put_pair(writer *to, const char *name, const int32_t pair[2])
{
    put(to, ", %s=%" PRId32, name, pair[0]);
    if (pair[0] != pair[1]) {
        put(to, "x%" PRId32, pair[1]);
    }
}

static void put_padding(writer *to, const int32_t begin[2], const int32_t end[2])
{
    const bool alike = begin[0] == begin[1] && end[0] == end[1];
    put(to, ", p=");
    for (int i = 0; i < (alike ? 1 : 2); i++) {
        put(to, "%s%" PRId32, i > 0 ? "x" : "", begin[i]);
        if (begin[i] != end[i]) {
            put(to, ":%" PRId32, end[i]);
        }
    }
}

static void put_convolution(writer *to, const cso_node *node, int64_t in, int64_t out)
{
    const cso_attributes *const with = &node->attributes;
    const bool transposed = node->kind == CSO_OP_TRANSPOSED_CONVOLUTION;
    put(to, "%s(ch_in=%" PRId64 ", ch_out=%" PRId64, transposed ? "ConvTranspose2D" : "Conv2D", in, out);
    put_pair(to, "ks", with->kernel);
    put_pair(to, "s", with->stride);
    put_padding(to, with->pad_begin, with->pad_end);
    if (transposed) {
        put_pair(to, "op", with->output_padding);
    }
    if (with->dilation[0] != 1 || with->dilation[1] != 1) {
        put_pair(to, "d", with->dilation);
    }
    if (with->groups != 1) {
        put(to, ", g=%" PRId32, with->groups);
    }
    put(to, ", b=%s)", node->parameter[1] >= 0 ? "True" : "False");
}

static void put_pool(writer *to, const char *name, const cso_attributes *with)
{
    put(to, "%s(ks=%" PRId32, name, with->kernel[0]);
    if (with->kernel[0] != with->kernel[1]) {
        put(to, "x%" PRId32, with->kernel[1]);
    }
    put_pair(to, "s", with->stride);
    put_padding(to, with->pad_begin, with->pad_end);
    put(to, ")");
}

static void put_batch_norm(writer *to, const cso_attributes *with, int rank)
{
    put(to, "BatchNorm%dD(affine=True", rank == 3 ? 2 : 1);
    if (with->epsilon != cso_attributes_default().epsilon) {
        put(to, ", eps=%g", (double)with->epsilon);
    }
    put(to, ")");
}

static void put_unflatten(writer *to, const cso_shape *shape)
{
    put(to, "Unflatten(%" PRId64 ", %" PRId64 ", %" PRId64 ")", shape->dimension[0], shape->dimension[1],
        shape->dimension[2]);
}

void cso_layer_text(const cso_graph *graph, const cso_node *node, char text[CSO_LAYER_TEXT_SIZE])
{
    writer to = {.text = text};
    const cso_shape *const in = &graph->value[node->input[0]].shape, *const out = &graph->value[node->output].shape;
    const cso_attributes *const with = &node->attributes;
    text[0] = '\0';
    switch (node->kind) {
    case CSO_OP_CONVOLUTION:
    case CSO_OP_TRANSPOSED_CONVOLUTION:
        put_convolution(&to, node, in->dimension[0], out->dimension[0]);
        return;
    case CSO_OP_LINEAR:
        put(&to, "Linear(feats_in=%" PRId64 ", feats_out=%" PRId64 ", b=%s)", in->dimension[0], out->dimension[0],
            node->parameter[1] >= 0 ? "True" : "False");
        return;
    case CSO_OP_BATCH_NORM:
        put_batch_norm(&to, with, in->rank);
        return;
    case CSO_OP_RELU:
        put(&to, "ReLU()");
        return;
    case CSO_OP_LEAKY_RELU:
        put(&to, "LeakyReLU(slope=%g)", (double)with->slope);
        return;
    case CSO_OP_SILU:
        put(&to, "SiLU()");
        return;
    case CSO_OP_SIGMOID:
        put(&to, "Sigmoid()");
        return;
    case CSO_OP_TANH:
        put(&to, "Tanh()");
        return;
    case CSO_OP_ADD:
        put(&to, "Add()");
        return;
    case CSO_OP_SCALE:
        put(&to, "Scale(factor=%g)", (double)with->factor);
        return;
    case CSO_OP_CONCATENATE:
        put(&to, "Concatenate(inputs=%d)", node->input_count);
        return;
    case CSO_OP_FLATTEN:
        put(&to, "Flatten()");
        return;
    case CSO_OP_UNFLATTEN:
        put_unflatten(&to, out);
        return;
    case CSO_OP_MAX_POOL:
        put_pool(&to, "MaxPool2D", with);
        return;
    case CSO_OP_AVERAGE_POOL:
        put_pool(&to, "AveragePool2D", with);
        return;
    case CSO_OP_GLOBAL_AVERAGE_POOL:
        put(&to, "GlobalAveragePool2D()");
        return;
    case CSO_OP_STANDARDISE:
        put(&to, "Standardise()");
        return;
    case CSO_OP_COUNT:
        return;
    }
}
