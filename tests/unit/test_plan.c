/* SPDX-License-Identifier: BSD-2-Clause */
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "busy_network.h"
#include "counting_allocator.h"
#include "graph/program_parts.h"
#include "graph/transfer.h"

static const cso_backend *plain_backend;

/* A device whose memory faults unless it is the device that touches it. */
enum { MOST_BUFFERS = 512 };
static struct {
    void *memory[MOST_BUFFERS];
    size_t size[MOST_BUFFERS];
    int count, open;
} far_memory;

static void protect_far_memory(int access)
{
    for (int i = 0; i < far_memory.count; i++) {
        ck_assert_int_eq(mprotect(far_memory.memory[i], far_memory.size[i], access), 0);
    }
}

static carso_status far_create(cso_device *device, size_t bytes, void **out)
{
    const size_t size = (bytes / 4096 + 1) * 4096;

    (void)device;
    ck_assert_int_lt(far_memory.count, MOST_BUFFERS);
    *out = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(*out, MAP_FAILED);
    far_memory.memory[far_memory.count] = *out;
    far_memory.size[far_memory.count++] = size;
    return CARSO_OK;
}

static void far_destroy(cso_device *device, void *buffer)
{
    int i = 0;

    (void)device;
    while (far_memory.memory[i] != buffer) {
        ck_assert_int_lt(++i, far_memory.count);
    }
    munmap(buffer, far_memory.size[i]);
    far_memory.count--;
    far_memory.memory[i] = far_memory.memory[far_memory.count];
    far_memory.size[i] = far_memory.size[far_memory.count];
}

static carso_status far_copy(cso_device *device, void *destination, const void *source, size_t bytes)
{
    (void)device;
    protect_far_memory(PROT_READ | PROT_WRITE);
    memcpy(destination, source, bytes);
    protect_far_memory(PROT_NONE);
    return CARSO_OK;
}

static carso_status far_run(cso_device *device, cso_kernel *kernel, const cso_arguments *arguments)
{
    carso_status status;

    ck_assert_int_eq(far_memory.open, 1);
    protect_far_memory(PROT_READ | PROT_WRITE);
    status = plain_backend->run(device, kernel, arguments);
    protect_far_memory(PROT_NONE);
    return status;
}

static carso_status far_accumulate(cso_device *device, void *destination, const void *source, size_t count)
{
    ck_assert_int_eq(far_memory.open, 1);
    protect_far_memory(PROT_READ | PROT_WRITE);
    plain_backend->accumulate(device, destination, source, count);
    protect_far_memory(PROT_NONE);
    return CARSO_OK;
}

static void far_begin(cso_device *device, int *state)
{
    (void)device;
    far_memory.open++;
    *state = 1234;
}

static void far_end(cso_device *device, int state)
{
    (void)device;
    ck_assert_int_eq(state, 1234);
    far_memory.open--;
}

/* Gradients to the image and to one weight. */
static void busy_gradients(carso_context *context, double *image_gradient, double *weight_gradient)
{
    busy_network busy = open_busy(context, true);
    const cso_program_request request = {.output = busy.output,
                                         .output_count = 6,
                                         .gradient_input = &busy.image,
                                         .gradient_input_count = 1,
                                         .parameter_gradients = true};
    double *image = random_values(value_count(&busy.net, busy.image, BATCH), 1);
    double *latent = random_values(value_count(&busy.net, busy.latent, BATCH), 2);
    cso_program *program = make_program(&busy.net, &request);
    cso_plan *plan;

    ck_assert_int_eq(cso_program_acquire(program, BATCH, &plan), CARSO_OK);
    write_inputs(plan, image, latent);
    weighted_outputs(&busy, plan);
    /* Not seeded: the last output. */
    for (int i = 0; i < 5; i++) {
        double *weights = random_values(value_count(&busy.net, busy.output[i], BATCH), 500 + (uint64_t)i);

        ck_assert_int_eq(cso_plan_write_gradient(plan, i, weights, CSO_F64), CARSO_OK);
        free(weights);
    }
    ck_assert_int_eq(cso_plan_backward(plan), CARSO_OK);
    ck_assert_int_eq(cso_plan_read_gradient(plan, 0, image_gradient, CSO_F64), CARSO_OK);
    ck_assert_int_eq(cso_parameter_read_gradient_double(
                         busy.net.graph->parameter[cso_graph_find_parameter(busy.net.graph, "grow.weight")].parameter,
                         weight_gradient),
                     CARSO_OK);
    cso_plan_release(plan);
    cso_program_destroy(program);
    cso_graph_destroy(busy.net.graph);
    free(image);
    free(latent);
}

