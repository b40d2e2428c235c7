/* SPDX-License-Identifier: BSD-2-Clause */
/* Rows of sums in double: how every operation ends. */

static const real *parameter_data(const cso_op *op, int position)
{
    return op->parameter[position] != NULL ? op->parameter[position]->data : NULL;
}

static void clear_row(double *row, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        row[i] = 0;
    }
}

static void load_row(double *row, int64_t count, const real *source)
{
    for (int64_t i = 0; i < count; i++) {
        row[i] = (double)source[i];
    }
}

static void store_row(const double *row, int64_t count, real *destination)
{
    for (int64_t i = 0; i < count; i++) {
        destination[i] = (real)row[i];
    }
}

/* The comparisons are written so that NaN stays NaN. */
static void activate_row(double *row, int64_t count, cso_op_kind activation, float slope)
{
    switch (activation) {
    case CSO_OP_RELU:
        for (int64_t i = 0; i < count; i++) {
            row[i] = row[i] <= 0 ? 0 : row[i];
        }
        break;
    case CSO_OP_LEAKY_RELU:
        for (int64_t i = 0; i < count; i++) {
            row[i] = row[i] <= 0 ? row[i] * (double)slope : row[i];
        }
        break;
    case CSO_OP_SILU:
        for (int64_t i = 0; i < count; i++) {
            row[i] = row[i] / (1 + exp(-row[i]));
        }
        break;
    case CSO_OP_SIGMOID:
        for (int64_t i = 0; i < count; i++) {
            row[i] = 1 / (1 + exp(-row[i]));
        }
        break;
    case CSO_OP_TANH:
        for (int64_t i = 0; i < count; i++) {
            row[i] = tanh(row[i]);
        }
        break;
    default:
        break;
    }
}

static void finish_row(double *row, int64_t count, const cso_epilogue *epilogue, const real *residual,
                       real *destination)
{
    if (residual != NULL) {
        for (int64_t i = 0; i < count; i++) {
            row[i] += (double)residual[i];
        }
    }
    if (epilogue->activate) {
        activate_row(row, count, epilogue->activation, epilogue->slope);
    }
    store_row(row, count, destination);
}
