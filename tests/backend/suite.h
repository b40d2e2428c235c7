/* SPDX-License-Identifier: BSD-2-Clause */
/* The checks of one backend, and how they report. */
#ifndef TESTS_BACKEND_SUITE_H
#define TESTS_BACKEND_SUITE_H

#include "session.h"

typedef struct suite {
    const char *backend;
    carso_convolution convolution;
    carso_context *tested;        /* two threads */
    carso_context *single_thread; /* the same backend, one thread */
    carso_context *reference;     /* in double */
    bool is_reference;            /* the tested backend is the reference itself */
    int checks, failures;
    double worst; /* error in units of its bound, of the kind at hand */
} suite;

/* What the checks of one trial share. */
typedef struct expectation {
    op_trial trial;   /* what BACKWARD_DATA needs is rounded to float */
    outcome forward_and_backward;
    outcome bound;
} expectation;

/* Counts a check; where good is false prints the message, the trial and the command that repeats it. Returns good. */
bool suite_check(suite *it, const op_trial *trial, bool good, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Every element of part within bound of expected; exact NaN and infinities alike. Winograd's kernels have a bound of
 * their own, and may turn the rest of a tile to NaN, infinities included, where something not finite is in its
 * inputs. */
bool suite_compare(suite *it, const op_trial *trial, const char *check, const outcome *found, const outcome *expected,
                   const outcome *bound);
/* Bit for bit. skip (may be NULL): a part that is left out. */
bool suite_same(suite *it, const op_trial *trial, const char *check, const outcome *first, const outcome *second,
                const char *skip);

/* checks.c */
void check_values(suite *it, const expectation *expected);
void check_repeatability(suite *it, const expectation *expected);
void check_in_place(suite *it, const expectation *expected);
void check_unwanted(suite *it, const expectation *expected);
void check_non_finite(suite *it, const expectation *expected);
void check_changed_parameters(suite *it, const expectation *expected);
/* checks_shared.c */
void check_threads(suite *it, const expectation *expected);
void check_allocations(suite *it, const op_trial *trial);
void check_accumulate(suite *it);

#endif
