/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks with several threads on shared parameters, with memory that runs out, and of accumulate. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "suite.h"

#define THREADS 4

typedef struct worker {
    carso_context *context;
    const op_trial *trial;
    session_options options;
    carso_status status;
    outcome found;
} worker;

static void *work(void *argument)
{
    worker *it = argument;
    it->status = session_run(it->context, it->trial, &it->options, &it->found, NULL);
    return NULL;
}

/* Constant parameters that nobody has used yet: whatever is packed, is packed while others want it too. */
void check_threads(suite *it, const expectation *expected)
{
    const op_trial *trial = &expected->trial;
    cso_parameter *parameter[CSO_MAX_PARAMETERS] = {NULL};
    pthread_t thread[THREADS];
    worker workers[THREADS];
    carso_status status = CARSO_OK;
    if (trial->parameter_count == 0 || trial->op.attributes.training) {
        return;
    }
    for (int p = 0; p < trial->parameter_count && status == CARSO_OK; p++) {
        status = parameter_create(it->tested, &trial->parameter[p], false, &parameter[p]);
    }
    if (suite_check(it, trial, status == CARSO_OK, "threads: %s", carso_status_str(status))) {
        int started = 0;
        for (; started < THREADS; started++) {
            workers[started] = (worker){.context = it->tested, .trial = trial, .options = session_options_default()};
            workers[started].options.parameter = parameter;
            if (pthread_create(&thread[started], NULL, work, &workers[started]) != 0) {
                break;
            }
        }
        suite_check(it, trial, started == THREADS, "threads: only %d started", started);
        for (int i = 0; i < started; i++) {
            pthread_join(thread[i], NULL);
            suite_check(it, trial, workers[i].status == CARSO_OK, "thread %d: %s", i,
                        carso_status_str(workers[i].status));
        }
        for (int i = 0; i < started; i++) {
            if (workers[0].status == CARSO_OK && workers[i].status == CARSO_OK) {
                suite_same(it, trial, "threads", &workers[0].found, &workers[i].found, NULL);
            }
        }
        if (started > 0 && workers[0].status == CARSO_OK) {
            outcome_clear(&workers[0].found);
            /* Packed by now. */
            work(&workers[0]);
            suite_compare(it, trial, "threads", &workers[0].found, &expected->forward_and_backward, &expected->bound);
        }
        for (int i = 0; i < started; i++) {
            outcome_clear(&workers[i].found);
        }
    }
    for (int p = 0; p < CSO_MAX_PARAMETERS; p++) {
        cso_parameter_release(parameter[p]);
    }
}

typedef struct counting_allocator {
    atomic_long allocations, live;
    long failing; /* which fails, -1: none */
} counting_allocator;

static void *counted_allocate(size_t size, size_t alignment, void *user)
{
    counting_allocator *it = user;
    void *memory = NULL;
    if (atomic_fetch_add(&it->allocations, 1) == it->failing || posix_memalign(&memory, alignment, size) != 0) {
        return NULL;
    }
    atomic_fetch_add(&it->live, 1);
    return memory;
}

static void counted_release(void *memory, void *user)
{
    counting_allocator *it = user;
    atomic_fetch_sub(&it->live, 1);
    free(memory);
}

void check_allocations(suite *it, const op_trial *trial)
{
    counting_allocator counts = {.failing = -1};
    carso_context_options options;
    carso_context *context = NULL;
    carso_context_options_init(&options, sizeof options);
    options.backend = it->backend;
    options.threads = 1;
    options.convolution = it->convolution;
    options.allocator = (carso_allocator){counted_allocate, counted_release, &counts};
    carso_status status = carso_context_create(&options, &context);
    if (!suite_check(it, trial, status == CARSO_OK, "allocations: %s", carso_status_str(status))) {
        return;
    }
    const long before = atomic_load(&counts.live);
    session_options attempt = session_options_default();
    for (int trainable = 0; trainable < 2; trainable++) {
        attempt.trainable = trainable == 1;
        status = CARSO_ERROR_OUT_OF_MEMORY;
        for (long failing = 0; failing < 1000 && status == CARSO_ERROR_OUT_OF_MEMORY; failing++) {
            outcome found;
            atomic_store(&counts.allocations, 0);
            counts.failing = failing;
            status = session_run(context, trial, &attempt, &found, NULL);
            outcome_clear(&found);
            const long left = atomic_load(&counts.live) - before;
            if (!suite_check(it, trial, left == 0, "allocation %ld failed: %ld blocks are left", failing, left)) {
                break;
            }
        }
        suite_check(it, trial, status == CARSO_OK, "a failed allocation gave: %s", carso_status_str(status));
    }
    counts.failing = -1;
    carso_context_destroy(context);
    suite_check(it, trial, atomic_load(&counts.live) == 0, "allocations: the context left %ld blocks",
                atomic_load(&counts.live));
}

void check_accumulate(suite *it)
{
    static const size_t counts[] = {1, 3, 17, 1000, 100003};
    const cso_backend *backend = it->tested->backend;
    const bool wide = backend->element == CSO_F64;
    const size_t size = wide ? sizeof(double) : sizeof(float);
    uint64_t state = 11;
    for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
        const size_t count = counts[k];
        guarded_buffer sum;
        guarded_buffer term;
        double *values = test_allocate(2 * count, size);
        double *results = test_allocate(count, size);
        for (size_t i = 0; i < 2 * count; i++) {
            const double value = test_random_between(&state, -1, 1);
            if (wide) {
                values[i] = value;
            } else {
                ((float *)values)[i] = (float)value;
            }
        }
        const unsigned char *second = (const unsigned char *)values + count * size;
        bool good = guarded_buffer_create(it->tested, count * size, 0, &sum) == CARSO_OK &&
                    guarded_buffer_create(it->tested, count * size, 0, &term) == CARSO_OK &&
                    guarded_buffer_write(it->tested, &sum, values) == CARSO_OK &&
                    guarded_buffer_write(it->tested, &term, second) == CARSO_OK &&
                    backend->accumulate(it->tested->device, sum.data, term.data, count) == CARSO_OK &&
                    guarded_buffer_read(it->tested, &sum, results) == CARSO_OK;
        for (size_t i = 0; i < count && good; i++) {
            /* One addition: correctly rounded everywhere. */
            good = wide ? results[i] == values[i] + values[count + i]
                        : ((float *)results)[i] == ((float *)values)[i] + ((float *)values)[count + i];
        }
        suite_check(it, NULL, good, "accumulate: wrong sum of %zu elements", count);
        suite_check(it, NULL, guarded_buffer_intact(it->tested, &sum) && guarded_buffer_intact(it->tested, &term),
                    "accumulate: wrote outside of %zu elements", count);
        guarded_buffer_destroy(it->tested, &sum);
        guarded_buffer_destroy(it->tested, &term);
        free(values);
        free(results);
    }
}
