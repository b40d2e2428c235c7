/* SPDX-License-Identifier: BSD-2-Clause */
/* Which steps remain after folding and fusing, and that they compute the same. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "graph/program_parts.h"
#include "network_building.h"

typedef struct comparison {
    char *description; /* of the fused plan */
    const carso_context *context;
} comparison;

/*
 * Runs the graph with and without passes, forward and, where gradients are asked for, backward, and compares. The
 * folded weights are rounded to float once, and so is what a fused step does not store, so that a result differs by a
 * few times 2^-24 of the sums' largest terms; 2e-5 of the largest element leaves room for the depth of these networks.
 */
static comparison compare_with_unfused(const network *net, cso_program_request request)
{
    enum { BATCH = 2 };
    const cso_graph *const graph = net->graph;
    double *results[2][16] = {{NULL}};
    comparison result = {.context = net->context};

    for (int fused = 0; fused < 2; fused++) {
        cso_program *program;
        cso_plan *plan;

        request.no_fusion = !fused;
        program = make_program(net, &request);
        ck_assert_int_eq(cso_program_acquire(program, BATCH, &plan), CARSO_OK);
        for (int i = 0; i < graph->input_count; i++) {
            double *values = random_values(value_count(net, graph->input[i], BATCH), 77 + (uint64_t)i);

            ck_assert_int_eq(cso_plan_write(plan, i, values, CSO_F64), CARSO_OK);
            free(values);
        }
        ck_assert_int_eq(cso_plan_forward(plan), CARSO_OK);
        for (int i = 0; i < request.output_count; i++) {
            results[fused][i] = random_values(value_count(net, request.output[i], BATCH), 0);
            ck_assert_int_eq(cso_plan_read(plan, i, results[fused][i], CSO_F64), CARSO_OK);
        }
        if (request.gradient_input_count > 0) {
            for (int i = 0; i < request.output_count; i++) {
                double *values = random_values(value_count(net, request.output[i], BATCH), 99 + (uint64_t)i);

                ck_assert_int_eq(cso_plan_write_gradient(plan, i, values, CSO_F64), CARSO_OK);
                free(values);
            }
            ck_assert_int_eq(cso_plan_backward(plan), CARSO_OK);
        }
        for (int i = 0; i < request.gradient_input_count; i++) {
            double **const slot = &results[fused][request.output_count + i];

            *slot = random_values(value_count(net, request.gradient_input[i], BATCH), 0);
            ck_assert_int_eq(cso_plan_read_gradient(plan, i, *slot, CSO_F64), CARSO_OK);
        }
        if (fused) {
            result.description = cso_plan_describe(plan);
            ck_assert_ptr_nonnull(result.description);
        }
        cso_plan_release(plan);
        cso_program_destroy(program);
    }
    for (int i = 0; i < request.output_count + request.gradient_input_count; i++) {
        const int value =
            i < request.output_count ? request.output[i] : request.gradient_input[i - request.output_count];
        const size_t count = value_count(net, value, BATCH);
        double largest = 0, difference = 0;

        for (size_t j = 0; j < count; j++) {
            largest = fmax(largest, fabs(results[0][i][j]));
            difference = fmax(difference, fabs(results[0][i][j] - results[1][i][j]));
        }
        ck_assert_msg(largest > 0, "result %d is all zero", i);
        ck_assert_msg(difference <= 2e-5 * largest, "result %d differs by %g of %g", i, difference, largest);
        free(results[0][i]);
        free(results[1][i]);
    }
    return result;
}

static int count_of(const comparison *result, const char *text)
{
    int count = 0;

    for (const char *at = strstr(result->description, text); at; at = strstr(at + 1, text)) {
        count++;
    }
    return count;
}

static void check_steps(const comparison *result, const char *expected)
{
    char kinds[2048] = "";
    const char *line = result->description;

    while (*line) {
        const size_t length = strcspn(line, "\n");
        const size_t name = strcspn(line, " \n");

        snprintf(kinds + strlen(kinds), sizeof kinds - strlen(kinds), "%.*s ", (int)name, line);
        line += length + 1;
    }
    ck_assert_str_eq(kinds, expected);
}

static void close_comparison(comparison *result) { cso_release(result->context, result->description); }

