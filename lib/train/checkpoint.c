/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A checkpoint is the file of the model reached, with tensors "checkpoint.ROLE.NAME" for what else the optimiser knows of the weight
 * NAME, and metadata "checkpoint": kind, step, options and a CRC-32 of the model's settings, itself guarded by "checkpoint_crc32", for
 * the file's own CRC-32 covers tensors only.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/safetensors.h"
#include "train/options.h"
#include "train/trainer.h"

#define CHECKPOINT_VERSION 1
#define METADATA "checkpoint"
#define METADATA_CRC "checkpoint_crc32"
#define CRC_SIZE 9
#define MOST_ROLES 3

static const char *const kind_names[] = {[CSO_TRAIN_PURIFIER] = "purifier", [CSO_TRAIN_CLASSIFIER] = "classifier"};

/* One array of a weight that the model file does not hold. The purifier's model holds the slow weights, the classifier's the weights. */
typedef struct role {
    const char *name;
    int state; /* -1: the weight itself */
} role;

static const role purifier_roles[] = {
    {"fast", -1},
    {"first_moment", CSO_STATE_FIRST_MOMENT},
    {"second_moment", CSO_STATE_SECOND_MOMENT},
};
static const role classifier_roles[] = {{"velocity", CSO_STATE_VELOCITY}};

static int roles_of(cso_trainer_kind kind, const role **out)
{
    *out = kind == CSO_TRAIN_PURIFIER ? purifier_roles : classifier_roles;
    return kind == CSO_TRAIN_PURIFIER ? MOST_ROLES : 1;
}

static float *role_values(const cso_weight *weight, int state)
{
    return state < 0 ? cso_parameter_host(weight->parameter) : weight->state[state];
}

static char *tensor_name(const carso_context *context, const char *role_name, const char *weight)
{
    const size_t size = strlen("checkpoint..") + strlen(role_name) + strlen(weight) + 1;
    char *name = cso_allocate_raw(context, size, 1);
    if (name) {
        snprintf(name, size, "checkpoint.%s.%s", role_name, weight);
    }
    return name;
}

static void format_crc(uLong crc, char text[CRC_SIZE])
{
    snprintf(text, CRC_SIZE, "%08" PRIx32, (uint32_t)crc);
}

static uLong text_crc(uLong crc, const char *text)
{
    return crc32_z(crc, (const Bytef *)text, strlen(text));
}

/* Of all that the model is but its weights. Takes json over. */
static carso_status add_json_crc(const carso_context *context, json_t *json, uLong *crc)
{
    char *text = cso_json_text(context, json, NULL);
    json_decref(json);
    if (!text) {
        return cso_fail_memory(context, "the model's settings");
    }
    *crc = text_crc(*crc, text);
    cso_release(context, text);
    return CARSO_OK;
}

static carso_status settings_crc(const carso_model *model, char text[CRC_SIZE])
{
    uLong crc = 0;
    json_t *json = NULL;
    carso_status status = cso_model_describe_json(model, &json);
    if (!status) {
        status = add_json_crc(model->context, json, &crc);
    }
    if (!status) {
        status = cso_graph_to_json(model->classifier, &json);
    }
    if (!status) {
        status = add_json_crc(model->context, json, &crc);
    }
    format_crc(crc, text);
    return status;
}

static carso_status make_metadata(const carso_trainer *trainer, const carso_model *model, char **out)
{
    char crc[CRC_SIZE];
    *out = NULL;
    const carso_status status = settings_crc(model, crc);
    if (status) {
        return status;
    }
    json_t *options = trainer->kind == CSO_TRAIN_PURIFIER
                          ? cso_purifier_training_to_json(&trainer->purifier_options)
                          : cso_classifier_training_to_json(&trainer->classifier_options);
    json_t *json = NULL;
    if (options) {
        json = json_pack("{s:i, s:s, s:I, s:I, s:i, s:s, s:o}", "version", CHECKPOINT_VERSION, "kind", kind_names[trainer->kind], "step",
                         (json_int_t)trainer->step, "sub_batch", (json_int_t)trainer->sub_batch, "collapse_reported",
                         (int)trainer->collapse_reported, "settings_crc32", crc, "options", options);
    }
    if (json && trainer->data.batch != 0 && json_object_set_new(json, "data", cso_trainer_data_to_json(&trainer->data))) {
        json_decref(json);
        json = NULL;
    }
    *out = json ? cso_json_text(trainer->context, json, NULL) : NULL;
    json_decref(json);
    return *out ? CARSO_OK : cso_fail_memory(trainer->context, "a checkpoint's settings");
}

