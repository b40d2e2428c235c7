/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/batch.h"

#include <math.h>

#include "base/random.h"

#define ATTACKS CSO_BATCH_CLEAN

void cso_batch_sizes(int64_t count, double fraction, uint64_t step, int64_t size[CSO_BATCH_KINDS])
{
    /* The margin keeps .1 * 10 from being rounded up to 2. */
    int64_t attacked = (int64_t)ceil(fraction * (double)count - 1e-9 * (double)count);
    attacked = attacked < 0 ? 0 : attacked > count ? count : attacked;
    for (int i = 0; i < ATTACKS; i++) {
        size[i] = attacked / ATTACKS;
    }
    for (int64_t i = 0; i < attacked % ATTACKS; i++) {
        size[(step + (uint64_t)i) % ATTACKS]++;
    }
    size[CSO_BATCH_CLEAN] = count - attacked;
}

carso_status cso_batch_assign(const carso_context *context, int64_t count, double fraction, uint64_t seed,
                              uint64_t step, cso_batch_kind *kind)
{
    int64_t size[CSO_BATCH_KINDS];
    cso_batch_sizes(count, fraction, step, size);
    uint64_t *order = cso_allocate_raw(context, (size_t)count, sizeof *order);
    if (!order) {
        return cso_fail_memory(context, "places in the batch");
    }
    const cso_random stream = {.seed = seed, .purpose = CSO_PURPOSE_TRAINING_ASSIGNMENT, .image = step};
    cso_random_permutation(&stream, (uint64_t)count, order);
    int64_t next = 0;
    for (int i = 0; i < CSO_BATCH_KINDS; i++) {
        for (int64_t n = 0; n < size[i]; n++) {
            kind[order[next++]] = (cso_batch_kind)i;
        }
    }
    cso_release(context, order);
    return CARSO_OK;
}

int64_t cso_batch_parts(int64_t count, int64_t largest)
{
    const int64_t wanted = (count + largest - 1) / largest;
    const int64_t most = count / 2;
    return wanted < most ? wanted : most > 0 ? most : 1;
}

int64_t cso_batch_part_start(int64_t count, int64_t parts, int64_t part)
{
    const int64_t extra = count % parts;
    return part * (count / parts) + (part < extra ? part : extra);
}

uint64_t cso_batch_image_index(uint64_t step, int64_t position)
{
    return step << 32 | (uint64_t)position;
}
