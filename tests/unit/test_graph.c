/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph_case.h"

static int add_zeros(cso_graph *graph, const char *name, int rank, const int64_t *dimension)
{
    int index;
    cso_parameter *parameter = zeros(rank, dimension);
    ck_assert_int_eq(cso_graph_add_parameter(graph, name, parameter, &index), CARSO_OK);
    cso_parameter_release(parameter);
    return index;
}

/* image [3][8][8] -> conv -> batch norm -> relu -> flatten -> linear, and a parameter that nothing uses. */
static carso_status build_small(cso_graph **out)
{
    static const char *const name[] = {"conv.weight", "norm.weight", "norm.bias",    "norm.mean",
                                       "norm.var",    "fc.weight",   "unused.weight"};
    static const int rank[] = {4, 1, 1, 1, 1, 2, 1};
    static const int64_t dimension[][4] = {{4, 3, 3, 3}, {4}, {4}, {4}, {4}, {5, 64}, {2}};
    cso_attributes attributes = cso_attributes_default();
    cso_graph *graph;
    int value = -1;
    *out = NULL;
    carso_status status = cso_graph_create(context, &graph);
    if (status != CARSO_OK) {
        return status;
    }
    status = cso_graph_add_input(graph, "image", IMAGE(3, 8, 8), &value);
    for (int i = 0; i < 7 && status == CARSO_OK; i++) {
        cso_parameter *parameter;
        status = cso_parameter_create(context, rank[i], dimension[i], NULL, &parameter);
        if (status == CARSO_OK) {
            status = cso_graph_add_parameter(graph, name[i], parameter, NULL);
            cso_parameter_release(parameter);
        }
    }
    attributes.stride[0] = attributes.stride[1] = 2;
    attributes.pad_end[0] = attributes.pad_end[1] = 1;
    if (status == CARSO_OK) {
        status = cso_graph_add_node(graph, CSO_OP_CONVOLUTION, &attributes, "conv", &value, 1,
                                    (const int[]){0, -1, -1, -1}, NULL, &value);
    }
    if (status == CARSO_OK) {
        status = cso_graph_add_node(graph, CSO_OP_BATCH_NORM, NULL, "norm", &value, 1, (const int[]){1, 2, 3, 4}, NULL,
                                    &value);
    }
    if (status == CARSO_OK) {
        status = cso_graph_add_node(graph, CSO_OP_RELU, NULL, "relu", &value, 1, NULL, NULL, &value);
    }
    if (status == CARSO_OK) {
        status = cso_graph_add_node(graph, CSO_OP_FLATTEN, NULL, "flat", &value, 1, NULL, NULL, &value);
    }
    if (status == CARSO_OK) {
        status =
            cso_graph_add_node(graph, CSO_OP_LINEAR, NULL, "fc", &value, 1, (const int[]){5, -1, -1, -1}, NULL, &value);
    }
    if (status != CARSO_OK) {
        cso_graph_destroy(graph);
        return status;
    }
    *out = graph;
    return CARSO_OK;
}

static cso_graph *small(void)
{
    cso_graph *graph;
    ck_assert_int_eq(build_small(&graph), CARSO_OK);
    return graph;
}

START_TEST(kinds_have_names)
{
    cso_op_kind kind;
    for (int i = 0; i < CSO_OP_COUNT; i++) {
        ck_assert(cso_op_kind_parse(cso_op_kind_name((cso_op_kind)i), &kind));
        ck_assert_int_eq((int)kind, i);
    }
    ck_assert_str_eq(cso_op_kind_name(CSO_OP_CONVOLUTION), "convolution");
    ck_assert_str_eq(cso_op_kind_name(CSO_OP_STANDARDISE), "standardise");
    ck_assert_str_eq(cso_op_kind_name(CSO_OP_COUNT), "unknown operation");
    ck_assert_str_eq(cso_op_kind_name((cso_op_kind)-1), "unknown operation");
    ck_assert(!cso_op_kind_parse("Convolution", &kind));
    ck_assert(!cso_op_kind_parse("", &kind));
}
END_TEST

