/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 3, SIZE = 40, RECORDS = 7 };

#include "attack/pgd.h"
#include "attack_trial.h"
#include "step_watch.h"

static double step_size[COUNT];

/* loss = weight . x, per component; what the tests look at is how it was called. */
typedef struct linear {
    float weight[SIZE];
    int32_t exponent;
    int calls, gradient_calls;
    uint32_t draws_used[4096];
    int bad_image, bad_call; /* from this call on that image's gradient is NaN; -1: never */
    bool bad_loss;           /* rather than the gradient */
    int fail_call;           /* OUT_OF_MEMORY there; -1: never */
    double noise;            /* added to the loss with the sign of the draw's parity */
} linear;

static carso_status linear_evaluate(void *self, const float *images, int64_t count, const uint64_t *index,
                                    uint32_t first_draw, const int32_t *label, double *losses, float *gradient)
{
    linear *const work = self;
    (void)label;
    if (work->calls == work->fail_call) {
        return CARSO_ERROR_OUT_OF_MEMORY;
    }
    work->draws_used[work->calls % 4096] = first_draw;
    for (int64_t i = 0; i < count; i++) {
        losses[i] = first_draw % 2 ? -work->noise : work->noise;
        for (int j = 0; j < SIZE; j++) {
            losses[i] += (double)work->weight[j] * (double)images[i * SIZE + j];
            if (gradient) {
                gradient[i * SIZE + j] = work->weight[j];
            }
        }
        if (work->bad_image >= 0 && index[i] == image_index[work->bad_image] && work->bad_call >= 0 &&
            work->calls >= work->bad_call) {
            if (work->bad_loss || !gradient) {
                losses[i] = NAN;
            } else {
                gradient[i * SIZE + SIZE - 1] = INFINITY;
            }
        }
    }
    work->calls++;
    work->gradient_calls += gradient != NULL;
    return CARSO_OK;
}

static linear work;
static cso_objective objective;
static cso_pgd pgd;

static void set_up_linear(void)
{
    set_up();
    random_state = 1;
    for (int k = 0; k < ALL; k++) {
        original[k] = k % 7 == 0 ? 0.0f : k % 7 == 1 ? 1.0f : uniform();
    }
    work = (linear){.bad_image = -1, .bad_call = -1, .fail_call = -1};
    for (int j = 0; j < SIZE; j++) {
        work.weight[j] = j % 4 == 0 ? 0.0f : uniform() - 0.5f;
    }
    for (int i = 0; i < COUNT; i++) {
        epsilon[i] = 8.0 / 255.0;
        step_size[i] = 0.01;
    }
    objective =
        (cso_objective){.self = &work, .evaluate = linear_evaluate, .image_size = SIZE, .draws = 8, .context = context};
    pgd = (cso_pgd){.steps = 5,
                    .restarts = 1,
                    .eot = 1,
                    .random_start = true,
                    .epsilon = epsilon,
                    .step_size = step_size,
                    .seed = 3,
                    .purpose = CSO_PURPOSE_ATTACK_START,
                    .image_index = image_index};
}

static carso_status run(void)
{
    return cso_pgd_run(&objective, &pgd, original, labels, COUNT, adversarial, &report);
}

static void check_bounds(void)
{
    for (int k = 0; k < ALL; k++) {
        ck_assert(adversarial[k] >= 0.0f && adversarial[k] <= 1.0f);
        ck_assert_msg(fabs((double)adversarial[k] - (double)original[k]) <= epsilon[k / SIZE],
                      "component %d moved by %.17g", k, fabs((double)adversarial[k] - (double)original[k]));
        ck_assert((double)fabsf(adversarial[k] - original[k]) <= epsilon[k / SIZE]);
    }
}

