/* SPDX-License-Identifier: BSD-2-Clause */
/* Models as files: docs/model-format.md. What is read is hostile. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/safetensors.h"
#include "model/model.h"
#include "model/tensor_report.h"

#define FORMAT "carso/1"
#define CLASSIFIER_PREFIX "classifier."
#define PURIFIER_PREFIX "purifier."
#define CHECKPOINT_PREFIX "checkpoint."
#define FULL_NAME_SIZE (CSO_MAX_NAME + 32)
#define MAX_TAPS 4096

typedef struct model_reader {
    carso_context *context;
    cso_safetensors *file;
    cso_tensor_report report;
    const cso_tensor *largest; /* F32, NULL: none */
} model_reader;

/* Parsed metadata; NULL where the file has none and required is false. */
static carso_status read_json(const model_reader *reader, const char *key, bool required, json_t **out)
{
    char where[64];
    *out = NULL;
    const char *text = cso_safetensors_metadata(reader->file, key);
    if (text == NULL) {
        return required
                   ? cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT, "model file: metadata \"%s\" is missing", key)
                   : CARSO_OK;
    }
    snprintf(where, sizeof where, "model file, metadata \"%s\"", key);
    return cso_json_parse(reader->context, text, strlen(text), where, out);
}

/* What was given as an argument in memory is read from a file here. */
static carso_status of_file(carso_status status)
{
    return status == CARSO_ERROR_INVALID_ARGUMENT ? CARSO_ERROR_BAD_FORMAT : status;
}

static carso_status read_channels(const model_reader *reader, const json_t *input, const char *key, int64_t channels,
                                  float *out)
{
    const char *where = "model file, metadata \"input\"";
    const json_t *array = NULL;
    const carso_status status = cso_json_array(reader->context, input, key, where, 3, &array);
    if (status != CARSO_OK) {
        return status;
    }
    if ((int64_t)json_array_size(array) != channels) {
        return cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT, "%s: \"%s\" has %zu numbers for %lld channels", where,
                        key, json_array_size(array), (long long)channels);
    }
    for (int64_t i = 0; i < channels; i++) {
        const json_t *number = json_array_get(array, (size_t)i);
        if (!json_is_number(number)) {
            return cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT, "%s: \"%s\" has something else than numbers",
                            where, key);
        }
        out[i] = (float)json_number_value(number);
    }
    return CARSO_OK;
}

static carso_status read_input(const model_reader *reader, carso_model_options *options)
{
    const char *where = "model file, metadata \"input\"";
    json_t *input = NULL;
    int64_t channels = 0, height = 0, width = 0;
    carso_status status = read_json(reader, "input", true, &input);
    if (status == CARSO_OK) {
        status = cso_json_integer(reader->context, input, "channels", where, 1, 3, &channels);
    }
    if (status == CARSO_OK && channels == 2) {
        status = cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT, "%s: 2 channels are neither 1 (gray) nor 3 (colour)",
                          where);
    }
    if (status == CARSO_OK) {
        status = cso_json_integer(reader->context, input, "height", where, 1, CSO_MAX_DIMENSION, &height);
    }
    if (status == CARSO_OK) {
        status = cso_json_integer(reader->context, input, "width", where, 1, CSO_MAX_DIMENSION, &width);
    }
    if (status == CARSO_OK) {
        status = read_channels(reader, input, "mean", channels, options->mean);
    }
    if (status == CARSO_OK) {
        status = read_channels(reader, input, "deviation", channels, options->deviation);
    }
    options->channels = (int32_t)channels;
    options->image_height = (int32_t)height;
    options->image_width = (int32_t)width;
    json_decref(input);
    return status;
}

static carso_status map_tensor(const model_reader *reader, const cso_tensor *tensor, int rank, const int64_t *dimension,
                               cso_parameter **out)
{
    return of_file(cso_parameter_create_mapped(reader->context, rank, dimension, tensor->data, reader->file, out));
}