static network open_on(int which) { return network_open(backend_context(cso_backend_at((size_t)which)->name)); }

/* The others may store images in another order, and refuse fusions; in double nothing is folded. */
static bool fuses_everything(const carso_context *context)
{
    return strcmp(carso_context_backend(context), "reference") == 0;
}

static void close_network(network *net)
{
    cso_graph_destroy(net->graph);
    carso_context_destroy(net->context);
}

static void expect(network *net, const cso_program_request *request, const char *steps)
{
    comparison result = compare_with_unfused(net, *request);

    if (fuses_everything(net->context)) {
        check_steps(&result, steps);
    }
    close_comparison(&result);
}

START_TEST(batch_norm_folds_into_products)
{
    network net = open_on(_i);
    const int image = add_input(&net, "image", image_shape(4, 7, 6));
    int x = image;

    x = add_convolution(&net, "conv", x, 6, 3, 2, 2, false);
    x = add_batch_norm(&net, "conv_norm", x);
    x = add_plain(&net, CSO_OP_LEAKY_RELU, "conv_activation", x);
    x = add_transposed(&net, "up", x, 6, 3, 2, 3);
    x = add_batch_norm(&net, "up_norm", x);
    x = add_batch_norm(&net, "up_norm_again", x);
    x = add_plain(&net, CSO_OP_TANH, "up_activation", x);
    x = add_plain(&net, CSO_OP_FLATTEN, "flat", x);
    x = add_linear(&net, "linear", x, 9);
    x = add_batch_norm(&net, "linear_norm", x);
    x = add_plain(&net, CSO_OP_SIGMOID, "linear_activation", x);
    expect(&net,
           &(cso_program_request){.output = &x, .output_count = 1, .gradient_input = &image, .gradient_input_count = 1},
           "convolution+leaky_relu transposed_convolution+tanh linear+sigmoid "
           "sigmoid linear tanh transposed_convolution leaky_relu convolution ");
    close_network(&net);
}
END_TEST

START_TEST(values_asked_for_stay)
{
    network net = open_on(_i);
    const int image = add_input(&net, "image", image_shape(3, 5, 5));
    const int conv = add_convolution(&net, "conv", image, 4, 3, 1, 1, true);
    const int norm = add_batch_norm(&net, "norm", conv);
    const int active = add_plain(&net, CSO_OP_RELU, "relu", norm);

    expect(&net, &(cso_program_request){.output = (const int[]){active, conv}, .output_count = 2},
           "convolution batch_norm+relu ");
    expect(&net, &(cso_program_request){.output = (const int[]){norm, active}, .output_count = 2}, "convolution relu ");
    expect(&net, &(cso_program_request){.output = (const int[]){active}, .output_count = 1}, "convolution+relu ");
    close_network(&net);
}
END_TEST

START_TEST(values_used_twice_stay)
{
    network net = open_on(_i);
    const int image = add_input(&net, "image", image_shape(3, 5, 5));
    const int conv = add_convolution(&net, "conv", image, 4, 3, 1, 1, true);
    const int norm = add_batch_norm(&net, "norm", conv);
    const int active = add_plain(&net, CSO_OP_RELU, "relu", conv);
    const int both = add_sum(&net, "both", norm, active);
    const int twice = add_sum(&net, "twice", both, both);
    const int result = add_plain(&net, CSO_OP_TANH, "tanh", twice);

    expect(&net,
           &(cso_program_request){
               .output = &result, .output_count = 1, .gradient_input = &image, .gradient_input_count = 1},
           "convolution batch_norm relu add add+tanh tanh add relu batch_norm accumulate convolution ");
    close_network(&net);
}
END_TEST

START_TEST(trained_parameters_are_not_folded)
{
    for (int what = 0; what < 3; what++) {
        network net = open_on(_i);
        const int image = add_input(&net, "image", image_shape(3, 5, 5));
        int x;

        net.trainable = what == 0;
        x = add_convolution(&net, "conv", image, 4, 3, 1, 1, true);
        net.trainable = what >= 1;
        net.training = what == 2;
        x = add_batch_norm(&net, "norm", x);
        x = add_plain(&net, CSO_OP_RELU, "relu", x);
        expect(&net, &(cso_program_request){.output = &x, .output_count = 1},
               what < 2 ? "convolution batch_norm+relu " : "convolution batch_norm relu ");
        close_network(&net);
    }
}
END_TEST