START_TEST(memory_of_a_device_is_left_to_it)
{
    carso_context *context = backend_context("reference");
    cso_backend far = *context->backend;
    double image[2][BATCH * 3 * 36], weight[2][2 * 6 * 9];

    plain_backend = context->backend;
    busy_gradients(context, image[0], weight[0]);
    far.host_memory = false;
    far.buffer_create = far_create;
    far.buffer_destroy = far_destroy;
    far.buffer_read = far_copy;
    far.buffer_write = far_copy;
    far.run = far_run;
    far.accumulate = far_accumulate;
    far.begin = far_begin;
    far.end = far_end;
    context->backend = &far;
    busy_gradients(context, image[1], weight[1]);
    context->backend = plain_backend;
    ck_assert_int_eq(memcmp(image[0], image[1], sizeof image[0]), 0);
    ck_assert_int_eq(memcmp(weight[0], weight[1], sizeof weight[0]), 0);
    ck_assert_int_eq(far_memory.count, 0);
    ck_assert_int_eq(far_memory.open, 0);
    carso_context_destroy(context);
}
END_TEST

START_TEST(transfers_change_layout_and_type)
{
    enum { CHANNELS = 3, PIXELS = 4, IMAGES = 2, COUNT = CHANNELS * PIXELS * IMAGES };
    const cso_shape image = image_shape(CHANNELS, 2, 2), features = feature_shape(CHANNELS * PIXELS);

    for (int combination = 0; combination < 16; combination++) {
        const cso_backend backend = {.layout = combination & 1 ? CSO_NHWC : CSO_NCHW,
                                     .element = combination & 2 ? CSO_F64 : CSO_F32};
        const cso_element element = combination & 4 ? CSO_F64 : CSO_F32;
        const cso_shape *const shape = combination & 8 ? &features : &image;
        float host_float[COUNT], back_float[COUNT] = {0}, device_float[COUNT];
        double host_double[COUNT], back_double[COUNT] = {0}, device_double[COUNT];
        const void *host = element == CSO_F64 ? (const void *)host_double : host_float;
        void *back = element == CSO_F64 ? (void *)back_double : back_float;
        void *device = backend.element == CSO_F64 ? (void *)device_double : device_float;

        for (int i = 0; i < COUNT; i++) {
            host_float[i] = (float)(i + 1);
            host_double[i] = i + 1;
        }
        cso_transfer_to_device(&backend, shape, IMAGES, host, element, device);
        for (int n = 0; n < IMAGES; n++) {
            for (int c = 0; c < CHANNELS; c++) {
                for (int p = 0; p < PIXELS; p++) {
                    const int plain = (n * CHANNELS + c) * PIXELS + p;
                    const int at =
                        backend.layout == CSO_NHWC && shape == &image ? (n * PIXELS + p) * CHANNELS + c : plain;
                    const double found = backend.element == CSO_F64 ? device_double[at] : (double)device_float[at];

                    ck_assert_double_eq(found, plain + 1);
                }
            }
        }
        cso_transfer_to_host(&backend, shape, IMAGES, device, back, element);
        for (int i = 0; i < COUNT; i++) {
            ck_assert_double_eq(element == CSO_F64 ? back_double[i] : (double)back_float[i], i + 1);
        }
    }
}
END_TEST

