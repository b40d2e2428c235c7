/* SPDX-License-Identifier: BSD-2-Clause */
/* APGD, Square and PGD on objectives whose optimum is known. */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attack/apgd.h"
#include "attack/square.h"
#include "counting_allocator.h"

enum { COUNT = 3, SIDE = 8, SIZE = SIDE * SIDE, ALL = COUNT * SIZE };

typedef enum shape {
    LINEAR,
    QUADRATIC, /* minus the squared distance from centre */
    CONSTANT
} shape;

typedef struct landscape {
    shape shape;
    float weight[SIZE], centre[SIZE];
    int calls, images_seen;
    int bad_image, bad_call; /* from this call on that image is NaN; -1: never */
    int fail_call;
    double threshold; /* wrong beyond this loss */
    double noise;     /* of the draws' parity */
    bool target_flips; /* target 1 turns the sign */
    uint32_t draws_used[64];
} landscape;

static counting_allocator counts;
static carso_context *context;
static float original[ALL], adversarial[ALL];
static double epsilon[COUNT];
static const uint64_t image_index[COUNT] = {5, 6, 7};
static const int32_t labels[COUNT];
static double first_loss[COUNT], last_loss[COUNT], zero_gradient[COUNT];
static uint8_t non_finite[COUNT];
static uint32_t bad_losses[COUNT], bad_gradients[COUNT];
static double tiny_gradient[COUNT];
enum { RECORDS = 4 };
static cso_step_record steps[RECORDS];
static const cso_attack_report report = {.first_loss = first_loss,
                                         .last_loss = last_loss,
                                         .non_finite = non_finite,
                                         .zero_gradient = zero_gradient,
                                         .tiny_gradient = tiny_gradient,
                                         .non_finite_losses = bad_losses,
                                         .non_finite_gradients = bad_gradients,
                                         .steps = steps,
                                         .step_count = RECORDS,
                                         .step_stride = 1};
static landscape land;
static cso_objective objective;
static cso_search search;
static uint64_t random_state;

static float uniform(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(random_state >> 40) / 16777216.0f;
}

static double height_at(const landscape *self, const float *image, float *gradient)
{
    double value = 0;
    for (int j = 0; j < SIZE; j++) {
        const double away = (double)image[j] - (double)self->centre[j];
        const double slope = self->shape == LINEAR      ? (double)self->weight[j]
                             : self->shape == QUADRATIC ? -2 * away
                                                        : 0;
        value += self->shape == LINEAR ? slope * (double)image[j] : self->shape == QUADRATIC ? -away * away : 0;
        if (gradient)
            gradient[j] = (float)slope;
    }
    return value;
}

static carso_status landscape_query(void *self, const cso_query *query)
{
    landscape *const own = self;
    if (own->calls == own->fail_call)
        return CARSO_ERROR_OUT_OF_MEMORY;
    for (int64_t i = 0; i < query->count; i++) {
        float *const gradient = query->gradient ? query->gradient + i * SIZE : NULL;
        double loss = height_at(own, query->images + i * SIZE, gradient);
        if (query->targets && query->targets[i] == 1 && own->target_flips) {
            loss = -loss;
            for (int j = 0; gradient && j < SIZE; j++)
                gradient[j] = -gradient[j];
        }
        loss += query->first_draw % 2 ? -own->noise : own->noise;
        if (own->bad_call >= 0 && own->calls >= own->bad_call &&
            query->image_index[i] == image_index[own->bad_image])
            loss = NAN;
        query->losses[i] = loss;
        if (query->exponent)
            query->exponent[i] = 0;
        if (query->wrong)
            query->wrong[i] = loss > own->threshold;
    }
    own->draws_used[own->calls % 64] = query->first_draw;
    own->calls++;
    own->images_seen += (int)query->count;
    return CARSO_OK;
}

static void set_up(void)
{
    memset(&counts, 0, sizeof counts);
    context = counting_context(&counts);
    ck_assert_ptr_nonnull(context);
    random_state = 1;
    for (int k = 0; k < ALL; k++)
        original[k] = 0.3f + 0.4f * uniform();
    land = (landscape){.bad_image = 0, .bad_call = -1, .fail_call = -1, .threshold = INFINITY};
    for (int j = 0; j < SIZE; j++) {
        land.weight[j] = uniform() - 0.5f;
        land.centre[j] = 0.2f + 0.6f * uniform();
    }
    for (int i = 0; i < COUNT; i++)
        epsilon[i] = 0.1;
    objective = (cso_objective){.self = &land, .query = landscape_query, .image_size = SIZE, .context = context};
    search = (cso_search){.iterations = 100,
                          .channels = 1,
                          .height = SIDE,
                          .width = SIDE,
                          .restarts = 1,
                          .eot = 1,
                          .random_start = true,
                          .epsilon = epsilon,
                          .seed = 3,
                          .purpose = CSO_PURPOSE_ATTACK_START,
                          .image_index = image_index,
                          .unit = "steps"};
}