START_TEST(a_graph_is_what_was_built)
{
    cso_graph *graph = small();
    ck_assert_int_eq(graph->value_count, 6);
    ck_assert_int_eq(graph->node_count, 5);
    ck_assert_int_eq(graph->input_count, 1);
    ck_assert_int_eq(cso_graph_find_value(graph, "image"), 0);
    ck_assert_int_eq(cso_graph_find_value(graph, "fc"), 5);
    ck_assert_int_eq(cso_graph_find_value(graph, "fc.weight"), -1);
    ck_assert_int_eq(cso_graph_find_parameter(graph, "fc.weight"), 5);
    ck_assert_int_eq(cso_graph_find_parameter(graph, "fc"), -1);
    ck_assert_int_eq(graph->value[0].producer, -1);
    ck_assert_int_eq(graph->value[1].producer, 0);
    const cso_shape *conv = &graph->value[1].shape;
    ck_assert_int_eq(conv->rank, 3);
    ck_assert_int_eq(conv->dimension[0], 4);
    ck_assert_int_eq(conv->dimension[1], 4);
    ck_assert_int_eq(conv->dimension[2], 4);
    ck_assert_int_eq(graph->node[0].attributes.kernel[0], 3);
    ck_assert_float_eq(graph->node[0].attributes.epsilon, 0.0F);
    ck_assert_float_eq(graph->node[1].attributes.epsilon, 1e-5F);
    ck_assert_int_eq(graph->node[1].attributes.stride[0], 0);
    ck_assert_uint_eq(cso_graph_node_multiply_adds(graph, 0), 4 * 4 * 4 * 3 * 3 * 3);
    ck_assert_uint_eq(cso_graph_node_multiply_adds(graph, 1), 0);
    ck_assert_uint_eq(cso_graph_node_multiply_adds(graph, 4), 64 * 5);
    cso_graph_destroy(graph);
    cso_graph_destroy(NULL);
}
END_TEST

START_TEST(an_empty_graph_has_no_names)
{
    cso_graph *graph;
    ck_assert_int_eq(cso_graph_create(context, &graph), CARSO_OK);
    ck_assert_int_eq(cso_graph_find_value(graph, "image"), -1);
    ck_assert_int_eq(cso_graph_find_parameter(graph, ""), -1);
    cso_graph_destroy(graph);
}
END_TEST

START_TEST(many_names_are_found)
{
    cso_graph *graph;
    char name[32];
    int value;
    ck_assert_int_eq(cso_graph_create(context, &graph), CARSO_OK);
    ck_assert_int_eq(cso_graph_add_input(graph, "x", FEATURES(1), &value), CARSO_OK);
    for (int i = 0; i < CSO_GRAPH_MAX_NODES; i++) {
        snprintf(name, sizeof name, "node_%d", i);
        ck_assert_int_eq(cso_graph_add_node(graph, CSO_OP_TANH, NULL, name, &value, 1, NULL, NULL, &value), CARSO_OK);
    }
    for (int i = 0; i < CSO_GRAPH_MAX_NODES; i++) {
        snprintf(name, sizeof name, "node_%d", i);
        ck_assert_int_eq(cso_graph_find_value(graph, name), i + 1);
    }
    ck_assert_int_eq(cso_graph_add_node(graph, CSO_OP_TANH, NULL, "more", &value, 1, NULL, NULL, NULL),
                     CARSO_ERROR_INVALID_ARGUMENT);
    expect_message("at most 16384 nodes");
    for (int i = 1; i < CSO_GRAPH_MAX_INPUTS; i++) {
        snprintf(name, sizeof name, "input_%d", i);
        ck_assert_int_eq(cso_graph_add_input(graph, name, FEATURES(1), NULL), CARSO_OK);
    }
    ck_assert_int_eq(cso_graph_add_input(graph, "more", FEATURES(1), NULL), CARSO_ERROR_INVALID_ARGUMENT);
    expect_message("at most 16384 inputs");
    cso_graph_destroy(graph);
}
END_TEST

