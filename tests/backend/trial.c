/* SPDX-License-Identifier: BSD-2-Clause */
#include "trial.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"
#include "window_cases.h"

void *test_allocate(size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size);
    if (memory == NULL) {
        fprintf(stderr, "the test ran out of memory\n");
        exit(2);
    }
    return memory;
}

/* SplitMix64 */
uint64_t test_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

int64_t test_random_below(uint64_t *state, int64_t limit)
{
    return (int64_t)(test_random(state) % (uint64_t)limit);
}

double test_random_between(uint64_t *state, double low, double high)
{
    return (double)(float)(low + (high - low) * (double)(test_random(state) >> 11) * 0x1p-53);
}

static bool chance(uint64_t *state)
{
    return test_random(state) % 2 == 0;
}

size_t trial_tensor_count(const op_trial *it, const cso_shape *shape)
{
    return (size_t)(it->op.batch * cso_shape_count(shape));
}

size_t trial_source_count(const op_trial *it, int source)
{
    return trial_tensor_count(it, &it->shape[source]);
}

size_t trial_output_count(const op_trial *it)
{
    return trial_tensor_count(it, &it->op.output);
}

bool trial_has_epilogue(const op_trial *it)
{
    return it->op.epilogue.residual || it->op.epilogue.activate;
}

bool trial_has_parameter_gradients(const op_trial *it)
{
    return it->parameter_count > 0 && !it->op.attributes.training;
}

bool trial_needs_output(cso_op_kind kind)
{
    return kind == CSO_OP_RELU || kind == CSO_OP_LEAKY_RELU || kind == CSO_OP_SIGMOID || kind == CSO_OP_TANH;
}

bool trial_needs_input(const op_trial *it)
{
    return it->op.kind == CSO_OP_SILU || it->op.attributes.training;
}

bool trial_is_pointwise(const op_trial *it)
{
    switch (it->op.kind) {
    case CSO_OP_BATCH_NORM:
        return !it->op.attributes.training;
    case CSO_OP_RELU:
    case CSO_OP_LEAKY_RELU:
    case CSO_OP_SILU:
    case CSO_OP_SIGMOID:
    case CSO_OP_TANH:
    case CSO_OP_ADD:
    case CSO_OP_SCALE:
    case CSO_OP_STANDARDISE:
        return true;
    default:
        return false;
    }
}

static cso_shape image(int64_t channels, int64_t height, int64_t width)
{
    return (cso_shape){3, {channels, height, width}};
}

static cso_shape features(int64_t count)
{
    return (cso_shape){1, {count, 0, 0}};
}

static int64_t one_of(uint64_t *state, const int64_t *choices, int64_t count)
{
    return choices[test_random_below(state, count)];
}

static int64_t some_channels(uint64_t *state)
{
    static const int64_t choices[] = {1, 3, 5, 8, 16, 17};
    return one_of(state, choices, 6);
}

static int64_t some_side(uint64_t *state)
{
    static const int64_t choices[] = {1, 2, 3, 4, 5, 7, 8, 11, 13};
    return one_of(state, choices, 9);
}

static int64_t some_features(uint64_t *state)
{
    static const int64_t choices[] = {1, 2, 3, 10, 17, 31, 64, 129};
    return one_of(state, choices, 8);
}

static cso_shape some_image(uint64_t *state)
{
    return image(some_channels(state), some_side(state), some_side(state));
}

static cso_shape some_shape(uint64_t *state)
{
    return chance(state) ? some_image(state) : features(some_features(state));
}

static void add_parameter(op_trial *it, int rank, int64_t a, int64_t b, int64_t c, int64_t d)
{
    trial_parameter *parameter = &it->parameter[it->parameter_count++];
    const int64_t dimension[4] = {a, b, c, d};
    parameter->rank = rank;
    parameter->count = 1;
    for (int i = 0; i < rank; i++) {
        parameter->dimension[i] = dimension[i];
        parameter->count *= (size_t)dimension[i];
    }
    parameter->value = test_allocate(parameter->count, sizeof(double));
}