START_TEST(fgsm_is_one_signed_step)
{
    pgd.fgsm = true;
    epsilon[1] = 0.25;
    epsilon[2] = 2.0;
    ck_assert_int_eq(run(), CARSO_OK);
    check_bounds();
    ck_assert_int_eq(work.calls, 2);
    for (int k = 0; k < ALL; k++) {
        const float weight = work.weight[k % SIZE];
        const double sign = weight > 0 ? 1 : weight < 0 ? -1 : 0;
        const double expected = fmin(1, fmax(0, (double)original[k] + sign * epsilon[k / SIZE]));
        ck_assert_double_eq_tol(adversarial[k], expected,
                                6e-8); /* half an ulp, and one where rounding went beyond epsilon */
        if (sign == 0) {
            ck_assert(adversarial[k] == original[k]);
        }
    }
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq(zero_gradient[i], 0.25);
        ck_assert_double_gt(last_loss[i], first_loss[i]);
    }
}
END_TEST

/* Rounding to float must not leave the ball, whatever epsilon. */
START_TEST(projection_is_exact)
{
    const double bounds[] = {8.0 / 255, 1.0 / 3, 0.1, 1e-3, 1e-8, 1e-30, 0.5, 0.7, 1, 5};
    for (size_t b = 0; b < sizeof bounds / sizeof *bounds; b++) {
        for (int repeat = 0; repeat < 60; repeat++) {
            for (int k = 0; k < ALL; k++) {
                original[k] = uniform() * (k % 3 == 0 ? 1e-4f : 1.0f);
            }
            for (int i = 0; i < COUNT; i++) {
                epsilon[i] = bounds[b];
                step_size[i] = bounds[b] / 2.5;
            }
            pgd.seed = (uint64_t)repeat;
            pgd.fgsm = repeat % 2 == 0;
            ck_assert_int_eq(run(), CARSO_OK);
            check_bounds();
        }
    }
}
END_TEST

START_TEST(pgd_reaches_the_corner)
{
    pgd.steps = 40;
    step_size[2] = 0.0;
    ck_assert_int_eq(run(), CARSO_OK);
    check_bounds();
    for (int k = 0; k < 2 * SIZE; k++) {
        const float weight = work.weight[k % SIZE];
        if (weight != 0.0f) {
            ck_assert_double_eq_tol(adversarial[k],
                                    fmin(1, fmax(0, (double)original[k] + (weight > 0 ? 1 : -1) * epsilon[0])), 6e-8);
        }
    }
}
END_TEST

/* The start depends on the image's number, the seed and the restart, and on nothing else. */
START_TEST(random_start_is_keyed)
{
    float alone[SIZE];
    pgd.steps = 0;
    ck_assert_int_eq(run(), CARSO_OK);
    check_bounds();
    int moved = 0;
    for (int k = 0; k < ALL; k++) {
        moved += adversarial[k] != original[k];
    }
    ck_assert_int_gt(moved, ALL / 2);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq(first_loss[i], last_loss[i]);
    }

    cso_pgd single = pgd;
    single.image_index = image_index + 2;
    ck_assert_int_eq(cso_pgd_run(&objective, &single, original + 2 * SIZE, labels, 1, alone, NULL), CARSO_OK);
    ck_assert_mem_eq(alone, adversarial + 2 * SIZE, sizeof alone);
    single.seed++;
    ck_assert_int_eq(cso_pgd_run(&objective, &single, original + 2 * SIZE, labels, 1, alone, NULL), CARSO_OK);
    ck_assert_mem_ne(alone, adversarial + 2 * SIZE, sizeof alone);
}
END_TEST

START_TEST(epsilon_0_changes_nothing)
{
    for (int i = 0; i < COUNT; i++) {
        epsilon[i] = 0;
    }
    for (int fgsm = 0; fgsm < 2; fgsm++) {
        pgd.fgsm = fgsm;
        memset(adversarial, 0xff, sizeof adversarial);
        ck_assert_int_eq(run(), CARSO_OK);
        ck_assert_mem_eq(adversarial, original, sizeof original);
    }
}
END_TEST

