/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <stdlib.h>

#include "graph/memory_plan.h"
#include "network_building.h"

static bool share_time(const cso_memory_block *a, const cso_memory_block *b)
{
    return a->first <= b->last && b->first <= a->last;
}

static void check_blocks(const cso_memory_block *block, size_t count, size_t size)
{
    size_t end = 0;

    ck_assert_uint_eq(size % CSO_ALIGNMENT, 0);
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_eq(block[i].offset % CSO_ALIGNMENT, 0);
        ck_assert_uint_le(block[i].offset + block[i].size, size);
        end = block[i].offset + block[i].size > end ? block[i].offset + block[i].size : end;
        for (size_t j = 0; j < i; j++) {
            if (share_time(&block[i], &block[j])) {
                ck_assert_msg(block[i].offset + block[i].size <= block[j].offset ||
                                  block[j].offset + block[j].size <= block[i].offset,
                              "blocks %zu and %zu overlap", i, j);
            }
        }
    }
    ck_assert_uint_lt(size - end, CSO_ALIGNMENT);
}

START_TEST(random_blocks_never_overlap)
{
    enum { COUNT = 200, TIMES = 60 };
    carso_context *context = backend_context("reference");
    uint64_t state = 7;

    for (int round = 0; round < 20; round++) {
        cso_memory_block block[COUNT];
        size_t live[TIMES + 30] = {0}, least = 0, size;

        for (int i = 0; i < COUNT; i++) {
            block[i].size = (size_t)(5000 * (1 + next_number(&state)));
            block[i].first = (int)(TIMES / 2 * (1 + next_number(&state)));
            block[i].last = block[i].first + (int)(5 * (1 + next_number(&state)));
            for (int t = block[i].first; t <= block[i].last; t++) {
                live[t] += block[i].size;
                least = live[t] > least ? live[t] : least;
            }
        }
        ck_assert_int_eq(cso_memory_place(context, block, COUNT, &size), CARSO_OK);
        check_blocks(block, COUNT, size);
        /* Not what is asked of the planner, but a plan far from the bound would be a defect. */
        ck_assert_uint_lt(size, 2 * least);
    }
    carso_context_destroy(context);
}
END_TEST

START_TEST(a_chain_takes_two_places)
{
    carso_context *context = backend_context("reference");
    cso_memory_block block[50];
    size_t size;

    for (int i = 0; i < 50; i++) {
        block[i] = (cso_memory_block){.size = 1000, .first = i, .last = i + 1};
    }
    ck_assert_int_eq(cso_memory_place(context, block, 50, &size), CARSO_OK);
    check_blocks(block, 50, size);
    ck_assert_uint_eq(size, 2 * 1024);
    carso_context_destroy(context);
}
END_TEST

START_TEST(the_tightest_gap_is_taken)
{
    carso_context *context = backend_context("reference");
    /* At time 1 the first and third are gone: gaps of 640 and 384 bytes under the others. */
    cso_memory_block block[] = {
        {.size = 640, .first = 0, .last = 0}, {.size = 576, .first = 0, .last = 1},
        {.size = 384, .first = 0, .last = 0}, {.size = 320, .first = 0, .last = 1},
        {.size = 300, .first = 1, .last = 1}, {.size = 0, .first = 0, .last = 1},
    };
    size_t size;

    ck_assert_int_eq(cso_memory_place(context, block, 6, &size), CARSO_OK);
    check_blocks(block, 6, size);
    ck_assert_uint_eq(size, 640 + 576 + 384 + 320);
    ck_assert_uint_eq(block[4].offset, block[2].offset);
    carso_context_destroy(context);
}
END_TEST

START_TEST(nothing_takes_nothing)
{
    carso_context *context = backend_context("reference");
    cso_memory_block block = {.size = 0, .first = 0, .last = 3};
    size_t size = 1;

    ck_assert_int_eq(cso_memory_place(context, &block, 0, &size), CARSO_OK);
    ck_assert_uint_eq(size, 0);
    ck_assert_int_eq(cso_memory_place(context, &block, 1, &size), CARSO_OK);
    ck_assert_uint_eq(size, 0);
    carso_context_destroy(context);
}
END_TEST

START_TEST(sizes_beyond_the_address_space_are_refused)
{
    carso_context *context = backend_context("reference");
    cso_memory_block block[3] = {
        {.size = SIZE_MAX, .first = 0, .last = 0},
    };
    size_t size;

    ck_assert_int_eq(cso_memory_place(context, block, 1, &size), CARSO_ERROR_OUT_OF_MEMORY);
    for (int i = 0; i < 3; i++) {
        block[i] = (cso_memory_block){.size = SIZE_MAX / 2, .first = 0, .last = 1};
    }
    ck_assert_int_eq(cso_memory_place(context, block, 3, &size), CARSO_ERROR_OUT_OF_MEMORY);
    carso_context_destroy(context);
}
END_TEST

static size_t arena_of(const network *net, const cso_program_request *request, int64_t batch)
{
    cso_program *program = make_program(net, request);
    cso_plan *plan;
    size_t size;

    ck_assert_int_eq(cso_program_acquire(program, batch, &plan), CARSO_OK);
    size = cso_plan_arena_size(plan);
    cso_plan_release(plan);
    cso_program_destroy(program);
    return size;
}

START_TEST(pointwise_chains_run_in_place)
{
    static const cso_op_kind kinds[] = {CSO_OP_SCALE,   CSO_OP_TANH, CSO_OP_SCALE,
                                        CSO_OP_SIGMOID, CSO_OP_SILU, CSO_OP_RELU};
    carso_context *context = backend_context("reference");
    network net = network_open(context);
    int x = add_input(&net, "x", feature_shape(1024));
    const size_t one = 1024 * sizeof(float) * 3;

    for (int i = 0; i < 6; i++) {
        char name[16];

        snprintf(name, sizeof name, "step%d", i);
        x = add_plain(&net, kinds[i], name, x);
    }
    /* The input stays as it was written; everything after it shares one place. */
    ck_assert_uint_eq(arena_of(&net, &(cso_program_request){.output = &x, .output_count = 1}, 3), 2 * one);
    cso_graph_destroy(net.graph);
    carso_context_destroy(context);
}
END_TEST

START_TEST(deep_networks_reuse_their_buffers)
{
    carso_context *context = backend_context("reference");
    network net = network_open(context);
    int shallow, x = add_input(&net, "x", image_shape(4, 16, 16));
    size_t deep_size;

    for (int i = 0; i < 24; i++) {
        char name[16];

        snprintf(name, sizeof name, "conv%d", i);
        x = add_convolution(&net, name, x, 4, 3, 1, 1, true);
        if (i == 2) {
            shallow = x;
        }
    }
    deep_size = arena_of(&net, &(cso_program_request){.output = &x, .output_count = 1}, 2);
    ck_assert_uint_eq(deep_size, arena_of(&net, &(cso_program_request){.output = &shallow, .output_count = 1}, 2));
    cso_graph_destroy(net.graph);
    carso_context_destroy(context);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory plan");
    TCase *place = tcase_create("place");
    TCase *program = tcase_create("program");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(place, random_blocks_never_overlap);
    tcase_add_test(place, a_chain_takes_two_places);
    tcase_add_test(place, the_tightest_gap_is_taken);
    tcase_add_test(place, nothing_takes_nothing);
    tcase_add_test(place, sizes_beyond_the_address_space_are_refused);
    suite_add_tcase(suite, place);
    tcase_add_test(program, pointwise_chains_run_in_place);
    tcase_add_test(program, deep_networks_reuse_their_buffers);
    suite_add_tcase(suite, program);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