static void give_epilogue(op_trial *it, uint64_t *state)
{
    static const cso_op_kind activations[] = {CSO_OP_RELU, CSO_OP_LEAKY_RELU, CSO_OP_SILU, CSO_OP_SIGMOID, CSO_OP_TANH};
    cso_epilogue *epilogue = &it->op.epilogue;
    const int64_t form = it->op.kind == CSO_OP_CONVOLUTION ? test_random_below(state, 3) : 0;
    epilogue->residual = form >= 1;
    epilogue->activate = form <= 1;
    if (epilogue->activate) {
        epilogue->activation = activations[test_random_below(state, 5)];
        epilogue->slope = epilogue->activation == CSO_OP_LEAKY_RELU ? 0.1F : 0;
    }
    if (epilogue->residual) {
        it->shape[it->op.input_count] = it->op.output;
    }
}

static void shape_convolution(op_trial *it, uint64_t *state)
{
    cso_op *op = &it->op;
    const bool transposed = op->kind == CSO_OP_TRANSPOSED_CONVOLUTION;
    const window_case geometry = window_case_at(op->kind, it->number / 2, state);
    op->batch = geometry.batch;
    op->attributes = geometry.attributes;
    it->shape[0] = image(geometry.in, geometry.height, geometry.width);
    op->output = image(geometry.out, window_output(op->kind, &geometry, 0), window_output(op->kind, &geometry, 1));
    const int64_t groups = geometry.attributes.groups;
    add_parameter(it, 4, transposed ? geometry.in : geometry.out, (transposed ? geometry.out : geometry.in) / groups,
                  geometry.attributes.kernel[0], geometry.attributes.kernel[1]);
    if (it->number % 3 != 2) {
        add_parameter(it, 1, geometry.out, 0, 0, 0);
    }
}

static void shape_pool(op_trial *it, uint64_t *state)
{
    cso_op *op = &it->op;
    const window_case geometry = window_case_at(op->kind, it->number / 2, state);
    op->batch = geometry.batch;
    op->attributes = geometry.attributes;
    op->attributes.count_padding = op->kind == CSO_OP_AVERAGE_POOL && it->number % 2 == 1;
    it->shape[0] = image(geometry.in, geometry.height, geometry.width);
    op->output = image(geometry.in, window_output(op->kind, &geometry, 0), window_output(op->kind, &geometry, 1));
    it->ties = op->kind == CSO_OP_MAX_POOL && it->number % 2 == 1;
}

static void shape_linear(op_trial *it, uint64_t *state)
{
    const bool large = it->number < 2;
    const int64_t in = large ? 517 : some_features(state);
    const int64_t out = large ? 259 : some_features(state);
    it->shape[0] = features(in);
    it->op.output = features(out);
    add_parameter(it, 2, out, in, 0, 0);
    if (it->number % 3 != 2) {
        add_parameter(it, 1, out, 0, 0, 0);
    }
}

static void shape_batch_norm(op_trial *it, uint64_t *state)
{
    cso_attributes *attributes = &it->op.attributes;
    attributes->training = it->number % 4 >= 2;
    attributes->epsilon = chance(state) ? 1e-5F : 1e-3F;
    attributes->momentum = chance(state) ? 0.1F : 0.25F;
    it->shape[0] = some_shape(state);
    if (attributes->training && it->op.batch == 1 && cso_shape_count(&it->shape[0]) == it->shape[0].dimension[0]) {
        it->op.batch = 2; /* a single value has no variance */
    }
    it->op.output = it->shape[0];
    for (int i = 0; i < 4; i++) {
        add_parameter(it, 1, it->shape[0].dimension[0], 0, 0, 0);
    }
}

static void shape_concatenate(op_trial *it, uint64_t *state)
{
    cso_op *op = &it->op;
    const cso_shape first = some_shape(state);
    op->input_count = 1 + it->number % TRIAL_MOST_INPUTS;
    op->output = first;
    op->output.dimension[0] = 0;
    for (int i = 0; i < op->input_count; i++) {
        it->shape[i] = first;
        it->shape[i].dimension[0] = first.rank == 3 ? some_channels(state) : some_features(state);
        op->output.dimension[0] += it->shape[i].dimension[0];
    }
}

