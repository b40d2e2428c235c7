/* SPDX-License-Identifier: BSD-2-Clause */
#if defined(__x86_64__)
#include <immintrin.h>

#define THIN cso_thin_avx512
#define THIN_NAME "thin:avx512"
#define TARGET __attribute__((target("avx512f")))
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
#define PREFETCH(p) _mm_prefetch((const char *)(p), _MM_HINT_T1)
#define MOST_ROWS 4
#define EACH_ROWS(X) X(1) X(2) X(3) X(4)
#include "backends/onednn/thin_template.h"
#endif
