/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/aggregation.h"

/*
 * The bound that the library promises, against long double (64 bits of mantissa, so that its own error is under 1e-15
 * wherever the largest sums do not nearly tie). Relative, and absolute for values under 1: log odds pass through 0.
 */
#define TOLERANCE 1e-12L

#define MOST_CLASSES 100
#define MOST_DRAWS 64

static double uniform(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(*state >> 11) / (double)(UINT64_C(1) << 53);
}

static long double log_sum_exp(const long double *x, int count, int without)
{
    long double largest = -HUGE_VALL, sum = 0;
    for (int i = 0; i < count; i++) {
        if (i != without && x[i] > largest) {
            largest = x[i];
        }
    }
    for (int i = 0; i < count; i++) {
        if (i != without) {
            sum += expl(x[i] - largest);
        }
    }
    return largest + logl(sum);
}

/* The definitions, term by term. */
static void reference(carso_aggregation how, const double *logits, int draws, int classes, long double *log_probability,
                      long double *log_odds)
{
    long double score[MOST_CLASSES] = {0}, draw[MOST_CLASSES], inside[MOST_DRAWS], outside[MOST_DRAWS];
    if (how == CARSO_AGGREGATE_PROBABILITY) {
        for (int i = 0; i < classes; i++) {
            for (int d = 0; d < draws; d++) {
                for (int j = 0; j < classes; j++) {
                    draw[j] = logits[d * classes + j];
                }
                const long double total = log_sum_exp(draw, classes, -1);
                inside[d] = draw[i] - total;
                outside[d] = log_sum_exp(draw, classes, i) - total;
            }
            log_probability[i] = log_sum_exp(inside, draws, -1) - logl(draws);
            log_odds[i] = log_sum_exp(inside, draws, -1) - log_sum_exp(outside, draws, -1);
        }
        return;
    }
    for (int i = 0; i < classes; i++) {
        for (int d = 0; d < draws; d++) {
            score[i] +=
                how == CARSO_AGGREGATE_CARSO ? expl(logits[d * classes + i]) : (long double)logits[d * classes + i];
        }
        if (how == CARSO_AGGREGATE_LOGIT) {
            score[i] /= draws;
        }
    }
    for (int i = 0; i < classes; i++) {
        log_probability[i] = score[i] - log_sum_exp(score, classes, -1);
        log_odds[i] = score[i] - log_sum_exp(score, classes, i);
    }
}

static void check_close(double value, long double expected, const char *what, int draws, int classes, double scale)
{
    const long double magnitude = fabsl(expected) > 1 ? fabsl(expected) : 1;
    ck_assert_msg(isfinite(value) && fabsl(value - expected) <= TOLERANCE * magnitude,
                  "%s of %d draws, %d classes, logits up to %g: %.17g, expected %.20Lg", what, draws, classes, scale,
                  value, expected);
}

static const double scales[] = {0.01, 1, 5, 20, 100, 700};
static const int draw_counts[] = {1, 2, 8, MOST_DRAWS};
static const int class_counts[] = {2, 3, 10, MOST_CLASSES};

START_TEST(agrees_with_long_double)
{
    const carso_aggregation how = (carso_aggregation)_i;
    uint64_t state = 7;
    double logits[MOST_DRAWS * MOST_CLASSES], log_probability[MOST_CLASSES], log_odds[MOST_CLASSES],
        scratch[CSO_AGGREGATE_SCRATCH(MOST_CLASSES)];
    long double expected_probability[MOST_CLASSES], expected_odds[MOST_CLASSES];
    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
        for (size_t n = 0; n < 4; n++) {
            for (size_t c = 0; c < 4; c++) {
                for (int repeat = 0; repeat < (draw_counts[n] * class_counts[c] > 200 ? 1 : 10); repeat++) {
                    const int draws = draw_counts[n], classes = class_counts[c];
                    for (int k = 0; k < draws * classes; k++) {
                        logits[k] = scales[s] * (2 * uniform(&state) - 1);
                    }
                    cso_aggregate(how, logits, draws, classes, classes, log_probability, log_odds, scratch);
                    reference(how, logits, draws, classes, expected_probability, expected_odds);
                    double total = 0;
                    for (int i = 0; i < classes; i++) {
                        check_close(log_probability[i], expected_probability[i], "log P", draws, classes, scales[s]);
                        check_close(log_odds[i], expected_odds[i], "log odds", draws, classes, scales[s]);
                        total += exp(log_probability[i]);
                    }
                    ck_assert_double_eq_tol(total, 1.0, 1e-13);
                }
            }
        }
    }
}
END_TEST