START_TEST(the_best_restart_is_kept)
{
    double single[8][COUNT];
    pgd.steps = 0;
    pgd.restarts = 1;
    /* with no steps the loss is that of the start; restart r cannot be asked for alone: add them one by one */
    for (int restarts = 1; restarts <= 8; restarts++) {
        pgd.restarts = restarts;
        ck_assert_int_eq(run(), CARSO_OK);
        memcpy(single[restarts - 1], last_loss, sizeof last_loss);
        for (int i = 0; i < COUNT; i++) {
            double loss = 0;
            for (int j = 0; j < SIZE; j++) {
                loss += (double)work.weight[j] * (double)adversarial[i * SIZE + j];
            }
            ck_assert_double_eq(loss, last_loss[i]);
            ck_assert_double_eq(first_loss[i], single[0][i]);
            if (restarts > 1) {
                ck_assert_double_ge(last_loss[i], single[restarts - 2][i]);
            }
        }
    }
    ck_assert_double_gt(single[7][0], single[0][0]);
}
END_TEST

START_TEST(every_evaluation_has_fresh_draws)
{
    pgd.steps = 3;
    pgd.restarts = 2;
    pgd.eot = 4;
    ck_assert_int_eq(run(), CARSO_OK);
    ck_assert_int_eq(work.calls, 2 * (3 + 1) * 4);
    ck_assert_int_eq(work.gradient_calls, 2 * 3 * 4);
    for (int call = 0; call < work.calls; call++) {
        ck_assert_uint_eq(work.draws_used[call], 8 * (uint32_t)call);
    }
}
END_TEST

/* The draws of a restart are the same in each of its steps; the last loss has fresh ones. */
START_TEST(draws_can_be_held_still)
{
    pgd.steps = 3;
    pgd.restarts = 2;
    pgd.eot = 4;
    pgd.fixed_draws = true;
    ck_assert_int_eq(run(), CARSO_OK);
    ck_assert_int_eq(work.calls, 2 * (3 + 1) * 4);
    for (int call = 0; call < work.calls; call++) {
        const int restart = call / 16, step = call % 16 / 4;
        ck_assert_uint_eq(work.draws_used[call], 8 * (uint32_t)(8 * restart + (step == 3 ? 4 : 0) + call % 4));
    }
}
END_TEST

START_TEST(another_objective_judges)
{
    linear other = work;
    float alone[ALL];
    for (int j = 0; j < SIZE; j++) {
        other.weight[j] *= j % 3 == 0 ? -0.2f : 2.0f;
    }
    cso_objective judging = objective;
    judging.self = &other;
    ck_assert_int_eq(run(), CARSO_OK);
    memcpy(alone, adversarial, sizeof alone);
    pgd.judge = &judging;
    pgd.judge_eot = 2;
    memset(steps, 0, sizeof steps);
    ck_assert_int_eq(run(), CARSO_OK);
    ck_assert_mem_eq(alone, adversarial, sizeof alone);
    ck_assert_int_eq(other.calls, 4);
    ck_assert_int_eq(other.gradient_calls, 0);
    ck_assert_uint_eq(steps[4].evaluations, COUNT);
    ck_assert_uint_eq(steps[5].evaluations, 0); /* of the judge, not of the attack */
    for (int i = 0; i < COUNT; i++) {
        double loss = 0;
        for (int j = 0; j < SIZE; j++) {
            loss += (double)other.weight[j] * (double)adversarial[i * SIZE + j];
        }
        ck_assert_double_eq_tol(last_loss[i], loss, 1e-12);
        ck_assert_double_lt(first_loss[i], last_loss[i]);
    }
    double once[COUNT];
    pgd.restarts = 4;
    pgd.steps = 1;
    ck_assert_int_eq(run(), CARSO_OK);
    memcpy(once, last_loss, sizeof once);
    pgd.restarts = 8;
    ck_assert_int_eq(run(), CARSO_OK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_ge(last_loss[i], once[i]);
    }
    other.calls = 0;
    other.bad_image = 2;
    other.bad_call = 2;
    pgd.restarts = 1;
    ck_assert_int_eq(run(), CARSO_ERROR_NON_FINITE);
    ck_assert(non_finite[2] && !non_finite[0] && isnan(last_loss[2]) && isfinite(first_loss[2]));
    check_bounds();
}
END_TEST

