/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/context.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backends/backend.h"
#include "graph/arena_pool.h"

#define MOST_THREADS 1024
#define DEFAULT_MEMORY_LIMIT ((uint64_t)1 << 30)

/* Blocks of at least two of them are asked for in pages of this size: networks stream through weights and working
 * buffers of many megabytes, where looking up small pages takes a good part of the time. */
#define HUGE_PAGE ((size_t)2 << 20)

#define TEXT_OF(number) #number
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

/* One allocation holds the context and what it points to. */
typedef struct context_block {
    carso_context context;
    cso_memory_count memory[CSO_MEMORY_KINDS];
    pthread_mutex_t lock;
    char message[CSO_MESSAGE_SIZE];
} context_block;

const char *carso_version(void) { return VERSION_TEXT(CARSO_VERSION_MAJOR, CARSO_VERSION_MINOR, CARSO_VERSION_PATCH); }

int carso_abi_version(void) { return CARSO_ABI_MAJOR * 1000 + CARSO_ABI_MINOR; }

const char *carso_status_str(carso_status status)
{
    switch (status) {
    case CARSO_OK:
        return "no error";
    case CARSO_CANCELLED:
        return "cancelled by the caller";
    case CARSO_ERROR_INVALID_ARGUMENT:
        return "invalid argument";
    case CARSO_ERROR_CALLBACK:
        return "a function of the caller's own failed";
    case CARSO_ERROR_INVALID_IMAGE:
        return "invalid image";
    case CARSO_ERROR_OUT_OF_MEMORY:
        return "out of memory";
    case CARSO_ERROR_IO:
        return "input or output failed";
    case CARSO_ERROR_NOT_FOUND:
        return "not found";
    case CARSO_ERROR_BAD_FORMAT:
        return "damaged file or unknown format";
    case CARSO_ERROR_UNSUPPORTED:
        return "not supported";
    case CARSO_ERROR_NON_FINITE:
        return "a number is not finite";
    case CARSO_ERROR_BACKEND:
        return "the backend failed";
    case CARSO_ERROR_INTERNAL:
        return "internal error";
    default:
        return "unknown status";
    }
}

