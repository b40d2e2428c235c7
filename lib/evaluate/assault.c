/* SPDX-License-Identifier: BSD-2-Clause */
/* One attack on the images of a batch that still stand. */
#include <math.h>
#include <string.h>

#include "api/attack.h"
#include "api/attack_result.h"
#include "evaluate/evaluation.h"

/* The images that still stand, next to each other. */
typedef struct survivors {
    int64_t count;
    int64_t *row;
    uint64_t *key;
    int32_t *label, *correct;
    float *image;
} survivors;

static void survivors_close(const carso_context *context, survivors *held)
{
    cso_release(context, held->row);
    cso_release(context, held->key);
    cso_release(context, held->label);
    cso_release(context, held->correct);
    cso_release(context, held->image);
}

static carso_status survivors_open(const carso_evaluation *evaluation, const cso_unit *unit, survivors *held)
{
    const carso_context *const context = evaluation->context;
    const cso_cell_columns *const cell = &evaluation->cell[unit->cell];
    const size_t count = (size_t)unit->count, size = evaluation->image_size;
    held->row = cso_allocate(context, count, sizeof *held->row);
    held->key = cso_allocate(context, count, sizeof *held->key);
    held->label = cso_allocate(context, count, sizeof *held->label);
    held->correct = cso_allocate(context, count, sizeof *held->correct);
    held->image = cso_allocate_raw(context, count, size * sizeof *held->image);
    if (!held->row || !held->key || !held->label || !held->correct || !held->image) {
        return cso_fail_memory(context, "the attack");
    }
    for (int64_t i = unit->first; i < unit->first + unit->count; i++) {
        if (cell->selected[i] == 0) {
            continue;
        }
        held->row[held->count] = i;
        held->key[held->count] = evaluation->first_image + (uint64_t)evaluation->position[i];
        held->label[held->count] = evaluation->label[i];
        memcpy(held->image + (size_t)held->count * size, evaluation->original + (size_t)i * size,
               size * sizeof *held->image);
        held->count++;
    }
    return CARSO_OK;
}

/* Attacks that share a seed would begin at the same points and meet the same draws. */
static uint64_t attack_seed(const carso_evaluation *evaluation, const cso_unit *unit)
{
    const cso_random stream = {evaluation->seed, CSO_PURPOSE_ATTACK_SEED, (uint64_t)unit->cell, (uint32_t)unit->attack};
    uint32_t word[2];
    cso_random_words(&stream, 0, 2, word);
    return (uint64_t)word[0] << 32 | word[1];
}

static carso_status run(const carso_evaluation *evaluation, const cso_unit *unit, const survivors *held,
                        cso_unit_progress *progress, carso_attack_result **out)
{
    carso_attack_options options = evaluation->protocol.cell[unit->cell].attack[unit->attack].options;
    carso_images images;
    carso_images_init(&images, sizeof images);
    images.data = held->image;
    images.count = (uint64_t)held->count;
    images.height = evaluation->shape[1];
    images.width = evaluation->shape[2];
    images.type = CARSO_PIXEL_FLOAT32;
    images.layout = CARSO_LAYOUT_CHW;
    images.order = evaluation->shape[0] == 1 ? CARSO_ORDER_GRAY : CARSO_ORDER_RGB;
    options.seed = attack_seed(evaluation, unit);
    if (evaluation->protocol.cell[unit->cell].attack[unit->attack].callback) {
        options.loss_function = evaluation->loss_function;
        options.loss_user = evaluation->loss_user;
    }
    options.progress = cso_unit_forward;
    options.progress_user = progress;
    return cso_attack(evaluation->model, &images, held->label, &options, held->key, out);
}

/* Where the attack's point is worse than the one kept, by draws that did not make it, it takes that one's place. */
static void take(carso_evaluation *evaluation, const cso_unit *unit, const survivors *held,
                 const carso_attack_result *result, const uint8_t *inside)
{
    const size_t size = evaluation->image_size;
    const int attacks = evaluation->protocol.cell[unit->cell].attack_count;
    cso_cell_columns *const cell = &evaluation->cell[unit->cell];
    for (int64_t i = 0; i < held->count; i++) {
        const int64_t row = held->row[i], entry = row * attacks + unit->attack;
        cell->state[entry] = inside[i] ? CSO_STATE_ATTACKED : CSO_STATE_OUTSIDE;
        cell->attack_selected[entry] = held->correct[i];
        cell->first_loss[entry] = carso_attack_result_first_loss(result)[i];
        cell->last_loss[entry] = carso_attack_result_last_loss(result)[i];
        cell->zero_gradient[entry] = carso_attack_result_zero_gradient(result)[i];
        cell->tiny_gradient[entry] = carso_attack_result_tiny_gradient(result)[i];
        cell->weak_gradient[entry] = result->weak_gradient[i];
        cell->vanished_from[entry] = result->vanished_from[i];
        cell->fell_from[entry] = result->fell_from[i];
        cell->non_finite[entry] = carso_attack_result_non_finite(result)[i];
        if (inside[i] && held->correct[i] < cell->selected[row]) {
            cell->selected[row] = held->correct[i];
            cell->best[row] = unit->attack;
            memcpy(cell->image + (size_t)row * size, carso_attack_result_images(result) + (size_t)i * size,
                   size * sizeof *cell->image);
        }
    }
}

carso_status cso_evaluation_attack(carso_evaluation *evaluation, const cso_unit *unit, cso_unit_progress *progress)
{
    const carso_context *const context = evaluation->context;
    const cso_cell *const planned = &evaluation->protocol.cell[unit->cell];
    survivors held = {0};
    carso_attack_result *result = NULL;
    uint8_t *inside = NULL;
    carso_status status = survivors_open(evaluation, unit, &held);
    if (status != CARSO_OK || held.count == 0 || !(planned->epsilon > 0)) {
        goto done;
    }
    inside = cso_allocate(context, (size_t)held.count, sizeof *inside);
    status = inside ? run(evaluation, unit, &held, progress, &result) : cso_fail_memory(context, "the attack");
    if (status != CARSO_OK && status != CARSO_ERROR_NON_FINITE) {
        goto done;
    }
    const float *const points = carso_attack_result_images(result);
    for (int64_t i = 0; i < held.count; i++) {
        inside[i] = cso_inside(evaluation, planned->epsilon, held.image + (size_t)i * evaluation->image_size,
                               points + (size_t)i * evaluation->image_size);
    }
    const cso_score_request request = {.objective = planned->objective,
                                       .images = points,
                                       .row = held.row,
                                       .count = held.count,
                                       .purpose = CSO_PURPOSE_SELECTION,
                                       .correct = held.correct,
                                       .progress = progress};
    progress->before += progress->share; /* what follows takes little, and says that it begins */
    progress->share = 0;
    status = cso_score(evaluation, &request);
    if (status == CARSO_OK) {
        take(evaluation, unit, &held, result, inside);
    }

done:
    carso_attack_result_destroy(result);
    cso_release(context, inside);
    survivors_close(context, &held);
    return status;
}