START_TEST(losses_are_means_over_eot)
{
    objective.draws = 1;
    work.noise = 100;
    pgd.eot = 2;
    pgd.steps = 1;
    ck_assert_int_eq(run(), CARSO_OK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert(fabs(first_loss[i]) < 50 && fabs(last_loss[i]) < 50);
    }
}
END_TEST

/* The same gradient, written with exponents that differ. */
static carso_status powers_evaluate(void *self, const float *images, int64_t count, const uint64_t *index,
                                    uint32_t first_draw, const int32_t *label, double *losses, float *gradient,
                                    int32_t *exponent)
{
    const carso_status status = linear_evaluate(self, images, count, index, first_draw, label, losses, gradient);
    for (int64_t i = 0; i < count; i++) {
        exponent[i] = first_draw / 8 % 2 ? 20 : -30;
        for (int j = 0; j < SIZE; j++) {
            gradient[i * SIZE + j] = ldexpf(gradient[i * SIZE + j], -exponent[i]);
        }
    }
    return status;
}

/* Two components in eight are exactly zero, one is tiny, and image 1 is not finite from the third evaluation on. */
START_TEST(what_was_met_is_counted)
{
    memset(steps, 0, sizeof steps);
    work.weight[1] = 0.9e-10f;
    work.weight[2] = 1.1e-10f;
    work.bad_image = 1;
    work.bad_call = 2;
    ck_assert_int_eq(run(), CARSO_ERROR_NON_FINITE);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq(zero_gradient[i], 0.25);
        ck_assert_double_eq(tiny_gradient[i], 1.0 / SIZE);
        ck_assert_uint_eq(bad_losses[i], 0);
        ck_assert_uint_eq(bad_gradients[i], i == 1);
    }
    for (int k = 0; k < RECORDS; k++) {
        const uint64_t evaluated = k > 5 ? 0 : k > 2 ? COUNT - 1 : COUNT, finite = evaluated - (k == 2);
        ck_assert_uint_eq(steps[k].evaluations, evaluated);
        ck_assert_uint_eq(steps[k].non_finite, k == 2);
        ck_assert_uint_eq(steps[k].gradients, k == 5 ? 0 : finite);
        ck_assert_uint_eq(steps[k].components, SIZE * steps[k].gradients);
        ck_assert_uint_eq(steps[k].zero, SIZE / 4 * steps[k].gradients);
        ck_assert_uint_eq(steps[k].tiny, steps[k].gradients);
        ck_assert_uint_eq(steps[k].flat + steps[k].wrong, 0);
    }
    ck_assert_double_eq_tol(steps[5].loss, last_loss[0] + last_loss[2], 1e-12);
    ck_assert_double_eq_tol(steps[0].loss, first_loss[0] + first_loss[1] + first_loss[2], 1e-12);

    /* The mean over eot evaluations counts, whatever power of two it comes with; what has no entry goes to the last. */
    memset(steps, 0, sizeof steps);
    work.bad_call = -1;
    pgd.eot = 2;
    pgd.steps = 2 * RECORDS;
    objective.evaluate_scaled = powers_evaluate;
    ck_assert_int_eq(run(), CARSO_OK);
    ck_assert_double_eq(tiny_gradient[2], 1.0 / SIZE);
    ck_assert_uint_eq(steps[RECORDS - 1].evaluations, (uint64_t)COUNT * (RECORDS + 2));
    for (int j = 0; j < SIZE; j++) {
        work.weight[j] = 0;
    }
    memset(steps, 0, sizeof steps);
    ck_assert_int_eq(run(), CARSO_OK);
    ck_assert_uint_eq(steps[0].flat, COUNT);
    ck_assert_double_eq(zero_gradient[0], 1);
    ck_assert_double_eq(tiny_gradient[0], 0);
}
END_TEST

