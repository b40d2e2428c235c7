/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Included once per instruction set, with CSO_LOOPS, CSO_LOOPS_NAME and CSO_TARGET defined. Everything is static with
 * the target as an attribute, which gcc and clang both understand and which leaves the build without per-file flags.
 */
#include "backends/onednn/loops.h"

#include <math.h>
#include <string.h>

#define SIMD _Pragma("omp simd")
#define VALUE static inline __attribute__((always_inline)) CSO_TARGET
#define LOOP static CSO_TARGET

/* Rows of fewer channels than this are processed several at a time, with the channels' constants repeated. */
enum { NARROW = 32, PATTERN = 128, BLOCK = 2048 };

VALUE float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

VALUE uint32_t to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/*
 * exp(-a) for a >= 0, within 1.1 units in the last place (denormal results included), NaN to NaN. Reduction to
 * |r| <= ln 2 / 2 by Cody and Waite's two-part ln 2, then the polynomial of Cephes' expf (S. Moshier).
 */
VALUE float exponential_of_minus(float a)
{
    const float rounder = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, which its low bits then hold */
    const float x = -(a > 104.0f ? 104.0f : a);
    const float rounded = x * 1.44269504088896341f + rounder;
    const float n = rounded - rounder;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * (r * r) + r) + 1.0f;
    /* 2^(n + 24) and 2^-24, as 2^n itself may be below the smallest normal number. */
    return p * from_bits((to_bits(rounded) << 23) + ((127U + 24U) << 23)) * 0x1p-24f;
}

VALUE float relu(float x) { return x < 0.0f ? 0.0f : x; } /* NaN stays */

VALUE float leaky_relu(float x, float slope) { return x > 0.0f ? x : x * slope; }

