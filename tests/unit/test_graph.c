/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "counted_context.h"
#include "graph/graph.h"

static void expect_message(const char *part)
{
    char message[CSO_MESSAGE_SIZE];
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(strstr(message, part) != NULL, "the message is \"%s\", without \"%s\"", message, part);
}

#define FEATURES(f) ((cso_shape){.rank = 1, .dimension = {(f)}})
#define IMAGE(c, h, w) ((cso_shape){.rank = 3, .dimension = {(c), (h), (w)}})

static cso_parameter *zeros(int rank, const int64_t *dimension)
{
    cso_parameter *parameter;
    ck_assert_int_eq(cso_parameter_create(context, rank, dimension, NULL, &parameter), CARSO_OK);
    return parameter;
}

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

/* A trial of cso_op_infer: what goes in, and the shape or the message that must come out. */
typedef struct trial {
    cso_op_kind kind;
    cso_shape input[3];
    int64_t parameter[CSO_MAX_PARAMETERS][4]; /* zero: the end of the shape, or none */
    int32_t stride, dilation, begin, end, output_padding, groups, kernel;
    cso_shape shape;  /* UNFLATTEN */
    cso_shape output; /* rank 0: refused */
    const char *message;
} trial;

#define VECTORS(n)                                                                                                     \
    {                                                                                                                  \
        {(n)}, {(n)}, {(n)},                                                                                           \
        {                                                                                                              \
            (n)                                                                                                        \
        }                                                                                                              \
    }
#define I(c, h, w)                                                                                                     \
    {                                                                                                                  \
        3,                                                                                                             \
        {                                                                                                              \
            (c), (h), (w)                                                                                              \
        }                                                                                                              \
    }
#define F(f)                                                                                                           \
    {                                                                                                                  \
        1,                                                                                                             \
        {                                                                                                              \
            (f)                                                                                                        \
        }                                                                                                              \
    }

