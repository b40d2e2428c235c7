/* SPDX-License-Identifier: BSD-2-Clause */
/* The purifier's networks for many taps and images, by the tables and rules of docs/purifier.md. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "counted_context.h"
#include "model/layers.h"
#include "model/run.h"

static void require(carso_status status)
{
    char message[1024];
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(status == CARSO_OK, "%s: %s", carso_status_str(status), message);
}

static carso_model *classifier(carso_architecture architecture, int depth, int width, int channels, int height,
                               int image_width)
{
    carso_model_options options;
    carso_model *model = NULL;
    carso_model_options_init(&options, sizeof options);
    options.architecture = architecture;
    options.depth = depth;
    options.width = width;
    options.channels = channels;
    options.image_height = height;
    options.image_width = image_width;
    require(carso_model_create(context, &options, &model));
    return model;
}

/* Destroys model. */
static carso_model *with_purifier(carso_model *model, int condition_size, int latent_size, int seed_channels)
{
    carso_purifier_options options;
    carso_model *result = NULL;
    carso_purifier_options_init(&options, sizeof options);
    options.condition_size = condition_size;
    options.latent_size = latent_size;
    options.seed_channels = seed_channels;
    require(carso_model_add_purifier(model, &options, &result));
    carso_model_destroy(model);
    return result;
}

static const cso_shape *shape_of(const cso_graph *graph, const char *name)
{
    const int value = cso_graph_find_value(graph, name);
    ck_assert_msg(value >= 0, "no value %s", name);
    return &graph->value[value].shape;
}

static void check_shape(const cso_graph *graph, const char *name, int64_t channels, int64_t height, int64_t width)
{
    const cso_shape *shape = shape_of(graph, name);
    ck_assert_int_eq(shape->rank, 3);
    ck_assert_msg(shape->dimension[0] == channels && shape->dimension[1] == height && shape->dimension[2] == width,
                  "%s is %dx%dx%d, not %dx%dx%d", name, (int)shape->dimension[0], (int)shape->dimension[1],
                  (int)shape->dimension[2], (int)channels, (int)height, (int)width);
}

static void check_features(const cso_graph *graph, const char *name, int64_t features)
{
    const cso_shape *shape = shape_of(graph, name);
    ck_assert_int_eq(shape->rank, 1);
    ck_assert_int_eq(shape->dimension[0], features);
}

static void check_parameter(const cso_graph *graph, const char *name, int rank, const int64_t *dimension)
{
    const int index = cso_graph_find_parameter(graph, name);
    ck_assert_msg(index >= 0, "no parameter %s", name);
    const cso_parameter *parameter = graph->parameter[index].parameter;
    ck_assert_int_eq(parameter->rank, rank);
    for (int i = 0; i < rank; i++) {
        ck_assert_msg(parameter->dimension[i] == dimension[i], "dimension %d of %s is %d, not %d", i, name,
                      (int)parameter->dimension[i], (int)dimension[i]);
    }
}

