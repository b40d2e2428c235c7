/* SPDX-License-Identifier: BSD-2-Clause */
#include "fingerprint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK (1 << 18)

/* splitmix64's finaliser (Steele, Lea and Flood 2014): every bit of the argument reaches every bit of the result. */
static uint64_t mix(uint64_t value)
{
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}

uint64_t fingerprint_bytes(uint64_t before, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    uint64_t state = mix(before ^ size);
    for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, size - i < sizeof word ? size - i : sizeof word);
        state = mix(state ^ word);
    }
    return state;
}

bool fingerprint_file(const char *path, uint64_t *out)
{
    FILE *file = fopen(path, "re");
    unsigned char *block = malloc(BLOCK);
    bool complete = file && block;
    *out = FINGERPRINT_START;
    while (complete) {
        size_t got = fread(block, 1, BLOCK, file);
        if (got == 0) {
            complete = !ferror(file);
            break;
        }
        *out = fingerprint_bytes(*out, block, got);
    }
    free(block);
    if (file) {
        fclose(file);
    }
    return complete;
}
