/* SPDX-License-Identifier: BSD-2-Clause */
#include "attack/objective.h"

#include "attack/losses.h"

static carso_status evaluate_scaled(void *self, const float *images, int64_t count, const uint64_t *image_index,
                                    uint32_t first_draw, const int32_t *labels, double *losses, float *gradient,
                                    int32_t *exponent)
{
    const cso_model_objective *const settings = self;
    cso_loss_request request = {.loss = settings->loss, .labels = labels, .context = settings->model->context};
    const bool defence = settings->kind == CARSO_OBJECTIVE_DEFENCE;
    const cso_run run = {
        .images = images,
        .element = CSO_F32,
        .count = count,
        .draws = defence ? settings->draws : 1,
        .seed = settings->seed,
        .purpose = settings->purpose,
        .image_index = image_index,
        .first_draw = first_draw,
        .function = cso_loss_function,
        .user = &request,
        .losses = losses,
        .gradient = gradient,
        .gradient_exponent = exponent,
    };
    return defence ? cso_run_defence(settings->model, &run) : cso_run_classifier(settings->model, &run);
}

static carso_status evaluate(void *self, const float *images, int64_t count, const uint64_t *image_index,
                             uint32_t first_draw, const int32_t *labels, double *losses, float *gradient)
{
    return evaluate_scaled(self, images, count, image_index, first_draw, labels, losses, gradient, NULL);
}

cso_objective cso_model_objective_create(cso_model_objective *settings)
{
    const carso_model *const model = settings->model;
    return (cso_objective){
        .self = settings,
        .evaluate = evaluate,
        .evaluate_scaled = evaluate_scaled,
        .image_size = (int64_t)model->channels * model->height * model->width,
        .draws = settings->kind == CARSO_OBJECTIVE_DEFENCE ? (uint32_t)settings->draws : 0,
        .context = model->context,
    };
}
