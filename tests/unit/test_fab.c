/* SPDX-License-Identifier: BSD-2-Clause */
/* FAB on linear classifiers, whose nearest boundary is known. */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 4, SIZE = 48, CLASSES = 5, RECORDS = 31 };

#include "attack/fab.h"
#include "attack_trial.h"

typedef struct linear {
    double weight[CLASSES][SIZE], bias[CLASSES];
    int calls, gradient_calls, images_seen;
    double noise; /* of the margins, by the draw's parity */
    int bad_image, bad_call;
    int fail_call;
    bool flat; /* gradients of 0 */
    int32_t exponent;
    uint32_t draws_used[64];
} linear;

static linear work;
static cso_objective objective;
static cso_search search;

static double margin_at(const float *image, int label, int other)
{
    double sum = work.bias[other] - work.bias[label];
    for (int j = 0; j < SIZE; j++) {
        sum += (work.weight[other][j] - work.weight[label][j]) * (double)image[j];
    }
    return sum;
}

static double largest_margin(const float *image, int label)
{
    double largest = -INFINITY;
    for (int c = 0; c < CLASSES; c++) {
        if (c != label) {
            largest = fmax(largest, margin_at(image, label, c));
        }
    }
    return largest;
}

static carso_status query(void *self, const cso_query *asked)
{
    linear *const own = self;
    if (own->calls == own->fail_call) {
        return CARSO_ERROR_CALLBACK;
    }
    own->draws_used[own->calls % 64] = asked->first_draw;
    for (int64_t i = 0; i < asked->count; i++) {
        const float *const image = asked->images + i * SIZE;
        const int label = asked->labels[i];
        int other = label == 0;
        for (int c = 0; c < CLASSES; c++) {
            if (c != label && margin_at(image, label, c) > margin_at(image, label, other)) {
                other = c;
            }
        }
        if (asked->targets) {
            other = asked->targets[i];
        }
        asked->losses[i] = margin_at(image, label, other) + (asked->first_draw % 2 ? -own->noise : own->noise);
        if (own->bad_call >= 0 && own->calls >= own->bad_call && asked->image_index[i] == image_index[own->bad_image]) {
            asked->losses[i] = NAN;
        }
        if (asked->wrong) {
            asked->wrong[i] = asked->losses[i] > 0;
        }
        if (!asked->gradient) {
            continue;
        }
        asked->exponent[i] = own->exponent;
        for (int j = 0; j < SIZE; j++) {
            asked->gradient[i * SIZE + j] =
                own->flat ? 0 : (float)ldexp(own->weight[other][j] - own->weight[label][j], -own->exponent);
        }
    }
    own->calls++;
    own->gradient_calls += asked->gradient != NULL;
    own->images_seen += (int)asked->count;
    return CARSO_OK;
}

/* Each image labelled as it is classified. spread: how far from the middle of [0, 1] its components lie. */
static void fill_images(double spread)
{
    for (int k = 0; k < ALL; k++) {
        original[k] = (float)(0.5 + spread * ((double)uniform() - 0.5));
    }
    for (int i = 0; i < COUNT; i++) {
        labels[i] = 0;
        for (int c = 1; c < CLASSES; c++) {
            if (margin_at(original + i * SIZE, labels[i], c) > 0) {
                labels[i] = c;
            }
        }
    }
}

static void set_up_classifier(void)
{
    set_up();
    random_state = 1;
    work = (linear){.bad_call = -1, .fail_call = -1};
    for (int c = 0; c < CLASSES; c++) {
        work.bias[c] = 0.1 * (double)uniform();
        for (int j = 0; j < SIZE; j++) {
            work.weight[c][j] = (double)(uniform() - 0.5f);
        }
    }
    fill_images(0.2);
    for (int i = 0; i < COUNT; i++) {
        epsilon[i] = 10;
    }
    objective = (cso_objective){.self = &work, .query = query, .image_size = SIZE, .context = context};
    search = (cso_search){.iterations = 30,
                          .classes = CLASSES,
                          .restarts = 1,
                          .eot = 1,
                          .epsilon = epsilon,
                          .seed = 3,
                          .purpose = CSO_PURPOSE_ATTACK_START,
                          .image_index = image_index,
                          .unit = "steps"};
    memset(steps, 0, sizeof steps);
}

