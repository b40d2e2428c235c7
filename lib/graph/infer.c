/* SPDX-License-Identifier: BSD-2-Clause */
/* Shapes: what an operation takes, and what comes out. */
#include <math.h>
#include <stdio.h>

#include "graph/graph.h"

#define SHAPE_TEXT_SIZE 80

int64_t cso_shape_count(const cso_shape *shape)
{
    int64_t count = 1;
    for (int i = 0; i < shape->rank; i++) {
        count *= shape->dimension[i];
    }
    return count;
}

/* "[3][32][32]" */
static const char *shape_text(const cso_shape *shape, char text[SHAPE_TEXT_SIZE])
{
    size_t length = 0;
    text[0] = '\0';
    for (int i = 0; i < shape->rank && i < 3; i++) {
        length += (size_t)snprintf(text + length, SHAPE_TEXT_SIZE - length, "[%lld]", (long long)shape->dimension[i]);
    }
    return text;
}

static const char *parameter_text(const cso_parameter *parameter, char text[SHAPE_TEXT_SIZE])
{
    size_t length = 0;
    text[0] = '\0';
    for (int i = 0; i < parameter->rank && i < 4; i++) {
        length +=
            (size_t)snprintf(text + length, SHAPE_TEXT_SIZE - length, "[%lld]", (long long)parameter->dimension[i]);
    }
    return text;
}

carso_status cso_shape_check(const carso_context *context, const char *where, const char *what, const cso_shape *shape)
{
    char text[SHAPE_TEXT_SIZE];
    int64_t count = 1;
    if (shape->rank != 1 && shape->rank != 3) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "%s: %s has rank %d; it must be 1 (features) or 3 (channels, height, width)", where, what,
                        shape->rank);
    }
    for (int i = 0; i < shape->rank; i++) {
        const int64_t most = shape->rank == 3 ? CSO_MAX_DIMENSION : CSO_MAX_FEATURES;
        if (shape->dimension[i] < 1 || shape->dimension[i] > most) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s: %s is %s; each dimension must be 1 to %lld",
                            where, what, shape_text(shape, text), (long long)most);
        }
        count *= shape->dimension[i]; /* at most 2^48 */
    }
    if (count > CSO_MAX_FEATURES) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s: %s is %s; it may have at most %d elements", where,
                        what, shape_text(shape, text), CSO_MAX_FEATURES);
    }
    return CARSO_OK;
}

static bool same_shape(const cso_shape *a, const cso_shape *b)
{
    if (a->rank != b->rank) {
        return false;
    }
    for (int i = 0; i < a->rank; i++) {
        if (a->dimension[i] != b->dimension[i]) {
            return false;
        }
    }
    return true;
}

/* What one call of cso_op_infer works on. */
typedef struct inference {
    const carso_context *context;
    const char *where;
    cso_op_kind kind;
    const cso_attributes *attributes;
    const cso_shape *input;
    int input_count;
    cso_parameter *parameter[CSO_MAX_PARAMETERS];
} inference;

static carso_status need_rank(const inference *it, int rank)
{
    char text[SHAPE_TEXT_SIZE];
    if (it->input[0].rank == rank) {
        return CARSO_OK;
    }
    return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: the input must have rank %d, but is %s%s",
                    it->where, rank, shape_text(&it->input[0], text), rank == 1 ? "; flatten it first" : "");
}

static carso_status need_vector(const inference *it, int index, const char *role, int64_t size)
{
    char text[SHAPE_TEXT_SIZE];
    const cso_parameter *parameter = it->parameter[index];
    if (parameter->rank == 1 && parameter->dimension[0] == size) {
        return CARSO_OK;
    }
    return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: %s must be [%lld], but is %s", it->where, role,
                    (long long)size, parameter_text(parameter, text));
}

static carso_status need_range(const inference *it, const char *name, int64_t value, int64_t low, int64_t high)
{
    if (value >= low && value <= high) {
        return CARSO_OK;
    }
    return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: %s is %lld; it must be %lld to %lld", it->where,
                    name, (long long)value, (long long)low, (long long)high);
}

static carso_status need_number(const inference *it, const char *name, double value, bool good, const char *wanted)
{
    if (good && isfinite(value)) {
        return CARSO_OK;
    }
    return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: %s is %g; it must be %s", it->where, name, value,
                    wanted);
}

/* Kernels, strides, dilations and paddings are kept within CSO_MAX_DIMENSION, so that int64_t arithmetic on them cannot
 * overflow. */
