/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attack/objective.h"
#include "carso/attack.h"
#include "counting_allocator.h"
#include "small_model.h"

enum { COUNT = 3, ALL = COUNT * SMALL_IMAGE };

static carso_context *context;
static carso_model *model;
static float pixels[ALL];
static carso_images images;
static const int32_t labels[COUNT] = {0, 2, 3};
static carso_attack_options options;
static carso_attack_result *result;

static void set_up(void)
{
    context = named_context("reference", 0);
    model = small_model(context);
    fill_images(pixels, COUNT);
    images = describe_images(pixels, COUNT);
    carso_attack_options_init(&options, sizeof options);
    options.steps = 4;
    options.epsilon = 0.1;
    options.step_size = 0.03;
    options.draws = 2;
    options.seed = 12;
    result = NULL;
}

static void tear_down(void)
{
    carso_model_destroy(model);
    carso_context_destroy(context);
    carso_attack_result_destroy(result); /* outlives what made it */
}

static void check_message(const char *a, const char *b)
{
    char message[512];
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(strstr(message, a) && strstr(message, b), "\"%s\" has no \"%s\" or no \"%s\"", message, a, b);
}

static void again(carso_status expected)
{
    carso_attack_result_destroy(result);
    result = NULL;
    ck_assert_int_eq(carso_attack(model, &images, labels, &options, &result), expected);
    ck_assert_ptr_nonnull(result);
}

static void check_bounds(void)
{
    const float *const attacked = carso_attack_result_images(result);
    for (int k = 0; k < ALL; k++) {
        ck_assert(attacked[k] >= 0 && attacked[k] <= 1);
        ck_assert(fabs((double)attacked[k] - (double)pixels[k]) <= options.epsilon);
    }
}

static void refused(carso_status expected, const char *a, const char *b)
{
    carso_attack_result *out = (carso_attack_result *)&options;
    ck_assert_int_eq(carso_attack(model, &images, labels, &options, &out), expected);
    ck_assert_ptr_null(out);
    check_message(a, b);
}

START_TEST(raises_every_loss_of_both_objectives)
{
    for (int objective = 0; objective < 2; objective++)
        for (int loss = 0; loss <= CARSO_LOSS_CARSO_MARGIN; loss++) {
            options.objective = objective;
            options.loss = loss;
            again(CARSO_OK);
            check_bounds();
            ck_assert_uint_eq(carso_attack_result_count(result), COUNT);
            for (int i = 0; i < COUNT; i++) {
                const double first = carso_attack_result_first_loss(result)[i],
                             last = carso_attack_result_last_loss(result)[i];
                ck_assert_msg(last > first, "objective %d, loss %d, image %d: %g to %g", objective, loss, i, first,
                              last);
                ck_assert_int_eq(carso_attack_result_non_finite(result)[i], 0);
                ck_assert(carso_attack_result_zero_gradient(result)[i] >= 0 &&
                          carso_attack_result_zero_gradient(result)[i] < 0.5);
            }
        }
}
END_TEST

/* On the classifier, which has no draws, FGSM is the sign of carso_gradient. */
START_TEST(fgsm_follows_the_gradient)
{
    static float gradient[ALL];
    double losses[COUNT];
    options.method = CARSO_ATTACK_FGSM;
    again(CARSO_OK);
    check_bounds();
    ck_assert_int_eq(carso_gradient(model, &images, labels, NULL, gradient, losses, NULL), CARSO_OK);
    for (int k = 0; k < ALL; k++) {
        const double sign = gradient[k] > 0 ? 1 : gradient[k] < 0 ? -1 : 0;
        ck_assert_double_eq_tol(carso_attack_result_images(result)[k], fmin(1, fmax(0, (double)pixels[k] + 0.1 * sign)),
                                6e-8);
    }
    ck_assert_mem_eq(losses, carso_attack_result_first_loss(result), sizeof losses);
    const carso_images attacked = describe_images(carso_attack_result_images(result), COUNT);
    ck_assert_int_eq(carso_gradient(model, &attacked, labels, NULL, gradient, losses, NULL), CARSO_OK);
    for (int i = 0; i < COUNT; i++)
        ck_assert_double_eq_tol(losses[i], carso_attack_result_last_loss(result)[i], 1e-5);
}
END_TEST

/* One step on the defence from the original, by hand: the first draws of the attack's own stream. */
START_TEST(eot_averages_over_fresh_draws)
{
    static float gradient[2][ALL];
    static const uint64_t index[COUNT] = {20, 21, 22};
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    options.loss = CARSO_LOSS_MARGIN;
    options.steps = 1;
    options.random_start = 0;
    options.eot = 2;
    options.first_image = 20;
    options.step_size = options.epsilon;
    again(CARSO_OK);
    check_bounds();
    cso_model_objective settings = {.model = model,
                                    .kind = CARSO_OBJECTIVE_DEFENCE,
                                    .loss = CARSO_LOSS_MARGIN,
                                    .draws = 2,
                                    .seed = 12,
                                    .purpose = CSO_PURPOSE_ATTACK_LATENT};
    const cso_objective objective = cso_model_objective_create(&settings);
    double losses[COUNT];
    for (uint32_t e = 0; e < 2; e++)
        ck_assert_int_eq(objective.evaluate(&settings, pixels, COUNT, index, 2 * e, labels, losses, gradient[e]),
                         CARSO_OK);
    int differ = 0;
    for (int k = 0; k < ALL; k++) {
        const double mean = ((double)gradient[0][k] + (double)gradient[1][k]) / 2;
        const double sign = mean > 0 ? 1 : mean < 0 ? -1 : 0;
        differ += gradient[0][k] != gradient[1][k];
        ck_assert_double_eq_tol(carso_attack_result_images(result)[k], fmin(1, fmax(0, (double)pixels[k] + 0.1 * sign)),
                                6e-8);
    }
    ck_assert_int_gt(differ, ALL / 2);
    settings.purpose = CSO_PURPOSE_LATENT; /* scoring's draws are others */
    ck_assert_int_eq(objective.evaluate(&settings, pixels, COUNT, index, 0, labels, losses, gradient[1]), CARSO_OK);
    ck_assert_mem_ne(gradient[0], gradient[1], sizeof gradient[0]);
}
END_TEST

