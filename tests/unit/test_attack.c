/* SPDX-License-Identifier: BSD-2-Clause */
/* What attacks do to images. */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attack_case.h"

START_TEST(raises_every_loss_of_both_objectives)
{
    for (int objective = 0; objective < 2; objective++) {
        for (int loss = 0; loss <= CARSO_LOSS_CARSO_MARGIN; loss++) {
            options.objective = objective;
            options.loss = loss;
            again(CARSO_OK);
            check_bounds();
            ck_assert_uint_eq(carso_attack_result_count(result), COUNT);
            for (int i = 0; i < COUNT; i++) {
                const double first = carso_attack_result_first_loss(result)[i],
                             last = carso_attack_result_last_loss(result)[i];
                ck_assert_msg(last > first, "objective %d, loss %d, image %d: %g to %g", objective, loss, i, first,
                              last);
                ck_assert_int_eq(carso_attack_result_non_finite(result)[i], 0);
                ck_assert(carso_attack_result_zero_gradient(result)[i] >= 0 &&
                          carso_attack_result_zero_gradient(result)[i] < 0.5);
            }
        }
    }
}
END_TEST

/* On the classifier, which has no draws, FGSM is the sign of carso_gradient. */
START_TEST(fgsm_follows_the_gradient)
{
    static float gradient[ALL];
    double losses[COUNT];
    options.method = CARSO_ATTACK_FGSM;
    again(CARSO_OK);
    check_bounds();
    ck_assert_int_eq(carso_gradient(model, &images, labels, NULL, gradient, losses, NULL), CARSO_OK);
    for (int k = 0; k < ALL; k++) {
        const double sign = gradient[k] > 0 ? 1 : gradient[k] < 0 ? -1 : 0;
        ck_assert_double_eq_tol(carso_attack_result_images(result)[k], fmin(1, fmax(0, (double)pixels[k] + 0.1 * sign)),
                                6e-8);
    }
    ck_assert_mem_eq(losses, carso_attack_result_first_loss(result), sizeof losses);
    const carso_images attacked = describe_images(carso_attack_result_images(result), COUNT);
    ck_assert_int_eq(carso_gradient(model, &attacked, labels, NULL, gradient, losses, NULL), CARSO_OK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq_tol(losses[i], carso_attack_result_last_loss(result)[i], 1e-5);
    }
}
END_TEST

/* One step on the defence from the original, by hand: the first draws of the attack's own stream. */
START_TEST(eot_averages_over_fresh_draws)
{
    static float gradient[2][ALL];
    static const uint64_t index[COUNT] = {20, 21, 22};
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    options.loss = CARSO_LOSS_MARGIN;
    options.steps = 1;
    options.random_start = 0;
    options.eot = 2;
    options.first_image = 20;
    options.step_size = options.epsilon;
    again(CARSO_OK);
    check_bounds();
    cso_model_objective settings = {.model = model,
                                    .kind = CARSO_OBJECTIVE_DEFENCE,
                                    .loss = CARSO_LOSS_MARGIN,
                                    .draws = 2,
                                    .seed = 12,
                                    .purpose = CSO_PURPOSE_ATTACK_LATENT};
    const cso_objective objective = cso_model_objective_create(&settings);
    double losses[COUNT];
    for (uint32_t e = 0; e < 2; e++) {
        ck_assert_int_eq(objective.evaluate(&settings, pixels, COUNT, index, 2 * e, labels, losses, gradient[e]),
                         CARSO_OK);
    }
    int differ = 0;
    for (int k = 0; k < ALL; k++) {
        const double mean = ((double)gradient[0][k] + (double)gradient[1][k]) / 2;
        const double sign = mean > 0 ? 1 : mean < 0 ? -1 : 0;
        differ += gradient[0][k] != gradient[1][k];
        ck_assert_double_eq_tol(carso_attack_result_images(result)[k], fmin(1, fmax(0, (double)pixels[k] + 0.1 * sign)),
                                6e-8);
    }
    ck_assert_int_gt(differ, ALL / 2);
    settings.purpose = CSO_PURPOSE_LATENT; /* scoring's draws are others */
    ck_assert_int_eq(objective.evaluate(&settings, pixels, COUNT, index, 0, labels, losses, gradient[1]), CARSO_OK);
    ck_assert_mem_ne(gradient[0], gradient[1], sizeof gradient[0]);
}
END_TEST

