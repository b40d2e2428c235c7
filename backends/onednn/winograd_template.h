/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Included once per instruction set, with the vector type and its operations defined, and
 *   EACH_KERNEL(X): X(1) .. X(MOST_ROWS), the numbers of rows that have a kernel
 *   VALUE, STEP: attributes of inlined and of other functions
 *   transpose: of a square of WIDTH vectors, in place
 * Every output's sum runs over the channels in order, in pieces that are added in order, whatever the rows beside it:
 * results depend neither on the batch nor on how work is divided.
 */
#include "backends/onednn/winograd.h"

#include <stdint.h>

#if defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 6")
#endif

/* MOST_PIECE: of channels summed in one register. A sum's roundings are as large as it is by then: short pieces halve and
 * more the error of a product over hundreds of channels, for a few per cent of its time. */
enum { SIDE = CSO_WINOGRAD_SIDE, OUTPUTS = CSO_WINOGRAD_STEP, PANEL = 2 * WIDTH, LINE = 16, MOST_PIECE = 80 };

/* Squares, cubes, and sum and product of the squares of the points a and b; all exact in binary. */
#define A 0.625f
#define B 1.5f
#define A2 0.390625f
#define B2 2.25f
#define A3 0.244140625f
#define B3 3.375f
#define SUM 2.640625f
#define PRODUCT 0.87890625f

VALUE void input_transform(const VECTOR d[SIDE], VECTOR out[SIDE])
{
    const VECTOR even_a = MINUS_PRODUCT(ALL(B2), d[2], d[4]), odd_a = MINUS_PRODUCT(ALL(B2), d[1], d[3]);
    const VECTOR even_b = MINUS_PRODUCT(ALL(A2), d[2], d[4]), odd_b = MINUS_PRODUCT(ALL(A2), d[1], d[3]);
    out[0] = PLUS_PRODUCT(ALL(PRODUCT), d[0], MINUS_PRODUCT(ALL(SUM), d[2], d[4]));
    out[1] = PLUS_PRODUCT(ALL(A), odd_a, even_a);
    out[2] = MINUS_PRODUCT(ALL(A), odd_a, even_a);
    out[3] = PLUS_PRODUCT(ALL(B), odd_b, even_b);
    out[4] = MINUS_PRODUCT(ALL(B), odd_b, even_b);
    out[5] = PLUS_PRODUCT(ALL(PRODUCT), d[1], MINUS_PRODUCT(ALL(SUM), d[3], d[5]));
}

VALUE void output_transform(const VECTOR m[SIDE], VECTOR out[OUTPUTS])
{
    const VECTOR even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
    out[0] = m[0] + even_a + even_b;
    out[1] = PLUS_PRODUCT(ALL(B), odd_b, ALL(A) * odd_a);
    out[2] = PLUS_PRODUCT(ALL(B2), even_b, ALL(A2) * even_a);
    out[3] = PLUS_PRODUCT(ALL(B3), odd_b, PLUS_PRODUCT(ALL(A3), odd_a, m[5]));
}

/* Row p of the weights' matrix: 1, p, p^2 over the product of p's distances to the other points; opposite points differ
 * in the sign of the middle alone. */
#define G0 (1.0 / 0.87890625)
#define GA (1.0 / (2 * 0.390625 * (0.390625 - 2.25)))
#define GB (1.0 / (2 * 2.25 * (2.25 - 0.390625)))
static const float weight_rows[SIDE][3] = {
    {(float)G0, 0, 0},
    {(float)GA, (float)(GA * 0.625), (float)(GA * 0.390625)},
    {(float)GA, (float)(GA * -0.625), (float)(GA * 0.390625)},
    {(float)GB, (float)(GB * 1.5), (float)(GB * 2.25)},
    {(float)GB, (float)(GB * -1.5), (float)(GB * 2.25)},
    {0, 0, 1},
};

