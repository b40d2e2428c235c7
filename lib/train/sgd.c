/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/optimisers.h"

static void update(double rate, double momentum, double decay, size_t count, const float *restrict gradient,
                   float *restrict weight, float *restrict velocity)
{
    for (size_t i = 0; i < count; i++) {
        const double g = gradient[i] + decay * weight[i];
        const double v = momentum * velocity[i] + g;
        velocity[i] = (float)v;
        weight[i] = (float)(weight[i] - rate * (g + momentum * v));
    }
}

void cso_sgd_update(double learning_rate, double momentum, double weight_decay, size_t count, const float *gradient,
                    float *weight, float *velocity)
{
    update(learning_rate, momentum, weight_decay, count, gradient, weight, velocity);
}