static const trial trials[] = {
    /* Convolution: 0 stands for neutral stride, dilation and groups. */
    {CSO_OP_CONVOLUTION, {I(3, 32, 32)}, {{16, 3, 3, 3}, {16}}, .begin = 1, .end = 1, .output = I(16, 32, 32)},
    {CSO_OP_CONVOLUTION, {I(3, 33, 32)}, {{16, 3, 3, 5}}, .stride = 2, .end = 1, .output = I(16, 16, 15)},
    {CSO_OP_CONVOLUTION, {I(3, 3, 3)}, {{1, 3, 3, 3}}, .stride = 65536, .output = I(1, 1, 1)},
    {CSO_OP_CONVOLUTION, {I(4, 9, 9)}, {{6, 2, 3, 3}}, .groups = 2, .dilation = 4, .output = I(6, 1, 1)},
    {CSO_OP_CONVOLUTION, {I(8, 5, 5)}, {{8, 1, 3, 3}}, .groups = 8, .output = I(8, 3, 3)},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{4, 3, 3, 3}}, .kernel = 3, .output = I(4, 6, 6)},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{4, 3, 3, 3}}, .kernel = 5, .message = "kernel is 5x5"},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{4, 4, 3, 3}}, .message = "does not fit 3 input channels"},
    {CSO_OP_CONVOLUTION, {I(4, 8, 8)}, {{3, 2, 3, 3}}, .groups = 2, .message = "does not fit 4 input channels"},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{2, 1, 3, 3}}, .groups = 2, .message = "does not fit 3 input channels"},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{4, 3, 3}}, .message = "weight must have 4 dimensions, but is [4][3][3]"},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{4, 3, 3, 3}, {5}}, .message = "bias must be [4], but is [5]"},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{4, 3, 3, 3}, {4, 1}}, .message = "bias must be [4], but is [4][1]"},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{4, 3, 3, 3}, {4}, {4}}, .message = "takes no parameter running_mean"},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{0}}, .message = "parameter weight is missing"},
    {CSO_OP_CONVOLUTION,
     {I(3, 2, 8)},
     {{4, 3, 3, 3}},
     .message = "the kernel covers 3 rows, but the padded input has 2"},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{4, 3, 3, 3}}, .dilation = 4, .message = "the kernel covers 9 rows"},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{4, 3, 3, 3}}, .stride = -1, .message = "stride is -1"},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{4, 3, 3, 3}}, .stride = 65537, .message = "stride is 65537"},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{4, 3, 3, 3}}, .dilation = INT32_MIN, .message = "dilation is"},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{4, 3, 3, 3}}, .begin = -1, .message = "pad_begin is -1"},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{4, 3, 3, 3}}, .end = INT32_MAX, .message = "pad_end is"},
    {CSO_OP_CONVOLUTION, {I(3, 8, 8)}, {{4, 3, 3, 3}}, .groups = -1, .message = "groups is -1"},
    {CSO_OP_CONVOLUTION, {I(1, 8, 8)}, {{1, 1, 1, 1}}, .begin = 65536, .end = 65536, .message = "must be 1 to 65536"},
    {CSO_OP_CONVOLUTION, {I(1, 8, 8)}, {{1, 1, 1, 1}}, .begin = 30000, .message = "at most 67108864 elements"},
    {CSO_OP_CONVOLUTION, {F(8)}, {{1, 1, 1, 1}}, .message = "the input must have rank 3, but is [8]"},
    {CSO_OP_CONVOLUTION, {I(1, 8, 8), I(1, 8, 8)}, {{1, 1, 1, 1}}, .message = "it has 2 inputs; it must have 1"},
    /* Transposed: the decoder's of 32x32 and 64x64. */
    {CSO_OP_TRANSPOSED_CONVOLUTION,
     {I(8, 3, 3)},
     {{8, 4, 3, 3}},
     .stride = 2,
     .begin = 1,
     .end = 1,
     .output = I(4, 5, 5)},
    {CSO_OP_TRANSPOSED_CONVOLUTION, {I(8, 33, 33)}, {{8, 3, 2, 2}, {3}}, .begin = 1, .end = 1, .output = I(3, 32, 32)},
    {CSO_OP_TRANSPOSED_CONVOLUTION,
     {I(8, 4, 4)},
     {{8, 4, 3, 3}},
     .stride = 2,
     .begin = 1,
     .end = 1,
     .output_padding = 1,
     .output = I(4, 8, 8)},
    {CSO_OP_TRANSPOSED_CONVOLUTION,
     {I(8, 3, 3)},
     {{8, 2, 3, 3}, {4}},
     .groups = 2,
     .dilation = 2,
     .output = I(4, 7, 7)},
    {CSO_OP_TRANSPOSED_CONVOLUTION, {I(8, 3, 3)}, {{4, 8, 3, 3}}, .message = "does not fit 8 input channels"},
    {CSO_OP_TRANSPOSED_CONVOLUTION,
     {I(3, 3, 3)},
     {{3, 2, 3, 3}},
     .groups = 2,
     .message = "does not fit 3 input channels"},
    {CSO_OP_TRANSPOSED_CONVOLUTION, {I(8, 3, 3)}, {{8, 4, 3, 3}, {8}}, .message = "bias must be [4]"},
    {CSO_OP_TRANSPOSED_CONVOLUTION, {I(8, 1, 1)}, {{8, 4, 1, 1}}, .begin = 1, .message = "each dimension must be 1 to"},
    {CSO_OP_TRANSPOSED_CONVOLUTION,
     {I(8, 3, 3)},
     {{8, 4, 3, 3}},
     .stride = 2,
     .output_padding = 2,
     .message = "output_padding is 2; it must be 0 to 1"},
    {CSO_OP_TRANSPOSED_CONVOLUTION,
     {I(1, 3, 65536)},
     {{1, 1, 1, 1}},
     .stride = 65536,
     .message = "each dimension must"},
    {CSO_OP_TRANSPOSED_CONVOLUTION,
     {I(1, 1, 1)},
     {{1, 65536, 1, 1}},
     .groups = 65536,
     .message = "does not fit 1 input channels"},
    /* Linear. */
    {CSO_OP_LINEAR, {F(7)}, {{5, 7}, {5}}, .output = F(5)},
    {CSO_OP_LINEAR, {F(7)}, {{5, 7}}, .output = F(5)},
    {CSO_OP_LINEAR, {F(7)}, {{7, 5}}, .message = "weight must be [out][7] for this input, but is [7][5]"},
    {CSO_OP_LINEAR, {F(7)}, {{5, 7}, {7}}, .message = "bias must be [5], but is [7]"},
    {CSO_OP_LINEAR, {F(7)}, {{7}}, .message = "weight must be [out][7]"},
    {CSO_OP_LINEAR, {I(7, 1, 1)}, {{5, 7}}, .message = "must have rank 1, but is [7][1][1]; flatten it first"},
    /* Normalisation. */
    {CSO_OP_BATCH_NORM, {I(6, 2, 3)}, VECTORS(6), .output = I(6, 2, 3)},
    {CSO_OP_BATCH_NORM, {F(6)}, VECTORS(6), .output = F(6)},
    {CSO_OP_BATCH_NORM, {F(6)}, VECTORS(5), .message = "weight must be [6], but is [5]"},
    {CSO_OP_BATCH_NORM, {F(6)}, {{6}, {6}, {6}, {5}}, .message = "running_var must be [6], but is [5]"},
    {CSO_OP_BATCH_NORM, {F(6)}, {{6}, {6}, {6}}, .message = "parameter running_var is missing"},
    {CSO_OP_STANDARDISE, {I(4, 2, 3)}, .output = I(4, 2, 3)},
    {CSO_OP_STANDARDISE, {I(5, 2, 3)}, .message = "channels is 5; it must be 1 to 4"},
    {CSO_OP_STANDARDISE, {F(3)}, .message = "must have rank 3"},
    /* Pointwise. */
    {CSO_OP_RELU, {I(1, 2, 3)}, .output = I(1, 2, 3)},
    {CSO_OP_LEAKY_RELU, {F(2)}, .output = F(2)},
    {CSO_OP_SILU, {F(2)}, .output = F(2)},
    {CSO_OP_SIGMOID, {F(2)}, .output = F(2)},
    {CSO_OP_TANH, {F(2)}, .output = F(2)},
    {CSO_OP_SCALE, {F(2)}, .output = F(2)},
    {CSO_OP_RELU, {F(2)}, {{2}}, .message = "takes no parameter weight"},
    {CSO_OP_RELU, {F(2)}, .shape = I(2, 1, 1), .message = "only unflatten takes a shape"},
    {CSO_OP_RELU, {F(2), F(2)}, .message = "it has 2 inputs"},
    {CSO_OP_ADD, {I(1, 2, 3), I(1, 2, 3)}, .output = I(1, 2, 3)},
    {CSO_OP_ADD, {F(6), F(6)}, .output = F(6)},
    {CSO_OP_ADD, {I(1, 2, 3), I(1, 3, 2)}, .message = "the inputs are [1][2][3] and [1][3][2]"},
    {CSO_OP_ADD, {I(6, 1, 1), F(6)}, .message = "must have the same shape"},
    {CSO_OP_ADD, {F(6)}, .message = "it has 1 inputs; it must have 2"},
    /* Shapes. */
    {CSO_OP_CONCATENATE, {I(1, 4, 5), I(2, 4, 5), I(7, 4, 5)}, .output = I(10, 4, 5)},
    {CSO_OP_CONCATENATE, {F(3), F(4)}, .output = F(7)},
    {CSO_OP_CONCATENATE, {F(3)}, .output = F(3)},
    {CSO_OP_CONCATENATE, {I(1, 4, 5), I(2, 5, 4)}, .message = "input 1 is [2][5][4] and input 0 is [1][4][5]"},
    {CSO_OP_CONCATENATE, {I(1, 4, 5), F(20)}, .message = "they may differ only in channels or features"},
    {CSO_OP_CONCATENATE, {F(CSO_MAX_FEATURES), F(1)}, .message = "the output is [67108865]"},
    {CSO_OP_CONCATENATE, {I(40000, 1, 1), I(40000, 1, 1)}, .message = "the output is [80000][1][1]"},
    {CSO_OP_FLATTEN, {I(2, 3, 4)}, .output = F(24)},
    {CSO_OP_FLATTEN, {F(24)}, .message = "must have rank 3"},
    {CSO_OP_UNFLATTEN, {F(24)}, .shape = I(2, 3, 4), .output = I(2, 3, 4)},
    {CSO_OP_UNFLATTEN,
     {F(24)},
     .shape = I(2, 3, 5),
     .message = "shape [2][3][5] does not have the input's 24 elements"},
    {CSO_OP_UNFLATTEN, {F(24)}, .message = "it needs a shape"},
    {CSO_OP_UNFLATTEN, {F(24)}, .shape = F(24), .message = "it needs a shape"},
    {CSO_OP_UNFLATTEN, {F(24)}, .shape = I(-2, -3, 4), .message = "each dimension must be"},
    {CSO_OP_UNFLATTEN, {I(2, 3, 4)}, .shape = I(2, 3, 4), .message = "must have rank 1"},
    /* Pooling. */
    {CSO_OP_MAX_POOL, {I(3, 7, 8)}, .kernel = 3, .stride = 2, .begin = 1, .end = 1, .output = I(3, 4, 4)},
    {CSO_OP_AVERAGE_POOL, {I(3, 7, 8)}, .kernel = 2, .output = I(3, 6, 7)},
    {CSO_OP_AVERAGE_POOL, {I(3, 1, 1)}, .kernel = 3, .begin = 2, .end = 2, .output = I(3, 3, 3)},
    {CSO_OP_MAX_POOL, {I(3, 7, 8)}, .message = "kernel is 0; it must be 1 to 65536"},
    {CSO_OP_MAX_POOL, {I(3, 7, 8)}, .kernel = INT32_MIN, .message = "kernel is"},
    {CSO_OP_MAX_POOL, {I(3, 7, 8)}, .kernel = 2, .begin = 2, .message = "pad_begin is 2; it must be 0 to 1"},
    {CSO_OP_AVERAGE_POOL, {I(3, 7, 8)}, .kernel = 2, .end = 2, .message = "pad_end is 2; it must be 0 to 1"},
    {CSO_OP_AVERAGE_POOL, {I(3, 7, 8)}, .kernel = 8, .message = "the kernel covers 8 rows"},
    {CSO_OP_AVERAGE_POOL, {I(3, 9, 8)}, .kernel = 9, .message = "the kernel covers 9 columns"},
    {CSO_OP_MAX_POOL, {F(8)}, .kernel = 2, .message = "must have rank 3"},
    {CSO_OP_GLOBAL_AVERAGE_POOL, {I(5, 3, 4)}, .output = F(5)},
    {CSO_OP_GLOBAL_AVERAGE_POOL, {F(5)}, .message = "must have rank 3"},
    {CSO_OP_COUNT, {F(5)}, .message = "there is no operation number"},
    /* Inputs that are no shapes. */
    {CSO_OP_RELU, {{2, {4, 4}}}, .message = "an input has rank 2"},
    {CSO_OP_RELU, {I(4, 0, 4)}, .message = "an input is [4][0][4]"},
};

