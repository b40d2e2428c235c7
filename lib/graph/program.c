/* SPDX-License-Identifier: BSD-2-Clause */
/* From a graph and a request to the steps of a program. */
#include <stdlib.h>
#include <string.h>

#include "graph/memory_plan.h"
#include "graph/passes.h"
#include "graph/program_parts.h"

carso_status cso_step_append(cso_program *program, cso_step_list *list, int shape_count, int input_count,
                             int output_count, cso_step **out)
{
    const carso_context *const context = program->context;
    cso_shape *shapes;
    cso_step *step;

    *out = NULL;
    if (list->count == list->capacity) {
        const int capacity = list->capacity ? 2 * list->capacity : 32;
        cso_step *const grown = cso_allocate(context, (size_t)capacity, sizeof(*grown));

        if (!grown) {
            return cso_fail_memory(context, "program steps");
        }
        if (list->count > 0) {
            memcpy(grown, list->step, (size_t)list->count * sizeof(*grown));
        }
        cso_release(context, list->step);
        list->step = grown;
        list->capacity = capacity;
    }
    step = &list->step[list->count];
    memset(step, 0, sizeof(*step));
    shapes = cso_allocate(context, (size_t)shape_count + 1, sizeof(*shapes));
    step->input = cso_allocate(context, (size_t)(input_count + output_count), sizeof(*step->input));
    if (!shapes || !step->input) {
        cso_release(context, shapes);
        cso_release(context, step->input);
        return cso_fail_memory(context, "program steps");
    }
    step->op.input = shapes;
    step->op.batch = 1;
    step->node = -1;
    step->input_count = input_count;
    step->output = step->input + input_count;
    step->output_count = output_count;
    step->saved = -1;
    list->count++;
    *out = step;
    return CARSO_OK;
}

void cso_step_retain_parameters(cso_step *step)
{
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        if (step->op.parameter[i]) {
            cso_parameter_retain(step->op.parameter[i]);
        }
    }
}

void cso_step_clear(const carso_context *context, cso_step *step)
{
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        if (step->op.parameter[i]) {
            cso_parameter_release(step->op.parameter[i]);
        }
    }
    cso_parameter_release(step->folded_from);
    cso_release(context, (void *)step->op.input);
    cso_release(context, step->input);
    memset(step, 0, sizeof(*step));
}

static void clear_list(const carso_context *context, cso_step_list *list)
{
    for (int i = 0; i < list->count; i++) {
        cso_step_clear(context, &list->step[i]);
    }
    cso_release(context, list->step);
    memset(list, 0, sizeof(*list));
}

carso_status cso_program_add_tensor(cso_program *program, size_t count, bool batched, int *out)
{
    const carso_context *const context = program->context;

    *out = -1;
    if (program->tensor_count == program->tensor_capacity) {
        const int capacity = program->tensor_capacity ? 2 * program->tensor_capacity : 64;
        cso_program_tensor *const grown = cso_allocate(context, (size_t)capacity, sizeof(*grown));

        if (!grown) {
            return cso_fail_memory(context, "program tensors");
        }
        if (program->tensor_count > 0) {
            memcpy(grown, program->tensor, (size_t)program->tensor_count * sizeof(*grown));
        }
        cso_release(context, program->tensor);
        program->tensor = grown;
        program->tensor_capacity = capacity;
    }
    program->tensor[program->tensor_count] =
        (cso_program_tensor){.count = count, .batched = batched, .saved_by = -1, .buffer = -1};
    *out = program->tensor_count++;
    return CARSO_OK;
}

bool cso_step_may_replace(const cso_step *step, int position)
{
    if (step->kind != CSO_STEP_RUN || position != 0 || step->op.direction == CSO_BACKWARD_PARAMETERS) {
        return false;
    }
    for (int i = 1; i < step->input_count; i++) {
        if (step->input[i] == step->input[0]) {
            return false;
        }
    }
    switch (step->op.kind) {
    case CSO_OP_RELU:
    case CSO_OP_LEAKY_RELU:
    case CSO_OP_SILU:
    case CSO_OP_SIGMOID:
    case CSO_OP_TANH:
    case CSO_OP_ADD:
    case CSO_OP_SCALE:
    case CSO_OP_STANDARDISE:
        return true;
    case CSO_OP_BATCH_NORM:
        return !step->op.attributes.training;
    default:
        return false;
    }
}

