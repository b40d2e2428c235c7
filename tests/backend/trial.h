/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One trial of one operation: shapes, attributes and values, all of them a function of (kind, number). Values are
 * dense, images in C, H, W order, and exact in float, so that every backend is given the same numbers.
 */
#ifndef TESTS_BACKEND_TRIAL_H
#define TESTS_BACKEND_TRIAL_H

#include <stdio.h>

#include "backends/backend.h"

#define TRIAL_MOST_INPUTS 8
#define TRIAL_MOST_SOURCES (TRIAL_MOST_INPUTS + 1)

typedef struct trial_parameter {
    int rank;
    int64_t dimension[4];
    size_t count;
    double *value;
} trial_parameter;

typedef struct op_trial {
    int number;
    cso_op op; /* FORWARD, without parameters; op.input is shape */
    cso_shape shape[TRIAL_MOST_SOURCES];
    int source_count; /* inputs and residual */
    double *source[TRIAL_MOST_SOURCES];
    double *gradient; /* of a loss to the output */
    double *needed;   /* what BACKWARD_DATA reads besides it; NULL: nothing, or not set yet */
    int parameter_count;
    trial_parameter parameter[CSO_MAX_PARAMETERS];
    bool ties; /* several values are equal, or at the kink of the function: no finite differences */
} op_trial;

int trial_count(cso_op_kind kind);
void trial_create(op_trial *out, cso_op_kind kind, int number);
/* With its own shapes and values. */
void trial_copy(op_trial *out, const op_trial *source);
void trial_clear(op_trial *it);
/* For messages: kind, number, shapes and attributes on one line. */
void trial_print(FILE *stream, const op_trial *it);

size_t trial_tensor_count(const op_trial *it, const cso_shape *shape);
size_t trial_source_count(const op_trial *it, int source);
size_t trial_output_count(const op_trial *it);

bool trial_has_epilogue(const op_trial *it);
bool trial_has_parameter_gradients(const op_trial *it); /* a direction of its own */
bool trial_needs_output(cso_op_kind kind);           /* BACKWARD_DATA reads y */
bool trial_needs_input(const op_trial *it);             /* BACKWARD_DATA reads x */
bool trial_is_pointwise(const op_trial *it);            /* may run in place */

/* Numbers for tests: a function of *state, which moves on. */
uint64_t test_random(uint64_t *state);
int64_t test_random_below(uint64_t *state, int64_t limit);
/* Exact in float. */
double test_random_between(uint64_t *state, double low, double high);
/* Zeroed; ends the test where memory runs out. */
void *test_allocate(size_t count, size_t size);

#endif
