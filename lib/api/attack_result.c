/* SPDX-License-Identifier: BSD-2-Clause */
#include "api/attack_result.h"

#include <math.h>

/* With more steps, an entry of the result sums up several. */
#define MOST_STEP_RECORDS 1000

carso_status cso_attack_result_allocate(const cso_image_batch *batch, int64_t evaluated_steps, bool has_distance,
                                        carso_attack_result **out)
{
    const size_t count = (size_t)batch->count;
    carso_attack_result *const result = cso_allocate(batch->context, 1, sizeof *result);
    if (!result) {
        return cso_fail_memory(batch->context, "the attack's result");
    }
    *out = result;
    result->context = batch->model->context;
    cso_context_retain(result->context);
    result->count = (uint64_t)count;
    result->images = cso_image_batch_allocate(batch, count, batch->image_size, 1, sizeof *result->images);
    result->first_loss = cso_allocate(batch->context, count, sizeof *result->first_loss);
    result->last_loss = cso_allocate(batch->context, count, sizeof *result->last_loss);
    result->non_finite = cso_allocate(batch->context, count, sizeof *result->non_finite);
    result->zero_gradient = cso_allocate(batch->context, count, sizeof *result->zero_gradient);
    result->tiny_gradient = cso_allocate(batch->context, count, sizeof *result->tiny_gradient);
    result->non_finite_losses = cso_allocate(batch->context, count, sizeof *result->non_finite_losses);
    result->non_finite_gradients = cso_allocate(batch->context, count, sizeof *result->non_finite_gradients);
    result->weak_gradient = cso_allocate(batch->context, count, sizeof *result->weak_gradient);
    result->vanished_from = cso_allocate(batch->context, count, sizeof *result->vanished_from);
    result->fell_from = cso_allocate(batch->context, count, sizeof *result->fell_from);
    if (has_distance) {
        result->distance = cso_allocate(batch->context, count, sizeof *result->distance);
    }
    result->evaluated_steps = evaluated_steps;
    result->step_stride = (result->evaluated_steps + MOST_STEP_RECORDS - 1) / MOST_STEP_RECORDS;
    result->step_count = (result->evaluated_steps + result->step_stride - 1) / result->step_stride;
    result->steps = cso_allocate(batch->context, (size_t)result->step_count, sizeof *result->steps);
    if (!result->images || !result->first_loss || !result->last_loss || !result->non_finite ||
        !result->zero_gradient || !result->tiny_gradient || !result->non_finite_losses ||
        !result->non_finite_gradients || !result->weak_gradient || !result->vanished_from || !result->fell_from ||
        !result->steps || (has_distance && !result->distance)) {
        return cso_fail_memory(batch->context, "the attack's result");
    }
    for (size_t i = 0; i < count; i++) {
        result->first_loss[i] = result->last_loss[i] = NAN; /* of images that a cancelled attack did not reach */
    }
    for (size_t i = 0; has_distance && i < count; i++) {
        result->distance[i] = INFINITY;
    }
    return CARSO_OK;
}

void carso_attack_result_destroy(carso_attack_result *result)
{
    if (!result) {
        return;
    }
    carso_context *const context = result->context;
    cso_release(context, result->images);
    cso_release(context, result->first_loss);
    cso_release(context, result->last_loss);
    cso_release(context, result->non_finite);
    cso_release(context, result->zero_gradient);
    cso_release(context, result->tiny_gradient);
    cso_release(context, result->non_finite_losses);
    cso_release(context, result->non_finite_gradients);
    cso_release(context, result->weak_gradient);
    cso_release(context, result->vanished_from);
    cso_release(context, result->fell_from);
    cso_release(context, result->distance);
    cso_release(context, result->steps);
    cso_release(context, result);
    carso_context_destroy(context);
}

uint64_t carso_attack_result_count(const carso_attack_result *result)
{
    return result ? result->count : 0;
}

const float *carso_attack_result_images(const carso_attack_result *result)
{
    return result ? result->images : NULL;
}

const double *carso_attack_result_first_loss(const carso_attack_result *result)
{
    return result ? result->first_loss : NULL;
}

const double *carso_attack_result_last_loss(const carso_attack_result *result)
{
    return result ? result->last_loss : NULL;
}

const uint8_t *carso_attack_result_non_finite(const carso_attack_result *result)
{
    return result ? result->non_finite : NULL;
}

const double *carso_attack_result_zero_gradient(const carso_attack_result *result)
{
    return result ? result->zero_gradient : NULL;
}

const double *carso_attack_result_tiny_gradient(const carso_attack_result *result)
{
    return result ? result->tiny_gradient : NULL;
}

const uint32_t *carso_attack_result_non_finite_losses(const carso_attack_result *result)
{
    return result ? result->non_finite_losses : NULL;
}

const uint32_t *carso_attack_result_non_finite_gradients(const carso_attack_result *result)
{
    return result ? result->non_finite_gradients : NULL;
}

const double *carso_attack_result_distance(const carso_attack_result *result)
{
    return result ? result->distance : NULL;
}

uint64_t carso_attack_result_step_count(const carso_attack_result *result)
{
    return result ? (uint64_t)result->step_count : 0;
}

carso_status carso_attack_result_get_step(const carso_attack_result *result, uint64_t index,
                                          carso_attack_step *out_step)
{
    const carso_context *const context = result ? result->context : NULL;
    if (!result) {
        return cso_fail_missing(context, "carso_attack_result_get_step", "result");
    }
    if (!out_step) {
        return cso_fail_missing(context, "carso_attack_result_get_step", "out_step");
    }
    if (index >= (uint64_t)result->step_count) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "carso_attack_result_get_step: index is %llu; the result has %lld entries",
                        (unsigned long long)index, (long long)result->step_count);
    }
    const cso_step_record *const record = result->steps + index;
    const uint64_t first = index * (uint64_t)result->step_stride, stride = (uint64_t)result->step_stride;
    const uint64_t rest = (uint64_t)result->evaluated_steps - first, finite = record->evaluations - record->non_finite;
    const carso_attack_step step = {
        .struct_size = sizeof step,
        .first_step = first,
        .steps = rest < stride ? rest : stride,
        .evaluations = record->evaluations,
        .non_finite = record->non_finite,
        .misclassified = record->wrong,
        .gradients = record->gradients,
        .flat_gradients = record->flat,
        .mean_loss = finite > 0 ? record->loss / (double)finite : NAN,
        .zero_gradient = cso_diagnosis_share(record->zero, record->components),
        .tiny_gradient = cso_diagnosis_share(record->tiny, record->components),
    };
    return cso_struct_fill(context, "carso_attack_result_get_step", out_step, &step, sizeof step);
}
