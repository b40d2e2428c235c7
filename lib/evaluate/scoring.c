/* SPDX-License-Identifier: BSD-2-Clause */
/* Predictions of images with draws of a purpose, and how many are right. */
#include <math.h>
#include <string.h>

#include "evaluate/evaluation.h"
#include "model/aggregation.h"
#include "model/run.h"

/* Of the logits of all predictions of the images that are run together. */
#define MOST_LOGIT_BYTES ((size_t)32 << 20)
/* How far the sum of what look like probabilities may be from 1. */
#define PROBABILITY_TOLERANCE 1e-3

int cso_score_repeats(const carso_evaluation *evaluation, carso_objective objective)
{
    return objective == CARSO_OBJECTIVE_DEFENCE ? evaluation->protocol.repeats : 1;
}

/* Images that are run together, with room for what they need. */
typedef struct scratch {
    double *logits; /* [draws of all predictions][chunk][classes] */
    double *aggregate, *odds, *mean;
    int32_t *votes; /* [classes] */
    uint64_t *key;
    int64_t chunk;
    int draws; /* of one prediction */
} scratch;

static void scratch_close(const carso_context *context, scratch *work)
{
    cso_release(context, work->logits);
    cso_release(context, work->aggregate);
    cso_release(context, work->odds);
    cso_release(context, work->mean);
    cso_release(context, work->votes);
    cso_release(context, work->key);
}

static carso_status scratch_open(const carso_evaluation *evaluation, const cso_score_request *request, scratch *work)
{
    const carso_context *const context = evaluation->context;
    const size_t classes = (size_t)evaluation->classes;
    work->draws = request->objective == CARSO_OBJECTIVE_DEFENCE ? evaluation->protocol.draws : 1;
    const size_t rows = (size_t)work->draws * (size_t)cso_score_repeats(evaluation, request->objective);
    const size_t most = MOST_LOGIT_BYTES / sizeof(double) / rows / classes;
    work->chunk = most < 1 ? 1 : (int64_t)most < request->count ? (int64_t)most : request->count;
    work->logits = cso_allocate(context, rows * (size_t)work->chunk, classes * sizeof *work->logits);
    work->aggregate = cso_allocate(context, CSO_AGGREGATE_SCRATCH(classes), sizeof *work->aggregate);
    work->odds = cso_allocate(context, classes, sizeof *work->odds);
    work->mean = cso_allocate(context, classes, sizeof *work->mean);
    work->votes = cso_allocate(context, classes, sizeof *work->votes);
    work->key = cso_allocate(context, (size_t)work->chunk, sizeof *work->key);
    return work->logits && work->aggregate && work->odds && work->mean && work->votes && work->key
               ? CARSO_OK
               : cso_fail_memory(context, "scoring");
}

static bool all_finite(const double *logits, int rows, int64_t stride, int classes)
{
    for (int r = 0; r < rows; r++) {
        for (int k = 0; k < classes; k++) {
            if (!isfinite(logits[r * stride + k])) {
                return false;
            }
        }
    }
    return true;
}

/* Mean over classes of the variance over draws, against the variance over classes of the mean. */
static double relative_spread(const double *logits, int rows, int64_t stride, int classes, double *mean)
{
    double within = 0, between = 0, middle = 0;
    for (int k = 0; k < classes; k++) {
        mean[k] = 0;
        for (int r = 0; r < rows; r++) {
            mean[k] += logits[r * stride + k] / rows;
        }
        middle += mean[k] / classes;
    }
    for (int k = 0; k < classes; k++) {
        between += (mean[k] - middle) * (mean[k] - middle) / classes;
        for (int r = 0; r < rows; r++) {
            within += (logits[r * stride + k] - mean[k]) * (logits[r * stride + k] - mean[k]) / rows / classes;
        }
    }
    return between > 0 ? sqrt(within / between) : within > 0 ? INFINITY : 0;
}

static bool like_probabilities(const double *logits, int rows, int64_t stride, int classes)
{
    for (int r = 0; r < rows; r++) {
        double sum = 0;
        for (int k = 0; k < classes; k++) {
            const double logit = logits[r * stride + k];
            if (!(logit >= 0 && logit <= 1)) {
                return false;
            }
            sum += logit;
        }
        if (fabs(sum - 1) > PROBABILITY_TOLERANCE) {
            return false;
        }
    }
    return true;
}

static void judge(const carso_evaluation *evaluation, const cso_score_request *request, const scratch *work,
                  int64_t image, int64_t within, int64_t stride)
{
    const int classes = evaluation->classes, repeats = cso_score_repeats(evaluation, request->objective);
    const int rows = repeats * work->draws;
    const double *const logits = work->logits + within * classes;
    const int32_t label = evaluation->label[request->row[image]];
    /* One draw of the bare classifier has nothing to aggregate. */
    const carso_aggregation how = request->objective == CARSO_OBJECTIVE_DEFENCE
                                      ? (carso_aggregation)evaluation->aggregation
                                      : CARSO_AGGREGATE_LOGIT;
    const bool finite = all_finite(logits, rows, stride, classes);
    memset(work->votes, 0, (size_t)classes * sizeof *work->votes);
    request->correct[image] = 0;
    for (int m = 0; m < repeats && finite; m++) {
        cso_aggregate(how, logits + m * work->draws * stride, work->draws, stride, classes, NULL, work->odds,
                      work->aggregate);
        const int predicted = cso_arg_max(work->odds, classes);
        work->votes[predicted]++;
        request->correct[image] += predicted == label;
    }
    int winner = 0;
    for (int k = 1; k < classes; k++) {
        winner = work->votes[k] > work->votes[winner] ? k : winner;
    }
    if (request->majority) {
        request->majority[image] = finite ? winner : -1;
    }
    if (request->spread) {
        request->spread[image] = finite ? relative_spread(logits, rows, stride, classes, work->mean) : NAN;
    }
    if (request->probability_like) {
        request->probability_like[image] = finite && like_probabilities(logits, rows, stride, classes);
    }
}

carso_status cso_score(const carso_evaluation *evaluation, const cso_score_request *request)
{
    const bool defence = request->objective == CARSO_OBJECTIVE_DEFENCE;
    scratch work = {0};
    carso_status status = scratch_open(evaluation, request, &work);
    for (int64_t first = 0; first < request->count && status == CARSO_OK; first += work.chunk) {
        const int64_t count = work.chunk < request->count - first ? work.chunk : request->count - first;
        for (int64_t i = 0; i < count; i++) {
            work.key[i] = evaluation->first_image + (uint64_t)evaluation->position[request->row[first + i]];
        }
        const cso_run run = {.images = request->images + (size_t)first * evaluation->image_size,
                             .element = CSO_F32,
                             .count = count,
                             .draws = work.draws * cso_score_repeats(evaluation, request->objective),
                             .seed = evaluation->seed,
                             .purpose = request->purpose,
                             .image_index = work.key,
                             .logits = work.logits};
        status = defence ? cso_run_defence(evaluation->model, &run) : cso_run_classifier(evaluation->model, &run);
        for (int64_t i = 0; i < count && status == CARSO_OK; i++) {
            judge(evaluation, request, &work, first + i, i, count * evaluation->classes);
        }
        const carso_progress at_start = {sizeof at_start, 0, 1, ""};
        if (status == CARSO_OK && cso_unit_forward(&at_start, request->progress)) {
            status = CARSO_CANCELLED;
        }
    }
    scratch_close(evaluation->context, &work);
    return status;
}