bool cso_step_trains(const cso_step *step)
{
    switch (step->op.kind) {
    case CSO_OP_CONVOLUTION:
    case CSO_OP_TRANSPOSED_CONVOLUTION:
    case CSO_OP_LINEAR:
    case CSO_OP_BATCH_NORM:
        for (int i = 0; i < 2; i++) {
            if (step->op.parameter[i] && !step->op.parameter[i]->constant) {
                return true;
            }
        }
        return false;
    default:
        return false;
    }
}

/* Whether flattening x, or its inverse, leaves every element where it is. */
static bool keeps_order(const cso_backend *backend, const cso_shape *image)
{
    return image->rank == 1 || backend->layout == CSO_NCHW || image->dimension[0] == 1 ||
           (image->dimension[1] == 1 && image->dimension[2] == 1);
}

static carso_status check_request(const cso_graph *graph, const cso_program_request *request)
{
    const carso_context *const context = graph->context;

    if (request->output_count < 1) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "a program needs at least one output");
    }
    for (int i = 0; i < request->output_count; i++) {
        if (request->output[i] < 0 || request->output[i] >= graph->value_count) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                            "output %d of a program is value %d of a graph with %d", i, request->output[i],
                            graph->value_count);
        }
    }
    for (int i = 0; i < request->gradient_input_count; i++) {
        const int value = request->gradient_input[i];

        if (value < 0 || value >= graph->value_count || graph->value[value].producer >= 0) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                            "gradient %d of a program is asked for value %d, which is no input of the graph", i, value);
        }
    }
    return CARSO_OK;
}

/* The values and nodes that the outputs depend on. */
static void mark_live(const cso_graph *graph, const cso_program_request *request, bool *live)
{
    for (int i = 0; i < request->output_count; i++) {
        live[request->output[i]] = true;
    }
    for (int i = graph->node_count - 1; i >= 0; i--) {
        const cso_node *const node = &graph->node[i];

        for (int j = 0; live[node->output] && j < node->input_count; j++) {
            live[node->input[j]] = true;
        }
    }
}

static carso_status append_forward(cso_program *program, const cso_graph *graph, int index, const int *tensor_of)
{
    const cso_node *const node = &graph->node[index];
    cso_step *step;
    cso_shape *shapes;
    carso_status status;

    status = cso_step_append(program, &program->forward, node->input_count, node->input_count, 1, &step);
    if (status != CARSO_OK) {
        return status;
    }
    step->kind = CSO_STEP_RUN;
    step->node = index;
    step->op.kind = node->kind;
    step->op.direction = CSO_FORWARD;
    step->op.attributes = node->attributes;
    step->op.output = graph->value[node->output].shape;
    step->op.input_count = node->input_count;
    shapes = (cso_shape *)step->op.input;
    for (int i = 0; i < node->input_count; i++) {
        shapes[i] = graph->value[node->input[i]].shape;
        step->input[i] = tensor_of[node->input[i]];
    }
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        step->op.parameter[i] = node->parameter[i] >= 0 ? graph->parameter[node->parameter[i]].parameter : NULL;
    }
    cso_step_retain_parameters(step);
    step->output[0] = tensor_of[node->output];
    return CARSO_OK;
}

