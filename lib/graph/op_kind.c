/* SPDX-License-Identifier: BSD-2-Clause */
/* Facts about kinds of operations: names, attributes, cost. */
#include <string.h>

#include "graph/graph.h"

static const char *const kind_name[CSO_OP_COUNT] = {
    [CSO_OP_CONVOLUTION] = "convolution",
    [CSO_OP_TRANSPOSED_CONVOLUTION] = "transposed_convolution",
    [CSO_OP_LINEAR] = "linear",
    [CSO_OP_BATCH_NORM] = "batch_norm",
    [CSO_OP_RELU] = "relu",
    [CSO_OP_LEAKY_RELU] = "leaky_relu",
    [CSO_OP_SILU] = "silu",
    [CSO_OP_SIGMOID] = "sigmoid",
    [CSO_OP_TANH] = "tanh",
    [CSO_OP_ADD] = "add",
    [CSO_OP_SCALE] = "scale",
    [CSO_OP_CONCATENATE] = "concatenate",
    [CSO_OP_FLATTEN] = "flatten",
    [CSO_OP_UNFLATTEN] = "unflatten",
    [CSO_OP_MAX_POOL] = "max_pool",
    [CSO_OP_AVERAGE_POOL] = "average_pool",
    [CSO_OP_GLOBAL_AVERAGE_POOL] = "global_average_pool",
    [CSO_OP_STANDARDISE] = "standardise",
};

const char *cso_op_kind_name(cso_op_kind kind)
{
    return (int)kind >= 0 && kind < CSO_OP_COUNT ? kind_name[kind] : "unknown operation";
}

bool cso_op_kind_parse(const char *name, cso_op_kind *out)
{
    for (int i = 0; i < CSO_OP_COUNT; i++) {
        if (strcmp(name, kind_name[i]) == 0) {
            *out = (cso_op_kind)i;
            return true;
        }
    }
    return false;
}

const char *cso_parameter_role(int position)
{
    static const char *const role[CSO_MAX_PARAMETERS] = {"weight", "bias", "running_mean", "running_var"};
    return role[position];
}

cso_attributes cso_attributes_default(void)
{
    const cso_attributes attributes = {
        .stride = {1, 1},
        .dilation = {1, 1},
        .groups = 1,
        .factor = 1.0F,
        .epsilon = 1e-5F,
        .momentum = 0.1F,
        .deviation = {1.0F, 1.0F, 1.0F, 1.0F},
    };
    return attributes;
}

static void copy_pair(int32_t *destination, const int32_t *source)
{
    destination[0] = source[0];
    destination[1] = source[1];
}

cso_attributes cso_attributes_for(cso_op_kind kind, const cso_attributes *given, const cso_parameter *weight,
                                  int64_t channels)
{
    cso_attributes attributes = {0};
    switch (kind) {
    case CSO_OP_CONVOLUTION:
    case CSO_OP_TRANSPOSED_CONVOLUTION:
        copy_pair(attributes.kernel, given->kernel);
        if (given->kernel[0] == 0 && given->kernel[1] == 0 && weight != NULL && weight->rank == 4) {
            attributes.kernel[0] = (int32_t)weight->dimension[2];
            attributes.kernel[1] = (int32_t)weight->dimension[3];
        }
        copy_pair(attributes.dilation, given->dilation);
        if (kind == CSO_OP_TRANSPOSED_CONVOLUTION) {
            copy_pair(attributes.output_padding, given->output_padding);
        }
        attributes.groups = given->groups;
        break;
    case CSO_OP_MAX_POOL:
    case CSO_OP_AVERAGE_POOL:
        copy_pair(attributes.kernel, given->kernel);
        attributes.dilation[0] = attributes.dilation[1] = 1;
        attributes.count_padding = kind == CSO_OP_AVERAGE_POOL && given->count_padding;
        break;
    case CSO_OP_BATCH_NORM:
        attributes.training = given->training;
        attributes.epsilon = given->epsilon;
        attributes.momentum = given->momentum;
        return attributes;
    case CSO_OP_LEAKY_RELU:
        attributes.slope = given->slope;
        return attributes;
    case CSO_OP_SCALE:
        attributes.factor = given->factor;
        return attributes;
    case CSO_OP_STANDARDISE:
        for (int i = 0; i < 4; i++) {
            attributes.mean[i] = i < channels ? given->mean[i] : 0.0F;
            attributes.deviation[i] = i < channels ? given->deviation[i] : 1.0F;
        }
        return attributes;
    default:
        return attributes;
    }
    copy_pair(attributes.stride, given->stride);
    copy_pair(attributes.pad_begin, given->pad_begin);
    copy_pair(attributes.pad_end, given->pad_end);
    return attributes;
}

static uint64_t multiply_saturated(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

uint64_t cso_graph_node_multiply_adds(const cso_graph *graph, int node)
{
    const cso_node *it = &graph->node[node];
    if (it->kind != CSO_OP_CONVOLUTION && it->kind != CSO_OP_TRANSPOSED_CONVOLUTION && it->kind != CSO_OP_LINEAR) {
        return 0;
    }
    /* Each weight meets every position of one side: the output's, or for the transposed convolution the input's. */
    const int side = it->kind == CSO_OP_TRANSPOSED_CONVOLUTION ? it->input[0] : it->output;
    const cso_shape *shape = &graph->value[side].shape;
    const uint64_t positions = shape->rank == 3 ? (uint64_t)(shape->dimension[1] * shape->dimension[2]) : 1;
    return multiply_saturated(positions, graph->parameter[it->parameter[0]].parameter->count);
}
