/* SPDX-License-Identifier: BSD-2-Clause */
#include "graph/fold.h"

#include <math.h>
#include <string.h>

#include "base/safetensors.h"

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

/* What folded weights are computed from. */
typedef struct recipe {
    const float *host;
    size_t count;
    int64_t inner, across; /* elements of an output channel that follow each other, output channels (of a group) likewise */
    int64_t period, step;  /* so many elements have across channels; where they begin again, step further */
    float *scale;          /* factor, rounded; behind it */
    double factor[];       /* [output channels] */
} recipe;

/*
 * Element i belongs to output channel i / period * step + i / inner % across. A transposed convolution's weight is
 * [in][out / groups][kh][kw], and an input channel's group is its output channels'.
 */
static void describe(const cso_op *op, recipe *out)
{
    const cso_parameter *const weight = op->parameter[0];

    out->host = weight->host;
    out->count = weight->count;
    if (op->kind == CSO_OP_TRANSPOSED_CONVOLUTION) {
        out->inner = weight->dimension[2] * weight->dimension[3];
        out->across = weight->dimension[1];
        out->period = (int64_t)weight->count / op->attributes.groups;
        out->step = out->across;
    } else {
        out->inner = (int64_t)weight->count / weight->dimension[0];
        out->across = 1;
        out->period = out->inner;
        out->step = 1;
    }
}

static void fill(const recipe *from, float *out)
{
    for (size_t start = 0; start < from->count; start += (size_t)from->inner) {
        const int64_t i = (int64_t)start;
        const double factor = from->factor[i / from->period * from->step + i / from->inner % from->across];

        for (size_t j = start; j < start + (size_t)from->inner; j++) {
            out[j] = (float)((double)from->host[j] * factor);
        }
    }
}

static void fill_deferred(const cso_parameter *parameter, float *out)
{
    const recipe *const from = parameter->recipe;

    fill(from, out);
    cso_safetensors_rest(parameter->mapped, from->host, from->count * sizeof(float));
}

static carso_status make_weight(const carso_context *context, const cso_op *product, recipe *from, cso_parameter **out)
{
    cso_parameter *const weight = product->parameter[0];
    carso_status status;

    /* What the backend packs anyway need not be kept too. */
    if (context->backend->defers && product->kind != CSO_OP_LINEAR && weight->mapped && weight->host) {
        status = cso_parameter_create_deferred(context, weight->rank, weight->dimension, fill_deferred, from,
                                               weight->mapped, out);
        if (status == CARSO_OK && product->kind == CSO_OP_CONVOLUTION) {
            (*out)->base = weight;
            (*out)->scale = from->scale;
        }
        return status;
    }
    status = cso_parameter_create(context, weight->rank, weight->dimension, NULL, out);
    if (status == CARSO_OK) {
        fill(from, (*out)->owned);
    }
    cso_release(context, from);
    return status;
}

/* weight and bias such that the product alone computes what it and the BatchNorm did. */
static carso_status compute(const carso_context *context, const cso_op *product, const cso_op *norm,
                            cso_parameter **out_weight, cso_parameter **out_bias)
{
    const float *const bias = product->parameter[1] ? product->parameter[1]->host : NULL;
    const int64_t channels = product->output.dimension[0];
    carso_status status;
    recipe *from;
    float *shift;

    from = cso_allocate(context, 1, sizeof(*from) + (size_t)channels * (sizeof(from->factor[0]) + sizeof(float)));
    shift = cso_allocate(context, (size_t)channels, sizeof(*shift));
    if (!from || !shift) {
        cso_release(context, from);
        cso_release(context, shift);
        return cso_fail_memory(context, "folded weights");
    }
    describe(product, from);
    from->scale = (float *)(from->factor + channels);
    for (int64_t c = 0; c < channels; c++) {
        const double gamma = norm->parameter[0] ? (double)norm->parameter[0]->host[c] : 1.0;
        const double beta = norm->parameter[1] ? (double)norm->parameter[1]->host[c] : 0.0;
        const double mean = (double)norm->parameter[2]->host[c];
        const double variance = (double)norm->parameter[3]->host[c];

        from->factor[c] = gamma / sqrt(variance + (double)norm->attributes.epsilon);
        from->scale[c] = (float)from->factor[c];
        shift[c] = (float)(((bias ? (double)bias[c] : 0.0) - mean) * from->factor[c] + beta);
    }
    status = make_weight(context, product, from, out_weight);
    if (status == CARSO_OK) {
        status = cso_parameter_create(context, 1, &channels, shift, out_bias);
        if (status != CARSO_OK) {
            cso_parameter_release(*out_weight);
            *out_weight = NULL;
        }
    }
    cso_release(context, shift);
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
