/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
 * 2020, algorithm 1. On an objective with draws, losses are compared as they come, each from fresh draws.
 */
#include "attack/apgd.h"

#include <math.h>
#include <string.h>

#include "attack/ball.h"

#define MOMENTUM 0.75          /* alpha */
#define LEAST_RISING_SHARE 0.75 /* rho */
#define FIRST_CHECKPOINT 0.22

typedef struct apgd {
    float *previous;       /* the points before current */
    double *best_gradient; /* at best */
    double *step;
    double *last_loss; /* at current */
    double *best_at_checkpoint;
    uint8_t *halved; /* at the last checkpoint */
    int *rises;      /* steps since it that raised the loss */
    uint8_t *improved;
    double *direction; /* [size] */
} apgd;

double cso_apgd_next_checkpoint(double last, double current)
{
    return current + fmax(current - last - 0.03, 0.06);
}

static void apgd_close(cso_search_run *run)
{
    const carso_context *const context = run->objective->context;
    apgd *const own = run->own;
    if (!own) {
        return;
    }
    void *const memory[] = {own->previous, own->best_gradient, own->step,     own->last_loss, own->best_at_checkpoint,
                            own->halved,   own->rises,         own->improved, own->direction, own};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) {
        cso_release(context, memory[i]);
    }
}

static carso_status apgd_open(cso_search_run *run)
{
    const carso_context *const context = run->objective->context;
    const size_t count = (size_t)run->count;
    apgd *const own = cso_allocate(context, 1, sizeof *own);
    run->own = own;
    if (!own) {
        return cso_fail_memory(context, "attack points");
    }
    own->previous = cso_allocate(context, count, run->size * sizeof *own->previous);
    own->best_gradient = cso_allocate(context, count, run->size * sizeof *own->best_gradient);
    own->step = cso_allocate(context, count, sizeof *own->step);
    own->last_loss = cso_allocate(context, count, sizeof *own->last_loss);
    own->best_at_checkpoint = cso_allocate(context, count, sizeof *own->best_at_checkpoint);
    own->halved = cso_allocate(context, count, 1);
    own->rises = cso_allocate(context, count, sizeof *own->rises);
    own->improved = cso_allocate(context, count, 1);
    own->direction = cso_allocate(context, run->size, sizeof *own->direction);
    if (!own->previous || !own->best_gradient || !own->step || !own->last_loss || !own->best_at_checkpoint ||
        !own->halved || !own->rises || !own->improved || !own->direction) {
        return cso_fail_memory(context, "attack points");
    }
    return CARSO_OK;
}

static void start(cso_search_run *run)
{
    const cso_search *const search = run->search;
    for (int64_t i = 0; search->random_start && i < run->count; i++) {
        const size_t first = (size_t)i * run->size;
        const cso_random stream = {search->seed, search->purpose, search->image_index[i], (uint32_t)run->number};
        cso_ball_random(search->norm, &stream, run->original + first, search->epsilon[i], run->size,
                        run->current + first, run->wanted);
    }
}

/* current: the next point; previous: the one that was current. */
static void move(cso_search_run *run, int64_t i, bool first_step)
{
    apgd *const own = run->own;
    const carso_norm norm = run->search->norm;
    const double epsilon = run->search->epsilon[i];
    const size_t first = (size_t)i * run->size;
    const float *const original = run->original + first;
    float *const current = run->current + first, *const previous = own->previous + first;
    const double *const gradient = run->mean.gradient + first;
    double *const direction = own->direction, *const wanted = run->wanted;

    cso_ball_direction(norm, gradient, run->size, direction);
    for (size_t j = 0; j < run->size; j++) {
        wanted[j] = (double)current[j] + own->step[i] * direction[j];
    }
    if (first_step) {
        memcpy(previous, current, run->size * sizeof *previous);
        cso_ball_project(norm, wanted, original, epsilon, run->size, current);
        return;
    }
    for (size_t j = 0; j < run->size; j++) {
        direction[j] = (double)current[j] + (1.0 - MOMENTUM) * ((double)current[j] - (double)previous[j]);
    }
    memcpy(previous, current, run->size * sizeof *previous);
    cso_ball_project(norm, wanted, original, epsilon, run->size, current); /* z of the paper */
    for (size_t j = 0; j < run->size; j++) {
        wanted[j] = direction[j] + MOMENTUM * ((double)current[j] - (double)previous[j]);
    }
    cso_ball_project(norm, wanted, original, epsilon, run->size, current);
}

