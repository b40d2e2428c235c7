/* SPDX-License-Identifier: BSD-2-Clause */
#include "attack/search.h"

#include <math.h>
#include <string.h>

static void search_close(cso_search_run *run, double *first_loss, double *kept_loss)
{
    const carso_context *const context = run->objective->context;
    void *const memory[] = {run->done,       run->current, run->best,  run->best_loss, run->wanted,
                            run->non_finite, run->broken,  first_loss, kept_loss};
    cso_mean_query_close(&run->mean);
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) {
        cso_release(context, memory[i]);
    }
}

static carso_status search_open(cso_search_run *run, bool with_gradient)
{
    const carso_context *const context = run->objective->context;
    const size_t count = (size_t)run->count;
    run->done = cso_allocate(context, count, 1);
    run->current = cso_allocate(context, count, run->size * sizeof *run->current);
    run->best = cso_allocate(context, count, run->size * sizeof *run->best);
    run->best_loss = cso_allocate(context, count, sizeof *run->best_loss);
    run->wanted = cso_allocate(context, run->size, sizeof *run->wanted);
    run->non_finite = cso_allocate(context, count, 1);
    run->broken = cso_allocate(context, count, 1);
    if (!run->done || !run->current || !run->best || !run->best_loss || !run->wanted || !run->non_finite ||
        !run->broken) {
        return cso_fail_memory(context, "attack points");
    }
    return cso_mean_query_open(&run->mean, with_gradient);
}

static carso_status report_progress(void *user)
{
    const cso_search_run *const run = user;
    const cso_search *const search = run->search;
    if (!search->progress) {
        return CARSO_OK;
    }
    const uint64_t each = search->iterations > 0 ? (uint64_t)search->iterations : 1;
    const uint64_t runs = (uint64_t)search->restarts * (uint64_t)(search->targets ? search->target_sets : 1);
    const carso_progress progress = {sizeof progress, (uint64_t)run->number * each + (uint64_t)run->iteration,
                                     runs * each, search->unit};
    return search->progress(&progress, search->progress_user) ? CARSO_CANCELLED : CARSO_OK;
}

carso_status cso_search_progress(cso_search_run *run)
{
    return report_progress(run);
}

carso_status cso_search_evaluate(cso_search_run *run, bool with_gradient, uint8_t *improved)
{
    run->mean.step = run->iteration;
    const carso_status status = cso_mean_query_run(&run->mean, run->current, run->done, run->targets, with_gradient);
    if (status != CARSO_OK) {
        return status;
    }
    for (int64_t i = 0; i < run->count; i++) {
        if (improved) {
            improved[i] = 0;
        }
        if (run->done[i]) {
            continue;
        }
        if (run->mean.bad[i]) {
            run->done[i] = run->non_finite[i] = 1;
            continue;
        }
        const bool ends = run->search->early_stop && run->mean.wrong[i];
        if (ends) {
            run->done[i] = run->broken[i] = 1;
        }
        if (!ends && run->mean.loss[i] <= run->best_loss[i]) /* not so where there is none yet */ {
            continue;
        }
        run->best_loss[i] = run->mean.loss[i];
        memcpy(run->best + (size_t)i * run->size, run->current + (size_t)i * run->size,
               run->size * sizeof *run->best);
        if (improved) {
            improved[i] = 1;
        }
    }
    return CARSO_OK;
}

static const int32_t *judged_targets(const cso_search_run *run)
{
    return run->search->judged_untargeted ? NULL : run->targets;
}

/* Whether the losses that a run compares are those of what judges, if maybe of other draws. */
static bool judges_itself(const cso_search_run *run)
{
    return !run->search->judge && judged_targets(run) == run->targets;
}

/* The loss of the best points as it is reported. */
static carso_status judge(cso_search_run *run)
{
    const cso_search *const search = run->search;
    if (judges_itself(run) && run->objective->draws == 0) {
        return CARSO_OK;
    }
    for (int64_t i = 0; i < run->count; i++) {
        run->done[i] = isnan(run->best_loss[i]);
    }
    const carso_status status = cso_mean_query_judge(&run->mean, search->judge, search->judge_eot, run->best,
                                                     run->done, judged_targets(run));
    for (int64_t i = 0; i < run->count && status == CARSO_OK; i++) {
        if (run->done[i]) {
            continue;
        }
        run->best_loss[i] = run->mean.bad[i] ? NAN : run->mean.loss[i];
        run->non_finite[i] = run->non_finite[i] || run->mean.bad[i];
    }
    return status;
}

/* first_loss, and images that are to be left alone as they are. */
static carso_status note_first_loss(cso_search_run *run, double *first_loss, double *kept_loss)
{
    const cso_search *const search = run->search;
    carso_status status = cso_mean_query_judge(&run->mean, search->judge, search->judge_eot, run->original, NULL,
                                               judged_targets(run));
    for (int64_t i = 0; i < run->count && status == CARSO_OK; i++) {
        first_loss[i] = run->mean.loss[i];
        run->non_finite[i] = run->mean.bad[i];
        if (!run->mean.bad[i]) {
            kept_loss[i] = first_loss[i];
        }
    }
    if (status == CARSO_OK && search->early_stop && search->judge) {
        status = cso_mean_query_judge(&run->mean, NULL, 0, run->original, NULL, run->targets);
    }
    for (int64_t i = 0; i < run->count && status == CARSO_OK && search->early_stop; i++) {
        run->broken[i] = run->mean.wrong[i] && !run->mean.bad[i];
    }
    return status;
}

