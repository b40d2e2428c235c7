/* SPDX-License-Identifier: BSD-2-Clause */
/* What is told of the steps of one run: gradients that vanish, losses that fall again. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "attack/course.h"

/* One letter a step: a for a gradient, 0 for one that has vanished, - for a point that needed none. */
static int64_t vanished_from(const char *steps)
{
    cso_course course = {0};
    for (int step = 0; steps[step]; step++) {
        if (steps[step] != '-') {
            cso_course_add_gradient(&course, step, steps[step] == '0');
        }
    }
    return cso_course_vanished_from(&course);
}

START_TEST(gradients_that_vanish)
{
    ck_assert_int_eq(vanished_from(""), -1);
    ck_assert_int_eq(vanished_from("aaaa"), -1);
    ck_assert_int_eq(vanished_from("0"), 0);
    ck_assert_int_eq(vanished_from("0000"), 0);
    ck_assert_int_eq(vanished_from("aaaa00"), 4);
    ck_assert_int_eq(vanished_from("a000000a00000"), 8);
    /* Once is chance, and the last few of many steps change little. */
    ck_assert_int_eq(vanished_from("aa0"), -1);
    ck_assert_int_eq(vanished_from("aaaaaaaaaaaa00"), -1);
    /* It came back. */
    ck_assert_int_eq(vanished_from("a00000000a"), -1);
    ck_assert_int_eq(vanished_from("00000000a0"), -1);
    /* Points that are misclassified say nothing. */
    ck_assert_int_eq(vanished_from("aa--0--0-"), 4);
    ck_assert_int_eq(vanished_from("--00"), 2);
    ck_assert_int_eq(vanished_from("aa------"), -1);
}
END_TEST

static int64_t fell_from(const double *loss, int steps)
{
    cso_course course = {0};
    for (int step = 0; step < steps; step++) {
        cso_course_add_loss(&course, step, steps, loss[step]);
    }
    return cso_course_fell_from(&course);
}

enum { STEPS = 40 };

START_TEST(losses_that_fall)
{
    double rising[STEPS], fallen[STEPS], half[STEPS], flat[STEPS], wide[STEPS], vast[STEPS];
    for (int i = 0; i < STEPS; i++) {
        rising[i] = 1 - exp(-0.3 * i) + 0.02 * (i % 2);
        fallen[i] = i < 20 ? i : 40 - i;
        half[i] = i < 20 ? i : fmax(40 - i, 14);
        flat[i] = 1e-3 * (i * 7919 % 13);
        wide[i] = (i < 30 ? 1 : 0) * (i % 2 ? 100 : -98); /* mean 1 until it is 0 */
        vast[i] = i < 20 ? 1e300 * i : -1e300 * i;
    }
    ck_assert_int_eq(fell_from(rising, STEPS), -1);
    ck_assert_int_eq(fell_from(fallen, STEPS), 30);
    ck_assert_int_eq(fell_from(fallen, 20), -1);
    ck_assert_int_eq(fell_from(half, STEPS), -1);
    ck_assert_int_eq(fell_from(flat, STEPS), -1);
    ck_assert_int_eq(fell_from(wide, STEPS), -1);
    ck_assert_int_eq(fell_from(vast, STEPS), -1); /* whose squares are no numbers: nothing can be said */
    /* Too few to tell. */
    ck_assert_int_eq(fell_from((const double[]){0, 5, 9, 2, 1, 0, 0}, 7), -1);
    ck_assert_int_eq(fell_from((const double[]){0, 1, 8, 9, 3, 2, 1, 0}, 8), 4);
    ck_assert_int_eq(fell_from(NULL, 0), -1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("course");
    TCase *tests = tcase_create("course");
    tcase_add_test(tests, gradients_that_vanish);
    tcase_add_test(tests, losses_that_fall);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
