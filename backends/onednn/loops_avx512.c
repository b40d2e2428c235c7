/* SPDX-License-Identifier: BSD-2-Clause */
#if defined(__x86_64__)
#define CSO_LOOPS cso_loops_avx512
#define CSO_LOOPS_NAME "avx512"
#define CSO_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#include "backends/onednn/loops_template.h"
#endif