#define CHECK_PARAMETER(graph, name, ...)                                                                              \
    check_parameter(graph, name, (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                      \
                    (const int64_t[]){__VA_ARGS__})

/* Scenario (a) but for the sizes of condition and latent, which its 301 MB come from. */
START_TEST(test_paper_32)
{
    carso_model *model = with_purifier(classifier(CARSO_WIDE_RESNET, 28, 10, 3, 32, 32), 1, 1, 256);
    const cso_purifier *purifier = model->purifier;
    ck_assert_int_eq(model->tap_count, 26);
    ck_assert_str_eq(model->classifier->value[model->tap[0]].name, "layer.0.block.0.conv_0");
    ck_assert_str_eq(model->classifier->value[model->tap[10]].name, "layer.1.block.0.shortcut");
    ck_assert_str_eq(model->classifier->value[model->tap[25]].name, "layer.2.block.3.conv_1");
    check_features(purifier->condition, "repr_fcn_compressor.0", 147040);
    check_features(purifier->condition, "condition", 1);
    CHECK_PARAMETER(purifier->condition, "repr_compressors.0.0.0.weight", 80, 160, 3, 3);
    CHECK_PARAMETER(purifier->condition, "repr_compressors.25.2.0.weight", 80, 160, 3, 3);
    CHECK_PARAMETER(purifier->condition, "repr_compressors.25.2.1.running_var", 80);
    ck_assert_int_eq(cso_graph_find_parameter(purifier->condition, "repr_compressors.0.3.0.weight"), -1);
    CHECK_PARAMETER(purifier->condition, "repr_fcn_compressor.1.0.weight", 1, 147040);
    CHECK_PARAMETER(purifier->condition, "repr_fcn_compressor.1.1.running_mean", 1);
    CHECK_PARAMETER(purifier->encoder, "input_compressor.0.0.weight", 6, 3, 3, 3);
    CHECK_PARAMETER(purifier->encoder, "input_compressor.1.0.weight", 12, 6, 3, 3);
    CHECK_PARAMETER(purifier->encoder, "joint_fcn_compressor.1.0.weight", 1, 12 * 8 * 8 + 1);
    CHECK_PARAMETER(purifier->encoder, "to_mean.weight", 1, 1);
    CHECK_PARAMETER(purifier->encoder, "to_logvar.bias", 1);
    CHECK_PARAMETER(purifier->decoder, "decoder.0.1.weight", 2304, 2);
    CHECK_PARAMETER(purifier->decoder, "decoder.0.1.bias", 2304);
    CHECK_PARAMETER(purifier->decoder, "decoder.1.0.weight", 256, 256, 3, 3);
    CHECK_PARAMETER(purifier->decoder, "decoder.4.0.weight", 64, 32, 3, 3);
    CHECK_PARAMETER(purifier->decoder, "decoder.5.weight", 32, 3, 2, 2);
    CHECK_PARAMETER(purifier->decoder, "decoder.5.bias", 3);
    check_shape(purifier->decoder, "decoder.0.3", 256, 3, 3);
    check_shape(purifier->decoder, "decoder.1.0", 256, 5, 5);
    check_shape(purifier->decoder, "decoder.2.0", 128, 9, 9);
    check_shape(purifier->decoder, "decoder.3.0", 64, 17, 17);
    check_shape(purifier->decoder, "decoder.4.0", 32, 33, 33);
    check_shape(purifier->decoder, "pre_sigmoid", 3, 32, 32);
    carso_model_destroy(model);
}
END_TEST

START_TEST(test_paper_64)
{
    carso_model *model = with_purifier(classifier(CARSO_WIDE_RESNET, 10, 1, 3, 64, 64), 0, 0, 256);
    const cso_purifier *purifier = model->purifier;
    ck_assert_int_eq(purifier->condition_size, 768);
    ck_assert_int_eq(purifier->latent_size, 192);
    CHECK_PARAMETER(purifier->condition, "repr_compressors.0.3.0.weight", 1, 2, 3, 3);
    check_shape(purifier->condition, "repr_compressors.0.3.0", 1, 56, 56);
    check_shape(purifier->decoder, "decoder.0.3", 256, 4, 4);
    check_shape(purifier->decoder, "decoder.4.0", 32, 64, 64);
    CHECK_PARAMETER(purifier->decoder, "decoder.5.weight", 32, 3, 3, 3);
    carso_model_destroy(model);
}
END_TEST

START_TEST(test_gray_28)
{
    carso_model *model = with_purifier(classifier(CARSO_SMALL_CNN, 0, 0, 1, 28, 28), 0, 0, 64);
    const cso_purifier *purifier = model->purifier;
    ck_assert_int_eq(purifier->condition_size, 512);
    ck_assert_int_eq(purifier->latent_size, 128);
    check_features(purifier->condition, "repr_fcn_compressor.0", 2 * 22 * 22 + 4 * 8 * 8 + 8 * 1 * 1);
    check_shape(purifier->decoder, "decoder.0.3", 64, 2, 2);
    check_shape(purifier->decoder, "decoder.1.0", 64, 4, 4);
    check_shape(purifier->decoder, "decoder.2.0", 32, 7, 7);
    check_shape(purifier->decoder, "decoder.3.0", 16, 14, 14);
    check_shape(purifier->decoder, "decoder.4.0", 8, 28, 28);
    check_shape(purifier->decoder, "reconstruction", 1, 28, 28);
    carso_model_destroy(model);
}
END_TEST

static const struct {
    int channels, height, width;
} images[] = {{1, 28, 32}, {3, 29, 35}, {1, 32, 33}, {3, 47, 64}, {3, 96, 96}, {1, 224, 224}, {3, 31, 130}};

START_TEST(test_any_image)
{
    const int channels = images[_i].channels, height = images[_i].height, width = images[_i].width;
    static const carso_architecture architecture[2] = {CARSO_SMALL_CNN, CARSO_WIDE_RESNET};
    for (int i = 0; i < 2; i++) {
        carso_model *model = with_purifier(classifier(architecture[i], 10, 1, channels, height, width), 5, 3, 16);
        check_shape(model->purifier->decoder, "reconstruction", channels, height, width);
        check_features(model->purifier->condition, "condition", 5);
        check_features(model->purifier->encoder, "mean", 3);
        check_features(model->purifier->encoder, "log_variance", 3);
        carso_model_destroy(model);
    }
}
END_TEST

START_TEST(test_large_taps_take_strides)
{
    carso_model *model = with_purifier(classifier(CARSO_SMALL_CNN, 0, 1, 1, 224, 40), 5, 3, 16);
    /* 224 -> 111 -> 55 -> 53 -> 51 down, 40 -> 38 -> 36 -> 34 -> 32 across */
    check_shape(model->purifier->condition, "repr_compressors.0.0.0", 8, 111, 38);
    check_shape(model->purifier->condition, "repr_compressors.0.1.0", 4, 55, 36);
    check_shape(model->purifier->condition, "repr_compressors.0.2.0", 2, 53, 34);
    check_shape(model->purifier->condition, "repr_compressors.0.3.0", 1, 51, 32);
    carso_model_destroy(model);
}
END_TEST

/* Taps of rank 1, of one pixel, of two, and of one channel. */
static carso_model *odd_taps(void)
{
    carso_model_options options;
    carso_model *model = NULL;
    carso_model_options_init(&options, sizeof options);
    options.channels = 1;
    options.classes = 3;
    options.image_height = options.image_width = 28;
    require(cso_model_allocate(context, &model));
    require(cso_model_set_input(model, &options));
    cso_layers layers = {.context = context};
    require(cso_graph_create(context, &layers.graph));
    const cso_window window = cso_window_square(7, 7, 0), last = {{4, 2}, {1, 2}, {0, 0}, {0, 0}, {0, 0}};
    int tap[4];
    const int image = cso_layers_input(&layers, "image", (cso_shape){3, {1, 28, 28}});
    tap[0] = cso_layers_convolution(&layers, "first", image, 1, &window, true);
    tap[1] = cso_layers_convolution(&layers, "second", tap[0], 7, &last, true);
    tap[2] = cso_layers_plain(&layers, CSO_OP_GLOBAL_AVERAGE_POOL, "pool", tap[1]);
    tap[3] = cso_layers_linear(&layers, "logits", "logits", tap[2], 3, true);
    require(layers.status);
    require(cso_model_set_classifier(model, layers.graph, tap[3], tap, 4));
    return model;
}

START_TEST(test_odd_taps)
{
    carso_model *model = with_purifier(odd_taps(), 5, 3, 16);
    const cso_graph *condition = model->purifier->condition;
    check_shape(condition, "repr_compressors.0.0.0", 1, 2, 2); /* 4 -> 2 */
    check_shape(condition, "repr_compressors.0.1.0", 1, 2, 2); /* padded */
    check_shape(condition, "repr_compressors.1.0.0", 4, 1, 2);
    check_shape(condition, "repr_compressors.1.2.0", 1, 1, 2);
    ck_assert_int_eq(cso_graph_find_parameter(condition, "repr_compressors.2.0.0.weight"), -1);
    check_features(condition, "repr_fcn_compressor.0", 4 + 2 + 7 + 3);
    carso_model_destroy(model);
}
END_TEST

static void refused(const carso_model *model, int condition_size, int latent_size, int seed_channels,
                    carso_status expected)
{
    carso_purifier_options options;
    carso_model *result = (carso_model *)&options;
    carso_purifier_options_init(&options, sizeof options);
    options.condition_size = condition_size;
    options.latent_size = latent_size;
    options.seed_channels = seed_channels;
    ck_assert_int_eq(carso_model_add_purifier(model, &options, &result), expected);
    ck_assert_ptr_null(result);
}

START_TEST(test_refused)
{
    carso_model *model = classifier(CARSO_SMALL_CNN, 0, 1, 1, 28, 28);
    refused(model, -1, 0, 256, CARSO_ERROR_INVALID_ARGUMENT);
    refused(model, 65537, 0, 256, CARSO_ERROR_INVALID_ARGUMENT);
    refused(model, 0, -5, 256, CARSO_ERROR_INVALID_ARGUMENT);
    refused(model, 0, 0, 8, CARSO_ERROR_INVALID_ARGUMENT);
    refused(model, 0, 0, 20, CARSO_ERROR_INVALID_ARGUMENT);
    refused(model, 0, 0, 1032, CARSO_ERROR_INVALID_ARGUMENT);
    carso_model_destroy(model);
    model = classifier(CARSO_SMALL_CNN, 0, 1, 1, 28, 27);
    refused(model, 0, 0, 256, CARSO_ERROR_UNSUPPORTED);
    carso_model_destroy(model);
    model = odd_taps();
    model->tap_count = 0;
    refused(model, 0, 0, 256, CARSO_ERROR_UNSUPPORTED);
    carso_model_destroy(model);
}
END_TEST

START_TEST(test_initial_weights)
{
    carso_model *model = classifier(CARSO_SMALL_CNN, 0, 1, 1, 28, 28);
    carso_purifier_options options;
    cso_purifier *purifier[3];
    carso_purifier_options_init(&options, sizeof options);
    options.condition_size = 6;
    options.latent_size = 4;
    options.seed_channels = 16;
    for (int i = 0; i < 3; i++) {
        options.seed = i == 2;
        require(cso_purifier_build(context, model, &options, NULL, NULL, i == 1, &purifier[i]));
    }
    ck_assert_ptr_null(purifier[0]->encoder);
    ck_assert_ptr_nonnull(purifier[1]->encoder);
    for (int i = 0; i < purifier[0]->decoder->parameter_count; i++) {
        const cso_parameter *first = purifier[0]->decoder->parameter[i].parameter,
                            *same = purifier[1]->decoder->parameter[i].parameter,
                            *other = purifier[2]->decoder->parameter[i].parameter;
        const char *name = purifier[0]->decoder->parameter[i].name;
        ck_assert_mem_eq(first->host, same->host, first->count * sizeof(float));
        ck_assert(first->constant);
        if (name[8] != '0' && strncmp(name + 9, ".1.", 3) == 0) { /* decoder.K.1: BatchNorm */
            const float expected = strstr(name, "bias") != NULL || strstr(name, "mean") != NULL ? 0.0f : 1.0f;
            for (size_t j = 0; j < first->count; j++) {
                ck_assert_float_eq(first->host[j], expected);
            }
        } else {
            ck_assert_int_ne(memcmp(first->host, other->host, first->count * sizeof(float)), 0);
        }
    }
    /* PyTorch's defaults: uniform within 1 / sqrt(fan_in), a transposed convolution's fan_in being out * kh * kw. */
    const cso_graph *decoder = purifier[0]->decoder;
    const cso_parameter *weight = decoder->parameter[cso_graph_find_parameter(decoder, "decoder.3.0.weight")].parameter;
    const float bound = 1.0f / sqrtf(4.0f * 9.0f);
    float largest = 0.0f, sum = 0.0f;
    for (size_t i = 0; i < weight->count; i++) {
        largest = fmaxf(largest, fabsf(weight->host[i]));
        sum += weight->host[i];
    }
    ck_assert_float_le(largest, bound);
    ck_assert_float_gt(largest, 0.95f * bound);
    ck_assert_float_lt(fabsf(sum), 0.2f * bound * (float)weight->count);
    for (int i = 0; i < 3; i++) {
        cso_purifier_destroy(context, purifier[i]);
    }
    carso_model_destroy(model);
}
END_TEST

START_TEST(test_runs)
{
    carso_model *model = with_purifier(odd_taps(), 5, 3, 16);
    float image[2 * 28 * 28];
    static float reconstruction[3 * 2 * 28 * 28];
    static const uint64_t image_index[2] = {5, 6};
    for (int i = 0; i < 2 * 28 * 28; i++) {
        image[i] = (float)(i % 13) / 12.0f;
    }
    const cso_run run = {.images = image,
                         .element = CSO_F32,
                         .count = 2,
                         .draws = 3,
                         .purpose = CSO_PURPOSE_LATENT,
                         .image_index = image_index,
                         .reconstructions = reconstruction};
    require(cso_run_purify(model, &run));
    bool differs = false;
    for (int i = 0; i < 3 * 2 * 28 * 28; i++) {
        ck_assert(reconstruction[i] > 0.0f && reconstruction[i] < 1.0f);
        differs = differs || (i >= 2 * 28 * 28 && reconstruction[i] != reconstruction[i - 2 * 28 * 28]);
    }
    ck_assert_msg(differs, "all draws are the same");
    carso_model_destroy(model);
}
END_TEST

START_TEST(test_each_allocation_failing)
{
    carso_model *model = classifier(CARSO_SMALL_CNN, 0, 1, 1, 28, 28), *result = NULL;
    carso_purifier_options options;
    carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
    carso_purifier_options_init(&options, sizeof options);
    options.condition_size = options.latent_size = 2;
    options.seed_channels = 16;
    const long held = counts.held;
    for (long failing = 1; status != CARSO_OK; failing++) {
        counts.made = 0;
        counts.failing = failing;
        status = carso_model_add_purifier(model, &options, &result);
        ck_assert(status == CARSO_OK || status == CARSO_ERROR_OUT_OF_MEMORY);
        if (status != CARSO_OK) {
            ck_assert_int_eq(counts.held, held);
        }
    }
    counts.failing = 0;
    carso_model_destroy(result);
    carso_model_destroy(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("purifier");
    TCase *tcase = tcase_create("purifier");
    tcase_set_timeout(tcase, 100);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, test_paper_32);
    tcase_add_test(tcase, test_paper_64);
    tcase_add_test(tcase, test_gray_28);
    tcase_add_loop_test(tcase, test_any_image, 0, (int)(sizeof images / sizeof *images));
    tcase_add_test(tcase, test_large_taps_take_strides);
    tcase_add_test(tcase, test_odd_taps);
    tcase_add_test(tcase, test_refused);
    tcase_add_test(tcase, test_initial_weights);
    tcase_add_test(tcase, test_runs);
    tcase_add_test(tcase, test_each_allocation_failing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
