/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file of an evaluation: a safetensors file of its columns, with metadata "evaluation" for the rest, which
 * "evaluation_crc32" guards, for the file's own CRC-32 covers tensors only.
 */
#include <string.h>
#include <zlib.h>

#include "base/tensor_type.h"
#include "evaluate/evaluation.h"

#define FILE_VERSION 2
#define MOST_COMMANDS 65536
#define METADATA "evaluation"
#define METADATA_CRC "evaluation_crc32"

static void text_crc(const char *text, char out[CSO_CHECKSUM_SIZE])
{
    cso_checksum_text((uint32_t)crc32_z(0, (const Bytef *)text, strlen(text)), out);
}

static size_t second_count(const carso_evaluation *evaluation)
{
    return (size_t)evaluation->protocol.cell_count * (size_t)(evaluation->most_attacks + 1);
}

static json_t *describe(const carso_evaluation *evaluation)
{
    json_t *const seconds = json_array();
    int failed = !seconds;
    for (size_t i = 0; i < second_count(evaluation) && !failed; i++) {
        failed = json_array_append_new(seconds, json_real(evaluation->seconds[i]));
    }
    if (failed) {
        json_decref(seconds);
        return NULL;
    }
    return json_pack("{s:i, s:s, s:s, s:s, s:O, s:O, s:O, s:i, s:i, s:I, s:I, s:o}", "version", FILE_VERSION,
                     "model_sha256", evaluation->model_hash, "data_sha256", evaluation->data_hash,
                     "configuration_sha256", evaluation->configuration_hash, "configuration", evaluation->configuration,
                     "class_names", evaluation->class_names, "commands", evaluation->commands, "shard",
                     evaluation->shard, "shards", evaluation->shards, "rows", (json_int_t)evaluation->columns.rows,
                     "units_done", (json_int_t)evaluation->units_done, "seconds", seconds);
}

carso_status carso_evaluation_save(carso_evaluation *evaluation, const char *path)
{
    if (!evaluation || !path) {
        return cso_fail_missing(evaluation ? evaluation->context : NULL, "carso_evaluation_save", "path");
    }
    carso_context *const context = evaluation->context;
    char crc[CSO_CHECKSUM_SIZE];
    json_t *const json = describe(evaluation);
    char *const text = json ? cso_json_text(context, json, NULL) : NULL;
    cso_tensor_write *const tensor = cso_allocate(context, evaluation->columns.count, sizeof *tensor);
    carso_status status = text && tensor ? CARSO_OK : cso_fail_memory(context, "the evaluation's file");
    if (status == CARSO_OK) {
        cso_columns_describe(&evaluation->columns, evaluation->columns.rows, tensor);
        text_crc(text, crc);
        const char *const keys[] = {METADATA, METADATA_CRC};
        const char *const values[] = {text, crc};
        status = cso_safetensors_write(context, path, tensor, evaluation->columns.count, keys, values, 2);
    }
    cso_release(context, tensor);
    cso_release(context, text);
    json_decref(json);
    return status;
}

static carso_status read_description(carso_context *context, const cso_safetensors *file, const char *path,
                                     json_t **out)
{
    int64_t version;
    char found[CSO_CHECKSUM_SIZE];
    *out = NULL;
    const char *const text = cso_safetensors_metadata(file, METADATA);
    const char *const crc = cso_safetensors_metadata(file, METADATA_CRC);
    if (!text) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s is not the file of an evaluation", path);
    }
    text_crc(text, found);
    if (!crc || strcmp(crc, found) != 0) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: the evaluation's settings do not match their CRC-32; the file is damaged", path);
    }
    carso_status status = cso_json_parse(context, text, strlen(text), path, out);
    if (status == CARSO_OK) {
        status = cso_json_integer(context, *out, "version", path, FILE_VERSION, FILE_VERSION, &version);
    }
    return status == CARSO_OK ? cso_safetensors_check(file) : status;
}

