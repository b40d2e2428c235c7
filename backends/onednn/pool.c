/* SPDX-License-Identifier: BSD-2-Clause */
/* MAX_POOL, AVERAGE_POOL, GLOBAL_AVERAGE_POOL: loops along the channels of a pixel, images divided among threads. */
#include "backends/onednn/device.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct pool_kernel {
    cso_kernel base;
    cso_op_kind kind;
    int64_t batch, channels;
    int64_t in[2], out[2];
    cso_attributes attributes;
} pool_kernel;

/* The part of a window that is inside the image, along one axis: kernel positions first .. last - 1, and where it
 * starts. */
static void window(const pool_kernel *k, int axis, int64_t position, int64_t *first, int64_t *last, int64_t *start)
{
    const int64_t begin = position * k->attributes.stride[axis] - k->attributes.pad_begin[axis];
    const int64_t end = k->in[axis] - begin, size = k->attributes.kernel[axis];
    *first = begin < 0 ? -begin : 0;
    *last = end < size ? end : size;
    *start = begin;
}

static void maximum_forward(const cso_device *device, const pool_kernel *k, const float *x, float *y, int32_t *position)
{
    const size_t channels = (size_t)k->channels;
    for (int64_t oy = 0; oy < k->out[0]; oy++) {
        for (int64_t ox = 0; ox < k->out[1]; ox++, y += channels, position += channels) {
            int64_t first[2], last[2], start[2];
            window(k, 0, oy, &first[0], &last[0], &start[0]);
            window(k, 1, ox, &first[1], &last[1], &start[1]);
            for (size_t c = 0; c < channels; c++) {
                y[c] = -INFINITY;
                position[c] = (int32_t)(first[0] * k->attributes.kernel[1] + first[1]);
            }
            for (int64_t i = first[0]; i < last[0]; i++) {
                for (int64_t j = first[1]; j < last[1]; j++) {
                    const float *const pixel = x + ((start[0] + i) * k->in[1] + start[1] + j) * k->channels;
                    device->loops->maximum(channels, pixel, (int32_t)(i * k->attributes.kernel[1] + j), y, position);
                }
            }
        }
    }
}

static void maximum_backward(const cso_device *device, const pool_kernel *k, const float *dy, const int32_t *position,
                             float *dx)
{
    const size_t channels = (size_t)k->channels;
    memset(dx, 0, (size_t)(k->in[0] * k->in[1]) * channels * sizeof *dx);
    for (int64_t oy = 0; oy < k->out[0]; oy++) {
        for (int64_t ox = 0; ox < k->out[1]; ox++, dy += channels, position += channels) {
            int64_t first[2], last[2], start[2];
            window(k, 0, oy, &first[0], &last[0], &start[0]);
            window(k, 1, ox, &first[1], &last[1], &start[1]);
            for (int64_t i = first[0]; i < last[0]; i++) {
                for (int64_t j = first[1]; j < last[1]; j++) {
                    float *const pixel = dx + ((start[0] + i) * k->in[1] + start[1] + j) * k->channels;
                    device->loops->select_add(channels, dy, position, (int32_t)(i * k->attributes.kernel[1] + j),
                                              pixel);
                }
            }
        }
    }
}

static void average(const cso_device *device, const pool_kernel *k, bool forward, const float *from, float *to)
{
    const size_t channels = (size_t)k->channels;
    const int64_t target = forward ? k->out[0] * k->out[1] : k->in[0] * k->in[1];
    memset(to, 0, (size_t)target * channels * sizeof *to);
    for (int64_t oy = 0; oy < k->out[0]; oy++) {
        for (int64_t ox = 0; ox < k->out[1]; ox++) {
            int64_t first[2], last[2], start[2];
            window(k, 0, oy, &first[0], &last[0], &start[0]);
            window(k, 1, ox, &first[1], &last[1], &start[1]);
            const int64_t inside = (last[0] - first[0]) * (last[1] - first[1]);
            const int64_t all = (int64_t)k->attributes.kernel[0] * k->attributes.kernel[1];
            const float factor = 1.0f / (float)(k->attributes.count_padding ? all : inside);
            const int64_t small = (oy * k->out[1] + ox) * k->channels;
            for (int64_t i = first[0]; i < last[0]; i++) {
                for (int64_t j = first[1]; j < last[1]; j++) {
                    const int64_t large = ((start[0] + i) * k->in[1] + start[1] + j) * k->channels;
                    device->loops->multiply_add(channels, factor, from + (forward ? large : small),
                                                to + (forward ? small : large));
                }
            }
        }
    }
}

