/* SPDX-License-Identifier: BSD-2-Clause */
/* A program's plans: one per batch size and thread that is running, idle ones kept for the next call; batch limits. */
#include <string.h>

#include "graph/memory_plan.h"
#include "graph/program_parts.h"

/* Of more idle plans, the one that was not used for longest is dropped. They hold kernels, their arenas are elsewhere. */
#define MOST_IDLE 16

#define MOST_BATCH ((int64_t)1 << 16) /* answer of cso_program_batch_limit */

static cso_plan *take_idle(cso_program *program, int64_t batch)
{
    cso_plan *found = NULL;

    pthread_mutex_lock(&program->lock);
    for (cso_plan **link = &program->idle; *link; link = &(*link)->next) {
        if ((*link)->batch == batch) {
            found = *link;
            *link = found->next;
            break;
        }
    }
    pthread_mutex_unlock(&program->lock);
    return found;
}

static void destroy_list(cso_plan *list)
{
    while (list) {
        cso_plan *const next = list->next;

        cso_plan_destroy(list);
        list = next;
    }
}

/* Takes all idle plans away; whether there were any. */
static bool drop_idle(cso_program *program)
{
    cso_plan *list;

    pthread_mutex_lock(&program->lock);
    list = program->idle;
    program->idle = NULL;
    pthread_mutex_unlock(&program->lock);
    destroy_list(list);
    return list != NULL;
}

static carso_status make_plan(cso_program *program, int64_t batch, cso_plan **out)
{
    carso_status status = cso_plan_prepare(program, batch, out);

    if (status == CARSO_OK) {
        status = cso_plan_allocate(*out);
        if (status != CARSO_OK) {
            cso_plan_destroy(*out);
            *out = NULL;
        }
    }
    return status;
}

carso_status cso_program_acquire(cso_program *program, int64_t batch, cso_plan **out)
{
    carso_status status;
    cso_plan *plan;

    *out = NULL;
    plan = take_idle(program, batch);
    if (!plan) {
        status = make_plan(program, batch, &plan);
        if (status == CARSO_ERROR_OUT_OF_MEMORY && drop_idle(program)) {
            status = make_plan(program, batch, &plan);
        }
        if (status != CARSO_OK) {
            return status;
        }
    }
    status = cso_plan_attach(plan);
    if (status == CARSO_ERROR_OUT_OF_MEMORY && drop_idle(program)) {
        status = cso_plan_attach(plan);
    }
    if (status != CARSO_OK) {
        cso_plan_destroy(plan);
        return status;
    }
    plan->next = NULL;
    plan->forward_done = plan->backward_ready = plan->backward_done = false;
    memset(plan->written, 0, (size_t)program->input_count * sizeof(*plan->written));
    *out = plan;
    return CARSO_OK;
}

void cso_plan_release(cso_plan *plan)
{
    cso_program *program;
    cso_plan **link;
    cso_plan *excess;
    int count = 0;

    if (!plan) {
        return;
    }
    program = plan->program;
    cso_plan_detach(plan);
    pthread_mutex_lock(&program->lock);
    plan->next = program->idle;
    program->idle = plan;
    for (link = &program->idle; *link; link = &(*link)->next) {
        if (++count > MOST_IDLE) {
            break;
        }
    }
    excess = *link;
    *link = NULL;
    pthread_mutex_unlock(&program->lock);
    destroy_list(excess);
}

/* Workspaces of two batch sizes, continued linearly: of the plan at batch 1 and of the one at SECOND. */
#define SECOND 8

static void workspaces(const cso_program *program, const cso_plan *one, const cso_plan *many, int64_t batch,
                       size_t *out)
{
    const int steps = program->forward.count + program->backward.count;

    for (int i = 0; i < steps; i++) {
        const size_t least =
            one->workspace_size[i] > many->workspace_size[i] ? one->workspace_size[i] : many->workspace_size[i];
        const size_t slope = (least - one->workspace_size[i] + SECOND - 2) / (SECOND - 1);

        out[i] = one->workspace_size[i] + slope * (size_t)(batch - 1);
    }
}

static carso_status search_limit(const cso_program *program, const cso_plan *one, const cso_plan *many, int64_t *out)
{
    const carso_context *const context = program->context;
    const int steps = program->forward.count + program->backward.count;
    int64_t low = 1, high = MOST_BATCH + 1;
    carso_status status = CARSO_OK;
    size_t *workspace;

    workspace = cso_allocate(context, (size_t)steps, sizeof(*workspace));
    if (!workspace) {
        return cso_fail_memory(context, "memory plan");
    }
    while (status == CARSO_OK && high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        size_t size;

        workspaces(program, one, many, middle, workspace);
        status = cso_memory_arena(program, middle, workspace, NULL, NULL, &size);
        if (size <= context->memory_limit) {
            low = middle;
        } else {
            high = middle;
        }
    }
    cso_release(context, workspace);
    *out = low;
    return status;
}

carso_status cso_program_batch_limit(cso_program *program, int64_t *out)
{
    cso_plan *one = NULL, *many = NULL;
    carso_status status;
    int64_t limit;

    *out = 1;
    pthread_mutex_lock(&program->lock);
    limit = program->batch_limit;
    pthread_mutex_unlock(&program->lock);
    if (limit == 0) {
        status = cso_plan_prepare(program, 1, &one);
        if (status == CARSO_OK) {
            status = cso_plan_prepare(program, SECOND, &many);
        }
        if (status == CARSO_OK) {
            status = search_limit(program, one, many, &limit);
        }
        cso_plan_destroy(one);
        cso_plan_destroy(many);
        if (status != CARSO_OK) {
            return status;
        }
        pthread_mutex_lock(&program->lock);
        program->batch_limit = limit;
        pthread_mutex_unlock(&program->lock);
    }
    *out = limit;
    return CARSO_OK;
}
