/* SPDX-License-Identifier: BSD-2-Clause */
/* Building models, what they say of themselves, and their life. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "counted_context.h"
#include "model/run.h"

static void require(carso_status status)
{
    char message[1024];
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(status == CARSO_OK, "%s: %s", carso_status_str(status), message);
}

static bool message_has(const char *part)
{
    char message[1024];
    carso_context_message(context, message, sizeof message);
    return strstr(message, part) != NULL;
}

static carso_model_options small_options(void)
{
    carso_model_options options;
    carso_model_options_init(&options, sizeof options);
    options.channels = 1;
    options.image_height = options.image_width = 28;
    options.classes = 4;
    options.mean[0] = 0.25f;
    options.deviation[0] = 0.5f;
    return options;
}

static carso_model *create(const carso_model_options *options)
{
    carso_model *model = NULL;
    require(carso_model_create(context, options, &model));
    return model;
}

static carso_model *small_defence(void)
{
    const carso_model_options options = small_options();
    carso_purifier_options purifier;
    carso_model *classifier = create(&options), *model = NULL;
    carso_purifier_options_init(&purifier, sizeof purifier);
    purifier.condition_size = 4;
    purifier.latent_size = 2;
    purifier.seed_channels = 16;
    require(carso_model_add_purifier(classifier, &purifier, &model));
    carso_model_destroy(classifier);
    return model;
}

static void classify(carso_model *model, double *logits)
{
    static const uint64_t image_index[1] = {0};
    float image[28 * 28];
    for (int i = 0; i < 28 * 28; i++) {
        image[i] = (float)(i % 17) / 16.0f;
    }
    const cso_run run = {
        .images = image, .element = CSO_F32, .count = 1, .draws = 1, .image_index = image_index, .logits = logits};
    require(cso_run_classifier(model, &run));
}

START_TEST(test_defaults)
{
    carso_model *model = create(NULL);
    carso_model_info info = {.struct_size = sizeof info};
    require(carso_model_get_info(model, &info));
    ck_assert_int_eq(info.channels, 3);
    ck_assert_int_eq(info.image_height, 32);
    ck_assert_int_eq(info.image_width, 32);
    ck_assert_int_eq(info.classes, 10);
    ck_assert_int_eq(info.taps, 3);
    ck_assert_int_eq(info.has_purifier, 0);
    ck_assert_int_eq(info.condition_size, 0);
    ck_assert_uint_eq(info.classifier_parameters,
                      16 * 27 + 16 + 32 * 16 * 9 + 32 + 64 * 32 * 9 + 64 + 10 * 64 * 8 * 8 + 10);
    ck_assert_uint_eq(info.classifier_multiply_adds,
                      1024 * 16 * 27 + 256 * 32 * 16 * 9 + 64 * 64 * 32 * 9 + 10 * 64 * 64);
    ck_assert_uint_eq(info.decoder_multiply_adds, 0);
    ck_assert_str_eq(carso_model_class_name(model, 9), "9");
    ck_assert_ptr_null(carso_model_class_name(model, 10));
    ck_assert_ptr_null(carso_model_class_name(model, -1));
    ck_assert_ptr_eq(carso_model_context(model), context);
    carso_model_destroy(model);
}
END_TEST

START_TEST(test_info_of_the_papers_classifier)
{
    carso_model_options options;
    carso_model_options_init(&options, sizeof options);
    options.architecture = CARSO_WIDE_RESNET;
    carso_model *model = create(&options);
    carso_model_info info = {.struct_size = sizeof info};
    require(carso_model_get_info(model, &info));
    ck_assert_int_eq(info.taps, 26);
    /* 5.25 GMAC per image, of which convolutions and linear layers are all but some million */
    ck_assert_uint_gt(info.classifier_multiply_adds, UINT64_C(5240000000));
    ck_assert_uint_lt(info.classifier_multiply_adds, UINT64_C(5255000000));
    /* 36.5 million, and running statistics */
    ck_assert_uint_gt(info.classifier_parameters, 36400000);
    ck_assert_uint_lt(info.classifier_parameters, 36600000);
    carso_model_destroy(model);
}
END_TEST

