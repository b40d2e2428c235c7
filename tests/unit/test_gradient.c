/* SPDX-License-Identifier: BSD-2-Clause */
#include <math.h>
#include <string.h>

#include "busy_network.h"

/* Central differences with h = 1e-6 in double: truncation about 1e-12, rounding about 1e-16 * |sum| / h, 1e-8. */
static void check_difference(const char *what, size_t index, double gradient, double above, double below)
{
    const double difference = (above - below) / 2e-6;

    ck_assert_msg(fabs(gradient - difference) <= 1e-6 * (1 + fabs(difference)),
                  "%s[%zu]: gradient %.12g, difference %.12g", what, index, gradient, difference);
}

START_TEST(gradients_are_those_of_finite_differences)
{
    const bool no_fusion = _i & 1, trainable = _i & 2;
    busy_network busy = open_busy(backend_context("reference-double"), trainable);
    const int wanted[] = {busy.latent, busy.image};
    const cso_program_request request = {.output = busy.output,
                                         .output_count = 6,
                                         .gradient_input = wanted,
                                         .gradient_input_count = 2,
                                         .parameter_gradients = trainable,
                                         .no_fusion = no_fusion};
    const size_t image_count = value_count(&busy.net, busy.image, BATCH);
    const size_t latent_count = value_count(&busy.net, busy.latent, BATCH);
    double *image = random_values(image_count, 1), *latent = random_values(latent_count, 2);
    double *image_gradient = random_values(image_count, 0), *latent_gradient = random_values(latent_count, 0);
    double *const point[] = {latent, image};
    double *const gradient[] = {latent_gradient, image_gradient};
    const size_t count[] = {latent_count, image_count};
    cso_program *program = make_program(&busy.net, &request);
    int trained = 0;
    cso_plan *plan;

    ck_assert_int_eq(cso_program_acquire(program, BATCH, &plan), CARSO_OK);
    write_inputs(plan, image, latent);
    weighted_outputs(&busy, plan);
    seed_outputs(&busy, plan);
    ck_assert_int_eq(cso_plan_backward(plan), CARSO_OK);
    ck_assert_int_eq(cso_plan_read_gradient(plan, 0, latent_gradient, CSO_F64), CARSO_OK);
    ck_assert_int_eq(cso_plan_read_gradient(plan, 1, image_gradient, CSO_F64), CARSO_OK);
    for (int which = 0; which < 2; which++) {
        for (size_t i = 0; i < count[which]; i++) {
            const double value = point[which][i];
            double sum[2];

            for (int side = 0; side < 2; side++) {
                point[which][i] = value + (side ? -1e-6 : 1e-6);
                write_inputs(plan, image, latent);
                sum[side] = weighted_outputs(&busy, plan);
            }
            point[which][i] = value;
            check_difference(which ? "image" : "latent", i, gradient[which][i], sum[0], sum[1]);
        }
    }
    write_inputs(plan, image, latent);
    for (int i = 0; i < busy.net.graph->parameter_count; i++) {
        const cso_named_parameter *const named = &busy.net.graph->parameter[i];
        double *values = named->parameter->data, *result;

        if (named->parameter->constant || strstr(named->name, "running")) {
            continue;
        }
        result = random_values(named->parameter->count, 0);
        ck_assert_int_eq(cso_parameter_read_gradient_double(named->parameter, result), CARSO_OK);
        for (size_t j = 0; j < named->parameter->count; j++) {
            const double value = values[j];
            double sum[2];

            for (int side = 0; side < 2; side++) {
                values[j] = value + (side ? -1e-6 : 1e-6);
                sum[side] = weighted_outputs(&busy, plan);
            }
            values[j] = value;
            if (trainable) {
                check_difference(named->name, j, result[j], sum[0], sum[1]);
            }
        }
        trained++;
        free(result);
    }
    ck_assert_int_eq(trained, trainable ? 17 : 0);
    cso_plan_release(plan);
    cso_program_destroy(program);
    free(image);
    free(latent);
    free(image_gradient);
    free(latent_gradient);
    close_busy(&busy);
}
END_TEST

