/* SPDX-License-Identifier: BSD-2-Clause */
#include "named_weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a. */
static uint64_t name_hash(const char *name)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (const unsigned char *byte = (const unsigned char *)name; *byte != 0; byte++) {
        hash = (hash ^ *byte) * UINT64_C(1099511628211);
    }
    return hash;
}

/* Element of a stream of numbers in [-1, 1), multiples of 2^-23: splitmix64. */
static double noise(uint64_t stream, uint64_t element)
{
    uint64_t state = stream + (element + 1) * UINT64_C(0x9E3779B97F4A7C15);
    state = (state ^ state >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    state = (state ^ state >> 27) * UINT64_C(0x94D049BB133111EB);
    state ^= state >> 31;
    return (double)(state >> 40) * 0x1p-23 - 1.0;
}

static bool ends(const char *name, const char *with)
{
    const size_t length = strlen(name), end = strlen(with);
    return length >= end && strcmp(name + length - end, with) == 0;
}

/* As named_weights.py has it. Where a product is rounded nothing is added, so that contraction changes no bit. */
static uint64_t fill(const char *name, int rank, int64_t first_dimension, size_t count, float *values)
{
    const uint64_t stream = name_hash(name);
    double centre = 0.0, spread = 0.25;
    uint64_t checksum = 0;
    if (rank > 1) {
        spread = sqrt(3.0 / (double)(count / (size_t)first_dimension));
    } else if (ends(name, ".running_var") || ends(name, ".weight")) {
        centre = 1.0, spread = 0.5;
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        values[i] = (float)(centre + spread * noise(stream, i));
        memcpy(&bits, &values[i], sizeof bits);
        checksum += bits;
    }
    return checksum;
}

/* Room for another pointer. */
static bool grow(named_weights *weights)
{
    if (weights->count < weights->capacity) {
        return true;
    }
    const int capacity = weights->capacity == 0 ? 64 : 2 * weights->capacity;
    float **memory = realloc(weights->memory, (size_t)capacity * sizeof *memory);
    if (memory == NULL) {
        return false;
    }
    weights->memory = memory;
    weights->capacity = capacity;
    return true;
}

/* A cso_shaped_lookup. Used in place: a copy of the largest tensor would be 1.2 GB. */
static carso_status look_up(void *user, const char *name, int rank, const int64_t *dimension, cso_parameter **out)
{
    named_weights *weights = user;
    size_t count = 1;
    for (int i = 0; i < rank; i++) {
        count *= (size_t)dimension[i];
    }
    float *values = grow(weights) ? malloc(count * sizeof *values) : NULL;
    if (values == NULL) {
        return cso_fail_memory(weights->context, name);
    }
    weights->memory[weights->count++] = values;
    weights->checksum += fill(name, rank, dimension[0], count, values);
    return cso_parameter_create_mapped(weights->context, rank, dimension, values, NULL, out);
}

/* A cso_parameter_choice. */
static carso_status choose(void *user, const cso_graph *source, int index, cso_parameter **out)
{
    const cso_named_parameter *named = &source->parameter[index];
    return look_up(user, named->name, named->parameter->rank, named->parameter->dimension, out);
}

carso_status named_weights_model(named_weights *weights, const carso_model_options *options,
                                 const carso_purifier_options *purifier_options, carso_model **out)
{
    carso_context *context = weights->context;
    carso_model *random = NULL, *classifier = NULL;
    cso_graph *graph = NULL;
    cso_purifier *purifier = NULL;
    carso_status status = carso_model_create(context, options, &random);
    if (status == CARSO_OK) {
        status = cso_graph_copy_constant(random->classifier, choose, weights, &graph);
    }
    if (status == CARSO_OK) {
        status = cso_model_derive(random, graph, NULL, NULL, &classifier);
    }
    if (status == CARSO_OK) {
        status = cso_purifier_build(context, classifier, purifier_options, look_up, weights, true, &purifier);
    }
    if (status == CARSO_OK) {
        status = cso_model_derive(classifier, NULL, purifier, NULL, out);
    }
    cso_purifier_destroy(context, purifier);
    carso_model_destroy(classifier);
    cso_graph_destroy(graph);
    carso_model_destroy(random);
    return status;
}

void named_weights_free(named_weights *weights)
{
    for (int i = 0; i < weights->count; i++) {
        free(weights->memory[i]);
    }
    free(weights->memory);
    weights->memory = NULL;
    weights->count = weights->capacity = 0;
}
