/* SPDX-License-Identifier: BSD-2-Clause */
#include "api/attack_options.h"

#include <limits.h>
#include <math.h>

#include "attack/fab.h"
#include "attack/losses.h"
#include "attack/search.h"

#define MOST_STEPS 1000000
#define MOST_DRAWS 65536

void carso_attack_options_init(carso_attack_options *options, size_t size)
{
    const carso_attack_options defaults = {
        .method = CARSO_ATTACK_PGD,
        .objective = CARSO_OBJECTIVE_CLASSIFIER,
        .loss = CARSO_LOSS_CROSS_ENTROPY,
        .steps = 40,
        .epsilon = 8.0 / 255.0,
        .step_size = 0.01,
        .random_start = 1,
        .restarts = 1,
        .draws = 8,
        .eot = 1,
        .norm = CARSO_NORM_LINF,
        .queries = 5000,
        .target_classes = 9,
    };
    cso_options_fill(options, size, &defaults, sizeof defaults);
}

static carso_status check_range(const carso_context *context, const char *name, int32_t value, int32_t low,
                                int32_t high)
{
    if (value >= low && value <= high) {
        return CARSO_OK;
    }
    return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_attack: %s is %d, not in %d to %d", name, value, low,
                    high);
}

static carso_status check_size(const carso_context *context, const char *name, double value)
{
    if (isfinite(value) && value >= 0.0) {
        return CARSO_OK;
    }
    return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                    "carso_attack: %s is %g; a finite number, 0 or larger, is needed", name, value);
}

int cso_attack_target_sets(const carso_model *model, const carso_attack_options *options)
{
    const int others = model->classes - 1;
    return !cso_attack_ranks_targets(options)    ? 1
           : options->target_classes < others ? options->target_classes
                                              : others;
}

/* Runs are numbered by an int, which random starts hang on. */
static carso_status check_runs(const carso_model *model, const carso_attack_options *options)
{
    const int sets = cso_attack_target_sets(model, options);
    int runs;
    if (options->method == CARSO_ATTACK_FGSM || !__builtin_mul_overflow(options->restarts, sets, &runs)) {
        return CARSO_OK;
    }
    return cso_fail(model->context, CARSO_ERROR_INVALID_ARGUMENT,
                    "carso_attack: restarts is %d, towards each of %d target classes; together at most %d runs are done",
                    options->restarts, sets, INT_MAX);
}

/* Draws are numbered in 32 bits: with more of them, some would be used twice. */
static carso_status check_draws(const carso_model *model, const carso_attack_options *options)
{
    const bool searches = options->method >= CARSO_ATTACK_APGD, square = options->method == CARSO_ATTACK_SQUARE;
    const uint64_t steps = options->method == CARSO_ATTACK_FGSM ? 1
                           : square                             ? (uint64_t)options->queries
                                                                : (uint64_t)options->steps;
    const uint64_t evaluations = cso_attack_is_fab(options) ? CSO_FAB_EVALUATIONS(steps) + 2
                                 : searches                 ? CSO_SEARCH_EVALUATIONS(steps)
                                                            : steps + 1;
    const uint64_t runs = options->method == CARSO_ATTACK_FGSM
                              ? 1
                              : (uint64_t)options->restarts * (uint64_t)cso_attack_target_sets(model, options);
    uint64_t total;
    /* One evaluation more, to rank the targets. */
    if (!__builtin_mul_overflow(evaluations * (uint64_t)options->eot, runs, &total) &&
        !__builtin_add_overflow(total, (uint64_t)1, &total) &&
        !__builtin_mul_overflow(total, (uint64_t)options->draws, &total) && total <= UINT32_MAX) {
        return CARSO_OK;
    }
    return cso_fail(model->context, CARSO_ERROR_INVALID_ARGUMENT,
                    "carso_attack: %llu %s with %d evaluations of %d draws, %llu times, need more than the %lu "
                    "draws that an image "
                    "has",
                    (unsigned long long)steps, square ? "queries" : "steps", options->eot, options->draws,
                    (unsigned long long)runs, (unsigned long)UINT32_MAX);
}

static carso_status check_classes(const carso_model *model, const carso_attack_options *options)
{
    const bool targeted = options->targets || options->method == CARSO_ATTACK_APGD_TARGETED;
    if (cso_attack_is_fab(options)) {
        return CARSO_OK; /* it uses a margin */
    }
    const int least = cso_loss_least_classes((carso_loss)options->loss, targeted);
    if (options->loss_function || model->classes >= least) {
        return CARSO_OK;
    }
    return cso_fail(model->context, CARSO_ERROR_UNSUPPORTED,
                    "carso_attack: the %s DLR loss needs %d classes or more, and the model has %d; use a margin or a "
                    "cross-entropy",
                    targeted ? "targeted" : "untargeted", least, model->classes);
}

