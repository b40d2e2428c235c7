/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
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
        ck_assert_mem_eq(learned->parameter->host, learned->state[CSO_STATE_SLOW], learned->parameter->count * sizeof(float));
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

/* The small CNN has no BatchNorm, so that the sum over sub-batches is the whole batch's gradient up to float's rounding. */
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

/* Runs until the training diverges, and checks that the step that does has changed nothing. */
static void check_divergence(carso_trainer *trainer)
{
    carso_train_report report;
    carso_status status = CARSO_OK;
    carso_model *before = NULL;
    for (int step = 0; step < 200 && !status; step++) {
        carso_model_destroy(before);
        before = toy_reached(trainer);
        status = toy_step(trainer, 8, &report);
    }
    ck_assert_int_eq(status, CARSO_ERROR_NON_FINITE);
    char expected[64];
    snprintf(expected, sizeof expected, "training step %llu:", (unsigned long long)trainer->step);
    ck_assert_msg(toy_message_has(expected), "the message names no step");
    carso_model *after = toy_reached(trainer);
    ck_assert(toy_same_model(before, after));
    /* It stays where it is. */
    const uint64_t step = trainer->step;
    ck_assert_int_eq(toy_step(trainer, 8, &report), CARSO_ERROR_NON_FINITE);
    ck_assert_uint_eq(trainer->step, step);
    carso_model_destroy(before);
    carso_model_destroy(after);
    carso_trainer_destroy(trainer);
}

START_TEST(divergence_is_reported_and_changes_nothing)
{
    carso_purifier_training_options purifier_options = toy_purifier_options();
    purifier_options.mean_loss = 0;
    purifier_options.warm_up_epochs = 0;
    purifier_options.learning_rate_peak = 1e6;
    purifier_options.plateau_epochs = 1000;
    purifier_options.pgd_steps = 1;
    check_divergence(toy_purifier_trainer(&purifier_options));

    carso_classifier_training_options classifier_options = toy_classifier_options();
    classifier_options.learning_rate = 1e6;
    classifier_options.warm_up_epochs = 0;
    check_divergence(toy_classifier_trainer(CARSO_SMALL_CNN, &classifier_options));
}
END_TEST

