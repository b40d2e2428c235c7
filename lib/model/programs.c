/* SPDX-License-Identifier: BSD-2-Clause */
/* The pipelines: classifier and purifier appended to one another, and made into programs on first use. */
#include "model/model.h"

/* Value of src's value named name after it was appended. */
static int appended(const cso_graph *src, const int *map, const char *name)
{
    return map[cso_graph_find_value(src, name)];
}

static int *value_map(const carso_context *context, const cso_graph *graph)
{
    return cso_allocate(context, (size_t)graph->value_count, sizeof(int));
}

static carso_status create_classify(const carso_model *model, bool gradient, cso_program **out)
{
    const cso_program_request request = {
        .output = &model->logits,
        .output_count = 1,
        .gradient_input = model->classifier->input,
        .gradient_input_count = gradient ? 1 : 0,
    };
    return cso_program_create(model->classifier, &request, out);
}

/* image -> classifier as far as the taps need it -> condition */
static carso_status create_condition(const carso_model *model, bool gradient, cso_program **out)
{
    carso_context *context = model->context;
    const cso_graph *classifier = model->classifier, *purifier = model->purifier->condition;
    cso_graph *graph = NULL;
    int *classifier_value = value_map(context, classifier), *purifier_value = value_map(context, purifier);
    int *tap = cso_allocate(context, (size_t)model->tap_count, sizeof *tap);
    carso_status status;
    if (classifier_value == NULL || purifier_value == NULL || tap == NULL) {
        status = cso_fail_memory(context, "pipeline");
        goto done;
    }
    int image = -1;
    status = cso_graph_create(context, &graph);
    if (status == CARSO_OK) {
        status = cso_graph_add_input(graph, "image", classifier->value[classifier->input[0]].shape, &image);
    }
    if (status == CARSO_OK) {
        status = cso_graph_append(graph, classifier, "classifier.", &image, false, classifier_value);
    }
    if (status != CARSO_OK) {
        goto done;
    }
    for (int i = 0; i < model->tap_count; i++) {
        tap[i] = classifier_value[model->tap[i]];
    }
    status = cso_graph_append(graph, purifier, "purifier.", tap, false, purifier_value);
    if (status != CARSO_OK) {
        goto done;
    }
    const int condition = appended(purifier, purifier_value, "condition");
    const cso_program_request request = {
        .output = &condition, .output_count = 1, .gradient_input = &image, .gradient_input_count = gradient ? 1 : 0};
    status = cso_program_create(graph, &request, out);

done:
    cso_graph_destroy(graph);
    cso_release(context, tap);
    cso_release(context, purifier_value);
    cso_release(context, classifier_value);
    return status;
}

static carso_status create_purify(const carso_model *model, cso_program **out)
{
    const int reconstruction = cso_graph_find_value(model->purifier->decoder, "reconstruction");
    const cso_program_request request = {.output = &reconstruction, .output_count = 1};
    return cso_program_create(model->purifier->decoder, &request, out);
}

/* latent, condition -> reconstruction -> logits */
static carso_status create_draw(const carso_model *model, bool gradient, cso_program **out)
{
    carso_context *context = model->context;
    const cso_graph *classifier = model->classifier, *decoder = model->purifier->decoder;
    cso_graph *graph = NULL;
    int *classifier_value = value_map(context, classifier), *decoder_value = value_map(context, decoder);
    carso_status status;
    if (classifier_value == NULL || decoder_value == NULL) {
        status = cso_fail_memory(context, "pipeline");
        goto done;
    }
    int input[2] = {-1, -1};
    status = cso_graph_create(context, &graph);
    if (status == CARSO_OK) {
        status = cso_graph_add_input(graph, "latent", decoder->value[decoder->input[0]].shape, &input[0]);
    }
    if (status == CARSO_OK) {
        status = cso_graph_add_input(graph, "condition", decoder->value[decoder->input[1]].shape, &input[1]);
    }
    if (status == CARSO_OK) {
        status = cso_graph_append(graph, decoder, "purifier.", input, false, decoder_value);
    }
    if (status != CARSO_OK) {
        goto done;
    }
    const int reconstruction = appended(decoder, decoder_value, "reconstruction");
    status = cso_graph_append(graph, classifier, "classifier.", &reconstruction, false, classifier_value);
    if (status != CARSO_OK) {
        goto done;
    }
    const int output[2] = {classifier_value[model->logits], reconstruction};
    const cso_program_request request = {
        .output = output, .output_count = 2, .gradient_input = &input[1], .gradient_input_count = gradient ? 1 : 0};
    status = cso_program_create(graph, &request, out);

done:
    cso_graph_destroy(graph);
    cso_release(context, decoder_value);
    cso_release(context, classifier_value);
    return status;
}

static carso_status create_program(const carso_model *model, cso_model_program which, cso_program **out)
{
    if (which >= CSO_PROGRAM_CONDITION && model->purifier == NULL) {
        return cso_fail(model->context, CARSO_ERROR_UNSUPPORTED,
                        "the model has no purifier; add one with carso_model_add_purifier and train it, or load a "
                        "model that has one");
    }
    switch (which) {
    case CSO_PROGRAM_CLASSIFY:
        return create_classify(model, false, out);
    case CSO_PROGRAM_CLASSIFY_GRADIENT:
        return create_classify(model, true, out);
    case CSO_PROGRAM_CONDITION:
        return create_condition(model, false, out);
    case CSO_PROGRAM_CONDITION_GRADIENT:
        return create_condition(model, true, out);
    case CSO_PROGRAM_PURIFY:
        return create_purify(model, out);
    case CSO_PROGRAM_DRAW:
        return create_draw(model, false, out);
    case CSO_PROGRAM_DRAW_GRADIENT:
        return create_draw(model, true, out);
    case CSO_PROGRAM_COUNT:
        break;
    }
    return cso_fail(model->context, CARSO_ERROR_INTERNAL, "no pipeline has number %d", (int)which);
}

carso_status cso_model_get_program(carso_model *model, cso_model_program which, cso_program **out)
{
    *out = NULL;
    carso_status status = CARSO_OK;
    pthread_mutex_lock(&model->lock);
    if (model->program[which] == NULL) {
        status = create_program(model, which, &model->program[which]);
    }
    *out = model->program[which];
    pthread_mutex_unlock(&model->lock);
    return status;
}
