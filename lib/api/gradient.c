/* SPDX-License-Identifier: BSD-2-Clause */
#include <math.h>
#include <string.h>

#include "api/image_batch.h"
#include "attack/losses.h"

#define MOST_DRAWS 65536

void carso_gradient_options_init(carso_gradient_options *options, size_t size)
{
    const carso_gradient_options defaults = {
        .objective = CARSO_OBJECTIVE_CLASSIFIER, .loss = CARSO_LOSS_CROSS_ENTROPY, .draws = 8};
    cso_options_fill(options, size, &defaults, sizeof defaults);
}

static carso_status check_options(const carso_model *model, const carso_gradient_options *options)
{
    const carso_context *const context = model->context;
    if (options->objective < CARSO_OBJECTIVE_CLASSIFIER || options->objective > CARSO_OBJECTIVE_DEFENCE) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_gradient: objective is %d, not in %d to %d",
                        options->objective, CARSO_OBJECTIVE_CLASSIFIER, CARSO_OBJECTIVE_DEFENCE);
    }
    if (options->loss < CARSO_LOSS_CROSS_ENTROPY || options->loss > CARSO_LOSS_CARSO_MARGIN) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_gradient: loss is %d, not in %d to %d",
                        options->loss, CARSO_LOSS_CROSS_ENTROPY, CARSO_LOSS_CARSO_MARGIN);
    }
    const bool own = options->logit_gradient || options->loss_function;
    const int least = cso_loss_least_classes((carso_loss)options->loss, options->targets != NULL);
    if (options->logit_gradient && (options->loss_function || options->targets)) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "carso_gradient: logit_gradient is given, and so %s; one of them has to be NULL",
                        options->loss_function ? "is loss_function" : "are targets");
    }
    if (!own && model->classes < least) {
        return cso_fail(context, CARSO_ERROR_UNSUPPORTED,
                        "carso_gradient: the %s DLR loss needs %d classes or more, and the model has %d; use a margin "
                        "or a cross-entropy",
                        options->targets ? "targeted" : "untargeted", least, model->classes);
    }
    if (options->objective == CARSO_OBJECTIVE_DEFENCE && (options->draws < 1 || options->draws > MOST_DRAWS)) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_gradient: draws is %d, not in 1 to %d",
                        options->draws, MOST_DRAWS);
    }
    return CARSO_OK;
}

/* The caller's own d loss / d logits, over all images of the call. */
typedef struct given_gradient {
    const double *gradient;
    int64_t total;
} given_gradient;

static carso_status given_function(void *user, int64_t first, int64_t count, int draws, int classes,
                                   const double *logits, double *losses, double *logit_gradient)
{
    const given_gradient *const given = user;
    (void)logits;
    (void)losses;
    for (int64_t d = 0; d < draws; d++) {
        memcpy(logit_gradient + d * count * classes, given->gradient + (d * given->total + first) * classes,
               (size_t)(count * classes) * sizeof *logit_gradient);
    }
    return CARSO_OK;
}

static bool image_finite(const cso_run *run, size_t image_size, int64_t classes, int64_t i)
{
    const float *const gradient = (const float *)run->gradient + (size_t)i * image_size;
    for (size_t j = 0; j < image_size; j++) {
        if (!isfinite(gradient[j])) {
            return false;
        }
    }
    if (run->losses && !isfinite(run->losses[i])) {
        return false;
    }
    for (int64_t d = 0; run->logits && d < run->draws; d++) {
        for (int64_t c = 0; c < classes; c++) {
            if (!isfinite(run->logits[(d * run->count + i) * classes + c])) {
                return false;
            }
        }
    }
    return true;
}

static carso_status check_finite(const cso_image_batch *batch, const cso_run *run)
{
    int64_t bad = 0, first = 0;
    for (int64_t i = 0; i < run->count; i++) {
        if (!image_finite(run, batch->image_size, batch->model->classes, i) && bad++ == 0) {
            first = i;
        }
    }
    if (bad == 0) {
        return CARSO_OK;
    }
    return cso_fail(batch->context, CARSO_ERROR_NON_FINITE,
                    "carso_gradient: a logit, loss or gradient is not finite for %lld of the %lld images, the first "
                    "being image %lld",
                    (long long)bad, (long long)run->count, (long long)first);
}

carso_status carso_gradient(const carso_model *model, const carso_images *images, const int32_t *labels,
                            const carso_gradient_options *given, float *out_gradient, double *out_losses,
                            double *out_logits)
{
    if (!model) {
        return CARSO_ERROR_INVALID_ARGUMENT;
    }
    const carso_context *const context = model->context;
    carso_gradient_options options;
    carso_gradient_options_init(&options, sizeof options);
    carso_status status = cso_options_copy(context, "gradient options", &options, sizeof options, given);
    if (status == CARSO_OK) {
        status = check_options(model, &options);
    }
    if (status != CARSO_OK) {
        return status;
    }
    if (!out_gradient) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_gradient: out_gradient is NULL");
    }
    if (options.logit_gradient && out_losses) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "carso_gradient: out_losses must be NULL where logit_gradient is given, which has no loss");
    }

    cso_image_batch batch;
    status = cso_image_batch_open(model, images, options.first_image, "carso_gradient", &batch);
    if (status == CARSO_OK && !options.logit_gradient && (labels || !options.loss_function)) {
        status = cso_image_batch_check_labels(&batch, labels, "carso_gradient");
    }
    if (status == CARSO_OK) {
        status = cso_image_batch_check_targets(&batch, labels, options.targets, "carso_gradient");
    }
    if (status != CARSO_OK) {
        goto done;
    }

    const bool defence = options.objective == CARSO_OBJECTIVE_DEFENCE;
    cso_loss_request request = {
        .loss = (carso_loss)options.loss,
        .labels = labels,
        .context = context,
        .targets = options.targets,
        .function = options.loss_function,
        .function_user = options.loss_user,
        .image_index = batch.image_index,
    };
    given_gradient outright = {.gradient = options.logit_gradient, .total = batch.count};
    const cso_run run = {
        .element = CSO_F32,
        .source = cso_image_batch_source,
        .source_user = &batch,
        .count = batch.count,
        .draws = defence ? options.draws : 1,
        .seed = options.seed,
        .purpose = CSO_PURPOSE_LATENT,
        .image_index = batch.image_index,
        .function = options.logit_gradient ? given_function : cso_loss_function,
        .user = options.logit_gradient ? (void *)&outright : (void *)&request,
        .losses = out_losses,
        .gradient = out_gradient,
        .logits = out_logits,
        .progress = options.progress,
        .progress_user = options.progress_user,
    };
    status = defence ? cso_run_defence(batch.model, &run) : cso_run_classifier(batch.model, &run);
    if (status == CARSO_OK) {
        status = check_finite(&batch, &run);
    }

done:
    cso_image_batch_close(&batch);
    return status;
}
