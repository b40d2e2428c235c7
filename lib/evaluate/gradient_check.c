/* SPDX-License-Identifier: BSD-2-Clause */
/* Gradients against finite differences, with the same draws on both sides. */
#include <math.h>
#include <string.h>

#include "attack/objective.h"
#include "evaluate/evaluation.h"

/* Half the distance between the two points, per component: large against the rounding of float, small against kinks. */
#define STEP 1e-3
/* Random directions in which the loss of an image without any gradient is looked at. */
#define DIRECTIONS 4
/* A change of the loss that rounding may make. */
#define FLAT 1e-5

/* One image, its gradient and a point beside it. */
typedef struct checking {
    cso_objective objective;
    cso_model_objective settings;
    float *gradient, *point, *direction;
    const float *original;
    uint64_t key;
    int32_t label;
} checking;

static carso_status loss_at(checking *work, const float *image, float *gradient, int32_t *exponent, double *out)
{
    const cso_query query = {.images = image,
                             .count = 1,
                             .image_index = &work->key,
                             .labels = &work->label,
                             .losses = out,
                             .gradient = gradient,
                             .exponent = exponent};
    return cso_objective_query(&work->objective, &query);
}

/* Per unit of the direction, whose components are 1, 0 or -1. */
static carso_status slope(checking *work, size_t size, double *out)
{
    double loss[2] = {0, 0};
    carso_status status = CARSO_OK;
    for (int side = 0; side < 2 && status == CARSO_OK; side++) {
        for (size_t i = 0; i < size; i++) {
            work->point[i] = (float)((double)work->original[i] + (side ? STEP : -STEP) * (double)work->direction[i]);
        }
        status = loss_at(work, work->point, NULL, NULL, &loss[side]);
    }
    *out = (loss[1] - loss[0]) / (2 * STEP);
    return status;
}

static carso_status check_flat(checking *work, const carso_evaluation *evaluation, double *out)
{
    const size_t size = evaluation->image_size;
    carso_status status = CARSO_OK;
    *out = 0;
    for (uint32_t d = 0; d < DIRECTIONS && status == CARSO_OK; d++) {
        const cso_random stream = {evaluation->seed, CSO_PURPOSE_GRADIENT_CHECK, work->key, d};
        double found;
        cso_random_uniform(&stream, 0, size, work->direction);
        for (size_t i = 0; i < size; i++) {
            work->direction[i] = work->direction[i] < 0.5f ? -1.0f : 1.0f;
        }
        status = slope(work, size, &found);
        if (status == CARSO_OK && !(fabs(found) * STEP <= FLAT)) {
            *out = 1;
        }
    }
    return status;
}

static carso_status check_image(checking *work, const carso_evaluation *evaluation, double *out)
{
    const size_t size = evaluation->image_size;
    int32_t exponent = 0;
    double loss = 0, sum = 0, found;
    carso_status status = loss_at(work, work->original, work->gradient, &exponent, &loss);
    if (status != CARSO_OK) {
        return status;
    }
    for (size_t i = 0; i < size; i++) {
        sum += fabs((double)work->gradient[i]);
        work->direction[i] = work->gradient[i] > 0 ? 1.0f : work->gradient[i] < 0 ? -1.0f : 0.0f;
    }
    if (!isfinite(sum) || !isfinite(loss)) {
        *out = 1;
        return CARSO_OK;
    }
    const double expected = ldexp(sum, exponent);
    if (!(expected > 0)) {
        return check_flat(work, evaluation, out);
    }
    status = slope(work, size, &found);
    const double scale = fmax(fmax(fabs(expected), fabs(found)), FLAT / STEP);
    *out = isfinite(found) ? fmin(1, fabs(expected - found) / scale) : 1;
    return status;
}

/* The first attack that uses gradients of the objective: its loss is what is checked. */
static const cso_planned_attack *find_attack(const cso_protocol *protocol, carso_objective objective)
{
    for (int c = 0; c < protocol->cell_count; c++) {
        for (int a = 0; a < protocol->cell[c].attack_count; a++) {
            const cso_planned_attack *const attack = &protocol->cell[c].attack[a];
            if (attack->family == CSO_FAMILY_WHITE_BOX && attack->options.objective == (int32_t)objective) {
                return attack;
            }
        }
    }
    return NULL;
}

carso_status cso_gradient_check(carso_evaluation *evaluation, carso_objective objective, int64_t first, int64_t count)
{
    const carso_context *const context = evaluation->context;
    const size_t size = evaluation->image_size;
    const cso_planned_attack *const attack = find_attack(&evaluation->protocol, objective);
    double *const error = evaluation->clean[objective].gradient_error;
    for (int64_t i = first; i < first + count; i++) {
        error[i] = NAN;
    }
    if (!attack) {
        return CARSO_OK;
    }
    checking work = {.settings = {.model = evaluation->model,
                                  .kind = objective,
                                  .loss = (carso_loss)attack->options.loss,
                                  .draws = evaluation->protocol.draws,
                                  .seed = evaluation->seed,
                                  .purpose = CSO_PURPOSE_GRADIENT_CHECK,
                                  .loss_function = attack->callback ? evaluation->loss_function : NULL,
                                  .loss_user = evaluation->loss_user}};
    work.objective = cso_model_objective_create(&work.settings);
    work.gradient = cso_allocate(context, size, sizeof *work.gradient);
    work.point = cso_allocate(context, size, sizeof *work.point);
    work.direction = cso_allocate(context, size, sizeof *work.direction);
    carso_status status =
        work.gradient && work.point && work.direction ? CARSO_OK : cso_fail_memory(context, "the gradient check");
    for (int64_t i = first; i < first + count && status == CARSO_OK; i++) {
        if (evaluation->position[i] >= CSO_CHECKED_IMAGES) {
            continue;
        }
        work.original = evaluation->original + (size_t)i * size;
        work.key = evaluation->first_image + (uint64_t)evaluation->position[i];
        work.label = evaluation->label[i];
        status = check_image(&work, evaluation, &error[i]);
    }
    cso_release(context, work.gradient);
    cso_release(context, work.point);
    cso_release(context, work.direction);
    return status;
}