VALUE float sigmoid(float x)
{
    const float e = exponential_of_minus(fabsf(x));
    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

VALUE float silu(float x) { return x * sigmoid(x); }

VALUE float silu_derivative(float x)
{
    const float e = exponential_of_minus(fabsf(x));
    const float part = 1.0f / (1.0f + e);
    const float value = x >= 0.0f ? part : e * part;
    const float complement = x >= 0.0f ? e * part : part;
    return value * (1.0f + x * complement);
}

VALUE float hyperbolic_tangent(float x)
{
    const float a = fabsf(x), z = x * x;
    float p = -5.70498872745e-3f; /* Cephes' tanhf below .625 */
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    const float near = p * z * x + x;
    const float e = exponential_of_minus(2.0f * a);
    const float magnitude = (1.0f - e) / (1.0f + e);
    const float far = x < 0.0f ? -magnitude : magnitude;
    return a < 0.625f ? near : far;
}

/* The operand that was not used for longest is fetched some blocks ahead: the processor's own fetching ends with each
 * page of 4 KiB. */
enum { FETCHED = 256, AHEAD = 4 * FETCHED, LINE = 16 };

/* What comes AHEAD of elements first to first + size - 1 of all of them. */
VALUE void fetch(const float *x, size_t first, size_t size, size_t all)
{
    for (size_t i = first + AHEAD; i < first + AHEAD + size && i < all; i += LINE) {
        __builtin_prefetch(x + i, 0, 2);
    }
}

#define EACH(expression, operand)                                                       \
    for (size_t first = 0; first < count; first += FETCHED) {                           \
        const size_t end = count - first < FETCHED ? count : first + FETCHED;           \
        fetch(operand, first, FETCHED, count);                                          \
        SIMD for (size_t i = first; i < end; i++)                                       \
        {                                                                               \
            y[i] = expression;                                                          \
        }                                                                               \
    }                                                                                   \
    break

LOOP void activate(size_t count, cso_op_kind kind, float slope, const float *x, float *y)
{
    switch ((int)kind) {
    case CSO_OP_RELU: EACH(relu(x[i]), x);
    case CSO_OP_LEAKY_RELU: EACH(leaky_relu(x[i], slope), x);
    case CSO_OP_SILU: EACH(silu(x[i]), x);
    case CSO_OP_SIGMOID: EACH(sigmoid(x[i]), x);
    case CSO_OP_TANH: EACH(hyperbolic_tangent(x[i]), x);
    default:
        if (x != y) {
            memcpy(y, x, count * sizeof *y);
        }
    }
}

LOOP void activate_backward(size_t count, cso_op_kind kind, float slope, const float *dy, const float *needed, float *y)
{
    switch ((int)kind) {
    case CSO_OP_RELU: EACH(needed[i] > 0.0f ? dy[i] : 0.0f, needed);
    case CSO_OP_LEAKY_RELU: EACH(needed[i] > 0.0f ? dy[i] : dy[i] * slope, needed);
    case CSO_OP_SILU: EACH(dy[i] * silu_derivative(needed[i]), needed);
    case CSO_OP_SIGMOID: EACH(dy[i] * (needed[i] * (1.0f - needed[i])), needed);
    case CSO_OP_TANH: EACH(dy[i] * ((1.0f - needed[i]) * (1.0f + needed[i])), needed);
    default: break;
    }
}

LOOP void add(size_t count, const float *a, const float *b, float *y)
{
    SIMD for (size_t i = 0; i < count; i++)
    {
        y[i] = a[i] + b[i];
    }
}

LOOP void multiply_add(size_t count, float factor, const float *x, float *y)
{
    SIMD for (size_t i = 0; i < count; i++)
    {
        y[i] += factor * x[i];
    }
}

LOOP void scale(size_t count, float factor, const float *x, float *y)
{
    SIMD for (size_t i = 0; i < count; i++)
    {
        y[i] = factor * x[i];
    }
}

VALUE size_t repeats_of(size_t channels) { return channels < NARROW ? PATTERN / channels : 1; }

/* pattern = values, repeated. */
VALUE const float *repeat(size_t channels, size_t repeats, const float *values, float *pattern)
{
    for (size_t r = 0; r < repeats; r++) {
        memcpy(pattern + r * channels, values, channels * sizeof *pattern);
    }
    return pattern;
}

VALUE void fold(size_t channels, size_t repeats, const double *pattern, double *total)
{
    for (size_t r = 0; r < repeats; r++) {
        for (size_t c = 0; c < channels; c++) {
            total[c] += pattern[r * channels + c];
        }
    }
}

LOOP void finish_row(size_t count, float *y, const float *bias, const float *residual, cso_op_kind activation,
                     float slope)
{
    for (size_t first = 0; first < count; first += BLOCK) {
        const size_t size = count - first < BLOCK ? count - first : BLOCK;
        if (bias) {
            add(size, y + first, bias + first, y + first);
        }
        if (residual) {
            add(size, y + first, residual + first, y + first);
        }
        if (activation != CSO_NO_ACTIVATION) {
            activate(size, activation, slope, y + first, y + first);
        }
    }
}

LOOP void finish(size_t rows, size_t channels, size_t stride, float *y, const float *bias, const float *residual,
                 cso_op_kind activation, float slope)
{
    if (!bias && stride == channels) {
        finish_row(rows * channels, y, NULL, residual, activation, slope);
        return;
    }
    float pattern[PATTERN];
    const size_t repeats = stride == channels ? repeats_of(channels) : 1;
    size_t row = 0;
    if (repeats > 1) {
        const float *const repeated = repeat(channels, repeats, bias, pattern);
        for (; row + repeats <= rows; row += repeats) {
            finish_row(repeats * channels, y + row * channels, repeated, residual ? residual + row * channels : NULL,
                       activation, slope);
        }
    }
    for (; row < rows; row++) {
        finish_row(channels, y + row * stride, bias, residual ? residual + row * stride : NULL, activation, slope);
    }
}

LOOP void normalise_row(size_t count, const float *x, float *y, const float *mean, const float *factor,
                        const float *bias)
{
    SIMD for (size_t i = 0; i < count; i++)
    {
        y[i] = (x[i] - mean[i]) * factor[i] + bias[i];
    }
}

LOOP void normalise(size_t rows, size_t channels, const float *x, float *y, const float *mean, const float *factor,
                    const float *bias, cso_op_kind activation, float slope)
{
    float patterns[3][PATTERN];
    const size_t repeats = repeats_of(channels);
    size_t row = 0;
    if (repeats > 1) {
        const float *const means = repeat(channels, repeats, mean, patterns[0]);
        const float *const factors = repeat(channels, repeats, factor, patterns[1]);
        const float *const biases = repeat(channels, repeats, bias, patterns[2]);
        for (; row + repeats <= rows; row += repeats) {
            normalise_row(repeats * channels, x + row * channels, y + row * channels, means, factors, biases);
            if (activation != CSO_NO_ACTIVATION) {
                activate(repeats * channels, activation, slope, y + row * channels, y + row * channels);
            }
        }
    }
    for (; row < rows; row++) {
        fetch(x, row * channels, channels, rows * channels);
        normalise_row(channels, x + row * channels, y + row * channels, mean, factor, bias);
        if (activation != CSO_NO_ACTIVATION) {
            activate(channels, activation, slope, y + row * channels, y + row * channels);
        }
    }
}

LOOP void sum_rows(size_t rows, size_t count, const float *x, double *restrict total)
{
    for (size_t row = 0; row < rows; row++, x += count) {
        SIMD for (size_t i = 0; i < count; i++)
        {
            total[i] += (double)x[i];
        }
    }
}

LOOP void sum(size_t rows, size_t channels, const float *x, double *total)
{
    const size_t repeats = repeats_of(channels);
    if (repeats > 1) {
        double pattern[PATTERN] = {0};
        const size_t wide = rows / repeats;
        sum_rows(wide, repeats * channels, x, pattern);
        fold(channels, repeats, pattern, total);
        x += wide * repeats * channels;
        rows -= wide * repeats;
    }
    sum_rows(rows, channels, x, total);
}

LOOP void sum_squares_rows(size_t rows, size_t count, const float *x, const float *mean, double *restrict total)
{
    for (size_t row = 0; row < rows; row++, x += count) {
        SIMD for (size_t i = 0; i < count; i++)
        {
            const double difference = (double)x[i] - (double)mean[i];
            total[i] += difference * difference;
        }
    }
}

LOOP void sum_squares(size_t rows, size_t channels, const float *x, const float *mean, double *total)
{
    const size_t repeats = repeats_of(channels);
    if (repeats > 1) {
        float means[PATTERN];
        double pattern[PATTERN] = {0};
        const size_t wide = rows / repeats;
        sum_squares_rows(wide, repeats * channels, x, repeat(channels, repeats, mean, means), pattern);
        fold(channels, repeats, pattern, total);
        x += wide * repeats * channels;
        rows -= wide * repeats;
    }
    sum_squares_rows(rows, channels, x, mean, total);
}

LOOP void sum_products_rows(size_t rows, size_t count, const float *dy, const float *x, const float *mean,
                            double *restrict total, double *restrict product)
{
    for (size_t row = 0; row < rows; row++, x += count, dy += count) {
        SIMD for (size_t i = 0; i < count; i++)
        {
            total[i] += (double)dy[i];
            product[i] += (double)dy[i] * ((double)x[i] - (double)mean[i]);
        }
    }
}

LOOP void sum_products(size_t rows, size_t channels, const float *dy, const float *x, const float *mean, double *total,
                       double *product)
{
    const size_t repeats = repeats_of(channels);
    if (repeats > 1) {
        float means[PATTERN];
        double totals[PATTERN] = {0}, products[PATTERN] = {0};
        const size_t wide = rows / repeats;
        sum_products_rows(wide, repeats * channels, dy, x, repeat(channels, repeats, mean, means), totals, products);
        fold(channels, repeats, totals, total);
        fold(channels, repeats, products, product);
        dy += wide * repeats * channels;
        x += wide * repeats * channels;
        rows -= wide * repeats;
    }
    sum_products_rows(rows, channels, dy, x, mean, total, product);
}

LOOP void normalise_backward_rows(size_t rows, size_t count, const float *dy, const float *x, const float *mean,
                                  const float *factor, const float *dy_mean, const float *slope, float *restrict dx)
{
    for (size_t row = 0; row < rows; row++, x += count, dy += count, dx += count) {
        SIMD for (size_t i = 0; i < count; i++)
        {
            dx[i] = factor[i] * ((dy[i] - dy_mean[i]) - (x[i] - mean[i]) * slope[i]);
        }
    }
}

LOOP void normalise_backward(size_t rows, size_t channels, const float *dy, const float *x, const float *mean,
                             const float *factor, const float *dy_mean, const float *slope, float *dx)
{
    const size_t repeats = repeats_of(channels);
    if (repeats > 1) {
        float patterns[4][PATTERN];
        const size_t wide = rows / repeats, done = wide * repeats * channels;
        normalise_backward_rows(wide, repeats * channels, dy, x, repeat(channels, repeats, mean, patterns[0]),
                                repeat(channels, repeats, factor, patterns[1]),
                                repeat(channels, repeats, dy_mean, patterns[2]),
                                repeat(channels, repeats, slope, patterns[3]), dx);
        dy += done;
        x += done;
        dx += done;
        rows -= wide * repeats;
    }
    normalise_backward_rows(rows, channels, dy, x, mean, factor, dy_mean, slope, dx);
}

/* Generic vectors, as compilers do not keep an array of accumulators in registers. */
typedef float narrow_vector __attribute__((vector_size(CSO_NARROW * sizeof(float))));
enum { NARROW_ROWS = 4 };

LOOP void narrow_product(size_t rows, size_t channels, size_t stride, const float *x, const float *weight, float *y)
{
    size_t row = 0;
    for (; row + NARROW_ROWS <= rows; row += NARROW_ROWS, x += NARROW_ROWS * stride, y += NARROW_ROWS * CSO_NARROW) {
        narrow_vector total0 = {0}, total1 = {0}, total2 = {0}, total3 = {0};
        for (size_t c = 0; c < channels; c++) {
            narrow_vector w;
            memcpy(&w, weight + c * CSO_NARROW, sizeof w);
            total0 += x[c] * w;
            total1 += x[stride + c] * w;
            total2 += x[2 * stride + c] * w;
            total3 += x[3 * stride + c] * w;
        }
        memcpy(y, &total0, sizeof total0);
        memcpy(y + CSO_NARROW, &total1, sizeof total1);
        memcpy(y + 2 * CSO_NARROW, &total2, sizeof total2);
        memcpy(y + 3 * CSO_NARROW, &total3, sizeof total3);
    }
    for (; row < rows; row++, x += stride, y += CSO_NARROW) {
        narrow_vector total = {0};
        for (size_t c = 0; c < channels; c++) {
            narrow_vector w;
            memcpy(&w, weight + c * CSO_NARROW, sizeof w);
            total += x[c] * w;
        }
        memcpy(y, &total, sizeof total);
    }
}

LOOP void maximum(size_t count, const float *x, int32_t which, float *best, int32_t *position)
{
    SIMD for (size_t i = 0; i < count; i++)
    {
        const float old = best[i], candidate = x[i];
        const bool better = !(candidate <= old) && old == old;
        best[i] = better ? candidate : old;
        position[i] = better ? which : position[i];
    }
}

LOOP void select_add(size_t count, const float *dy, const int32_t *position, int32_t which, float *dx)
{
    SIMD for (size_t i = 0; i < count; i++)
    {
        dx[i] += position[i] == which ? dy[i] : 0.0f;
    }
}

const cso_loops CSO_LOOPS = {
    .name = CSO_LOOPS_NAME,
    .activate = activate,
    .activate_backward = activate_backward,
    .add = add,
    .multiply_add = multiply_add,
    .scale = scale,
    .finish = finish,
    .normalise = normalise,
    .sum = sum,
    .sum_squares = sum_squares,
    .sum_products = sum_products,
    .normalise_backward = normalise_backward,
    .narrow_product = narrow_product,
    .maximum = maximum,
    .select_add = select_add,
};
