/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * BATCH_NORM in evaluation and training. Sums are in double, by parts of fixed size whatever the load, added in order:
 * the same bits at each run.
 */
#include "backends/onednn/device.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct batch_norm_kernel {
    cso_kernel base;
    cso_direction direction;
    bool training;
    int64_t rows, channels;
    int parts;
    float epsilon, momentum, slope;
    cso_op_kind activation;
    cso_parameter *weight, *bias, *mean, *variance;
} batch_norm_kernel;

/* Workspace: four float rows of channels, then two double rows of channels for each part. */
static float *float_row(void *workspace, const batch_norm_kernel *k, int row)
{
    return (float *)workspace + row * k->channels;
}

static double *double_rows(void *workspace, const batch_norm_kernel *k)
{
    return (double *)(void *)((char *)workspace + cso_round_up(4 * (size_t)k->channels * sizeof(float)));
}

/* Both rows of every part, added up in the first part's. */
static void add_parts(const batch_norm_kernel *k, double *totals, int rows)
{
    for (int part = 1; part < k->parts; part++) {
        for (int64_t i = 0; i < rows * k->channels; i++) {
            totals[i] += totals[part * rows * k->channels + i];
        }
    }
}

typedef enum statistic { SUM, SQUARES, PRODUCTS } statistic;

static const double *statistics(const cso_device *device, const batch_norm_kernel *k, statistic which, const float *dy,
                                const float *x, const float *mean, void *workspace)
{
    double *const totals = double_rows(workspace, k);
    const int rows = which == PRODUCTS ? 2 : 1;
#pragma omp parallel for schedule(static) num_threads(k->parts) if (k->parts > 1)
    for (int part = 0; part < k->parts; part++) {
        int64_t first, last;
        cso_share(k->rows, k->parts, part, &first, &last);
        const size_t count = (size_t)(last - first), channels = (size_t)k->channels;
        const int64_t offset = first * k->channels;
        double *const total = totals + part * rows * k->channels;
        memset(total, 0, (size_t)rows * channels * sizeof *total);
        switch (which) {
        case SUM: device->loops->sum(count, channels, x + offset, total); break;
        case SQUARES: device->loops->sum_squares(count, channels, x + offset, mean, total); break;
        case PRODUCTS:
            device->loops->sum_products(count, channels, dy + offset, x + offset, mean, total, total + channels);
            break;
        }
    }
    add_parts(k, totals, rows);
    return totals;
}

static void normalise(const cso_device *device, const batch_norm_kernel *k, const float *x, float *y, const float *mean,
                      const float *factor, const float *bias)
{
#pragma omp parallel for schedule(static) num_threads(k->parts) if (k->parts > 1)
    for (int part = 0; part < k->parts; part++) {
        int64_t first, last;
        cso_share(k->rows, k->parts, part, &first, &last);
        device->loops->normalise((size_t)(last - first), (size_t)k->channels, x + first * k->channels,
                                 y + first * k->channels, mean, factor, bias, k->activation, k->slope);
    }
}

static carso_status evaluation_forward(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments)
{
    const batch_norm_kernel *const k = (const batch_norm_kernel *)kernel;
    const float *const weight = k->weight->data, *const variance = k->variance->data;
    float *const factor = float_row(arguments->workspace, k, 0);
    for (int64_t c = 0; c < k->channels; c++) {
        factor[c] = (float)((double)weight[c] / sqrt((double)variance[c] + (double)k->epsilon));
    }
    normalise(device, k, arguments->input[0], arguments->output[0], k->mean->data, factor, k->bias->data);
    return CARSO_OK;
}

static carso_status evaluation_backward_data(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments)
{
    const batch_norm_kernel *const k = (const batch_norm_kernel *)kernel;
    const float *const weight = k->weight->data, *const variance = k->variance->data;
    float *const factor = float_row(arguments->workspace, k, 0), *const zero = float_row(arguments->workspace, k, 1);
    if (!arguments->output[0]) {
        return CARSO_OK;
    }
    for (int64_t c = 0; c < k->channels; c++) {
        factor[c] = (float)((double)weight[c] / sqrt((double)variance[c] + (double)k->epsilon));
        zero[c] = 0;
    }
    normalise(device, k, arguments->input[0], arguments->output[0], zero, factor, zero);
    return CARSO_OK;
}

static carso_status evaluation_backward_parameters(cso_device *device, cso_kernel *kernel,
                                                   const cso_arguments *arguments)
{
    const batch_norm_kernel *const k = (const batch_norm_kernel *)kernel;
    const float *const variance = k->variance->data;
    float *const weight_gradient = arguments->output[0], *const bias_gradient = arguments->output[1];
    const double *const totals =
        statistics(device, k, PRODUCTS, arguments->input[0], arguments->input[1], k->mean->data, arguments->workspace);
    for (int64_t c = 0; c < k->channels; c++) {
        if (weight_gradient) {
            weight_gradient[c] = (float)(totals[k->channels + c] / sqrt((double)variance[c] + (double)k->epsilon));
        }
        if (bias_gradient) {
            bias_gradient[c] = (float)totals[c];
        }
    }
    return CARSO_OK;
}