START_TEST(names_are_checked)
{
    static char too_long[CSO_MAX_NAME + 2];
    cso_graph *graph = small();
    cso_parameter *parameter = graph->parameter[0].parameter;
    const int value = 0;
    memset(too_long, 'a', sizeof too_long - 1);
    const char *const bad[] = {"", " ", "a b", "a\n", "\x7f", "\xc3\xa9", too_long, NULL};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(cso_graph_add_input(graph, bad[i], FEATURES(1), NULL), CARSO_ERROR_INVALID_ARGUMENT);
        ck_assert_int_eq(cso_graph_add_parameter(graph, bad[i], parameter, NULL), CARSO_ERROR_INVALID_ARGUMENT);
        ck_assert_int_eq(cso_graph_add_node(graph, CSO_OP_TANH, NULL, bad[i], &value, 1, NULL, NULL, NULL),
                         CARSO_ERROR_INVALID_ARGUMENT);
    }
    ck_assert_int_eq(cso_graph_add_input(graph, "conv", FEATURES(1), NULL), CARSO_ERROR_INVALID_ARGUMENT);
    expect_message("two values of a graph are named 'conv'");
    ck_assert_int_eq(cso_graph_add_node(graph, CSO_OP_TANH, NULL, "image", &value, 1, NULL, NULL, NULL),
                     CARSO_ERROR_INVALID_ARGUMENT);
    expect_message("two values of a graph are named 'image'");
    ck_assert_int_eq(cso_graph_add_parameter(graph, "fc.weight", parameter, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    expect_message("two parameters of a graph are named 'fc.weight'");
    ck_assert_int_eq(cso_graph_add_parameter(graph, "new", NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    too_long[CSO_MAX_NAME] = '\0';
    ck_assert_int_eq(cso_graph_add_input(graph, too_long, FEATURES(1), NULL), CARSO_OK);
    ck_assert_int_eq(cso_graph_add_parameter(graph, "conv", parameter, NULL), CARSO_OK);
    cso_graph_destroy(graph);
}
END_TEST

START_TEST(indices_are_checked)
{
    static const int bad_value[] = {-1, 6, INT32_MAX, INT32_MIN};
    static const int bad_parameter[] = {-2, 7, INT32_MAX, INT32_MIN};
    cso_graph *graph = small();
    const int value = 0;
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(cso_graph_add_node(graph, CSO_OP_TANH, NULL, "new", &bad_value[i], 1, NULL, NULL, NULL),
                         CARSO_ERROR_INVALID_ARGUMENT);
        expect_message("node 'new' (tanh): there is no value number");
        const int parameter[CSO_MAX_PARAMETERS] = {bad_parameter[i], -1, -1, -1};
        ck_assert_int_eq(cso_graph_add_node(graph, CSO_OP_CONVOLUTION, NULL, "new", &value, 1, parameter, NULL, NULL),
                         CARSO_ERROR_INVALID_ARGUMENT);
        expect_message("there is no parameter number");
    }
    ck_assert_int_eq(cso_graph_add_node(graph, CSO_OP_TANH, NULL, "new", &value, 0, NULL, NULL, NULL),
                     CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(cso_graph_add_node(graph, CSO_OP_TANH, NULL, "new", NULL, 1, NULL, NULL, NULL),
                     CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(cso_graph_add_node(graph, CSO_OP_TANH, NULL, "new", &value, INT32_MAX, NULL, NULL, NULL),
                     CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(cso_graph_add_node(graph, (cso_op_kind)99, NULL, "new", &value, 1, NULL, NULL, NULL),
                     CARSO_ERROR_INVALID_ARGUMENT);
    expect_message("there is no operation number 99");
    ck_assert_int_eq(graph->node_count, 5);
    ck_assert_int_eq(graph->value_count, 6);
    cso_graph_destroy(graph);
}
END_TEST

START_TEST(input_shapes_are_checked)
{
    static const cso_shape bad[] = {
        {0, {1}},
        {2, {4, 4}},
        {4, {1, 1, 1}},
        {-1, {1}},
        {1, {0}},
        {1, {-5}},
        {1, {CSO_MAX_FEATURES + 1}},
        {1, {INT64_MAX}},
        {3, {3, 0, 4}},
        {3, {3, 4, -1}},
        {3, {CSO_MAX_DIMENSION + 1, 1, 1}},
        {3, {1, CSO_MAX_DIMENSION, 1025}},
        {3, {INT64_MAX, INT64_MAX, INT64_MAX}},
        {3, {CSO_MAX_DIMENSION, CSO_MAX_DIMENSION, CSO_MAX_DIMENSION}},
    };
    cso_graph *graph;
    ck_assert_int_eq(cso_graph_create(context, &graph), CARSO_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(cso_graph_add_input(graph, "x", bad[i], NULL), CARSO_ERROR_INVALID_ARGUMENT);
        expect_message("input 'x'");
    }
    ck_assert_int_eq(cso_graph_add_input(graph, "x", FEATURES(CSO_MAX_FEATURES), NULL), CARSO_OK);
    ck_assert_int_eq(cso_graph_add_input(graph, "y", IMAGE(1, CSO_MAX_DIMENSION, 1024), NULL), CARSO_OK);
    ck_assert_int_eq(graph->value_count, 2);
    cso_graph_destroy(graph);
}
END_TEST

START_TEST(multiply_adds_are_counted_and_saturate)
{
    cso_graph *graph;
    cso_attributes attributes = cso_attributes_default();
    int value;
    ck_assert_int_eq(cso_graph_create(context, &graph), CARSO_OK);
    ck_assert_int_eq(cso_graph_add_input(graph, "x", IMAGE(4, 5, 6), &value), CARSO_OK);
    const int weight = add_zeros(graph, "weight", 4, (const int64_t[]){4, 3, 3, 3});
    attributes.groups = 2;
    attributes.stride[0] = 2;
    ck_assert_int_eq(cso_graph_add_node(graph, CSO_OP_TRANSPOSED_CONVOLUTION, &attributes, "up", &value, 1,
                                        (const int[]){weight, -1, -1, -1}, NULL, &value),
                     CARSO_OK);
    /* Each of 5 * 6 input positions meets every weight once. */
    ck_assert_uint_eq(cso_graph_node_multiply_adds(graph, 0), 5 * 6 * 4 * 3 * 3 * 3);
    graph->parameter[weight].parameter->count = SIZE_MAX;
    ck_assert_uint_eq(cso_graph_node_multiply_adds(graph, 0), UINT64_MAX);
    cso_graph_destroy(graph);
}
END_TEST

START_TEST(appending_shares_parameters)
{
    cso_graph *part = small();
    cso_graph *whole;
    int input[2];
    int first[6];
    int second[6];
    ck_assert_int_eq(cso_graph_create(context, &whole), CARSO_OK);
    ck_assert_int_eq(cso_graph_add_input(whole, "one", IMAGE(3, 8, 8), &input[0]), CARSO_OK);
    ck_assert_int_eq(cso_graph_add_input(whole, "two", IMAGE(3, 8, 8), &input[1]), CARSO_OK);
    ck_assert_int_eq(cso_graph_append(whole, part, "a.", &input[0], false, first), CARSO_OK);
    ck_assert_int_eq(cso_graph_append(whole, part, "b.", &input[1], false, second), CARSO_OK);
    ck_assert_int_eq(whole->node_count, 10);
    ck_assert_int_eq(whole->parameter_count, 7);
    ck_assert_int_eq(whole->input_count, 2);
    ck_assert_int_eq(first[0], input[0]);
    ck_assert_int_eq(second[0], input[1]);
    ck_assert_int_eq(cso_graph_find_value(whole, "a.fc"), first[5]);
    ck_assert_int_eq(cso_graph_find_value(whole, "b.relu"), second[3]);
    ck_assert_int_eq(cso_graph_find_parameter(whole, "a.fc.weight"), 5);
    ck_assert_int_eq(cso_graph_find_parameter(whole, "b.fc.weight"), -1);
    ck_assert_ptr_eq(whole->parameter[5].parameter, part->parameter[5].parameter);
    ck_assert_int_eq(part->parameter[5].parameter->references, 2);
    cso_graph_destroy(part);
    ck_assert_int_eq(whole->parameter[5].parameter->references, 1);
    ck_assert_int_eq(whole->node[9].parameter[0], 5);
    ck_assert_int_eq(whole->node[9].input[0], second[4]);
    cso_graph_destroy(whole);
}
END_TEST

START_TEST(appending_checks_what_it_joins)
{
    static char long_prefix[CSO_MAX_NAME];
    cso_graph *part = small();
    cso_graph *whole = small();
    int input = 0;
    ck_assert_int_eq(cso_graph_append(whole, part, "", &input, false, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    expect_message("are named 'conv.weight'");
    input = 1;
    ck_assert_int_eq(cso_graph_append(whole, part, "b.", &input, false, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    expect_message("value 'conv' does not have the shape of input 'image'");
    input = 99;
    ck_assert_int_eq(cso_graph_append(whole, part, "c.", &input, false, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    expect_message("there is no value number 99");
    input = 0;
    memset(long_prefix, 'p', sizeof long_prefix - 1);
    ck_assert_int_eq(cso_graph_append(whole, part, long_prefix, &input, false, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    expect_message("has more than 1023 characters");
    ck_assert_int_eq(cso_graph_append(whole, part, "d.", &input, true, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    expect_message("running statistics, which are constant");
    cso_graph_destroy(part);
    cso_graph_destroy(whole);
}
END_TEST

START_TEST(clones_are_trainable_copies_in_the_same_places)
{
    cso_graph *graph = small();
    cso_graph *clone;
    cso_graph *evaluation;
    int late;
    int value;
    /* An input after nodes, and operations whose output shape is not inferred. */
    ck_assert_int_eq(cso_graph_add_input(graph, "late", FEATURES(8), &late), CARSO_OK);
    ck_assert_int_eq(
        cso_graph_add_node(graph, CSO_OP_UNFLATTEN, NULL, "image_again", &late, 1, NULL, &IMAGE(2, 2, 2), &value),
        CARSO_OK);
    ck_assert_int_eq(cso_graph_clone_trainable(graph, true, &clone), CARSO_OK);
    ck_assert_int_eq(clone->value_count, graph->value_count);
    ck_assert_int_eq(clone->node_count, graph->node_count);
    for (int i = 0; i < graph->value_count; i++) {
        ck_assert_str_eq(clone->value[i].name, graph->value[i].name);
        ck_assert_int_eq(clone->value[i].producer, graph->value[i].producer);
        ck_assert_mem_eq(&clone->value[i].shape, &graph->value[i].shape, sizeof(cso_shape));
    }
    for (int i = 0; i < graph->parameter_count; i++) {
        const cso_parameter *copy = clone->parameter[i].parameter;
        const cso_parameter *source = graph->parameter[i].parameter;
        ck_assert_str_eq(clone->parameter[i].name, graph->parameter[i].name);
        ck_assert_ptr_ne(copy, source);
        ck_assert(!copy->constant);
        ck_assert(source->constant);
        ck_assert_mem_eq(copy->host, source->host, copy->count * sizeof(float));
        ck_assert_int_eq(copy->references, 1);
    }
    ck_assert_int_eq(clone->input_count, 2);
    ck_assert_int_eq(clone->input[1], late);
    ck_assert(clone->node[1].attributes.training);
    ck_assert(!graph->node[1].attributes.training);

    /* Appending without training brings evaluation back, with the same parameters. */
    ck_assert_int_eq(cso_graph_create(context, &evaluation), CARSO_OK);
    ck_assert_int_eq(cso_graph_add_input(evaluation, "image", IMAGE(3, 8, 8), NULL), CARSO_OK);
    ck_assert_int_eq(cso_graph_add_input(evaluation, "late", FEATURES(8), NULL), CARSO_OK);
    ck_assert_int_eq(cso_graph_append(evaluation, clone, "", (const int[]){0, 1}, false, NULL), CARSO_OK);
    ck_assert(!evaluation->node[1].attributes.training);
    ck_assert_ptr_eq(evaluation->parameter[0].parameter, clone->parameter[0].parameter);
    cso_graph_destroy(graph);
    cso_graph_destroy(evaluation);
    cso_graph_destroy(clone);
}
END_TEST

static carso_status build_clone_and_append(cso_graph *graph[3])
{
    const int input = 0;
    carso_status status = build_small(&graph[0]);
    if (status == CARSO_OK) {
        status = cso_graph_clone_trainable(graph[0], true, &graph[1]);
    }
    if (status == CARSO_OK) {
        status = cso_graph_create(context, &graph[2]);
    }
    if (status == CARSO_OK) {
        status = cso_graph_add_input(graph[2], "image", IMAGE(3, 8, 8), NULL);
    }
    if (status == CARSO_OK) {
        status = cso_graph_append(graph[2], graph[0], "x.", &input, false, NULL);
    }
    return status;
}

START_TEST(every_failing_allocation_is_survived)
{
    const long before = counts.held;
    for (long n = 1;; n++) {
        cso_graph *graph[3] = {NULL};
        counts.failing = counts.made + n;
        const carso_status status = build_clone_and_append(graph);
        const bool failed = counts.made >= counts.failing;
        counts.failing = 0;
        for (int i = 0; i < 3; i++) {
            cso_graph_destroy(graph[i]);
        }
        ck_assert_int_eq(counts.held, before);
        if (!failed) {
            ck_assert_int_eq(status, CARSO_OK);
            ck_assert_int_gt(n, 50);
            break;
        }
        ck_assert_int_eq(status, CARSO_ERROR_OUT_OF_MEMORY);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("graph");
    TCase *tests = tcase_create("graph");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, kinds_have_names);
    tcase_add_test(tests, a_graph_is_what_was_built);
    tcase_add_test(tests, an_empty_graph_has_no_names);
    tcase_add_test(tests, many_names_are_found);
    tcase_add_test(tests, names_are_checked);
    tcase_add_test(tests, indices_are_checked);
    tcase_add_test(tests, input_shapes_are_checked);
    tcase_add_test(tests, multiply_adds_are_counted_and_saturate);
    tcase_add_test(tests, appending_shares_parameters);
    tcase_add_test(tests, appending_checks_what_it_joins);
    tcase_add_test(tests, clones_are_trainable_copies_in_the_same_places);
    tcase_add_test(tests, every_failing_allocation_is_survived);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
