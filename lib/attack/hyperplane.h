/* SPDX-License-Identifier: BSD-2-Clause */
/* Projection onto a hyperplane within [0, 1]. */
#ifndef CSO_ATTACK_HYPERPLANE_H
#define CSO_ATTACK_HYPERPLANE_H

#include "carso/attack.h"

/* Where a component stops growing because it meets its face of [0, 1]. */
typedef struct cso_breakpoint {
    double at;
    double rate; /* of normal . delta, until then */
} cso_breakpoint;

/*
 * delta: the shortest in the norm with normal . delta = gap and point + delta within [0, 1]; where there is none, the one
 * that comes nearest: every component that helps goes to its face. Returns its length. scratch [size].
 */
double cso_hyperplane_project(carso_norm norm, const float *point, const double *normal, double gap, size_t size,
                              cso_breakpoint *scratch, double *delta);

#endif
