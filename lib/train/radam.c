/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/optimisers.h"

#include <math.h>

double cso_radam_rectification(const cso_radam *radam, uint64_t step)
{
    const double t = (double)step;
    const double power = pow(radam->beta2, t);
    const double limit = 2 / (1 - radam->beta2) - 1;
    const double length = limit - 2 * t * power / (1 - power);
    if (!(length > 5)) {
        return 0;
    }
    return sqrt((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length));
}

static void momentum_update(double keep, double rate, size_t count, double keep2, const float *restrict gradient,
                            float *restrict weight, float *restrict first_moment, float *restrict second_moment)
{
    for (size_t i = 0; i < count; i++) {
        const double g = gradient[i];
        const double m = keep * first_moment[i] + (1 - keep) * g;
        first_moment[i] = (float)m;
        second_moment[i] = (float)(keep2 * second_moment[i] + (1 - keep2) * g * g);
        weight[i] = (float)(weight[i] - rate * m);
    }
}

static void adaptive_update(double keep, double rate, size_t count, double keep2, double epsilon,
                            const float *restrict gradient, float *restrict weight, float *restrict first_moment,
                            float *restrict second_moment)
{
    for (size_t i = 0; i < count; i++) {
        const double g = gradient[i];
        const double m = keep * first_moment[i] + (1 - keep) * g;
        const double v = keep2 * second_moment[i] + (1 - keep2) * g * g;
        first_moment[i] = (float)m;
        second_moment[i] = (float)v;
        weight[i] = (float)(weight[i] - rate * m / (sqrt(v) + epsilon));
    }
}

void cso_radam_update(const cso_radam *radam, uint64_t step, double learning_rate, size_t count, const float *gradient,
                      float *weight, float *first_moment, float *second_moment)
{
    const double rate = learning_rate / (1 - pow(radam->beta1, (double)step));
    const double rectification = cso_radam_rectification(radam, step);
    if (rectification > 0) {
        const double scale = rate * rectification * sqrt(1 - pow(radam->beta2, (double)step));
        adaptive_update(radam->beta1, scale, count, radam->beta2, radam->epsilon, gradient, weight, first_moment,
                        second_moment);
    } else {
        momentum_update(radam->beta1, rate, count, radam->beta2, gradient, weight, first_moment, second_moment);
    }
}
