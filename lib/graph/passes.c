/* SPDX-License-Identifier: BSD-2-Clause */
#include "graph/passes.h"

#include <string.h>

#include "graph/fold.h"

typedef struct rewrite {
    cso_program *program;
    const bool *needs, *kept;
    int *producer; /* [values] forward step, -1: none */
    int *uses;     /* [values] */
    bool *gone;    /* [forward steps] */
    bool *folded;  /* [forward steps] the weights are a fold's already */
} rewrite;

static bool same_shape(const cso_shape *a, const cso_shape *b)
{
    bool same = a->rank == b->rank;

    for (int i = 0; same && i < a->rank; i++) {
        same = a->dimension[i] == b->dimension[i];
    }
    return same;
}

/* The step that makes value, where only one other step reads it and nobody else asks for it; or -1. */
static int private_producer(const rewrite *state, int value)
{
    return state->uses[value] == 1 && !state->kept[value] ? state->producer[value] : -1;
}

static bool supported(const rewrite *state, const cso_op *op)
{
    const carso_context *const context = state->program->context;

    return context->backend->supports(context->device, op);
}

/* The step at into takes over the output of the step at from, which goes. */
static void take_output(rewrite *state, int into, int from)
{
    cso_step *const step = state->program->forward.step;

    step[into].output[0] = step[from].output[0];
    state->producer[step[into].output[0]] = into;
    state->gone[from] = true;
}

static bool constant_parameters(const cso_op *op)
{
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        if (op->parameter[i] && !op->parameter[i]->constant) {
            return false;
        }
    }
    return true;
}

static bool has_epilogue(const cso_op *op) { return op->epilogue.activate || op->epilogue.residual; }

/* Elements of a matrix above which a copy of it costs more than BatchNorm's own pass over the few values behind it. */
#define LARGE_MATRIX ((size_t)1 << 20)

static carso_status fold_batch_norm(rewrite *state, int index)
{
    cso_step *const norm = &state->program->forward.step[index];
    const int before = private_producer(state, norm->input[0]);
    cso_parameter *weight = NULL, *bias = NULL;
    cso_step *product;
    carso_status status;

    /* Folded weights are rounded to float32, which a backend that computes in double is not asked for. */
    if (before < 0 || norm->op.attributes.training || state->program->context->backend->element == CSO_F64) {
        return CARSO_OK;
    }
    product = &state->program->forward.step[before];
    if ((product->op.kind != CSO_OP_CONVOLUTION && product->op.kind != CSO_OP_TRANSPOSED_CONVOLUTION &&
         product->op.kind != CSO_OP_LINEAR) ||
        has_epilogue(&product->op) || !constant_parameters(&product->op) || !constant_parameters(&norm->op) ||
        !same_shape(&product->op.output, &norm->op.input[0]) ||
        !product->op.parameter[0]->host /* a fold already, without values of its own */ ||
        (product->op.kind == CSO_OP_LINEAR && product->op.parameter[0]->count > LARGE_MATRIX)) {
        return CARSO_OK;
    }
    status = cso_fold(state->program->context, &product->op, &norm->op, !state->folded[before], &weight, &bias);
    if (status != CARSO_OK) {
        return status;
    }
    cso_parameter_release(product->folded_from);
    product->folded_from = product->op.parameter[0];
    if (product->op.parameter[1]) {
        cso_parameter_release(product->op.parameter[1]);
    }
    product->op.parameter[0] = weight;
    product->op.parameter[1] = bias;
    state->folded[before] = true;
    take_output(state, before, index);
    return CARSO_OK;
}

static void fuse_activation(rewrite *state, int index)
{
    const cso_step *const activation = &state->program->forward.step[index];
    const int before = private_producer(state, activation->input[0]);
    cso_op *op;

    /* Its gradient is computed from its input, which would be lost. */
    if (before < 0 || (activation->op.kind == CSO_OP_SILU && state->needs[activation->input[0]])) {
        return;
    }
    op = &state->program->forward.step[before].op;
    switch (op->kind) {
    case CSO_OP_CONVOLUTION:
    case CSO_OP_TRANSPOSED_CONVOLUTION:
    case CSO_OP_LINEAR:
    case CSO_OP_ADD:
        break;
    case CSO_OP_BATCH_NORM:
        if (op->attributes.training) {
            return;
        }
        break;
    default:
        return;
    }
    if (op->epilogue.activate) {
        return;
    }
    op->epilogue.activate = true;
    op->epilogue.activation = activation->op.kind;
    op->epilogue.slope = activation->op.attributes.slope;
    if (supported(state, op)) {
        take_output(state, before, index);
    } else {
        op->epilogue.activate = false;
        op->epilogue.activation = CSO_OP_CONVOLUTION;
        op->epilogue.slope = 0;
    }
}

