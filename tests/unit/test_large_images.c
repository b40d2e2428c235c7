/* SPDX-License-Identifier: BSD-2-Clause */
/* Images of 96x96, 224x224 and others than squares: all calls, under the default memory limit and a small one. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "carso/carso.h"

enum { IMAGES = 2, DRAWS = 2, CLASSES = 3, SMALL_LIMIT = 4 << 20 };

typedef struct example {
    carso_architecture architecture;
    int32_t height, width;
} example;

static const example examples[] = {{CARSO_SMALL_CNN, 96, 96},    {CARSO_WIDE_RESNET, 96, 96}, {CARSO_SMALL_CNN, 224, 224},
                                   {CARSO_WIDE_RESNET, 224, 224}, {CARSO_SMALL_CNN, 130, 70}};
enum { EXAMPLES = sizeof examples / sizeof examples[0] };

static carso_context *open_context(uint64_t memory_limit)
{
    carso_context_options options;
    carso_context *context;
    carso_context_options_init(&options, sizeof options);
    options.threads = 2;
    options.memory_limit = memory_limit;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
    return context;
}

static carso_model *make_model(carso_context *context, const example *it)
{
    carso_model_options options;
    carso_purifier_options purifier;
    carso_model *classifier, *model;
    carso_model_options_init(&options, sizeof options);
    options.architecture = it->architecture;
    options.depth = 10;
    options.width = 1;
    options.channels = 3;
    options.image_height = it->height;
    options.image_width = it->width;
    options.classes = CLASSES;
    ck_assert_int_eq(carso_model_create(context, &options, &classifier), CARSO_OK);
    carso_purifier_options_init(&purifier, sizeof purifier);
    purifier.condition_size = 16;
    purifier.latent_size = 8;
    purifier.seed_channels = 16;
    ck_assert_int_eq(carso_model_add_purifier(classifier, &purifier, &model), CARSO_OK);
    carso_model_destroy(classifier);
    return model;
}

typedef struct results {
    double logits[IMAGES * CLASSES], robust[DRAWS * IMAGES * CLASSES], loss;
    float *reconstructions, *gradient;
} results;

static void copy_logits(carso_prediction *prediction, double *out, size_t count)
{
    const double *const logits = carso_prediction_logits(prediction);
    ck_assert_ptr_nonnull(logits);
    memcpy(out, logits, count * sizeof *out);
    carso_prediction_destroy(prediction);
}

static results compute(const example *it, uint64_t memory_limit, size_t size)
{
    carso_context *const context = open_context(memory_limit);
    carso_model *const model = make_model(context, it);
    carso_predict_options options;
    carso_gradient_options gradient;
    carso_purifier_training_options training;
    carso_prediction *prediction;
    carso_trainer *trainer;
    carso_train_report report = {.struct_size = sizeof report};
    carso_images images;
    const int32_t labels[IMAGES] = {0, 2};
    const size_t image = size / IMAGES;
    results out = {.reconstructions = malloc(DRAWS * size * sizeof(float)), .gradient = malloc(size * sizeof(float))};
    float *const pixels = malloc(size * sizeof *pixels);
    ck_assert(out.reconstructions && out.gradient && pixels);
    for (size_t i = 0; i < size; i++) {
        pixels[i] = (float)(0.5 + 0.5 * sin((double)(i % image) * (i < image ? 0.013 : 0.031)));
    }
    carso_images_init(&images, sizeof images);
    images.data = pixels;
    images.count = IMAGES;
    images.width = it->width;
    images.height = it->height;
    images.type = CARSO_PIXEL_FLOAT32;
    images.layout = CARSO_LAYOUT_CHW;
    images.order = CARSO_ORDER_RGB;
    carso_predict_options_init(&options, sizeof options);
    options.draws = DRAWS;
    ck_assert_int_eq(carso_predict(model, &images, &options, &prediction), CARSO_OK);
    copy_logits(prediction, out.logits, IMAGES * CLASSES);
    ck_assert_int_eq(carso_purify(model, &images, &options, &prediction), CARSO_OK);
    memcpy(out.reconstructions, carso_prediction_reconstructions(prediction), DRAWS * size * sizeof(float));
    carso_prediction_destroy(prediction);
    ck_assert_int_eq(carso_predict_robust(model, &images, &options, &prediction), CARSO_OK);
    copy_logits(prediction, out.robust, DRAWS * IMAGES * CLASSES);
    carso_gradient_options_init(&gradient, sizeof gradient);
    gradient.objective = CARSO_OBJECTIVE_DEFENCE;
    gradient.draws = DRAWS;
    ck_assert_int_eq(carso_gradient(model, &images, labels, &gradient, out.gradient, NULL, NULL), CARSO_OK);
    if (memory_limit != 0) {
        carso_memory memory = {.struct_size = sizeof memory};
        ck_assert_int_eq(carso_context_memory(context, &memory), CARSO_OK);
        ck_assert_uint_gt(memory.most_buffers, 0);
    }
    carso_purifier_training_options_init(&training, sizeof training);
    training.steps_per_epoch = 1;
    training.epochs = 1;
    ck_assert_int_eq(carso_trainer_create_purifier(model, &training, &trainer), CARSO_OK);
    ck_assert_int_eq(carso_train_step(trainer, &images, labels, &report), CARSO_OK);
    out.loss = report.loss;
    carso_trainer_destroy(trainer);
    carso_model_destroy(model);
    carso_context_destroy(context);
    free(pixels);
    return out;
}

static void check_near(const double *a, const double *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ck_assert(isfinite(a[i]));
        ck_assert_double_eq_tol(a[i], b[i], 1e-5 * (1 + fabs(b[i])));
    }
}

/* relative: to the largest. */
static void check_near_images(const float *a, const float *b, size_t count, double relative)
{
    double largest = 0, difference = 0;
    for (size_t i = 0; i < count; i++) {
        ck_assert(isfinite(a[i]));
        largest = fmax(largest, fabs((double)b[i]));
        difference = fmax(difference, fabs((double)a[i] - (double)b[i]));
    }
    ck_assert_double_gt(largest, 0);
    ck_assert_double_le(difference, relative * largest);
}

START_TEST(all_calls_run_and_agree_under_a_small_limit)
{
    const example *const it = &examples[_i];
    const size_t size = (size_t)IMAGES * 3 * (size_t)it->height * (size_t)it->width;
    results usual = compute(it, 0, size), tight = compute(it, SMALL_LIMIT, size);
    check_near(tight.logits, usual.logits, IMAGES * CLASSES);
    check_near(tight.robust, usual.robust, DRAWS * IMAGES * CLASSES);
    check_near_images(tight.reconstructions, usual.reconstructions, DRAWS * size, 1e-5);
    check_near_images(tight.gradient, usual.gradient, size, 1e-3);
    check_near(&tight.loss, &usual.loss, 1);
    free(usual.reconstructions);
    free(usual.gradient);
    free(tight.reconstructions);
    free(tight.gradient);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("large images");
    TCase *const tests = tcase_create("large images");
    tcase_set_timeout(tests, 600);
    tcase_add_loop_test(tests, all_calls_run_and_agree_under_a_small_limit, 0, EXAMPLES);
    suite_add_tcase(suite, tests);
    SRunner *const runner = srunner_create(suite);
    /* OpenMP's threads do not survive a fork. */
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
