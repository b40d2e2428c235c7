/* SPDX-License-Identifier: BSD-2-Clause */
/* What programs and plans are made of; shared by program.c, gradient.c, passes.c, memory_plan.c, plan.c and
 * plan_pool.c. */
#ifndef CSO_GRAPH_PROGRAM_PARTS_H
#define CSO_GRAPH_PROGRAM_PARTS_H

#include "graph/arena_pool.h"
#include "graph/program.h"

enum { CSO_KEPT_BOUNDS = 8 };

typedef enum cso_step_kind {
    CSO_STEP_RUN,                 /* a kernel of the backend */
    CSO_STEP_ACCUMULATE,          /* tensor output[0] += tensor input[0] */
    CSO_STEP_ACCUMULATE_PARAMETER /* op.parameter[0]->gradient += tensor input[0] */
} cso_step_kind;

/*
 * A step holds a reference to each of its op's parameters. input and output are tensors: a program's first tensors are
 * the values of its graph, with the same index; gradients and saved bytes come after.
 */
typedef struct cso_step {
    cso_step_kind kind;
    cso_op op; /* batch 1; op.input is the step's own */
    int node;  /* of the graph, for messages while a program is made */
    int input_count, output_count;
    int *input;
    int *output; /* -1: not wanted */
    int saved;   /* tensor, -1: none */
    cso_parameter *folded_from; /* the weight that op's was folded from, which may use it; a reference, or NULL */
} cso_step;

typedef struct cso_step_list {
    cso_step *step;
    int count, capacity;
} cso_step_list;

typedef struct cso_program_tensor {
    size_t count; /* elements, of one image where batched */
    bool batched;
    int saved_by; /* forward step whose saved bytes this is, -1: an ordinary tensor */
    int buffer;   /* place in memory, -1: never used */
} cso_program_tensor;

/* Tensors that follow each other in one place, and when it is taken: see memory_plan.h. */
typedef struct cso_program_buffer {
    int first, last;
} cso_program_buffer;

/* Where the host meets a program. tensor -1: nothing depends on it (its values are ignored, its gradient is zero). */
typedef struct cso_program_port {
    int tensor;
    cso_shape shape;
} cso_program_port;

struct cso_program {
    carso_context *context;
    cso_step_list forward, backward;
    cso_program_tensor *tensor;
    int tensor_count, tensor_capacity;
    cso_program_buffer *buffer;
    int buffer_count;
    cso_program_port *input, *output, *seed, *gradient; /* seed: gradient of the output at the same position */
    int input_count, output_count, gradient_count;
    bool has_backward; /* gradients were asked for, even if none can flow */

    pthread_mutex_t lock; /* of what follows */
    cso_plan *idle;       /* most recently released first */
    int64_t batch_limit;  /* 0: not known yet */
    size_t *workspace;    /* [2][steps]: bytes of each at batch 1, and what another image adds; NULL: not known yet */
    struct {
        int64_t batch;
        size_t size;
    } bound[CSO_KEPT_BOUNDS]; /* of arenas, asked for before */
    int next_bound;
};

struct cso_plan {
    cso_program *program;
    cso_plan *next; /* in the pool */
    int64_t batch;
    cso_kernel **kernel;      /* [steps], forward and then backward; NULL where a step is no kernel */
    size_t *workspace_size;   /* [steps] */
    size_t *workspace_offset; /* [steps] in the arena */
    size_t *offset;           /* [buffers] in the arena */
    cso_arguments *argument;  /* [steps], pointing into the two arrays below */
    const void **input;
    void **output;
    cso_arena *arena; /* device memory, while the plan is in use */
    size_t arena_size;
    void *staging; /* host memory for what crosses over, where the backend's memory is not the host's */
    bool *written; /* [inputs] */
    bool *seeded;  /* [outputs] */
    bool forward_done, backward_ready, backward_done;
};

/* program.c: a zeroed step with room for its shapes and tensors is appended; *out is valid until the next append. The
 * caller fills it; parameters put into op are retained by cso_step_retain_parameters. */
carso_status cso_step_append(cso_program *program, cso_step_list *list, int shape_count, int input_count,
                             int output_count, cso_step **out);
void cso_step_retain_parameters(cso_step *step);
void cso_step_clear(const carso_context *context, cso_step *step);
/* Returns the tensor's index. */
carso_status cso_program_add_tensor(cso_program *program, size_t count, bool batched, int *out);
/* Whether step may write its only output over the input at this position, where that is not needed any more. */
bool cso_step_may_replace(const cso_step *step, int position);

/* gradient.c: the backward steps. needs [tensors of the graph's values]: gradients flow to these. seed ports are
 * filled; gradient ports get the tensor that holds the gradient of the value that they name before. */
carso_status cso_program_derive(cso_program *program, const bool *needs, bool parameter_gradients);
/* Whether step has parameters that backward gives gradients to. */
bool cso_step_trains(const cso_step *step);

/* plan.c: without memory (batch limits), with all but its arena, and with that, for which detach gives it back. */
carso_status cso_plan_prepare(cso_program *program, int64_t batch, cso_plan **out);
carso_status cso_plan_allocate(cso_plan *plan);
carso_status cso_plan_attach(cso_plan *plan);
void cso_plan_detach(cso_plan *plan);
void cso_plan_destroy(cso_plan *plan);

#endif