/* A cso_parameter_lookup: shapes are whatever the file has, and the graph checks that they fit one another. */
static carso_status find_classifier_parameter(void *user, const char *name, cso_parameter **out)
{
    const model_reader *reader = user;
    char full[FULL_NAME_SIZE];
    snprintf(full, sizeof full, CLASSIFIER_PREFIX "%s", name);
    const cso_tensor *tensor = cso_safetensors_find(reader->file, full);
    if (tensor == NULL) {
        return cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT, "model file: tensor '%.200s' is missing", full);
    }
    if (tensor->type != CSO_TENSOR_F32 || tensor->rank < 1 || tensor->rank > 4 || tensor->count == 0) {
        char found[160];
        cso_tensor_describe(tensor, found, sizeof found);
        return cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT,
                        "model file: tensor '%.200s' is %s; weights are F32 with 1 to 4 dimensions", full, found);
    }
    return map_tensor(reader, tensor, tensor->rank, tensor->dimension, out);
}

/*
 * A cso_shaped_lookup. To name all that is missing or misshaped, the building goes on with the file's largest tensor in
 * the place of each; the result is thrown away. It stops where not even that is large enough, so that hostile settings
 * make nothing larger than the file.
 */
static carso_status find_purifier_parameter(void *user, const char *name, int rank, const int64_t *dimension,
                                            cso_parameter **out)
{
    model_reader *reader = user;
    char full[FULL_NAME_SIZE];
    snprintf(full, sizeof full, PURIFIER_PREFIX "%s", name);
    const cso_tensor *tensor = cso_safetensors_find(reader->file, full);
    if (tensor != NULL && cso_tensor_fits(tensor, rank, dimension)) {
        return map_tensor(reader, tensor, rank, dimension, out);
    }

    size_t count = 1;
    bool overflow = false;
    for (int i = 0; i < rank; i++) {
        overflow = overflow || __builtin_mul_overflow(count, (size_t)dimension[i], &count);
    }
    if (tensor == NULL) {
        cso_tensor_report_missing(&reader->report, full);
    } else {
        cso_tensor_report_wrong(&reader->report, full, tensor, rank, dimension);
    }
    if (overflow || reader->largest == NULL || count > reader->largest->count) {
        return CARSO_ERROR_BAD_FORMAT;
    }
    return map_tensor(reader, reader->largest, rank, dimension, out);
}

/* Fails where anything was reported. */
static carso_status report_tensors(const model_reader *reader)
{
    return cso_tensor_report_finish(&reader->report, reader->context, "model file");
}

/* The graph names its parameters node by node: what the file lacks is listed before anything is built. */
static carso_status check_classifier_names(model_reader *reader, const json_t *json)
{
    const json_t *nodes = json_object_get(json, "nodes");
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        json_t *parameters = json_object_get(json_array_get(nodes, i), "parameters");
        const char *role = NULL;
        json_t *name = NULL;
        json_object_foreach (parameters, role, name) {
            const char *text = json_string_value(name);
            char full[FULL_NAME_SIZE];
            if (text == NULL || strlen(text) > CSO_MAX_NAME) {
                continue; /* reading the graph finds fault with it */
            }
            snprintf(full, sizeof full, CLASSIFIER_PREFIX "%s", text);
            if (cso_safetensors_find(reader->file, full) == NULL) {
                cso_tensor_report_missing(&reader->report, full);
            }
        }
    }
    return report_tensors(reader);
}

static carso_status read_graph(model_reader *reader, cso_graph **out)
{
    json_t *json = NULL;
    carso_status status = read_json(reader, "graph", true, &json);
    if (status == CARSO_OK) {
        status = check_classifier_names(reader, json);
    }
    if (status == CARSO_OK) {
        status = of_file(cso_graph_from_json(reader->context, json, find_classifier_parameter, reader, out));
    }
    json_decref(json);
    return status;
}

static carso_status find_layer(const model_reader *reader, const cso_graph *graph, const char *name, const char *what,
                               int *out)
{
    *out = cso_graph_find_value(graph, name);
    if (*out < 0) {
        return cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT,
                        "model file: the graph has no layer '%.200s', which is named as %s", cso_printable(name), what);
    }
    if (graph->value[*out].producer < 0) {
        return cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT,
                        "model file: '%.200s', which is named as %s, is the graph's input and no layer", name, what);
    }
    return CARSO_OK;
}

