/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * LINEAR by OpenBLAS. Threads take disjoint rows or columns of the result, and call it one-threaded: no setting of
 * OpenBLAS is touched, and the way a sum is cut never depends on what else the process does.
 */
#include "backends/onednn/device.h"

#include <cblas.h>
#include <stdio.h>
#include <string.h>

enum {
    MOST_THREADS = 64, /* OpenBLAS ends the process when more callers than its build allows want buffers */
    LEAST_COLUMNS = 16 /* of a thread's share */
};

typedef struct linear_kernel {
    cso_kernel base;
    cso_direction direction;
    int64_t batch, in, out;
    const cso_parameter *weight, *bias;
    cso_op_kind activation;
    float slope;
    int threads;
} linear_kernel;

/* y[:, first .. last - 1] */
static void forward(const cso_device *device, const linear_kernel *k, const float *x, float *y, int64_t first, int64_t last)
{
    const float *const weight = (const float *)k->weight->data + first * k->in;
    const int columns = (int)(last - first), in = (int)k->in;
    if (k->batch == 1) {
        cblas_sgemv(CblasRowMajor, CblasNoTrans, columns, in, 1, weight, in, x, 1, 0, y + first, 1);
    } else {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)k->batch, columns, in, 1, x, in, weight, in, 0, y + first,
                    (int)k->out);
    }
    const float *const bias = k->bias ? (const float *)k->bias->data + first : NULL;
    if (bias || k->activation != CSO_NO_ACTIVATION) {
        for (int64_t image = 0; image < k->batch; image++) {
            device->loops->finish(1, (size_t)columns, (size_t)columns + 1, y + image * k->out + first, bias, NULL, k->activation,
                                  k->slope);
        }
    }
}

/* dx[:, first .. last - 1] */
static void backward_data(const linear_kernel *k, const float *dy, float *dx, int64_t first, int64_t last)
{
    const float *const weight = (const float *)k->weight->data + first;
    if (k->batch == 1) {
        cblas_sgemv(CblasRowMajor, CblasTrans, (int)k->out, (int)(last - first), 1, weight, (int)k->in, dy, 1, 0, dx + first, 1);
    } else {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)k->batch, (int)(last - first), (int)k->out, 1, dy, (int)k->out,
                    weight, (int)k->in, 0, dx + first, (int)k->in);
    }
}

/* dw[first .. last - 1, :] */
static void backward_weight(const linear_kernel *k, const float *dy, const float *x, float *dw, int64_t first, int64_t last)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)(last - first), (int)k->in, (int)k->batch, 1, dy + first, (int)k->out, x,
                (int)k->in, 0, dw + first * k->in, (int)k->in);
}

static carso_status linear_run(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments)
{
    const linear_kernel *const k = (const linear_kernel *)kernel;
    const float *const x = arguments->input[0];
    float *const y = arguments->output[0];
    if (k->direction == CSO_BACKWARD_PARAMETERS && arguments->output[1]) {
        double *const totals = arguments->workspace;
        float *const bias = arguments->output[1];
        memset(totals, 0, (size_t)k->out * sizeof *totals);
        device->loops->sum((size_t)k->batch, (size_t)k->out, x, totals);
        for (int64_t o = 0; o < k->out; o++) {
            bias[o] = (float)totals[o];
        }
    }
    if (!y) {
        return CARSO_OK;
    }
    const int64_t count = k->direction == CSO_BACKWARD_DATA ? k->in : k->out;
    const int parts = k->threads;
#pragma omp parallel for schedule(static) num_threads(parts) if (parts > 1)
    for (int part = 0; part < parts; part++) {
        int64_t first, last;
        cso_share(count, parts, part, &first, &last);
        if (first == last) {
            continue;
        }
        switch (k->direction) {
        case CSO_FORWARD: forward(device, k, x, y, first, last); break;
        case CSO_BACKWARD_DATA: backward_data(k, x, y, first, last); break;
        case CSO_BACKWARD_PARAMETERS: backward_weight(k, x, arguments->input[1], y, first, last); break;
        }
    }
    return CARSO_OK;
}

carso_status cso_onednn_linear_prepare(cso_device *device, const cso_op *op, cso_kernel **out)
{
    *out = NULL;
    linear_kernel *const k = cso_allocate(device->context, 1, sizeof *k);
    if (!k) {
        return cso_fail_memory(device->context, "kernels");
    }
    k->base.run = linear_run;
    k->direction = op->direction;
    k->batch = op->batch;
    k->in = op->input[0].dimension[0];
    k->out = op->output.dimension[0];
    k->weight = op->parameter[0];
    k->bias = op->parameter[1];
    k->activation = op->direction == CSO_FORWARD && op->epilogue.activate ? op->epilogue.activation : CSO_NO_ACTIVATION;
    k->slope = op->epilogue.slope;
    const int64_t count = op->direction == CSO_BACKWARD_DATA ? k->in : k->out;
    const int64_t most = (count + LEAST_COLUMNS - 1) / LEAST_COLUMNS;
    k->threads = k->batch * k->in * k->out < CSO_PARALLEL_ELEMENTS ? 1 : device->threads < MOST_THREADS ? device->threads : MOST_THREADS;
    k->threads = most < k->threads ? (int)most : k->threads;
    k->base.workspace = op->direction == CSO_BACKWARD_PARAMETERS ? (size_t)k->out * sizeof(double) : 0;
    snprintf(k->base.name, sizeof k->base.name, "%s:openblas", op->batch == 1 && op->direction != CSO_BACKWARD_PARAMETERS ? "sgemv" : "sgemm");
    *out = &k->base;
    return CARSO_OK;
}