STEP void halve_weights(const float *weight, int64_t channels, int64_t row, float *half, size_t half_pitch)
{
    const float *const g = weight_rows[row];
    const VECTOR g0 = ALL(g[0]), g1 = ALL(g[1]), g2 = ALL(g[2]);
    for (int64_t c = 0; c < channels; c++, weight += 9 * PANEL, half += PANEL) {
        for (size_t k = 0; k < 3; k++) {
            for (size_t i = 0; i < PANEL; i += WIDTH) {
                const float *const w = weight + k * PANEL + i;
                STORE(half + k * half_pitch + i,
                      PLUS_PRODUCT(g2, LOAD(w + 6 * PANEL), PLUS_PRODUCT(g1, LOAD(w + 3 * PANEL), g0 * LOAD(w))));
            }
        }
    }
}

STEP void finish_two(const float *half, size_t half_pitch, int64_t channels, int64_t first, float *u, size_t pitch)
{
    const float *const g = weight_rows[first], *const f = weight_rows[first + 1];
    const VECTOR g0 = ALL(g[0]), g1 = ALL(g[1]), g2 = ALL(g[2]), f0 = ALL(f[0]), f1 = ALL(f[1]), f2 = ALL(f[2]);
    for (int64_t c = 0; c < channels; c++, half += PANEL, u += PANEL) {
        for (int i = 0; i < PANEL; i += WIDTH) {
            const VECTOR h0 = LOAD(half + i), h1 = LOAD(half + half_pitch + i), h2 = LOAD(half + 2 * half_pitch + i);
            STORE(u + i, PLUS_PRODUCT(g1, h1, PLUS_PRODUCT(g2, h2, g0 * h0)));
            STORE(u + pitch + i, PLUS_PRODUCT(f1, h1, PLUS_PRODUCT(f2, h2, f0 * h0)));
        }
    }
}

STEP void finish_weights(const float *half, size_t half_pitch, size_t row_pitch, int64_t channels,
                         const cso_winograd_group *group, float *u, size_t pitch)
{
    (void)row_pitch;
    if (group->count != SIDE) {
        finish_two(half, half_pitch, channels, group->frequency % SIDE, u, pitch);
        return;
    }
    for (int64_t c = 0; c < channels; c++, half += PANEL, u += PANEL) {
        for (int i = 0; i < PANEL; i += WIDTH) {
            const VECTOR h0 = LOAD(half + i), h1 = LOAD(half + half_pitch + i), h2 = LOAD(half + 2 * half_pitch + i);
            const VECTOR even_a = PLUS_PRODUCT(ALL(weight_rows[1][2]), h2, ALL(weight_rows[1][0]) * h0);
            const VECTOR even_b = PLUS_PRODUCT(ALL(weight_rows[3][2]), h2, ALL(weight_rows[3][0]) * h0);
            STORE(u + i, ALL(weight_rows[0][0]) * h0);
            STORE(u + pitch + i, PLUS_PRODUCT(ALL(weight_rows[1][1]), h1, even_a));
            STORE(u + 2 * pitch + i, MINUS_PRODUCT(ALL(weight_rows[1][1]), h1, even_a));
            STORE(u + 3 * pitch + i, PLUS_PRODUCT(ALL(weight_rows[3][1]), h1, even_b));
            STORE(u + 4 * pitch + i, MINUS_PRODUCT(ALL(weight_rows[3][1]), h1, even_b));
            STORE(u + 5 * pitch + i, h2);
        }
    }
}

STEP void turn_weights(const float *plain, int64_t count, float *turned)
{
    for (int64_t tap = 0; tap < 9; tap++) {
        for (int64_t c = 0; c < PANEL; c += WIDTH) {
            for (int64_t o = 0; o < PANEL; o += WIDTH) {
                VECTOR rows[WIDTH];
                for (int64_t i = 0; i < WIDTH; i++) {
                    rows[i] = o + i < count ? LOAD(plain + ((o + i) * 9 + tap) * PANEL + c) : ALL(0.0f);
                }
                transpose(rows);
                for (int64_t i = 0; i < WIDTH; i++) {
                    STORE(turned + ((c + i) * 9 + 8 - tap) * PANEL + o, rows[i]);
                }
            }
        }
    }
}

