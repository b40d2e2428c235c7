/* SPDX-License-Identifier: BSD-2-Clause */
/* Weights of a product that computes what it and the BatchNorm behind it did. */
#ifndef CSO_GRAPH_FOLD_H
#define CSO_GRAPH_FOLD_H

#include "graph/parameter.h"

/*
 * product: CONVOLUTION, TRANSPOSED_CONVOLUTION or LINEAR; norm: BATCH_NORM in evaluation; all parameters constant.
 * Computed in double. share: product's weight keeps the result, so that all programs of a model use one copy. New
 * references.
 */
carso_status cso_fold(const carso_context *context, const cso_op *product, const cso_op *norm, bool share,
                      cso_parameter **out_weight, cso_parameter **out_bias);

/* Gives up what a weight keeps; for parameter.c. */
void cso_fold_forget(cso_parameter *weight);

#endif
