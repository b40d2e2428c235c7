/* SPDX-License-Identifier: BSD-2-Clause */
#include "winograd_bound.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_STEP = 4, MOST_SIDE = 6, KERNEL = 3 };

bool winograd_precise;

static int tile_step(void) { return winograd_precise ? 2 : 4; }
static int tile_side(void) { return tile_step() + KERNEL - 1; }
static int frequencies(void) { return tile_side() * tile_side(); }

static double point(int index)
{
    static const double points4[] = {0, 0.625, -0.625, 1.5, -1.5}, points2[] = {0, 1, -1};
    return winograd_precise ? points2[index] : points4[index];
}

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

/* Absolute values of the three matrices. Row f < side - 1 of the input's holds the coefficients of the polynomial that is 0 at
 * all points but the f-th, the last row those of the one that is 0 at all. */
static void make_matrices(double *input, double *weight, double *output)
{
    const int side = tile_side(), step = tile_step();
    for (int f = 0; f < side; f++) {
        double polynomial[MOST_SIDE] = {1};
        double distances = 1;
        int degree = 0;
        for (int k = 0; k < side - 1; k++) {
            if (k == f) {
                continue;
            }
            distances *= f < side - 1 ? point(f) - point(k) : 1;
            degree++;
            for (int i = degree; i >= 0; i--) {
                polynomial[i] = (i > 0 ? polynomial[i - 1] : 0) - point(k) * (i < degree ? polynomial[i] : 0);
            }
        }
        for (int i = 0; i < side; i++) {
            input[f * side + i] = fabs(polynomial[i]);
        }
        for (int i = 0; i < KERNEL; i++) {
            weight[f * KERNEL + i] = f < side - 1 ? fabs(pow(point(f), i) / distances) : i == KERNEL - 1;
        }
        for (int i = 0; i < step; i++) {
            output[i * side + f] = f < side - 1 ? fabs(pow(point(f), i)) : i == step - 1;
        }
    }
}

/* out = matrix x in x matrix transposed, for sides x sides inputs. */
static void both_ways(int rows, int sides, const double *matrix, const double *in, double *out)
{
    double half[MOST_SIDE][MOST_SIDE];
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

bool winograd_magnitude(const op_trial *trial, bool forward, double *out)
{
    filtering it;
    const int side = tile_side(), step = tile_step();
    double input[MOST_SIDE * MOST_SIDE];
    double weight[MOST_SIDE * KERNEL];
    double output[MOST_STEP * MOST_SIDE];
    if (!describe(trial, forward, &it)) {
        return false;
    }
    make_matrices(input, weight, output);
    double *u = test_allocate((size_t)(it.out * it.in * frequencies()), sizeof *u);
    double *v = test_allocate((size_t)(it.in * frequencies()), sizeof *v);
    for (int64_t o = 0; o < it.out; o++) {
        for (int64_t i = 0; i < it.in; i++) {
            double taps[KERNEL * KERNEL];
            for (int k = 0; k < KERNEL * KERNEL; k++) {
                taps[k] = fabs(it.weight[it.turned ? (i * it.out + o) * 9 + 8 - k : (o * it.in + i) * 9 + k]);
            }
            both_ways(side, KERNEL, weight, taps, u + (o * it.in + i) * frequencies());
        }
    }
    for (int64_t image = 0; image < it.batch; image++) {
        for (int64_t y = 0; y < it.out_side[0]; y += step) {
            for (int64_t x = 0; x < it.out_side[1]; x += step) {
                for (int64_t i = 0; i < it.in; i++) {
                    double tile[MOST_SIDE * MOST_SIDE];
                    for (int k = 0; k < frequencies(); k++) {
                        tile[k] = fabs(input_at(&it, image, i, y - it.pad[0] + k / side, x - it.pad[1] + k % side));
                    }
                    both_ways(side, side, input, tile, v + i * frequencies());
                }
                for (int64_t o = 0; o < it.out; o++) {
                    double product[MOST_SIDE * MOST_SIDE] = {0};
                    double result[MOST_STEP * MOST_STEP];
                    for (int64_t i = 0; i < it.in; i++) {
                        for (int k = 0; k < frequencies(); k++) {
                            product[k] += u[(o * it.in + i) * frequencies() + k] * v[i * frequencies() + k];
                        }
                    }
                    both_ways(step, side, output, product, result);
                    for (int k = 0; k < step * step; k++) {
                        const int64_t row = y + k / step;
                        const int64_t column = x + k % step;
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
    const int side = tile_side(), step = tile_step();
    if (!describe(trial, forward, &it)) {
        return false;
    }
    const int64_t position = (int64_t)result;
    const int64_t y = position / it.out_side[1] % it.out_side[0] / step * step - it.pad[0];
    const int64_t x = position % it.out_side[1] / step * step - it.pad[1];
    const int64_t image = position / (it.out * it.out_side[0] * it.out_side[1]);
    for (int64_t i = 0; i < it.in; i++) {
        for (int k = 0; k < frequencies(); k++) {
            if (!isfinite(input_at(&it, image, i, y + k / side, x + k % side))) {
                return true;
            }
        }
    }
    return false;
}
