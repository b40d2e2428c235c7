/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Croce, Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", 2020, algorithm 1, with
 * its parameters. On an objective with draws, the classes' gradients at a point are of the same draws, and a point is
 * misclassified where its mean margin, of other draws, says so.
 */
#include "attack/fab.h"

#include <math.h>
#include <string.h>

#include "attack/hyperplane.h"

#define MOST_BIAS 0.1      /* alpha_max */
#define OVERSHOOT 1.05     /* eta */
#define BACKWARD_STEP 0.9  /* beta */
#define FINAL_STEPS 3
/* Of the outer margin: what the final search aims at. The paper aims at 0, where rounding lands on either side. */
#define FINAL_MARGIN 0.01

typedef struct fab {
    float *found;         /* nearest misclassified points, at run->distance */
    double *found_margin; /* as it was found: draws may flatter it */
    int32_t *found_class; /* whose boundary was crossed there */
    uint8_t *improved;    /* found in this run */
    /* The boundary that the points are projected onto: normal . (z - current) = -margin. */
    double *normal;
    double *margin;
    double *nearness; /* distance of the boundary from current, by the dual norm */
    int32_t *target;  /* asked for */
    int32_t *nearest; /* class of the boundary */
    uint8_t *skipped; /* in the final search */
    float *inner;     /* final search: the end of the line that is classified as it should be */
    double *inner_margin, *outer_margin;
    cso_breakpoint *breakpoints; /* [size] */
    double *delta, *original_delta; /* [size] */
} fab;

static void fab_close(cso_search_run *run)
{
    const carso_context *const context = run->objective->context;
    fab *const own = run->own;
    cso_release(context, run->distance);
    run->distance = NULL;
    if (!own) {
        return;
    }
    void *const memory[] = {own->found,        own->found_margin, own->found_class, own->improved,
                            own->normal,       own->margin,       own->nearness,    own->target,
                            own->nearest,      own->skipped,      own->inner,       own->inner_margin,
                            own->outer_margin, own->breakpoints,  own->delta,       own->original_delta,
                            own};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) {
        cso_release(context, memory[i]);
    }
}

static carso_status fab_open(cso_search_run *run)
{
    const carso_context *const context = run->objective->context;
    const size_t count = (size_t)run->count;
    fab *const own = cso_allocate(context, 1, sizeof *own);
    run->own = own;
    run->distance = cso_allocate(context, count, sizeof *run->distance);
    if (!own || !run->distance) {
        return cso_fail_memory(context, "attack points");
    }
    own->found = cso_allocate(context, count, run->size * sizeof *own->found);
    own->found_margin = cso_allocate(context, count, sizeof *own->found_margin);
    own->found_class = cso_allocate(context, count, sizeof *own->found_class);
    own->improved = cso_allocate(context, count, 1);
    own->normal = cso_allocate(context, count, run->size * sizeof *own->normal);
    own->margin = cso_allocate(context, count, sizeof *own->margin);
    own->nearness = cso_allocate(context, count, sizeof *own->nearness);
    own->target = cso_allocate(context, count, sizeof *own->target);
    own->nearest = cso_allocate(context, count, sizeof *own->nearest);
    own->skipped = cso_allocate(context, count, 1);
    own->inner = cso_allocate(context, count, run->size * sizeof *own->inner);
    own->inner_margin = cso_allocate(context, count, sizeof *own->inner_margin);
    own->outer_margin = cso_allocate(context, count, sizeof *own->outer_margin);
    own->breakpoints = cso_allocate(context, run->size, sizeof *own->breakpoints);
    own->delta = cso_allocate(context, run->size, sizeof *own->delta);
    own->original_delta = cso_allocate(context, run->size, sizeof *own->original_delta);
    if (!own->found || !own->found_margin || !own->found_class || !own->improved || !own->normal || !own->margin ||
        !own->nearness || !own->target || !own->nearest || !own->skipped || !own->inner || !own->inner_margin ||
        !own->outer_margin || !own->breakpoints || !own->delta || !own->original_delta) {
        return cso_fail_memory(context, "attack points");
    }
    for (size_t i = 0; i < count; i++) {
        run->distance[i] = INFINITY;
    }
    return CARSO_OK;
}