START_TEST(shapes_are_inferred_or_refused)
{
    const trial *it = &trials[_i];
    cso_attributes attributes = cso_attributes_default();
    cso_parameter *parameter[CSO_MAX_PARAMETERS] = {NULL};
    const cso_shape untouched = FEATURES(12345);
    cso_shape output = untouched;
    int input_count = 0;
    while (input_count < 3 && it->input[input_count].rank != 0) {
        input_count++;
    }
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        int rank = 0;
        while (rank < 4 && it->parameter[i][rank] != 0) {
            rank++;
        }
        parameter[i] = rank == 0 ? NULL : zeros(rank, it->parameter[i]);
    }
    for (int i = 0; i < 2; i++) {
        attributes.kernel[i] = it->kernel;
        attributes.stride[i] = it->stride == 0 ? 1 : it->stride;
        attributes.dilation[i] = it->dilation == 0 ? 1 : it->dilation;
        attributes.pad_begin[i] = it->begin;
        attributes.pad_end[i] = it->end;
        attributes.output_padding[i] = it->output_padding;
    }
    attributes.groups = it->groups == 0 ? 1 : it->groups;
    const carso_status status = cso_op_infer(context, "here", it->kind, &attributes, it->input, input_count, parameter,
                                             it->shape.rank == 0 ? NULL : &it->shape, &output);
    for (int i = 0; i < CSO_MAX_PARAMETERS; i++) {
        cso_parameter_release(parameter[i]);
    }
    if (it->output.rank == 0) {
        ck_assert_int_eq(status, CARSO_ERROR_INVALID_ARGUMENT);
        expect_message("here: ");
        expect_message(it->message);
        ck_assert_mem_eq(&output, &untouched, sizeof output);
    } else {
        ck_assert_int_eq(status, CARSO_OK);
        ck_assert_int_eq(output.rank, it->output.rank);
        for (int i = 0; i < output.rank; i++) {
            ck_assert_int_eq(output.dimension[i], it->output.dimension[i]);
        }
    }
}
END_TEST

