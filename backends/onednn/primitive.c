/* SPDX-License-Identifier: BSD-2-Clause */
/* Products of a convolution by oneDNN's primitives: images stay [H][W][C], weights take the layout the primitive likes.
 */
#include "backends/onednn/convolution.h"

#include <stdio.h>
#include <string.h>

/* DENSE is no memory of the primitive: the weight as the parameter holds it. */
enum { SOURCE, WEIGHT, DESTINATION, BIAS, RESIDUAL, SCRATCH, MEMORIES, DENSE = MEMORIES, DESCRIPTORS };

struct cso_primitive_product {
    cso_product product;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t memory[MEMORIES]; /* NULL: the primitive does not take it */
    const void *packed;             /* the weights of a constant parameter */
    cso_parameter *parameter;       /* NULL: not constant */
    cso_descriptor dense, wanted;   /* its layout, and the primitive's */
    cso_reorder reorder; /* weights to or from the primitive's layout, at each run; unused: primitive is NULL */
    size_t scratch_size, weight_size;
    const char *operation;
    char name[64];
};

static carso_status image_descriptor(const cso_device *device, int64_t batch, const int64_t shape[3],
                                     const char *operation, cso_descriptor *out)
{
    const dnnl_dims_t dimensions = {batch, shape[0], shape[1], shape[2]};
    const dnnl_dims_t strides = {shape[0] * shape[1] * shape[2], 1, shape[0] * shape[2], shape[0]};
    return cso_onednn_check(device, cso_descriptor_create(4, dimensions, strides, out), operation);
}

/* oneDNN's ReLU turns NaN to 0, and its sigmoid and tanh may; these two keep it. */
static bool fusable(cso_op_kind activation, float slope)
{
    return activation == CSO_OP_SILU || (activation == CSO_OP_LEAKY_RELU && slope != 0);
}

/*
 * Found by the backend suite with DNNL_MAX_CPU_ISA set, in 2.6.3: kernels for older instruction sets than AVX-512 add a
 * second tensor wrongly, and get strided 1x1 products wrong (writing past their scratch memory) where channels do not
 * fill their blocks.
 */
static bool adds_residual(const char *name) { return strstr(name, "avx512") != NULL; }

static bool trusted(const char *name, const cso_geometry *geometry)
{
    const int64_t block = 16;
    const bool strided = geometry->stride[0] > 1 || geometry->stride[1] > 1;
    const bool filled = geometry->source[0] % block == 0 && geometry->destination[0] % block == 0;
    return !strstr(name, "ref") && (!strstr(name, "1x1") || strstr(name, "avx512") || !strided || filled);
}

static dnnl_status_t describe_fusion(const cso_fusion *wanted, cso_descriptor_view destination,
                                     dnnl_post_ops_t *operations, cso_fusion *fused)
{
    dnnl_status_t status = dnnl_post_ops_create(operations);
    *fused = (cso_fusion){.bias = wanted->bias, .residual = wanted->residual, .activation = CSO_NO_ACTIVATION};
    if (status == dnnl_success && wanted->residual) {
        status = dnnl_post_ops_append_binary(*operations, dnnl_binary_add, destination);
    }
    if (status == dnnl_success && fusable(wanted->activation, wanted->slope)) {
        const bool silu = wanted->activation == CSO_OP_SILU;
        fused->activation = wanted->activation;
        fused->slope = wanted->slope;
        status = cso_post_operation_activation(*operations, silu ? dnnl_eltwise_swish : dnnl_eltwise_relu,
                                               silu ? 1.0f : wanted->slope);
    }
    return status;
}

/* *out stays NULL where oneDNN has no kernel. */
static carso_status describe(cso_device *device, const cso_geometry *geometry, cso_product product,
                             cso_descriptor *const descriptors, const cso_fusion *wanted, const char *operation,
                             dnnl_primitive_desc_t *out, const char **out_name, cso_fusion *fused)
{
    cso_convolution_description description = {.product = product,
                                               .source = descriptors[SOURCE],
                                               .weight = descriptors[WEIGHT],
                                               .destination = descriptors[DESTINATION]};
    dnnl_primitive_desc_t hint = NULL;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t operations = NULL;
    for (int i = 0; i < 2; i++) {
        description.stride[i] = geometry->stride[i];
        description.dilation[i] = geometry->dilation[i] - 1;
        description.pad_begin[i] = geometry->pad_begin[i];
        description.pad_end[i] = geometry->pad_end[i];
    }
    dnnl_status_t status = dnnl_primitive_attr_create(&attributes);
    if (status == dnnl_success) {
        status = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    }
    if (status == dnnl_success && product == CSO_PRODUCT_DESTINATION) {
        status = describe_fusion(wanted, descriptors[DESTINATION], &operations, fused);
        description.bias = descriptors[BIAS];
        if (status == dnnl_success) {
            status = dnnl_primitive_attr_set_post_ops(attributes, operations);
        }
    } else if (status == dnnl_success) {
        cso_convolution_description forward = description;
        forward.product = CSO_PRODUCT_DESTINATION;
        status = cso_convolution_describe(device->engine, &forward, attributes, NULL, &hint);
    }
    if (status == dnnl_success) {
        status = cso_convolution_describe(device->engine, &description, attributes, hint, out);
    }
    if (hint) {
        dnnl_primitive_desc_destroy(hint);
    }
    if (operations) {
        dnnl_post_ops_destroy(operations);
    }
    if (attributes) {
        dnnl_primitive_attr_destroy(attributes);
    }
    if (status == dnnl_success) {
        status = dnnl_primitive_desc_query(*out, dnnl_query_impl_info_str, 0, out_name);
    }
    /* Not a failure: the other way computes it. */
    return status == dnnl_unimplemented ? CARSO_OK : cso_onednn_check(device, status, operation);
}