/* Two steps by hand, both with draws 0 and 1 of the attack's stream. */
START_TEST(draws_can_be_held_still)
{
    static float gradient[ALL], point[ALL];
    static const uint64_t index[COUNT] = {0, 1, 2};
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    options.loss = CARSO_LOSS_MARGIN;
    options.steps = 2;
    options.random_start = 0;
    options.fixed_draws = 1;
    again(CARSO_OK);
    cso_model_objective settings = {.model = model,
                                    .kind = CARSO_OBJECTIVE_DEFENCE,
                                    .loss = CARSO_LOSS_MARGIN,
                                    .draws = 2,
                                    .seed = 12,
                                    .purpose = CSO_PURPOSE_ATTACK_LATENT};
    const cso_objective objective = cso_model_objective_create(&settings);
    double losses[COUNT];
    memcpy(point, pixels, sizeof point);
    for (int step = 0; step < 2; step++) {
        ck_assert_int_eq(objective.evaluate(&settings, point, COUNT, index, 0, labels, losses, gradient), CARSO_OK);
        for (int k = 0; k < ALL; k++)
            point[k] = fminf(1, fmaxf(0, point[k] + (gradient[k] > 0 ? 0.03f : gradient[k] < 0 ? -0.03f : 0)));
    }
    int differ = 0; /* where the gradient is near 0, the last bits of a point turn a sign */
    for (int k = 0; k < ALL; k++)
        differ += fabsf(point[k] - carso_attack_result_images(result)[k]) > 1e-6f;
    ck_assert_int_le(differ, ALL / 100);
    options.fixed_draws = 0;
    memcpy(point, carso_attack_result_images(result), sizeof point);
    again(CARSO_OK);
    ck_assert_mem_ne(point, carso_attack_result_images(result), sizeof point);
}
END_TEST

/* The points are those of the attack on the classifier; the losses are the defence's, with draws of the attack. */
START_TEST(transfer_attacks_the_classifier)
{
    static float alone[ALL];
    static const uint64_t index[COUNT] = {0, 1, 2};
    double losses[COUNT];
    cso_model_objective settings = {.model = model,
                                    .kind = CARSO_OBJECTIVE_DEFENCE,
                                    .loss = CARSO_LOSS_CROSS_ENTROPY,
                                    .draws = 2,
                                    .seed = 12,
                                    .purpose = CSO_PURPOSE_ATTACK_LATENT};
    const cso_objective objective = cso_model_objective_create(&settings);
    ck_assert_int_eq(objective.evaluate(&settings, pixels, COUNT, index, 0, labels, losses, NULL), CARSO_OK);
    options.random_start = 0;
    options.queries = 30;
    for (int method = 0; method <= CARSO_ATTACK_SQUARE; method++) { /* FAB's losses are others */
        options.method = method;
        options.objective = CARSO_OBJECTIVE_CLASSIFIER;
        options.transfer = 0;
        again(CARSO_OK);
        memcpy(alone, carso_attack_result_images(result), sizeof alone);
        options.objective = CARSO_OBJECTIVE_DEFENCE;
        options.transfer = 1;
        again(CARSO_OK);
        ck_assert_mem_eq(losses, carso_attack_result_first_loss(result), sizeof losses);
        const double *const last = carso_attack_result_last_loss(result);
        for (int i = 0; i < COUNT; i++) {
            const float *const mine = carso_attack_result_images(result) + i * SMALL_IMAGE;
            const bool kept = memcmp(mine, pixels + i * SMALL_IMAGE, SMALL_IMAGE * sizeof *mine) == 0;
            const bool may_differ = method == CARSO_ATTACK_APGD_TARGETED; /* other runs may suit the defence better */
            ck_assert(may_differ || kept ||
                      memcmp(mine, alone + i * SMALL_IMAGE, SMALL_IMAGE * sizeof *mine) == 0);
            ck_assert(!kept || method >= CARSO_ATTACK_APGD);
            ck_assert(isfinite(last[i]) && (last[i] > losses[i] || method < CARSO_ATTACK_APGD || kept));
        }
    }
    options.fixed_draws = 1;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "transfer and fixed_draws", "no draws");
    options.objective = CARSO_OBJECTIVE_CLASSIFIER;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "transfer is 1", "nothing to transfer to");
    options.transfer = 0;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "fixed_draws is 1", "no draws");
}
END_TEST

