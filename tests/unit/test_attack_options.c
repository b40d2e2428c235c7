/* SPDX-License-Identifier: BSD-2-Clause */
/* Options and arguments of attacks: those that are refused, defaults, memory that is not there. */
#include <check.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "attack_case.h"

START_TEST(bad_numbers)
{
    static const double bad[] = {-0.1, NAN, INFINITY, -INFINITY};
    static const char *const text[] = {"-0.1", "nan", "inf", "-inf"};
    for (int k = 0; k < 4; k++) {
        options.epsilon = bad[k];
        refused(CARSO_ERROR_INVALID_ARGUMENT, "epsilon is ", text[k]);
        options.epsilon = 0.1;
        options.step_size = bad[k];
        refused(CARSO_ERROR_INVALID_ARGUMENT, "step_size is ", text[k]);
        options.step_size = 0.1;
        options.momentum = bad[k];
        refused(CARSO_ERROR_INVALID_ARGUMENT, "momentum is ", text[k]);
        options.momentum = 0;
    }
}
END_TEST

START_TEST(bad_options_of_the_other_methods)
{
    const int32_t targets[COUNT] = {1, 2, 0}, outside[COUNT] = {1, 0, 4};
    options.early_stop = 2; /* which PGD does not read */
    again(CARSO_OK);
    options.method = CARSO_ATTACK_APGD;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "early_stop is 2", "0 to 1");
    options.early_stop = 0;
    options.steps = -1;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "steps is -1", "carso_attack");
    options.method = CARSO_ATTACK_SQUARE;
    options.queries = 0;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "queries is 0", "1 to 1000000");
    options.queries = 10;
    again(CARSO_OK);
    options.steps = 4;
    options.method = CARSO_ATTACK_APGD_TARGETED;
    options.target_classes = 0;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "target_classes is 0", "carso_attack");
    options.target_classes = 9;
    options.targets = targets;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "APGD_TARGETED", "use APGD");
    options.method = CARSO_ATTACK_PGD;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "target 1 is 2", "other than the label");
    options.targets = outside;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "target 2 is 4", "0 to 3");
    options.targets = NULL;
    options.norm = CARSO_NORM_L2;
    options.method = CARSO_ATTACK_FGSM;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "FGSM", "use PGD");
    options.norm = CARSO_NORM_LINF;
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    options.method = CARSO_ATTACK_SQUARE;
    options.queries = 1000000;
    options.draws = 65536;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "1000000 queries", "4294967295 draws");
}
END_TEST

START_TEST(too_few_classes_for_dlr)
{
    static const int32_t low[COUNT] = {0, 1, 0}, targets[COUNT] = {1, 0, 1};
    static float gradient[ALL];
    carso_model *const with = model;
    carso_gradient_options how;
    carso_gradient_options_init(&how, sizeof how);
    for (int classes = 2; classes <= 4; classes++) {
        model = few_classes(classes);
        for (int loss = 0; loss <= CARSO_LOSS_CARSO_MARGIN; loss++) {
            const bool dlr =
                loss == CARSO_LOSS_DLR || loss == CARSO_LOSS_PROBABILITY_DLR || loss == CARSO_LOSS_CARSO_DLR;
            options.method = CARSO_ATTACK_PGD;
            options.steps = 1;
            options.loss = how.loss = loss;
            for (int targeted = 0; targeted < 3; targeted++) {
                carso_attack_result *out = NULL;
                options.targets = targeted == 1 ? targets : NULL;
                options.method = targeted == 2 ? CARSO_ATTACK_APGD_TARGETED : CARSO_ATTACK_PGD;
                const bool enough = !dlr || classes >= (targeted ? 4 : 3);
                ck_assert_int_eq(carso_attack(model, &images, low, &options, &out),
                                 enough ? CARSO_OK : CARSO_ERROR_UNSUPPORTED);
                if (!enough) {
                    check_message(targeted ? "the targeted DLR loss needs 4 classes" : "DLR loss needs 3 classes",
                                  classes == 2 ? "the model has 2" : "the model has 3");
                }
                carso_attack_result_destroy(out);
            }
            ck_assert_int_eq(carso_gradient(model, &images, low, &how, gradient, NULL, NULL),
                             dlr && classes < 3 ? CARSO_ERROR_UNSUPPORTED : CARSO_OK);
        }
        carso_model_destroy(model);
    }
    model = with;
}
END_TEST

