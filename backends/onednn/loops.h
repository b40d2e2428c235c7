/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inner loops of everything that is not a product, compiled once for each instruction set from loops_template.h.
 * None is threaded; callers divide. Rows hold channels elements, one row a pixel (or an image, for rank 1). No loop
 * reorders a sum, and all sets round alike, so that they give the same bits.
 */
#ifndef CSO_ONEDNN_LOOPS_H
#define CSO_ONEDNN_LOOPS_H

#include "backends/backend.h"

#define CSO_NO_ACTIVATION CSO_OP_COUNT
#define CSO_NARROW 16

typedef struct cso_loops {
    const char *name;
    /* y = activation(x); x may be y. CSO_NO_ACTIVATION copies. */
    void (*activate)(size_t count, cso_op_kind kind, float slope, const float *x, float *y);
    /* needed: x for SILU, y for the others. */
    void (*activate_backward)(size_t count, cso_op_kind kind, float slope, const float *dy, const float *needed,
                              float *dx);
    void (*add)(size_t count, const float *a, const float *b, float *y);
    void (*multiply_add)(size_t count, float factor, const float *x, float *y); /* y += factor * x */
    void (*scale)(size_t count, float factor, const float *x, float *y);
    /* y = activation(y + bias + residual); bias, residual may be NULL. stride: from row to row of y (and residual). */
    void (*finish)(size_t rows, size_t channels, size_t stride, float *y, const float *bias, const float *residual,
                   cso_op_kind activation, float slope);
    /* y = activation((x - mean) * factor + bias), x may be y. */
    void (*normalise)(size_t rows, size_t channels, const float *x, float *y, const float *mean, const float *factor,
                      const float *bias, cso_op_kind activation, float slope);
    /* total[c] += x; += (x - mean)^2; (dy, dy * (x - mean)). total has channels entries. */
    void (*sum)(size_t rows, size_t channels, const float *x, double *total);
    void (*sum_squares)(size_t rows, size_t channels, const float *x, const float *mean, double *total);
    void (*sum_products)(size_t rows, size_t channels, const float *dy, const float *x, const float *mean,
                         double *total, double *product);
    /* dx = factor * (dy - dy_mean - (x - mean) * slope), all per channel. */
    void (*normalise_backward)(size_t rows, size_t channels, const float *dy, const float *x, const float *mean,
                               const float *factor, const float *dy_mean, const float *slope, float *dx);
    /* y[row][0 .. CSO_NARROW - 1] = sum over channels of x[row][channel] * weight[channel][0 .. CSO_NARROW - 1]. */
    void (*narrow_product)(size_t rows, size_t channels, size_t stride, const float *x, const float *weight, float *y);
    /* Where x beats best (NaN beats all but NaN): best = x, position = which. */
    void (*maximum)(size_t count, const float *x, int32_t which, float *best, int32_t *position);
    /* dx += dy where position is which. */
    void (*select_add)(size_t count, const float *dy, const int32_t *position, int32_t which, float *dx);
} cso_loops;

extern const cso_loops cso_loops_portable;
#if defined(__x86_64__)
extern const cso_loops cso_loops_avx2;
extern const cso_loops cso_loops_avx512;
#endif

#endif
