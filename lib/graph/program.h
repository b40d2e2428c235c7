/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program is a graph made ready to run: dead nodes dropped, BatchNorm folded, epilogues fused, backward steps derived.
 * It is immutable and shared. A plan is a program prepared for one batch size, with its arena; a program keeps a pool of
 * them, each used by one thread at a time.
 */
#ifndef CSO_GRAPH_PROGRAM_H
#define CSO_GRAPH_PROGRAM_H

#include "graph/graph.h"

typedef struct cso_program cso_program;
typedef struct cso_plan cso_plan;

typedef struct cso_program_request {
    const int *output; /* graph values wanted after forward; they are kept exactly (nothing is fused across them) */
    int output_count;
    /* Backward: gradients to these graph inputs (value indices), and to every parameter that is not constant. Gradients
     * flow in from the outputs. */
    const int *gradient_input;
    int gradient_input_count;
    bool parameter_gradients;
    bool no_fusion; /* tests: the graph as it stands */
} cso_program_request;

/* UNSUPPORTED: the backend cannot run an operation, which the message names. graph may be destroyed afterwards. */
carso_status cso_program_create(const cso_graph *graph, const cso_program_request *request, cso_program **out);
void cso_program_destroy(cso_program *program); /* accepts NULL; no plan may be in use */

/* Largest batch whose arena keeps the context's memory limit; at least 1. */
carso_status cso_program_batch_limit(cso_program *program, int64_t *out);
/* Bytes that the arena of a plan for this batch takes, or somewhat more; always the same answer. */
carso_status cso_program_arena_bound(cso_program *program, int64_t batch, size_t *out);
/* A plan for exactly this batch, from the pool or new. */
carso_status cso_program_acquire(cso_program *program, int64_t batch, cso_plan **out);
void cso_plan_release(cso_plan *plan);

/* Host tensors are dense [batch][shape] in C, H, W order, float or double as element says. input: position among the
 * graph's inputs that the outputs depend on is not changed by dead code: it is the graph's input index. output: position
 * in the request. Values written stay until written again; forward may be run again. */
carso_status cso_plan_write(cso_plan *plan, int input, const void *host, cso_element element);
carso_status cso_plan_forward(cso_plan *plan);
carso_status cso_plan_read(cso_plan *plan, int output, void *host, cso_element element);
/* After forward: sets d loss / d output; outputs not set count as zero. Then backward adds to the parameters' gradients
 * (trainer: one thread) and makes the inputs' gradients readable. position: in gradient_input. */
carso_status cso_plan_write_gradient(cso_plan *plan, int output, const void *host, cso_element element);
carso_status cso_plan_backward(cso_plan *plan);
carso_status cso_plan_read_gradient(cso_plan *plan, int position, void *host, cso_element element);

/* For reports: arena bytes of a plan, packed bytes are the backend's; steps as text for debugging and tests
 * ("convolution+relu jit:avx512_core"), one line each, from the context's allocator. */
size_t cso_plan_arena_size(const cso_plan *plan);
char *cso_plan_describe(const cso_plan *plan);

#endif
