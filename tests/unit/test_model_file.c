/* SPDX-License-Identifier: BSD-2-Clause */
/* Model files: what is written comes back, and what is damaged or hostile is refused with its reason. */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "model_file_case.h"

static void draw(carso_model *model, double *logits)
{
    static const uint64_t image_index[1] = {3};
    float image[28 * 28];
    for (int i = 0; i < 28 * 28; i++) {
        image[i] = (float)(i % 17) / 16.0f;
    }
    const cso_run run = {.images = image,
                         .element = CSO_F32,
                         .count = 1,
                         .draws = 2,
                         .purpose = CSO_PURPOSE_LATENT,
                         .image_index = image_index,
                         .logits = logits};
    require(cso_run_defence(model, &run));
}

static void check_same(carso_model *actual)
{
    carso_model *expected = build();
    double expected_logits[2 * CLASSES], logits[2 * CLASSES];
    ck_assert_int_eq(actual->classes, CLASSES);
    ck_assert_int_eq(actual->channels, 1);
    ck_assert_int_eq(actual->height, 28);
    ck_assert_int_eq(actual->tap_count, 3);
    ck_assert_float_eq(actual->mean[0], 0.286f);
    ck_assert_float_eq(actual->deviation[0], 0.353f);
    for (int i = 0; i < CLASSES; i++) {
        ck_assert_str_eq(carso_model_class_name(actual, i), carso_model_class_name(expected, i));
    }
    ck_assert(json_equal(actual->provenance, expected->provenance));
    ck_assert_str_eq(carso_model_describe(actual), carso_model_describe(expected));
    draw(expected, expected_logits);
    draw(actual, logits);
    ck_assert_mem_eq(expected_logits, logits, sizeof logits);
    carso_model_destroy(expected);
}

START_TEST(test_round_trip)
{
    carso_model *model = NULL, *again = NULL;
    size_t size, second_size;
    require(carso_model_load(context, scratch_file(MODEL), &model));
    check_same(model);
    require(carso_model_save(model, scratch_file("again.safetensors")));
    require(carso_model_load(context, scratch_file("again.safetensors"), &again));
    carso_model_destroy(model);
    check_same(again);
    carso_model_destroy(again);
    unsigned char *first = scratch_read(MODEL, &size), *second = scratch_read("again.safetensors", &second_size);
    ck_assert_uint_eq(size, second_size);
    ck_assert_mem_eq(first, second, size);
    free(first);
    free(second);
}
END_TEST

START_TEST(test_from_memory)
{
    carso_model *model = NULL;
    size_t size;
    unsigned char *data = scratch_read(MODEL, &size);
    require(carso_model_load_memory(context, data, size, &model));
    check_same(model);
    carso_model_destroy(model);
    free(data);
}
END_TEST

START_TEST(test_without_purifier)
{
    carso_model_options options;
    carso_model *model = NULL, *loaded = NULL;
    carso_model_options_init(&options, sizeof options);
    options.architecture = CARSO_WIDE_RESNET;
    options.depth = 10;
    options.width = 1;
    options.image_height = 30;
    require(carso_model_create(context, &options, &model));
    require(carso_model_save(model, scratch_file(CHANGED)));
    require(carso_model_load(context, scratch_file(CHANGED), &loaded));
    ck_assert_ptr_null(loaded->purifier);
    ck_assert_ptr_null(loaded->provenance);
    ck_assert_str_eq(carso_model_class_name(loaded, 9), "9");
    ck_assert_str_eq(carso_model_describe(loaded), carso_model_describe(model));
    carso_model_destroy(model);
    carso_model_destroy(loaded);
}
END_TEST

