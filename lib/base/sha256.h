/* SPDX-License-Identifier: BSD-2-Clause */
/* SHA-256 (FIPS 180-4), to tell whether two things are the same. */
#ifndef CSO_BASE_SHA256_H
#define CSO_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define CSO_SHA256_TEXT 65

typedef struct cso_sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
} cso_sha256;

void cso_sha256_begin(cso_sha256 *hash);
void cso_sha256_add(cso_sha256 *hash, const void *data, size_t size);
/* Lower-case hexadecimal digits. */
void cso_sha256_end(cso_sha256 *hash, char out[CSO_SHA256_TEXT]);

#endif
