/* SPDX-License-Identifier: BSD-2-Clause */
#include "attack/query.h"

#include <math.h>
#include <string.h>

/* Evaluations of one query, at most. */
#define MOST_SETS 256

carso_status cso_objective_query(const cso_objective *objective, const cso_query *query)
{
    if (objective->query) {
        return objective->query(objective->self, query);
    }
    if (query->wrong) {
        memset(query->wrong, 0, (size_t)query->count);
    }
    if (query->gradient && objective->evaluate_scaled) {
        return objective->evaluate_scaled(objective->self, query->images, query->count, query->image_index,
                                          query->first_draw, query->labels, query->losses, query->gradient,
                                          query->exponent);
    }
    if (query->exponent) {
        memset(query->exponent, 0, (size_t)query->count * sizeof *query->exponent);
    }
    return objective->evaluate(objective->self, query->images, query->count, query->image_index, query->first_draw,
                               query->labels, query->losses, query->gradient);
}

void cso_gradient_add(double *sum, int32_t *sum_exponent, const float *gradient, int32_t exponent, size_t size)
{
    double sum_factor = 1.0, factor = 1.0;
    if (exponent > *sum_exponent) {
        sum_factor = ldexp(1.0, *sum_exponent - exponent);
        *sum_exponent = exponent;
    } else {
        factor = ldexp(1.0, exponent - *sum_exponent);
    }
    for (size_t j = 0; j < size; j++) {
        sum[j] = sum[j] * sum_factor + factor * (double)gradient[j];
    }
}

carso_status cso_mean_query_open(cso_mean_query *work, bool with_gradient)
{
    const carso_context *const context = work->objective->context;
    const size_t count = (size_t)work->count, size = (size_t)work->objective->image_size;
    const size_t gradients = with_gradient ? count : 0;
    work->room = work->eot > work->judge_eot ? work->eot : work->judge_eot;
    work->room = work->room < MOST_SETS ? work->room : MOST_SETS;
    const size_t evaluations = count * (size_t)work->room;
    work->loss = cso_allocate(context, count, sizeof *work->loss);
    work->gradient = cso_allocate(context, gradients, size * sizeof *work->gradient);
    work->wrong = cso_allocate(context, count, 1);
    work->bad = cso_allocate(context, count, 1);
    work->packed_images = cso_allocate(context, count, size * sizeof *work->packed_images);
    work->packed_gradient = cso_allocate(context, gradients, size * sizeof *work->packed_gradient);
    work->packed_index = cso_allocate(context, count, sizeof *work->packed_index);
    work->packed_labels = cso_allocate(context, count, sizeof *work->packed_labels);
    work->packed_targets = cso_allocate(context, count, sizeof *work->packed_targets);
    work->packed_exponent = cso_allocate(context, count, sizeof *work->packed_exponent);
    work->sum_exponent = cso_allocate(context, count, sizeof *work->sum_exponent);
    work->packed_loss = cso_allocate(context, evaluations, sizeof *work->packed_loss);
    work->packed_wrong = cso_allocate(context, evaluations, 1);
    work->packed_bad_gradient = cso_allocate(context, with_gradient ? evaluations : 0, 1);
    work->member = cso_allocate(context, count, sizeof *work->member);
    if (!work->loss || !work->gradient || !work->wrong || !work->bad || !work->packed_images ||
        !work->packed_gradient || !work->packed_index || !work->packed_labels || !work->packed_targets ||
        !work->packed_exponent || !work->sum_exponent || !work->packed_loss || !work->packed_wrong ||
        !work->packed_bad_gradient || !work->member) {
        return cso_fail_memory(context, "attack points");
    }
    work->diagnosis = (cso_diagnosis){.count = work->count, .report = work->report};
    return cso_diagnosis_open(&work->diagnosis, context);
}

void cso_mean_query_close(cso_mean_query *work)
{
    const carso_context *const context = work->objective->context;
    void *const memory[] = {
        work->loss,           work->gradient,        work->wrong,        work->bad,          work->packed_images,
        work->packed_gradient, work->packed_index,    work->packed_labels, work->packed_targets,
        work->packed_exponent, work->sum_exponent,    work->packed_loss,  work->packed_wrong,
        work->packed_bad_gradient, work->member};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) {
        cso_release(context, memory[i]);
    }
    cso_diagnosis_close(&work->diagnosis, context);
}

static bool all_finite(const float *values, size_t count)
{
    for (size_t j = 0; j < count; j++) {
        if (!isfinite(values[j])) {
            return false;
        }
    }
    return true;
}

static int64_t pack(cso_mean_query *work, const float *points, const uint8_t *done, const int32_t *targets)
{
    const size_t size = (size_t)work->objective->image_size;
    int64_t count = 0;
    for (int64_t i = 0; i < work->count; i++) {
        if (done && done[i]) {
            continue;
        }
        work->member[count] = i;
        memcpy(work->packed_images + (size_t)count * size, points + (size_t)i * size, size * sizeof *points);
        work->packed_index[count] = work->image_index[i];
        work->packed_labels[count] = work->labels[i];
        if (targets) {
            work->packed_targets[count] = targets[i];
        }
        count++;
    }
    return count;
}

