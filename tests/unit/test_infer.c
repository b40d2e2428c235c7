/* SPDX-License-Identifier: BSD-2-Clause */
/* Shapes of operations. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "graph_case.h"

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

int main(void)
{
    Suite *suite = suite_create("infer");
    TCase *tests = tcase_create("graph");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, shapes_are_inferred_or_refused, 0, (int)(sizeof trials / sizeof *trials));
    tcase_add_test(tests, numbers_of_attributes_are_checked);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
