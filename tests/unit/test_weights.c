/* SPDX-License-Identifier: BSD-2-Clause */
/* The optimiser's pass over all weights: blocks, threads, and what several steps of it add up to. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "base/parallel.h"
#include "train/optimisers.h"
#include "training_toy.h"

enum { PARTS = 7, STEPS = 14, BLOCK = 16384 };

typedef struct visits {
    int count[PARTS];
} visits;

static void visit(void *argument, int part) { ((visits *)argument)->count[part]++; }

START_TEST(every_part_is_run_once)
{
    for (int parts = 1; parts <= PARTS; parts++) {
        visits seen = {{0}};
        cso_parallel_run(parts, visit, &seen);
        for (int part = 0; part < PARTS; part++) {
            ck_assert_int_eq(seen.count[part], part < parts ? 1 : 0);
        }
    }
}
END_TEST

static carso_context *open_context(const char *backend, int threads)
{
    carso_context *context = NULL;
    carso_context_options options;
    carso_context_options_init(&options, sizeof options);
    options.backend = backend;
    options.threads = threads;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
    return context;
}

/* With a condition so wide that its linear layer has many blocks, the last of them not full. */
static carso_trainer *open_trainer(carso_context *context)
{
    carso_model *classifier = toy_classifier_in(context, CARSO_SMALL_CNN, TOY_SIDE), *model = NULL;
    carso_purifier_options purifier;
    carso_purifier_options_init(&purifier, sizeof purifier);
    purifier.condition_size = 151;
    purifier.latent_size = 3;
    purifier.seed_channels = 16;
    ck_assert_int_eq(carso_model_add_purifier(classifier, &purifier, &model), CARSO_OK);
    const carso_purifier_training_options options = toy_purifier_options();
    carso_trainer *trainer = NULL;
    ck_assert_int_eq(carso_trainer_create_purifier(model, &options, &trainer), CARSO_OK);
    carso_model_destroy(model);
    carso_model_destroy(classifier);
    return trainer;
}

static const cso_weight *largest_weight(const carso_trainer *trainer)
{
    const cso_weight *largest = &trainer->weights->learned[0];
    for (int i = 1; i < trainer->weights->learned_count; i++) {
        const cso_weight *weight = &trainer->weights->learned[i];
        largest = weight->parameter->count > largest->parameter->count ? weight : largest;
    }
    ck_assert_uint_gt(largest->parameter->count, 8 * BLOCK);
    ck_assert_uint_ne(largest->parameter->count % BLOCK, 0);
    return largest;
}

static double gradient_at(size_t element, int step) { return (float)(1e-3 * sin(1e-2 * (double)(element % 100003) + step)); }

/* Of the largest weight; zeros elsewhere. Returns its norm. */
static double set_gradients(const carso_trainer *trainer, int step)
{
    ck_assert_int_eq(cso_weights_zero_gradients(trainer->weights), CARSO_OK);
    const cso_parameter *parameter = largest_weight(trainer)->parameter;
    double sum = 0;
    for (size_t i = 0; i < parameter->count; i++) {
        const double value = gradient_at(i, step);
        sum += value * value;
        if (trainer->context->backend->element == CSO_F64) {
            ((double *)parameter->gradient)[i] = value;
        } else {
            ((float *)parameter->gradient)[i] = (float)value;
        }
    }
    return sqrt(sum);
}

static void update(carso_trainer *trainer, int step, double *out_norm)
{
    carso_train_report report = {.struct_size = sizeof report, .learning_rate = 1e-3 * (step + 1)};
    const double norm = set_gradients(trainer, step);
    ck_assert_int_eq(cso_weights_gradient_norm(trainer->weights, (uint64_t)step, out_norm), CARSO_OK);
    ck_assert_double_eq_tol(*out_norm, norm, 1e-12 * norm);
    ck_assert_int_eq(cso_purifier_update(trainer, &report), CARSO_OK);
    trainer->step++;
}

