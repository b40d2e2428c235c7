/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What differs between oneDNN 2.x and 3.x, and nothing else: memory descriptors are values in 2.x and handles in 3.x,
 * 2.x describes an operation before its primitive, and some arguments moved.
 */
#ifndef CSO_ONEDNN_COMPATIBILITY_H
#define CSO_ONEDNN_COMPATIBILITY_H

#include <oneapi/dnnl/dnnl.h>

#if DNNL_VERSION_MAJOR < 2 || (DNNL_VERSION_MAJOR == 2 && DNNL_VERSION_MINOR < 6)
#error "oneDNN 2.6 or later is needed"
#endif

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t cso_descriptor;
typedef const_dnnl_memory_desc_t cso_descriptor_view;
#else
typedef dnnl_memory_desc_t *cso_descriptor;
typedef const dnnl_memory_desc_t *cso_descriptor_view;
#endif

/* Float32. strides NULL: the primitive chooses the layout. Destroy with cso_descriptor_destroy, which accepts NULL. */
dnnl_status_t cso_descriptor_create(int rank, const dnnl_dims_t dimensions, const dnnl_dims_t strides,
                                    cso_descriptor *out);
dnnl_status_t cso_descriptor_copy(cso_descriptor_view source, cso_descriptor *out);
void cso_descriptor_destroy(cso_descriptor descriptor);

/* The three products of a convolution's source, weight and destination: each is computed from the other two. */
typedef enum cso_product { CSO_PRODUCT_DESTINATION, CSO_PRODUCT_SOURCE, CSO_PRODUCT_WEIGHT } cso_product;

typedef struct cso_convolution_description {
    cso_product product;
    cso_descriptor_view source, weight, bias, destination; /* bias: CSO_PRODUCT_DESTINATION only, or NULL */
    dnnl_dims_t stride, dilation, pad_begin, pad_end;      /* dilation as oneDNN counts it: 0 is dense */
} cso_convolution_description;

/* hint: the description of the product CSO_PRODUCT_DESTINATION, for the other two. */
dnnl_status_t cso_convolution_describe(dnnl_engine_t engine, const cso_convolution_description *description,
                                       const_dnnl_primitive_attr_t attributes, const_dnnl_primitive_desc_t hint,
                                       dnnl_primitive_desc_t *out);

dnnl_status_t cso_post_operation_activation(dnnl_post_ops_t operations, dnnl_alg_kind_t kind, float alpha);

#endif
