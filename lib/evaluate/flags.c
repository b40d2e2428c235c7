/* SPDX-License-Identifier: BSD-2-Clause */
/* What speaks against believing an evaluation, found in what it knows of its images. */
#include "evaluate/evaluation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attack/course.h"

/* Of the components of a gradient, over attacked images. */
#define ZERO_SHARE 0.5
/* Attacked images whose gradient is as good as zero, at all steps or from one on. */
#define VANISHED_IMAGES 0.01
/* Attacked images whose loss did not rise, or fell again. */
#define FLAT_IMAGES 0.25
/* Of all images, that a difference has to be at least. */
#define LEAST_DIFFERENCE 0.005
/* Relative error of a directional derivative, and the share of checked images with more. */
#define GRADIENT_ERROR 0.2
#define GRADIENT_ERROR_IMAGES 0.25
/* Of the draws' logits, relative to that of the classes'. */
#define ALIKE_SPREAD 0.01
#define RANDOM_SPREAD 1e-3
#define PROBABILITY_IMAGES 0.99

typedef enum flag_id {
    NON_FINITE,
    VANISHING_GRADIENT,
    LOSS_DOES_NOT_RISE,
    ACCURACY_RISES_WITH_EPSILON,
    ACCURACY_RISES_WITH_STEPS,
    NOISE_BEATS_GRADIENT,
    SQUARE_BEATS_GRADIENT,
    TRANSFER_BEATS_WHITE_BOX,
    GUARD_ABOVE_CHANCE,
    GRADIENT_CHECK,
    TOO_FEW_CLASSES,
    RANDOMISED_UNDER_STANDARD,
    DRAWS_ALIKE,
    PROBABILITY_LOGITS,
    OUTSIDE_BALL
} flag_id;

static const struct {
    const char *name, *meaning;
} flags[] = {
    [NON_FINITE] = {"non-finite", "logits, losses or gradients of some images were not finite; an attack stands still there, and the accuracy says "
                                  "nothing about them"},
    [VANISHING_GRADIENT] = {"vanishing-gradient", "gradients were zero or next to it in many components, or on whole images from some step on: the attack had "
                                                  "nothing to follow there, and the accuracy under it is no robustness"},
    [LOSS_DOES_NOT_RISE] = {"loss-does-not-rise", "the attack did not raise the loss of many images, or lost again what it had won: its gradients do not "
                                                  "lead anywhere"},
    [ACCURACY_RISES_WITH_EPSILON] = {"accuracy-rises-with-epsilon", "more is left at a larger epsilon than at a smaller one, whose points are "
                                                                    "allowed there too: the attack at the larger one fails"},
    [ACCURACY_RISES_WITH_STEPS] = {"accuracy-rises-with-steps", "more is left after more steps: they lead astray"},
    [NOISE_BEATS_GRADIENT] = {"noise-beats-gradient", "random points break images that gradients before them did not"},
    [SQUARE_BEATS_GRADIENT] = {"square-beats-gradient", "a search without gradients breaks images that gradients before it did not: they are "
                                                        "masked, or the attacks are too weak"},
    [TRANSFER_BEATS_WHITE_BOX] = {"transfer-beats-white-box", "points made on the classifier alone break images that the defence's own gradients "
                                                              "before them did not"},
    [GUARD_ABOVE_CHANCE] = {"guard-above-chance", "more than chance is left at an epsilon at which any image can become nearly any other: the "
                                                  "attack fails, whatever it reports at smaller ones"},
    [GRADIENT_CHECK] = {"gradient-check", "gradients differ from finite differences of the same loss with the same draws"},
    [TOO_FEW_CLASSES] = {"too-few-classes", "attacks whose loss needs more classes were left out"},
    [RANDOMISED_UNDER_STANDARD] = {"randomised-under-standard", "a randomised defence was attacked with one set of draws a step: each step follows "
                                                                "the draws of the moment; average over more (eot)"},
    [DRAWS_ALIKE] = {"draws-alike", "the defence's draws hardly differ: it is in effect deterministic, and the average over draws is worth nothing; "
                                    "attack it as such"},
    [PROBABILITY_LOGITS] = {"probability-logits", "the logits look like probabilities: losses of them are flat where a model is sure"},
    [OUTSIDE_BALL] = {"outside-ball", "an attack left the ball or the range; its points are not used"},
};

/* Flags being gathered. */
typedef struct gathering {
    const carso_evaluation *evaluation;
    int64_t rows;
    int32_t *vanished, *flat; /* scratch [rows] */
    json_t *array;
    bool failed;
} gathering;

