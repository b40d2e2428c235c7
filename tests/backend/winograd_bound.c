/* SPDX-License-Identifier: BSD-2-Clause */
#include "winograd_bound.h"

#include <complex.h>
#include <math.h>
#include <stdlib.h>

enum { STEP = 4, SIDE = 6, FREQUENCIES = SIDE * SIDE, KERNEL = 3 };

typedef struct filtering {
    int64_t batch, in, out, in_side[2], out_side[2], pad[2];
    bool turned;
    const double *source, *weight;
} filtering;

static bool describe(const op_trial *it, bool forward, filtering *out)
{
    const cso_op *op = &it->op;
    const cso_shape *from = forward ? &it->shape[0] : &op->output;
    const cso_shape *to = forward ? &op->output : &it->shape[0];
    if ((op->kind != CSO_OP_CONVOLUTION && op->kind != CSO_OP_TRANSPOSED_CONVOLUTION) || op->attributes.groups != 1) {
        return false;
    }
    *out = (filtering){.batch = op->batch,
                       .in = from->dimension[0],
                       .out = to->dimension[0],
                       .turned = forward == (op->kind == CSO_OP_TRANSPOSED_CONVOLUTION),
                       .source = forward ? it->source[0] : it->gradient,
                       .weight = it->parameter[0].value};
    for (int axis = 0; axis < 2; axis++) {
        const int32_t pad = op->attributes.pad_begin[axis];
        if (op->attributes.kernel[axis] != KERNEL || op->attributes.stride[axis] != 1 ||
            op->attributes.dilation[axis] != 1 || pad > 2) {
            return false;
        }
        out->pad[axis] = out->turned ? 2 - pad : pad;
        out->in_side[axis] = from->dimension[1 + axis];
        out->out_side[axis] = to->dimension[1 + axis];
    }
    return true;
}

/* Absolute values of the three matrices. Row f < SIDE - 1 of the input's holds the coefficients of the polynomial that is
 * 0 at all points but the f-th, the last row those of the one that is 0 at all. */
static void make_matrices(winograd_points points, double *input, double *weight, double *output)
{
    static const double complex at[][SIDE - 1] = {[WINOGRAD_REAL] = {0, 0.625, -0.625, 1.5, -1.5},
                                                  [WINOGRAD_COMPLEX] = {0, 1, -1, I, -I}};
    const double complex *const point = at[points];
    for (int f = 0; f < SIDE; f++) {
        double complex polynomial[SIDE] = {1};
        double complex distances = 1;
        int degree = 0;
        for (int k = 0; k < SIDE - 1; k++) {
            if (k == f) {
                continue;
            }
            distances *= f < SIDE - 1 ? point[f] - point[k] : 1;
            degree++;
            for (int i = degree; i >= 0; i--) {
                polynomial[i] = (i > 0 ? polynomial[i - 1] : 0) - point[k] * (i < degree ? polynomial[i] : 0);
            }
        }
        for (int i = 0; i < SIDE; i++) {
            input[f * SIDE + i] = cabs(polynomial[i]);
        }
        for (int i = 0; i < KERNEL; i++) {
            weight[f * KERNEL + i] = f < SIDE - 1 ? pow(cabs(point[f]), i) / cabs(distances) : i == KERNEL - 1;
        }
        for (int i = 0; i < STEP; i++) {
            output[i * SIDE + f] = f < SIDE - 1 ? pow(cabs(point[f]), i) : i == STEP - 1;
        }
    }
}

/* out = matrix x in x matrix transposed, for sides x sides inputs. */
static void both_ways(int rows, int sides, const double *matrix, const double *in, double *out)
{
    double half[SIDE][SIDE];
    for (int r = 0; r < rows; r++) {
        for (int j = 0; j < sides; j++) {
            half[r][j] = 0;
            for (int i = 0; i < sides; i++) {
                half[r][j] += matrix[r * sides + i] * in[i * sides + j];
            }
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < rows; c++) {
            out[r * rows + c] = 0;
            for (int j = 0; j < sides; j++) {
                out[r * rows + c] += half[r][j] * matrix[c * sides + j];
            }
        }
    }
}

