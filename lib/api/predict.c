/* SPDX-License-Identifier: BSD-2-Clause */
#include "carso/predict.h"

#include <math.h>

#include "api/image_batch.h"
#include "model/aggregation.h"

#define MOST_DRAWS 65536

struct carso_prediction {
    carso_context *context;
    uint64_t count;
    int32_t classes, draws;
    int32_t *labels;
    double *probabilities, *log_odds;
    double *logits;
    int32_t *agreement;
    float *reconstructions;
};

typedef enum what { CLASSIFY, PURIFY, DEFEND } what;

static const char *const call_name[] = {"carso_predict", "carso_purify", "carso_predict_robust"};

void carso_predict_options_init(carso_predict_options *options, size_t size)
{
    const carso_predict_options defaults = {.draws = 8, .aggregation = CARSO_AGGREGATE_CARSO};
    cso_options_fill(options, size, &defaults, sizeof defaults);
}

static carso_status check_options(const carso_context *context, const carso_predict_options *options, what wanted)
{
    const char *const call = call_name[wanted];
    if (wanted != CLASSIFY && (options->draws < 1 || options->draws > MOST_DRAWS)) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s: draws is %d, not in 1 to %d", call, options->draws,
                        MOST_DRAWS);
    }
    if (options->aggregation < CARSO_AGGREGATE_CARSO || options->aggregation > CARSO_AGGREGATE_PROBABILITY) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s: aggregation is %d, not in %d to %d", call,
                        options->aggregation, CARSO_AGGREGATE_CARSO, CARSO_AGGREGATE_PROBABILITY);
    }
    if (options->keep_reconstructions != 0 && options->keep_reconstructions != 1) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s: keep_reconstructions is %d, neither 0 nor 1", call,
                        options->keep_reconstructions);
    }
    return CARSO_OK;
}

static carso_status allocate_result(const cso_image_batch *batch, const carso_predict_options *options, what wanted,
                                    carso_prediction **out)
{
    const size_t count = (size_t)batch->count, classes = (size_t)batch->model->classes;
    carso_prediction *const result = cso_allocate(batch->context, 1, sizeof *result);
    if (!result) {
        return cso_fail_memory(batch->context, "the prediction");
    }
    *out = result;
    result->context = batch->model->context;
    cso_context_retain(result->context);
    result->count = (uint64_t)count;
    result->classes = batch->model->classes;
    result->draws = wanted == CLASSIFY ? 1 : options->draws;
    const size_t draws = (size_t)result->draws;

    bool complete = true;
    if (wanted != PURIFY) {
        result->labels = cso_image_batch_allocate(batch, count, 1, 1, sizeof *result->labels);
        result->probabilities = cso_image_batch_allocate(batch, count, classes, 1, sizeof *result->probabilities);
        result->log_odds = cso_image_batch_allocate(batch, count, classes, 1, sizeof *result->log_odds);
        result->logits = cso_image_batch_allocate(batch, draws, count, classes, sizeof *result->logits);
        result->agreement = cso_image_batch_allocate(batch, count, 1, 1, sizeof *result->agreement);
        complete = result->labels && result->probabilities && result->log_odds && result->logits && result->agreement;
    }
    if (wanted == PURIFY || (wanted == DEFEND && options->keep_reconstructions)) {
        result->reconstructions =
            cso_image_batch_allocate(batch, draws, count, batch->image_size, sizeof *result->reconstructions);
        complete = complete && result->reconstructions;
    }
    return complete ? CARSO_OK : cso_fail_memory(batch->context, "the prediction");
}

static carso_status check_logits(const carso_prediction *result, const char *call)
{
    uint64_t bad = 0, first = 0;
    const uint64_t classes = (uint64_t)result->classes;
    for (uint64_t i = 0; i < result->count; i++) {
        bool finite = true;
        for (uint64_t d = 0; d < (uint64_t)result->draws && finite; d++) {
            for (uint64_t c = 0; c < classes && finite; c++) {
                finite = isfinite(result->logits[(d * result->count + i) * classes + c]);
            }
        }
        if (!finite && bad++ == 0) {
            first = i;
        }
    }
    if (bad == 0) {
        return CARSO_OK;
    }
    return cso_fail(
        result->context, CARSO_ERROR_NON_FINITE,
        "%s: logits of %llu of the %llu images are not finite, the first being image %llu; the model's weights may be "
        "damaged",
        call, (unsigned long long)bad, (unsigned long long)result->count, (unsigned long long)first);
}

static carso_status check_reconstructions(const carso_prediction *result, size_t image_size, const char *call)
{
    for (uint64_t p = 0; result->reconstructions && p < (uint64_t)result->draws * result->count; p++) {
        for (size_t j = 0; j < image_size; j++) {
            if (!isfinite(result->reconstructions[p * image_size + j])) {
                return cso_fail(result->context, CARSO_ERROR_NON_FINITE,
                                "%s: the reconstruction of image %llu in draw %llu is not finite; the purifier's "
                                "weights may be damaged",
                                call, (unsigned long long)(p % result->count), (unsigned long long)(p / result->count));
            }
        }
    }
    return CARSO_OK;
}