/* count: WIDTH, or the channels that are left; the others are 0. */
VALUE VECTOR load_some(const float *from, int64_t count)
{
    return count == WIDTH ? LOAD(from) : LOAD_PART(from, count);
}

/* Column j of a tile. next: from a pixel to that of the next tile, whose last four rows and columns nobody has read
 * yet. */
VALUE void load_column(const float *const *pixel, int j, bool scaled, VECTOR factor, int64_t c, int64_t count,
                       size_t next, VECTOR column[SIDE])
{
    UNROLLED for (int i = 0; i < SIDE; i++)
    {
        const float *const from = pixel[i * SIDE + j] + c;
        if (i >= SIDE - OUTPUTS && j >= SIDE - OUTPUTS) {
            PREFETCH(from + next);
        }
        column[i] = load_some(from, count);
        if (scaled) {
            column[i] = factor * column[i];
        }
    }
}

VALUE void input_vector(const float *const *pixel, const float *scale, int64_t c, int64_t count, size_t next, float *v,
                        size_t pitch)
{
    const VECTOR factor = scale ? load_some(scale + c, count) : ALL(1.0f);
    VECTOR half[SIDE][SIDE];
    UNROLLED for (int j = 0; j < SIDE; j++)
    {
        VECTOR column[SIDE], out[SIDE];
        load_column(pixel, j, scale != NULL, factor, c, count, next, column);
        input_transform(column, out);
        UNROLLED for (int i = 0; i < SIDE; i++) { half[i][j] = out[i]; }
    }
    UNROLLED for (int i = 0; i < SIDE; i++)
    {
        VECTOR out[SIDE];
        input_transform(half[i], out);
        UNROLLED for (int j = 0; j < SIDE; j++) { STORE(v + (size_t)(i * SIDE + j) * pitch + c, out[j]); }
    }
}

/* name: of a tile's step; vector: what it does for WIDTH channels. */
#define INPUT_STEP(name, vector)                                                                                    \
    STEP void name(const float *const *pixel, const float *scale, int64_t channels, float *v, size_t pitch)         \
    {                                                                                                               \
        const size_t next = (size_t)(OUTPUTS * channels);                                                           \
        int64_t c = 0;                                                                                              \
        if (!scale) {                                                                                               \
            for (; c + WIDTH <= channels; c += WIDTH) {                                                             \
                vector(pixel, NULL, c, WIDTH, next, v, pitch);                                                      \
            }                                                                                                       \
        }                                                                                                           \
        for (; c < channels; c += WIDTH) {                                                                          \
            vector(pixel, scale, c, channels - c < WIDTH ? channels - c : WIDTH, next, v, pitch);                   \
        }                                                                                                           \
    }
INPUT_STEP(transform_input, input_vector)

STEP void transform_column(const float *const *pixel, const float *scale, int64_t channels, float *v, size_t pitch)
{
    for (int64_t c = 0; c < channels; c += WIDTH) {
        const int64_t count = channels - c < WIDTH ? channels - c : WIDTH;
        const VECTOR factor = scale ? load_some(scale + c, count) : ALL(1.0f);
        VECTOR column[SIDE], out[SIDE];
        UNROLLED for (int i = 0; i < SIDE; i++)
        {
            column[i] = load_some(pixel[i] + c, count);
            if (scale) {
                column[i] = factor * column[i];
            }
        }
        input_transform(column, out);
        UNROLLED for (int i = 0; i < SIDE; i++) { STORE(v + (size_t)i * pitch + c, out[i]); }
    }
}

/* residual: what is added, or NULL. */
VALUE void store_sum(VECTOR value, const float *residual, int64_t count, float *y)
{
    if (residual) {
        value = value + load_some(residual, count);
    }
    if (count == WIDTH) {
        STORE(y, value);
    } else {
        STORE_PART(y, count, value);
    }
}

