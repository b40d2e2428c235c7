/* SPDX-License-Identifier: BSD-2-Clause */
/* Rewrites the forward steps of a program into fewer that do the same. */
#ifndef CSO_GRAPH_PASSES_H
#define CSO_GRAPH_PASSES_H

#include "graph/program_parts.h"

/*
 * Folds BatchNorm in evaluation into the product before it, fuses activations, and fuses residual additions into the
 * convolution before them: each only where nothing else uses the value between, and where the backend supports the
 * result. needs, kept [values]: gradients flow to the value; the value is asked for and must exist.
 * Steps that are gone are removed from the list.
 */
carso_status cso_passes_run(cso_program *program, const bool *needs, const bool *kept);

#endif
