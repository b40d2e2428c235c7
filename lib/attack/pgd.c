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
    const cso_objective *objective;
    const cso_pgd *pgd;
    const float *original;
    const int32_t *labels;
    int64_t count;
    size_t size; /* of an image */
    int steps, restarts, eot;
    bool wants_last_loss;
    float *current; /* points being evaluated */
    float *kept;    /* of this restart: last points whose loss and gradient were finite */
    double *kept_loss;
    double *loss;      /* at current, mean over eot */
    double *part_loss; /* of one evaluation */
    float *gradient;
    double *wanted;   /* [size] */
    double *velocity; /* NULL: no momentum */
    double *sum; /* of gradients, where eot > 1, divided by 2^sum_exponent */
    int32_t *exponent, *sum_exponent;
    uint8_t *stopped;    /* in this restart */
    uint8_t *bad;        /* this evaluation was not finite */
    uint8_t *non_finite; /* at any time */
    double *first_loss, *best_loss;
    uint64_t *zero_count, *component_count;
    uint32_t next_draw;
} attack;

static void attack_close(attack *work)
{
    const carso_context *const context = work->objective->context;
    void *const memory[] = {work->current,      work->kept,      work->kept_loss,  work->loss,
                            work->part_loss,    work->gradient,  work->sum,        work->exponent,
                            work->sum_exponent, work->stopped,   work->bad,        work->non_finite,
                            work->first_loss,   work->best_loss, work->zero_count, work->component_count,
                            work->wanted,       work->velocity};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        cso_release(context, memory[i]);
}

static carso_status attack_open(attack *work)
{
    const carso_context *const context = work->objective->context;
    const size_t count = (size_t)work->count, size = work->size;
    work->current = cso_allocate(context, count, size * sizeof(float));
    work->kept = cso_allocate(context, count, size * sizeof(float));
    work->gradient = cso_allocate(context, count, size * sizeof(float));
    work->sum = cso_allocate(context, work->eot > 1 ? count : 0, size * sizeof(double));
    work->wanted = cso_allocate(context, size, sizeof(double));
    if (work->pgd->momentum > 0.0)
        work->velocity = cso_allocate(context, count, size * sizeof(double));
    work->kept_loss = cso_allocate(context, count, sizeof(double));
    work->loss = cso_allocate(context, count, sizeof(double));
    work->part_loss = cso_allocate(context, count, sizeof(double));
    work->first_loss = cso_allocate(context, count, sizeof(double));
    work->best_loss = cso_allocate(context, count, sizeof(double));
    work->exponent = cso_allocate(context, count, sizeof(int32_t));
    work->sum_exponent = cso_allocate(context, count, sizeof(int32_t));
    work->stopped = cso_allocate(context, count, 1);
    work->bad = cso_allocate(context, count, 1);
    work->non_finite = cso_allocate(context, count, 1);
    work->zero_count = cso_allocate(context, count, sizeof(uint64_t));
    work->component_count = cso_allocate(context, count, sizeof(uint64_t));
    if (!work->wanted || (work->pgd->momentum > 0.0 && !work->velocity))
        return cso_fail_memory(context, "attack points");
    if (!work->current || !work->kept || !work->gradient || !work->sum || !work->kept_loss || !work->loss ||
        !work->part_loss || !work->first_loss || !work->best_loss || !work->exponent || !work->sum_exponent ||
        !work->stopped || !work->bad || !work->non_finite || !work->zero_count || !work->component_count)
        return cso_fail_memory(context, "attack points");
    for (int64_t i = 0; i < work->count; i++)
        work->first_loss[i] = work->best_loss[i] = NAN;
    return CARSO_OK;
}

static void random_start(attack *work, int restart)
{
    const cso_pgd *const pgd = work->pgd;
    for (int64_t i = 0; i < work->count; i++) {
        float *const point = work->current + (size_t)i * work->size;
        const float *const original = work->original + (size_t)i * work->size;
        const cso_random stream = {pgd->seed, pgd->purpose, pgd->image_index[i], (uint32_t)restart};
        cso_ball_random(pgd->norm, &stream, original, pgd->epsilon[i], work->size, point, work->wanted);
    }
}

