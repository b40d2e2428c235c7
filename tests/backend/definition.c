/* SPDX-License-Identifier: BSD-2-Clause */
#include "definition.h"

#include <math.h>
#include <string.h>

#include "graph/graph.h"

/* Where an output element is: rank 1 tensors have h and w 0. */
typedef struct position {
    int64_t n, c, h, w;
} position;

static long double at(const double *values, const cso_shape *shape, int64_t n, int64_t c, int64_t h, int64_t w)
{
    const int64_t height = shape->rank == 3 ? shape->dimension[1] : 1;
    const int64_t width = shape->rank == 3 ? shape->dimension[2] : 1;
    return (long double)values[((n * shape->dimension[0] + c) * height + h) * width + w];
}

/* The source's element, 0 outside of the image. */
static long double padded(const op_trial *it, int64_t n, int64_t c, int64_t h, int64_t w)
{
    const cso_shape *shape = &it->shape[0];
    if (h < 0 || w < 0 || h >= shape->dimension[1] || w >= shape->dimension[2]) {
        return 0;
    }
    return at(it->source[0], shape, n, c, h, w);
}

static long double parameter_at(const op_trial *it, int parameter, int64_t i)
{
    return parameter < it->parameter_count ? (long double)it->parameter[parameter].value[i] : 0;
}

static long double weight_at(const op_trial *it, int64_t first, int64_t second, int64_t i, int64_t j)
{
    const int64_t *dimension = it->parameter[0].dimension;
    return parameter_at(it, 0, ((first * dimension[1] + second) * dimension[2] + i) * dimension[3] + j);
}

static long double convolved(const op_trial *it, position p)
{
    const cso_attributes *a = &it->op.attributes;
    const int64_t in_group = it->shape[0].dimension[0] / a->groups;
    const int64_t out_group = it->op.output.dimension[0] / a->groups;
    long double sum = parameter_at(it, 1, p.c);
    for (int64_t c = 0; c < in_group; c++) {
        for (int64_t i = 0; i < a->kernel[0]; i++) {
            for (int64_t j = 0; j < a->kernel[1]; j++) {
                sum += weight_at(it, p.c, c, i, j) *
                       padded(it, p.n, p.c / out_group * in_group + c,
                              p.h * a->stride[0] - a->pad_begin[0] + i * a->dilation[0],
                              p.w * a->stride[1] - a->pad_begin[1] + j * a->dilation[1]);
            }
        }
    }
    return sum;
}

/* Every input element adds its multiple of the kernel to the output, so an output element looks for those that
 * reach it. */
static long double transposed(const op_trial *it, position p)
{
    const cso_attributes *a = &it->op.attributes;
    const cso_shape *in = &it->shape[0];
    const int64_t in_group = in->dimension[0] / a->groups;
    const int64_t out_group = it->op.output.dimension[0] / a->groups;
    long double sum = parameter_at(it, 1, p.c);
    for (int64_t c = 0; c < in_group; c++) {
        const int64_t channel = p.c / out_group * in_group + c;
        for (int64_t h = 0; h < in->dimension[1]; h++) {
            for (int64_t w = 0; w < in->dimension[2]; w++) {
                for (int64_t i = 0; i < a->kernel[0]; i++) {
                    for (int64_t j = 0; j < a->kernel[1]; j++) {
                        if (h * a->stride[0] + i * a->dilation[0] - a->pad_begin[0] == p.h &&
                            w * a->stride[1] + j * a->dilation[1] - a->pad_begin[1] == p.w) {
                            sum += at(it->source[0], in, p.n, channel, h, w) *
                                   weight_at(it, channel, p.c % out_group, i, j);
                        }
                    }
                }
            }
        }
    }
    return sum;
}

static long double linear(const op_trial *it, position p)
{
    const int64_t in = it->shape[0].dimension[0];
    long double sum = parameter_at(it, 1, p.c);
    for (int64_t i = 0; i < in; i++) {
        sum += parameter_at(it, 0, p.c * in + i) * at(it->source[0], &it->shape[0], p.n, i, 0, 0);
    }
    return sum;
}

/* Mean of (x - centre)^power over the batch and the image. */
static long double channel_moment(const op_trial *it, int64_t c, long double centre, int power)
{
    const cso_shape *shape = &it->shape[0];
    const int64_t space = cso_shape_count(shape) / shape->dimension[0];
    long double sum = 0;
    for (int64_t n = 0; n < it->op.batch; n++) {
        for (int64_t i = 0; i < space; i++) {
            sum += powl((long double)it->source[0][(n * shape->dimension[0] + c) * space + i] - centre, power);
        }
    }
    return sum / (long double)(it->op.batch * space);
}

