/* SPDX-License-Identifier: BSD-2-Clause */
#include <math.h>
#include <stdint.h>

#include "base/json.h"
#include "base/safetensors.h"
#include "model/model.h"

static const carso_model_options model_defaults = {
    .struct_size = sizeof model_defaults,
    .architecture = CARSO_SMALL_CNN,
    .depth = 28,
    .width = 0,
    .channels = 3,
    .image_height = 32,
    .image_width = 32,
    .classes = 10,
    .mean = {0.0f, 0.0f, 0.0f},
    .deviation = {1.0f, 1.0f, 1.0f},
};

static const carso_purifier_options purifier_defaults = {
    .struct_size = sizeof purifier_defaults,
    .seed_channels = 256,
};

void carso_model_options_init(carso_model_options *options, size_t size)
{
    cso_options_fill(options, size, &model_defaults, sizeof model_defaults);
}

void carso_purifier_options_init(carso_purifier_options *options, size_t size)
{
    cso_options_fill(options, size, &purifier_defaults, sizeof purifier_defaults);
}

carso_status carso_model_create(carso_context *context, const carso_model_options *options, carso_model **out_model)
{
    if (out_model != NULL) {
        *out_model = NULL;
    }
    if (context == NULL || out_model == NULL) {
        return cso_fail_missing(context, "carso_model_create", context == NULL ? "context" : "out_model");
    }
    carso_model_options resolved = model_defaults;
    carso_status status = cso_options_copy(context, "carso_model_options", &resolved, sizeof resolved, options);
    if (status != CARSO_OK) {
        return status;
    }
    carso_model *model = NULL;
    status = cso_model_allocate(context, &model);
    if (status == CARSO_OK) {
        status = cso_model_set_input(model, &resolved);
    }
    if (status == CARSO_OK) {
        switch (resolved.architecture) {
        case CARSO_WIDE_RESNET:
            status = cso_wide_resnet_build(context, &resolved, model);
            break;
        case CARSO_SMALL_CNN:
            status = cso_small_cnn_build(context, &resolved, model);
            break;
        default:
            status = cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "architecture %d is none of carso_architecture",
                              resolved.architecture);
        }
    }
    if (status != CARSO_OK) {
        carso_model_destroy(model);
        return status;
    }
    *out_model = model;
    return CARSO_OK;
}

carso_status carso_model_add_purifier(const carso_model *model, const carso_purifier_options *options,
                                      carso_model **out_model)
{
    if (out_model != NULL) {
        *out_model = NULL;
    }
    if (model == NULL || out_model == NULL) {
        return cso_fail_missing(model == NULL ? NULL : model->context, "carso_model_add_purifier", "out_model");
    }
    carso_context *context = model->context;
    carso_purifier_options resolved = purifier_defaults;
    carso_status status = cso_options_copy(context, "carso_purifier_options", &resolved, sizeof resolved, options);
    if (status != CARSO_OK) {
        return status;
    }
    carso_model *added = NULL;
    status = cso_model_share_classifier(model, &added);
    if (status == CARSO_OK) {
        status = cso_purifier_build(context, added, &resolved, NULL, NULL, true, &added->purifier);
    }
    if (status != CARSO_OK) {
        carso_model_destroy(added);
        return status;
    }
    *out_model = added;
    return CARSO_OK;
}

static carso_status from_opened(carso_context *context, carso_status status, cso_safetensors *file,
                                carso_model **out_model)
{
    if (status == CARSO_OK) {
        status = cso_model_from_file(context, file, out_model);
        cso_safetensors_release(file);
    }
    return status;
}

carso_status carso_model_load(carso_context *context, const char *path, carso_model **out_model)
{
    if (out_model != NULL) {
        *out_model = NULL;
    }
    if (context == NULL || path == NULL || out_model == NULL) {
        return cso_fail_missing(context, "carso_model_load", path == NULL ? "path" : "out_model");
    }
    cso_safetensors *file = NULL;
    const carso_status status = cso_safetensors_open(context, path, &file);
    return from_opened(context, status, file, out_model);
}

carso_status carso_model_load_memory(carso_context *context, const void *data, size_t size, carso_model **out_model)
{
    if (out_model != NULL) {
        *out_model = NULL;
    }
    if (context == NULL || data == NULL || out_model == NULL) {
        return cso_fail_missing(context, "carso_model_load_memory", data == NULL ? "data" : "out_model");
    }
    cso_safetensors *file = NULL;
    const carso_status status = cso_safetensors_open_memory(context, data, size, "model in memory", &file);
    return from_opened(context, status, file, out_model);
}