/* The same image, number and seed give the same attack, alone or in a batch, and under a limit that splits it. */
START_TEST(independent_of_the_batch)
{
    static float whole[ALL];
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    options.loss = CARSO_LOSS_LOG_ODDS;
    options.restarts = 2;
    again(CARSO_OK);
    memcpy(whole, carso_attack_result_images(result), sizeof whole);
    again(CARSO_OK);
    ck_assert_mem_eq(whole, carso_attack_result_images(result), sizeof whole);
    images = describe_images(pixels + SMALL_IMAGE, 1);
    options.first_image = 1;
    carso_attack_result_destroy(result);
    ck_assert_int_eq(carso_attack(model, &images, labels + 1, &options, &result), CARSO_OK);
    ck_assert_mem_eq(whole + SMALL_IMAGE, carso_attack_result_images(result), SMALL_IMAGE * sizeof *whole);

    carso_context *const narrow = named_context("reference", 1);
    carso_model *const split = small_model(narrow);
    images = describe_images(pixels, COUNT);
    options.first_image = 0;
    carso_attack_result_destroy(result);
    ck_assert_int_eq(carso_attack(split, &images, labels, &options, &result), CARSO_OK);
    int differ = 0; /* where the sum over draws is near 0, its order may turn a sign */
    for (int k = 0; k < ALL; k++)
        differ += whole[k] != carso_attack_result_images(result)[k];
    ck_assert_int_le(differ, ALL / 50);
    carso_model_destroy(split);
    carso_context_destroy(narrow);
}
END_TEST

START_TEST(epsilon_0_returns_the_images)
{
    options.epsilon = 0;
    options.queries = 20;
    for (int method = 0; method <= CARSO_ATTACK_FAB_TARGETED; method++) {
        options.method = method;
        again(CARSO_OK);
        ck_assert_mem_eq(carso_attack_result_images(result), pixels, sizeof pixels);
    }
    options.method = CARSO_ATTACK_PGD;
    options.steps = 0;
    options.random_start = 0;
    options.epsilon = 0.1;
    again(CARSO_OK);
    ck_assert_mem_eq(carso_attack_result_images(result), pixels, sizeof pixels);
}
END_TEST

START_TEST(bad_numbers)
{
    static const double bad[] = {-0.1, NAN, INFINITY, -INFINITY};
    static const char *const text[] = {"-0.1", "nan", "inf", "-inf"};
    for (int k = 0; k < 4; k++) {
        options.epsilon = bad[k];
        refused(CARSO_ERROR_INVALID_ARGUMENT, "epsilon is ", text[k]);
        options.epsilon = 0.1;
        options.step_size = bad[k];
        refused(CARSO_ERROR_INVALID_ARGUMENT, "step_size is ", text[k]);
        options.step_size = 0.1;
        options.momentum = bad[k];
        refused(CARSO_ERROR_INVALID_ARGUMENT, "momentum is ", text[k]);
        options.momentum = 0;
    }
}
END_TEST

START_TEST(bad_options_of_the_other_methods)
{
    const int32_t targets[COUNT] = {1, 2, 0}, outside[COUNT] = {1, 0, 4};
    options.early_stop = 2; /* which PGD does not read */
    again(CARSO_OK);
    options.method = CARSO_ATTACK_APGD;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "early_stop is 2", "0 to 1");
    options.early_stop = 0;
    options.steps = -1;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "steps is -1", "carso_attack");
    options.method = CARSO_ATTACK_SQUARE;
    options.queries = 0;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "queries is 0", "1 to 1000000");
    options.queries = 10;
    again(CARSO_OK);
    options.steps = 4;
    options.method = CARSO_ATTACK_APGD_TARGETED;
    options.target_classes = 0;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "target_classes is 0", "carso_attack");
    options.target_classes = 9;
    options.targets = targets;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "APGD_TARGETED", "use APGD");
    options.method = CARSO_ATTACK_PGD;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "target 1 is 2", "other than the label");
    options.targets = outside;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "target 2 is 4", "0 to 3");
    options.targets = NULL;
    options.norm = CARSO_NORM_L2;
    options.method = CARSO_ATTACK_FGSM;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "FGSM", "use PGD");
    options.norm = CARSO_NORM_LINF;
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    options.method = CARSO_ATTACK_SQUARE;
    options.queries = 1000000;
    options.draws = 65536;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "1000000 queries", "4294967295 draws");
}
END_TEST

static carso_model *few_classes(int classes)
{
    carso_model_options how;
    carso_model *few = NULL;
    carso_model_options_init(&how, sizeof how);
    how.channels = 1;
    how.image_height = how.image_width = 28;
    how.classes = classes;
    ck_assert_int_eq(carso_model_create(context, &how, &few), CARSO_OK);
    return few;
}

START_TEST(too_few_classes_for_dlr)
{
    static const int32_t low[COUNT] = {0, 1, 0}, targets[COUNT] = {1, 0, 1};
    static float gradient[ALL];
    carso_model *const with = model;
    carso_gradient_options how;
    carso_gradient_options_init(&how, sizeof how);
    for (int classes = 2; classes <= 4; classes++) {
        model = few_classes(classes);
        for (int loss = 0; loss <= CARSO_LOSS_CARSO_MARGIN; loss++) {
            const bool dlr =
                loss == CARSO_LOSS_DLR || loss == CARSO_LOSS_PROBABILITY_DLR || loss == CARSO_LOSS_CARSO_DLR;
            options.method = CARSO_ATTACK_PGD;
            options.steps = 1;
            options.loss = how.loss = loss;
            for (int targeted = 0; targeted < 3; targeted++) {
                carso_attack_result *out = NULL;
                options.targets = targeted == 1 ? targets : NULL;
                options.method = targeted == 2 ? CARSO_ATTACK_APGD_TARGETED : CARSO_ATTACK_PGD;
                const bool enough = !dlr || classes >= (targeted ? 4 : 3);
                ck_assert_int_eq(carso_attack(model, &images, low, &options, &out),
                                 enough ? CARSO_OK : CARSO_ERROR_UNSUPPORTED);
                if (!enough)
                    check_message(targeted ? "the targeted DLR loss needs 4 classes" : "DLR loss needs 3 classes",
                                  classes == 2 ? "the model has 2" : "the model has 3");
                carso_attack_result_destroy(out);
            }
            ck_assert_int_eq(carso_gradient(model, &images, low, &how, gradient, NULL, NULL),
                             dlr && classes < 3 ? CARSO_ERROR_UNSUPPORTED : CARSO_OK);
        }
        carso_model_destroy(model);
    }
    model = with;
}
END_TEST

