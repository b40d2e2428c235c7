/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * F(2x2, 3x3), with the points 0, +-1 and infinity: only additions, and halves of the weights. Included behind
 * winograd_template.h, whose products and vectors it uses.
 */
enum { SIDE2 = 4, OUTPUTS2 = 2 };

/* First, middle and last of three weights, of which row takes one or both sums of them, halved. */
VALUE VECTOR weight_sum2(const float *first, size_t step, int64_t row)
{
    if (row == 0) {
        return LOAD(first);
    }
    if (row == SIDE2 - 1) {
        return LOAD(first + 2 * step);
    }
    const VECTOR even = LOAD(first) + LOAD(first + 2 * step), odd = LOAD(first + step);
    return ALL(0.5f) * (row == 1 ? even + odd : even - odd);
}

STEP void halve_weights2(const float *weight, int64_t channels, int64_t row, float *half, size_t half_pitch)
{
    for (int64_t c = 0; c < channels; c++, weight += 9 * PANEL, half += PANEL) {
        for (size_t k = 0; k < 3; k++) {
            for (size_t i = 0; i < PANEL; i += WIDTH) {
                STORE(half + k * half_pitch + i, weight_sum2(weight + k * PANEL + i, 3 * PANEL, row));
            }
        }
    }
}

STEP void finish_weights2(const float *half, size_t half_pitch, int64_t channels, int64_t first, int64_t columns,
                          float *u, size_t pitch)
{
    for (int64_t c = 0; c < channels; c++, half += PANEL, u += PANEL) {
        for (int i = 0; i < PANEL; i += WIDTH) {
            for (int64_t j = 0; j < columns; j++) {
                STORE(u + (size_t)j * pitch + i, weight_sum2(half + i, half_pitch, first + j));
            }
        }
    }
}

VALUE void input_transform2(const VECTOR d[SIDE2], VECTOR out[SIDE2])
{
    out[0] = d[0] - d[2];
    out[1] = d[1] + d[2];
    out[2] = d[2] - d[1];
    out[3] = d[1] - d[3];
}

VALUE void output_transform2(const VECTOR m[SIDE2], VECTOR out[OUTPUTS2])
{
    out[0] = m[0] + m[1] + m[2];
    out[1] = m[1] - m[2] - m[3];
}

VALUE void input_vector2(const float *const *pixel, const float *scale, int64_t c, int64_t count, float *v,
                         size_t pitch)
{
    const VECTOR factor = scale ? load_some(scale + c, count) : ALL(1.0f);
    VECTOR half[SIDE2][SIDE2];
    UNROLLED for (int j = 0; j < SIDE2; j++)
    {
        VECTOR column[SIDE2], out[SIDE2];
        UNROLLED for (int i = 0; i < SIDE2; i++)
        {
            const float *const from = pixel[i * SIDE2 + j] + c;
            column[i] = load_some(from, count);
            if (scale) {
                column[i] = factor * column[i];
            }
        }
        input_transform2(column, out);
        UNROLLED for (int i = 0; i < SIDE2; i++) { half[i][j] = out[i]; }
    }
    UNROLLED for (int i = 0; i < SIDE2; i++)
    {
        VECTOR out[SIDE2];
        input_transform2(half[i], out);
        UNROLLED for (int j = 0; j < SIDE2; j++) { STORE(v + (size_t)(i * SIDE2 + j) * pitch + c, out[j]); }
    }
}

STEP void transform_input2(const float *const *pixel, const float *scale, int64_t channels, float *v, size_t pitch)
{
    for (int64_t c = 0; c < channels; c += WIDTH) {
        input_vector2(pixel, scale, c, channels - c < WIDTH ? channels - c : WIDTH, v, pitch);
    }
}

VALUE void output_vector2(const float *m, size_t pitch, int64_t count, int64_t height, int64_t width,
                          const float *scale, const float *bias, const float *residual, float *y, size_t row_stride,
                          size_t pixel_stride, size_t next)
{
    const VECTOR factor = scale ? load_some(scale, count) : ALL(1.0f);
    const VECTOR start = bias ? load_some(bias, count) : ALL(0.0f);
    VECTOR half[OUTPUTS2][SIDE2];
    UNROLLED for (int j = 0; j < SIDE2; j++)
    {
        VECTOR column[SIDE2], out[OUTPUTS2];
        UNROLLED for (int i = 0; i < SIDE2; i++) { column[i] = LOAD(m + (size_t)(i * SIDE2 + j) * pitch); }
        output_transform2(column, out);
        UNROLLED for (int i = 0; i < OUTPUTS2; i++) { half[i][j] = out[i]; }
    }
    UNROLLED for (int i = 0; i < OUTPUTS2; i++)
    {
        VECTOR out[OUTPUTS2];
        output_transform2(half[i], out);
        UNROLLED for (int j = 0; j < OUTPUTS2; j++)
        {
            const size_t offset = (size_t)i * row_stride + (size_t)j * pixel_stride;
            if (i < height && j < width) {
                PREFETCH_WRITE(y + offset + next);
                if (residual) {
                    PREFETCH(residual + offset + next);
                }
                store_sum(PLUS_PRODUCT(factor, out[j], start), residual ? residual + offset : NULL, count, y + offset);
            }
        }
    }
}

STEP void transform_output2(const float *m, size_t pitch, int64_t channels, int64_t height, int64_t width,
                            const float *scale, const float *bias, const float *residual, float *y, size_t row_stride,
                            size_t next)
{
    for (int64_t c = 0; c < channels; c += WIDTH) {
        const float *const s = scale ? scale + c : NULL, *const b = bias ? bias + c : NULL;
        const float *const r = residual ? residual + c : NULL;
        const int64_t count = c + WIDTH <= channels ? WIDTH : channels - c;
        output_vector2(m + c, pitch, count, height, width, s, b, r, y + c, row_stride, (size_t)channels, next);
    }
}

const cso_winograd WINOGRAD2 = {
    .name = WINOGRAD2_NAME,
    .step = OUTPUTS2,
    .side = SIDE2,
    .frequencies = SIDE2 * SIDE2,
    .panel = PANEL,
    .rows = MOST_ROWS,
    .halve_weights = halve_weights2,
    .finish_weights = finish_weights2,
    .turn_weights = turn_weights,
    .transform_input = transform_input2,
    .multiply = multiply,
    .transform_output = transform_output2,
};
