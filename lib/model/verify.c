/* SPDX-License-Identifier: BSD-2-Clause */
/* What a model computes against tensors that another program stored. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/safetensors.h"
#include "model/run.h"
#include "model/tensor_report.h"

#define TAP_PREFIX "tap."

typedef struct verifier {
    carso_context *context;
    carso_model *model;
    const cso_safetensors *golden;
    json_t *strides; /* NULL: none */
    const cso_tensor *input;
    int64_t batch;
    double tolerance;
    carso_deviation_callback callback;
    void *user;
    int32_t departures;
    int compared;
} verifier;

/* One stored tensor that is compared part by part. */
typedef struct comparison {
    const cso_tensor *tensor;
    size_t count, stride; /* elements of the whole; every so manieth is stored */
    carso_deviation deviation;
} comparison;

static carso_status bad_golden(const verifier *verify, const cso_tensor *tensor, const char *fault)
{
    char found[160];
    cso_tensor_describe(tensor, found, sizeof found);
    return cso_fail(verify->context, CARSO_ERROR_BAD_FORMAT, "golden tensor '%.200s' (%s) %s",
                    cso_printable(tensor->name), found, fault);
}

static double stored_value(const cso_tensor *tensor, size_t index)
{
    double value;
    if (tensor->type == CSO_TENSOR_F32) {
        return (double)((const float *)tensor->data)[index];
    }
    memcpy(&value, (const char *)tensor->data + index * sizeof value, sizeof value);
    return value;
}

/* *out_tensor NULL where the file does not have it. count: elements that the model makes. */
static carso_status begin(const verifier *verify, const char *name, size_t count, comparison *out)
{
    memset(out, 0, sizeof *out);
    out->tensor = cso_safetensors_find(verify->golden, name);
    if (out->tensor == NULL) {
        return CARSO_OK;
    }
    const json_t *stride = json_object_get(verify->strides, name);
    out->count = count;
    out->stride = 1;
    if (stride != NULL) {
        if (!json_is_integer(stride) || json_integer_value(stride) < 1 || json_integer_value(stride) > INT32_MAX) {
            return bad_golden(verify, out->tensor, "has a stride in the metadata that is no positive integer");
        }
        out->stride = (size_t)json_integer_value(stride);
    }
    if (out->tensor->type != CSO_TENSOR_F32 && out->tensor->type != CSO_TENSOR_F64) {
        return bad_golden(verify, out->tensor, "is neither F32 nor F64");
    }
    const size_t expected = (count + out->stride - 1) / out->stride;
    if (out->tensor->count != expected) {
        char fault[160];
        snprintf(fault, sizeof fault, "has %zu elements, %zu are computed%s", out->tensor->count, expected,
                 out->stride == 1 ? "" : " and stored by its stride");
        return bad_golden(verify, out->tensor, fault);
    }
    out->deviation = (carso_deviation){
        .struct_size = sizeof out->deviation, .name = out->tensor->name, .count = expected, .largest_difference = -1.0};
    return CARSO_OK;
}

/* computed: elements first .. first + count - 1. */
static void compare(comparison *one, size_t first, size_t count, const double *computed)
{
    carso_deviation *deviation = &one->deviation;
    for (size_t i = (first + one->stride - 1) / one->stride * one->stride; i < first + count; i += one->stride) {
        const double stored = stored_value(one->tensor, i / one->stride), value = computed[i - first];
        const double difference = fabs(stored - value);
        deviation->scale = fmax(deviation->scale, fabs(stored));
        if (isnan(deviation->largest_difference) || difference <= deviation->largest_difference) {
            continue;
        }
        deviation->largest_difference = difference; /* NaN too, and that stays */
        deviation->position = i;
        deviation->stored = stored;
        deviation->computed = value;
    }
}

static void finish(verifier *verify, comparison *one)
{
    carso_deviation *deviation = &one->deviation;
    if (one->tensor == NULL) {
        return;
    }
    const double allowed = verify->tolerance * (deviation->scale > 0.0 ? deviation->scale : 1.0);
    deviation->departs = deviation->largest_difference <= allowed ? 0 : 1;
    verify->departures += deviation->departs;
    verify->compared++;
    if (verify->callback != NULL) {
        verify->callback(deviation, verify->user);
    }
}

static carso_status compare_whole(verifier *verify, const char *name, size_t count, const double *computed)
{
    comparison one;
    const carso_status status = begin(verify, name, count, &one);
    if (status == CARSO_OK && one.tensor != NULL) {
        compare(&one, 0, count, computed);
        finish(verify, &one);
    }
    return status;
}

