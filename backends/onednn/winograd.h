/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Winograd's minimal filtering F(4x4, 3x3), where a direct convolution takes 144 products for 16 outputs: with the real
 * points 0, +-5/8, +-3/2 and infinity, 36 products; and with the complex points 0, +-1, +-i and infinity, 46 products
 * and smaller errors. Steps, each compiled for AVX2 and for AVX-512 from winograd_template.h and
 * winograd_complex_template.h: input tiles to frequencies, one matrix product per frequency, frequencies to output
 * tiles; and weights to frequencies. What is called a frequency is one factor of such a product.
 */
#ifndef CSO_ONEDNN_WINOGRAD_H
#define CSO_ONEDNN_WINOGRAD_H

#include "backends/onednn/convolution.h"

enum { CSO_WINOGRAD_KERNEL = 3, CSO_WINOGRAD_AREA = 9 };
/* Outputs and inputs of a tile in one direction. */
enum { CSO_WINOGRAD_STEP = 4, CSO_WINOGRAD_SIDE = 6 };

/* Frequencies of weights that are made together, from one or two of the half made rows, which follow each other. */
typedef struct cso_winograd_group {
    int64_t row, rows;
    int64_t frequency, count; /* the first, and how many */
} cso_winograd_group;

/* The filtering with one choice of points, in one instruction set's code. All instruction sets give the same bits. */
struct cso_winograd {
    const char *name, *column_name; /* the latter NULL: always in both directions */
    int64_t frequencies;
    int64_t group_count, small_group_count; /* all frequencies, in as few groups as can be, and in smaller ones */
    const cso_winograd_group *groups, *small_groups;
    int64_t panel; /* outputs that one product holds in registers; weights are stored so many together */
    int64_t rows;  /* and tiles */
    /* A panel's weights to frequencies, first from row to row, then from column to column: [channels][9][panel] to
     * [channels][panel] of one of CSO_WINOGRAD_SIDE half made rows and each of three columns, half_pitch floats apart,
     * and that, with the group's next row row_pitch further, to [channels][panel] of its frequencies, pitch floats
     * apart. */
    void (*halve_weights)(const float *weight, int64_t channels, int64_t row, float *half, size_t half_pitch);
    void (*finish_weights)(const float *half, size_t half_pitch, size_t row_pitch, int64_t channels,
                           const cso_winograd_group *group, float *u, size_t pitch);
    /* A square of panel inputs and panel outputs of plain weights, [output][9][input], of which count outputs exist, as
     * halve_weights wants it for the gradient to the input: [input][9][output], flipped. */
    void (*turn_weights)(const float *plain, int64_t count, float *turned);
    /* pixel: pointers to the tile's pixels. scale: factors of channels, or NULL. v[frequency * pitch +
     * channel]. */
    void (*transform_input)(const float *const *pixel, const float *scale, int64_t channels, float *v, size_t pitch);
    /* The same of a column of pixels, from row to row alone. */
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
};

#if defined(__x86_64__)
extern const cso_winograd cso_winograd_avx2, cso_winograd_complex_avx2;
extern const cso_winograd cso_winograd_avx512, cso_winograd_complex_avx512;
#endif
/* What this processor has; NULL: neither. */
const cso_winograd *cso_winograd_of_processor(bool complex_points);

/* A product's tensors, seen as a 3x3 convolution with stride 1 over zeros outside of the image. */
typedef struct cso_winograd_shape {
    int64_t batch, in, out, in_height, in_width, out_height, out_width;
    int64_t pad[2];
    bool turned; /* the weight is flipped, and its channels are swapped: CSO_PRODUCT_SOURCE */
} cso_winograd_shape;

/* False: not such a convolution. */
bool cso_winograd_shape_of(const cso_geometry *geometry, cso_product product, cso_winograd_shape *out);

/* Forms of weights, which give the same bits in filtering in both directions. Sizes are as 4 to 2 to 1, with complex
 * points as 5.1 to 2 to 1. */
typedef enum cso_winograd_form {
    CSO_WINOGRAD_WHOLE, /* the frequencies, [frequency][output / panel][in][output % panel] */
    CSO_WINOGRAD_HALF,  /* what finish_weights takes, [half made row][output / panel][3][in][output % panel] */
    CSO_WINOGRAD_PLAIN  /* what halve_weights takes, [output / panel][in][9][output % panel] */
} cso_winograd_form;

/* The weights of a constant parameter, made once and kept with it. Plain ones are the same for both directions: those of
 * the shape that is not turned. */
carso_status cso_winograd_weight(cso_device *device, const cso_winograd *set, cso_parameter *weight,
                                 const cso_winograd_shape *shape, cso_winograd_form form, const float **out);

/* The same of a parameter that is not constant, as it is now: bytes, and the making of them. */
size_t cso_winograd_weight_size(const cso_winograd *set, const cso_winograd_shape *shape, cso_winograd_form form);
void cso_winograd_weight_make(const cso_device *device, const cso_winograd *set, const cso_parameter *weight,
                              const cso_winograd_shape *shape, cso_winograd_form form, float *out);

#endif
