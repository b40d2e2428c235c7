/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * F(2x2, 3x3), with the points 0, +-1 and infinity: only additions, and halves of the weights. Included behind
 * winograd_template.h, whose products and vectors it uses.
 */
enum { SIDE2 = 4, OUTPUTS2 = 2 };

STEP void transform_weights2(const float *weight, int64_t channels, int64_t row, float *u, size_t pitch)
{
    const VECTOR half = ALL(0.5f), sign = ALL(row == 2 ? -1.0f : 1.0f);
    for (int64_t c = 0; c < channels; c++, weight += 9 * PANEL, u += PANEL) {
        for (int part = 0; part < PANEL; part += WIDTH) {
            VECTOR h[3];
            UNROLLED for (int j = 0; j < 3; j++)
            {
                const float *const from = weight + j * PANEL + part;
                if (row == 0) {
                    h[j] = LOAD(from);
                } else if (row == SIDE2 - 1) {
                    h[j] = LOAD(from + 6 * PANEL);
                } else {
                    h[j] = half * PLUS_PRODUCT(sign, LOAD(from + 3 * PANEL), LOAD(from) + LOAD(from + 6 * PANEL));
                }
            }
            const VECTOR even = h[0] + h[2];
            STORE(u + part, h[0]);
            STORE(u + pitch + part, half * (even + h[1]));
            STORE(u + 2 * pitch + part, half * (even - h[1]));
            STORE(u + 3 * pitch + part, h[2]);
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

VALUE void input_vector2(const float *const *pixel, int64_t c, int64_t count, float *v, size_t pitch)
{
    VECTOR half[SIDE2][SIDE2];
    UNROLLED for (int j = 0; j < SIDE2; j++)
    {
        VECTOR column[SIDE2], out[SIDE2];
        UNROLLED for (int i = 0; i < SIDE2; i++)
        {
            const float *const from = pixel[i * SIDE2 + j] + c;
            column[i] = load_some(from, count);
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

STEP void transform_input2(const float *const *pixel, int64_t channels, float *v, size_t pitch)
{
    int64_t c = 0;
    for (; c + WIDTH <= channels; c += WIDTH) {
        input_vector2(pixel, c, WIDTH, v, pitch);
    }
    if (c < channels) {
        input_vector2(pixel, c, channels - c, v, pitch);
    }
}

VALUE void output_vector2(const float *m, size_t pitch, int64_t count, int64_t height, int64_t width, const float *bias,
                          const float *residual, float *y, size_t row_stride, size_t pixel_stride,
                          size_t next)
{
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
                VECTOR value = out[j] + start;
                if (residual) {
                    PREFETCH(residual + offset + next);
                    value = value + load_some(residual + offset, count);
                }
                if (count == WIDTH) {
                    STORE(y + offset, value);
                } else {
                    STORE_PART(y + offset, count, value);
                }
            }
        }
    }
}

STEP void transform_output2(const float *m, size_t pitch, int64_t channels, int64_t height, int64_t width,
                            const float *bias, const float *residual, float *y, size_t row_stride, size_t next)
{
    for (int64_t c = 0; c < channels; c += WIDTH) {
        const float *const b = bias ? bias + c : NULL, *const r = residual ? residual + c : NULL;
        const int64_t count = c + WIDTH <= channels ? WIDTH : channels - c;
        output_vector2(m + c, pitch, count, height, width, b, r, y + c, row_stride, (size_t)channels, next);
    }
}

const cso_winograd WINOGRAD2 = {
    .name = WINOGRAD2_NAME,
    .step = OUTPUTS2,
    .side = SIDE2,
    .frequencies = SIDE2 * SIDE2,
    .panel = PANEL,
    .rows = MOST_ROWS,
    .transform_weights = transform_weights2,
    .turn_weights = turn_weights,
    .transform_input = transform_input2,
    .multiply = multiply,
    .transform_output = transform_output2,
};
