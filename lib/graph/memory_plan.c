/* SPDX-License-Identifier: BSD-2-Clause */
#include "graph/memory_plan.h"

#include <stdlib.h>
#include <string.h>

static size_t align_up(size_t size) { return (size + (CSO_ALIGNMENT - 1)) & ~(size_t)(CSO_ALIGNMENT - 1); }

/* By size, largest first; ties by position in memory order of the caller's array, so that the plan is reproducible. */
static int compare_size(const void *left, const void *right)
{
    const cso_memory_block *const *a = left;
    const cso_memory_block *const *b = right;

    if ((*a)->size != (*b)->size) {
        return (*a)->size > (*b)->size ? -1 : 1;
    }
    return *a < *b ? -1 : *a > *b;
}

carso_status cso_memory_place(const carso_context *context, cso_memory_block *block, size_t count, size_t *out_size)
{
    cso_memory_block **order, **placed;
    size_t placed_count = 0;
    size_t end = 0;

    *out_size = 0;
    order = cso_allocate(context, count, 2 * sizeof(*order));
    if (!order) {
        return cso_fail_memory(context, "memory plan");
    }
    placed = order + count; /* sorted by offset */
    for (size_t i = 0; i < count; i++) {
        order[i] = &block[i];
    }
    qsort(order, count, sizeof(*order), compare_size);
    for (size_t i = 0; i < count; i++) {
        cso_memory_block *const item = order[i];
        size_t best = SIZE_MAX, best_gap = SIZE_MAX, free_from = 0, at, item_end;

        if (item->size > SIZE_MAX / 2) {
            cso_release(context, order);
            return cso_fail(context, CARSO_ERROR_OUT_OF_MEMORY, "a tensor of %zu bytes exceeds the address space",
                            item->size);
        }
        for (size_t j = 0; j < placed_count; j++) {
            const cso_memory_block *const other = placed[j];

            if (other->last < item->first || other->first > item->last || other->size == 0) {
                continue;
            }
            if (other->offset > free_from) {
                const size_t gap = other->offset - free_from;

                if (gap >= item->size && gap < best_gap) {
                    best = free_from;
                    best_gap = gap;
                }
            }
            if (align_up(other->offset + other->size) > free_from) {
                free_from = align_up(other->offset + other->size);
            }
        }
        item->offset = best != SIZE_MAX ? best : free_from;
        if (__builtin_add_overflow(item->offset, item->size, &item_end) || item_end > SIZE_MAX / 2) {
            cso_release(context, order);
            return cso_fail(context, CARSO_ERROR_OUT_OF_MEMORY, "the tensors of a network exceed the address space");
        }
        if (item_end > end) {
            end = item_end;
        }
        for (at = placed_count; at > 0 && placed[at - 1]->offset > item->offset; at--) {
            placed[at] = placed[at - 1];
        }
        placed[at] = item;
        placed_count++;
    }
    cso_release(context, order);
    *out_size = align_up(end);
    return CARSO_OK;
}

static const cso_step *step_at(const cso_program *program, int index)
{
    return index < program->forward.count ? &program->forward.step[index]
                                          : &program->backward.step[index - program->forward.count];
}

static int step_time(const cso_program *program, int index)
{
    return index < program->forward.count ? index : index + 1;
}

typedef struct span {
    int first, last; /* first < 0: not used */
} span;

static void use(span *spans, int tensor, int time)
{
    if (tensor < 0) {
        return;
    }
    if (spans[tensor].first < 0 || time < spans[tensor].first) {
        spans[tensor].first = time;
    }
    if (time > spans[tensor].last) {
        spans[tensor].last = time;
    }
}

static void collect_spans(const cso_program *program, span *spans)
{
    const int step_count = program->forward.count + program->backward.count;
    const int end = step_count + 1;

    for (int i = 0; i < program->tensor_count; i++) {
        spans[i].first = spans[i].last = -1;
    }
    for (int i = 0; i < step_count; i++) {
        const cso_step *const step = step_at(program, i);
        const int time = step_time(program, i);

        for (int j = 0; j < step->input_count; j++) {
            use(spans, step->input[j], time);
        }
        for (int j = 0; j < step->output_count; j++) {
            use(spans, step->output[j], time);
        }
        use(spans, step->saved, time);
    }
    for (int i = 0; i < program->input_count; i++) {
        use(spans, program->input[i].tensor, 0);
        use(spans, program->input[i].tensor, end);
    }
    for (int i = 0; i < program->output_count; i++) {
        use(spans, program->output[i].tensor, end);
        use(spans, program->seed[i].tensor, program->forward.count);
    }
    for (int i = 0; i < program->gradient_count; i++) {
        use(spans, program->gradient[i].tensor, end);
    }
}

