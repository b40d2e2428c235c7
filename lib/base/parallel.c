/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/parallel.h"

#include <signal.h>

#define MOST_PARTS 64

typedef struct worker {
    pthread_t thread;
    bool started;
    int part;
    cso_parallel_body body;
    void *argument;
} worker;

int cso_parallel_parts(const carso_context *context)
{
    return context->threads < MOST_PARTS ? context->threads : MOST_PARTS;
}

static void *work(void *data)
{
    const worker *const it = data;
    it->body(it->argument, it->part);
    return NULL;
}

void cso_parallel_run(int parts, cso_parallel_body body, void *argument)
{
    worker others[MOST_PARTS];
    sigset_t all, before;
    /* Signals are for the application's own threads. */
    sigfillset(&all);
    const bool masked = parts > 1 && pthread_sigmask(SIG_SETMASK, &all, &before) == 0;
    for (int part = 1; part < parts; part++) {
        worker *const it = &others[part];
        *it = (worker){.part = part, .body = body, .argument = argument};
        it->started = pthread_create(&it->thread, NULL, work, it) == 0;
    }
    if (masked) {
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    body(argument, 0);
    for (int part = 1; part < parts; part++) {
        if (others[part].started) {
            pthread_join(others[part].thread, NULL);
        } else {
            body(argument, part);
        }
    }
}
