/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reverse-mode derivation. Walking the forward steps backwards, each value collects the contributions of its consumers
 * into one tensor. Where a gradient passes through unchanged (addition) no copy is made: several values then hold the
 * same tensor, and it is not added to while more than one does.
 */
#include <string.h>

#include "graph/program_parts.h"

typedef struct derivation {
    cso_program *program;
    const bool *needs;
    int value_count;
    int *gradient; /* [values] tensor, -1: no contribution yet */
    int *holders;  /* [holder_capacity] by tensor: values whose gradient it is */
    int holder_capacity;
} derivation;

static carso_status new_tensor(derivation *state, size_t count, bool batched, int *out)
{
    const carso_context *const context = state->program->context;
    const carso_status status = cso_program_add_tensor(state->program, count, batched, out);

    if (status != CARSO_OK) {
        return status;
    }
    if (*out >= state->holder_capacity) {
        const int capacity = 2 * state->program->tensor_capacity;
        int *const grown = cso_allocate(context, (size_t)capacity, sizeof(*grown));

        if (!grown) {
            return cso_fail_memory(context, "gradients");
        }
        if (state->holders) {
            memcpy(grown, state->holders, (size_t)state->holder_capacity * sizeof(*grown));
        }
        cso_release(context, state->holders);
        state->holders = grown;
        state->holder_capacity = capacity;
    }
    return CARSO_OK;
}

static carso_status append_accumulate(derivation *state, int destination, int source)
{
    cso_step *step;
    const carso_status status = cso_step_append(state->program, &state->program->backward, 0, 1, 1, &step);

    if (status == CARSO_OK) {
        step->kind = CSO_STEP_ACCUMULATE;
        step->input[0] = source;
        step->output[0] = destination;
    }
    return status;
}

static carso_status append_sum(derivation *state, int a, int b, int sum)
{
    const cso_shape shape = {.rank = 1, .dimension = {(int64_t)state->program->tensor[sum].count}};
    cso_step *step;
    const carso_status status = cso_step_append(state->program, &state->program->backward, 2, 2, 1, &step);

    if (status == CARSO_OK) {
        cso_shape *const shapes = (cso_shape *)step->op.input;

        step->kind = CSO_STEP_RUN;
        step->op.kind = CSO_OP_ADD;
        step->op.direction = CSO_FORWARD;
        step->op.attributes = cso_attributes_default();
        step->op.input_count = 2;
        shapes[0] = shapes[1] = step->op.output = shape;
        step->input[0] = a;
        step->input[1] = b;
        step->output[0] = sum;
    }
    return status;
}

/* Adds tensor to the gradient of value. A tensor that no value holds is the caller's own, given away. */
static carso_status contribute(derivation *state, int value, int tensor)
{
    const int have = state->gradient[value];
    carso_status status;

    if (!state->needs[value]) {
        return CARSO_OK;
    }
    if (have < 0) {
        state->gradient[value] = tensor;
        state->holders[tensor]++;
        return CARSO_OK;
    }
    if (have != tensor && state->holders[have] == 1) {
        return append_accumulate(state, have, tensor);
    }
    if (state->holders[tensor] == 0) {
        status = append_accumulate(state, tensor, have);
        state->gradient[value] = tensor;
    } else {
        int sum;

        status = new_tensor(state, state->program->tensor[have].count, true, &sum);
        if (status == CARSO_OK) {
            status = append_sum(state, have, tensor, sum);
            state->gradient[value] = sum;
        }
    }
    if (status == CARSO_OK) {
        state->holders[have]--;
        state->holders[state->gradient[value]]++;
    }
    return status;
}

static carso_status append_backward(derivation *state, int forward, cso_direction direction, int input_count,
                                    int output_count, cso_step **out)
{
    cso_program *const program = state->program;
    const cso_op *op;
    cso_step *step;
    const carso_status status = cso_step_append(
        program, &program->backward, program->forward.step[forward].op.input_count, input_count, output_count, out);

    if (status != CARSO_OK) {
        return status;
    }
    step = *out;
    op = &program->forward.step[forward].op;
    memcpy((cso_shape *)step->op.input, op->input, (size_t)op->input_count * sizeof(*op->input));
    step->kind = CSO_STEP_RUN;
    step->node = program->forward.step[forward].node;
    step->op.kind = op->kind;
    step->op.direction = direction;
    step->op.input_count = op->input_count;
    step->op.output = op->output;
    step->op.attributes = op->attributes;
    memcpy(step->op.parameter, op->parameter, sizeof(op->parameter));
    cso_step_retain_parameters(step);
    step->saved = program->forward.step[forward].saved;
    for (int i = 0; i < output_count; i++) {
        step->output[i] = -1;
    }
    return CARSO_OK;
}

