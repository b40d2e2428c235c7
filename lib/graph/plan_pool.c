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

static int step_count(const cso_program *program) { return program->forward.count + program->backward.count; }

static carso_status measure_workspaces(cso_program *program, size_t *out)
{
    const int steps = step_count(program);
    cso_plan *one = NULL, *many = NULL;
    carso_status status = cso_plan_prepare(program, 1, &one);

    if (status == CARSO_OK) {
        status = cso_plan_prepare(program, SECOND, &many);
    }
    for (int i = 0; status == CARSO_OK && i < steps; i++) {
        const size_t least = one->workspace_size[i];
        const size_t most = many->workspace_size[i] > least ? many->workspace_size[i] : least;

        out[i] = least;
        out[steps + i] = (most - least + SECOND - 2) / (SECOND - 1);
    }
    cso_plan_destroy(one);
    cso_plan_destroy(many);
    return status;
}

static carso_status know_workspaces(cso_program *program)
{
    size_t *made;
    carso_status status;
    bool known;

    pthread_mutex_lock(&program->lock);
    known = program->workspace != NULL;
    pthread_mutex_unlock(&program->lock);
    if (known) {
        return CARSO_OK;
    }
    made = cso_allocate(program->context, (size_t)step_count(program), 2 * sizeof(*made));
    if (!made) {
        return cso_fail_memory(program->context, "memory plan");
    }
    status = measure_workspaces(program, made);
    pthread_mutex_lock(&program->lock);
    if (status == CARSO_OK && !program->workspace) {
        program->workspace = made;
        made = NULL;
    }
    pthread_mutex_unlock(&program->lock);
    cso_release(program->context, made);
    return status;
}

/* Workspaces are known. */
static carso_status bound_arena(const cso_program *program, int64_t batch, size_t *out)
{
    const carso_context *const context = program->context;
    const int steps = step_count(program);
    size_t *const workspace = cso_allocate(context, (size_t)steps, sizeof(*workspace));
    carso_status status;

    if (!workspace) {
        return cso_fail_memory(context, "memory plan");
    }
    for (int i = 0; i < steps; i++) {
        workspace[i] = program->workspace[i] + program->workspace[steps + i] * (size_t)(batch - 1);
    }
    status = cso_memory_arena(program, batch, workspace, NULL, NULL, out);
    cso_release(context, workspace);
    return status;
}

static carso_status search_limit(const cso_program *program, int64_t *out)
{
    int64_t low = 1, high = MOST_BATCH + 1;
    carso_status status = CARSO_OK;

    while (status == CARSO_OK && high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        size_t size;

        status = bound_arena(program, middle, &size);
        if (status == CARSO_OK && size <= program->context->memory_limit) {
            low = middle;
        } else {
            high = middle;
        }
    }
    *out = low;
    return status;
}

carso_status cso_program_batch_limit(cso_program *program, int64_t *out)
{
    carso_status status;
    int64_t limit;

    *out = 1;
    pthread_mutex_lock(&program->lock);
    limit = program->batch_limit;
    pthread_mutex_unlock(&program->lock);
    if (limit == 0) {
        status = know_workspaces(program);
        if (status == CARSO_OK) {
            status = search_limit(program, &limit);
        }
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

carso_status cso_program_arena_bound(cso_program *program, int64_t batch, size_t *out)
{
    carso_status status;
    bool found = false;

    *out = 0;
    pthread_mutex_lock(&program->lock);
    for (int i = 0; i < CSO_KEPT_BOUNDS && !found; i++) {
        found = program->bound[i].batch == batch;
        *out = found ? program->bound[i].size : 0;
    }
    pthread_mutex_unlock(&program->lock);
    if (found) {
        return CARSO_OK;
    }
    status = know_workspaces(program);
    if (status == CARSO_OK) {
        status = bound_arena(program, batch, out);
    }
    if (status == CARSO_OK) {
        pthread_mutex_lock(&program->lock);
        program->bound[program->next_bound].batch = batch;
        program->bound[program->next_bound].size = *out;
        program->next_bound = (program->next_bound + 1) % CSO_KEPT_BOUNDS;
        pthread_mutex_unlock(&program->lock);
    }
    return status;
}
