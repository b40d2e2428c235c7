/* SPDX-License-Identifier: BSD-2-Clause */
/* Short marks of files and texts, to see that they are still the same; no protection from anybody who means to deceive. */
#ifndef FINGERPRINT_H
#define FINGERPRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FINGERPRINT_START 0x243f6a8885a308d3u

/* Of what came before and size bytes more. */
uint64_t fingerprint_bytes(uint64_t before, const void *data, size_t size);
/* False where the file cannot be read; errno says why. */
bool fingerprint_file(const char *path, uint64_t *out);

#endif