static long double normalised(const op_trial *it, position p)
{
    const bool training = it->op.attributes.training;
    const long double mean = training ? channel_moment(it, p.c, 0, 1) : parameter_at(it, 2, p.c);
    const long double variance = training ? channel_moment(it, p.c, mean, 2) : parameter_at(it, 3, p.c);
    const long double x = at(it->source[0], &it->shape[0], p.n, p.c, p.h, p.w);
    return (x - mean) / sqrtl(variance + (long double)it->op.attributes.epsilon) * parameter_at(it, 0, p.c) +
           parameter_at(it, 1, p.c);
}

static long double pooled(const op_trial *it, position p)
{
    const cso_attributes *a = &it->op.attributes;
    const cso_shape *in = &it->shape[0];
    const bool maximum = it->op.kind == CSO_OP_MAX_POOL;
    long double best = -INFINITY;
    long double sum = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < a->kernel[0]; i++) {
        for (int64_t j = 0; j < a->kernel[1]; j++) {
            const int64_t h = p.h * a->stride[0] - a->pad_begin[0] + i;
            const int64_t w = p.w * a->stride[1] - a->pad_begin[1] + j;
            if (h >= 0 && w >= 0 && h < in->dimension[1] && w < in->dimension[2]) {
                const long double x = at(it->source[0], in, p.n, p.c, h, w);
                best = isnan(best) || isnan(x) ? NAN : fmaxl(best, x);
                sum += x;
                count++;
            }
        }
    }
    if (maximum) {
        return best;
    }
    return sum / (long double)(a->count_padding ? (int64_t)a->kernel[0] * a->kernel[1] : count);
}

static long double plane_mean(const op_trial *it, position p)
{
    const cso_shape *in = &it->shape[0];
    long double sum = 0;
    for (int64_t h = 0; h < in->dimension[1]; h++) {
        for (int64_t w = 0; w < in->dimension[2]; w++) {
            sum += at(it->source[0], in, p.n, p.c, h, w);
        }
    }
    return sum / (long double)(in->dimension[1] * in->dimension[2]);
}

static long double concatenated(const op_trial *it, position p)
{
    int64_t c = p.c;
    int input = 0;
    while (c >= it->shape[input].dimension[0]) {
        c -= it->shape[input++].dimension[0];
    }
    return at(it->source[input], &it->shape[input], p.n, c, p.h, p.w);
}

static long double activated(cso_op_kind kind, float slope, long double x)
{
    if (isnan(x)) {
        return x;
    }
    switch (kind) {
    case CSO_OP_RELU:
        return x > 0 ? x : 0;
    case CSO_OP_LEAKY_RELU:
        return x > 0 ? x : (long double)slope * x;
    case CSO_OP_SILU:
        return x / (1 + expl(-x));
    case CSO_OP_SIGMOID:
        return 1 / (1 + expl(-x));
    case CSO_OP_TANH:
        return tanhl(x);
    default:
        return x;
    }
}

/* Without the epilogue. same: the first source's element at the output's position in memory. */
static long double value_at(const op_trial *it, position p, long double same, int64_t index)
{
    const cso_attributes *a = &it->op.attributes;
    switch (it->op.kind) {
    case CSO_OP_CONVOLUTION:
        return convolved(it, p);
    case CSO_OP_TRANSPOSED_CONVOLUTION:
        return transposed(it, p);
    case CSO_OP_LINEAR:
        return linear(it, p);
    case CSO_OP_BATCH_NORM:
        return normalised(it, p);
    case CSO_OP_ADD:
        return same + (long double)it->source[1][index];
    case CSO_OP_SCALE:
        return (long double)a->factor * same;
    case CSO_OP_CONCATENATE:
        return concatenated(it, p);
    case CSO_OP_MAX_POOL:
    case CSO_OP_AVERAGE_POOL:
        return pooled(it, p);
    case CSO_OP_GLOBAL_AVERAGE_POOL:
        return plane_mean(it, p);
    case CSO_OP_STANDARDISE:
        return (same - (long double)a->mean[p.c]) / (long double)a->deviation[p.c];
    case CSO_OP_FLATTEN:
    case CSO_OP_UNFLATTEN:
        return same;
    default:
        return activated(it->op.kind, a->slope, same);
    }
}

static outcome_part *add_part(outcome *out, const char *name, size_t count)
{
    outcome_part *part = &out->part[out->count++];
    snprintf(part->name, sizeof part->name, "%s", name);
    part->count = count;
    part->value = test_allocate(count, sizeof *part->value);
    return part;
}

