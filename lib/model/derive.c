/* SPDX-License-Identifier: BSD-2-Clause */
/* Models made of others' structure and new values. */
#include "model/model.h"

/* The parameter itself, where nothing will change it, or a constant copy of its host values. */
static carso_status constant_parameter(const cso_graph *graph, int index, cso_parameter **out)
{
    cso_parameter *parameter = graph->parameter[index].parameter;
    if (!parameter->constant) {
        return cso_parameter_create(graph->context, parameter->rank, parameter->dimension, parameter->host, out);
    }
    cso_parameter_retain(parameter);
    *out = parameter;
    return CARSO_OK;
}

static carso_status copy_node(cso_graph *copy, const cso_graph *source, const cso_node *node, int *value, int *input)
{
    cso_attributes attributes = node->attributes;
    attributes.training = false;
    for (int i = 0; i < node->input_count; i++) {
        input[i] = value[node->input[i]];
    }
    const cso_value *output = &source->value[node->output];
    const cso_shape *shape = node->kind == CSO_OP_UNFLATTEN ? &output->shape : NULL;
    return cso_graph_add_node(copy, node->kind, &attributes, output->name, input, node->input_count, node->parameter,
                              shape, &value[node->output]);
}

carso_status cso_graph_copy_constant(const cso_graph *source, cso_parameter_choice choose, void *user, cso_graph **out)
{
    carso_context *context = source->context;
    cso_graph *copy = NULL;
    int *input = NULL;
    int *value = cso_allocate(context, (size_t)source->value_count, sizeof *value);
    int most_inputs = 0;
    for (int i = 0; i < source->node_count; i++) {
        most_inputs = source->node[i].input_count > most_inputs ? source->node[i].input_count : most_inputs;
    }
    input = cso_allocate(context, (size_t)most_inputs, sizeof *input);
    carso_status status =
        value == NULL || input == NULL ? cso_fail_memory(context, "graph") : cso_graph_create(context, &copy);
    for (int i = 0; status == CARSO_OK && i < source->input_count; i++) {
        const cso_value *from = &source->value[source->input[i]];
        status = cso_graph_add_input(copy, from->name, from->shape, &value[source->input[i]]);
    }
    for (int i = 0; status == CARSO_OK && i < source->parameter_count; i++) {
        cso_parameter *parameter = NULL;
        status = choose == NULL ? constant_parameter(source, i, &parameter) : choose(user, source, i, &parameter);
        if (status == CARSO_OK) {
            int index = -1;
            status = cso_graph_add_parameter(copy, source->parameter[i].name, parameter, &index);
            cso_parameter_release(parameter);
        }
    }
    for (int i = 0; status == CARSO_OK && i < source->node_count; i++) {
        status = copy_node(copy, source, &source->node[i], value, input);
    }
    if (status != CARSO_OK) {
        cso_graph_destroy(copy);
        copy = NULL;
    }
    *out = copy;
    cso_release(context, input);
    cso_release(context, value);
    return status;
}

static carso_status copy_purifier(carso_context *context, const cso_purifier *source, cso_purifier **out)
{
    cso_purifier *copy = cso_allocate(context, 1, sizeof *copy);
    if (copy == NULL) {
        return cso_fail_memory(context, "purifier");
    }
    copy->condition_size = source->condition_size;
    copy->latent_size = source->latent_size;
    copy->seed_channels = source->seed_channels;
    carso_status status = cso_graph_copy_constant(source->condition, NULL, NULL, &copy->condition);
    if (status == CARSO_OK && source->encoder != NULL) {
        status = cso_graph_copy_constant(source->encoder, NULL, NULL, &copy->encoder);
    }
    if (status == CARSO_OK) {
        status = cso_graph_copy_constant(source->decoder, NULL, NULL, &copy->decoder);
    }
    if (status != CARSO_OK) {
        cso_purifier_destroy(context, copy);
        copy = NULL;
    }
    *out = copy;
    return status;
}

/* Puts a copy of graph in the place of the classifier that derived shares; logits and taps are found again by name. */
static carso_status replace_classifier(const carso_model *model, const cso_graph *graph, carso_model *derived)
{
    carso_context *context = model->context;
    cso_graph *copy = NULL;
    int *tap = cso_allocate(context, (size_t)model->tap_count, sizeof *tap);
    carso_status status =
        tap == NULL ? cso_fail_memory(context, "taps") : cso_graph_copy_constant(graph, NULL, NULL, &copy);
    if (status == CARSO_OK) {
        const int logits = cso_graph_find_value(copy, model->classifier->value[model->logits].name);
        bool found = logits >= 0;
        for (int i = 0; i < model->tap_count; i++) {
            tap[i] = cso_graph_find_value(copy, model->classifier->value[model->tap[i]].name);
            found = found && tap[i] >= 0;
        }
        if (found) {
            /* The model that derived shares its classifier with is alive, so that this is never the last reference. */
            atomic_fetch_sub_explicit(derived->classifier_references, 1, memory_order_relaxed);
            derived->classifier_references = NULL;
            derived->classifier = NULL;
            cso_release(context, derived->tap);
            derived->tap = NULL;
            derived->tap_count = 0;
            status = cso_model_set_classifier(derived, copy, logits, tap, model->tap_count);
        } else {
            cso_graph_destroy(copy);
            status =
                cso_fail(context, CARSO_ERROR_INTERNAL, "the new classifier lacks the logits or a tap of the old one");
        }
    }
    cso_release(context, tap);
    return status;
}

carso_status cso_model_derive(const carso_model *model, const cso_graph *classifier, const cso_purifier *purifier,
                              json_t *provenance, carso_model **out)
{
    carso_model *derived = NULL;
    carso_status status = cso_model_share_classifier(model, &derived);
    if (status == CARSO_OK && classifier != NULL) {
        status = replace_classifier(model, classifier, derived);
    }
    if (status == CARSO_OK && purifier == NULL && classifier == NULL) {
        purifier = model->purifier;
    }
    if (status == CARSO_OK && purifier != NULL) {
        status = copy_purifier(model->context, purifier, &derived->purifier);
    }
    if (status == CARSO_OK && provenance != NULL) {
        json_decref(derived->provenance);
        derived->provenance = json_deep_copy(provenance);
        if (derived->provenance == NULL) {
            status = cso_fail_memory(model->context, "provenance");
        }
    }
    if (status != CARSO_OK) {
        carso_model_destroy(derived);
        derived = NULL;
    }
    *out = derived;
    return status;
}
