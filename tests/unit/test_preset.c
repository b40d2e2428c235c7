/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The paper's scenarios: parameters counted by hand from its tables, and the settings of section 5.1 and table 14.
 * The purifiers are built on memory that is reserved but never touched: with weights they would take up to 1.3 GB.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "carso/carso.h"
#include "model/model.h"

/* Of the largest tensor: (c)'s representation encoder. */
#define RESERVED_BYTES ((size_t)2 << 30)

/* A BatchNorm has weight, bias, running mean and running variance for each channel. */
#define BATCH_NORM(channels) (4 * (uint64_t)(channels))
#define CONVOLUTION(in, out, kernel) ((uint64_t)(in) * (out) * (kernel) * (kernel))

typedef struct scenario {
    const char *name;
    int side, classes, condition, latent;
    uint64_t classifier, purifier;
} scenario;

/* Table 5: a group of four blocks. */
static uint64_t group_by_hand(int in, int out)
{
    const uint64_t first = BATCH_NORM(in) + CONVOLUTION(in, out, 3) + BATCH_NORM(out) + CONVOLUTION(out, out, 3) +
                           CONVOLUTION(in, out, 1);
    const uint64_t other = 2 * BATCH_NORM(out) + 2 * CONVOLUTION(out, out, 3);
    return first + 3 * other;
}

static uint64_t classifier_by_hand(int classes)
{
    return CONVOLUTION(3, 16, 3) + group_by_hand(16, 160) + group_by_hand(160, 320) + group_by_hand(320, 640) +
           BATCH_NORM(640) + 640 * (uint64_t)classes + (uint64_t)classes;
}

/* Tables 6 and 7: three or, at 64x64, four layers, each halving the channels. All taps' channels are multiples of 16. */
static uint64_t tap_encoder_by_hand(int channels, int layers)
{
    uint64_t sum = 0;
    for (int i = 0; i < layers; i++) {
        sum += CONVOLUTION(channels >> i, channels >> (i + 1), 3) + BATCH_NORM(channels >> (i + 1));
    }
    return sum;
}

static uint64_t purifier_by_hand(int side, int condition, int latent)
{
    const int layers = side == 64 ? 4 : 3, lost = 2 * layers, seed = side == 64 ? 4 : 3;
    const uint64_t c = (uint64_t)condition, l = (uint64_t)latent;
    /* 8 taps of the first group, 9 of the second and of the third, which have a shortcut. */
    static const int taps[3] = {8, 9, 9};
    uint64_t sum = 0, features = 0;
    for (int i = 0; i < 3; i++) {
        const int channels = 160 << i, tap_side = (side >> i) - lost;
        sum += (uint64_t)taps[i] * tap_encoder_by_hand(channels, layers);
        features += (uint64_t)taps[i] * (uint64_t)(channels >> layers) * (uint64_t)(tap_side * tap_side);
    }
    if (side == 32) {
        ck_assert_uint_eq(features, 147040); /* as the paper's (a) has it */
    }
    sum += features * c + BATCH_NORM(c);
    /* Table 8: input encoder 3 -> 6 -> 12, each halving the sides; table 9: joint encoder, mean, log-variance. */
    sum += CONVOLUTION(3, 6, 3) + BATCH_NORM(6) + CONVOLUTION(6, 12, 3) + BATCH_NORM(12);
    sum += (12 * (uint64_t)(side / 4) * (uint64_t)(side / 4) + c) * l + BATCH_NORM(l) + 2 * (l * l + l);
    /* Tables 10 and 11. */
    const uint64_t seed_features = 256 * (uint64_t)(seed * seed);
    sum += (l + c) * seed_features + seed_features;
    sum += CONVOLUTION(256, 256, 3) + BATCH_NORM(256) + CONVOLUTION(256, 128, 3) + BATCH_NORM(128) +
           CONVOLUTION(128, 64, 3) + BATCH_NORM(64) + CONVOLUTION(64, 32, 3) + BATCH_NORM(32);
    sum += CONVOLUTION(32, 3, side == 64 ? 3 : 2) + 3;
    return sum;
}

