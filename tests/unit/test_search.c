/* SPDX-License-Identifier: BSD-2-Clause */
/* What APGD and Square have in common: restarts, images that are done, judging, what is reported. */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "landscape.h"

START_TEST(what_was_met_is_counted)
{
    search.iterations = RECORDS;
    search.restarts = 2;
    objective.draws = 1;
    land.threshold = -INFINITY;
    land.bad_image = 2;
    land.bad_call = _i ? 1 + RECORDS + 1 + 1 : 1 + RECORDS + 2 + 1; /* second evaluation of the second run */
    memset(steps, 0, sizeof steps);
    ck_assert_int_eq(either(_i), CARSO_ERROR_NON_FINITE);
    for (int k = 0; k < RECORDS; k++) {
        /* APGD has one evaluation more than entries: it goes to the last */
        const uint64_t times = k == RECORDS - 1 && !_i ? 2 : 1;
        const uint64_t expected = times * (2 * COUNT - (k > 1));
        ck_assert_uint_eq(steps[k].evaluations, expected);
        ck_assert_uint_eq(steps[k].non_finite, k == 1);
        ck_assert_uint_eq(steps[k].wrong, expected - (k == 1));
        ck_assert_uint_eq(steps[k].gradients, _i ? 0 : 2 * COUNT - (k > 0));
        ck_assert_uint_eq(steps[k].zero + steps[k].tiny + steps[k].flat, 0);
    }
    for (int i = 0; i < COUNT; i++) {
        ck_assert_uint_eq(bad_losses[i], i == 2 ? 2 : 0); /* there, and where the run is judged */
        ck_assert_uint_eq(bad_gradients[i], 0);
    }
}
END_TEST

START_TEST(epsilon_0_changes_nothing)
{
    for (int i = 0; i < COUNT; i++) {
        epsilon[i] = 0;
    }
    for (int norm = 0; norm < 2; norm++) {
        search.norm = (carso_norm)norm;
        ck_assert_int_eq(either(_i), CARSO_OK);
        ck_assert_mem_eq(adversarial, original, sizeof original);
    }
}
END_TEST

/* Same seed, same bits; an image's points do not depend on the others of its batch; another seed, other points. */
START_TEST(reproducible)
{
    float whole[ALL], alone[SIZE];
    land.shape = QUADRATIC;
    search.norm = (carso_norm)(_i / 2);
    search.iterations = 20;
    search.restarts = 2;
    ck_assert_int_eq(either(_i % 2), CARSO_OK);
    memcpy(whole, adversarial, sizeof whole);
    ck_assert_int_eq(either(_i % 2), CARSO_OK);
    ck_assert_mem_eq(whole, adversarial, sizeof whole);
    cso_search single = search;
    single.image_index = image_index + 2;
    ck_assert_int_eq((_i % 2 ? cso_square_run : cso_apgd_run)(&objective, &single, original + 2 * SIZE, labels, 1,
                                                              alone, NULL),
                     CARSO_OK);
    ck_assert_mem_eq(alone, whole + 2 * SIZE, sizeof alone);
    search.seed++;
    ck_assert_int_eq(either(_i % 2), CARSO_OK);
    ck_assert_mem_ne(whole, adversarial, sizeof whole);
}
END_TEST

/* Image 1 is NaN from the third evaluation on: it keeps its last finite best, the others do not notice. */
START_TEST(non_finite_is_flagged)
{
    float clean[ALL];
    char message[256];
    ck_assert_int_eq(either(_i), CARSO_OK);
    memcpy(clean, adversarial, sizeof clean);
    land.calls = 0;
    land.bad_image = 1;
    land.bad_call = 2;
    ck_assert_int_eq(either(_i), CARSO_ERROR_NON_FINITE);
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(strstr(message, "1 of the 3") && strstr(message, "image 6"), "%s", message);
    ck_assert(!non_finite[0] && non_finite[1] && !non_finite[2]);
    ck_assert_mem_eq(adversarial, clean, SIZE * sizeof *clean);
    ck_assert_mem_eq(adversarial + 2 * SIZE, clean + 2 * SIZE, SIZE * sizeof *clean);
    ck_assert(isfinite(last_loss[1]));
    check_bounds();

    land.calls = 0;
    land.bad_call = 0;
    ck_assert_int_eq(either(_i), CARSO_ERROR_NON_FINITE);
    ck_assert(isnan(first_loss[1]) && isnan(last_loss[1]));
    ck_assert_mem_eq(adversarial + SIZE, original + SIZE, SIZE * sizeof *clean);
}
END_TEST

