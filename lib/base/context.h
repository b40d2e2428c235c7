/* SPDX-License-Identifier: BSD-2-Clause */
/* What every part of the library needs of a context: failing with a message, logging, memory. */
#ifndef CSO_BASE_CONTEXT_H
#define CSO_BASE_CONTEXT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "carso/context.h"

#define CSO_MESSAGE_SIZE 1024
#define CSO_ALIGNMENT 64

struct cso_backend;
struct cso_device;
struct cso_arena_pool;

/* What takes memory for long; bytes of each are counted. */
typedef enum cso_memory_kind {
    CSO_MEMORY_MAPPED,      /* weights in a mapped file */
    CSO_MEMORY_WEIGHTS,     /* other weights, their device's copies and gradients */
    CSO_MEMORY_PACKED,      /* weights in another order, or type */
    CSO_MEMORY_TRANSFORMED, /* weights in a larger form */
    CSO_MEMORY_BUFFERS,     /* arenas, idle ones included */
    CSO_MEMORY_KINDS
} cso_memory_kind;

/* Bytes now, and the most there were. */
typedef struct cso_memory_count {
    atomic_size_t now, most;
} cso_memory_count;

struct carso_context {
    atomic_int references;
    carso_allocator allocator; /* both functions always set */
    carso_log_callback log;    /* may be NULL */
    void *log_user;
    carso_log_level log_level;
    int threads;
    size_t memory_limit;
    carso_convolution convolution;
    const struct cso_backend *backend;
    struct cso_device *device;
    cso_memory_count *memory;       /* [CSO_MEMORY_KINDS] */
    struct cso_arena_pool *arenas;  /* lib/graph's; made with the context */
    pthread_mutex_t *message_lock; /* the context is const to most callers, its message is not */
    char *message;                 /* CSO_MESSAGE_SIZE */
};

void cso_context_retain(carso_context *context);
/* carso_context_destroy gives a reference back. */

/*
 * Stores the message, logs it at error level and returns status, so that callers write
 * `return cso_fail(context, CARSO_ERROR_..., "what was wrong with which value; what to do")`.
 * A message is one sentence part, starts in lower case and ends without a period.
 */
carso_status cso_fail(const carso_context *context, carso_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A NULL argument of a public call. context may be NULL: then there is nowhere to put a message. */
carso_status cso_fail_missing(const carso_context *context, const char *call, const char *argument);

/* cso_fail for a failed allocation: returns CARSO_ERROR_OUT_OF_MEMORY. what: plural noun, "weights". */
carso_status cso_fail_memory(const carso_context *context, const char *what);

/* cso_fail with ": " and the system's reason for error (an errno) behind. NOT_FOUND where something does not exist,
 * OUT_OF_MEMORY, else IO. */
carso_status cso_fail_system(const carso_context *context, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void cso_log(const carso_context *context, carso_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Counts bytes as taken, or given back. */
void cso_memory_taken(const carso_context *context, cso_memory_kind kind, ptrdiff_t bytes);

/* Memory from the caller's allocator, aligned to CSO_ALIGNMENT; NULL where it fails or count * size overflows.
 * A size of 0 gives a valid pointer. cso_allocate zeroes, cso_allocate_raw does not. */
void *cso_allocate(const carso_context *context, size_t count, size_t size);
void *cso_allocate_raw(const carso_context *context, size_t count, size_t size);
void cso_release(const carso_context *context, void *memory);
char *cso_duplicate_string(const carso_context *context, const char *text);

/* Copies a caller's option struct over defaults of full_size: the smaller of the two sizes, struct_size kept at
 * full_size. source may be NULL. INVALID_ARGUMENT where struct_size is smaller than a size_t. name: for the message. */
carso_status cso_options_copy(const carso_context *context, const char *name, void *destination, size_t full_size,
                              const void *source);

/* What a public init function does: the defaults, cut or zero-extended to the caller's size, which goes to struct_size.
 * Nothing where options is NULL or size smaller than a size_t. */
void cso_options_fill(void *options, size_t size, const void *defaults, size_t full_size);

/* Hands out a struct whose struct_size the caller has set: INVALID_ARGUMENT where that was forgotten. call: for the
 * message. */
carso_status cso_struct_fill(const carso_context *context, const char *call, void *out, const void *source,
                             size_t full_size);

#endif
