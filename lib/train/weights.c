/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/weights.h"

#include <math.h>
#include <string.h>

/* Squares of gradients up to here stay finite in float, where the second moments live. */
#define LARGEST_GRADIENT 1e18

static bool is_statistic(const cso_graph *graph, int parameter)
{
    for (int i = 0; i < graph->node_count; i++) {
        const cso_node *node = &graph->node[i];
        if (node->kind == CSO_OP_BATCH_NORM && (node->parameter[2] == parameter || node->parameter[3] == parameter)) {
            return true;
        }
    }
    return false;
}

static carso_status collect(cso_weights *weights, cso_graph *graph)
{
    for (int i = 0; i < graph->parameter_count; i++) {
        cso_parameter *parameter = graph->parameter[i].parameter;
        if (is_statistic(graph, i)) {
            cso_statistic *statistic = &weights->statistic[weights->statistic_count++];
            statistic->parameter = parameter;
            statistic->saved = cso_allocate(weights->context, parameter->count, sizeof *statistic->saved);
            if (!statistic->saved) {
                return cso_fail_memory(weights->context, "running statistics");
            }
            continue;
        }
        cso_weight *weight = &weights->learned[weights->learned_count++];
        weight->name = graph->parameter[i].name;
        weight->parameter = parameter;
        for (int state = 0; state < weights->states; state++) {
            weight->state[state] = cso_allocate(weights->context, parameter->count, sizeof(float));
            if (!weight->state[state]) {
                return cso_fail_memory(weights->context, "optimiser state");
            }
        }
    }
    return CARSO_OK;
}

carso_status cso_weights_create(const carso_context *context, cso_graph *const *graphs, int graph_count, int states, cso_weights **out)
{
    *out = NULL;
    size_t capacity = 0;
    for (int i = 0; i < graph_count; i++) {
        capacity += (size_t)graphs[i]->parameter_count;
    }
    cso_weights *weights = cso_allocate(context, 1, sizeof *weights);
    if (!weights) {
        return cso_fail_memory(context, "optimiser state");
    }
    weights->context = context;
    weights->states = states;
    weights->learned = cso_allocate(context, capacity, sizeof *weights->learned);
    weights->statistic = cso_allocate(context, capacity, sizeof *weights->statistic);
    carso_status status = CARSO_OK;
    if (!weights->learned || !weights->statistic) {
        status = cso_fail_memory(context, "optimiser state");
        goto fail;
    }
    for (int i = 0; i < graph_count; i++) {
        status = collect(weights, graphs[i]);
        if (status) {
            goto fail;
        }
    }
    size_t largest = 0;
    for (int i = 0; i < weights->learned_count; i++) {
        const size_t count = weights->learned[i].parameter->count;
        largest = count > largest ? count : largest;
    }
    weights->scratch = cso_allocate_raw(context, largest, sizeof *weights->scratch);
    if (!weights->scratch) {
        status = cso_fail_memory(context, "gradients");
        goto fail;
    }
    *out = weights;
    return CARSO_OK;
fail:
    cso_weights_destroy(weights);
    return status;
}

void cso_weights_destroy(cso_weights *weights)
{
    if (!weights) {
        return;
    }
    for (int i = 0; i < weights->learned_count; i++) {
        for (int state = 0; state < weights->states; state++) {
            cso_release(weights->context, weights->learned[i].state[state]);
        }
    }
    for (int i = 0; i < weights->statistic_count; i++) {
        cso_release(weights->context, weights->statistic[i].saved);
    }
    cso_release(weights->context, weights->learned);
    cso_release(weights->context, weights->statistic);
    cso_release(weights->context, weights->scratch);
    cso_release(weights->context, weights);
}

carso_status cso_weights_zero_gradients(cso_weights *weights)
{
    for (int i = 0; i < weights->learned_count; i++) {
        const carso_status status = cso_parameter_zero_gradient(weights->learned[i].parameter);
        if (status) {
            return status;
        }
    }
    return CARSO_OK;
}

carso_status cso_weights_gradient_norm(cso_weights *weights, uint64_t step, double *out_norm)
{
    double total = 0;
    for (int i = 0; i < weights->learned_count; i++) {
        const cso_weight *weight = &weights->learned[i];
        const carso_status status = cso_parameter_read_gradient(weight->parameter, weights->scratch);
        if (status) {
            return status;
        }
        double sum = 0;
        for (size_t j = 0; j < weight->parameter->count; j++) {
            sum += (double)weights->scratch[j] * weights->scratch[j];
        }
        if (!(sum <= LARGEST_GRADIENT * LARGEST_GRADIENT)) {
            return cso_fail(weights->context, CARSO_ERROR_NON_FINITE,
                            "training step %llu: the gradient of %s is not finite or too large (norm %g), nothing was updated; lower "
                            "the learning rate, or warm it up more slowly",
                            (unsigned long long)step, weight->name, sqrt(sum));
        }
        total += sum;
    }
    *out_norm = sqrt(total);
    return CARSO_OK;
}

carso_status cso_weights_upload(cso_weights *weights)
{
    weights->stale = true;
    for (int i = 0; i < weights->learned_count; i++) {
        const carso_status status = cso_parameter_upload(weights->learned[i].parameter);
        if (status) {
            return status;
        }
    }
    for (int i = 0; i < weights->statistic_count; i++) {
        const carso_status status = cso_parameter_upload(weights->statistic[i].parameter);
        if (status) {
            return status;
        }
    }
    weights->stale = false;
    return CARSO_OK;
}

void cso_weights_keep_statistics(cso_weights *weights)
{
    for (int i = 0; i < weights->statistic_count; i++) {
        const cso_statistic *statistic = &weights->statistic[i];
        memcpy(statistic->saved, statistic->parameter->host, statistic->parameter->count * sizeof(float));
    }
}

carso_status cso_weights_restore_statistics(cso_weights *weights)
{
    for (int i = 0; i < weights->statistic_count; i++) {
        const cso_statistic *statistic = &weights->statistic[i];
        memcpy(cso_parameter_host(statistic->parameter), statistic->saved, statistic->parameter->count * sizeof(float));
    }
    for (int i = 0; i < weights->statistic_count; i++) {
        const carso_status status = cso_parameter_upload(weights->statistic[i].parameter);
        if (status) {
            weights->stale = true;
            return status;
        }
    }
    return CARSO_OK;
}

carso_status cso_weights_settle_statistics(cso_weights *weights)
{
    for (int i = 0; i < weights->statistic_count; i++) {
        carso_status status = cso_parameter_download(weights->statistic[i].parameter);
        if (!status) {
            status = cso_parameter_upload(weights->statistic[i].parameter);
        }
        if (status) {
            return status;
        }
    }
    return CARSO_OK;
}

void cso_weights_swap(cso_weights *weights, int state)
{
    for (int i = 0; i < weights->learned_count; i++) {
        float *host = cso_parameter_host(weights->learned[i].parameter);
        float *other = weights->learned[i].state[state];
        for (size_t j = 0; j < weights->learned[i].parameter->count; j++) {
            const float held = host[j];
            host[j] = other[j];
            other[j] = held;
        }
    }
}