static carso_status fab(void)
{
    return cso_fab_run(&objective, &search, original, labels, COUNT, adversarial, &report);
}

static double length_of(int i)
{
    double length = 0;
    for (int j = i * SIZE; j < (i + 1) * SIZE; j++) {
        const double change = fabs((double)adversarial[j] - (double)original[j]);
        length = search.norm == CARSO_NORM_L2 ? length + change * change : fmax(length, change);
    }
    return search.norm == CARSO_NORM_L2 ? sqrt(length) : length;
}

/* Margin over dual norm, of the nearest of the boundaries. */
static double closed_form(int i)
{
    double nearest = INFINITY;
    for (int c = 0; c < CLASSES; c++) {
        double ones = 0, squares = 0;
        for (int j = 0; j < SIZE; j++) {
            const double slope = work.weight[c][j] - work.weight[labels[i]][j];
            ones += fabs(slope);
            squares += slope * slope;
        }
        if (c != labels[i]) {
            nearest = fmin(nearest, -margin_at(original + i * SIZE, labels[i], c) /
                                        (search.norm == CARSO_NORM_L2 ? sqrt(squares) : ones));
        }
    }
    return nearest;
}

/* The same within [0, 1]: the least level at which what the components can reach crosses the boundary, by bisection. */
static double with_the_box(int i)
{
    const bool l2 = search.norm == CARSO_NORM_L2;
    double nearest = INFINITY;
    for (int c = 0; c < CLASSES; c++) {
        const double gap = -margin_at(original + i * SIZE, labels[i], c);
        double low = 0, high = 100, length = 0, reached = 0;
        for (int step = 0; step < 201 && c != labels[i]; step++) {
            const double level = step == 200 ? high : (low + high) / 2;
            reached = length = 0;
            for (int j = 0; j < SIZE; j++) {
                const double slope = work.weight[c][j] - work.weight[labels[i]][j];
                const double room = slope > 0 ? 1 - (double)original[i * SIZE + j] : (double)original[i * SIZE + j];
                const double moved = fmin(room, l2 ? level * fabs(slope) : level);
                reached += fabs(slope) * moved;
                length = l2 ? length + moved * moved : fmax(length, moved);
            }
            *(reached < gap ? &low : &high) = level;
        }
        if (c != labels[i] && reached >= gap) {
            nearest = fmin(nearest, l2 ? sqrt(length) : length);
        }
    }
    return nearest;
}

/* Distances are to the tolerance, and never below what is possible; what is kept is misclassified, and at them. */
static void check_against(double (*expected)(int i), double tolerance)
{
    for (int i = 0; i < COUNT; i++) {
        const double nearest = expected(i);
        /* 1e-6: some steps between floats near 1 */
        ck_assert_msg(distances[i] <= nearest * (1 + tolerance) + 1e-6 && distances[i] >= nearest * (1 - 1e-5) - 1e-7,
                      "image %d: %.9g, and possible is %.9g", i, distances[i], nearest);
        ck_assert_double_eq_tol(length_of(i), distances[i], 1e-12);
        ck_assert_double_gt(largest_margin(adversarial + i * SIZE, labels[i]), 0);
        ck_assert_double_eq_tol(last_loss[i], largest_margin(adversarial + i * SIZE, labels[i]), 1e-12);
        ck_assert_double_eq_tol(first_loss[i], largest_margin(original + i * SIZE, labels[i]), 1e-12);
        for (int j = i * SIZE; j < (i + 1) * SIZE; j++) {
            ck_assert(adversarial[j] >= 0 && adversarial[j] <= 1);
        }
    }
}

