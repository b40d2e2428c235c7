/* SPDX-License-Identifier: BSD-2-Clause */
#include "evaluate/evaluation.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

int64_t cso_evaluation_finished_rows(const carso_evaluation *evaluation)
{
    uint64_t per_batch = 1;
    for (int i = 0; i < evaluation->protocol.cell_count; i++) {
        per_batch += (uint64_t)evaluation->protocol.cell[i].attack_count + 1;
    }
    const uint64_t batches = evaluation->units_done / per_batch;
    const int64_t rows = (int64_t)batches * evaluation->batch;
    return rows < evaluation->columns.rows ? rows : evaluation->columns.rows;
}

uint64_t cso_evaluation_units(const carso_evaluation *evaluation)
{
    uint64_t per_batch = 1;
    for (int i = 0; i < evaluation->protocol.cell_count; i++) {
        per_batch += (uint64_t)evaluation->protocol.cell[i].attack_count + 1;
    }
    return per_batch * (uint64_t)((evaluation->columns.rows + evaluation->batch - 1) / evaluation->batch);
}

cso_unit cso_evaluation_unit(const carso_evaluation *evaluation, uint64_t number)
{
    const cso_protocol *const protocol = &evaluation->protocol;
    const int64_t batches = (evaluation->columns.rows + evaluation->batch - 1) / evaluation->batch;
    const uint64_t per_batch = cso_evaluation_units(evaluation) / (uint64_t)batches;
    const int64_t first = (int64_t)(number / per_batch) * evaluation->batch, left = evaluation->columns.rows - first;
    cso_unit unit = {.kind = CSO_UNIT_ORIGINALS, .first = first, .count = left < evaluation->batch ? left : evaluation->batch};
    uint64_t within = number % per_batch;
    for (int i = 0; within > 0; i++) {
        const cso_cell *const cell = &protocol->cell[i];
        unit.cell = i;
        if (within <= (uint64_t)cell->attack_count) {
            unit.kind = CSO_UNIT_ATTACK;
            unit.attack = (int)within - 1;
            break;
        }
        within -= (uint64_t)cell->attack_count + 1;
        if (within == 0) {
            unit.kind = CSO_UNIT_SCORING;
        }
    }
    return unit;
}

int cso_unit_forward(const carso_progress *progress, void *user)
{
    const cso_unit_progress *const outer = user;
    const double part = progress->total > 0 ? (double)progress->done / (double)progress->total : 0;
    const carso_progress whole = {sizeof whole, (uint64_t)(outer->before + part * outer->share), (uint64_t)ceil(outer->total), "evaluations"};
    return outer->callback ? outer->callback(&whole, outer->user) : 0;
}

static carso_status add_score(carso_evaluation *evaluation, cso_score_columns *score, const char *prefix)
{
    cso_columns *const columns = &evaluation->columns;
    carso_status status =
        cso_columns_add(columns, CSO_TENSOR_I32, 0, NULL, (void **)&score->correct, "%s.correct", prefix);
    if (status == CARSO_OK) {
        status = cso_columns_add(columns, CSO_TENSOR_I32, 0, NULL, (void **)&score->majority, "%s.majority", prefix);
    }
    return status;
}

static carso_status add_clean(carso_evaluation *evaluation, carso_objective objective)
{
    cso_columns *const columns = &evaluation->columns;
    cso_clean_columns *const clean = &evaluation->clean[objective];
    const char *const name = cso_objective_names[objective];
    char prefix[CSO_COLUMN_NAME];
    snprintf(prefix, sizeof prefix, "clean.%s", name);
    carso_status status = add_score(evaluation, &clean->score, prefix);
    if (status == CARSO_OK) {
        status = cso_columns_add(columns, CSO_TENSOR_F64, 0, NULL, (void **)&clean->spread, "clean.%s.spread", name);
    }
    if (status == CARSO_OK) {
        status = cso_columns_add(columns, CSO_TENSOR_U8, 0, NULL, (void **)&clean->probability_like,
                                 "clean.%s.probability_like", name);
    }
    if (status == CARSO_OK) {
        status = cso_columns_add(columns, CSO_TENSOR_F64, 0, NULL, (void **)&clean->gradient_error,
                                 "clean.%s.gradient_error", name);
    }
    if (status == CARSO_OK) {
        status =
            cso_columns_add(columns, CSO_TENSOR_I32, 0, NULL, (void **)&clean->selected, "clean.%s.selected", name);
    }
    return status;
}

