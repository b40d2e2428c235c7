/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/optimisers.h"

static void update(double rate, size_t count, float *restrict fast, float *restrict slow)
{
    for (size_t i = 0; i < count; i++) {
        const double start = slow[i];
        const float reached = (float)(start + rate * (fast[i] - start));
        slow[i] = reached;
        fast[i] = reached;
    }
}

void cso_lookahead_update(double rate, size_t count, float *fast, float *slow)
{
    update(rate, count, fast, slow);
}
