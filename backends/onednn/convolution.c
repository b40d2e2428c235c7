/* SPDX-License-Identifier: BSD-2-Clause */
/* Kernels of CONVOLUTION and TRANSPOSED_CONVOLUTION: which product, which way to compute it, what is left to finish. */
#include "backends/onednn/convolution.h"

#include <stdio.h>
#include <string.h>

typedef struct convolution_kernel {
    cso_kernel base;
    cso_op_kind kind;
    cso_direction direction;
    cso_geometry geometry;
    cso_primitive_product *primitive; /* one of the three */
    cso_columns_product *columns;
    cso_winograd_product *winograd;
    cso_fusion fused; /* what the primitive does of the epilogue; the others do all of it */
    cso_op_kind activation;
    float slope;
    bool has_residual, ready;
    const cso_parameter *weight, *bias;
    size_t product_workspace;
} convolution_kernel;

static cso_geometry geometry_of(const cso_op *op)
{
    const bool transposed = op->kind == CSO_OP_TRANSPOSED_CONVOLUTION;
    const cso_shape *const source = transposed ? &op->output : &op->input[0];
    const cso_shape *const destination = transposed ? &op->input[0] : &op->output;
    cso_geometry g = {.batch = op->batch, .groups = op->attributes.groups};
    for (int i = 0; i < 3; i++) {
        g.source[i] = source->dimension[i];
        g.destination[i] = destination->dimension[i];
    }
    for (int i = 0; i < 2; i++) {
        g.kernel[i] = op->attributes.kernel[i];
        g.stride[i] = op->attributes.stride[i];
        g.dilation[i] = op->attributes.dilation[i];
        g.pad_begin[i] = op->attributes.pad_begin[i];
        g.pad_end[i] = op->attributes.pad_end[i];
    }
    return g;
}

static cso_product product_of(const cso_op *op)
{
    if (op->direction == CSO_BACKWARD_PARAMETERS) {
        return CSO_PRODUCT_WEIGHT;
    }
    const bool forward = op->direction == CSO_FORWARD;
    return forward == (op->kind == CSO_OP_CONVOLUTION) ? CSO_PRODUCT_DESTINATION : CSO_PRODUCT_SOURCE;
}

static const char *operation_of(const cso_op *op)
{
    static const char *const names[2][3] = {
        {"convolution", "convolution's gradient to its input", "convolution's gradient to its weight"},
        {"transposed convolution", "transposed convolution's gradient to its input",
         "transposed convolution's gradient to its weight"}};
    return names[op->kind == CSO_OP_TRANSPOSED_CONVOLUTION][op->direction];
}

static void convolution_destroy(cso_device *device, cso_kernel *kernel)
{
    convolution_kernel *const k = (convolution_kernel *)kernel;
    cso_primitive_product_destroy(device, k->primitive);
    cso_columns_product_destroy(device, k->columns);
    cso_winograd_product_destroy(device, k->winograd);
}

/* Double sums for the bias's gradient: channels for each thread. */
static size_t bias_workspace(const cso_device *device, const cso_op *op)
{
    return cso_round_up((size_t)device->threads * (size_t)op->output.dimension[0] * sizeof(double));
}

static void finish_pass(const cso_device *device, const cso_finish *finish, int64_t pixels, int64_t channels, float *y)
{
    const int parts = cso_parts(device, pixels * channels);
#pragma omp parallel for schedule(static) num_threads(parts) if (parts > 1)
    for (int part = 0; part < parts; part++) {
        int64_t first, last;
        cso_share(pixels, parts, part, &first, &last);
        device->loops->finish((size_t)(last - first), (size_t)channels, (size_t)channels, y + first * channels,
                              finish->bias, finish->residual ? finish->residual + first * channels : NULL,
                              finish->activation, finish->slope);
    }
}

static void bias_gradient(const cso_device *device, int64_t pixels, int64_t channels, const float *dy, void *workspace,
                          float *out)
{
    double *const totals = workspace;
    const int parts = cso_parts(device, pixels * channels);
#pragma omp parallel for schedule(static) num_threads(parts) if (parts > 1)
    for (int part = 0; part < parts; part++) {
        int64_t first, last;
        cso_share(pixels, parts, part, &first, &last);
        memset(totals + part * channels, 0, (size_t)channels * sizeof(double));
        device->loops->sum((size_t)(last - first), (size_t)channels, dy + first * channels, totals + part * channels);
    }
    for (int64_t c = 0; c < channels; c++) {
        double total = 0;
        for (int part = 0; part < parts; part++) {
            total += totals[part * channels + c];
        }
        out[c] = (float)total;
    }
}

static carso_status make_ready(cso_device *device, convolution_kernel *k)
{
    const carso_status status = k->winograd  ? cso_winograd_product_ready(device, k->winograd)
                                : k->columns ? cso_columns_product_ready(device, k->columns)
                                             : cso_primitive_product_ready(device, k->primitive);
    k->ready = status == CARSO_OK;
    return status;
}