static carso_status check_graph(const model_reader *reader, const carso_model_options *options, const cso_graph *graph,
                                int logits)
{
    if (graph->input_count != 1) {
        return cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT,
                        "model file: the graph has %d inputs, a classifier has 1", graph->input_count);
    }
    const cso_shape *image = &graph->value[graph->input[0]].shape, *output = &graph->value[logits].shape;
    if (image->rank != 3 || image->dimension[0] != options->channels || image->dimension[1] != options->image_height ||
        image->dimension[2] != options->image_width) {
        return cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT,
                        "model file: the graph's input is not the image of %dx%dx%d (channels, height, width) that "
                        "metadata \"input\" describes",
                        options->channels, options->image_height, options->image_width);
    }
    if (output->rank != 1 || output->dimension[0] < 2 || output->dimension[0] > CSO_MAX_DIMENSION) {
        return cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT,
                        "model file: layer '%.200s' has %d dimensions and %lld features; logits have 1 and one feature "
                        "for each of 2 to %d classes",
                        graph->value[logits].name, output->rank, (long long)output->dimension[0], CSO_MAX_DIMENSION);
    }
    return CARSO_OK;
}

/* *out_tap: from the context's allocator. */
static carso_status read_taps(const model_reader *reader, const cso_graph *graph, int **out_tap, int *out_count)
{
    json_t *json = NULL;
    int *tap = NULL;
    carso_status status = read_json(reader, "taps", true, &json);
    const size_t count = json_array_size(json);
    if (status == CARSO_OK && (!json_is_array(json) || count > MAX_TAPS)) {
        status = cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT,
                          "model file: metadata \"taps\" is not an array of at most %d names", MAX_TAPS);
    }
    if (status == CARSO_OK) {
        tap = cso_allocate(reader->context, count, sizeof *tap);
        if (tap == NULL) {
            status = cso_fail_memory(reader->context, "taps");
        }
    }
    for (size_t i = 0; i < count && status == CARSO_OK; i++) {
        const char *name = json_string_value(json_array_get(json, i));
        if (name == NULL) {
            status = cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT,
                              "model file: metadata \"taps\" has something else than names");
            break;
        }
        status = find_layer(reader, graph, name, "a tap", &tap[i]);
        for (size_t j = 0; j < i && status == CARSO_OK; j++) {
            if (tap[j] == tap[i]) {
                status =
                    cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT, "model file: tap '%.200s' is named twice", name);
            }
        }
    }
    json_decref(json);
    if (status != CARSO_OK) {
        cso_release(reader->context, tap);
        return status;
    }
    *out_tap = tap;
    *out_count = (int)count;
    return CARSO_OK;
}

/* Fills model up to its classifier; class names come later. */
static carso_status read_classifier(model_reader *reader, carso_model *model)
{
    carso_context *context = reader->context;
    carso_model_options options;
    cso_graph *graph = NULL;
    int *tap = NULL, tap_count = 0, logits = -1;
    carso_model_options_init(&options, sizeof options);
    const char *name = cso_safetensors_metadata(reader->file, "logits");
    carso_status status = name == NULL
                              ? cso_fail(context, CARSO_ERROR_BAD_FORMAT, "model file: metadata \"logits\" is missing")
                              : CARSO_OK;
    if (status == CARSO_OK) {
        status = read_input(reader, &options);
    }
    if (status == CARSO_OK) {
        status = read_graph(reader, &graph);
    }
    if (status == CARSO_OK) {
        status = find_layer(reader, graph, name, "the logits", &logits);
    }
    if (status == CARSO_OK) {
        status = check_graph(reader, &options, graph, logits);
    }
    if (status == CARSO_OK) {
        status = read_taps(reader, graph, &tap, &tap_count);
    }
    if (status == CARSO_OK) {
        options.classes = (int32_t)graph->value[logits].shape.dimension[0];
        status = of_file(cso_model_set_input(model, &options));
    }
    if (status == CARSO_OK) {
        status = cso_model_set_classifier(model, graph, logits, tap, tap_count);
    } else {
        cso_graph_destroy(graph);
    }
    cso_release(context, tap);
    return status;
}

