/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * FGSM: Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", 2015.
 * PGD: Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards deep learning models resistant to adversarial attacks", 2018.
 * Momentum: Dong, Liao, Pang, Su, Zhu, Hu, Li, "Boosting adversarial attacks with momentum", 2018.
 * EoT: Athalye, Engstrom, Ilyas, Kwok, "Synthesizing robust adversarial examples", 2018.
 */
#include "attack/pgd.h"

#include <math.h>
#include <string.h>

#include "attack/ball.h"

typedef struct attack {
    const cso_pgd *pgd;
    const float *original;
    int64_t count;
    size_t size; /* of an image */
    int steps, restarts;
    int restart, steps_done; /* for progress */
    bool wants_last_loss;
    cso_mean_query mean; /* at current */
    float *current;      /* points being evaluated */
    float *kept;         /* of this restart: last points whose loss and gradient were finite */
    double *kept_loss;
    double *wanted;      /* [size] */
    double *velocity;    /* NULL: no momentum */
    uint8_t *stopped;    /* in this restart */
    uint8_t *non_finite; /* at any time */
    double *first_loss, *best_loss;
} attack;

static void attack_close(attack *work)
{
    const carso_context *const context = work->mean.objective->context;
    void *const memory[] = {work->current, work->kept,       work->kept_loss,  work->wanted,   work->velocity,
                            work->stopped, work->non_finite, work->first_loss, work->best_loss};
    cso_mean_query_close(&work->mean);
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) {
        cso_release(context, memory[i]);
    }
}

static carso_status attack_open(attack *work)
{
    const carso_context *const context = work->mean.objective->context;
    const size_t count = (size_t)work->count, size = work->size;
    const bool momentum = work->pgd->momentum > 0.0;
    work->current = cso_allocate(context, count, size * sizeof *work->current);
    work->kept = cso_allocate(context, count, size * sizeof *work->kept);
    work->kept_loss = cso_allocate(context, count, sizeof *work->kept_loss);
    work->wanted = cso_allocate(context, size, sizeof *work->wanted);
    if (momentum) {
        work->velocity = cso_allocate(context, count, size * sizeof *work->velocity);
    }
    work->stopped = cso_allocate(context, count, 1);
    work->non_finite = cso_allocate(context, count, 1);
    work->first_loss = cso_allocate(context, count, sizeof *work->first_loss);
    work->best_loss = cso_allocate(context, count, sizeof *work->best_loss);
    if (!work->current || !work->kept || !work->kept_loss || !work->wanted || (momentum && !work->velocity) ||
        !work->stopped || !work->non_finite || !work->first_loss || !work->best_loss) {
        return cso_fail_memory(context, "attack points");
    }
    for (int64_t i = 0; i < work->count; i++) {
        work->first_loss[i] = work->best_loss[i] = NAN;
    }
    return cso_mean_query_open(&work->mean, work->steps > 0);
}

static void random_start(attack *work)
{
    const cso_pgd *const pgd = work->pgd;
    for (int64_t i = 0; i < work->count; i++) {
        float *const point = work->current + (size_t)i * work->size;
        const float *const original = work->original + (size_t)i * work->size;
        const cso_random stream = {pgd->seed, pgd->purpose, pgd->image_index[i], (uint32_t)work->restart};
        cso_ball_random(pgd->norm, &stream, original, pgd->epsilon[i], work->size, point, work->wanted);
    }
}

static carso_status report_progress(void *user)
{
    const attack *const work = user;
    const cso_pgd *const pgd = work->pgd;
    if (!pgd->progress) {
        return CARSO_OK;
    }
    const uint64_t each = work->steps > 0 ? (uint64_t)work->steps : 1;
    const carso_progress progress = {sizeof progress, (uint64_t)work->restart * each + (uint64_t)work->steps_done,
                                     (uint64_t)work->restarts * each, "steps"};
    return pgd->progress(&progress, pgd->progress_user) ? CARSO_CANCELLED : CARSO_OK;
}

