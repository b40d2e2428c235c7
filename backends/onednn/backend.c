/* SPDX-License-Identifier: BSD-2-Clause */
/* The oneDNN backend's table, its device, and what every kernel shares. */
#include "backends/onednn/convolution.h"

#include <cblas.h>
#include <omp.h>

carso_status cso_onednn_check(const cso_device *device, dnnl_status_t status, const char *operation)
{
    switch ((int)status) {
    case dnnl_success: return CARSO_OK;
    case dnnl_out_of_memory:
        return cso_fail(device->context, CARSO_ERROR_OUT_OF_MEMORY, "oneDNN ran out of memory for a %s; use smaller batches", operation);
    case dnnl_unimplemented: return cso_fail(device->context, CARSO_ERROR_UNSUPPORTED, "oneDNN cannot do a %s of this shape", operation);
    default: return cso_fail(device->context, CARSO_ERROR_BACKEND, "oneDNN failed at a %s with status %d", operation, (int)status);
    }
}

static const cso_loops *choose_loops(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
        return &cso_loops_avx512;
    }
    if (__builtin_cpu_supports("avx2")) {
        return &cso_loops_avx2;
    }
#endif
    return &cso_loops_portable;
}

static void device_destroy(cso_device *device)
{
    if (!device) {
        return;
    }
    if (device->engine) {
        dnnl_engine_destroy(device->engine);
    }
    cso_release(device->context, device);
}

static carso_status device_create(carso_context *context, int threads, cso_device **out)
{
    *out = NULL;
    const dnnl_version_t *const version = dnnl_version();
    if (version->major != DNNL_VERSION_MAJOR) {
        return cso_fail(context, CARSO_ERROR_UNSUPPORTED, "this build is for oneDNN %d, the library found is %d.%d.%d",
                        DNNL_VERSION_MAJOR, version->major, version->minor, version->patch);
    }
    cso_device *const device = cso_allocate(context, 1, sizeof *device);
    if (!device) {
        return cso_fail_memory(context, "devices");
    }
    device->context = context;
    device->threads = threads;
    device->loops = choose_loops();
    const carso_status status = cso_onednn_check(device, dnnl_engine_create(&device->engine, dnnl_cpu, 0), "CPU engine");
    if (status != CARSO_OK) {
        device_destroy(device);
        return status;
    }
    if (openblas_get_parallel() == OPENBLAS_THREAD) {
        cso_log(context, CARSO_LOG_WARNING,
                "the OpenBLAS found has its own thread pool beside OpenMP's, which slows linear layers; install its OpenMP variant "
                "(libopenblas0-openmp)");
    }
    cso_log(context, CARSO_LOG_DEBUG, "oneDNN %d.%d.%d, loops %s, %d threads", version->major, version->minor, version->patch,
            device->loops->name, threads);
    *out = device;
    return CARSO_OK;
}

/*
 * Three settings of the calling thread, packed in an int. Nested regions are allowed while inside, as oneDNN's kernels
 * count on as many threads as they were prepared for, even where the application calls from a parallel region.
 */
void cso_onednn_begin(cso_device *device, int *state)
{
    const int levels = omp_get_max_active_levels(), needed = omp_get_active_level() + 1;
    *state = (omp_get_max_threads() & 0xffff) | (levels & 0xff) << 16 | (omp_get_dynamic() ? 1 << 24 : 0);
    omp_set_num_threads(device->threads);
    if (levels < needed) {
        omp_set_max_active_levels(needed);
    }
    omp_set_dynamic(0);
}

void cso_onednn_end(cso_device *device, int state)
{
    (void)device;
    omp_set_num_threads(state & 0xffff);
    omp_set_max_active_levels(state >> 16 & 0xff);
    omp_set_dynamic(state >> 24 & 1);
}

static bool supports(const cso_device *device, const cso_op *op)
{
    (void)device;
    if (op->direction == CSO_BACKWARD_PARAMETERS) {
        return op->kind == CSO_OP_CONVOLUTION || op->kind == CSO_OP_TRANSPOSED_CONVOLUTION || op->kind == CSO_OP_LINEAR ||
               (op->kind == CSO_OP_BATCH_NORM && !op->attributes.training);
    }
    return op->kind >= 0 && op->kind < CSO_OP_COUNT;
}

static carso_status prepare(cso_device *device, const cso_op *op, cso_kernel **out)
{
    carso_status status;
    int state;
    *out = NULL;
    cso_onednn_begin(device, &state); /* a primitive is made for the number of threads that it will run with */
    switch (op->kind) {
    case CSO_OP_CONVOLUTION:
    case CSO_OP_TRANSPOSED_CONVOLUTION: status = cso_onednn_convolution_prepare(device, op, out); break;
    case CSO_OP_LINEAR: status = cso_onednn_linear_prepare(device, op, out); break;
    case CSO_OP_BATCH_NORM: status = cso_onednn_batch_norm_prepare(device, op, out); break;
    case CSO_OP_CONCATENATE:
    case CSO_OP_FLATTEN:
    case CSO_OP_UNFLATTEN: status = cso_onednn_arrangement_prepare(device, op, out); break;
    case CSO_OP_MAX_POOL:
    case CSO_OP_AVERAGE_POOL:
    case CSO_OP_GLOBAL_AVERAGE_POOL: status = cso_onednn_pool_prepare(device, op, out); break;
    default: status = cso_onednn_pointwise_prepare(device, op, out); break;
    }
    cso_onednn_end(device, state);
    return status;
}

static void kernel_destroy(cso_device *device, cso_kernel *kernel)
{
    if (!kernel) {
        return;
    }
    if (kernel->destroy) {
        kernel->destroy(device, kernel);
    }
    cso_release(device->context, kernel);
}

static size_t workspace_size(const cso_kernel *kernel) { return kernel->workspace; }

static size_t saved_size(const cso_device *device, const cso_op *op)
{
    (void)device;
    return op->kind == CSO_OP_BATCH_NORM ? cso_onednn_batch_norm_saved(op) : cso_onednn_pool_saved(op);
}

static const char *kernel_name(const cso_kernel *kernel) { return kernel->name; }

static carso_status run(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments)
{
    return kernel->run(device, kernel, arguments);
}

static carso_status accumulate(cso_device *device, void *destination, const void *source, size_t count)
{
    const int parts = cso_parts(device, (int64_t)count);
#pragma omp parallel for schedule(static) num_threads(parts) if (parts > 1)
    for (int part = 0; part < parts; part++) {
        int64_t first, last;
        cso_share((int64_t)count, parts, part, &first, &last);
        float *const to = (float *)destination + first;
        device->loops->add((size_t)(last - first), to, (const float *)source + first, to);
    }
    return CARSO_OK;
}

const cso_backend cso_backend_onednn = {
    .interface = CSO_BACKEND_INTERFACE,
    .name = "onednn",
    .summary = "CPU: oneDNN, OpenBLAS and vectorised loops in float",
    .element = CSO_F32,
    .layout = CSO_NHWC,
    .host_memory = true,
    .device_create = device_create,
    .device_destroy = device_destroy,
    .begin = cso_onednn_begin,
    .end = cso_onednn_end,
    .supports = supports,
    .prepare = prepare,
    .kernel_destroy = kernel_destroy,
    .workspace_size = workspace_size,
    .saved_size = saved_size,
    .kernel_name = kernel_name,
    .run = run,
    .accumulate = accumulate,
    .packed_release = cso_packed_release,
};
