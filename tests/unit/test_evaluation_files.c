/* SPDX-License-Identifier: BSD-2-Clause */
/* What an evaluation writes, and what goes on from it. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "evaluation_toy.h"
#include "scratch_folder.h"

static void set_up(void)
{
    toy_open();
    scratch_create();
}

static void tear_down(void)
{
    scratch_remove();
    toy_close();
}

START_TEST(resumes_to_the_same_bits)
{
    carso_evaluation *const straight = toy_evaluation(toy_model);
    toy_run(straight);
    static const int stops[] = {0, 1, 7, 20, 41, 79};
    int32_t finished = 0;
    ck_assert_uint_eq(cso_evaluation_units(straight), 80);
    for (size_t place = 0; place < sizeof stops / sizeof stops[0]; place++) {
        const int stop = stops[place];
        carso_evaluation *const first = toy_evaluation(toy_model), *const second = toy_evaluation(toy_model);
        for (int i = 0; i < stop; i++) {
            ck_assert_int_eq(carso_evaluation_step(first, NULL, NULL, &finished), CARSO_OK);
        }
        ck_assert_int_eq(carso_evaluation_save(first, scratch_file("state")), CARSO_OK);
        carso_evaluation_destroy(first);
        ck_assert_int_eq(carso_evaluation_resume(second, scratch_file("state")), CARSO_OK);
        toy_run(second);
        toy_check_same(straight, second);
        carso_evaluation_destroy(second);
    }
    carso_evaluation_destroy(straight);
}
END_TEST

static void run_shards(int shards, const char *const *path)
{
    toy_options.shards = shards;
    for (toy_options.shard = 0; toy_options.shard < shards; toy_options.shard++) {
        carso_evaluation *const part = toy_evaluation(toy_model);
        toy_run(part);
        ck_assert_int_eq(carso_evaluation_save(part, path[toy_options.shard]), CARSO_OK);
        carso_evaluation_destroy(part);
    }
    toy_options.shard = 0;
    toy_options.shards = 1;
}

START_TEST(shards_are_the_whole)
{
    char name[3][sizeof scratch_path + 8];
    const char *path[3];
    carso_evaluation *whole = NULL, *const straight = toy_evaluation(toy_model);
    toy_run(straight);
    for (int i = 0; i < 3; i++) {
        snprintf(name[i], sizeof name[i], "%s/p%d", scratch_path, i);
        path[i] = name[(i + 1) % 3];
    }
    run_shards(3, path);
    ck_assert_int_eq(carso_evaluation_merge(toy_context, path, 2, &whole), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(whole);
    toy_check_message("2 files of the 3 shards", "each is needed");
    path[2] = path[0];
    ck_assert_int_eq(carso_evaluation_merge(toy_context, path, 3, &whole), CARSO_ERROR_INVALID_ARGUMENT);
    toy_check_message("are both of shard", "");
    path[2] = name[0];
    ck_assert_int_eq(carso_evaluation_merge(toy_context, path, 3, &whole), CARSO_OK);
    toy_check_same(straight, whole);
    /* A merged one is as good as one that was run. */
    ck_assert_int_eq(carso_evaluation_save(whole, scratch_file("whole")), CARSO_OK);
    carso_evaluation *opened = NULL, *const resumed = toy_evaluation(toy_model);
    ck_assert_int_eq(carso_evaluation_open(toy_context, scratch_file("whole"), &opened), CARSO_OK);
    toy_check_same(straight, opened);
    int32_t finished = 0;
    ck_assert_int_eq(carso_evaluation_step(opened, NULL, NULL, &finished), CARSO_OK);
    ck_assert_int_eq(finished, 1);
    ck_assert_int_eq(carso_evaluation_resume(resumed, scratch_file("whole")), CARSO_OK);
    toy_check_same(straight, resumed);
    /* Of other seeds. */
    toy_options.seed = 9;
    carso_evaluation *const foreign = toy_evaluation(toy_model);
    ck_assert_int_eq(carso_evaluation_resume(foreign, scratch_file("whole")), CARSO_ERROR_INVALID_ARGUMENT);
    carso_evaluation_destroy(straight);
    carso_evaluation_destroy(whole);
    carso_evaluation_destroy(opened);
    carso_evaluation_destroy(resumed);
    carso_evaluation_destroy(foreign);
}
END_TEST

static void check_commands(carso_evaluation *evaluation, const char *expected)
{
    const char *const result = carso_evaluation_result(evaluation);
    ck_assert_ptr_nonnull(result);
    ck_assert_ptr_nonnull(strstr(result, expected));
}