/* What an application built against the options before they grew says: it gets what it got. */
START_TEST(shorter_options_are_those_of_before)
{
    static float whole[ALL];
    again(CARSO_OK);
    memcpy(whole, carso_attack_result_images(result), sizeof whole);
    memset((unsigned char *)&options + offsetof(carso_attack_options, norm), 0xa5,
           sizeof options - offsetof(carso_attack_options, norm));
    options.struct_size = offsetof(carso_attack_options, norm);
    again(CARSO_OK);
    ck_assert_mem_eq(whole, carso_attack_result_images(result), sizeof whole);
}
END_TEST

START_TEST(bad_options)
{
    struct {
        int32_t *field;
        int32_t value;
        const char *text;
    } const bad[] = {
        {&options.method, 7, "method is 7"},
        {&options.objective, 2, "objective is 2"},
        {&options.loss, -1, "loss is -1"},
        {&options.loss, 10, "loss is 10"},
        {&options.norm, 2, "norm is 2"},
        {&options.norm, -1, "norm is -1"},
        {&options.steps, -1, "steps is -1"},
        {&options.steps, 1000001, "steps is 1000001"},
        {&options.random_start, 2, "random_start is 2"},
        {&options.restarts, 0, "restarts is 0"},
        {&options.draws, 0, "draws is 0"},
        {&options.draws, 65537, "draws is 65537"},
        {&options.eot, 0, "eot is 0"},
        {&options.fixed_draws, 2, "fixed_draws is 2"},
        {&options.transfer, -1, "transfer is -1"},
    };
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        const int32_t kept = *bad[k].field;
        *bad[k].field = bad[k].value;
        refused(CARSO_ERROR_INVALID_ARGUMENT, bad[k].text, "carso_attack");
        *bad[k].field = kept;
    }
    options.steps = 1000000;
    options.draws = 65536;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "1000000 steps", "4294967295 draws");
    options.restarts = options.eot = 1000000;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "1000000 steps", "4294967295 draws");
}
END_TEST

