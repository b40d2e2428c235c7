/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/batch.h"
#include "train/options.h"

carso_status cso_trainer_begin(const carso_model *model, cso_trainer_kind kind, int64_t sub_batch, carso_trainer **out)
{
    carso_trainer *trainer = cso_allocate(model->context, 1, sizeof *trainer);
    *out = trainer;
    if (!trainer) {
        return cso_fail_memory(model->context, "a trainer");
    }
    trainer->context = model->context;
    cso_context_retain(trainer->context);
    trainer->model = (carso_model *)model;
    cso_model_retain(trainer->model);
    trainer->kind = kind;
    trainer->sub_batch = sub_batch;
    return CARSO_OK;
}

void cso_trainer_destroy(carso_trainer *trainer)
{
    if (!trainer) {
        return;
    }
    carso_context *context = trainer->context;
    cso_weights_destroy(trainer->weights);
    cso_purifier_network_destroy(trainer->purifier);
    cso_classifier_network_clear(&trainer->classifier);
    carso_model_destroy(trainer->model);
    cso_release(context, trainer);
    carso_context_destroy(context);
}

carso_status cso_trainer_check_finite(const carso_trainer *trainer, double value, const char *quantity)
{
    if (isfinite(value)) {
        return CARSO_OK;
    }
    return cso_fail(trainer->context, CARSO_ERROR_NON_FINITE,
                    "training step %llu: %s is not finite (%g), nothing was updated; lower the learning rate, or warm it up more slowly",
                    (unsigned long long)trainer->step, quantity, value);
}

static carso_status check_statistics(const carso_trainer *trainer)
{
    for (int i = 0; i < trainer->weights->statistic_count; i++) {
        const cso_parameter *parameter = trainer->weights->statistic[i].parameter;
        double sum = 0;
        for (size_t j = 0; j < parameter->count; j++) {
            sum += parameter->host[j];
        }
        const carso_status status = cso_trainer_check_finite(trainer, sum, "a running statistic of BatchNorm");
        if (status) {
            return status;
        }
    }
    return CARSO_OK;
}

/* What may fail without trace: everything but the update. */
static carso_status measure(carso_trainer *trainer, const cso_train_batch *batch, carso_train_report *report)
{
    carso_status status = cso_weights_zero_gradients(trainer->weights);
    if (status) {
        return status;
    }
    status = trainer->kind == CSO_TRAIN_PURIFIER ? cso_purifier_gradients(trainer, batch, report)
                                                 : cso_classifier_gradients(trainer, batch, report);
    if (!status) {
        status = cso_weights_gradient_norm(trainer->weights, trainer->step, &report->gradient_norm);
    }
    if (!status) {
        status = cso_weights_settle_statistics(trainer->weights);
    }
    return status ? status : check_statistics(trainer);
}

carso_status cso_trainer_step(carso_trainer *trainer, const cso_train_batch *batch, carso_train_report *report)
{
    const int32_t steps_per_epoch = trainer->kind == CSO_TRAIN_PURIFIER ? trainer->purifier_options.steps_per_epoch
                                                                        : trainer->classifier_options.steps_per_epoch;
    *report = (carso_train_report){
        .struct_size = sizeof *report,
        .step = trainer->step,
        .epoch = (double)trainer->step / steps_per_epoch,
    };
    if (trainer->weights->stale) {
        const carso_status status = cso_weights_upload(trainer->weights);
        if (status) {
            return status;
        }
    }
    cso_weights_keep_statistics(trainer->weights);
    carso_status status = measure(trainer, batch, report);
    if (status) {
        /* The first failure is the one to report. */
        (void)cso_weights_restore_statistics(trainer->weights);
        return status;
    }
    status = trainer->kind == CSO_TRAIN_PURIFIER ? cso_purifier_update(trainer, report)
                                                 : cso_classifier_update(trainer, report);
    if (status) {
        return status;
    }
    trainer->step++;
    return cso_weights_upload(trainer->weights);
}

