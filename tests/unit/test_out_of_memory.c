/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every allocation fails in turn: each call answers with OUT_OF_MEMORY, releases what it took, and works the next time.
 * Under AddressSanitizer this also finds what is used after it was released on the way out.
 */
#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/safetensors.h"
#include "carso/carso.h"
#include "counting_allocator.h"
#include "scratch_folder.h"

#define SIDE 28
#define IMAGES 2

static unsigned char pixels[IMAGES * SIDE * SIDE];
static const int32_t labels[IMAGES] = {1, 2};

static carso_images describe(void)
{
    carso_images images;
    carso_images_init(&images, sizeof images);
    images.data = pixels;
    images.count = IMAGES;
    images.width = images.height = SIDE;
    images.order = CARSO_ORDER_GRAY;
    return images;
}

static carso_status make_model(carso_context *context, carso_model **out)
{
    carso_model_options options;
    carso_purifier_options purifier;
    carso_model *classifier;
    carso_model_options_init(&options, sizeof options);
    options.architecture = CARSO_SMALL_CNN;
    options.channels = 1;
    options.image_height = options.image_width = SIDE;
    options.classes = 3;
    carso_purifier_options_init(&purifier, sizeof purifier);
    purifier.condition_size = 4;
    purifier.latent_size = 3;
    purifier.seed_channels = 16;
    carso_status status = carso_model_create(context, &options, &classifier);
    if (status == CARSO_OK) {
        status = carso_model_add_purifier(classifier, &purifier, out);
        carso_model_destroy(classifier);
    }
    return status;
}

static carso_trainer *make_trainer(carso_context *context, const carso_model *model, bool purifier)
{
    carso_trainer *trainer = NULL;
    (void)context;
    if (purifier) {
        carso_purifier_training_options options;
        carso_purifier_training_options_init(&options, sizeof options);
        options.steps_per_epoch = 1;
        options.pgd_steps = 1;
        ck_assert_int_eq(carso_trainer_create_purifier(model, &options, &trainer), CARSO_OK);
    } else {
        carso_classifier_training_options options;
        carso_classifier_training_options_init(&options, sizeof options);
        options.steps_per_epoch = 1;
        options.pgd_steps = 1;
        ck_assert_int_eq(carso_trainer_create_classifier(model, &options, &trainer), CARSO_OK);
    }
    return trainer;
}

/* What a scenario may use, made while nothing fails. */
typedef struct setting {
    carso_context *context;
    carso_model *model;
    carso_trainer *trainer;
} setting;

static carso_status scenario_create(const setting *given)
{
    carso_model *model = NULL;
    carso_status status = make_model(given->context, &model);
    ck_assert(status == CARSO_OK || model == NULL);
    carso_model_destroy(model);
    return status;
}

static carso_status scenario_save(const setting *given) { return carso_model_save(given->model, scratch_file("again.safetensors")); }

static carso_status scenario_load(const setting *given)
{
    carso_model *model = NULL;
    carso_status status = carso_model_load(given->context, scratch_file("model.safetensors"), &model);
    ck_assert(status == CARSO_OK || model == NULL);
    carso_model_destroy(model);
    return status;
}

static carso_status scenario_import(const setting *given)
{
    carso_model *model = NULL;
    const char *path = scratch_file("model.safetensors");
    carso_status status = carso_model_import(given->model, &path, 1, &model);
    ck_assert(status == CARSO_OK || model == NULL);
    carso_model_destroy(model);
    return status;
}

static carso_status scenario_verify(const setting *given)
{
    int32_t departures;
    carso_status status =
        carso_model_verify(given->model, scratch_file("golden.safetensors"), 1, NULL, NULL, &departures);
    ck_assert(status != CARSO_OK || departures == 0);
    return status;
}

static carso_status scenario_predict(const setting *given)
{
    carso_images images = describe();
    carso_prediction *prediction = NULL;
    carso_status status = carso_predict(given->model, &images, NULL, &prediction);
    ck_assert(status == CARSO_OK || prediction == NULL);
    carso_prediction_destroy(prediction);
    return status;
}