/* What the method reads; the rest may hold anything. */
static carso_status check_method(const carso_context *context, const carso_attack_options *options)
{
    const bool pgd = options->method == CARSO_ATTACK_PGD, square = options->method == CARSO_ATTACK_SQUARE;
    const bool ranks = cso_attack_ranks_targets(options), fab = cso_attack_is_fab(options);
    carso_status status = CARSO_OK;
    if (options->method == CARSO_ATTACK_FGSM && options->norm != CARSO_NORM_LINF) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "carso_attack: FGSM is an l-infinity attack; for the l2 norm use PGD");
    }
    if (options->method == CARSO_ATTACK_FGSM) {
        return CARSO_OK;
    }
    if ((status = check_range(context, "restarts", options->restarts, 1, MOST_STEPS)) != CARSO_OK) {
        return status;
    }
    if (square) {
        status = check_range(context, "queries", options->queries, 1, MOST_STEPS);
    } else {
        status = check_range(context, "steps", options->steps, 0, MOST_STEPS);
        if (status == CARSO_OK && pgd) {
            status = check_size(context, "step_size", options->step_size);
        }
        if (status == CARSO_OK && pgd) {
            status = check_size(context, "momentum", options->momentum);
        }
        if (status == CARSO_OK && !fab) {
            status = check_range(context, "random_start", options->random_start, 0, 1);
        }
    }
    if (status == CARSO_OK && !pgd) {
        status = check_range(context, "early_stop", options->early_stop, 0, 1);
    }
    if (status == CARSO_OK && ranks) {
        status = check_range(context, "target_classes", options->target_classes, 1, MOST_STEPS);
    }
    if (status == CARSO_OK && (ranks || fab) && options->targets) {
        status = cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                          "carso_attack: targets are given, and %s; use APGD",
                          fab ? "FAB crosses whatever boundary is nearest" : "APGD_TARGETED chooses its own");
    }
    if (status == CARSO_OK && fab && options->loss_function) {
        status = cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                          "carso_attack: loss_function is given, and FAB needs the margin of a class; use APGD");
    }
    return status;
}

carso_status cso_attack_options_check(const carso_model *model, const carso_attack_options *options)
{
    const carso_context *const context = model->context;
    const bool defence = options->objective == CARSO_OBJECTIVE_DEFENCE;
    carso_status status;
    if ((status = check_range(context, "method", options->method, CARSO_ATTACK_FGSM,
                              CARSO_ATTACK_FAB_TARGETED)) !=
            CARSO_OK ||
        (status = check_range(context, "objective", options->objective, CARSO_OBJECTIVE_CLASSIFIER,
                              CARSO_OBJECTIVE_DEFENCE)) != CARSO_OK ||
        (status = check_range(context, "loss", options->loss, CARSO_LOSS_CROSS_ENTROPY, CARSO_LOSS_CARSO_MARGIN)) !=
            CARSO_OK ||
        (status = check_range(context, "norm", options->norm, CARSO_NORM_LINF, CARSO_NORM_L2)) != CARSO_OK ||
        (status = check_size(context, "epsilon", options->epsilon)) != CARSO_OK ||
        (status = check_method(context, options)) != CARSO_OK ||
        (status = check_runs(model, options)) != CARSO_OK ||
        (status = check_classes(model, options)) != CARSO_OK) {
        return status;
    }
    if ((status = check_range(context, "transfer", options->transfer, 0, 1)) != CARSO_OK ||
        (status = check_range(context, "fixed_draws", options->fixed_draws, 0, 1)) != CARSO_OK) {
        return status;
    }
    if (!defence && (options->transfer || options->fixed_draws)) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "carso_attack: %s is 1, and the objective is the classifier alone, which has %s; it is an "
                        "option of attacks on the defence",
                        options->transfer ? "transfer" : "fixed_draws",
                        options->transfer ? "nothing to transfer to" : "no draws");
    }
    if (options->transfer && options->fixed_draws) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "carso_attack: transfer and fixed_draws are 1, and the classifier that transfer attacks has no "
                        "draws");
    }
    if (!defence) {
        return CARSO_OK;
    }
    if (!model->purifier) {
        return cso_fail(context, CARSO_ERROR_UNSUPPORTED,
                        "carso_attack: the objective is the defence, but the model has no purifier; add one with "
                        "carso_model_add_purifier and train it");
    }
    if ((status = check_range(context, "draws", options->draws, 1, MOST_DRAWS)) != CARSO_OK ||
        (status = check_range(context, "eot", options->eot, 1, MOST_STEPS)) != CARSO_OK) {
        return status;
    }
    return check_draws(model, options);
}

int64_t cso_attack_evaluated_steps(const carso_attack_options *options)
{
    return options->method == CARSO_ATTACK_FGSM     ? 2
           : options->method == CARSO_ATTACK_SQUARE ? options->queries
                                                    : (int64_t)options->steps + 1;
}
