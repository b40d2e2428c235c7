/* SPDX-License-Identifier: BSD-2-Clause */
#include "gradient_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Central differences of values near 1: the step's square is the truncation, 2^-53 / step the rounding, per term. */
#define STEP 1e-5
#define TOLERANCE 1e-8
#define POSITIONS 6

/* A run of the forward operation that can be repeated with other values. */
typedef struct probe {
    session it;
    const op_trial *trial;
    double *y;
} probe;

static double loss(probe *p)
{
    const size_t count = trial_output_count(p->trial);
    double sum = 0;
    if (session_forward(&p->it) != CARSO_OK || guarded_buffer_read(p->it.context, &p->it.output, p->y) != CARSO_OK) {
        return NAN;
    }
    for (size_t i = 0; i < count; i++) {
        sum += p->y[i] * p->trial->gradient[i];
    }
    return sum;
}

/* The derivative along direction of the values that live at place, which are as they were afterwards. */
static double derivative(probe *p, double *place, const double *values, const double *direction, size_t count)
{
    double side[2];
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < count; i++) {
            place[i] = values[i] + (s == 0 ? STEP : -STEP) * direction[i];
        }
        side[s] = loss(p);
    }
    memcpy(place, values, count * sizeof *place);
    return (side[0] - side[1]) / (2 * STEP);
}

static bool agrees(probe *p, double *place, const double *values, const double *direction, const outcome_part *gradient,
                   const char *what, char *problem, size_t problem_size)
{
    const double measured = derivative(p, place, values, direction, gradient->count);
    double claimed = 0;
    double scale = 0;
    for (size_t i = 0; i < gradient->count; i++) {
        claimed += gradient->value[i] * direction[i];
        scale += fabs(gradient->value[i] * direction[i]);
    }
    /* The loss's own rounding is relative to all its terms, not to those that move. */
    const double terms = sqrt((double)trial_output_count(p->trial));
    if (fabs(measured - claimed) <= TOLERANCE * (scale + 10 * terms)) {
        return true;
    }
    snprintf(problem, problem_size, "%s %s: the gradient says %.12g, central differences %.12g", gradient->name, what,
             claimed, measured);
    return false;
}

/* place: where the backend reads values. */
static bool check_tensor(probe *p, double *place, const double *values, const outcome_part *gradient, uint64_t *state,
                         char *problem, size_t problem_size)
{
    double *direction = test_allocate(gradient->count, sizeof *direction);
    char what[40];
    for (size_t i = 0; i < gradient->count; i++) {
        direction[i] = test_random_between(state, -1, 1);
    }
    bool good = agrees(p, place, values, direction, gradient, "along a random direction", problem, problem_size);
    for (int k = 0; k < POSITIONS && good; k++) {
        const size_t chosen = (size_t)test_random_below(state, (int64_t)gradient->count);
        memset(direction, 0, gradient->count * sizeof *direction);
        direction[chosen] = 1;
        snprintf(what, sizeof what, "at element %zu", chosen);
        good = agrees(p, place, values, direction, gradient, what, problem, problem_size);
    }
    free(direction);
    return good;
}

bool gradients_agree(carso_context *context, const op_trial *it, const outcome *gradients, char *problem,
                     size_t problem_size)
{
    session_options options = session_options_default();
    probe p = {.trial = it, .y = test_allocate(trial_output_count(it), sizeof *p.y)};
    uint64_t state = (uint64_t)it->number + 77;
    options.forward_only = true;
    options.trainable = true;
    bool good = session_create(context, it, &options, &p.it) == CARSO_OK;
    if (!good) {
        snprintf(problem, problem_size, "no forward run for central differences");
        free(p.y);
        return false;
    }
    for (int k = 0; k < gradients->count && good; k++) {
        const outcome_part *part = &gradients->part[k];
        if (strncmp(part->name, "dx", 2) == 0) {
            const int input = part->name[2] - '0';
            good = check_tensor(&p, (double *)(void *)p.it.source[input].data, it->source[input], part, &state, problem,
                                problem_size);
        } else if (strncmp(part->name, "dp", 2) == 0) {
            const int parameter = part->name[2] - '0';
            good = check_tensor(&p, p.it.parameter[parameter]->data, it->parameter[parameter].value, part, &state,
                                problem, problem_size);
        }
    }
    session_destroy(&p.it);
    free(p.y);
    return good;
}