static carso_status aggregate(carso_prediction *result, carso_aggregation how)
{
    const int classes = result->classes;
    const int64_t row = (int64_t)result->count * classes;
    double *const scratch = cso_allocate_raw(result->context, CSO_AGGREGATE_SCRATCH(classes), sizeof *scratch);
    if (!scratch) {
        return cso_fail_memory(result->context, "the aggregation");
    }
    for (int64_t i = 0; i < (int64_t)result->count; i++) {
        double *const probability = result->probabilities + i * classes, *const odds = result->log_odds + i * classes;
        const double *const logits = result->logits + i * classes;
        cso_aggregate(how, logits, result->draws, row, classes, probability, odds, scratch);
        for (int c = 0; c < classes; c++) {
            probability[c] = exp(probability[c]);
        }
        result->labels[i] = cso_arg_max(odds, classes);
        for (int32_t d = 0; d < result->draws; d++) {
            result->agreement[i] += cso_arg_max(logits + d * row, classes) == result->labels[i];
        }
    }
    cso_release(result->context, scratch);
    return CARSO_OK;
}

static carso_status compute(cso_image_batch *batch, const carso_predict_options *options, what wanted,
                            carso_prediction *result)
{
    const cso_run run = {
        .element = CSO_F32,
        .source = cso_image_batch_source,
        .source_user = batch,
        .count = batch->count,
        .draws = result->draws,
        .seed = options->seed,
        .purpose = CSO_PURPOSE_LATENT,
        .image_index = batch->image_index,
        .logits = result->logits,
        .reconstructions = result->reconstructions,
        .progress = options->progress,
        .progress_user = options->progress_user,
    };
    carso_status status = wanted == CLASSIFY ? cso_run_classifier(batch->model, &run)
                          : wanted == PURIFY ? cso_run_purify(batch->model, &run)
                                             : cso_run_defence(batch->model, &run);
    if (status == CARSO_OK && wanted != PURIFY) {
        status = check_logits(result, call_name[wanted]);
    }
    if (status == CARSO_OK) {
        status = check_reconstructions(result, batch->image_size, call_name[wanted]);
    }
    /* One draw of the bare classifier has nothing to aggregate: its softmax is that of the logits. */
    if (status == CARSO_OK && wanted != PURIFY) {
        status =
            aggregate(result, wanted == CLASSIFY ? CARSO_AGGREGATE_LOGIT : (carso_aggregation)options->aggregation);
    }
    return status;
}

static carso_status predict(const carso_model *model, const carso_images *images, const carso_predict_options *given,
                            what wanted, carso_prediction **out_prediction)
{
    if (out_prediction) {
        *out_prediction = NULL;
    }
    if (!model) {
        return CARSO_ERROR_INVALID_ARGUMENT;
    }
    const carso_context *const context = model->context;
    if (!out_prediction) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s: out_prediction is NULL", call_name[wanted]);
    }
    carso_predict_options options;
    carso_predict_options_init(&options, sizeof options);
    carso_status status = cso_options_copy(context, "predict options", &options, sizeof options, given);
    if (status == CARSO_OK) {
        status = check_options(context, &options, wanted);
    }
    if (status != CARSO_OK) {
        return status;
    }

    cso_image_batch batch;
    carso_prediction *result = NULL;
    status = cso_image_batch_open(model, images, options.first_image, call_name[wanted], &batch);
    if (status == CARSO_OK) {
        status = allocate_result(&batch, &options, wanted, &result);
    }
    if (status == CARSO_OK) {
        status = compute(&batch, &options, wanted, result);
    }
    cso_image_batch_close(&batch);
    if (status != CARSO_OK) {
        carso_prediction_destroy(result);
        return status;
    }
    *out_prediction = result;
    return CARSO_OK;
}

carso_status carso_predict(const carso_model *model, const carso_images *images, const carso_predict_options *options,
                           carso_prediction **out_prediction)
{
    return predict(model, images, options, CLASSIFY, out_prediction);
}

carso_status carso_purify(const carso_model *model, const carso_images *images, const carso_predict_options *options,
                          carso_prediction **out_prediction)
{
    return predict(model, images, options, PURIFY, out_prediction);
}

carso_status carso_predict_robust(const carso_model *model, const carso_images *images,
                                  const carso_predict_options *options, carso_prediction **out_prediction)
{
    return predict(model, images, options, DEFEND, out_prediction);
}

void carso_prediction_destroy(carso_prediction *prediction)
{
    if (!prediction) {
        return;
    }
    carso_context *const context = prediction->context;
    cso_release(context, prediction->labels);
    cso_release(context, prediction->probabilities);
    cso_release(context, prediction->log_odds);
    cso_release(context, prediction->logits);
    cso_release(context, prediction->agreement);
    cso_release(context, prediction->reconstructions);
    cso_release(context, prediction);
    carso_context_destroy(context);
}

uint64_t carso_prediction_count(const carso_prediction *prediction)
{
    return prediction ? prediction->count : 0;
}

int32_t carso_prediction_classes(const carso_prediction *prediction)
{
    return prediction ? prediction->classes : 0;
}

int32_t carso_prediction_draws(const carso_prediction *prediction)
{
    return prediction ? prediction->draws : 0;
}

const int32_t *carso_prediction_labels(const carso_prediction *prediction)
{
    return prediction ? prediction->labels : NULL;
}

const double *carso_prediction_probabilities(const carso_prediction *prediction)
{
    return prediction ? prediction->probabilities : NULL;
}

const double *carso_prediction_log_odds(const carso_prediction *prediction)
{
    return prediction ? prediction->log_odds : NULL;
}

const double *carso_prediction_logits(const carso_prediction *prediction)
{
    return prediction ? prediction->logits : NULL;
}

const int32_t *carso_prediction_agreement(const carso_prediction *prediction)
{
    return prediction ? prediction->agreement : NULL;
}

const float *carso_prediction_reconstructions(const carso_prediction *prediction)
{
    return prediction ? prediction->reconstructions : NULL;
}