START_TEST(batch_limit_keeps_the_memory_limit)
{
    static const size_t limits[] = {1, 40000, 100000, 1000000};
    busy_network busy = open_busy(backend_context("reference"), false);
    const cso_program_request request = {
        .output = busy.output, .output_count = 6, .gradient_input = &busy.image, .gradient_input_count = 1};
    int64_t before = 0;

    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        cso_program *program = make_program(&busy.net, &request);
        int64_t limit, again;
        cso_plan *plan;

        busy.net.context->memory_limit = limits[i];
        ck_assert_int_eq(cso_program_batch_limit(program, &limit), CARSO_OK);
        ck_assert_int_eq(cso_program_batch_limit(program, &again), CARSO_OK);
        ck_assert_int_eq(limit, again);
        ck_assert_int_ge(limit, 1);
        ck_assert_int_ge(limit, before);
        before = limit;
        ck_assert_int_eq(cso_program_acquire(program, limit, &plan), CARSO_OK);
        if (i == 0) {
            ck_assert_int_eq(limit, 1);
        } else {
            ck_assert_uint_le(cso_plan_arena_size(plan), limits[i]);
        }
        cso_plan_release(plan);
        ck_assert_int_eq(cso_program_acquire(program, limit + 1 + limit / 8, &plan), CARSO_OK);
        ck_assert_uint_gt(cso_plan_arena_size(plan), limits[i]);
        cso_plan_release(plan);
        cso_program_destroy(program);
    }
    ck_assert_int_gt(before, 10);
    close_busy(&busy);
}
END_TEST

START_TEST(idle_plans_are_bounded_and_used_again)
{
    counting_allocator counts = {0};
    carso_context *context = counting_context(&counts);
    busy_network busy;
    cso_program *program;
    cso_plan *plan, *other, *again;
    int plans = 0;

    ck_assert_ptr_nonnull(context);
    busy = open_busy(context, false);
    program = make_program(&busy.net, &(cso_program_request){.output = busy.output, .output_count = 6});
    ck_assert_int_eq(cso_program_acquire(program, 5, &plan), CARSO_OK);
    ck_assert_int_eq(cso_program_acquire(program, 5, &other), CARSO_OK);
    ck_assert_ptr_ne(plan, other);
    cso_plan_release(plan);
    ck_assert_int_eq(cso_program_acquire(program, 5, &again), CARSO_OK);
    ck_assert_ptr_eq(plan, again);
    cso_plan_release(again);
    cso_plan_release(other);
    for (int64_t batch = 1; batch <= 100; batch++) {
        ck_assert_int_eq(cso_program_acquire(program, batch, &plan), CARSO_OK);
        cso_plan_release(plan);
    }
    for (const cso_plan *at = program->idle; at; at = at->next) {
        plans++;
    }
    ck_assert_int_ge(plans, 4);
    ck_assert_int_le(plans, 16);
    cso_program_destroy(program);
    close_busy(&busy);
    ck_assert_int_eq(atomic_load(&counts.held), 0);
}
END_TEST

static size_t buffers(const carso_context *context) { return atomic_load(&context->memory[CSO_MEMORY_BUFFERS].now); }