/* Logits as a trained network gives them, with a leading class; offsets make the paper's sums large and close. */
START_TEST(near_ties_keep_their_difference)
{
    double log_odds[2], scratch[CSO_AGGREGATE_SCRATCH(2)];
    const double offsets[] = {0, 10, 30, 100, 690};
    for (size_t k = 0; k < sizeof offsets / sizeof *offsets; k++) {
        for (double gap = 1; gap > 1e-9; gap /= 10) {
            const double logits[] = {offsets[k], offsets[k] + gap};
            cso_aggregate(CARSO_AGGREGATE_CARSO, logits, 1, 2, 2, NULL, log_odds, scratch);
            const long double expected = expl(logits[0]) * expm1l((long double)logits[1] - logits[0]);
            ck_assert_msg(fabsl(log_odds[1] - expected) <= TOLERANCE * expected, "offset %g, gap %g: %.17g, not %.17Lg",
                          offsets[k], gap, log_odds[1], expected);
            ck_assert_double_eq(log_odds[0], -log_odds[1]);
        }
    }
}
END_TEST

START_TEST(sums_beyond_double_saturate)
{
    enum { DRAWS = 65536 };
    double *const logits = malloc(DRAWS * 3 * sizeof *logits);
    double log_probability[3], log_odds[3], scratch[CSO_AGGREGATE_SCRATCH(3)];
    for (int d = 0; d < DRAWS; d++) {
        logits[3 * d] = 700;
        logits[3 * d + 1] = -700;
        logits[3 * d + 2] = 699;
    }
    cso_aggregate(CARSO_AGGREGATE_CARSO, logits, DRAWS, 3, 3, log_probability, log_odds, scratch);
    ck_assert_double_eq(log_odds[0], DBL_MAX); /* the true value is 4.2e308 */
    ck_assert_double_eq(log_odds[1], -DBL_MAX);
    ck_assert_double_eq(log_odds[2], -DBL_MAX);
    ck_assert_double_eq(log_probability[0], 0);
    ck_assert_double_eq(log_probability[1], -DBL_MAX);
    for (int d = 0; d < DRAWS; d++) {
        logits[3 * d + 2] = 700;
    }
    cso_aggregate(CARSO_AGGREGATE_CARSO, logits, DRAWS, 3, 3, log_probability, log_odds, scratch);
    ck_assert_double_eq(log_odds[0], 0);
    ck_assert_double_eq(log_odds[2], 0);
    ck_assert_double_eq_tol(exp(log_probability[0]), 0.5, 1e-15);
    for (int how = 0; how < 3; how++) {
        for (int k = 0; k < 3 * DRAWS; k++) {
            logits[k] = k % 3 == 0 ? 1e5 : -1e300 * (k % 3);
        }
        cso_aggregate((carso_aggregation)how, logits, 2, 3, 3, log_probability, log_odds, scratch);
        for (int i = 0; i < 3; i++) {
            ck_assert(isfinite(log_odds[i]) && isfinite(log_probability[i]));
        }
        ck_assert_int_eq(cso_arg_max(log_odds, 3), 0);
    }
    free(logits);
}
END_TEST

