/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Convolution, transposed convolution and their gradients are three loops over one geometry. A convolution reads the
 * "large" side and writes the "small" one, a transposed convolution goes the other way; the weight is
 * [small channels][large channels / groups][kernel height][kernel width] for both. Each loop sums a row of outputs in
 * double, with the columns innermost so that the compiler can vectorise without reordering a sum.
 */

typedef struct geometry {
    int64_t batch, groups;
    int64_t large_channels, large_height, large_width;
    int64_t small_channels, small_height, small_width;
    int64_t large_group, small_group; /* channels per group */
    int64_t kernel[2], stride[2], dilation[2], pad[2];
} geometry;

static geometry geometry_of(const cso_op *op)
{
    const cso_attributes *attributes = &op->attributes;
    const bool transposed = op->kind == CSO_OP_TRANSPOSED_CONVOLUTION;
    const cso_shape *large = transposed ? &op->output : &op->input[0];
    const cso_shape *small = transposed ? &op->input[0] : &op->output;
    geometry g = {
        .batch = op->batch,
        .groups = attributes->groups,
        .large_channels = large->dimension[0],
        .large_height = large->dimension[1],
        .large_width = large->dimension[2],
        .small_channels = small->dimension[0],
        .small_height = small->dimension[1],
        .small_width = small->dimension[2],
    };
    g.large_group = g.large_channels / g.groups;
    g.small_group = g.small_channels / g.groups;
    for (int axis = 0; axis < 2; axis++) {
        g.kernel[axis] = attributes->kernel[axis];
        g.stride[axis] = attributes->stride[axis];
        g.dilation[axis] = attributes->dilation[axis];
        g.pad[axis] = attributes->pad_begin[axis];
    }
    return g;
}

/* The small side's columns first .. last - 1 see a column of the large side, column * stride + offset, through kernel
 * column kernel_column. */
typedef struct column_range {
    int64_t first, last, offset;
} column_range;

static column_range columns_through(const geometry *g, int64_t kernel_column)
{
    const int64_t stride = g->stride[1];
    column_range range = {.offset = kernel_column * g->dilation[1] - g->pad[1]};
    range.first = range.offset < 0 ? (-range.offset + stride - 1) / stride : 0;
    range.last = range.offset < g->large_width ? (g->large_width - 1 - range.offset) / stride + 1 : 0;
    if (range.last > g->small_width) {
        range.last = g->small_width;
    }
    return range;
}

static void large_to_small(const geometry *g, const real *weight, const real *bias, const real *large,
                           const real *residual, real *small, const cso_epilogue *epilogue, double *restrict row)
{
    const int64_t kernel_area = g->kernel[0] * g->kernel[1];
    const int64_t stride = g->stride[1];
    for (int64_t n = 0; n < g->batch; n++) {
        for (int64_t c = 0; c < g->small_channels; c++) {
            const int64_t large_first = c / g->small_group * g->large_group;
            const real *image = large + (n * g->large_channels + large_first) * g->large_height * g->large_width;
            const real *filter = weight + c * g->large_group * kernel_area;
            for (int64_t h = 0; h < g->small_height; h++) {
                for (int64_t w = 0; w < g->small_width; w++) {
                    row[w] = bias != NULL ? (double)bias[c] : 0.0;
                }
                for (int64_t j = 0; j < g->kernel[1]; j++) {
                    const column_range range = columns_through(g, j);
                    for (int64_t l = 0; l < g->large_group; l++) {
                        for (int64_t i = 0; i < g->kernel[0]; i++) {
                            const int64_t y = h * g->stride[0] + i * g->dilation[0] - g->pad[0];
                            if (y < 0 || y >= g->large_height) {
                                continue;
                            }
                            const double factor = (double)filter[l * kernel_area + i * g->kernel[1] + j];
                            const real *source = image + (l * g->large_height + y) * g->large_width;
                            if (stride == 1) {
                                for (int64_t w = range.first; w < range.last; w++) {
                                    row[w] += factor * (double)source[w + range.offset];
                                }
                            } else {
                                for (int64_t w = range.first; w < range.last; w++) {
                                    row[w] += factor * (double)source[w * stride + range.offset];
                                }
                            }
                        }
                    }
                }
                const int64_t position = ((n * g->small_channels + c) * g->small_height + h) * g->small_width;
                finish_row(row, g->small_width, epilogue, residual != NULL ? residual + position : NULL,
                           small + position);
            }
        }
    }
}