static carso_status read_class_names(const model_reader *reader, carso_model *model)
{
    json_t *json = NULL;
    const char **name = NULL;
    carso_status status = read_json(reader, "classes", false, &json);
    if (status != CARSO_OK || json == NULL) {
        return status;
    }
    if (!json_is_array(json) || json_array_size(json) != (size_t)model->classes) {
        status = cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT,
                          "model file: metadata \"classes\" is not an array of %d names", model->classes);
        goto done;
    }
    name = cso_allocate(reader->context, (size_t)model->classes, sizeof *name);
    if (name == NULL) {
        status = cso_fail_memory(reader->context, "class names");
        goto done;
    }
    for (int32_t i = 0; i < model->classes; i++) {
        name[i] = json_string_value(json_array_get(json, (size_t)i));
    }
    status = of_file(cso_model_set_class_names(model, name));

done:
    cso_release(reader->context, name);
    json_decref(json);
    return status;
}

static carso_status read_purifier(model_reader *reader, carso_model *model)
{
    const char *where = "model file, metadata \"purifier\"";
    json_t *json = NULL;
    int64_t condition_size = 0, latent_size = 0, seed_channels = 0;
    carso_status status = read_json(reader, "purifier", false, &json);
    if (status != CARSO_OK || json == NULL) {
        return status;
    }
    status = cso_json_integer(reader->context, json, "condition_size", where, 1, INT32_MAX, &condition_size);
    if (status == CARSO_OK) {
        status = cso_json_integer(reader->context, json, "latent_size", where, 1, INT32_MAX, &latent_size);
    }
    if (status == CARSO_OK) {
        status = cso_json_integer(reader->context, json, "seed_channels", where, 1, INT32_MAX, &seed_channels);
    }
    const json_t *encoder = json_object_get(json, "encoder");
    if (status == CARSO_OK && !json_is_boolean(encoder)) {
        status = cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT,
                          "%s: \"encoder\" is missing, or neither true nor false", where);
    }
    if (status == CARSO_OK) {
        const carso_purifier_options options = {.struct_size = sizeof options,
                                                .condition_size = (int32_t)condition_size,
                                                .latent_size = (int32_t)latent_size,
                                                .seed_channels = (int32_t)seed_channels};
        for (size_t i = 0; i < cso_safetensors_count(reader->file); i++) {
            const cso_tensor *tensor = cso_safetensors_at(reader->file, i);
            if (tensor->type == CSO_TENSOR_F32 && (reader->largest == NULL || tensor->count > reader->largest->count)) {
                reader->largest = tensor;
            }
        }
        status = of_file(cso_purifier_build(reader->context, model, &options, find_purifier_parameter, reader,
                                            json_is_true(encoder), &model->purifier));
        if (reader->report.missing.count + reader->report.wrong.count > 0) {
            status = report_tensors(reader);
        }
    }
    json_decref(json);
    return status;
}

static bool has_parameter(const cso_graph *graph, const char *name)
{
    return graph != NULL && cso_graph_find_parameter(graph, name) >= 0;
}

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_expected(const carso_model *model, const char *name)
{
    const cso_purifier *purifier = model->purifier;
    if (starts_with(name, CHECKPOINT_PREFIX)) {
        return true;
    }
    if (starts_with(name, CLASSIFIER_PREFIX)) {
        return has_parameter(model->classifier, name + strlen(CLASSIFIER_PREFIX));
    }
    if (purifier == NULL || !starts_with(name, PURIFIER_PREFIX)) {
        return false;
    }
    name += strlen(PURIFIER_PREFIX);
    return has_parameter(purifier->condition, name) || has_parameter(purifier->encoder, name) ||
           has_parameter(purifier->decoder, name);
}