START_TEST(ties_are_exact)
{
    double log_odds[4], scratch[CSO_AGGREGATE_SCRATCH(4)];
    const double logits[] = {0.3, 2.1, 2.1, -5, /**/ 0.1, 1.7, 1.7, 1.6};
    for (int how = 0; how < 3; how++) {
        cso_aggregate((carso_aggregation)how, logits, 2, 4, 4, NULL, log_odds, scratch);
        ck_assert_double_eq(log_odds[1], log_odds[2]);
        ck_assert_int_eq(cso_arg_max(log_odds, 4), 1);
    }
}
END_TEST

/* A stride between draws, and outputs that are not wanted. */
START_TEST(strides_and_null_outputs)
{
    double log_odds[2], packed[2], log_probability[2], scratch[CSO_AGGREGATE_SCRATCH(2)];
    const double spread[] = {1, 2, NAN, NAN, NAN, 0.5, -1, NAN, NAN, NAN}, dense[] = {1, 2, 0.5, -1};
    for (int how = 0; how < 3; how++) {
        cso_aggregate((carso_aggregation)how, spread, 2, 5, 2, NULL, log_odds, scratch);
        cso_aggregate((carso_aggregation)how, dense, 2, 2, 2, log_probability, packed, scratch);
        ck_assert_mem_eq(log_odds, packed, sizeof packed);
        cso_aggregate((carso_aggregation)how, dense, 2, 2, 2, log_probability, NULL, scratch);
        ck_assert_double_eq_tol(log_probability[0] - log_probability[1], packed[0], 1e-14);
    }
}
END_TEST

START_TEST(log_odds_gradient_is_the_derivative)
{
    enum { DRAWS = 3, CLASSES = 5 };
    uint64_t state = 3;
    double logits[DRAWS * CLASSES], gradient[DRAWS * CLASSES], scratch[CSO_AGGREGATE_SCRATCH(CLASSES)], above[CLASSES],
        below[CLASSES];
    for (int k = 0; k < DRAWS * CLASSES; k++) {
        logits[k] = 4 * uniform(&state) - 2;
    }
    for (int label = 0; label < CLASSES; label++) {
        cso_aggregate_log_odds_gradient(logits, DRAWS, CLASSES, CLASSES, label, gradient, scratch);
        for (int k = 0; k < DRAWS * CLASSES; k++) {
            const double kept = logits[k], h = 1e-5;
            logits[k] = kept + h;
            cso_aggregate(CARSO_AGGREGATE_CARSO, logits, DRAWS, CLASSES, CLASSES, NULL, above, scratch);
            logits[k] = kept - h;
            cso_aggregate(CARSO_AGGREGATE_CARSO, logits, DRAWS, CLASSES, CLASSES, NULL, below, scratch);
            logits[k] = kept;
            /* h^2 and rounding / h are both about 1e-10 */
            ck_assert_double_eq_tol(gradient[k], (above[label] - below[label]) / (2 * h),
                                    1e-8 * (1 + fabs(gradient[k])));
        }
    }
}
END_TEST

START_TEST(log_odds_gradient_is_finite_up_to_700)
{
    double gradient[6], scratch[CSO_AGGREGATE_SCRATCH(3)];
    const double logits[] = {700, 699.5, -700, 3, 700, -2};
    for (int label = 0; label < 3; label++) {
        cso_aggregate_log_odds_gradient(logits, 2, 3, 3, label, gradient, scratch);
        for (int k = 0; k < 6; k++) {
            ck_assert(isfinite(gradient[k]));
        }
        ck_assert_double_eq(gradient[label], exp(logits[label]));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("aggregation");
    TCase *tests = tcase_create("aggregation");
    tcase_set_timeout(tests, 60); /* long double is slow under sanitizers */
    tcase_add_loop_test(tests, agrees_with_long_double, 0, 3);
    tcase_add_test(tests, near_ties_keep_their_difference);
    tcase_add_test(tests, sums_beyond_double_saturate);
    tcase_add_test(tests, ties_are_exact);
    tcase_add_test(tests, strides_and_null_outputs);
    tcase_add_test(tests, log_odds_gradient_is_the_derivative);
    tcase_add_test(tests, log_odds_gradient_is_finite_up_to_700);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
