/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "evaluation_toy.h"

static double accuracy(const json_t *cell)
{
    return json_real_value(json_object_get(json_object_get(cell, "score"), "accuracy"));
}

START_TEST(worst_point_of_each_image)
{
    carso_evaluation *const evaluation = toy_evaluation(toy_model);
    ck_assert_uint_eq(carso_evaluation_count(evaluation), 0);
    toy_run(evaluation);
    ck_assert_uint_eq(carso_evaluation_count(evaluation), TOY_COUNT);
    for (int c = 0; c < evaluation->protocol.cell_count; c++) {
        const cso_cell *const planned = &evaluation->protocol.cell[c];
        const cso_cell_columns *const cell = &evaluation->cell[c];
        for (int i = 0; i < TOY_COUNT; i++) {
            const float *const point = carso_evaluation_images(evaluation, c) + i * SMALL_IMAGE;
            bool moved = false;
            for (int k = 0; k < SMALL_IMAGE; k++) {
                ck_assert(point[k] >= 0 && point[k] <= 1);
                ck_assert(fabs((double)point[k] - (double)toy_pixels[i * SMALL_IMAGE + k]) <= planned->epsilon);
                moved = moved || point[k] != toy_pixels[i * SMALL_IMAGE + k];
            }
            ck_assert_int_eq(moved, cell->best[i] >= 0);
            /* The point kept is the worst of those that were tried, and nothing is tried on what is broken. */
            int32_t least = evaluation->clean[planned->objective].selected[i];
            for (int a = 0; a < planned->attack_count; a++) {
                const int64_t entry = i * planned->attack_count + a;
                ck_assert_int_eq(cell->state[entry],
                                 least == 0 || planned->epsilon <= 0 ? CSO_STATE_LEFT_OUT : CSO_STATE_ATTACKED);
                if (cell->state[entry] == CSO_STATE_ATTACKED && cell->attack_selected[entry] < least) {
                    least = cell->attack_selected[entry];
                }
            }
            ck_assert_int_eq(cell->selected[i], least);
        }
    }
    /* The image labelled wrongly is broken from the beginning. */
    ck_assert_int_eq(evaluation->cell[0].score.correct[4], 0);
    ck_assert_int_eq(carso_evaluation_predictions(evaluation, -1)[4] == toy_labels[4], 0);
    ck_assert_ptr_null(carso_evaluation_images(evaluation, evaluation->protocol.cell_count));
    ck_assert_ptr_null(carso_evaluation_images(evaluation, -2));
    carso_evaluation_destroy(evaluation);
}
END_TEST

START_TEST(epsilon_0_is_clean_accuracy)
{
    static const double zero = 0;
    toy_options.epsilons = &zero;
    toy_options.epsilon_count = 1;
    carso_evaluation *const evaluation = toy_evaluation(toy_model);
    toy_run(evaluation);
    json_t *const result = toy_result(evaluation), *const clean = json_object_get(result, "clean");
    const json_t *const cell = json_array_get(json_object_get(result, "cells"), 0);
    const double expected = json_real_value(json_object_get(json_object_get(clean, "classifier"), "accuracy"));
    ck_assert_double_eq(accuracy(cell), expected);
    ck_assert_double_eq_tol(expected, 6.0 / 7, 1e-9);
    ck_assert_mem_eq(carso_evaluation_images(evaluation, 0), toy_pixels, sizeof toy_pixels);
    json_decref(result);
    carso_evaluation_destroy(evaluation);
}
END_TEST

