/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an evaluation costs, in evaluations of the classifier: what is done, exactly, and what is left, as far as can be
 * known, for images that an attack breaks need no more.
 */
#include "evaluate/evaluation.h"

/* Share of images that stand after the first attack of a section, as long as none has been tried there. */
#define FIRST_SURVIVORS 0.5

double cso_prediction_cost(const carso_model *model, carso_objective objective, int draws)
{
    const double classifier = (double)cso_graph_multiply_adds(model->classifier);
    if (objective == CARSO_OBJECTIVE_CLASSIFIER || !(classifier > 0)) {
        return 1;
    }
    const double condition = (double)cso_graph_multiply_adds(model->purifier->condition);
    const double decoder = (double)cso_graph_multiply_adds(model->purifier->decoder);
    return (condition + draws * (decoder + classifier)) / classifier;
}

/* Of an image, on what scores it. */
static double scoring_cost(const carso_evaluation *evaluation, carso_objective objective)
{
    const int repeats = cso_score_repeats(evaluation, objective);
    return cso_prediction_cost(evaluation->model, objective, evaluation->protocol.draws * repeats);
}

/* Images of the batch that is under way: rows first .. before end, of which the units before within are done. */
typedef struct position {
    int64_t first, end;
    uint64_t within;
} position;

static position find_position(const carso_evaluation *evaluation)
{
    const int64_t rows = evaluation->columns.rows, batches = (rows + evaluation->batch - 1) / evaluation->batch;
    const uint64_t per_batch = cso_evaluation_units(evaluation) / (uint64_t)batches;
    const int64_t first = (int64_t)(evaluation->units_done / per_batch) * evaluation->batch;
    const int64_t end = evaluation->batch < rows - first ? first + evaluation->batch : rows;
    return (position){first < rows ? first : rows, end, evaluation->units_done % per_batch};
}

/* Of the rows on which attack a of cell c is done: how many images it was run on, and how many it broke. */
typedef struct outcome {
    int64_t rows, attacked, broke;
} outcome;

static outcome find_outcome(const carso_evaluation *evaluation, int c, int a, int64_t rows)
{
    const int attacks = evaluation->protocol.cell[c].attack_count;
    const cso_cell_columns *const cell = &evaluation->cell[c];
    outcome found = {.rows = rows};
    for (int64_t entry = a; entry < rows * attacks; entry += attacks) {
        found.attacked += cell->state[entry] != CSO_STATE_LEFT_OUT;
        found.broke += cell->state[entry] == CSO_STATE_ATTACKED && cell->attack_selected[entry] == 0;
    }
    return found;
}

static double standing(const carso_evaluation *evaluation, int c, const position *now)
{
    int64_t count = 0;
    for (int64_t i = now->first; i < now->end; i++) {
        count += evaluation->cell[c].selected[i] != 0;
    }
    return (double)count;
}

/* Adds what the attacks of a cell cost; unit: number, within a batch, of the first. */
static void add_attacks(const carso_evaluation *evaluation, int c, const position *now, uint64_t unit, double *done,
                        double *left)
{
    const cso_cell *const planned = &evaluation->protocol.cell[c];
    const int64_t later = evaluation->columns.rows - (now->within > 0 ? now->end : now->first);
    double stand = now->within > 0 ? standing(evaluation, c, now) : 0, ever = (double)later;
    for (int a = 0; a < planned->attack_count && planned->epsilon > 0; a++) {
        const double cost = planned->attack[a].cost + scoring_cost(evaluation, planned->objective);
        const bool is_done = now->within > unit + (uint64_t)a;
        const outcome seen = find_outcome(evaluation, c, a, is_done ? now->end : now->first);
        *done += cost * (double)seen.attacked;
        /* What becomes of the images of later batches is what became of those before. */
        if (seen.rows > 0) {
            ever = (double)later * (double)seen.attacked / (double)seen.rows;
        }
        *left += cost * (ever + (is_done ? 0 : stand));
        const double survivors = seen.attacked > 0 ? 1 - (double)seen.broke / (double)seen.attacked
                                 : a == 0          ? FIRST_SURVIVORS
                                                   : 1;
        ever *= survivors;
        if (!is_done) {
            stand *= survivors;
        }
    }
}

void cso_evaluation_cost(const carso_evaluation *evaluation, double *out_done, double *out_left)
{
    const position now = find_position(evaluation);
    const int64_t rows = evaluation->columns.rows;
    uint64_t unit = 1;
    double originals = 0, done = 0, left = 0;
    for (int o = 0; o < 2; o++) {
        originals += evaluation->clean[o].selected ? 2 * scoring_cost(evaluation, (carso_objective)o) : 0;
    }
    const int64_t begun = now.within > 0 ? now.end : now.first;
    done += originals * (double)begun;
    left += originals * (double)(rows - begun);
    for (int c = 0; c < evaluation->protocol.cell_count; c++) {
        add_attacks(evaluation, c, &now, unit, &done, &left);
        unit += (uint64_t)evaluation->protocol.cell[c].attack_count;
        const int64_t scored = now.within > unit ? now.end : now.first;
        const double cost = 2 * scoring_cost(evaluation, evaluation->protocol.cell[c].objective);
        done += cost * (double)scored;
        left += cost * (double)(rows - scored);
        unit++;
    }
    *out_done = done;
    *out_left = left;
}

double cso_unit_cost(const carso_evaluation *evaluation, const cso_unit *unit)
{
    const cso_cell *const planned = &evaluation->protocol.cell[unit->cell];
    const position now = find_position(evaluation);
    if (unit->kind == CSO_UNIT_ATTACK) {
        return planned->epsilon > 0
                   ? standing(evaluation, unit->cell, &now) *
                         (planned->attack[unit->attack].cost + scoring_cost(evaluation, planned->objective))
                   : 0;
    }
    double cost = 0;
    for (int o = 0; o < 2; o++) {
        if (unit->kind == CSO_UNIT_ORIGINALS ? evaluation->clean[o].selected != NULL : (int)planned->objective == o) {
            cost += 2 * scoring_cost(evaluation, (carso_objective)o);
        }
    }
    return cost * (double)unit->count;
}