static void merge(const cso_search_run *run, bool keeps_latest, const uint8_t *broken_before, double *kept_loss,
                  float *adversarial)
{
    for (int64_t i = 0; i < run->count; i++) {
        if (broken_before[i]) {
            continue;
        }
        const double loss = run->best_loss[i];
        const bool better = isfinite(loss) && (keeps_latest || !isfinite(kept_loss[i]) || loss > kept_loss[i]);
        if (!run->broken[i] && !better) {
            continue;
        }
        kept_loss[i] = loss;
        memcpy(adversarial + (size_t)i * run->size, run->best + (size_t)i * run->size,
               run->size * sizeof *adversarial);
    }
}

static carso_status perform_run(const cso_search_method *method, cso_search_run *run)
{
    const size_t all = (size_t)run->count * run->size * sizeof *run->original;
    memcpy(run->current, run->original, all);
    memcpy(run->best, run->original, all);
    memcpy(run->done, run->broken, (size_t)run->count);
    for (int64_t i = 0; i < run->count; i++) {
        run->best_loss[i] = NAN;
    }
    run->iteration = 0;
    if (run->search->fixed_draws) {
        cso_mean_query_fix_draws(&run->mean);
    }
    const carso_status status = method->run(run);
    cso_diagnosis_end_run(&run->mean.diagnosis);
    return status;
}

static void fill_report(cso_search_run *run, const double *first_loss, const double *kept_loss,
                        const cso_attack_report *report)
{
    cso_diagnosis_finish(&run->mean.diagnosis);
    for (int64_t i = 0; i < run->count; i++) {
        if (report->first_loss) {
            report->first_loss[i] = first_loss[i];
        }
        if (report->last_loss) {
            report->last_loss[i] = kept_loss[i];
        }
        if (report->non_finite) {
            report->non_finite[i] = run->non_finite[i];
        }
        if (report->distance && run->distance) {
            report->distance[i] = run->distance[i];
        }
    }
}

carso_status cso_search_perform(const cso_search_method *method, const cso_objective *objective,
                                const cso_search *search, const float *images, const int32_t *labels, int64_t count,
                                float *adversarial, const cso_attack_report *report)
{
    if (count <= 0) {
        return CARSO_OK;
    }
    const carso_context *const context = objective->context;
    cso_search_run run = {
        .objective = objective,
        .search = search,
        .original = images,
        .count = count,
        .size = (size_t)objective->image_size,
        .mean = {.objective = objective,
                 .image_index = search->image_index,
                 .labels = labels,
                 .count = count,
                 .eot = search->eot > 1 ? search->eot : 1,
                 .judge_eot = search->judge ? search->judge_eot : 0,
                 .report = report,
                 .between = report_progress,
                 .between_user = &run},
    };
    const int runs = search->restarts * (search->targets ? search->target_sets : 1);
    double *const first_loss = cso_allocate(context, (size_t)count, sizeof *first_loss);
    double *const kept_loss = cso_allocate(context, (size_t)count, sizeof *kept_loss);
    uint8_t *const broken_before = cso_allocate(context, (size_t)count, 1);
    carso_status status = search_open(&run, method->wants_gradient);
    if (status == CARSO_OK && (!first_loss || !kept_loss || !broken_before)) {
        status = cso_fail_memory(context, "attack points");
    }
    if (status == CARSO_OK) {
        status = method->open(&run);
    }
    if (status != CARSO_OK) {
        goto done;
    }
    memcpy(adversarial, images, (size_t)count * run.size * sizeof *adversarial);
    for (int64_t i = 0; i < count; i++) {
        first_loss[i] = kept_loss[i] = run.best_loss[i] = NAN; /* so that a run that did not begin has no points */
    }
    for (run.number = 0; run.number < runs && status == CARSO_OK; run.number++) {
        if (search->targets) {
            run.targets = search->targets + (int64_t)(run.number / search->restarts) * count;
        }
        if (run.number == 0) {
            status = note_first_loss(&run, first_loss, kept_loss);
        }
        memcpy(broken_before, run.broken, (size_t)count);
        if (status == CARSO_OK) {
            status = perform_run(method, &run);
        }
        if (status == CARSO_OK) {
            status = judge(&run);
        }
        for (int64_t i = 0; i < count && status != CARSO_OK && !judges_itself(&run); i++) {
            run.best_loss[i] = NAN; /* not judged, and not to be compared with what was */
        }
        if (cso_keeps_points(status)) {
            merge(&run, method->keeps_latest && !search->judge, broken_before, kept_loss, adversarial);
        }
    }
    if (report && cso_keeps_points(status)) {
        fill_report(&run, first_loss, kept_loss, report);
    }
    if (status == CARSO_OK) {
        status = cso_diagnosis_check_finite(objective->context, run.non_finite, search->image_index, count);
    }

done:
    method->close(&run);
    cso_release(context, broken_before);
    search_close(&run, first_loss, kept_loss);
    return status;
}
