/* SPDX-License-Identifier: BSD-2-Clause */
/* Every loader of the library, given bytes that may be anything. */
#ifndef TEST_FUZZ_TARGETS_H
#define TEST_FUZZ_TARGETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum target_kind {
    TARGET_MODEL,
    TARGET_CHECKPOINT,
    TARGET_IDX_IMAGES,
    TARGET_IDX_LABELS,
    TARGET_IDX_GZIP,
    TARGET_CIFAR10,
    TARGET_CIFAR100,
    TARGET_PNG,
    TARGET_JPEG,
    TARGET_WEIGHTS, /* imported into a model */
    TARGET_COUNT
} target_kind;

extern const char *const target_names[TARGET_COUNT];

/*
 * Loads the bytes and uses what was loaded a little. folder: an existing empty one, for the formats that come from files.
 * Ends the process by abort() where a promise is broken: a handle beside an error, an error without a message, a status that
 * the interface does not name, memory not released.
 * Returns whether the bytes were accepted.
 */
bool target_run(target_kind kind, const uint8_t *data, size_t size, const char *folder, bool fastest_backend);

#endif
