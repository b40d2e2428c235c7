/* SPDX-License-Identifier: BSD-2-Clause */
/* Layers in words. The paper's own are compared with its tables in tests/cli/test_models.py. */
#include <string.h>

#include "model/layer_text.h"
#include "network_building.h"

static network net;
static int image;

static void set_up(void)
{
    net = network_open(backend_context("reference"));
    image = add_input(&net, "image", image_shape(4, 21, 34));
}

static void tear_down(void)
{
    carso_context *context = net.context;
    cso_graph_destroy(net.graph);
    carso_context_destroy(context);
}

/* Adds the node and looks at its text. parameters: as many as there are names, all of one shape. */
static int expect(const char *text, cso_op_kind kind, const cso_attributes *attributes, int input,
                  const char *const *names, int rank, const int64_t *dimension)
{
    char node[32], found[CSO_LAYER_TEXT_SIZE];
    int parameter[CSO_MAX_PARAMETERS] = {-1, -1, -1, -1};
    snprintf(node, sizeof node, "node.%d", net.graph->node_count);
    for (int i = 0; i < CSO_MAX_PARAMETERS && names[i] != NULL; i++) {
        const bool weight = i == 0 || kind == CSO_OP_BATCH_NORM;
        parameter[i] = add_parameter(&net, node, names[i], weight ? rank : 1, dimension, 1, .5);
    }
    const int value = add_node(&net, kind, attributes, node, &input, 1, parameter);
    cso_layer_text(net.graph, &net.graph->node[net.graph->node_count - 1], found);
    ck_assert_str_eq(found, text);
    return value;
}

static int expect_plain(const char *text, cso_op_kind kind, const cso_attributes *attributes, int input)
{
    static const char *const none[CSO_MAX_PARAMETERS] = {NULL};
    return expect(text, kind, attributes, input, none, 0, NULL);
}

static const char *const weight_only[CSO_MAX_PARAMETERS] = {"weight"};
static const char *const with_bias[CSO_MAX_PARAMETERS] = {"weight", "bias"};
static const char *const of_batch_norm[CSO_MAX_PARAMETERS] = {"weight", "bias", "running_mean", "running_var"};

START_TEST(convolutions)
{
    cso_attributes with = window(3, 2, 0);
    const int64_t square[4] = {6, 4, 3, 3}, grouped[4] = {6, 2, 1, 5}, turned[4] = {4, 4, 3, 2};
    const cso_op_kind plain = CSO_OP_CONVOLUTION, transposed = CSO_OP_TRANSPOSED_CONVOLUTION;
    expect("Conv2D(ch_in=4, ch_out=6, ks=3, s=2, p=0, b=False)", plain, &with, image, weight_only, 4, square);
    with.pad_end[0] = with.pad_end[1] = 1;
    expect("Conv2D(ch_in=4, ch_out=6, ks=3, s=2, p=0:1, b=True)", plain, &with, image, with_bias, 4, square);

    with = window(0, 1, 0);
    with.stride[1] = 3;
    with.pad_begin[1] = with.pad_end[1] = 2;
    with.dilation[0] = with.dilation[1] = 2;
    with.groups = 2;
    expect("Conv2D(ch_in=4, ch_out=6, ks=1x5, s=1x3, p=0x2, d=2, g=2, b=False)", plain, &with, image,
           weight_only, 4, grouped);

    with = window(0, 2, 1);
    with.output_padding[1] = 1;
    with.pad_end[0] = 0;
    expect("ConvTranspose2D(ch_in=4, ch_out=4, ks=3x2, s=2, p=1:0x1, op=0x1, b=True)", transposed, &with, image,
           with_bias, 4, turned);
}
END_TEST

START_TEST(others)
{
    cso_attributes with = cso_attributes_default();
    const int64_t channels[1] = {4}, features[2] = {3, 4 * 21 * 34}, few[1] = {3};
    expect("BatchNorm2D(affine=True)", CSO_OP_BATCH_NORM, NULL, image, of_batch_norm, 1, channels);
    with.epsilon = 1e-3F;
    expect("BatchNorm2D(affine=True, eps=0.001)", CSO_OP_BATCH_NORM, &with, image, of_batch_norm, 1, channels);
    with.slope = .25F;
    expect_plain("LeakyReLU(slope=0.25)", CSO_OP_LEAKY_RELU, &with, image);
    with.factor = -2;
    expect_plain("Scale(factor=-2)", CSO_OP_SCALE, &with, image);
    expect_plain("ReLU()", CSO_OP_RELU, NULL, image);
    expect_plain("Tanh()", CSO_OP_TANH, NULL, image);
    expect_plain("Standardise()", CSO_OP_STANDARDISE, NULL, image);
    with = window(3, 2, 1);
    expect_plain("MaxPool2D(ks=3, s=2, p=1)", CSO_OP_MAX_POOL, &with, image);
    with.kernel[1] = 2;
    expect_plain("AveragePool2D(ks=3x2, s=2, p=1)", CSO_OP_AVERAGE_POOL, &with, image);
    expect_plain("GlobalAveragePool2D()", CSO_OP_GLOBAL_AVERAGE_POOL, NULL, image);
    const int flat = expect_plain("Flatten()", CSO_OP_FLATTEN, NULL, image);
    const int linear =
        expect("Linear(feats_in=2856, feats_out=3, b=False)", CSO_OP_LINEAR, NULL, flat, weight_only, 2, features);
    expect("BatchNorm1D(affine=True)", CSO_OP_BATCH_NORM, NULL, linear, of_batch_norm, 1, few);
}
END_TEST

/* Each kind has a text, which fits with any numbers; a kind that is added must have one. */
START_TEST(every_number_is_written_whole)
{
    cso_attributes with = window(INT16_MAX, INT16_MAX, INT16_MAX);
    cso_value value[2] = {{.name = (char *)(uintptr_t) "in", .shape = {3, {INT64_MAX, INT64_MAX, INT64_MAX}}},
                          {.name = (char *)(uintptr_t) "out", .shape = {3, {INT64_MAX, INT64_MAX, INT64_MAX}}}};
    int input = 0;
    cso_node node = {.attributes = with, .input_count = 1, .input = &input, .parameter = {-1, -1, -1, -1}, .output = 1};
    const cso_graph graph = {.value_count = 2, .node_count = 1, .value = value, .node = &node};
    for (int i = 0; i < CSO_OP_COUNT; i++) {
        char text[CSO_LAYER_TEXT_SIZE + 1];
        memset(text, '#', sizeof text);
        node.kind = (cso_op_kind)i;
        cso_layer_text(&graph, &node, text);
        ck_assert_int_eq(text[CSO_LAYER_TEXT_SIZE], '#');
        const size_t length = strlen(text);
        ck_assert_uint_gt(length, 4);
        ck_assert_msg(text[length - 1] == ')', "%s is cut", text);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("layer text");
    TCase *tests = tcase_create("layers");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, convolutions);
    tcase_add_test(tests, others);
    tcase_add_test(tests, every_number_is_written_whole);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