START_TEST(silu_keeps_its_input_where_a_gradient_needs_it)
{
    network net = open_on(_i);
    const int image = add_input(&net, "image", image_shape(3, 5, 5));
    const int other = add_input(&net, "other", image_shape(3, 5, 5));
    const int left = add_plain(&net, CSO_OP_SILU, "left", add_convolution(&net, "a", image, 4, 3, 1, 1, true));
    const int right = add_plain(&net, CSO_OP_SILU, "right", add_convolution(&net, "b", other, 4, 3, 1, 1, true));
    const int both = add_join(&net, CSO_OP_CONCATENATE, "both", (const int[]){left, right}, 2);

    expect(&net, &(cso_program_request){.output = &both, .output_count = 1},
           "convolution+silu convolution+silu concatenate ");
    expect(
        &net,
        &(cso_program_request){.output = &both, .output_count = 1, .gradient_input = &image, .gradient_input_count = 1},
        "convolution silu convolution+silu concatenate concatenate silu convolution ");
    close_network(&net);
}
END_TEST

/* After the activation's gradient, both terms hold the same one, and one of them gets more. */
START_TEST(sums_with_an_activation_share_their_gradient)
{
    network net = open_on(_i);
    const int image = add_input(&net, "image", image_shape(2, 3, 3));
    const int left = add_plain(&net, CSO_OP_TANH, "left", image);
    const int right = add_plain(&net, CSO_OP_SIGMOID, "right", image);
    const int scaled = add_plain(&net, CSO_OP_SCALE, "scaled", left);
    const int active = add_plain(&net, CSO_OP_RELU, "active", add_sum(&net, "sum", left, right));

    expect(&net,
           &(cso_program_request){.output = (const int[]){scaled, active},
                                  .output_count = 2,
                                  .gradient_input = &image,
                                  .gradient_input_count = 1},
           "tanh sigmoid scale add+relu relu scale accumulate sigmoid tanh accumulate ");
    close_network(&net);
}
END_TEST

/* A pre-activation block: norm, SiLU, convolution, norm, SiLU, convolution, plus the shortcut. */
START_TEST(residual_blocks_become_three_steps)
{
    network net = open_on(_i);
    const int image = add_input(&net, "image", image_shape(4, 6, 6));
    int x = add_plain(&net, CSO_OP_SILU, "silu_0", add_batch_norm(&net, "norm_0", image));
    int y;

    x = add_convolution(&net, "conv_0", x, 4, 3, 1, 1, false);
    x = add_plain(&net, CSO_OP_SILU, "silu_1", add_batch_norm(&net, "norm_1", x));
    x = add_convolution(&net, "conv_1", x, 4, 3, 1, 1, false);
    x = add_sum(&net, "sum", image, x);
    y = add_plain(&net, CSO_OP_RELU, "relu", x);
    expect(&net, &(cso_program_request){.output = &y, .output_count = 1},
           "batch_norm+silu convolution+silu convolution+residual+relu ");
    expect(&net, &(cso_program_request){.output = (const int[]){x, y}, .output_count = 2},
           "batch_norm+silu convolution+silu convolution+residual relu ");
    expect(&net,
           &(cso_program_request){.output = &y, .output_count = 1, .gradient_input = &image, .gradient_input_count = 1},
           "batch_norm silu convolution silu convolution+residual+relu "
           "relu convolution silu convolution silu batch_norm accumulate ");
    close_network(&net);
}
END_TEST

/* The shortcut is made after the convolution that adds it. */
START_TEST(residuals_made_late_are_waited_for)
{
    network net = open_on(_i);
    const int image = add_input(&net, "image", image_shape(4, 6, 6));
    const int conv = add_convolution(&net, "conv", image, 5, 3, 1, 1, true);
    const int shortcut =
        add_plain(&net, CSO_OP_TANH, "tanh", add_convolution(&net, "shortcut", image, 5, 1, 1, 1, true));
    const int sum = add_sum(&net, "sum", conv, shortcut);

    expect(
        &net,
        &(cso_program_request){.output = &sum, .output_count = 1, .gradient_input = &image, .gradient_input_count = 1},
        "convolution+tanh convolution+residual convolution tanh convolution accumulate ");
    close_network(&net);
}
END_TEST

