/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "train/batch.h"
#include "train/schedules.h"

static carso_context *context;

static void open_context(void)
{
    carso_context_options options;
    carso_context_options_init(&options, sizeof options);
    options.backend = "reference";
    options.threads = 1;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
}

static void close_context(void)
{
    carso_context_destroy(context);
}

START_TEST(phases_are_those_of_the_paper)
{
    const cso_phases phases = {5e-9, .064, 4.346e-4, 25, 25, 150};
    ck_assert_double_eq(cso_phases_at(&phases, 0), 5e-9);
    ck_assert_double_eq_tol(cso_phases_at(&phases, 12.5), (5e-9 + .064) / 2, 1e-15);
    ck_assert_double_eq_tol(cso_phases_at(&phases, 24), 5e-9 + (.064 - 5e-9) * .96, 1e-15);
    ck_assert_double_eq(cso_phases_at(&phases, 25), .064);
    ck_assert_double_eq(cso_phases_at(&phases, 49.999), .064);
    ck_assert_double_eq_tol(cso_phases_at(&phases, 125), (.064 + 4.346e-4) / 2, 1e-15);
    ck_assert_double_eq(cso_phases_at(&phases, 200), 4.346e-4);
    ck_assert_double_eq(cso_phases_at(&phases, 1e9), 4.346e-4);
}
END_TEST

START_TEST(phases_may_be_empty)
{
    const cso_phases none = {1, 2, 3, 0, 0, 0};
    ck_assert_double_eq(cso_phases_at(&none, 0), 3);
    const cso_phases plateau = {1, 2, 3, 0, 1, 0};
    ck_assert_double_eq(cso_phases_at(&plateau, 0), 2);
    ck_assert_double_eq(cso_phases_at(&plateau, 1), 3);
}
END_TEST

START_TEST(ramps_rise_linearly_and_stay)
{
    ck_assert_double_eq(cso_ramp_at(25, 34, 1, 0), 0);
    ck_assert_double_eq(cso_ramp_at(25, 34, 1, 25), 0);
    ck_assert_double_eq_tol(cso_ramp_at(25, 34, .5, 28), .5 * 3 / 9, 1e-15);
    ck_assert_double_eq(cso_ramp_at(25, 34, .5, 34), .5);
    ck_assert_double_eq(cso_ramp_at(25, 34, .5, 100), .5);
    ck_assert_double_eq(cso_ramp_at(0, 0, 1, 0), 1);
    ck_assert_double_eq(cso_ramp_at(3, 3, 1, 2.9), 0);
    ck_assert_double_eq(cso_ramp_at(3, 3, 1, 3), 1);
}
END_TEST

START_TEST(cosine_rises_and_falls)
{
    ck_assert_double_eq(cso_cosine_at(.1, 1, 11, 0), 0);
    ck_assert_double_eq_tol(cso_cosine_at(.1, 1, 11, .25), .025, 1e-15);
    ck_assert_double_eq_tol(cso_cosine_at(.1, 1, 11, 1), .1, 1e-15);
    ck_assert_double_eq_tol(cso_cosine_at(.1, 1, 11, 6), .05, 1e-15);
    ck_assert_double_eq_tol(cso_cosine_at(.1, 1, 11, 1 + 10 / 3.), .075, 1e-15);
    ck_assert_double_eq(cso_cosine_at(.1, 1, 11, 11), 0);
    ck_assert_double_eq(cso_cosine_at(.1, 1, 11, 50), 0);
    ck_assert_double_eq_tol(cso_cosine_at(.1, 0, 2, 0), .1, 1e-15);
}
END_TEST

