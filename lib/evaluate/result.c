/* SPDX-License-Identifier: BSD-2-Clause */
/* The result as JSON (docs/robustness.md). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/evaluation.h"

#define PRECISION 10

/* Adding to an object of jansson's takes the value over, on failure too. */
static void set(json_t *object, const char *key, json_t *value, bool *failed)
{
    if (json_object_set_new(object, key, value) != 0) {
        *failed = true;
    }
}

static void append(json_t *array, json_t *value, bool *failed)
{
    if (json_array_append_new(array, value) != 0) {
        *failed = true;
    }
}

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* share: scratch [rows]. */
static json_t *score_json(const carso_evaluation *evaluation, const cso_score_columns *score, carso_objective objective,
                          double *share, bool *failed)
{
    const int64_t rows = cso_evaluation_finished_rows(evaluation);
    const int repeats = cso_score_repeats(evaluation, objective);
    double mean, low, high, majority = 0, worst = 0;
    for (int64_t i = 0; i < rows; i++) {
        share[i] = (double)score->correct[i] / repeats;
        majority += score->majority[i] == evaluation->label[i];
        worst += score->correct[i] == repeats;
    }
    cso_interval(share, rows, repeats, &mean, &low, &high);
    json_t *const object = json_object();
    set(object, "accuracy", number(mean), failed);
    set(object, "low", number(low), failed);
    set(object, "high", number(high), failed);
    set(object, "majority", number(majority / (double)rows), failed);
    set(object, "worst", number(worst / (double)rows), failed);
    set(object, "predictions", json_integer(repeats), failed);
    return object;
}

/* Accuracy of each class; null where there is no image of it. */
static json_t *classes_json(const carso_evaluation *evaluation, const int32_t *correct, carso_objective objective,
                            bool *failed)
{
    const int64_t rows = cso_evaluation_finished_rows(evaluation);
    json_t *const array = json_array();
    double *const sum = cso_allocate(evaluation->context, (size_t)evaluation->classes, 2 * sizeof *sum);
    if (!sum) {
        *failed = true;
        return array;
    }
    for (int64_t i = 0; i < rows; i++) {
        sum[2 * evaluation->label[i]] += correct ? (double)correct[i] / cso_score_repeats(evaluation, objective) : 1;
        sum[2 * evaluation->label[i] + 1]++;
    }
    for (int k = 0; k < evaluation->classes; k++) {
        append(array, correct ? number(sum[2 * k] / sum[2 * k + 1]) : json_integer((json_int_t)sum[2 * k]), failed);
    }
    cso_release(evaluation->context, sum);
    return array;
}

static json_t *clean_json(const carso_evaluation *evaluation, double *share, bool *failed)
{
    const int64_t rows = cso_evaluation_finished_rows(evaluation);
    json_t *const object = json_object();
    for (int o = 0; o < 2; o++) {
        const cso_clean_columns *const clean = &evaluation->clean[o];
        double spread = 0, error = 0, checked = 0;
        if (!clean->selected) {
            continue;
        }
        json_t *const entry = score_json(evaluation, &clean->score, (carso_objective)o, share, failed);
        for (int64_t i = 0; i < rows; i++) {
            spread += clean->spread[i];
            checked += !isnan(clean->gradient_error[i]);
            error += isnan(clean->gradient_error[i]) ? 0 : clean->gradient_error[i];
        }
        if (o == CARSO_OBJECTIVE_DEFENCE) {
            set(entry, "draw_spread", number(spread / (double)rows), failed);
        }
        set(entry, "gradient_error", number(error / checked), failed);
        set(entry, "per_class", classes_json(evaluation, clean->score.correct, (carso_objective)o, failed), failed);
        set(object, cso_objective_names[o], entry, failed);
    }
    return object;
}

/* What one attack did to the images that it was run on. */
static json_t *attack_json(const carso_evaluation *evaluation, int c, int a, bool *failed)
{
    const cso_cell *const planned = &evaluation->protocol.cell[c];
    const cso_cell_columns *const cell = &evaluation->cell[c];
    const int64_t rows = cso_evaluation_finished_rows(evaluation);
    json_int_t attacked = 0, broke = 0, kept = 0, outside = 0, non_finite = 0, rose = 0;
    double first = 0, last = 0, zero = 0, tiny = 0, finite = 0;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t entry = i * planned->attack_count + a;
        if (cell->state[entry] == CSO_STATE_LEFT_OUT) {
            continue;
        }
        attacked++;
        outside += cell->state[entry] == CSO_STATE_OUTSIDE;
        broke += cell->state[entry] == CSO_STATE_ATTACKED && cell->attack_selected[entry] == 0;
        kept += cell->best[i] == a;
        non_finite += cell->non_finite[entry] != 0;
        rose += cell->last_loss[entry] > cell->first_loss[entry];
        zero += cell->zero_gradient[entry];
        tiny += cell->tiny_gradient[entry];
        if (isfinite(cell->first_loss[entry]) && isfinite(cell->last_loss[entry])) {
            finite++;
            first += cell->first_loss[entry];
            last += cell->last_loss[entry];
        }
    }
    json_t *const object = cso_attack_entry_json(&planned->attack[a]);
    set(object, "attacked", json_integer(attacked), failed);
    set(object, "broke", json_integer(broke), failed);
    set(object, "kept", json_integer(kept), failed);
    set(object, "outside", json_integer(outside), failed);
    set(object, "non_finite", json_integer(non_finite), failed);
    set(object, "loss_rose", json_integer(rose), failed);
    set(object, "first_loss", number(first / finite), failed);
    set(object, "last_loss", number(last / finite), failed);
    set(object, "zero_gradient", number(zero / (double)attacked), failed);
    set(object, "tiny_gradient", number(tiny / (double)attacked), failed);
    set(object, "seconds", number(evaluation->seconds[c * (evaluation->most_attacks + 1) + a]), failed);
    return object;
}