START_TEST(the_later_of_two_convolutions_takes_the_sum)
{
    network net = open_on(_i);
    const int image = add_input(&net, "image", image_shape(4, 6, 6));
    const int first = add_convolution(&net, "first", image, 5, 3, 1, 1, true);
    const int second = add_convolution(&net, "second", image, 5, 1, 1, 1, true);
    const int sum = add_sum(&net, "sum", second, first);
    const int more = add_sum(&net, "more", sum, first);

    expect(&net, &(cso_program_request){.output = &sum, .output_count = 1}, "convolution convolution+residual ");
    expect(&net, &(cso_program_request){.output = &more, .output_count = 1}, "convolution convolution+residual add ");
    close_network(&net);
}
END_TEST

/* Features are not channels: a norm behind a flatten, which costs nothing, must not be taken for the convolution's. */
START_TEST(a_norm_of_features_is_not_folded_into_channels)
{
    network net = open_on(_i);
    const int image = add_input(&net, "image", image_shape(2, 3, 3));
    int x = add_convolution(&net, "conv", image, 4, 3, 1, 1, true);

    x = add_plain(&net, CSO_OP_FLATTEN, "flat", x);
    x = add_batch_norm(&net, "norm", x);
    expect(&net, &(cso_program_request){.output = &x, .output_count = 1}, "convolution batch_norm ");
    close_network(&net);
}
END_TEST

START_TEST(dead_steps_are_dropped)
{
    network net = open_on(_i);
    const int image = add_input(&net, "image", image_shape(2, 3, 3));
    const int other = add_input(&net, "other", image_shape(2, 3, 3));
    const int conv = add_convolution(&net, "conv", image, 4, 3, 1, 1, true);
    const int norm = add_batch_norm(&net, "norm", conv);

    add_plain(&net, CSO_OP_TANH, "unused", conv);
    add_convolution(&net, "unused_too", other, 4, 3, 1, 1, true);
    expect(&net, &(cso_program_request){.output = &norm, .output_count = 1}, "convolution ");
    close_network(&net);
}
END_TEST

static const cso_backend *plain_backend;

static bool refuse_epilogues(const cso_device *device, const cso_op *op)
{
    return !op->epilogue.activate && !op->epilogue.residual && plain_backend->supports(device, op);
}

START_TEST(what_a_backend_refuses_is_not_fused)
{
    network net = open_on(_i);
    cso_backend limited = *net.context->backend;
    const int image = add_input(&net, "image", image_shape(4, 5, 5));
    int x = add_plain(&net, CSO_OP_LEAKY_RELU, "leaky", add_convolution(&net, "conv", image, 4, 3, 1, 1, true));

    x = add_sum(&net, "sum", image, add_convolution(&net, "conv_1", x, 4, 3, 1, 1, true));
    plain_backend = net.context->backend;
    limited.supports = refuse_epilogues;
    net.context->backend = &limited;
    expect(&net,
           &(cso_program_request){.output = &x, .output_count = 1, .gradient_input = &image, .gradient_input_count = 1},
           "convolution leaky_relu convolution add convolution leaky_relu convolution accumulate ");
    net.context->backend = plain_backend;
    close_network(&net);
}
END_TEST

/* Folded weights are float32, and rounding them is a larger error than all of a computation in double. */
START_TEST(nothing_is_folded_in_double)
{
    network net = network_open(backend_context("reference-double"));
    const int image = add_input(&net, "image", image_shape(3, 5, 5));
    int x = add_convolution(&net, "conv", image, 4, 3, 1, 1, true);
    x = add_batch_norm(&net, "norm", x);
    x = add_plain(&net, CSO_OP_RELU, "active", x);
    comparison result = compare_with_unfused(&net, (cso_program_request){.output = &x, .output_count = 1});
    check_steps(&result, "convolution batch_norm+relu ");
    close_comparison(&result);
    close_network(&net);
}
END_TEST