START_TEST(closed_form_where_the_box_is_far)
{
    search.norm = (carso_norm)_i;
    for (work.exponent = -20; work.exponent <= 20; work.exponent += 20) {
        ck_assert_int_eq(fab(), CARSO_OK);
        for (int i = 0; i < COUNT; i++) /* or the closed form does not hold */ {
            ck_assert_double_eq_tol(with_the_box(i), closed_form(i), 1e-9);
        }
        check_against(closed_form, 1e-4);
    }
}
END_TEST

/* All other classes as targets, one after the other. */
static void in_turn(void)
{
    static int32_t sets[CLASSES - 1][COUNT];
    for (int k = 0; k < CLASSES - 1; k++) {
        for (int i = 0; i < COUNT; i++) {
            sets[k][i] = k + (k >= labels[i]);
        }
    }
    search.targets = sets[0];
    search.target_sets = CLASSES - 1;
    search.judged_untargeted = true;
}

START_TEST(bisection_where_the_box_binds)
{
    search.norm = (carso_norm)_i;
    int binds = 0;
    for (int repeat = 0; repeat < 20; repeat++) {
        fill_images(1);
        for (int k = 0; k < ALL; k++) {
            original[k] = original[k] < 0.3f ? 0 : original[k] > 0.7f ? 1 : original[k];
        }
        for (int i = 0; i < COUNT; i++) {
            for (int c = 0; c < CLASSES; c++) {
                if (margin_at(original + i * SIZE, labels[i], c) > 0) {
                    labels[i] = c;
                }
            }
        }
        ck_assert_int_eq(fab(), CARSO_OK);
        check_against(with_the_box, 0.1); /* which boundary is nearest is judged without the box */
        in_turn();
        ck_assert_int_eq(fab(), CARSO_OK);
        check_against(with_the_box, 1e-3);
        search.targets = NULL;
        for (int i = 0; i < COUNT; i++) {
            binds += with_the_box(i) > 1.02 * closed_form(i);
        }
    }
    ck_assert_int_gt(binds, 40);
}
END_TEST

/* One boundary at a time, and all of them in turn, find the same as one step that looks at all. */
START_TEST(targets_in_turn_find_the_nearest)
{
    search.norm = (carso_norm)_i;
    in_turn();
    ck_assert_int_eq(fab(), CARSO_OK);
    check_against(closed_form, 1e-4);
    /* one gradient a step, where the other takes one for each class */
    ck_assert_int_eq(work.gradient_calls, (CLASSES - 1) * search.iterations);
    work.gradient_calls = 0;
    search.targets = NULL;
    ck_assert_int_eq(fab(), CARSO_OK);
    ck_assert_int_eq(work.gradient_calls, (CLASSES - 1) * search.iterations);
}
END_TEST

START_TEST(restarts_begin_elsewhere_and_do_no_harm)
{
    search.norm = (carso_norm)_i;
    search.restarts = 3;
    ck_assert_int_eq(fab(), CARSO_OK);
    check_against(closed_form, 1e-4);
    float whole[ALL], alone[SIZE];
    memcpy(whole, adversarial, sizeof whole);
    cso_search single = search;
    single.image_index = image_index + 2;
    ck_assert_int_eq(cso_fab_run(&objective, &single, original + 2 * SIZE, labels + 2, 1, alone, NULL), CARSO_OK);
    ck_assert_mem_eq(alone, whole + 2 * SIZE, sizeof alone);
}
END_TEST

/* A point further than epsilon is not handed out, but its distance is known. */
START_TEST(epsilon_bounds_what_is_kept)
{
    epsilon[0] = 0.5 * closed_form(0);
    epsilon[1] = 1.01 * closed_form(1);
    epsilon[2] = 0;
    ck_assert_int_eq(fab(), CARSO_OK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq_tol(distances[i], closed_form(i), 1e-4 * closed_form(i));
        if (i % 2 == 0 && i < 3) {
            ck_assert_mem_eq(adversarial + i * SIZE, original + i * SIZE, SIZE * sizeof *original);
            ck_assert_double_eq(last_loss[i], first_loss[i]);
        } else {
            ck_assert_double_le(length_of(i), epsilon[i]);
            ck_assert_double_gt(last_loss[i], 0);
        }
    }
}
END_TEST

