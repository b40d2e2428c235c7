/* SPDX-License-Identifier: BSD-2-Clause */
/* Weights in the layout that a kernel likes: packed once where they are constant, reordered at each run where not. */
#include "backends/onednn/convolution.h"

#include "base/safetensors.h"

typedef struct packed_layout {
    struct packed_layout *next;
    cso_descriptor descriptor; /* NULL: a form that oneDNN has no descriptor for */
    int form;
    cso_memory_kind kind; /* what size is counted as */
    size_t size;
    void *data;
} packed_layout;

/* Values that are packed: the parameter's, or temporary ones. close gives both back. */
static carso_status open_values(const carso_context *context, const cso_parameter *parameter, const float **values,
                                float **temporary)
{
    *temporary = NULL;
    *values = parameter->data;
    if (parameter->fill) {
        *temporary = cso_allocate_raw(context, parameter->count, sizeof **temporary);
        if (!*temporary) {
            return cso_fail_memory(context, "weights that are packed");
        }
        parameter->fill(parameter, *temporary);
        *values = *temporary;
    }
    return CARSO_OK;
}

static void close_values(const carso_context *context, const cso_parameter *parameter, float *temporary)
{
    cso_release(context, temporary);
    if (parameter->mapped && parameter->host) {
        cso_safetensors_rest(parameter->mapped, parameter->host, parameter->count * sizeof(float));
    }
}

void cso_reorder_destroy(cso_reorder *reorder)
{
    if (reorder->from) {
        dnnl_memory_destroy(reorder->from);
    }
    if (reorder->to) {
        dnnl_memory_destroy(reorder->to);
    }
    if (reorder->primitive) {
        dnnl_primitive_destroy(reorder->primitive);
    }
    *reorder = (cso_reorder){0};
}

carso_status cso_reorder_create(cso_device *device, cso_descriptor_view from, cso_descriptor_view to,
                                const char *operation, cso_reorder *out)
{
    dnnl_primitive_desc_t description = NULL;
    *out = (cso_reorder){0};
    dnnl_status_t status =
        dnnl_reorder_primitive_desc_create(&description, from, device->engine, to, device->engine, NULL);
    if (status == dnnl_success) {
        status = dnnl_primitive_create(&out->primitive, description);
        dnnl_primitive_desc_destroy(description);
    }
    if (status == dnnl_success) {
        status = dnnl_memory_create(&out->from, from, device->engine, DNNL_MEMORY_NONE);
    }
    if (status == dnnl_success) {
        status = dnnl_memory_create(&out->to, to, device->engine, DNNL_MEMORY_NONE);
    }
    if (status != dnnl_success) {
        cso_reorder_destroy(out);
    }
    return cso_onednn_check(device, status, operation);
}

carso_status cso_reorder_run(cso_device *device, const cso_reorder *reorder, dnnl_stream_t stream, const void *from,
                             void *to, const char *operation)
{
    dnnl_status_t status = dnnl_memory_set_data_handle(reorder->from, (void *)(uintptr_t)from);
    if (status == dnnl_success) {
        status = dnnl_memory_set_data_handle(reorder->to, to);
    }
    if (status == dnnl_success) {
        const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, reorder->from}, {DNNL_ARG_TO, reorder->to}};
        status = dnnl_primitive_execute(reorder->primitive, stream, 2, arguments);
    }
    if (status == dnnl_success) {
        status = dnnl_stream_wait(stream);
    }
    return cso_onednn_check(device, status, operation);
}

static void layout_destroy(const carso_context *context, packed_layout *layout)
{
    cso_memory_taken(context, layout->kind, -(ptrdiff_t)layout->size);
    cso_descriptor_destroy(layout->descriptor);
    cso_release(context, layout->data);
    cso_release(context, layout);
}