static carso_status report_progress(const attack *work, int restart, int step)
{
    const cso_pgd *const pgd = work->pgd;
    if (!pgd->progress)
        return CARSO_OK;
    const uint64_t each = work->steps > 0 ? (uint64_t)work->steps : 1;
    const carso_progress progress = {sizeof progress, (uint64_t)restart * each + (uint64_t)step,
                                     (uint64_t)work->restarts * each, "steps"};
    return pgd->progress(&progress, pgd->progress_user) ? CARSO_CANCELLED : CARSO_OK;
}

static bool gradient_finite(const float *gradient, size_t size)
{
    for (size_t j = 0; j < size; j++)
        if (!isfinite(gradient[j]))
            return false;
    return true;
}

/* One evaluation with fresh draws: loss, bad, and the gradient or, where eot > 1, its share of sum. */
static carso_status evaluate_once(attack *work, bool with_gradient, int repeat)
{
    const cso_objective *const objective = work->objective;
    const cso_pgd *const pgd = work->pgd;
    const cso_query query = {
        .images = work->current,
        .count = work->count,
        .image_index = pgd->image_index,
        .first_draw = work->next_draw,
        .labels = work->labels,
        .targets = pgd->targets,
        .losses = work->part_loss,
        .gradient = with_gradient ? work->gradient : NULL,
        .exponent = with_gradient ? work->exponent : NULL,
    };
    const carso_status status = cso_objective_query(objective, &query);
    if (status != CARSO_OK)
        return status;
    work->next_draw += objective->draws;

    for (int64_t i = 0; i < work->count; i++) {
        const float *const gradient = work->gradient + (size_t)i * work->size;
        work->loss[i] += work->part_loss[i] / work->eot;
        if (!isfinite(work->part_loss[i]) || (with_gradient && !gradient_finite(gradient, work->size))) {
            work->bad[i] = 1;
        } else if (with_gradient && work->eot > 1) {
            if (repeat == 0)
                work->sum_exponent[i] = work->exponent[i];
            cso_gradient_add(work->sum + (size_t)i * work->size, &work->sum_exponent[i], gradient, work->exponent[i],
                       work->size);
        }
    }
    return CARSO_OK;
}

/* Loss, and gradient where wanted, at the current points; then these are kept where all was finite. */
static carso_status evaluate(attack *work, bool with_gradient, int restart, int step)
{
    for (int64_t i = 0; i < work->count; i++) {
        work->loss[i] = 0.0;
        work->bad[i] = 0;
    }
    if (with_gradient && work->eot > 1)
        memset(work->sum, 0, (size_t)work->count * work->size * sizeof *work->sum);
    for (int repeat = 0; repeat < work->eot; repeat++) {
        carso_status status = evaluate_once(work, with_gradient, repeat);
        if (status == CARSO_OK && repeat + 1 < work->eot)
            status = report_progress(work, restart, step);
        if (status != CARSO_OK)
            return status;
    }
    const bool first = step == 0;
    for (int64_t i = 0; i < work->count; i++) {
        if (restart == 0 && first)
            work->first_loss[i] = work->loss[i];
        if (work->stopped[i])
            continue;
        float *const point = work->current + (size_t)i * work->size;
        float *const kept = work->kept + (size_t)i * work->size;
        if (work->bad[i]) {
            work->stopped[i] = work->non_finite[i] = 1;
            if (first)
                work->kept_loss[i] = work->loss[i];
            memcpy(point, kept, work->size * sizeof *kept);
        } else {
            memcpy(kept, point, work->size * sizeof *kept);
            work->kept_loss[i] = work->loss[i];
        }
    }
    return CARSO_OK;
}

/* direction: the image's gradient or, with momentum, the decaying sum of them, each divided by its sum of sizes. */
static void find_direction(attack *work, int64_t i, double *direction)
{
    const size_t start = (size_t)i * work->size;
    double whole = 0.0;
    for (size_t j = 0; j < work->size; j++) {
        direction[j] = work->eot > 1 ? work->sum[start + j] : (double)work->gradient[start + j];
        work->zero_count[i] += direction[j] == 0.0;
        whole += fabs(direction[j]);
    }
    work->component_count[i] += work->size;
    if (!work->velocity)
        return;
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
        if (work->stopped[i])
            continue;
        float *const current = work->current + (size_t)i * work->size;
        const double epsilon = pgd->epsilon[i], step = pgd->fgsm ? epsilon : pgd->step_size[i];
        find_direction(work, i, wanted);
        cso_ball_direction(pgd->norm, wanted, work->size, wanted);
        for (size_t j = 0; j < work->size; j++)
            wanted[j] = (double)current[j] + step * wanted[j];
        cso_ball_project(pgd->norm, wanted, work->original + (size_t)i * work->size, epsilon, work->size, current);
    }
}

