/* SPDX-License-Identifier: BSD-2-Clause */
/* y[n][o] = sum over i of x[n][i] * weight[o][i], plus bias[o]. */

enum { DOT_LANES = 8 };

/* Several sums in flight, in a fixed order, so that the compiler can vectorise. */
static double dot_product(const real *a, const real *b, int64_t count)
{
    double lane[DOT_LANES] = {0};
    int64_t i = 0;
    for (; i + DOT_LANES <= count; i += DOT_LANES) {
        for (int k = 0; k < DOT_LANES; k++) {
            lane[k] += (double)a[i + k] * (double)b[i + k];
        }
    }
    double sum = 0;
    for (int k = 0; k < DOT_LANES; k++) {
        sum += lane[k];
    }
    for (; i < count; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static void linear_forward(const cso_op *op, const real *x, real *y, double *row)
{
    const int64_t inputs = op->input[0].dimension[0];
    const int64_t outputs = op->output.dimension[0];
    const real *weight = parameter_data(op, 0);
    const real *bias = parameter_data(op, 1);
    for (int64_t n = 0; n < op->batch; n++) {
        for (int64_t o = 0; o < outputs; o++) {
            row[o] = dot_product(x + n * inputs, weight + o * inputs, inputs) + (bias != NULL ? (double)bias[o] : 0.0);
        }
        finish_row(row, outputs, &op->epilogue, NULL, y + n * outputs);
    }
}

static void add_scaled(double *restrict row, const real *values, double factor, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        row[i] += factor * (double)values[i];
    }
}

static void linear_backward_data(const cso_op *op, const real *gradient, real *dx, double *row)
{
    const int64_t inputs = op->input[0].dimension[0];
    const int64_t outputs = op->output.dimension[0];
    const real *weight = parameter_data(op, 0);
    for (int64_t n = 0; n < op->batch; n++) {
        clear_row(row, inputs);
        for (int64_t o = 0; o < outputs; o++) {
            add_scaled(row, weight + o * inputs, (double)gradient[n * outputs + o], inputs);
        }
        store_row(row, inputs, dx + n * inputs);
    }
}

static void linear_weight_gradient(const cso_op *op, const real *gradient, const real *x, real *dweight, double *row)
{
    const int64_t inputs = op->input[0].dimension[0];
    const int64_t outputs = op->output.dimension[0];
    for (int64_t o = 0; o < outputs; o++) {
        clear_row(row, inputs);
        for (int64_t n = 0; n < op->batch; n++) {
            add_scaled(row, x + n * inputs, (double)gradient[n * outputs + o], inputs);
        }
        store_row(row, inputs, dweight + o * inputs);
    }
}

static void run_linear(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    const real *source = arguments->input[0];
    double *row = arguments->workspace;
    switch (op->direction) {
    case CSO_FORWARD:
        linear_forward(op, source, arguments->output[0], row);
        break;
    case CSO_BACKWARD_DATA:
        if (arguments->output[0] != NULL) {
            linear_backward_data(op, source, arguments->output[0], row);
        }
        break;
    case CSO_BACKWARD_PARAMETERS:
        if (arguments->output[0] != NULL) {
            linear_weight_gradient(op, source, arguments->input[1], arguments->output[0], row);
        }
        if (op->parameter[1] != NULL && arguments->output[1] != NULL) {
            sum_over_channels(op->batch, &op->output, source, arguments->output[1]);
        }
        break;
    }
}

static size_t linear_workspace(const cso_op *op)
{
    const int64_t inputs = op->input[0].dimension[0];
    const int64_t outputs = op->output.dimension[0];
    return (size_t)(inputs > outputs ? inputs : outputs) * sizeof(double);
}
