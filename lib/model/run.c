/* SPDX-License-Identifier: BSD-2-Clause */
#include <math.h>
#include <string.h>

#include "model/run_parts.h"

/* Host buffers of one kind may take this share of the memory limit. */
#define HOST_SHARE 16

size_t cso_run_image_elements(const carso_model *model)
{
    return (size_t)model->channels * (size_t)model->height * (size_t)model->width;
}

int64_t cso_run_host_limit(const carso_model *model, size_t item_size)
{
    return cso_larger(1, (int64_t)(model->context->memory_limit / HOST_SHARE / cso_larger(1, (int64_t)item_size)));
}

carso_status cso_stage_open(carso_model *model, cso_model_program which, int live_stages, int64_t most, cso_stage *out)
{
    *out = (cso_stage){0};
    carso_status status = cso_model_get_program(model, which, &out->program);
    if (status == CARSO_OK) {
        status = cso_program_batch_limit(out->program, &out->limit);
    }
    if (status == CARSO_OK) {
        out->limit = cso_smaller(most, cso_larger(1, out->limit / live_stages));
    }
    return status;
}

void cso_stage_close(cso_stage *used)
{
    if (used->plan) {
        cso_plan_release(used->plan);
    }
    used->plan = NULL;
    used->batch = 0;
}

carso_status cso_stage_plan(cso_stage *used, int64_t batch)
{
    if (used->plan && used->batch == batch) {
        return CARSO_OK;
    }
    cso_stage_close(used);
    const carso_status status = cso_program_acquire(used->program, batch, &used->plan);
    if (status != CARSO_OK) {
        used->plan = NULL;
    } else {
        used->batch = batch;
    }
    return status;
}

carso_status cso_run_report_progress(const cso_run *run, double images_done)
{
    if (!run->progress) {
        return CARSO_OK;
    }
    const carso_progress progress = {sizeof progress, (uint64_t)(images_done + 1e-6), (uint64_t)run->count, "images"};
    return run->progress(&progress, run->progress_user) ? CARSO_CANCELLED : CARSO_OK;
}

carso_status cso_run_fetch_images(const carso_model *model, const cso_run *run, int64_t first, int64_t count,
                                  float *buffer, const void **out)
{
    if (run->images) {
        const size_t bytes = cso_run_image_elements(model) * cso_element_size(run->element);
        *out = (const char *)run->images + (size_t)first * bytes;
        return CARSO_OK;
    }
    *out = buffer;
    return run->source(run->source_user, first, count, buffer);
}

void cso_run_scale_logit_gradient(double *gradient, int64_t draws, int64_t count, int64_t classes, int32_t *exponent)
{
    for (int64_t i = 0; i < count; i++) {
        double largest = 0.0;
        for (int64_t d = 0; d < draws; d++) {
            const double *const row = gradient + (d * count + i) * classes;
            for (int64_t c = 0; c < classes; c++) {
                if (fabs(row[c]) > largest) {
                    largest = fabs(row[c]);
                }
            }
        }
        int power = 0;
        exponent[i] = CSO_NO_EXPONENT;
        if (isfinite(largest) && largest > 0.0) {
            frexp(largest, &power);
            exponent[i] = power;
        }
        for (int64_t d = 0; d < draws && power != 0; d++) {
            double *const row = gradient + (d * count + i) * classes;
            for (int64_t c = 0; c < classes; c++) {
                row[c] = ldexp(row[c], -power);
            }
        }
    }
}

void cso_run_finish_gradient(const carso_model *model, const cso_run *run, int64_t first, int64_t count,
                             const int32_t *exponent)
{
    const size_t size = cso_run_image_elements(model);
    for (int64_t i = 0; i < count; i++) {
        const int32_t power = exponent[i] == CSO_NO_EXPONENT ? 0 : exponent[i];
        const size_t start = (size_t)(first + i) * size;
        if (run->gradient_exponent) {
            run->gradient_exponent[first + i] = power;
        }
        for (size_t j = 0; j < size && power != 0 && !run->gradient_exponent; j++) {
            if (run->element == CSO_F64) {
                ((double *)run->gradient)[start + j] = ldexp(((double *)run->gradient)[start + j], power);
            } else {
                ((float *)run->gradient)[start + j] = ldexpf(((float *)run->gradient)[start + j], power);
            }
        }
    }
}

void *cso_run_gradient_at(const carso_model *model, const cso_run *run, int64_t first)
{
    return (char *)run->gradient + (size_t)first * cso_run_image_elements(model) * cso_element_size(run->element);
}

