/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "counting_allocator.h"
#include "train/batch.h"
#include "training_toy.h"

START_TEST(classifier_learns)
{
    const carso_classifier_training_options options = toy_classifier_options();
    carso_trainer *trainer = toy_classifier_trainer(CARSO_SMALL_CNN, &options);
    carso_train_report report, first;
    for (int step = 0; step < 40; step++) {
        ck_assert_int_eq(toy_step(trainer, 16, &report), CARSO_OK);
        ck_assert_uint_eq(report.step, (uint64_t)step);
        ck_assert_double_eq_tol(report.epoch, step / 10., 1e-12);
        ck_assert_double_eq(report.adversarial_share, 1);
        ck_assert_double_gt(report.gradient_norm, 0);
        if (step == 0) {
            first = report;
        }
    }
    ck_assert_double_eq_tol(first.loss, log(TOY_CLASSES), .3);
    ck_assert_double_eq_tol(first.epsilon, .1 * .05, 1e-12);
    ck_assert_double_lt(report.loss, .3 * first.loss);
    ck_assert_double_eq(report.accuracy, 1);
    ck_assert_double_eq(report.epsilon, .1);
    ck_assert_uint_eq(carso_trainer_step(trainer), 40);
    carso_trainer_destroy(trainer);
}
END_TEST

START_TEST(trades_learns)
{
    carso_classifier_training_options options = toy_classifier_options();
    options.trades_beta = 2;
    options.label_smoothing = .05;
    carso_trainer *trainer = toy_classifier_trainer(CARSO_SMALL_CNN, &options);
    carso_train_report report, first;
    ck_assert_int_eq(toy_step(trainer, 8, &first), CARSO_OK);
    for (int step = 1; step < 40; step++) {
        ck_assert_int_eq(toy_step(trainer, 8, &report), CARSO_OK);
    }
    ck_assert_double_lt(report.loss, .6 * first.loss);
    ck_assert_double_eq(report.accuracy, 1);
    carso_trainer_destroy(trainer);
}
END_TEST

START_TEST(clean_training_uses_no_attack)
{
    carso_classifier_training_options options = toy_classifier_options();
    options.pgd_steps = 0;
    carso_trainer *trainer = toy_classifier_trainer(CARSO_WIDE_RESNET, &options);
    carso_train_report report, first;
    ck_assert_int_eq(toy_step(trainer, 8, &first), CARSO_OK);
    ck_assert_double_eq(first.epsilon, 0);
    ck_assert_double_eq(first.adversarial_share, 0);
    for (int step = 1; step < 15; step++) {
        ck_assert_int_eq(toy_step(trainer, 8, &report), CARSO_OK);
    }
    ck_assert_double_lt(report.loss, .7 * first.loss);
    carso_trainer_destroy(trainer);
}
END_TEST

START_TEST(purifier_learns)
{
    const carso_purifier_training_options options = toy_purifier_options();
    carso_trainer *trainer = toy_purifier_trainer(&options);
    carso_train_report report, first;
    ck_assert_int_eq(toy_step(trainer, 6, &first), CARSO_OK);
    ck_assert_double_eq(first.adversarial_share, .5);
    ck_assert_double_eq(first.learning_rate, 1e-5);
    ck_assert_double_eq(first.beta, 0);
    ck_assert_double_gt(first.kl, 0);
    ck_assert_double_gt(first.draw_diversity, 0);
    for (int step = 1; step < 24; step++) {
        ck_assert_int_eq(toy_step(trainer, 6, &report), CARSO_OK);
        ck_assert_double_eq_tol(report.loss, report.reconstruction + report.beta * report.kl, 1e-9 * report.loss);
    }
    /* An untrained decoder says about 1/2 everywhere: log 2 nats a pixel. */
    ck_assert_double_eq_tol(first.reconstruction, TOY_SIDE * TOY_SIDE * log(2), 150);
    ck_assert_double_lt(report.reconstruction, .8 * first.reconstruction);
    ck_assert_double_eq(report.beta, .5);
    carso_trainer_destroy(trainer);
}
END_TEST