static void *allocate_by_default(size_t size, size_t alignment, void *user)
{
    void *memory = NULL;
    const bool large = size >= 2 * HUGE_PAGE;
    (void)user;
    if (posix_memalign(&memory, large ? HUGE_PAGE : alignment, size) != 0) {
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    if (large) {
        (void)madvise(memory, size - size % HUGE_PAGE, MADV_HUGEPAGE); /* a wish: no harm where the system has none */
    }
#endif
    return memory;
}

static void release_by_default(void *memory, void *user)
{
    (void)user;
    free(memory);
}

static int available_cores(void)
{
    cpu_set_t set;
    long cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
    if (cores < 1) {
        cores = 1;
    }
    return (int)(cores > MOST_THREADS ? MOST_THREADS : cores);
}

void carso_context_options_init(carso_context_options *options, size_t size)
{
    const carso_context_options defaults = {.log_level = CARSO_LOG_WARNING};
    cso_options_fill(options, size, &defaults, sizeof defaults);
}

static carso_status check_options(const carso_context *reporter, const carso_context_options *options)
{
    if ((options->allocator.allocate == NULL) != (options->allocator.release == NULL)) {
        return cso_fail(reporter, CARSO_ERROR_INVALID_ARGUMENT,
                        "context options: allocator has one function of two; set both or none");
    }
    if (options->threads < 0 || options->threads > MOST_THREADS) {
        return cso_fail(reporter, CARSO_ERROR_INVALID_ARGUMENT, "context options: threads is %d, not in 0 to %d",
                        (int)options->threads, MOST_THREADS);
    }
    if (options->log_level < CARSO_LOG_ERROR || options->log_level > CARSO_LOG_DEBUG) {
        return cso_fail(reporter, CARSO_ERROR_INVALID_ARGUMENT, "context options: log_level is %d, not in %d to %d",
                        (int)options->log_level, CARSO_LOG_ERROR, CARSO_LOG_DEBUG);
    }
    if (options->convolution < CARSO_CONVOLUTION_AUTOMATIC || options->convolution > CARSO_CONVOLUTION_DIRECT) {
        return cso_fail(reporter, CARSO_ERROR_INVALID_ARGUMENT, "context options: convolution is %d, not in %d to %d",
                        (int)options->convolution, CARSO_CONVOLUTION_AUTOMATIC, CARSO_CONVOLUTION_DIRECT);
    }
    return CARSO_OK;
}

static carso_status open_named_backend(carso_context *context, const char *name)
{
    const cso_backend *backend = cso_backend_find(name);
    if (backend == NULL) {
        char names[256] = "";
        size_t length = 0;
        for (size_t i = 0; i < cso_backend_count() && length < sizeof names; i++) {
            length += (size_t)snprintf(names + length, sizeof names - length, "%s%s", i == 0 ? "" : ", ",
                                       cso_backend_at(i)->name);
        }
        return cso_fail(context, CARSO_ERROR_NOT_FOUND, "no backend \"%s\" in this build; it has %s", name, names);
    }
    context->backend = backend;
    return backend->device_create(context, context->threads, &context->device);
}

static carso_status open_first_backend(carso_context *context)
{
    carso_status status = CARSO_ERROR_UNSUPPORTED;
    for (size_t i = 0; i < cso_backend_count(); i++) {
        context->backend = cso_backend_at(i);
        status = context->backend->device_create(context, context->threads, &context->device);
        /* A slower backend is no answer to memory having run out. */
        if (status == CARSO_OK || status == CARSO_ERROR_OUT_OF_MEMORY) {
            return status;
        }
        cso_log(context, CARSO_LOG_WARNING, "backend %s does not work here: %s", context->backend->name,
                context->message);
    }
    return cso_fail(context, status, "none of the %zu backends of this build works here; the last said: %s",
                    cso_backend_count(), context->message);
}

carso_status carso_context_create(const carso_context_options *options, carso_context **out_context)
{
    carso_context_options resolved;
    carso_context reporter = {0}; /* only what cso_fail and cso_allocate look at */
    carso_context_options_init(&resolved, sizeof resolved);
    if (out_context == NULL) {
        return CARSO_ERROR_INVALID_ARGUMENT;
    }
    *out_context = NULL;
    carso_status status = cso_options_copy(NULL, "context options", &resolved, sizeof resolved, options);
    if (status != CARSO_OK) {
        return status;
    }
    reporter.log = resolved.log;
    reporter.log_user = resolved.log_user;
    status = check_options(&reporter, &resolved);
    if (status != CARSO_OK) {
        return status;
    }
    reporter.allocator = resolved.allocator;
    if (reporter.allocator.allocate == NULL) {
        reporter.allocator = (carso_allocator){allocate_by_default, release_by_default, NULL};
    }
    context_block *block = cso_allocate(&reporter, 1, sizeof *block);
    if (block == NULL) {
        return cso_fail_memory(&reporter, "a context");
    }
    carso_context *context = &block->context;
    atomic_init(&context->references, 1);
    context->allocator = reporter.allocator;
    context->log = resolved.log;
    context->log_user = resolved.log_user;
    context->log_level = (carso_log_level)resolved.log_level;
    context->convolution = (carso_convolution)resolved.convolution;
    context->threads = resolved.threads != 0 ? (int)resolved.threads : available_cores();
    const uint64_t limit = resolved.memory_limit != 0 ? resolved.memory_limit : DEFAULT_MEMORY_LIMIT;
    context->memory_limit = limit > SIZE_MAX ? SIZE_MAX : (size_t)limit;
    if (pthread_mutex_init(&block->lock, NULL) != 0) {
        cso_release(&reporter, block);
        return cso_fail(&reporter, CARSO_ERROR_OUT_OF_MEMORY, "no lock for a context");
    }
    context->message_lock = &block->lock;
    context->message = block->message;
    context->memory = block->memory;

    status = resolved.backend != NULL ? open_named_backend(context, resolved.backend) : open_first_backend(context);
    if (status == CARSO_OK) {
        status = cso_arena_pool_create(context);
    }
    if (status != CARSO_OK) {
        carso_context_destroy(context);
        return status;
    }
    context->message[0] = '\0';
    *out_context = context;
    return CARSO_OK;
}

void carso_context_destroy(carso_context *context)
{
    if (context == NULL || atomic_fetch_sub(&context->references, 1) != 1) {
        return;
    }
    cso_arena_pool_destroy(context);
    if (context->device != NULL) {
        context->backend->device_destroy(context->device);
    }
    pthread_mutex_destroy(context->message_lock);
    const carso_allocator allocator = context->allocator;
    allocator.release(context, allocator.user);
}

size_t carso_context_message(const carso_context *context, char *buffer, size_t size)
{
    if (context == NULL) {
        if (buffer != NULL && size > 0) {
            buffer[0] = '\0';
        }
        return 0;
    }
    pthread_mutex_lock(context->message_lock);
    const size_t length = strlen(context->message);
    if (buffer != NULL && size > 0) {
        const size_t copied = length < size ? length : size - 1;
        memcpy(buffer, context->message, copied);
        buffer[copied] = '\0';
    }
    pthread_mutex_unlock(context->message_lock);
    return length;
}

const char *carso_context_backend(const carso_context *context)
{
    return context == NULL ? NULL : context->backend->name;
}

int32_t carso_context_threads(const carso_context *context) { return context == NULL ? 0 : context->threads; }

carso_status carso_context_memory(const carso_context *context, carso_memory *out_memory)
{
    if (context == NULL || out_memory == NULL) {
        return cso_fail_missing(context, "carso_context_memory", context == NULL ? "context" : "out_memory");
    }
    const cso_memory_count *const count = context->memory;
    const carso_memory memory = {.mapped_weights = atomic_load(&count[CSO_MEMORY_MAPPED].now),
                                 .own_weights = atomic_load(&count[CSO_MEMORY_WEIGHTS].now),
                                 .packed_weights = atomic_load(&count[CSO_MEMORY_PACKED].now),
                                 .transformed_weights = atomic_load(&count[CSO_MEMORY_TRANSFORMED].now),
                                 .buffers = atomic_load(&count[CSO_MEMORY_BUFFERS].now),
                                 .most_buffers = atomic_load(&count[CSO_MEMORY_BUFFERS].most)};
    return cso_struct_fill(context, "carso_context_memory", out_memory, &memory, sizeof memory);
}

size_t carso_backend_count(void) { return cso_backend_count(); }

const char *carso_backend_name(size_t index)
{
    const cso_backend *backend = cso_backend_at(index);
    return backend == NULL ? NULL : backend->name;
}
