/* SPDX-License-Identifier: BSD-2-Clause */
/* Geometries of convolutions and pools: the corner cases by hand, then random ones. */
#ifndef TESTS_BACKEND_WINDOW_CASES_H
#define TESTS_BACKEND_WINDOW_CASES_H

#include "backends/backend.h"

typedef struct window_case {
    int64_t batch, in, out, height, width;
    cso_attributes attributes;
} window_case;

/* Cases by hand; those from there on are random. */
int window_case_count(cso_op_kind kind);
window_case window_case_at(cso_op_kind kind, int index, uint64_t *state);
/* Size of the output along an axis, 0: vertical. */
int64_t window_output(cso_op_kind kind, const window_case *it, int axis);

#endif