/* The totals written out, so that a slip in the formulas above shows too. */
static const scenario scenarios[] = {
    {"cifar10", 32, 10, 512, 128, 36497146, 106401173},
    {"cifar100", 32, 100, 512, 128, 36554836, 106401173},
    {"tinyimagenet", 64, 200, 768, 192, 36618936, 324530053},
};

static void *reserved;

static carso_status untouched_parameter(void *user, const char *name, int rank, const int64_t *dimension,
                                        cso_parameter **out)
{
    size_t bytes = sizeof(float);
    (void)name;
    for (int i = 0; i < rank; i++) {
        bytes *= (size_t)dimension[i];
    }
    ck_assert_uint_le(bytes, RESERVED_BYTES);
    return cso_parameter_create_mapped(user, rank, dimension, reserved, NULL, out);
}

START_TEST(parameters_are_those_of_the_tables)
{
    const scenario *expected = &scenarios[_i];
    carso_context *context = NULL;
    carso_model_options classifier;
    carso_purifier_options purifier;
    carso_model *model = NULL;
    cso_purifier *built = NULL;
    ck_assert_uint_eq(classifier_by_hand(expected->classes), expected->classifier);
    ck_assert_uint_eq(purifier_by_hand(expected->side, expected->condition, expected->latent), expected->purifier);

    reserved = mmap(NULL, RESERVED_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(reserved, MAP_FAILED);
    ck_assert_int_eq(carso_context_create(NULL, &context), CARSO_OK);
    ck_assert_int_eq(carso_model_options_preset(&classifier, sizeof classifier, expected->name), CARSO_OK);
    ck_assert_int_eq(carso_purifier_options_preset(&purifier, sizeof purifier, expected->name), CARSO_OK);
    ck_assert_int_eq(carso_model_create(context, &classifier, &model), CARSO_OK);
    ck_assert_uint_eq(cso_graph_parameter_numbers(model->classifier), expected->classifier);
    ck_assert_int_eq(model->tap_count, 26);
    ck_assert_int_eq(cso_purifier_build(context, model, &purifier, untouched_parameter, context, true, &built),
                     CARSO_OK);
    ck_assert_uint_eq(cso_graph_parameter_numbers(built->condition) + cso_graph_parameter_numbers(built->encoder) +
                          cso_graph_parameter_numbers(built->decoder),
                      expected->purifier);
    ck_assert_int_eq(built->condition_size, expected->condition);
    ck_assert_int_eq(built->latent_size, expected->latent);
    const int image = cso_graph_find_value(built->decoder, "reconstruction");
    ck_assert_int_ge(image, 0);
    ck_assert_int_eq(built->decoder->value[image].shape.dimension[1], expected->side);
    if (_i == 0) {
        ck_assert_double_eq_tol((double)cso_graph_multiply_adds(model->classifier), 5.25e9, .01e9);
    }
    cso_purifier_destroy(context, built);
    carso_model_destroy(model);
    carso_context_destroy(context);
    munmap(reserved, RESERVED_BYTES);
}
END_TEST

START_TEST(training_is_that_of_table_14)
{
    static const struct {
        int32_t epochs, batch;
        double fraction, peak, end, warm_up, plateau, annealing, beta_start, beta_full;
    } table[3] = {{200, 5120, .5, .064, 4.346e-4, 25, 25, 150, 25, 34},
                  {200, 2560, .15, .064, 4.346e-4, 25, 25, 150, 25, 34},
                  {250, 1024, .01, .0128, 1.378e-4, 31, 31, 188, 32, 43}};
    carso_purifier_training_options options;
    int32_t batch = 0;
    ck_assert_int_eq(carso_purifier_training_options_preset(&options, sizeof options, scenarios[_i].name, &batch),
                     CARSO_OK);
    ck_assert_uint_eq(options.struct_size, sizeof options);
    ck_assert_int_eq(options.epochs, table[_i].epochs);
    ck_assert_int_eq(batch, table[_i].batch);
    ck_assert_double_eq(options.adversarial_fraction, table[_i].fraction);
    ck_assert_double_eq(options.learning_rate_start, 5e-9);
    ck_assert_double_eq(options.learning_rate_peak, table[_i].peak);
    ck_assert_double_eq(options.learning_rate_end, table[_i].end);
    ck_assert_double_eq(options.warm_up_epochs, table[_i].warm_up);
    ck_assert_double_eq(options.plateau_epochs, table[_i].plateau);
    ck_assert_double_eq(options.annealing_epochs, table[_i].annealing);
    ck_assert_double_eq(options.warm_up_epochs + options.plateau_epochs + options.annealing_epochs, options.epochs);
    ck_assert_double_eq(options.beta_start_epoch, table[_i].beta_start);
    ck_assert_double_eq(options.beta_full_epoch, table[_i].beta_full);
    ck_assert_double_eq(options.beta_final, 1);
    ck_assert_double_eq(options.epsilon, 8. / 255);
    ck_assert_int_eq(options.pgd_steps, 40);
    ck_assert_double_eq(options.pgd_step_size, .01);
    ck_assert_int_eq(options.lookahead_steps, 6);
    ck_assert_double_eq(options.lookahead_rate, .8);
    ck_assert_int_eq(options.mean_loss, 0);
}
END_TEST

START_TEST(names)
{
    for (size_t i = 0; i < 3; i++) {
        ck_assert_str_eq(carso_preset_name(i), scenarios[i].name);
    }
    ck_assert_ptr_null(carso_preset_name(3));
    ck_assert_ptr_null(carso_preset_name(SIZE_MAX));

    carso_model_options options;
    memset(&options, 0x5a, sizeof options);
    const carso_model_options before = options;
    ck_assert_int_eq(carso_model_options_preset(&options, sizeof options, "cifar"), CARSO_ERROR_NOT_FOUND);
    ck_assert_int_eq(carso_model_options_preset(&options, sizeof options, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_model_options_preset(&options, 4, "cifar10"), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_model_options_preset(NULL, sizeof options, "cifar10"), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_mem_eq(&options, &before, sizeof options);
    carso_purifier_options purifier;
    ck_assert_int_eq(carso_purifier_options_preset(&purifier, sizeof purifier, ""), CARSO_ERROR_NOT_FOUND);
    carso_purifier_training_options training;
    ck_assert_int_eq(carso_purifier_training_options_preset(&training, sizeof training, "imagenet", NULL),
                     CARSO_ERROR_NOT_FOUND);
    ck_assert_int_eq(carso_purifier_training_options_preset(&training, sizeof training, "cifar10", NULL), CARSO_OK);
}
END_TEST

/* An application of another release has a struct of another size. */
START_TEST(sizes_of_structs)
{
    struct {
        carso_model_options options;
        uint64_t behind;
    } wide = {.behind = 7};
    ck_assert_int_eq(carso_model_options_preset(&wide.options, offsetof(carso_model_options, classes), "tinyimagenet"),
                     CARSO_OK);
    ck_assert_uint_eq(wide.options.struct_size, offsetof(carso_model_options, classes));
    ck_assert_int_eq(wide.options.image_width, 64);
    ck_assert_int_eq(wide.options.classes, 0);
    ck_assert_int_eq(carso_model_options_preset(&wide.options, sizeof wide, "tinyimagenet"), CARSO_OK);
    ck_assert_int_eq(wide.options.classes, 200);
    ck_assert_uint_eq(wide.behind, 0);
}
END_TEST

START_TEST(classes_have_their_names)
{
    carso_model_options options;
    ck_assert_int_eq(carso_model_options_preset(&options, sizeof options, "cifar10"), CARSO_OK);
    ck_assert_str_eq(options.class_names[9], "truck");
    ck_assert_int_eq(carso_model_options_preset(&options, sizeof options, "cifar100"), CARSO_OK);
    ck_assert_str_eq(options.class_names[99], "worm");
    for (int i = 1; i < 100; i++) /* the data set's labels are in the order of the names */ {
        ck_assert_int_lt(strcmp(options.class_names[i - 1], options.class_names[i]), 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("preset");
    TCase *tests = tcase_create("presets");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, parameters_are_those_of_the_tables, 0, 3);
    tcase_add_loop_test(tests, training_is_that_of_table_14, 0, 3);
    tcase_add_test(tests, names);
    tcase_add_test(tests, sizes_of_structs);
    tcase_add_test(tests, classes_have_their_names);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
