/* SPDX-License-Identifier: BSD-2-Clause */
#include "guarded_buffer.h"

#include <stdlib.h>
#include <string.h>

#include "trial.h"

#define GUARD_SIZE 256
#define GUARD_BYTE 0xff /* read as numbers, the guards are NaN */

static bool has_device_memory(const carso_context *context)
{
    return !context->backend->host_memory && context->backend->buffer_create != NULL;
}

static carso_status write_bytes(const carso_context *context, void *destination, const void *source, size_t bytes)
{
    if (has_device_memory(context)) {
        return context->backend->buffer_write(context->device, destination, source, bytes);
    }
    memcpy(destination, source, bytes);
    return CARSO_OK;
}

static carso_status read_bytes(const carso_context *context, void *destination, const void *source, size_t bytes)
{
    if (has_device_memory(context)) {
        return context->backend->buffer_read(context->device, destination, source, bytes);
    }
    memcpy(destination, source, bytes);
    return CARSO_OK;
}

/* The guard behind begins right behind the data. */
static size_t whole_size(size_t bytes)
{
    return (GUARD_SIZE + bytes + GUARD_SIZE + CSO_ALIGNMENT - 1) / CSO_ALIGNMENT * CSO_ALIGNMENT;
}

carso_status guarded_buffer_create(const carso_context *context, size_t bytes, unsigned char fill, guarded_buffer *out)
{
    const size_t whole = whole_size(bytes);
    void *memory = NULL;
    *out = (guarded_buffer){0};
    if (has_device_memory(context)) {
        const carso_status status = context->backend->buffer_create(context->device, whole, &memory);
        if (status != CARSO_OK) {
            return status;
        }
    } else if (posix_memalign(&memory, CSO_ALIGNMENT, whole) != 0) {
        return CARSO_ERROR_OUT_OF_MEMORY;
    }
    out->base = memory;
    out->data = out->base + GUARD_SIZE;
    out->bytes = bytes;
    unsigned char *content = test_allocate(whole, 1);
    memset(content, GUARD_BYTE, whole);
    memset(content + GUARD_SIZE, fill, bytes);
    const carso_status status = write_bytes(context, out->base, content, whole);
    free(content);
    return status;
}

void guarded_buffer_destroy(const carso_context *context, guarded_buffer *buffer)
{
    if (buffer->base != NULL && has_device_memory(context)) {
        context->backend->buffer_destroy(context->device, buffer->base);
    } else {
        free(buffer->base);
    }
    *buffer = (guarded_buffer){0};
}

carso_status guarded_buffer_write(const carso_context *context, const guarded_buffer *buffer, const void *source)
{
    return write_bytes(context, buffer->data, source, buffer->bytes);
}

carso_status guarded_buffer_read(const carso_context *context, const guarded_buffer *buffer, void *destination)
{
    return read_bytes(context, destination, buffer->data, buffer->bytes);
}

bool guarded_buffer_intact(const carso_context *context, const guarded_buffer *buffer)
{
    if (buffer->base == NULL) {
        return true;
    }
    const size_t whole = whole_size(buffer->bytes);
    unsigned char *content = test_allocate(whole, 1);
    bool intact = read_bytes(context, content, buffer->base, whole) == CARSO_OK;
    for (size_t i = 0; i < whole && intact; i++) {
        const bool guard = i < GUARD_SIZE || i >= GUARD_SIZE + buffer->bytes;
        intact = !guard || content[i] == GUARD_BYTE;
    }
    free(content);
    return intact;
}