/* cell, attack, step: -1 for none. */
static void raise_flag_from(gathering *work, flag_id id, int cell, int attack, int64_t step, double value,
                            double threshold)
{
    const cso_cell *const planned = cell < 0 ? NULL : &work->evaluation->protocol.cell[cell];
    json_t *const flag = json_pack(
        "{s:s, s:o, s:s?, s:s?, s:o, s:o, s:f, s:s}", "flag", flags[id].name, "cell",
        cell < 0 ? json_null() : json_integer(cell), "section", planned ? planned->section : NULL, "attack",
        planned && attack >= 0 ? planned->attack[attack].name : NULL, "step",
        step < 0 ? json_null() : json_integer(step), "value", isfinite(value) ? json_real(value) : json_null(),
        "threshold", threshold, "meaning", flags[id].meaning);
    work->failed = work->failed || json_array_append_new(work->array, flag) != 0;
}

static void raise_flag(gathering *work, flag_id id, int cell, int attack, double value, double threshold)
{
    raise_flag_from(work, id, cell, attack, -1, value, threshold);
}

/* A sum of differences, in images, that is more than the least worth speaking of and more than their scatter explains. */
typedef struct difference {
    double sum, squares;
} difference;

static void add(difference *sums, double value)
{
    sums->sum += value;
    sums->squares += value * value;
}

static double least(const difference *sums, int64_t rows)
{
    return fmax(LEAST_DIFFERENCE * (double)rows, 2 * sqrt(sums->squares));
}

static bool uses_gradients(const cso_cell *cell, int attack)
{
    const cso_planned_attack *const planned = &cell->attack[attack];
    return planned->family == CSO_FAMILY_WHITE_BOX &&
           (planned->options.method == CARSO_ATTACK_FGSM || planned->options.steps > 0);
}

static int ascending(const void *a, const void *b)
{
    const int32_t first = *(const int32_t *)a, second = *(const int32_t *)b;
    return (first > second) - (first < second);
}

/*
 * Raises a flag where more than a share of the attacked images is concerned, and says from which step on they are more.
 * begin [concerned]: where it begins for each; is sorted.
 */
static bool raise_from_step(gathering *work, flag_id id, int c, int a, int32_t *begin, int64_t concerned,
                            double attacked, double share)
{
    if (!((double)concerned > share * attacked)) {
        return false;
    }
    qsort(begin, (size_t)concerned, sizeof *begin, ascending);
    raise_flag_from(work, id, c, a, begin[(int64_t)(share * attacked)], (double)concerned / attacked, share);
    return true;
}

/*
 * Gradients and losses of one attack that follows them. An image that the attack broke needed no better ones, and at points
 * that are misclassified gradients of a loss that saturates may vanish: weak_gradient and vanished_from leave these out.
 */
static void judge_gradients(gathering *work, int c, int a)
{
    const carso_evaluation *const evaluation = work->evaluation;
    const cso_cell *const planned = &evaluation->protocol.cell[c];
    const cso_cell_columns *const cell = &evaluation->cell[c];
    /* FAB keeps the image itself where its nearest point is too far: no loss has risen then, and none had to. */
    const bool raises = planned->attack[a].options.method < CARSO_ATTACK_FAB;
    double attacked = 0, weak = 0, compared = 0;
    int64_t vanished = 0, flat = 0;
    for (int64_t i = 0; i < work->rows; i++) {
        const int64_t entry = i * planned->attack_count + a;
        const bool stands = cell->attack_selected[entry] > 0;
        if (cell->state[entry] == CSO_STATE_LEFT_OUT) {
            continue;
        }
        attacked++;
        if (!isnan(cell->weak_gradient[entry])) {
            weak += cell->weak_gradient[entry];
            compared++;
        }
        if (stands && (cell->vanished_from[entry] >= 0 || cell->weak_gradient[entry] >= CSO_VANISHED_SHARE)) {
            work->vanished[vanished++] = cell->vanished_from[entry] < 0 ? 0 : cell->vanished_from[entry];
        }
        if (!(cell->last_loss[entry] > cell->first_loss[entry])) {
            work->flat[flat++] = 0;
        } else if (stands && cell->fell_from[entry] >= 0) {
            work->flat[flat++] = cell->fell_from[entry];
        }
    }
    if (attacked == 0) {
        return;
    }
    if (!raise_from_step(work, VANISHING_GRADIENT, c, a, work->vanished, vanished, attacked, VANISHED_IMAGES) && weak > ZERO_SHARE * compared) {
        raise_flag(work, VANISHING_GRADIENT, c, a, weak / compared, ZERO_SHARE);
    }
    if (raises) {
        raise_from_step(work, LOSS_DOES_NOT_RISE, c, a, work->flat, flat, attacked, FLAT_IMAGES);
    }
}