static void shape_rest(op_trial *it, uint64_t *state)
{
    cso_op *op = &it->op;
    const cso_shape any = some_shape(state);
    const cso_shape some = some_image(state);
    switch (op->kind) {
    case CSO_OP_FLATTEN:
        it->shape[0] = some;
        op->output = features(cso_shape_count(&some));
        break;
    case CSO_OP_UNFLATTEN:
        it->shape[0] = features(cso_shape_count(&some));
        op->output = some;
        break;
    case CSO_OP_GLOBAL_AVERAGE_POOL:
        it->shape[0] = some;
        op->output = features(some.dimension[0]);
        break;
    case CSO_OP_STANDARDISE:
        it->shape[0] = image(1 + it->number % 4, some.dimension[1], some.dimension[2]);
        op->output = it->shape[0];
        for (int64_t c = 0; c < it->shape[0].dimension[0]; c++) {
            op->attributes.mean[c] = (float)test_random_between(state, -1, 1);
            op->attributes.deviation[c] = (float)test_random_between(state, 0.1, 2);
        }
        break;
    case CSO_OP_ADD:
        op->input_count = 2;
        it->shape[1] = any;
        it->shape[0] = op->output = any;
        break;
    default:
        it->shape[0] = op->output = any;
        break;
    }
    op->attributes.slope = op->kind == CSO_OP_LEAKY_RELU ? (float)test_random_between(state, 0.01, 0.5) : 0;
    op->attributes.factor = op->kind == CSO_OP_SCALE ? (float)test_random_between(state, -3, 3) : 0;
}

static double *random_values(uint64_t *state, size_t count, bool ties)
{
    double *values = test_allocate(count, sizeof *values);
    for (size_t i = 0; i < count; i++) {
        values[i] = ties ? (double)test_random_below(state, 5) / 2 - 1 : test_random_between(state, -2, 2);
    }
    return values;
}

static void fill_values(op_trial *it, uint64_t *state)
{
    const bool normalises = it->op.kind == CSO_OP_BATCH_NORM;
    it->source_count = it->op.input_count + (it->op.epilogue.residual ? 1 : 0);
    for (int i = 0; i < it->source_count; i++) {
        it->source[i] = random_values(state, trial_source_count(it, i), it->ties);
    }
    it->gradient = random_values(state, trial_output_count(it), false);
    for (int p = 0; p < it->parameter_count; p++) {
        for (size_t i = 0; i < it->parameter[p].count; i++) {
            const bool variance = normalises && p == 3;
            it->parameter[p].value[i] = test_random_between(state, variance ? 0.1 : -1, variance ? 3 : 1);
        }
    }
    if (it->op.attributes.training) {
        for (size_t i = 0; i < trial_source_count(it, 0); i++) {
            it->source[0][i] = (double)(float)(it->source[0][i] + 1.5); /* batch means away from 0 */
        }
    }
}

int trial_count(cso_op_kind kind)
{
    switch (kind) {
    case CSO_OP_CONVOLUTION:
    case CSO_OP_TRANSPOSED_CONVOLUTION:
        return 2 * (window_case_count(kind) + 24);
    case CSO_OP_MAX_POOL:
    case CSO_OP_AVERAGE_POOL:
        return 2 * (window_case_count(kind) + 10);
    case CSO_OP_LINEAR:
    case CSO_OP_BATCH_NORM:
        return 32;
    default:
        return 16;
    }
}