static carso_status convolution_run(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments)
{
    if (!((convolution_kernel *)kernel)->ready) {
        const carso_status status = make_ready(device, (convolution_kernel *)kernel);
        if (status != CARSO_OK) {
            return status;
        }
    }
    const convolution_kernel *const k = (const convolution_kernel *)kernel;
    const cso_geometry *const g = &k->geometry;
    const bool transposed = k->kind == CSO_OP_TRANSPOSED_CONVOLUTION;
    const int64_t *const output = transposed ? g->source : g->destination;
    const int64_t pixels = g->batch * output[1] * output[2];
    cso_product_arguments product = {.weight_in = k->weight->data,
                                     .out = arguments->output[0],
                                     .finish = {.activation = CSO_NO_ACTIVATION},
                                     .workspace = arguments->workspace};
    if (k->direction == CSO_BACKWARD_PARAMETERS) {
        const float *const dy = arguments->input[0], *const x = arguments->input[1];
        product.source_in = transposed ? dy : x;
        product.destination_in = transposed ? x : dy;
        if (arguments->output[1]) {
            bias_gradient(device, pixels, output[0], dy, (char *)arguments->workspace + k->product_workspace,
                          arguments->output[1]);
        }
        if (!product.out) {
            return CARSO_OK;
        }
    } else {
        product.source_in = arguments->input[0];
        product.destination_in = arguments->input[0];
        if (!product.out) {
            return CARSO_OK;
        }
    }
    cso_finish finish = {.activation = CSO_NO_ACTIVATION};
    if (k->direction == CSO_FORWARD) {
        finish = (cso_finish){.bias = k->bias ? k->bias->data : NULL,
                              .residual = k->has_residual ? arguments->input[1] : NULL,
                              .activation = k->activation,
                              .slope = k->slope};
        product.finish = finish;
    }
    if (k->winograd) {
        return cso_winograd_product_run(device, k->winograd, &product);
    }
    if (k->columns) {
        return cso_columns_product_run(device, k->columns, &product);
    }
    const carso_status status = cso_primitive_product_run(device, k->primitive, &product);
    if (status != CARSO_OK || k->direction != CSO_FORWARD) {
        return status;
    }
    finish.bias = k->fused.bias ? NULL : finish.bias;
    finish.residual = k->fused.residual ? NULL : finish.residual;
    finish.activation = k->fused.activation != CSO_NO_ACTIVATION ? CSO_NO_ACTIVATION : finish.activation;
    if (finish.bias || finish.residual || finish.activation != CSO_NO_ACTIVATION) {
        finish_pass(device, &finish, pixels, output[0], product.out);
    }
    return CARSO_OK;
}

carso_status cso_onednn_convolution_prepare(cso_device *device, const cso_op *op, cso_kernel **out)
{
    const char *const operation = operation_of(op);
    const cso_product product = product_of(op);
    const bool forward = op->direction == CSO_FORWARD;
    *out = NULL;
    convolution_kernel *const k = cso_allocate(device->context, 1, sizeof *k);
    if (!k) {
        return cso_fail_memory(device->context, "kernels");
    }
    k->base.run = convolution_run;
    k->base.destroy = convolution_destroy;
    k->kind = op->kind;
    k->direction = op->direction;
    k->geometry = geometry_of(op);
    k->weight = op->parameter[0];
    k->bias = op->parameter[1];
    k->activation = forward && op->epilogue.activate ? op->epilogue.activation : CSO_NO_ACTIVATION;
    k->slope = op->epilogue.slope;
    k->has_residual = forward && op->epilogue.residual;
    const cso_fusion wanted = {
        .bias = forward && k->bias, .residual = k->has_residual, .activation = k->activation, .slope = k->slope};
    const bool narrow = cso_columns_product_narrow(&k->geometry, product);
    carso_status status = CARSO_OK;
    const cso_winograd *const winograd = cso_winograd_choose(device, &k->geometry, product, op->parameter[0]);
    if (winograd) {
        status = cso_winograd_product_create(device, winograd, &k->geometry, product, op->parameter[0], &k->winograd);
    }
    if (status == CARSO_OK && !k->winograd && !narrow) {
        status = cso_primitive_product_create(device, &k->geometry, product, op->parameter[0], &wanted, operation,
                                              &k->primitive, &k->fused);
    }
    if (status == CARSO_OK && !k->winograd && !k->primitive) {
        status = cso_columns_product_create(device, &k->geometry, product, op->parameter[0], operation, &k->columns);
    }
    if (status != CARSO_OK) {
        convolution_destroy(device, &k->base);
        cso_release(device->context, k);
        return status;
    }
    k->product_workspace = k->winograd    ? cso_winograd_product_workspace(k->winograd)
                           : k->primitive ? cso_primitive_product_workspace(k->primitive)
                                          : cso_columns_product_workspace(k->columns);
    k->base.workspace = k->product_workspace + (product == CSO_PRODUCT_WEIGHT ? bias_workspace(device, op) : 0);
    snprintf(k->base.name, sizeof k->base.name, "%s",
             k->winograd    ? cso_winograd_product_name(k->winograd)
             : k->primitive ? cso_primitive_product_name(k->primitive)
             : narrow       ? "columns:loops"
                            : "columns:openblas");
    *out = &k->base;
    return CARSO_OK;
}