static carso_status add_cell(carso_evaluation *evaluation, int number)
{
    cso_columns *const columns = &evaluation->columns;
    cso_cell_columns *const cell = &evaluation->cell[number];
    const int64_t attacks = evaluation->protocol.cell[number].attack_count;
    const int64_t shape[3] = {evaluation->shape[0], evaluation->shape[1], evaluation->shape[2]};
    const struct {
        cso_tensor_type type;
        int rank;
        const int64_t *dimension;
        void **out;
        const char *name;
    } wanted[] = {
        {CSO_TENSOR_F32, 3, shape, (void **)&cell->image, "image"},
        {CSO_TENSOR_I32, 0, NULL, (void **)&cell->best, "best"},
        {CSO_TENSOR_I32, 0, NULL, (void **)&cell->selected, "selected"},
        {CSO_TENSOR_I32, 0, NULL, (void **)&cell->score.correct, "correct"},
        {CSO_TENSOR_I32, 0, NULL, (void **)&cell->score.majority, "majority"},
        {CSO_TENSOR_I32, 0, NULL, (void **)&cell->eight_bit.correct, "eight_bit.correct"},
        {CSO_TENSOR_I32, 0, NULL, (void **)&cell->eight_bit.majority, "eight_bit.majority"},
        {CSO_TENSOR_U8, 0, NULL, (void **)&cell->eight_bit_outside, "eight_bit.outside"},
        {CSO_TENSOR_U8, 1, &attacks, (void **)&cell->state, "attack.state"},
        {CSO_TENSOR_I32, 1, &attacks, (void **)&cell->attack_selected, "attack.selected"},
        {CSO_TENSOR_F64, 1, &attacks, (void **)&cell->first_loss, "attack.first_loss"},
        {CSO_TENSOR_F64, 1, &attacks, (void **)&cell->last_loss, "attack.last_loss"},
        {CSO_TENSOR_F64, 1, &attacks, (void **)&cell->zero_gradient, "attack.zero_gradient"},
        {CSO_TENSOR_F64, 1, &attacks, (void **)&cell->tiny_gradient, "attack.tiny_gradient"},
        {CSO_TENSOR_F64, 1, &attacks, (void **)&cell->weak_gradient, "attack.weak_gradient"},
        {CSO_TENSOR_I32, 1, &attacks, (void **)&cell->vanished_from, "attack.vanished_from"},
        {CSO_TENSOR_I32, 1, &attacks, (void **)&cell->fell_from, "attack.fell_from"},
        {CSO_TENSOR_U8, 1, &attacks, (void **)&cell->non_finite, "attack.non_finite"},
    };
    carso_status status = CARSO_OK;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0] && status == CARSO_OK; i++) {
        status = cso_columns_add(columns, wanted[i].type, wanted[i].rank, wanted[i].dimension, wanted[i].out,
                                 "cell.%d.%s", number, wanted[i].name);
    }
    return status;
}

