/* SPDX-License-Identifier: BSD-2-Clause */
/* A graph with everything at once, and what the tests of programs do with it. */
#ifndef TEST_BUSY_NETWORK_H
#define TEST_BUSY_NETWORK_H

#include "network_building.h"

enum { BATCH = 3 };

/* Everything at once: several uses of values, residuals, concatenations, both kinds of BatchNorm, several outputs. */
typedef struct busy_network {
    network net;
    int image, latent, idle;
    int output[6];
} busy_network;

static inline busy_network open_busy(carso_context *context, bool trainable)
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
    ck_assert_int_eq(
        cso_graph_add_node(net->graph, CSO_OP_UNFLATTEN, &attributes, "seed", &made, 1, NULL, &seed, &made), CARSO_OK);
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

static inline void close_busy(busy_network *busy)
{
    carso_context *const context = busy->net.context;

    cso_graph_destroy(busy->net.graph);
    carso_context_destroy(context);
}

static inline void write_inputs(cso_plan *plan, const double *image, const double *latent)
{
    ck_assert_int_eq(cso_plan_write(plan, 0, image, CSO_F64), CARSO_OK);
    ck_assert_int_eq(cso_plan_write(plan, 1, latent, CSO_F64), CARSO_OK);
}

/* Sum of all outputs, each element weighted by its number of the stream that belongs to the output. */
static inline double weighted_outputs(const busy_network *busy, cso_plan *plan)
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

static inline void seed_outputs(const busy_network *busy, cso_plan *plan)
{
    for (int i = 0; i < 6; i++) {
        double *weights = random_values(value_count(&busy->net, busy->output[i], BATCH), 500 + (uint64_t)i);

        ck_assert_int_eq(cso_plan_write_gradient(plan, i, weights, CSO_F64), CARSO_OK);
        free(weights);
    }
}

#endif