static carso_status scenario_robust(const setting *given)
{
    carso_images images = describe();
    carso_prediction *prediction = NULL;
    carso_predict_options options;
    carso_predict_options_init(&options, sizeof options);
    options.draws = 2;
    options.keep_reconstructions = 1;
    carso_status status = carso_predict_robust(given->model, &images, &options, &prediction);
    ck_assert(status == CARSO_OK || prediction == NULL);
    carso_prediction_destroy(prediction);
    return status;
}

static carso_status scenario_purify(const setting *given)
{
    carso_images images = describe();
    carso_prediction *prediction = NULL;
    carso_predict_options options;
    carso_predict_options_init(&options, sizeof options);
    options.draws = 2;
    carso_status status = carso_purify(given->model, &images, &options, &prediction);
    ck_assert(status == CARSO_OK || prediction == NULL);
    carso_prediction_destroy(prediction);
    return status;
}

static carso_status scenario_gradient(const setting *given)
{
    static float gradient[IMAGES * SIDE * SIDE];
    carso_images images = describe();
    carso_gradient_options options;
    carso_gradient_options_init(&options, sizeof options);
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    options.draws = 2;
    return carso_gradient(given->model, &images, labels, &options, gradient, NULL, NULL);
}

static carso_status scenario_attack(const setting *given)
{
    carso_images images = describe();
    carso_attack_result *result = NULL;
    carso_attack_options options;
    carso_attack_options_init(&options, sizeof options);
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    options.draws = 1;
    options.steps = 1;
    carso_status status = carso_attack(given->model, &images, labels, &options, &result);
    ck_assert(status == CARSO_OK || result == NULL);
    carso_attack_result_destroy(result);
    return status;
}

static carso_status scenario_step(const setting *given)
{
    carso_images images = describe();
    return carso_train_step(given->trainer, &images, labels, NULL);
}

static carso_status scenario_trained_model(const setting *given)
{
    carso_model *model = NULL;
    carso_status status = carso_trainer_get_model(given->trainer, &model);
    ck_assert(status == CARSO_OK || model == NULL);
    carso_model_destroy(model);
    return status;
}

static carso_status scenario_checkpoint(const setting *given)
{
    return carso_trainer_save(given->trainer, scratch_file("again.checkpoint"));
}

static carso_status scenario_resume(const setting *given)
{
    carso_trainer *trainer = NULL;
    carso_status status = carso_trainer_load(given->context, scratch_file("trainer.checkpoint"), &trainer);
    ck_assert(status == CARSO_OK || trainer == NULL);
    carso_trainer_destroy(trainer);
    return status;
}

static carso_status scenario_dataset(const setting *given)
{
    carso_dataset *data = NULL;
    unsigned char read[SIDE * SIDE];
    uint64_t index = 1;
    carso_status status = carso_dataset_open(given->context, scratch_path, CARSO_SPLIT_TEST, &data);
    ck_assert(status == CARSO_OK || data == NULL);
    if (status == CARSO_OK) {
        status = carso_dataset_read(data, &index, 1, NULL, read, NULL);
    }
    carso_dataset_destroy(data);
    return status;
}

static carso_status scenario_reader(const setting *given)
{
    carso_dataset *data = NULL;
    carso_reader *reader = NULL;
    carso_reader_options options;
    carso_read_batch batch = {.struct_size = sizeof batch};
    const uint64_t indices[3] = {1, 0, 1};
    carso_reader_options_init(&options, sizeof options);
    options.batch = 2;
    options.threads = 1;
    carso_status status = carso_dataset_open(given->context, scratch_path, CARSO_SPLIT_TEST, &data);
    if (status == CARSO_OK) {
        status = carso_reader_open(data, indices, 3, &options, &reader);
        ck_assert(status == CARSO_OK || reader == NULL);
    }
    while (status == CARSO_OK && (status = carso_reader_next(reader, &batch)) == CARSO_OK && batch.count > 0) {
    }
    carso_reader_destroy(reader);
    carso_dataset_destroy(data);
    return status;
}