static void small_to_large(const geometry *g, const real *weight, const real *bias, const real *small, real *large,
                           const cso_epilogue *epilogue, double *restrict row)
{
    const int64_t kernel_area = g->kernel[0] * g->kernel[1];
    const int64_t stride = g->stride[1];
    for (int64_t n = 0; n < g->batch; n++) {
        for (int64_t c = 0; c < g->large_channels; c++) {
            const int64_t small_first = c / g->large_group * g->small_group;
            const real *image = small + (n * g->small_channels + small_first) * g->small_height * g->small_width;
            const real *filter = weight + (small_first * g->large_group + c % g->large_group) * kernel_area;
            for (int64_t y = 0; y < g->large_height; y++) {
                for (int64_t x = 0; x < g->large_width; x++) {
                    row[x] = bias != NULL ? (double)bias[c] : 0.0;
                }
                for (int64_t i = 0; i < g->kernel[0]; i++) {
                    const int64_t reach = y + g->pad[0] - i * g->dilation[0];
                    const int64_t h = reach / g->stride[0];
                    if (reach < 0 || reach % g->stride[0] != 0 || h >= g->small_height) {
                        continue;
                    }
                    for (int64_t j = 0; j < g->kernel[1]; j++) {
                        const column_range range = columns_through(g, j);
                        for (int64_t s = 0; s < g->small_group; s++) {
                            const double factor =
                                (double)filter[s * g->large_group * kernel_area + i * g->kernel[1] + j];
                            const real *source = image + (s * g->small_height + h) * g->small_width;
                            if (stride == 1) {
                                for (int64_t w = range.first; w < range.last; w++) {
                                    row[w + range.offset] += factor * (double)source[w];
                                }
                            } else {
                                for (int64_t w = range.first; w < range.last; w++) {
                                    row[w * stride + range.offset] += factor * (double)source[w];
                                }
                            }
                        }
                    }
                }
                finish_row(row, g->large_width, epilogue, NULL,
                           large + ((n * g->large_channels + c) * g->large_height + y) * g->large_width);
            }
        }
    }
}

/* The weight's element (c, l, i, j) is the sum, over the pixels that it joins, of large times small. */
static double joined_sum(const geometry *g, const real *large, const real *small, int64_t c, int64_t large_channel,
                         int64_t i, int64_t j, double *restrict row)
{
    const column_range range = columns_through(g, j);
    const int64_t stride = g->stride[1];
    for (int64_t w = range.first; w < range.last; w++) {
        row[w] = 0;
    }
    for (int64_t n = 0; n < g->batch; n++) {
        const real *large_plane = large + (n * g->large_channels + large_channel) * g->large_height * g->large_width;
        const real *small_plane = small + (n * g->small_channels + c) * g->small_height * g->small_width;
        for (int64_t h = 0; h < g->small_height; h++) {
            const int64_t y = h * g->stride[0] + i * g->dilation[0] - g->pad[0];
            if (y < 0 || y >= g->large_height) {
                continue;
            }
            const real *large_row = large_plane + y * g->large_width;
            const real *small_row = small_plane + h * g->small_width;
            for (int64_t w = range.first; w < range.last; w++) {
                row[w] += (double)small_row[w] * (double)large_row[w * stride + range.offset];
            }
        }
    }
    double sum = 0;
    for (int64_t w = range.first; w < range.last; w++) {
        sum += row[w];
    }
    return sum;
}

static void weight_gradient(const geometry *g, const real *large, const real *small, real *gradient, double *row)
{
    for (int64_t c = 0; c < g->small_channels; c++) {
        for (int64_t l = 0; l < g->large_group; l++) {
            const int64_t large_channel = c / g->small_group * g->large_group + l;
            for (int64_t i = 0; i < g->kernel[0]; i++) {
                for (int64_t j = 0; j < g->kernel[1]; j++) {
                    *gradient++ = (real)joined_sum(g, large, small, c, large_channel, i, j, row);
                }
            }
        }
    }
}

static void sum_over_channels(int64_t batch, const cso_shape *shape, const real *values, real *sums)
{
    const int64_t channels = cso_reference_channels(shape);
    const int64_t space = cso_reference_space(shape);
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0;
        for (int64_t n = 0; n < batch; n++) {
            const real *plane = values + (n * channels + c) * space;
            for (int64_t i = 0; i < space; i++) {
                sum += (double)plane[i];
            }
        }
        sums[c] = (real)sum;
    }
}

static void run_convolution(const cso_kernel *kernel, const cso_arguments *arguments)
{
    static const cso_epilogue no_epilogue = {.activate = false};
    const cso_op *op = &kernel->op;
    const geometry g = geometry_of(op);
    const bool transposed = op->kind == CSO_OP_TRANSPOSED_CONVOLUTION;
    const real *weight = parameter_data(op, 0);
    const real *source = arguments->input[0];
    double *row = arguments->workspace;
    switch (op->direction) {
    case CSO_FORWARD:
        if (transposed) {
            small_to_large(&g, weight, parameter_data(op, 1), source, arguments->output[0], &op->epilogue, row);
        } else {
            large_to_small(&g, weight, parameter_data(op, 1), source,
                           op->epilogue.residual ? arguments->input[1] : NULL, arguments->output[0],
                           &op->epilogue, row);
        }
        break;
    case CSO_BACKWARD_DATA:
        if (arguments->output[0] == NULL) {
            break;
        }
        if (transposed) {
            large_to_small(&g, weight, NULL, source, NULL, arguments->output[0], &no_epilogue, row);
        } else {
            small_to_large(&g, weight, NULL, source, arguments->output[0], &no_epilogue, row);
        }
        break;
    case CSO_BACKWARD_PARAMETERS:
        if (arguments->output[0] != NULL) {
            const real *input = arguments->input[1];
            weight_gradient(&g, transposed ? source : input, transposed ? input : source, arguments->output[0], row);
        }
        if (op->parameter[1] != NULL && arguments->output[1] != NULL) {
            sum_over_channels(op->batch, &op->output, source, arguments->output[1]);
        }
        break;
    }
}

static size_t convolution_workspace(const cso_op *op)
{
    const geometry g = geometry_of(op);
    const int64_t longest = g.large_width > g.small_width ? g.large_width : g.small_width;
    return (size_t)longest * sizeof(double);
}
