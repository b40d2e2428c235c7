/* SPDX-License-Identifier: BSD-2-Clause */
/* 6 tiles x 16 outputs: 12 accumulators, two vectors of weights and a broadcast of the 16 registers. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>

#define WINOGRAD cso_winograd_avx2
#define WINOGRAD_NAME "winograd4:avx2"
#define WINOGRAD_COLUMN_NAME "winograd4x1:avx2"
#define WINOGRAD_COMPLEX cso_winograd_complex_avx2
#define WINOGRAD_COMPLEX_NAME "winograd4_complex:avx2"
#define TARGET __attribute__((target("avx2,fma,prfchw")))
#define VALUE static inline __attribute__((always_inline)) TARGET
#define STEP static TARGET
#define VECTOR __m256
#define WIDTH 8
#define ALL(x) _mm256_set1_ps(x)
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, x) _mm256_storeu_ps(p, x)
#define LOAD_PART(p, count) _mm256_maskload_ps(p, first_of(count))
#define STORE_PART(p, count, x) _mm256_maskstore_ps(p, first_of(count), x)
#define PLUS_PRODUCT(a, b, c) _mm256_fmadd_ps(a, b, c)
#define MINUS_PRODUCT(a, b, c) _mm256_fnmadd_ps(a, b, c)
#define KEEP(a, b) __asm__("" : "+x"(a), "+x"(b))
/* Every x86-64 processor takes it, if only as nothing. */
#define PREFETCH_WRITE(p) __builtin_prefetch((p), 1, 3)
#define PREFETCH(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
#define PREFETCH_FAR(p) _mm_prefetch((const char *)(p), _MM_HINT_T1)
#define EACH_KERNEL(X) X(1) X(2) X(3) X(4) X(5) X(6)

VALUE __m256i first_of(int64_t count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Squares of 4 within the halves of vectors, then the halves. */
VALUE void transpose(VECTOR rows[WIDTH])
{
    VECTOR half[WIDTH];
    for (int i = 0; i < WIDTH; i += 4) {
        const VECTOR a = _mm256_unpacklo_ps(rows[i], rows[i + 1]), b = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
        const VECTOR c = _mm256_unpacklo_ps(rows[i + 2], rows[i + 3]), d = _mm256_unpackhi_ps(rows[i + 2], rows[i + 3]);
        half[i] = _mm256_shuffle_ps(a, c, 0x44);
        half[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
        half[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
        half[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm256_permute2f128_ps(half[i], half[i + 4], 0x20);
        rows[i + 4] = _mm256_permute2f128_ps(half[i], half[i + 4], 0x31);
    }
}

#include "backends/onednn/winograd_template.h"
#include "backends/onednn/winograd_complex_template.h"
#endif
