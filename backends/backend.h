/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one interface between libcarso and what computes (docs/backends.md).
 *
 * A backend has one element type and one layout for images; the executor in lib/graph converts at the edges of a
 * network, so that inside every tensor is dense in that layout: [batch][C][H][W] or [batch][H][W][C] for rank 3,
 * [batch][F] for rank 1. Parameters are dense in the layouts given at cso_op_kind, whatever the image layout.
 * Everything is validated before it gets here; backends assume valid input, except that they may refuse an operation in
 * supports. Each operation is prepared once for a batch size and run many times.
 */
#ifndef CSO_BACKEND_H
#define CSO_BACKEND_H

#include "base/context.h"

#define CSO_BACKEND_INTERFACE 1

typedef enum cso_element { CSO_F32, CSO_F64 } cso_element;
typedef enum cso_layout { CSO_NCHW, CSO_NHWC } cso_layout;

/* Shape of one image's share of a tensor: rank 1 {features}, or rank 3 {channels, height, width}. */
typedef struct cso_shape {
    int rank;
    int64_t dimension[3];
} cso_shape;

#define CSO_MAX_PARAMETERS 4

/*
 * Operations. x: input, y: output, p0..: parameters. All of them are functions of one image, except BatchNorm in training.
 * "Saved": kernel-private bytes that the forward run writes and the backward run reads.
 */
typedef enum cso_op_kind {
    /* p0 weight [out][in/groups][kh][kw], p1 bias [out] or NULL. Cross-correlation. */
    CSO_OP_CONVOLUTION,
    /* p0 weight [in][out/groups][kh][kw], p1 bias [out] or NULL. The gradient of a convolution to its input, with
     * y size = (x size - 1) * stride - pad_begin - pad_end + dilation * (kernel - 1) + output_padding + 1. */
    CSO_OP_TRANSPOSED_CONVOLUTION,
    /* rank 1 to rank 1. p0 weight [out][in], p1 bias [out] or NULL. */
    CSO_OP_LINEAR,
    /* Per channel (rank 3) or feature (rank 1). p0 weight, p1 bias, p2 running mean, p3 running variance, all [channels].
     * training: batch statistics (biased variance) normalise, and p2, p3 are updated: r += momentum * (batch - r), with the
     * unbiased variance. Saved: mean and 1/sqrt(var + eps) (training). */
    CSO_OP_BATCH_NORM,
    CSO_OP_RELU,
    CSO_OP_LEAKY_RELU, /* slope */
    CSO_OP_SILU,
    CSO_OP_SIGMOID,
    CSO_OP_TANH,
    CSO_OP_ADD,         /* two inputs of one shape */
    CSO_OP_SCALE,       /* y = factor * x */
    CSO_OP_CONCATENATE, /* any number of inputs, along channels or features */
    CSO_OP_FLATTEN,     /* rank 3 to rank 1, in C, H, W order whatever the layout */
    CSO_OP_UNFLATTEN,   /* its inverse */
    CSO_OP_MAX_POOL,    /* padding counts as minus infinity; the first maximum in row order gets the gradient; NaN wins. Saved: arg max */
    CSO_OP_AVERAGE_POOL, /* count_padding */
    CSO_OP_GLOBAL_AVERAGE_POOL, /* rank 3 to rank 1 */
    CSO_OP_STANDARDISE, /* (x - mean[c]) / deviation[c], at most 4 channels */
    CSO_OP_COUNT
} cso_op_kind;

/* [0] is vertical, [1] horizontal. Fields that a kind does not use are 0. */
typedef struct cso_attributes {
    int32_t kernel[2], stride[2], dilation[2], pad_begin[2], pad_end[2], output_padding[2];
    int32_t groups;
    bool count_padding;
    bool training; /* BatchNorm */
    float slope, factor, epsilon, momentum;
    float mean[4], deviation[4];
} cso_attributes;

/*
 * A parameter, shared by graphs, programs and threads (reference counted in graph/parameter.h).
 *   host: dense float32. data: the backend's copy in its element type, dense; the same memory as host where the backend
 *   works on the host in float32.
 *   constant: neither ever changes, so that a backend may pack it once, in the form it likes, and keep that in packed
 *   (guarded by lock; released by packed_release). Not constant: data may change between two runs, kernels must read it
 *   at each run.
 *   gradient: not constant: data's size, zeroed by the trainer, accumulated by the executor.
 */
typedef struct cso_parameter {
    atomic_int references;
    const carso_context *context;
    int rank;
    int64_t dimension[4];
    size_t count;
    bool constant;
    bool counted; /* in the context's counts of memory */
    const float *host;
    void *owned;  /* host, where this parameter owns it */
    void *mapped; /* a cso_safetensors that keeps host alive, or NULL */
    void *data;
    void *gradient;
    pthread_mutex_t lock;
    void *packed;
    /* A convolution's weight, constant, may come without host and data where the backend defers: fill writes the values.
     * It is asked under lock, when they are packed. */
    void (*fill)(const struct cso_parameter *parameter, float *out);
    void *recipe;
    /* Such a convolution's values may be said to be base's times a factor for each output channel (of which base's first
     * dimension counts): then a backend may pack base, once for both, and scale what it computes. Not counted in base's
     * references: who uses this one keeps base too. */
    struct cso_parameter *base;
    const float *scale;
    struct cso_folded *folded; /* guarded by lock; graph/fold.c's: weights with a BatchNorm folded in, shared by programs */
} cso_parameter;

