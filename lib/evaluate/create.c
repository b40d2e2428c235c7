/* SPDX-License-Identifier: BSD-2-Clause */
/* Evaluations made from a model, data and options; what tells whether two are of the same. */
#include <math.h>
#include <string.h>

#include "api/image_batch.h"
#include "backends/backend.h"
#include "evaluate/evaluation.h"

#define MOST_BATCH 65536
#define MOST_DRAWS 65536
#define MOST_REPEATS 1000
#define MOST_EPSILONS 64
/* Draws of all predictions of an image, in the 32 bits that number them. */
#define MOST_PREDICTION_DRAWS (1 << 20)

void carso_evaluation_options_init(carso_evaluation_options *options, size_t size)
{
    const carso_evaluation_options defaults = {.protocol = "quick", .norm = CARSO_NORM_LINF, .batch = 100, .shards = 1};
    cso_options_fill(options, size, &defaults, sizeof defaults);
}

static carso_status check_range(const carso_context *context, const char *name, int32_t value, int32_t low,
                                int32_t high)
{
    if (value >= low && value <= high) {
        return CARSO_OK;
    }
    return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_evaluation_create: %s is %d, not in %d to %d", name,
                    value, low, high);
}

static carso_status check_options(const carso_context *context, const carso_evaluation_options *options)
{
    carso_status status = check_range(context, "norm", options->norm, CARSO_NORM_LINF, CARSO_NORM_L2);
    if (status == CARSO_OK) {
        status = check_range(context, "draws", options->draws, 0, MOST_DRAWS);
    }
    if (status == CARSO_OK) {
        status = check_range(context, "repeats", options->repeats, 0, MOST_REPEATS);
    }
    if (status == CARSO_OK) {
        status = check_range(context, "aggregation", options->aggregation, CARSO_AGGREGATE_CARSO, CARSO_AGGREGATE_PROBABILITY);
    }
    if (status == CARSO_OK) {
        status = check_range(context, "batch", options->batch, 1, MOST_BATCH);
    }
    if (status == CARSO_OK) {
        status = check_range(context, "shards", options->shards, 1, INT32_MAX);
    }
    if (status == CARSO_OK) {
        status = check_range(context, "shard", options->shard, 0, options->shards - 1);
    }
    if (status != CARSO_OK) {
        return status;
    }
    if (!options->protocol) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_evaluation_create: protocol is NULL");
    }
    if (options->epsilons && (options->epsilon_count < 1 || options->epsilon_count > MOST_EPSILONS)) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_evaluation_create: %llu epsilons, not 1 to %d",
                        (unsigned long long)options->epsilon_count, MOST_EPSILONS);
    }
    for (uint64_t i = 0; options->epsilons && i < options->epsilon_count; i++) {
        if (!isfinite(options->epsilons[i]) || options->epsilons[i] < 0) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                            "carso_evaluation_create: epsilon %llu is %g; a finite number, 0 or larger, is needed", (unsigned long long)i,
                            options->epsilons[i]);
        }
    }
    return CARSO_OK;
}

static carso_status hash_graph(const carso_context *context, cso_sha256 *hash, const cso_graph *graph)
{
    json_t *json = NULL;
    size_t size = 0;
    const carso_status status = cso_graph_to_json(graph, &json);
    if (status != CARSO_OK) {
        return status;
    }
    char *const text = cso_json_text(context, json, &size);
    json_decref(json);
    if (!text) {
        return cso_fail_memory(context, "the model's hash");
    }
    cso_sha256_add(hash, text, size);
    cso_release(context, text);
    for (int i = 0; i < graph->parameter_count; i++) {
        const cso_parameter *const parameter = graph->parameter[i].parameter;
        cso_sha256_add(hash, parameter->host, parameter->count * sizeof *parameter->host);
    }
    return CARSO_OK;
}