static carso_status append_parameter(derivation *state, cso_parameter *parameter, int tensor)
{
    cso_step *step;
    const carso_status status = cso_step_append(state->program, &state->program->backward, 0, 1, 0, &step);

    if (status == CARSO_OK) {
        step->kind = CSO_STEP_ACCUMULATE_PARAMETER;
        step->input[0] = tensor;
        step->op.parameter[0] = parameter;
        cso_step_retain_parameters(step);
    }
    return status;
}

/* Gives the backward step, the last one, tensors for the gradients of p0 and p1 at its outputs from first on, and adds
 * them to the parameters' gradients. */
static carso_status train_parameters(derivation *state, int first)
{
    cso_step_list *const list = &state->program->backward;
    const int index = list->count - 1;

    for (int i = 0; i < 2; i++) {
        cso_parameter *const parameter = list->step[index].op.parameter[i];
        carso_status status;
        int tensor;

        if (!parameter || parameter->constant) {
            continue;
        }
        status = new_tensor(state, parameter->count, false, &tensor);
        if (status != CARSO_OK) {
            return status;
        }
        list->step[index].output[first + i] = tensor;
        status = append_parameter(state, parameter, tensor);
        if (status != CARSO_OK) {
            return status;
        }
    }
    return CARSO_OK;
}

/* gradient becomes that of the activation's input. */
static carso_status derive_activation(derivation *state, int forward, int *gradient)
{
    const cso_step *source = &state->program->forward.step[forward];
    const int output = source->output[0];
    const cso_shape shape = source->op.output;
    cso_step *step;
    carso_status status;
    int result;

    status = new_tensor(state, (size_t)cso_shape_count(&shape), true, &result);
    if (status == CARSO_OK) {
        status = cso_step_append(state->program, &state->program->backward, 1, 2, 1, &step);
    }
    if (status != CARSO_OK) {
        return status;
    }
    step->kind = CSO_STEP_RUN;
    step->node = source->node;
    step->op.kind = source->op.epilogue.activation;
    step->op.direction = CSO_BACKWARD_DATA;
    step->op.attributes = cso_attributes_default();
    step->op.attributes.slope = source->op.epilogue.slope;
    step->op.input_count = 1;
    *(cso_shape *)step->op.input = shape;
    step->op.output = shape;
    step->input[0] = *gradient;
    step->input[1] = output;
    step->output[0] = result;
    *gradient = result;
    return CARSO_OK;
}

/* Input or output of the forward operation that BACKWARD_DATA reads, -1: neither. */
static int needed_by_backward(const cso_step *forward)
{
    switch (forward->op.kind) {
    case CSO_OP_RELU:
    case CSO_OP_LEAKY_RELU:
    case CSO_OP_SIGMOID:
    case CSO_OP_TANH:
        return forward->output[0];
    case CSO_OP_SILU:
        return forward->input[0];
    case CSO_OP_BATCH_NORM:
        return forward->op.attributes.training ? forward->input[0] : -1;
    default:
        return -1;
    }
}

static carso_status derive_data(derivation *state, int forward, int gradient, bool train)
{
    cso_program *const program = state->program;
    const int count = program->forward.step[forward].op.input_count;
    const int needed = needed_by_backward(&program->forward.step[forward]);
    /* The one operation whose parameters' gradients come with its input's. */
    const bool together = program->forward.step[forward].op.kind == CSO_OP_BATCH_NORM &&
                          program->forward.step[forward].op.attributes.training;
    cso_step *step;
    carso_status status;
    int index;

    status = append_backward(state, forward, CSO_BACKWARD_DATA, needed >= 0 ? 2 : 1, together ? 3 : count, &step);
    if (status != CARSO_OK) {
        return status;
    }
    index = program->backward.count - 1;
    step->input[0] = gradient;
    if (needed >= 0) {
        step->input[1] = needed;
    }
    for (int i = 0; i < count; i++) {
        int tensor;

        if (!state->needs[program->forward.step[forward].input[i]]) {
            continue;
        }
        status = new_tensor(state, (size_t)cso_shape_count(&program->forward.step[forward].op.input[i]), true, &tensor);
        if (status != CARSO_OK) {
            return status;
        }
        program->backward.step[index].output[i] = tensor;
    }
    if (together && train) {
        status = train_parameters(state, 1);
        if (status != CARSO_OK) {
            return status;
        }
    }
    for (int i = 0; i < count; i++) {
        const int tensor = program->backward.step[index].output[i];

        if (tensor >= 0) {
            status = contribute(state, program->forward.step[forward].input[i], tensor);
            if (status != CARSO_OK) {
                return status;
            }
        }
    }
    return CARSO_OK;
}

