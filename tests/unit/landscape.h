/* SPDX-License-Identifier: BSD-2-Clause */
/* A fixture: objectives whose optimum is known, and attacks on them. */
#ifndef TEST_LANDSCAPE_H
#define TEST_LANDSCAPE_H

#include <check.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { COUNT = 3, SIDE = 8, SIZE = SIDE * SIDE, RECORDS = 4 };

#include "attack/apgd.h"
#include "attack/square.h"
#include "attack_trial.h"

typedef enum shape {
    LINEAR,
    QUADRATIC, /* minus the squared distance from centre */
    CONSTANT
} shape;

typedef struct landscape {
    shape shape;
    float weight[SIZE], centre[SIZE];
    int calls, images_seen;
    int bad_image, bad_call; /* from this call on that image is NaN; -1: never */
    int fail_call;
    double threshold; /* wrong beyond this loss */
    double noise;     /* of the draws' parity */
    bool target_flips; /* target 1 turns the sign */
    uint32_t draws_used[64];
} landscape;

static landscape land;
static cso_objective objective;
static cso_search search;

static inline double height_at(const landscape *self, const float *image, float *gradient)
{
    double value = 0;
    for (int j = 0; j < SIZE; j++) {
        const double away = (double)image[j] - (double)self->centre[j];
        const double slope = self->shape == LINEAR      ? (double)self->weight[j]
                             : self->shape == QUADRATIC ? -2 * away
                                                        : 0;
        value += self->shape == LINEAR ? slope * (double)image[j] : self->shape == QUADRATIC ? -away * away : 0;
        if (gradient) {
            gradient[j] = (float)slope;
        }
    }
    return value;
}

static inline carso_status landscape_query(void *self, const cso_query *query)
{
    landscape *const own = self;
    if (own->calls == own->fail_call) {
        return CARSO_ERROR_OUT_OF_MEMORY;
    }
    for (int64_t i = 0; i < query->count; i++) {
        float *const gradient = query->gradient ? query->gradient + i * SIZE : NULL;
        double loss = height_at(own, query->images + i * SIZE, gradient);
        if (query->targets && query->targets[i] == 1 && own->target_flips) {
            loss = -loss;
            for (int j = 0; gradient && j < SIZE; j++) {
                gradient[j] = -gradient[j];
            }
        }
        loss += query->first_draw % 2 ? -own->noise : own->noise;
        if (own->bad_call >= 0 && own->calls >= own->bad_call &&
            query->image_index[i] == image_index[own->bad_image]) {
            loss = NAN;
        }
        query->losses[i] = loss;
        if (query->exponent) {
            query->exponent[i] = 0;
        }
        if (query->wrong) {
            query->wrong[i] = loss > own->threshold;
        }
    }
    own->draws_used[own->calls % 64] = query->first_draw;
    own->calls++;
    own->images_seen += (int)query->count;
    return CARSO_OK;
}

static inline void set_up_landscape(void)
{
    set_up();
    random_state = 1;
    for (int k = 0; k < ALL; k++) {
        original[k] = 0.3f + 0.4f * uniform();
    }
    land = (landscape){.bad_image = 0, .bad_call = -1, .fail_call = -1, .threshold = INFINITY};
    for (int j = 0; j < SIZE; j++) {
        land.weight[j] = uniform() - 0.5f;
        land.centre[j] = 0.2f + 0.6f * uniform();
    }
    for (int i = 0; i < COUNT; i++) {
        epsilon[i] = 0.1;
    }
    objective = (cso_objective){.self = &land, .query = landscape_query, .image_size = SIZE, .context = context};
    search = (cso_search){.iterations = 100,
                          .channels = 1,
                          .height = SIDE,
                          .width = SIDE,
                          .restarts = 1,
                          .eot = 1,
                          .random_start = true,
                          .epsilon = epsilon,
                          .seed = 3,
                          .purpose = CSO_PURPOSE_ATTACK_START,
                          .image_index = image_index,
                          .unit = "steps"};
}

static inline carso_status apgd(void)
{
    return cso_apgd_run(&objective, &search, original, labels, COUNT, adversarial, &report);
}

static inline carso_status square(void)
{
    return cso_square_run(&objective, &search, original, labels, COUNT, adversarial, &report);
}

static inline carso_status either(int which)
{
    return which ? square() : apgd();
}

static inline carso_status pgd(double step_size, double momentum)
{
    const double step_sizes[COUNT] = {step_size, step_size, step_size};
    const cso_pgd how = {.steps = search.iterations,
                         .restarts = 1,
                         .eot = 1,
                         .random_start = true,
                         .epsilon = epsilon,
                         .step_size = step_sizes,
                         .seed = 3,
                         .purpose = CSO_PURPOSE_ATTACK_START,
                         .image_index = image_index,
                         .norm = search.norm,
                         .momentum = momentum,
                         .targets = search.targets};
    return cso_pgd_run(&objective, &how, original, labels, COUNT, adversarial, &report);
}

static inline double distance(int i, const float *from)
{
    double sum = 0;
    for (int j = 0; j < SIZE; j++) {
        const double away = (double)adversarial[i * SIZE + j] - (double)from[j];
        sum += away * away;
    }
    return sqrt(sum);
}

static inline void check_bounds(void)
{
    for (int i = 0; i < COUNT; i++) {
        for (int k = i * SIZE; k < (i + 1) * SIZE; k++) {
            ck_assert(adversarial[k] >= 0.0f && adversarial[k] <= 1.0f);
            ck_assert(search.norm == CARSO_NORM_L2 ||
                      fabs((double)adversarial[k] - (double)original[k]) <= epsilon[i]);
        }
        ck_assert(search.norm == CARSO_NORM_LINF || distance(i, original + i * SIZE) <= epsilon[i]);
    }
}

static inline double gain(int i)
{
    return last_loss[i] - first_loss[i];
}

/* Most that a linear function can gain, the faces of [0, 1] being further than epsilon: epsilon times the dual norm. */
static inline double linear_gain(void)
{
    double ones = 0, squares = 0;
    for (int j = 0; j < SIZE; j++) {
        ones += fabs((double)land.weight[j]);
        squares += (double)land.weight[j] * (double)land.weight[j];
    }
    return epsilon[0] * (search.norm == CARSO_NORM_L2 ? sqrt(squares) : ones);
}

#endif