static double distance(const cso_search_run *run, int64_t i, const float *point)
{
    const float *const original = run->original + (size_t)i * run->size;
    const bool l2 = run->search->norm == CARSO_NORM_L2;
    double length = 0.0;
    for (size_t j = 0; j < run->size; j++) {
        const double change = (double)point[j] - (double)original[j];
        length = l2 ? length + change * change : fmax(length, fabs(change));
    }
    return l2 ? sqrt(length) : length;
}

static void keep_nearer(cso_search_run *run, int64_t i, const float *point, double margin)
{
    fab *const own = run->own;
    const double length = distance(run, i, point);
    if (!(length < run->distance[i])) {
        return;
    }
    run->distance[i] = length;
    memcpy(own->found + (size_t)i * run->size, point, run->size * sizeof *point);
    own->found_margin[i] = margin;
    own->found_class[i] = own->nearest[i];
    own->improved[i] = 1;
    if (run->search->early_stop && length <= run->search->epsilon[i]) {
        run->done[i] = run->broken[i] = 1;
    }
}

static void note_non_finite(cso_search_run *run)
{
    for (int64_t i = 0; i < run->count; i++) {
        if (!run->done[i] && run->mean.bad[i]) {
            run->done[i] = run->non_finite[i] = 1;
        }
    }
}

/* The margins of current against all other classes: positive where it is misclassified. */
static carso_status evaluate(cso_search_run *run)
{
    const carso_status status = cso_mean_query_run(&run->mean, run->current, run->done, NULL, false);
    if (status == CARSO_OK) {
        note_non_finite(run);
    }
    return status;
}

/* All runs but the first towards a target start on the sphere of half the distance that is to be beaten. */
static void start(cso_search_run *run)
{
    const cso_search *const search = run->search;
    const bool l2 = search->norm == CARSO_NORM_L2;
    for (int64_t i = 0; i < run->count && run->number % search->restarts > 0; i++) {
        float *const point = run->current + (size_t)i * run->size;
        const float *const original = run->original + (size_t)i * run->size;
        const cso_random stream = {search->seed, search->purpose, search->image_index[i], (uint32_t)run->number};
        double length = 0.0;
        if (l2) {
            cso_random_normal(&stream, 0, run->size, point);
        } else {
            cso_random_uniform(&stream, 0, run->size, point);
        }
        for (size_t j = 0; j < run->size; j++) {
            run->wanted[j] = l2 ? (double)point[j] : 2.0 * (double)point[j] - 1.0;
            length = l2 ? length + run->wanted[j] * run->wanted[j] : fmax(length, fabs(run->wanted[j]));
        }
        length = l2 ? sqrt(length) : length;
        const double radius = fmin(run->distance[i], search->epsilon[i]) / 2.0;
        for (size_t j = 0; j < run->size; j++) {
            const double moved = (double)original[j] + (length > 0.0 ? radius / length * run->wanted[j] : 0.0);
            point[j] = (float)fmin(fmax(moved, 0.0), 1.0);
        }
    }
}

/* Keeps the boundary of the last evaluation where it is nearer than those before. */
static void compare_boundary(cso_search_run *run, int64_t i)
{
    fab *const own = run->own;
    const size_t first = (size_t)i * run->size;
    const double *const gradient = run->mean.gradient + first;
    const bool l2 = run->search->norm == CARSO_NORM_L2;
    double dual = 0.0;
    for (size_t j = 0; j < run->size; j++) {
        dual += l2 ? gradient[j] * gradient[j] : fabs(gradient[j]);
    }
    dual = ldexp(l2 ? sqrt(dual) : dual, run->mean.sum_exponent[i]) / run->mean.eot;
    const double nearness = fabs(run->mean.loss[i]) / dual; /* NaN or infinity where the gradient is 0 */
    if (!(nearness < own->nearness[i])) {
        return;
    }
    own->nearness[i] = nearness;
    own->margin[i] = run->mean.loss[i];
    own->nearest[i] = own->target[i];
    for (size_t j = 0; j < run->size; j++) {
        own->normal[first + j] = ldexp(gradient[j], run->mean.sum_exponent[i]) / run->mean.eot;
    }
}