START_TEST(without_a_report_the_last_loss_costs_nothing)
{
    ck_assert_int_eq(cso_pgd_run(&objective, &pgd, original, labels, COUNT, adversarial, NULL), CARSO_OK);
    ck_assert_int_eq(work.calls, pgd.steps);
    float unreported[ALL];
    memcpy(unreported, adversarial, sizeof adversarial);
    ck_assert_int_eq(run(), CARSO_OK);
    ck_assert_mem_eq(unreported, adversarial, sizeof adversarial);
}
END_TEST

/* Image 1 turns bad at evaluation 3, the fourth: it goes back to where evaluation 2 was. The others never notice. */
START_TEST(non_finite_is_masked)
{
    float clean[ALL], after_two_steps[ALL];
    double clean_loss[COUNT];
    char message[256];
    pgd.steps = 2;
    ck_assert_int_eq(run(), CARSO_OK);
    memcpy(after_two_steps, adversarial, sizeof adversarial);
    memcpy(clean_loss, last_loss, sizeof last_loss);
    pgd.steps = 6;
    ck_assert_int_eq(run(), CARSO_OK);
    memcpy(clean, adversarial, sizeof adversarial);
    for (int kind = 0; kind < 2; kind++) {
        work.calls = 0;
        work.bad_image = 1;
        work.bad_call = 3;
        work.bad_loss = kind == 1;
        ck_assert_int_eq(run(), CARSO_ERROR_NON_FINITE);
        carso_context_message(context, message, sizeof message);
        ck_assert_msg(strstr(message, "1 of the 3") && strstr(message, "image 6"), "%s", message);
        ck_assert(!non_finite[0] && non_finite[1] && !non_finite[2]);
        ck_assert_mem_eq(adversarial, clean, SIZE * sizeof *clean);
        ck_assert_mem_eq(adversarial + 2 * SIZE, clean + 2 * SIZE, SIZE * sizeof *clean);
        ck_assert_mem_eq(adversarial + SIZE, after_two_steps + SIZE, SIZE * sizeof *clean);
        ck_assert_double_eq(last_loss[1], clean_loss[1]);
    }
}
END_TEST

/* Only the evaluation of the last loss is bad: the point before is kept. */
START_TEST(non_finite_at_the_end_is_masked)
{
    float before[ALL];
    pgd.steps = 2;
    ck_assert_int_eq(cso_pgd_run(&objective, &pgd, original, labels, COUNT, before, NULL), CARSO_OK);
    pgd.steps = 3;
    work.calls = 0;
    work.bad_image = 0;
    work.bad_call = 3;
    ck_assert_int_eq(run(), CARSO_ERROR_NON_FINITE);
    ck_assert(non_finite[0] && !non_finite[1]);
    ck_assert_mem_eq(adversarial, before, SIZE * sizeof *before);
    ck_assert(isfinite(last_loss[0]));
}
END_TEST

START_TEST(never_finite_keeps_the_original)
{
    work.bad_image = 2;
    work.bad_call = 0;
    work.bad_loss = true;
    pgd.restarts = 2;
    ck_assert_int_eq(run(), CARSO_ERROR_NON_FINITE);
    ck_assert_mem_eq(adversarial + 2 * SIZE, original + 2 * SIZE, SIZE * sizeof *original);
    ck_assert(isnan(first_loss[2]) && isnan(last_loss[2]) && non_finite[2] == 1);
}
END_TEST

/* A gradient of 2^900 times the weights, and one of 2^-900: their directions, and means with a common exponent, are
 * kept. */
static carso_status scaled_evaluate(void *self, const float *images, int64_t count, const uint64_t *index,
                                    uint32_t first_draw, const int32_t *label, double *losses, float *gradient,
                                    int32_t *exponent)
{
    linear *const scaled = self;
    const carso_status status = linear_evaluate(self, images, count, index, first_draw, label, losses, gradient);
    for (int64_t i = 0; i < count; i++) {
        exponent[i] = first_draw % 2 ? -scaled->exponent : scaled->exponent;
        for (int j = 0; j < SIZE && first_draw % 2; j++) {
            gradient[i * SIZE + j] = -gradient[i * SIZE + j]; /* outweighed by far, in whatever order */
        }
    }
    return status;
}

