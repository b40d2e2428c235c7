/* SPDX-License-Identifier: BSD-2-Clause */
/* Means over sets of draws: all sets in one run of the defence give what evaluations one by one give. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attack/objective.h"
#include "attack/query.h"
#include "counting_allocator.h"
#include "small_model.h"

enum { COUNT = 4, DRAWS = 2, ALL = COUNT * SMALL_IMAGE, EOT = 5 };

static const uint64_t image_index[COUNT] = {7, 8, 9, 10};
static const int32_t labels[COUNT] = {1, 3, 0, 2};
static const int32_t targets[COUNT] = {0, 1, 2, 3};

static float points[ALL];
static carso_context *context;
static carso_model *model;
static cso_model_objective settings;
static cso_objective objective;

static void make_objective(carso_context *in)
{
    context = in;
    model = small_model(context);
    settings = (cso_model_objective){.model = model,
                                     .kind = CARSO_OBJECTIVE_DEFENCE,
                                     .loss = CARSO_LOSS_LOG_ODDS,
                                     .draws = DRAWS,
                                     .seed = 3,
                                     .purpose = CSO_PURPOSE_ATTACK_LATENT};
    objective = cso_model_objective_create(&settings);
    fill_images(points, COUNT);
}

static void drop_objective(void)
{
    carso_model_destroy(model);
    carso_context_destroy(context);
}

static cso_mean_query mean_query(int eot)
{
    return (cso_mean_query){
        .objective = &objective, .image_index = image_index, .labels = labels, .count = COUNT, .eot = eot, .step = -1};
}

/*
 * Together and one by one. The reference backend computes each image by itself: losses have the same bits. Gradients
 * differ by float's rounding, since the pull back through the classifier is of a sum.
 */
static void compare(bool with_gradient, const uint8_t *done, const int32_t *towards, bool fixed)
{
    cso_objective single = objective;
    single.takes_sets = false;
    ck_assert(objective.takes_sets);
    cso_mean_query together = mean_query(EOT), apart = mean_query(EOT);
    apart.objective = &single;
    ck_assert_int_eq(cso_mean_query_open(&together, true), CARSO_OK);
    ck_assert_int_eq(cso_mean_query_open(&apart, true), CARSO_OK);
    for (int round = 0; round < 2; round++) {
        if (fixed && round == 0) {
            cso_mean_query_fix_draws(&together);
            cso_mean_query_fix_draws(&apart);
        }
        ck_assert_int_eq(cso_mean_query_run(&together, points, done, towards, with_gradient), CARSO_OK);
        ck_assert_int_eq(cso_mean_query_run(&apart, points, done, towards, with_gradient), CARSO_OK);
        ck_assert_uint_eq(together.next_draw, apart.next_draw);
        ck_assert_uint_eq(together.next_draw, (fixed ? 1 : round + 1) * EOT * DRAWS);
        for (int i = 0; i < COUNT; i++) {
            if (done && done[i]) {
                continue;
            }
            ck_assert(together.loss[i] == apart.loss[i]);
            ck_assert(together.wrong[i] == apart.wrong[i] && together.bad[i] == 0 && apart.bad[i] == 0);
            double largest = 0, difference = 0;
            for (int j = i * SMALL_IMAGE; with_gradient && j < (i + 1) * SMALL_IMAGE; j++) {
                const double expected = ldexp(apart.gradient[j], apart.sum_exponent[i]);
                largest = fmax(largest, fabs(expected));
                difference = fmax(difference, fabs(ldexp(together.gradient[j], together.sum_exponent[i]) - expected));
            }
            ck_assert(!with_gradient || (largest > 0 && difference <= 1e-5 * largest));
        }
    }
    cso_mean_query_close(&together);
    cso_mean_query_close(&apart);
}

START_TEST(sets_together_are_evaluations_one_by_one)
{
    static const uint8_t some_done[COUNT] = {1, 0, 0, 1};
    make_objective(named_context("reference", _i == 0 ? 0 : 1));
    compare(true, NULL, NULL, false);
    compare(false, NULL, targets, false);
    compare(true, some_done, targets, true);
    drop_objective();
}
END_TEST

