/* SPDX-License-Identifier: BSD-2-Clause */
/* A program made ready for one batch size: kernels, memory, arguments; and running it. */
#include <string.h>

#include "graph/memory_plan.h"
#include "graph/program_parts.h"
#include "graph/transfer.h"

/* Bounds every size computed from it, together with CSO_MAX_FEATURES. */
#define MAX_BATCH ((int64_t)1 << 24)

static int step_count(const cso_program *program) { return program->forward.count + program->backward.count; }

static const cso_step *step_at(const cso_program *program, int index)
{
    return index < program->forward.count ? &program->forward.step[index]
                                          : &program->backward.step[index - program->forward.count];
}

static void *tensor_address(const cso_plan *plan, int tensor)
{
    return tensor < 0 ? NULL : cso_arena_memory(plan->arena) + plan->offset[plan->program->tensor[tensor].buffer];
}

/* Bytes of a tensor that crosses between host and device. */
static size_t port_size(const cso_plan *plan, const cso_program_port *port)
{
    const size_t element = plan->program->context->backend->element == CSO_F64 ? sizeof(double) : sizeof(float);

    return (size_t)cso_shape_count(&port->shape) * (size_t)plan->batch * element;
}

carso_status cso_plan_prepare(cso_program *program, int64_t batch, cso_plan **out)
{
    const carso_context *const context = program->context;
    const cso_backend *const backend = context->backend;
    const size_t steps = (size_t)step_count(program);
    carso_status status = CARSO_OK;
    cso_plan *plan;

    *out = NULL;
    if (batch < 1 || batch > MAX_BATCH) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "batch %lld is not between 1 and %lld", (long long)batch,
                        (long long)MAX_BATCH);
    }
    plan = cso_allocate(context, 1, sizeof(*plan));
    if (!plan) {
        return cso_fail_memory(context, "plan");
    }
    plan->program = program;
    plan->batch = batch;
    plan->kernel = cso_allocate(context, steps, sizeof(*plan->kernel));
    plan->workspace_size = cso_allocate(context, steps, sizeof(*plan->workspace_size));
    plan->workspace_offset = cso_allocate(context, steps, sizeof(*plan->workspace_offset));
    plan->offset = cso_allocate(context, (size_t)program->buffer_count, sizeof(*plan->offset));
    if (!plan->kernel || !plan->workspace_size || !plan->workspace_offset || !plan->offset) {
        status = cso_fail_memory(context, "plan");
    }
    for (int i = 0; status == CARSO_OK && i < step_count(program); i++) {
        const cso_step *const step = step_at(program, i);

        if (step->kind == CSO_STEP_RUN) {
            cso_op op = step->op;

            op.batch = batch;
            status = backend->prepare(context->device, &op, &plan->kernel[i]);
            if (status == CARSO_OK) {
                plan->workspace_size[i] = backend->workspace_size(plan->kernel[i]);
            }
        }
    }
    if (status == CARSO_OK) {
        status = cso_memory_arena(program, batch, plan->workspace_size, plan->offset, plan->workspace_offset,
                                  &plan->arena_size);
    }
    if (status != CARSO_OK) {
        cso_plan_destroy(plan);
        return status;
    }
    *out = plan;
    return CARSO_OK;
}

static carso_status allocate_staging(cso_plan *plan)
{
    const cso_program *const program = plan->program;
    size_t largest = 0;

    for (int i = 0; i < program->input_count + program->output_count + program->gradient_count; i++) {
        const cso_program_port *const port = i < program->input_count ? &program->input[i]
                                             : i < program->input_count + program->output_count
                                                 ? &program->output[i - program->input_count]
                                                 : &program->gradient[i - program->input_count - program->output_count];
        const size_t size = port_size(plan, port);

        largest = size > largest ? size : largest;
    }
    plan->staging = cso_allocate_raw(program->context, largest, 1);
    return plan->staging ? CARSO_OK : cso_fail_memory(program->context, "transfer buffer");
}

static void fill_arguments(cso_plan *plan)
{
    const cso_program *const program = plan->program;
    const void **input = plan->input;
    void **output = plan->output;

    for (int i = 0; i < step_count(program); i++) {
        const cso_step *const step = step_at(program, i);
        cso_arguments *const argument = &plan->argument[i];

        argument->input = input;
        argument->output = output;
        argument->saved = tensor_address(plan, step->saved);
        argument->workspace =
            plan->workspace_size[i] > 0 ? cso_arena_memory(plan->arena) + plan->workspace_offset[i] : NULL;
        for (int j = 0; j < step->input_count; j++) {
            *input++ = tensor_address(plan, step->input[j]);
        }
        for (int j = 0; j < step->output_count; j++) {
            *output++ = tensor_address(plan, step->output[j]);
        }
    }
}

