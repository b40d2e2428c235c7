/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Winograd's minimal filtering F(4x4, 3x3) with the points 0, +-5/8, +-3/2 and infinity: 36 products for 16 outputs
 * where a direct convolution takes 144; and F(2x2, 3x3) with 0, +-1 and infinity, 16 for 4 where it takes 36. Steps, each
 * compiled for AVX2 and for AVX-512 from winograd_template.h and winograd2_template.h: input tiles to frequencies, one
 * matrix product per frequency, frequencies to output tiles; and weights to frequencies.
 */
#ifndef CSO_ONEDNN_WINOGRAD_H
#define CSO_ONEDNN_WINOGRAD_H

#include "backends/onednn/convolution.h"

enum { CSO_WINOGRAD_KERNEL = 3, CSO_WINOGRAD_AREA = 9, CSO_WINOGRAD_MOST_SIDE = 6 };

/* One size of tiles, in one instruction set's code. All instruction sets give the same bits. */
typedef struct cso_winograd {
    const char *name, *column_name; /* the latter NULL: always in both directions */
    int64_t step, side;  /* outputs and inputs of a tile in one direction */
    int64_t frequencies; /* side * side */
    int64_t panel; /* outputs that one product holds in registers; weights are stored so many together */
    int64_t rows;  /* and tiles */
    /* A panel's weights to frequencies, first from row to row, then from column to column: [channels][9][panel] to
     * [channels][panel] of a row and each of three columns, half_pitch floats apart, and that to [channels][panel] of two
     * columns or all (side of them), pitch floats apart. */
    void (*halve_weights)(const float *weight, int64_t channels, int64_t row, float *half, size_t half_pitch);
    void (*finish_weights)(const float *half, size_t half_pitch, int64_t channels, int64_t first, int64_t columns,
                           float *u, size_t pitch);
    /* A square of panel inputs and panel outputs of plain weights, [output][9][input], of which count outputs exist, as
     * halve_weights wants it for the gradient to the input: [input][9][output], flipped. */
    void (*turn_weights)(const float *plain, int64_t count, float *turned);
    /* pixel: side * side pointers to the tile's pixels. scale: factors of channels, or NULL. v[frequency * pitch +
     * channel]. */
    void (*transform_input)(const float *const *pixel, const float *scale, int64_t channels, float *v, size_t pitch);
    /* The same of a column of side pixels, from row to row alone. */
    void (*transform_column)(const float *const *pixel, const float *scale, int64_t channels, float *v, size_t pitch);
    /* m[row * m_stride + output] = sum over channels of v[row * v_stride + channel] * u[channel][output], for panels
     * panels of outputs. next: the rows that will be multiplied after these. ahead: what is fetched for later during the
     * first panel, channels * ahead_width floats; a panel of weights further with each. */
    void (*multiply)(int64_t rows, int64_t channels, int64_t panels, const float *v, size_t v_stride, const float *next,
                     const float *u, const float *ahead, int64_t ahead_width, float *m, size_t m_stride);
    /* Stores the tile's first height x width outputs, times scale (a factor for each channel, or NULL), with bias
     * (likewise) and residual (laid out as y, or NULL) added, at y, row_stride floats from row to row and pixel after
     * pixel. The tile at y + next is fetched meanwhile. */
    void (*transform_output)(const float *m, size_t pitch, int64_t channels, int64_t height, int64_t width,
                             const float *scale, const float *bias, const float *residual, float *y,
                             size_t row_stride, size_t next);
    /* The same of a column of height outputs. */
    void (*finish_column)(const float *m, size_t pitch, int64_t channels, int64_t height, const float *scale,
                          const float *bias, const float *residual, float *y, size_t row_stride);
} cso_winograd;

#if defined(__x86_64__)
extern const cso_winograd cso_winograd_avx2, cso_winograd2_avx2;
extern const cso_winograd cso_winograd_avx512, cso_winograd2_avx512;
#endif
/* What this processor has; NULL: neither. precise: F(2x2, 3x3). */
const cso_winograd *cso_winograd_choose(bool precise);

/* A product's tensors, seen as a 3x3 convolution with stride 1 over zeros outside of the image. */
typedef struct cso_winograd_shape {
    int64_t batch, in, out, in_height, in_width, out_height, out_width;
    int64_t pad[2];
    bool turned; /* the weight is flipped, and its channels are swapped: CSO_PRODUCT_SOURCE */
} cso_winograd_shape;

/* False: not such a convolution. */
bool cso_winograd_shape_of(const cso_geometry *geometry, cso_product product, cso_winograd_shape *out);

/* Forms of weights, which give the same bits in filtering in both directions. Sizes are as 4 to 2 to 1, with F(2x2) as
 * 16 to 12 to 9. */
typedef enum cso_winograd_form {
    CSO_WINOGRAD_WHOLE, /* the frequencies, [frequency][output / panel][in][output % panel] */
    CSO_WINOGRAD_HALF,  /* what finish_weights takes, [row][output / panel][3][in][output % panel] */
    CSO_WINOGRAD_PLAIN  /* what halve_weights takes, [output / panel][in][9][output % panel] */
} cso_winograd_form;

/* The weights of a constant parameter, made once and kept with it. Plain ones are the same for both directions: those of
 * the shape that is not turned. */
carso_status cso_winograd_weight(cso_device *device, cso_parameter *weight, const cso_winograd_shape *shape,
                                 cso_winograd_form form, const float **out);

/* The same of a parameter that is not constant, as it is now: bytes, and the making of them. */
size_t cso_winograd_weight_size(const cso_device *device, const cso_winograd_shape *shape, cso_winograd_form form);
void cso_winograd_weight_make(const cso_device *device, const cso_parameter *weight, const cso_winograd_shape *shape,
                              cso_winograd_form form, float *out);

#endif
