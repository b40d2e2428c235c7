/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of this backend share: the device, the head of every kernel, errors, and the division of work. */
#ifndef CSO_ONEDNN_DEVICE_H
#define CSO_ONEDNN_DEVICE_H

#include "backends/backend.h"
#include "backends/onednn/compatibility.h"
#include "backends/onednn/loops.h"

struct cso_device {
    const carso_context *context;
    int threads;
    dnnl_engine_t engine;
    const cso_loops *loops;
    /* With real points and with complex ones. NULL: none for this processor, or none wanted. */
    const struct cso_winograd *winograd, *winograd_complex;
    const struct cso_thin *thin;         /* NULL: none for this processor */
};

typedef carso_status (*cso_kernel_run)(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments);

/* The first member of each file's own kernel. */
struct cso_kernel {
    cso_kernel_run run;
    void (*destroy)(cso_device *device, cso_kernel *kernel); /* NULL: releasing the kernel is enough */
    size_t workspace;
    char name[64];
};

/* Preparations by kind; each sets *out, which is NULL on failure. */
carso_status cso_onednn_convolution_prepare(cso_device *device, const cso_op *op, cso_kernel **out);
carso_status cso_onednn_linear_prepare(cso_device *device, const cso_op *op, cso_kernel **out);
carso_status cso_onednn_batch_norm_prepare(cso_device *device, const cso_op *op, cso_kernel **out);
carso_status cso_onednn_pointwise_prepare(cso_device *device, const cso_op *op, cso_kernel **out);
carso_status cso_onednn_arrangement_prepare(cso_device *device, const cso_op *op, cso_kernel **out);
carso_status cso_onednn_pool_prepare(cso_device *device, const cso_op *op, cso_kernel **out);
size_t cso_onednn_batch_norm_saved(const cso_op *op);
size_t cso_onednn_pool_saved(const cso_op *op);

/* CARSO_OK, or a failure that names the operation and what oneDNN said. */
carso_status cso_onednn_check(const cso_device *device, dnnl_status_t status, const char *operation);

/* Brackets oneDNN and OpenMP work: the calling thread's OpenMP settings become the device's, and come back. */
void cso_onednn_begin(cso_device *device, int *state);
void cso_onednn_end(cso_device *device, int state);

/* Part part of parts of 0 .. count - 1. It depends on nothing else, so that sums over parts repeat bit for bit. */
static inline void cso_share(int64_t count, int parts, int part, int64_t *first, int64_t *last)
{
    const int64_t each = count / parts, more = count % parts;
    *first = part * each + (part < more ? part : more);
    *last = *first + each + (part < more ? 1 : 0);
}

/* Elements under which starting the thread pool costs more than it gains. */
#define CSO_PARALLEL_ELEMENTS 8192

/* Parts for work on so many elements: one, or the device's threads. Never depends on load. */
static inline int cso_parts(const cso_device *device, int64_t elements)
{
    return elements < CSO_PARALLEL_ELEMENTS ? 1 : device->threads;
}

static inline int64_t cso_pixels(const cso_shape *shape)
{
    return shape->rank == 3 ? shape->dimension[1] * shape->dimension[2] : 1;
}

static inline int64_t cso_elements(const cso_shape *shape) { return shape->dimension[0] * cso_pixels(shape); }

static inline size_t cso_round_up(size_t bytes) { return (bytes + CSO_ALIGNMENT - 1) / CSO_ALIGNMENT * CSO_ALIGNMENT; }

#endif
