/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Products of few rows with a large matrix of weights [out][in], bound by reading it: each weight is read once for all
 * rows, straight from where it lies, where a library would copy it into panels first. Compiled for AVX2 and for AVX-512
 * from thin_template.h. A sum's order depends on the sizes of the matrix alone.
 */
#ifndef CSO_ONEDNN_THIN_H
#define CSO_ONEDNN_THIN_H

#include <stdint.h>

typedef struct cso_thin {
    const char *name;
    /* y[row * y_stride + o] = sum over i of x[row * in + i] * weight[o * in + i], for outputs o. */
    void (*forward)(int64_t rows, int64_t in, int64_t outputs, const float *x, const float *weight, float *y,
                    int64_t y_stride);
    /* dx[row * in + i] = sum over o of dy[row * out + o] * weight[o * in + i], for columns i from the pointers on. */
    void (*backward)(int64_t rows, int64_t in, int64_t out, int64_t columns, const float *dy, const float *weight,
                     float *dx);
} cso_thin;

#if defined(__x86_64__)
extern const cso_thin cso_thin_avx2;
extern const cso_thin cso_thin_avx512;
#endif
/* What this processor has; NULL: neither. */
const cso_thin *cso_thin_choose(void);

#endif