START_TEST(parameter_gradients_add_up)
{
    busy_network busy = open_busy(backend_context("reference-double"), true);
    const cso_program_request request = {.output = busy.output, .output_count = 6, .parameter_gradients = true};
    const cso_parameter *const weight =
        busy.net.graph->parameter[cso_graph_find_parameter(busy.net.graph, "conv_1.weight")].parameter;
    double *image = random_values(value_count(&busy.net, busy.image, BATCH), 1);
    double *latent = random_values(value_count(&busy.net, busy.latent, BATCH), 2);
    double *once = random_values(weight->count, 0), *twice = random_values(weight->count, 0);
    cso_program *program = make_program(&busy.net, &request);
    cso_plan *plan;

    ck_assert_int_eq(cso_program_acquire(program, BATCH, &plan), CARSO_OK);
    write_inputs(plan, image, latent);
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(cso_plan_forward(plan), CARSO_OK);
        seed_outputs(&busy, plan);
        ck_assert_int_eq(cso_plan_backward(plan), CARSO_OK);
        ck_assert_int_eq(cso_parameter_read_gradient_double(weight, round ? twice : once), CARSO_OK);
    }
    for (size_t i = 0; i < weight->count; i++) {
        ck_assert_double_ne(once[i], 0);
        ck_assert_double_eq(twice[i], 2 * once[i]);
    }
    cso_plan_release(plan);
    cso_program_destroy(program);
    free(image);
    free(latent);
    free(once);
    free(twice);
    close_busy(&busy);
}
END_TEST

START_TEST(what_nothing_depends_on_has_no_gradient)
{
    busy_network busy = open_busy(backend_context("reference"), false);
    const int wanted[] = {busy.idle, busy.image, busy.image};
    /* The image does not reach the latent, the only output that gets a gradient below. */
    const cso_program_request request = {.output = (const int[]){busy.output[0], busy.latent},
                                         .output_count = 2,
                                         .gradient_input = wanted,
                                         .gradient_input_count = 3};
    double *image = random_values(value_count(&busy.net, busy.image, 1), 1);
    double *latent = random_values(value_count(&busy.net, busy.latent, 1), 2);
    const size_t count = value_count(&busy.net, busy.image, 1);
    cso_program *program = make_program(&busy.net, &request);
    double largest = 0;
    cso_plan *plan;

    ck_assert_int_eq(cso_program_acquire(program, 1, &plan), CARSO_OK);
    write_inputs(plan, image, latent);
    ck_assert_int_eq(cso_plan_write(plan, 2, latent, CSO_F64), CARSO_OK);
    for (int round = 0; round < 2; round++) {
        double idle[2] = {1, 1};
        double *again = random_values(count, 3), *gradient = random_values(count, 3);

        ck_assert_int_eq(cso_plan_forward(plan), CARSO_OK);
        ck_assert_int_eq(cso_plan_write_gradient(plan, round, latent, CSO_F64), CARSO_OK);
        ck_assert_int_eq(cso_plan_backward(plan), CARSO_OK);
        ck_assert_int_eq(cso_plan_read_gradient(plan, 0, idle, CSO_F64), CARSO_OK);
        ck_assert_int_eq(cso_plan_read_gradient(plan, 1, gradient, CSO_F64), CARSO_OK);
        ck_assert_int_eq(cso_plan_read_gradient(plan, 2, again, CSO_F64), CARSO_OK);
        ck_assert_double_eq(idle[0], 0);
        ck_assert_double_eq(idle[1], 0);
        largest = 0;
        for (size_t i = 0; i < count; i++) {
            ck_assert_double_eq(gradient[i], again[i]);
            largest = fmax(largest, fabs(gradient[i]));
        }
        ck_assert(round == 0 ? largest > 0 : largest == 0);
        free(again);
        free(gradient);
    }
    cso_plan_release(plan);
    cso_program_destroy(program);
    free(image);
    free(latent);
    close_busy(&busy);
}
END_TEST

