/* SPDX-License-Identifier: BSD-2-Clause */
/* The oneDNN backend's table, its device, and what every kernel shares. */
#include "backends/onednn/thin.h"
#include "backends/onednn/winograd.h"

#include <cblas.h>
#include <omp.h>

enum { DYNAMIC_BIT = 1 << 30 };

carso_status cso_onednn_check(const cso_device *device, dnnl_status_t status, const char *operation)
{
    switch ((int)status) {
    case dnnl_success: return CARSO_OK;
    case dnnl_out_of_memory:
        return cso_fail(device->context, CARSO_ERROR_OUT_OF_MEMORY,
                        "oneDNN ran out of memory for a %s; use smaller batches", operation);
    case dnnl_unimplemented:
        return cso_fail(device->context, CARSO_ERROR_UNSUPPORTED, "oneDNN cannot do a %s of this shape", operation);
    default:
        return cso_fail(device->context, CARSO_ERROR_BACKEND, "oneDNN failed at a %s with status %d", operation,
                        (int)status);
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
    if (context->convolution != CARSO_CONVOLUTION_DIRECT) {
        device->winograd_complex = cso_winograd_of_processor(true);
    }
    if (context->convolution == CARSO_CONVOLUTION_AUTOMATIC) {
        device->winograd = cso_winograd_of_processor(false);
    }
    device->thin = cso_thin_choose();
    const carso_status status =
        cso_onednn_check(device, dnnl_engine_create(&device->engine, dnnl_cpu, 0), "CPU engine");
    if (status != CARSO_OK) {
        device_destroy(device);
        return status;
    }
    if (openblas_get_parallel() == OPENBLAS_THREAD) {
        cso_log(context, CARSO_LOG_WARNING,
                "the OpenBLAS found has its own thread pool beside OpenMP's, which slows linear layers; install its "
                "OpenMP variant "
                "(libopenblas0-openmp)");
    }
    cso_log(context, CARSO_LOG_DEBUG, "oneDNN %d.%d.%d, loops %s, %d threads", version->major, version->minor,
            version->patch, device->loops->name, threads);
    *out = device;
    return CARSO_OK;
}

/* Two settings of the calling thread, packed in an int. */
void cso_onednn_begin(cso_device *device, int *state)
{
    *state = omp_get_max_threads() | (omp_get_dynamic() ? DYNAMIC_BIT : 0);
    omp_set_num_threads(device->threads);
    omp_set_dynamic(0);
}

void cso_onednn_end(cso_device *device, int state)
{
    (void)device;
    omp_set_num_threads(state & ~DYNAMIC_BIT);
    omp_set_dynamic((state & DYNAMIC_BIT) != 0);
}

static bool supports(const cso_device *device, const cso_op *op)
{
    (void)device;
    if (op->direction == CSO_BACKWARD_PARAMETERS) {
        return op->kind == CSO_OP_CONVOLUTION || op->kind == CSO_OP_TRANSPOSED_CONVOLUTION ||
               op->kind == CSO_OP_LINEAR || (op->kind == CSO_OP_BATCH_NORM && !op->attributes.training);
    }
    return op->kind >= 0 && op->kind < CSO_OP_COUNT;
}

static carso_status prepare_kind(cso_device *device, const cso_op *op, cso_kernel **out)
{
    switch (op->kind) {
    case CSO_OP_CONVOLUTION:
    case CSO_OP_TRANSPOSED_CONVOLUTION: return cso_onednn_convolution_prepare(device, op, out);
    case CSO_OP_LINEAR: return cso_onednn_linear_prepare(device, op, out);
    case CSO_OP_BATCH_NORM: return cso_onednn_batch_norm_prepare(device, op, out);
    case CSO_OP_CONCATENATE:
    case CSO_OP_FLATTEN:
    case CSO_OP_UNFLATTEN: return cso_onednn_arrangement_prepare(device, op, out);
    case CSO_OP_MAX_POOL:
    case CSO_OP_AVERAGE_POOL:
    case CSO_OP_GLOBAL_AVERAGE_POOL: return cso_onednn_pool_prepare(device, op, out);
    default: return cso_onednn_pointwise_prepare(device, op, out);
    }
}

/* One preparation (op set) or run (op NULL). */
typedef struct task {
    cso_device *device;
    const cso_op *op;
    cso_kernel **out;
    cso_kernel *kernel;
    const cso_arguments *arguments;
    carso_status status;
} task;

static void *task_run(void *data)
{
    task *const it = data;
    int state;
    cso_onednn_begin(it->device, &state); /* a primitive is made for the number of threads that it will run with */
    it->status =
        it->op ? prepare_kind(it->device, it->op, it->out) : it->kernel->run(it->device, it->kernel, it->arguments);
    cso_onednn_end(it->device, state);
    return NULL;
}

/*
 * Inside an application's parallel region oneDNN uses one thread whatever a primitive was made for, and then leaves
 * parts of some results out. A new thread is outside that region.
 */
static carso_status outside_parallel_regions(task *it)
{
    pthread_t thread;
    if (!omp_in_parallel()) {
        task_run(it);
        return it->status;
    }
    if (pthread_create(&thread, NULL, task_run, it) != 0) {
        return cso_fail(it->device->context, CARSO_ERROR_OUT_OF_MEMORY,
                        "no thread could be started; call from outside OpenMP's parallel regions");
    }
    pthread_join(thread, NULL);
    return it->status;
}

static carso_status prepare(cso_device *device, const cso_op *op, cso_kernel **out)
{
    task it = {.device = device, .op = op, .out = out};
    *out = NULL;
    return outside_parallel_regions(&it);
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
    task it = {.device = device, .kernel = kernel, .arguments = arguments};
    return outside_parallel_regions(&it);
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
    .defers = true,
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