/* The memories that a primitive takes, and where its weights come from or go to. */
static carso_status bind(cso_device *device, cso_primitive_product *made, const_dnnl_primitive_desc_t description,
                         cso_parameter *weight, cso_descriptor *const descriptors, const char *operation)
{
    const bool gradient = made->product == CSO_PRODUCT_WEIGHT;
    const cso_descriptor_view wanted =
        dnnl_primitive_desc_query_md(description, gradient ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
    const cso_descriptor_view scratch = dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0);
    const cso_descriptor_view views[MEMORIES] = {
        descriptors[SOURCE], wanted, descriptors[DESTINATION], descriptors[BIAS], descriptors[RESIDUAL], scratch};
    const cso_descriptor_view dense = descriptors[DENSE];
    made->scratch_size = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    for (int i = 0; i < MEMORIES; i++) {
        if (!views[i] || (i == SCRATCH && made->scratch_size == 0)) {
            continue;
        }
        const carso_status status = cso_onednn_check(
            device, dnnl_memory_create(&made->memory[i], views[i], device->engine, DNNL_MEMORY_NONE), operation);
        if (status != CARSO_OK) {
            return status;
        }
    }
    if (!gradient && weight->constant) {
        made->parameter = weight;
        const carso_status status = cso_onednn_check(device, cso_descriptor_copy(dense, &made->dense), operation);
        return status != CARSO_OK
                   ? status
                   : cso_onednn_check(device, cso_descriptor_copy(wanted, &made->wanted), operation);
    }
    if (dnnl_memory_desc_equal(dense, wanted)) {
        return CARSO_OK;
    }
    made->weight_size = dnnl_memory_desc_get_size(wanted);
    return cso_reorder_create(device, gradient ? wanted : dense, gradient ? dense : wanted, operation, &made->reorder);
}

carso_status cso_primitive_product_create(cso_device *device, const cso_geometry *geometry, cso_product product,
                                          cso_parameter *weight, const cso_fusion *wanted, const char *operation,
                                          cso_primitive_product **out, cso_fusion *out_fused)
{
    const carso_context *const context = device->context;
    cso_descriptor descriptors[DESCRIPTORS] = {0};
    dnnl_primitive_desc_t description = NULL;
    cso_primitive_product *made = NULL;
    const char *name = NULL;
    const int64_t weight_groups = geometry->groups;
    const dnnl_dims_t weight_shape = {weight_groups, geometry->destination[0] / weight_groups,
                                      geometry->source[0] / weight_groups, geometry->kernel[0], geometry->kernel[1]};
    const dnnl_dims_t bias_shape = {geometry->destination[0]}, bias_stride = {1};
    const int skip = weight_groups == 1 ? 1 : 0;
    *out = NULL;
    *out_fused = (cso_fusion){.activation = CSO_NO_ACTIVATION};
    carso_status status = image_descriptor(device, geometry->batch, geometry->source, operation, &descriptors[SOURCE]);
    if (status == CARSO_OK) {
        status = image_descriptor(device, geometry->batch, geometry->destination, operation, &descriptors[DESTINATION]);
    }
    if (status == CARSO_OK) {
        status = cso_onednn_check(
            device, cso_descriptor_create(5 - skip, weight_shape + skip, NULL, &descriptors[WEIGHT]), operation);
    }
    if (status == CARSO_OK) {
        status = cso_weight_descriptor(device, geometry, operation, &descriptors[DENSE]);
    }
    if (status == CARSO_OK && product == CSO_PRODUCT_DESTINATION && wanted->bias) {
        status =
            cso_onednn_check(device, cso_descriptor_create(1, bias_shape, bias_stride, &descriptors[BIAS]), operation);
    }
    if (status == CARSO_OK && product == CSO_PRODUCT_DESTINATION && wanted->residual) {
        status = image_descriptor(device, geometry->batch, geometry->destination, operation, &descriptors[RESIDUAL]);
    }
    if (status == CARSO_OK) {
        status = describe(device, geometry, product, descriptors, wanted, operation, &description, &name, out_fused);
    }
    if (status == CARSO_OK && out_fused->residual && !(description && adds_residual(name))) {
        /* What comes after the residual is then left to the caller too. */
        const cso_fusion less = {.bias = wanted->bias, .activation = CSO_NO_ACTIVATION};
        if (description) {
            dnnl_primitive_desc_destroy(description);
            description = NULL;
        }
        cso_descriptor_destroy(descriptors[RESIDUAL]);
        descriptors[RESIDUAL] = NULL;
        status = describe(device, geometry, product, descriptors, &less, operation, &description, &name, out_fused);
    }
    if (status != CARSO_OK || !description || !trusted(name, geometry)) {
        goto done;
    }
    made = cso_allocate(context, 1, sizeof *made);
    if (!made) {
        status = cso_fail_memory(context, "kernels");
        goto done;
    }
    made->product = product;
    made->operation = operation;
    snprintf(made->name, sizeof made->name, "%s", name);
    status = bind(device, made, description, weight, descriptors, operation);
    if (status == CARSO_OK) {
        status = cso_onednn_check(device, dnnl_primitive_create(&made->primitive, description), operation);
    }
    if (status == CARSO_OK) {
        status = cso_onednn_check(device, dnnl_stream_create(&made->stream, device->engine, dnnl_stream_default_flags),
                                  operation);
    }
    if (status == CARSO_OK) {
        *out = made;
        made = NULL;
    }
done:
    cso_primitive_product_destroy(device, made);
    if (description) {
        dnnl_primitive_desc_destroy(description);
    }
    for (int i = 0; i < DESCRIPTORS; i++) {
        cso_descriptor_destroy(descriptors[i]);
    }
    return status;
}

