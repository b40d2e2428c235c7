/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/weights.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"

/* Squares of gradients up to here stay finite in float, where the second moments live. */
#define LARGEST_GRADIENT 1e18

/* Elements in a block: with the optimiser's state it stays in a core's cache, so that one visit reads and writes memory once. */
#define BLOCK 16384
#define LEAST_PARALLEL_BLOCKS 8

static size_t block_count(size_t elements) { return (elements + BLOCK - 1) / BLOCK; }

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

carso_status cso_weights_create(const carso_context *context, cso_graph *const *graphs, int graph_count, int states,
                                cso_weights **out)
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
    const bool apart = weights->learned_count > 0 && !cso_parameter_gradient_view(weights->learned[0].parameter);
    if (apart) {
        weights->scratch = cso_allocate_raw(context, largest, sizeof *weights->scratch);
    }
    weights->block_sums = cso_allocate_raw(context, block_count(largest), sizeof *weights->block_sums);
    if ((apart && !weights->scratch) || !weights->block_sums) {
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
    cso_release(weights->context, weights->block_sums);
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

static carso_status read_gradient(cso_weights *weights, const cso_weight *weight, const float **out)
{
    *out = cso_parameter_gradient_view(weight->parameter);
    if (*out) {
        return CARSO_OK;
    }
    *out = weights->scratch;
    return cso_parameter_read_gradient(weight->parameter, weights->scratch);
}

typedef struct walk {
    const cso_weight *weight;
    const float *gradient;
    cso_weights_visit visit;
    const void *argument;
    size_t blocks;
    int parts;
} walk;

static void walk_part(void *data, int part)
{
    const walk *it = data;
    const size_t count = it->weight->parameter->count;
    const size_t last = it->blocks * ((size_t)part + 1) / (size_t)it->parts;
    for (size_t block = it->blocks * (size_t)part / (size_t)it->parts; block < last; block++) {
        const size_t first = block * BLOCK;
        it->visit(it->weight, first, count - first < BLOCK ? count - first : BLOCK, it->gradient + first, it->argument);
    }
}

static void walk_blocks(const cso_weights *weights, const cso_weight *weight, const float *gradient,
                        cso_weights_visit visit, const void *argument)
{
    walk it = {.weight = weight, .gradient = gradient, .visit = visit, .argument = argument};
    it.blocks = block_count(weight->parameter->count);
    it.parts = it.blocks < LEAST_PARALLEL_BLOCKS ? 1 : cso_parallel_parts(weights->context);
    cso_parallel_run(it.parts, walk_part, &it);
}

carso_status cso_weights_each_block(cso_weights *weights, cso_weights_visit visit, const void *argument)
{
    for (int i = 0; i < weights->learned_count; i++) {
        const float *gradient;
        const carso_status status = read_gradient(weights, &weights->learned[i], &gradient);
        if (status) {
            return status;
        }
        walk_blocks(weights, &weights->learned[i], gradient, visit, argument);
    }
    return CARSO_OK;
}

/* Several sums side by side, because one would wait for its own last addition. */
static void sum_squares(const cso_weight *weight, size_t first, size_t count, const float *gradient,
                        const void *argument)
{
    (void)weight;
    const cso_weights *weights = argument;
    double sum[8] = {0};
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        for (size_t j = 0; j < 8; j++) {
            const double value = gradient[i + j];
            sum[j] += value * value;
        }
    }
    for (; i < count; i++) {
        sum[0] += (double)gradient[i] * gradient[i];
    }
    weights->block_sums[first / BLOCK] =
        ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

carso_status cso_weights_gradient_norm(cso_weights *weights, uint64_t step, double *out_norm)
{
    double total = 0;
    for (int i = 0; i < weights->learned_count; i++) {
        const cso_weight *weight = &weights->learned[i];
        const float *gradient;
        const carso_status status = read_gradient(weights, weight, &gradient);
        if (status) {
            return status;
        }
        walk_blocks(weights, weight, gradient, sum_squares, weights);
        double sum = 0;
        for (size_t block = 0; block < block_count(weight->parameter->count); block++) {
            sum += weights->block_sums[block];
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
