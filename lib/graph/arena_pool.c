/* SPDX-License-Identifier: BSD-2-Clause */
#include "graph/arena_pool.h"

#include "backends/backend.h"

struct cso_arena {
    cso_arena *next;
    void *memory;
    size_t size;
};

struct cso_arena_pool {
    pthread_mutex_t lock;
    cso_arena *idle; /* most recently released first */
};

/* Whether arenas are the backend's to make. */
static bool has_buffers(const cso_backend *backend) { return !backend->host_memory && backend->buffer_create != NULL; }

static void destroy_list(const carso_context *context, cso_arena *list)
{
    while (list) {
        cso_arena *const next = list->next;

        if (has_buffers(context->backend)) {
            context->backend->buffer_destroy(context->device, list->memory);
        } else {
            cso_release(context, list->memory);
        }
        cso_memory_taken(context, CSO_MEMORY_BUFFERS, -(ptrdiff_t)list->size);
        cso_release(context, list);
        list = next;
    }
}

carso_status cso_arena_pool_create(carso_context *context)
{
    struct cso_arena_pool *const pool = cso_allocate(context, 1, sizeof(*pool));

    if (!pool) {
        return cso_fail_memory(context, "working buffers");
    }
    if (pthread_mutex_init(&pool->lock, NULL) != 0) {
        cso_release(context, pool);
        return cso_fail_memory(context, "working buffers");
    }
    context->arenas = pool;
    return CARSO_OK;
}

void cso_arena_pool_destroy(carso_context *context)
{
    if (context->arenas) {
        destroy_list(context, context->arenas->idle);
        pthread_mutex_destroy(&context->arenas->lock);
        cso_release(context, context->arenas);
        context->arenas = NULL;
    }
}

bool cso_arena_pool_clear(const carso_context *context)
{
    struct cso_arena_pool *const pool = context->arenas;
    cso_arena *list;

    pthread_mutex_lock(&pool->lock);
    list = pool->idle;
    pool->idle = NULL;
    pthread_mutex_unlock(&pool->lock);
    destroy_list(context, list);
    return list != NULL;
}

/* The smallest idle arena that is large enough, or the largest of those that are not. */
static cso_arena *take_idle(struct cso_arena_pool *pool, size_t size)
{
    cso_arena **found = NULL;
    cso_arena *arena;

    pthread_mutex_lock(&pool->lock);
    for (cso_arena **link = &pool->idle; *link; link = &(*link)->next) {
        const bool fits = (*link)->size >= size, smaller = found && (*link)->size < (*found)->size;

        if (!found || (fits ? smaller || (*found)->size < size : !smaller && (*found)->size < size)) {
            found = link;
        }
    }
    arena = found ? *found : NULL;
    if (arena) {
        *found = arena->next;
        arena->next = NULL;
    }
    pthread_mutex_unlock(&pool->lock);
    return arena;
}

static carso_status create(const carso_context *context, size_t size, cso_arena **out)
{
    carso_status status = CARSO_OK;
    cso_arena *const arena = cso_allocate(context, 1, sizeof(*arena));

    if (!arena) {
        return cso_fail_memory(context, "working buffers");
    }
    if (has_buffers(context->backend)) {
        status = context->backend->buffer_create(context->device, size, &arena->memory);
    } else {
        arena->memory = cso_allocate_raw(context, size, 1);
        if (!arena->memory) {
            status = cso_fail(context, CARSO_ERROR_OUT_OF_MEMORY,
                              "no memory for %zu bytes of working buffers; set a smaller memory limit", size);
        }
    }
    if (status != CARSO_OK) {
        cso_release(context, arena);
        return status;
    }
    arena->size = size;
    cso_memory_taken(context, CSO_MEMORY_BUFFERS, (ptrdiff_t)size);
    *out = arena;
    return CARSO_OK;
}

carso_status cso_arena_acquire(const carso_context *context, size_t size, cso_arena **out)
{
    cso_arena *const idle = take_idle(context->arenas, size);
    carso_status status;

    *out = NULL;
    if (idle && idle->size >= size) {
        *out = idle;
        return CARSO_OK;
    }
    /* What is too small makes place: there never are more arenas than were in use at once. */
    destroy_list(context, idle);
    status = create(context, size, out);
    if (status == CARSO_ERROR_OUT_OF_MEMORY && cso_arena_pool_clear(context)) {
        status = create(context, size, out);
    }
    return status;
}

void cso_arena_release(const carso_context *context, cso_arena *arena)
{
    struct cso_arena_pool *const pool = context->arenas;
    cso_arena *excess;
    size_t bytes;

    if (!arena) {
        return;
    }
    bytes = arena->size;
    pthread_mutex_lock(&pool->lock);
    arena->next = pool->idle;
    pool->idle = arena;
    cso_arena **link = &arena->next;
    while (*link && bytes + (*link)->size <= context->memory_limit) {
        bytes += (*link)->size;
        link = &(*link)->next;
    }
    excess = *link;
    *link = NULL;
    pthread_mutex_unlock(&pool->lock);
    destroy_list(context, excess);
}

unsigned char *cso_arena_memory(const cso_arena *arena) { return arena->memory; }