/* Of what decides a prediction: graphs, weights, taps and standardisation. */
static carso_status hash_model(const carso_model *model, char out[CSO_SHA256_TEXT])
{
    cso_sha256 hash;
    cso_sha256_begin(&hash);
    cso_sha256_add(&hash, model->mean, sizeof model->mean);
    cso_sha256_add(&hash, model->deviation, sizeof model->deviation);
    cso_sha256_add(&hash, &model->logits, sizeof model->logits);
    cso_sha256_add(&hash, model->tap, (size_t)model->tap_count * sizeof *model->tap);
    carso_status status = hash_graph(model->context, &hash, model->classifier);
    if (status == CARSO_OK && model->purifier) {
        status = hash_graph(model->context, &hash, model->purifier->condition);
    }
    if (status == CARSO_OK && model->purifier) {
        status = hash_graph(model->context, &hash, model->purifier->decoder);
    }
    cso_sha256_end(&hash, out);
    return status;
}

static void hash_text(const char *text, size_t size, char out[CSO_SHA256_TEXT])
{
    cso_sha256 hash;
    cso_sha256_begin(&hash);
    cso_sha256_add(&hash, text, size);
    cso_sha256_end(&hash, out);
}

carso_status cso_configuration_hash(const carso_context *context, const json_t *configuration,
                                    char out[CSO_SHA256_TEXT])
{
    size_t size = 0;
    char *const text = cso_json_text(context, configuration, &size);
    if (!text) {
        return cso_fail_memory(context, "the configuration's hash");
    }
    hash_text(text, size, out);
    cso_release(context, text);
    return CARSO_OK;
}

static carso_status describe(carso_evaluation *evaluation, const carso_evaluation_options *options, int64_t images)
{
    const carso_model *const model = evaluation->model;
    json_t *const protocol = cso_protocol_json(&evaluation->protocol);
    evaluation->configuration =
        protocol ? json_pack("{s:s, s:s, s:o, s:i, s:i, s:i, s:I, s:I, s:I, s:[iii], s:i}", "version", carso_version(),
                             "backend", evaluation->context->backend->name, "protocol", protocol, "norm",
                             (int)options->norm, "aggregation", (int)options->aggregation, "batch", (int)options->batch,
                             "seed", (json_int_t)options->seed, "first_image", (json_int_t)options->first_image,
                             "images", (json_int_t)images, "shape", (int)model->channels, (int)model->height,
                             (int)model->width, "classes", (int)model->classes)
                 : NULL;
    evaluation->class_names = json_array();
    int failed = !evaluation->configuration || !evaluation->class_names;
    for (int32_t k = 0; k < model->classes && !failed; k++) {
        failed = json_array_append_new(evaluation->class_names, json_string(carso_model_class_name(model, k)));
    }
    return failed
               ? cso_fail_memory(evaluation->context, "the evaluation's configuration")
               : cso_configuration_hash(evaluation->context, evaluation->configuration, evaluation->configuration_hash);
}

/* Batch shard, shard + shards, ... of all images. */
static int64_t rows_of_shard(int64_t images, const carso_evaluation_options *options)
{
    int64_t rows = 0;
    for (int64_t first = (int64_t)options->shard * options->batch; first < images; first += (int64_t)options->shards * options->batch) {
        rows += options->batch < images - first ? options->batch : images - first;
    }
    return rows;
}

/* Reads every image, of other shards too: the hash is of all, and all are checked. */
static carso_status take_data(carso_evaluation *evaluation, cso_image_batch *batch, const int32_t *labels,
                              const carso_evaluation_options *options)
{
    cso_sha256 hash;
    int64_t row = 0;
    float *const image = cso_allocate_raw(evaluation->context, evaluation->image_size, sizeof *image);
    carso_status status = image ? CARSO_OK : cso_fail_memory(evaluation->context, "the images");
    cso_sha256_begin(&hash);
    for (int64_t i = 0; i < batch->count && status == CARSO_OK; i++) {
        status = cso_image_batch_source(batch, i, 1, image);
        cso_sha256_add(&hash, image, evaluation->image_size * sizeof *image);
        cso_sha256_add(&hash, &labels[i], sizeof labels[i]);
        if (status != CARSO_OK || (i / options->batch) % options->shards != options->shard) {
            continue;
        }
        evaluation->position[row] = i;
        evaluation->label[row] = labels[i];
        memcpy(evaluation->original + (size_t)row * evaluation->image_size, image,
               evaluation->image_size * sizeof *image);
        row++;
    }
    cso_sha256_end(&hash, evaluation->data_hash);
    cso_release(evaluation->context, image);
    return status;
}

