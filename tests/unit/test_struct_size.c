/* SPDX-License-Identifier: BSD-2-Clause */
/* Options and information of the size that an older or a newer application knows. */
#include <check.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "carso/carso.h"

typedef struct initialiser {
    const char *name;
    void (*fill)(void *options, size_t size);
    size_t size;
} initialiser;

/* Calling through another function type is undefined; so each has a wrapper. */
#define INITIALISER(type)                               \
    static void fill_##type(void *options, size_t size) \
    {                                                   \
        carso_##type##_init(options, size);             \
    }
INITIALISER(context_options)
INITIALISER(images)
INITIALISER(model_options)
INITIALISER(purifier_options)
INITIALISER(predict_options)
INITIALISER(gradient_options)
INITIALISER(attack_options)
INITIALISER(read_options)
INITIALISER(dataset_options)
INITIALISER(reader_options)
INITIALISER(purifier_training_options)
INITIALISER(classifier_training_options)
#define ENTRY(type) {#type, fill_##type, sizeof(carso_##type)}

static const initialiser initialisers[] = {
    ENTRY(context_options),
    ENTRY(images),
    ENTRY(model_options),
    ENTRY(purifier_options),
    ENTRY(predict_options),
    ENTRY(gradient_options),
    ENTRY(attack_options),
    ENTRY(read_options),
    ENTRY(dataset_options),
    ENTRY(reader_options),
    ENTRY(purifier_training_options),
    ENTRY(classifier_training_options),
};

#define GUARD 0xa5
#define ROOM 512

static size_t stated_size(const unsigned char *options)
{
    size_t size;
    memcpy(&size, options, sizeof size);
    return size;
}

START_TEST(initialisers_write_what_they_are_told)
{
    const initialiser *const checked = &initialisers[_i];
    unsigned char whole[ROOM], part[ROOM];
    ck_assert_uint_le(checked->size + 64, sizeof whole);
    memset(whole, GUARD, sizeof whole);
    checked->fill(whole, checked->size);
    ck_assert_uint_eq(stated_size(whole), checked->size);
    for (size_t i = checked->size; i < sizeof whole; i++) {
        ck_assert_msg(whole[i] == GUARD, "%s: byte %zu was written", checked->name, i);
    }

    for (size_t size = 0; size < checked->size + 64; size++) {
        memset(part, GUARD, sizeof part);
        checked->fill(part, size);
        const size_t written = size < sizeof(size_t) ? 0 : size;
        if (written > 0) {
            ck_assert_uint_eq(stated_size(part), size);
        }
        for (size_t i = sizeof(size_t); i < written; i++) {
            ck_assert_msg(part[i] == (i < checked->size ? whole[i] : 0), "%s of %zu bytes: byte %zu is %u",
                          checked->name, size, i, part[i]);
        }
        for (size_t i = written; i < sizeof part; i++) {
            ck_assert_msg(part[i] == GUARD, "%s of %zu bytes: byte %zu was written", checked->name, size, i);
        }
    }
    checked->fill(NULL, checked->size);
}
END_TEST

static carso_context *make_context(void)
{
    carso_context_options options;
    carso_context *context = NULL;
    carso_context_options_init(&options, sizeof options);
    options.backend = "reference";
    options.threads = 1;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
    return context;
}

static carso_model *make_model(carso_context *context)
{
    carso_model_options options;
    carso_model *model = NULL;
    carso_model_options_init(&options, sizeof options);
    options.channels = 1;
    options.image_height = options.image_width = 28;
    options.classes = 4;
    ck_assert_int_eq(carso_model_create(context, &options, &model), CARSO_OK);
    return model;
}