carso_status cso_primitive_product_ready(cso_device *device, cso_primitive_product *product)
{
    return product->parameter ? cso_packed_get(device, product->parameter, product->dense, product->wanted,
                                               product->operation, &product->packed)
                              : CARSO_OK;
}

void cso_primitive_product_destroy(cso_device *device, cso_primitive_product *product)
{
    if (!product) {
        return;
    }
    cso_reorder_destroy(&product->reorder);
    cso_descriptor_destroy(product->dense);
    cso_descriptor_destroy(product->wanted);
    for (int i = 0; i < MEMORIES; i++) {
        if (product->memory[i]) {
            dnnl_memory_destroy(product->memory[i]);
        }
    }
    if (product->primitive) {
        dnnl_primitive_destroy(product->primitive);
    }
    if (product->stream) {
        dnnl_stream_destroy(product->stream);
    }
    cso_release(device->context, product);
}

size_t cso_primitive_product_workspace(const cso_primitive_product *product)
{
    return cso_round_up(product->scratch_size) + cso_round_up(product->weight_size);
}

const char *cso_primitive_product_name(const cso_primitive_product *product) { return product->name; }

carso_status cso_primitive_product_run(cso_device *device, const cso_primitive_product *product,
                                       const cso_product_arguments *arguments)
{
    static const int names[3][MEMORIES] = {
        {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS,
         DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, DNNL_ARG_SCRATCHPAD},
        {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST, 0, 0, DNNL_ARG_SCRATCHPAD},
        {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST, 0, 0, DNNL_ARG_SCRATCHPAD}};
    const bool gradient = product->product == CSO_PRODUCT_WEIGHT, reorders = product->reorder.primitive != NULL;
    void *const reordered = (char *)arguments->workspace + cso_round_up(product->scratch_size);
    const void *weight = product->packed ? product->packed : arguments->weight_in;
    carso_status status = CARSO_OK;
    if (reorders && !gradient) {
        status = cso_reorder_run(device, &product->reorder, product->stream, arguments->weight_in, reordered,
                                 product->operation);
        if (status != CARSO_OK) {
            return status;
        }
    }
    if (reorders) {
        weight = reordered;
    } else if (gradient) {
        weight = arguments->out;
    }
    const void *const pointers[MEMORIES] = {
        product->product == CSO_PRODUCT_SOURCE ? arguments->out : arguments->source_in,
        weight,
        product->product == CSO_PRODUCT_DESTINATION ? arguments->out : arguments->destination_in,
        arguments->finish.bias,
        arguments->finish.residual,
        arguments->workspace};
    dnnl_exec_arg_t list[MEMORIES];
    int count = 0;
    for (int i = 0; i < MEMORIES; i++) {
        if (!product->memory[i]) {
            continue;
        }
        /* oneDNN's handles are not const, what it only reads stays unchanged all the same. */
        status =
            cso_onednn_check(device, dnnl_memory_set_data_handle(product->memory[i], (void *)(uintptr_t)pointers[i]),
                             product->operation);
        if (status != CARSO_OK) {
            return status;
        }
        list[count++] = (dnnl_exec_arg_t){names[product->product][i], product->memory[i]};
    }
    dnnl_status_t result = dnnl_primitive_execute(product->primitive, product->stream, count, list);
    if (result == dnnl_success) {
        result = dnnl_stream_wait(product->stream);
    }
    status = cso_onednn_check(device, result, product->operation);
    if (status == CARSO_OK && reorders && gradient) {
        status =
            cso_reorder_run(device, &product->reorder, product->stream, reordered, arguments->out, product->operation);
    }
    return status;
}
