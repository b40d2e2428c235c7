/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#include "scratch_folder.h"
#include "training_toy.h"

static void open_all(void)
{
    toy_open();
    scratch_create();
}

static void close_all(void)
{
    scratch_remove();
    toy_close();
}

static carso_trainer *create(bool purifier)
{
    carso_purifier_training_options purifier_options = toy_purifier_options();
    carso_classifier_training_options classifier_options = toy_classifier_options();
    /* Digits that decimal text must keep, and a seed beyond what JSON numbers hold. */
    purifier_options.epsilon = classifier_options.epsilon = .1 + 1e-17 / 3 + 1 / 3e9;
    purifier_options.seed = classifier_options.seed = UINT64_MAX - 2;
    return purifier ? toy_purifier_trainer(&purifier_options)
                    : toy_classifier_trainer(CARSO_WIDE_RESNET, &classifier_options);
}

static void advance(carso_trainer *trainer, int steps)
{
    carso_train_report report;
    for (int i = 0; i < steps; i++) {
        ck_assert_int_eq(toy_step(trainer, 6, &report), CARSO_OK);
    }
}

static carso_trainer *load(const char *name)
{
    carso_trainer *trainer = NULL;
    ck_assert_int_eq(carso_trainer_load(toy_context, scratch_file(name), &trainer), CARSO_OK);
    return trainer;
}

static void check_continues(bool purifier)
{
    carso_trainer *straight = create(purifier);
    /* Between two synchronisations of Lookahead, so that slow and fast weights differ. */
    advance(straight, 4);
    ck_assert_int_eq(carso_trainer_save(straight, scratch_file("checkpoint")), CARSO_OK);
    carso_trainer *resumed = load("checkpoint");
    ck_assert_uint_eq(carso_trainer_step(resumed), 4);
    ck_assert(toy_same_trainer(straight, resumed));
    carso_train_report first, second;
    for (int step = 0; step < 5; step++) {
        ck_assert_int_eq(toy_step(straight, 6, &first), CARSO_OK);
        ck_assert_int_eq(toy_step(resumed, 6, &second), CARSO_OK);
        ck_assert_mem_eq(&first, &second, sizeof first);
        ck_assert(toy_same_trainer(straight, resumed));
    }
    /* The file is a model file too, of the model as reached. */
    carso_model *model = NULL, *reached = toy_reached(straight);
    ck_assert_int_eq(carso_trainer_save(straight, scratch_file("checkpoint")), CARSO_OK);
    ck_assert_int_eq(carso_model_load(toy_context, scratch_file("checkpoint"), &model), CARSO_OK);
    ck_assert(toy_same_model(model, reached));
    carso_model_destroy(model);
    carso_model_destroy(reached);
    carso_trainer_destroy(straight);
    carso_trainer_destroy(resumed);
}

START_TEST(purifier_training_continues_bit_for_bit)
{
    check_continues(true);
}
END_TEST

START_TEST(classifier_training_continues_bit_for_bit)
{
    check_continues(false);
}
END_TEST

