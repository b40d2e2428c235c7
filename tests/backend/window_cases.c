/* SPDX-License-Identifier: BSD-2-Clause */
#include "window_cases.h"

#include "trial.h"

/* {vertical, horizontal}; a group count of 0 stands for 1, strides and dilations of 0 for 1. */
typedef struct geometry {
    int64_t batch, in, out, height, width;
    int32_t kernel[2], stride[2], dilation[2], pad_begin[2], pad_end[2], output_padding[2];
    int32_t groups;
} geometry;

static const geometry convolutions[] = {
    {2, 3, 5, 9, 7, .kernel = {3, 3}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {3, 32, 32, 16, 15, .kernel = {3, 3}, .pad_begin = {1, 1}, .pad_end = {1, 1}}, /* these seven: enough for Winograd */
    {3, 33, 62, 15, 16, .kernel = {3, 3}, .pad_begin = {0, 2}, .pad_end = {2, 1}},
    {2, 33, 31, 18, 16, .kernel = {3, 3}},
    {3, 32, 32, 12, 12, .kernel = {3, 3}, .pad_begin = {2, 2}, .pad_end = {2, 2}},
    {2, 20, 64, 20, 12, .kernel = {3, 3}, .pad_begin = {2, 0}, .pad_end = {0, 1}},
    {1, 160, 64, 16, 15, .kernel = {3, 3}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {1, 64, 163, 14, 15, .kernel = {3, 3}, .pad_begin = {2, 1}, .pad_end = {1, 2}},
    {1, 17, 5, 6, 5, .kernel = {1, 1}},
    {2, 16, 32, 8, 8, .kernel = {1, 1}, .stride = {2, 2}},
    {1, 3, 17, 11, 13, .kernel = {3, 3}, .stride = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {2, 5, 3, 8, 9, .kernel = {2, 2}, .stride = {3, 3}},                                          /* stride > kernel */
    {1, 1, 3, 7, 7, .kernel = {1, 1}, .stride = {3, 2}},
    {2, 3, 8, 3, 3, .kernel = {5, 5}, .pad_begin = {2, 2}, .pad_end = {2, 2}},                    /* kernel > input */
    {1, 5, 1, 2, 1, .kernel = {4, 3}, .pad_begin = {1, 1}, .pad_end = {2, 1}},
    {2, 3, 5, 5, 6, .kernel = {3, 3}, .pad_begin = {0, 1}, .pad_end = {2, 0}},                    /* asymmetric */
    {1, 8, 8, 7, 5, .kernel = {3, 2}, .stride = {2, 1}, .pad_begin = {2, 0}, .pad_end = {0, 1}},
    {1, 3, 5, 9, 9, .kernel = {3, 3}, .dilation = {2, 2}, .pad_begin = {2, 2}, .pad_end = {2, 2}},
    {2, 5, 17, 5, 11, .kernel = {2, 3}, .stride = {1, 2}, .dilation = {1, 3}, .pad_begin = {0, 3}, .pad_end = {0, 3}},
    {2, 17, 17, 6, 6, .kernel = {3, 3}, .pad_begin = {1, 1}, .pad_end = {1, 1}, .groups = 17},    /* depthwise */
    {1, 16, 16, 9, 5, .kernel = {3, 3}, .stride = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1}, .groups = 16},
    {1, 5, 10, 5, 5, .kernel = {3, 3}, .groups = 5},
    {2, 6, 4, 5, 4, .kernel = {3, 3}, .pad_begin = {1, 1}, .pad_end = {1, 1}, .groups = 2},
    {1, 32, 64, 8, 8, .kernel = {3, 3}, .pad_begin = {1, 1}, .pad_end = {1, 1}, .groups = 4, .dilation = {2, 2}},
    {3, 32, 64, 16, 16, .kernel = {3, 3}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {1, 64, 64, 8, 8, .kernel = {3, 3}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {4, 64, 128, 16, 16, .kernel = {3, 3}, .stride = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {5, 16, 160, 14, 14, .kernel = {3, 3}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {2, 1, 16, 28, 28, .kernel = {3, 3}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {1, 3, 17, 15, 17, .kernel = {7, 7}, .stride = {2, 2}, .pad_begin = {3, 3}, .pad_end = {3, 3}},
    {2, 17, 3, 1, 1, .kernel = {1, 1}},
    {2, 3, 5, 1, 1, .kernel = {3, 3}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {1, 1, 1, 5, 5, .kernel = {5, 5}},
    {1, 3, 3, 4, 33, .kernel = {1, 5}, .pad_begin = {0, 2}, .pad_end = {0, 2}},
};

static const geometry transposed_convolutions[] = {
    {2, 5, 3, 5, 4, .kernel = {3, 3}, .stride = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {2, 16, 8, 4, 4, .kernel = {3, 3}, .stride = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1},
     .output_padding = {1, 1}},
    {3, 32, 32, 16, 15, .kernel = {3, 3}, .pad_begin = {1, 1}, .pad_end = {1, 1}},                 /* for Winograd */
    {1, 160, 64, 16, 15, .kernel = {3, 3}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {2, 48, 31, 13, 14, .kernel = {3, 3}, .pad_begin = {2, 0}, .pad_end = {0, 1}},
    {1, 3, 17, 3, 5, .kernel = {3, 3}, .stride = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1},
     .output_padding = {0, 1}},
    {1, 32, 3, 33, 33, .kernel = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {2, 17, 1, 6, 7, .kernel = {3, 3}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {1, 8, 5, 3, 3, .kernel = {4, 4}, .stride = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {2, 3, 5, 4, 3, .kernel = {2, 2}, .stride = {3, 3}, .output_padding = {2, 2}},                 /* stride > kernel */
    {1, 5, 3, 4, 4, .kernel = {1, 1}, .stride = {2, 3}, .output_padding = {1, 2}},
    {1, 5, 17, 4, 3, .kernel = {1, 1}},
    {2, 3, 3, 1, 1, .kernel = {3, 3}},
    {1, 17, 5, 1, 1, .kernel = {1, 1}},
    {2, 5, 3, 5, 4, .kernel = {3, 3}, .dilation = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {1, 3, 8, 4, 5, .kernel = {3, 2}, .stride = {2, 2}, .dilation = {1, 3}, .pad_begin = {0, 1}, .pad_end = {1, 2}},
    {2, 17, 17, 4, 4, .kernel = {3, 3}, .stride = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1}, .groups = 17},
    {1, 10, 5, 3, 3, .kernel = {3, 3}, .stride = {2, 2}, .groups = 5},
    {1, 6, 4, 3, 4, .kernel = {3, 3}, .stride = {2, 1}, .pad_begin = {1, 0}, .pad_end = {0, 2}, .groups = 2},
    {2, 64, 32, 8, 8, .kernel = {3, 3}, .stride = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1},
     .output_padding = {1, 1}},
    {1, 32, 16, 9, 7, .kernel = {5, 5}, .stride = {2, 2}, .pad_begin = {2, 2}, .pad_end = {2, 2},
     .output_padding = {1, 0}},
    {1, 3, 5, 2, 2, .kernel = {5, 5}, .pad_begin = {2, 2}, .pad_end = {1, 3}},
    {1, 1, 1, 7, 7, .kernel = {3, 3}, .stride = {2, 2}},
    {2, 64, 96, 5, 5, .kernel = {3, 3}, .stride = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {5, 32, 3, 14, 14, .kernel = {3, 3}, .stride = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1},
     .output_padding = {1, 1}},
};

/* Padding is under the kernel, so that no window is all padding. */
static const geometry pools[] = {
    {2, 3, 3, 8, 8, .kernel = {2, 2}, .stride = {2, 2}},
    {1, 17, 17, 7, 9, .kernel = {3, 3}, .stride = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1}},
    {2, 5, 5, 5, 6, .kernel = {3, 2}, .stride = {1, 1}},
    {1, 1, 1, 9, 9, .kernel = {2, 2}, .stride = {3, 3}},                                           /* stride > kernel */
    {1, 5, 5, 5, 5, .kernel = {1, 1}, .stride = {2, 2}},
    {2, 3, 3, 2, 2, .kernel = {4, 4}, .stride = {1, 1}, .pad_begin = {1, 1}, .pad_end = {1, 1}},   /* kernel > input */
    {1, 8, 8, 6, 5, .kernel = {3, 3}, .stride = {2, 2}, .pad_begin = {0, 2}, .pad_end = {2, 0}},   /* asymmetric */
    {1, 16, 16, 5, 1, .kernel = {3, 1}, .stride = {1, 1}, .pad_begin = {2, 0}, .pad_end = {2, 0}},
    {1, 64, 64, 16, 16, .kernel = {2, 2}, .stride = {2, 2}},
};

static bool is_pool(cso_op_kind kind)
{
    return kind == CSO_OP_MAX_POOL || kind == CSO_OP_AVERAGE_POOL;
}

int window_case_count(cso_op_kind kind)
{
    if (is_pool(kind)) {
        return (int)(sizeof pools / sizeof pools[0]);
    }
    return (int)(kind == CSO_OP_CONVOLUTION ? sizeof convolutions / sizeof convolutions[0]
                                            : sizeof transposed_convolutions / sizeof transposed_convolutions[0]);
}

static window_case from_geometry(const geometry *source, bool pool)
{
    window_case it = {.batch = source->batch, .in = source->in, .out = source->out};
    cso_attributes *attributes = &it.attributes;
    it.height = source->height;
    it.width = source->width;
    for (int axis = 0; axis < 2; axis++) {
        attributes->kernel[axis] = source->kernel[axis];
        attributes->stride[axis] = source->stride[axis] > 0 ? source->stride[axis] : 1;
        attributes->dilation[axis] = source->dilation[axis] > 0 ? source->dilation[axis] : 1;
        attributes->pad_begin[axis] = source->pad_begin[axis];
        attributes->pad_end[axis] = source->pad_end[axis];
        attributes->output_padding[axis] = source->output_padding[axis];
    }
    attributes->groups = pool ? 0 : source->groups > 0 ? source->groups : 1;
    return it;
}

static int32_t below(uint64_t *state, int64_t limit)
{
    return (int32_t)test_random_below(state, limit);
}

int64_t window_output(cso_op_kind kind, const window_case *it, int axis)
{
    const cso_attributes *attributes = &it->attributes;
    const int64_t size = axis == 0 ? it->height : it->width;
    const int64_t padding = attributes->pad_begin[axis] + attributes->pad_end[axis];
    const int64_t extent = attributes->dilation[axis] * (attributes->kernel[axis] - 1) + 1;
    if (kind == CSO_OP_TRANSPOSED_CONVOLUTION) {
        return (size - 1) * attributes->stride[axis] - padding + extent + attributes->output_padding[axis];
    }
    return size + padding < extent ? 0 : (size + padding - extent) / attributes->stride[axis] + 1;
}

static void draw_axis(cso_op_kind kind, window_case *it, int axis, uint64_t *state)
{
    cso_attributes *attributes = &it->attributes;
    attributes->kernel[axis] = 1 + below(state, 5);
    attributes->stride[axis] = 1 + below(state, 3);
    attributes->dilation[axis] = is_pool(kind) || below(state, 3) > 0 ? 1 : 2;
    attributes->pad_begin[axis] = below(state, attributes->kernel[axis] < 3 ? attributes->kernel[axis] : 3);
    attributes->pad_end[axis] = below(state, attributes->kernel[axis] < 3 ? attributes->kernel[axis] : 3);
    if (kind == CSO_OP_TRANSPOSED_CONVOLUTION) {
        attributes->output_padding[axis] = below(state, attributes->stride[axis]);
    }
    *(axis == 0 ? &it->height : &it->width) = 1 + below(state, 12);
}

window_case window_case_at(cso_op_kind kind, int index, uint64_t *state)
{
    static const int64_t group_channels[] = {1, 2, 3, 5, 8, 17};
    const geometry *table = is_pool(kind)                ? pools
                            : kind == CSO_OP_CONVOLUTION ? convolutions
                                                         : transposed_convolutions;
    if (index < window_case_count(kind)) {
        return from_geometry(&table[index], is_pool(kind));
    }
    window_case it = {.batch = 1 + below(state, 3)};
    const int32_t groups = below(state, 3) == 0 ? 2 + below(state, 2) : 1;
    it.attributes.groups = is_pool(kind) ? 0 : groups;
    it.in = groups * group_channels[test_random_below(state, 6)];
    it.out = groups * group_channels[test_random_below(state, 6)];
    for (int axis = 0; axis < 2; axis++) {
        do {
            draw_axis(kind, &it, axis, state);
        } while (window_output(kind, &it, axis) < 1);
    }
    return it;
}
