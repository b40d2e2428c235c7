/* SPDX-License-Identifier: BSD-2-Clause */
/* What attacks report, and the caller's functions: losses, progress. */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attack_case.h"
#include "step_watch.h"

/* The margin of the mean logits, once more. */
typedef struct own_margin {
    int calls, fail_at, nan_at;
    bool forgets;
    uint64_t nan_image;
    int targeted, without_gradient;
} own_margin;

static int own_loss(const carso_loss_batch *batch, void *user)
{
    own_margin *const own = user;
    const int classes = batch->classes, row = (int)batch->count * classes;
    ck_assert_uint_eq(batch->struct_size, sizeof *batch);
    ck_assert_int_eq(classes, 4);
    own->targeted += batch->targets != NULL;
    own->without_gradient += batch->logit_gradient == NULL;
    if (++own->calls == own->fail_at) {
        return 7;
    }
    for (int i = 0; i < (int)batch->count && !own->forgets; i++) {
        const int label = batch->labels[i];
        double mean[4] = {0};
        int other = batch->targets ? batch->targets[i] : label == 0;
        ck_assert_int_eq(label, labels[batch->image_index[i] - options.first_image]);
        for (int c = 0; c < classes; c++) {
            for (int d = 0; d < batch->draws; d++) {
                mean[c] += batch->logits[d * row + i * classes + c];
            }
            mean[c] /= batch->draws;
        }
        for (int c = 0; c < classes && !batch->targets; c++) {
            other = c != label && mean[c] > mean[other] ? c : other;
        }
        batch->losses[i] = mean[other] - mean[label];
        if (own->nan_at > 0 && own->calls >= own->nan_at && batch->image_index[i] == own->nan_image) {
            batch->losses[i] = NAN;
        }
        for (int d = 0; batch->logit_gradient && d < batch->draws; d++) {
            for (int c = 0; c < classes; c++) {
                batch->logit_gradient[d * row + i * classes + c] =
                    ((c == other ? 1.0 : 0.0) - (c == label ? 1.0 : 0.0)) / batch->draws;
            }
        }
    }
    return 0;
}

START_TEST(a_loss_of_the_caller_s_own)
{
    static float whole[ALL];
    double first[COUNT], last[COUNT];
    own_margin own = {0};
    const carso_attack_options plain = options;
    for (int objective = 0; objective < 2; objective++) {
        for (int method = 0; method <= CARSO_ATTACK_SQUARE; method++) {
            options = plain;
            options.objective = objective;
            options.method = method;
            options.queries = 10;
            options.first_image = 30;
            options.eot = 2;
            options.early_stop = objective == 0;
            options.loss = CARSO_LOSS_MARGIN;
            again(CARSO_OK);
            memcpy(whole, carso_attack_result_images(result), sizeof whole);
            memcpy(first, carso_attack_result_first_loss(result), sizeof first);
            memcpy(last, carso_attack_result_last_loss(result), sizeof last);
            own = (own_margin){0};
            options.loss = CARSO_LOSS_CROSS_ENTROPY; /* whose aggregation is the same */
            options.loss_function = own_loss;
            options.loss_user = &own;
            again(CARSO_OK);
            ck_assert_mem_eq(whole, carso_attack_result_images(result), sizeof whole);
            ck_assert_mem_eq(first, carso_attack_result_first_loss(result), sizeof first);
            ck_assert_mem_eq(last, carso_attack_result_last_loss(result), sizeof last);
            if (!options.early_stop) /* else a run may end before it begins */ {
                ck_assert_int_eq(own.targeted > 0, method == CARSO_ATTACK_APGD_TARGETED);
            }
            ck_assert_int_gt(own.without_gradient, 0);
        }
    }
}
END_TEST

START_TEST(a_loss_that_fails_or_is_nan)
{
    own_margin own = {.fail_at = 4};
    static float after_two[ALL];
    options.loss_function = own_loss;
    options.loss_user = &own;
    options.loss = CARSO_LOSS_MARGIN;
    options.steps = 2;
    own.fail_at = 0;
    again(CARSO_OK);
    memcpy(after_two, carso_attack_result_images(result), sizeof after_two);
    options.steps = 5;
    own = (own_margin){.fail_at = 4}; /* the points after two steps have a loss */
    again(CARSO_ERROR_CALLBACK);
    check_message("returned 7", "3 images, the first of them number 0");
    ck_assert_mem_eq(after_two, carso_attack_result_images(result), sizeof after_two);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_gt(carso_attack_result_last_loss(result)[i], carso_attack_result_first_loss(result)[i]);
    }

    options.queries = 50;
    for (int method = CARSO_ATTACK_APGD; method <= CARSO_ATTACK_SQUARE; method++) {
        for (int at = 1; at < 8; at += 3) {
            options.method = method;
            own = (own_margin){.fail_at = at};
            again(CARSO_ERROR_CALLBACK);
            check_bounds();
            for (int i = 0; i < COUNT; i++) {
                ck_assert_int_eq(isnan(carso_attack_result_last_loss(result)[i]), at == 1);
                ck_assert(at == 1 ||
                          carso_attack_result_last_loss(result)[i] >= carso_attack_result_first_loss(result)[i]);
            }
        }
    }

    for (int method = CARSO_ATTACK_PGD; method <= CARSO_ATTACK_SQUARE; method++) {
        options.method = method;
        own = (own_margin){.nan_at = 3, .nan_image = 1};
        again(CARSO_ERROR_NON_FINITE);
        check_message("1 of the 3 images", "image 1 ");
        check_bounds();
        ck_assert_int_eq(carso_attack_result_non_finite(result)[1], 1);
        ck_assert(isfinite(carso_attack_result_last_loss(result)[1]));
        own = (own_margin){.forgets = true};
        again(CARSO_ERROR_NON_FINITE);
        check_message("3 of the 3 images", "");
        ck_assert_mem_eq(carso_attack_result_images(result), pixels, sizeof pixels);
    }
}
END_TEST