START_TEST(programs_share_idle_buffers_under_the_memory_limit)
{
    counting_allocator counts = {0};
    carso_context *context = counting_context(&counts);
    busy_network busy;
    cso_program *program[2];
    cso_plan *plan[3];
    size_t size;

    ck_assert_ptr_nonnull(context);
    busy = open_busy(context, false);
    for (int i = 0; i < 2; i++) {
        program[i] = make_program(&busy.net, &(cso_program_request){.output = busy.output, .output_count = 6});
    }
    ck_assert_uint_eq(buffers(context), 0);
    /* One after the other, the largest stays. */
    for (int64_t batch = 1; batch <= 20; batch++) {
        ck_assert_int_eq(cso_program_acquire(program[batch % 2], batch, &plan[0]), CARSO_OK);
        size = cso_plan_arena_size(plan[0]);
        ck_assert_uint_eq(buffers(context), size);
        cso_plan_release(plan[0]);
        ck_assert_uint_eq(buffers(context), size);
    }
    ck_assert_int_eq(cso_program_acquire(program[0], 3, &plan[0]), CARSO_OK);
    ck_assert_uint_eq(buffers(context), size);
    /* Beside each other, what the limit leaves. */
    ck_assert_int_eq(cso_program_acquire(program[0], 20, &plan[1]), CARSO_OK);
    ck_assert_int_eq(cso_program_acquire(program[1], 20, &plan[2]), CARSO_OK);
    ck_assert_uint_eq(buffers(context), 3 * size);
    context->memory_limit = size * 5 / 2;
    for (int i = 0; i < 3; i++) {
        cso_plan_release(plan[i]);
    }
    ck_assert_uint_eq(buffers(context), 2 * size);
    context->memory_limit = 1; /* one stays in any case */
    ck_assert_int_eq(cso_program_acquire(program[1], 20, &plan[0]), CARSO_OK);
    cso_plan_release(plan[0]);
    ck_assert_uint_eq(buffers(context), size);
    ck_assert_uint_eq(atomic_load(&context->memory[CSO_MEMORY_BUFFERS].most), 3 * size);
    cso_program_destroy(program[0]);
    ck_assert_uint_eq(buffers(context), 0);
    cso_program_destroy(program[1]);
    close_busy(&busy);
    ck_assert_int_eq(atomic_load(&counts.held), 0);
}
END_TEST

static void fill_image(double *image, const double *images, int first, int count)
{
    memcpy(image, images + (size_t)first * 3 * 36, (size_t)count * 3 * 36 * sizeof *image);
}

static bool run_images(cso_program *program, int first, int count, float *out)
{
    double *images = random_values(8 * 3 * 36, 11), *latents = random_values(8 * 5, 12);
    double *image = random_values((size_t)count * 3 * 36, 0);
    cso_plan *plan;
    bool done = cso_program_acquire(program, count, &plan) == CARSO_OK;

    fill_image(image, images, first, count);
    if (done) {
        done = cso_plan_write(plan, 0, image, CSO_F64) == CARSO_OK &&
               cso_plan_write(plan, 1, latents + first * 5, CSO_F64) == CARSO_OK &&
               cso_plan_forward(plan) == CARSO_OK && cso_plan_read(plan, 0, out, CSO_F32) == CARSO_OK;
        cso_plan_release(plan);
    }
    free(images);
    free(latents);
    free(image);
    return done;
}

typedef struct worker {
    pthread_t thread;
    cso_program *program;
    const busy_network *busy;
    int number;
    bool same;
    const float *expected; /* [8] images */
} worker;

static void *work(void *user)
{
    worker *const me = user;

    me->same = true;
    for (int round = 0; round < 60; round++) {
        const int count = 1 + (round + me->number) % 3, first = (round * 5 + me->number) % (8 - count);
        float out[3 * 4];

        me->same = me->same && run_images(me->program, first, count, out) &&
                   memcmp(out, me->expected + first * 4, (size_t)count * 4 * sizeof *out) == 0;
    }
    return NULL;
}

START_TEST(threads_share_a_program)
{
    enum { THREADS = 6 };
    busy_network busy = open_busy(backend_context("reference"), false);
    cso_program *program = make_program(&busy.net, &(cso_program_request){.output = busy.output, .output_count = 6});
    worker workers[THREADS];
    float expected[8 * 4];

    busy.net.context->memory_limit = 200000; /* few enough idle plans that threads drop them beside each other */
    ck_assert(run_images(program, 0, 8, expected));
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){.program = program, .busy = &busy, .number = i, .expected = expected};
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        ck_assert_msg(workers[i].same, "thread %d", i);
    }
    cso_program_destroy(program);
    close_busy(&busy);
}
END_TEST

