/* SPDX-License-Identifier: BSD-2-Clause */
#if defined(__x86_64__)
#define CSO_LOOPS cso_loops_avx2
#define CSO_LOOPS_NAME "avx2"
#define CSO_TARGET __attribute__((target("avx2")))
#include "backends/onednn/loops_template.h"
#endif
