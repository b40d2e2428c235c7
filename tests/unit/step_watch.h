/* SPDX-License-Identifier: BSD-2-Clause */
/* A progress callback for attacks: counts calls, checks that steps only grow, and cancels at a call. */
#ifndef TEST_STEP_WATCH_H
#define TEST_STEP_WATCH_H

#include <check.h>
#include <stdint.h>

#include "carso/context.h"

typedef struct watch {
    int calls, stop_at;
    uint64_t last, total;
} watch;

static inline int watch_progress(const carso_progress *progress, void *user)
{
    watch *const seen = user;
    ck_assert_str_eq(progress->unit, "steps");
    ck_assert(progress->done >= seen->last && progress->done <= progress->total);
    seen->last = progress->done;
    seen->total = progress->total;
    return ++seen->calls == seen->stop_at;
}

#endif