static carso_status check_window(const inference *it, const int32_t *kernel)
{
    const cso_attributes *attributes = it->attributes;
    const bool pool = it->kind == CSO_OP_MAX_POOL || it->kind == CSO_OP_AVERAGE_POOL;
    carso_status status = CARSO_OK;
    for (int i = 0; i < 2 && status == CARSO_OK; i++) {
        /* A pool's window must not lie wholly in the padding, where it has no value. */
        const int64_t most_padding = pool ? (int64_t)kernel[i] - 1 : CSO_MAX_DIMENSION;
        status = need_range(it, "kernel", kernel[i], 1, CSO_MAX_DIMENSION);
        if (status == CARSO_OK) {
            status = need_range(it, "stride", attributes->stride[i], 1, CSO_MAX_DIMENSION);
        }
        if (status == CARSO_OK && !pool) {
            status = need_range(it, "dilation", attributes->dilation[i], 1, CSO_MAX_DIMENSION);
        }
        if (status == CARSO_OK) {
            status = need_range(it, "pad_begin", attributes->pad_begin[i], 0, most_padding);
        }
        if (status == CARSO_OK) {
            status = need_range(it, "pad_end", attributes->pad_end[i], 0, most_padding);
        }
    }
    return status;
}

/* Windows over one direction of the input. */
static carso_status slide(const inference *it, int axis, int64_t kernel, int64_t dilation, int64_t *out)
{
    const int64_t size = it->input[0].dimension[1 + axis];
    const int64_t padded = size + it->attributes->pad_begin[axis] + it->attributes->pad_end[axis];
    const int64_t extent = dilation * (kernel - 1) + 1;
    if (extent > padded) {
        return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "%s: the kernel covers %lld %s, but the padded input has %lld", it->where, (long long)extent,
                        axis == 0 ? "rows" : "columns", (long long)padded);
    }
    *out = (padded - extent) / it->attributes->stride[axis] + 1;
    return CARSO_OK;
}

static carso_status infer_convolution(const inference *it, cso_shape *out)
{
    const bool transposed = it->kind == CSO_OP_TRANSPOSED_CONVOLUTION;
    const cso_attributes *attributes = it->attributes;
    const cso_parameter *weight = it->parameter[0];
    char text[SHAPE_TEXT_SIZE];
    carso_status status = need_rank(it, 3);
    if (status != CARSO_OK) {
        return status;
    }
    if (weight->rank != 4) {
        return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: weight must have 4 dimensions, but is %s",
                        it->where, parameter_text(weight, text));
    }
    const int32_t kernel[2] = {(int32_t)weight->dimension[2], (int32_t)weight->dimension[3]};
    if ((attributes->kernel[0] != 0 || attributes->kernel[1] != 0) &&
        (attributes->kernel[0] != kernel[0] || attributes->kernel[1] != kernel[1])) {
        return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: kernel is %dx%d, but weight is %s", it->where,
                        (int)attributes->kernel[0], (int)attributes->kernel[1], parameter_text(weight, text));
    }
    status = check_window(it, kernel);
    if (status == CARSO_OK) {
        status = need_range(it, "groups", attributes->groups, 1, CSO_MAX_DIMENSION);
    }
    if (status != CARSO_OK) {
        return status;
    }
    const int64_t groups = attributes->groups;
    const int64_t in = it->input[0].dimension[0];
    const int64_t weight_in = transposed ? weight->dimension[0] : weight->dimension[1] * groups;
    const int64_t channels = transposed ? weight->dimension[1] * groups : weight->dimension[0];
    if (weight_in != in || in % groups != 0 || channels % groups != 0) {
        return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "%s: weight %s with %lld groups does not fit %lld input channels: it must be %s", it->where,
                        parameter_text(weight, text), (long long)groups, (long long)in,
                        transposed ? "[in][out/groups][height][width]" : "[out][in/groups][height][width]");
    }
    if (it->parameter[1] != NULL) {
        status = need_vector(it, 1, "bias", channels);
    }
    out->rank = 3;
    out->dimension[0] = channels;
    for (int i = 0; i < 2 && status == CARSO_OK; i++) {
        const int64_t dilation = attributes->dilation[i];
        if (!transposed) {
            status = slide(it, i, kernel[i], dilation, &out->dimension[1 + i]);
            continue;
        }
        /* With more, it would not be the gradient of any convolution. */
        status = need_range(it, "output_padding", attributes->output_padding[i], 0, attributes->stride[i] - 1);
        out->dimension[1 + i] = (it->input[0].dimension[1 + i] - 1) * attributes->stride[i] - attributes->pad_begin[i] -
                                attributes->pad_end[i] + dilation * (kernel[i] - 1) + attributes->output_padding[i] + 1;
    }
    return status;
}