/* An image beyond the threshold is not evaluated again, and keeps the point that went beyond. */
START_TEST(early_stop_ends_per_image)
{
    ck_assert_int_eq(either(_i), CARSO_OK);
    const int all = land.images_seen;
    double highest = -INFINITY;
    for (int i = 0; i < COUNT; i++) {
        highest = fmax(highest, first_loss[i]);
    }
    const double full = last_loss[0];
    land.threshold = highest + 1e-3;
    land.images_seen = 0;
    search.early_stop = true;
    ck_assert_int_eq(either(_i), CARSO_OK);
    check_bounds();
    ck_assert_int_lt(land.images_seen, all / 2);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_gt(last_loss[i], land.threshold);
    }
    ck_assert_double_le(last_loss[0], full);

    land.threshold = -INFINITY; /* wrong as they are */
    land.images_seen = 0;
    ck_assert_int_eq(either(_i), CARSO_OK);
    ck_assert_mem_eq(adversarial, original, sizeof original);
    ck_assert_int_eq(land.images_seen, COUNT);
}
END_TEST

/* The noise of +-10 dwarfs the slope; the loss reported is of draws that did not choose the point, eot of them. */
START_TEST(last_loss_is_of_fresh_draws)
{
    land.noise = 10;
    objective.draws = 1;
    search.iterations = 8;
    ck_assert_int_eq(either(_i), CARSO_OK);
    check_bounds();
    /* evaluation 0: the images; Square then has 8, APGD 9, before the one that reports */
    ck_assert_int_eq(land.calls, _i ? 10 : 11);
    const double expected = _i ? -10 : 10;
    for (int i = 0; i < COUNT; i++) {
        if (memcmp(adversarial + i * SIZE, original + i * SIZE, SIZE * sizeof *original) != 0) {
            ck_assert_double_eq(last_loss[i], height_at(&land, adversarial + i * SIZE, NULL) + expected);
        }
    }
    search.eot = 2;
    ck_assert_int_eq(either(_i), CARSO_OK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq_tol(last_loss[i], height_at(&land, adversarial + i * SIZE, NULL), 1e-12);
    }
}
END_TEST

static int watch_for_ten(const carso_progress *progress, void *user)
{
    (void)user;
    return progress->done == 10;
}

/* The images and what a run ended with are judged with fresh draws; the run itself has the same two sets throughout. */
START_TEST(draws_can_be_held_still)
{
    objective.draws = 3;
    search.iterations = 3;
    search.restarts = 2;
    search.eot = 2;
    search.fixed_draws = true;
    const int evaluations = _i ? 3 : 4;
    ck_assert_int_eq(either(_i), CARSO_OK);
    ck_assert_int_eq(land.calls, 2 * (1 + 2 * (evaluations + 1)));
    uint32_t fresh = 0;
    int call = 0;
    for (int e = 0; e < 2; e++) {
        ck_assert_uint_eq(land.draws_used[call++], 3 * fresh++);
    }
    for (int run = 0; run < 2; run++) {
        for (int k = 0; k < 2 * evaluations; k++) {
            ck_assert_uint_eq(land.draws_used[call++], 3 * (fresh + (uint32_t)k % 2));
        }
        fresh += 2;
        for (int e = 0; e < 2; e++) {
            ck_assert_uint_eq(land.draws_used[call++], 3 * fresh++);
        }
    }
}
END_TEST