/* Which input of the addition at index comes from a convolution that can add the other one, or -1. */
static int residual_candidate(const rewrite *state, int index)
{
    const cso_step *const step = state->program->forward.step;
    const cso_step *const add = &step[index];
    int best = -1, best_producer = -1;

    for (int i = 0; i < 2; i++) {
        const int before = private_producer(state, add->input[i]);

        /* The later one of two, so that the other's output waits for less long. */
        if (before > best_producer && step[before].op.kind == CSO_OP_CONVOLUTION && !has_epilogue(&step[before].op) &&
            same_shape(&step[before].op.output, &add->op.output)) {
            cso_op op = step[before].op;

            op.epilogue.residual = true;
            if (supported(state, &op)) {
                best = i;
                best_producer = before;
            }
        }
    }
    return best;
}

static carso_status fuse_residual(rewrite *state, int index)
{
    const carso_context *const context = state->program->context;
    cso_step *const step = state->program->forward.step;
    const int position = residual_candidate(state, index);
    int before, *tensors;
    cso_step moved;

    if (position < 0) {
        return CARSO_OK;
    }
    before = state->producer[step[index].input[position]];
    tensors = cso_allocate(context, 3, sizeof(*tensors));
    if (!tensors) {
        return cso_fail_memory(context, "program steps");
    }
    tensors[0] = step[before].input[0];
    tensors[1] = step[index].input[1 - position];
    tensors[2] = step[index].output[0];
    cso_release(context, step[before].input);
    step[before].input = tensors;
    step[before].input_count = 2;
    step[before].output = tensors + 2;
    step[before].op.epilogue.residual = true;
    /* The convolution runs where the addition did: the residual may be made after the convolution's place. */
    moved = step[before];
    step[before] = step[index];
    step[index] = moved;
    state->gone[before] = true;
    return CARSO_OK;
}

static void remove_gone(rewrite *state)
{
    cso_step_list *const list = &state->program->forward;
    int count = 0;

    for (int i = 0; i < list->count; i++) {
        if (state->gone[i]) {
            cso_step_clear(state->program->context, &list->step[i]);
        } else {
            if (count != i) {
                list->step[count] = list->step[i];
                memset(&list->step[i], 0, sizeof(list->step[i]));
            }
            count++;
        }
    }
    list->count = count;
}

static void collect_uses(rewrite *state)
{
    const cso_step_list *const list = &state->program->forward;

    for (int i = 0; i < state->program->tensor_count; i++) {
        state->producer[i] = -1;
    }
    for (int i = 0; i < list->count; i++) {
        for (int j = 0; j < list->step[i].input_count; j++) {
            state->uses[list->step[i].input[j]]++;
        }
        state->producer[list->step[i].output[0]] = i;
    }
}

carso_status cso_passes_run(cso_program *program, const bool *needs, const bool *kept)
{
    const carso_context *const context = program->context;
    const size_t value_count = (size_t)program->tensor_count;
    rewrite state = {.program = program, .needs = needs, .kept = kept};
    carso_status status = CARSO_OK;

    state.producer = cso_allocate(context, value_count, sizeof(*state.producer));
    state.uses = cso_allocate(context, value_count, sizeof(*state.uses));
    state.gone = cso_allocate(context, (size_t)program->forward.count, 2 * sizeof(*state.gone));
    if (!state.producer || !state.uses || !state.gone) {
        status = cso_fail_memory(context, "program");
        goto done;
    }
    state.folded = state.gone + program->forward.count;
    collect_uses(&state);
    /* In running order, so that what a step was fused into is seen by those after it. */
    for (int i = 0; status == CARSO_OK && i < program->forward.count; i++) {
        switch (program->forward.step[i].op.kind) {
        case CSO_OP_BATCH_NORM:
            status = fold_batch_norm(&state, i);
            break;
        case CSO_OP_RELU:
        case CSO_OP_LEAKY_RELU:
        case CSO_OP_SILU:
        case CSO_OP_SIGMOID:
        case CSO_OP_TANH:
            fuse_activation(&state, i);
            break;
        case CSO_OP_ADD:
            status = fuse_residual(&state, i);
            break;
        default:
            break;
        }
    }
    remove_gone(&state);
done:
    cso_release(context, state.producer);
    cso_release(context, state.uses);
    cso_release(context, state.gone);
    return status;
}