static void check_keeps_data(bool purifier)
{
    carso_trainer *trainer = create(purifier);
    char longest[257];
    memset(longest, 'x', sizeof longest);
    longest[256] = 0;
    ck_assert_int_eq(carso_trainer_set_data(trainer, longest, 96, 6, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_trainer_set_data(trainer, NULL, 96, 6, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_trainer_set_data(trainer, "toy", 96, 1, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_trainer_set_data(trainer, "toy", 5, 6, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_trainer_set_data(trainer, "toy", UINT64_MAX, 6, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    carso_read_options reading;
    carso_read_options_init(&reading, sizeof reading);
    reading.crop_padding = -1;
    ck_assert_int_eq(carso_trainer_set_data(trainer, "toy", 96, 6, &reading), CARSO_ERROR_INVALID_ARGUMENT);
    reading.crop_padding = 4;
    reading.mirror = 2;
    ck_assert_int_eq(carso_trainer_set_data(trainer, "toy", 96, 6, &reading), CARSO_ERROR_INVALID_ARGUMENT);
    reading.mirror = 1;
    ck_assert_int_eq(carso_trainer_set_data(trainer, longest + 1, 96, 6, &reading), CARSO_OK);
    ck_assert_int_eq(carso_trainer_set_data(trainer, "t\"oy", 96, 6, &reading), CARSO_OK);
    ck_assert_int_eq(carso_trainer_save(trainer, scratch_file("checkpoint")), CARSO_OK);
    carso_trainer_destroy(trainer);
    carso_trainer *resumed = load("checkpoint");
    ck_assert_int_eq(carso_trainer_set_data(resumed, "t\"oy", 96, 8, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert(toy_message_has("batches of 6 out of 96 images of t\"oy") && toy_message_has("of 8 out of 96"));
    ck_assert_int_eq(carso_trainer_set_data(resumed, "toy", 97, 6, &reading), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_trainer_set_data(resumed, "toy", 96, 6, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert(toy_message_has("crop_padding of 4 and a mirror of 1") && toy_message_has("should have 0 and 0"));
    carso_model *model = toy_reached(resumed);
    ck_assert_ptr_nonnull(strstr(
        carso_model_describe(model),
        "\"data\":{\"batch\":6,\"crop_padding\":4,\"images\":96,\"mirror\":1,\"name\":\"t\\\"oy\"}"));
    carso_model_destroy(model);
    /* Elsewhere, the same data may have another name, even one that JSON cannot have. */
    ck_assert_int_eq(carso_trainer_set_data(resumed, "\xff", 96, 6, &reading), CARSO_OK);
    model = toy_reached(resumed);
    ck_assert_ptr_nonnull(strstr(carso_model_describe(model), "(not UTF-8)"));
    carso_model_destroy(model);
    carso_trainer_destroy(resumed);
}

START_TEST(what_the_data_was_is_kept)
{
    check_keeps_data(true);
    check_keeps_data(false);
}
END_TEST

START_TEST(other_options_are_refused)
{
    carso_trainer *purifier = create(true), *classifier = create(false);
    carso_purifier_training_options options = purifier->purifier_options;
    carso_classifier_training_options others = classifier->classifier_options;
    ck_assert_int_eq(carso_trainer_save(purifier, scratch_file("checkpoint")), CARSO_OK);
    carso_trainer_destroy(purifier);
    purifier = load("checkpoint");
    ck_assert_int_eq(carso_trainer_check_purifier(purifier, &options), CARSO_OK);
    options.seed++;
    ck_assert_int_eq(carso_trainer_check_purifier(purifier, &options), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert(toy_message_has("option seed is") && toy_message_has("now should be"));
    options.beta_final = nextafter(options.beta_final, 2);
    ck_assert_int_eq(carso_trainer_check_purifier(purifier, &options), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert(toy_message_has("option beta_final is"));
    ck_assert_int_eq(carso_trainer_check_purifier(purifier, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_trainer_check_classifier(purifier, &others), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert(toy_message_has("training of a purifier"));
    ck_assert_int_eq(carso_trainer_check_classifier(classifier, &others), CARSO_OK);
    others.momentum = 0.5;
    ck_assert_int_eq(carso_trainer_check_classifier(classifier, &others), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert(toy_message_has("option momentum is") && toy_message_has("now should be 0.5"));
    ck_assert_int_eq(carso_trainer_check_purifier(NULL, &options), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_trainer_check_classifier(NULL, &others), CARSO_ERROR_INVALID_ARGUMENT);
    carso_trainer_destroy(purifier);
    carso_trainer_destroy(classifier);
}
END_TEST

START_TEST(sub_batches_do_not_follow_the_new_memory_limit)
{
    carso_trainer *straight = create(true), *resumed = NULL;
    advance(straight, 1);
    ck_assert_int_eq(carso_trainer_save(straight, scratch_file("checkpoint")), CARSO_OK);
    carso_context *narrow = toy_context_on("reference", 1 << 20);
    ck_assert_int_eq(carso_trainer_load(narrow, scratch_file("checkpoint"), &resumed), CARSO_OK);
    advance(straight, 1);
    advance(resumed, 1);
    ck_assert(toy_same_trainer(straight, resumed));
    carso_trainer_destroy(straight);
    carso_trainer_destroy(resumed);
    carso_context_destroy(narrow);
}
END_TEST

/* In the child: saves over the same path until it is killed. */
static void save_forever(const carso_trainer *trainer)
{
    for (;;) {
        if (carso_trainer_save(trainer, scratch_file("checkpoint")) != CARSO_OK) {
            _exit(1);
        }
    }
}

START_TEST(a_checkpoint_survives_a_kill_in_the_middle_of_the_next)
{
    carso_trainer *earlier = create(true), *later = create(true), *reference = create(true);
    advance(earlier, 2);
    advance(later, 3);
    advance(reference, 5);
    int torn = 0;
    /* Until three writes were cut short: whether a kill comes in the middle of one is up to the scheduler. */
    for (int round = 0; round < 300 && torn < 3; round++) {
        ck_assert_int_eq(carso_trainer_save(earlier, scratch_file("checkpoint")), CARSO_OK);
        const pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            save_forever(later);
        }
        /* Even rounds: as soon as a temporary file is seen; odd ones: after a while that differs. */
        for (int wait = 0; wait < 100000 && round % 2 == 0 && scratch_entries() < 2; wait++) {
        }
        const struct timespec delay = {0, round % 2 ? 300000L * round : 0};
        nanosleep(&delay, NULL);
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        int state;
        ck_assert_int_eq(waitpid(child, &state, 0), child);
        ck_assert(WIFSIGNALED(state) && WTERMSIG(state) == SIGKILL);
        carso_trainer *resumed = load("checkpoint");
        const uint64_t step = carso_trainer_step(resumed);
        ck_assert(step == 2 || step == 3);
        ck_assert(toy_same_trainer(resumed, step == 2 ? earlier : later));
        if (scratch_entries() > 1) {
            torn++;
            advance(resumed, (int)(5 - step));
            ck_assert(toy_same_trainer(resumed, reference));
        }
        carso_trainer_destroy(resumed);
        scratch_remove();
        scratch_create();
    }
    ck_assert_int_eq(torn, 3);
    carso_trainer_destroy(earlier);
    carso_trainer_destroy(later);
    carso_trainer_destroy(reference);
}
END_TEST

static carso_status try_load(const char *name)
{
    carso_trainer *trainer = (carso_trainer *)1;
    const carso_status status = carso_trainer_load(toy_context, scratch_file(name), &trainer);
    ck_assert((status == CARSO_OK) == (trainer != NULL));
    carso_trainer_destroy(trainer);
    return status;
}

START_TEST(other_files_are_refused)
{
    carso_model *model = toy_classifier(CARSO_SMALL_CNN);
    ck_assert_int_eq(carso_model_save(model, scratch_file("model")), CARSO_OK);
    carso_model_destroy(model);
    ck_assert_int_eq(try_load("model"), CARSO_ERROR_BAD_FORMAT);
    ck_assert(toy_message_has("is a model file, not a checkpoint"));
    static const char header[] = "\x10\0\0\0\0\0\0\0{              }";
    scratch_write("empty", header, sizeof header - 1);
    ck_assert_int_eq(try_load("empty"), CARSO_ERROR_BAD_FORMAT);
    scratch_write("text", "hello", 5);
    ck_assert_int_eq(try_load("text"), CARSO_ERROR_BAD_FORMAT);
    ck_assert_int_eq(try_load("absent"), CARSO_ERROR_NOT_FOUND);
    carso_trainer *trainer;
    ck_assert_int_eq(carso_trainer_load(toy_context, NULL, &trainer), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_trainer_load(NULL, scratch_file("model"), &trainer), CARSO_ERROR_INVALID_ARGUMENT);
}
END_TEST

START_TEST(truncated_files_are_refused)
{
    size_t size;
    carso_trainer *trainer = create(false);
    advance(trainer, 1);
    ck_assert_int_eq(carso_trainer_save(trainer, scratch_file("whole")), CARSO_OK);
    carso_trainer_destroy(trainer);
    unsigned char *data = scratch_read("whole", &size);
    for (size_t length = 0; length < size; length += length < 16 ? 1 : size / 97 + 1) {
        scratch_write("cut", data, length);
        ck_assert_int_eq(try_load("cut"), CARSO_ERROR_BAD_FORMAT);
    }
    scratch_write("cut", data, size - 1);
    ck_assert_int_eq(try_load("cut"), CARSO_ERROR_BAD_FORMAT);
    free(data);
}
END_TEST

START_TEST(flipped_bits_are_refused)
{
    /* Wherever a bit flips: the file is refused, or the bit meant nothing and the trainer is the same. */
    size_t size;
    carso_trainer *trainer = create(false);
    advance(trainer, 1);
    ck_assert_int_eq(carso_trainer_save(trainer, scratch_file("whole")), CARSO_OK);
    unsigned char *data = scratch_read("whole", &size);
    const size_t header = 8 + (size_t)(data[0] | data[1] << 8 | data[2] << 16);
    ck_assert_uint_lt(header, size);
    int refused = 0, tried = 0;
    for (size_t place = 0; place < size; place += place < header ? 17 : size / 61) {
        const unsigned char bit = (unsigned char)(1u << (place / 17 * 3 % 8));
        data[place] ^= bit;
        scratch_write("flipped", data, size);
        data[place] ^= bit;
        tried++;
        carso_trainer *found = NULL;
        const carso_status status = carso_trainer_load(toy_context, scratch_file("flipped"), &found);
        if (status) {
            ck_assert_ptr_null(found);
            refused++;
            continue;
        }
        carso_model *a = toy_reached(trainer), *b = toy_reached(found);
        ck_assert_msg(toy_same_trainer(trainer, found) && strcmp(carso_model_describe(a), carso_model_describe(b)) == 0,
                      "the flipped bit %#x at %zu of %zu (header %zu) was not seen", bit, place, size, header);
        carso_model_destroy(a);
        carso_model_destroy(b);
        carso_trainer_destroy(found);
    }
    ck_assert_int_gt(refused, tried * 9 / 10);
    free(data);
    carso_trainer_destroy(trainer);
}
END_TEST

START_TEST(a_failed_save_leaves_the_old_file)
{
    carso_trainer *trainer = create(false);
    ck_assert_int_eq(carso_trainer_save(trainer, scratch_file("no/such/folder")), CARSO_ERROR_NOT_FOUND);
    ck_assert_int_eq(carso_trainer_save(trainer, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_trainer_save(NULL, scratch_file("x")), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(scratch_entries(), 0);
    carso_trainer_destroy(trainer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *tests = tcase_create("checkpoint");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, open_all, close_all);
    tcase_add_test(tests, purifier_training_continues_bit_for_bit);
    tcase_add_test(tests, classifier_training_continues_bit_for_bit);
    tcase_add_test(tests, what_the_data_was_is_kept);
    tcase_add_test(tests, sub_batches_do_not_follow_the_new_memory_limit);
    tcase_add_test(tests, other_options_are_refused);
    tcase_add_test(tests, a_checkpoint_survives_a_kill_in_the_middle_of_the_next);
    tcase_add_test(tests, other_files_are_refused);
    tcase_add_test(tests, truncated_files_are_refused);
    tcase_add_test(tests, flipped_bits_are_refused);
    tcase_add_test(tests, a_failed_save_leaves_the_old_file);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
