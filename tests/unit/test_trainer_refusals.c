/* SPDX-License-Identifier: BSD-2-Clause */
/* Trainers that are not given what they need, or meet what is not finite: they stay as they were. */
#include <check.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "counting_allocator.h"
#include "train/batch.h"
#include "training_toy.h"

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

#define REFUSED(option, value)                                                                                         \
    do {                                                                                                               \
        carso_classifier_training_options options = toy_classifier_options();                                          \
        options.option = value;                                                                                        \
        ck_assert_int_eq(carso_trainer_create_classifier(classifier, &options, &trainer),                              \
                         CARSO_ERROR_INVALID_ARGUMENT);                                                                \
        ck_assert(toy_message_has(#option));                                                                           \
        ck_assert_ptr_null(trainer);                                                                                   \
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
    carso_model *model =
        purifier ? toy_purifier_in(context) : toy_classifier_in(context, CARSO_SMALL_CNN, TOY_SMALL_SIDE);
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
    Suite *suite = suite_create("trainer refusals");
    TCase *tests = tcase_create("trainer");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, toy_open, toy_close);
    tcase_add_test(tests, divergence_is_reported_and_changes_nothing);
    tcase_add_test(tests, statistics_are_restored_after_a_failure);
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
