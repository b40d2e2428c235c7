/* SPDX-License-Identifier: BSD-2-Clause */
/* y = (x - mean) * inverse * weight + bias, where inverse = 1 / sqrt(variance + epsilon), per channel. */

typedef struct channel_sum {
    double value;   /* of gradient */
    double product; /* of gradient * (x - mean) * inverse */
} channel_sum;

static double inverse_deviation(double variance, float epsilon)
{
    return 1 / sqrt(variance + (double)epsilon);
}

static void normalise_channel(const cso_op *op, int64_t c, double mean, double inverse, const real *x, real *y)
{
    const int64_t channels = cso_reference_channels(&op->output);
    const int64_t space = cso_reference_space(&op->output);
    const double scale = inverse * (double)parameter_data(op, 0)[c];
    const double shift = (double)parameter_data(op, 1)[c];
    double row[ROW_LENGTH];
    for (int64_t n = 0; n < op->batch; n++) {
        const int64_t start = (n * channels + c) * space;
        for (int64_t i = 0; i < space; i += ROW_LENGTH) {
            const int64_t length = row_length_at(i, space);
            for (int64_t k = 0; k < length; k++) {
                row[k] = ((double)x[start + i + k] - mean) * scale + shift;
            }
            finish_row(row, length, &op->epilogue, NULL, y + start + i);
        }
    }
}

static channel_sum sum_channel(const cso_op *op, int64_t c, double mean, double inverse, const real *gradient,
                               const real *x)
{
    const int64_t channels = cso_reference_channels(&op->output);
    const int64_t space = cso_reference_space(&op->output);
    channel_sum sum = {0, 0};
    for (int64_t n = 0; n < op->batch; n++) {
        const int64_t start = (n * channels + c) * space;
        for (int64_t i = start; i < start + space; i++) {
            sum.value += (double)gradient[i];
            sum.product += (double)gradient[i] * (((double)x[i] - mean) * inverse);
        }
    }
    return sum;
}

static void store_channel_sum(const cso_arguments *arguments, int first_output, int64_t c, channel_sum sum)
{
    real *dweight = arguments->output[first_output];
    real *dbias = arguments->output[first_output + 1];
    if (dweight != NULL) {
        dweight[c] = (real)sum.product;
    }
    if (dbias != NULL) {
        dbias[c] = (real)sum.value;
    }
}

static void run_batch_norm(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    const int64_t channels = cso_reference_channels(&op->output);
    const int64_t space = cso_reference_space(&op->output);
    const real *source = arguments->input[0];
    for (int64_t c = 0; c < channels; c++) {
        const double mean = (double)parameter_data(op, 2)[c];
        const double inverse = inverse_deviation((double)parameter_data(op, 3)[c], op->attributes.epsilon);
        if (op->direction == CSO_FORWARD) {
            normalise_channel(op, c, mean, inverse, source, arguments->output[0]);
        } else if (op->direction == CSO_BACKWARD_PARAMETERS) {
            store_channel_sum(arguments, 0, c, sum_channel(op, c, mean, inverse, source, arguments->input[1]));
        } else if (arguments->output[0] != NULL) {
            const double scale = inverse * (double)parameter_data(op, 0)[c];
            real *dx = arguments->output[0];
            for (int64_t n = 0; n < op->batch; n++) {
                const int64_t start = (n * channels + c) * space;
                for (int64_t i = start; i < start + space; i++) {
                    dx[i] = (real)((double)source[i] * scale);
                }
            }
        }
    }
}

static void run_batch_norm_training(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    const int64_t channels = cso_reference_channels(&op->output);
    const int64_t space = cso_reference_space(&op->output);
    const int64_t count = op->batch * space;
    const real *x = arguments->input[0];
    real *running_mean = op->parameter[2]->data;
    real *running_variance = op->parameter[3]->data;
    double *saved = arguments->saved;
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0;
        for (int64_t n = 0; n < op->batch; n++) {
            const real *plane = x + (n * channels + c) * space;
            for (int64_t i = 0; i < space; i++) {
                sum += (double)plane[i];
            }
        }
        const double mean = sum / (double)count;
        double squares = 0;
        for (int64_t n = 0; n < op->batch; n++) {
            const real *plane = x + (n * channels + c) * space;
            for (int64_t i = 0; i < space; i++) {
                squares += ((double)plane[i] - mean) * ((double)plane[i] - mean);
            }
        }
        const double inverse = inverse_deviation(squares / (double)count, op->attributes.epsilon);
        const double unbiased = squares / (double)(count > 1 ? count - 1 : 1);
        const double momentum = (double)op->attributes.momentum;
        running_mean[c] = (real)((double)running_mean[c] + momentum * (mean - (double)running_mean[c]));
        running_variance[c] = (real)((double)running_variance[c] + momentum * (unbiased - (double)running_variance[c]));
        if (saved != NULL) {
            saved[2 * c] = mean;
            saved[2 * c + 1] = inverse;
        }
        normalise_channel(op, c, mean, inverse, x, arguments->output[0]);
    }
}

static void run_batch_norm_training_backward(const cso_kernel *kernel, const cso_arguments *arguments)
{
    const cso_op *op = &kernel->op;
    const int64_t channels = cso_reference_channels(&op->output);
    const int64_t space = cso_reference_space(&op->output);
    const double count = (double)(op->batch * space);
    const real *gradient = arguments->input[0];
    const real *x = arguments->input[1];
    real *dx = arguments->output[0];
    const double *saved = arguments->saved;
    for (int64_t c = 0; c < channels; c++) {
        const double mean = saved[2 * c];
        const double inverse = saved[2 * c + 1];
        const channel_sum sum = sum_channel(op, c, mean, inverse, gradient, x);
        store_channel_sum(arguments, 1, c, sum);
        if (dx == NULL) {
            continue;
        }
        const double scale = inverse * (double)parameter_data(op, 0)[c];
        for (int64_t n = 0; n < op->batch; n++) {
            const int64_t start = (n * channels + c) * space;
            for (int64_t i = start; i < start + space; i++) {
                const double normalised = ((double)x[i] - mean) * inverse;
                dx[i] = (real)(scale * ((double)gradient[i] - sum.value / count - normalised * (sum.product / count)));
            }
        }
    }
}

static size_t batch_norm_saved(const cso_op *op)
{
    return (size_t)cso_reference_channels(&op->output) * 2 * sizeof(double);
}
