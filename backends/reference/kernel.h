/* SPDX-License-Identifier: BSD-2-Clause */
/* What a prepared operation of the reference backends is; nothing here depends on the element type. */
#ifndef CSO_REFERENCE_KERNEL_H
#define CSO_REFERENCE_KERNEL_H

#include "backends/backend.h"

struct cso_device {
    carso_context *context;
};

typedef void (*cso_reference_run)(const cso_kernel *kernel, const cso_arguments *arguments);

struct cso_kernel {
    cso_op op;
    cso_reference_run run;
    size_t workspace_size;
    cso_shape input[]; /* what op.input points to */
};

/* Images of a rank 1 tensor are one pixel of as many channels as there are features. */
static inline int64_t cso_reference_channels(const cso_shape *shape)
{
    return shape->dimension[0];
}

static inline int64_t cso_reference_space(const cso_shape *shape)
{
    return shape->rank == 3 ? shape->dimension[1] * shape->dimension[2] : 1;
}

static inline int64_t cso_reference_count(const cso_shape *shape)
{
    return cso_reference_channels(shape) * cso_reference_space(shape);
}

#endif