/* A row of outputs, of which width exist, at y and on. */
VALUE void store_row(const VECTOR out[OUTPUTS], int64_t width, VECTOR factor, VECTOR start, const float *residual,
                     int64_t count, float *y, size_t pixel_stride, size_t next)
{
    UNROLLED for (int j = 0; j < OUTPUTS; j++)
    {
        const size_t offset = (size_t)j * pixel_stride;
        if (j < width) {
            PREFETCH_WRITE(y + offset + next);
            if (residual) {
                PREFETCH(residual + offset + next);
            }
            store_sum(PLUS_PRODUCT(factor, out[j], start), residual ? residual + offset : NULL, count, y + offset);
        }
    }
}

VALUE void output_vector(const float *m, size_t pitch, int64_t count, int64_t height, int64_t width,
                         const float *scale, const float *bias, const float *residual, float *y, size_t row_stride,
                         size_t pixel_stride, size_t next)
{
    const VECTOR factor = scale ? load_some(scale, count) : ALL(1.0f);
    const VECTOR start = bias ? load_some(bias, count) : ALL(0.0f);
    VECTOR half[OUTPUTS][SIDE];
    UNROLLED for (int j = 0; j < SIDE; j++)
    {
        VECTOR column[SIDE], out[OUTPUTS];
        UNROLLED for (int i = 0; i < SIDE; i++) { column[i] = LOAD(m + (size_t)(i * SIDE + j) * pitch); }
        output_transform(column, out);
        UNROLLED for (int i = 0; i < OUTPUTS; i++) { half[i][j] = out[i]; }
    }
    UNROLLED for (int i = 0; i < OUTPUTS; i++)
    {
        VECTOR out[OUTPUTS];
        if (i < height) {
            const size_t offset = (size_t)i * row_stride;
            output_transform(half[i], out);
            store_row(out, width, factor, start, residual ? residual + offset : NULL, count, y + offset, pixel_stride,
                      next);
        }
    }
}

#define OUTPUT_STEP(name, vector)                                                                                   \
    STEP void name(const float *m, size_t pitch, int64_t channels, int64_t height, int64_t width,                   \
                   const float *scale, const float *bias, const float *residual, float *y, size_t row_stride,       \
                   size_t next)                                                                                     \
    {                                                                                                               \
        const size_t pixel = (size_t)channels;                                                                      \
        for (int64_t c = 0; c < channels; c += WIDTH) {                                                             \
            const float *const s = scale ? scale + c : NULL, *const b = bias ? bias + c : NULL;                     \
            const float *const r = residual ? residual + c : NULL;                                                  \
            if (c + WIDTH <= channels) {                                                                            \
                vector(m + c, pitch, WIDTH, height, width, s, b, r, y + c, row_stride, pixel, next);                \
            } else {                                                                                                \
                vector(m + c, pitch, channels - c, height, width, s, b, r, y + c, row_stride, pixel, next);         \
            }                                                                                                       \
        }                                                                                                           \
    }
OUTPUT_STEP(transform_output, output_vector)

STEP void finish_column(const float *m, size_t pitch, int64_t channels, int64_t height, const float *scale,
                        const float *bias, const float *residual, float *y, size_t row_stride)
{
    for (int64_t c = 0; c < channels; c += WIDTH) {
        const int64_t count = channels - c < WIDTH ? channels - c : WIDTH;
        const VECTOR factor = scale ? load_some(scale + c, count) : ALL(1.0f);
        const VECTOR start = bias ? load_some(bias + c, count) : ALL(0.0f);
        VECTOR column[SIDE], out[OUTPUTS];
        UNROLLED for (int i = 0; i < SIDE; i++) { column[i] = LOAD(m + (size_t)i * pitch + c); }
        output_transform(column, out);
        UNROLLED for (int i = 0; i < OUTPUTS; i++)
        {
            if (i < height) {
                const size_t offset = (size_t)i * row_stride + (size_t)c;
                store_sum(PLUS_PRODUCT(factor, out[i], start), residual ? residual + offset : NULL, count, y + offset);
            }
        }
    }
}

