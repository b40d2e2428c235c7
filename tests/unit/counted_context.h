/* SPDX-License-Identifier: BSD-2-Clause */
/* A fixture: each test has a context whose allocations are counted, and must have released them all. */
#ifndef TEST_COUNTED_CONTEXT_H
#define TEST_COUNTED_CONTEXT_H

#include <check.h>

#include "counting_allocator.h"

static counting_allocator counts;
static carso_context *context;

static void set_up(void)
{
    counts = (counting_allocator){0};
    context = counting_context(&counts);
    ck_assert_ptr_nonnull(context);
}

static void tear_down(void)
{
    carso_context_destroy(context);
    ck_assert_int_eq(counts.held, 0);
}

#endif
