/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "train/optimisers.h"

#define ROUNDING 6e-8 /* half a unit in the last place of a float, relative */

/* By the text of Liu et al. (2020), algorithm 2, in long double: sums instead of powers, so that nothing cancels. */
static long double paper_rectification(long double beta2, int t)
{
    /* rho_t = 2 / (1 - beta2) - 1 - 2 t beta2^t / (1 - beta2^t), with 1 - beta2^t = (1 - beta2) (1 + beta2 + ... + beta2^(t-1)) */
    long double power = 1, sum = 0;
    for (int i = 0; i < t; i++) {
        sum += power;
        power *= beta2;
    }
    const long double limit = 2 / (1 - beta2) - 1;
    const long double rho = limit - 2 * t * power / ((1 - beta2) * sum);
    if (rho <= 5) {
        return 0;
    }
    return sqrtl((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho));
}

START_TEST(rectification_follows_the_paper)
{
    const cso_radam radam = CSO_RADAM_DEFAULTS;
    int first = 0;
    for (int t = 1; t <= 20000; t = t < 50 ? t + 1 : t * 2) {
        const double expected = (double)paper_rectification(.999L, t);
        const double found = cso_radam_rectification(&radam, (uint64_t)t);
        ck_assert_double_eq_tol(found, expected, 1e-8);
        if (expected > 0 && !first) {
            first = t;
        }
    }
    /* With beta2 = .999 the variance becomes tractable at step 6, as the method's description says. */
    ck_assert_int_eq(first, 6);
    ck_assert_double_eq(cso_radam_rectification(&radam, 5), 0);
    ck_assert_double_gt(cso_radam_rectification(&radam, 100000), .999);
}
END_TEST

START_TEST(radam_matches_a_sequence_in_double)
{
    const cso_radam radam = CSO_RADAM_DEFAULTS;
    float weight[3] = {1, -2, .5f}, first[3] = {0}, second[3] = {0};
    double w[3] = {1, -2, .5}, m[3] = {0}, v[3] = {0};
    for (int t = 1; t <= 40; t++) {
        const double rate = .01 * t;
        float gradient[3];
        for (int i = 0; i < 3; i++) {
            gradient[i] = (float)(cos(t * (i + 1)) * pow(10, i));
            m[i] = .9 * m[i] + .1 * gradient[i];
            v[i] = .999 * v[i] + .001 * gradient[i] * gradient[i];
            const double corrected = m[i] / (1 - pow(.9, t));
            const double r = (double)paper_rectification(.999L, t);
            w[i] -= r > 0 ? rate * r * corrected * sqrt(1 - pow(.999, t)) / (sqrt(v[i]) + 1e-8) : rate * corrected;
        }
        cso_radam_update(&radam, (uint64_t)t, rate, 3, gradient, weight, first, second);
        for (int i = 0; i < 3; i++) {
            /* One rounding a step of each state, none of which grows. */
            ck_assert_double_eq_tol(weight[i], w[i], 40 * ROUNDING * (1 + fabs(w[i]) + rate * pow(10, i)));
            ck_assert_double_eq_tol(first[i], m[i], 40 * ROUNDING * pow(10, i));
            ck_assert_double_eq_tol(second[i], v[i], 40 * ROUNDING * pow(100, i));
        }
    }
}
END_TEST

START_TEST(radam_first_step_is_plain)
{
    /* Step 1: m / (1 - beta1) is the gradient, so that the weight moves by rate * gradient, however small or large it is. */
    const cso_radam radam = CSO_RADAM_DEFAULTS;
    float weight[2] = {0, 0}, first[2] = {0}, second[2] = {0};
    const float gradient[2] = {1e-6f, 1000};
    cso_radam_update(&radam, 1, .5, 2, gradient, weight, first, second);
    ck_assert_double_eq_tol(weight[0], -5e-7, 1e-13);
    ck_assert_double_eq_tol(weight[1], -500, 1e-4);
}
END_TEST

START_TEST(lookahead_moves_and_synchronises)
{
    float fast[5] = {1, 2, 3, -4, 0}, slow[5] = {0, 2, 1, 4, 10};
    const double expected[5] = {.8, 2, 2.6, -2.4, 2};
    cso_lookahead_update(.8, 5, fast, slow);
    for (int i = 0; i < 5; i++) {
        ck_assert_double_eq_tol(slow[i], expected[i], 4 * ROUNDING);
        ck_assert(fast[i] == slow[i]);
    }
    cso_lookahead_update(0, 5, fast, slow);
    ck_assert_double_eq_tol(slow[4], 2, 4 * ROUNDING);
}
END_TEST

START_TEST(sgd_matches_hand_computed_steps)
{
    /* w = 1, g = 2 then -1, rate .1, momentum .5, decay .25:
     * g1 = 2.25, v1 = 2.25, w1 = 1 - .1 * (2.25 + 1.125) = .6625
     * g2 = -1 + .165625 = -.834375, v2 = 1.125 - .834375 = .290625, w2 = .6625 - .1 * (-.834375 + .1453125) = .73140625 */
    float weight = 1, velocity = 0, gradient = 2;
    cso_sgd_update(.1, .5, .25, 1, &gradient, &weight, &velocity);
    ck_assert_double_eq_tol(weight, .6625, 2 * ROUNDING);
    ck_assert_double_eq_tol(velocity, 2.25, 4 * ROUNDING);
    gradient = -1;
    cso_sgd_update(.1, .5, .25, 1, &gradient, &weight, &velocity);
    ck_assert_double_eq_tol(weight, .73140625, 4 * ROUNDING);
    ck_assert_double_eq_tol(velocity, .290625, 4 * ROUNDING);
}
END_TEST

START_TEST(plain_sgd_is_gradient_descent)
{
    float weight[7], velocity[7] = {0}, gradient[7];
    for (int i = 0; i < 7; i++) {
        weight[i] = (float)i;
        gradient[i] = (float)(i * i);
    }
    cso_sgd_update(.5, 0, 0, 7, gradient, weight, velocity);
    for (int i = 0; i < 7; i++) {
        ck_assert_double_eq(weight[i], i - .5 * i * i);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("optimisers");
    TCase *tests = tcase_create("optimisers");
    tcase_add_test(tests, rectification_follows_the_paper);
    tcase_add_test(tests, radam_matches_a_sequence_in_double);
    tcase_add_test(tests, radam_first_step_is_plain);
    tcase_add_test(tests, lookahead_moves_and_synchronises);
    tcase_add_test(tests, sgd_matches_hand_computed_steps);
    tcase_add_test(tests, plain_sgd_is_gradient_descent);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
