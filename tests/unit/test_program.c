/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "counting_allocator.h"
#include "graph/program_parts.h"
#include "graph/transfer.h"
#include "network_building.h"

enum { BATCH = 3 };

/* Everything at once: several uses of values, residuals, concatenations, both kinds of BatchNorm, several outputs. */
typedef struct busy_network {
    network net;
    int image, latent, idle;
    int output[6];
} busy_network;

static busy_network open_busy(carso_context *context, bool trainable)
{
    busy_network busy = {.net = network_open(context)};
    network *const net = &busy.net;
    cso_attributes attributes = cso_attributes_default();
    const cso_shape seed = image_shape(2, 3, 3);
    int x, y, tap, pooled, made;

    busy.image = add_input(net, "image", image_shape(3, 6, 6));
    busy.latent = add_input(net, "latent", feature_shape(5));
    busy.idle = add_input(net, "idle", feature_shape(2));
    for (int c = 0; c < 4; c++) {
        attributes.mean[c] = 0.1f * (float)c;
        attributes.deviation[c] = 0.5f + 0.1f * (float)c;
    }
    x = add_node(net, CSO_OP_STANDARDISE, &attributes, "standardise", &busy.image, 1, NULL);
    x = add_convolution(net, "stem", x, 4, 3, 1, 1, true); /* constant in any case */
    net->trainable = net->training = trainable;
    y = add_convolution(net, "conv_0", x, 4, 3, 1, 2, false);
    y = add_plain(net, CSO_OP_SILU, "silu_0", add_batch_norm(net, "norm_0", y));
    tap = add_convolution(net, "conv_1", y, 4, 3, 1, 1, true);
    y = add_sum(net, "residual", tap, x);
    y = add_plain(net, CSO_OP_RELU, "relu", y);
    y = add_join(net, CSO_OP_CONCATENATE, "joined", (const int[]){y, tap, y}, 3);
    net->training = false;
    y = add_plain(net, CSO_OP_LEAKY_RELU, "leaky", add_batch_norm(net, "norm_1", y));
    y = add_sum(net, "twice", y, y);
    attributes = window(3, 2, 1);
    pooled = add_node(net, CSO_OP_MAX_POOL, &attributes, "pooled", &y, 1, NULL);
    made = add_linear(net, "expand", busy.latent, 18);
    attributes = cso_attributes_default();
    ck_assert_int_eq(cso_graph_add_node(net->graph, CSO_OP_UNFLATTEN, &attributes, "seed", &made, 1, NULL, &seed, &made), CARSO_OK);
    net->training = trainable;
    made = add_batch_norm(net, "norm_2", add_transposed(net, "grow", made, 12, 3, 1, 2));
    made = add_plain(net, CSO_OP_SIGMOID, "sigmoid", made);
    y = add_sum(net, "mixed", made, pooled);
    y = add_plain(net, CSO_OP_TANH, "tanh", add_plain(net, CSO_OP_SCALE, "scale", y));
    attributes = window(2, 1, 0);
    attributes.pad_end[0] = 1;
    x = add_node(net, CSO_OP_AVERAGE_POOL, &attributes, "averaged", &y, 1, NULL);
    x = add_plain(net, CSO_OP_FLATTEN, "flat", x);
    y = add_plain(net, CSO_OP_GLOBAL_AVERAGE_POOL, "global", y);
    y = add_join(net, CSO_OP_CONCATENATE, "features", (const int[]){y, busy.latent, x}, 3);
    y = add_batch_norm(net, "norm_3", add_linear(net, "head", y, 4));
    busy.output[0] = y;
    busy.output[1] = tap;
    busy.output[2] = busy.latent;
    busy.output[3] = tap;
    busy.output[4] = x;
    busy.output[5] = cso_graph_find_value(net->graph, "silu_0");
    return busy;
}

static void close_busy(busy_network *busy)
{
    carso_context *const context = busy->net.context;

    cso_graph_destroy(busy->net.graph);
    carso_context_destroy(context);
}

static void write_inputs(const busy_network *busy, cso_plan *plan, const double *image, const double *latent)
{
    (void)busy;
    ck_assert_int_eq(cso_plan_write(plan, 0, image, CSO_F64), CARSO_OK);
    ck_assert_int_eq(cso_plan_write(plan, 1, latent, CSO_F64), CARSO_OK);
}

/* Sum of all outputs, each element weighted by its number of the stream that belongs to the output. */
static double weighted_outputs(const busy_network *busy, cso_plan *plan)
{
    double sum = 0;

    ck_assert_int_eq(cso_plan_forward(plan), CARSO_OK);
    for (int i = 0; i < 6; i++) {
        const size_t count = value_count(&busy->net, busy->output[i], BATCH);
        double *values = random_values(count, 0), *weights = random_values(count, 500 + (uint64_t)i);

        ck_assert_int_eq(cso_plan_read(plan, i, values, CSO_F64), CARSO_OK);
        for (size_t j = 0; j < count; j++) {
            sum += values[j] * weights[j];
        }
        free(values);
        free(weights);
    }
    return sum;
}