static carso_status read_hash(carso_context *context, const json_t *json, const char *key, const char *path,
                              char out[CSO_SHA256_TEXT])
{
    const char *text;
    const carso_status status = cso_json_string(context, json, key, path, &text);
    if (status != CARSO_OK) {
        return status;
    }
    if (strlen(text) != CSO_SHA256_TEXT - 1) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: \"%s\" is not a SHA-256", path, key);
    }
    memcpy(out, text, CSO_SHA256_TEXT);
    return CARSO_OK;
}

/* What lies beside the columns of an evaluation that is prepared. */
static carso_status read_position(carso_evaluation *evaluation, const json_t *json, const char *path)
{
    int64_t units;
    const json_t *seconds;
    carso_status status = cso_json_integer(evaluation->context, json, "units_done", path, 0, (int64_t)cso_evaluation_units(evaluation), &units);
    if (status == CARSO_OK) {
        status = cso_json_array(evaluation->context, json, "seconds", path, second_count(evaluation), &seconds);
    }
    if (status != CARSO_OK) {
        return status;
    }
    evaluation->units_done = (uint64_t)units;
    for (size_t i = 0; i < json_array_size(seconds); i++) {
        evaluation->seconds[i] = json_number_value(json_array_get(seconds, i));
    }
    return CARSO_OK;
}

/* *out is NULL where the file has none. */
static carso_status find_commands(carso_context *context, const json_t *json, const char *path, const json_t **out)
{
    *out = NULL;
    if (!json_object_get(json, "commands")) {
        return CARSO_OK;
    }
    const carso_status status = cso_json_array(context, json, "commands", path, MOST_COMMANDS, out);
    for (size_t i = 0; status == CARSO_OK && i < json_array_size(*out); i++) {
        if (!json_is_string(json_array_get(*out, i))) {
            return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: command %zu is not a text", path, i);
        }
    }
    return status;
}

static void take_commands(carso_evaluation *evaluation, const json_t *commands)
{
    if (!commands) {
        return;
    }
    json_decref(evaluation->commands);
    evaluation->commands = json_incref((json_t *)commands);
}

carso_status carso_evaluation_set_command(carso_evaluation *evaluation, const char *command)
{
    if (!evaluation || !command) {
        return cso_fail_missing(evaluation ? evaluation->context : NULL, "carso_evaluation_set_command", "command");
    }
    json_t *const commands = json_array();
    if (!commands) {
        return cso_fail_memory(evaluation->context, "the command");
    }
    if (json_array_append_new(commands, json_string(command)) != 0) {
        json_decref(commands);
        return cso_fail(evaluation->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "carso_evaluation_set_command: the command is not UTF-8, or memory ran out");
    }
    json_decref(evaluation->commands);
    evaluation->commands = commands;
    return CARSO_OK;
}

/* A file may hold anything: what would be used as an index has to be one. */
static carso_status check_columns(const carso_evaluation *evaluation, const char *path)
{
    for (int64_t i = 0; i < evaluation->columns.rows; i++) {
        bool fits = evaluation->label[i] >= 0 && evaluation->label[i] < evaluation->classes &&
                    evaluation->position[i] >= 0 && evaluation->position[i] < evaluation->total;
        for (int c = 0; c < evaluation->protocol.cell_count && fits; c++) {
            fits = evaluation->cell[c].best[i] >= -1 &&
                   evaluation->cell[c].best[i] < evaluation->protocol.cell[c].attack_count;
        }
        if (!fits) {
            return cso_fail(evaluation->context, CARSO_ERROR_BAD_FORMAT, "%s: image %lld has a label, position or attack that there is not",
                            path, (long long)i);
        }
    }
    return CARSO_OK;
}