/* Loss, and gradient where wanted, at the current points; then these are kept where all was finite. */
static carso_status evaluate(attack *work, bool with_gradient)
{
    const bool first = work->steps_done == 0;
    work->mean.step = work->steps_done;
    const carso_status status =
        cso_mean_query_run(&work->mean, work->current, work->stopped, work->pgd->targets, with_gradient);
    if (status != CARSO_OK) {
        return status;
    }
    for (int64_t i = 0; i < work->count; i++) {
        if (work->stopped[i]) {
            continue;
        }
        if (work->restart == 0 && first && !work->pgd->judge) {
            work->first_loss[i] = work->mean.loss[i];
        }
        float *const point = work->current + (size_t)i * work->size;
        float *const kept = work->kept + (size_t)i * work->size;
        if (work->mean.bad[i]) {
            work->stopped[i] = work->non_finite[i] = 1;
            if (first) {
                work->kept_loss[i] = work->mean.loss[i];
            }
            memcpy(point, kept, work->size * sizeof *kept);
        } else {
            memcpy(kept, point, work->size * sizeof *kept);
            work->kept_loss[i] = work->mean.loss[i];
        }
    }
    return CARSO_OK;
}

/* direction: the image's gradient or, with momentum, the decaying sum of them, each divided by its sum of sizes. */
static void find_direction(attack *work, int64_t i, double *direction)
{
    const size_t start = (size_t)i * work->size;
    const double *const gradient = work->mean.gradient + start;
    double whole = 0.0;
    memcpy(direction, gradient, work->size * sizeof *direction);
    if (!work->velocity) {
        return;
    }
    for (size_t j = 0; j < work->size; j++) {
        whole += fabs(gradient[j]);
    }
    double *const velocity = work->velocity + start;
    for (size_t j = 0; j < work->size; j++) {
        velocity[j] = work->pgd->momentum * velocity[j] + (whole > 0.0 ? direction[j] / whole : 0.0);
        direction[j] = velocity[j];
    }
}

/* x += step * direction, projected; the sign of 0 is 0. */
static void move(attack *work)
{
    const cso_pgd *const pgd = work->pgd;
    double *const wanted = work->wanted;
    for (int64_t i = 0; i < work->count; i++) {
        if (work->stopped[i]) {
            continue;
        }
        float *const current = work->current + (size_t)i * work->size;
        const double epsilon = pgd->epsilon[i], step = pgd->fgsm ? epsilon : pgd->step_size[i];
        find_direction(work, i, wanted);
        cso_ball_direction(pgd->norm, wanted, work->size, wanted);
        for (size_t j = 0; j < work->size; j++) {
            wanted[j] = (double)current[j] + step * wanted[j];
        }
        cso_ball_project(pgd->norm, wanted, work->original + (size_t)i * work->size, epsilon, work->size, current);
    }
}

/* Losses of another objective at the current points. */
static carso_status judge(attack *work)
{
    const cso_pgd *const pgd = work->pgd;
    const carso_status status =
        cso_mean_query_judge(&work->mean, pgd->judge, pgd->judge_eot, work->current, NULL, pgd->targets);
    for (int64_t i = 0; i < work->count && status == CARSO_OK; i++) {
        work->non_finite[i] = work->non_finite[i] || work->mean.bad[i];
    }
    return status;
}

static carso_status judge_start(attack *work)
{
    const carso_status status = judge(work);
    if (status == CARSO_OK) {
        memcpy(work->first_loss, work->mean.loss, (size_t)work->count * sizeof *work->first_loss);
    }
    return status;
}

static void keep_current(attack *work, int64_t i)
{
    memcpy(work->kept + (size_t)i * work->size, work->current + (size_t)i * work->size,
           work->size * sizeof *work->kept);
}

/* Losses that the steps compared are of what was attacked: none that was not judged is reported. */
static carso_status judge_end(attack *work)
{
    const carso_status status = judge(work);
    for (int64_t i = 0; i < work->count && status == CARSO_OK; i++) {
        work->kept_loss[i] = work->mean.bad[i] ? NAN : work->mean.loss[i];
        if (!work->mean.bad[i]) {
            keep_current(work, i);
        }
    }
    return status;
}