START_TEST(misclassified_as_they_are)
{
    labels[1] = (labels[1] + 1) % CLASSES;
    search.restarts = 2;
    for (int early = 0; early < 2; early++) {
        search.early_stop = early;
        ck_assert_int_eq(fab(), CARSO_OK);
        ck_assert_mem_eq(adversarial + SIZE, original + SIZE, SIZE * sizeof *original);
        ck_assert(early || distances[1] == 0);
        ck_assert_double_eq(last_loss[1], first_loss[1]);
        ck_assert_double_gt(last_loss[1], 0);
        ck_assert_double_gt(distances[0], 0);
    }
}
END_TEST

/* Early stopping ends with the first point within epsilon. */
START_TEST(early_stop_saves_evaluations)
{
    ck_assert_int_eq(fab(), CARSO_OK);
    const int all = work.images_seen;
    work.images_seen = 0;
    search.early_stop = true;
    ck_assert_int_eq(fab(), CARSO_OK);
    ck_assert_int_lt(work.images_seen, all / 5);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_gt(last_loss[i], 0);
        ck_assert_double_le(distances[i], 1.06 * closed_form(i)); /* stretched by 5 % */
    }
}
END_TEST

/* Classes are compared on the same draws; noise of both signs averages out; no draw is used twice otherwise. */
START_TEST(draws)
{
    objective.draws = 1;
    search.eot = 2;
    search.iterations = 3;
    work.noise = 3;
    ck_assert_int_eq(fab(), CARSO_OK);
    int call = 0;
    uint32_t draw = 0;
    for (int e = 0; e < 4; e++) /* the images, for first_loss and as where the search begins */ {
        ck_assert_uint_eq(work.draws_used[call++], draw++);
    }
    for (int step = 0; step < 3; step++) {
        for (int k = 0; k < 2 * (CLASSES - 1); k++) {
            ck_assert_uint_eq(work.draws_used[call++], draw + (uint32_t)k % 2);
        }
        draw += 2;
        for (int e = 0; e < 2; e++) {
            ck_assert_uint_eq(work.draws_used[call++], draw++);
        }
    }
    for (int k = 0; k < 2 * 5; k++) /* the line */ {
        ck_assert_uint_eq(work.draws_used[call++], draw + (uint32_t)k % 2);
    }
    draw += 2;
    for (int e = 0; e < 2; e++) /* last_loss */ {
        ck_assert_uint_eq(work.draws_used[call++], draw++);
    }
    ck_assert_int_eq(call, work.calls);
    ck_assert_uint_le(draw, 2 * (CSO_FAB_EVALUATIONS(3) + 2));

    search.iterations = 30;
    ck_assert_int_eq(fab(), CARSO_OK);
    check_against(closed_form, 1e-4);
    search.fixed_draws = true;
    search.iterations = 3;
    work.calls = 0;
    ck_assert_int_eq(fab(), CARSO_OK);
    for (int k = 2; k < 2 + 2 * (1 + 3 * CLASSES + 5); k++) {
        ck_assert_uint_eq(work.draws_used[k], 2 + (uint32_t)k % 2);
    }
}
END_TEST

