/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory of plans, in the backend's keeping where that has its own. A plan holds an arena while a thread works in it;
 * idle arenas serve the next plan of any program, so that a context keeps as many as were in use at once, of together at
 * most its memory limit (but at least the one released last).
 */
#ifndef CSO_GRAPH_ARENA_POOL_H
#define CSO_GRAPH_ARENA_POOL_H

#include "base/context.h"

typedef struct cso_arena cso_arena;

carso_status cso_arena_pool_create(carso_context *context);
void cso_arena_pool_destroy(carso_context *context); /* no arena may be in use */
/* Gives idle arenas back to the system; whether there were any. */
bool cso_arena_pool_clear(const carso_context *context);

/* At least size bytes, contents undefined. */
carso_status cso_arena_acquire(const carso_context *context, size_t size, cso_arena **out);
void cso_arena_release(const carso_context *context, cso_arena *arena); /* accepts NULL */
unsigned char *cso_arena_memory(const cso_arena *arena);

#endif
