/* SPDX-License-Identifier: BSD-2-Clause */
#include "graph/fold.h"

#include <math.h>
#include <string.h>

/* One result that a weight keeps. It holds references to what it was made of, so that their addresses identify it. */
struct cso_folded {
    struct cso_folded *next;
    cso_op_kind kind;
    int32_t groups;
    float epsilon;
    cso_parameter *bias_before; /* may be NULL */
    cso_parameter *norm[CSO_MAX_PARAMETERS];
    cso_parameter *weight, *bias;
};

/* The output channel that element i of a product's weight belongs to. */
static int64_t output_channel(const cso_op *op, size_t i)
{
    const int64_t *const dimension = op->parameter[0]->dimension;
    int64_t inner, per_group, channel_in;

    if (op->kind != CSO_OP_TRANSPOSED_CONVOLUTION) {
        return (int64_t)(i / (op->parameter[0]->count / (size_t)dimension[0]));
    }
    /* [in][out / groups][kh][kw]: an output channel's group is its input channels'. */
    inner = dimension[2] * dimension[3];
    per_group = dimension[1];
    channel_in = (int64_t)i / (inner * per_group);
    return channel_in / (dimension[0] / op->attributes.groups) * per_group + (int64_t)i / inner % per_group;
}

/* weight and bias such that the product alone computes what it and the BatchNorm did. */
static carso_status compute(const carso_context *context, const cso_op *product, const cso_op *norm,
                            cso_parameter **out_weight, cso_parameter **out_bias)
{
    const cso_parameter *const weight = product->parameter[0];
    const float *const bias = product->parameter[1] ? product->parameter[1]->host : NULL;
    const int64_t channels = product->output.dimension[0];
    carso_status status = CARSO_OK;
    double *factor;
    float *values, *shift;

    factor = cso_allocate(context, (size_t)channels, sizeof(*factor));
    shift = cso_allocate(context, (size_t)channels, sizeof(*shift));
    values = cso_allocate_raw(context, weight->count, sizeof(*values));
    if (!factor || !shift || !values) {
        status = cso_fail_memory(context, "folded weights");
        goto done;
    }
    for (int64_t c = 0; c < channels; c++) {
        const double gamma = norm->parameter[0] ? (double)norm->parameter[0]->host[c] : 1.0;
        const double beta = norm->parameter[1] ? (double)norm->parameter[1]->host[c] : 0.0;
        const double mean = (double)norm->parameter[2]->host[c];
        const double variance = (double)norm->parameter[3]->host[c];

        factor[c] = gamma / sqrt(variance + (double)norm->attributes.epsilon);
        shift[c] = (float)(((bias ? (double)bias[c] : 0.0) - mean) * factor[c] + beta);
    }
    for (size_t i = 0; i < weight->count; i++) {
        values[i] = (float)((double)weight->host[i] * factor[output_channel(product, i)]);
    }
    status = cso_parameter_create(context, weight->rank, weight->dimension, values, out_weight);
    if (status == CARSO_OK) {
        status = cso_parameter_create(context, 1, &channels, shift, out_bias);
        if (status != CARSO_OK) {
            cso_parameter_release(*out_weight);
            *out_weight = NULL;
        }
    }
done:
    cso_release(context, factor);
    cso_release(context, shift);
    cso_release(context, values);
    return status;
}

static void forget(const carso_context *context, struct cso_folded *folded)
{
    cso_parameter_release(folded->bias_before);
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        cso_parameter_release(folded->norm[i]);
    }
    cso_parameter_release(folded->weight);
    cso_parameter_release(folded->bias);
    cso_release(context, folded);
}

void cso_fold_forget(cso_parameter *weight)
{
    while (weight->folded) {
        struct cso_folded *const folded = weight->folded;

        weight->folded = folded->next;
        forget(weight->context, folded);
    }
}

static bool matches(const struct cso_folded *folded, const cso_op *product, const cso_op *norm)
{
    return folded->kind == product->kind && folded->groups == product->attributes.groups &&
           memcmp(&folded->epsilon, &norm->attributes.epsilon, sizeof(folded->epsilon)) == 0 &&
           folded->bias_before == product->parameter[1] &&
           memcmp(folded->norm, norm->parameter, sizeof(folded->norm)) == 0;
}

static carso_status keep(const carso_context *context, const cso_op *product, const cso_op *norm,
                         struct cso_folded **out)
{
    struct cso_folded *const folded = cso_allocate(context, 1, sizeof(*folded));
    carso_status status;

    if (!folded) {
        return cso_fail_memory(context, "folded weights");
    }
    status = compute(context, product, norm, &folded->weight, &folded->bias);
    if (status != CARSO_OK) {
        cso_release(context, folded);
        return status;
    }
    folded->kind = product->kind;
    folded->groups = product->attributes.groups;
    folded->epsilon = norm->attributes.epsilon;
    folded->bias_before = product->parameter[1];
    if (folded->bias_before) {
        cso_parameter_retain(folded->bias_before);
    }
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        folded->norm[i] = norm->parameter[i];
        if (folded->norm[i]) {
            cso_parameter_retain(folded->norm[i]);
        }
    }
    folded->next = product->parameter[0]->folded;
    product->parameter[0]->folded = folded;
    *out = folded;
    return CARSO_OK;
}

carso_status cso_fold(const carso_context *context, const cso_op *product, const cso_op *norm, bool share,
                      cso_parameter **out_weight, cso_parameter **out_bias)
{
    cso_parameter *const weight = product->parameter[0];
    struct cso_folded *folded;
    carso_status status = CARSO_OK;

    *out_weight = *out_bias = NULL;
    if (!share) {
        return compute(context, product, norm, out_weight, out_bias);
    }
    pthread_mutex_lock(&weight->lock);
    for (folded = weight->folded; folded && !matches(folded, product, norm);) {
        folded = folded->next;
    }
    if (!folded) {
        status = keep(context, product, norm, &folded);
    }
    if (status == CARSO_OK) {
        *out_weight = folded->weight;
        *out_bias = folded->bias;
        cso_parameter_retain(*out_weight);
        cso_parameter_retain(*out_bias);
    }
    pthread_mutex_unlock(&weight->lock);
    return status;
}