START_TEST(gradients_of_zero_lead_nowhere)
{
    work.flat = true;
    ck_assert_int_eq(fab(), CARSO_OK);
    ck_assert_mem_eq(adversarial, original, sizeof original);
    for (int i = 0; i < COUNT; i++) {
        ck_assert(isinf(distances[i]));
    }
    for (int k = 0; k < RECORDS - 1; k++) {
        ck_assert_uint_eq(steps[k].flat, COUNT * (CLASSES - 1));
        ck_assert_uint_eq(steps[k].gradients, steps[k].flat);
        ck_assert_uint_eq(steps[k].evaluations, COUNT);
        ck_assert_uint_eq(steps[k].wrong, 0);
    }
    ck_assert_uint_eq(steps[RECORDS - 1].evaluations, COUNT);
    ck_assert_uint_eq(steps[RECORDS - 1].gradients, 0);
}
END_TEST

START_TEST(non_finite_is_flagged)
{
    char message[256];
    work.bad_image = 2;
    work.bad_call = 12;
    ck_assert_int_eq(fab(), CARSO_ERROR_NON_FINITE);
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(strstr(message, "1 of the 4") && strstr(message, "image 7"), "%s", message);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq(non_finite[i], i == 2);
        ck_assert(i == 2 || fabs(distances[i] - closed_form(i)) <= 1e-4 * closed_form(i));
    }
    work.calls = work.bad_call = 0;
    ck_assert_int_eq(fab(), CARSO_ERROR_NON_FINITE);
    ck_assert(isnan(first_loss[2]) && isinf(distances[2]));
    ck_assert_mem_eq(adversarial + 2 * SIZE, original + 2 * SIZE, SIZE * sizeof *original);
}
END_TEST

START_TEST(non_finite_final_search_is_flagged)
{
    ck_assert_int_eq(fab(), CARSO_OK);
    const double found = distances[2];
    work.bad_image = 2;
    work.bad_call = work.calls - 1;
    work.calls = 0;
    ck_assert_int_eq(fab(), CARSO_ERROR_NON_FINITE);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq(non_finite[i], i == 2);
    }
    ck_assert(found <= distances[2] && distances[2] <= 1.01 * found);
}
END_TEST

static int stop_at_ten(const carso_progress *progress, void *user)
{
    (void)user;
    ck_assert_uint_eq(progress->total, 60);
    return progress->done == 10;
}

START_TEST(what_was_found_is_kept)
{
    search.restarts = 2;
    search.progress = stop_at_ten;
    ck_assert_int_eq(fab(), CARSO_CANCELLED);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_gt(last_loss[i], 0);
        ck_assert_double_le(distances[i], 1.06 * closed_form(i));
        ck_assert_double_eq_tol(length_of(i), distances[i], 1e-12);
    }
    search.progress = NULL;
    work.calls = 0;
    work.fail_call = 100;
    ck_assert_int_eq(fab(), CARSO_ERROR_CALLBACK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_gt(last_loss[i], 0);
    }
    work.fail_call = -1;
    carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
    for (long n = 1; status != CARSO_OK; n++) {
        atomic_store(&counts.failing, atomic_load(&counts.made) + n);
        status = fab();
        atomic_store(&counts.failing, 0);
        ck_assert(status == CARSO_OK || status == CARSO_ERROR_OUT_OF_MEMORY);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fab");
    TCase *tests = tcase_create("fab");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, set_up_classifier, tear_down);
    tcase_add_loop_test(tests, closed_form_where_the_box_is_far, 0, 2);
    tcase_add_loop_test(tests, bisection_where_the_box_binds, 0, 2);
    tcase_add_loop_test(tests, targets_in_turn_find_the_nearest, 0, 2);
    tcase_add_loop_test(tests, restarts_begin_elsewhere_and_do_no_harm, 0, 2);
    tcase_add_test(tests, epsilon_bounds_what_is_kept);
    tcase_add_test(tests, misclassified_as_they_are);
    tcase_add_test(tests, early_stop_saves_evaluations);
    tcase_add_test(tests, draws);
    tcase_add_test(tests, gradients_of_zero_lead_nowhere);
    tcase_add_test(tests, non_finite_is_flagged);
    tcase_add_test(tests, non_finite_final_search_is_flagged);
    tcase_add_test(tests, what_was_found_is_kept);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