/* The struct of an older release: what lies beyond its size is not the library's, whatever it holds. */
START_TEST(an_older_application_s_options_work)
{
    carso_context_options context_options;
    carso_context *context = NULL;
    memset(&context_options, GUARD, sizeof context_options);
    carso_context_options_init(&context_options, offsetof(carso_context_options, log_level));
    context_options.backend = "reference";
    context_options.threads = 2;
    ck_assert_int_eq(carso_context_create(&context_options, &context), CARSO_OK);
    ck_assert_int_eq(carso_context_threads(context), 2);

    carso_model_options model_options;
    carso_model *model = NULL;
    memset(&model_options, GUARD, sizeof model_options);
    carso_model_options_init(&model_options, offsetof(carso_model_options, mean));
    model_options.channels = 1;
    model_options.image_height = model_options.image_width = 28;
    model_options.classes = 4;
    ck_assert_int_eq(carso_model_create(context, &model_options, &model), CARSO_OK);

    static const uint8_t pixels[28 * 28] = {0};
    carso_images images;
    memset(&images, GUARD, sizeof images);
    carso_images_init(&images, offsetof(carso_images, pixel_stride));
    images.data = pixels;
    images.width = images.height = 28;
    images.order = CARSO_ORDER_GRAY;
    carso_predict_options predict_options;
    carso_prediction *prediction = NULL;
    memset(&predict_options, GUARD, sizeof predict_options);
    carso_predict_options_init(&predict_options, offsetof(carso_predict_options, keep_reconstructions));
    ck_assert_int_eq(carso_predict(model, &images, &predict_options, &prediction), CARSO_OK);
    ck_assert_uint_eq(carso_prediction_count(prediction), 1);
    carso_prediction_destroy(prediction);
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

START_TEST(a_newer_application_s_options_work)
{
    struct {
        carso_model_options known;
        uint64_t appended;
    } options;
    carso_context *const context = make_context();
    carso_model *model = NULL;
    memset(&options, GUARD, sizeof options);
    carso_model_options_init(&options.known, sizeof options);
    ck_assert_uint_eq(options.known.struct_size, sizeof options);
    ck_assert_uint_eq(options.appended, 0);
    options.known.channels = 1;
    options.known.image_height = options.known.image_width = 28;
    options.appended = 7;
    ck_assert_int_eq(carso_model_create(context, &options.known, &model), CARSO_OK);
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

START_TEST(information_is_cut_or_extended_to_the_caller_s_size)
{
    carso_context *const context = make_context();
    carso_model *const model = make_model(context);
    union {
        carso_model_info known;
        unsigned char bytes[sizeof(carso_model_info) + 32];
    } info;
    const size_t older = offsetof(carso_model_info, has_purifier);
    memset(&info, GUARD, sizeof info);
    info.known.struct_size = older;
    ck_assert_int_eq(carso_model_get_info(model, &info.known), CARSO_OK);
    ck_assert_uint_eq(info.known.struct_size, older);
    ck_assert_int_eq(info.known.classes, 4);
    for (size_t i = older; i < sizeof info; i++) {
        ck_assert_msg(info.bytes[i] == GUARD, "byte %zu was written", i);
    }

    memset(&info, GUARD, sizeof info);
    info.known.struct_size = sizeof info;
    ck_assert_int_eq(carso_model_get_info(model, &info.known), CARSO_OK);
    ck_assert_int_eq(info.known.has_purifier, 0);
    for (size_t i = sizeof(carso_model_info); i < sizeof info; i++) {
        ck_assert_msg(info.bytes[i] == 0, "byte %zu is %u", i, info.bytes[i]);
    }
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

START_TEST(a_size_that_was_never_set_is_refused)
{
    static const size_t wrong[] = {0, 1, sizeof(size_t) - 1, (size_t)-1};
    carso_context *const context = make_context();
    carso_model *const model = make_model(context);
    carso_model_options options;
    carso_model_options_init(&options, sizeof options);
    options.struct_size = wrong[_i];
    carso_model *other = NULL;
    ck_assert_int_eq(carso_model_create(context, &options, &other), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(other);
    carso_model_info info;
    info.struct_size = wrong[_i];
    ck_assert_int_eq(carso_model_get_info(model, &info), CARSO_ERROR_INVALID_ARGUMENT);
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("struct size");
    TCase *const layout = tcase_create("layout");
    suite_add_tcase(suite, layout);
    TCase *const sizes = tcase_create("sizes");
    tcase_add_loop_test(sizes, initialisers_write_what_they_are_told, 0,
                        (int)(sizeof initialisers / sizeof *initialisers));
    tcase_add_test(sizes, an_older_application_s_options_work);
    tcase_add_test(sizes, a_newer_application_s_options_work);
    tcase_add_test(sizes, information_is_cut_or_extended_to_the_caller_s_size);
    tcase_add_loop_test(sizes, a_size_that_was_never_set_is_refused, 0, 4);
    suite_add_tcase(suite, sizes);
    SRunner *const runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
