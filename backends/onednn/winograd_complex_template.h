/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * F(4x4, 3x3) with the points 0, +-1, +-i and infinity (Meng and Brothers, "Efficient Winograd convolution via integer
 * arithmetic", 2019): only additions, and halves and quarters of the weights. A real tile's frequencies at -i are the
 * conjugates of those at i, so that in one direction a pair of vectors, real and imaginary part, stands for both: slots
 * of 0, 1, -1, infinity, and the two parts at i. A complex product takes three real ones (Karatsuba and Ofman, 1962), of
 * the real parts, of the imaginary parts and of their sums.
 *
 * Frequencies, 46: of each of the four real points of a column its slots in a row, the parts at i followed by their
 * sum; of i in a column, at 0 and infinity, then at 1 and -1, then at i and -i in a row, triples of two parts and sum.
 *
 * Included behind winograd_template.h, whose products, vectors and tiles it uses.
 */
enum { AT_0, AT_1, AT_MINUS_1, AT_INFINITY, REAL_PART, IMAGINARY_PART, REAL_POINTS = 4 };
enum { ROW_COUNT = REAL_POINTS + 3, MIXED = REAL_POINTS * ROW_COUNT, BOTH = MIXED + 12, COMPLEX_COUNT = BOTH + 6 };

/* Where the triple of i in a column and a real point in a row begins. */
#define MIXED_AT(point) (MIXED + 3 * ((point) == AT_0 ? 0 : (point) == AT_INFINITY ? 1 : (point) + 1))

/* One slot of three weights. What is at i counts twice, for -i too, but not where both have products of their own. */
VALUE VECTOR complex_weight(VECTOR w0, VECTOR w1, VECTOR w2, int64_t slot)
{
    switch (slot) {
    case AT_0: return w0;
    case AT_1: return ALL(0.25f) * (w0 + w2 + w1);
    case AT_MINUS_1: return ALL(0.25f) * (w0 + w2 - w1);
    case AT_INFINITY: return w2;
    case REAL_PART: return ALL(0.5f) * (w0 - w2);
    default: return ALL(0.5f) * w1;
    }
}

STEP void complex_halve_weights(const float *weight, int64_t channels, int64_t row, float *half, size_t half_pitch)
{
    for (int64_t c = 0; c < channels; c++, weight += 9 * PANEL, half += PANEL) {
        for (size_t k = 0; k < 3; k++) {
            for (size_t i = 0; i < PANEL; i += WIDTH) {
                const float *const w = weight + k * PANEL + i;
                STORE(half + k * half_pitch + i,
                      complex_weight(LOAD(w), LOAD(w + 3 * PANEL), LOAD(w + 6 * PANEL), row));
            }
        }
    }
}

VALUE void store_triple(VECTOR real, VECTOR imaginary, float *to, size_t pitch)
{
    STORE(to, real);
    STORE(to + pitch, imaginary);
    STORE(to + 2 * pitch, real + imaginary);
}

VALUE VECTOR half_weight(const float *half, size_t half_pitch, int64_t slot)
{
    return complex_weight(LOAD(half), LOAD(half + half_pitch), LOAD(half + 2 * half_pitch), slot);
}

/* group: of a real point's row, of i with two real points, or of i with i and -i. */
STEP void complex_finish_weights(const float *half, size_t half_pitch, size_t row_pitch, int64_t channels,
                                 const cso_winograd_group *group, float *u, size_t pitch)
{
    for (int64_t c = 0; c < channels; c++, half += PANEL, u += PANEL) {
        for (int i = 0; i < PANEL; i += WIDTH) {
            const float *const a = half + i, *const b = a + row_pitch;
            const VECTOR a_real = half_weight(a, half_pitch, REAL_PART);
            const VECTOR a_imaginary = half_weight(a, half_pitch, IMAGINARY_PART);
            float *const to = u + i;
            if (group->rows == 1) {
                for (int64_t k = 0; k < REAL_POINTS; k++) {
                    STORE(to + (size_t)k * pitch, half_weight(a, half_pitch, k));
                }
                store_triple(a_real, a_imaginary, to + REAL_POINTS * pitch, pitch);
            } else if (group->frequency == BOTH) {
                const VECTOR b_real = half_weight(b, half_pitch, REAL_PART);
                const VECTOR b_imaginary = half_weight(b, half_pitch, IMAGINARY_PART), one_half = ALL(0.5f);
                store_triple(one_half * (a_real - b_imaginary), one_half * (a_imaginary + b_real), to, pitch);
                store_triple(one_half * (a_real + b_imaginary), one_half * (b_real - a_imaginary), to + 3 * pitch,
                             pitch);
            } else {
                const int64_t first = group->frequency == MIXED ? AT_0 : AT_1;
                const int64_t second = group->frequency == MIXED ? AT_INFINITY : AT_MINUS_1;
                store_triple(half_weight(a, half_pitch, first), half_weight(b, half_pitch, first), to, pitch);
                store_triple(half_weight(a, half_pitch, second), half_weight(b, half_pitch, second), to + 3 * pitch,
                             pitch);
            }
        }
    }
}

VALUE void complex_input_transform(const VECTOR d[SIDE], VECTOR slot[SIDE])
{
    const VECTOR even = d[2] + d[4], odd = d[1] + d[3];
    slot[AT_0] = d[0] - d[4];
    slot[AT_1] = even + odd;
    slot[AT_MINUS_1] = even - odd;
    slot[AT_INFINITY] = d[5] - d[1];
    slot[REAL_PART] = d[4] - d[2];
    slot[IMAGINARY_PART] = d[3] - d[1];
}

VALUE void complex_output_transform(const VECTOR slot[SIDE], VECTOR out[OUTPUTS])
{
    const VECTOR even = slot[AT_1] + slot[AT_MINUS_1], odd = slot[AT_1] - slot[AT_MINUS_1];
    out[0] = slot[AT_0] + even + slot[REAL_PART];
    out[1] = odd - slot[IMAGINARY_PART];
    out[2] = even - slot[REAL_PART];
    out[3] = odd + slot[IMAGINARY_PART] + slot[AT_INFINITY];
}

VALUE void complex_input_vector(const float *const *pixel, const float *scale, int64_t c, int64_t count, size_t next,
                                float *v, size_t pitch)
{
    const VECTOR factor = scale ? load_some(scale + c, count) : ALL(1.0f);
    VECTOR half[SIDE][SIDE], a[SIDE], b[SIDE];
    UNROLLED for (int j = 0; j < SIDE; j++)
    {
        VECTOR column[SIDE], slot[SIDE];
        load_column(pixel, j, scale != NULL, factor, c, count, next, column);
        complex_input_transform(column, slot);
        UNROLLED for (int i = 0; i < SIDE; i++) { half[i][j] = slot[i]; }
    }
    UNROLLED for (int i = 0; i < REAL_POINTS; i++)
    {
        float *const to = v + (size_t)(i * ROW_COUNT) * pitch + c;
        complex_input_transform(half[i], a);
        UNROLLED for (int j = 0; j < REAL_POINTS; j++) { STORE(to + (size_t)j * pitch, a[j]); }
        store_triple(a[REAL_PART], a[IMAGINARY_PART], to + REAL_POINTS * pitch, pitch);
    }
    complex_input_transform(half[REAL_PART], a);
    complex_input_transform(half[IMAGINARY_PART], b);
    UNROLLED for (int j = 0; j < REAL_POINTS; j++)
    {
        store_triple(a[j], b[j], v + (size_t)MIXED_AT(j) * pitch + c, pitch);
    }
    store_triple(a[REAL_PART] - b[IMAGINARY_PART], a[IMAGINARY_PART] + b[REAL_PART], v + BOTH * pitch + c, pitch);
    store_triple(a[REAL_PART] + b[IMAGINARY_PART], b[REAL_PART] - a[IMAGINARY_PART], v + (BOTH + 3) * pitch + c, pitch);
}

INPUT_STEP(complex_transform_input, complex_input_vector)

/* Two parts of a product from its triple. */
VALUE void load_triple(const float *m, size_t pitch, VECTOR *real, VECTOR *imaginary)
{
    const VECTOR first = LOAD(m), second = LOAD(m + pitch);
    *real = first - second;
    *imaginary = LOAD(m + 2 * pitch) - first - second;
}

VALUE void complex_output_vector(const float *m, size_t pitch, int64_t count, int64_t height, int64_t width,
                                 const float *scale, const float *bias, const float *residual, float *y,
                                 size_t row_stride, size_t pixel_stride, size_t next)
{
    const VECTOR factor = scale ? load_some(scale, count) : ALL(1.0f);
    const VECTOR start = bias ? load_some(bias, count) : ALL(0.0f);
    VECTOR half[SIDE][OUTPUTS], a[SIDE], b[SIDE], real[2], imaginary[2];
    UNROLLED for (int i = 0; i < REAL_POINTS; i++)
    {
        const float *const from = m + (size_t)(i * ROW_COUNT) * pitch;
        UNROLLED for (int j = 0; j < REAL_POINTS; j++) { a[j] = LOAD(from + (size_t)j * pitch); }
        load_triple(from + REAL_POINTS * pitch, pitch, &a[REAL_PART], &a[IMAGINARY_PART]);
        complex_output_transform(a, half[i]);
    }
    UNROLLED for (int j = 0; j < REAL_POINTS; j++)
    {
        load_triple(m + (size_t)MIXED_AT(j) * pitch, pitch, &a[j], &b[j]);
    }
    load_triple(m + BOTH * pitch, pitch, &real[0], &imaginary[0]);
    load_triple(m + (BOTH + 3) * pitch, pitch, &real[1], &imaginary[1]);
    /* Output k of a row takes i^k times the one and (-i)^k times the other: sum, i times the difference, and so on. */
    a[REAL_PART] = real[0] + real[1];
    b[REAL_PART] = imaginary[0] + imaginary[1];
    a[IMAGINARY_PART] = imaginary[0] - imaginary[1];
    b[IMAGINARY_PART] = real[1] - real[0];
    complex_output_transform(a, half[REAL_PART]);
    complex_output_transform(b, half[IMAGINARY_PART]);
    VECTOR out[OUTPUTS][OUTPUTS];
    UNROLLED for (int j = 0; j < OUTPUTS; j++)
    {
        VECTOR column[SIDE], to[OUTPUTS];
        UNROLLED for (int i = 0; i < SIDE; i++) { column[i] = half[i][j]; }
        complex_output_transform(column, to);
        UNROLLED for (int i = 0; i < OUTPUTS; i++) { out[i][j] = to[i]; }
    }
    UNROLLED for (int i = 0; i < OUTPUTS; i++)
    {
        if (i < height) {
            const size_t offset = (size_t)i * row_stride;
            store_row(out[i], width, factor, start, residual ? residual + offset : NULL, count, y + offset,
                      pixel_stride, next);
        }
    }
}

OUTPUT_STEP(complex_transform_output, complex_output_vector)

#define REAL_ROW(point) {.row = (point), .rows = 1, .frequency = (point) * ROW_COUNT, .count = ROW_COUNT}
static const cso_winograd_group complex_groups[] = {
    REAL_ROW(AT_0),
    REAL_ROW(AT_1),
    REAL_ROW(AT_MINUS_1),
    REAL_ROW(AT_INFINITY),
    {.row = REAL_PART, .rows = 2, .frequency = MIXED, .count = 6},
    {.row = REAL_PART, .rows = 2, .frequency = MIXED + 6, .count = 6},
    {.row = REAL_PART, .rows = 2, .frequency = BOTH, .count = 6},
};
enum { COMPLEX_GROUPS = sizeof complex_groups / sizeof complex_groups[0] };

const cso_winograd WINOGRAD_COMPLEX = {
    .name = WINOGRAD_COMPLEX_NAME,
    .frequencies = COMPLEX_COUNT,
    .group_count = COMPLEX_GROUPS,
    .groups = complex_groups,
    .small_group_count = COMPLEX_GROUPS,
    .small_groups = complex_groups,
    .panel = PANEL,
    .rows = MOST_ROWS,
    .halve_weights = complex_halve_weights,
    .finish_weights = complex_finish_weights,
    .turn_weights = turn_weights,
    .transform_input = complex_transform_input,
    .multiply = multiply,
    .transform_output = complex_transform_output,
};