carso_status cso_checkpoint_write(const carso_trainer *trainer, const char *path)
{
    const carso_context *context = trainer->context;
    const role *roles;
    const int role_count = roles_of(trainer->kind, &roles);
    const int weight_count = trainer->weights->learned_count;
    const size_t tensor_count = (size_t)weight_count * (size_t)role_count;
    carso_model *model = NULL;
    char *metadata = NULL;
    char crc[CRC_SIZE];
    cso_tensor_write *tensor = cso_allocate(context, tensor_count, sizeof *tensor);
    carso_status status = tensor ? CARSO_OK : cso_fail_memory(context, "parts of a checkpoint");
    if (!status) {
        status = cso_trainer_model(trainer, &model);
    }
    if (!status) {
        status = make_metadata(trainer, model, &metadata);
    }
    for (size_t i = 0; !status && i < tensor_count; i++) {
        const cso_weight *weight = &trainer->weights->learned[i / (size_t)role_count];
        const role *part = &roles[i % (size_t)role_count];
        tensor[i].name = tensor_name(context, part->name, weight->name);
        if (!tensor[i].name) {
            status = cso_fail_memory(context, "parts of a checkpoint");
            break;
        }
        tensor[i].type = CSO_TENSOR_F32;
        tensor[i].rank = weight->parameter->rank;
        memcpy(tensor[i].dimension, weight->parameter->dimension, (size_t)tensor[i].rank * sizeof *tensor[i].dimension);
        tensor[i].data = role_values(weight, part->state);
    }
    if (!status) {
        format_crc(text_crc(0, metadata), crc);
        const char *const keys[] = {METADATA, METADATA_CRC};
        const char *const values[] = {metadata, crc};
        status = cso_model_write(model, path, tensor, tensor_count, keys, values, 2);
    }
    for (size_t i = 0; tensor && i < tensor_count; i++) {
        cso_release(context, (void *)tensor[i].name);
    }
    cso_release(context, metadata);
    carso_model_destroy(model);
    cso_release(context, tensor);
    return status;
}

static bool matches(const cso_tensor *tensor, const cso_parameter *parameter)
{
    if (tensor->type != CSO_TENSOR_F32 || tensor->rank != parameter->rank) {
        return false;
    }
    return memcmp(tensor->dimension, parameter->dimension, (size_t)tensor->rank * sizeof *tensor->dimension) == 0;
}

static carso_status read_state(carso_trainer *trainer, const cso_safetensors *file, const char *path)
{
    const carso_context *context = trainer->context;
    const role *roles;
    const int role_count = roles_of(trainer->kind, &roles);
    for (int i = 0; i < trainer->weights->learned_count; i++) {
        const cso_weight *weight = &trainer->weights->learned[i];
        for (int j = 0; j < role_count; j++) {
            char *name = tensor_name(context, roles[j].name, weight->name);
            if (!name) {
                return cso_fail_memory(context, "parts of a checkpoint");
            }
            const cso_tensor *tensor = cso_safetensors_find(file, name);
            carso_status status = CARSO_OK;
            if (!tensor || !matches(tensor, weight->parameter)) {
                status = cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: tensor %s %s; the checkpoint is damaged", path,
                                  name, tensor ? "has another type or shape than its weight" : "is missing");
            } else {
                memcpy(role_values(weight, roles[j].state), tensor->data, tensor->bytes);
            }
            cso_release(context, name);
            if (status) {
                return status;
            }
        }
    }
    return CARSO_OK;
}

/* The parsed metadata of what claims to be a checkpoint. */
static carso_status read_metadata(carso_context *context, const cso_safetensors *file, const char *path, json_t **out)
{
    *out = NULL;
    const char *text = cso_safetensors_metadata(file, METADATA);
    const char *crc = cso_safetensors_metadata(file, METADATA_CRC);
    if (!text) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT,
                        cso_safetensors_metadata(file, "format")
                            ? "%s is a model file, not a checkpoint; load it as a model and start a new training with it"
                            : "%s is not a checkpoint of libcarso",
                        path);
    }
    char found[CRC_SIZE];
    format_crc(text_crc(0, text), found);
    if (!crc || strcmp(crc, found) != 0) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: the checkpoint's settings do not match their CRC-32; the file is damaged",
                        path);
    }
    return cso_json_parse(context, text, strlen(text), path, out);
}

static carso_status check_settings(carso_context *context, const json_t *json, const carso_model *model,
                                   const char *path)
{
    const char *expected;
    char found[CRC_SIZE];
    carso_status status = cso_json_string(context, json, "settings_crc32", path, &expected);
    if (!status) {
        status = settings_crc(model, found);
    }
    if (!status && strcmp(expected, found) != 0) {
        status = cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: the model's settings do not match their CRC-32; the file is damaged", path);
    }
    return status;
}