static carso_status infer_linear(const inference *it, cso_shape *out)
{
    const cso_parameter *weight = it->parameter[0];
    char text[SHAPE_TEXT_SIZE];
    const carso_status status = need_rank(it, 1);
    if (status != CARSO_OK) {
        return status;
    }
    if (weight->rank != 2 || weight->dimension[1] != it->input[0].dimension[0]) {
        return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "%s: weight must be [out][%lld] for this input, but is %s", it->where,
                        (long long)it->input[0].dimension[0], parameter_text(weight, text));
    }
    out->rank = 1;
    out->dimension[0] = weight->dimension[0];
    return it->parameter[1] == NULL ? CARSO_OK : need_vector(it, 1, "bias", weight->dimension[0]);
}

static carso_status infer_batch_norm(const inference *it, cso_shape *out)
{
    const cso_attributes *attributes = it->attributes;
    carso_status status = CARSO_OK;
    for (int i = 0; i < CSO_MAX_PARAMETERS && status == CARSO_OK; i++) {
        status = need_vector(it, i, cso_parameter_role(i), it->input[0].dimension[0]);
    }
    if (status == CARSO_OK) {
        status = need_number(it, "epsilon", attributes->epsilon, attributes->epsilon > 0.0F, "finite and above 0");
    }
    if (status == CARSO_OK) {
        status = need_number(it, "momentum", attributes->momentum,
                             attributes->momentum >= 0.0F && attributes->momentum <= 1.0F, "0 to 1");
    }
    *out = it->input[0];
    return status;
}

static carso_status infer_concatenate(const inference *it, cso_shape *out)
{
    char text[SHAPE_TEXT_SIZE];
    char first[SHAPE_TEXT_SIZE];
    *out = it->input[0];
    for (int i = 1; i < it->input_count; i++) {
        const cso_shape *input = &it->input[i];
        if (input->rank != out->rank || (out->rank == 3 && (input->dimension[1] != out->dimension[1] ||
                                                            input->dimension[2] != out->dimension[2]))) {
            return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT,
                            "%s: input %d is %s and input 0 is %s; they may differ only in channels or features",
                            it->where, i, shape_text(input, text), shape_text(&it->input[0], first));
        }
        /* At most CSO_GRAPH_MAX_INPUTS times CSO_MAX_FEATURES. */
        out->dimension[0] += input->dimension[0];
    }
    return CARSO_OK;
}

static carso_status infer_pool(const inference *it, cso_shape *out)
{
    const int32_t *kernel = it->attributes->kernel;
    carso_status status = need_rank(it, 3);
    if (status == CARSO_OK) {
        status = check_window(it, kernel);
    }
    *out = it->input[0];
    for (int i = 0; i < 2 && status == CARSO_OK; i++) {
        status = slide(it, i, kernel[i], 1, &out->dimension[1 + i]);
    }
    return status;
}

static carso_status infer_standardise(const inference *it, cso_shape *out)
{
    carso_status status = need_rank(it, 3);
    if (status == CARSO_OK) {
        status = need_range(it, "the number of channels", it->input[0].dimension[0], 1, 4);
    }
    for (int i = 0; i < 4 && status == CARSO_OK && i < it->input[0].dimension[0]; i++) {
        const float deviation = it->attributes->deviation[i];
        status = need_number(it, "mean", it->attributes->mean[i], true, "finite");
        if (status == CARSO_OK) {
            status = need_number(it, "deviation", deviation, deviation > 0.0F, "finite and above 0");
        }
    }
    *out = it->input[0];
    return status;
}

static carso_status infer_unflatten(const inference *it, const cso_shape *shape, cso_shape *out)
{
    char text[SHAPE_TEXT_SIZE];
    carso_status status = need_rank(it, 1);
    if (status != CARSO_OK) {
        return status;
    }
    if (shape == NULL || shape->rank != 3) {
        return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "%s: it needs a shape of 3 dimensions: channels, height, width", it->where);
    }
    status = cso_shape_check(it->context, it->where, "shape", shape);
    if (status == CARSO_OK && cso_shape_count(shape) != it->input[0].dimension[0]) {
        status =
            cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: shape %s does not have the input's %lld elements",
                     it->where, shape_text(shape, text), (long long)it->input[0].dimension[0]);
    }
    *out = *shape;
    return status;
}