/* Missing files, of which each batch has messages. */
static carso_status scenario_files(const setting *given)
{
    carso_dataset *data = NULL;
    carso_reader *reader = NULL;
    carso_dataset_options shape;
    carso_reader_options options;
    carso_read_batch batch = {.struct_size = sizeof batch};
    const char *paths[3] = {"none/1.png", "none/2.png", "none/3.png"};
    carso_dataset_options_init(&shape, sizeof shape);
    carso_reader_options_init(&options, sizeof options);
    shape.channels = shape.height = shape.width = 1;
    options.batch = 2;
    options.threads = 1;
    options.keep_going = 1;
    carso_status status = carso_dataset_open_files(given->context, paths, 3, &shape, &data);
    ck_assert(status == CARSO_OK || data == NULL);
    if (status == CARSO_OK) {
        status = carso_reader_open(data, NULL, 3, &options, &reader);
    }
    while (status == CARSO_OK && (status = carso_reader_next(reader, &batch)) == CARSO_OK && batch.count > 0) {
    }
    carso_reader_destroy(reader);
    carso_dataset_destroy(data);
    return status;
}

typedef struct scenario {
    const char *name;
    carso_status (*run)(const setting *given);
    enum { NO_TRAINER, PURIFIER_TRAINER, CLASSIFIER_TRAINER } trainer;
} scenario;

static const scenario scenarios[] = {
    {"create", scenario_create, NO_TRAINER},
    {"save", scenario_save, NO_TRAINER},
    {"load", scenario_load, NO_TRAINER},
    {"import", scenario_import, NO_TRAINER},
    {"verify", scenario_verify, NO_TRAINER},
    {"predict", scenario_predict, NO_TRAINER},
    {"purify", scenario_purify, NO_TRAINER},
    {"predict_robust", scenario_robust, NO_TRAINER},
    {"gradient", scenario_gradient, NO_TRAINER},
    {"attack", scenario_attack, NO_TRAINER},
    {"purifier step", scenario_step, PURIFIER_TRAINER},
    {"classifier step", scenario_step, CLASSIFIER_TRAINER},
    {"trained model", scenario_trained_model, PURIFIER_TRAINER},
    {"checkpoint", scenario_checkpoint, PURIFIER_TRAINER},
    {"resume", scenario_resume, NO_TRAINER},
    {"dataset", scenario_dataset, NO_TRAINER},
    {"reader", scenario_reader, NO_TRAINER},
    {"files", scenario_files, NO_TRAINER},
};

static carso_context *open_context(counting_allocator *counts, const char *backend)
{
    carso_context_options options;
    carso_context *context = NULL;
    carso_context_options_init(&options, sizeof options);
    options.backend = backend;
    options.threads = 1;
    options.allocator = (carso_allocator){counting_allocate, counting_release, counts};
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
    return context;
}

/* The scenario with allocation number `failing` refused; true where it needed that many. */
static bool run_failing(const scenario *one, const char *backend, long failing)
{
    counting_allocator counts = {0};
    setting given = {.context = open_context(&counts, backend)};
    ck_assert_int_eq(make_model(given.context, &given.model), CARSO_OK);
    if (one->trainer != NO_TRAINER) {
        given.trainer = make_trainer(given.context, given.model, one->trainer == PURIFIER_TRAINER);
    }
    atomic_store(&counts.made, 0);
    atomic_store(&counts.failing, failing);
    carso_status status = one->run(&given);
    bool reached = atomic_load(&counts.made) >= failing;
    atomic_store(&counts.failing, 0);
    ck_assert_msg(status == (reached ? CARSO_ERROR_OUT_OF_MEMORY : CARSO_OK),
                  "%s on %s, allocation %ld: status %d (%s)", one->name, backend, failing, status,
                  carso_status_str(status));
    if (reached && failing % 16 == 1) {
        ck_assert_msg(one->run(&given) == CARSO_OK, "%s on %s does not work after allocation %ld failed", one->name,
                      backend, failing);
    }
    carso_trainer_destroy(given.trainer);
    carso_model_destroy(given.model);
    carso_context_destroy(given.context);
    ck_assert_msg(atomic_load(&counts.held) == 0, "%s on %s leaks %ld allocations after allocation %ld failed",
                  one->name, backend, atomic_load(&counts.held), failing);
    return reached;
}

START_TEST(every_allocation)
{
    const scenario *one = &scenarios[_i % (int)(sizeof scenarios / sizeof scenarios[0])];
    const char *backend = carso_backend_name((size_t)_i / (sizeof scenarios / sizeof scenarios[0]));
    long failing = 1;
    while (run_failing(one, backend, failing)) {
        failing++;
    }
    ck_assert_msg(failing > 1, "%s makes no allocation", one->name);
}
END_TEST