START_TEST(statistics_are_restored_after_a_failure)
{
    carso_purifier_training_options options = toy_purifier_options();
    carso_trainer *trainer = toy_purifier_trainer(&options);
    carso_train_report report;
    ck_assert_int_eq(toy_step(trainer, 8, &report), CARSO_OK);
    /* The encoder's output is broken: BatchNorm before it has run and moved its statistics when that is seen. */
    float *broken = NULL;
    for (int i = 0; i < trainer->weights->learned_count; i++) {
        if (strcmp(trainer->weights->learned[i].name, "to_mean.bias") == 0) {
            broken = cso_parameter_host(trainer->weights->learned[i].parameter);
        }
    }
    ck_assert_ptr_nonnull(broken);
    const float kept = broken[0];
    broken[0] = NAN;
    carso_model *before = toy_reached(trainer);
    ck_assert_int_eq(toy_step(trainer, 8, &report), CARSO_ERROR_NON_FINITE);
    ck_assert(toy_message_has("training step 1: the KL divergence is not finite"));
    carso_model *after = toy_reached(trainer);
    ck_assert(toy_same_model(before, after));
    carso_model_destroy(before);
    carso_model_destroy(after);

    /* Mended, it goes on as one that never met the failure. */
    broken[0] = kept;
    carso_trainer *other = toy_purifier_trainer(&options);
    carso_train_report other_report;
    ck_assert_int_eq(toy_step(other, 8, &other_report), CARSO_OK);
    ck_assert_int_eq(toy_step(trainer, 8, &report), CARSO_OK);
    ck_assert_int_eq(toy_step(other, 8, &other_report), CARSO_OK);
    ck_assert(toy_same_trainer(trainer, other));
    ck_assert_mem_eq(&report, &other_report, sizeof report);
    carso_trainer_destroy(trainer);
    carso_trainer_destroy(other);
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

/* Losses of the purifier's step with parameter element j moved. Float weights: the distance is what rounding leaves of it. */
static double moved_loss(cso_purifier_network *network, const cso_purifier_batch *batch, cso_parameter *parameter, size_t j, float value)
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
        const double difference = moved_loss(network, &batch, parameter, j, above) - moved_loss(network, &batch, parameter, j, below);
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

START_TEST(wrong_arguments_are_refused)
{
    carso_model *classifier = toy_classifier(CARSO_SMALL_CNN);
    carso_trainer *trainer = (carso_trainer *)1;
    carso_purifier_training_options purifier = toy_purifier_options();
    ck_assert_int_eq(carso_trainer_create_purifier(classifier, &purifier, &trainer), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(trainer);
    ck_assert(toy_message_has("no purifier"));
    ck_assert_int_eq(carso_trainer_create_purifier(NULL, &purifier, &trainer), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_trainer_create_classifier(classifier, NULL, &trainer), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert(toy_message_has("steps_per_epoch"));

#define REFUSED(option, value)                                                                                                   \
    do {                                                                                                                         \
        carso_classifier_training_options options = toy_classifier_options();                                                    \
        options.option = value;                                                                                                  \
        ck_assert_int_eq(carso_trainer_create_classifier(classifier, &options, &trainer), CARSO_ERROR_INVALID_ARGUMENT);         \
        ck_assert(toy_message_has(#option));                                                                                     \
        ck_assert_ptr_null(trainer);                                                                                             \
    } while (0)
    REFUSED(epsilon, -.1);
    REFUSED(epsilon, NAN);
    REFUSED(epsilon, INFINITY);
    REFUSED(steps_per_epoch, 0);
    REFUSED(epochs, -1);
    REFUSED(sub_batch, 1);
    REFUSED(learning_rate, -1);
    REFUSED(momentum, 1.5);
    REFUSED(label_smoothing, 2);
#undef REFUSED
    carso_classifier_training_options trades = toy_classifier_options();
    trades.trades_beta = 6;
    trades.pgd_steps = 0;
    ck_assert_int_eq(carso_trainer_create_classifier(classifier, &trades, &trainer), CARSO_ERROR_INVALID_ARGUMENT);
    carso_model *both = toy_purifier_in(toy_context);
    purifier.beta_start_epoch = 5;
    purifier.beta_full_epoch = 4;
    ck_assert_int_eq(carso_trainer_create_purifier(both, &purifier, &trainer), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert(toy_message_has("beta_full_epoch"));
    carso_model_destroy(both);
    carso_model_destroy(classifier);
}
END_TEST

START_TEST(wrong_batches_are_refused_and_change_nothing)
{
    static toy_batch batch;
    carso_train_report report = {.struct_size = sizeof report};
    const carso_classifier_training_options options = toy_classifier_options();
    carso_trainer *trainer = toy_classifier_trainer(CARSO_WIDE_RESNET, &options);
    carso_model *before = toy_reached(trainer);
    toy_fill(&batch, TOY_SMALL_SIDE, 4, 1);
    ck_assert_int_eq(carso_train_step(NULL, &batch.images, batch.labels, &report), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_train_step(trainer, NULL, batch.labels, &report), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_train_step(trainer, &batch.images, NULL, &report), CARSO_ERROR_INVALID_ARGUMENT);
    batch.images.count = 1;
    ck_assert_int_eq(carso_train_step(trainer, &batch.images, batch.labels, &report), CARSO_ERROR_INVALID_ARGUMENT);
    batch.images.count = 0;
    ck_assert_int_ne(carso_train_step(trainer, &batch.images, batch.labels, &report), CARSO_OK);
    batch.images.count = 4;
    batch.labels[2] = TOY_CLASSES;
    ck_assert_int_eq(carso_train_step(trainer, &batch.images, batch.labels, &report), CARSO_ERROR_INVALID_ARGUMENT);
    batch.labels[2] = -1;
    ck_assert_int_eq(carso_train_step(trainer, &batch.images, batch.labels, &report), CARSO_ERROR_INVALID_ARGUMENT);
    batch.labels[2] = 0;
    batch.images.width = 7;
    ck_assert_int_eq(carso_train_step(trainer, &batch.images, batch.labels, &report), CARSO_ERROR_INVALID_IMAGE);
    batch.images.width = TOY_SMALL_SIDE;
    report.struct_size = 0;
    ck_assert_int_eq(carso_train_step(trainer, &batch.images, batch.labels, &report), CARSO_ERROR_INVALID_ARGUMENT);
    carso_model *after = toy_reached(trainer);
    ck_assert(toy_same_model(before, after));
    ck_assert_uint_eq(carso_trainer_step(trainer), 0);
    ck_assert_int_eq(carso_train_step(trainer, &batch.images, batch.labels, NULL), CARSO_OK);
    ck_assert_uint_eq(carso_trainer_step(trainer), 1);

    /* A report of an older header is filled as far as it goes. */
    struct {
        carso_train_report report;
        uint8_t guard[16];
    } older;
    memset(&older, 0xab, sizeof older);
    older.report.struct_size = offsetof(carso_train_report, loss);
    ck_assert_int_eq(carso_train_step(trainer, &batch.images, batch.labels, &older.report), CARSO_OK);
    ck_assert_uint_eq(older.report.step, 1);
    ck_assert_uint_eq(((const uint8_t *)&older.report)[offsetof(carso_train_report, loss)], 0xab);
    carso_model_destroy(before);
    carso_model_destroy(after);
    carso_trainer_destroy(trainer);
}
END_TEST

/* Everything that a training does, until something fails. */
static carso_status train_a_little(carso_context *context, const carso_model *model, bool purifier)
{
    static toy_batch batch;
    (void)context;
    toy_fill(&batch, model->height, 4, 0);
    carso_trainer *trainer = NULL;
    carso_model *reached = NULL;
    carso_purifier_training_options purifier_options = toy_purifier_options();
    purifier_options.pgd_steps = 1;
    carso_classifier_training_options classifier_options = toy_classifier_options();
    classifier_options.trades_beta = 1;
    classifier_options.pgd_steps = 1;
    carso_status status = purifier ? carso_trainer_create_purifier(model, &purifier_options, &trainer)
                                   : carso_trainer_create_classifier(model, &classifier_options, &trainer);
    if (!status) {
        status = carso_train_step(trainer, &batch.images, batch.labels, NULL);
    }
    if (!status) {
        status = carso_trainer_get_model(trainer, &reached);
    }
    carso_model_destroy(reached);
    carso_trainer_destroy(trainer);
    return status;
}

static void check_allocations(bool purifier)
{
    counting_allocator counts = {0};
    carso_context *context = counting_context(&counts);
    ck_assert_ptr_nonnull(context);
    carso_model *model = purifier ? toy_purifier_in(context) : toy_classifier_in(context, CARSO_SMALL_CNN, TOY_SMALL_SIDE);
    /* The model makes its programs on first use and keeps them. */
    ck_assert_int_eq(train_a_little(context, model, purifier), CARSO_OK);
    const long held = atomic_load(&counts.held), start = atomic_load(&counts.made);
    ck_assert_int_eq(train_a_little(context, model, purifier), CARSO_OK);
    const long needed = atomic_load(&counts.made) - start;
    ck_assert_int_gt(needed, 100);
    ck_assert_int_eq(atomic_load(&counts.held), held);
    /* A sample: most of them repeat from layer to layer. The prime makes it fall on each of a layer's. */
    for (long n = 1; n <= needed; n += n < 60 ? 1 : 11) {
        atomic_store(&counts.failing, atomic_load(&counts.made) + n);
        ck_assert_int_eq(train_a_little(context, model, purifier), CARSO_ERROR_OUT_OF_MEMORY);
        atomic_store(&counts.failing, 0);
        ck_assert_int_eq(atomic_load(&counts.held), held);
    }
    carso_model_destroy(model);
    carso_context_destroy(context);
    ck_assert_int_eq(atomic_load(&counts.held), 0);
}

START_TEST(failed_allocations_lose_nothing)
{
    check_allocations(false);
    check_allocations(true);
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
    tcase_add_test(tests, divergence_is_reported_and_changes_nothing);
    tcase_add_test(tests, statistics_are_restored_after_a_failure);
    tcase_add_test(tests, collapse_is_reported_once);
    tcase_add_test(tests, epsilon_may_be_given_as_the_authors_code_has_it);
    tcase_add_test(tests, purifier_gradients_match_finite_differences);
    tcase_add_test(tests, wrong_arguments_are_refused);
    tcase_add_test(tests, wrong_batches_are_refused_and_change_nothing);
    tcase_add_test(tests, failed_allocations_lose_nothing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