START_TEST(purifier_training_leaves_the_classifier_alone)
{
    const carso_purifier_training_options options = toy_purifier_options();
    carso_trainer *trainer = toy_purifier_trainer(&options);
    carso_model *before = toy_reached(trainer);
    carso_train_report report;
    for (int step = 0; step < 7; step++) {
        ck_assert_int_eq(toy_step(trainer, 8, &report), CARSO_OK);
    }
    carso_model *after = toy_reached(trainer);
    ck_assert(toy_same_graph(before->classifier, after->classifier));
    ck_assert(!toy_same_graph(before->purifier->condition, after->purifier->condition));
    ck_assert(!toy_same_graph(before->purifier->encoder, after->purifier->encoder));
    ck_assert(!toy_same_graph(before->purifier->decoder, after->purifier->decoder));
    ck_assert_ptr_nonnull(strstr(carso_model_describe(after), "purifier_training"));
    ck_assert_ptr_nonnull(strstr(carso_model_describe(after), "\"steps\":7"));
    carso_model_destroy(before);
    carso_model_destroy(after);
    carso_trainer_destroy(trainer);
}
END_TEST

START_TEST(model_has_the_slow_weights)
{
    /* Lookahead synchronises at step 6: until then the model keeps its first weights, only running statistics move. */
    carso_purifier_training_options options = toy_purifier_options();
    options.learning_rate_start = .001;
    carso_trainer *trainer = toy_purifier_trainer(&options);
    carso_model *start = toy_reached(trainer);
    carso_train_report report;
    for (int step = 0; step < 5; step++) {
        ck_assert_int_eq(toy_step(trainer, 4, &report), CARSO_OK);
    }
    carso_model *five = toy_reached(trainer);
    ck_assert_int_eq(toy_step(trainer, 4, &report), CARSO_OK);
    carso_model *six = toy_reached(trainer);
    const int weight = cso_graph_find_parameter(start->purifier->encoder, "to_mean.weight");
    ck_assert_int_ge(weight, 0);
    const cso_parameter *at_start = start->purifier->encoder->parameter[weight].parameter;
    const size_t bytes = at_start->count * sizeof(float);
    ck_assert_mem_eq(at_start->host, five->purifier->encoder->parameter[weight].parameter->host, bytes);
    ck_assert_mem_ne(at_start->host, six->purifier->encoder->parameter[weight].parameter->host, bytes);
    for (int i = 0; i < trainer->weights->learned_count; i++) {
        const cso_weight *learned = &trainer->weights->learned[i];
        ck_assert_mem_eq(learned->parameter->host, learned->state[CSO_STATE_SLOW],
                         learned->parameter->count * sizeof(float));
    }
    carso_model_destroy(start);
    carso_model_destroy(five);
    carso_model_destroy(six);
    carso_trainer_destroy(trainer);
}
END_TEST

START_TEST(new_classifier_leaves_the_purifier_out)
{
    carso_model *model = toy_purifier_in(toy_context);
    carso_trainer *trainer = NULL;
    const carso_classifier_training_options options = toy_classifier_options();
    ck_assert_int_eq(carso_trainer_create_classifier(model, &options, &trainer), CARSO_OK);
    carso_model *reached = toy_reached(trainer);
    ck_assert_ptr_null(reached->purifier);
    ck_assert_ptr_nonnull(strstr(carso_model_describe(reached), "classifier_training"));
    carso_model_destroy(reached);
    carso_model_destroy(model);
    carso_trainer_destroy(trainer);
}
END_TEST

START_TEST(same_seed_same_bits)
{
    carso_train_report report;
    carso_purifier_training_options purifier_options = toy_purifier_options();
    carso_trainer *purifier[3];
    for (int i = 0; i < 3; i++) {
        purifier_options.seed = i < 2 ? 3 : 4;
        purifier[i] = toy_purifier_trainer(&purifier_options);
        for (int step = 0; step < 7; step++) {
            ck_assert_int_eq(toy_step(purifier[i], 6, &report), CARSO_OK);
        }
    }
    ck_assert(toy_same_trainer(purifier[0], purifier[1]));
    ck_assert(!toy_same_trainer(purifier[0], purifier[2]));

    carso_classifier_training_options classifier_options = toy_classifier_options();
    carso_trainer *classifier[3];
    for (int i = 0; i < 3; i++) {
        classifier_options.seed = i < 2 ? 3 : 4;
        classifier[i] = toy_classifier_trainer(CARSO_WIDE_RESNET, &classifier_options);
        for (int step = 0; step < 4; step++) {
            ck_assert_int_eq(toy_step(classifier[i], 6, &report), CARSO_OK);
        }
    }
    ck_assert(toy_same_trainer(classifier[0], classifier[1]));
    ck_assert(!toy_same_trainer(classifier[0], classifier[2]));
    for (int i = 0; i < 3; i++) {
        carso_trainer_destroy(purifier[i]);
        carso_trainer_destroy(classifier[i]);
    }
}
END_TEST