static carso_status read_configuration(carso_evaluation *evaluation, const char *where)
{
    const json_t *const configuration = evaluation->configuration;
    const json_t *shape;
    int64_t value[8] = {0};
    static const struct {
        const char *key;
        int64_t low, high;
    } wanted[] = {{"images", 1, INT64_MAX / 65536}, {"batch", 1, 65536},      {"classes", 2, 65536},    {"norm", 0, 1},
                  {"aggregation", 0, 2},            {"seed", INT64_MIN, INT64_MAX}, {"first_image", INT64_MIN, INT64_MAX}};
    carso_status status = CARSO_OK;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0] && status == CARSO_OK; i++) {
        status = cso_json_integer(evaluation->context, configuration, wanted[i].key, where, wanted[i].low,
                                  wanted[i].high, &value[i]);
    }
    if (status == CARSO_OK) {
        status = cso_json_array(evaluation->context, configuration, "shape", where, 3, &shape);
    }
    if (status != CARSO_OK) {
        return status;
    }
    evaluation->total = value[0];
    evaluation->batch = (int)value[1];
    evaluation->classes = (int)value[2];
    evaluation->norm = (int)value[3];
    evaluation->aggregation = (int)value[4];
    evaluation->seed = (uint64_t)value[5];
    evaluation->first_image = (uint64_t)value[6];
    evaluation->image_size = 1;
    for (size_t i = 0; i < 3; i++) {
        const int64_t side = json_integer_value(json_array_get(shape, i));
        if (side < 1 || side > 4096) {
            return cso_fail(evaluation->context, CARSO_ERROR_BAD_FORMAT,
                            "%s: \"shape\" is not channels, height and width", where);
        }
        evaluation->shape[i] = (int32_t)side;
        evaluation->image_size *= (size_t)side;
    }
    if (evaluation->columns.rows > evaluation->total) {
        return cso_fail(evaluation->context, CARSO_ERROR_BAD_FORMAT, "%s: more images in a part than in the whole",
                        where);
    }
    return CARSO_OK;
}

carso_status cso_evaluation_prepare(carso_evaluation *evaluation, const char *where)
{
    const cso_protocol *const protocol = &evaluation->protocol;
    cso_columns *const columns = &evaluation->columns;
    carso_status status = read_configuration(evaluation, where);
    if (status != CARSO_OK) {
        return status;
    }
    const int64_t shape[3] = {evaluation->shape[0], evaluation->shape[1], evaluation->shape[2]};
    for (int i = 0; i < protocol->cell_count; i++) {
        if (protocol->cell[i].attack_count > evaluation->most_attacks) {
            evaluation->most_attacks = protocol->cell[i].attack_count;
        }
    }
    columns->context = evaluation->context;
    evaluation->cell = cso_allocate(evaluation->context, (size_t)protocol->cell_count, sizeof *evaluation->cell);
    evaluation->seconds =
        cso_allocate(evaluation->context, (size_t)protocol->cell_count * (size_t)(evaluation->most_attacks + 1),
                     sizeof *evaluation->seconds);
    if (!evaluation->cell || !evaluation->seconds) {
        return cso_fail_memory(evaluation->context, "the evaluation");
    }
    status = cso_columns_add(columns, CSO_TENSOR_I64, 0, NULL, (void **)&evaluation->position, "position");
    if (status == CARSO_OK) {
        status = cso_columns_add(columns, CSO_TENSOR_I32, 0, NULL, (void **)&evaluation->label, "label");
    }
    if (status == CARSO_OK) {
        status = cso_columns_add(columns, CSO_TENSOR_F32, 3, shape, (void **)&evaluation->original, "image");
    }
    for (int i = 0; i < protocol->cell_count && status == CARSO_OK; i++) {
        if (!evaluation->clean[protocol->cell[i].objective].selected) {
            status = add_clean(evaluation, protocol->cell[i].objective);
        }
    }
    for (int i = 0; i < protocol->cell_count && status == CARSO_OK; i++) {
        status = add_cell(evaluation, i);
    }
    return status;
}

void carso_evaluation_destroy(carso_evaluation *evaluation)
{
    if (!evaluation) {
        return;
    }
    carso_context *const context = evaluation->context;
    carso_model_destroy(evaluation->model);
    json_decref(evaluation->configuration);
    json_decref(evaluation->class_names);
    json_decref(evaluation->commands);
    cso_protocol_destroy(&evaluation->protocol);
    cso_columns_destroy(&evaluation->columns);
    cso_release(context, evaluation->cell);
    cso_release(context, evaluation->seconds);
    cso_release(context, evaluation->result);
    cso_release(context, evaluation);
    carso_context_destroy(context);
}