static void judge_attack(gathering *work, int c, int a)
{
    const cso_cell *const planned = &work->evaluation->protocol.cell[c];
    const cso_cell_columns *const cell = &work->evaluation->cell[c];
    double attacked = 0, outside = 0, non_finite = 0;
    for (int64_t i = 0; i < work->rows; i++) {
        const int64_t entry = i * planned->attack_count + a;
        attacked += cell->state[entry] != CSO_STATE_LEFT_OUT;
        outside += cell->state[entry] == CSO_STATE_OUTSIDE;
        non_finite += cell->state[entry] != CSO_STATE_LEFT_OUT && cell->non_finite[entry] != 0;
    }
    if (non_finite > 0) {
        raise_flag(work, NON_FINITE, c, a, non_finite / attacked, 0);
    }
    if (outside > 0) {
        raise_flag(work, OUTSIDE_BALL, c, a, outside / attacked, 0);
    }
    if (uses_gradients(planned, a)) {
        judge_gradients(work, c, a);
    }
}

/* An attack that knows less against the best of those before it that follow gradients, with the same draws. */
static void judge_against_gradients(gathering *work, int c, int a)
{
    static const flag_id id[] = {[CSO_FAMILY_NOISE] = NOISE_BEATS_GRADIENT, [CSO_FAMILY_QUERY] = SQUARE_BEATS_GRADIENT,
                                 [CSO_FAMILY_TRANSFER] = TRANSFER_BEATS_WHITE_BOX};
    const carso_evaluation *const evaluation = work->evaluation;
    const cso_cell *const planned = &evaluation->protocol.cell[c];
    const cso_cell_columns *const cell = &evaluation->cell[c];
    const double repeats = cso_score_repeats(evaluation, planned->objective);
    difference gained = {0};
    if (planned->attack[a].family == CSO_FAMILY_WHITE_BOX) {
        return;
    }
    for (int64_t i = 0; i < work->rows; i++) {
        const int64_t row = i * planned->attack_count;
        int32_t best = -1;
        for (int b = 0; b < a; b++) {
            if (uses_gradients(planned, b) && cell->state[row + b] == CSO_STATE_ATTACKED && (best < 0 || cell->attack_selected[row + b] < best)) {
                best = cell->attack_selected[row + b];
            }
        }
        if (best >= 0 && cell->state[row + a] == CSO_STATE_ATTACKED) {
            add(&gained, (best - cell->attack_selected[row + a]) / repeats);
        }
    }
    if (gained.sum > least(&gained, work->rows)) {
        raise_flag(work, id[planned->attack[a].family], c, a, gained.sum / (double)work->rows,
                   least(&gained, work->rows) / (double)work->rows);
    }
}

/* Whether more is left in cell b than in cell a, which should be the weaker. */
static void judge_order(gathering *work, flag_id id, int a, int b)
{
    const carso_evaluation *const evaluation = work->evaluation;
    const double repeats = cso_score_repeats(evaluation, evaluation->protocol.cell[a].objective);
    difference rise = {0};
    for (int64_t i = 0; i < work->rows; i++) {
        add(&rise, (evaluation->cell[b].score.correct[i] - evaluation->cell[a].score.correct[i]) / repeats);
    }
    if (rise.sum > least(&rise, work->rows)) {
        raise_flag(work, id, b, -1, rise.sum / (double)work->rows, least(&rise, work->rows) / (double)work->rows);
    }
}

static void judge_orders(gathering *work)
{
    const cso_protocol *const protocol = &work->evaluation->protocol;
    for (int a = 0; a < protocol->cell_count; a++) {
        for (int b = 0; b < protocol->cell_count; b++) {
            const cso_cell *const weak = &protocol->cell[a], *const strong = &protocol->cell[b];
            if (weak->role != strong->role || weak->objective != strong->objective || strcmp(weak->section, strong->section) != 0) {
                continue;
            }
            if (weak->epsilon < strong->epsilon && weak->steps == strong->steps) {
                judge_order(work, ACCURACY_RISES_WITH_EPSILON, a, b);
            }
            if (weak->epsilon == strong->epsilon && weak->steps < strong->steps) {
                judge_order(work, ACCURACY_RISES_WITH_STEPS, a, b);
            }
        }
    }
}