/* The small CNN has no BatchNorm, so that the sum over sub-batches is the whole batch's gradient up to rounding. */
static void check_accumulation(double trades_beta)
{
    carso_classifier_training_options options = toy_classifier_options();
    options.trades_beta = trades_beta;
    carso_train_report whole_report, parts_report;
    options.sub_batch = 16;
    carso_trainer *whole = toy_classifier_trainer(CARSO_SMALL_CNN, &options);
    options.sub_batch = 5;
    carso_trainer *parts = toy_classifier_trainer(CARSO_SMALL_CNN, &options);
    ck_assert_int_eq(toy_step(whole, 16, &whole_report), CARSO_OK);
    ck_assert_int_eq(toy_step(parts, 16, &parts_report), CARSO_OK);
    ck_assert_double_eq_tol(parts_report.loss, whole_report.loss, 1e-6 * whole_report.loss);
    ck_assert_double_eq_tol(parts_report.gradient_norm, whole_report.gradient_norm, 1e-5 * whole_report.gradient_norm);
    for (int i = 0; i < whole->weights->learned_count; i++) {
        const cso_weight *a = &whole->weights->learned[i], *b = &parts->weights->learned[i];
        double largest = 0, difference = 0;
        for (size_t j = 0; j < a->parameter->count; j++) {
            /* After one step the velocity is the gradient, weight decay included. */
            largest = fmax(largest, fabs(a->state[CSO_STATE_VELOCITY][j]));
            difference = fmax(difference, fabs(a->state[CSO_STATE_VELOCITY][j] - b->state[CSO_STATE_VELOCITY][j]));
        }
        ck_assert_double_gt(largest, 0);
        ck_assert_double_le(difference, 1e-5 * largest);
    }
    carso_trainer_destroy(whole);
    carso_trainer_destroy(parts);
}

START_TEST(gradients_accumulate_over_sub_batches)
{
    check_accumulation(0);
    check_accumulation(3);
}
END_TEST

START_TEST(memory_limit_makes_sub_batches)
{
    carso_context *narrow = toy_context_on("reference", 1 << 20);
    carso_model *model = toy_purifier_in(narrow);
    carso_trainer *trainer = NULL;
    const carso_purifier_training_options options = toy_purifier_options();
    ck_assert_int_eq(carso_trainer_create_purifier(model, &options, &trainer), CARSO_OK);
    ck_assert_int_lt(trainer->sub_batch, 16);
    ck_assert_int_ge(trainer->sub_batch, 2);
    carso_train_report report;
    for (int step = 0; step < 2; step++) {
        ck_assert_int_eq(toy_step(trainer, 17, &report), CARSO_OK);
        ck_assert_double_gt(report.loss, 0);
    }
    carso_trainer_destroy(trainer);
    carso_model_destroy(model);
    carso_context_destroy(narrow);

    carso_trainer *wide = toy_purifier_trainer(&options);
    ck_assert_int_eq(wide->sub_batch, 256);
    carso_trainer_destroy(wide);
}
END_TEST

START_TEST(collapse_is_reported_once)
{
    carso_purifier_training_options options = toy_purifier_options();
    options.learning_rate_start = options.learning_rate_peak = options.learning_rate_end = 0;
    options.beta_full_epoch = 0;
    carso_trainer *trainer = toy_purifier_trainer(&options);
    /* A posterior that is the prior for every image. */
    for (int i = 0; i < trainer->weights->learned_count; i++) {
        const cso_weight *weight = &trainer->weights->learned[i];
        if (strncmp(weight->name, "to_", 3) == 0) {
            memset(cso_parameter_host(weight->parameter), 0, weight->parameter->count * sizeof(float));
        }
    }
    carso_train_report report;
    for (int step = 0; step < 3; step++) {
        ck_assert_int_eq(toy_step(trainer, 4, &report), CARSO_OK);
        ck_assert_int_eq(report.collapsed, 1);
        ck_assert_double_eq(report.kl, 0);
    }
    ck_assert_int_eq(toy_warnings, 1);
    carso_trainer_destroy(trainer);
}
END_TEST

START_TEST(epsilon_may_be_given_as_the_authors_code_has_it)
{
    carso_purifier_training_options options = toy_purifier_options();
    options.epsilon_over_deviation = 1;
    carso_trainer *trainer = toy_purifier_trainer(&options);
    carso_train_report report;
    ck_assert_int_eq(toy_step(trainer, 4, &report), CARSO_OK);
    ck_assert_double_eq_tol(report.epsilon, .1 / .3, 1e-7);
    carso_trainer_destroy(trainer);
}
END_TEST

