/* SPDX-License-Identifier: BSD-2-Clause */
/* The set that an attack stays in: within epsilon of an image in a norm, and within [0, 1]. */
#ifndef CSO_ATTACK_BALL_H
#define CSO_ATTACK_BALL_H

#include "base/random.h"
#include "carso/attack.h"

/*
 * point: wanted, brought into [0, 1] and, after rounding to float as well, into the ball. In l2 the difference is
 * scaled and then clipped, which never makes it longer. wanted is left changed.
 */
void cso_ball_project(carso_norm norm, double *wanted, const float *original, double epsilon, size_t size,
                      float *point);

/* A uniform point of the ball, then brought into [0, 1]. scratch [size]. */
void cso_ball_random(carso_norm norm, const cso_random *stream, const float *original, double epsilon, size_t size,
                     float *point, double *scratch);

/* direction: the step of length 1 in the norm that raises most: the signs, or the gradient over its length; 0 where
 * the gradient is. May be the same array. */
void cso_ball_direction(carso_norm norm, const double *gradient, size_t size, double *direction);

#endif
