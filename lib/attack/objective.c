/* SPDX-License-Identifier: BSD-2-Clause */
#include "attack/objective.h"

#include "attack/losses.h"

static int between_slices(const carso_progress *progress, void *user)
{
    const cso_query *const query = user;
    return progress->done < progress->total && query->between(query->between_user) != CARSO_OK;
}

static carso_status run_query(void *self, const cso_query *query)
{
    const cso_model_objective *const settings = self;
    cso_loss_request request = {
        .loss = settings->loss,
        .labels = query->labels,
        .images = query->count,
        .context = settings->model->context,
        .targets = query->targets,
        .wrong = query->wrong,
        .wants_target = settings->wants_target,
        .function = settings->loss_function,
        .function_user = settings->loss_user,
        .image_index = query->image_index,
    };
    const bool defence = settings->kind == CARSO_OBJECTIVE_DEFENCE;
    const cso_run run = {
        .images = query->images,
        .element = CSO_F32,
        .count = query->count,
        .draws = defence ? settings->draws : 1,
        .seed = settings->seed,
        .purpose = settings->purpose,
        .image_index = query->image_index,
        .first_draw = query->first_draw,
        .sets = query->sets,
        .function = cso_loss_function,
        .user = &request,
        .losses = query->losses,
        .gradient = query->gradient,
        .gradient_exponent = query->exponent,
        .bad_gradient = query->bad_gradient,
        .progress = query->between ? between_slices : NULL,
        .progress_user = (void *)query,
    };
    return defence ? cso_run_defence(settings->model, &run) : cso_run_classifier(settings->model, &run);
}

static carso_status evaluate(void *self, const float *images, int64_t count, const uint64_t *image_index,
                             uint32_t first_draw, const int32_t *labels, double *losses, float *gradient)
{
    const cso_query query = {.images = images,
                             .count = count,
                             .image_index = image_index,
                             .first_draw = first_draw,
                             .labels = labels,
                             .losses = losses,
                             .gradient = gradient};
    return run_query(self, &query);
}

cso_objective cso_model_objective_create(cso_model_objective *settings)
{
    const carso_model *const model = settings->model;
    return (cso_objective){
        .self = settings,
        .evaluate = evaluate,
        .query = run_query,
        .image_size = (int64_t)model->channels * model->height * model->width,
        .draws = settings->kind == CARSO_OBJECTIVE_DEFENCE ? (uint32_t)settings->draws : 0,
        .takes_sets = settings->kind == CARSO_OBJECTIVE_DEFENCE,
        .context = model->context,
    };
}