static void global_average(const cso_device *device, const pool_kernel *k, bool forward, const float *from, float *to,
                           double *totals)
{
    const size_t channels = (size_t)k->channels, pixels = (size_t)(k->in[0] * k->in[1]);
    if (!forward) {
        for (size_t p = 0; p < pixels; p++) {
            device->loops->scale(channels, 1.0f / (float)pixels, from, to + p * channels);
        }
        return;
    }
    memset(totals, 0, channels * sizeof *totals);
    device->loops->sum(pixels, channels, from, totals);
    for (size_t c = 0; c < channels; c++) {
        to[c] = (float)(totals[c] / (double)pixels);
    }
}

static carso_status run(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments, bool forward)
{
    const pool_kernel *const k = (const pool_kernel *)kernel;
    const int64_t in = k->in[0] * k->in[1] * k->channels, out = k->out[0] * k->out[1] * k->channels;
    const float *const from = arguments->input[0];
    float *const to = arguments->output[0];
    int32_t *const position = arguments->saved;
    double *const totals = arguments->workspace;
    if (!to) {
        return CARSO_OK;
    }
    const int parts = cso_parts(device, k->batch * in);
#pragma omp parallel for schedule(static) num_threads(parts) if (parts > 1)
    for (int part = 0; part < parts; part++) {
        int64_t first, last;
        cso_share(k->batch, parts, part, &first, &last);
        for (int64_t image = first; image < last; image++) {
            const float *const image_from = from + image * (forward ? in : out);
            float *const image_to = to + image * (forward ? out : in);
            if (k->kind == CSO_OP_AVERAGE_POOL) {
                average(device, k, forward, image_from, image_to);
            } else if (k->kind == CSO_OP_GLOBAL_AVERAGE_POOL) {
                global_average(device, k, forward, image_from, image_to, forward ? totals + part * k->channels : NULL);
            } else if (forward) {
                maximum_forward(device, k, image_from, image_to, position + image * out);
            } else {
                maximum_backward(device, k, image_from, position + image * out, image_to);
            }
        }
    }
    return CARSO_OK;
}

static carso_status forward_run(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments)
{
    return run(device, kernel, arguments, true);
}

static carso_status backward_run(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments)
{
    return run(device, kernel, arguments, false);
}

size_t cso_onednn_pool_saved(const cso_op *op)
{
    return op->kind == CSO_OP_MAX_POOL ? (size_t)(op->batch * cso_elements(&op->output)) * sizeof(int32_t) : 0;
}

carso_status cso_onednn_pool_prepare(cso_device *device, const cso_op *op, cso_kernel **out)
{
    const bool global = op->kind == CSO_OP_GLOBAL_AVERAGE_POOL, forward = op->direction == CSO_FORWARD;
    *out = NULL;
    pool_kernel *const k = cso_allocate(device->context, 1, sizeof *k);
    if (!k) {
        return cso_fail_memory(device->context, "kernels");
    }
    k->base.run = forward ? forward_run : backward_run;
    k->base.workspace =
        global && forward ? (size_t)device->threads * (size_t)op->input[0].dimension[0] * sizeof(double) : 0;
    k->kind = op->kind;
    k->batch = op->batch;
    k->channels = op->input[0].dimension[0];
    k->attributes = op->attributes;
    for (int i = 0; i < 2; i++) {
        k->in[i] = op->input[0].dimension[1 + i];
        k->out[i] = global ? 1 : op->output.dimension[1 + i];
    }
    snprintf(k->base.name, sizeof k->base.name, "loops:%s", device->loops->name);
    *out = &k->base;
    return CARSO_OK;
}
