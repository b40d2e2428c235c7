/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attack/losses.h"
#include "counting_allocator.h"

#define LOSSES 10

enum { DRAWS = 3, COUNT = 2, CLASSES = 4, ALL = DRAWS * COUNT * CLASSES };

static counting_allocator counts;
static carso_context *context;
static const int32_t *targets;

static void set_up(void)
{
    memset(&counts, 0, sizeof counts);
    context = counting_context(&counts);
    ck_assert_ptr_nonnull(context);
    targets = NULL;
}

static void tear_down(void)
{
    carso_context_destroy(context);
    ck_assert_int_eq(atomic_load(&counts.held), 0);
}

static carso_status evaluate(carso_loss loss, const int32_t *labels, int64_t first, const double *logits,
                             double *losses, double *gradient)
{
    cso_loss_request request = {.loss = loss, .labels = labels, .context = context, .targets = targets};
    return cso_loss_function(&request, first, COUNT, DRAWS, CLASSES, logits, losses, gradient);
}

static void fill_logits(double *logits, double scale)
{
    uint64_t state = 11;
    for (int k = 0; k < ALL; k++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        logits[k] = scale * ((double)(state >> 11) / (double)(UINT64_C(1) << 52) - 1);
    }
}

START_TEST(gradients_are_the_derivatives)
{
    static const int32_t towards[] = {9, 9, 9, 1, 3};
    const carso_loss loss = (carso_loss)(_i % LOSSES);
    targets = _i < LOSSES ? NULL : towards;
    const int32_t labels[] = {9, 9, 9, 2, 0}; /* of the call; these are images 3 and 4 */
    double logits[ALL], losses[COUNT], gradient[ALL], above[COUNT], below[COUNT];
    fill_logits(logits, 1.5);
    ck_assert_int_eq(evaluate(loss, labels, 3, logits, losses, gradient), CARSO_OK);
    for (int k = 0; k < ALL; k++) {
        const double kept = logits[k], h = 1e-5;
        const int image = k / CLASSES % COUNT;
        logits[k] = kept + h;
        ck_assert_int_eq(evaluate(loss, labels, 3, logits, above, NULL), CARSO_OK);
        logits[k] = kept - h;
        ck_assert_int_eq(evaluate(loss, labels, 3, logits, below, NULL), CARSO_OK);
        logits[k] = kept;
        /* the error of the difference is about h^2 and 1e-16 / h, both 1e-10 */
        ck_assert_double_eq_tol(gradient[k], (above[image] - below[image]) / (2 * h), 2e-8);
        ck_assert_double_eq(above[1 - image], losses[1 - image]);
    }
}
END_TEST

/* One draw, logits by hand. */
START_TEST(values_by_hand)
{
    const int32_t label = 1;
    const double logits[] = {2, 0, 1}, sum = exp(2) + 1 + exp(1);
    const double s[] = {exp(2), 1, exp(1)}, total = exp(s[0]) + exp(s[1]) + exp(s[2]);
    /* The guard of 1e-12 in DLR's denominator is within the tolerance. */
    const double expected[LOSSES] = {log(sum),
                                     2,
                                     log(sum),
                                     log(exp(s[0]) + exp(s[2])) - s[1],
                                     log(total) - s[1],
                                     1, /* the label is third: DLR is 1 whatever the logits */
                                     2,
                                     1,
                                     1,
                                     2};
    for (int loss = 0; loss < LOSSES; loss++) {
        cso_loss_request request = {.loss = (carso_loss)loss, .labels = &label, .context = context};
        double value;
        ck_assert_int_eq(cso_loss_function(&request, 0, 1, 1, 3, logits, &value, NULL), CARSO_OK);
        ck_assert_double_eq_tol(value, expected[loss], 3e-12);
    }
}
END_TEST