carso_status cso_plan_allocate(cso_plan *plan)
{
    const cso_program *const program = plan->program;
    const carso_context *const context = program->context;
    const cso_backend *const backend = context->backend;
    size_t input_count = 0, output_count = 0;

    for (int i = 0; i < step_count(program); i++) {
        input_count += (size_t)step_at(program, i)->input_count;
        output_count += (size_t)step_at(program, i)->output_count;
    }
    plan->argument = cso_allocate(context, (size_t)step_count(program), sizeof(*plan->argument));
    plan->input = cso_allocate(context, input_count, sizeof(*plan->input));
    plan->output = cso_allocate(context, output_count, sizeof(*plan->output));
    plan->written = cso_allocate(context, (size_t)program->input_count, sizeof(*plan->written));
    plan->seeded = cso_allocate(context, (size_t)program->output_count, sizeof(*plan->seeded));
    if (!plan->argument || !plan->input || !plan->output || !plan->written || !plan->seeded) {
        return cso_fail_memory(context, "plan");
    }
    return backend->host_memory ? CARSO_OK : allocate_staging(plan);
}

carso_status cso_plan_attach(cso_plan *plan)
{
    const carso_status status = cso_arena_acquire(plan->program->context, plan->arena_size, &plan->arena);

    if (status == CARSO_OK) {
        fill_arguments(plan);
    }
    return status;
}

void cso_plan_detach(cso_plan *plan)
{
    cso_arena_release(plan->program->context, plan->arena);
    plan->arena = NULL;
}

void cso_plan_destroy(cso_plan *plan)
{
    const carso_context *context;

    if (!plan) {
        return;
    }
    context = plan->program->context;
    if (plan->kernel) {
        for (int i = 0; i < step_count(plan->program); i++) {
            if (plan->kernel[i]) {
                context->backend->kernel_destroy(context->device, plan->kernel[i]);
            }
        }
    }
    cso_plan_detach(plan);
    cso_release(context, plan->kernel);
    cso_release(context, plan->workspace_size);
    cso_release(context, plan->workspace_offset);
    cso_release(context, plan->offset);
    cso_release(context, plan->argument);
    cso_release(context, plan->input);
    cso_release(context, plan->output);
    cso_release(context, plan->staging);
    cso_release(context, plan->written);
    cso_release(context, plan->seeded);
    cso_release(context, plan);
}

static carso_status check_position(const cso_plan *plan, const char *what, int position, int count)
{
    if (position < 0 || position >= count) {
        return cso_fail(plan->program->context, CARSO_ERROR_INTERNAL, "a program with %d %ss has no %s %d", count, what,
                        what, position);
    }
    return CARSO_OK;
}

/* host NULL: zeros. */
static carso_status write_port(cso_plan *plan, const cso_program_port *port, const void *host, cso_element element)
{
    const carso_context *const context = plan->program->context;
    const cso_backend *const backend = context->backend;
    void *const device = tensor_address(plan, port->tensor);
    void *const target = backend->host_memory ? device : plan->staging;

    if (host) {
        cso_transfer_to_device(backend, &port->shape, plan->batch, host, element, target);
    } else {
        memset(target, 0, port_size(plan, port));
    }
    return backend->host_memory ? CARSO_OK
                                : backend->buffer_write(context->device, device, target, port_size(plan, port));
}

static carso_status read_port(const cso_plan *plan, const cso_program_port *port, void *host, cso_element element)
{
    const carso_context *const context = plan->program->context;
    const cso_backend *const backend = context->backend;
    const void *source = tensor_address(plan, port->tensor);

    if (!backend->host_memory) {
        const carso_status status = backend->buffer_read(context->device, plan->staging, source, port_size(plan, port));

        if (status != CARSO_OK) {
            return status;
        }
        source = plan->staging;
    }
    cso_transfer_to_host(backend, &port->shape, plan->batch, source, host, element);
    return CARSO_OK;
}

carso_status cso_plan_write(cso_plan *plan, int input, const void *host, cso_element element)
{
    carso_status status = check_position(plan, "input", input, plan->program->input_count);

    if (status != CARSO_OK) {
        return status;
    }
    plan->forward_done = plan->backward_ready = false;
    plan->written[input] = true;
    if (plan->program->input[input].tensor < 0) {
        return CARSO_OK;
    }
    return write_port(plan, &plan->program->input[input], host, element);
}