static void define_running(const op_trial *it, outcome *out)
{
    const int64_t channels = it->shape[0].dimension[0];
    const long double count = (long double)(trial_source_count(it, 0) / (size_t)channels);
    const long double momentum = (long double)it->op.attributes.momentum;
    outcome_part *means = add_part(out, "running mean", (size_t)channels);
    outcome_part *variances = add_part(out, "running variance", (size_t)channels);
    for (int64_t c = 0; c < channels; c++) {
        const long double mean = channel_moment(it, c, 0, 1);
        const long double variance = channel_moment(it, c, mean, 2) * count / (count - 1);
        means->value[c] = (double)((1 - momentum) * parameter_at(it, 2, c) + momentum * mean);
        variances->value[c] = (double)((1 - momentum) * parameter_at(it, 3, c) + momentum * variance);
    }
}

static void define_rectifier_gradient(const op_trial *it, outcome *out)
{
    const double slope = (double)it->op.attributes.slope;
    outcome_part *gradient = add_part(out, "dx0", trial_source_count(it, 0));
    for (size_t i = 0; i < gradient->count; i++) {
        gradient->value[i] = it->gradient[i] * (it->source[0][i] > 0 ? 1 : slope);
    }
}

/* For every output, the first element of its window that no other of the window exceeds; a NaN before all. */
static void define_maximum_gradient(const op_trial *it, outcome *out)
{
    const cso_attributes *a = &it->op.attributes;
    const int64_t height = it->shape[0].dimension[1];
    const int64_t width = it->shape[0].dimension[2];
    const int64_t small_width = it->op.output.dimension[2];
    const int64_t small = it->op.output.dimension[1] * small_width;
    outcome_part *gradient = add_part(out, "dx0", trial_source_count(it, 0));
    for (int64_t k = 0; k < (int64_t)trial_output_count(it); k++) {
        const int64_t plane = k / small * height * width;
        const position p = {k / small / it->shape[0].dimension[0], k / small % it->shape[0].dimension[0],
                            k % small / small_width, k % small_width};
        const long double best = pooled(it, p);
        bool found = false;
        for (int64_t i = 0; i < (int64_t)a->kernel[0] * a->kernel[1] && !found; i++) {
            const int64_t h = p.h * a->stride[0] - a->pad_begin[0] + i / a->kernel[1];
            const int64_t w = p.w * a->stride[1] - a->pad_begin[1] + i % a->kernel[1];
            if (h < 0 || w < 0 || h >= height || w >= width) {
                continue;
            }
            const long double x = (long double)it->source[0][plane + h * width + w];
            found = x == best || (isnan(x) && isnan(best));
            gradient->value[plane + h * width + w] += found ? it->gradient[k] : 0;
        }
    }
}

void define_results(const op_trial *it, outcome *out)
{
    const cso_shape *shape = &it->op.output;
    const int64_t width = shape->rank == 3 ? shape->dimension[2] : 1;
    const int64_t space = cso_shape_count(shape) / shape->dimension[0];
    const size_t count = trial_output_count(it);
    const cso_epilogue *epilogue = &it->op.epilogue;
    *out = (outcome){0};
    outcome_part *y = add_part(out, "y", count);
    for (size_t k = 0; k < count; k++) {
        const int64_t index = (int64_t)k;
        const position p = {index / (shape->dimension[0] * space), index / space % shape->dimension[0],
                            index % space / width, index % width};
        const long double same = k < trial_source_count(it, 0) ? (long double)it->source[0][k] : 0;
        long double value = value_at(it, p, same, index);
        if (epilogue->residual) {
            value += (long double)it->source[it->op.input_count][k];
        }
        y->value[k] = (double)(epilogue->activate ? activated(epilogue->activation, epilogue->slope, value) : value);
    }
    if (it->op.attributes.training) {
        define_running(it, out);
    }
    if (it->op.kind == CSO_OP_RELU || it->op.kind == CSO_OP_LEAKY_RELU) {
        define_rectifier_gradient(it, out);
    }
    if (it->op.kind == CSO_OP_MAX_POOL) {
        define_maximum_gradient(it, out);
    }
}

bool definition_is_affordable(const op_trial *it)
{
    const bool spatial = it->op.kind == CSO_OP_CONVOLUTION || it->op.kind == CSO_OP_TRANSPOSED_CONVOLUTION;
    return !spatial || trial_output_count(it) * it->parameter[0].count < 60U * 1000 * 1000;
}