/* All of the same draws. */
static carso_status find_boundaries(cso_search_run *run)
{
    fab *const own = run->own;
    const cso_search *const search = run->search;
    const int others = run->targets ? 1 : search->classes - 1;
    carso_status status = CARSO_OK;
    for (int64_t i = 0; i < run->count; i++) {
        own->nearness[i] = INFINITY;
    }
    if (!search->fixed_draws) {
        cso_mean_query_fix_draws(&run->mean);
    }
    run->mean.only_gradients = true;
    for (int other = 0; other < others && status == CARSO_OK; other++) {
        for (int64_t i = 0; i < run->count; i++) {
            own->target[i] = run->targets ? run->targets[i] : other + (other >= run->mean.labels[i]);
        }
        status = cso_mean_query_run(&run->mean, run->current, run->done, own->target, true);
        if (status != CARSO_OK) {
            break;
        }
        note_non_finite(run);
        for (int64_t i = 0; i < run->count; i++) {
            if (!run->done[i]) {
                compare_boundary(run, i);
            }
        }
    }
    run->mean.only_gradients = false;
    run->mean.fixed = search->fixed_draws;
    return status;
}

/* Between the projections of current and of the original, both stretched. */
static void move(cso_search_run *run, int64_t i)
{
    fab *const own = run->own;
    const carso_norm norm = run->search->norm;
    const size_t first = (size_t)i * run->size;
    const float *const original = run->original + first;
    float *const current = run->current + first;
    const double *const normal = own->normal + first;
    if (!isfinite(own->nearness[i])) {
        return; /* no gradient leads anywhere */
    }
    double way = 0.0;
    for (size_t j = 0; j < run->size; j++) {
        way += normal[j] * ((double)original[j] - (double)current[j]);
    }
    const double length = cso_hyperplane_project(norm, current, normal, -own->margin[i], run->size, own->breakpoints,
                                                 own->delta);
    const double original_length = cso_hyperplane_project(norm, original, normal, -own->margin[i] - way, run->size,
                                                          own->breakpoints, own->original_delta);
    const double both = length + original_length, bias = both > 0.0 ? fmin(length / both, MOST_BIAS) : 0.0;
    for (size_t j = 0; j < run->size; j++) {
        const double here = (double)current[j] + OVERSHOOT * own->delta[j];
        const double there = (double)original[j] + OVERSHOOT * own->original_delta[j];
        current[j] = (float)fmin(fmax((1.0 - bias) * here + bias * there, 0.0), 1.0);
    }
}

static void step_back(cso_search_run *run, int64_t i)
{
    const size_t first = (size_t)i * run->size;
    float *const current = run->current + first;
    for (size_t j = 0; j < run->size; j++) {
        current[j] = (float)((1.0 - BACKWARD_STEP) * (double)run->original[first + j] +
                             BACKWARD_STEP * (double)current[j]);
    }
}

/* Margins against the class found, of the images whose search goes on. */
static carso_status evaluate_found_class(cso_search_run *run, const float *points, double *margins)
{
    fab *const own = run->own;
    const carso_status status = cso_mean_query_run(&run->mean, points, own->skipped, own->found_class, false);
    for (int64_t i = 0; i < run->count && status == CARSO_OK; i++) {
        if (own->skipped[i]) {
            continue;
        }
        margins[i] = run->mean.loss[i];
        own->skipped[i] = run->mean.bad[i];
        run->non_finite[i] = run->non_finite[i] || run->mean.bad[i];
    }
    return status;
}

