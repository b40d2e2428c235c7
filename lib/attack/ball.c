/* SPDX-License-Identifier: BSD-2-Clause */
#include "attack/ball.h"

#include <math.h>

/*
 * The largest distance that is within epsilon itself and when rounded to float, which a caller may well do: up to half way
 * from the last float within epsilon to the next. Stepping there float by float from epsilon would take millions of steps
 * where a pixel of value epsilon comes near 0.
 */
static double reach_of(double epsilon)
{
    const float nearest = (float)epsilon, within = (double)nearest > epsilon ? nextafterf(nearest, 0.0f) : nearest;
    return fmin(epsilon, ((double)within + (double)nextafterf(within, INFINITY)) / 2.0);
}

/* NaN becomes low. Comparisons, as fmin and fmax are calls. */
static double clamp(double value, double low, double high)
{
    return value > low ? value < high ? value : high : low;
}

/* In [0, 1] and within epsilon of original, after rounding as well. */
static float project_component(double wanted, float original, double epsilon, double reach)
{
    const double low = clamp((double)original - reach, 0.0, 1.0), high = clamp((double)original + reach, 0.0, 1.0);
    float point = (float)clamp(wanted, low, high);
    while (fabs((double)point - (double)original) > epsilon || (double)fabsf(point - original) > epsilon) {
        point = nextafterf(point, original);
    }
    return point;
}

static double length(const double *values, size_t size)
{
    double largest = 0.0, sum = 0.0;
    for (size_t j = 0; j < size; j++) {
        largest = fmax(largest, fabs(values[j]));
    }
    if (largest == 0.0) {
        return 0.0;
    }
    for (size_t j = 0; j < size; j++) {
        sum += values[j] / largest * (values[j] / largest);
    }
    return largest * sqrt(sum);
}

static double distance(const float *point, const float *original, size_t size)
{
    double sum = 0.0;
    for (size_t j = 0; j < size; j++) {
        const double difference = (double)point[j] - (double)original[j];
        sum += difference * difference;
    }
    return sqrt(sum);
}

/* Towards original where float cannot hold the value: rounding then shortens every component. */
static float round_inwards(double value, float original)
{
    const double clipped = clamp(value, 0.0, 1.0);
    const float point = (float)clipped;
    return fabs((double)point - (double)original) > fabs(clipped - (double)original) ? nextafterf(point, original)
                                                                                     : point;
}

static void project_l2(double *wanted, const float *original, double epsilon, size_t size, float *point)
{
    for (size_t j = 0; j < size; j++) {
        wanted[j] -= (double)original[j];
    }
    const double whole = length(wanted, size);
    double factor = whole > epsilon ? epsilon / whole : 1.0;
    for (double shrink = 0x1p-52;; shrink *= 2.0) {
        for (size_t j = 0; j < size; j++) {
            point[j] = round_inwards((double)original[j] + factor * wanted[j], original[j]);
        }
        if (distance(point, original, size) <= epsilon) {
            return;
        }
        factor = shrink < 1.0 ? factor * (1.0 - shrink) : 0.0;
    }
}

void cso_ball_project(carso_norm norm, double *wanted, const float *original, double epsilon, size_t size,
                      float *point)
{
    if (norm == CARSO_NORM_L2) {
        project_l2(wanted, original, epsilon, size, point);
        return;
    }
    const double reach = reach_of(epsilon);
    for (size_t j = 0; j < size; j++) {
        point[j] = project_component(wanted[j], original[j], epsilon, reach);
    }
}

void cso_ball_random(carso_norm norm, const cso_random *stream, const float *original, double epsilon, size_t size,
                     float *point, double *scratch)
{
    if (norm == CARSO_NORM_L2) {
        float radius;
        cso_random_normal(stream, 0, size, point);
        cso_random_uniform(stream, size + 1, 1, &radius); /* normal numbers come in pairs: no word is used twice */
        for (size_t j = 0; j < size; j++) {
            scratch[j] = (double)point[j];
        }
        const double whole = length(scratch, size);
        const double factor = whole > 0.0 ? epsilon * pow((double)radius, 1.0 / (double)size) / whole : 0.0;
        for (size_t j = 0; j < size; j++) {
            scratch[j] = (double)original[j] + factor * scratch[j];
        }
    } else {
        cso_random_uniform(stream, 0, size, point);
        for (size_t j = 0; j < size; j++) {
            scratch[j] = (double)original[j] + (2.0 * (double)point[j] - 1.0) * epsilon;
        }
    }
    cso_ball_project(norm, scratch, original, epsilon, size, point);
}

void cso_ball_direction(carso_norm norm, const double *gradient, size_t size, double *direction)
{
    const double whole = norm == CARSO_NORM_L2 ? length(gradient, size) : 0.0;
    for (size_t j = 0; j < size; j++) {
        const double slope = gradient[j];
        if (norm == CARSO_NORM_L2) {
            direction[j] = whole > 0.0 ? slope / whole : 0.0;
        } else {
            direction[j] = slope > 0.0 ? 1.0 : slope < 0.0 ? -1.0 : 0.0;
        }
    }
}
