/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "busy_network.h"

START_TEST(outputs_are_right_wherever_they_are)
{
    busy_network busy = open_busy(backend_context("reference"), false);
    float results[2][6][BATCH * 4 * 36];
    float *latent = NULL;

    for (int no_fusion = 0; no_fusion < 2; no_fusion++) {
        const cso_program_request request = {.output = busy.output, .output_count = 6, .no_fusion = no_fusion};
        double *image = random_values(value_count(&busy.net, busy.image, BATCH), 1);
        double *values = random_values(value_count(&busy.net, busy.latent, BATCH), 2);
        cso_program *program = make_program(&busy.net, &request);
        cso_plan *plan;

        ck_assert_int_eq(cso_program_acquire(program, BATCH, &plan), CARSO_OK);
        write_inputs(plan, image, values);
        for (int round = 0; round < 2; round++) {
            ck_assert_int_eq(cso_plan_forward(plan), CARSO_OK);
            for (int i = 0; i < 6; i++) {
                ck_assert_int_eq(cso_plan_read(plan, i, results[round][i], CSO_F32), CARSO_OK);
            }
        }
        for (int i = 0; i < 6; i++) {
            const size_t bytes = value_count(&busy.net, busy.output[i], BATCH) * sizeof(float);

            ck_assert_int_eq(memcmp(results[0][i], results[1][i], bytes), 0);
        }
        /* The second and fourth are the same value, the third is the input. */
        ck_assert_int_eq(memcmp(results[0][1], results[0][3], sizeof results[0][1]), 0);
        latent = results[0][2];
        for (size_t i = 0; i < value_count(&busy.net, busy.latent, BATCH); i++) {
            ck_assert_float_eq(latent[i], (float)values[i]);
        }
        cso_plan_release(plan);
        cso_program_destroy(program);
        free(image);
        free(values);
    }
    close_busy(&busy);
}
END_TEST

