/* SPDX-License-Identifier: BSD-2-Clause */
#include "graph/parameter.h"

#include <stdint.h>
#include <string.h>

#include "base/safetensors.h"
#include "graph/fold.h"

/* Elements converted at a time on the way to or from a device that has its own memory or another element type. */
#define STAGE_ELEMENTS 512

typedef union stage {
    float single[STAGE_ELEMENTS];
    double wide[STAGE_ELEMENTS];
} stage;

static size_t element_size(const carso_context *context)
{
    return context->backend->element == CSO_F64 ? sizeof(double) : sizeof(float);
}

static bool shares_host(const carso_context *context)
{
    return context->backend->host_memory && context->backend->element == CSO_F32;
}

static bool has_buffers(const carso_context *context)
{
    return !context->backend->host_memory && context->backend->buffer_create != NULL;
}

static carso_status device_create(const carso_context *context, size_t count, const char *what, void **out)
{
    const size_t size = element_size(context);
    *out = NULL;
    if (has_buffers(context)) {
        return context->backend->buffer_create(context->device, count * size, out);
    }
    *out = cso_allocate_raw(context, count, size);
    return *out == NULL ? cso_fail_memory(context, what) : CARSO_OK;
}

static void device_destroy(const carso_context *context, void *memory)
{
    if (memory == NULL) {
        return;
    }
    if (has_buffers(context)) {
        context->backend->buffer_destroy(context->device, memory);
    } else {
        cso_release(context, memory);
    }
}

static carso_status device_write(const carso_context *context, void *destination, const void *source, size_t bytes)
{
    if (has_buffers(context)) {
        return context->backend->buffer_write(context->device, destination, source, bytes);
    }
    memcpy(destination, source, bytes);
    return CARSO_OK;
}

static carso_status device_read(const carso_context *context, void *destination, const void *source, size_t bytes)
{
    if (has_buffers(context)) {
        return context->backend->buffer_read(context->device, destination, source, bytes);
    }
    memcpy(destination, source, bytes);
    return CARSO_OK;
}

/* source NULL: zeros. */
static carso_status write_elements(const carso_context *context, void *destination, const float *source, size_t count)
{
    const bool wide = context->backend->element == CSO_F64;
    const size_t size = element_size(context);
    stage staged;
    if (source != NULL && !wide) {
        return device_write(context, destination, source, count * size);
    }
    memset(&staged, 0, sizeof staged);
    for (size_t first = 0; first < count; first += STAGE_ELEMENTS) {
        const size_t part = count - first < STAGE_ELEMENTS ? count - first : STAGE_ELEMENTS;
        if (source != NULL) {
            for (size_t i = 0; i < part; i++) {
                staged.wide[i] = source[first + i];
            }
        }
        const carso_status status = device_write(context, (char *)destination + first * size, &staged, part * size);
        if (status != CARSO_OK) {
            return status;
        }
    }
    return CARSO_OK;
}

/* Into one of the two. */
static carso_status read_elements(const carso_context *context, const void *source, size_t count, float *single,
                                  double *wide)
{
    const bool source_wide = context->backend->element == CSO_F64;
    const size_t size = element_size(context);
    stage staged;
    if (source_wide ? wide != NULL : single != NULL) {
        return device_read(context, source_wide ? (void *)wide : (void *)single, source, count * size);
    }
    for (size_t first = 0; first < count; first += STAGE_ELEMENTS) {
        const size_t part = count - first < STAGE_ELEMENTS ? count - first : STAGE_ELEMENTS;
        const carso_status status = device_read(context, &staged, (const char *)source + first * size, part * size);
        if (status != CARSO_OK) {
            return status;
        }
        for (size_t i = 0; i < part; i++) {
            if (source_wide) {
                single[first + i] = (float)staged.wide[i];
            } else {
                wide[first + i] = staged.single[i];
            }
        }
    }
    return CARSO_OK;
}

/* Host values, and what the device has beside them; once when a parameter is ready, and back when it goes. */
static void count_bytes(cso_parameter *parameter, ptrdiff_t sign)
{
    if (parameter->counted == (sign > 0)) {
        return;
    }
    parameter->counted = sign > 0;
    const size_t own = parameter->count * element_size(parameter->context);
    const size_t beside = (parameter->data != NULL && parameter->data != (const void *)parameter->host ? own : 0) +
                          (parameter->gradient != NULL ? own : 0) +
                          (parameter->owned != NULL ? parameter->count * sizeof(float) : 0);
    const size_t mapped = parameter->mapped != NULL && parameter->host != NULL ? parameter->count * sizeof(float) : 0;
    cso_memory_taken(parameter->context, CSO_MEMORY_WEIGHTS, sign * (ptrdiff_t)beside);
    cso_memory_taken(parameter->context, CSO_MEMORY_MAPPED, sign * (ptrdiff_t)mapped);
}

