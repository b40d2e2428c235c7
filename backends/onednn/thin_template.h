/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Included once per instruction set, with the vector type and its operations defined, and
 *   MOST_ROWS: rows that share what is read of the weights; EACH_ROWS(X): X(1) .. X(MOST_ROWS)
 *   VALUE, STEP: attributes of inlined and of other functions
 */
#include "backends/onednn/thin.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#if defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 4")
#endif

/* Weights' rows at a time, and columns after which the next rows of x have their turn: these stay in the first cache. */
enum { TOGETHER = 4, CHUNK = 1024 };

VALUE float total_of(VECTOR sum)
{
    float lane[WIDTH];
    STORE(lane, sum);
    for (int width = WIDTH / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; i++) {
            lane[i] += lane[i + width];
        }
    }
    return lane[0];
}

/* Adds a chunk's products to y. */
VALUE void forward_block(int rows, int outputs, int64_t in, int64_t count, const float *x, const float *weight,
                         float *y, int64_t y_stride)
{
    VECTOR sum[MOST_ROWS][TOGETHER];
    UNROLLED for (int r = 0; r < rows; r++)
    {
        UNROLLED for (int o = 0; o < outputs; o++) { sum[r][o] = ALL(0.0f); }
    }
    for (int64_t i = 0; i < count; i += WIDTH) {
        const bool whole = count - i >= WIDTH;
        VECTOR w[TOGETHER];
        UNROLLED for (int o = 0; o < outputs; o++)
        {
            const float *const from = weight + o * in + i;
            PREFETCH(from + TOGETHER * in);
            w[o] = whole ? LOAD(from) : LOAD_PART(from, count - i);
        }
        UNROLLED for (int r = 0; r < rows; r++)
        {
            const VECTOR value = whole ? LOAD(x + r * in + i) : LOAD_PART(x + r * in + i, count - i);
            UNROLLED for (int o = 0; o < outputs; o++) { sum[r][o] = PLUS_PRODUCT(value, w[o], sum[r][o]); }
        }
    }
    UNROLLED for (int r = 0; r < rows; r++)
    {
        UNROLLED for (int o = 0; o < outputs; o++) { y[r * y_stride + o] += total_of(sum[r][o]); }
    }
}

/* dx += the products of so many rows of weights. */
VALUE void backward_block(int rows, int outputs, int64_t in, int64_t out, int64_t columns, const float *dy,
                          const float *weight, float *dx)
{
    for (int64_t i = 0; i < columns; i += WIDTH) {
        const bool whole = columns - i >= WIDTH;
        VECTOR w[TOGETHER];
        UNROLLED for (int o = 0; o < outputs; o++)
        {
            const float *const from = weight + o * in + i;
            PREFETCH(from + TOGETHER * in);
            w[o] = whole ? LOAD(from) : LOAD_PART(from, columns - i);
        }
        UNROLLED for (int r = 0; r < rows; r++)
        {
            float *const to = dx + r * in + i;
            VECTOR sum = whole ? LOAD(to) : LOAD_PART(to, columns - i);
            UNROLLED for (int o = 0; o < outputs; o++) { sum = PLUS_PRODUCT(ALL(dy[r * out + o]), w[o], sum); }
            if (whole) {
                STORE(to, sum);
            } else {
                STORE_PART(to, columns - i, sum);
            }
        }
    }
}

/* For up to TOGETHER rows of weights. */
#define BLOCKS(rows)                                                                                                \
    STEP void forward_##rows(int64_t outputs, int64_t in, int64_t count, const float *x, const float *weight,       \
                             float *y, int64_t y_stride)                                                            \
    {                                                                                                               \
        if (outputs == TOGETHER) {                                                                                  \
            forward_block(rows, TOGETHER, in, count, x, weight, y, y_stride);                                       \
            return;                                                                                                 \
        }                                                                                                           \
        for (int64_t o = 0; o < outputs; o++) {                                                                     \
            forward_block(rows, 1, in, count, x, weight + o * in, y + o, y_stride);                                 \
        }                                                                                                           \
    }                                                                                                               \
    STEP void backward_##rows(int64_t outputs, int64_t in, int64_t out, int64_t count, const float *dy,             \
                              const float *weight, float *dx)                                                       \
    {                                                                                                               \
        if (outputs == TOGETHER) {                                                                                  \
            backward_block(rows, TOGETHER, in, out, count, dy, weight, dx);                                         \
            return;                                                                                                 \
        }                                                                                                           \
        for (int64_t o = 0; o < outputs; o++) {                                                                     \
            backward_block(rows, 1, in, out, count, dy + o, weight + o * in, dx);                                   \
        }                                                                                                           \
    }
EACH_ROWS(BLOCKS)

typedef void (*forward_rows)(int64_t outputs, int64_t in, int64_t count, const float *x, const float *weight, float *y,
                             int64_t y_stride);
typedef void (*backward_rows)(int64_t outputs, int64_t in, int64_t out, int64_t count, const float *dy,
                              const float *weight, float *dx);
#define FORWARD_ENTRY(rows) forward_##rows,
#define BACKWARD_ENTRY(rows) backward_##rows,
static const forward_rows forwards[] = {EACH_ROWS(FORWARD_ENTRY)};
static const backward_rows backwards[] = {EACH_ROWS(BACKWARD_ENTRY)};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* The weights that one group of rows has read are in the cache for the next. */
STEP void forward(int64_t rows, int64_t in, int64_t outputs, const float *x, const float *weight, float *y,
                  int64_t y_stride)
{
    for (int64_t row = 0; row < rows; row++) {
        memset(y + row * y_stride, 0, (size_t)outputs * sizeof *y);
    }
    for (int64_t first = 0; first < in; first += CHUNK) {
        for (int64_t o = 0; o < outputs; o += TOGETHER) {
            for (int64_t row = 0; row < rows; row += MOST_ROWS) {
                forwards[least(rows - row, MOST_ROWS) - 1](least(outputs - o, TOGETHER), in, least(in - first, CHUNK),
                                                           x + row * in + first, weight + o * in + first,
                                                           y + row * y_stride + o, y_stride);
            }
        }
    }
}

STEP void backward(int64_t rows, int64_t in, int64_t out, int64_t columns, const float *dy, const float *weight,
                   float *dx)
{
    for (int64_t first = 0; first < columns; first += CHUNK) {
        const int64_t count = least(columns - first, CHUNK);
        for (int64_t row = 0; row < rows; row++) {
            memset(dx + row * in + first, 0, (size_t)count * sizeof *dx);
        }
        for (int64_t o = 0; o < out; o += TOGETHER) {
            for (int64_t row = 0; row < rows; row += MOST_ROWS) {
                backwards[least(rows - row, MOST_ROWS) - 1](least(out - o, TOGETHER), in, out, count,
                                                            dy + row * out + o, weight + o * in + first,
                                                            dx + row * in + first);
            }
        }
    }
}

const cso_thin THIN = {.name = THIN_NAME, .forward = forward, .backward = backward};