/* Of the classifier, which has no draws that would run out before. */
START_TEST(more_runs_than_can_be_counted)
{
    carso_model_options many;
    carso_model *broad = NULL;
    carso_model_options_init(&many, sizeof many);
    many.architecture = CARSO_SMALL_CNN;
    many.channels = 1;
    many.image_height = many.image_width = SMALL_SIDE;
    many.width = 1;
    many.classes = 2149;
    ck_assert_int_eq(carso_model_create(context, &many, &broad), CARSO_OK);
    options.objective = CARSO_OBJECTIVE_CLASSIFIER;
    options.loss = CARSO_LOSS_DLR;
    options.method = CARSO_ATTACK_APGD_TARGETED;
    options.restarts = 1000000;
    options.target_classes = 2148;
    ck_assert_int_eq(carso_attack(broad, &images, labels, &options, &result), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("restarts is 1000000", "2148 target classes");
    /* As many as there are other classes, in the end. */
    options.target_classes = 1000000;
    ck_assert_int_eq(carso_attack(broad, &images, labels, &options, &result), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("restarts is 1000000", "2148 target classes");
    carso_model_destroy(broad);
}
END_TEST

START_TEST(bad_arguments)
{
    int32_t other[COUNT] = {0, 4, 0};
    ck_assert_int_eq(carso_attack(model, &images, other, &options, &result), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("label 1 is 4", "0 to 3");
    ck_assert_int_eq(carso_attack(model, &images, NULL, &options, &result), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("labels is NULL", "carso_attack");
    ck_assert_int_eq(carso_attack(model, NULL, labels, &options, &result), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_attack(model, &images, labels, &options, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("out_result is NULL", "carso_attack");
    ck_assert_int_eq(carso_attack(NULL, &images, labels, &options, &result), CARSO_ERROR_INVALID_ARGUMENT);
    images.count = 0;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "count is 0", "images");
    images.count = COUNT;
    pixels[0] = NAN;
    refused(CARSO_ERROR_INVALID_IMAGE, "image 0, row 0, column 0", "nan");
    pixels[0] = 0;
    carso_model *const with = model;
    model = small_classifier(context);
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    refused(CARSO_ERROR_UNSUPPORTED, "no purifier", "carso_model_add_purifier");
    carso_model_destroy(model);
    model = with;
    carso_attack_result_destroy(NULL);
    ck_assert_uint_eq(carso_attack_result_count(NULL), 0);
    ck_assert_ptr_null(carso_attack_result_images(NULL));
    ck_assert_ptr_null(carso_attack_result_first_loss(NULL));
    ck_assert_ptr_null(carso_attack_result_last_loss(NULL));
    ck_assert_ptr_null(carso_attack_result_non_finite(NULL));
    ck_assert_ptr_null(carso_attack_result_zero_gradient(NULL));
    ck_assert_ptr_null(carso_attack_result_tiny_gradient(NULL));
    ck_assert_ptr_null(carso_attack_result_non_finite_losses(NULL));
    ck_assert_ptr_null(carso_attack_result_non_finite_gradients(NULL));
    ck_assert_ptr_null(carso_attack_result_distance(NULL));
    ck_assert_uint_eq(carso_attack_result_step_count(NULL), 0);
}
END_TEST

START_TEST(defaults)
{
    carso_attack_options fresh;
    memset(&fresh, 0xff, sizeof fresh);
    carso_attack_options_init(&fresh, sizeof fresh);
    ck_assert_uint_eq(fresh.struct_size, sizeof fresh);
    ck_assert_int_eq(fresh.method, CARSO_ATTACK_PGD);
    ck_assert_int_eq(fresh.objective, CARSO_OBJECTIVE_CLASSIFIER);
    ck_assert_int_eq(fresh.steps, 40);
    ck_assert_double_eq(fresh.epsilon, 8.0 / 255.0);
    ck_assert_double_eq(fresh.step_size, 0.01);
    ck_assert(fresh.random_start == 1 && fresh.restarts == 1 && fresh.draws == 8 && fresh.eot == 1);
    ck_assert(fresh.norm == CARSO_NORM_LINF && fresh.early_stop == 0 && fresh.queries == 5000);
    ck_assert(fresh.fixed_draws == 0 && fresh.transfer == 0 && fresh.loss_function == NULL);
    ck_assert(fresh.momentum == 0 && fresh.target_classes == 9 && fresh.targets == NULL);
}
END_TEST

START_TEST(allocations_failing)
{
    counting_allocator counts = {0};
    carso_context *const counted = counting_context(&counts);
    ck_assert_ptr_nonnull(counted);
    carso_model *const fresh = small_model(counted);
    images = describe_images(pixels, 1);
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    options.steps = 1;
    options.draws = 1;
    options.eot = 2;
    options.method = _i;
    options.queries = 2;
    options.momentum = 0.5;
    options.target_classes = 2;
    carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
    for (long n = 1; status != CARSO_OK; n++) {
        carso_attack_result *out = NULL;
        atomic_store(&counts.failing, atomic_load(&counts.made) + n);
        status = carso_attack(fresh, &images, labels, &options, &out);
        atomic_store(&counts.failing, 0);
        ck_assert(status == CARSO_OK || status == CARSO_ERROR_OUT_OF_MEMORY);
        ck_assert((out != NULL) == (status == CARSO_OK));
        carso_attack_result_destroy(out);
    }
    carso_model_destroy(fresh);
    carso_context_destroy(counted);
    ck_assert_int_eq(atomic_load(&counts.held), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attack options");
    TCase *tests = tcase_create("attack");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, bad_numbers);
    tcase_add_test(tests, bad_options);
    tcase_add_test(tests, more_runs_than_can_be_counted);
    tcase_add_test(tests, bad_arguments);
    tcase_add_test(tests, defaults);
    tcase_add_loop_test(tests, allocations_failing, CARSO_ATTACK_PGD, CARSO_ATTACK_FAB_TARGETED + 1);
    tcase_add_test(tests, bad_options_of_the_other_methods);
    tcase_add_test(tests, too_few_classes_for_dlr);
    tcase_add_test(tests, shorter_options_are_those_of_before);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