void trial_create(op_trial *out, cso_op_kind kind, int number)
{
    uint64_t state = (uint64_t)kind << 32 ^ (uint64_t)number;
    *out = (op_trial){.number = number, .op = {.kind = kind, .direction = CSO_FORWARD, .input_count = 1}};
    out->op.batch = 1 + test_random_below(&state, 3);
    switch (kind) {
    case CSO_OP_CONVOLUTION:
    case CSO_OP_TRANSPOSED_CONVOLUTION:
        shape_convolution(out, &state);
        break;
    case CSO_OP_MAX_POOL:
    case CSO_OP_AVERAGE_POOL:
        shape_pool(out, &state);
        break;
    case CSO_OP_LINEAR:
        shape_linear(out, &state);
        break;
    case CSO_OP_BATCH_NORM:
        shape_batch_norm(out, &state);
        break;
    case CSO_OP_CONCATENATE:
        shape_concatenate(out, &state);
        break;
    default:
        shape_rest(out, &state);
        break;
    }
    const bool can_have_epilogue = (out->parameter_count > 0 && !out->op.attributes.training) || kind == CSO_OP_ADD;
    if (can_have_epilogue && number % 2 == 1) {
        give_epilogue(out, &state);
    }
    out->ties = out->ties || ((kind == CSO_OP_RELU || kind == CSO_OP_LEAKY_RELU) && number % 4 == 3);
    out->op.input = out->shape;
    fill_values(out, &state);
}

static double *copy_values(const double *values, size_t count)
{
    if (values == NULL) {
        return NULL;
    }
    double *copy = test_allocate(count, sizeof *copy);
    memcpy(copy, values, count * sizeof *copy);
    return copy;
}

static size_t needed_count(const op_trial *it)
{
    return trial_needs_output(it->op.kind) ? trial_output_count(it) : trial_source_count(it, 0);
}

void trial_copy(op_trial *out, const op_trial *source)
{
    *out = *source;
    out->op.input = out->shape;
    for (int i = 0; i < source->source_count; i++) {
        out->source[i] = copy_values(source->source[i], trial_source_count(source, i));
    }
    for (int i = 0; i < source->parameter_count; i++) {
        out->parameter[i].value = copy_values(source->parameter[i].value, source->parameter[i].count);
    }
    out->gradient = copy_values(source->gradient, trial_output_count(source));
    out->needed = copy_values(source->needed, needed_count(source));
}

void trial_clear(op_trial *it)
{
    for (int i = 0; i < it->source_count; i++) {
        free(it->source[i]);
    }
    for (int i = 0; i < it->parameter_count; i++) {
        free(it->parameter[i].value);
    }
    free(it->gradient);
    free(it->needed);
    *it = (op_trial){0};
}

static void print_shape(FILE *stream, const cso_shape *shape)
{
    for (int i = 0; i < shape->rank; i++) {
        fprintf(stream, "%s%" PRId64, i == 0 ? "" : "x", shape->dimension[i]);
    }
}

static void print_pair(FILE *stream, const char *name, const int32_t *pair)
{
    fprintf(stream, " %s %d,%d", name, (int)pair[0], (int)pair[1]);
}

void trial_print(FILE *stream, const op_trial *it)
{
    const cso_attributes *attributes = &it->op.attributes;
    fprintf(stream, "%s %d: batch %" PRId64 " inputs", cso_op_kind_name(it->op.kind), it->number, it->op.batch);
    for (int i = 0; i < it->op.input_count; i++) {
        fprintf(stream, " ");
        print_shape(stream, &it->shape[i]);
    }
    fprintf(stream, " output ");
    print_shape(stream, &it->op.output);
    if (attributes->kernel[0] > 0) {
        print_pair(stream, "kernel", attributes->kernel);
        print_pair(stream, "stride", attributes->stride);
        print_pair(stream, "dilation", attributes->dilation);
        print_pair(stream, "pad_begin", attributes->pad_begin);
        print_pair(stream, "pad_end", attributes->pad_end);
        print_pair(stream, "output_padding", attributes->output_padding);
        fprintf(stream, " groups %d", (int)attributes->groups);
    }
    if (it->parameter_count > 0) {
        fprintf(stream, " parameters %d", it->parameter_count);
    }
    fprintf(stream, "%s%s%s", attributes->training ? " training" : "",
            attributes->count_padding ? " count_padding" : "",
            it->op.epilogue.residual ? " +residual" : "");
    if (it->op.epilogue.activate) {
        fprintf(stream, " +%s", cso_op_kind_name(it->op.epilogue.activation));
    }
    fprintf(stream, "\n");
}