/* Halves the step and returns to the best point where few of the steps since the last checkpoint raised the loss, or
 * where neither the step nor the best loss has changed since. */
static void check_step(cso_search_run *run, int64_t i, int steps)
{
    apgd *const own = run->own;
    const bool wanders = own->rises[i] < LEAST_RISING_SHARE * steps;
    const bool stalls = !own->halved[i] && run->best_loss[i] <= own->best_at_checkpoint[i];
    own->rises[i] = 0;
    own->best_at_checkpoint[i] = run->best_loss[i];
    own->halved[i] = wanders || stalls;
    if (!own->halved[i]) {
        return;
    }
    const size_t first = (size_t)i * run->size;
    own->step[i] /= 2.0;
    own->last_loss[i] = run->best_loss[i];
    memcpy(run->current + first, run->best + first, run->size * sizeof *run->current);
    memcpy(run->mean.gradient + first, own->best_gradient + first, run->size * sizeof *own->best_gradient);
}

static carso_status evaluate(cso_search_run *run, bool with_gradient)
{
    apgd *const own = run->own;
    const carso_status status = cso_search_evaluate(run, with_gradient, own->improved);
    for (int64_t i = 0; i < run->count && status == CARSO_OK && with_gradient; i++) {
        if (own->improved[i]) {
            memcpy(own->best_gradient + (size_t)i * run->size, run->mean.gradient + (size_t)i * run->size,
                   run->size * sizeof *own->best_gradient);
        }
    }
    return status;
}

static carso_status apgd_run(cso_search_run *run)
{
    apgd *const own = run->own;
    const int steps = run->search->iterations;
    start(run);
    carso_status status = evaluate(run, steps > 0);
    for (int64_t i = 0; i < run->count; i++) {
        own->step[i] = 2.0 * run->search->epsilon[i];
        own->last_loss[i] = own->best_at_checkpoint[i] = run->best_loss[i];
        own->halved[i] = 0;
        own->rises[i] = 0;
    }
    double last_share = 0.0, share = FIRST_CHECKPOINT;
    int last_checkpoint = 0, checkpoint = (int)ceil(share * steps);
    for (int step = 0; step < steps && status == CARSO_OK; step++) {
        for (int64_t i = 0; i < run->count; i++) {
            if (!run->done[i]) {
                move(run, i, step == 0);
            }
        }
        run->iteration = step + 1;
        status = evaluate(run, step + 1 < steps);
        for (int64_t i = 0; i < run->count && status == CARSO_OK; i++) {
            if (run->done[i]) {
                continue;
            }
            own->rises[i] += run->mean.loss[i] > own->last_loss[i];
            own->last_loss[i] = run->mean.loss[i];
            if (step + 1 == checkpoint && step + 1 < steps) {
                check_step(run, i, checkpoint - last_checkpoint);
            }
        }
        if (step + 1 >= checkpoint) {
            const double next = cso_apgd_next_checkpoint(last_share, share);
            last_share = share;
            share = next;
            last_checkpoint = checkpoint;
            checkpoint = (int)fmax(ceil(share * steps), checkpoint + 1.0);
        }
        if (status == CARSO_OK) {
            status = cso_search_progress(run);
        }
    }
    return status;
}

carso_status cso_apgd_run(const cso_objective *objective, const cso_search *search, const float *images,
                          const int32_t *labels, int64_t count, float *adversarial, const cso_attack_report *report)
{
    static const cso_search_method method = {apgd_open, apgd_close, apgd_run, true, false};
    return cso_search_perform(&method, objective, search, images, labels, count, adversarial, report);
}