/* Of packed image number packed of count. A gradient that is bad though those of its sets are not counts once. */
static void add_evaluations(cso_mean_query *work, int64_t packed, int64_t count, int sets, bool with_gradient,
                            bool first)
{
    const size_t size = (size_t)work->objective->image_size;
    const int64_t i = work->member[packed];
    const float *const gradient = work->packed_gradient + (size_t)packed * size;
    if (first) {
        work->loss[i] = 0.0;
        work->bad[i] = 0;
        work->wrong[i] = 1;
    }
    uint32_t bad_losses = 0, bad_gradients = 0;
    for (int64_t k = packed; k < count * sets; k += count) {
        work->loss[i] += work->packed_loss[k] / work->eot;
        work->wrong[i] = work->wrong[i] && work->packed_wrong[k];
        bad_losses += !isfinite(work->packed_loss[k]);
        bad_gradients += with_gradient && sets > 1 && work->packed_bad_gradient[k];
    }
    if (with_gradient && bad_gradients == 0) {
        bad_gradients = !all_finite(gradient, size);
    }
    work->diagnosis.image[i].non_finite_losses += bad_losses;
    work->diagnosis.image[i].non_finite_gradients += bad_gradients;
    work->bad[i] = work->bad[i] || bad_losses > 0 || bad_gradients > 0;
    if (!with_gradient || work->bad[i]) {
        return;
    }
    double *const sum = work->gradient + (size_t)i * size;
    if (first) {
        work->sum_exponent[i] = work->packed_exponent[packed];
        memset(sum, 0, size * sizeof *sum);
    }
    cso_gradient_add(sum, &work->sum_exponent[i], gradient, work->packed_exponent[packed], size);
}

/* Of the mean of all evaluations of image i. */
static void diagnose(cso_mean_query *work, int64_t i, bool with_gradient)
{
    const size_t size = (size_t)work->objective->image_size;
    if (!work->only_gradients || work->bad[i]) {
        cso_diagnosis_add_loss(&work->diagnosis, i, work->step, !work->bad[i], work->loss[i], work->wrong[i]);
    }
    if (with_gradient && !work->bad[i]) {
        cso_diagnosis_add_gradient(&work->diagnosis, i, work->step, work->gradient + (size_t)i * size,
                                   work->sum_exponent[i], work->eot, size, work->wrong[i]);
    }
}

carso_status cso_mean_query_run(cso_mean_query *work, const float *points, const uint8_t *done, const int32_t *targets,
                                bool with_gradient)
{
    const int64_t count = pack(work, points, done, targets);
    uint32_t draw = work->fixed ? work->fixed_draw : work->next_draw;
    const int most = work->objective->takes_sets ? work->room : 1;
    for (int finished = 0, sets; count > 0 && finished < work->eot; finished += sets) {
        sets = work->eot - finished < most ? work->eot - finished : most;
        const cso_query query = {
            .images = work->packed_images,
            .count = count,
            .image_index = work->packed_index,
            .first_draw = draw,
            .labels = work->packed_labels,
            .targets = targets ? work->packed_targets : NULL,
            .sets = sets,
            .losses = work->packed_loss,
            .gradient = with_gradient ? work->packed_gradient : NULL,
            .exponent = with_gradient ? work->packed_exponent : NULL,
            .wrong = work->packed_wrong,
            .bad_gradient = with_gradient && sets > 1 ? work->packed_bad_gradient : NULL,
            .between = sets > 1 ? work->between : NULL,
            .between_user = work->between_user,
        };
        carso_status status = cso_objective_query(work->objective, &query);
        if (status != CARSO_OK) {
            return status;
        }
        draw += (uint32_t)sets * work->objective->draws;
        if (!work->fixed) {
            work->next_draw = draw;
        }
        for (int64_t k = 0; k < count; k++) {
            add_evaluations(work, k, count, sets, with_gradient, finished == 0);
        }
        if (finished + sets < work->eot && work->between && (status = work->between(work->between_user)) != CARSO_OK) {
            return status;
        }
    }
    for (int64_t k = 0; k < count && work->step >= 0; k++) {
        diagnose(work, work->member[k], with_gradient);
    }
    return CARSO_OK;
}

void cso_mean_query_fix_draws(cso_mean_query *work)
{
    work->fixed = true;
    work->fixed_draw = work->next_draw;
    work->next_draw += (uint32_t)work->eot * work->objective->draws;
}

carso_status cso_mean_query_judge(cso_mean_query *work, const cso_objective *judge, int eot, const float *points,
                                  const uint8_t *done, const int32_t *targets)
{
    const cso_mean_query attacking = *work;
    if (judge) {
        work->objective = judge;
        work->eot = eot > 1 ? eot : 1;
    }
    work->fixed = false;
    work->step = -1;
    const carso_status status = cso_mean_query_run(work, points, done, targets, false);
    work->objective = attacking.objective;
    work->eot = attacking.eot;
    work->fixed = attacking.fixed;
    work->step = attacking.step;
    return status;
}