/* The defence too, whose predictions are random: those of the originals are made with the same draws. */
START_TEST(epsilon_0_of_the_defence)
{
    toy_options.protocol = "{\"name\": \"d\", \"epsilons\": [0], \"sections\": [{\"name\": \"d\", \"objective\": \"defence\", \"attacks\": ["
                           "{\"method\": \"pgd\"}]}]}";
    toy_options.draws = 1;
    toy_options.repeats = 20;
    carso_evaluation *const evaluation = toy_evaluation(toy_model);
    toy_run(evaluation);
    ck_assert_mem_eq(evaluation->cell[0].score.correct, evaluation->clean[1].score.correct,
                     TOY_COUNT * sizeof(int32_t));
    /* With other draws than those that choose. */
    const int64_t row[TOY_COUNT] = {0, 1, 2, 3, 4, 5, 6};
    int32_t correct[TOY_COUNT];
    double scoring[TOY_COUNT], selection[TOY_COUNT];
    cso_unit_progress progress = {0};
    cso_score_request request = {.objective = CARSO_OBJECTIVE_DEFENCE,
                                 .images = toy_pixels,
                                 .row = row,
                                 .count = TOY_COUNT,
                                 .purpose = CSO_PURPOSE_SCORING,
                                 .correct = correct,
                                 .spread = scoring,
                                 .progress = &progress};
    ck_assert_int_eq(cso_score(evaluation, &request), CARSO_OK);
    request.purpose = CSO_PURPOSE_SELECTION;
    request.spread = selection;
    ck_assert_int_eq(cso_score(evaluation, &request), CARSO_OK);
    for (int i = 0; i < TOY_COUNT; i++) {
        ck_assert_double_eq(scoring[i], evaluation->clean[1].spread[i]);
        ck_assert_double_ne(selection[i], scoring[i]);
    }
    carso_evaluation_destroy(evaluation);
}
END_TEST

START_TEST(scored_by_the_defence_as_predicted)
{
    carso_evaluation *const evaluation = toy_evaluation(toy_model);
    toy_run(evaluation);
    /* One prediction of the classifier is what carso_predict says of the 8-bit image. */
    float rounded[SMALL_IMAGE];
    carso_prediction *prediction;
    const carso_images one = describe_images(rounded, 1);
    for (int i = 0; i < TOY_COUNT; i++) {
        ck_assert(cso_eight_bit(evaluation, 0.1, toy_pixels + i * SMALL_IMAGE,
                                evaluation->cell[1].image + i * SMALL_IMAGE, rounded));
        ck_assert_int_eq(carso_predict(toy_model, &one, NULL, &prediction), CARSO_OK);
        ck_assert_int_eq(carso_prediction_labels(prediction)[0], evaluation->cell[1].eight_bit.majority[i]);
        ck_assert_int_eq(carso_prediction_labels(prediction)[0] == toy_labels[i],
                         evaluation->cell[1].eight_bit.correct[i]);
        carso_prediction_destroy(prediction);
    }
    carso_evaluation_destroy(evaluation);
}
END_TEST

START_TEST(a_result_of_nothing)
{
    carso_evaluation *const evaluation = toy_evaluation(toy_model);
    json_t *const result = toy_result(evaluation);
    ck_assert_int_eq(json_integer_value(json_object_get(result, "images")), 0);
    ck_assert(json_is_false(json_object_get(result, "finished")));
    ck_assert_uint_eq(json_array_size(json_object_get(result, "flags")), 0);
    json_decref(result);
    carso_evaluation_destroy(evaluation);
}
END_TEST

typedef struct watch {
    int left;
    uint64_t last, total;
} watch;

static int watch_progress(const carso_progress *progress, void *user)
{
    watch *const seen = user;
    ck_assert_str_eq(progress->unit, "evaluations");
    ck_assert_uint_le(progress->done, progress->total);
    ck_assert_uint_ge(progress->done, seen->last);
    ck_assert(seen->total == 0 || seen->total == progress->total);
    seen->total = progress->total;
    seen->last = progress->done;
    return seen->left-- == 0;
}

START_TEST(progress_and_cancellation)
{
    carso_evaluation *const straight = toy_evaluation(toy_model), *const cancelled = toy_evaluation(toy_model);
    int32_t finished = 0;
    toy_run(straight);
    for (int patience = 0; !finished;) {
        watch seen = {.left = patience};
        const uint64_t before = cancelled->units_done;
        const carso_status status = carso_evaluation_step(cancelled, watch_progress, &seen, &finished);
        ck_assert(status == CARSO_OK || status == CARSO_CANCELLED);
        ck_assert_uint_eq(cancelled->units_done, before + (status == CARSO_OK));
        ck_assert_int_eq(status == CARSO_OK, seen.left >= 0);
        ck_assert_uint_gt(seen.total, 0);
        patience = status == CARSO_OK ? 0 : 2 * patience + 1;
    }
    toy_check_same(straight, cancelled);
    carso_evaluation_destroy(straight);
    carso_evaluation_destroy(cancelled);
}
END_TEST