static carso_status training_forward(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments)
{
    const batch_norm_kernel *const k = (const batch_norm_kernel *)kernel;
    const float *const x = arguments->input[0], *const weight = k->weight->data;
    float *const mean = arguments->saved, *const inverse = mean + k->channels;
    float *const factor = float_row(arguments->workspace, k, 0);
    float *const running_mean = k->mean->data, *const running_variance = k->variance->data;
    const double count = (double)k->rows, momentum = (double)k->momentum;
    const double *totals = statistics(device, k, SUM, NULL, x, NULL, arguments->workspace);
    for (int64_t c = 0; c < k->channels; c++) {
        mean[c] = (float)(totals[c] / count);
        running_mean[c] = (float)((double)running_mean[c] + momentum * (totals[c] / count - (double)running_mean[c]));
    }
    totals = statistics(device, k, SQUARES, NULL, x, mean, arguments->workspace);
    for (int64_t c = 0; c < k->channels; c++) {
        const double variance = totals[c] / count, unbiased = totals[c] / (count > 1 ? count - 1 : 1);
        inverse[c] = (float)(1 / sqrt(variance + (double)k->epsilon));
        factor[c] = weight[c] * inverse[c];
        running_variance[c] =
            (float)((double)running_variance[c] + momentum * (unbiased - (double)running_variance[c]));
    }
    normalise(device, k, x, arguments->output[0], mean, factor, k->bias->data);
    return CARSO_OK;
}

static carso_status training_backward(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments)
{
    const batch_norm_kernel *const k = (const batch_norm_kernel *)kernel;
    const float *const dy = arguments->input[0], *const x = arguments->input[1], *const weight = k->weight->data;
    const float *const mean = arguments->saved, *const inverse = mean + k->channels;
    float *const dx = arguments->output[0], *const weight_gradient = arguments->output[1],
                 *const bias_gradient = arguments->output[2];
    float *const factor = float_row(arguments->workspace, k, 0), *const dy_mean = float_row(arguments->workspace, k, 1);
    float *const slope = float_row(arguments->workspace, k, 2);
    const double count = (double)k->rows;
    const double *const totals = statistics(device, k, PRODUCTS, dy, x, mean, arguments->workspace);
    for (int64_t c = 0; c < k->channels; c++) {
        const double scale = (double)inverse[c], product = totals[k->channels + c];
        factor[c] = weight[c] * inverse[c];
        dy_mean[c] = (float)(totals[c] / count);
        slope[c] = (float)(product * scale * scale / count);
        if (weight_gradient) {
            weight_gradient[c] = (float)(product * scale);
        }
        if (bias_gradient) {
            bias_gradient[c] = (float)totals[c];
        }
    }
    if (!dx) {
        return CARSO_OK;
    }
#pragma omp parallel for schedule(static) num_threads(k->parts) if (k->parts > 1)
    for (int part = 0; part < k->parts; part++) {
        int64_t first, last;
        cso_share(k->rows, k->parts, part, &first, &last);
        const int64_t offset = first * k->channels;
        device->loops->normalise_backward((size_t)(last - first), (size_t)k->channels, dy + offset, x + offset, mean,
                                          factor, dy_mean, slope, dx + offset);
    }
    return CARSO_OK;
}

size_t cso_onednn_batch_norm_saved(const cso_op *op)
{
    return op->attributes.training ? 2 * (size_t)op->input[0].dimension[0] * sizeof(float) : 0;
}

carso_status cso_onednn_batch_norm_prepare(cso_device *device, const cso_op *op, cso_kernel **out)
{
    static const cso_kernel_run runs[2][3] = {
        {evaluation_forward, evaluation_backward_data, evaluation_backward_parameters},
        {training_forward, training_backward, NULL},
    };
    *out = NULL;
    batch_norm_kernel *const k = cso_allocate(device->context, 1, sizeof *k);
    if (!k) {
        return cso_fail_memory(device->context, "kernels");
    }
    k->training = op->attributes.training;
    k->base.run = runs[k->training][op->direction];
    k->direction = op->direction;
    k->rows = op->batch * cso_pixels(&op->input[0]);
    k->channels = op->input[0].dimension[0];
    k->parts = cso_parts(device, k->rows * k->channels);
    k->epsilon = op->attributes.epsilon;
    k->momentum = op->attributes.momentum;
    k->activation = op->direction == CSO_FORWARD && op->epilogue.activate ? op->epilogue.activation : CSO_NO_ACTIVATION;
    k->slope = op->epilogue.slope;
    k->weight = op->parameter[0];
    k->bias = op->parameter[1];
    k->mean = op->parameter[2];
    k->variance = op->parameter[3];
    k->base.workspace = cso_round_up(4 * (size_t)k->channels * sizeof(float)) +
                        2 * (size_t)k->parts * (size_t)k->channels * sizeof(double);
    snprintf(k->base.name, sizeof k->base.name, "loops:%s", device->loops->name);
    *out = &k->base;
    return CARSO_OK;
}
