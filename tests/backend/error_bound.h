/* SPDX-License-Identifier: BSD-2-Clause */
/* How far a float backend's results may lie from the reference in double, element by element. */
#ifndef TESTS_BACKEND_ERROR_BOUND_H
#define TESTS_BACKEND_ERROR_BOUND_H

#include "session.h"

/*
 * bound gets expected's parts. An element that is a sum may be wrong by (base + sqrt(terms) / 2) roundings of the sum
 * of its terms' absolute values; others by a few roundings of their magnitude; what is only moved or chosen by nothing.
 * Behind them, where Winograd's filtering can compute y or dx0, parts "y winograd" and "dx0 winograd", and the same with
 * " complex" for complex points: as many roundings, and those of the transforms, of what passes through them
 * (winograd_bound.h).
 * reference: a context of the backend that computes in double. roundoff: distance of 1 from the next number.
 */
carso_status error_bound(carso_context *reference, const op_trial *it, const outcome *expected, double roundoff,
                         outcome *bound);

#endif
