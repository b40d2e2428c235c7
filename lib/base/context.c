/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/context.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Larger than any option struct will be: an uninitialised struct_size is caught before it is believed. */
#define LARGEST_STRUCT 65536

void cso_context_retain(carso_context *context) { atomic_fetch_add(&context->references, 1); }

/* Names from hostile files end up in messages: no line of a log may be forged with them, and no terminal steered. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f) {
            *text = '?';
        }
    }
}

static void format_text(char text[CSO_MESSAGE_SIZE], const char *format, va_list arguments)
{
    const int length = vsnprintf(text, CSO_MESSAGE_SIZE, format, arguments);
    if (length < 0) {
        text[0] = '\0';
    }
    if (length >= CSO_MESSAGE_SIZE) {
        /* Cut between two UTF-8 sequences, not inside one. */
        size_t end = CSO_MESSAGE_SIZE - 1;
        while (end > 0 && ((unsigned char)text[end - 1] & 0xc0) == 0x80) {
            end--;
        }
        if (end > 0 && ((unsigned char)text[end - 1] & 0x80) != 0) {
            end--;
        }
        text[end] = '\0';
    }
    make_printable(text);
}

static void send_to_log(const carso_context *context, carso_log_level level, const char *text)
{
    if (context != NULL && context->log != NULL && level <= context->log_level) {
        context->log(level, text, context->log_user);
    }
}

static carso_status store_failure(const carso_context *context, carso_status status, const char *text)
{
    if (context != NULL && context->message != NULL) {
        pthread_mutex_lock(context->message_lock);
        strcpy(context->message, text);
        pthread_mutex_unlock(context->message_lock);
    }
    send_to_log(context, CARSO_LOG_ERROR, text);
    return status;
}

carso_status cso_fail(const carso_context *context, carso_status status, const char *format, ...)
{
    char text[CSO_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    format_text(text, format, arguments);
    va_end(arguments);
    return store_failure(context, status, text);
}

carso_status cso_fail_missing(const carso_context *context, const char *call, const char *argument)
{
    return context == NULL ? CARSO_ERROR_INVALID_ARGUMENT
                           : cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s: %s is NULL", call, argument);
}

carso_status cso_fail_memory(const carso_context *context, const char *what)
{
    return cso_fail(context, CARSO_ERROR_OUT_OF_MEMORY, "not enough memory for %s", what);
}

carso_status cso_fail_system(const carso_context *context, int error, const char *format, ...)
{
    char text[CSO_MESSAGE_SIZE];
    char reason[128];
    va_list arguments;
    va_start(arguments, format);
    format_text(text, format, arguments);
    va_end(arguments);
    const bool exhausted = error == ENOMEM || error == EMFILE || error == ENFILE;
    const carso_status status = error == ENOENT || error == ENOTDIR ? CARSO_ERROR_NOT_FOUND
                                : exhausted                         ? CARSO_ERROR_OUT_OF_MEMORY
                                                                    : CARSO_ERROR_IO;
    return cso_fail(context, status, "%s: %s", text, strerror_r(error, reason, sizeof reason));
}

void cso_log(const carso_context *context, carso_log_level level, const char *format, ...)
{
    if (context == NULL || context->log == NULL || level > context->log_level) {
        return;
    }
    char text[CSO_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    format_text(text, format, arguments);
    va_end(arguments);
    send_to_log(context, level, text);
}

void cso_memory_taken(const carso_context *context, cso_memory_kind kind, ptrdiff_t bytes)
{
    cso_memory_count *const count = &context->memory[kind];
    const size_t now = atomic_fetch_add(&count->now, (size_t)bytes) + (size_t)bytes;
    size_t most = atomic_load(&count->most);
    while (bytes > 0 && now > most && !atomic_compare_exchange_weak(&count->most, &most, now)) {
    }
}

void *cso_allocate_raw(const carso_context *context, size_t count, size_t size)
{
    if (size != 0 && count > PTRDIFF_MAX / size) {
        return NULL;
    }
    const size_t bytes = count * size;
    return context->allocator.allocate(bytes == 0 ? 1 : bytes, CSO_ALIGNMENT, context->allocator.user);
}

void *cso_allocate(const carso_context *context, size_t count, size_t size)
{
    void *memory = cso_allocate_raw(context, count, size);
    if (memory != NULL) {
        memset(memory, 0, count * size);
    }
    return memory;
}

void cso_release(const carso_context *context, void *memory)
{
    if (memory != NULL) {
        context->allocator.release(memory, context->allocator.user);
    }
}

char *cso_duplicate_string(const carso_context *context, const char *text)
{
    const size_t size = strlen(text) + 1;
    char *copy = cso_allocate_raw(context, size, 1);
    if (copy != NULL) {
        memcpy(copy, text, size);
    }
    return copy;
}

carso_status cso_options_copy(const carso_context *context, const char *name, void *destination, size_t full_size,
                              const void *source)
{
    if (source != NULL) {
        size_t given;
        memcpy(&given, source, sizeof given);
        if (given < sizeof given || given > LARGEST_STRUCT) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                            "%s: struct_size is %zu; fill the options with their init function first", name, given);
        }
        memcpy(destination, source, given < full_size ? given : full_size);
    }
    memcpy(destination, &full_size, sizeof full_size);
    return CARSO_OK;
}

void cso_options_fill(void *options, size_t size, const void *defaults, size_t full_size)
{
    if (options == NULL || size < sizeof size) {
        return;
    }
    memset(options, 0, size);
    memcpy(options, defaults, size < full_size ? size : full_size);
    memcpy(options, &size, sizeof size);
}

carso_status cso_struct_fill(const carso_context *context, const char *call, void *out, const void *source,
                             size_t full_size)
{
    size_t size;
    memcpy(&size, out, sizeof size);
    if (size < sizeof size || size > LARGEST_STRUCT) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "%s: struct_size of the result is %zu; set it to its sizeof", call, size);
    }
    cso_options_fill(out, size, source, full_size);
    return CARSO_OK;
}