static bool within_l2(void)
{
    const float *const attacked = carso_attack_result_images(result);
    for (int i = 0; i < COUNT; i++) {
        double sum = 0;
        for (int k = i * SMALL_IMAGE; k < (i + 1) * SMALL_IMAGE; k++) {
            sum += ((double)attacked[k] - (double)pixels[k]) * ((double)attacked[k] - (double)pixels[k]);
            if (attacked[k] < 0 || attacked[k] > 1)
                return false;
        }
        if (sqrt(sum) > options.epsilon)
            return false;
    }
    return true;
}

START_TEST(every_method_in_every_norm)
{
    options.loss = CARSO_LOSS_DLR;
    options.queries = 30;
    options.steps = 5;
    for (int objective = 0; objective < 2; objective++)
        for (int method = CARSO_ATTACK_PGD; method <= CARSO_ATTACK_FAB_TARGETED; method++)
            for (int norm = 0; norm < 2; norm++) {
                options.objective = objective;
                options.method = method;
                options.norm = norm;
                options.epsilon = norm ? 1.0 : 0.1;
                options.step_size = norm ? 0.3 : 0.03;
                options.momentum = 0.5;
                again(CARSO_OK);
                if (norm)
                    ck_assert(within_l2());
                else
                    check_bounds();
                for (int i = 0; i < COUNT; i++) {
                    const double first = carso_attack_result_first_loss(result)[i],
                                 last = carso_attack_result_last_loss(result)[i];
                    /* FAB leaves images that are misclassified, whatever other draws say of them */
                    ck_assert_msg(last >= first || method >= CARSO_ATTACK_FAB, "objective %d, method %d, norm %d, image %d: %g to %g", objective,
                                  method, norm, i, first, last);
                    ck_assert_int_eq(carso_attack_result_non_finite(result)[i], 0);
                }
            }
}
END_TEST

/* A target's log probability rises, whatever becomes of the label's. */
START_TEST(targeted_attacks_favour_their_target)
{
    static const int32_t targets[COUNT] = {3, 1, 0};
    static float gradient[ALL];
    double before[COUNT], after[COUNT];
    options.targets = targets;
    ck_assert_int_eq(carso_gradient(model, &images, targets, NULL, gradient, before, NULL), CARSO_OK);
    for (int method = CARSO_ATTACK_FGSM; method <= CARSO_ATTACK_APGD; method++) {
        options.method = method;
        again(CARSO_OK);
        const carso_images attacked = describe_images(carso_attack_result_images(result), COUNT);
        ck_assert_int_eq(carso_gradient(model, &attacked, targets, NULL, gradient, after, NULL), CARSO_OK);
        for (int i = 0; i < COUNT; i++) {
            ck_assert_double_lt(after[i], before[i]); /* cross-entropy of the target */
            ck_assert_double_eq_tol(carso_attack_result_last_loss(result)[i], -after[i], 1e-5);
        }
    }
}
END_TEST

/* Of a model of four classes, all three others; fewer targets leave a loss that is no larger. */
START_TEST(more_targets_are_no_weaker)
{
    double last[COUNT];
    options.method = CARSO_ATTACK_APGD_TARGETED;
    options.loss = CARSO_LOSS_DLR;
    options.target_classes = 1;
    again(CARSO_OK);
    memcpy(last, carso_attack_result_last_loss(result), sizeof last);
    options.target_classes = 9;
    again(CARSO_OK);
    for (int i = 0; i < COUNT; i++)
        ck_assert_double_ge(carso_attack_result_last_loss(result)[i], last[i]);
}
END_TEST

START_TEST(early_stop_leaves_wrong_images_alone)
{
    carso_prediction *prediction = NULL;
    ck_assert_int_eq(carso_predict(model, &images, NULL, &prediction), CARSO_OK);
    int32_t wrong[COUNT];
    for (int i = 0; i < COUNT; i++)
        wrong[i] = (carso_prediction_labels(prediction)[i] + 1) % 4;
    carso_prediction_destroy(prediction);
    options.early_stop = 1;
    options.queries = 20;
    for (int method = CARSO_ATTACK_APGD; method <= CARSO_ATTACK_FAB_TARGETED; method++) {
        options.method = method;
        carso_attack_result_destroy(result);
        ck_assert_int_eq(carso_attack(model, &images, wrong, &options, &result), CARSO_OK);
        ck_assert_mem_eq(carso_attack_result_images(result), pixels, sizeof pixels);
    }
}
END_TEST

/* What an application built against the options before they grew says: it gets what it got. */
START_TEST(shorter_options_are_those_of_before)
{
    static float whole[ALL];
    again(CARSO_OK);
    memcpy(whole, carso_attack_result_images(result), sizeof whole);
    memset((unsigned char *)&options + offsetof(carso_attack_options, norm), 0xa5,
           sizeof options - offsetof(carso_attack_options, norm));
    options.struct_size = offsetof(carso_attack_options, norm);
    again(CARSO_OK);
    ck_assert_mem_eq(whole, carso_attack_result_images(result), sizeof whole);
}
END_TEST

