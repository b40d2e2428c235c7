/* SPDX-License-Identifier: BSD-2-Clause */
/* An allocator that counts what is held and fails the allocation it is told to. */
#ifndef TEST_COUNTING_ALLOCATOR_H
#define TEST_COUNTING_ALLOCATOR_H

#include <stdatomic.h>
#include <stdlib.h>

#include "carso/context.h"

typedef struct counting_allocator {
    atomic_long held;    /* allocations not released */
    atomic_long made;    /* allocations asked for */
    atomic_long failing; /* number of the one that fails, from 1; 0: none */
} counting_allocator;

static void *counting_allocate(size_t size, size_t alignment, void *user)
{
    counting_allocator *counts = user;
    void *memory = NULL;
    if (atomic_fetch_add(&counts->made, 1) + 1 == atomic_load(&counts->failing)) {
        return NULL;
    }
    if (posix_memalign(&memory, alignment, size) != 0) {
        return NULL;
    }
    atomic_fetch_add(&counts->held, 1);
    return memory;
}

static void counting_release(void *memory, void *user)
{
    counting_allocator *counts = user;
    atomic_fetch_sub(&counts->held, 1);
    free(memory);
}

/* A context on the backend that every build has, whose allocations are counted. */
static inline carso_context *counting_context(counting_allocator *counts)
{
    carso_context_options options;
    carso_context *context = NULL;
    carso_context_options_init(&options, sizeof options);
    options.backend = "reference";
    options.threads = 1;
    options.allocator = (carso_allocator){counting_allocate, counting_release, counts};
    return carso_context_create(&options, &context) == CARSO_OK ? context : NULL;
}

#endif
