/* SPDX-License-Identifier: BSD-2-Clause */
/* Weights that are a function of their names, as named_weights.py has them: the golden files are of such networks. */
#ifndef TEST_NAMED_WEIGHTS_H
#define TEST_NAMED_WEIGHTS_H

#include "model/model.h"

/* Memory of all parameters made, and the sum, modulo 2^64, of the bit patterns of their elements. */
typedef struct named_weights {
    carso_context *context;
    uint64_t checksum;
    int count, capacity;
    float **memory;
} named_weights;

/* A classifier with its purifier. */
carso_status named_weights_model(named_weights *weights, const carso_model_options *options,
                                 const carso_purifier_options *purifier_options, carso_model **out);
/* After all models are gone. */
void named_weights_free(named_weights *weights);

#endif