static carso_status run_steps(cso_plan *plan, int first, int count)
{
    const cso_program *const program = plan->program;
    const carso_context *const context = program->context;
    const cso_backend *const backend = context->backend;
    carso_status status = CARSO_OK;
    int state = 0;

    if (backend->begin) {
        backend->begin(context->device, &state);
    }
    for (int i = first; status == CARSO_OK && i < first + count; i++) {
        const cso_step *const step = step_at(program, i);
        const cso_arguments *const argument = &plan->argument[i];

        switch (step->kind) {
        case CSO_STEP_RUN:
            status = backend->run(context->device, plan->kernel[i], argument);
            break;
        case CSO_STEP_ACCUMULATE:
            status = backend->accumulate(context->device, argument->output[0], argument->input[0],
                                         program->tensor[step->output[0]].count * (size_t)plan->batch);
            break;
        case CSO_STEP_ACCUMULATE_PARAMETER:
            status = backend->accumulate(context->device, step->op.parameter[0]->gradient, argument->input[0],
                                         step->op.parameter[0]->count);
            break;
        }
    }
    if (backend->end) {
        backend->end(context->device, state);
    }
    return status;
}

carso_status cso_plan_forward(cso_plan *plan)
{
    const cso_program *const program = plan->program;
    carso_status status;

    for (int i = 0; i < program->input_count; i++) {
        if (program->input[i].tensor >= 0 && !plan->written[i]) {
            return cso_fail(program->context, CARSO_ERROR_INTERNAL, "input %d of a program was not written", i);
        }
    }
    plan->forward_done = plan->backward_ready = plan->backward_done = false;
    memset(plan->seeded, 0, (size_t)program->output_count * sizeof(*plan->seeded));
    status = run_steps(plan, 0, program->forward.count);
    if (status == CARSO_OK) {
        plan->forward_done = true;
        plan->backward_ready = program->has_backward;
    }
    return status;
}

carso_status cso_plan_read(cso_plan *plan, int output, void *host, cso_element element)
{
    carso_status status = check_position(plan, "output", output, plan->program->output_count);

    if (status != CARSO_OK) {
        return status;
    }
    if (!plan->forward_done) {
        return cso_fail(plan->program->context, CARSO_ERROR_INTERNAL, "output %d was read before it was computed",
                        output);
    }
    return read_port(plan, &plan->program->output[output], host, element);
}

carso_status cso_plan_write_gradient(cso_plan *plan, int output, const void *host, cso_element element)
{
    carso_status status = check_position(plan, "output", output, plan->program->output_count);

    if (status != CARSO_OK) {
        return status;
    }
    if (!plan->backward_ready) {
        return cso_fail(plan->program->context, CARSO_ERROR_INTERNAL,
                        "a gradient of output %d was given without a forward run before", output);
    }
    plan->seeded[output] = true;
    if (plan->program->seed[output].tensor < 0) {
        return CARSO_OK;
    }
    return write_port(plan, &plan->program->seed[output], host, element);
}

carso_status cso_plan_backward(cso_plan *plan)
{
    const cso_program *const program = plan->program;
    carso_status status = CARSO_OK;

    if (!plan->backward_ready) {
        return cso_fail(program->context, CARSO_ERROR_INTERNAL, "backward needs a forward run of its own before it");
    }
    /* It writes over what forward left. */
    plan->backward_ready = plan->backward_done = false;
    for (int i = 0; status == CARSO_OK && i < program->output_count; i++) {
        if (!plan->seeded[i] && program->seed[i].tensor >= 0) {
            status = write_port(plan, &program->seed[i], NULL, CSO_F32);
        }
    }
    if (status == CARSO_OK) {
        status = run_steps(plan, program->forward.count, program->backward.count);
    }
    plan->backward_done = status == CARSO_OK;
    return status;
}

carso_status cso_plan_read_gradient(cso_plan *plan, int position, void *host, cso_element element)
{
    const cso_program *const program = plan->program;
    carso_status status = check_position(plan, "input gradient", position, program->gradient_count);

    if (status != CARSO_OK) {
        return status;
    }
    if (!plan->backward_done) {
        return cso_fail(program->context, CARSO_ERROR_INTERNAL, "gradient %d was read before it was computed",
                        position);
    }
    if (program->gradient[position].tensor < 0) {
        const size_t count = (size_t)cso_shape_count(&program->gradient[position].shape) * (size_t)plan->batch;

        memset(host, 0, count * (element == CSO_F64 ? sizeof(double) : sizeof(float)));
        return CARSO_OK;
    }
    return read_port(plan, &program->gradient[position], host, element);
}

size_t cso_plan_arena_size(const cso_plan *plan) { return plan->arena_size; }