static carso_status take_steps(attack *work)
{
    memcpy(work->current, work->original, (size_t)work->count * work->size * sizeof *work->current);
    memcpy(work->kept, work->original, (size_t)work->count * work->size * sizeof *work->kept);
    memset(work->stopped, 0, (size_t)work->count);
    if (work->velocity) {
        memset(work->velocity, 0, (size_t)work->count * work->size * sizeof *work->velocity);
    }
    for (int64_t i = 0; i < work->count; i++) {
        work->kept_loss[i] = NAN;
    }
    if (work->pgd->random_start && !work->pgd->fgsm) {
        random_start(work);
    }
    if (work->pgd->fixed_draws) {
        cso_mean_query_fix_draws(&work->mean);
    }

    work->steps_done = 0;
    carso_status status = work->pgd->judge && work->restart == 0 ? judge_start(work) : CARSO_OK;
    while (work->steps_done < work->steps && status == CARSO_OK) {
        status = evaluate(work, true);
        if (status == CARSO_OK) {
            move(work);
            work->steps_done++;
            status = report_progress(work);
        }
    }
    return status;
}

static carso_status run_restart(attack *work)
{
    carso_status status = take_steps(work);
    work->mean.fixed = false;
    if (work->pgd->judge) {
        if (status == CARSO_OK) {
            status = judge_end(work);
        }
        for (int64_t i = 0; i < work->count && status != CARSO_OK; i++) {
            work->kept_loss[i] = NAN;
        }
    } else if (status == CARSO_OK && work->wants_last_loss) {
        status = evaluate(work, false);
    } else {
        for (int64_t i = 0; i < work->count && status == CARSO_OK; i++) {
            if (!work->stopped[i]) {
                keep_current(work, i);
            }
        }
    }
    cso_diagnosis_end_run(&work->mean.diagnosis);
    return status;
}

/* Keeps the larger of finite losses, the earlier restart where equal. */
static void merge_restart(attack *work, float *adversarial)
{
    for (int64_t i = 0; i < work->count; i++) {
        const double loss = work->kept_loss[i], best = work->best_loss[i];
        if (work->restart > 0 && !(isfinite(loss) && (!isfinite(best) || loss > best))) {
            continue;
        }
        work->best_loss[i] = loss;
        memcpy(adversarial + (size_t)i * work->size, work->kept + (size_t)i * work->size,
               work->size * sizeof *adversarial);
    }
}

carso_status cso_pgd_run(const cso_objective *objective, const cso_pgd *pgd, const float *images, const int32_t *labels,
                         int64_t count, float *adversarial, const cso_attack_report *report)
{
    attack work = {
        .pgd = pgd,
        .original = images,
        .count = count,
        .size = (size_t)objective->image_size,
        .steps = pgd->fgsm ? 1 : pgd->steps,
        .restarts = pgd->fgsm ? 1 : pgd->restarts,
        .mean = {.objective = objective,
                 .image_index = pgd->image_index,
                 .labels = labels,
                 .count = count,
                 .eot = pgd->eot > 1 ? pgd->eot : 1,
                 .judge_eot = pgd->judge ? pgd->judge_eot : 0,
                 .report = report,
                 .between = report_progress,
                 .between_user = &work},
    };
    if (count <= 0) {
        return CARSO_OK;
    }
    work.wants_last_loss =
        work.restarts > 1 || work.steps == 0 || (report && (report->last_loss || report->non_finite));
    carso_status status = attack_open(&work);
    for (; work.restart < work.restarts && status == CARSO_OK; work.restart++) {
        status = run_restart(&work);
        if (cso_keeps_points(status)) {
            merge_restart(&work, adversarial);
        }
    }
    if (report && cso_keeps_points(status)) {
        cso_diagnosis_finish(&work.mean.diagnosis);
        for (int64_t i = 0; i < count; i++) {
            if (report->first_loss) {
                report->first_loss[i] = work.first_loss[i];
            }
            if (report->last_loss) {
                report->last_loss[i] = work.best_loss[i];
            }
            if (report->non_finite) {
                report->non_finite[i] = work.non_finite[i];
            }
        }
    }
    if (status == CARSO_OK) {
        status = cso_diagnosis_check_finite(objective->context, work.non_finite, pgd->image_index, count);
    }
    attack_close(&work);
    return status;
}