/* The buffer of an input that step's output may replace, or -1. */
static int buffer_to_reuse(const cso_program *program, const span *spans, const cso_step *step, int time)
{
    const cso_program_tensor *output;

    if (step->kind != CSO_STEP_RUN || step->output_count != 1 || step->output[0] < 0 ||
        spans[step->output[0]].first != time) {
        return -1;
    }
    output = &program->tensor[step->output[0]];
    for (int i = 0; i < step->input_count; i++) {
        const int candidate = step->input[i];
        const cso_program_tensor *const input = &program->tensor[candidate];

        if (cso_step_may_replace(step, i) && spans[candidate].last == time && input->buffer >= 0 &&
            input->count == output->count && input->batched == output->batched) {
            return input->buffer;
        }
    }
    return -1;
}

carso_status cso_memory_lifetimes(cso_program *program)
{
    const carso_context *const context = program->context;
    const int step_count = program->forward.count + program->backward.count;
    span *spans;

    spans = cso_allocate(context, (size_t)program->tensor_count, sizeof(*spans));
    program->buffer = cso_allocate(context, (size_t)program->tensor_count, sizeof(*program->buffer));
    if (!spans || !program->buffer) {
        cso_release(context, spans);
        return cso_fail_memory(context, "memory plan");
    }
    collect_spans(program, spans);
    program->buffer_count = 0;
    for (int i = 0; i < program->tensor_count; i++) {
        program->tensor[i].buffer = -1;
    }
    /* What the host writes exists before any step. */
    for (int i = 0; i < program->input_count + program->output_count; i++) {
        const int tensor =
            i < program->input_count ? program->input[i].tensor : program->seed[i - program->input_count].tensor;

        if (tensor >= 0 && program->tensor[tensor].buffer < 0) {
            program->tensor[tensor].buffer = program->buffer_count;
            program->buffer[program->buffer_count++] =
                (cso_program_buffer){.first = spans[tensor].first, .last = spans[tensor].last};
        }
    }
    for (int i = 0; i < step_count; i++) {
        const cso_step *const step = step_at(program, i);
        const int reused = buffer_to_reuse(program, spans, step, step_time(program, i));

        for (int j = 0; j <= step->output_count; j++) {
            const int tensor = j < step->output_count ? step->output[j] : step->saved;

            if (tensor < 0 || program->tensor[tensor].buffer >= 0) {
                continue;
            }
            if (reused >= 0 && j == 0) {
                program->tensor[tensor].buffer = reused;
                program->buffer[reused].last = spans[tensor].last;
                continue;
            }
            program->tensor[tensor].buffer = program->buffer_count;
            program->buffer[program->buffer_count++] =
                (cso_program_buffer){.first = spans[tensor].first, .last = spans[tensor].last};
        }
    }
    cso_release(context, spans);
    return CARSO_OK;
}

size_t cso_memory_tensor_size(const cso_program *program, int tensor, int64_t batch)
{
    const cso_backend *const backend = program->context->backend;
    const cso_program_tensor *const item = &program->tensor[tensor];
    const size_t element = backend->element == CSO_F64 ? sizeof(double) : sizeof(float);
    size_t count = item->count, bytes;

    if (item->saved_by >= 0) {
        cso_op op = program->forward.step[item->saved_by].op;

        op.batch = batch;
        return backend->saved_size(program->context->device, &op);
    }
    if (item->batched && __builtin_mul_overflow(count, (size_t)batch, &count)) {
        return SIZE_MAX;
    }
    return __builtin_mul_overflow(count, element, &bytes) ? SIZE_MAX : bytes;
}

carso_status cso_memory_arena(const cso_program *program, int64_t batch, const size_t *workspace, size_t *offset,
                              size_t *workspace_offset, size_t *out_size)
{
    const carso_context *const context = program->context;
    const int step_count = program->forward.count + program->backward.count;
    const size_t buffer_count = (size_t)program->buffer_count;
    cso_memory_block *block;
    carso_status status;

    *out_size = 0;
    block = cso_allocate(context, buffer_count + (size_t)step_count, sizeof(*block));
    if (!block) {
        return cso_fail_memory(context, "memory plan");
    }
    for (size_t i = 0; i < buffer_count; i++) {
        block[i].first = program->buffer[i].first;
        block[i].last = program->buffer[i].last;
    }
    for (int i = 0; i < program->tensor_count; i++) {
        const int buffer = program->tensor[i].buffer;

        if (buffer >= 0) {
            const size_t size = cso_memory_tensor_size(program, i, batch);

            block[buffer].size = size > block[buffer].size ? size : block[buffer].size;
        }
    }
    for (int i = 0; i < step_count; i++) {
        cso_memory_block *const item = &block[buffer_count + (size_t)i];

        item->first = item->last = step_time(program, i);
        item->size = workspace ? workspace[i] : 0;
    }
    status = cso_memory_place(context, block, buffer_count + (size_t)step_count, out_size);
    for (size_t i = 0; status == CARSO_OK && offset && i < buffer_count; i++) {
        offset[i] = block[i].offset;
    }
    for (int i = 0; status == CARSO_OK && workspace_offset && i < step_count; i++) {
        workspace_offset[i] = block[buffer_count + (size_t)i].offset;
    }
    cso_release(context, block);
    return status;
}