static carso_status take_originals(carso_evaluation *evaluation, const cso_unit *unit, cso_unit_progress *progress)
{
    int64_t *const row = cso_allocate(evaluation->context, (size_t)unit->count, sizeof *row);
    carso_status status = row ? CARSO_OK : cso_fail_memory(evaluation->context, "scoring");
    for (int64_t i = 0; row && i < unit->count; i++) {
        row[i] = unit->first + i;
    }
    for (int o = 0; o < 2 && status == CARSO_OK; o++) {
        const cso_clean_columns *const clean = &evaluation->clean[o];
        if (!clean->selected) {
            continue;
        }
        cso_score_request request = {.objective = (carso_objective)o,
                                     .images = evaluation->original + (size_t)unit->first * evaluation->image_size,
                                     .row = row,
                                     .count = unit->count,
                                     .purpose = CSO_PURPOSE_SELECTION,
                                     .correct = clean->selected + unit->first,
                                     .progress = progress};
        status = cso_score(evaluation, &request);
        request.purpose = CSO_PURPOSE_SCORING;
        request.correct = clean->score.correct + unit->first;
        request.majority = clean->score.majority + unit->first;
        request.spread = clean->spread + unit->first;
        request.probability_like = clean->probability_like + unit->first;
        if (status == CARSO_OK) {
            status = cso_score(evaluation, &request);
        }
        if (status == CARSO_OK) {
            status = cso_gradient_check(evaluation, (carso_objective)o, unit->first, unit->count);
        }
    }
    cso_release(evaluation->context, row);
    if (status != CARSO_OK) {
        return status;
    }
    /* Every cell begins with the originals. */
    for (int c = 0; c < evaluation->protocol.cell_count; c++) {
        const cso_cell_columns *const cell = &evaluation->cell[c];
        const cso_clean_columns *const clean = &evaluation->clean[evaluation->protocol.cell[c].objective];
        const size_t first = (size_t)unit->first, count = (size_t)unit->count, size = evaluation->image_size;
        memcpy(cell->image + first * size, evaluation->original + first * size, count * size * sizeof *cell->image);
        memcpy(cell->selected + first, clean->selected + first, count * sizeof *cell->selected);
        for (size_t i = first; i < first + count; i++) {
            cell->best[i] = -1;
        }
    }
    return CARSO_OK;
}

static carso_status take_scoring(carso_evaluation *evaluation, const cso_unit *unit, cso_unit_progress *progress)
{
    const cso_cell *const planned = &evaluation->protocol.cell[unit->cell];
    const cso_cell_columns *const cell = &evaluation->cell[unit->cell];
    const size_t size = evaluation->image_size, count = (size_t)unit->count, first = (size_t)unit->first;
    int64_t *const row = cso_allocate(evaluation->context, count, sizeof *row);
    float *const rounded = cso_allocate_raw(evaluation->context, count, size * sizeof *rounded);
    carso_status status = row && rounded ? CARSO_OK : cso_fail_memory(evaluation->context, "scoring");
    for (size_t i = 0; status == CARSO_OK && i < count; i++) {
        row[i] = unit->first + (int64_t)i;
        cell->eight_bit_outside[first + i] =
            !cso_eight_bit(evaluation, planned->epsilon, evaluation->original + (first + i) * size,
                           cell->image + (first + i) * size, rounded + i * size);
    }
    cso_score_request request = {.objective = planned->objective,
                                 .images = cell->image + first * size,
                                 .row = row,
                                 .count = unit->count,
                                 .purpose = CSO_PURPOSE_SCORING,
                                 .correct = cell->score.correct + first,
                                 .majority = cell->score.majority + first,
                                 .progress = progress};
    if (status == CARSO_OK) {
        status = cso_score(evaluation, &request);
    }
    request.images = rounded;
    request.correct = cell->eight_bit.correct + first;
    request.majority = cell->eight_bit.majority + first;
    if (status == CARSO_OK) {
        status = cso_score(evaluation, &request);
    }
    cso_release(evaluation->context, row);
    cso_release(evaluation->context, rounded);
    return status;
}