static void tear_down(void)
{
    carso_context_destroy(context);
    ck_assert_int_eq(atomic_load(&counts.held), 0);
}

static carso_status apgd(void)
{
    return cso_apgd_run(&objective, &search, original, labels, COUNT, adversarial, &report);
}

static carso_status square(void)
{
    return cso_square_run(&objective, &search, original, labels, COUNT, adversarial, &report);
}

static carso_status either(int which)
{
    return which ? square() : apgd();
}

static carso_status pgd(double step_size, double momentum)
{
    const double step_sizes[COUNT] = {step_size, step_size, step_size};
    const cso_pgd how = {.steps = search.iterations,
                         .restarts = 1,
                         .eot = 1,
                         .random_start = true,
                         .epsilon = epsilon,
                         .step_size = step_sizes,
                         .seed = 3,
                         .purpose = CSO_PURPOSE_ATTACK_START,
                         .image_index = image_index,
                         .norm = search.norm,
                         .momentum = momentum,
                         .targets = search.targets};
    return cso_pgd_run(&objective, &how, original, labels, COUNT, adversarial, &report);
}

static double distance(int i, const float *from)
{
    double sum = 0;
    for (int j = 0; j < SIZE; j++) {
        const double away = (double)adversarial[i * SIZE + j] - (double)from[j];
        sum += away * away;
    }
    return sqrt(sum);
}

static void check_bounds(void)
{
    for (int i = 0; i < COUNT; i++) {
        for (int k = i * SIZE; k < (i + 1) * SIZE; k++) {
            ck_assert(adversarial[k] >= 0.0f && adversarial[k] <= 1.0f);
            ck_assert(search.norm == CARSO_NORM_L2 ||
                      fabs((double)adversarial[k] - (double)original[k]) <= epsilon[i]);
        }
        ck_assert(search.norm == CARSO_NORM_LINF || distance(i, original + i * SIZE) <= epsilon[i]);
    }
}

static double gain(int i)
{
    return last_loss[i] - first_loss[i];
}

/* Most that a linear function can gain, the faces of [0, 1] being further than epsilon: epsilon times the dual norm. */
static double linear_gain(void)
{
    double ones = 0, squares = 0;
    for (int j = 0; j < SIZE; j++) {
        ones += fabs((double)land.weight[j]);
        squares += (double)land.weight[j] * (double)land.weight[j];
    }
    return epsilon[0] * (search.norm == CARSO_NORM_L2 ? sqrt(squares) : ones);
}

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
    for (int i = 0; i < COUNT; i++)
        ck_assert_double_eq_tol(last_loss[i] - height_at(&land, original + i * SIZE, NULL), best, 1e-6);
    ck_assert_int_eq(pgd(0.05, 0.9), CARSO_OK);
    check_bounds();
    for (int i = 0; i < COUNT; i++)
        ck_assert_double_eq_tol(last_loss[i] - height_at(&land, original + i * SIZE, NULL), best, 1e-6);
}
END_TEST

/* The corner of the l-infinity ball is found exactly; of the l2 ball random search gains at least half of all. */
START_TEST(square_climbs_a_linear_function)
{
    search.norm = (carso_norm)_i;
    search.iterations = 3000;
    ck_assert_int_eq(square(), CARSO_OK);
    check_bounds();
    for (int i = 0; i < COUNT; i++)
        ck_assert_msg(gain(i) > (_i == CARSO_NORM_LINF ? 0.99 : 0.5) * linear_gain(), "image %d: %g of %g", i, gain(i),
                      linear_gain());
    ck_assert_int_eq(land.calls, 3001);
}
END_TEST