/* Two steps by hand, both with draws 0 and 1 of the attack's stream. */
START_TEST(draws_can_be_held_still)
{
    static float gradient[ALL], point[ALL];
    static const uint64_t index[COUNT] = {0, 1, 2};
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    options.loss = CARSO_LOSS_MARGIN;
    options.steps = 2;
    options.random_start = 0;
    options.fixed_draws = 1;
    again(CARSO_OK);
    cso_model_objective settings = {.model = model,
                                    .kind = CARSO_OBJECTIVE_DEFENCE,
                                    .loss = CARSO_LOSS_MARGIN,
                                    .draws = 2,
                                    .seed = 12,
                                    .purpose = CSO_PURPOSE_ATTACK_LATENT};
    const cso_objective objective = cso_model_objective_create(&settings);
    double losses[COUNT];
    memcpy(point, pixels, sizeof point);
    for (int step = 0; step < 2; step++) {
        ck_assert_int_eq(objective.evaluate(&settings, point, COUNT, index, 0, labels, losses, gradient), CARSO_OK);
        for (int k = 0; k < ALL; k++) {
            point[k] = fminf(1, fmaxf(0, point[k] + (gradient[k] > 0 ? 0.03f : gradient[k] < 0 ? -0.03f : 0)));
        }
    }
    int differ = 0; /* where the gradient is near 0, the last bits of a point turn a sign */
    for (int k = 0; k < ALL; k++) {
        differ += fabsf(point[k] - carso_attack_result_images(result)[k]) > 1e-6f;
    }
    ck_assert_int_le(differ, ALL / 100);
    options.fixed_draws = 0;
    memcpy(point, carso_attack_result_images(result), sizeof point);
    again(CARSO_OK);
    ck_assert_mem_ne(point, carso_attack_result_images(result), sizeof point);
}
END_TEST

/* The points are those of the attack on the classifier; the losses are the defence's, with draws of the attack. */
START_TEST(transfer_attacks_the_classifier)
{
    static float alone[ALL];
    static const uint64_t index[COUNT] = {0, 1, 2};
    double losses[COUNT];
    cso_model_objective settings = {.model = model,
                                    .kind = CARSO_OBJECTIVE_DEFENCE,
                                    .loss = CARSO_LOSS_CROSS_ENTROPY,
                                    .draws = 2,
                                    .seed = 12,
                                    .purpose = CSO_PURPOSE_ATTACK_LATENT};
    const cso_objective objective = cso_model_objective_create(&settings);
    ck_assert_int_eq(objective.evaluate(&settings, pixels, COUNT, index, 0, labels, losses, NULL), CARSO_OK);
    options.random_start = 0;
    options.queries = 30;
    for (int method = 0; method <= CARSO_ATTACK_SQUARE; method++) { /* FAB's losses are others */
        options.method = method;
        options.objective = CARSO_OBJECTIVE_CLASSIFIER;
        options.transfer = 0;
        again(CARSO_OK);
        memcpy(alone, carso_attack_result_images(result), sizeof alone);
        options.objective = CARSO_OBJECTIVE_DEFENCE;
        options.transfer = 1;
        again(CARSO_OK);
        ck_assert_mem_eq(losses, carso_attack_result_first_loss(result), sizeof losses);
        const double *const last = carso_attack_result_last_loss(result);
        for (int i = 0; i < COUNT; i++) {
            const float *const mine = carso_attack_result_images(result) + i * SMALL_IMAGE;
            const bool kept = memcmp(mine, pixels + i * SMALL_IMAGE, SMALL_IMAGE * sizeof *mine) == 0;
            const bool may_differ = method == CARSO_ATTACK_APGD_TARGETED; /* other runs may suit the defence better */
            ck_assert(may_differ || kept ||
                      memcmp(mine, alone + i * SMALL_IMAGE, SMALL_IMAGE * sizeof *mine) == 0);
            ck_assert(!kept || method >= CARSO_ATTACK_APGD);
            ck_assert(isfinite(last[i]) && (last[i] > losses[i] || method < CARSO_ATTACK_APGD || kept));
        }
    }
    options.fixed_draws = 1;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "transfer and fixed_draws", "no draws");
    options.objective = CARSO_OBJECTIVE_CLASSIFIER;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "transfer is 1", "nothing to transfer to");
    options.transfer = 0;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "fixed_draws is 1", "no draws");
}
END_TEST