/* Another number of sets than the attack's own, and more than are evaluated together. */
START_TEST(judges_have_their_own_number_of_sets)
{
    make_objective(named_context("reference", 0));
    settings.draws = 1;
    objective = cso_model_objective_create(&settings);
    cso_objective single = objective;
    single.takes_sets = false;
    for (int eot = 1; eot <= 300; eot += 299) {
        cso_mean_query together = mean_query(2), apart = mean_query(2);
        together.judge_eot = apart.judge_eot = eot;
        together.count = apart.count = 1;
        ck_assert_int_eq(cso_mean_query_open(&together, false), CARSO_OK);
        ck_assert_int_eq(cso_mean_query_open(&apart, false), CARSO_OK);
        ck_assert_int_eq(cso_mean_query_judge(&together, &objective, eot, points, NULL, NULL), CARSO_OK);
        ck_assert_int_eq(cso_mean_query_judge(&apart, &single, eot, points, NULL, NULL), CARSO_OK);
        ck_assert(together.loss[0] == apart.loss[0] && together.wrong[0] == apart.wrong[0]);
        ck_assert_uint_eq(together.next_draw, (uint32_t)eot);
        ck_assert_uint_eq(apart.next_draw, (uint32_t)eot);
        cso_mean_query_close(&together);
        cso_mean_query_close(&apart);
    }
    drop_objective();
}
END_TEST

/* NaN for one image in the evaluations of these numbers, counted for it alone; what is NaN: the loss or its slopes. */
typedef struct spoiler {
    int seen, from, to;
    bool slopes;
} spoiler;

static int spoiling_loss(const carso_loss_batch *batch, void *user)
{
    spoiler *const how = user;
    const int64_t row = (int64_t)batch->count * batch->classes;
    for (uint64_t i = 0; i < batch->count; i++) {
        const bool bad = batch->image_index[i] == 8 && how->seen >= how->from && how->seen < how->to;
        how->seen += batch->image_index[i] == 8;
        batch->losses[i] = bad && !how->slopes ? NAN : batch->logits[(int64_t)i * batch->classes];
        for (int64_t k = 0; batch->logit_gradient && k < batch->draws * batch->classes; k++) {
            batch->logit_gradient[k / batch->classes * row + (int64_t)i * batch->classes + k % batch->classes] =
                bad && how->slopes ? NAN : (double)(k % batch->classes);
        }
    }
    return 0;
}

START_TEST(sets_that_are_not_finite_are_counted)
{
    make_objective(named_context("reference", _i / 2 == 0 ? 0 : 1));
    spoiler how = {.from = 1, .to = 3, .slopes = _i % 2};
    settings.loss_function = spoiling_loss;
    settings.loss_user = &how;
    cso_mean_query query = mean_query(EOT);
    ck_assert_int_eq(cso_mean_query_open(&query, true), CARSO_OK);
    ck_assert_int_eq(cso_mean_query_run(&query, points, NULL, NULL, true), CARSO_OK);
    ck_assert_int_eq(how.seen, EOT);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq(query.bad[i], i == 1);
        ck_assert_uint_eq(query.diagnosis.image[i].non_finite_losses, i == 1 && !how.slopes ? 2 : 0);
        ck_assert_uint_eq(query.diagnosis.image[i].non_finite_gradients, i == 1 && how.slopes ? 2 : 0);
        ck_assert(isfinite(query.loss[i]) == (i != 1 || how.slopes));
    }
    cso_mean_query_close(&query);
    drop_objective();
}
END_TEST