static void seed_outputs(const busy_network *busy, cso_plan *plan)
{
    for (int i = 0; i < 6; i++) {
        double *weights = random_values(value_count(&busy->net, busy->output[i], BATCH), 500 + (uint64_t)i);

        ck_assert_int_eq(cso_plan_write_gradient(plan, i, weights, CSO_F64), CARSO_OK);
        free(weights);
    }
}

/* Central differences with h = 1e-6 in double: truncation about 1e-12, rounding about 1e-16 * |sum| / h, 1e-8. */
static void check_difference(const char *what, size_t index, double gradient, double above, double below)
{
    const double difference = (above - below) / 2e-6;

    ck_assert_msg(fabs(gradient - difference) <= 1e-6 * (1 + fabs(difference)), "%s[%zu]: gradient %.12g, difference %.12g",
                  what, index, gradient, difference);
}

START_TEST(gradients_are_those_of_finite_differences)
{
    const bool no_fusion = _i & 1, trainable = _i & 2;
    busy_network busy = open_busy(backend_context("reference-double"), trainable);
    const int wanted[] = {busy.latent, busy.image};
    const cso_program_request request = {.output = busy.output, .output_count = 6, .gradient_input = wanted,
                                         .gradient_input_count = 2, .parameter_gradients = trainable,
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
    write_inputs(&busy, plan, image, latent);
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
                write_inputs(&busy, plan, image, latent);
                sum[side] = weighted_outputs(&busy, plan);
            }
            point[which][i] = value;
            check_difference(which ? "image" : "latent", i, gradient[which][i], sum[0], sum[1]);
        }
    }
    write_inputs(&busy, plan, image, latent);
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
    write_inputs(&busy, plan, image, latent);
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
        write_inputs(&busy, plan, image, values);
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

START_TEST(what_nothing_depends_on_has_no_gradient)
{
    busy_network busy = open_busy(backend_context("reference"), false);
    const int wanted[] = {busy.idle, busy.image, busy.image};
    /* The image does not reach the latent, the only output that gets a gradient below. */
    const cso_program_request request = {.output = (const int[]){busy.output[0], busy.latent}, .output_count = 2,
                                         .gradient_input = wanted, .gradient_input_count = 3};
    double *image = random_values(value_count(&busy.net, busy.image, 1), 1);
    double *latent = random_values(value_count(&busy.net, busy.latent, 1), 2);
    const size_t count = value_count(&busy.net, busy.image, 1);
    cso_program *program = make_program(&busy.net, &request);
    double largest = 0;
    cso_plan *plan;

    ck_assert_int_eq(cso_program_acquire(program, 1, &plan), CARSO_OK);
    write_inputs(&busy, plan, image, latent);
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
    const cso_program_request request = {.output = (const int[]){more, a, a}, .output_count = 3,
                                         .gradient_input = (const int[]){a, b}, .gradient_input_count = 2};
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
    const cso_program_request request = {.output = (const int[]){scaled, sum, again}, .output_count = 3,
                                         .gradient_input = (const int[]){a, b}, .gradient_input_count = 2};
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
    ck_assert_int_eq(cso_program_create(busy.net.graph,
                                        &(cso_program_request){.output = &inner, .output_count = 1,
                                                               .gradient_input = &inner, .gradient_input_count = 1},
                                        &program),
                     CARSO_ERROR_INVALID_ARGUMENT);
    close_busy(&busy);
}
END_TEST