static carso_status derive_parameters(derivation *state, int forward, int gradient)
{
    const int x = state->program->forward.step[forward].input[0];
    cso_step *step;
    carso_status status;

    status = append_backward(state, forward, CSO_BACKWARD_PARAMETERS, 2, 2, &step);
    if (status != CARSO_OK) {
        return status;
    }
    step->input[0] = gradient;
    step->input[1] = x;
    return train_parameters(state, 0);
}

static carso_status derive_step(derivation *state, int forward, bool parameter_gradients)
{
    const cso_step *const source = &state->program->forward.step[forward];
    const bool train = parameter_gradients && cso_step_trains(source);
    const bool batch_statistics = source->op.kind == CSO_OP_BATCH_NORM && source->op.attributes.training;
    int gradient = state->gradient[source->output[0]];
    bool data = false;
    carso_status status;

    if (source->op.epilogue.activate) {
        status = derive_activation(state, forward, &gradient);
        if (status != CARSO_OK) {
            return status;
        }
        state->holders[gradient]++; /* this function's, so that contributions share it */
    }
    if (source->op.epilogue.residual) {
        status = contribute(state, source->input[source->op.input_count], gradient);
        if (status != CARSO_OK) {
            return status;
        }
    }
    for (int i = 0; i < source->op.input_count; i++) {
        data = data || state->needs[source->input[i]];
    }
    status = CARSO_OK;
    if (source->op.kind == CSO_OP_ADD) {
        for (int i = 0; status == CARSO_OK && i < 2; i++) {
            status = contribute(state, source->input[i], gradient);
        }
    } else {
        if (train && !batch_statistics) {
            status = derive_parameters(state, forward, gradient);
        }
        if (status == CARSO_OK && (data || (train && batch_statistics))) {
            status = derive_data(state, forward, gradient, train);
        }
    }
    if (source->op.epilogue.activate) {
        state->holders[gradient]--;
    }
    return status;
}

carso_status cso_program_derive(cso_program *program, const bool *needs, bool parameter_gradients)
{
    const carso_context *const context = program->context;
    derivation state = {.program = program, .needs = needs, .value_count = program->tensor_count};
    carso_status status = CARSO_OK;

    if (!program->has_backward) {
        return CARSO_OK;
    }
    state.holder_capacity = 2 * program->tensor_capacity;
    state.gradient = cso_allocate(context, (size_t)program->tensor_count, sizeof(*state.gradient));
    state.holders = cso_allocate(context, (size_t)state.holder_capacity, sizeof(*state.holders));
    if (!state.gradient || !state.holders) {
        status = cso_fail_memory(context, "gradients");
    }
    for (int i = 0; status == CARSO_OK && i < state.value_count; i++) {
        state.gradient[i] = -1;
    }
    for (int i = 0; status == CARSO_OK && i < program->output_count; i++) {
        if (program->seed[i].tensor >= 0) {
            status = contribute(&state, program->output[i].tensor, program->seed[i].tensor);
        }
    }
    for (int i = program->forward.count - 1; status == CARSO_OK && i >= 0; i--) {
        const int output = program->forward.step[i].output[0];

        if (!needs[output] || state.gradient[output] < 0) {
            continue;
        }
        status = derive_step(&state, i, parameter_gradients);
        state.holders[state.gradient[output]]--;
    }
    for (int i = 0; status == CARSO_OK && i < program->gradient_count; i++) {
        program->gradient[i].tensor = state.gradient[program->gradient[i].tensor];
    }
    cso_release(context, state.gradient);
    cso_release(context, state.holders);
    return status;
}
