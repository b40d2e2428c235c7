/* SPDX-License-Identifier: BSD-2-Clause */
/* The optimisers' updates on one array of weights. State is float, coefficients and arithmetic are double. */
#ifndef CSO_TRAIN_OPTIMISERS_H
#define CSO_TRAIN_OPTIMISERS_H

#include <stddef.h>
#include <stdint.h>

/* Rectified Adam (Liu et al., "On the variance of the adaptive learning rate and beyond", 2020). */
typedef struct cso_radam {
    double beta1, beta2, epsilon;
} cso_radam;

#define CSO_RADAM_DEFAULTS {.9, .999, 1e-8}

/* Rectification r_t of update number step >= 1; 0 while the variance is intractable (rho_t <= 5). */
double cso_radam_rectification(const cso_radam *radam, uint64_t step);

/* step: from 1. Where the variance is intractable, the update is momentum SGD's with bias correction. */
void cso_radam_update(const cso_radam *radam, uint64_t step, double learning_rate, size_t count, const float *gradient,
                      float *weight, float *first_moment, float *second_moment);

/* Lookahead (Zhang et al. 2019): slow += rate * (fast - slow); fast = slow. */
void cso_lookahead_update(double rate, size_t count, float *fast, float *slow);

/* g = gradient + decay * weight; v = momentum * v + g; weight -= learning_rate * (g + momentum * v): Nesterov's, as Sutskever et
 * al. (2013) restate it. */
void cso_sgd_update(double learning_rate, double momentum, double weight_decay, size_t count, const float *gradient,
                    float *weight, float *velocity);

#endif
