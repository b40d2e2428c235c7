/* SPDX-License-Identifier: BSD-2-Clause */
/* What kernels that say "winograd" in their name may do to a convolution, forward or to its input. */
#ifndef TESTS_BACKEND_WINOGRAD_BOUND_H
#define TESTS_BACKEND_WINOGRAD_BOUND_H

#include "trial.h"

/* Which points the filtering takes. */
typedef enum winograd_points { WINOGRAD_NONE, WINOGRAD_REAL, WINOGRAD_COMPLEX } winograd_points;

/*
 * Winograd's filtering adds and takes away again what a direct convolution does not, so that an error is relative to
 * what passes through its three steps: the absolute values of inputs and weights, through the absolute values of the
 * transforms' matrices with these points. Writes that for each result, in C, H, W order; false: not a convolution for
 * such a kernel.
 */
bool winograd_magnitude(const op_trial *it, bool forward, winograd_points points, double *out);

/* Whether something that is not finite lies in the inputs of result's tile: then that may be NaN. */
bool winograd_reached(const op_trial *it, bool forward, size_t result);

#endif
