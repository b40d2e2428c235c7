/* SPDX-License-Identifier: BSD-2-Clause */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>

#define THIN cso_thin_avx2
#define THIN_NAME "thin:avx2"
#define TARGET __attribute__((target("avx2,fma")))
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
#define PREFETCH(p) _mm_prefetch((const char *)(p), _MM_HINT_T1)
#define MOST_ROWS 2
#define EACH_ROWS(X) X(1) X(2)

VALUE __m256i first_of(int64_t count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

#include "backends/onednn/thin_template.h"
#endif
