/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Either norm's shortest delta is one number away, the level: min(level, room) of each component in l-infinity,
 * min(level * |normal|, room) in l2. normal . delta grows with the level along a concave line of segments, whose ends
 * are sorted.
 */
#include "attack/hyperplane.h"

#include <math.h>
#include <stdbool.h>

static void sift_down(cso_breakpoint *heap, size_t root, size_t count)
{
    for (size_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && heap[child + 1].at > heap[child].at) {
            child++;
        }
        if (heap[root].at >= heap[child].at) {
            return;
        }
        const cso_breakpoint moved = heap[root];
        heap[root] = heap[child];
        heap[child] = moved;
    }
}

/* In place, whatever the order of the input: the C library's may take memory of its own. */
static void sort(cso_breakpoint *points, size_t count)
{
    for (size_t root = count / 2; root-- > 0;) {
        sift_down(points, root, count);
    }
    for (size_t end = count; end-- > 1;) {
        const cso_breakpoint largest = points[0];
        points[0] = points[end];
        points[end] = largest;
        sift_down(points, 0, end);
    }
}

/* The level where the components together reach gap >= 0, INFINITY where they do not. */
static double find_level(cso_breakpoint *points, size_t count, double gap)
{
    sort(points, count);
    for (size_t k = count; k-- > 1;) /* summed from the end: subtracting would lose the small rates */ {
        points[k - 1].rate += points[k].rate;
    }
    double level = 0.0, reached = 0.0;
    for (size_t k = 0; k < count; k++) {
        const double segment = points[k].rate * (points[k].at - level);
        if (reached + segment >= gap) {
            return level + (gap - reached) / points[k].rate;
        }
        reached += segment;
        level = points[k].at;
    }
    return gap > reached ? INFINITY : level;
}

double cso_hyperplane_project(carso_norm norm, const float *point, const double *normal, double gap, size_t size,
                              cso_breakpoint *scratch, double *delta)
{
    const bool l2 = norm == CARSO_NORM_L2;
    double largest = 0.0, length = 0.0;
    for (size_t j = 0; j < size; j++) {
        largest = fmax(largest, fabs(normal[j]));
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
        delta[j] = (slope < 0.0 ? -1.0 : 1.0) * fmin(wanted, room);
        length = l2 ? length + delta[j] * delta[j] : fmax(length, fabs(delta[j]));
    }
    return l2 ? sqrt(length) : length;
}
