/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * LINEAR by OpenBLAS, and of few rows with many weights by an own loop. Threads take disjoint rows or columns of the
 * result, and call OpenBLAS one-threaded: none of its settings is touched, and the way a sum is cut never depends on
 * what else the process does.
 */
#include "backends/onednn/device.h"
#include "backends/onednn/thin.h"

#include <cblas.h>
#include <stdio.h>
#include <string.h>

enum {
    MOST_THREADS = 64, /* OpenBLAS ends the process when more callers than its build allows want buffers */
    LEAST_SHARE = 8,   /* rows or columns for a thread */
    /* Where the own loop was measured to be faster: for 2 to so many rows, and from so many bytes of weights on. */
    THIN_ROWS = 16,
    THIN_FORWARD = 4 << 20,
    THIN_BACKWARD = 32 << 20
};

typedef struct linear_kernel {
    cso_kernel base;
    cso_direction direction;
    int64_t batch, in, out;
    const cso_parameter *weight, *bias;
    cso_op_kind activation;
    float slope;
    int64_t rows, columns; /* of the result */
    bool by_rows;          /* what threads divide */
    const cso_thin *thin;  /* NULL: OpenBLAS */
    int threads;
} linear_kernel;

/* Part of the result: so many rows and columns from a first one on. */
typedef struct block {
    int64_t row, column;
    int rows, columns;
} block;

static void forward(const cso_device *device, const linear_kernel *k, const float *x, float *y, block b)
{
    const float *const weight = (const float *)k->weight->data + b.column * k->in;
    const int in = (int)k->in;
    float *const to = y + b.row * k->out + b.column;
    if (k->thin) {
        k->thin->forward(b.rows, k->in, b.columns, x + b.row * k->in, weight, to, k->out);
    } else if (k->batch == 1) {
        cblas_sgemv(CblasRowMajor, CblasNoTrans, b.columns, in, 1, weight, in, x, 1, 0, to, 1);
    } else {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, b.rows, b.columns, in, 1, x + b.row * k->in, in, weight,
                    in, 0, to, (int)k->out);
    }
    const float *const bias = k->bias ? (const float *)k->bias->data + b.column : NULL;
    if (bias || k->activation != CSO_NO_ACTIVATION) {
        device->loops->finish((size_t)b.rows, (size_t)b.columns, (size_t)k->out, to, bias, NULL, k->activation,
                              k->slope);
    }
}

static void backward_data(const linear_kernel *k, const float *dy, float *dx, block b)
{
    const float *const weight = (const float *)k->weight->data + b.column;
    float *const to = dx + b.row * k->in + b.column;
    const int in = (int)k->in, out = (int)k->out;
    if (k->thin) {
        k->thin->backward(b.rows, k->in, k->out, b.columns, dy + b.row * k->out, weight, to);
    } else if (k->batch == 1) {
        cblas_sgemv(CblasRowMajor, CblasTrans, out, b.columns, 1, weight, in, dy, 1, 0, to, 1);
    } else {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, b.rows, b.columns, out, 1, dy + b.row * k->out, out,
                    weight, in, 0, to, in);
    }
}

static void backward_weight(const linear_kernel *k, const float *dy, const float *x, float *dw, block b)
{
    const int in = (int)k->in;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, b.rows, b.columns, (int)k->batch, 1, dy + b.row, (int)k->out,
                x + b.column, in, 0, dw + b.row * k->in + b.column, in);
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
    const int parts = k->threads;
#pragma omp parallel for schedule(static) num_threads(parts) if (parts > 1)
    for (int part = 0; part < parts; part++) {
        int64_t first, last;
        cso_share(k->by_rows ? k->rows : k->columns, parts, part, &first, &last);
        const block b = {.row = k->by_rows ? first : 0,
                         .column = k->by_rows ? 0 : first,
                         .rows = (int)(k->by_rows ? last - first : k->rows),
                         .columns = (int)(k->by_rows ? k->columns : last - first)};
        switch (k->direction) {
        case CSO_FORWARD: forward(device, k, x, y, b); break;
        case CSO_BACKWARD_DATA: backward_data(k, x, y, b); break;
        case CSO_BACKWARD_PARAMETERS: backward_weight(k, x, arguments->input[1], y, b); break;
        }
    }
    return CARSO_OK;
}

const cso_thin *cso_thin_choose(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) {
        return &cso_thin_avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return &cso_thin_avx2;
    }
#endif
    return NULL;
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
    k->rows = op->direction == CSO_BACKWARD_PARAMETERS ? k->out : k->batch;
    k->columns = op->direction == CSO_FORWARD ? k->out : k->in;
    k->by_rows = k->rows > k->columns;
    const int64_t most = ((k->by_rows ? k->rows : k->columns) + LEAST_SHARE - 1) / LEAST_SHARE;
    k->threads = k->batch * k->in * k->out < CSO_PARALLEL_ELEMENTS ? 1
                 : device->threads < MOST_THREADS                  ? device->threads
                                                                   : MOST_THREADS;
    k->threads = most < k->threads ? (int)most : k->threads;
    k->base.workspace = op->direction == CSO_BACKWARD_PARAMETERS ? (size_t)k->out * sizeof(double) : 0;
    const int64_t least = op->direction == CSO_FORWARD ? THIN_FORWARD : THIN_BACKWARD;
    if (op->direction != CSO_BACKWARD_PARAMETERS && !k->by_rows && k->batch > 1 && k->batch <= THIN_ROWS &&
        k->in * k->out * (int64_t)sizeof(float) >= least) {
        k->thin = device->thin;
    }
    snprintf(k->base.name, sizeof k->base.name, "%s",
             k->thin                                                           ? k->thin->name
             : op->batch == 1 && op->direction != CSO_BACKWARD_PARAMETERS ? "sgemv:openblas"
                                                                               : "sgemm:openblas");
    *out = &k->base;
    return CARSO_OK;
}
