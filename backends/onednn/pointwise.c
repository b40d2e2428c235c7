/* SPDX-License-Identifier: BSD-2-Clause */
/* Activations, ADD, SCALE, STANDARDISE. */
#include "backends/onednn/device.h"

#include <stdio.h>
#include <string.h>

typedef struct pointwise_kernel {
    cso_kernel base;
    cso_op_kind kind;
    cso_direction direction;
    int64_t elements, channels;
    float slope, factor;
    cso_op_kind activation; /* ADD's epilogue */
    float mean[4], inverse[4];
} pointwise_kernel;

static void activation_part(const cso_device *device, const pointwise_kernel *k, const cso_arguments *a, int64_t first,
                            size_t count)
{
    const float *const x = a->input[0];
    float *const y = a->output[0];
    if (k->direction == CSO_FORWARD) {
        device->loops->activate(count, k->kind, k->slope, x + first, y + first);
    } else {
        device->loops->activate_backward(count, k->kind, k->slope, x + first, (const float *)a->input[1] + first,
                                         y + first);
    }
}

static void add_part(const cso_device *device, const pointwise_kernel *k, const cso_arguments *a, int64_t first,
                     size_t count)
{
    const float *const x = a->input[0];
    if (k->direction == CSO_FORWARD) {
        enum { BLOCK = 2048 }; /* stays in the first-level cache for the activation */
        const float *const other = a->input[1];
        float *const y = a->output[0];
        for (size_t done = 0; done < count; done += BLOCK) {
            const size_t size = count - done < BLOCK ? count - done : BLOCK;
            float *const to = y + first + done;
            device->loops->add(size, x + first + done, other + first + done, to);
            if (k->activation != CSO_NO_ACTIVATION) {
                device->loops->activate(size, k->activation, k->slope, to, to);
            }
        }
        return;
    }
    for (int i = 0; i < 2; i++) {
        float *const dx = a->output[i];
        if (dx && dx != x) {
            memcpy(dx + first, x + first, count * sizeof *dx);
        }
    }
}

static void standardise_part(const cso_device *device, const pointwise_kernel *k, const cso_arguments *a, int64_t first,
                             size_t count)
{
    static const float zero[4];
    const bool forward = k->direction == CSO_FORWARD;
    device->loops->normalise(count / (size_t)k->channels, (size_t)k->channels, (const float *)a->input[0] + first,
                             (float *)a->output[0] + first, forward ? k->mean : zero, k->inverse, zero,
                             CSO_NO_ACTIVATION, 0);
}

static carso_status pointwise_run(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments)
{
    const pointwise_kernel *const k = (const pointwise_kernel *)kernel;
    if (!arguments->output[0] && k->kind != CSO_OP_ADD) {
        return CARSO_OK;
    }
    const int64_t unit = k->kind == CSO_OP_STANDARDISE ? k->channels : 1;
    const int parts = cso_parts(device, k->elements);
#pragma omp parallel for schedule(static) num_threads(parts) if (parts > 1)
    for (int part = 0; part < parts; part++) {
        int64_t first, last;
        cso_share(k->elements / unit, parts, part, &first, &last);
        first *= unit;
        const size_t count = (size_t)(last * unit - first);
        switch ((int)k->kind) {
        case CSO_OP_ADD: add_part(device, k, arguments, first, count); break;
        case CSO_OP_SCALE:
            device->loops->scale(count, k->factor, (const float *)arguments->input[0] + first,
                                 (float *)arguments->output[0] + first);
            break;
        case CSO_OP_STANDARDISE: standardise_part(device, k, arguments, first, count); break;
        default: activation_part(device, k, arguments, first, count); break;
        }
    }
    return CARSO_OK;
}

carso_status cso_onednn_pointwise_prepare(cso_device *device, const cso_op *op, cso_kernel **out)
{
    *out = NULL;
    pointwise_kernel *const k = cso_allocate(device->context, 1, sizeof *k);
    if (!k) {
        return cso_fail_memory(device->context, "kernels");
    }
    k->base.run = pointwise_run;
    k->kind = op->kind;
    k->direction = op->direction;
    k->elements = op->batch * cso_elements(&op->output);
    k->channels = op->output.dimension[0];
    k->slope = op->kind == CSO_OP_ADD ? op->epilogue.slope : op->attributes.slope;
    k->factor = op->attributes.factor;
    k->activation = op->kind == CSO_OP_ADD && op->direction == CSO_FORWARD && op->epilogue.activate
                        ? op->epilogue.activation
                        : CSO_NO_ACTIVATION;
    if (op->kind == CSO_OP_STANDARDISE) {
        for (int c = 0; c < 4 && c < k->channels; c++) {
            k->mean[c] = op->attributes.mean[c];
            k->inverse[c] = (float)(1 / (double)op->attributes.deviation[c]);
        }
    }
    snprintf(k->base.name, sizeof k->base.name, "loops:%s", device->loops->name);
    *out = &k->base;
    return CARSO_OK;
}