/* Losses of the purifier's step with element j of a parameter moved. */
static double moved_loss(cso_purifier_network *network, const cso_purifier_batch *batch, cso_parameter *parameter,
                         size_t j, float value)
{
    cso_parameter_host(parameter)[j] = value;
    ck_assert_int_eq(cso_parameter_upload(parameter), CARSO_OK);
    cso_purifier_losses losses = {0};
    ck_assert_int_eq(cso_purifier_step(network, batch, &losses), CARSO_OK);
    return losses.total;
}

START_TEST(purifier_gradients_match_finite_differences)
{
    enum { COUNT = 3 };
    carso_context *exact = toy_context_on("reference-double", 0);
    carso_model *model = toy_purifier_in(exact);
    cso_purifier_network *network = NULL;
    ck_assert_int_eq(cso_purifier_network_create(model, &network), CARSO_OK);
    static float images[COUNT * TOY_SIDE * TOY_SIDE], targets[COUNT * TOY_SIDE * TOY_SIDE];
    double noise[COUNT * 4];
    for (int i = 0; i < COUNT * TOY_SIDE * TOY_SIDE; i++) {
        images[i] = (float)(.5 + .4 * sin(i * .37 + i / 784));
        targets[i] = (float)(.5 + .4 * sin(i * .37 + i / 784 + .2));
    }
    for (int i = 0; i < COUNT * 4; i++) {
        noise[i] = 1.3 * sin(2.1 * i + 1);
    }
    const cso_purifier_batch batch = {
        .count = COUNT, .images = images, .targets = targets, .noise = noise, .beta = .7, .free_bits = .02, .scale = 1};
    cso_graph *const graphs[] = {network->condition, network->encoder, network->decoder};
    cso_weights *weights = NULL;
    ck_assert_int_eq(cso_weights_create(exact, graphs, 3, 0, &weights), CARSO_OK);
    ck_assert_int_eq(cso_weights_zero_gradients(weights), CARSO_OK);
    cso_purifier_losses losses = {0};
    ck_assert_int_eq(cso_purifier_step(network, &batch, &losses), CARSO_OK);

    double *gradient[64];
    ck_assert_int_le(weights->learned_count, 64);
    for (int i = 0; i < weights->learned_count; i++) {
        gradient[i] = calloc(weights->learned[i].parameter->count, sizeof(double));
        ck_assert_int_eq(cso_parameter_read_gradient_double(weights->learned[i].parameter, gradient[i]), CARSO_OK);
    }
    for (int i = 0; i < weights->learned_count; i++) {
        cso_parameter *parameter = weights->learned[i].parameter;
        /* The encoders of the other taps are like the first. */
        if (strncmp(weights->learned[i].name, "repr_compressors.", 17) == 0 && weights->learned[i].name[17] != '0') {
            free(gradient[i]);
            continue;
        }
        double largest = 1e-3;
        for (size_t j = 0; j < parameter->count; j++) {
            largest = fmax(largest, fabs(gradient[i][j]));
        }
        const size_t j = (parameter->count - 1) * 2 / 3;
        const float kept = parameter->host[j];
        const float above = kept + 1e-6f, below = kept - 1e-6f;
        const double difference = moved_loss(network, &batch, parameter, j, above) -
                                  moved_loss(network, &batch, parameter, j, below);
        moved_loss(network, &batch, parameter, j, kept);
        /* LeakyReLU has kinks, of which some of the ten thousand units cross one even in so small a step. */
        ck_assert_double_eq_tol(gradient[i][j], difference / ((double)above - (double)below), 2e-4 * largest);
        free(gradient[i]);
    }
    cso_weights_destroy(weights);
    cso_purifier_network_destroy(network);
    carso_model_destroy(model);
    carso_context_destroy(exact);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trainer");
    TCase *tests = tcase_create("trainer");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, toy_open, toy_close);
    tcase_add_test(tests, classifier_learns);
    tcase_add_test(tests, trades_learns);
    tcase_add_test(tests, clean_training_uses_no_attack);
    tcase_add_test(tests, purifier_learns);
    tcase_add_test(tests, purifier_training_leaves_the_classifier_alone);
    tcase_add_test(tests, model_has_the_slow_weights);
    tcase_add_test(tests, new_classifier_leaves_the_purifier_out);
    tcase_add_test(tests, same_seed_same_bits);
    tcase_add_test(tests, gradients_accumulate_over_sub_batches);
    tcase_add_test(tests, memory_limit_makes_sub_batches);
    tcase_add_test(tests, collapse_is_reported_once);
    tcase_add_test(tests, epsilon_may_be_given_as_the_authors_code_has_it);
    tcase_add_test(tests, purifier_gradients_match_finite_differences);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