/* The gradient of a sum of inputs and of an input itself: nothing runs, or only additions. */
START_TEST(gradients_of_sums_of_inputs)
{
    carso_context *context = backend_context("reference");
    network net = network_open(context);
    const int a = add_input(&net, "a", feature_shape(2)), b = add_input(&net, "b", feature_shape(2));
    const int sum = add_sum(&net, "sum", a, b), more = add_sum(&net, "more", sum, a);
    const cso_program_request request = {.output = (const int[]){more, a, a},
                                         .output_count = 3,
                                         .gradient_input = (const int[]){a, b},
                                         .gradient_input_count = 2};
    const float one[] = {1, 2}, ten[] = {10, 20}, hundred[] = {100, 200};
    cso_program *program = make_program(&net, &request);
    float gradient[2];
    cso_plan *plan;

    ck_assert_int_eq(cso_program_acquire(program, 1, &plan), CARSO_OK);
    ck_assert_int_eq(cso_plan_write(plan, 0, one, CSO_F32), CARSO_OK);
    ck_assert_int_eq(cso_plan_write(plan, 1, ten, CSO_F32), CARSO_OK);
    ck_assert_int_eq(cso_plan_forward(plan), CARSO_OK);
    ck_assert_int_eq(cso_plan_write_gradient(plan, 0, one, CSO_F32), CARSO_OK);
    ck_assert_int_eq(cso_plan_write_gradient(plan, 1, ten, CSO_F32), CARSO_OK);
    ck_assert_int_eq(cso_plan_write_gradient(plan, 2, hundred, CSO_F32), CARSO_OK);
    ck_assert_int_eq(cso_plan_backward(plan), CARSO_OK);
    ck_assert_int_eq(cso_plan_read_gradient(plan, 0, gradient, CSO_F32), CARSO_OK);
    ck_assert_float_eq(gradient[0], 112);
    ck_assert_float_eq(gradient[1], 224);
    ck_assert_int_eq(cso_plan_read_gradient(plan, 1, gradient, CSO_F32), CARSO_OK);
    ck_assert_float_eq(gradient[0], 1);
    ck_assert_float_eq(gradient[1], 2);
    ck_assert_int_eq(cso_plan_read(plan, 0, gradient, CSO_F32), CARSO_OK);
    ck_assert_float_eq(gradient[1], 24);
    cso_plan_release(plan);
    cso_program_destroy(program);
    cso_graph_destroy(net.graph);
    carso_context_destroy(context);
}
END_TEST

/* a and b hold the same gradient, that of their sum, when a gets more. */
START_TEST(shared_gradients_are_not_added_to)
{
    carso_context *context = backend_context("reference");
    network net = network_open(context);
    const int a = add_input(&net, "a", feature_shape(1)), b = add_input(&net, "b", feature_shape(1));
    const int scaled = add_plain(&net, CSO_OP_SCALE, "scaled", a);
    const int sum = add_sum(&net, "sum", a, b), again = add_sum(&net, "again", sum, sum);
    const cso_program_request request = {.output = (const int[]){scaled, sum, again},
                                         .output_count = 3,
                                         .gradient_input = (const int[]){a, b},
                                         .gradient_input_count = 2};
    const float one = 1, ten = 10;
    cso_program *program = make_program(&net, &request);
    float gradient;
    cso_plan *plan;

    ck_assert_int_eq(cso_program_acquire(program, 1, &plan), CARSO_OK);
    ck_assert_int_eq(cso_plan_write(plan, 0, &one, CSO_F32), CARSO_OK);
    ck_assert_int_eq(cso_plan_write(plan, 1, &ten, CSO_F32), CARSO_OK);
    ck_assert_int_eq(cso_plan_forward(plan), CARSO_OK);
    ck_assert_int_eq(cso_plan_write_gradient(plan, 0, &ten, CSO_F32), CARSO_OK);
    ck_assert_int_eq(cso_plan_write_gradient(plan, 1, &one, CSO_F32), CARSO_OK);
    ck_assert_int_eq(cso_plan_write_gradient(plan, 2, &ten, CSO_F32), CARSO_OK);
    ck_assert_int_eq(cso_plan_backward(plan), CARSO_OK);
    ck_assert_int_eq(cso_plan_read_gradient(plan, 0, &gradient, CSO_F32), CARSO_OK);
    ck_assert_float_eq(gradient, 0.7f * 10 + 21);
    ck_assert_int_eq(cso_plan_read_gradient(plan, 1, &gradient, CSO_F32), CARSO_OK);
    ck_assert_float_eq(gradient, 21);
    cso_plan_release(plan);
    cso_program_destroy(program);
    cso_graph_destroy(net.graph);
    carso_context_destroy(context);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gradient");
    TCase *tests = tcase_create("gradient");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_set_timeout(tests, 600);
    tcase_add_loop_test(tests, gradients_are_those_of_finite_differences, 0, 4);
    tcase_add_test(tests, parameter_gradients_add_up);
    tcase_add_test(tests, what_nothing_depends_on_has_no_gradient);
    tcase_add_test(tests, gradients_of_sums_of_inputs);
    tcase_add_test(tests, shared_gradients_are_not_added_to);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