static carso_status check_unexpected(model_reader *reader, const carso_model *model)
{
    for (size_t i = 0; i < cso_safetensors_count(reader->file); i++) {
        const char *name = cso_safetensors_at(reader->file, i)->name;
        if (!is_expected(model, name)) {
            cso_tensor_report_unexpected(&reader->report, name, "");
        }
    }
    return report_tensors(reader);
}

static carso_status check_values(const carso_context *context, const cso_graph *graph, const char *where,
                                 const char *prefix)
{
    for (int i = 0; graph != NULL && i < graph->parameter_count; i++) {
        const cso_parameter *parameter = graph->parameter[i].parameter;
        for (size_t j = 0; j < parameter->count; j++) {
            if (!isfinite(parameter->host[j])) {
                return cso_fail(context, CARSO_ERROR_NON_FINITE, "%s: element %zu of tensor '%s%.200s' is %g", where, j,
                                prefix, graph->parameter[i].name, (double)parameter->host[j]);
            }
        }
    }
    for (int i = 0; graph != NULL && i < graph->node_count; i++) {
        if (graph->node[i].kind != CSO_OP_BATCH_NORM || graph->node[i].parameter[3] < 0) {
            continue;
        }
        const cso_named_parameter *variance = &graph->parameter[graph->node[i].parameter[3]];
        for (size_t j = 0; j < variance->parameter->count; j++) {
            if (variance->parameter->host[j] < 0.0f) {
                return cso_fail(context, CARSO_ERROR_BAD_FORMAT,
                                "%s: element %zu of tensor '%s%.200s', a variance, is negative: %g", where, j, prefix,
                                variance->name, (double)variance->parameter->host[j]);
            }
        }
    }
    return CARSO_OK;
}

carso_status cso_model_check_values(const carso_model *model, const char *where)
{
    const carso_context *context = model->context;
    carso_status status = check_values(context, model->classifier, where, CLASSIFIER_PREFIX);
    if (model->purifier == NULL) {
        return status;
    }
    if (status == CARSO_OK) {
        status = check_values(context, model->purifier->condition, where, PURIFIER_PREFIX);
    }
    if (status == CARSO_OK) {
        status = check_values(context, model->purifier->encoder, where, PURIFIER_PREFIX);
    }
    if (status == CARSO_OK) {
        status = check_values(context, model->purifier->decoder, where, PURIFIER_PREFIX);
    }
    return status;
}

static carso_status read_provenance(const model_reader *reader, carso_model *model)
{
    const carso_status status = read_json(reader, "provenance", false, &model->provenance);
    if (status == CARSO_OK && model->provenance != NULL && !json_is_object(model->provenance)) {
        return cso_fail(reader->context, CARSO_ERROR_BAD_FORMAT,
                        "model file: metadata \"provenance\" is not an object");
    }
    return status;
}

carso_status cso_model_from_file(carso_context *context, cso_safetensors *file, carso_model **out)
{
    carso_model *model = NULL;
    model_reader reader = {.context = context, .file = file};
    const char *format = cso_safetensors_metadata(file, "format");
    *out = NULL;
    if (format == NULL) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT,
                        "not a model file of libcarso: metadata \"format\" is missing");
    }
    if (strcmp(format, FORMAT) != 0) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "metadata \"format\" is \"%.40s\"; this release reads \"%s\"",
                        cso_printable(format), FORMAT);
    }
    carso_status status = cso_safetensors_check(file);
    if (status == CARSO_OK) {
        status = cso_model_allocate(context, &model);
    }
    if (status == CARSO_OK) {
        status = read_classifier(&reader, model);
    }
    if (status == CARSO_OK) {
        status = read_class_names(&reader, model);
    }
    if (status == CARSO_OK) {
        status = read_purifier(&reader, model);
    }
    if (status == CARSO_OK) {
        status = check_unexpected(&reader, model);
    }
    if (status == CARSO_OK) {
        status = cso_model_check_values(model, "model file");
    }
    if (status == CARSO_OK) {
        status = read_provenance(&reader, model);
    }
    if (status != CARSO_OK) {
        carso_model_destroy(model);
        model = NULL;
    }
    *out = model;
    return status;
}
