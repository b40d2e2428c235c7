/* SPDX-License-Identifier: BSD-2-Clause */
/* The steps of a plan as text. */
#include <stdio.h>

#include "graph/program_parts.h"

/* snprintf's contract: the length that the whole line has. */
static int describe_step(const cso_plan *plan, int index, char *text, size_t size)
{
    static const char *const direction_name[] = {"", " backward-data", " backward-parameters"};
    const cso_program *const program = plan->program;
    const cso_backend *const backend = program->context->backend;
    const cso_step *const step = index < program->forward.count
                                     ? &program->forward.step[index]
                                     : &program->backward.step[index - program->forward.count];
    const char *kernel_name;

    switch (step->kind) {
    case CSO_STEP_ACCUMULATE:
        return snprintf(text, size, "accumulate\n");
    case CSO_STEP_ACCUMULATE_PARAMETER:
        return snprintf(text, size, "accumulate-parameter\n");
    case CSO_STEP_RUN:
        break;
    }
    kernel_name = backend->kernel_name(plan->kernel[index]);
    return snprintf(text, size, "%s%s%s%s%s %s\n", cso_op_kind_name(step->op.kind),
                    step->op.epilogue.residual ? "+residual" : "", step->op.epilogue.activate ? "+" : "",
                    step->op.epilogue.activate ? cso_op_kind_name(step->op.epilogue.activation) : "",
                    direction_name[step->op.direction], kernel_name ? kernel_name : "-");
}

char *cso_plan_describe(const cso_plan *plan)
{
    const int steps = plan->program->forward.count + plan->program->backward.count;
    size_t size = 1, used = 0;
    char *text;

    for (int i = 0; i < steps; i++) {
        size += (size_t)describe_step(plan, i, NULL, 0);
    }
    text = cso_allocate(plan->program->context, size, 1);
    for (int i = 0; text && i < steps; i++) {
        used += (size_t)describe_step(plan, i, text + used, size - used);
    }
    return text;
}