/* The same image, number and seed give the same attack, alone or in a batch, and under a limit that splits it. */
START_TEST(independent_of_the_batch)
{
    static float whole[ALL];
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    options.loss = CARSO_LOSS_LOG_ODDS;
    options.restarts = 2;
    again(CARSO_OK);
    memcpy(whole, carso_attack_result_images(result), sizeof whole);
    again(CARSO_OK);
    ck_assert_mem_eq(whole, carso_attack_result_images(result), sizeof whole);
    images = describe_images(pixels + SMALL_IMAGE, 1);
    options.first_image = 1;
    carso_attack_result_destroy(result);
    ck_assert_int_eq(carso_attack(model, &images, labels + 1, &options, &result), CARSO_OK);
    ck_assert_mem_eq(whole + SMALL_IMAGE, carso_attack_result_images(result), SMALL_IMAGE * sizeof *whole);

    carso_context *const narrow = named_context("reference", 1);
    carso_model *const split = small_model(narrow);
    images = describe_images(pixels, COUNT);
    options.first_image = 0;
    carso_attack_result_destroy(result);
    ck_assert_int_eq(carso_attack(split, &images, labels, &options, &result), CARSO_OK);
    int differ = 0; /* where the sum over draws is near 0, its order may turn a sign */
    for (int k = 0; k < ALL; k++) {
        differ += whole[k] != carso_attack_result_images(result)[k];
    }
    ck_assert_int_le(differ, ALL / 50);
    carso_model_destroy(split);
    carso_context_destroy(narrow);
}
END_TEST

START_TEST(epsilon_0_returns_the_images)
{
    options.epsilon = 0;
    options.queries = 20;
    for (int method = 0; method <= CARSO_ATTACK_FAB_TARGETED; method++) {
        options.method = method;
        again(CARSO_OK);
        ck_assert_mem_eq(carso_attack_result_images(result), pixels, sizeof pixels);
    }
    options.method = CARSO_ATTACK_PGD;
    options.steps = 0;
    options.random_start = 0;
    options.epsilon = 0.1;
    again(CARSO_OK);
    ck_assert_mem_eq(carso_attack_result_images(result), pixels, sizeof pixels);
}
END_TEST

static bool within_l2(void)
{
    const float *const attacked = carso_attack_result_images(result);
    for (int i = 0; i < COUNT; i++) {
        double sum = 0;
        for (int k = i * SMALL_IMAGE; k < (i + 1) * SMALL_IMAGE; k++) {
            sum += ((double)attacked[k] - (double)pixels[k]) * ((double)attacked[k] - (double)pixels[k]);
            if (attacked[k] < 0 || attacked[k] > 1) {
                return false;
            }
        }
        if (sqrt(sum) > options.epsilon) {
            return false;
        }
    }
    return true;
}