static carso_status layout_create(cso_device *device, const void *data, cso_descriptor_view dense,
                                  cso_descriptor_view wanted, const char *operation, packed_layout **out)
{
    const carso_context *const context = device->context;
    cso_reorder reorder = {0};
    dnnl_stream_t stream = NULL;
    carso_status status;
    packed_layout *const made = cso_allocate(context, 1, sizeof *made);
    if (!made) {
        return cso_fail_memory(context, "packed weights");
    }
    made->data = cso_allocate_raw(context, 1, dnnl_memory_desc_get_size(wanted));
    if (!made->data) {
        status = cso_fail_memory(context, "packed weights");
        goto fail;
    }
    status = cso_onednn_check(device, cso_descriptor_copy(wanted, &made->descriptor), operation);
    if (status == CARSO_OK) {
        status =
            cso_onednn_check(device, dnnl_stream_create(&stream, device->engine, dnnl_stream_default_flags), operation);
    }
    if (status == CARSO_OK) {
        status = cso_reorder_create(device, dense, wanted, operation, &reorder);
    }
    if (status == CARSO_OK) {
        status = cso_reorder_run(device, &reorder, stream, data, made->data, operation);
    }
    cso_reorder_destroy(&reorder);
    if (stream) {
        dnnl_stream_destroy(stream);
    }
    if (status == CARSO_OK) {
        made->kind = CSO_MEMORY_PACKED;
        made->size = dnnl_memory_desc_get_size(wanted);
        cso_memory_taken(context, made->kind, (ptrdiff_t)made->size);
        *out = made;
        return CARSO_OK;
    }
fail:
    layout_destroy(context, made);
    return status;
}

carso_status cso_packed_get(cso_device *device, cso_parameter *parameter, cso_descriptor_view dense,
                            cso_descriptor_view wanted, const char *operation, const void **out)
{
    *out = parameter->data;
    if (parameter->data && dnnl_memory_desc_equal(dense, wanted)) {
        return CARSO_OK;
    }
    carso_status status = CARSO_OK;
    pthread_mutex_lock(&parameter->lock);
    packed_layout *layout = parameter->packed;
    while (layout && !(layout->descriptor && dnnl_memory_desc_equal(layout->descriptor, wanted))) {
        layout = layout->next;
    }
    if (!layout) {
        const float *values;
        float *temporary;
        status = open_values(device->context, parameter, &values, &temporary);
        if (status == CARSO_OK) {
            status = layout_create(device, values, dense, wanted, operation, &layout);
            close_values(device->context, parameter, temporary);
        }
        if (status == CARSO_OK) {
            layout->next = parameter->packed;
            parameter->packed = layout;
        }
    }
    pthread_mutex_unlock(&parameter->lock);
    if (status == CARSO_OK) {
        *out = layout->data;
    }
    return status;
}

carso_status cso_packed_get_made(cso_device *device, cso_parameter *parameter, int form, cso_memory_kind kind,
                                 size_t size, void (*make)(const void *data, const float *values, void *out),
                                 const void *data, const void **out)
{
    const carso_context *const context = device->context;
    carso_status status = CARSO_OK;
    *out = NULL;
    pthread_mutex_lock(&parameter->lock);
    packed_layout *layout = parameter->packed;
    while (layout && (layout->descriptor || layout->form != form)) {
        layout = layout->next;
    }
    if (!layout) {
        const float *values = NULL;
        float *temporary = NULL;
        layout = cso_allocate(context, 1, sizeof *layout);
        void *const made = layout ? cso_allocate_raw(context, 1, size) : NULL;
        status = made ? open_values(context, parameter, &values, &temporary)
                      : cso_fail_memory(context, "packed weights");
        if (status == CARSO_OK) {
            make(data, values, made);
            close_values(context, parameter, temporary);
            *layout = (packed_layout){.next = parameter->packed, .form = form, .kind = kind, .size = size, .data = made};
            cso_memory_taken(context, kind, (ptrdiff_t)size);
            parameter->packed = layout;
        } else {
            cso_release(context, made);
            cso_release(context, layout);
            layout = NULL;
        }
    }
    if (layout) {
        *out = layout->data;
    }
    pthread_mutex_unlock(&parameter->lock);
    return status;
}

void cso_packed_release(cso_device *device, cso_parameter *parameter)
{
    packed_layout *layout = parameter->packed;
    parameter->packed = NULL;
    while (layout) {
        packed_layout *const next = layout->next;
        layout_destroy(device->context, layout);
        layout = next;
    }
}

carso_status cso_weight_descriptor(const cso_device *device, const cso_geometry *geometry, const char *operation,
                                   cso_descriptor *out)
{
    const int64_t out_channels = geometry->destination[0] / geometry->groups,
                  in_channels = geometry->source[0] / geometry->groups;
    const int64_t area = geometry->kernel[0] * geometry->kernel[1];
    const dnnl_dims_t grouped = {geometry->groups, out_channels, in_channels, geometry->kernel[0], geometry->kernel[1]};
    const dnnl_dims_t grouped_strides = {out_channels * in_channels * area, in_channels * area, area,
                                         geometry->kernel[1], 1};
    const int skip = geometry->groups == 1 ? 1 : 0;
    return cso_onednn_check(device, cso_descriptor_create(5 - skip, grouped + skip, grouped_strides + skip, out),
                            operation);
}
