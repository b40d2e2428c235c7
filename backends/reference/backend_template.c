/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A whole backend for the element type `real`. float.c and double.c define real, ELEMENT, BACKEND, BACKEND_NAME and
 * BACKEND_SUMMARY, and include this.
 */
#include <math.h>
#include <string.h>

#include "backends/reference/kernel.h"

#include "row_template.c"

#include "convolution_template.c"
#include "linear_template.c"
#include "pointwise_template.c"
#include "batch_norm_template.c"
#include "pool_template.c"
#include "shape_template.c"

static carso_status device_create(carso_context *context, int threads, cso_device **out)
{
    (void)threads; /* the oracle computes on the calling thread */
    *out = cso_allocate(context, 1, sizeof **out);
    if (*out == NULL) {
        return cso_fail_memory(context, "devices");
    }
    (*out)->context = context;
    return CARSO_OK;
}

static void device_destroy(cso_device *device)
{
    if (device != NULL) {
        cso_release(device->context, device);
    }
}

/* What runs op; NULL: there is no such operation. */
static cso_reference_run run_of(const cso_op *op)
{
    const bool forward = op->direction == CSO_FORWARD;
    const bool training = op->attributes.training;
    if (op->direction == CSO_BACKWARD_PARAMETERS && op->kind != CSO_OP_CONVOLUTION &&
        op->kind != CSO_OP_TRANSPOSED_CONVOLUTION && op->kind != CSO_OP_LINEAR &&
        (op->kind != CSO_OP_BATCH_NORM || training)) {
        return NULL;
    }
    switch (op->kind) {
    case CSO_OP_CONVOLUTION:
    case CSO_OP_TRANSPOSED_CONVOLUTION:
        return run_convolution;
    case CSO_OP_LINEAR:
        return run_linear;
    case CSO_OP_BATCH_NORM:
        if (training) {
            return forward ? run_batch_norm_training : run_batch_norm_training_backward;
        }
        return run_batch_norm;
    case CSO_OP_RELU:
    case CSO_OP_LEAKY_RELU:
    case CSO_OP_SILU:
    case CSO_OP_SIGMOID:
    case CSO_OP_TANH:
        return forward ? run_activation_forward : run_activation_backward;
    case CSO_OP_ADD:
        return run_add;
    case CSO_OP_SCALE:
        return run_scale;
    case CSO_OP_CONCATENATE:
        return run_concatenate;
    case CSO_OP_FLATTEN:
    case CSO_OP_UNFLATTEN:
        return run_copy;
    case CSO_OP_MAX_POOL:
        return forward ? run_max_pool : run_max_pool_backward;
    case CSO_OP_AVERAGE_POOL:
        return run_average_pool;
    case CSO_OP_GLOBAL_AVERAGE_POOL:
        return run_global_average_pool;
    case CSO_OP_STANDARDISE:
        return run_standardise;
    case CSO_OP_COUNT:
        break;
    }
    return NULL;
}

static bool supports(const cso_device *device, const cso_op *op)
{
    (void)device;
    return run_of(op) != NULL;
}

static carso_status prepare(cso_device *device, const cso_op *op, cso_kernel **out)
{
    *out = NULL;
    const cso_reference_run run = run_of(op);
    if (run == NULL) {
        return cso_fail(device->context, CARSO_ERROR_UNSUPPORTED, "operation %d has no direction %d on this backend",
                        (int)op->kind, (int)op->direction);
    }
    cso_kernel *kernel =
        cso_allocate(device->context, 1, sizeof *kernel + (size_t)op->input_count * sizeof kernel->input[0]);
    if (kernel == NULL) {
        return cso_fail_memory(device->context, "kernels");
    }
    kernel->op = *op;
    memcpy(kernel->input, op->input, (size_t)op->input_count * sizeof kernel->input[0]);
    kernel->op.input = kernel->input;
    kernel->run = run;
    if (op->kind == CSO_OP_CONVOLUTION || op->kind == CSO_OP_TRANSPOSED_CONVOLUTION) {
        kernel->workspace_size = convolution_workspace(op);
    } else if (op->kind == CSO_OP_LINEAR) {
        kernel->workspace_size = linear_workspace(op);
    } else if (op->kind == CSO_OP_MAX_POOL || op->kind == CSO_OP_AVERAGE_POOL) {
        kernel->workspace_size = pool_workspace(op);
    }
    *out = kernel;
    return CARSO_OK;
}

static void kernel_destroy(cso_device *device, cso_kernel *kernel)
{
    cso_release(device->context, kernel);
}

static size_t workspace_size(const cso_kernel *kernel)
{
    return kernel->workspace_size;
}

static size_t saved_size(const cso_device *device, const cso_op *op)
{
    (void)device;
    if (op->kind == CSO_OP_MAX_POOL) {
        return max_pool_saved(op);
    }
    return op->kind == CSO_OP_BATCH_NORM && op->attributes.training ? batch_norm_saved(op) : 0;
}

static const char *kernel_name(const cso_kernel *kernel)
{
    (void)kernel;
    return BACKEND_NAME;
}

static carso_status run(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments)
{
    (void)device;
    kernel->run(kernel, arguments);
    return CARSO_OK;
}

static carso_status accumulate(cso_device *device, void *destination, const void *source, size_t count)
{
    (void)device;
    real *sum = destination;
    const real *term = source;
    for (size_t i = 0; i < count; i++) {
        sum[i] += term[i];
    }
    return CARSO_OK;
}

const cso_backend BACKEND = {
    .interface = CSO_BACKEND_INTERFACE,
    .name = BACKEND_NAME,
    .summary = BACKEND_SUMMARY,
    .element = ELEMENT,
    .layout = CSO_NCHW,
    .host_memory = true,
    .device_create = device_create,
    .device_destroy = device_destroy,
    .supports = supports,
    .prepare = prepare,
    .kernel_destroy = kernel_destroy,
    .workspace_size = workspace_size,
    .saved_size = saved_size,
    .kernel_name = kernel_name,
    .run = run,
    .accumulate = accumulate,
};
