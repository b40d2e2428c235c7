/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Activations, sums, multiples and standardisation. Forward runs may be in place: they go through a row that is read
 * completely before it is written.
 */

enum { ROW_LENGTH = 512 };

static int64_t row_length_at(int64_t position, int64_t count)
{
    return count - position < ROW_LENGTH ? count - position : ROW_LENGTH;
}

static void run_activation_forward(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    const cso_epilogue activation = {.activate = true, .activation = op->kind, .slope = op->attributes.slope};
    const int64_t count = op->batch * cso_reference_count(&op->output);
    const real *x = arguments->input[0];
    real *y = arguments->output[0];
    double row[ROW_LENGTH];
    for (int64_t i = 0; i < count; i += ROW_LENGTH) {
        const int64_t length = row_length_at(i, count);
        load_row(row, length, x + i);
        finish_row(row, length, &activation, NULL, y + i);
    }
}

/* value: the output, but for SiLU, whose output does not determine its input. */
static void run_activation_backward(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    const int64_t count = op->batch * cso_reference_count(&op->output);
    const real *gradient = arguments->input[0];
    const real *value = arguments->input[1];
    real *dx = arguments->output[0];
    if (dx == NULL) {
        return;
    }
    switch (op->kind) {
    case CSO_OP_RELU:
        for (int64_t i = 0; i < count; i++) {
            dx[i] = value[i] <= 0 ? 0 : gradient[i];
        }
        break;
    case CSO_OP_LEAKY_RELU:
        for (int64_t i = 0; i < count; i++) {
            dx[i] = value[i] <= 0 ? (real)((double)gradient[i] * (double)op->attributes.slope) : gradient[i];
        }
        break;
    case CSO_OP_SILU:
        for (int64_t i = 0; i < count; i++) {
            const double x = (double)value[i];
            const double s = 1 / (1 + exp(-x));
            dx[i] = (real)((double)gradient[i] * s * (1 + x * (1 - s)));
        }
        break;
    case CSO_OP_SIGMOID:
        for (int64_t i = 0; i < count; i++) {
            const double y = (double)value[i];
            dx[i] = (real)((double)gradient[i] * y * (1 - y));
        }
        break;
    case CSO_OP_TANH:
        for (int64_t i = 0; i < count; i++) {
            const double y = (double)value[i];
            dx[i] = (real)((double)gradient[i] * (1 - y * y));
        }
        break;
    default:
        break;
    }
}

static void run_add(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    const int64_t count = op->batch * cso_reference_count(&op->output);
    if (op->direction == CSO_BACKWARD_DATA) {
        for (int i = 0; i < op->input_count; i++) {
            if (arguments->output[i] != NULL && arguments->output[i] != arguments->input[0]) {
                memcpy(arguments->output[i], arguments->input[0], (size_t)count * sizeof(real));
            }
        }
        return;
    }
    const real *first = arguments->input[0];
    const real *second = arguments->input[1];
    real *y = arguments->output[0];
    double row[ROW_LENGTH];
    for (int64_t i = 0; i < count; i += ROW_LENGTH) {
        const int64_t length = row_length_at(i, count);
        load_row(row, length, first + i);
        finish_row(row, length, &op->epilogue, second + i, y + i);
    }
}

static void run_scale(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    const int64_t count = op->batch * cso_reference_count(&op->output);
    const double factor = (double)op->attributes.factor;
    const real *source = arguments->input[0];
    real *destination = arguments->output[0];
    if (destination == NULL) {
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        destination[i] = (real)(factor * (double)source[i]);
    }
}

static void run_standardise(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    const int64_t channels = cso_reference_channels(&op->output);
    const int64_t space = cso_reference_space(&op->output);
    const real *source = arguments->input[0];
    real *destination = arguments->output[0];
    if (destination == NULL) {
        return;
    }
    for (int64_t n = 0; n < op->batch; n++) {
        for (int64_t c = 0; c < channels; c++) {
            const double mean = op->direction == CSO_FORWARD ? (double)op->attributes.mean[c] : 0.0;
            const double deviation = (double)op->attributes.deviation[c];
            const int64_t start = (n * channels + c) * space;
            for (int64_t i = start; i < start + space; i++) {
                destination[i] = (real)(((double)source[i] - mean) / deviation);
            }
        }
    }
}