static void follows_double(const char *backend, int threads)
{
    carso_context *context = open_context(backend, threads);
    carso_trainer *trainer = open_trainer(context);
    const cso_weight *weight = largest_weight(trainer);
    const size_t count = weight->parameter->count;
    double *fast = calloc(count, sizeof *fast), *slow = calloc(count, sizeof *slow);
    double *first = calloc(count, sizeof *first), *second = calloc(count, sizeof *second);
    ck_assert(fast && slow && first && second);
    for (size_t i = 0; i < count; i++) {
        fast[i] = slow[i] = weight->parameter->host[i];
    }
    const cso_radam radam = CSO_RADAM_DEFAULTS;
    for (int step = 0; step < STEPS; step++) {
        const double t = step + 1, rate = 1e-3 * t;
        const double rectification = cso_radam_rectification(&radam, (uint64_t)step + 1);
        double norm;
        update(trainer, step, &norm);
        for (size_t i = 0; i < count; i++) {
            const double g = gradient_at(i, step);
            first[i] = .9 * first[i] + .1 * g;
            second[i] = .999 * second[i] + .001 * g * g;
            const double mean = first[i] / (1 - pow(.9, t));
            fast[i] -= rectification > 0
                           ? rate * rectification * mean * sqrt(1 - pow(.999, t)) / (sqrt(second[i]) + 1e-8)
                           : rate * mean;
            if ((step + 1) % trainer->purifier_options.lookahead_steps == 0) {
                fast[i] = slow[i] += trainer->purifier_options.lookahead_rate * (fast[i] - slow[i]);
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        /* A rounding of weights under 1 for each step; moments are rounded as often. */
        ck_assert_double_eq_tol(weight->parameter->host[i], fast[i], STEPS * 6e-8 * (1 + fabs(fast[i])));
        ck_assert_double_eq_tol(weight->state[CSO_STATE_SLOW][i], slow[i], STEPS * 6e-8 * (1 + fabs(slow[i])));
        ck_assert_double_eq_tol(weight->state[CSO_STATE_FIRST_MOMENT][i], first[i], STEPS * 6e-8 * 1e-3);
        ck_assert_double_eq_tol(weight->state[CSO_STATE_SECOND_MOMENT][i], second[i], STEPS * 6e-8 * 1e-6);
    }
    free(fast);
    free(slow);
    free(first);
    free(second);
    carso_trainer_destroy(trainer);
    carso_context_destroy(context);
}

START_TEST(steps_follow_double)
{
    follows_double("reference", 1);
    follows_double("reference", 3);
}
END_TEST

START_TEST(steps_follow_double_where_gradients_are_not_float)
{
    follows_double("reference-double", 2);
}
END_TEST

START_TEST(any_number_of_threads_gives_the_same_bits)
{
    static const int threads[] = {1, 2, 3, 5, 100};
    carso_model *model[sizeof threads / sizeof threads[0]];
    double norm[sizeof threads / sizeof threads[0]];
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        carso_context *context = open_context("reference", threads[i]);
        carso_trainer *trainer = open_trainer(context);
        for (int step = 0; step < STEPS; step++) {
            update(trainer, step, &norm[i]);
        }
        ck_assert_int_eq(carso_trainer_get_model(trainer, &model[i]), CARSO_OK);
        ck_assert(toy_same_model(model[0], model[i]));
        ck_assert(memcmp(&norm[0], &norm[i], sizeof norm[0]) == 0);
        carso_trainer_destroy(trainer);
        carso_context_destroy(context);
    }
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        carso_model_destroy(model[i]);
    }
}
END_TEST

START_TEST(a_gradient_out_of_range_is_found_in_any_block)
{
    carso_context *context = open_context("reference", 3);
    carso_trainer *trainer = open_trainer(context);
    const cso_parameter *parameter = largest_weight(trainer)->parameter;
    static const float bad[] = {NAN, INFINITY, 1e19f};
    for (size_t element = 0; element < parameter->count; element += 50021) {
        double norm;
        set_gradients(trainer, 0);
        ((float *)parameter->gradient)[parameter->count - 1 - element] = bad[element % 3];
        ck_assert_int_eq(cso_weights_gradient_norm(trainer->weights, 0, &norm), CARSO_ERROR_NON_FINITE);
    }
    carso_trainer_destroy(trainer);
    carso_context_destroy(context);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("weights");
    TCase *tests = tcase_create("weights");
    tcase_set_timeout(tests, 600);
    tcase_add_test(tests, every_part_is_run_once);
    tcase_add_test(tests, steps_follow_double);
    tcase_add_test(tests, steps_follow_double_where_gradients_are_not_float);
    tcase_add_test(tests, any_number_of_threads_gives_the_same_bits);
    tcase_add_test(tests, a_gradient_out_of_range_is_found_in_any_block);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
