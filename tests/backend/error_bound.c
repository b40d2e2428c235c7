/* SPDX-License-Identifier: BSD-2-Clause */
#include "error_bound.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"
#include "winograd_bound.h"

/* Roundings allowed besides the sum's own: conversions, epilogue, scale and shift. */
#define BASE_ROUNDINGS 4
/* Vectorised exponentials and hyperbolic tangents are that good, not correctly rounded. */
#define ACTIVATION_ROUNDINGS 8
/* In units of 2^-23, twice the largest error of one rounding: of a value on its way through Winograd's transforms at
 * most 3 in each direction of the input's, 4 in each of the output's, and 1 of the transformed weight. */
#define TRANSFORM_ROUNDINGS 7.5

static bool is_activation(cso_op_kind kind)
{
    return kind >= CSO_OP_RELU && kind <= CSO_OP_TANH;
}

/* Every result is a sum of products, whose terms become positive with their factors. */
static bool is_multilinear(const op_trial *it)
{
    return !is_activation(it->op.kind) && it->op.kind != CSO_OP_MAX_POOL && !it->op.attributes.training;
}

static bool is_exact(const op_trial *it, const char *part)
{
    switch (it->op.kind) {
    case CSO_OP_CONCATENATE:
    case CSO_OP_FLATTEN:
    case CSO_OP_UNFLATTEN:
    case CSO_OP_RELU:
        return true;
    case CSO_OP_MAX_POOL:
        return strcmp(part, "y") == 0;
    case CSO_OP_ADD:
        return part[0] == 'd';
    default:
        return false;
    }
}

static double space(const cso_shape *shape)
{
    return (double)(cso_shape_count(shape) / shape->dimension[0]);
}

static double terms_of(const op_trial *it, const char *part)
{
    const cso_op *op = &it->op;
    const double batch = (double)op->batch;
    const double window = (double)op->attributes.kernel[0] * (double)op->attributes.kernel[1];
    const double groups = op->attributes.groups > 0 ? (double)op->attributes.groups : 1;
    const bool forward = part[0] == 'y';
    const bool parameter = strncmp(part, "dp", 2) == 0;
    switch (op->kind) {
    case CSO_OP_CONVOLUTION:
    case CSO_OP_TRANSPOSED_CONVOLUTION:
        if (parameter) {
            const bool input = op->kind == CSO_OP_TRANSPOSED_CONVOLUTION && part[2] == '0';
            return batch * space(input ? &op->input[0] : &op->output);
        }
        return window * (double)(forward ? &op->input[0] : &op->output)->dimension[0] / groups;
    case CSO_OP_LINEAR:
        return parameter ? batch : (double)(forward ? &op->input[0] : &op->output)->dimension[0];
    case CSO_OP_BATCH_NORM:
        return parameter || op->attributes.training ? batch * space(&op->output) : 1;
    case CSO_OP_MAX_POOL:
    case CSO_OP_AVERAGE_POOL:
        return window;
    case CSO_OP_GLOBAL_AVERAGE_POOL:
        return space(&op->input[0]);
    default:
        return 1;
    }
}

static void make_absolute(double *values, size_t count, double sign)
{
    for (size_t i = 0; values != NULL && i < count; i++) {
        values[i] = sign * fabs(values[i]);
    }
}

/* The sums of absolute values: the operation itself, run on them. Means are subtracted, so they become negative. */
static carso_status run_on_absolute_values(carso_context *reference, const op_trial *it, outcome *out)
{
    op_trial positive;
    session_options options = session_options_default();
    options.trainable = true;
    trial_copy(&positive, it);
    positive.op.epilogue.activate = false;
    positive.op.attributes.factor = fabsf(it->op.attributes.factor);
    for (int c = 0; c < 4; c++) {
        positive.op.attributes.mean[c] = -fabsf(it->op.attributes.mean[c]);
    }
    for (int i = 0; i < it->source_count; i++) {
        make_absolute(positive.source[i], trial_source_count(it, i), 1);
    }
    for (int p = 0; p < it->parameter_count; p++) {
        make_absolute(positive.parameter[p].value, it->parameter[p].count, p == 2 ? -1 : 1);
    }
    make_absolute(positive.gradient, trial_output_count(it), 1);
    const carso_status status = session_run(reference, &positive, &options, out, NULL);
    trial_clear(&positive);
    return status;
}

static double largest(const double *values, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++) {
        most = fmax(most, fabs(values[i]));
    }
    return most;
}