/* The mean of probabilities is not the softmax of the mean. */
START_TEST(draws_are_averaged_where_the_loss_says)
{
    const int32_t label = 0;
    const double logits[] = {6, 0, /**/ -4, 0};
    const double p[] = {1 / (1 + exp(-6)), 1 / (1 + exp(4))};
    const double expected[] = {log1p(exp(-1)), -1, -log((p[0] + p[1]) / 2)};
    for (int loss = 0; loss < 3; loss++) {
        cso_loss_request request = {.loss = (carso_loss)loss, .labels = &label, .context = context};
        double value;
        ck_assert_int_eq(cso_loss_function(&request, 0, 1, 2, 2, logits, &value, NULL), CARSO_OK);
        ck_assert_double_eq_tol(value, expected[loss], 1e-14);
    }
}
END_TEST

/* Where logits are 700 apart its slope is whole. */
START_TEST(carso_margin_by_hand)
{
    const int32_t label = 0, target = 0, other = 1;
    const double logits[] = {3, 1, /**/ -2, 2}, far[] = {700, 0, /**/ -700, 0};
    double value, gradient[4];
    cso_loss_request request = {.loss = CARSO_LOSS_CARSO_MARGIN, .labels = &label, .context = context};
    const double sums[] = {exp(3) + exp(-2), exp(1) + exp(2)};
    ck_assert_int_eq(cso_loss_function(&request, 0, 1, 2, 2, logits, &value, gradient), CARSO_OK);
    ck_assert_double_eq_tol(value, log(sums[1] / sums[0]), 1e-14);
    ck_assert_double_eq_tol(gradient[1], exp(1) / sums[1], 1e-14);
    ck_assert_double_eq_tol(gradient[2], -exp(-2) / sums[0], 1e-14);
    request.labels = &other;
    request.targets = &target;
    ck_assert_int_eq(cso_loss_function(&request, 0, 1, 2, 2, far, &value, gradient), CARSO_OK);
    ck_assert_double_eq_tol(value, 700 - log(2), 1e-12);
    ck_assert_double_eq_tol(gradient[0], 1, 1e-14);
    ck_assert_double_eq_tol(gradient[1], -0.5, 1e-14);
    for (int loss = 0; loss < LOSSES; loss++) {
        const carso_loss margin = cso_loss_margin((carso_loss)loss);
        ck_assert(margin == CARSO_LOSS_MARGIN || margin == CARSO_LOSS_PROBABILITY_MARGIN ||
                  margin == CARSO_LOSS_CARSO_MARGIN);
        ck_assert_int_eq(cso_loss_margin(margin), margin);
    }
    ck_assert_int_eq(cso_loss_margin(CARSO_LOSS_LOG_ODDS), CARSO_LOSS_CARSO_MARGIN);
    ck_assert_int_eq(cso_loss_margin(CARSO_LOSS_PROBABILITY_DLR), CARSO_LOSS_PROBABILITY_MARGIN);
    ck_assert_int_eq(cso_loss_margin(CARSO_LOSS_CROSS_ENTROPY), CARSO_LOSS_MARGIN);
}
END_TEST

START_TEST(finite_for_logits_up_to_700)
{
    const int32_t labels[] = {1, 3};
    double logits[ALL], losses[COUNT], gradient[ALL];
    fill_logits(logits, 700);
    logits[0] = logits[CLASSES + 3] = 700;
    ck_assert_int_eq(evaluate((carso_loss)_i, labels, 0, logits, losses, gradient), CARSO_OK);
    for (int k = 0; k < ALL; k++) {
        ck_assert(isfinite(gradient[k]));
    }
    ck_assert(isfinite(losses[0]) && isfinite(losses[1]));
}
END_TEST

static double one_draw(carso_loss loss, int32_t label, const int32_t *target, const double *logits, int classes,
                       double *gradient)
{
    cso_loss_request request = {.loss = loss, .labels = &label, .context = context, .targets = target};
    double value;
    ck_assert_int_eq(cso_loss_function(&request, 0, 1, 1, classes, logits, &value, gradient), CARSO_OK);
    return value;
}