static carso_status take_unit(carso_evaluation *evaluation, const cso_unit *unit, cso_unit_progress *progress)
{
    return unit->kind == CSO_UNIT_ORIGINALS ? take_originals(evaluation, unit, progress)
           : unit->kind == CSO_UNIT_ATTACK  ? cso_evaluation_attack(evaluation, unit, progress)
                                            : take_scoring(evaluation, unit, progress);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

carso_status carso_evaluation_step(carso_evaluation *evaluation, carso_progress_callback callback, void *user,
                                   int32_t *out_finished)
{
    if (!evaluation || !out_finished) {
        return cso_fail_missing(evaluation ? evaluation->context : NULL, "carso_evaluation_step", "out_finished");
    }
    const uint64_t units = cso_evaluation_units(evaluation);
    *out_finished = evaluation->units_done >= units;
    if (*out_finished) {
        return CARSO_OK;
    }
    if (!evaluation->model) {
        return cso_fail(evaluation->context, CARSO_ERROR_UNSUPPORTED,
                        "carso_evaluation_step: the evaluation was opened to look at; create one with the model, and resume it");
    }
    const cso_unit unit = cso_evaluation_unit(evaluation, evaluation->units_done);
    cso_unit_progress progress = {.callback = callback, .user = user};
    if (callback) {
        double left;
        cso_evaluation_cost(evaluation, &progress.before, &left);
        progress.share = cso_unit_cost(evaluation, &unit);
        progress.total = progress.before + left;
    }
    const double started = now();
    const carso_progress at_start = {sizeof at_start, 0, 1, ""};
    if (cso_unit_forward(&at_start, &progress)) {
        return CARSO_CANCELLED;
    }
    const carso_status status = take_unit(evaluation, &unit, &progress);
    if (status != CARSO_OK) {
        return status;
    }
    evaluation->units_done++;
    *out_finished = evaluation->units_done >= units;
    if (unit.kind != CSO_UNIT_ORIGINALS) {
        const int place = unit.kind == CSO_UNIT_ATTACK ? unit.attack : evaluation->most_attacks;
        evaluation->seconds[unit.cell * (evaluation->most_attacks + 1) + place] += now() - started;
    }
    return CARSO_OK;
}

uint64_t carso_evaluation_count(const carso_evaluation *evaluation)
{
    return evaluation ? (uint64_t)cso_evaluation_finished_rows(evaluation) : 0;
}

void carso_evaluation_shape(const carso_evaluation *evaluation, int32_t *out_shape)
{
    for (int i = 0; i < 3 && out_shape; i++) {
        out_shape[i] = evaluation ? evaluation->shape[i] : 0;
    }
}

static bool has_cell(const carso_evaluation *evaluation, int32_t cell)
{
    return evaluation && cell >= 0 && cell < evaluation->protocol.cell_count;
}

const float *carso_evaluation_images(const carso_evaluation *evaluation, int32_t cell)
{
    if (evaluation && cell == -1) {
        return evaluation->original;
    }
    return has_cell(evaluation, cell) ? evaluation->cell[cell].image : NULL;
}

const int64_t *carso_evaluation_positions(const carso_evaluation *evaluation)
{
    return evaluation ? evaluation->position : NULL;
}

const int32_t *carso_evaluation_labels(const carso_evaluation *evaluation)
{
    return evaluation ? evaluation->label : NULL;
}

const int32_t *carso_evaluation_predictions(const carso_evaluation *evaluation, int32_t cell)
{
    if (evaluation && (cell == -1 || cell == -2)) {
        return evaluation->clean[-1 - cell].score.majority;
    }
    return has_cell(evaluation, cell) ? evaluation->cell[cell].score.majority : NULL;
}