static void destroy(cso_parameter *parameter)
{
    const carso_context *context = parameter->context;
    count_bytes(parameter, -1);
    cso_fold_forget(parameter);
    if (parameter->packed != NULL) {
        context->backend->packed_release(context->device, parameter);
    }
    device_destroy(context, parameter->gradient);
    if (parameter->data != (const void *)parameter->host) {
        device_destroy(context, parameter->data);
    }
    cso_release(context, parameter->owned);
    cso_release(context, parameter->recipe);
    if (parameter->mapped != NULL) {
        cso_safetensors_release(parameter->mapped);
    }
    pthread_mutex_destroy(&parameter->lock);
    cso_release(context, parameter);
}

/* host: taken as it is; NULL: host memory of its own, zeroed, unless deferred. */
static carso_status create(const carso_context *context, int rank, const int64_t *dimension, const float *host,
                           bool deferred, cso_parameter **out)
{
    size_t count = 1;
    *out = NULL;
    if (rank < 1 || rank > 4) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "a parameter has %d dimensions; it must have 1 to 4",
                        rank);
    }
    for (int i = 0; i < rank; i++) {
        if (dimension[i] < 1 || dimension[i] > INT32_MAX) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                            "dimension %d of a parameter is %lld; it must be 1 to %d", i, (long long)dimension[i],
                            INT32_MAX);
        }
        /* Even in double the bytes then fit a ptrdiff_t. */
        if ((size_t)dimension[i] > (size_t)PTRDIFF_MAX / sizeof(double) / count) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                            "a parameter's dimensions multiply to more than fits in memory");
        }
        count *= (size_t)dimension[i];
    }
    cso_parameter *parameter = cso_allocate(context, 1, sizeof *parameter);
    if (parameter == NULL) {
        return cso_fail_memory(context, "parameters");
    }
    if (pthread_mutex_init(&parameter->lock, NULL) != 0) {
        cso_release(context, parameter);
        return cso_fail_memory(context, "locks of parameters");
    }
    atomic_init(&parameter->references, 1);
    parameter->context = context;
    parameter->rank = rank;
    for (int i = 0; i < rank; i++) {
        parameter->dimension[i] = dimension[i];
    }
    parameter->count = count;
    parameter->constant = true;
    parameter->host = host;
    if (host == NULL && !deferred) {
        parameter->owned = cso_allocate(context, count, sizeof(float));
        if (parameter->owned == NULL) {
            destroy(parameter);
            return cso_fail_memory(context, "weights");
        }
        parameter->host = parameter->owned;
    }
    *out = parameter;
    return CARSO_OK;
}

/* Makes the device's copy of what host holds by now. */
static carso_status create_data(cso_parameter *parameter)
{
    const carso_context *context = parameter->context;
    if (shares_host(context)) {
        /* Kernels write here only where the parameter is not constant, and host is then its own memory. */
        parameter->data = (void *)(uintptr_t)parameter->host;
        return CARSO_OK;
    }
    const carso_status status = device_create(context, parameter->count, "weights", &parameter->data);
    if (status != CARSO_OK) {
        return status;
    }
    return write_elements(context, parameter->data, parameter->host, parameter->count);
}

/* Takes parameter over: what host holds by now is on the device, or it is destroyed. */
static carso_status complete(cso_parameter *parameter, cso_parameter **out)
{
    const carso_status status = create_data(parameter);
    if (status != CARSO_OK) {
        destroy(parameter);
        return status;
    }
    count_bytes(parameter, 1);
    *out = parameter;
    return CARSO_OK;
}

carso_status cso_parameter_create(const carso_context *context, int rank, const int64_t *dimension, const float *host,
                                  cso_parameter **out)
{
    cso_parameter *parameter;
    *out = NULL;
    const carso_status status = create(context, rank, dimension, NULL, false, &parameter);
    if (status != CARSO_OK) {
        return status;
    }
    if (host != NULL) {
        memcpy(parameter->owned, host, parameter->count * sizeof(float));
    }
    return complete(parameter, out);
}

