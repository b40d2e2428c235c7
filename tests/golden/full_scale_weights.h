/* SPDX-License-Identifier: BSD-2-Clause */
/* The weights of the golden files in full_scale/, which are too many to be stored: a function of their names. */
#ifndef TEST_FULL_SCALE_WEIGHTS_H
#define TEST_FULL_SCALE_WEIGHTS_H

#include "graph/parameter.h"

/* Memory of all parameters made, and the sum, modulo 2^64, of the bit patterns of their elements. */
typedef struct full_scale_weights {
    carso_context *context;
    uint64_t checksum;
    int count, capacity;
    float **memory;
} full_scale_weights;

/* A cso_shaped_lookup; user: the full_scale_weights. name: of a state dictionary. */
carso_status full_scale_weight(void *user, const char *name, int rank, const int64_t *dimension, cso_parameter **out);
/* After all of the parameters are gone. */
void full_scale_weights_free(full_scale_weights *weights);

#endif
