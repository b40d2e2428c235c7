/* SPDX-License-Identifier: BSD-2-Clause */
#include <math.h>

#include "evaluate/evaluation.h"

/* Quantile of the standard normal distribution at .975. */
#define QUANTILE 1.959963984540054

/*
 * Wilson's score interval, with as many trials as would give the variance that the shares have over images: with one
 * prediction an image that is Wilson's interval itself. Never more trials than predictions, and as many as images where
 * the shares do not vary, as when all are right.
 */
void cso_interval(const double *share, int64_t count, int repeats, double *mean, double *low, double *high)
{
    const double n = (double)count;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += share[i];
    }
    const double p = count > 0 ? sum / n : 0;
    for (int64_t i = 0; i < count; i++) {
        squares += (share[i] - p) * (share[i] - p);
    }
    const double binomial = p * (1 - p), variance = count > 0 ? squares / n : 0;
    double trials = n;
    if (variance > 0 && binomial > 0) {
        trials = fmin(n * repeats, fmax(n, n * binomial / variance));
    }
    const double z = QUANTILE * QUANTILE / fmax(trials, 1), centre = (p + z / 2) / (1 + z);
    const double half = sqrt(z * binomial + z * z / 4) / (1 + z);
    *mean = p;
    *low = fmin(p, fmax(0, centre - half));
    *high = fmax(p, fmin(1, centre + half));
}