/* Forward steps as the graph has them; tensor_of and needs are filled for live values. */
static carso_status make_forward(cso_program *program, const cso_graph *graph, const cso_program_request *request,
                                 const bool *live, int *tensor_of, bool *needs)
{
    const cso_backend *const backend = program->context->backend;
    carso_status status = CARSO_OK;

    for (int i = 0; status == CARSO_OK && i < graph->value_count; i++) {
        status = cso_program_add_tensor(program, (size_t)cso_shape_count(&graph->value[i].shape), true, &tensor_of[i]);
    }
    for (int i = 0; i < request->gradient_input_count; i++) {
        needs[request->gradient_input[i]] = true;
    }
    for (int i = 0; status == CARSO_OK && i < graph->node_count; i++) {
        const cso_node *const node = &graph->node[i];

        if (!live[node->output]) {
            continue;
        }
        if ((node->kind == CSO_OP_FLATTEN && keeps_order(backend, &graph->value[node->input[0]].shape)) ||
            (node->kind == CSO_OP_UNFLATTEN && keeps_order(backend, &graph->value[node->output].shape))) {
            tensor_of[node->output] = tensor_of[node->input[0]];
            continue;
        }
        status = append_forward(program, graph, i, tensor_of);
        if (status == CARSO_OK) {
            const cso_step *const step = &program->forward.step[program->forward.count - 1];
            bool flows = request->parameter_gradients && cso_step_trains(step);

            for (int j = 0; j < step->input_count; j++) {
                flows = flows || needs[step->input[j]];
            }
            needs[step->output[0]] = flows;
        }
    }
    return status;
}

static carso_status make_ports(cso_program *program, const cso_graph *graph, const cso_program_request *request,
                               const bool *live, const int *tensor_of, const bool *needs)
{
    const carso_context *const context = program->context;
    const size_t input_count = (size_t)graph->input_count;
    const size_t output_count = (size_t)request->output_count;
    const size_t gradient_count = (size_t)request->gradient_input_count;

    program->input = cso_allocate(context, input_count, sizeof(*program->input));
    program->output = cso_allocate(context, output_count, sizeof(*program->output));
    program->seed = cso_allocate(context, output_count, sizeof(*program->seed));
    program->gradient = cso_allocate(context, gradient_count, sizeof(*program->gradient));
    if (!program->input || !program->output || !program->seed || !program->gradient) {
        return cso_fail_memory(context, "program");
    }
    program->input_count = graph->input_count;
    program->output_count = request->output_count;
    program->gradient_count = request->gradient_input_count;
    for (size_t i = 0; i < input_count; i++) {
        const int value = graph->input[i];

        program->input[i].shape = graph->value[value].shape;
        program->input[i].tensor = live[value] ? value : -1;
    }
    for (size_t i = 0; i < output_count; i++) {
        const int value = request->output[i];

        program->output[i].shape = program->seed[i].shape = graph->value[value].shape;
        program->output[i].tensor = tensor_of[value];
        program->seed[i].tensor = -1;
        if (needs[tensor_of[value]]) {
            const carso_status status = cso_program_add_tensor(
                program, (size_t)cso_shape_count(&program->seed[i].shape), true, &program->seed[i].tensor);

            if (status != CARSO_OK) {
                return status;
            }
        }
    }
    for (size_t i = 0; i < gradient_count; i++) {
        const int value = request->gradient_input[i];

        program->gradient[i].shape = graph->value[value].shape;
        program->gradient[i].tensor = value;
    }
    return CARSO_OK;
}

/* Kernel-private bytes from forward steps to their backward steps. Also without any, forward kernels may write them. */
static carso_status add_saved(cso_program *program)
{
    const cso_backend *const backend = program->context->backend;

    for (int i = 0; i < program->forward.count; i++) {
        cso_step *const step = &program->forward.step[i];
        carso_status status;

        if (backend->saved_size(program->context->device, &step->op) == 0) {
            continue;
        }
        status = cso_program_add_tensor(program, 0, true, &step->saved);
        if (status != CARSO_OK) {
            return status;
        }
        program->tensor[step->saved].saved_by = i;
    }
    return CARSO_OK;
}