START_TEST(programs_outlive_their_graphs)
{
    busy_network busy = open_busy(backend_context("reference"), false);
    cso_program *program = make_program(&busy.net, &(cso_program_request){.output = busy.output, .output_count = 6});
    float out[4], again[4];

    ck_assert(run_images(program, 2, 1, out));
    cso_graph_destroy(busy.net.graph);
    busy.net.graph = NULL;
    ck_assert(run_images(program, 2, 1, again));
    ck_assert_int_eq(memcmp(out, again, sizeof out), 0);
    cso_program_destroy(program);
    close_busy(&busy);
}
END_TEST

/* Program, batch limit, plan, run: whatever OUT_OF_MEMORY it ends with. */
static carso_status whole_life(const busy_network *busy, const double *values)
{
    const cso_program_request request = {
        .output = busy->output, .output_count = 6, .gradient_input = &busy->image, .gradient_input_count = 1};
    cso_program *program = NULL;
    cso_plan *plan = NULL;
    char *description = NULL;
    int64_t limit;
    carso_status status = cso_program_create(busy->net.graph, &request, &program);

    if (status == CARSO_OK) {
        status = cso_program_batch_limit(program, &limit);
    }
    if (status == CARSO_OK) {
        status = cso_program_acquire(program, 2, &plan);
    }
    if (status == CARSO_OK) {
        cso_plan_write(plan, 0, values, CSO_F64);
        cso_plan_write(plan, 1, values, CSO_F64);
        status = cso_plan_forward(plan);
    }
    if (status == CARSO_OK) {
        status = cso_plan_backward(plan);
    }
    if (status == CARSO_OK) {
        description = cso_plan_describe(plan);
        status = description ? CARSO_OK : CARSO_ERROR_OUT_OF_MEMORY;
        cso_release(busy->net.context, description);
    }
    cso_plan_release(plan);
    cso_program_destroy(program);
    return status;
}

START_TEST(failing_allocations_lose_nothing)
{
    counting_allocator counts = {0};
    carso_context *context = counting_context(&counts);
    double *values = random_values(2 * 3 * 36, 1);
    carso_status status;
    long held, n;

    ck_assert_ptr_nonnull(context);
    context->memory_limit = 100000; /* a shorter search */
    held = atomic_load(&counts.held);
    for (n = 1; n < 5000; n++) {
        busy_network busy = open_busy(context, false); /* a new one: weights keep what was folded of them */

        atomic_store(&counts.made, 0);
        atomic_store(&counts.failing, n);
        status = whole_life(&busy, values);
        atomic_store(&counts.failing, 0);
        cso_graph_destroy(busy.net.graph);
        ck_assert_int_eq(atomic_load(&counts.held), held);
        if (status == CARSO_OK) {
            break;
        }
        ck_assert_int_eq(status, CARSO_ERROR_OUT_OF_MEMORY);
    }
    ck_assert_int_gt(n, 100);
    ck_assert_int_lt(n, 5000);
    free(values);
    carso_context_destroy(context);
    ck_assert_int_eq(atomic_load(&counts.held), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("plan");
    TCase *tests = tcase_create("plan");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, memory_of_a_device_is_left_to_it);
    tcase_add_test(tests, transfers_change_layout_and_type);
    tcase_add_test(tests, batch_limit_keeps_the_memory_limit);
    tcase_add_test(tests, programs_share_idle_buffers_under_the_memory_limit);
    tcase_add_test(tests, idle_plans_are_bounded_and_used_again);
    tcase_add_test(tests, threads_share_a_program);
    tcase_add_test(tests, programs_outlive_their_graphs);
    tcase_add_test(tests, failing_allocations_lose_nothing);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