/* Of the line from the original to the point found: where it crosses the boundary if the margin is linear along it. */
static carso_status search_line(cso_search_run *run)
{
    fab *const own = run->own;
    double *const margins = own->margin; /* not needed any more */
    for (int64_t i = 0; i < run->count; i++) {
        own->skipped[i] = !own->improved[i] || run->broken[i] || run->distance[i] == 0.0;
    }
    run->mean.step = -1;
    memcpy(own->inner, run->original, (size_t)run->count * run->size * sizeof *own->inner);
    if (!run->search->fixed_draws) {
        cso_mean_query_fix_draws(&run->mean);
    }
    carso_status status = evaluate_found_class(run, own->inner, own->inner_margin);
    if (status == CARSO_OK) {
        status = evaluate_found_class(run, own->found, own->outer_margin);
    }
    for (int step = 0; step < FINAL_STEPS && status == CARSO_OK; step++) {
        for (int64_t i = 0; i < run->count; i++) {
            const double inner = own->inner_margin[i], outer = own->outer_margin[i];
            own->skipped[i] = own->skipped[i] || !(inner < 0.0 && outer > 0.0);
            const size_t first = (size_t)i * run->size;
            const double way = (FINAL_MARGIN * outer - inner) / (outer - inner);
            for (size_t j = first; j < first + run->size && !own->skipped[i]; j++) {
                run->current[j] =
                    (float)((double)own->inner[j] + way * ((double)own->found[j] - (double)own->inner[j]));
            }
        }
        status = evaluate_found_class(run, run->current, margins);
        for (int64_t i = 0; i < run->count && status == CARSO_OK; i++) {
            const size_t first = (size_t)i * run->size;
            if (own->skipped[i]) {
                continue;
            }
            own->nearest[i] = own->found_class[i];
            if (margins[i] > 0.0) {
                own->outer_margin[i] = margins[i];
                keep_nearer(run, i, run->current + first, margins[i]);
            } else {
                own->inner_margin[i] = margins[i];
                memcpy(own->inner + first, run->current + first, run->size * sizeof *own->inner);
            }
        }
    }
    run->mean.fixed = run->search->fixed_draws;
    return status;
}

/* best and its loss: what this run has found, where it may be kept. */
static void hand_over(cso_search_run *run)
{
    fab *const own = run->own;
    for (int64_t i = 0; i < run->count; i++) {
        const size_t first = (size_t)i * run->size;
        if (!own->improved[i] || !(run->distance[i] <= run->search->epsilon[i])) {
            continue;
        }
        run->best_loss[i] = own->found_margin[i];
        memcpy(run->best + first, own->found + first, run->size * sizeof *run->best);
    }
}

static carso_status take_steps(cso_search_run *run)
{
    carso_status status = evaluate(run);
    for (int64_t i = 0; i < run->count && status == CARSO_OK; i++) {
        if (!run->done[i] && run->mean.loss[i] > 0.0) {
            keep_nearer(run, i, run->current + (size_t)i * run->size, run->mean.loss[i]);
        }
        run->done[i] = run->done[i] || run->distance[i] == 0.0;
    }
    for (int step = 0; step < run->search->iterations && status == CARSO_OK; step++) {
        status = find_boundaries(run);
        for (int64_t i = 0; i < run->count && status == CARSO_OK; i++) {
            if (!run->done[i]) {
                move(run, i);
            }
        }
        run->iteration = run->mean.step = step + 1;
        if (status == CARSO_OK) {
            status = evaluate(run);
        }
        for (int64_t i = 0; i < run->count && status == CARSO_OK; i++) {
            if (run->done[i] || !(run->mean.loss[i] > 0.0)) {
                continue;
            }
            keep_nearer(run, i, run->current + (size_t)i * run->size, run->mean.loss[i]);
            step_back(run, i);
        }
        if (status == CARSO_OK) {
            status = cso_search_progress(run);
        }
    }
    return status;
}

static carso_status fab_run(cso_search_run *run)
{
    fab *const own = run->own;
    memset(own->improved, 0, (size_t)run->count);
    for (int64_t i = 0; i < run->count; i++) {
        run->done[i] = run->done[i] || run->distance[i] == 0.0;
    }
    start(run);
    run->mean.step = 0;
    carso_status status = take_steps(run);
    if (status == CARSO_OK) {
        status = search_line(run);
    }
    hand_over(run);
    return status;
}

carso_status cso_fab_run(const cso_objective *objective, const cso_search *search, const float *images,
                         const int32_t *labels, int64_t count, float *adversarial, const cso_attack_report *report)
{
    static const cso_search_method method = {fab_open, fab_close, fab_run, true, true};
    return cso_search_perform(&method, objective, search, images, labels, count, adversarial, report);
}