/* Kept in files, joined in the order of the shards, left alone by what is refused. */
START_TEST(commands_are_kept)
{
    static const char *const path[] = {"second", "first"};
    char name[2][sizeof scratch_path + 16];
    const char *parts[2];
    carso_evaluation *whole = NULL;
    toy_options.shards = 2;
    for (int i = 0; i < 2; i++) {
        toy_options.shard = 1 - i;
        carso_evaluation *const part = toy_evaluation(toy_model);
        check_commands(part, "\"commands\": []");
        ck_assert_int_eq(carso_evaluation_set_command(part, "not this"), CARSO_OK);
        ck_assert_int_eq(carso_evaluation_set_command(part, path[i]), CARSO_OK);
        ck_assert_int_eq(carso_evaluation_set_command(part, "\xff"), CARSO_ERROR_INVALID_ARGUMENT);
        ck_assert_int_eq(carso_evaluation_set_command(part, NULL), CARSO_ERROR_INVALID_ARGUMENT);
        toy_run(part);
        snprintf(name[i], sizeof name[i], "%s/%s", scratch_path, path[i]);
        parts[i] = name[i];
        ck_assert_int_eq(carso_evaluation_save(part, parts[i]), CARSO_OK);
        carso_evaluation_destroy(part);
    }
    ck_assert_int_eq(carso_evaluation_merge(toy_context, parts, 2, &whole), CARSO_OK);
    check_commands(whole, "\"commands\": [\"first\", \"second\"]");
    ck_assert_int_eq(carso_evaluation_save(whole, scratch_file("whole")), CARSO_OK);
    carso_evaluation_destroy(whole);
    toy_options.shards = 1;
    toy_options.shard = 0;
    carso_evaluation *const silent = toy_evaluation(toy_model), *const told = toy_evaluation(toy_model);
    ck_assert_int_eq(carso_evaluation_set_command(told, "a \"third\""), CARSO_OK);
    ck_assert_int_eq(carso_evaluation_resume(silent, scratch_file("whole")), CARSO_OK);
    ck_assert_int_eq(carso_evaluation_resume(told, scratch_file("whole")), CARSO_OK);
    check_commands(silent, "\"commands\": [\"first\", \"second\"]");
    check_commands(told, "\"commands\": [\"a \\\"third\\\"\"]");
    ck_assert_int_eq(carso_evaluation_set_command(NULL, "none"), CARSO_ERROR_INVALID_ARGUMENT);
    carso_evaluation_destroy(silent);
    carso_evaluation_destroy(told);
}
END_TEST

static void refuse(const carso_model *model, const char *expected)
{
    int32_t finished;
    carso_evaluation *const evaluation = toy_evaluation(model);
    ck_assert_int_eq(carso_evaluation_resume(evaluation, scratch_file("state")), CARSO_ERROR_INVALID_ARGUMENT);
    toy_check_message(scratch_file("state"), expected);
    /* It can still be run. */
    ck_assert_int_eq(carso_evaluation_step(evaluation, NULL, NULL, &finished), CARSO_OK);
    ck_assert_uint_eq(evaluation->units_done, 1);
    carso_evaluation_destroy(evaluation);
}

START_TEST(resumes_nothing_else)
{
    int32_t finished;
    carso_evaluation *const first = toy_evaluation(toy_model);
    ck_assert_int_eq(carso_evaluation_step(first, NULL, NULL, &finished), CARSO_OK);
    ck_assert_int_eq(carso_evaluation_save(first, scratch_file("state")), CARSO_OK);
    ck_assert_int_eq(carso_evaluation_resume(first, scratch_file("state")), CARSO_ERROR_INVALID_ARGUMENT);
    toy_check_message("not new", "");
    carso_evaluation_destroy(first);

    carso_model *const other = small_model(toy_context);
    scale_parameter(other->purifier->decoder, 0, 1.001f);
    refuse(other, "of another model");
    carso_model_destroy(other);
    toy_pixels[5] += 1e-6f;
    refuse(toy_model, "of other images or labels");
    toy_pixels[5] -= 1e-6f;
    toy_options.repeats = 4;
    refuse(toy_model, "of another configuration");
    toy_options.repeats = 0;
    toy_options.batch = 3;
    refuse(toy_model, "of another configuration");
    toy_options.batch = 2;
    toy_options.shards = 2;
    refuse(toy_model, "of shard 0 of 1, not of 0 of 2");
}
END_TEST

START_TEST(damaged_files)
{
    size_t size;
    carso_evaluation *const first = toy_evaluation(toy_model), *opened = NULL;
    toy_run(first);
    ck_assert_int_eq(carso_evaluation_save(first, scratch_file("state")), CARSO_OK);
    carso_evaluation_destroy(first);
    unsigned char *const data = scratch_read("state", &size);
    /* Anywhere in the text of the header, and here and there in the tensors. */
    for (size_t i = 0; i < size; i += i < 20000 ? 97 : size / 40) {
        data[i] ^= 4;
        scratch_write("damaged", data, size);
        ck_assert_int_ne(carso_evaluation_open(toy_context, scratch_file("damaged"), &opened), CARSO_OK);
        ck_assert_ptr_null(opened);
        data[i] ^= 4;
    }
    scratch_write("damaged", data, size / 2);
    ck_assert_int_ne(carso_evaluation_open(toy_context, scratch_file("damaged"), &opened), CARSO_OK);
    free(data);
    ck_assert_int_eq(carso_model_save(toy_model, scratch_file("model")), CARSO_OK);
    ck_assert_int_eq(carso_evaluation_open(toy_context, scratch_file("model"), &opened), CARSO_ERROR_BAD_FORMAT);
    toy_check_message("is not the file of an evaluation", "");
    ck_assert_int_eq(carso_evaluation_open(toy_context, scratch_file("nothing"), &opened), CARSO_ERROR_NOT_FOUND);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("evaluation_files");
    TCase *tests = tcase_create("evaluation_files");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, resumes_to_the_same_bits);
    tcase_add_test(tests, shards_are_the_whole);
    tcase_add_test(tests, commands_are_kept);
    tcase_add_test(tests, resumes_nothing_else);
    tcase_add_test(tests, damaged_files);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
