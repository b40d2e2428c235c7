/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Either norm's shortest delta is one number away, the level: min(level, room) of each component in l-infinity,
 * min(level * |normal|, room) in l2. normal . delta grows with the level along a concave line of segments.
 */
#include "attack/hyperplane.h"

#include <math.h>
#include <stdbool.h>

/*
 * The level where the components together reach gap >= 0, INFINITY where they do not. By Newton's steps from 0: on a
 * concave line they never pass the level looked for, so that what one of them passes has met its face for good. Each
 * halves what is missing or the slope at least: few are needed, whatever the components.
 */
static double find_level(cso_breakpoint *points, size_t count, double gap)
{
    double level = 0.0, at_faces = 0.0;
    while (count > 0) {
        double rate = 0.0;
        for (size_t k = 0; k < count; k++) {
            rate += points[k].rate;
        }
        const double next = (gap - at_faces) / rate;
        level = next > level ? next : level; /* rounding alone would lower it */
        size_t left = 0;
        for (size_t k = 0; k < count; k++) {
            if (points[k].at > level) {
                points[left++] = points[k];
            } else {
                at_faces += points[k].at * points[k].rate;
            }
        }
        if (left == count) {
            return level;
        }
        count = left;
    }
    return INFINITY;
}

double cso_hyperplane_project(carso_norm norm, const float *point, const double *normal, double gap, size_t size,
                              cso_breakpoint *scratch, double *delta)
{
    const bool l2 = norm == CARSO_NORM_L2;
    double largest = 0.0, length = 0.0;
    for (size_t j = 0; j < size; j++) {
        largest = fabs(normal[j]) > largest ? fabs(normal[j]) : largest;
    }
    size_t count = 0;
    for (size_t j = 0; j < size && largest > 0.0; j++) {
        const double slope = normal[j] / largest * (gap < 0.0 ? -1.0 : 1.0), size_of_slope = fabs(slope);
        const double room = slope > 0.0 ? 1.0 - (double)point[j] : (double)point[j];
        const cso_breakpoint one = {l2 ? room / size_of_slope : room, l2 ? slope * slope : size_of_slope};
        if (one.rate > 0.0 && isfinite(one.at)) {
            scratch[count++] = one;
        }
    }
    const double level = count > 0 ? find_level(scratch, count, fabs(gap) / largest) : 0.0;
    for (size_t j = 0; j < size; j++) {
        const double slope = largest > 0.0 ? normal[j] / largest * (gap < 0.0 ? -1.0 : 1.0) : 0.0;
        const double room = slope > 0.0 ? 1.0 - (double)point[j] : (double)point[j];
        const double wanted = slope == 0.0 ? 0.0 : l2 ? level * fabs(slope) : level;
        const double moved = wanted < room ? wanted : room;
        delta[j] = slope < 0.0 ? -moved : moved;
        length = l2 ? length + moved * moved : moved > length ? moved : length;
    }
    return l2 ? sqrt(length) : length;
}