static int32_t predicted(const float *values, int count, int32_t *out)
{
    carso_prediction *prediction = NULL;
    const carso_images described = describe_images(values, count);
    ck_assert_int_eq(carso_predict(model, &described, NULL, &prediction), CARSO_OK);
    memcpy(out, carso_prediction_labels(prediction), (size_t)count * sizeof *out);
    carso_prediction_destroy(prediction);
    return out[0];
}

/* From labels that are right, the nearest points are misclassified, and just before them images are not. */
START_TEST(fab_finds_the_boundary)
{
    int32_t right[COUNT], after[COUNT];
    static float before[ALL];
    predicted(pixels, COUNT, right);
    options.steps = 20;
    for (int norm = 0; norm < 2; norm++) {
        for (int method = CARSO_ATTACK_FAB; method <= CARSO_ATTACK_FAB_TARGETED; method++) {
            options.norm = norm;
            options.method = method;
            options.loss = CARSO_LOSS_LOG_ODDS;
            options.epsilon = 30;
            carso_attack_result_destroy(result);
            ck_assert_int_eq(carso_attack(model, &images, right, &options, &result), CARSO_OK);
            const float *const attacked = carso_attack_result_images(result);
            const double *const distance = carso_attack_result_distance(result);
            predicted(attacked, COUNT, after);
            for (int k = 0; k < ALL; k++) {
                before[k] = pixels[k] + 0.97f * (attacked[k] - pixels[k]);
            }
            for (int i = 0; i < COUNT; i++) {
                double largest = 0, squares = 0;
                for (int k = i * SMALL_IMAGE; k < (i + 1) * SMALL_IMAGE; k++) {
                    const double change = fabs((double)attacked[k] - (double)pixels[k]);
                    largest = fmax(largest, change);
                    squares += change * change;
                }
                ck_assert_int_ne(after[i], right[i]);
                ck_assert_double_eq_tol(distance[i], norm ? sqrt(squares) : largest, 1e-12);
                ck_assert_double_lt(carso_attack_result_first_loss(result)[i], 0);
                ck_assert_double_gt(carso_attack_result_last_loss(result)[i], 0);
            }
            predicted(before, COUNT, after);
            ck_assert_mem_eq(after, right, sizeof right);
            options.epsilon = distance[1] / 2;
            const double found = distance[1];
            carso_attack_result_destroy(result);
            ck_assert_int_eq(carso_attack(model, &images, right, &options, &result), CARSO_OK);
            ck_assert_mem_eq(carso_attack_result_images(result) + SMALL_IMAGE, pixels + SMALL_IMAGE,
                             SMALL_IMAGE * sizeof *pixels);
            ck_assert_double_eq(carso_attack_result_distance(result)[1], found);
        }
    }
    options.method = CARSO_ATTACK_PGD;
    again(CARSO_OK);
    ck_assert_ptr_null(carso_attack_result_distance(result));
    options.method = CARSO_ATTACK_FAB;
    options.targets = labels;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "targets are given", "FAB");
    options.targets = NULL;
    options.loss_function = own_loss;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "loss_function is given", "FAB");
    options.loss_function = NULL;
    options.loss = CARSO_LOSS_DLR; /* whatever its number of classes: the margin is used */
    carso_model *const with = model;
    model = few_classes(2);
    images = describe_images(pixels, 1); /* of label 0 */
    again(CARSO_OK);
    carso_model_destroy(model);
    model = with;
}
END_TEST

static carso_attack_step step_of(uint64_t index)
{
    carso_attack_step step = {.struct_size = sizeof step};
    ck_assert_int_eq(carso_attack_result_get_step(result, index, &step), CARSO_OK);
    return step;
}