static carso_status check_same(const carso_evaluation *evaluation, const json_t *json, const char *path)
{
    char model[CSO_SHA256_TEXT], data[CSO_SHA256_TEXT], configuration[CSO_SHA256_TEXT];
    carso_context *const context = evaluation->context;
    carso_status status = read_hash(context, json, "model_sha256", path, model);
    if (status == CARSO_OK) {
        status = read_hash(context, json, "data_sha256", path, data);
    }
    if (status == CARSO_OK) {
        status = read_hash(context, json, "configuration_sha256", path, configuration);
    }
    if (status != CARSO_OK) {
        return status;
    }
    if (strcmp(model, evaluation->model_hash) != 0) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s is of another model, with SHA-256 %.16s...; this one has %.16s...", path,
                        model, evaluation->model_hash);
    }
    if (strcmp(data, evaluation->data_hash) != 0) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s is of other images or labels, with SHA-256 %.16s...; these have %.16s...",
                        path, data, evaluation->data_hash);
    }
    if (strcmp(configuration, evaluation->configuration_hash) != 0) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "%s is of another configuration: protocol, epsilons, seed, batch, backend and release must be the same", path);
    }
    if (json_integer_value(json_object_get(json, "shard")) != evaluation->shard ||
        json_integer_value(json_object_get(json, "shards")) != evaluation->shards) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s is of shard %lld of %lld, not of %d of %d", path,
                        (long long)json_integer_value(json_object_get(json, "shard")),
                        (long long)json_integer_value(json_object_get(json, "shards")), evaluation->shard,
                        evaluation->shards);
    }
    return CARSO_OK;
}

carso_status carso_evaluation_resume(carso_evaluation *evaluation, const char *path)
{
    if (!evaluation || !path) {
        return cso_fail_missing(evaluation ? evaluation->context : NULL, "carso_evaluation_resume", "path");
    }
    carso_context *const context = evaluation->context;
    cso_safetensors *file = NULL;
    json_t *json = NULL;
    const json_t *commands = NULL;
    if (!evaluation->model || evaluation->units_done > 0) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_evaluation_resume: the evaluation is not new");
    }
    carso_status status = cso_safetensors_open(context, path, &file);
    if (status == CARSO_OK) {
        status = read_description(context, file, path, &json);
    }
    if (status == CARSO_OK) {
        status = check_same(evaluation, json, path);
    }
    if (status == CARSO_OK) {
        status = find_commands(context, json, path, &commands);
    }
    if (status == CARSO_OK) {
        status = cso_columns_read(&evaluation->columns, file, path, 0, evaluation->columns.rows);
    }
    if (status == CARSO_OK) {
        status = check_columns(evaluation, path);
    }
    if (status == CARSO_OK) {
        status = read_position(evaluation, json, path);
    }
    if (status == CARSO_OK && json_array_size(evaluation->commands) == 0) {
        take_commands(evaluation, commands);
    }
    json_decref(json);
    cso_safetensors_release(file);
    return status;
}

static carso_status check_configuration(carso_evaluation *evaluation, const char *path)
{
    char found[CSO_SHA256_TEXT];
    const carso_status status = cso_configuration_hash(evaluation->context, evaluation->configuration, found);
    if (status == CARSO_OK && strcmp(found, evaluation->configuration_hash) != 0) {
        return cso_fail(evaluation->context, CARSO_ERROR_BAD_FORMAT, "%s: the configuration does not match its SHA-256",
                        path);
    }
    return status;
}

static carso_status read_shard(carso_evaluation *evaluation, const json_t *json, const char *path)
{
    int64_t shards, shard, rows;
    carso_status status = cso_json_integer(evaluation->context, json, "shards", path, 1, INT32_MAX, &shards);
    if (status == CARSO_OK) {
        status = cso_json_integer(evaluation->context, json, "shard", path, 0, shards - 1, &shard);
    }
    if (status == CARSO_OK) {
        status = cso_json_integer(evaluation->context, json, "rows", path, 1, INT64_MAX / 65536, &rows);
    }
    if (status != CARSO_OK) {
        return status;
    }
    evaluation->shard = (int)shard;
    evaluation->shards = (int)shards;
    evaluation->columns.rows = rows;
    return CARSO_OK;
}

