/* SPDX-License-Identifier: BSD-2-Clause */
/* Evaluations with each allocation failing in turn. Not with the others': where a plan finds no memory, idle ones of earlier calls are given up,
 * and the call succeeds. */
#include <check.h>
#include <stdlib.h>

#include "carso/carso.h"
#include "counting_allocator.h"
#include "scratch_folder.h"
#include "small_model.h"

static float pixels[SMALL_IMAGE];

static carso_status take_steps(carso_evaluation *evaluation)
{
    carso_status status = CARSO_OK;
    for (int32_t finished = 0; status == CARSO_OK && !finished;) {
        status = carso_evaluation_step(evaluation, NULL, NULL, &finished);
    }
    return status;
}

static carso_status evaluate(carso_context *context, const carso_model *model)
{
    const carso_images images = describe_images(pixels, 1);
    const int32_t label = 1;
    const char *const path = scratch_file("evaluation");
    carso_evaluation *evaluation = NULL, *merged = NULL;
    carso_evaluation_options options;
    carso_evaluation_options_init(&options, sizeof options);
    options.protocol = "{\"name\": \"m\", \"epsilons\": [0.1], \"sections\": [{\"name\": \"c\", \"objective\": \"classifier\","
                       " \"attacks\": [{\"method\": \"fgsm\"}]}]}";
    carso_status status = carso_evaluation_create(model, &images, &label, &options, &evaluation);
    ck_assert((status == CARSO_OK) == (evaluation != NULL));
    if (status == CARSO_OK) {
        status = take_steps(evaluation);
    }
    if (status == CARSO_OK) {
        status = carso_evaluation_save(evaluation, path);
    }
    if (status == CARSO_OK) {
        status = carso_evaluation_merge(context, &path, 1, &merged);
        ck_assert((status == CARSO_OK) == (merged != NULL));
    }
    if (status == CARSO_OK && !carso_evaluation_result(merged)) {
        status = CARSO_ERROR_OUT_OF_MEMORY;
    }
    carso_evaluation_destroy(merged);
    carso_evaluation_destroy(evaluation);
    return status;
}

START_TEST(allocations_failing)
{
    long refused = 0, made = 0;
    fill_images(pixels, 1);
    /* The first time none does, to count them. */
    for (long failing = 0; failing <= made; failing++) {
        counting_allocator counts = {0};
        carso_context *const context = counting_context(&counts);
        carso_model *const model = small_classifier(context);
        atomic_store(&counts.made, 0);
        atomic_store(&counts.failing, failing);
        const carso_status status = evaluate(context, model);
        atomic_store(&counts.failing, 0);
        made = atomic_load(&counts.made) > made ? atomic_load(&counts.made) : made;
        ck_assert_msg(status == CARSO_OK || status == CARSO_ERROR_OUT_OF_MEMORY, "allocation %ld: status %d", failing,
                      status);
        refused += status == CARSO_ERROR_OUT_OF_MEMORY;
        carso_model_destroy(model);
        carso_context_destroy(context);
        ck_assert_msg(atomic_load(&counts.held) == 0, "allocation %ld: %ld are not released", failing,
                      atomic_load(&counts.held));
    }
    ck_assert_int_gt(made, 100);
    ck_assert_int_gt(refused, made * 9 / 10);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("evaluation_memory");
    TCase *tests = tcase_create("evaluation_memory");
    tcase_set_timeout(tests, 600);
    tcase_add_unchecked_fixture(tests, scratch_create, scratch_remove);
    tcase_add_test(tests, allocations_failing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
