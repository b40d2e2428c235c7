/* SPDX-License-Identifier: BSD-2-Clause */
/* The shortest way to a hyperplane within [0, 1], against the closed form, bisection, and all points of a fine grid. */
#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attack/hyperplane.h"

enum { MOST = 300 };

static float point[MOST];
static double normal[MOST], delta[MOST];
static cso_breakpoint scratch[MOST];
static uint64_t random_state = 1;

static double uniform(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(random_state >> 40) / 16777216.0;
}

static double along(int size)
{
    double sum = 0;
    for (int j = 0; j < size; j++) {
        sum += normal[j] * delta[j];
    }
    return sum;
}

static double reach(carso_norm norm, double level, int size, double gap)
{
    double sum = 0;
    for (int j = 0; j < size; j++) {
        const double slope = normal[j] * (gap < 0 ? -1 : 1);
        const double room = slope > 0 ? 1 - (double)point[j] : (double)point[j];
        sum += fabs(slope) * fmin(room, norm == CARSO_NORM_L2 ? level * fabs(slope) : level);
    }
    return sum;
}

/* Least length by bisection: in l-infinity the programme min t, |delta| <= t is feasible where reach(t) >= |gap|; in l2
 * the same holds of the multiplier. INFINITY: out of reach. */
static double oracle(carso_norm norm, int size, double gap)
{
    double low = 0, high = 1e12, length = 0;
    if (reach(norm, high, size, gap) < fabs(gap)) {
        return INFINITY;
    }
    for (int k = 0; k < 400; k++) {
        const double middle = k < 200 && low > 0 ? sqrt(low * high) : (low + high) / 2;
        *(reach(norm, middle, size, gap) < fabs(gap) ? &low : &high) = middle;
    }
    for (int j = 0; j < size; j++) {
        const double slope = normal[j] * (gap < 0 ? -1 : 1), room = slope > 0 ? 1 - (double)point[j] : (double)point[j];
        const double moved = slope == 0 ? 0 : fmin(room, norm == CARSO_NORM_L2 ? high * fabs(slope) : high);
        length = norm == CARSO_NORM_L2 ? length + moved * moved : fmax(length, moved);
    }
    return norm == CARSO_NORM_L2 ? sqrt(length) : length;
}

static void check_inside(int size)
{
    for (int j = 0; j < size; j++) {
        ck_assert((double)point[j] + delta[j] >= 0 && (double)point[j] + delta[j] <= 1);
        ck_assert(normal[j] != 0 || delta[j] == 0);
    }
}

/* Where no face binds: |gap| over the dual norm. */
START_TEST(closed_form_where_the_box_is_far)
{
    for (int size = 1; size < MOST; size += 23) {
        double ones = 0, squares = 0;
        for (int j = 0; j < size; j++) {
            point[j] = 0.5f;
            normal[j] = (uniform() - 0.5) * 1e3;
            ones += fabs(normal[j]);
            squares += normal[j] * normal[j];
        }
        for (int sign = -1; sign <= 1; sign++) {
            const double gap = sign * 0.1 * ones / sqrt(size);
            const double expected = fabs(gap) / (_i == CARSO_NORM_L2 ? sqrt(squares) : ones);
            const double length =
                cso_hyperplane_project((carso_norm)_i, point, normal, gap, (size_t)size, scratch, delta);
            if (expected >= 0.5 / sqrt(size)) {
                continue;
            }
            ck_assert_double_eq_tol(length, expected, 1e-13);
            ck_assert_double_eq_tol(along(size), gap, 1e-12 * ones);
            check_inside(size);
        }
    }
}
END_TEST

START_TEST(bisection_where_the_box_binds)
{
    int bound = 0, out_of_reach = 0;
    for (int repeat = 0; repeat < 400; repeat++) {
        const int size = 1 + (int)(uniform() * (repeat % 4 == 0 ? MOST - 1 : 6));
        double ones = 0;
        for (int j = 0; j < size; j++) {
            point[j] = (float)(repeat % 3 == 0 ? floor(uniform() * 3) / 2 : uniform());
            normal[j] = j % 5 == 4 ? 0 : (uniform() - 0.5) * pow(10, repeat % 2 == 0 ? 0 : 12 * uniform() - 6);
            ones += fabs(normal[j]);
        }
        const double gap = ones * (uniform() - 0.5) * 1.4;
        const double expected = oracle((carso_norm)_i, size, gap);
        const double length = cso_hyperplane_project((carso_norm)_i, point, normal, gap, (size_t)size, scratch, delta);
        check_inside(size);
        if (isfinite(expected)) {
            ck_assert_msg(fabs(length - expected) <= 1e-9 * (1 + expected), "%d components: %.17g, not %.17g", size,
                          length, expected);
            ck_assert_double_eq_tol(along(size), gap, 1e-9 * ones);
            bound++;
        } else {
            ck_assert_double_eq_tol(fabs(along(size)), reach((carso_norm)_i, INFINITY, size, gap), 1e-12 * ones);
            out_of_reach++;
        }
    }
    ck_assert_int_gt(bound, 100);
    ck_assert_int_gt(out_of_reach, 20);
}
END_TEST

