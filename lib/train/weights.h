/* SPDX-License-Identifier: BSD-2-Clause */
/* The weights that a trainer moves: parameters of its graphs, sorted into learned ones and BatchNorm's running statistics, with the
 * optimiser's state beside. */
#ifndef CSO_TRAIN_WEIGHTS_H
#define CSO_TRAIN_WEIGHTS_H

#include "graph/graph.h"

#define CSO_WEIGHT_STATES 3

typedef struct cso_weight {
    const char *name;         /* the graph's */
    cso_parameter *parameter; /* the graph's, not constant; its host values are the fast weights */
    float *state[CSO_WEIGHT_STATES];
} cso_weight;

typedef struct cso_statistic {
    cso_parameter *parameter;
    float *saved;
} cso_statistic;

typedef struct cso_weights {
    const carso_context *context;
    int states;
    int learned_count, statistic_count;
    cso_weight *learned;
    cso_statistic *statistic;
    float *scratch;     /* as many as the largest learned parameter has; NULL where gradients can be read where they lie */
    double *block_sums; /* one for each block of the largest */
    bool stale;     /* host values were changed and have not reached the device */
} cso_weights;

/* graphs must outlive the result. Each learned parameter gets so many arrays of zeros. */
carso_status cso_weights_create(const carso_context *context, cso_graph *const *graphs, int graph_count, int states,
                                cso_weights **out);
void cso_weights_destroy(cso_weights *weights); /* accepts NULL */

carso_status cso_weights_zero_gradients(cso_weights *weights);
/* l2 norm over all learned parameters. NON_FINITE names step and the first parameter whose gradient is not finite, or is so large that
 * its square leaves float's range. */
carso_status cso_weights_gradient_norm(cso_weights *weights, uint64_t step, double *out_norm);

/*
 * Visits the learned parameters in blocks of elements, several at a time in as many threads as the context has. Blocks do not depend on
 * the number of threads. gradient [count]: the block's.
 */
typedef void (*cso_weights_visit)(const cso_weight *weight, size_t first, size_t count, const float *gradient,
                                  const void *argument);
carso_status cso_weights_each_block(cso_weights *weights, cso_weights_visit visit, const void *argument);

/* Host values of all parameters to the device. */
carso_status cso_weights_upload(cso_weights *weights);

/* Running statistics as a training forward run changes them: _keep stores them, _restore undoes, _settle brings them to the host,
 * rounded to float, which is what a checkpoint holds. */
void cso_weights_keep_statistics(cso_weights *weights);
carso_status cso_weights_restore_statistics(cso_weights *weights);
carso_status cso_weights_settle_statistics(cso_weights *weights);

/* Exchanges the learned parameters' host values with state. */
void cso_weights_swap(cso_weights *weights, int state);

#endif
