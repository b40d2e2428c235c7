/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attack/losses.h"
#include "counting_allocator.h"

#define LOSSES 5

enum { DRAWS = 3, COUNT = 2, CLASSES = 4, ALL = DRAWS * COUNT * CLASSES };

static counting_allocator counts;
static carso_context *context;

static void set_up(void)
{
    memset(&counts, 0, sizeof counts);
    context = counting_context(&counts);
    ck_assert_ptr_nonnull(context);
}

static void tear_down(void)
{
    carso_context_destroy(context);
    ck_assert_int_eq(atomic_load(&counts.held), 0);
}

static carso_status evaluate(carso_loss loss, const int32_t *labels, int64_t first, const double *logits,
                             double *losses, double *gradient)
{
    cso_loss_request request = {.loss = loss, .labels = labels, .context = context};
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
    const carso_loss loss = (carso_loss)_i;
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
    const double expected[LOSSES] = {log(sum), 2, log(sum), log(exp(s[0]) + exp(s[2])) - s[1], log(total) - s[1]};
    for (int loss = 0; loss < LOSSES; loss++) {
        cso_loss_request request = {.loss = (carso_loss)loss, .labels = &label, .context = context};
        double value;
        ck_assert_int_eq(cso_loss_function(&request, 0, 1, 1, 3, logits, &value, NULL), CARSO_OK);
        ck_assert_double_eq_tol(value, expected[loss], 1e-13);
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

START_TEST(finite_for_logits_up_to_700)
{
    const int32_t labels[] = {1, 3};
    double logits[ALL], losses[COUNT], gradient[ALL];
    fill_logits(logits, 700);
    logits[0] = logits[CLASSES + 3] = 700;
    ck_assert_int_eq(evaluate((carso_loss)_i, labels, 0, logits, losses, gradient), CARSO_OK);
    for (int k = 0; k < ALL; k++)
        ck_assert(isfinite(gradient[k]));
    ck_assert(isfinite(losses[0]) && isfinite(losses[1]));
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
            if (k / CLASSES % COUNT == 1)
                ck_assert(isnan(gradient[k]));
            else
                ck_assert_double_eq(gradient[k], clean[k]);
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
    tcase_add_loop_test(tests, gradients_are_the_derivatives, 0, LOSSES);
    tcase_add_test(tests, values_by_hand);
    tcase_add_test(tests, draws_are_averaged_where_the_loss_says);
    tcase_add_loop_test(tests, finite_for_logits_up_to_700, 0, LOSSES);
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