/* From the paper's formulas: label first, second and last, untargeted and targeted. */
START_TEST(dlr_by_hand)
{
    static const carso_loss losses[] = {CARSO_LOSS_DLR, CARSO_LOSS_PROBABILITY_DLR, CARSO_LOSS_CARSO_DLR};
    const double logits[] = {1, 4, 2, -1, 0.5};
    const int32_t target = 4;
    double z[5];
    for (int i = 0; i < 5; i++) {
        z[i] = _i == 2 ? exp(logits[i]) : logits[i];
    }
    /* the guard of 1e-12 against denominators of 3 and 52 */
    ck_assert_double_eq_tol(one_draw(losses[_i], 1, NULL, logits, 5, NULL), -(z[1] - z[2]) / (z[1] - z[0]), 2e-12);
    ck_assert_double_eq_tol(one_draw(losses[_i], 2, NULL, logits, 5, NULL), -(z[2] - z[1]) / (z[1] - z[0]), 2e-12);
    ck_assert_double_eq_tol(one_draw(losses[_i], 3, NULL, logits, 5, NULL), -(z[3] - z[1]) / (z[1] - z[0]), 2e-12);
    ck_assert_double_eq_tol(one_draw(losses[_i], 1, &target, logits, 5, NULL),
                            -(z[1] - z[4]) / (z[1] - (z[0] + z[4]) / 2), 2e-12);
}
END_TEST

START_TEST(dlr_ignores_shift_and_scale)
{
    const double logits[] = {1, 4, 2, -1, 0.5};
    const int32_t target = 3;
    double other[5];
    for (int i = 0; i < 5; i++) {
        other[i] = 1000 * logits[i] - 77;
    }
    const double value = one_draw(CARSO_LOSS_DLR, 1, _i ? &target : NULL, logits, 5, NULL);
    ck_assert_double_eq_tol(one_draw(CARSO_LOSS_DLR, 1, _i ? &target : NULL, other, 5, NULL), value, 2e-12);
}
END_TEST

/* exp(20) to 1: the ratio is -1 to 13 digits, and its slopes are those of the paper's formula all the same. */
START_TEST(dlr_keeps_its_gradient_where_one_class_leads)
{
    const double logits[] = {20, 1, 0, -3}, scale = exp(-20);
    double gradient[4];
    one_draw(CARSO_LOSS_CARSO_DLR, 0, NULL, logits, 4, gradient);
    const double second = exp(1) * scale, third = scale, range = 1 - third + 1e-12;
    ck_assert_double_eq_tol(gradient[0] / ((third - second - 1e-12) / (range * range)), 1, 1e-12);
    ck_assert_double_eq_tol(gradient[1] / (second / range), 1, 1e-12);
    ck_assert_double_lt(gradient[2], 0);
    ck_assert(gradient[3] == 0);
}
END_TEST

START_TEST(dlr_of_equal_logits_is_finite)
{
    const double logits[] = {2, 2, 2, 2};
    const int32_t target = 2;
    for (int towards = 0; towards < 2; towards++) {
        double gradient[4];
        ck_assert_double_eq(one_draw(CARSO_LOSS_DLR, 1, towards ? &target : NULL, logits, 4, gradient), 0);
        for (int i = 0; i < 4; i++) {
            ck_assert(isfinite(gradient[i]));
        }
        ck_assert(gradient[1] < 0 && gradient[towards ? 2 : 0] > 0);
    }
}
END_TEST

