/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where tensors live. Time is counted in steps: forward step i runs at time i; at time F, the number of forward steps,
 * the host reads outputs and writes their gradients; backward step j runs at F + 1 + j; after the last, the host reads
 * gradients. Graph inputs and outputs keep their place from first to last, so that they can be read, and inputs used
 * again, at any time.
 */
#ifndef CSO_GRAPH_MEMORY_PLAN_H
#define CSO_GRAPH_MEMORY_PLAN_H

#include "graph/program_parts.h"

typedef struct cso_memory_block {
    size_t size;
    int first, last; /* times, both inclusive */
    size_t offset;   /* out, a multiple of CSO_ALIGNMENT */
} cso_memory_block;

/* Places blocks so that no two that live at a common time overlap; largest first, each in the tightest gap. */
carso_status cso_memory_place(const carso_context *context, cso_memory_block *block, size_t count, size_t *out_size);

/* Gives each tensor that is used a buffer and each buffer its lifetime. Pointwise operations write over an input that
 * is not needed any more. Does not depend on the batch. */
carso_status cso_memory_lifetimes(cso_program *program);

/* Bytes of a tensor for a batch. */
size_t cso_memory_tensor_size(const cso_program *program, int tensor, int64_t batch);

/* Places a program's buffers and the steps' workspaces (workspace NULL: none). offset [buffers] and
 * workspace_offset [steps] may be NULL. */
carso_status cso_memory_arena(const cso_program *program, int64_t batch, const size_t *workspace, size_t *offset,
                              size_t *workspace_offset, size_t *out_size);

#endif
