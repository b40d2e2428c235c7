/* SPDX-License-Identifier: BSD-2-Clause */
/* Device memory between two zones that a kernel must not touch. */
#ifndef TESTS_BACKEND_GUARDED_BUFFER_H
#define TESTS_BACKEND_GUARDED_BUFFER_H

#include "graph/parameter.h"

typedef struct guarded_buffer {
    unsigned char *base; /* device memory; NULL: none */
    unsigned char *data; /* what kernels are given */
    size_t bytes;
} guarded_buffer;

/* Every byte is fill: 0xff makes NaN of what is read but was never written. */
carso_status guarded_buffer_create(const carso_context *context, size_t bytes, unsigned char fill, guarded_buffer *out);
void guarded_buffer_destroy(const carso_context *context, guarded_buffer *buffer);
carso_status guarded_buffer_write(const carso_context *context, const guarded_buffer *buffer, const void *source);
carso_status guarded_buffer_read(const carso_context *context, const guarded_buffer *buffer, void *destination);
/* False also where the guards cannot be read. */
bool guarded_buffer_intact(const carso_context *context, const guarded_buffer *buffer);

#endif