/* The margin of the mean logits, once more. */
typedef struct own_margin {
    int calls, fail_at, nan_at;
    bool forgets;
    uint64_t nan_image;
    int targeted, without_gradient;
} own_margin;

static int own_loss(const carso_loss_batch *batch, void *user)
{
    own_margin *const own = user;
    const int classes = batch->classes, row = (int)batch->count * classes;
    ck_assert_uint_eq(batch->struct_size, sizeof *batch);
    ck_assert_int_eq(classes, 4);
    own->targeted += batch->targets != NULL;
    own->without_gradient += batch->logit_gradient == NULL;
    if (++own->calls == own->fail_at)
        return 7;
    for (int i = 0; i < (int)batch->count && !own->forgets; i++) {
        const int label = batch->labels[i];
        double mean[4] = {0};
        int other = batch->targets ? batch->targets[i] : label == 0;
        ck_assert_int_eq(label, labels[batch->image_index[i] - options.first_image]);
        for (int c = 0; c < classes; c++) {
            for (int d = 0; d < batch->draws; d++)
                mean[c] += batch->logits[d * row + i * classes + c];
            mean[c] /= batch->draws;
        }
        for (int c = 0; c < classes && !batch->targets; c++)
            other = c != label && mean[c] > mean[other] ? c : other;
        batch->losses[i] = mean[other] - mean[label];
        if (own->nan_at > 0 && own->calls >= own->nan_at && batch->image_index[i] == own->nan_image)
            batch->losses[i] = NAN;
        for (int d = 0; batch->logit_gradient && d < batch->draws; d++)
            for (int c = 0; c < classes; c++)
                batch->logit_gradient[d * row + i * classes + c] =
                    ((c == other ? 1.0 : 0.0) - (c == label ? 1.0 : 0.0)) / batch->draws;
    }
    return 0;
}

START_TEST(a_loss_of_the_caller_s_own)
{
    static float whole[ALL];
    double first[COUNT], last[COUNT];
    own_margin own = {0};
    const carso_attack_options plain = options;
    for (int objective = 0; objective < 2; objective++)
        for (int method = 0; method <= CARSO_ATTACK_SQUARE; method++) {
            options = plain;
            options.objective = objective;
            options.method = method;
            options.queries = 10;
            options.first_image = 30;
            options.eot = 2;
            options.early_stop = objective == 0;
            options.loss = CARSO_LOSS_MARGIN;
            again(CARSO_OK);
            memcpy(whole, carso_attack_result_images(result), sizeof whole);
            memcpy(first, carso_attack_result_first_loss(result), sizeof first);
            memcpy(last, carso_attack_result_last_loss(result), sizeof last);
            own = (own_margin){0};
            options.loss = CARSO_LOSS_CROSS_ENTROPY; /* whose aggregation is the same */
            options.loss_function = own_loss;
            options.loss_user = &own;
            again(CARSO_OK);
            ck_assert_mem_eq(whole, carso_attack_result_images(result), sizeof whole);
            ck_assert_mem_eq(first, carso_attack_result_first_loss(result), sizeof first);
            ck_assert_mem_eq(last, carso_attack_result_last_loss(result), sizeof last);
            if (!options.early_stop) /* else a run may end before it begins */
                ck_assert_int_eq(own.targeted > 0, method == CARSO_ATTACK_APGD_TARGETED);
            ck_assert_int_gt(own.without_gradient, 0);
        }
}
END_TEST

START_TEST(a_loss_that_fails_or_is_nan)
{
    own_margin own = {.fail_at = 4};
    static float after_two[ALL];
    options.loss_function = own_loss;
    options.loss_user = &own;
    options.loss = CARSO_LOSS_MARGIN;
    options.steps = 2;
    own.fail_at = 0;
    again(CARSO_OK);
    memcpy(after_two, carso_attack_result_images(result), sizeof after_two);
    options.steps = 5;
    own = (own_margin){.fail_at = 4}; /* the points after two steps have a loss */
    again(CARSO_ERROR_CALLBACK);
    check_message("returned 7", "3 images, the first of them number 0");
    ck_assert_mem_eq(after_two, carso_attack_result_images(result), sizeof after_two);
    for (int i = 0; i < COUNT; i++)
        ck_assert_double_gt(carso_attack_result_last_loss(result)[i], carso_attack_result_first_loss(result)[i]);

    options.queries = 50;
    for (int method = CARSO_ATTACK_APGD; method <= CARSO_ATTACK_SQUARE; method++)
        for (int at = 1; at < 8; at += 3) {
            options.method = method;
            own = (own_margin){.fail_at = at};
            again(CARSO_ERROR_CALLBACK);
            check_bounds();
            for (int i = 0; i < COUNT; i++) {
                ck_assert_int_eq(isnan(carso_attack_result_last_loss(result)[i]), at == 1);
                ck_assert(at == 1 ||
                          carso_attack_result_last_loss(result)[i] >= carso_attack_result_first_loss(result)[i]);
            }
        }

    for (int method = CARSO_ATTACK_PGD; method <= CARSO_ATTACK_SQUARE; method++) {
        options.method = method;
        own = (own_margin){.nan_at = 3, .nan_image = 1};
        again(CARSO_ERROR_NON_FINITE);
        check_message("1 of the 3 images", "image 1 ");
        check_bounds();
        ck_assert_int_eq(carso_attack_result_non_finite(result)[1], 1);
        ck_assert(isfinite(carso_attack_result_last_loss(result)[1]));
        own = (own_margin){.forgets = true};
        again(CARSO_ERROR_NON_FINITE);
        check_message("3 of the 3 images", "");
        ck_assert_mem_eq(carso_attack_result_images(result), pixels, sizeof pixels);
    }
}
END_TEST