START_TEST(test_checkpoint_tensors_are_passed_over)
{
    static const float number[2] = {NAN, 1.0f};
    static const int64_t step = 7;
    static const char *const key[] = {"checkpoint"};
    static const char *const value[] = {"{\"step\":7}"};
    const cso_tensor_write extra[2] = {
        {.name = "checkpoint.moment", .type = CSO_TENSOR_F32, .rank = 1, .dimension = {2}, .data = number},
        {.name = "checkpoint.step", .type = CSO_TENSOR_I64, .rank = 1, .dimension = {1}, .data = &step},
    };
    carso_model *model = build(), *loaded = NULL;
    cso_safetensors *file = NULL;
    require(cso_model_write(model, scratch_file(CHANGED), extra, 2, key, value, 1));
    carso_model_destroy(model);
    require(carso_model_load(context, scratch_file(CHANGED), &loaded));
    check_same(loaded);
    carso_model_destroy(loaded);
    require(cso_safetensors_open(context, scratch_file(CHANGED), &file));
    ck_assert_str_eq(cso_safetensors_metadata(file, "checkpoint"), value[0]);
    ck_assert_int_eq(*(const int64_t *)cso_safetensors_find(file, "checkpoint.step")->data, 7);
    cso_safetensors_release(file);
}
END_TEST

START_TEST(test_without_encoder)
{
    static model_parts parts;
    carso_model *model = NULL, *again = NULL;
    double expected[2 * CLASSES], logits[2 * CLASSES];
    take_apart(&parts);
    drop_prefix(&parts, "purifier.input_compressor.");
    drop_prefix(&parts, "purifier.joint_fcn_compressor.");
    drop_prefix(&parts, "purifier.to_");
    set(&parts, "purifier", "{\"condition_size\":4,\"latent_size\":2,\"seed_channels\":16,\"encoder\":false}");
    require(reload(&parts, &model));
    ck_assert_ptr_null(model->purifier->encoder);
    draw(model, logits);
    require(carso_model_save(model, scratch_file("again.safetensors")));
    carso_model_destroy(model);
    require(carso_model_load(context, scratch_file("again.safetensors"), &again));
    ck_assert_ptr_null(again->purifier->encoder);
    carso_model_destroy(again);
    model = build();
    draw(model, expected);
    ck_assert_mem_eq(expected, logits, sizeof logits);
    carso_model_destroy(model);
}
END_TEST

START_TEST(test_paths)
{
    carso_model *model = build(), *none = (carso_model *)&counts;
    ck_assert_int_eq(carso_model_load(context, scratch_file("nothing"), &none), CARSO_ERROR_NOT_FOUND);
    ck_assert_ptr_null(none);
    ck_assert(message_has("nothing"));
    ck_assert_int_ne(carso_model_load(context, scratch_path, &none), CARSO_OK);
    ck_assert_int_eq(carso_model_load(context, NULL, &none), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_model_load(NULL, scratch_file(MODEL), &none), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_model_load_memory(context, NULL, 10, &none), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_model_save(model, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_model_save(NULL, scratch_file(MODEL)), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_ne(carso_model_save(model, scratch_file("no folder/model")), CARSO_OK);
    ck_assert_int_eq(scratch_entries(), 1);
    carso_model_destroy(model);
}
END_TEST

START_TEST(test_each_allocation_failing)
{
    carso_model *model = build();
    const long held = counts.held;
    carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
    for (long failing = 1; status != CARSO_OK; failing++) {
        carso_model *loaded = NULL;
        counts.made = 0;
        counts.failing = failing;
        status = carso_model_save(model, scratch_file(CHANGED));
        if (status == CARSO_OK) {
            status = carso_model_load(context, scratch_file(CHANGED), &loaded);
        }
        ck_assert_msg(status == CARSO_OK || status == CARSO_ERROR_OUT_OF_MEMORY, "allocation %ld: %s", failing,
                      carso_status_str(status));
        carso_model_destroy(loaded);
        ck_assert_int_eq(counts.held, held);
    }
    counts.failing = 0;
    carso_model_destroy(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model file");
    TCase *tcase = tcase_create("model file");
    tcase_set_timeout(tcase, 100);
    tcase_add_checked_fixture(tcase, set_up_with_model, tear_down_with_folder);
    tcase_add_test(tcase, test_round_trip);
    tcase_add_test(tcase, test_from_memory);
    tcase_add_test(tcase, test_without_purifier);
    tcase_add_test(tcase, test_checkpoint_tensors_are_passed_over);
    tcase_add_test(tcase, test_without_encoder);
    tcase_add_test(tcase, test_paths);
    tcase_add_test(tcase, test_each_allocation_failing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