START_TEST(targets_turn_losses_round)
{
    const double logits[] = {2, 0, 1, -1};
    const int32_t target = 3;
    static const carso_loss kinds[] = {CARSO_LOSS_CROSS_ENTROPY, CARSO_LOSS_PROBABILITY_CROSS_ENTROPY,
                                       CARSO_LOSS_LOG_ODDS, CARSO_LOSS_CARSO_CROSS_ENTROPY};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        ck_assert_double_eq(one_draw(kinds[k], 0, &target, logits, 4, NULL),
                            -one_draw(kinds[k], 3, NULL, logits, 4, NULL));
    }
    ck_assert_double_eq(one_draw(CARSO_LOSS_MARGIN, 0, &target, logits, 4, NULL), -3);
    ck_assert_double_eq_tol(one_draw(CARSO_LOSS_PROBABILITY_MARGIN, 0, &target, logits, 4, NULL), -3, 1e-14);
}
END_TEST

/* Of three draws two prefer class 0: mean probabilities do too. One is sure of class 1, and outweighs them. */
START_TEST(wrong_is_of_the_loss_s_aggregation)
{
    const double logits[] = {3, 0, 0, /**/ 3, 0, 0, /**/ -9, 8, 0};
    const double lopsided[] = {9, 0, 0, /**/ 0, 6, 0, /**/ 0, 6, 0};
    const int32_t label = 1, target = 0;
    /* mean logits: class 1 in both; mean probabilities: 0, then 1; sums of exp: 1, then 0 */
    static const uint8_t expected[2][LOSSES] = {{0, 0, 1, 0, 0, 0, 1, 1, 0, 0}, {0, 0, 0, 1, 1, 0, 0, 0, 1, 1}};
    for (int loss = 0; loss < LOSSES; loss++) {
        for (int which = 0; which < 2; which++) {
            uint8_t judged = 7;
            double losses;
            cso_loss_request request = {
                .loss = (carso_loss)loss, .labels = &label, .context = context, .wrong = &judged};
            ck_assert_int_eq(
                cso_loss_function(&request, 0, 1, 3, 3, which ? lopsided : logits, &losses, NULL), CARSO_OK);
            ck_assert_int_eq(judged, expected[which][loss]);
        }
    }
    uint8_t wrong = 7;
    double value;
    cso_loss_request request = {.labels = &label, .targets = &target, .wants_target = true, .context = context,
                                .wrong = &wrong};
    const double third[] = {0, 1, 4};
    ck_assert_int_eq(cso_loss_function(&request, 0, 1, 1, 3, third, &value, NULL), CARSO_OK);
    ck_assert_int_eq(wrong, 0); /* not as the label says, but not the target either */
    request.wants_target = false;
    ck_assert_int_eq(cso_loss_function(&request, 0, 1, 1, 3, third, &value, NULL), CARSO_OK);
    ck_assert_int_eq(wrong, 1);
    const double spoilt[] = {0, NAN, 4};
    ck_assert_int_eq(cso_loss_function(&request, 0, 1, 1, 3, spoilt, &value, NULL), CARSO_OK);
    ck_assert_int_eq(wrong, 0);
}
END_TEST

START_TEST(least_classes)
{
    for (int loss = 0; loss < LOSSES; loss++) {
        const bool dlr = loss == CARSO_LOSS_DLR || loss == CARSO_LOSS_PROBABILITY_DLR || loss == CARSO_LOSS_CARSO_DLR;
        ck_assert_int_eq(cso_loss_least_classes((carso_loss)loss, false), dlr ? 3 : 0);
        ck_assert_int_eq(cso_loss_least_classes((carso_loss)loss, true), dlr ? 4 : 0);
    }
}
END_TEST