static double input_at(const filtering *it, int64_t image, int64_t channel, int64_t y, int64_t x)
{
    if (y < 0 || y >= it->in_side[0] || x < 0 || x >= it->in_side[1]) {
        return 0;
    }
    return it->source[((image * it->in + channel) * it->in_side[0] + y) * it->in_side[1] + x];
}

bool winograd_magnitude(const op_trial *trial, bool forward, winograd_points points, double *out)
{
    filtering it;
    double input[SIDE * SIDE];
    double weight[SIDE * KERNEL];
    double output[STEP * SIDE];
    if (!describe(trial, forward, &it)) {
        return false;
    }
    make_matrices(points, input, weight, output);
    double *u = test_allocate((size_t)(it.out * it.in * FREQUENCIES), sizeof *u);
    double *v = test_allocate((size_t)(it.in * FREQUENCIES), sizeof *v);
    for (int64_t o = 0; o < it.out; o++) {
        for (int64_t i = 0; i < it.in; i++) {
            double taps[KERNEL * KERNEL];
            for (int k = 0; k < KERNEL * KERNEL; k++) {
                taps[k] = fabs(it.weight[it.turned ? (i * it.out + o) * 9 + 8 - k : (o * it.in + i) * 9 + k]);
            }
            both_ways(SIDE, KERNEL, weight, taps, u + (o * it.in + i) * FREQUENCIES);
        }
    }
    for (int64_t image = 0; image < it.batch; image++) {
        for (int64_t y = 0; y < it.out_side[0]; y += STEP) {
            for (int64_t x = 0; x < it.out_side[1]; x += STEP) {
                for (int64_t i = 0; i < it.in; i++) {
                    double tile[SIDE * SIDE];
                    for (int k = 0; k < FREQUENCIES; k++) {
                        tile[k] = fabs(input_at(&it, image, i, y - it.pad[0] + k / SIDE, x - it.pad[1] + k % SIDE));
                    }
                    both_ways(SIDE, SIDE, input, tile, v + i * FREQUENCIES);
                }
                for (int64_t o = 0; o < it.out; o++) {
                    double product[SIDE * SIDE] = {0};
                    double result[STEP * STEP];
                    for (int64_t i = 0; i < it.in; i++) {
                        for (int k = 0; k < FREQUENCIES; k++) {
                            product[k] += u[(o * it.in + i) * FREQUENCIES + k] * v[i * FREQUENCIES + k];
                        }
                    }
                    both_ways(STEP, SIDE, output, product, result);
                    for (int k = 0; k < STEP * STEP; k++) {
                        const int64_t row = y + k / STEP;
                        const int64_t column = x + k % STEP;
                        if (row < it.out_side[0] && column < it.out_side[1]) {
                            out[((image * it.out + o) * it.out_side[0] + row) * it.out_side[1] + column] = result[k];
                        }
                    }
                }
            }
        }
    }
    free(u);
    free(v);
    return true;
}

bool winograd_reached(const op_trial *trial, bool forward, size_t result)
{
    filtering it;
    if (!describe(trial, forward, &it)) {
        return false;
    }
    const int64_t position = (int64_t)result;
    const int64_t y = position / it.out_side[1] % it.out_side[0] / STEP * STEP - it.pad[0];
    const int64_t x = position % it.out_side[1] / STEP * STEP - it.pad[1];
    const int64_t image = position / (it.out * it.out_side[0] * it.out_side[1]);
    for (int64_t i = 0; i < it.in; i++) {
        for (int k = 0; k < FREQUENCIES; k++) {
            if (!isfinite(input_at(&it, image, i, y + k / SIDE, x + k % SIDE))) {
                return true;
            }
        }
    }
    return false;
}