/* What is done is what the steps said before; nothing is left at the end; images that are broken cost no more. */
START_TEST(cost_is_known)
{
    carso_evaluation *const evaluation = toy_evaluation(toy_model);
    double done, left, expected = 0, first_total = 0;
    int32_t finished = 0;
    for (int step = 0; !finished; step++) {
        const cso_unit unit = cso_evaluation_unit(evaluation, evaluation->units_done);
        cso_evaluation_cost(evaluation, &done, &left);
        ck_assert_double_eq_tol(done, expected, 1e-6);
        ck_assert_double_gt(left, 0);
        expected += cso_unit_cost(evaluation, &unit);
        first_total = step == 0 ? done + left : first_total;
        ck_assert_int_eq(carso_evaluation_step(evaluation, NULL, NULL, &finished), CARSO_OK);
    }
    cso_evaluation_cost(evaluation, &done, &left);
    ck_assert_double_eq_tol(done, expected, 1e-6);
    ck_assert_double_eq_tol(left, 0, 1e-6);
    ck_assert(done > 0.5 * first_total && done < 2 * first_total);
    carso_evaluation_destroy(evaluation);

    carso_evaluation *const broken = toy_evaluation(toy_model);
    double before;
    ck_assert_int_eq(carso_evaluation_step(broken, NULL, NULL, &finished), CARSO_OK);
    cso_evaluation_cost(broken, &done, &before);
    const cso_cell *const planned = &broken->protocol.cell[2];
    ck_assert_int_eq(planned->objective, CARSO_OBJECTIVE_DEFENCE);
    broken->cell[2].selected[0] = broken->cell[2].selected[1] = 0;
    cso_evaluation_cost(broken, &done, &left);
    ck_assert_double_gt(before - left, planned->attack[0].cost);
    carso_evaluation_destroy(broken);
}
END_TEST

static void create(carso_status expected, const char *a, const char *b)
{
    carso_evaluation *evaluation = NULL;
    ck_assert_int_eq(carso_evaluation_create(toy_model, &toy_images, toy_labels, &toy_options, &evaluation), expected);
    ck_assert_ptr_null(evaluation);
    toy_check_message(a, b);
}

START_TEST(bad_options)
{
    static const double bad[] = {0.1, -1};
    const carso_evaluation_options good = toy_options;
    toy_options.epsilons = bad;
    toy_options.epsilon_count = 2;
    create(CARSO_ERROR_INVALID_ARGUMENT, "epsilon 1 is -1", "");
    toy_options.epsilon_count = 0;
    create(CARSO_ERROR_INVALID_ARGUMENT, "0 epsilons", "");
    toy_options = good;
    toy_options.batch = 0;
    create(CARSO_ERROR_INVALID_ARGUMENT, "batch is 0", "");
    toy_options = good;
    toy_options.shard = 1;
    create(CARSO_ERROR_INVALID_ARGUMENT, "shard is 1", "");
    toy_options.shards = 9;
    toy_options.shard = 4;
    create(CARSO_ERROR_INVALID_ARGUMENT, "shard 4 of 9 has no images", "4 of them");
    toy_options = good;
    toy_options.draws = 65536;
    toy_options.repeats = 1000;
    create(CARSO_ERROR_INVALID_ARGUMENT, "1000 predictions of 65536 draws", "");
    toy_options = good;
    toy_options.norm = 2;
    create(CARSO_ERROR_INVALID_ARGUMENT, "norm is 2", "");
    toy_options = good;
    toy_options.protocol = NULL;
    create(CARSO_ERROR_INVALID_ARGUMENT, "protocol is NULL", "");
    toy_options.protocol = "thorough";
    create(CARSO_ERROR_BAD_FORMAT, "\"thorough\"", "quick, paper and adaptive");
    toy_options = good;
    toy_labels[3] = SMALL_CLASSES;
    create(CARSO_ERROR_INVALID_ARGUMENT, "label 3 is 4", "");
    toy_labels[3] = 0;
    toy_pixels[SMALL_IMAGE] = 1.5f;
    create(CARSO_ERROR_INVALID_IMAGE, "image 1", "1.5");
    toy_pixels[SMALL_IMAGE] = NAN;
    create(CARSO_ERROR_INVALID_IMAGE, "image 1", "");
}
END_TEST