carso_status cso_parameter_create_mapped(const carso_context *context, int rank, const int64_t *dimension,
                                         const float *host, struct cso_safetensors *file, cso_parameter **out)
{
    cso_parameter *parameter;
    *out = NULL;
    if (host == NULL) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "a mapped parameter has no data");
    }
    const carso_status status = create(context, rank, dimension, host, false, &parameter);
    if (status != CARSO_OK) {
        return status;
    }
    if (file != NULL) {
        cso_safetensors_retain(file);
        parameter->mapped = file;
    }
    return complete(parameter, out);
}

carso_status cso_parameter_create_deferred(const carso_context *context, int rank, const int64_t *dimension,
                                           void (*fill)(const cso_parameter *parameter, float *out), void *recipe,
                                           struct cso_safetensors *file, cso_parameter **out)
{
    const carso_status status = create(context, rank, dimension, NULL, true, out);
    if (status != CARSO_OK) {
        cso_release(context, recipe);
        return status;
    }
    (*out)->fill = fill;
    (*out)->recipe = recipe;
    cso_safetensors_retain(file);
    (*out)->mapped = file;
    return CARSO_OK;
}

carso_status cso_parameter_create_trainable(const cso_parameter *source, cso_parameter **out)
{
    const carso_context *context = source->context;
    cso_parameter *parameter;
    *out = NULL;
    carso_status status = create(context, source->rank, source->dimension, NULL, false, &parameter);
    if (status != CARSO_OK) {
        return status;
    }
    parameter->constant = false;
    memcpy(parameter->owned, source->host, parameter->count * sizeof(float));
    status = create_data(parameter);
    if (status == CARSO_OK) {
        status = device_create(context, parameter->count, "gradients", &parameter->gradient);
    }
    if (status == CARSO_OK) {
        status = cso_parameter_zero_gradient(parameter);
    }
    if (status != CARSO_OK) {
        destroy(parameter);
        return status;
    }
    count_bytes(parameter, 1);
    *out = parameter;
    return CARSO_OK;
}

void cso_parameter_retain(cso_parameter *parameter)
{
    atomic_fetch_add_explicit(&parameter->references, 1, memory_order_relaxed);
}

void cso_parameter_release(cso_parameter *parameter)
{
    if (parameter != NULL && atomic_fetch_sub_explicit(&parameter->references, 1, memory_order_acq_rel) == 1) {
        destroy(parameter);
    }
}

float *cso_parameter_host(cso_parameter *parameter)
{
    return parameter->constant ? NULL : parameter->owned;
}

static carso_status check_trainable(const cso_parameter *parameter)
{
    if (parameter->constant) {
        return cso_fail(parameter->context, CARSO_ERROR_INTERNAL, "a constant parameter is used as a trainable one");
    }
    return CARSO_OK;
}

carso_status cso_parameter_upload(cso_parameter *parameter)
{
    const carso_status status = check_trainable(parameter);
    if (status != CARSO_OK || parameter->data == (const void *)parameter->host) {
        return status;
    }
    return write_elements(parameter->context, parameter->data, parameter->host, parameter->count);
}

carso_status cso_parameter_download(cso_parameter *parameter)
{
    const carso_status status = check_trainable(parameter);
    if (status != CARSO_OK || parameter->data == (const void *)parameter->host) {
        return status;
    }
    return read_elements(parameter->context, parameter->data, parameter->count, parameter->owned, NULL);
}

carso_status cso_parameter_zero_gradient(cso_parameter *parameter)
{
    const carso_status status = check_trainable(parameter);
    if (status != CARSO_OK) {
        return status;
    }
    if (!has_buffers(parameter->context)) {
        memset(parameter->gradient, 0, parameter->count * element_size(parameter->context));
        return CARSO_OK;
    }
    return write_elements(parameter->context, parameter->gradient, NULL, parameter->count);
}

carso_status cso_parameter_read_gradient(const cso_parameter *parameter, float *out)
{
    const carso_status status = check_trainable(parameter);
    if (status != CARSO_OK) {
        return status;
    }
    return read_elements(parameter->context, parameter->gradient, parameter->count, out, NULL);
}

carso_status cso_parameter_read_gradient_double(const cso_parameter *parameter, double *out)
{
    const carso_status status = check_trainable(parameter);
    if (status != CARSO_OK) {
        return status;
    }
    return read_elements(parameter->context, parameter->gradient, parameter->count, NULL, out);
}

const float *cso_parameter_gradient_view(const cso_parameter *parameter)
{
    return shares_host(parameter->context) ? parameter->gradient : NULL;
}