/* Over the channels, of a batch in training. */
static double smallest_deviation(const op_trial *it)
{
    const size_t channels = (size_t)it->shape[0].dimension[0];
    const size_t pixels = (size_t)space(&it->shape[0]);
    const double count = (double)it->op.batch * (double)pixels;
    double least = INFINITY;
    for (size_t c = 0; c < channels; c++) {
        double sum = 0;
        double squares = 0;
        for (size_t k = 0; k < (size_t)it->op.batch * pixels; k++) {
            const double x = it->source[0][(k / pixels * channels + c) * pixels + k % pixels];
            sum += x;
            squares += x * x;
        }
        const double mean = sum / count;
        least = fmin(least, squares / count - mean * mean);
    }
    return sqrt(fmax(least, 0) + (double)it->op.attributes.epsilon);
}

/* Of an element of BatchNorm's results in training. Roundings of x and of the mean are enlarged by 1 / deviation, and
 * once more on their way into a gradient. */
static double training_magnitude(const op_trial *it, const outcome_part *part)
{
    const double x = largest(it->source[0], trial_source_count(it, 0));
    const double enlargement = x / smallest_deviation(it);
    const double weight = largest(it->parameter[0].value, it->parameter[0].count);
    const double gradient = largest(it->gradient, trial_output_count(it));
    if (strcmp(part->name, "y") == 0) {
        return weight * enlargement + largest(it->parameter[1].value, it->parameter[1].count);
    }
    if (strcmp(part->name, "running mean") == 0) {
        return x;
    }
    if (strcmp(part->name, "running variance") == 0) {
        return x * x + largest(part->value, part->count);
    }
    if (strcmp(part->name, "dx0") == 0) {
        return gradient * weight * fmax(enlargement, 1) / smallest_deviation(it);
    }
    return gradient * terms_of(it, part->name) * (strcmp(part->name, "dp0") == 0 ? enlargement : 1);
}

static double own_magnitude(const op_trial *it, const outcome_part *part, size_t i)
{
    if (it->op.attributes.training) {
        return training_magnitude(it, part);
    }
    if (it->op.kind == CSO_OP_MAX_POOL) {
        return terms_of(it, part->name) * largest(it->gradient, trial_output_count(it));
    }
    /* An activation's derivative is at most about 1. */
    return part->name[0] == 'd' ? fabs(it->gradient[i]) : fabs(part->value[i]);
}

/* For y and dx0, whose bound for other kernels is direct's: that remains for bias and residual. */
static void add_winograd(const op_trial *it, const outcome_part *direct, winograd_points points, double roundoff,
                         outcome *bound)
{
    double *magnitude = test_allocate(direct->count, sizeof *magnitude);
    const bool forward = strcmp(direct->name, "y") == 0;
    if ((!forward && strcmp(direct->name, "dx0") != 0) || !winograd_magnitude(it, forward, points, magnitude)) {
        free(magnitude);
        return;
    }
    const double channels = terms_of(it, direct->name) / 9;
    const double roundings = BASE_ROUNDINGS + TRANSFORM_ROUNDINGS + sqrt(channels) / 2;
    outcome_part *out = &bound->part[bound->count++];
    *out = (outcome_part){.count = direct->count, .value = magnitude};
    snprintf(out->name, sizeof out->name, "%s winograd%s", forward ? "y" : "dx0",
             points == WINOGRAD_COMPLEX ? " complex" : "");
    for (size_t i = 0; i < direct->count; i++) {
        magnitude[i] = roundoff * roundings * magnitude[i] + direct->value[i];
    }
}

carso_status error_bound(carso_context *reference, const op_trial *it, const outcome *expected, double roundoff,
                         outcome *bound)
{
    outcome absolute = {0};
    *bound = (outcome){0};
    if (is_multilinear(it)) {
        const carso_status status = run_on_absolute_values(reference, it, &absolute);
        if (status != CARSO_OK) {
            return status;
        }
    }
    for (int k = 0; k < expected->count; k++) {
        const outcome_part *part = &expected->part[k];
        const outcome_part *sums = outcome_find(&absolute, part->name);
        outcome_part *out = &bound->part[bound->count++];
        const double roundings = BASE_ROUNDINGS + sqrt(terms_of(it, part->name)) / 2;
        *out = *part;
        out->value = test_allocate(part->count, sizeof *out->value);
        for (size_t i = 0; i < part->count && !is_exact(it, part->name); i++) {
            const double magnitude = sums != NULL ? sums->value[i] : own_magnitude(it, part, i);
            const bool activated = is_activation(it->op.kind) || (it->op.epilogue.activate && part->name[0] == 'y');
            /* A number under the smallest normal one may be flushed to 0. */
            out->value[i] = roundoff * roundings * magnitude + (double)FLT_MIN;
            out->value[i] += activated ? roundoff * ACTIVATION_ROUNDINGS * fabs(part->value[i]) : 0;
        }
    }
    for (int k = 0; k < expected->count; k++) {
        add_winograd(it, &bound->part[k], WINOGRAD_REAL, roundoff, bound);
        add_winograd(it, &bound->part[k], WINOGRAD_COMPLEX, roundoff, bound);
    }
    outcome_clear(&absolute);
    return CARSO_OK;
}