/* Three components: no point of a grid of steps of 1/100 that crosses the plane is nearer than what is found. */
START_TEST(no_grid_point_is_nearer)
{
    for (int repeat = 0; repeat < 20; repeat++) {
        double ones = 0;
        for (int j = 0; j < 3; j++) {
            point[j] = (float)(floor(uniform() * 101) / 100);
            normal[j] = uniform() - 0.5;
            ones += fabs(normal[j]);
        }
        const double gap = 0.6 * ones * uniform();
        const double length = cso_hyperplane_project((carso_norm)_i, point, normal, gap, 3, scratch, delta);
        double nearest = INFINITY;
        for (int a = 0; a <= 100; a++) {
            for (int b = 0; b <= 100; b++) {
                for (int c = 0; c <= 100; c++) {
                    const double moved[3] = {a / 100.0 - (double)point[0], b / 100.0 - (double)point[1],
                                             c / 100.0 - (double)point[2]};
                    double sum = 0, largest = 0, squares = 0;
                    for (int j = 0; j < 3; j++) {
                        sum += normal[j] * moved[j];
                        largest = fmax(largest, fabs(moved[j]));
                        squares += moved[j] * moved[j];
                    }
                    if (sum >= gap) {
                        nearest = fmin(nearest, _i == CARSO_NORM_L2 ? sqrt(squares) : largest);
                    }
                }
            }
        }
        if (isinf(nearest)) {
            ck_assert_double_le(along(3), gap + 1e-9);
        } else {
            ck_assert_msg(length <= nearest + 1e-9 && length >= nearest - 0.02, "%g, and on the grid %g", length,
                          nearest);
        }
    }
}
END_TEST

/* The gap is what the faces give but for rounding, which is large beside what is left to give: nothing goes back. */
START_TEST(rounding_before_tiny_components)
{
    for (int repeat = 0; repeat < 200; repeat++) {
        double gap = 0;
        for (int j = 0; j < 20; j++) {
            point[j] = (float)uniform();
            normal[j] = j == 7 ? 1e-300 : uniform() + 0.1;
            gap += j == 7 ? 0 : normal[j] * (1 - (double)point[j]);
        }
        point[7] = 0; /* further from its face than the others */
        cso_hyperplane_project((carso_norm)_i, point, normal, gap, 20, scratch, delta);
        check_inside(20);
        for (int j = 0; j < 20; j++) {
            ck_assert_double_ge(delta[j], 0);
        }
        ck_assert_double_eq_tol(along(20), gap, 1e-14 * gap);
    }
}
END_TEST

START_TEST(nothing_to_do)
{
    for (int j = 0; j < 4; j++) {
        point[j] = 0.5f;
        normal[j] = 0;
    }
    ck_assert_double_eq(cso_hyperplane_project((carso_norm)_i, point, normal, 1, 4, scratch, delta), 0);
    ck_assert_double_eq(along(4), 0);
    normal[1] = 3;
    ck_assert_double_eq(cso_hyperplane_project((carso_norm)_i, point, normal, 0, 4, scratch, delta), 0);
    point[1] = 1; /* already at the only face that helps */
    ck_assert_double_eq(cso_hyperplane_project((carso_norm)_i, point, normal, 1, 4, scratch, delta), 0);
    normal[2] = 5e-324; /* vanishes beside the other */
    point[1] = 0;
    ck_assert_double_eq_tol(cso_hyperplane_project((carso_norm)_i, point, normal, 1.5, 4, scratch, delta), 0.5, 1e-15);
    normal[1] = normal[2]; /* the only ones */
    ck_assert(isfinite(cso_hyperplane_project((carso_norm)_i, point, normal, 1, 4, scratch, delta)));
    check_inside(4);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hyperplane");
    TCase *tests = tcase_create("hyperplane");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, closed_form_where_the_box_is_far, 0, 2);
    tcase_add_loop_test(tests, bisection_where_the_box_binds, 0, 2);
    tcase_add_loop_test(tests, no_grid_point_is_nearer, 0, 2);
    tcase_add_loop_test(tests, rounding_before_tiny_components, 0, 2);
    tcase_add_loop_test(tests, nothing_to_do, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
