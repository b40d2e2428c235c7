/* SPDX-License-Identifier: BSD-2-Clause */
#include "api/image_batch.h"
#include "base/safetensors.h"
#include "train/options.h"
#include "train/trainer.h"

/* Guards against a struct_size that was never set. */
#define LARGEST_STRUCT 65536
#define MOST_STEPS UINT32_MAX

void carso_purifier_training_options_init(carso_purifier_training_options *options, size_t size)
{
    carso_purifier_training_options defaults;
    cso_purifier_training_defaults(&defaults);
    cso_options_fill(options, size, &defaults, sizeof defaults);
}

void carso_classifier_training_options_init(carso_classifier_training_options *options, size_t size)
{
    carso_classifier_training_options defaults;
    cso_classifier_training_defaults(&defaults);
    cso_options_fill(options, size, &defaults, sizeof defaults);
}

carso_status carso_trainer_create_purifier(const carso_model *model, const carso_purifier_training_options *options,
                                           carso_trainer **out_trainer)
{
    if (out_trainer) {
        *out_trainer = NULL;
    }
    if (!model || !out_trainer) {
        return cso_fail_missing(model ? model->context : NULL, "carso_trainer_create_purifier", "out_trainer");
    }
    carso_purifier_training_options resolved;
    cso_purifier_training_defaults(&resolved);
    const carso_status status =
        cso_options_copy(model->context, "carso_purifier_training_options", &resolved, sizeof resolved, options);
    return status ? status : cso_trainer_create_purifier(model, &resolved, out_trainer);
}

carso_status carso_trainer_create_classifier(const carso_model *model, const carso_classifier_training_options *options,
                                             carso_trainer **out_trainer)
{
    if (out_trainer) {
        *out_trainer = NULL;
    }
    if (!model || !out_trainer) {
        return cso_fail_missing(model ? model->context : NULL, "carso_trainer_create_classifier", "out_trainer");
    }
    carso_classifier_training_options resolved;
    cso_classifier_training_defaults(&resolved);
    const carso_status status =
        cso_options_copy(model->context, "carso_classifier_training_options", &resolved, sizeof resolved, options);
    return status ? status : cso_trainer_create_classifier(model, &resolved, out_trainer);
}

carso_status carso_train_step(carso_trainer *trainer, const carso_images *images, const int32_t *labels,
                              carso_train_report *out_report)
{
    if (!trainer) {
        return CARSO_ERROR_INVALID_ARGUMENT;
    }
    const carso_context *context = trainer->context;
    if (out_report && (out_report->struct_size < sizeof out_report->struct_size || out_report->struct_size > LARGEST_STRUCT)) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_train_step: struct_size is %zu; set it to sizeof *out_report",
                        out_report->struct_size);
    }
    if (trainer->step >= MOST_STEPS) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_train_step: %llu steps are as many as a training can have",
                        (unsigned long long)trainer->step);
    }
    cso_image_batch batch;
    float *dense = NULL;
    carso_train_report report;
    carso_status status = cso_image_batch_open(trainer->model, images, 0, "carso_train_step", &batch);
    if (status) {
        goto done;
    }
    if (batch.count < 2 || batch.count > INT32_MAX) {
        status = cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_train_step: a batch of %llu images; it must have at least 2",
                          (unsigned long long)batch.count);
        goto done;
    }
    if (labels) {
        status = cso_image_batch_check_labels(&batch, labels, "carso_train_step");
        if (status) {
            goto done;
        }
    }
    dense = cso_image_batch_allocate(&batch, (size_t)batch.count, batch.image_size, 1, sizeof *dense);
    if (!dense) {
        status = cso_fail_memory(context, "a batch of images");
        goto done;
    }
    status = cso_image_batch_source(&batch, 0, batch.count, dense);
    if (!status) {
        const cso_train_batch train_batch = {.count = batch.count, .images = dense, .labels = labels};
        status = cso_trainer_step(trainer, &train_batch, &report);
    }
    if (!status && out_report) {
        cso_options_fill(out_report, out_report->struct_size, &report, sizeof report);
    }