carso_status cso_run_check(const carso_model *model, const cso_run *run, bool defence)
{
    const carso_context *const context = model->context;
    if (!run->images && (!run->source || run->element != CSO_F32)) {
        return cso_fail(context, CARSO_ERROR_INTERNAL, "a run has neither images nor a source of float images");
    }
    if (run->gradient && !run->function) {
        return cso_fail(context, CARSO_ERROR_INTERNAL, "a run wants a gradient of no function");
    }
    if (!defence && run->sets > 1) {
        return cso_fail(context, CARSO_ERROR_INTERNAL, "a run of the classifier wants %d sets of draws", run->sets);
    }
    if (!defence) {
        return CARSO_OK;
    }
    if (!model->purifier) {
        return cso_fail(context, CARSO_ERROR_UNSUPPORTED,
                        "the model has no purifier; add one with carso_model_add_purifier and train it");
    }
    if (run->draws < 1) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "draws is %d; at least 1 is needed", run->draws);
    }
    if (!run->latents && !run->image_index) {
        return cso_fail(context, CARSO_ERROR_INTERNAL, "a run has neither latents nor image indices");
    }
    return CARSO_OK;
}

carso_status cso_run_classifier(carso_model *model, const cso_run *run)
{
    const carso_context *const context = model->context;
    const size_t size = cso_run_image_elements(model);
    const int64_t classes = model->classes;
    cso_stage classify = {0};
    float *images = NULL;
    double *logits = NULL, *logit_gradient = NULL;
    int32_t *exponent = NULL;

    carso_status status = cso_run_check(model, run, false);
    if (status != CARSO_OK || run->count <= 0) {
        return status;
    }
    status = cso_stage_open(model, run->gradient ? CSO_PROGRAM_CLASSIFY_GRADIENT : CSO_PROGRAM_CLASSIFY, 1,
                            CSO_RUN_IMAGES, &classify);
    if (status != CARSO_OK) {
        return status;
    }
    const int64_t most = cso_smaller(classify.limit, cso_run_host_limit(model, size * sizeof(double)));
    const int64_t chunk = cso_smaller(run->count, most);

    logits = cso_allocate(context, (size_t)chunk, (size_t)classes * sizeof *logits);
    logit_gradient = cso_allocate(context, run->gradient ? (size_t)chunk : 0, (size_t)classes * sizeof *logit_gradient);
    exponent = cso_allocate(context, (size_t)chunk, sizeof *exponent);
    images = cso_allocate(context, run->images ? 0 : (size_t)chunk, size * sizeof *images);
    if (!logits || !logit_gradient || !exponent || !images) {
        status = cso_fail_memory(context, "logits");
        goto done;
    }

    for (int64_t first = 0; first < run->count && status == CARSO_OK; first += chunk) {
        const int64_t count = cso_smaller(chunk, run->count - first);
        const void *input = NULL;
        if ((status = cso_stage_plan(&classify, count)) != CARSO_OK ||
            (status = cso_run_fetch_images(model, run, first, count, images, &input)) != CARSO_OK ||
            (status = cso_plan_write(classify.plan, 0, input, run->element)) != CARSO_OK ||
            (status = cso_plan_forward(classify.plan)) != CARSO_OK ||
            (status = cso_plan_read(classify.plan, 0, logits, CSO_F64)) != CARSO_OK) {
            break;
        }
        if (run->logits) {
            memcpy(run->logits + first * classes, logits, (size_t)(count * classes) * sizeof *logits);
        }
        if (run->function && (status = run->function(run->user, first, count, 1, (int)classes, logits,
                                                     run->losses ? run->losses + first : NULL,
                                                     run->gradient ? logit_gradient : NULL)) != CARSO_OK) {
            break;
        }
        if (run->gradient) {
            cso_run_scale_logit_gradient(logit_gradient, 1, count, classes, exponent);
            if ((status = cso_plan_write_gradient(classify.plan, 0, logit_gradient, CSO_F64)) != CARSO_OK ||
                (status = cso_plan_backward(classify.plan)) != CARSO_OK ||
                (status = cso_plan_read_gradient(classify.plan, 0, cso_run_gradient_at(model, run, first),
                                                 run->element)) != CARSO_OK) {
                break;
            }
            cso_run_finish_gradient(model, run, first, count, exponent);
        }
        status = cso_run_report_progress(run, (double)(first + count));
    }

done:
    cso_stage_close(&classify);
    cso_release(context, images);
    cso_release(context, exponent);
    cso_release(context, logit_gradient);
    cso_release(context, logits);
    return status;
}