carso_status cso_trainer_set_data(carso_trainer *trainer, const char *name, const cso_trainer_data *given)
{
    cso_trainer_data *data = &trainer->data;
    if (strlen(name) >= sizeof data->name) {
        return cso_fail(trainer->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "the data set's name has %zu bytes; it may have %zu", strlen(name), sizeof data->name - 1);
    }
    if (given->batch < 2 || given->images < given->batch || given->images > INT64_MAX) {
        return cso_fail(trainer->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "batches of %" PRIu64 " out of %" PRIu64 " images; a batch must have 2 at least, and an epoch one batch",
                        given->batch, given->images);
    }
    if (given->crop_padding < 0 || given->mirror < 0 || given->mirror > 1) {
        return cso_fail(trainer->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "crop_padding is %d, which must be 0 at least, and mirror %d, which must be 0 or 1",
                        (int)given->crop_padding, (int)given->mirror);
    }
    if (data->batch != 0 && (data->batch != given->batch || data->images != given->images)) {
        return cso_fail(trainer->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "the training has batches of %" PRIu64 " out of %" PRIu64 " images of %s, and now should have batches of %" PRIu64
                        " out of %" PRIu64 "; it goes on with what it began with alone",
                        data->batch, data->images, data->name, given->batch, given->images);
    }
    if (data->batch != 0 && (data->crop_padding != given->crop_padding || data->mirror != given->mirror)) {
        return cso_fail(trainer->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "the images' augmentation has a crop_padding of %d and a mirror of %d in the training, and now should have %d and %d; "
                        "it goes on with what it began with alone",
                        (int)data->crop_padding, (int)data->mirror, (int)given->crop_padding, (int)given->mirror);
    }
    *data = *given;
    snprintf(data->name, sizeof data->name, "%s", name);
    return CARSO_OK;
}

json_t *cso_trainer_data_to_json(const cso_trainer_data *data)
{
    json_t *name = json_string(data->name);
    return json_pack("{s:o, s:I, s:I, s:i, s:i}", "name", name ? name : json_string("(not UTF-8)"), "images",
                     (json_int_t)data->images, "batch", (json_int_t)data->batch, "crop_padding",
                     (int)data->crop_padding, "mirror", (int)data->mirror);
}

static json_t *provenance_entry(const carso_trainer *trainer)
{
    json_t *options = trainer->kind == CSO_TRAIN_PURIFIER
                          ? cso_purifier_training_to_json(&trainer->purifier_options)
                          : cso_classifier_training_to_json(&trainer->classifier_options);
    json_t *entry =
        options ? json_pack("{s:s, s:I, s:o}", "version", carso_version(), "steps", (json_int_t)trainer->step, "options", options) : NULL;
    if (entry && trainer->data.batch != 0 && json_object_set_new(entry, "data", cso_trainer_data_to_json(&trainer->data))) {
        json_decref(entry);
        return NULL;
    }
    return entry;
}

static json_t *make_provenance(const carso_trainer *trainer)
{
    json_t *provenance =
        json_is_object(trainer->model->provenance) ? json_deep_copy(trainer->model->provenance) : json_object();
    const char *key = "purifier_training";
    if (trainer->kind == CSO_TRAIN_CLASSIFIER) {
        /* The purifier is left out of what is made now. */
        json_object_del(provenance, key);
        key = "classifier_training";
    }
    if (json_object_set_new(provenance, key, provenance_entry(trainer))) {
        json_decref(provenance);
        return NULL;
    }
    return provenance;
}

carso_status cso_trainer_model(const carso_trainer *trainer, carso_model **out)
{
    *out = NULL;
    json_t *provenance = make_provenance(trainer);
    if (!provenance) {
        return cso_fail_memory(trainer->context, "the model's provenance");
    }
    carso_status status;
    if (trainer->kind == CSO_TRAIN_PURIFIER) {
        const cso_purifier *start = trainer->model->purifier;
        const cso_purifier reached = {
            .condition_size = start->condition_size,
            .latent_size = start->latent_size,
            .seed_channels = start->seed_channels,
            .condition = trainer->purifier->condition,
            .encoder = trainer->purifier->encoder,
            .decoder = trainer->purifier->decoder,
        };
        /* The graphs hold the fast weights; the slow ones take their place for as long as they are copied. */
        cso_weights_swap(trainer->weights, CSO_STATE_SLOW);
        status = cso_model_derive(trainer->model, NULL, &reached, provenance, out);
        cso_weights_swap(trainer->weights, CSO_STATE_SLOW);
    } else {
        status = cso_model_derive(trainer->model, trainer->classifier.classifier, NULL, provenance, out);
    }
    json_decref(provenance);
    return status;
}
