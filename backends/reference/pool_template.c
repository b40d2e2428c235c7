/* SPDX-License-Identifier: BSD-2-Clause */
/* Maximum and mean over windows, mean over whole planes. */

typedef struct window {
    int64_t top, bottom, left, right; /* of the part that lies on the image; bottom and right are exclusive */
} window;

static window window_at(const cso_op *op, int64_t h, int64_t w)
{
    const cso_attributes *attributes = &op->attributes;
    const int64_t top = h * attributes->stride[0] - attributes->pad_begin[0];
    const int64_t left = w * attributes->stride[1] - attributes->pad_begin[1];
    const int64_t bottom = top + attributes->kernel[0];
    const int64_t right = left + attributes->kernel[1];
    return (window){
        .top = top > 0 ? top : 0,
        .bottom = bottom < op->input[0].dimension[1] ? bottom : op->input[0].dimension[1],
        .left = left > 0 ? left : 0,
        .right = right < op->input[0].dimension[2] ? right : op->input[0].dimension[2],
    };
}

static double window_divisor(const cso_op *op, const window *area)
{
    if (op->attributes.count_padding) {
        return (double)op->attributes.kernel[0] * (double)op->attributes.kernel[1];
    }
    return (double)((area->bottom - area->top) * (area->right - area->left));
}

/* Position in the plane of the first largest element; the first NaN where there is one; -1: the window is all
 * padding. */
static int32_t window_maximum(const real *plane, int64_t width, const window *area)
{
    int64_t best = -1;
    for (int64_t y = area->top; y < area->bottom; y++) {
        for (int64_t x = area->left; x < area->right; x++) {
            const real value = plane[y * width + x];
            if (value != value) {
                return (int32_t)(y * width + x);
            }
            if (best < 0 || value > plane[best]) {
                best = y * width + x;
            }
        }
    }
    return (int32_t)best;
}

static void run_max_pool(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    const int64_t height = op->output.dimension[1];
    const int64_t width = op->output.dimension[2];
    const int64_t planes = op->batch * op->output.dimension[0];
    real *y = arguments->output[0];
    int32_t *saved = arguments->saved;
    for (int64_t p = 0; p < planes; p++) {
        const real *plane = (const real *)arguments->input[0] + p * cso_reference_space(&op->input[0]);
        for (int64_t i = 0; i < height * width; i++) {
            const window area = window_at(op, i / width, i % width);
            const int32_t position = window_maximum(plane, op->input[0].dimension[2], &area);
            y[p * height * width + i] = position >= 0 ? plane[position] : (real)-INFINITY;
            if (saved != NULL) {
                saved[p * height * width + i] = position;
            }
        }
    }
}

static void run_max_pool_backward(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    const int64_t large = cso_reference_space(&op->input[0]);
    const int64_t small = cso_reference_space(&op->output);
    const int64_t planes = op->batch * op->output.dimension[0];
    const real *gradient = arguments->input[0];
    const int32_t *saved = arguments->saved;
    real *dx = arguments->output[0];
    double *sums = arguments->workspace;
    if (dx == NULL) {
        return;
    }
    for (int64_t p = 0; p < planes; p++) {
        clear_row(sums, large);
        for (int64_t i = 0; i < small; i++) {
            const int32_t position = saved[p * small + i];
            if (position >= 0) {
                sums[position] += (double)gradient[p * small + i];
            }
        }
        store_row(sums, large, dx + p * large);
    }
}

static void run_average_pool(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    const int64_t width = op->input[0].dimension[2];
    const int64_t large = cso_reference_space(&op->input[0]);
    const int64_t small = cso_reference_space(&op->output);
    const int64_t planes = op->batch * op->output.dimension[0];
    const bool forward = op->direction == CSO_FORWARD;
    double *sums = arguments->workspace;
    if (arguments->output[0] == NULL) {
        return;
    }
    for (int64_t p = 0; p < planes; p++) {
        const real *source = (const real *)arguments->input[0] + p * (forward ? large : small);
        clear_row(sums, forward ? small : large);
        for (int64_t i = 0; i < small; i++) {
            const window area = window_at(op, i / op->output.dimension[2], i % op->output.dimension[2]);
            const bool empty = area.bottom <= area.top || area.right <= area.left;
            const double divisor = empty ? 1 : window_divisor(op, &area);
            for (int64_t y = area.top; y < area.bottom; y++) {
                for (int64_t x = area.left; x < area.right; x++) {
                    if (forward) {
                        sums[i] += (double)source[y * width + x];
                    } else {
                        sums[y * width + x] += (double)source[i] / divisor;
                    }
                }
            }
            if (forward) {
                sums[i] /= divisor;
            }
        }
        store_row(sums, forward ? small : large, (real *)arguments->output[0] + p * (forward ? small : large));
    }
}

static void run_global_average_pool(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    const int64_t planes = op->batch * op->output.dimension[0];
    const int64_t space = cso_reference_space(&op->input[0]);
    const real *source = arguments->input[0];
    real *destination = arguments->output[0];
    if (destination == NULL) {
        return;
    }
    for (int64_t p = 0; p < planes; p++) {
        if (op->direction == CSO_FORWARD) {
            double sum = 0;
            for (int64_t i = 0; i < space; i++) {
                sum += (double)source[p * space + i];
            }
            destination[p] = (real)(sum / (double)space);
        } else {
            const real share = (real)((double)source[p] / (double)space);
            for (int64_t i = 0; i < space; i++) {
                destination[p * space + i] = share;
            }
        }
    }
}

static size_t max_pool_saved(const cso_op *op)
{
    return (size_t)(op->batch * cso_reference_count(&op->output)) * sizeof(int32_t);
}

/* The plane of sums. With wide padding the output can be the larger of the two. */
static size_t pool_workspace(const cso_op *op)
{
    const int64_t large = cso_reference_space(&op->input[0]);
    const int64_t small = cso_reference_space(&op->output);
    return (size_t)(large > small ? large : small) * sizeof(double);
}