carso_status cso_evaluation_allocate(carso_context *context, carso_evaluation **out)
{
    *out = cso_allocate(context, 1, sizeof **out);
    if (!*out) {
        return cso_fail_memory(context, "the evaluation");
    }
    (*out)->context = context;
    cso_context_retain(context);
    (*out)->commands = json_array();
    return (*out)->commands ? CARSO_OK : cso_fail_memory(context, "the evaluation");
}

static carso_status build(carso_evaluation *evaluation, const carso_model *model, cso_image_batch *batch,
                          const int32_t *labels, const carso_evaluation_options *options)
{
    carso_context *const context = evaluation->context;
    evaluation->model = (carso_model *)model;
    cso_model_retain(evaluation->model);
    evaluation->loss_function = options->loss_function;
    evaluation->loss_user = options->loss_user;
    evaluation->shard = options->shard;
    evaluation->shards = options->shards;
    evaluation->columns.rows = rows_of_shard(batch->count, options);
    if (evaluation->columns.rows == 0) {
        return cso_fail(
            context, CARSO_ERROR_INVALID_ARGUMENT,
            "carso_evaluation_create: shard %d of %d has no images; with batches of %d there are %lld of them",
            options->shard, options->shards, options->batch,
            (long long)((batch->count + options->batch - 1) / options->batch));
    }
    carso_status status = cso_protocol_create(model, options, &evaluation->protocol);
    if (status != CARSO_OK) {
        return status;
    }
    if ((int64_t)evaluation->protocol.draws * evaluation->protocol.repeats > MOST_PREDICTION_DRAWS) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_evaluation_create: %d predictions of %d draws are more than %d draws",
                        evaluation->protocol.repeats, evaluation->protocol.draws, MOST_PREDICTION_DRAWS);
    }
    status = describe(evaluation, options, batch->count);
    if (status == CARSO_OK) {
        status = cso_evaluation_prepare(evaluation, "carso_evaluation_create");
    }
    if (status == CARSO_OK) {
        status = take_data(evaluation, batch, labels, options);
    }
    return status == CARSO_OK ? hash_model(model, evaluation->model_hash) : status;
}

carso_status carso_evaluation_create(const carso_model *model, const carso_images *images, const int32_t *labels,
                                     const carso_evaluation_options *given, carso_evaluation **out_evaluation)
{
    if (out_evaluation) {
        *out_evaluation = NULL;
    }
    if (!model || !out_evaluation) {
        return cso_fail_missing(model ? model->context : NULL, "carso_evaluation_create", "out_evaluation");
    }
    carso_context *const context = model->context;
    carso_evaluation_options options;
    cso_image_batch batch = {0};
    carso_evaluation *evaluation = NULL;
    carso_evaluation_options_init(&options, sizeof options);
    carso_status status = cso_options_copy(context, "evaluation options", &options, sizeof options, given);
    if (status == CARSO_OK) {
        status = check_options(context, &options);
    }
    if (status != CARSO_OK) {
        return status;
    }
    status = cso_image_batch_open(model, images, options.first_image, "carso_evaluation_create", &batch);
    if (status == CARSO_OK) {
        status = cso_image_batch_check_labels(&batch, labels, "carso_evaluation_create");
    }
    if (status == CARSO_OK) {
        status = cso_evaluation_allocate(context, &evaluation);
    }
    if (status == CARSO_OK) {
        status = build(evaluation, model, &batch, labels, &options);
    }
    cso_image_batch_close(&batch);
    if (status != CARSO_OK) {
        carso_evaluation_destroy(evaluation);
        return status;
    }
    *out_evaluation = evaluation;
    return CARSO_OK;
}
