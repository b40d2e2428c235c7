/* SPDX-License-Identifier: BSD-2-Clause */
/* Changes bytes at random, the same way for the same seed. */
#ifndef TEST_FUZZ_MUTATION_H
#define TEST_FUZZ_MUTATION_H

#include <stdint.h>
#include <stdlib.h>

typedef struct chooser {
    uint64_t state;
} chooser;

/* 0 .. bound - 1, bound > 0. */
uint64_t choose(chooser *source, uint64_t bound);

typedef struct bytes {
    uint8_t *data;
    size_t size, capacity;
} bytes;

/*
 * A few changes to content, whose capacity leaves room for them to grow it: bits, bytes, pieces removed, doubled or moved, the
 * end cut off, numbers written out made extreme, quoted words exchanged. Most fall into the first hot bytes.
 */
void mutate(chooser *source, bytes *content, size_t hot);

/* Makes the checksums of a PNG file right again, so that what lies behind them is reached. */
void mend_png_checksums(bytes *content);

#endif