/* Runs a program image by image and compares output i, of size[i] elements, with one[i]. */
static carso_status run_program(const verifier *verify, cso_program *program, int outputs, const size_t *size,
                                comparison *one)
{
    const size_t image_size = verify->input->count / (size_t)verify->batch;
    size_t largest = 0;
    cso_plan *plan = NULL;
    for (int i = 0; i < outputs; i++) {
        largest = size[i] > largest ? size[i] : largest;
    }
    double *computed = cso_allocate_raw(verify->context, largest, sizeof *computed);
    carso_status status = computed == NULL ? cso_fail_memory(verify->context, "results")
                                           : cso_program_acquire(program, 1, &plan);
    for (size_t image = 0; status == CARSO_OK && image < (size_t)verify->batch; image++) {
        status = cso_plan_write(plan, 0, (const float *)verify->input->data + image * image_size, CSO_F32);
        if (status == CARSO_OK) {
            status = cso_plan_forward(plan);
        }
        for (int i = 0; status == CARSO_OK && i < outputs; i++) {
            if (one[i].tensor == NULL) {
                continue;
            }
            status = cso_plan_read(plan, i, computed, CSO_F64);
            if (status == CARSO_OK) {
                compare(&one[i], image * size[i], size[i], computed);
            }
        }
    }
    if (plan != NULL) {
        cso_plan_release(plan);
    }
    cso_release(verify->context, computed);
    return status;
}

/* Every tap in the file must be a layer: a wrong name would otherwise pass as a tensor that agrees. */
static carso_status check_tap_names(const verifier *verify)
{
    const size_t length = strlen(TAP_PREFIX);
    for (size_t i = 0; i < cso_safetensors_count(verify->golden); i++) {
        const cso_tensor *tensor = cso_safetensors_at(verify->golden, i);
        if (strncmp(tensor->name, TAP_PREFIX, length) == 0 &&
            cso_graph_find_value(verify->model->classifier, tensor->name + length) < 0) {
            return bad_golden(verify, tensor, "is of a layer that the model's classifier does not have");
        }
    }
    return CARSO_OK;
}

/* The layers that the file has, in the order of the network, and then the logits. */
static carso_status compare_classifier(verifier *verify)
{
    carso_context *context = verify->context;
    const cso_graph *graph = verify->model->classifier;
    cso_program *program = NULL;
    int count = 0;
    const size_t most = (size_t)graph->value_count + 1;
    int *output = cso_allocate(context, most, sizeof *output);
    size_t *size = cso_allocate(context, most, sizeof *size);
    comparison *one = cso_allocate(context, most, sizeof *one);
    carso_status status = output == NULL || size == NULL || one == NULL ? cso_fail_memory(context, "comparisons")
                                                                        : check_tap_names(verify);
    for (int i = 0; status == CARSO_OK && i < graph->node_count; i++) {
        const int value = graph->node[i].output;
        char name[CSO_MAX_NAME + 8];
        snprintf(name, sizeof name, TAP_PREFIX "%s", graph->value[value].name);
        output[count] = value;
        size[count] = (size_t)cso_shape_count(&graph->value[value].shape);
        status = begin(verify, name, (size_t)verify->batch * size[count], &one[count]);
        count += one[count].tensor != NULL ? 1 : 0;
        if (status == CARSO_OK && value == verify->model->logits) {
            output[count] = value;
            size[count] = (size_t)verify->model->classes;
            status = begin(verify, "classifier_logits", (size_t)verify->batch * size[count], &one[count]);
            count += one[count].tensor != NULL ? 1 : 0;
        }
    }
    if (status == CARSO_OK && count > 0) {
        const cso_program_request request = {.output = output, .output_count = count};
        status = cso_program_create(graph, &request, &program);
        if (status == CARSO_OK) {
            status = run_program(verify, program, count, size, one);
        }
    }
    for (int i = 0; status == CARSO_OK && i < count; i++) {
        finish(verify, &one[i]);
    }
    cso_program_destroy(program);
    cso_release(context, one);
    cso_release(context, size);
    cso_release(context, output);
    return status;
}

static carso_status compare_condition(verifier *verify)
{
    const size_t size = (size_t)verify->model->purifier->condition_size;
    cso_program *program = NULL;
    comparison one;
    carso_status status = begin(verify, "condition", (size_t)verify->batch * size, &one);
    if (status != CARSO_OK || one.tensor == NULL) {
        return status;
    }
    status = cso_model_get_program(verify->model, CSO_PROGRAM_CONDITION, &program); /* the model's */
    if (status == CARSO_OK) {
        status = run_program(verify, program, 1, &size, &one);
    }
    if (status == CARSO_OK) {
        finish(verify, &one);
    }
    return status;
}