START_TEST(test_info_struct_sizes)
{
    carso_model *model = small_defence();
    carso_model_info info = {.struct_size = offsetof(carso_model_info, taps), .taps = 77};
    require(carso_model_get_info(model, &info));
    ck_assert_int_eq(info.has_purifier, 1);
    ck_assert_int_eq(info.taps, 77);
    info.struct_size = 0;
    ck_assert_int_eq(carso_model_get_info(model, &info), CARSO_ERROR_INVALID_ARGUMENT);
    info.struct_size = SIZE_MAX;
    ck_assert_int_eq(carso_model_get_info(model, &info), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_model_get_info(NULL, &info), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_model_get_info(model, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    carso_model_destroy(model);
}
END_TEST

/* Sides that are not multiples of 4 make shortcut and convolution of a block differ unless padding follows them. */
START_TEST(test_wide_resnet_takes_any_size)
{
    carso_model_options options;
    carso_model_options_init(&options, sizeof options);
    options.architecture = CARSO_WIDE_RESNET;
    options.depth = 16;
    options.width = 1;
    options.image_height = 27 + _i;
    options.image_width = 33 - _i;
    carso_model *model = create(&options);
    const cso_shape *last = &model->classifier->value[model->tap[model->tap_count - 1]].shape;
    ck_assert_int_eq(last->dimension[1], (options.image_height + 3) / 4);
    ck_assert_int_eq(last->dimension[2], (options.image_width + 3) / 4);
    ck_assert_int_eq(model->tap_count, 3 * 4 + 2);
    carso_model_destroy(model);
}
END_TEST

static void refused(const carso_model_options *options, const char *part)
{
    carso_model *model = (carso_model *)&model;
    ck_assert_int_eq(carso_model_create(context, options, &model), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(model);
    ck_assert_msg(message_has(part), "the message lacks '%s'", part);
}

START_TEST(test_refused)
{
    static const char *const names[4] = {"a", "b", NULL, "d"};
    static const char *const not_text[4] = {"a", "b", "\xff\xfe", "d"};
    const carso_model_options good = small_options();
    carso_model_options options;
#define REFUSED(field, value, part)                                                                                    \
    options = good;                                                                                                    \
    options.field = value;                                                                                             \
    refused(&options, part)
    REFUSED(architecture, 17, "architecture 17");
    REFUSED(channels, 2, "2 image channels");
    REFUSED(channels, 0, "0 image channels");
    REFUSED(image_height, 7, "7x28");
    REFUSED(image_width, 5000, "28x5000");
    REFUSED(classes, 1, "1 classes");
    REFUSED(classes, 0, "0 classes");
    REFUSED(classes, INT32_MIN, "classes");
    REFUSED(mean[0], NAN, "mean");
    REFUSED(deviation[0], 0.0f, "deviation 0");
    REFUSED(deviation[0], -1.0f, "deviation -1");
    REFUSED(deviation[0], INFINITY, "deviation");
    REFUSED(width, -1, "width -1");
    REFUSED(width, 65, "width 65");
    REFUSED(class_names, names, "class 2");
    REFUSED(class_names, not_text, "class 2");
    REFUSED(struct_size, 0, "struct_size");
    options = good;
    options.architecture = CARSO_WIDE_RESNET;
    options.depth = 27;
    refused(&options, "depth 27");
    options.depth = 4;
    refused(&options, "depth 4");
    options.depth = 10;
    options.width = 65;
    refused(&options, "width 65");
#undef REFUSED
    carso_model *model = (carso_model *)&options;
    ck_assert_int_eq(carso_model_create(NULL, &good, &model), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(model);
    ck_assert_int_eq(carso_model_create(context, &good, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_model_add_purifier(NULL, NULL, &model), CARSO_ERROR_INVALID_ARGUMENT);
    carso_model_destroy(NULL);
    ck_assert_ptr_null(carso_model_describe(NULL));
    ck_assert_ptr_null(carso_model_class_name(NULL, 0));
    ck_assert_ptr_null(carso_model_context(NULL));
}
END_TEST

START_TEST(test_describe)
{
    static const char *const names[4] = {"shirt", "caf\xc3\xa9", "\"quoted\"", ""};
    carso_model_options options = small_options();
    options.class_names = names;
    carso_model *classifier = create(&options), *model = NULL;
    carso_purifier_options purifier;
    json_t *json = NULL;
    carso_purifier_options_init(&purifier, sizeof purifier);
    purifier.seed_channels = 16;
    require(carso_model_add_purifier(classifier, &purifier, &model));
    const char *text = carso_model_describe(model);
    ck_assert_ptr_nonnull(text);
    ck_assert_ptr_eq(carso_model_describe(model), text);
    require(cso_json_parse(context, text, strlen(text), "description", &json));
    for (size_t i = 0; i < 4; i++) {
        ck_assert_str_eq(json_string_value(json_array_get(json_object_get(json, "classes"), i)), names[i]);
    }
    ck_assert_uint_eq(json_array_size(json_object_get(json, "taps")), 3);
    const json_t *layers = json_object_get(json_object_get(json, "classifier"), "layers");
    ck_assert_int_eq((int)json_array_size(layers), model->classifier->node_count);
    const json_t *layer = json_array_get(layers, 1);
    ck_assert_str_eq(json_string_value(json_object_get(layer, "name")), "conv_0");
    ck_assert_str_eq(json_string_value(json_object_get(layer, "kind")), "convolution");
    ck_assert_int_eq(json_integer_value(json_object_get(layer, "parameters")), 16 * 9 + 16);
    ck_assert_int_eq(json_integer_value(json_object_get(layer, "multiply_adds")), 16 * 9 * 28 * 28);
    const json_t *part = json_object_get(json, "purifier");
    ck_assert_int_eq(json_integer_value(json_object_get(part, "condition_size")), 512);
    ck_assert_uint_gt(json_array_size(json_object_get(json_object_get(part, "encoder"), "layers")), 0);
    ck_assert_ptr_null(carso_model_class_name(model, 4));
    ck_assert_str_eq(carso_model_class_name(model, 1), names[1]);
    json_decref(json);
    carso_model_destroy(classifier);
    carso_model_destroy(model);
}
END_TEST

/* The classifier is shared: the first model may go, and its weights stay. */
START_TEST(test_shared_classifier_outlives_its_model)
{
    const carso_model_options options = small_options();
    carso_model *classifier = create(&options), *model = NULL;
    double before[4], after[4];
    classify(classifier, before);
    carso_purifier_options purifier;
    carso_purifier_options_init(&purifier, sizeof purifier);
    purifier.seed_channels = 16;
    require(carso_model_add_purifier(classifier, &purifier, &model));
    ck_assert_ptr_eq(model->classifier, classifier->classifier);
    carso_model_destroy(classifier);
    classify(model, after);
    ck_assert_mem_eq(before, after, sizeof before);
    carso_model_destroy(model);
}
END_TEST

START_TEST(test_model_outlives_the_callers_context)
{
    counting_allocator own = {0};
    const carso_model_options options = small_options();
    carso_context *other = counting_context(&own);
    carso_model *model = NULL;
    double logits[4];
    ck_assert_ptr_nonnull(other);
    ck_assert_int_eq(carso_model_create(other, &options, &model), CARSO_OK);
    carso_context_destroy(other);
    classify(model, logits);
    ck_assert(isfinite(logits[0]));
    carso_model_destroy(model);
    ck_assert_int_eq(own.held, 0);
}
END_TEST

START_TEST(test_seeds)
{
    carso_model_options options = small_options();
    double logits[3][4];
    for (int i = 0; i < 3; i++) {
        options.seed = i == 2;
        carso_model *model = create(&options);
        classify(model, logits[i]);
        carso_model_destroy(model);
    }
    ck_assert_mem_eq(logits[0], logits[1], sizeof logits[0]);
    ck_assert_int_ne(memcmp(logits[0], logits[2], sizeof logits[0]), 0);
}
END_TEST

START_TEST(test_derive_classifier)
{
    carso_model *model = small_defence(), *derived = NULL;
    cso_graph *graph = NULL;
    json_t *provenance = json_pack("{s:s, s:i}", "data", "none", "steps", 3);
    double before[4], same[4], after[4];
    classify(model, before);
    require(cso_graph_clone_trainable(model->classifier, true, &graph));
    const int bias = cso_graph_find_parameter(graph, "logits.bias");
    cso_parameter_host(graph->parameter[bias].parameter)[1] += 2.0f;
    require(cso_model_derive(model, graph, NULL, provenance, &derived));
    json_decref(provenance);
    cso_graph_destroy(graph);
    /* The purifier was trained for the other classifier. */
    ck_assert_ptr_null(derived->purifier);
    ck_assert_int_eq(json_integer_value(json_object_get(derived->provenance, "steps")), 3);
    classify(derived, after);
    classify(model, same);
    ck_assert_mem_eq(before, same, sizeof before);
    for (int i = 0; i < 4; i++) {
        ck_assert_double_eq_tol(after[i], before[i] + (i == 1 ? 2.0 : 0.0), 1e-5);
    }
    for (int i = 0; i < derived->classifier->parameter_count; i++) {
        ck_assert(derived->classifier->parameter[i].parameter->constant);
    }
    carso_model_destroy(model);
    classify(derived, after);
    carso_model_destroy(derived);
}
END_TEST

START_TEST(test_derive_purifier)
{
    carso_model *model = small_defence(), *derived = NULL, *kept = NULL;
    cso_purifier purifier = *model->purifier;
    purifier.encoder = NULL;
    require(cso_graph_clone_trainable(model->purifier->condition, true, &purifier.condition));
    require(cso_graph_clone_trainable(model->purifier->decoder, true, &purifier.decoder));
    const int index = cso_graph_find_parameter(purifier.decoder, "decoder.5.bias");
    cso_parameter_host(purifier.decoder->parameter[index].parameter)[0] = 3.0f;
    require(cso_model_derive(model, NULL, &purifier, NULL, &derived));
    cso_graph_destroy(purifier.condition);
    cso_graph_destroy(purifier.decoder);
    ck_assert_ptr_null(derived->purifier->encoder);
    ck_assert_ptr_eq(derived->classifier, model->classifier);
    ck_assert_float_eq(derived->purifier->decoder->parameter[index].parameter->host[0], 3.0f);
    for (int i = 0; i < derived->purifier->decoder->node_count; i++) {
        ck_assert(!derived->purifier->decoder->node[i].attributes.training);
    }
    ck_assert_float_ne(model->purifier->decoder->parameter[index].parameter->host[0], 3.0f);

    require(cso_model_derive(derived, NULL, NULL, NULL, &kept));
    carso_model_destroy(model);
    carso_model_destroy(derived);
    ck_assert_float_eq(kept->purifier->decoder->parameter[index].parameter->host[0], 3.0f);
    carso_model_destroy(kept);
}
END_TEST

START_TEST(test_programs)
{
    carso_model *model = small_defence();
    for (int which = 0; which < CSO_PROGRAM_COUNT; which++) {
        cso_program *program = NULL, *again = NULL;
        require(cso_model_get_program(model, (cso_model_program)which, &program));
        require(cso_model_get_program(model, (cso_model_program)which, &again));
        ck_assert_ptr_eq(program, again);
    }
    carso_model_destroy(model);
    const carso_model_options options = small_options();
    cso_program *program = (cso_program *)&options;
    model = create(&options);
    ck_assert_int_eq(cso_model_get_program(model, CSO_PROGRAM_DRAW, &program), CARSO_ERROR_UNSUPPORTED);
    ck_assert_ptr_null(program);
    ck_assert(message_has("no purifier"));
    require(cso_model_get_program(model, CSO_PROGRAM_CLASSIFY, &program));
    carso_model_destroy(model);
}
END_TEST

static void *get_all_programs(void *user)
{
    for (int which = 0; which < CSO_PROGRAM_COUNT; which++) {
        cso_program *program = NULL;
        if (cso_model_get_program(user, (cso_model_program)which, &program) != CARSO_OK ||
            carso_model_describe(user) == NULL) {
            return user;
        }
    }
    return NULL;
}

START_TEST(test_threads_share_programs)
{
    pthread_t thread[4];
    carso_model *model = small_defence();
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_create(&thread[i], NULL, get_all_programs, model), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *failed = NULL;
        ck_assert_int_eq(pthread_join(thread[i], &failed), 0);
        ck_assert_ptr_null(failed);
    }
    carso_model_destroy(model);
}
END_TEST

static carso_status life(void)
{
    static const char *const names[4] = {"a", "b", "c", "d"};
    carso_model_options options = small_options();
    carso_purifier_options purifier;
    carso_model *classifier = NULL, *model = NULL, *derived = NULL;
    cso_graph *graph = NULL;
    cso_program *program = NULL;
    options.class_names = names;
    carso_purifier_options_init(&purifier, sizeof purifier);
    purifier.condition_size = purifier.latent_size = 2;
    purifier.seed_channels = 16;
    carso_status status = carso_model_create(context, &options, &classifier);
    if (status == CARSO_OK) {
        status = carso_model_add_purifier(classifier, &purifier, &model);
    }
    if (status == CARSO_OK) {
        status = cso_graph_clone_trainable(classifier->classifier, false, &graph);
    }
    if (status == CARSO_OK) {
        status = cso_model_derive(model, graph, model->purifier, NULL, &derived);
    }
    if (status == CARSO_OK && carso_model_describe(derived) == NULL) {
        status = CARSO_ERROR_OUT_OF_MEMORY;
    }
    for (int which = 0; which < CSO_PROGRAM_COUNT && status == CARSO_OK; which++) {
        status = cso_model_get_program(derived, (cso_model_program)which, &program);
    }
    cso_graph_destroy(graph);
    carso_model_destroy(classifier);
    carso_model_destroy(model);
    carso_model_destroy(derived);
    return status;
}

START_TEST(test_each_allocation_failing)
{
    const long held = counts.held;
    carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
    for (long failing = 1; status != CARSO_OK; failing++) {
        counts.made = 0;
        counts.failing = failing;
        status = life();
        ck_assert_msg(status == CARSO_OK || status == CARSO_ERROR_OUT_OF_MEMORY, "allocation %ld: %s", failing,
                      carso_status_str(status));
        ck_assert_int_eq(counts.held, held);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model");
    TCase *tcase = tcase_create("model");
    tcase_set_timeout(tcase, 100);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, test_defaults);
    tcase_add_test(tcase, test_info_of_the_papers_classifier);
    tcase_add_test(tcase, test_info_struct_sizes);
    tcase_add_loop_test(tcase, test_wide_resnet_takes_any_size, 0, 4);
    tcase_add_test(tcase, test_refused);
    tcase_add_test(tcase, test_describe);
    tcase_add_test(tcase, test_shared_classifier_outlives_its_model);
    tcase_add_test(tcase, test_model_outlives_the_callers_context);
    tcase_add_test(tcase, test_seeds);
    tcase_add_test(tcase, test_derive_classifier);
    tcase_add_test(tcase, test_derive_purifier);
    tcase_add_test(tcase, test_programs);
    tcase_add_test(tcase, test_threads_share_programs);
    tcase_add_test(tcase, test_each_allocation_failing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