static int32_t predicted(const float *values, int count, int32_t *out)
{
    carso_prediction *prediction = NULL;
    const carso_images described = describe_images(values, count);
    ck_assert_int_eq(carso_predict(model, &described, NULL, &prediction), CARSO_OK);
    memcpy(out, carso_prediction_labels(prediction), (size_t)count * sizeof *out);
    carso_prediction_destroy(prediction);
    return out[0];
}

/* From labels that are right, the nearest points are misclassified, and just before them images are not. */
START_TEST(fab_finds_the_boundary)
{
    int32_t right[COUNT], after[COUNT];
    static float before[ALL];
    predicted(pixels, COUNT, right);
    options.steps = 20;
    for (int norm = 0; norm < 2; norm++)
        for (int method = CARSO_ATTACK_FAB; method <= CARSO_ATTACK_FAB_TARGETED; method++) {
            options.norm = norm;
            options.method = method;
            options.loss = CARSO_LOSS_LOG_ODDS;
            options.epsilon = 30;
            carso_attack_result_destroy(result);
            ck_assert_int_eq(carso_attack(model, &images, right, &options, &result), CARSO_OK);
            const float *const attacked = carso_attack_result_images(result);
            const double *const distance = carso_attack_result_distance(result);
            predicted(attacked, COUNT, after);
            for (int k = 0; k < ALL; k++)
                before[k] = pixels[k] + 0.97f * (attacked[k] - pixels[k]);
            for (int i = 0; i < COUNT; i++) {
                double largest = 0, squares = 0;
                for (int k = i * SMALL_IMAGE; k < (i + 1) * SMALL_IMAGE; k++) {
                    const double change = fabs((double)attacked[k] - (double)pixels[k]);
                    largest = fmax(largest, change);
                    squares += change * change;
                }
                ck_assert_int_ne(after[i], right[i]);
                ck_assert_double_eq_tol(distance[i], norm ? sqrt(squares) : largest, 1e-12);
                ck_assert_double_lt(carso_attack_result_first_loss(result)[i], 0);
                ck_assert_double_gt(carso_attack_result_last_loss(result)[i], 0);
            }
            predicted(before, COUNT, after);
            ck_assert_mem_eq(after, right, sizeof right);
            options.epsilon = distance[1] / 2;
            const double found = distance[1];
            carso_attack_result_destroy(result);
            ck_assert_int_eq(carso_attack(model, &images, right, &options, &result), CARSO_OK);
            ck_assert_mem_eq(carso_attack_result_images(result) + SMALL_IMAGE, pixels + SMALL_IMAGE,
                             SMALL_IMAGE * sizeof *pixels);
            ck_assert_double_eq(carso_attack_result_distance(result)[1], found);
        }
    options.method = CARSO_ATTACK_PGD;
    again(CARSO_OK);
    ck_assert_ptr_null(carso_attack_result_distance(result));
    options.method = CARSO_ATTACK_FAB;
    options.targets = labels;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "targets are given", "FAB");
    options.targets = NULL;
    options.loss_function = own_loss;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "loss_function is given", "FAB");
    options.loss_function = NULL;
    options.loss = CARSO_LOSS_DLR; /* whatever its number of classes: the margin is used */
    carso_model *const with = model;
    model = few_classes(2);
    images = describe_images(pixels, 1); /* of label 0 */
    again(CARSO_OK);
    carso_model_destroy(model);
    model = with;
}
END_TEST

static carso_attack_step step_of(uint64_t index)
{
    carso_attack_step step = {.struct_size = sizeof step};
    ck_assert_int_eq(carso_attack_result_get_step(result, index, &step), CARSO_OK);
    return step;
}