/* The judge, whose optimum lies elsewhere, sees the originals and each run's best points, and nothing else. */
START_TEST(another_objective_judges)
{
    landscape other = land;
    for (int j = 0; j < SIZE; j++) {
        other.weight[j] += 0.3f * (uniform() - 0.5f);
    }
    const cso_objective judging = {
        .self = &other, .query = landscape_query, .image_size = SIZE, .draws = 2, .context = context};
    float alone[ALL];
    ck_assert_int_eq(either(_i), CARSO_OK);
    memcpy(alone, adversarial, sizeof alone);
    search.judge = &judging;
    search.judge_eot = 3;
    ck_assert_int_eq(either(_i), CARSO_OK);
    ck_assert_mem_eq(alone, adversarial, sizeof alone);
    ck_assert_int_eq(other.calls, 3 * 2);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq_tol(first_loss[i], height_at(&other, original + i * SIZE, NULL), 1e-12);
        ck_assert_double_eq_tol(last_loss[i], height_at(&other, adversarial + i * SIZE, NULL), 1e-12);
    }
    for (int j = 0; j < SIZE; j++) {
        other.weight[j] = -land.weight[j]; /* what attacks the one defends the other: the images are kept */
    }
    search.early_stop = true; /* of what is attacked */
    other.threshold = -INFINITY;
    ck_assert_int_eq(either(_i), CARSO_OK);
    ck_assert_mem_eq(adversarial, original, sizeof original);
    other.bad_call = 0;
    other.bad_image = 1;
    ck_assert_int_eq(either(_i), CARSO_ERROR_NON_FINITE);
    ck_assert(!non_finite[0] && non_finite[1] && isnan(first_loss[1]));
    other = (landscape){.bad_call = -1, .fail_call = -1};
    search.early_stop = false;
    search.progress = watch_for_ten;
    ck_assert_int_eq(either(_i), CARSO_CANCELLED); /* nothing was judged but the images */
    ck_assert_mem_eq(adversarial, original, sizeof original);
}
END_TEST

/* Two target sets that pull apart: kept is what the untargeted loss calls the larger. */
START_TEST(targets_are_tried_and_judged_untargeted)
{
    static const int32_t sets[2 * COUNT] = {1, 1, 1, 2, 2, 2};
    land.target_flips = true;
    search.targets = sets;
    search.target_sets = 1;
    ck_assert_int_eq(apgd(), CARSO_OK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq_tol(gain(i), linear_gain(), 1e-6); /* of the targeted loss */
        ck_assert_double_lt(height_at(&land, adversarial + i * SIZE, NULL),
                            height_at(&land, original + i * SIZE, NULL));
    }
    ck_assert_int_eq(pgd(0.05, 0), CARSO_OK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_lt(height_at(&land, adversarial + i * SIZE, NULL),
                            height_at(&land, original + i * SIZE, NULL));
    }
    search.target_sets = 2;
    search.judged_untargeted = true;
    ck_assert_int_eq(apgd(), CARSO_OK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq_tol(gain(i), linear_gain(), 1e-6);
        ck_assert_double_eq(last_loss[i], height_at(&land, adversarial + i * SIZE, NULL));
    }
}
END_TEST

static int stop_at;

static int watch(const carso_progress *progress, void *user)
{
    (void)user;
    ck_assert_uint_eq(progress->total, 200);
    return progress->done == (uint64_t)stop_at;
}

START_TEST(cancelled_keeps_the_best_so_far)
{
    search.restarts = 2;
    search.progress = watch;
    stop_at = 130;
    ck_assert_int_eq(either(_i), CARSO_CANCELLED);
    check_bounds();
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_gt(gain(i), 0);
    }
}
END_TEST

START_TEST(failures_are_passed_on)
{
    land.fail_call = 5;
    ck_assert_int_eq(either(_i), CARSO_ERROR_OUT_OF_MEMORY);
    land = (landscape){.bad_call = -1, .fail_call = -1};
    carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
    for (long n = 1; status != CARSO_OK; n++) {
        atomic_store(&counts.failing, atomic_load(&counts.made) + n);
        status = either(_i);
        atomic_store(&counts.failing, 0);
        ck_assert(status == CARSO_OK || status == CARSO_ERROR_OUT_OF_MEMORY);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("search");
    TCase *tests = tcase_create("search");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, set_up_landscape, tear_down);
    tcase_add_loop_test(tests, what_was_met_is_counted, 0, 2);
    tcase_add_loop_test(tests, epsilon_0_changes_nothing, 0, 2);
    tcase_add_loop_test(tests, reproducible, 0, 4);
    tcase_add_loop_test(tests, non_finite_is_flagged, 0, 2);
    tcase_add_loop_test(tests, early_stop_ends_per_image, 0, 2);
    tcase_add_loop_test(tests, last_loss_is_of_fresh_draws, 0, 2);
    tcase_add_loop_test(tests, draws_can_be_held_still, 0, 2);
    tcase_add_loop_test(tests, another_objective_judges, 0, 2);
    tcase_add_test(tests, targets_are_tried_and_judged_untargeted);
    tcase_add_loop_test(tests, cancelled_keeps_the_best_so_far, 0, 2);
    tcase_add_loop_test(tests, failures_are_passed_on, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
