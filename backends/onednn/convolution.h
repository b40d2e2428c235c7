/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Convolutions and transposed convolutions are three products over one geometry: destination = source * weight and its
 * two adjoints. A transposed convolution's forward is the product SOURCE, its backward data the product DESTINATION.
 * Three ways compute them: oneDNN's primitives (primitive.c), columns with OpenBLAS (columns.c) for what oneDNN leaves
 * to its reference kernel or does slowly, and Winograd's filtering (winograd.c) where that is the fastest.
 */
#ifndef CSO_ONEDNN_CONVOLUTION_H
#define CSO_ONEDNN_CONVOLUTION_H

#include "backends/onednn/device.h"

typedef struct cso_geometry {
    int64_t batch, groups;
    int64_t source[3], destination[3]; /* channels, height, width */
    int64_t kernel[2], stride[2], dilation[2], pad_begin[2], pad_end[2];
} cso_geometry;

/* Adds to a product's result: y = activation(y + bias + residual). */
typedef struct cso_finish {
    const float *bias, *residual;
    cso_op_kind activation;
    float slope;
} cso_finish;

/* What of that is to be done, before its pointers are known. */
typedef struct cso_fusion {
    bool bias, residual;
    cso_op_kind activation;
    float slope;
} cso_fusion;

typedef struct cso_product_arguments {
    const float *source_in, *destination_in, *weight_in; /* two are read; the weight only where it is not constant */
    float *out;
    cso_finish finish; /* not for CSO_PRODUCT_WEIGHT */
    void *workspace;   /* as large as _workspace says */
} cso_product_arguments;

/* Weights in another layout, made once for a constant parameter and shared by all kernels that want that layout. */
carso_status cso_packed_get(cso_device *device, cso_parameter *parameter, cso_descriptor_view dense,
                            cso_descriptor_view wanted, const char *operation, const void **out);
/* The same for a form (a number) that make(data, out) fills with size bytes. kind: what they are
 * counted as. */
carso_status cso_packed_get_made(cso_device *device, cso_parameter *parameter, int form, cso_memory_kind kind,
                                 size_t size, void (*make)(const void *data, const float *values, void *out),
                                 const void *data, const void **out);
void cso_packed_release(cso_device *device, cso_parameter *parameter);

/* From one layout to another, at each run or once. */
typedef struct cso_reorder {
    dnnl_primitive_t primitive;
    dnnl_memory_t from, to;
} cso_reorder;

carso_status cso_reorder_create(cso_device *device, cso_descriptor_view from, cso_descriptor_view to,
                                const char *operation, cso_reorder *out);
carso_status cso_reorder_run(cso_device *device, const cso_reorder *reorder, dnnl_stream_t stream, const void *from,
                             void *to, const char *operation);
void cso_reorder_destroy(cso_reorder *reorder);

/* The weight as parameters hold it: [destination channels][source channels / groups][kh][kw]. */
carso_status cso_weight_descriptor(const cso_device *device, const cso_geometry *geometry, const char *operation,
                                   cso_descriptor *out);

/*
 * Products of the three kinds are made without their weights, so that sizes can be asked for without them; a constant
 * parameter is packed when _ready is called, before the first run.
 */
typedef struct cso_primitive_product cso_primitive_product;

/* *out is NULL, with CARSO_OK, where oneDNN has nothing but its reference kernel for this. *out_fused: what the
 * primitive does of what is wanted; at a run only that is looked at. */
carso_status cso_primitive_product_create(cso_device *device, const cso_geometry *geometry, cso_product product,
                                          cso_parameter *weight, const cso_fusion *wanted, const char *operation,
                                          cso_primitive_product **out, cso_fusion *out_fused);
carso_status cso_primitive_product_ready(cso_device *device, cso_primitive_product *product);
void cso_primitive_product_destroy(cso_device *device, cso_primitive_product *product);
size_t cso_primitive_product_workspace(const cso_primitive_product *product);
const char *cso_primitive_product_name(const cso_primitive_product *product);
carso_status cso_primitive_product_run(cso_device *device, const cso_primitive_product *product,
                                       const cso_product_arguments *arguments);

typedef struct cso_columns_product cso_columns_product;

/* Whether columns are the faster way: the gradient to (or a transposed convolution with) one or few channels. */
bool cso_columns_product_narrow(const cso_geometry *geometry, cso_product product);

carso_status cso_columns_product_create(cso_device *device, const cso_geometry *geometry, cso_product product,
                                        cso_parameter *weight, const char *operation, cso_columns_product **out);
carso_status cso_columns_product_ready(cso_device *device, cso_columns_product *product);
void cso_columns_product_destroy(cso_device *device, cso_columns_product *product);
size_t cso_columns_product_workspace(const cso_columns_product *product);
carso_status cso_columns_product_run(cso_device *device, const cso_columns_product *product,
                                     const cso_product_arguments *arguments);

typedef struct cso_winograd cso_winograd;
typedef struct cso_winograd_product cso_winograd_product;

/* The points of Winograd's filtering where it was measured to be the faster way, or NULL. Parameters that change would
 * have to be transformed at each run. */
const cso_winograd *cso_winograd_choose(const cso_device *device, const cso_geometry *geometry, cso_product product,
                                        const cso_parameter *weight);

/* geometry: as cso_winograd_shape_of takes. */
carso_status cso_winograd_product_create(cso_device *device, const cso_winograd *set, const cso_geometry *geometry,
                                         cso_product product, cso_parameter *weight, cso_winograd_product **out);
carso_status cso_winograd_product_ready(cso_device *device, cso_winograd_product *product);
void cso_winograd_product_destroy(cso_device *device, cso_winograd_product *product);
size_t cso_winograd_product_workspace(const cso_winograd_product *product);
const char *cso_winograd_product_name(const cso_winograd_product *product);
carso_status cso_winograd_product_run(cso_device *device, const cso_winograd_product *product,
                                      const cso_product_arguments *arguments);

#endif
