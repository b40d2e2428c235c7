/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Winograd's minimal filtering F(4x4, 3x3) with the points 0, +-5/8, +-3/2 and infinity: 36 products for 16 outputs
 * where a direct convolution takes 144. Three steps, each compiled for AVX2 and for AVX-512 from winograd_template.h:
 * 6x6 input tiles to 36 frequencies, one matrix product per frequency, 36 frequencies to 4x4 output tiles.
 */
#ifndef CSO_ONEDNN_WINOGRAD_H
#define CSO_ONEDNN_WINOGRAD_H

#include "backends/onednn/convolution.h"

/* Outputs and inputs of a tile in one direction, and frequencies of a tile. */
enum { CSO_WINOGRAD_STEP = 4, CSO_WINOGRAD_SIDE = 6, CSO_WINOGRAD_FREQUENCIES = 36 };

/* One instruction set's code. All sets give the same bits. */
typedef struct cso_winograd {
    const char *name;
    int64_t panel; /* outputs that one product holds in registers; weights are stored so many together */
    int64_t rows;  /* and tiles */
    /* pixel: 36 pointers to the tile's pixels. v[frequency * pitch + channel]. */
    void (*transform_input)(const float *const *pixel, int64_t channels, float *v, size_t pitch);
    /* m[row * m_stride + output] = sum over channels of v[row * v_stride + channel] * u[channel][output], for panels
     * panels of outputs. next: the rows that will be multiplied after these. */
    void (*multiply)(int64_t rows, int64_t channels, int64_t panels, const float *v, size_t v_stride, const float *next,
                     const float *u, float *m, size_t m_stride);
    /* Stores the tile's first height x width outputs, with bias (channels of them, or NULL) and residual (laid out as
     * y, or NULL) added, at y, row_stride floats from row to row and pixel after pixel. The tile at y + next is fetched
     * meanwhile. */
    void (*transform_output)(const float *m, size_t pitch, int64_t channels, int64_t height, int64_t width,
                             const float *bias, const float *residual, float *y, size_t row_stride, size_t next);
} cso_winograd;

#if defined(__x86_64__)
extern const cso_winograd cso_winograd_avx2;
extern const cso_winograd cso_winograd_avx512;
#endif
/* What this processor has; NULL: neither. */
const cso_winograd *cso_winograd_choose(void);

/* A product's tensors, seen as a 3x3 convolution with stride 1 over zeros outside of the image. */
typedef struct cso_winograd_shape {
    int64_t batch, in, out, in_height, in_width, out_height, out_width;
    int64_t pad[2];
    bool turned; /* the weight is flipped, and its channels are swapped: CSO_PRODUCT_SOURCE */
} cso_winograd_shape;

/* False: not such a convolution. */
bool cso_winograd_shape_of(const cso_geometry *geometry, cso_product product, cso_winograd_shape *out);

/* The transformed weights of a constant parameter, [frequency][output / panel][in][output % panel], made once. *out is
 * NULL, with CARSO_OK, where they would take more memory than the context leaves for them. */
carso_status cso_winograd_weight(cso_device *device, cso_parameter *weight, const cso_winograd_shape *shape,
                                 const float **out);

#endif