/* All but the columns, of which there are as many rows as rows says, or where that is 0, as the file says. */
static carso_status take_description(carso_evaluation *evaluation, const json_t *json, const char *path, int64_t rows)
{
    carso_context *const context = evaluation->context;
    const json_t *names, *commands;
    int64_t norm;
    carso_status status = read_shard(evaluation, json, path);
    if (status == CARSO_OK) {
        status = read_hash(context, json, "model_sha256", path, evaluation->model_hash);
    }
    if (status == CARSO_OK) {
        status = read_hash(context, json, "data_sha256", path, evaluation->data_hash);
    }
    if (status == CARSO_OK) {
        status = read_hash(context, json, "configuration_sha256", path, evaluation->configuration_hash);
    }
    if (status == CARSO_OK) {
        status = cso_json_array(context, json, "class_names", path, 65536, &names);
    }
    if (status == CARSO_OK) {
        status = find_commands(context, json, path, &commands);
    }
    if (status != CARSO_OK) {
        return status;
    }
    take_commands(evaluation, commands);
    evaluation->configuration = json_incref(json_object_get(json, "configuration"));
    evaluation->class_names = json_incref((json_t *)names);
    evaluation->columns.rows = rows > 0 ? rows : evaluation->columns.rows;
    status = cso_json_integer(context, evaluation->configuration, "norm", path, CARSO_NORM_LINF, CARSO_NORM_L2, &norm);
    if (status == CARSO_OK) {
        status = check_configuration(evaluation, path);
    }
    if (status == CARSO_OK) {
        status = cso_protocol_from_json(context, json_object_get(evaluation->configuration, "protocol"), path,
                                        (int)norm, &evaluation->protocol);
    }
    return status == CARSO_OK ? cso_evaluation_prepare(evaluation, path) : status;
}

carso_status carso_evaluation_open(carso_context *context, const char *path, carso_evaluation **out_evaluation)
{
    if (out_evaluation) {
        *out_evaluation = NULL;
    }
    if (!context || !path || !out_evaluation) {
        return cso_fail_missing(context, "carso_evaluation_open", path ? "out_evaluation" : "path");
    }
    cso_safetensors *file = NULL;
    json_t *json = NULL;
    carso_evaluation *evaluation = NULL;
    carso_status status = cso_safetensors_open(context, path, &file);
    if (status == CARSO_OK) {
        status = read_description(context, file, path, &json);
    }
    if (status == CARSO_OK) {
        status = cso_evaluation_allocate(context, &evaluation);
    }
    if (status == CARSO_OK) {
        status = take_description(evaluation, json, path, 0);
    }
    if (status == CARSO_OK) {
        status = cso_columns_read(&evaluation->columns, file, path, 0, evaluation->columns.rows);
    }
    if (status == CARSO_OK) {
        status = check_columns(evaluation, path);
    }
    if (status == CARSO_OK) {
        status = read_position(evaluation, json, path);
    }
    json_decref(json);
    cso_safetensors_release(file);
    if (status != CARSO_OK) {
        carso_evaluation_destroy(evaluation);
        return status;
    }
    *out_evaluation = evaluation;
    return CARSO_OK;
}

static carso_status check_parts(carso_context *context, carso_evaluation *const *part, const char *const *path,
                                size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(part[i]->model_hash, part[0]->model_hash) != 0 ||
            strcmp(part[i]->data_hash, part[0]->data_hash) != 0 ||
            strcmp(part[i]->configuration_hash, part[0]->configuration_hash) != 0 ||
            part[i]->shards != part[0]->shards) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                            "%s and %s do not belong together: model, data, configuration and number of shards must be the same", path[0],
                            path[i]);
        }
        if (part[i]->units_done < cso_evaluation_units(part[i])) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s is not finished; resume it first", path[i]);
        }
        for (size_t j = 0; j < i; j++) {
            if (part[j]->shard == part[i]->shard) {
                return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%s and %s are both of shard %d", path[j],
                                path[i], part[i]->shard);
            }
        }
    }
    if (count != (size_t)part[0]->shards) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "%zu files of the %d shards: each is needed", count,
                        part[0]->shards);
    }
    return CARSO_OK;
}