START_TEST(requests_are_checked)
{
    busy_network busy = open_busy(backend_context("reference"), false);
    cso_program *program = (cso_program *)&busy;
    const int beyond = busy.net.graph->value_count, inner = busy.output[0];

    ck_assert_int_eq(cso_program_create(busy.net.graph, &(cso_program_request){.output_count = 0}, &program),
                     CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(program);
    ck_assert_int_eq(
        cso_program_create(busy.net.graph, &(cso_program_request){.output = &beyond, .output_count = 1}, &program),
        CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(cso_program_create(
                         busy.net.graph,
                         &(cso_program_request){
                             .output = &inner, .output_count = 1, .gradient_input = &inner, .gradient_input_count = 1},
                         &program),
                     CARSO_ERROR_INVALID_ARGUMENT);
    close_busy(&busy);
}
END_TEST

START_TEST(calls_out_of_order_are_refused)
{
    busy_network busy = open_busy(backend_context("reference"), false);
    const cso_program_request request = {
        .output = busy.output, .output_count = 6, .gradient_input = &busy.image, .gradient_input_count = 1};
    double *values = random_values(BATCH * 4 * 36, 1);
    cso_program *program = make_program(&busy.net, &request);
    cso_plan *plan = NULL;

    ck_assert_int_eq(cso_program_acquire(program, 0, &plan), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(plan);
    ck_assert_int_eq(cso_program_acquire(program, INT64_MAX, &plan), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(cso_program_acquire(program, BATCH, &plan), CARSO_OK);
    ck_assert_int_eq(cso_plan_forward(plan), CARSO_ERROR_INTERNAL); /* inputs */
    ck_assert_int_eq(cso_plan_write(plan, 3, values, CSO_F64), CARSO_ERROR_INTERNAL);
    write_inputs(plan, values, values);
    ck_assert_int_eq(cso_plan_read(plan, 0, values, CSO_F64), CARSO_ERROR_INTERNAL);
    ck_assert_int_eq(cso_plan_write_gradient(plan, 0, values, CSO_F64), CARSO_ERROR_INTERNAL);
    ck_assert_int_eq(cso_plan_backward(plan), CARSO_ERROR_INTERNAL);
    ck_assert_int_eq(cso_plan_forward(plan), CARSO_OK);
    ck_assert_int_eq(cso_plan_read(plan, 6, values, CSO_F64), CARSO_ERROR_INTERNAL);
    ck_assert_int_eq(cso_plan_read(plan, -1, values, CSO_F64), CARSO_ERROR_INTERNAL);
    ck_assert_int_eq(cso_plan_read_gradient(plan, 0, values, CSO_F64), CARSO_ERROR_INTERNAL);
    ck_assert_int_eq(cso_plan_backward(plan), CARSO_OK);
    ck_assert_int_eq(cso_plan_read(plan, 0, values, CSO_F64), CARSO_OK); /* outputs survive backward */
    ck_assert_int_eq(cso_plan_backward(plan), CARSO_ERROR_INTERNAL);     /* what it needs does not */
    ck_assert_int_eq(cso_plan_forward(plan), CARSO_OK);
    ck_assert_int_eq(cso_plan_read_gradient(plan, 0, values, CSO_F64), CARSO_ERROR_INTERNAL);
    cso_plan_release(plan);
    /* From the pool it comes back without the values of before. */
    ck_assert_int_eq(cso_program_acquire(program, BATCH, &plan), CARSO_OK);
    ck_assert_int_eq(cso_plan_forward(plan), CARSO_ERROR_INTERNAL);
    cso_plan_release(plan);
    cso_program_destroy(program);
    cso_program_destroy(NULL);
    free(values);
    close_busy(&busy);
}
END_TEST

static const cso_backend *plain_backend;

static bool without_max_pool(const cso_device *device, const cso_op *op)
{
    return op->kind != CSO_OP_MAX_POOL && plain_backend->supports(device, op);
}

static bool without_linear_backward(const cso_device *device, const cso_op *op)
{
    return !(op->kind == CSO_OP_LINEAR && op->direction == CSO_BACKWARD_DATA) && plain_backend->supports(device, op);
}

START_TEST(unsupported_operations_are_named)
{
    busy_network busy = open_busy(backend_context("reference"), false);
    const cso_program_request request = {
        .output = busy.output, .output_count = 6, .gradient_input = &busy.image, .gradient_input_count = 1};
    cso_backend limited = *busy.net.context->backend;
    cso_program *program;
    char message[1024];

    plain_backend = busy.net.context->backend;
    busy.net.context->backend = &limited;
    limited.supports = without_max_pool;
    ck_assert_int_eq(cso_program_create(busy.net.graph, &request, &program), CARSO_ERROR_UNSUPPORTED);
    ck_assert_ptr_null(program);
    carso_context_message(busy.net.context, message, sizeof message);
    ck_assert_msg(strstr(message, "max_pool \"pooled\"") && strstr(message, "reference"), "%s", message);
    limited.supports = without_linear_backward;
    ck_assert_int_eq(cso_program_create(busy.net.graph, &request, &program), CARSO_ERROR_UNSUPPORTED);
    carso_context_message(busy.net.context, message, sizeof message);
    ck_assert_msg(strstr(message, "linear \"norm_3\"") || strstr(message, "linear \"head\""), "%s", message);
    ck_assert_msg(strstr(message, "backward"), "%s", message);
    busy.net.context->backend = plain_backend;
    close_busy(&busy);
}
END_TEST

/* With images stored pixel by pixel, a flatten that moves elements must be run, one that does not must not. */
START_TEST(flatten_is_run_only_where_it_moves_elements)
{
    static const struct {
        cso_shape shape;
        cso_layout layout;
        const char *steps;
    } cases[] = {
        {{3, {4, 1, 1}}, CSO_NHWC, ""},
        {{3, {1, 3, 2}}, CSO_NHWC, ""},
        {{3, {2, 3, 2}}, CSO_NHWC, "flatten reference\n"},
        {{3, {2, 3, 2}}, CSO_NCHW, ""},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        carso_context *context = backend_context("reference");
        cso_backend backend = *context->backend;
        network net;
        int x;
        cso_program *program;
        cso_plan *plan;
        char *description;

        plain_backend = context->backend;
        backend.layout = cases[i].layout;
        context->backend = &backend;
        net = network_open(context);
        x = add_plain(&net, CSO_OP_FLATTEN, "flat", add_input(&net, "x", cases[i].shape));
        program = make_program(&net, &(cso_program_request){.output = &x, .output_count = 1});
        ck_assert_int_eq(cso_program_acquire(program, 1, &plan), CARSO_OK);
        description = cso_plan_describe(plan);
        ck_assert_str_eq(description, cases[i].steps);
        cso_release(context, description);
        cso_plan_release(plan);
        cso_program_destroy(program);
        cso_graph_destroy(net.graph);
        context->backend = plain_backend;
        carso_context_destroy(context);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("program");
    TCase *tests = tcase_create("program");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, outputs_are_right_wherever_they_are);
    tcase_add_test(tests, requests_are_checked);
    tcase_add_test(tests, calls_out_of_order_are_refused);
    tcase_add_test(tests, unsupported_operations_are_named);
    tcase_add_test(tests, flatten_is_run_only_where_it_moves_elements);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