START_TEST(steps_are_reported)
{
    options.restarts = 2;
    again(CARSO_OK);
    ck_assert_uint_eq(carso_attack_result_step_count(result), 5);
    for (uint64_t k = 0; k < 5; k++) {
        const carso_attack_step step = step_of(k);
        ck_assert(step.first_step == k && step.steps == 1 && step.evaluations == 2 * COUNT && step.non_finite == 0);
        ck_assert_uint_eq(step.gradients, k < 4 ? 2 * COUNT : 0);
        ck_assert(step.flat_gradients == 0 && step.zero_gradient < 0.5 && step.tiny_gradient < 0.5);
    }
    ck_assert_double_gt(step_of(4).mean_loss, step_of(0).mean_loss);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_uint_eq(carso_attack_result_non_finite_losses(result)[i], 0);
        ck_assert_uint_eq(carso_attack_result_non_finite_gradients(result)[i], 0);
        ck_assert_double_lt(carso_attack_result_tiny_gradient(result)[i], 0.5);
    }

    /* Many steps share entries; how many were wrong is known of each. */
    images = describe_images(pixels, 1);
    options.method = CARSO_ATTACK_SQUARE;
    options.restarts = 1;
    options.queries = 2001;
    options.epsilon = 1;
    again(CARSO_OK);
    ck_assert_uint_eq(carso_attack_result_step_count(result), 667);
    ck_assert_uint_eq(step_of(666).first_step, 1998);
    ck_assert_uint_eq(step_of(665).steps, 3);
    ck_assert_uint_eq(step_of(666).steps, 3);
    ck_assert_uint_eq(step_of(666).evaluations, 3);
    ck_assert_uint_gt(step_of(666).misclassified, 0);
    options.queries = 1001;
    again(CARSO_OK);
    ck_assert_uint_eq(carso_attack_result_step_count(result), 501);
    ck_assert_uint_eq(step_of(500).steps, 1);

    carso_attack_step step = {.struct_size = sizeof step};
    ck_assert_int_eq(carso_attack_result_get_step(result, 501, &step), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("index is 501", "has 501 entries");
    ck_assert_int_eq(carso_attack_result_get_step(NULL, 0, &step), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_attack_result_get_step(result, 0, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    step.struct_size = 0;
    ck_assert_int_eq(carso_attack_result_get_step(result, 0, &step), CARSO_ERROR_INVALID_ARGUMENT);
}
END_TEST

START_TEST(non_finite_is_an_error_with_a_mask)
{
    spoil_parameter(model->classifier, "logits.weight");
    options.first_image = 50;
    again(CARSO_ERROR_NON_FINITE);
    check_message("3 of the 3 images", "number 50");
    ck_assert_mem_eq(carso_attack_result_images(result), pixels, sizeof pixels);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq(carso_attack_result_non_finite(result)[i], 1);
        ck_assert(isnan(carso_attack_result_last_loss(result)[i]));
    }
}
END_TEST

START_TEST(progress_and_cancellation)
{
    watch seen = {0};
    carso_context *const narrow = named_context("reference", 1); /* one image at a time */
    carso_model *const split = small_model(narrow);
    options.progress = watch_progress;
    options.progress_user = &seen;
    options.restarts = 2;
    ck_assert_int_eq(carso_attack(split, &images, labels, &options, &result), CARSO_OK);
    ck_assert_uint_eq(seen.last, 3 * 2 * 4);
    ck_assert_uint_eq(seen.total, 3 * 2 * 4);
    carso_attack_result_destroy(result);
    seen = (watch){.stop_at = 2 * 4 + 3}; /* in the second image */
    ck_assert_int_eq(carso_attack(split, &images, labels, &options, &result), CARSO_CANCELLED);
    ck_assert_ptr_nonnull(result);
    check_bounds();
    const float *const attacked = carso_attack_result_images(result);
    ck_assert_mem_ne(attacked, pixels, SMALL_IMAGE * sizeof *pixels);
    ck_assert_mem_ne(attacked + SMALL_IMAGE, pixels + SMALL_IMAGE, SMALL_IMAGE * sizeof *pixels);
    ck_assert_mem_eq(attacked + 2 * SMALL_IMAGE, pixels + 2 * SMALL_IMAGE, SMALL_IMAGE * sizeof *pixels);
    const double *const last = carso_attack_result_last_loss(result);
    ck_assert(isfinite(last[0]) && isfinite(last[1]) && isnan(last[2]));
    carso_model_destroy(split);
    carso_context_destroy(narrow);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attack report");
    TCase *tests = tcase_create("attack");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, fab_finds_the_boundary);
    tcase_add_test(tests, steps_are_reported);
    tcase_add_test(tests, a_loss_of_the_caller_s_own);
    tcase_add_test(tests, a_loss_that_fails_or_is_nan);
    tcase_add_test(tests, non_finite_is_an_error_with_a_mask);
    tcase_add_test(tests, progress_and_cancellation);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