static void judge_guard(gathering *work, int c)
{
    const carso_evaluation *const evaluation = work->evaluation;
    const cso_cell *const planned = &evaluation->protocol.cell[c];
    const double chance = 1.0 / evaluation->classes, repeats = cso_score_repeats(evaluation, planned->objective);
    double sum = 0;
    for (int64_t i = 0; i < work->rows; i++) {
        sum += evaluation->cell[c].score.correct[i] / repeats;
    }
    if (planned->role == CSO_ROLE_GUARD && planned->epsilon > 0 && sum / (double)work->rows > chance) {
        raise_flag(work, GUARD_ABOVE_CHANCE, c, -1, sum / (double)work->rows, chance);
    }
}

static double mean_spread(const gathering *work)
{
    const double *const spread = work->evaluation->clean[CARSO_OBJECTIVE_DEFENCE].spread;
    double sum = 0, counted = 0;
    for (int64_t i = 0; spread && i < work->rows; i++) {
        if (isfinite(spread[i])) {
            sum += spread[i];
            counted++;
        }
    }
    return counted > 0 ? sum / counted : NAN;
}

/* Steps that each follow other draws, in all the attacks of a section that follow gradients. */
static void judge_averaging(gathering *work, int c)
{
    const cso_cell *const planned = &work->evaluation->protocol.cell[c];
    const double spread = mean_spread(work);
    int followers = 0, averaging = 0;
    for (int a = 0; a < planned->attack_count; a++) {
        if (uses_gradients(planned, a)) {
            followers++;
            averaging += planned->attack[a].options.eot > 1;
        }
    }
    if (planned->role == CSO_ROLE_PLAIN && planned->objective == CARSO_OBJECTIVE_DEFENCE && planned->epsilon > 0 &&
        followers > 0 && averaging == 0 && spread > RANDOM_SPREAD) {
        raise_flag(work, RANDOMISED_UNDER_STANDARD, c, -1, spread, RANDOM_SPREAD);
    }
}

static void judge_originals(gathering *work, carso_objective objective)
{
    const cso_clean_columns *const clean = &work->evaluation->clean[objective];
    double not_finite = 0, like = 0, checked = 0, wrong = 0;
    for (int64_t i = 0; clean->selected && i < work->rows; i++) {
        not_finite += clean->score.majority[i] < 0;
        like += clean->probability_like[i] != 0;
        checked += !isnan(clean->gradient_error[i]);
        wrong += clean->gradient_error[i] > GRADIENT_ERROR;
    }
    if (not_finite > 0) {
        raise_flag(work, NON_FINITE, -1, -1, not_finite / (double)work->rows, 0);
    }
    if (like / (double)work->rows > PROBABILITY_IMAGES) {
        raise_flag(work, PROBABILITY_LOGITS, -1, -1, like / (double)work->rows, PROBABILITY_IMAGES);
    }
    if (checked > 0 && wrong / checked > GRADIENT_ERROR_IMAGES) {
        raise_flag(work, GRADIENT_CHECK, -1, -1, wrong / checked, GRADIENT_ERROR_IMAGES);
    }
}

static void judge_all(gathering *work)
{
    const carso_evaluation *const evaluation = work->evaluation;
    judge_originals(work, CARSO_OBJECTIVE_CLASSIFIER);
    judge_originals(work, CARSO_OBJECTIVE_DEFENCE);
    if (mean_spread(work) < ALIKE_SPREAD) {
        raise_flag(work, DRAWS_ALIKE, -1, -1, mean_spread(work), ALIKE_SPREAD);
    }
    if (evaluation->protocol.dlr_omitted > 0) {
        raise_flag(work, TOO_FEW_CLASSES, -1, -1, evaluation->protocol.dlr_omitted, 0);
    }
    for (int c = 0; c < evaluation->protocol.cell_count; c++) {
        for (int a = 0; a < evaluation->protocol.cell[c].attack_count; a++) {
            judge_attack(work, c, a);
            judge_against_gradients(work, c, a);
        }
        judge_guard(work, c);
        judge_averaging(work, c);
    }
    judge_orders(work);
}

json_t *cso_evaluation_flags(const carso_evaluation *evaluation)
{
    gathering work = {.evaluation = evaluation, .rows = cso_evaluation_finished_rows(evaluation), .array = json_array()};
    work.vanished = cso_allocate(evaluation->context, (size_t)work.rows, sizeof *work.vanished);
    work.flat = cso_allocate(evaluation->context, (size_t)work.rows, sizeof *work.flat);
    work.failed = !work.array || !work.vanished || !work.flat;
    if (work.rows > 0 && !work.failed) {
        judge_all(&work);
    }
    cso_release(evaluation->context, work.vanished);
    cso_release(evaluation->context, work.flat);
    if (work.failed) {
        json_decref(work.array);
        return NULL;
    }
    return work.array;
}