typedef enum cso_direction {
    CSO_FORWARD,
    CSO_BACKWARD_DATA,      /* to the inputs */
    CSO_BACKWARD_PARAMETERS /* to the parameters; BatchNorm: p0 and p1 */
} cso_direction;

/* Applied to the output of a forward CONVOLUTION, TRANSPOSED_CONVOLUTION, LINEAR, BATCH_NORM (not training) or ADD.
 * residual (CONVOLUTION only): added before the activation; it is the last input and has the output's shape. */
typedef struct cso_epilogue {
    bool residual;
    bool activate;
    cso_op_kind activation; /* RELU .. TANH */
    float slope;
} cso_epilogue;

typedef struct cso_op {
    cso_op_kind kind;
    cso_direction direction;
    int64_t batch;
    int input_count;        /* forward inputs, the residual not counted */
    const cso_shape *input; /* of the forward operation, whatever the direction */
    cso_shape output;       /* of the forward operation */
    cso_attributes attributes;
    cso_epilogue epilogue;
    cso_parameter *parameter[CSO_MAX_PARAMETERS]; /* NULL where the kind has none */
} cso_op;

/*
 * Arguments of a run: device pointers, none overlapping another, except that a pointwise operation (RELU .. SCALE,
 * STANDARDISE, BATCH_NORM not training) may run in place, input and output the same.
 *
 *   direction            input                                   output
 *   FORWARD              x0 .. xn-1 [, residual]                 y
 *   BACKWARD_DATA        dy [, needed]                           dx0 .. dxn-1 (NULL where not wanted)
 *   BACKWARD_PARAMETERS  dy, x                                   dp0, dp1 (overwritten; NULL where not wanted)
 *   BATCH_NORM training, BACKWARD_DATA (no BACKWARD_PARAMETERS exists for it)
 *                        dy, x                                   dx, dp0, dp1 (NULL where not wanted)
 *
 * needed, for BACKWARD_DATA: y for RELU, LEAKY_RELU, SIGMOID, TANH; x for SILU and BATCH_NORM in training; absent for all
 * others. BACKWARD_PARAMETERS exists for CONVOLUTION, TRANSPOSED_CONVOLUTION, LINEAR, BATCH_NORM not training. Backward
 * operations never have an epilogue.
 */
typedef struct cso_arguments {
    const void *const *input;
    void *const *output;
    void *saved;     /* saved_size bytes of the operation, where it has any */
    void *workspace; /* workspace_size bytes, contents undefined */
} cso_arguments;

typedef struct cso_device cso_device;
typedef struct cso_kernel cso_kernel;

typedef struct cso_backend {
    uint32_t interface; /* CSO_BACKEND_INTERFACE */
    const char *name;   /* "onednn" */
    const char *summary;
    cso_element element;
    cso_layout layout;
    bool host_memory; /* device pointers can be used on the host */
    bool defers;      /* constant weights of convolutions are read only to be packed, see cso_parameter */

    /* Required. threads >= 1. UNSUPPORTED where this machine cannot run the backend. */
    carso_status (*device_create)(carso_context *context, int threads, cso_device **out);
    void (*device_destroy)(cso_device *device);

    /* Optional, for host_memory false; NULL: the executor uses the context's allocator and memcpy. */
    carso_status (*buffer_create)(cso_device *device, size_t bytes, void **out);
    void (*buffer_destroy)(cso_device *device, void *buffer);
    carso_status (*buffer_write)(cso_device *device, void *destination, const void *source, size_t bytes);
    carso_status (*buffer_read)(cso_device *device, void *destination, const void *source, size_t bytes);

    /* Optional: brackets a sequence of runs on the calling thread (sets and restores its number of threads). state: from
     * begin to end. */
    void (*begin)(cso_device *device, int *state);
    void (*end)(cso_device *device, int state);

    /* Required. Never fails: unsupported is false, and the program is refused with the operation's name. */
    bool (*supports)(const cso_device *device, const cso_op *op);
    /* Required. op is only borrowed. Must be safe to call from several threads at once. */
    carso_status (*prepare)(cso_device *device, const cso_op *op, cso_kernel **out);
    void (*kernel_destroy)(cso_device *device, cso_kernel *kernel);
    size_t (*workspace_size)(const cso_kernel *kernel);
    /* Bytes that a FORWARD kernel saves for the backward ones of the same op and batch; 0 where none. Depends on the op alone. */
    size_t (*saved_size)(const cso_device *device, const cso_op *op);
    const char *(*kernel_name)(const cso_kernel *kernel);
    /* A kernel is run by one thread at a time; different kernels by any. */
    carso_status (*run)(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments);

    /* Required: destination += source, count elements. */
    carso_status (*accumulate)(cso_device *device, void *destination, const void *source, size_t count);
    /* Required where packed is used: releases parameter->packed. */
    void (*packed_release)(cso_device *device, cso_parameter *parameter);
} cso_backend;

/* backends/registry.c: in order of preference; NULL past the end. */
size_t cso_backend_count(void);
const cso_backend *cso_backend_at(size_t index);
const cso_backend *cso_backend_find(const char *name);

#endif