START_TEST(numbers_of_attributes_are_checked)
{
    static const float bad_epsilon[] = {0.0F, -1e-5F, NAN, INFINITY};
    static const float bad_momentum[] = {-0.1F, 1.1F, NAN, INFINITY};
    static const float bad_deviation[] = {0.0F, -1.0F, NAN, INFINITY};
    static const float bad_slope[] = {-0.1F, NAN, INFINITY, -INFINITY};
    const cso_shape image = IMAGE(2, 3, 3);
    const int64_t dimension[1] = {2};
    cso_parameter *vector = zeros(1, dimension);
    cso_parameter *const parameter[CSO_MAX_PARAMETERS] = {vector, vector, vector, vector};
    cso_shape output;
    for (size_t i = 0; i < 4; i++) {
        cso_attributes attributes = cso_attributes_default();
        attributes.epsilon = bad_epsilon[i];
        ck_assert_int_eq(
            cso_op_infer(context, "x", CSO_OP_BATCH_NORM, &attributes, &image, 1, parameter, NULL, &output),
            CARSO_ERROR_INVALID_ARGUMENT);
        expect_message("epsilon");
        attributes = cso_attributes_default();
        attributes.momentum = bad_momentum[i];
        ck_assert_int_eq(
            cso_op_infer(context, "x", CSO_OP_BATCH_NORM, &attributes, &image, 1, parameter, NULL, &output),
            CARSO_ERROR_INVALID_ARGUMENT);
        expect_message("momentum");
        attributes = cso_attributes_default();
        attributes.deviation[1] = bad_deviation[i];
        ck_assert_int_eq(cso_op_infer(context, "x", CSO_OP_STANDARDISE, &attributes, &image, 1, NULL, NULL, &output),
                         CARSO_ERROR_INVALID_ARGUMENT);
        expect_message("deviation");
        attributes.slope = bad_slope[i];
        ck_assert_int_eq(cso_op_infer(context, "x", CSO_OP_LEAKY_RELU, &attributes, &image, 1, NULL, NULL, &output),
                         CARSO_ERROR_INVALID_ARGUMENT);
        expect_message("slope");
    }
    cso_attributes attributes = cso_attributes_default();
    attributes.mean[0] = NAN;
    ck_assert_int_eq(cso_op_infer(context, "x", CSO_OP_STANDARDISE, &attributes, &image, 1, NULL, NULL, &output),
                     CARSO_ERROR_INVALID_ARGUMENT);
    attributes.factor = INFINITY;
    ck_assert_int_eq(cso_op_infer(context, "x", CSO_OP_SCALE, &attributes, &image, 1, NULL, NULL, &output),
                     CARSO_ERROR_INVALID_ARGUMENT);
    cso_parameter_release(vector);
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
    tcase_add_loop_test(tests, shapes_are_inferred_or_refused, 0, (int)(sizeof trials / sizeof *trials));
    tcase_add_test(tests, numbers_of_attributes_are_checked);
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
