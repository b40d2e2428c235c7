/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "attack/ball.h"

enum { SIZE = 100 };

static uint64_t random_state;
static float original[SIZE], point[SIZE];
static double wanted[SIZE];

static double uniform(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(random_state >> 11) * 0x1p-53;
}

static void set_up(void)
{
    random_state = 5;
}

static double difference(int j)
{
    return (double)point[j] - (double)original[j];
}

static double distance(void)
{
    double sum = 0;
    for (int j = 0; j < SIZE; j++) {
        sum += difference(j) * difference(j);
    }
    return sqrt(sum);
}

static void fill(double reach)
{
    for (int j = 0; j < SIZE; j++) {
        original[j] = j % 7 == 0 ? 0.0f : j % 7 == 1 ? 1.0f : (float)(uniform() * (j % 3 == 0 ? 1e-4 : 1.0));
        wanted[j] = (double)original[j] + reach * (2 * uniform() - 1);
    }
}

/* Rounding to float must not leave the ball, whatever epsilon. */
START_TEST(points_never_leave_the_ball)
{
    static const double bounds[] = {8.0 / 255, 1.0 / 3, 0.1, 1e-3, 1e-6, 1e-8, 1e-30, 0, 0.5, 0.7, 1, 5, 1000};
    static const double reaches[] = {1e-9, 1e-3, 1, 1e6, 1e200};
    for (size_t b = 0; b < sizeof bounds / sizeof *bounds; b++) {
        for (size_t r = 0; r < sizeof reaches / sizeof *reaches; r++) {
            for (int repeat = 0; repeat < 20; repeat++) {
                fill(reaches[r]);
                cso_ball_project((carso_norm)_i, wanted, original, bounds[b], SIZE, point);
                for (int j = 0; j < SIZE; j++) {
                    ck_assert(point[j] >= 0.0f && point[j] <= 1.0f);
                    ck_assert(_i == CARSO_NORM_L2 || fabs(difference(j)) <= bounds[b]);
                }
                ck_assert(_i == CARSO_NORM_LINF || distance() <= bounds[b]);
            }
        }
    }
}
END_TEST

static bool inside(float at, float from, double epsilon)
{
    const bool within = fabs((double)at - (double)from) <= epsilon && (double)fabsf(at - from) <= epsilon;
    return within && at >= 0.0f && at <= 1.0f;
}

/* Of images of 8 bits, where the ball's bounds may lie next to 0. */
START_TEST(linf_projection_goes_as_far_as_it_may)
{
    static const double bounds[] = {8.0 / 255, 1.0 / 255, 16.0 / 255, 0.1, 0.3, 1e-3, 0.5};
    for (size_t b = 0; b < sizeof bounds / sizeof *bounds; b++) {
        for (int value = 0; value < 256; value++) {
            for (int sign = -1; sign <= 1; sign += 2) {
                *original = (float)value / 255.0f;
                *wanted = 2.0 * sign;
                cso_ball_project(CARSO_NORM_LINF, wanted, original, bounds[b], 1, point);
                ck_assert(inside(*point, *original, bounds[b]));
                ck_assert(!inside(nextafterf(*point, 2.0f * (float)sign), *original, bounds[b]));
            }
        }
    }
}
END_TEST

/* Far from the faces of [0, 1] the projection is the scaled difference, to the last digits of a float. */
START_TEST(l2_projection_scales)
{
    double expected[SIZE], sum = 0;
    for (int j = 0; j < SIZE; j++) {
        original[j] = 0.5f;
        wanted[j] = 0.5 + 3 * (uniform() - 0.5);
        sum += (wanted[j] - 0.5) * (wanted[j] - 0.5);
    }
    for (int j = 0; j < SIZE; j++) {
        expected[j] = 0.5 + 0.2 / sqrt(sum) * (wanted[j] - 0.5);
    }
    cso_ball_project(CARSO_NORM_L2, wanted, original, 0.2, SIZE, point);
    for (int j = 0; j < SIZE; j++) {
        ck_assert_double_eq_tol((double)point[j], expected[j], 6e-8);
    }
    ck_assert_double_gt(distance(), 0.2 - 1e-6);
}
END_TEST

START_TEST(points_inside_stay)
{
    fill(1e-3);
    for (int j = 0; j < SIZE; j++) {
        wanted[j] = (double)original[j];
    }
    cso_ball_project((carso_norm)_i, wanted, original, 0.1, SIZE, point);
    ck_assert_mem_eq(point, original, sizeof point);
    for (int j = 0; j < SIZE; j++) {
        original[j] = 0.5f;
        wanted[j] = (double)(float)(0.5 + 0.01 * (uniform() - 0.5));
    }
    cso_ball_project((carso_norm)_i, wanted, original, 0.1, SIZE, point);
    for (int j = 0; j < SIZE; j++) {
        ck_assert(fabs(difference(j)) < 0.006 && fabs(difference(j)) > 0.0);
    }
}
END_TEST

/* In SIZE dimensions nearly all of an l2 ball lies near its surface: radius epsilon * u^(1 / SIZE). */
START_TEST(random_points_fill_the_ball)
{
    double least = 1, most = 0, mean = 0;
    for (int j = 0; j < SIZE; j++) {
        original[j] = 0.5f;
    }
    for (uint64_t image = 0; image < 400; image++) {
        const cso_random stream = {3, CSO_PURPOSE_ATTACK_START, image, 0};
        cso_ball_random(CARSO_NORM_L2, &stream, original, 0.3, SIZE, point, wanted);
        least = fmin(least, distance());
        most = fmax(most, distance());
        for (int j = 0; j < SIZE; j++) {
            mean += difference(j) / 400 / SIZE;
        }
    }
    ck_assert_double_le(most, 0.3);
    ck_assert_double_gt(most, 0.2995);
    ck_assert_double_lt(least, 0.3 * 0.98); /* the chance of none below is .98^(100 * 400) */
    ck_assert_double_gt(least, 0.3 * 0.8);
    ck_assert_double_lt(fabs(mean), 4 * 0.03 / sqrt(400.0 * SIZE)); /* four deviations */
}
END_TEST

START_TEST(directions)
{
    const double gradient[] = {3e200, 0, -4e200}, none[] = {0, 0, 0};
    double direction[3];
    cso_ball_direction(CARSO_NORM_LINF, gradient, 3, direction);
    ck_assert(direction[0] == 1 && direction[1] == 0 && direction[2] == -1);
    cso_ball_direction(CARSO_NORM_L2, gradient, 3, direction);
    ck_assert_double_eq_tol(direction[0], 0.6, 1e-15);
    ck_assert_double_eq_tol(direction[2], -0.8, 1e-15);
    ck_assert(direction[1] == 0);
    for (int norm = 0; norm < 2; norm++) {
        cso_ball_direction((carso_norm)norm, none, 3, direction);
        ck_assert(direction[0] == 0 && direction[1] == 0 && direction[2] == 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ball");
    TCase *tests = tcase_create("ball");
    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_loop_test(tests, points_never_leave_the_ball, 0, 2);
    tcase_add_test(tests, linf_projection_goes_as_far_as_it_may);
    tcase_add_test(tests, l2_projection_scales);
    tcase_add_loop_test(tests, points_inside_stay, 0, 2);
    tcase_add_test(tests, random_points_fill_the_ball);
    tcase_add_test(tests, directions);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