/* Named accumulators, as compilers do not keep arrays of them in registers. */
#define ROWS_1(X) X(0)
#define ROWS_2(X) ROWS_1(X) X(1)
#define ROWS_3(X) ROWS_2(X) X(2)
#define ROWS_4(X) ROWS_3(X) X(3)
#define ROWS_5(X) ROWS_4(X) X(4)
#define ROWS_6(X) ROWS_5(X) X(5)
#define ROWS_7(X) ROWS_6(X) X(6)
#define ROWS_8(X) ROWS_7(X) X(7)
#define ROWS_9(X) ROWS_8(X) X(8)
#define ROWS_10(X) ROWS_9(X) X(9)
#define ROWS_11(X) ROWS_10(X) X(10)
#define ROWS_12(X) ROWS_11(X) X(11)
#define ROWS_13(X) ROWS_12(X) X(12)
#define ROWS_14(X) ROWS_13(X) X(13)

/* Addresses of rows: of the first or the eighth and a multiple of the distance that an address can hold, as there are not
 * registers for a pointer to each. */
#define ROW_0 first_row
#define ROW_1 first_row + stride
#define ROW_2 first_row + 2 * stride
#define ROW_3 first_row + three
#define ROW_4 first_row + 4 * stride
#define ROW_5 first_row + five
#define ROW_6 first_row + 2 * three
#define ROW_7 eighth_row
#define ROW_8 eighth_row + stride
#define ROW_9 eighth_row + 2 * stride
#define ROW_10 eighth_row + three
#define ROW_11 eighth_row + 4 * stride
#define ROW_12 eighth_row + five
#define ROW_13 eighth_row + 2 * three