static carso_status check_support(const cso_program *program, const cso_graph *graph, const cso_step_list *list)
{
    static const char *const direction_name[] = {"", " backward to its inputs", " backward to its parameters"};
    const carso_context *const context = program->context;

    for (int i = 0; i < list->count; i++) {
        const cso_step *const step = &list->step[i];

        if (step->kind == CSO_STEP_RUN && !context->backend->supports(context->device, &step->op)) {
            const char *const name =
                step->node >= 0 ? graph->value[graph->node[step->node].output].name : "gradient sum";

            return cso_fail(context, CARSO_ERROR_UNSUPPORTED,
                            "backend %s cannot run the %s \"%s\"%s; choose another backend", context->backend->name,
                            cso_op_kind_name(step->op.kind), name, direction_name[step->op.direction]);
        }
    }
    return CARSO_OK;
}

static carso_status build(cso_program *program, const cso_graph *graph, const cso_program_request *request)
{
    const carso_context *const context = program->context;
    const size_t value_count = (size_t)graph->value_count;
    int *tensor_of;
    bool *flags, *live, *needs, *kept;
    carso_status status;

    tensor_of = cso_allocate(context, value_count, sizeof(*tensor_of));
    flags = cso_allocate(context, value_count, 3 * sizeof(*flags));
    if (!tensor_of || !flags) {
        status = cso_fail_memory(context, "program");
        goto done;
    }
    live = flags;
    needs = flags + value_count;
    kept = flags + 2 * value_count;
    program->has_backward = request->gradient_input_count > 0 || request->parameter_gradients;
    mark_live(graph, request, live);
    status = make_forward(program, graph, request, live, tensor_of, needs);
    if (status != CARSO_OK) {
        goto done;
    }
    status = make_ports(program, graph, request, live, tensor_of, needs);
    if (status != CARSO_OK) {
        goto done;
    }
    for (int i = 0; i < program->output_count; i++) {
        kept[program->output[i].tensor] = true;
    }
    if (!request->no_fusion) {
        status = cso_passes_run(program, needs, kept);
        if (status != CARSO_OK) {
            goto done;
        }
    }
    /* The backend is asked for the forward steps before it is asked for their saved bytes. */
    status = check_support(program, graph, &program->forward);
    if (status == CARSO_OK) {
        status = add_saved(program);
    }
    if (status == CARSO_OK) {
        status = cso_program_derive(program, needs, request->parameter_gradients);
    }
    if (status == CARSO_OK) {
        status = check_support(program, graph, &program->backward);
    }
    if (status == CARSO_OK) {
        status = cso_memory_lifetimes(program);
    }
done:
    cso_release(context, tensor_of);
    cso_release(context, flags);
    return status;
}

carso_status cso_program_create(const cso_graph *graph, const cso_program_request *request, cso_program **out)
{
    cso_program *program;
    carso_status status;

    *out = NULL;
    status = check_request(graph, request);
    if (status != CARSO_OK) {
        return status;
    }
    program = cso_allocate(graph->context, 1, sizeof(*program));
    if (!program) {
        return cso_fail_memory(graph->context, "program");
    }
    program->context = graph->context;
    if (pthread_mutex_init(&program->lock, NULL) != 0) {
        cso_release(graph->context, program);
        return cso_fail_memory(graph->context, "program");
    }
    status = build(program, graph, request);
    if (status != CARSO_OK) {
        cso_program_destroy(program);
        return status;
    }
    *out = program;
    return CARSO_OK;
}

void cso_program_destroy(cso_program *program)
{
    const carso_context *context;

    if (!program) {
        return;
    }
    context = program->context;
    while (program->idle) {
        cso_plan *const plan = program->idle;

        program->idle = plan->next;
        cso_plan_destroy(plan);
    }
    cso_arena_pool_clear(context);
    clear_list(context, &program->forward);
    clear_list(context, &program->backward);
    cso_release(context, program->tensor);
    cso_release(context, program->buffer);
    cso_release(context, program->input);
    cso_release(context, program->output);
    cso_release(context, program->seed);
    cso_release(context, program->gradient);
    cso_release(context, program->workspace);
    pthread_mutex_destroy(&program->lock);
    cso_release(context, program);
}