static carso_status overflowing_query(void *self, const cso_query *query)
{
    (void)self;
    for (int64_t k = 0; k < query->count * query->sets; k++) {
        query->losses[k] = 1;
        query->wrong[k] = 0;
        query->bad_gradient[k] = 0;
    }
    for (int64_t i = 0; i < query->count; i++) {
        query->exponent[i] = 0;
        for (int j = 0; j < SMALL_IMAGE; j++) {
            query->gradient[i * SMALL_IMAGE + j] = i == 2 ? INFINITY : 1;
        }
    }
    return CARSO_OK;
}

/* What each set adds may be finite, and the gradient not. */
START_TEST(a_sum_that_is_not_finite_counts_once)
{
    make_objective(named_context("reference", 0));
    objective.query = overflowing_query;
    cso_mean_query query = mean_query(EOT);
    ck_assert_int_eq(cso_mean_query_open(&query, true), CARSO_OK);
    ck_assert_int_eq(cso_mean_query_run(&query, points, NULL, NULL, true), CARSO_OK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq(query.bad[i], i == 2);
        ck_assert_uint_eq(query.diagnosis.image[i].non_finite_losses, 0);
        ck_assert_uint_eq(query.diagnosis.image[i].non_finite_gradients, i == 2);
    }
    cso_mean_query_close(&query);
    drop_objective();
}
END_TEST

typedef struct stopper {
    int calls, stop_at;
} stopper;

static carso_status stop(void *user)
{
    stopper *const how = user;
    return ++how->calls == how->stop_at ? CARSO_CANCELLED : CARSO_OK;
}

/* In small memory between the sets of one run; one set has none to stop between. */
START_TEST(cancelled_between_sets)
{
    make_objective(named_context("reference", 1));
    for (int with_gradient = 0; with_gradient < 2; with_gradient++) {
        stopper how = {0};
        cso_mean_query query = mean_query(EOT);
        query.between = stop;
        query.between_user = &how;
        ck_assert_int_eq(cso_mean_query_open(&query, true), CARSO_OK);
        ck_assert_int_eq(cso_mean_query_run(&query, points, NULL, NULL, with_gradient), CARSO_OK);
        const int all = how.calls;
        ck_assert_int_ge(all, EOT - 1);
        for (int at = 1; at <= all; at += 7) {
            how = (stopper){.stop_at = at};
            ck_assert_int_eq(cso_mean_query_run(&query, points, NULL, NULL, with_gradient), CARSO_CANCELLED);
            ck_assert_int_eq(how.calls, at);
        }
        how = (stopper){0};
        query.eot = 1;
        ck_assert_int_eq(cso_mean_query_run(&query, points, NULL, NULL, with_gradient), CARSO_OK);
        ck_assert_int_eq(how.calls, 0);
        cso_mean_query_close(&query);
    }
    drop_objective();
}
END_TEST

START_TEST(allocations_failing)
{
    counting_allocator counts = {0};
    make_objective(counting_context(&counts));
    carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
    for (long n = 1; status != CARSO_OK; n++) {
        cso_mean_query query = mean_query(3);
        query.count = 1;
        atomic_store(&counts.failing, atomic_load(&counts.made) + n);
        status = cso_mean_query_open(&query, true);
        if (status == CARSO_OK) {
            status = cso_mean_query_run(&query, points, NULL, NULL, true);
        }
        atomic_store(&counts.failing, 0);
        ck_assert(status == CARSO_OK || status == CARSO_ERROR_OUT_OF_MEMORY);
        cso_mean_query_close(&query);
    }
    drop_objective();
    ck_assert_int_eq(atomic_load(&counts.held), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("query");
    TCase *tests = tcase_create("query");
    tcase_set_timeout(tests, 600); /* the reference backend under sanitizers */
    tcase_add_loop_test(tests, sets_together_are_evaluations_one_by_one, 0, 2);
    tcase_add_test(tests, judges_have_their_own_number_of_sets);
    tcase_add_loop_test(tests, sets_that_are_not_finite_are_counted, 0, 4);
    tcase_add_test(tests, a_sum_that_is_not_finite_counts_once);
    tcase_add_test(tests, cancelled_between_sets);
    tcase_add_test(tests, allocations_failing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