carso_status carso_model_import(const carso_model *model, const char *const *paths, size_t count,
                                carso_model **out_model)
{
    if (out_model != NULL) {
        *out_model = NULL;
    }
    if (model == NULL || paths == NULL || out_model == NULL) {
        return cso_fail_missing(model == NULL ? NULL : model->context, "carso_model_import",
                                paths == NULL ? "paths" : "out_model");
    }
    carso_context *context = model->context;
    for (size_t i = 0; i < count; i++) {
        if (paths[i] == NULL) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_model_import: path %zu is NULL", i);
        }
    }
    if (count == 0) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_model_import: no files are given");
    }
    cso_safetensors **file = cso_allocate(context, count, sizeof *file);
    carso_status status = file == NULL ? cso_fail_memory(context, "files") : CARSO_OK;
    for (size_t i = 0; status == CARSO_OK && i < count; i++) {
        status = cso_safetensors_open(context, paths[i], &file[i]);
    }
    if (status == CARSO_OK) {
        status = cso_model_import(model, file, paths, count, out_model);
    }
    for (size_t i = 0; file != NULL && i < count; i++) {
        if (file[i] != NULL) {
            cso_safetensors_release(file[i]);
        }
    }
    cso_release(context, file);
    return status;
}

carso_status carso_model_verify(const carso_model *model, const char *golden_path, double tolerance,
                                carso_deviation_callback callback, void *user, int32_t *out_departures)
{
    int32_t departures = 0;
    if (out_departures != NULL) {
        *out_departures = 0;
    }
    if (model == NULL || golden_path == NULL || out_departures == NULL) {
        return cso_fail_missing(model == NULL ? NULL : model->context, "carso_model_verify",
                                golden_path == NULL ? "golden_path" : "out_departures");
    }
    if (!isfinite(tolerance) || tolerance < 0.0) {
        return cso_fail(model->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "carso_model_verify: a tolerance of %g is negative or not finite", tolerance);
    }
    cso_safetensors *golden = NULL;
    carso_status status = cso_safetensors_open(model->context, golden_path, &golden);
    if (status == CARSO_OK) {
        carso_model *shared = (carso_model *)(uintptr_t)model; /* its lock guards the programs made on first use */
        status = cso_model_verify(shared, golden, tolerance, callback, user, &departures);
        cso_safetensors_release(golden);
    }
    *out_departures = departures;
    return status;
}

carso_status carso_model_save(const carso_model *model, const char *path)
{
    if (model == NULL || path == NULL) {
        return cso_fail_missing(model == NULL ? NULL : model->context, "carso_model_save", "path");
    }
    return cso_model_write(model, path, NULL, 0, NULL, NULL, 0);
}

carso_status carso_model_get_info(const carso_model *model, carso_model_info *out_info)
{
    if (model == NULL || out_info == NULL) {
        return cso_fail_missing(model == NULL ? NULL : model->context, "carso_model_get_info", "out_info");
    }
    carso_model_info info = {
        .struct_size = sizeof info,
        .channels = model->channels,
        .image_height = model->height,
        .image_width = model->width,
        .classes = model->classes,
        .taps = model->tap_count,
        .classifier_parameters = cso_graph_parameter_numbers(model->classifier),
        .classifier_multiply_adds = cso_graph_multiply_adds(model->classifier),
    };
    const cso_purifier *purifier = model->purifier;
    if (purifier != NULL) {
        info.has_purifier = 1;
        info.condition_size = purifier->condition_size;
        info.latent_size = purifier->latent_size;
        info.purifier_parameters = cso_graph_parameter_numbers(purifier->condition) +
                                   cso_graph_parameter_numbers(purifier->encoder) +
                                   cso_graph_parameter_numbers(purifier->decoder);
        info.condition_multiply_adds = cso_graph_multiply_adds(purifier->condition);
        info.decoder_multiply_adds = cso_graph_multiply_adds(purifier->decoder);
    }
    return cso_struct_fill(model->context, "carso_model_get_info", out_info, &info, sizeof info);
}

const char *carso_model_class_name(const carso_model *model, int32_t index)
{
    return model == NULL || index < 0 || index >= model->classes ? NULL : model->class_name[index];
}

static char *make_description(const carso_model *model)
{
    json_t *object = NULL;
    if (cso_model_describe_json(model, &object) != CARSO_OK) {
        return NULL;
    }
    char *text = cso_json_text(model->context, object, NULL);
    if (text == NULL) {
        cso_fail_memory(model->context, "description");
    }
    json_decref(object);
    return text;
}

const char *carso_model_describe(const carso_model *model)
{
    if (model == NULL) {
        return NULL;
    }
    carso_model *shared =
        (carso_model *)(uintptr_t)model; /* immutable to the caller; the lock guards what is made on first use */
    pthread_mutex_lock(&shared->lock);
    if (shared->description == NULL) {
        shared->description = make_description(model);
    }
    const char *description = shared->description;
    pthread_mutex_unlock(&shared->lock);
    return description;
}

carso_context *carso_model_context(const carso_model *model)
{
    return model == NULL ? NULL : model->context;
}