static carso_status check_counts(const inference *it, const cso_shape *shape)
{
    int required = 0;
    int most = 0;
    switch (it->kind) {
    case CSO_OP_CONVOLUTION:
    case CSO_OP_TRANSPOSED_CONVOLUTION:
    case CSO_OP_LINEAR:
        required = 1;
        most = 2;
        break;
    case CSO_OP_BATCH_NORM:
        required = most = 4;
        break;
    default:
        break;
    }
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        if (i < required && it->parameter[i] == NULL) {
            return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: parameter %s is missing", it->where,
                            cso_parameter_role(i));
        }
        if (i >= most && it->parameter[i] != NULL) {
            return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: this operation takes no parameter %s",
                            it->where, cso_parameter_role(i));
        }
    }
    if (shape != NULL && it->kind != CSO_OP_UNFLATTEN) {
        return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: only unflatten takes a shape", it->where);
    }
    if (it->kind == CSO_OP_CONCATENATE ? it->input_count < 1 : it->input_count != (it->kind == CSO_OP_ADD ? 2 : 1)) {
        return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: it has %d inputs; it must have %s", it->where,
                        it->input_count,
                        it->kind == CSO_OP_CONCATENATE ? "at least 1"
                        : it->kind == CSO_OP_ADD       ? "2"
                                                       : "1");
    }
    if (it->input_count > CSO_GRAPH_MAX_INPUTS) {
        return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: it has %d inputs; it may have at most %d",
                        it->where, it->input_count, CSO_GRAPH_MAX_INPUTS);
    }
    return CARSO_OK;
}

static carso_status infer_kind(const inference *it, const cso_shape *shape, cso_shape *out)
{
    char first[SHAPE_TEXT_SIZE];
    char second[SHAPE_TEXT_SIZE];
    carso_status status = CARSO_OK;
    switch (it->kind) {
    case CSO_OP_CONVOLUTION:
    case CSO_OP_TRANSPOSED_CONVOLUTION:
        return infer_convolution(it, out);
    case CSO_OP_LINEAR:
        return infer_linear(it, out);
    case CSO_OP_BATCH_NORM:
        return infer_batch_norm(it, out);
    case CSO_OP_LEAKY_RELU:
        /* The backward run tells the side by the output's sign. */
        status =
            need_number(it, "slope", it->attributes->slope, it->attributes->slope >= 0.0F, "finite and at least 0");
        break;
    case CSO_OP_SCALE:
        status = need_number(it, "factor", it->attributes->factor, true, "finite");
        break;
    case CSO_OP_ADD:
        if (!same_shape(&it->input[0], &it->input[1])) {
            return cso_fail(it->context, CARSO_ERROR_INVALID_ARGUMENT,
                            "%s: the inputs are %s and %s; they must have the same shape", it->where,
                            shape_text(&it->input[0], first), shape_text(&it->input[1], second));
        }
        break;
    case CSO_OP_CONCATENATE:
        return infer_concatenate(it, out);
    case CSO_OP_FLATTEN:
    case CSO_OP_GLOBAL_AVERAGE_POOL:
        status = need_rank(it, 3);
        out->rank = 1;
        out->dimension[0] = it->kind == CSO_OP_FLATTEN ? cso_shape_count(&it->input[0]) : it->input[0].dimension[0];
        return status;
    case CSO_OP_UNFLATTEN:
        return infer_unflatten(it, shape, out);
    case CSO_OP_MAX_POOL:
    case CSO_OP_AVERAGE_POOL:
        return infer_pool(it, out);
    case CSO_OP_STANDARDISE:
        return infer_standardise(it, out);
    default:
        break;
    }
    *out = it->input[0];
    return status;
}

carso_status cso_op_infer(const carso_context *context, const char *where, cso_op_kind kind,
                          const cso_attributes *attributes, const cso_shape *input, int input_count,
                          cso_parameter *const *parameter, const cso_shape *shape, cso_shape *out)
{
    inference it = {.context = context,
                    .where = where,
                    .kind = kind,
                    .attributes = attributes,
                    .input = input,
                    .input_count = input_count};
    cso_shape result = {0};
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        it.parameter[i] = parameter == NULL ? NULL : parameter[i];
    }
    if ((int)kind < 0 || kind >= CSO_OP_COUNT) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s: there is no operation number %d", where, (int)kind);
    }
    carso_status status = check_counts(&it, shape);
    for (int i = 0; i < input_count && status == CARSO_OK; i++) {
        status = cso_shape_check(context, where, "an input", &input[i]);
    }
    if (status == CARSO_OK) {
        status = infer_kind(&it, shape, &result);
    }
    if (status == CARSO_OK) {
        status = cso_shape_check(context, where, "the output", &result);
    }
    if (status == CARSO_OK) {
        *out = result;
    }
    return status;
}
