/* SPDX-License-Identifier: BSD-2-Clause */
/* Work of the host that is worth several threads: long passes over memory. What a backend runs has threads of its own. */
#ifndef CSO_BASE_PARALLEL_H
#define CSO_BASE_PARALLEL_H

#include "base/context.h"

typedef void (*cso_parallel_body)(void *argument, int part);

/* The context's number of threads, within what _run takes. */
int cso_parallel_parts(const carso_context *context);

/*
 * body(argument, part) for 0 .. parts - 1, each in a thread, the caller's one of them; returns when all are done. It cannot fail: where a
 * thread cannot be started the caller does its part too. Threads are started anew, some tens of microseconds each.
 */
void cso_parallel_run(int parts, cso_parallel_body body, void *argument);

#endif
