/* SPDX-License-Identifier: BSD-2-Clause */
/* 14 tiles x 32 outputs: 28 accumulators, two vectors of weights and a broadcast of the 32 registers. */
#if defined(__x86_64__)
#include <immintrin.h>

#define WINOGRAD cso_winograd_avx512
#define WINOGRAD_NAME "winograd4:avx512"
#define WINOGRAD_COLUMN_NAME "winograd4x1:avx512"
#define WINOGRAD_COMPLEX cso_winograd_complex_avx512
#define WINOGRAD_COMPLEX_NAME "winograd4_complex:avx512"
#define TARGET __attribute__((target("avx512f,prfchw")))
#define VALUE static inline __attribute__((always_inline)) TARGET
#define STEP static TARGET
#define VECTOR __m512
#define WIDTH 16
#define ALL(x) _mm512_set1_ps(x)
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, x) _mm512_storeu_ps(p, x)
#define LOAD_PART(p, count) _mm512_maskz_loadu_ps((__mmask16)((1U << (count)) - 1), p)
#define STORE_PART(p, count, x) _mm512_mask_storeu_ps(p, (__mmask16)((1U << (count)) - 1), x)
#define PLUS_PRODUCT(a, b, c) _mm512_fmadd_ps(a, b, c)
#define MINUS_PRODUCT(a, b, c) _mm512_fnmadd_ps(a, b, c)
#define KEEP(a, b) __asm__("" : "+v"(a), "+v"(b))
/* Every x86-64 processor takes it, if only as nothing. */
#define PREFETCH_WRITE(p) __builtin_prefetch((p), 1, 3)
#define PREFETCH(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
#define PREFETCH_FAR(p) _mm_prefetch((const char *)(p), _MM_HINT_T1)
#define EACH_KERNEL(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)

/* Squares of 4 within the quarters of vectors, then the quarters. */
VALUE void transpose(VECTOR rows[WIDTH])
{
    VECTOR quarter[WIDTH];
    for (int i = 0; i < WIDTH; i += 4) {
        const VECTOR a = _mm512_unpacklo_ps(rows[i], rows[i + 1]), b = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
        const VECTOR c = _mm512_unpacklo_ps(rows[i + 2], rows[i + 3]), d = _mm512_unpackhi_ps(rows[i + 2], rows[i + 3]);
        quarter[i] = _mm512_shuffle_ps(a, c, 0x44);
        quarter[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        quarter[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        quarter[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        const VECTOR a = _mm512_shuffle_f32x4(quarter[i], quarter[i + 4], 0x44);
        const VECTOR b = _mm512_shuffle_f32x4(quarter[i], quarter[i + 4], 0xee);
        const VECTOR c = _mm512_shuffle_f32x4(quarter[i + 8], quarter[i + 12], 0x44);
        const VECTOR d = _mm512_shuffle_f32x4(quarter[i + 8], quarter[i + 12], 0xee);
        rows[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        rows[i + 4] = _mm512_shuffle_f32x4(a, c, 0xdd);
        rows[i + 8] = _mm512_shuffle_f32x4(b, d, 0x88);
        rows[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
}

#include "backends/onednn/winograd_template.h"
#include "backends/onednn/winograd_complex_template.h"
#endif