/* latent [draws][batch][latent size], or not there; draws then 0. */
static carso_status read_latents(const verifier *verify, int *out_draws, double **out)
{
    const cso_tensor *tensor = cso_safetensors_find(verify->golden, "latent");
    *out = NULL;
    *out_draws = 0;
    if (tensor == NULL) {
        return CARSO_OK;
    }
    if ((tensor->type != CSO_TENSOR_F32 && tensor->type != CSO_TENSOR_F64) || tensor->rank != 3 ||
        tensor->dimension[0] < 1 || tensor->dimension[0] > 65536 || tensor->dimension[1] != verify->batch ||
        tensor->dimension[2] != verify->model->purifier->latent_size) {
        return bad_golden(verify, tensor, "is not [draws][images of \"input\"][latent size of the purifier]");
    }
    double *latents = cso_allocate_raw(verify->context, tensor->count, sizeof *latents);
    if (latents == NULL) {
        return cso_fail_memory(verify->context, "latents");
    }
    for (size_t i = 0; i < tensor->count; i++) {
        latents[i] = stored_value(tensor, i);
    }
    *out_draws = (int)tensor->dimension[0];
    *out = latents;
    return CARSO_OK;
}

static carso_status compare_defence(verifier *verify)
{
    carso_context *context = verify->context;
    double *latents = NULL, *logits = NULL, *images = NULL, *reconstructions = NULL;
    uint64_t *image_index = NULL;
    int draws = 0;
    carso_status status = compare_condition(verify);
    if (status == CARSO_OK) {
        status = read_latents(verify, &draws, &latents);
    }
    if (status != CARSO_OK || draws == 0) {
        return status;
    }
    const size_t batch = (size_t)verify->batch, logit_count = (size_t)draws * batch * (size_t)verify->model->classes;
    const size_t pixels = (size_t)draws * verify->input->count;
    logits = cso_allocate_raw(context, logit_count, sizeof *logits);
    reconstructions = cso_allocate_raw(context, pixels, sizeof *reconstructions);
    images = cso_allocate_raw(context, verify->input->count, sizeof *images);
    image_index = cso_allocate(context, batch, sizeof *image_index);
    if (logits == NULL || reconstructions == NULL || images == NULL || image_index == NULL) {
        status = cso_fail_memory(context, "reconstructions");
        goto done;
    }
    for (size_t i = 0; i < verify->input->count; i++) {
        images[i] = stored_value(verify->input, i);
    }
    const cso_run run = {.images = images,
                         .element = CSO_F64,
                         .count = verify->batch,
                         .draws = draws,
                         .image_index = image_index,
                         .latents = latents,
                         .logits = logits,
                         .reconstructions = reconstructions};
    status = cso_run_defence(verify->model, &run);
    if (status == CARSO_OK) {
        status = compare_whole(verify, "reconstructions", pixels, reconstructions);
    }
    if (status == CARSO_OK) {
        status = compare_whole(verify, "sample_logits", logit_count, logits);
    }

done:
    cso_release(context, image_index);
    cso_release(context, images);
    cso_release(context, reconstructions);
    cso_release(context, logits);
    cso_release(context, latents);
    return status;
}

static carso_status find_input(verifier *verify)
{
    const carso_model *model = verify->model;
    const cso_tensor *tensor = cso_safetensors_find(verify->golden, "input");
    if (tensor == NULL) {
        return cso_fail(verify->context, CARSO_ERROR_BAD_FORMAT, "the golden file has no tensor 'input'");
    }
    if (tensor->type != CSO_TENSOR_F32 || tensor->rank != 4 || tensor->dimension[0] < 1 ||
        tensor->dimension[0] > 65536 || tensor->dimension[1] != model->channels ||
        tensor->dimension[2] != model->height || tensor->dimension[3] != model->width) {
        char fault[120];
        snprintf(fault, sizeof fault, "is not F32 [images, %d, %d, %d], as the model takes them", model->channels,
                 model->height, model->width);
        return bad_golden(verify, tensor, fault);
    }
    for (size_t i = 0; i < tensor->count; i++) {
        if (!isfinite(((const float *)tensor->data)[i])) {
            return bad_golden(verify, tensor, "has elements that are not finite");
        }
    }
    verify->input = tensor;
    verify->batch = tensor->dimension[0];
    return CARSO_OK;
}

carso_status cso_model_verify(carso_model *model, const cso_safetensors *golden, double tolerance,
                              carso_deviation_callback callback, void *user, int32_t *out_departures)
{
    verifier verify = {.context = model->context,
                       .model = model,
                       .golden = golden,
                       .tolerance = tolerance,
                       .callback = callback,
                       .user = user};
    const char *strides = cso_safetensors_metadata(golden, "strides");
    carso_status status = CARSO_OK;
    if (strides != NULL) {
        status = cso_json_parse(model->context, strides, strlen(strides), "golden file, metadata \"strides\"",
                                &verify.strides);
    }
    if (status == CARSO_OK) {
        status = find_input(&verify);
    }
    if (status == CARSO_OK) {
        status = compare_classifier(&verify);
    }
    if (status == CARSO_OK && model->purifier != NULL) {
        status = compare_defence(&verify);
    }
    if (status == CARSO_OK && verify.compared == 0) {
        status = cso_fail(model->context, CARSO_ERROR_BAD_FORMAT,
                          "the golden file has no tensor to compare with: taps, logits, condition or reconstructions");
    }
    json_decref(verify.strides);
    *out_departures = verify.departures;
    return status;
}
