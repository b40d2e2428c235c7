/* SPDX-License-Identifier: BSD-2-Clause */
/* CONCATENATE, FLATTEN, UNFLATTEN: elements change place only. */
#include "backends/onednn/device.h"

#include <stdio.h>
#include <string.h>

typedef struct arrangement_kernel {
    cso_kernel base;
    bool join;      /* CONCATENATE forward; its backward splits */
    bool to_planes; /* [pixel][channel] to [channel][pixel], or back */
    int64_t batch, pixels, channels;
    int input_count;
    int64_t share[]; /* channels of each of CONCATENATE's inputs */
} arrangement_kernel;

static carso_status concatenate_run(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments)
{
    const arrangement_kernel *const k = (const arrangement_kernel *)kernel;
    const int64_t rows = k->batch * k->pixels;
    const int parts = cso_parts(device, rows * k->channels);
#pragma omp parallel for schedule(static) num_threads(parts) if (parts > 1)
    for (int part = 0; part < parts; part++) {
        int64_t first, last, start = 0;
        cso_share(rows, parts, part, &first, &last);
        for (int i = 0; i < k->input_count; start += k->share[i++]) {
            const int64_t share = k->share[i];
            const size_t bytes = (size_t)share * sizeof(float);
            const float *const from = k->join ? arguments->input[i] : arguments->input[0];
            float *const to = k->join ? arguments->output[0] : arguments->output[i];
            for (int64_t row = first; row < last && to; row++) {
                if (k->join) {
                    memcpy(to + row * k->channels + start, from + row * share, bytes);
                } else {
                    memcpy(to + row * share, from + row * k->channels + start, bytes);
                }
            }
        }
    }
    return CARSO_OK;
}

/* rows x columns to columns x rows, by tiles that stay in the cache. */
static void transpose(int64_t rows, int64_t columns, const float *from, float *to)
{
    enum { TILE = 16 };
    for (int64_t r = 0; r < rows; r += TILE) {
        const int64_t row_end = r + TILE < rows ? r + TILE : rows;
        for (int64_t c = 0; c < columns; c += TILE) {
            const int64_t column_end = c + TILE < columns ? c + TILE : columns;
            for (int64_t i = r; i < row_end; i++) {
                for (int64_t j = c; j < column_end; j++) {
                    to[j * rows + i] = from[i * columns + j];
                }
            }
        }
    }
}

static carso_status turn_run(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments)
{
    const arrangement_kernel *const k = (const arrangement_kernel *)kernel;
    const int64_t image = k->pixels * k->channels;
    const float *const from = arguments->input[0];
    float *const to = arguments->output[0];
    if (!to) {
        return CARSO_OK;
    }
    if (k->pixels == 1 || k->channels == 1) {
        memcpy(to, from, (size_t)(k->batch * image) * sizeof *to);
        return CARSO_OK;
    }
    const int parts = cso_parts(device, k->batch * image);
#pragma omp parallel for schedule(static) num_threads(parts) if (parts > 1)
    for (int part = 0; part < parts; part++) {
        int64_t first, last;
        cso_share(k->batch, parts, part, &first, &last);
        for (int64_t i = first; i < last; i++) {
            transpose(k->to_planes ? k->pixels : k->channels, k->to_planes ? k->channels : k->pixels, from + i * image,
                      to + i * image);
        }
    }
    return CARSO_OK;
}

carso_status cso_onednn_arrangement_prepare(cso_device *device, const cso_op *op, cso_kernel **out)
{
    *out = NULL;
    const bool concatenate = op->kind == CSO_OP_CONCATENATE, forward = op->direction == CSO_FORWARD;
    const size_t shares = concatenate ? (size_t)op->input_count : 0;
    arrangement_kernel *const k = cso_allocate(device->context, 1, sizeof *k + shares * sizeof k->share[0]);
    if (!k) {
        return cso_fail_memory(device->context, "kernels");
    }
    const cso_shape *const image = op->kind == CSO_OP_FLATTEN ? &op->input[0] : &op->output;
    k->base.run = concatenate ? concatenate_run : turn_run;
    k->join = forward;
    k->to_planes = (op->kind == CSO_OP_FLATTEN) == forward;
    k->batch = op->batch;
    k->channels = image->dimension[0];
    k->pixels = cso_pixels(image);
    k->input_count = op->input_count;
    for (size_t i = 0; i < shares; i++) {
        k->share[i] = op->input[i].dimension[0];
    }
    snprintf(k->base.name, sizeof k->base.name, "copy");
    *out = &k->base;
    return CARSO_OK;
}