/* A trainer as it was created, with the options of the checkpoint. */
static carso_status create_trainer(carso_context *context, const json_t *json, const carso_model *model,
                                   const char *path, carso_trainer **out)
{
    const json_t *options = json_object_get(json, "options");
    const char *kind;
    carso_status status = cso_json_string(context, json, "kind", path, &kind);
    if (status) {
        return status;
    }
    if (strcmp(kind, kind_names[CSO_TRAIN_PURIFIER]) == 0) {
        carso_purifier_training_options purifier_options;
        cso_purifier_training_defaults(&purifier_options);
        status = cso_purifier_training_from_json(context, options, path, &purifier_options);
        return status ? status : cso_trainer_create_purifier(model, &purifier_options, out);
    }
    if (strcmp(kind, kind_names[CSO_TRAIN_CLASSIFIER]) == 0) {
        carso_classifier_training_options classifier_options;
        cso_classifier_training_defaults(&classifier_options);
        status = cso_classifier_training_from_json(context, options, path, &classifier_options);
        return status ? status : cso_trainer_create_classifier(model, &classifier_options, out);
    }
    return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: the checkpoint is of a \"%s\"; this release knows purifier and classifier", path,
                    kind);
}

/* Checkpoints of a trainer that was not told have none. */
static carso_status read_data(carso_trainer *trainer, const json_t *json, const char *path)
{
    carso_context *context = trainer->context;
    const json_t *data = json_object_get(json, "data");
    const char *name;
    int64_t images, batch, crop_padding, mirror;
    if (!data) {
        return CARSO_OK;
    }
    carso_status status = cso_json_string(context, data, "name", path, &name);
    if (!status) {
        status = cso_json_integer(context, data, "images", path, 2, INT64_MAX, &images);
    }
    if (!status) {
        status = cso_json_integer(context, data, "batch", path, 2, INT64_MAX, &batch);
    }
    if (!status) {
        status = cso_json_integer(context, data, "crop_padding", path, 0, INT32_MAX, &crop_padding);
    }
    if (!status) {
        status = cso_json_integer(context, data, "mirror", path, 0, 1, &mirror);
    }
    if (!status) {
        const cso_trainer_data given = {.images = (uint64_t)images,
                                        .batch = (uint64_t)batch,
                                        .crop_padding = (int32_t)crop_padding,
                                        .mirror = (int32_t)mirror};
        status = cso_trainer_set_data(trainer, name, &given);
    }
    return status == CARSO_ERROR_INVALID_ARGUMENT ? CARSO_ERROR_BAD_FORMAT : status;
}

carso_status cso_checkpoint_read(carso_context *context, cso_safetensors *file, const char *path, carso_trainer **out)
{
    carso_model *model = NULL;
    carso_trainer *trainer = NULL;
    json_t *json = NULL;
    int64_t version, step, sub_batch, collapse_reported;
    *out = NULL;
    carso_status status = read_metadata(context, file, path, &json);
    if (!status) {
        status = cso_json_integer(context, json, "version", path, CHECKPOINT_VERSION, CHECKPOINT_VERSION, &version);
    }
    if (!status) {
        status = cso_json_integer(context, json, "step", path, 0, UINT32_MAX, &step);
    }
    if (!status) {
        status = cso_json_integer(context, json, "sub_batch", path, 2, INT32_MAX, &sub_batch);
    }
    if (!status) {
        status = cso_json_integer(context, json, "collapse_reported", path, 0, 1, &collapse_reported);
    }
    if (!status) {
        status = cso_model_from_file(context, file, &model);
    }
    if (!status) {
        status = check_settings(context, json, model, path);
    }
    if (!status) {
        status = create_trainer(context, json, model, path, &trainer);
        /* What would be the caller's mistake in options is the file's here. */
        status = status == CARSO_ERROR_INVALID_ARGUMENT ? CARSO_ERROR_BAD_FORMAT : status;
    }
    if (!status) {
        status = read_data(trainer, json, path);
    }
    if (!status) {
        status = read_state(trainer, file, path);
    }
    if (!status) {
        trainer->step = (uint64_t)step;
        /* Not what the memory limit of this run would make it: other sub-batches give other bits. */
        trainer->sub_batch = sub_batch;
        trainer->collapse_reported = collapse_reported;
        status = cso_weights_upload(trainer->weights);
    }
    if (status) {
        cso_trainer_destroy(trainer);
        trainer = NULL;
    }
    *out = trainer;
    carso_model_destroy(model);
    json_decref(json);
    return status;
}