START_TEST(every_method_in_every_norm)
{
    options.loss = CARSO_LOSS_DLR;
    options.queries = 30;
    options.steps = 5;
    for (int objective = 0; objective < 2; objective++) {
        for (int method = CARSO_ATTACK_PGD; method <= CARSO_ATTACK_FAB_TARGETED; method++) {
            for (int norm = 0; norm < 2; norm++) {
                options.objective = objective;
                options.method = method;
                options.norm = norm;
                options.epsilon = norm ? 1.0 : 0.1;
                options.step_size = norm ? 0.3 : 0.03;
                options.momentum = 0.5;
                again(CARSO_OK);
                if (norm) {
                    ck_assert(within_l2());
                } else {
                    check_bounds();
                }
                for (int i = 0; i < COUNT; i++) {
                    const double first = carso_attack_result_first_loss(result)[i],
                                 last = carso_attack_result_last_loss(result)[i];
                    /* FAB leaves images that are misclassified, whatever other draws say of them */
                    ck_assert_msg(last >= first || method >= CARSO_ATTACK_FAB,
                                  "objective %d, method %d, norm %d, image %d: %g to %g", objective, method, norm, i,
                                  first, last);
                    ck_assert_int_eq(carso_attack_result_non_finite(result)[i], 0);
                }
            }
        }
    }
}
END_TEST

/* A target's log probability rises, whatever becomes of the label's. */
START_TEST(targeted_attacks_favour_their_target)
{
    static const int32_t targets[COUNT] = {3, 1, 0};
    static float gradient[ALL];
    double before[COUNT], after[COUNT];
    options.targets = targets;
    ck_assert_int_eq(carso_gradient(model, &images, targets, NULL, gradient, before, NULL), CARSO_OK);
    for (int method = CARSO_ATTACK_FGSM; method <= CARSO_ATTACK_APGD; method++) {
        options.method = method;
        again(CARSO_OK);
        const carso_images attacked = describe_images(carso_attack_result_images(result), COUNT);
        ck_assert_int_eq(carso_gradient(model, &attacked, targets, NULL, gradient, after, NULL), CARSO_OK);
        for (int i = 0; i < COUNT; i++) {
            ck_assert_double_lt(after[i], before[i]); /* cross-entropy of the target */
            ck_assert_double_eq_tol(carso_attack_result_last_loss(result)[i], -after[i], 1e-5);
        }
    }
}
END_TEST

/* Of a model of four classes, all three others; fewer targets leave a loss that is no larger. */
START_TEST(more_targets_are_no_weaker)
{
    double last[COUNT];
    options.method = CARSO_ATTACK_APGD_TARGETED;
    options.loss = CARSO_LOSS_DLR;
    options.target_classes = 1;
    again(CARSO_OK);
    memcpy(last, carso_attack_result_last_loss(result), sizeof last);
    options.target_classes = 9;
    again(CARSO_OK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_ge(carso_attack_result_last_loss(result)[i], last[i]);
    }
}
END_TEST

START_TEST(early_stop_leaves_wrong_images_alone)
{
    carso_prediction *prediction = NULL;
    ck_assert_int_eq(carso_predict(model, &images, NULL, &prediction), CARSO_OK);
    int32_t wrong[COUNT];
    for (int i = 0; i < COUNT; i++) {
        wrong[i] = (carso_prediction_labels(prediction)[i] + 1) % 4;
    }
    carso_prediction_destroy(prediction);
    options.early_stop = 1;
    options.queries = 20;
    for (int method = CARSO_ATTACK_APGD; method <= CARSO_ATTACK_FAB_TARGETED; method++) {
        options.method = method;
        carso_attack_result_destroy(result);
        ck_assert_int_eq(carso_attack(model, &images, wrong, &options, &result), CARSO_OK);
        ck_assert_mem_eq(carso_attack_result_images(result), pixels, sizeof pixels);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attack");
    TCase *tests = tcase_create("attack");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, raises_every_loss_of_both_objectives);
    tcase_add_test(tests, fgsm_follows_the_gradient);
    tcase_add_test(tests, eot_averages_over_fresh_draws);
    tcase_add_test(tests, independent_of_the_batch);
    tcase_add_test(tests, epsilon_0_returns_the_images);
    tcase_add_test(tests, draws_can_be_held_still);
    tcase_add_test(tests, transfer_attacks_the_classifier);
    tcase_add_test(tests, every_method_in_every_norm);
    tcase_add_test(tests, targeted_attacks_favour_their_target);
    tcase_add_test(tests, more_targets_are_no_weaker);
    tcase_add_test(tests, early_stop_leaves_wrong_images_alone);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
