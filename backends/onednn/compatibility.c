/* SPDX-License-Identifier: BSD-2-Clause */
#include "backends/onednn/compatibility.h"

#include <stdlib.h>

#if DNNL_VERSION_MAJOR >= 3

dnnl_status_t cso_descriptor_create(int rank, const dnnl_dims_t dimensions, const dnnl_dims_t strides,
                                    cso_descriptor *out)
{
    *out = NULL;
    if (strides) {
        return dnnl_memory_desc_create_with_strides(out, rank, dimensions, dnnl_f32, strides);
    }
    return dnnl_memory_desc_create_with_tag(out, rank, dimensions, dnnl_f32, dnnl_format_tag_any);
}

dnnl_status_t cso_descriptor_copy(cso_descriptor_view source, cso_descriptor *out)
{
    *out = NULL;
    return dnnl_memory_desc_clone(out, source);
}

void cso_descriptor_destroy(cso_descriptor descriptor)
{
    if (descriptor) {
        dnnl_memory_desc_destroy(descriptor);
    }
}

dnnl_status_t cso_convolution_describe(dnnl_engine_t engine, const cso_convolution_description *description,
                                       const_dnnl_primitive_attr_t attributes, const_dnnl_primitive_desc_t hint,
                                       dnnl_primitive_desc_t *out)
{
    const cso_convolution_description *d = description;
    switch (d->product) {
    case CSO_PRODUCT_DESTINATION:
        return dnnl_convolution_forward_primitive_desc_create(
            out, engine, dnnl_forward_training, dnnl_convolution_direct, d->source, d->weight, d->bias, d->destination,
            d->stride, d->dilation, d->pad_begin, d->pad_end, attributes);
    case CSO_PRODUCT_SOURCE:
        return dnnl_convolution_backward_data_primitive_desc_create(out, engine, dnnl_convolution_direct, d->source,
                                                                    d->weight, d->destination, d->stride, d->dilation,
                                                                    d->pad_begin, d->pad_end, hint, attributes);
    case CSO_PRODUCT_WEIGHT:
        return dnnl_convolution_backward_weights_primitive_desc_create(
            out, engine, dnnl_convolution_direct, d->source, d->weight, NULL, d->destination, d->stride, d->dilation,
            d->pad_begin, d->pad_end, hint, attributes);
    }
    return dnnl_invalid_arguments;
}

dnnl_status_t cso_post_operation_activation(dnnl_post_ops_t operations, dnnl_alg_kind_t kind, float alpha)
{
    return dnnl_post_ops_append_eltwise(operations, kind, alpha, 0);
}

#else

/* Descriptors of 2.x are values; the heap gives them the handle that 3.x has, from the allocator that 3.x would use. */
static cso_descriptor descriptor_new(void) { return malloc(sizeof(dnnl_memory_desc_t)); }

dnnl_status_t cso_descriptor_create(int rank, const dnnl_dims_t dimensions, const dnnl_dims_t strides,
                                    cso_descriptor *out)
{
    *out = NULL;
    const cso_descriptor made = descriptor_new();
    if (!made) {
        return dnnl_out_of_memory;
    }
    const dnnl_status_t status =
        strides ? dnnl_memory_desc_init_by_strides(made, rank, dimensions, dnnl_f32, strides)
                : dnnl_memory_desc_init_by_tag(made, rank, dimensions, dnnl_f32, dnnl_format_tag_any);
    if (status != dnnl_success) {
        free(made);
        return status;
    }
    *out = made;
    return dnnl_success;
}

dnnl_status_t cso_descriptor_copy(cso_descriptor_view source, cso_descriptor *out)
{
    *out = descriptor_new();
    if (!*out) {
        return dnnl_out_of_memory;
    }
    **out = *source;
    return dnnl_success;
}

void cso_descriptor_destroy(cso_descriptor descriptor) { free(descriptor); }

dnnl_status_t cso_convolution_describe(dnnl_engine_t engine, const cso_convolution_description *description,
                                       const_dnnl_primitive_attr_t attributes, const_dnnl_primitive_desc_t hint,
                                       dnnl_primitive_desc_t *out)
{
    const cso_convolution_description *d = description;
    dnnl_convolution_desc_t operation;
    dnnl_status_t status = dnnl_invalid_arguments;
    switch (d->product) {
    case CSO_PRODUCT_DESTINATION:
        status = dnnl_dilated_convolution_forward_desc_init(&operation, dnnl_forward_training, dnnl_convolution_direct,
                                                            d->source, d->weight, d->bias, d->destination, d->stride,
                                                            d->dilation, d->pad_begin, d->pad_end);
        break;
    case CSO_PRODUCT_SOURCE:
        status = dnnl_dilated_convolution_backward_data_desc_init(&operation, dnnl_convolution_direct, d->source,
                                                                  d->weight, d->destination, d->stride, d->dilation,
                                                                  d->pad_begin, d->pad_end);
        break;
    case CSO_PRODUCT_WEIGHT:
        status = dnnl_dilated_convolution_backward_weights_desc_init(&operation, dnnl_convolution_direct, d->source,
                                                                     d->weight, NULL, d->destination, d->stride,
                                                                     d->dilation, d->pad_begin, d->pad_end);
        break;
    }
    return status == dnnl_success ? dnnl_primitive_desc_create(out, &operation, attributes, engine, hint) : status;
}

dnnl_status_t cso_post_operation_activation(dnnl_post_ops_t operations, dnnl_alg_kind_t kind, float alpha)
{
    return dnnl_post_ops_append_eltwise(operations, 1, kind, alpha, 0);
}

#endif