static json_t *cell_json(const carso_evaluation *evaluation, int c, double *share, bool *failed)
{
    static const char *const roles[] = {"plain", "guard", "steps"};
    const cso_cell *const planned = &evaluation->protocol.cell[c];
    const cso_cell_columns *const cell = &evaluation->cell[c];
    const int64_t rows = cso_evaluation_finished_rows(evaluation);
    json_t *const object = json_object(), *const attacks = json_array();
    double outside = 0;
    for (int64_t i = 0; i < rows; i++) {
        outside += cell->eight_bit_outside[i] != 0;
    }
    set(object, "section", json_string(planned->section), failed);
    set(object, "role", json_string(roles[planned->role]), failed);
    set(object, "objective", json_string(cso_objective_names[planned->objective]), failed);
    set(object, "epsilon", json_real(planned->epsilon), failed);
    if (planned->role == CSO_ROLE_STEPS) {
        set(object, "steps", json_integer(planned->steps), failed);
    }
    set(object, "score", score_json(evaluation, &cell->score, planned->objective, share, failed), failed);
    json_t *const eight_bit = score_json(evaluation, &cell->eight_bit, planned->objective, share, failed);
    set(eight_bit, "outside", number(outside), failed);
    set(object, "eight_bit", eight_bit, failed);
    set(object, "per_class", classes_json(evaluation, cell->score.correct, planned->objective, failed), failed);
    for (int a = 0; a < planned->attack_count; a++) {
        append(attacks, attack_json(evaluation, c, a, failed), failed);
    }
    set(object, "attacks", attacks, failed);
    set(object, "seconds", number(evaluation->seconds[c * (evaluation->most_attacks + 1) + evaluation->most_attacks]), failed);
    return object;
}

/* As it stands in files, whatever order it was made in. */
static json_t *sorted(const json_t *json)
{
    char *const text = json_dumps(json, JSON_SORT_KEYS);
    json_t *const copy = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    return copy;
}

static json_t *result_json(const carso_evaluation *evaluation, double *share, bool *failed)
{
    json_t *const object = json_object(), *const cells = json_array();
    const int64_t rows = cso_evaluation_finished_rows(evaluation);
    set(object, "images", json_integer((json_int_t)rows), failed);
    set(object, "finished", json_boolean(evaluation->units_done >= cso_evaluation_units(evaluation)), failed);
    set(object, "shard", json_integer(evaluation->shard), failed);
    set(object, "shards", json_integer(evaluation->shards), failed);
    set(object, "flags", cso_evaluation_flags(evaluation), failed);
    set(object, "clean", clean_json(evaluation, share, failed), failed);
    for (int c = 0; c < evaluation->protocol.cell_count; c++) {
        append(cells, cell_json(evaluation, c, share, failed), failed);
    }
    set(object, "cells", cells, failed);
    set(object, "class_names", json_deep_copy(evaluation->class_names), failed);
    set(object, "class_images", classes_json(evaluation, NULL, CARSO_OBJECTIVE_CLASSIFIER, failed), failed);
    set(object, "model_sha256", json_string(evaluation->model_hash), failed);
    set(object, "data_sha256", json_string(evaluation->data_hash), failed);
    set(object, "configuration_sha256", json_string(evaluation->configuration_hash), failed);
    set(object, "configuration", sorted(evaluation->configuration), failed);
    set(object, "commands", json_deep_copy(evaluation->commands), failed);
    return object;
}

const char *carso_evaluation_result(carso_evaluation *evaluation)
{
    if (!evaluation) {
        return NULL;
    }
    carso_context *const context = evaluation->context;
    bool failed = false;
    cso_release(context, evaluation->result);
    evaluation->result = NULL;
    double *const share = cso_allocate(context, (size_t)evaluation->columns.rows, sizeof *share);
    json_t *const json = share ? result_json(evaluation, share, &failed) : NULL;
    char *const text = json && !failed ? json_dumps(json, JSON_REAL_PRECISION(PRECISION) | JSON_PRESERVE_ORDER) : NULL;
    evaluation->result = text ? cso_duplicate_string(context, text) : NULL;
    if (!evaluation->result) {
        cso_fail_memory(context, "the evaluation's result");
    }
    free(text);
    json_decref(json);
    cso_release(context, share);
    return evaluation->result;
}