/* The centre within the ball: the optimum is the centre, which signs of a fixed length only circle. */
START_TEST(quadratic_optimum_inside_the_ball)
{
    for (int j = 0; j < SIZE; j++) {
        for (int i = 0; i < COUNT; i++)
            original[i * SIZE + j] = 0.5f;
        land.centre[j] = 0.5f + 0.08f * (uniform() - 0.5f);
    }
    land.shape = QUADRATIC;
    search.norm = (carso_norm)_i;
    for (int i = 0; i < COUNT; i++)
        epsilon[i] = _i == CARSO_NORM_L2 ? 0.5 : 0.1;
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
        if (_i == CARSO_NORM_L2)
            best = -(sqrt(away) - epsilon[i]) * (sqrt(away) - epsilon[i]);
        ck_assert_msg(fabs(last_loss[i] - best) < 1e-5, "image %d: %.9g, not %.9g", i, last_loss[i], best);
        optimum[i] = best;
    }
    /* PGD with steps of 0.002 ends within one of them, in every component: those inside circle their centre */
    ck_assert_int_eq(pgd(0.002, 0), CARSO_OK);
    check_bounds();
    for (int i = 0; i < COUNT; i++)
        ck_assert_msg(last_loss[i] <= optimum[i] + 1e-9 && last_loss[i] > optimum[i] - SIZE * 0.002 * 0.002,
                      "image %d: %.9g, not %.9g", i, last_loss[i], optimum[i]);
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
        for (int i = 0; i < COUNT; i++)
            ck_assert(first_loss[i] == 0 && last_loss[i] == 0 && zero_gradient[i] == 1 && !non_finite[i]);
    }
}
END_TEST

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
    for (int i = 0; i < COUNT; i++)
        epsilon[i] = 0;
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
    for (int i = 0; i < COUNT; i++)
        highest = fmax(highest, first_loss[i]);
    const double full = last_loss[0];
    land.threshold = highest + 1e-3;
    land.images_seen = 0;
    search.early_stop = true;
    ck_assert_int_eq(either(_i), CARSO_OK);
    check_bounds();
    ck_assert_int_lt(land.images_seen, all / 2);
    for (int i = 0; i < COUNT; i++)
        ck_assert_double_gt(last_loss[i], land.threshold);
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
    for (int i = 0; i < COUNT; i++)
        if (memcmp(adversarial + i * SIZE, original + i * SIZE, SIZE * sizeof *original) != 0)
            ck_assert_double_eq(last_loss[i], height_at(&land, adversarial + i * SIZE, NULL) + expected);
    search.eot = 2;
    ck_assert_int_eq(either(_i), CARSO_OK);
    for (int i = 0; i < COUNT; i++)
        ck_assert_double_eq_tol(last_loss[i], height_at(&land, adversarial + i * SIZE, NULL), 1e-12);
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
    for (int e = 0; e < 2; e++)
        ck_assert_uint_eq(land.draws_used[call++], 3 * fresh++);
    for (int run = 0; run < 2; run++) {
        for (int k = 0; k < 2 * evaluations; k++)
            ck_assert_uint_eq(land.draws_used[call++], 3 * (fresh + (uint32_t)k % 2));
        fresh += 2;
        for (int e = 0; e < 2; e++)
            ck_assert_uint_eq(land.draws_used[call++], 3 * fresh++);
    }
}
END_TEST

/* The judge, whose optimum lies elsewhere, sees the originals and each run's best points, and nothing else. */
START_TEST(another_objective_judges)
{
    landscape other = land;
    for (int j = 0; j < SIZE; j++)
        other.weight[j] += 0.3f * (uniform() - 0.5f);
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
    for (int j = 0; j < SIZE; j++)
        other.weight[j] = -land.weight[j]; /* what attacks the one defends the other: the images are kept */
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
    for (int i = 0; i < COUNT; i++)
        ck_assert_double_lt(height_at(&land, adversarial + i * SIZE, NULL),
                            height_at(&land, original + i * SIZE, NULL));
    search.target_sets = 2;
    search.judged_untargeted = true;
    ck_assert_int_eq(apgd(), CARSO_OK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq_tol(gain(i), linear_gain(), 1e-6);
        ck_assert_double_eq(last_loss[i], height_at(&land, adversarial + i * SIZE, NULL));
    }
}
END_TEST

/* Section 3.1 of the paper: p_0 = 0, p_1 = 0.22, steps shrinking by 0.03 down to 0.06. */
START_TEST(checkpoints_of_the_paper)
{
    static const double expected[] = {0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99};
    for (size_t k = 2; k < sizeof expected / sizeof *expected; k++)
        ck_assert_double_eq_tol(cso_apgd_next_checkpoint(expected[k - 2], expected[k - 1]), expected[k], 1e-12);
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
    for (int i = 0; i < COUNT; i++)
        ck_assert_double_gt(gain(i), 0);
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
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, linear_optimum_is_reached, 0, 2);
    tcase_add_loop_test(tests, square_climbs_a_linear_function, 0, 2);
    tcase_add_loop_test(tests, quadratic_optimum_inside_the_ball, 0, 2);
    tcase_add_loop_test(tests, quadratic_optimum_on_the_surface, 0, 2);
    tcase_add_loop_test(tests, constant_objective_ends_with_the_images, 0, 2);
    tcase_add_loop_test(tests, what_was_met_is_counted, 0, 2);
    tcase_add_loop_test(tests, epsilon_0_changes_nothing, 0, 2);
    tcase_add_loop_test(tests, reproducible, 0, 4);
    tcase_add_loop_test(tests, non_finite_is_flagged, 0, 2);
    tcase_add_loop_test(tests, early_stop_ends_per_image, 0, 2);
    tcase_add_loop_test(tests, last_loss_is_of_fresh_draws, 0, 2);
    tcase_add_loop_test(tests, draws_can_be_held_still, 0, 2);
    tcase_add_loop_test(tests, another_objective_judges, 0, 2);
    tcase_add_test(tests, targets_are_tried_and_judged_untargeted);
    tcase_add_test(tests, checkpoints_of_the_paper);
    tcase_add_loop_test(tests, cancelled_keeps_the_best_so_far, 0, 2);
    tcase_add_loop_test(tests, failures_are_passed_on, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