START_TEST(steps_are_reported)
{
    options.restarts = 2;
    again(CARSO_OK);
    ck_assert_uint_eq(carso_attack_result_step_count(result), 5);
    for (uint64_t k = 0; k < 5; k++) {
        const carso_attack_step step = step_of(k);
        ck_assert(step.first_step == k && step.steps == 1 && step.evaluations == 2 * COUNT && step.non_finite == 0);
        ck_assert_uint_eq(step.gradients, k < 4 ? 2 * COUNT : 0);
        ck_assert(step.flat_gradients == 0 && step.zero_gradient < 0.5 && step.tiny_gradient < 0.5);
    }
    ck_assert_double_gt(step_of(4).mean_loss, step_of(0).mean_loss);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_uint_eq(carso_attack_result_non_finite_losses(result)[i], 0);
        ck_assert_uint_eq(carso_attack_result_non_finite_gradients(result)[i], 0);
        ck_assert_double_lt(carso_attack_result_tiny_gradient(result)[i], 0.5);
    }

    /* Many steps share entries; how many were wrong is known of each. */
    images = describe_images(pixels, 1);
    options.method = CARSO_ATTACK_SQUARE;
    options.restarts = 1;
    options.queries = 2001;
    options.epsilon = 1;
    again(CARSO_OK);
    ck_assert_uint_eq(carso_attack_result_step_count(result), 667);
    ck_assert_uint_eq(step_of(666).first_step, 1998);
    ck_assert_uint_eq(step_of(665).steps, 3);
    ck_assert_uint_eq(step_of(666).steps, 3);
    ck_assert_uint_eq(step_of(666).evaluations, 3);
    ck_assert_uint_gt(step_of(666).misclassified, 0);
    options.queries = 1001;
    again(CARSO_OK);
    ck_assert_uint_eq(carso_attack_result_step_count(result), 501);
    ck_assert_uint_eq(step_of(500).steps, 1);

    carso_attack_step step = {.struct_size = sizeof step};
    ck_assert_int_eq(carso_attack_result_get_step(result, 501, &step), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("index is 501", "has 501 entries");
    ck_assert_int_eq(carso_attack_result_get_step(NULL, 0, &step), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_attack_result_get_step(result, 0, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    step.struct_size = 0;
    ck_assert_int_eq(carso_attack_result_get_step(result, 0, &step), CARSO_ERROR_INVALID_ARGUMENT);
}
END_TEST

START_TEST(bad_options)
{
    struct {
        int32_t *field;
        int32_t value;
        const char *text;
    } const bad[] = {
        {&options.method, 7, "method is 7"},
        {&options.objective, 2, "objective is 2"},
        {&options.loss, -1, "loss is -1"},
        {&options.loss, 10, "loss is 10"},
        {&options.norm, 2, "norm is 2"},
        {&options.norm, -1, "norm is -1"},
        {&options.steps, -1, "steps is -1"},
        {&options.steps, 1000001, "steps is 1000001"},
        {&options.random_start, 2, "random_start is 2"},
        {&options.restarts, 0, "restarts is 0"},
        {&options.draws, 0, "draws is 0"},
        {&options.draws, 65537, "draws is 65537"},
        {&options.eot, 0, "eot is 0"},
        {&options.fixed_draws, 2, "fixed_draws is 2"},
        {&options.transfer, -1, "transfer is -1"},
    };
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        const int32_t kept = *bad[k].field;
        *bad[k].field = bad[k].value;
        refused(CARSO_ERROR_INVALID_ARGUMENT, bad[k].text, "carso_attack");
        *bad[k].field = kept;
    }
    options.steps = 1000000;
    options.draws = 65536;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "1000000 steps", "4294967295 draws");
    options.restarts = options.eot = 1000000;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "1000000 steps", "4294967295 draws");
}
END_TEST