START_TEST(bad_descriptions)
{
    static const struct {
        const char *text, *a, *b;
    } bad[] = {
        {"{", "line 1", ""},
        {"{\"name\": 1, \"sections\": []}", "\"name\" is not", ""},
        {"{\"name\": \"x\", \"sections\": []}", "nothing to attack", ""},
        {"{\"name\": \"x\", \"colour\": 1, \"sections\": []}", "\"colour\"", ""},
        {"{\"name\": \"x\", \"repeats\": 0, \"sections\": []}", "\"repeats\" is 0", ""},
        {"{\"name\": \"x\", \"sections\": [{\"name\": \"s\"}]}", "section 1", "\"objective\" is missing"},
        {"{\"name\": \"x\", \"sections\": [{\"name\": \"s\", \"objective\": \"all\"}]}", "section 1 (s)", "no objective \"all\""},
        {"{\"name\": \"x\", \"sections\": [{\"name\": \"s\", \"objective\": \"classifier\", \"attacks\": []}]}", "\"epsilons\" is missing", ""},
        {"{\"name\": \"x\", \"epsilons\": [\"8/0\"], \"sections\": [{\"name\": \"s\", \"objective\": \"classifier\", \"attacks\": []}]}",
         "\"epsilons\" is not a number", ""},
        {"{\"name\": \"x\", \"epsilons\": [1], \"sections\": [{\"name\": \"s\", \"objective\": \"classifier\", \"attacks\": [\"all\"]}]}",
         "section 1 (s), attack 1", "no ensemble \"all\""},
        {"{\"name\": \"x\", \"epsilons\": [1], \"sections\": [{\"name\": \"s\", \"objective\": \"classifier\", \"attacks\": ["
         "{\"method\": \"guess\"}]}]}",
         "no method \"guess\"", ""},
        {"{\"name\": \"x\", \"epsilons\": [1], \"sections\": [{\"name\": \"s\", \"objective\": \"classifier\", \"attacks\": ["
         "{\"method\": \"pgd\", \"steps\": -1}]}]}",
         "\"steps\" is -1", ""},
        {"{\"name\": \"x\", \"epsilons\": [1], \"sections\": [{\"name\": \"s\", \"objective\": \"classifier\", \"attacks\": ["
         "{\"method\": \"pgd\", \"objective\": \"defence\"}]}]}",
         "attack on the defence", ""},
        {"{\"name\": \"x\", \"epsilons\": [1], \"sections\": [{\"name\": \"s\", \"objective\": \"classifier\", \"attacks\": ["
         "{\"method\": \"pgd\", \"random_start\": 1}]}]}",
         "neither true nor false", ""},
        {"{\"name\": \"x\", \"epsilons\": [1], \"sections\": [{\"name\": \"s\", \"objective\": \"classifier\", \"attacks\": ["
         "{\"method\": \"noise\", \"steps\": 3}]}]}",
         "noise takes no steps", ""},
        {"{\"name\": \"x\", \"epsilons\": [1], \"sections\": [{\"name\": \"s\", \"objective\": \"classifier\", \"curve\": [0.5], \"attacks\": []}]}",
         "\"curve\"", "number of steps"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        toy_options.protocol = bad[i].text;
        create(CARSO_ERROR_BAD_FORMAT, bad[i].a, bad[i].b);
    }
}
END_TEST

START_TEST(built_in_protocols)
{
    static const char *const names[] = {"quick", "paper", "adaptive"};
    carso_model *const classifier = small_classifier(toy_context);
    for (int i = 0; i < 3; i++) {
        toy_options.protocol = names[i];
        carso_evaluation *const whole = toy_evaluation(toy_model), *const part = toy_evaluation(classifier);
        ck_assert_str_eq(whole->protocol.name, names[i]);
        ck_assert_int_gt(whole->protocol.cell_count, part->protocol.cell_count);
        ck_assert_uint_eq(json_array_size(whole->protocol.omitted), 0);
        ck_assert_uint_gt(json_array_size(part->protocol.omitted), 0);
        for (int c = 0; c < part->protocol.cell_count; c++) {
            ck_assert_int_eq(part->protocol.cell[c].objective, CARSO_OBJECTIVE_CLASSIFIER);
        }
        carso_evaluation_destroy(whole);
        carso_evaluation_destroy(part);
    }
    carso_model_destroy(classifier);
}
END_TEST

/* Names in the order of the enumerations. */
START_TEST(names_of_methods_and_losses)
{
    ck_assert_str_eq(cso_method_names[CARSO_ATTACK_FAB_TARGETED], "fab-targeted");
    ck_assert_ptr_null(cso_method_names[CARSO_ATTACK_FAB_TARGETED + 1]);
    ck_assert_str_eq(cso_loss_names[CARSO_LOSS_LOG_ODDS], "log-odds");
    ck_assert_str_eq(cso_loss_names[CARSO_LOSS_CARSO_MARGIN], "carso-margin");
    ck_assert_str_eq(cso_loss_names[CARSO_LOSS_CARSO_MARGIN + 1], "callback");
    ck_assert_ptr_null(cso_loss_names[CARSO_LOSS_CARSO_MARGIN + 2]);
}
END_TEST

/* Wilson, 1927: 8 of 10, and limits; more predictions an image narrow it no further than they vary. */
START_TEST(intervals)
{
    const double one[10] = {1, 1, 1, 1, 1, 1, 1, 1, 0, 0}, half[10] = {.5, .5, .5, .5, .5, .5, .5, .5, .5, .5}, none[10] = {0};
    double mean, low, high;
    cso_interval(one, 10, 1, &mean, &low, &high);
    ck_assert_double_eq_tol(mean, .8, 1e-12);
    ck_assert_double_eq_tol(low, .4901625, 1e-6);
    ck_assert_double_eq_tol(high, .9433178, 1e-6);
    cso_interval(one, 10, 100, &mean, &low, &high);
    ck_assert_double_eq_tol(low, .4901625, 1e-6);
    cso_interval(none, 10, 100, &mean, &low, &high);
    ck_assert_double_eq(low, 0);
    ck_assert_double_eq_tol(high, .2775328, 1e-6);
    cso_interval(half, 10, 100, &mean, &low, &high);
    ck_assert_double_eq_tol(low, .2365931, 1e-6);
    cso_interval(one, 0, 1, &mean, &low, &high);
    ck_assert_double_eq(mean, 0);
}
END_TEST

START_TEST(bounds)
{
    carso_evaluation ball = {.image_size = 2, .norm = CARSO_NORM_LINF};
    const float centre[] = {100.0f / 255, 0.5f}, on[] = {108.0f / 255, 0.5f}, out[] = {0.3f, 1.00001f}, far[] = {0.5f, 0.4f};
    float rounded[2];
    ck_assert(cso_inside(&ball, 0.1, centre, centre));
    ck_assert(!cso_inside(&ball, 0.02, centre, on));
    ck_assert(!cso_inside(&ball, 5, centre, out));
    const float nan_point[] = {NAN, 0.5f};
    ck_assert(!cso_inside(&ball, 5, centre, nan_point));
    /* Levels stay; 0.5 lies between two. */
    ck_assert(cso_eight_bit(&ball, 8 / 255.0, centre, on, rounded));
    ck_assert_double_eq((double)rounded[0], (double)on[0]);
    ck_assert_double_eq_tol((double)rounded[1], 0.5, 0.002);
    /* No level near 0.5 is within so little. */
    ck_assert(!cso_eight_bit(&ball, 0.001, centre, centre, rounded));
    ball.norm = CARSO_NORM_L2;
    const double length = sqrt(0.1 * 0.1 + pow(0.5 - 100 / 255.0, 2));
    ck_assert(cso_inside(&ball, length + 1e-6, centre, far));
    ck_assert(!cso_inside(&ball, length - 1e-6, centre, far));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("evaluation");
    TCase *tests = tcase_create("evaluation");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, toy_open, toy_close);
    tcase_add_test(tests, worst_point_of_each_image);
    tcase_add_test(tests, epsilon_0_is_clean_accuracy);
    tcase_add_test(tests, epsilon_0_of_the_defence);
    tcase_add_test(tests, scored_by_the_defence_as_predicted);
    tcase_add_test(tests, a_result_of_nothing);
    tcase_add_test(tests, progress_and_cancellation);
    tcase_add_test(tests, cost_is_known);
    tcase_add_test(tests, bad_options);
    tcase_add_test(tests, bad_descriptions);
    tcase_add_test(tests, built_in_protocols);
    tcase_add_test(tests, names_of_methods_and_losses);
    tcase_add_test(tests, intervals);
    tcase_add_test(tests, bounds);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