START_TEST(calls_out_of_order_are_refused)
{
    busy_network busy = open_busy(backend_context("reference"), false);
    const cso_program_request request = {.output = busy.output, .output_count = 6, .gradient_input = &busy.image,
                                         .gradient_input_count = 1};
    double *values = random_values(BATCH * 4 * 36, 1);
    cso_program *program = make_program(&busy.net, &request);
    cso_plan *plan = NULL;

    ck_assert_int_eq(cso_program_acquire(program, 0, &plan), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(plan);
    ck_assert_int_eq(cso_program_acquire(program, INT64_MAX, &plan), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(cso_program_acquire(program, BATCH, &plan), CARSO_OK);
    ck_assert_int_eq(cso_plan_forward(plan), CARSO_ERROR_INTERNAL); /* inputs */
    ck_assert_int_eq(cso_plan_write(plan, 3, values, CSO_F64), CARSO_ERROR_INTERNAL);
    write_inputs(&busy, plan, values, values);
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
    const cso_program_request request = {.output = busy.output, .output_count = 6, .gradient_input = &busy.image,
                                         .gradient_input_count = 1};
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
    const cso_program_request request = {.output = busy.output, .output_count = 6, .gradient_input = &busy.image,
                                         .gradient_input_count = 1, .parameter_gradients = true};
    double *image = random_values(value_count(&busy.net, busy.image, BATCH), 1);
    double *latent = random_values(value_count(&busy.net, busy.latent, BATCH), 2);
    cso_program *program = make_program(&busy.net, &request);
    cso_plan *plan;

    ck_assert_int_eq(cso_program_acquire(program, BATCH, &plan), CARSO_OK);
    write_inputs(&busy, plan, image, latent);
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
                    const int at = backend.layout == CSO_NHWC && shape == &image ? (n * PIXELS + p) * CHANNELS + c : plain;
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

/* With images stored pixel by pixel, a flatten that moves elements must be run, one that does not must not. */
START_TEST(flatten_is_run_only_where_it_moves_elements)
{
    static const struct {
        cso_shape shape;
        cso_layout layout;
        const char *steps;
    } cases[] = {
        {{3, {4, 1, 1}}, CSO_NHWC, ""}, {{3, {1, 3, 2}}, CSO_NHWC, ""},
        {{3, {2, 3, 2}}, CSO_NHWC, "flatten reference\n"}, {{3, {2, 3, 2}}, CSO_NCHW, ""},
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

START_TEST(batch_limit_keeps_the_memory_limit)
{
    static const size_t limits[] = {1, 40000, 100000, 1000000};
    busy_network busy = open_busy(backend_context("reference"), false);
    const cso_program_request request = {.output = busy.output, .output_count = 6, .gradient_input = &busy.image,
                                         .gradient_input_count = 1};
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
    size_t idle = 0;
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
    context->memory_limit = cso_plan_arena_size(program->idle) * 5 / 2;
    for (int64_t batch = 1; batch <= 100; batch++) {
        ck_assert_int_eq(cso_program_acquire(program, batch, &plan), CARSO_OK);
        cso_plan_release(plan);
    }
    for (const cso_plan *at = program->idle; at; at = at->next) {
        idle += cso_plan_arena_size(at);
    }
    ck_assert_uint_gt(idle, 0);
    ck_assert_uint_le(idle, context->memory_limit);
    context->memory_limit = 1; /* one plan stays in any case */
    ck_assert_int_eq(cso_program_acquire(program, 100, &plan), CARSO_OK);
    cso_plan_release(plan);
    ck_assert_ptr_eq(program->idle, plan);
    ck_assert_ptr_null(plan->next);
    cso_program_destroy(program);
    close_busy(&busy);
    ck_assert_int_eq(atomic_load(&counts.held), 0);
}
END_TEST

typedef struct worker {
    pthread_t thread;
    cso_program *program;
    const busy_network *busy;
    int number;
    bool same;
    const float *expected; /* [8] images */
} worker;

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
               cso_plan_write(plan, 1, latents + first * 5, CSO_F64) == CARSO_OK && cso_plan_forward(plan) == CARSO_OK &&
               cso_plan_read(plan, 0, out, CSO_F32) == CARSO_OK;
        cso_plan_release(plan);
    }
    free(images);
    free(latents);
    free(image);
    return done;
}

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
    const cso_program_request request = {.output = busy->output, .output_count = 6, .gradient_input = &busy->image,
                                         .gradient_input_count = 1};
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
    Suite *suite = suite_create("program");
    TCase *gradients = tcase_create("gradients");
    TCase *running = tcase_create("running");
    TCase *plans = tcase_create("plans");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_loop_test(gradients, gradients_are_those_of_finite_differences, 0, 4);
    tcase_add_test(gradients, parameter_gradients_add_up);
    tcase_add_test(gradients, what_nothing_depends_on_has_no_gradient);
    tcase_add_test(gradients, gradients_of_sums_of_inputs);
    tcase_add_test(gradients, shared_gradients_are_not_added_to);
    tcase_set_timeout(gradients, 60);
    suite_add_tcase(suite, gradients);
    tcase_add_test(running, outputs_are_right_wherever_they_are);
    tcase_add_test(running, requests_are_checked);
    tcase_add_test(running, calls_out_of_order_are_refused);
    tcase_add_test(running, unsupported_operations_are_named);
    tcase_add_test(running, memory_of_a_device_is_left_to_it);
    tcase_add_test(running, transfers_change_layout_and_type);
    tcase_add_test(running, flatten_is_run_only_where_it_moves_elements);
    tcase_add_test(running, programs_outlive_their_graphs);
    tcase_set_timeout(running, 60);
    suite_add_tcase(suite, running);
    tcase_add_test(plans, batch_limit_keeps_the_memory_limit);
    tcase_add_test(plans, idle_plans_are_bounded_and_used_again);
    tcase_add_test(plans, threads_share_a_program);
    tcase_add_test(plans, failing_allocations_lose_nothing);
    tcase_set_timeout(plans, 60);
    suite_add_tcase(suite, plans);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