static carso_status copy_parts(carso_evaluation *whole, carso_evaluation *const *part, size_t count)
{
    int64_t first = 0;
    for (size_t p = 0; p < count; p++) {
        const int64_t rows = part[p]->columns.rows;
        if (rows > whole->columns.rows - first) {
            return cso_fail(whole->context, CARSO_ERROR_BAD_FORMAT, "the shards hold more images than the whole");
        }
        for (size_t i = 0; i < whole->columns.count; i++) {
            const cso_column *const to = &whole->columns.column[i], *const from = &part[p]->columns.column[i];
            memcpy((char *)to->data + (size_t)first * to->size, from->data, (size_t)rows * to->size);
        }
        for (size_t i = 0; i < second_count(whole); i++) {
            whole->seconds[i] += part[p]->seconds[i];
        }
        first += rows;
    }
    if (first < whole->columns.rows) {
        return cso_fail(whole->context, CARSO_ERROR_BAD_FORMAT, "the shards hold fewer images than the whole");
    }
    return cso_columns_sort(&whole->columns, "position");
}

/* In the order of shards, whatever that of the files. */
static carso_status join_commands(carso_evaluation *whole, carso_evaluation *const *part, size_t count)
{
    json_t *const commands = json_array(); /* the parts' own are theirs */
    int failed = !commands;
    for (size_t shard = 0; shard < count; shard++) {
        for (size_t p = 0; p < count; p++) {
            if ((size_t)part[p]->shard == shard) {
                failed |= json_array_extend(commands, part[p]->commands);
            }
        }
    }
    json_decref(whole->commands);
    whole->commands = commands;
    return failed ? cso_fail_memory(whole->context, "the evaluation") : CARSO_OK;
}

static carso_status join(carso_context *context, carso_evaluation *const *part, const char *const *path, size_t count,
                         carso_evaluation **out)
{
    carso_status status = check_parts(context, part, path, count);
    if (status == CARSO_OK) {
        status = cso_evaluation_allocate(context, out);
    }
    json_t *const json = status == CARSO_OK ? describe(part[0]) : NULL;
    if (status == CARSO_OK) {
        status =
            json ? take_description(*out, json, path[0], part[0]->total) : cso_fail_memory(context, "the evaluation");
    }
    json_decref(json);
    if (status == CARSO_OK) {
        status = copy_parts(*out, part, count);
    }
    if (status == CARSO_OK) {
        status = join_commands(*out, part, count);
    }
    if (status == CARSO_OK) {
        (*out)->shard = 0;
        (*out)->shards = 1;
        (*out)->units_done = cso_evaluation_units(*out);
    }
    return status;
}

carso_status carso_evaluation_merge(carso_context *context, const char *const *paths, size_t count,
                                    carso_evaluation **out_evaluation)
{
    if (out_evaluation) {
        *out_evaluation = NULL;
    }
    if (!context || !paths || count < 1 || !out_evaluation) {
        return cso_fail_missing(context, "carso_evaluation_merge", !paths || count < 1 ? "paths" : "out_evaluation");
    }
    carso_evaluation *whole = NULL;
    carso_evaluation **const part = cso_allocate(context, count, sizeof *part);
    carso_status status = part ? CARSO_OK : cso_fail_memory(context, "the evaluation");
    for (size_t i = 0; i < count && status == CARSO_OK; i++) {
        status = paths[i] ? carso_evaluation_open(context, paths[i], &part[i])
                          : cso_fail_missing(context, "carso_evaluation_merge", "paths");
    }
    if (status == CARSO_OK) {
        status = join(context, part, paths, count, &whole);
    }
    for (size_t i = 0; part && i < count; i++) {
        carso_evaluation_destroy(part[i]);
    }
    cso_release(context, part);
    if (status != CARSO_OK) {
        carso_evaluation_destroy(whole);
        return status;
    }
    *out_evaluation = whole;
    return CARSO_OK;
}