START_TEST(bad_arguments)
{
    int32_t other[COUNT] = {0, 4, 0};
    ck_assert_int_eq(carso_attack(model, &images, other, &options, &result), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("label 1 is 4", "0 to 3");
    ck_assert_int_eq(carso_attack(model, &images, NULL, &options, &result), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("labels is NULL", "carso_attack");
    ck_assert_int_eq(carso_attack(model, NULL, labels, &options, &result), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_attack(model, &images, labels, &options, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("out_result is NULL", "carso_attack");
    ck_assert_int_eq(carso_attack(NULL, &images, labels, &options, &result), CARSO_ERROR_INVALID_ARGUMENT);
    images.count = 0;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "count is 0", "images");
    images.count = COUNT;
    pixels[0] = NAN;
    refused(CARSO_ERROR_INVALID_IMAGE, "image 0, row 0, column 0", "nan");
    pixels[0] = 0;
    carso_model *const with = model;
    model = small_classifier(context);
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    refused(CARSO_ERROR_UNSUPPORTED, "no purifier", "carso_model_add_purifier");
    carso_model_destroy(model);
    model = with;
    carso_attack_result_destroy(NULL);
    ck_assert_uint_eq(carso_attack_result_count(NULL), 0);
    ck_assert_ptr_null(carso_attack_result_images(NULL));
    ck_assert_ptr_null(carso_attack_result_first_loss(NULL));
    ck_assert_ptr_null(carso_attack_result_last_loss(NULL));
    ck_assert_ptr_null(carso_attack_result_non_finite(NULL));
    ck_assert_ptr_null(carso_attack_result_zero_gradient(NULL));
    ck_assert_ptr_null(carso_attack_result_tiny_gradient(NULL));
    ck_assert_ptr_null(carso_attack_result_non_finite_losses(NULL));
    ck_assert_ptr_null(carso_attack_result_non_finite_gradients(NULL));
    ck_assert_ptr_null(carso_attack_result_distance(NULL));
    ck_assert_uint_eq(carso_attack_result_step_count(NULL), 0);
}
END_TEST

START_TEST(non_finite_is_an_error_with_a_mask)
{
    spoil_parameter(model->classifier, "logits.weight");
    options.first_image = 50;
    again(CARSO_ERROR_NON_FINITE);
    check_message("3 of the 3 images", "number 50");
    ck_assert_mem_eq(carso_attack_result_images(result), pixels, sizeof pixels);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq(carso_attack_result_non_finite(result)[i], 1);
        ck_assert(isnan(carso_attack_result_last_loss(result)[i]));
    }
}
END_TEST

typedef struct watch {
    int calls, stop_at;
    uint64_t last, total;
} watch;

static int watch_progress(const carso_progress *progress, void *user)
{
    watch *const seen = user;
    ck_assert_str_eq(progress->unit, "steps");
    ck_assert(progress->done >= seen->last && progress->done <= progress->total);
    seen->last = progress->done;
    seen->total = progress->total;
    return ++seen->calls == seen->stop_at;
}

START_TEST(progress_and_cancellation)
{
    watch seen = {0};
    carso_context *const narrow = named_context("reference", 1); /* one image at a time */
    carso_model *const split = small_model(narrow);
    options.progress = watch_progress;
    options.progress_user = &seen;
    options.restarts = 2;
    ck_assert_int_eq(carso_attack(split, &images, labels, &options, &result), CARSO_OK);
    ck_assert_uint_eq(seen.last, 3 * 2 * 4);
    ck_assert_uint_eq(seen.total, 3 * 2 * 4);
    carso_attack_result_destroy(result);
    seen = (watch){.stop_at = 2 * 4 + 3}; /* in the second image */
    ck_assert_int_eq(carso_attack(split, &images, labels, &options, &result), CARSO_CANCELLED);
    ck_assert_ptr_nonnull(result);
    check_bounds();
    const float *const attacked = carso_attack_result_images(result);
    ck_assert_mem_ne(attacked, pixels, SMALL_IMAGE * sizeof *pixels);
    ck_assert_mem_ne(attacked + SMALL_IMAGE, pixels + SMALL_IMAGE, SMALL_IMAGE * sizeof *pixels);
    ck_assert_mem_eq(attacked + 2 * SMALL_IMAGE, pixels + 2 * SMALL_IMAGE, SMALL_IMAGE * sizeof *pixels);
    const double *const last = carso_attack_result_last_loss(result);
    ck_assert(isfinite(last[0]) && isfinite(last[1]) && isnan(last[2]));
    carso_model_destroy(split);
    carso_context_destroy(narrow);
}
END_TEST

START_TEST(defaults)
{
    carso_attack_options fresh;
    memset(&fresh, 0xff, sizeof fresh);
    carso_attack_options_init(&fresh, sizeof fresh);
    ck_assert_uint_eq(fresh.struct_size, sizeof fresh);
    ck_assert_int_eq(fresh.method, CARSO_ATTACK_PGD);
    ck_assert_int_eq(fresh.objective, CARSO_OBJECTIVE_CLASSIFIER);
    ck_assert_int_eq(fresh.steps, 40);
    ck_assert_double_eq(fresh.epsilon, 8.0 / 255.0);
    ck_assert_double_eq(fresh.step_size, 0.01);
    ck_assert(fresh.random_start == 1 && fresh.restarts == 1 && fresh.draws == 8 && fresh.eot == 1);
    ck_assert(fresh.norm == CARSO_NORM_LINF && fresh.early_stop == 0 && fresh.queries == 5000);
    ck_assert(fresh.fixed_draws == 0 && fresh.transfer == 0 && fresh.loss_function == NULL);
    ck_assert(fresh.momentum == 0 && fresh.target_classes == 9 && fresh.targets == NULL);
}
END_TEST

START_TEST(allocations_failing)
{
    counting_allocator counts = {0};
    carso_context *const counted = counting_context(&counts);
    ck_assert_ptr_nonnull(counted);
    carso_model *const fresh = small_model(counted);
    images = describe_images(pixels, 1);
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    options.steps = 1;
    options.draws = 1;
    options.eot = 2;
    options.method = _i;
    options.queries = 2;
    options.momentum = 0.5;
    options.target_classes = 2;
    carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
    for (long n = 1; status != CARSO_OK; n++) {
        carso_attack_result *out = NULL;
        atomic_store(&counts.failing, atomic_load(&counts.made) + n);
        status = carso_attack(fresh, &images, labels, &options, &out);
        atomic_store(&counts.failing, 0);
        ck_assert(status == CARSO_OK || status == CARSO_ERROR_OUT_OF_MEMORY);
        ck_assert((out != NULL) == (status == CARSO_OK));
        carso_attack_result_destroy(out);
    }
    carso_model_destroy(fresh);
    carso_context_destroy(counted);
    ck_assert_int_eq(atomic_load(&counts.held), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attack");
    TCase *tests = tcase_create("attack");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, raises_every_loss_of_both_objectives);
    tcase_add_test(tests, fgsm_follows_the_gradient);
    tcase_add_test(tests, eot_averages_over_fresh_draws);
    tcase_add_test(tests, independent_of_the_batch);
    tcase_add_test(tests, epsilon_0_returns_the_images);
    tcase_add_test(tests, bad_numbers);
    tcase_add_test(tests, draws_can_be_held_still);
    tcase_add_test(tests, transfer_attacks_the_classifier);
    tcase_add_test(tests, fab_finds_the_boundary);
    tcase_add_test(tests, steps_are_reported);
    tcase_add_test(tests, a_loss_of_the_caller_s_own);
    tcase_add_test(tests, a_loss_that_fails_or_is_nan);
    tcase_add_test(tests, bad_options);
    tcase_add_test(tests, bad_arguments);
    tcase_add_test(tests, non_finite_is_an_error_with_a_mask);
    tcase_add_test(tests, progress_and_cancellation);
    tcase_add_test(tests, defaults);
    tcase_add_loop_test(tests, allocations_failing, CARSO_ATTACK_PGD, CARSO_ATTACK_FAB_TARGETED + 1);
    tcase_add_test(tests, bad_options_of_the_other_methods);
    tcase_add_test(tests, too_few_classes_for_dlr);
    tcase_add_test(tests, every_method_in_every_norm);
    tcase_add_test(tests, targeted_attacks_favour_their_target);
    tcase_add_test(tests, more_targets_are_no_weaker);
    tcase_add_test(tests, early_stop_leaves_wrong_images_alone);
    tcase_add_test(tests, shorter_options_are_those_of_before);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
