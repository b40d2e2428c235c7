/* SPDX-License-Identifier: BSD-2-Clause */
/* APGD, Square and PGD on objectives whose optimum is known. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "landscape.h"

START_TEST(linear_optimum_is_reached)
{
    search.norm = (carso_norm)_i;
    const double best = linear_gain();
    ck_assert_int_eq(apgd(), CARSO_OK);
    check_bounds();
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq_tol(gain(i), best, 1e-6); /* 64 components, rounded to float */
        ck_assert_double_eq(zero_gradient[i], 0);
    }
    ck_assert_int_eq(pgd(0.05, 0), CARSO_OK);
    check_bounds();
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq_tol(last_loss[i] - height_at(&land, original + i * SIZE, NULL), best, 1e-6);
    }
    ck_assert_int_eq(pgd(0.05, 0.9), CARSO_OK);
    check_bounds();
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq_tol(last_loss[i] - height_at(&land, original + i * SIZE, NULL), best, 1e-6);
    }
}
END_TEST

/* The corner of the l-infinity ball is found exactly; of the l2 ball random search gains at least half of all. */
START_TEST(square_climbs_a_linear_function)
{
    search.norm = (carso_norm)_i;
    search.iterations = 3000;
    ck_assert_int_eq(square(), CARSO_OK);
    check_bounds();
    for (int i = 0; i < COUNT; i++) {
        ck_assert_msg(gain(i) > (_i == CARSO_NORM_LINF ? 0.99 : 0.5) * linear_gain(), "image %d: %g of %g", i, gain(i),
                      linear_gain());
    }
    ck_assert_int_eq(land.calls, 3001);
}
END_TEST

/* The centre within the ball: the optimum is the centre, which signs of a fixed length only circle. */
START_TEST(quadratic_optimum_inside_the_ball)
{
    for (int j = 0; j < SIZE; j++) {
        for (int i = 0; i < COUNT; i++) {
            original[i * SIZE + j] = 0.5f;
        }
        land.centre[j] = 0.5f + 0.08f * (uniform() - 0.5f);
    }
    land.shape = QUADRATIC;
    search.norm = (carso_norm)_i;
    for (int i = 0; i < COUNT; i++) {
        epsilon[i] = _i == CARSO_NORM_L2 ? 0.5 : 0.1;
    }
    search.iterations = 400;
    ck_assert_int_eq(apgd(), CARSO_OK);
    check_bounds();
    for (int i = 0; i < COUNT; i++) {
        /* the step starts at 2 epsilon and is halved at most 8 times, at the paper's checkpoints */
        const double bound = 2 * epsilon[i] / 256 * (_i == CARSO_NORM_LINF ? SIDE : 1);
        ck_assert_msg(distance(i, land.centre) < bound, "image %d ends %g from the centre", i,
                      distance(i, land.centre));
        ck_assert_double_gt(first_loss[i], -1);
    }
    if (_i == CARSO_NORM_LINF) {
        const double apgd_loss = last_loss[0];
        ck_assert_int_eq(pgd(0.01, 0), CARSO_OK);
        ck_assert_double_gt(apgd_loss, last_loss[0]);
        ck_assert_double_lt(distance(0, land.centre), 0.01 * SIDE); /* within a step in every component */
    }
}
END_TEST

/* The centre outside: in l-infinity each component goes to its clipped centre, in l2 along the line to the centre. */
START_TEST(quadratic_optimum_on_the_surface)
{
    double optimum[COUNT];
    land.shape = QUADRATIC;
    search.norm = (carso_norm)_i;
    search.iterations = 400;
    ck_assert_int_eq(apgd(), CARSO_OK);
    check_bounds();
    for (int i = 0; i < COUNT; i++) {
        double best = 0, away = 0;
        for (int j = 0; j < SIZE; j++) {
            const double gap = fabs((double)original[i * SIZE + j] - (double)land.centre[j]);
            best -= gap > epsilon[i] ? (gap - epsilon[i]) * (gap - epsilon[i]) : 0;
            away += gap * gap;
        }
        if (_i == CARSO_NORM_L2) {
            best = -(sqrt(away) - epsilon[i]) * (sqrt(away) - epsilon[i]);
        }
        ck_assert_msg(fabs(last_loss[i] - best) < 1e-5, "image %d: %.9g, not %.9g", i, last_loss[i], best);
        optimum[i] = best;
    }
    /* PGD with steps of 0.002 ends within one of them, in every component: those inside circle their centre */
    ck_assert_int_eq(pgd(0.002, 0), CARSO_OK);
    check_bounds();
    for (int i = 0; i < COUNT; i++) {
        ck_assert_msg(last_loss[i] <= optimum[i] + 1e-9 && last_loss[i] > optimum[i] - SIZE * 0.002 * 0.002,
                      "image %d: %.9g, not %.9g", i, last_loss[i], optimum[i]);
    }
}
END_TEST

START_TEST(constant_objective_ends_with_the_images)
{
    land.shape = CONSTANT;
    for (int norm = 0; norm < 2; norm++) {
        search.norm = (carso_norm)norm;
        ck_assert_int_eq(either(_i), CARSO_OK);
        ck_assert_mem_eq(adversarial, original, sizeof original);
        for (int i = 0; i < COUNT; i++) {
            ck_assert(first_loss[i] == 0 && last_loss[i] == 0 && !non_finite[i]);
            ck_assert_double_eq(zero_gradient[i], _i ? 0 : 1);
        }
        memset(steps, 0, sizeof steps);
        ck_assert_int_eq(pgd(0.01, 0.5), CARSO_OK);
        ck_assert_uint_eq(steps[1].flat, COUNT);
        ck_assert_uint_eq(steps[1].zero, ALL);
        for (int i = 0; i < COUNT; i++) {
            ck_assert(first_loss[i] == 0 && last_loss[i] == 0 && zero_gradient[i] == 1 && !non_finite[i]);
        }
    }
}
END_TEST

/* Section 3.1 of the paper: p_0 = 0, p_1 = 0.22, steps shrinking by 0.03 down to 0.06. */
START_TEST(checkpoints_of_the_paper)
{
    static const double expected[] = {0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99};
    for (size_t k = 2; k < sizeof expected / sizeof *expected; k++) {
        ck_assert_double_eq_tol(cso_apgd_next_checkpoint(expected[k - 2], expected[k - 1]), expected[k], 1e-12);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("optima");
    TCase *tests = tcase_create("search");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, set_up_landscape, tear_down);
    tcase_add_loop_test(tests, linear_optimum_is_reached, 0, 2);
    tcase_add_loop_test(tests, square_climbs_a_linear_function, 0, 2);
    tcase_add_loop_test(tests, quadratic_optimum_inside_the_ball, 0, 2);
    tcase_add_loop_test(tests, quadratic_optimum_on_the_surface, 0, 2);
    tcase_add_loop_test(tests, constant_objective_ends_with_the_images, 0, 2);
    tcase_add_test(tests, checkpoints_of_the_paper);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
