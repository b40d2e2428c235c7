/* SPDX-License-Identifier: BSD-2-Clause */
/* Which images of a batch are attacked how, and how a batch is cut into sub-batches. */
#ifndef CSO_TRAIN_BATCH_H
#define CSO_TRAIN_BATCH_H

#include <stdint.h>

#include "base/context.h"

/* CARSO section 5.1: the four attacks of purifier training. */
typedef enum cso_batch_kind {
    CSO_BATCH_FGSM_HALF,
    CSO_BATCH_PGD_HALF,
    CSO_BATCH_FGSM_FULL,
    CSO_BATCH_PGD_FULL,
    CSO_BATCH_CLEAN,
    CSO_BATCH_KINDS
} cso_batch_kind;

/*
 * fraction * count images, rounded up, are attacked. Each of the four attacks gets a quarter of them, rounded down; what remains, at
 * most three, goes one each to the attacks that follow number step modulo 4 cyclically, so that over the steps all get the same.
 */
void cso_batch_sizes(int64_t count, double fraction, uint64_t step, int64_t size[CSO_BATCH_KINDS]);

/* kind [count]: sizes as above, places by a permutation that depends on (seed, step, count) alone. */
carso_status cso_batch_assign(const carso_context *context, int64_t count, double fraction, uint64_t seed,
                              uint64_t step, cso_batch_kind *kind);

/* Number of sub-batches of at most largest images; they differ by at most 1 in size, and none is of 1 image (count >= 2), for which
 * an odd batch may exceed largest = 2 by one. */
int64_t cso_batch_parts(int64_t count, int64_t largest);
/* First image of part, also for part == parts: the end. */
int64_t cso_batch_part_start(int64_t count, int64_t parts, int64_t part);

/* Key of the random numbers of an image of a step: its position in the low 32 bits. */
uint64_t cso_batch_image_index(uint64_t step, int64_t position);

#endif