START_TEST(programs_share_folded_weights)
{
    if (cso_backend_at((size_t)_i)->element == CSO_F64) {
        return;
    }
    network net = open_on(_i);
    const int image = add_input(&net, "image", image_shape(3, 5, 5));
    const int conv = add_convolution(&net, "conv", image, 4, 3, 1, 1, true);
    const int norms[] = {add_batch_norm(&net, "norm", conv), add_batch_norm(&net, "other", conv)};
    const int active = add_plain(&net, CSO_OP_RELU, "active", norms[0]),
              again = add_batch_norm(&net, "again", norms[1]);
    const int outputs[] = {norms[0], active, norms[1], again, again};
    cso_program *program[5];
    cso_parameter *weight[5], *bias[5];

    for (int i = 0; i < 5; i++) {
        program[i] = make_program(&net, &(cso_program_request){.output = &outputs[i], .output_count = 1});
        weight[i] = program[i]->forward.step[0].op.parameter[0];
        bias[i] = program[i]->forward.step[0].op.parameter[1];
        ck_assert_int_eq(program[i]->forward.count, 1);
    }
    ck_assert_ptr_eq(weight[0], weight[1]);
    ck_assert_ptr_eq(bias[0], bias[1]);
    ck_assert_ptr_ne(weight[0], weight[2]);
    /* What is folded more than once is not kept. */
    ck_assert_ptr_ne(weight[3], weight[4]);
    cso_graph_destroy(net.graph);
    for (int i = 0; i < 5; i++) {
        cso_program_destroy(program[i]);
    }
    carso_context_destroy(net.context);
}
END_TEST

START_TEST(unfused_programs_are_the_graph)
{
    network net = open_on(_i);
    const int image = add_input(&net, "image", image_shape(4, 5, 5));
    const int x = add_plain(&net, CSO_OP_RELU, "relu",
                            add_batch_norm(&net, "norm", add_convolution(&net, "conv", image, 4, 3, 1, 1, true)));
    cso_program *program =
        make_program(&net, &(cso_program_request){.output = &x, .output_count = 1, .no_fusion = true});
    comparison result = {.context = net.context};
    cso_plan *plan;

    ck_assert_int_eq(cso_program_acquire(program, 1, &plan), CARSO_OK);
    result.description = cso_plan_describe(plan);
    ck_assert_ptr_nonnull(result.description);
    check_steps(&result, "convolution batch_norm relu ");
    if (fuses_everything(net.context)) {
        ck_assert_int_eq(count_of(&result, net.context->backend->name), 3); /* their kernels' names */
    }
    close_comparison(&result);
    cso_plan_release(plan);
    cso_program_destroy(program);
    close_network(&net);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("passes");
    TCase *tests = tcase_create("passes");
    SRunner *runner = srunner_create(suite);
    const int count = (int)cso_backend_count();
    int failed;

    tcase_add_loop_test(tests, batch_norm_folds_into_products, 0, count);
    tcase_add_loop_test(tests, values_asked_for_stay, 0, count);
    tcase_add_loop_test(tests, values_used_twice_stay, 0, count);
    tcase_add_loop_test(tests, trained_parameters_are_not_folded, 0, count);
    tcase_add_loop_test(tests, silu_keeps_its_input_where_a_gradient_needs_it, 0, count);
    tcase_add_loop_test(tests, sums_with_an_activation_share_their_gradient, 0, count);
    tcase_add_loop_test(tests, residual_blocks_become_three_steps, 0, count);
    tcase_add_loop_test(tests, residuals_made_late_are_waited_for, 0, count);
    tcase_add_loop_test(tests, the_later_of_two_convolutions_takes_the_sum, 0, count);
    tcase_add_loop_test(tests, a_norm_of_features_is_not_folded_into_channels, 0, count);
    tcase_add_loop_test(tests, dead_steps_are_dropped, 0, count);
    tcase_add_loop_test(tests, what_a_backend_refuses_is_not_fused, 0, count);
    tcase_add_test(tests, nothing_is_folded_in_double);
    tcase_add_loop_test(tests, programs_share_folded_weights, 0, count);
    tcase_add_loop_test(tests, unfused_programs_are_the_graph, 0, count);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