done:
    cso_release(context, dense);
    cso_image_batch_close(&batch);
    return status;
}

carso_status carso_trainer_get_model(const carso_trainer *trainer, carso_model **out_model)
{
    if (out_model) {
        *out_model = NULL;
    }
    if (!trainer || !out_model) {
        return cso_fail_missing(trainer ? trainer->context : NULL, "carso_trainer_get_model", "out_model");
    }
    return cso_trainer_model(trainer, out_model);
}

uint64_t carso_trainer_step(const carso_trainer *trainer)
{
    return trainer ? trainer->step : 0;
}

carso_status carso_trainer_set_data(carso_trainer *trainer, const char *name, uint64_t images, uint64_t batch,
                                    const carso_read_options *reading)
{
    if (!trainer || !name) {
        return cso_fail_missing(trainer ? trainer->context : NULL, "carso_trainer_set_data", "name");
    }
    carso_read_options resolved;
    carso_read_options_init(&resolved, sizeof resolved);
    const carso_status status =
        cso_options_copy(trainer->context, "read options", &resolved, sizeof resolved, reading);
    if (status) {
        return status;
    }
    const cso_trainer_data data = {.images = images,
                                   .batch = batch,
                                   .crop_padding = resolved.crop_padding,
                                   .mirror = resolved.mirror};
    return cso_trainer_set_data(trainer, name, &data);
}

static carso_status check_kind(const carso_trainer *trainer, cso_trainer_kind wanted)
{
    return trainer->kind == wanted
               ? CARSO_OK
               : cso_fail(trainer->context, CARSO_ERROR_INVALID_ARGUMENT, "it is of the training of a %s",
                          trainer->kind == CSO_TRAIN_PURIFIER ? "purifier" : "classifier");
}

carso_status carso_trainer_check_purifier(const carso_trainer *trainer, const carso_purifier_training_options *options)
{
    if (!trainer) {
        return CARSO_ERROR_INVALID_ARGUMENT;
    }
    carso_purifier_training_options wanted;
    cso_purifier_training_defaults(&wanted);
    carso_status status =
        cso_options_copy(trainer->context, "carso_purifier_training_options", &wanted, sizeof wanted, options);
    if (!status) {
        status = check_kind(trainer, CSO_TRAIN_PURIFIER);
    }
    return status ? status : cso_purifier_training_same(trainer->context, &trainer->purifier_options, &wanted);
}

carso_status carso_trainer_check_classifier(const carso_trainer *trainer,
                                            const carso_classifier_training_options *options)
{
    if (!trainer) {
        return CARSO_ERROR_INVALID_ARGUMENT;
    }
    carso_classifier_training_options wanted;
    cso_classifier_training_defaults(&wanted);
    carso_status status =
        cso_options_copy(trainer->context, "carso_classifier_training_options", &wanted, sizeof wanted, options);
    if (!status) {
        status = check_kind(trainer, CSO_TRAIN_CLASSIFIER);
    }
    return status ? status : cso_classifier_training_same(trainer->context, &trainer->classifier_options, &wanted);
}

carso_status carso_trainer_save(const carso_trainer *trainer, const char *path)
{
    if (!trainer || !path) {
        return cso_fail_missing(trainer ? trainer->context : NULL, "carso_trainer_save", "path");
    }
    return cso_checkpoint_write(trainer, path);
}

carso_status carso_trainer_load(carso_context *context, const char *path, carso_trainer **out_trainer)
{
    if (out_trainer) {
        *out_trainer = NULL;
    }
    if (!context || !path || !out_trainer) {
        return cso_fail_missing(context, "carso_trainer_load", path ? "out_trainer" : "path");
    }
    cso_safetensors *file = NULL;
    carso_status status = cso_safetensors_open(context, path, &file);
    if (!status) {
        status = cso_checkpoint_read(context, file, path, out_trainer);
        cso_safetensors_release(file);
    }
    return status;
}

void carso_trainer_destroy(carso_trainer *trainer)
{
    cso_trainer_destroy(trainer);
}