START_TEST(context_creation)
{
    for (size_t i = 0; i < carso_backend_count(); i++) {
        counting_allocator counts = {0};
        carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
        for (long failing = 1; status != CARSO_OK; failing++) {
            carso_context_options options;
            carso_context *context;
            carso_context_options_init(&options, sizeof options);
            options.backend = carso_backend_name(i);
            options.allocator = (carso_allocator){counting_allocate, counting_release, &counts};
            atomic_store(&counts.made, 0);
            atomic_store(&counts.failing, failing);
            status = carso_context_create(&options, &context);
            ck_assert(status == CARSO_OK || (status == CARSO_ERROR_OUT_OF_MEMORY && context == NULL));
            carso_context_destroy(context);
            ck_assert_int_eq(atomic_load(&counts.held), 0);
            ck_assert_int_lt(failing, 1000);
        }
    }
}
END_TEST

/* Zeros, which everything agrees with at a tolerance of 1: logits and reconstructions are small. */
static void write_golden(carso_context *context)
{
    static const float zeros[SIDE * SIDE];
    const cso_tensor_write tensors[] = {
        {.name = "input", .type = CSO_TENSOR_F32, .rank = 4, .dimension = {1, 1, SIDE, SIDE}, .data = zeros},
        {.name = "latent", .type = CSO_TENSOR_F32, .rank = 3, .dimension = {1, 1, 3}, .data = zeros},
        {.name = "classifier_logits", .type = CSO_TENSOR_F32, .rank = 2, .dimension = {1, 3}, .data = zeros},
        {.name = "condition", .type = CSO_TENSOR_F32, .rank = 2, .dimension = {1, 4}, .data = zeros},
        {.name = "reconstructions", .type = CSO_TENSOR_F32, .rank = 5, .dimension = {1, 1, 1, SIDE, SIDE}, .data = zeros},
    };
    const char *key = "strides", *value = "{}";
    ck_assert_int_eq(cso_safetensors_write(context, scratch_file("golden.safetensors"), tensors, 5, &key, &value, 1),
                     CARSO_OK);
}

static void write_files(void)
{
    static const unsigned char images_header[16] = {0, 0, 8, 3, 0, 0, 0, IMAGES, 0, 0, 0, SIDE, 0, 0, 0, SIDE};
    static const unsigned char labels_file[8 + IMAGES] = {0, 0, 8, 1, 0, 0, 0, IMAGES, 1, 2};
    unsigned char file[sizeof images_header + sizeof pixels];
    counting_allocator counts = {0};
    carso_context *context;
    carso_model *model;
    for (size_t i = 0; i < sizeof pixels; i++) {
        pixels[i] = (unsigned char)(i * 37 % 251);
    }
    memcpy(file, images_header, sizeof images_header);
    memcpy(file + sizeof images_header, pixels, sizeof pixels);
    scratch_create();
    scratch_write("t10k-images-idx3-ubyte", file, sizeof file);
    scratch_write("t10k-labels-idx1-ubyte", labels_file, sizeof labels_file);
    context = open_context(&counts, "reference");
    ck_assert_int_eq(make_model(context, &model), CARSO_OK);
    ck_assert_int_eq(carso_model_save(model, scratch_file("model.safetensors")), CARSO_OK);
    write_golden(context);
    carso_trainer *trainer = make_trainer(context, model, true);
    ck_assert_int_eq(carso_trainer_save(trainer, scratch_file("trainer.checkpoint")), CARSO_OK);
    carso_trainer_destroy(trainer);
    carso_model_destroy(model);
    carso_context_destroy(context);
}

int main(void)
{
    Suite *suite = suite_create("out_of_memory");
    TCase *scenarios_case = tcase_create("scenarios");
    TCase *contexts = tcase_create("contexts");
    tcase_set_timeout(scenarios_case, 600);
    tcase_add_unchecked_fixture(scenarios_case, write_files, scratch_remove);
    tcase_add_loop_test(scenarios_case, every_allocation, 0,
                        (int)(sizeof scenarios / sizeof scenarios[0]) * (int)(carso_backend_count() > 2 ? 2 : 1));
    tcase_add_test(contexts, context_creation);
    suite_add_tcase(suite, contexts);
    suite_add_tcase(suite, scenarios_case);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