/* A sum of exp(10) leads: the paper's cross-entropy and its gradient are exactly 0, the log odds are not. */
START_TEST(paper_cross_entropy_vanishes_openly)
{
    const int32_t label = 0;
    const double logits[] = {10, 0};
    double value, gradient[2];
    cso_loss_request request = {.loss = CARSO_LOSS_CARSO_CROSS_ENTROPY, .labels = &label, .context = context};
    ck_assert_int_eq(cso_loss_function(&request, 0, 1, 1, 2, logits, &value, gradient), CARSO_OK);
    ck_assert_double_eq(value, 0);
    ck_assert(gradient[0] == 0 && gradient[1] == 0);
    request.loss = CARSO_LOSS_LOG_ODDS;
    ck_assert_int_eq(cso_loss_function(&request, 0, 1, 1, 2, logits, &value, gradient), CARSO_OK);
    ck_assert_double_eq_tol(value, 1 - exp(10), 1e-9);
    ck_assert_double_eq_tol(gradient[0], -exp(10), 1e-9);
    ck_assert_double_eq_tol(gradient[1], 1, 1e-12);
}
END_TEST

START_TEST(a_bad_logit_spoils_its_image_only)
{
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    const int32_t labels[] = {1, 3};
    double logits[ALL], clean_loss[COUNT], clean[ALL], losses[COUNT], gradient[ALL];
    fill_logits(logits, 2);
    ck_assert_int_eq(evaluate((carso_loss)_i, labels, 0, logits, clean_loss, clean), CARSO_OK);
    for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
        logits[(1 * COUNT + 1) * CLASSES + 2] = bad[b]; /* draw 1, image 1, class 2 */
        ck_assert_int_eq(evaluate((carso_loss)_i, labels, 0, logits, losses, gradient), CARSO_OK);
        ck_assert(isnan(losses[1]));
        ck_assert_double_eq(losses[0], clean_loss[0]);
        for (int k = 0; k < ALL; k++) {
            if (k / CLASSES % COUNT == 1) {
                ck_assert(isnan(gradient[k]));
            } else {
                ck_assert_double_eq(gradient[k], clean[k]);
            }
        }
    }
}
END_TEST

START_TEST(margin_takes_the_lowest_of_equal_classes)
{
    const int32_t label = 1;
    const double logits[] = {3, 5, 3};
    double value, gradient[3];
    cso_loss_request request = {.loss = CARSO_LOSS_MARGIN, .labels = &label, .context = context};
    ck_assert_int_eq(cso_loss_function(&request, 0, 1, 1, 3, logits, &value, gradient), CARSO_OK);
    ck_assert_double_eq(value, -2);
    ck_assert(gradient[0] == 1 && gradient[1] == -1 && gradient[2] == 0);
}
END_TEST

START_TEST(out_of_memory)
{
    const int32_t labels[] = {1, 3};
    double logits[ALL], losses[COUNT];
    fill_logits(logits, 2);
    atomic_store(&counts.failing, atomic_load(&counts.made) + 1);
    ck_assert_int_eq(evaluate(CARSO_LOSS_MARGIN, labels, 0, logits, losses, NULL), CARSO_ERROR_OUT_OF_MEMORY);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("losses");
    TCase *tests = tcase_create("losses");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, gradients_are_the_derivatives, 0, 2 * LOSSES);
    tcase_add_test(tests, values_by_hand);
    tcase_add_test(tests, carso_margin_by_hand);
    tcase_add_test(tests, draws_are_averaged_where_the_loss_says);
    tcase_add_loop_test(tests, finite_for_logits_up_to_700, 0, LOSSES);
    tcase_add_loop_test(tests, dlr_by_hand, 0, 3);
    tcase_add_test(tests, dlr_keeps_its_gradient_where_one_class_leads);
    tcase_add_test(tests, dlr_of_equal_logits_is_finite);
    tcase_add_test(tests, targets_turn_losses_round);
    tcase_add_test(tests, wrong_is_of_the_loss_s_aggregation);
    tcase_add_test(tests, least_classes);
    tcase_add_loop_test(tests, dlr_ignores_shift_and_scale, 0, 2);
    tcase_add_test(tests, paper_cross_entropy_vanishes_openly);
    tcase_add_loop_test(tests, a_bad_logit_spoils_its_image_only, 0, LOSSES);
    tcase_add_test(tests, margin_takes_the_lowest_of_equal_classes);
    tcase_add_test(tests, out_of_memory);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