#define START(r) VECTOR low##r = ALL(0.0f), high##r = low##r;
#define ADD_ROW(r)                                                    \
    {                                                                 \
        const VECTOR x = ALL(*(const float *)(ROW_##r));              \
        low##r = PLUS_PRODUCT(x, first, low##r);                      \
        high##r = PLUS_PRODUCT(x, second, high##r);                   \
    }
#define FIRST_PIECE(r)                                                \
    STORE(m + (r) * m_stride, low##r);                                \
    STORE(m + (r) * m_stride + WIDTH, high##r);
#define NEXT_PIECE(r)                                                 \
    {                                                                 \
        float *const sum = m + (r) * m_stride;                        \
        STORE(sum, LOAD(sum) + low##r);                               \
        STORE(sum + WIDTH, LOAD(sum + WIDTH) + high##r);              \
    }

/* The barriers keep both vectors of weights in registers, where the compiler would load them again for each row, and the
 * distances, where it would make a pointer for each row. Each channel brings one line from far into the second cache and
 * one from near into the first. */
#define KERNEL(rows)                                                                                               \
    STEP void multiply_##rows(int64_t channels, int64_t piece, const float *v, size_t v_stride, const float *u,    \
                              float *m, size_t m_stride, const float *far, size_t far_step, const float *near,     \
                              size_t near_step)                                                                    \
    {                                                                                                              \
        uintptr_t stride = v_stride * sizeof *v, three = 3 * stride, five = 5 * stride;                            \
        uintptr_t first_row = (uintptr_t)v, eighth_row = first_row + 7 * stride;                                   \
        for (int64_t c = 0; c < channels;) {                                                                       \
            const bool first_piece = c == 0;                                                                       \
            const int64_t end = channels - c < piece ? channels : c + piece;                                       \
            ROWS_##rows(START)                                                                                     \
            for (; c < end; c++, u += PANEL, far += far_step, near += near_step) {                                 \
                VECTOR first = LOAD(u), second = LOAD(u + WIDTH);                                                  \
                KEEP(first, second);                                                                               \
                __asm__("" : "+r"(stride), "+r"(three), "+r"(five), "+r"(first_row), "+r"(eighth_row));            \
                PREFETCH_FAR(far);                                                                                 \
                PREFETCH(near);                                                                                    \
                ROWS_##rows(ADD_ROW)                                                                               \
                first_row += sizeof *v;                                                                            \
                eighth_row += sizeof *v;                                                                           \
            }                                                                                                      \
            if (first_piece) {                                                                                     \
                ROWS_##rows(FIRST_PIECE)                                                                           \
            } else {                                                                                               \
                ROWS_##rows(NEXT_PIECE)                                                                            \
            }                                                                                                      \
        }                                                                                                          \
    }
EACH_KERNEL(KERNEL)

typedef void (*kernel)(int64_t channels, int64_t piece, const float *v, size_t stride, const float *u, float *m,
                       size_t m_stride, const float *far, size_t far_step, const float *near, size_t near_step);
#define ENTRY(rows) multiply_##rows,
static const kernel kernels[] = {EACH_KERNEL(ENTRY)};
enum { MOST_ROWS = sizeof kernels / sizeof kernels[0] };

/*
 * Weights come from memory once for all rows, so that their fetching is spread over the calls that use a panel: what
 * lies ahead into the second cache, the next panel into the first. During the last panel the first gets the next rows.
 */
STEP void multiply(int64_t rows, int64_t channels, int64_t panels, const float *v, size_t v_stride, const float *next,
                   const float *u, const float *ahead, int64_t ahead_width, float *m, size_t m_stride)
{
    const int parts = (int)((rows + MOST_ROWS - 1) / MOST_ROWS);
    const int64_t weights = channels * PANEL, step = (ahead_width + parts - 1) / parts;
    const int64_t pieces = (channels + MOST_PIECE - 1) / MOST_PIECE, piece = (channels + pieces - 1) / pieces;
    for (int64_t panel = 0; panel < panels; panel++, u += weights, ahead += weights, m += PANEL) {
        for (int part = 0; part < parts; part++) {
            int64_t first, last;
            cso_share(rows, parts, part, &first, &last);
            const float *const far = ahead + part * channels * step;
            const float *near = u + weights + part * channels * step;
            int64_t near_step = step;
            if (step > LINE) {
                near = far + LINE;
            } else if (panel == panels - 1) {
                near = next + (size_t)first * v_stride;
                near_step = last - first;
            }
            kernels[last - first - 1](channels, piece, v + (size_t)first * v_stride, v_stride, u,
                                      m + (size_t)first * m_stride, m_stride, far, (size_t)step, near,
                                      (size_t)near_step);
        }
    }
}

#define ROW(i) {.row = (i), .rows = 1, .frequency = (i) * SIDE, .count = SIDE}
#define PAIR(i, column) {.row = (i), .rows = 1, .frequency = (i) * SIDE + (column), .count = 2}
#define PAIRS(i) PAIR(i, 0), PAIR(i, 2), PAIR(i, 4)
static const cso_winograd_group rows_of_frequencies[] = {ROW(0), ROW(1), ROW(2), ROW(3), ROW(4), ROW(5)};
static const cso_winograd_group pairs_of_frequencies[] = {PAIRS(0), PAIRS(1), PAIRS(2), PAIRS(3), PAIRS(4), PAIRS(5)};

const cso_winograd WINOGRAD = {
    .name = WINOGRAD_NAME,
    .column_name = WINOGRAD_COLUMN_NAME,
    .frequencies = SIDE * SIDE,
    .group_count = SIDE,
    .groups = rows_of_frequencies,
    .small_group_count = 3 * SIDE,
    .small_groups = pairs_of_frequencies,
    .panel = PANEL,
    .rows = MOST_ROWS,
    .halve_weights = halve_weights,
    .finish_weights = finish_weights,
    .turn_weights = turn_weights,
    .transform_input = transform_input,
    .transform_column = transform_column,
    .multiply = multiply,
    .transform_output = transform_output,
    .finish_column = finish_column,
};