START_TEST(attacks_are_split_evenly)
{
    int64_t size[CSO_BATCH_KINDS], total[CSO_BATCH_KINDS] = {0};
    cso_batch_sizes(5120, .5, 3, size);
    for (int i = 0; i < CSO_BATCH_CLEAN; i++) {
        ck_assert_int_eq(size[i], 640);
    }
    ck_assert_int_eq(size[CSO_BATCH_CLEAN], 2560);
    /* Scenario (c): 10.24 attacked images become 11, and the remainder goes round. */
    for (uint64_t step = 0; step < 4; step++) {
        cso_batch_sizes(1024, .01, step, size);
        ck_assert_int_eq(size[CSO_BATCH_CLEAN], 1013);
        for (int i = 0; i < CSO_BATCH_CLEAN; i++) {
            ck_assert(size[i] == 2 || size[i] == 3);
            total[i] += size[i];
        }
    }
    for (int i = 0; i < CSO_BATCH_CLEAN; i++) {
        ck_assert_int_eq(total[i], 11);
    }
    cso_batch_sizes(10, .1, 0, size);
    ck_assert_int_eq(size[CSO_BATCH_CLEAN], 9);
    cso_batch_sizes(10, 0, 0, size);
    ck_assert_int_eq(size[CSO_BATCH_CLEAN], 10);
    cso_batch_sizes(7, 1, 2, size);
    ck_assert_int_eq(size[CSO_BATCH_CLEAN], 0);
    ck_assert_int_eq(size[CSO_BATCH_FGSM_FULL], 2);
    ck_assert_int_eq(size[CSO_BATCH_PGD_FULL], 2);
    ck_assert_int_eq(size[CSO_BATCH_FGSM_HALF], 2);
    ck_assert_int_eq(size[CSO_BATCH_PGD_HALF], 1);
}
END_TEST

START_TEST(assignment_is_random_by_seed_and_step)
{
    enum { IMAGES = 203, STEPS = 400 };
    cso_batch_kind kind[IMAGES], again[IMAGES];
    int attacked[IMAGES] = {0};
    int differing_steps = 0;
    for (uint64_t step = 0; step < STEPS; step++) {
        int64_t size[CSO_BATCH_KINDS], found[CSO_BATCH_KINDS] = {0};
        cso_batch_sizes(IMAGES, .5, step, size);
        ck_assert_int_eq(cso_batch_assign(context, IMAGES, .5, 7, step, kind), CARSO_OK);
        ck_assert_int_eq(cso_batch_assign(context, IMAGES, .5, 7, step, again), CARSO_OK);
        for (int i = 0; i < IMAGES; i++) {
            ck_assert_int_eq(kind[i], again[i]);
            found[kind[i]]++;
            attacked[i] += kind[i] != CSO_BATCH_CLEAN;
        }
        for (int i = 0; i < CSO_BATCH_KINDS; i++) {
            ck_assert_int_eq(found[i], size[i]);
        }
        ck_assert_int_eq(cso_batch_assign(context, IMAGES, .5, 8, step, again), CARSO_OK);
        for (int i = 0; i < IMAGES; i++) {
            if (kind[i] != again[i]) {
                differing_steps++;
                break;
            }
        }
    }
    ck_assert_int_eq(differing_steps, STEPS);
    /* Each place is attacked in half of the steps: 6 standard deviations of the binomial. */
    for (int i = 0; i < IMAGES; i++) {
        ck_assert_int_lt(abs(attacked[i] - STEPS / 2), 60);
    }
}
END_TEST

START_TEST(sub_batches_cover_the_batch_without_singles)
{
    for (int64_t count = 2; count <= 70; count++) {
        for (int64_t largest = 2; largest <= 80; largest++) {
            const int64_t parts = cso_batch_parts(count, largest);
            ck_assert_int_ge(parts, 1);
            ck_assert_int_eq(cso_batch_part_start(count, parts, 0), 0);
            ck_assert_int_eq(cso_batch_part_start(count, parts, parts), count);
            for (int64_t part = 0; part < parts; part++) {
                const int64_t size =
                    cso_batch_part_start(count, parts, part + 1) - cso_batch_part_start(count, parts, part);
                ck_assert_int_ge(size, 2);
                ck_assert_int_le(size, largest == 2 ? 3 : largest);
                ck_assert_int_le(size, cso_batch_part_start(count, parts, 1));
            }
        }
    }
    ck_assert_int_eq(cso_batch_parts(256, 256), 1);
    ck_assert_int_eq(cso_batch_parts(257, 256), 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schedules");
    TCase *tests = tcase_create("schedules and batches");
    tcase_add_checked_fixture(tests, open_context, close_context);
    tcase_add_test(tests, phases_are_those_of_the_paper);
    tcase_add_test(tests, phases_may_be_empty);
    tcase_add_test(tests, ramps_rise_linearly_and_stay);
    tcase_add_test(tests, cosine_rises_and_falls);
    tcase_add_test(tests, attacks_are_split_evenly);
    tcase_add_test(tests, assignment_is_random_by_seed_and_step);
    tcase_add_test(tests, sub_batches_cover_the_batch_without_singles);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