static carso_status run_restart(attack *work, int restart)
{
    memcpy(work->current, work->original, (size_t)work->count * work->size * sizeof *work->current);
    memcpy(work->kept, work->original, (size_t)work->count * work->size * sizeof *work->kept);
    memset(work->stopped, 0, (size_t)work->count);
    if (work->velocity)
        memset(work->velocity, 0, (size_t)work->count * work->size * sizeof *work->velocity);
    for (int64_t i = 0; i < work->count; i++)
        work->kept_loss[i] = NAN;
    if (work->pgd->random_start && !work->pgd->fgsm)
        random_start(work, restart);

    carso_status status = CARSO_OK;
    for (int step = 0; step < work->steps && status == CARSO_OK; step++) {
        status = evaluate(work, true, restart, step);
        if (status == CARSO_OK) {
            move(work);
            status = report_progress(work, restart, step + 1);
        }
    }
    if (status != CARSO_OK)
        return status;
    if (work->wants_last_loss)
        return evaluate(work, false, restart, work->steps);
    for (int64_t i = 0; i < work->count; i++)
        if (!work->stopped[i])
            memcpy(work->kept + (size_t)i * work->size, work->current + (size_t)i * work->size,
                   work->size * sizeof *work->kept);
    return CARSO_OK;
}

/* Keeps the larger of finite losses, the earlier restart where equal. */
static void merge_restart(attack *work, int restart, float *adversarial)
{
    for (int64_t i = 0; i < work->count; i++) {
        const double loss = work->kept_loss[i], best = work->best_loss[i];
        if (restart > 0 && !(isfinite(loss) && (!isfinite(best) || loss > best)))
            continue;
        work->best_loss[i] = loss;
        memcpy(adversarial + (size_t)i * work->size, work->kept + (size_t)i * work->size,
               work->size * sizeof *adversarial);
    }
}

static carso_status check_finite(const attack *work)
{
    int64_t bad = 0, first = -1;
    for (int64_t i = 0; i < work->count; i++) {
        if (work->non_finite[i] && first < 0)
            first = i;
        bad += work->non_finite[i];
    }
    if (bad == 0)
        return CARSO_OK;
    return cso_fail(
        work->objective->context, CARSO_ERROR_NON_FINITE,
        "a logit, loss or gradient was not finite for %lld of the %lld images attacked, the first being image %llu",
        (long long)bad, (long long)work->count, (unsigned long long)work->pgd->image_index[first]);
}

carso_status cso_pgd_run(const cso_objective *objective, const cso_pgd *pgd, const float *images, const int32_t *labels,
                         int64_t count, float *adversarial, const cso_pgd_report *report)
{
    attack work = {
        .objective = objective,
        .pgd = pgd,
        .original = images,
        .labels = labels,
        .count = count,
        .size = (size_t)objective->image_size,
        .steps = pgd->fgsm ? 1 : pgd->steps,
        .restarts = pgd->fgsm ? 1 : pgd->restarts,
        .eot = pgd->eot > 1 ? pgd->eot : 1,
    };
    if (count <= 0)
        return CARSO_OK;
    work.wants_last_loss =
        work.restarts > 1 || work.steps == 0 || (report && (report->last_loss || report->non_finite));
    carso_status status = attack_open(&work);
    for (int restart = 0; restart < work.restarts && status == CARSO_OK; restart++) {
        status = run_restart(&work, restart);
        if (status == CARSO_OK || status == CARSO_CANCELLED)
            merge_restart(&work, restart, adversarial);
    }
    if (report && (status == CARSO_OK || status == CARSO_CANCELLED)) {
        for (int64_t i = 0; i < count; i++) {
            if (report->first_loss)
                report->first_loss[i] = work.first_loss[i];
            if (report->last_loss)
                report->last_loss[i] = work.best_loss[i];
            if (report->non_finite)
                report->non_finite[i] = work.non_finite[i];
            if (report->zero_gradient)
                report->zero_gradient[i] =
                    work.component_count[i] > 0 ? (double)work.zero_count[i] / (double)work.component_count[i] : 0.0;
        }
    }
    if (status == CARSO_OK)
        status = check_finite(&work);
    attack_close(&work);
    return status;
}