START_TEST(scaled_gradients_are_averaged)
{
    float plain[ALL];
    ck_assert_int_eq(run(), CARSO_OK);
    memcpy(plain, adversarial, sizeof plain);
    objective.evaluate_scaled = scaled_evaluate;
    objective.draws = 1;
    pgd.eot = 2;
    work.exponent = 900;
    ck_assert_int_eq(run(), CARSO_OK);
    ck_assert_mem_eq(plain, adversarial, sizeof plain);
    for (int j = 0; j < SIZE; j++) {
        work.weight[j] = -work.weight[j];
    }
    work.exponent = -900; /* now the odd draws lead */
    ck_assert_int_eq(run(), CARSO_OK);
    ck_assert_mem_eq(plain, adversarial, sizeof plain);
}
END_TEST

START_TEST(progress_and_cancellation)
{
    watch seen = {0};
    float after_two_steps[ALL];
    pgd.restarts = 2;
    pgd.progress = watch_progress;
    pgd.progress_user = &seen;
    ck_assert_int_eq(run(), CARSO_OK);
    ck_assert_uint_eq(seen.last, 10);
    ck_assert_uint_eq(seen.total, 10);

    pgd.restarts = 1;
    pgd.progress = NULL;
    pgd.steps = 2;
    ck_assert_int_eq(run(), CARSO_OK);
    memcpy(after_two_steps, adversarial, sizeof adversarial);
    pgd.progress = watch_progress;
    pgd.steps = 5;
    seen = (watch){.stop_at = 3}; /* after the third step: the point after two has a loss */
    ck_assert_int_eq(run(), CARSO_CANCELLED);
    ck_assert_mem_eq(adversarial, after_two_steps, sizeof adversarial);
    for (int i = 0; i < COUNT; i++) {
        ck_assert(isfinite(last_loss[i]));
    }
}
END_TEST

START_TEST(failures_are_passed_on)
{
    work.fail_call = 2;
    ck_assert_int_eq(run(), CARSO_ERROR_OUT_OF_MEMORY);
    work.fail_call = -1;
    pgd.eot = 2;
    const long before = atomic_load(&counts.made);
    ck_assert_int_eq(run(), CARSO_OK);
    const long each = atomic_load(&counts.made) - before;
    ck_assert_int_gt(each, 10);
    for (long n = 1; n <= each; n++) {
        atomic_store(&counts.failing, atomic_load(&counts.made) + n);
        ck_assert_int_eq(run(), CARSO_ERROR_OUT_OF_MEMORY);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pgd");
    TCase *tests = tcase_create("pgd");
    tcase_set_timeout(tests, 600); /* under sanitizers */
    tcase_add_checked_fixture(tests, set_up_linear, tear_down);
    tcase_add_test(tests, fgsm_is_one_signed_step);
    tcase_add_test(tests, projection_is_exact);
    tcase_add_test(tests, pgd_reaches_the_corner);
    tcase_add_test(tests, random_start_is_keyed);
    tcase_add_test(tests, epsilon_0_changes_nothing);
    tcase_add_test(tests, the_best_restart_is_kept);
    tcase_add_test(tests, every_evaluation_has_fresh_draws);
    tcase_add_test(tests, draws_can_be_held_still);
    tcase_add_test(tests, another_objective_judges);
    tcase_add_test(tests, losses_are_means_over_eot);
    tcase_add_test(tests, what_was_met_is_counted);
    tcase_add_test(tests, without_a_report_the_last_loss_costs_nothing);
    tcase_add_test(tests, non_finite_is_masked);
    tcase_add_test(tests, non_finite_at_the_end_is_masked);
    tcase_add_test(tests, never_finite_keeps_the_original);
    tcase_add_test(tests, scaled_gradients_are_averaged);
    tcase_add_test(tests, progress_and_cancellation);
    tcase_add_test(tests, failures_are_passed_on);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
