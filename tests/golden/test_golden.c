/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * WideResNet-10-1 and its purifier at 32x32 and 64x64 against the tensors that make.py took from PyTorch, on every
 * backend of the build. PyTorch computes in float32; tolerances, relative to the largest element of a tensor, are its
 * rounding after some twenty layers, for gradients a decade more.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attack/losses.h"
#include "base/json.h"
#include "base/safetensors.h"
#include "model/aggregation.h"
#include "train/purifier_step.h"

#define FORWARD_TOLERANCE 1e-4
#define GRADIENT_TOLERANCE 1e-3
#define SIZES 2
#define BATCH 2
#define DRAWS 2
#define CLASSES 10
#define LATENT 8
#define CONDITION 24

static const int sizes[SIZES] = {32, 64};
static const char *folder;

typedef struct golden_case {
    carso_context *context;
    cso_safetensors *golden;
    json_t *strides;
    carso_model *model;
    int size;
    size_t image_size; /* elements */
    int32_t labels[BATCH];
} golden_case;

static void require(const carso_context *context, carso_status status, const char *what)
{
    char message[1024] = "";
    if (status != CARSO_OK && context != NULL)
        carso_context_message(context, message, sizeof message);
    ck_assert_msg(status == CARSO_OK, "%s: %s: %s", what, carso_status_str(status), message);
}

static cso_safetensors *open_file(carso_context *context, int size, const char *name)
{
    char path[4096];
    cso_safetensors *file = NULL;
    snprintf(path, sizeof path, "%s/wrn_10_1_%d/%s.safetensors", folder, size, name);
    require(context, cso_safetensors_open(context, path, &file), path);
    return file;
}

/* A trainable copy of graph with the values of the state dictionary. */
static cso_graph *assigned(const cso_graph *graph, const cso_safetensors *values)
{
    cso_graph *copy = NULL;
    require(graph->context, cso_graph_clone_trainable(graph, false, &copy), "cso_graph_clone_trainable");
    for (int i = 0; i < copy->parameter_count; i++) {
        const cso_named_parameter *named = &copy->parameter[i];
        const cso_tensor *tensor = cso_safetensors_find(values, named->name);
        ck_assert_msg(tensor != NULL, "the state dictionary has no %s", named->name);
        ck_assert_int_eq(tensor->type, CSO_TENSOR_F32);
        ck_assert_int_eq(tensor->rank, named->parameter->rank);
        for (int j = 0; j < tensor->rank; j++)
            ck_assert_msg(tensor->dimension[j] == named->parameter->dimension[j], "%s differs in shape", named->name);
        memcpy(cso_parameter_host(named->parameter), tensor->data, tensor->bytes);
        require(graph->context, cso_parameter_upload(named->parameter), "cso_parameter_upload");
    }
    return copy;
}

static carso_model *build_classifier(carso_context *context, int size)
{
    static const float mean[3] = {0.4914f, 0.4822f, 0.4465f}, deviation[3] = {0.2471f, 0.2435f, 0.2616f};
    carso_model_options options;
    carso_model *random = NULL, *model = NULL;
    carso_model_options_init(&options, sizeof options);
    options.architecture = CARSO_WIDE_RESNET;
    options.depth = 10;
    options.width = 1;
    options.image_height = options.image_width = size;
    options.classes = CLASSES;
    memcpy(options.mean, mean, sizeof mean);
    memcpy(options.deviation, deviation, sizeof deviation);
    require(context, carso_model_create(context, &options, &random), "carso_model_create");

    cso_safetensors *values = open_file(context, size, "classifier");
    ck_assert_int_eq((int)cso_safetensors_count(values), random->classifier->parameter_count);
    cso_graph *classifier = assigned(random->classifier, values);
    require(context, cso_model_derive(random, classifier, NULL, NULL, &model), "cso_model_derive");
    cso_graph_destroy(classifier);
    cso_safetensors_release(values);
    carso_model_destroy(random);
    return model;
}

static carso_model *build_defence(carso_context *context, int size)
{
    carso_purifier_options options;
    carso_model *classifier = build_classifier(context, size), *random = NULL, *model = NULL;
    carso_purifier_options_init(&options, sizeof options);
    options.condition_size = CONDITION;
    options.latent_size = LATENT;
    require(context, carso_model_add_purifier(classifier, &options, &random), "carso_model_add_purifier");

    cso_safetensors *values = open_file(context, size, "purifier");
    cso_purifier purifier = *random->purifier;
    const int parameters =
        purifier.condition->parameter_count + purifier.encoder->parameter_count + purifier.decoder->parameter_count;
    ck_assert_int_eq((int)cso_safetensors_count(values), parameters);
    purifier.condition = assigned(random->purifier->condition, values);
    purifier.encoder = assigned(random->purifier->encoder, values);
    purifier.decoder = assigned(random->purifier->decoder, values);
    require(context, cso_model_derive(random, NULL, &purifier, NULL, &model), "cso_model_derive");
    cso_graph_destroy(purifier.condition);
    cso_graph_destroy(purifier.encoder);
    cso_graph_destroy(purifier.decoder);
    cso_safetensors_release(values);
    carso_model_destroy(random);
    carso_model_destroy(classifier);
    return model;
}

static const cso_tensor *golden_tensor(const golden_case *fixture, const char *name)
{
    const cso_tensor *tensor = cso_safetensors_find(fixture->golden, name);
    ck_assert_msg(tensor != NULL, "golden.safetensors has no %s", name);
    return tensor;
}

/* false: the backend does not run on this machine. */
static bool set_up(golden_case *fixture, int number)
{
    carso_context_options options;
    carso_context_options_init(&options, sizeof options);
    options.backend = carso_backend_name((size_t)(number / SIZES));
    options.threads = 2;
    memset(fixture, 0, sizeof *fixture);
    fixture->size = sizes[number % SIZES];
    fixture->image_size = 3 * (size_t)fixture->size * (size_t)fixture->size;
    const carso_status status = carso_context_create(&options, &fixture->context);
    if (status == CARSO_ERROR_UNSUPPORTED)
        return false;
    require(NULL, status, options.backend);
    fixture->golden = open_file(fixture->context, fixture->size, "golden");
    const char *strides = cso_safetensors_metadata(fixture->golden, "strides");
    ck_assert_ptr_nonnull(strides);
    require(fixture->context, cso_json_parse(fixture->context, strides, strlen(strides), "strides", &fixture->strides),
            "strides");
    const cso_tensor *labels = golden_tensor(fixture, "labels");
    ck_assert_uint_eq(labels->count, BATCH);
    for (int i = 0; i < BATCH; i++)
        fixture->labels[i] = (int32_t)((const int64_t *)labels->data)[i];
    fixture->model = build_defence(fixture->context, fixture->size);
    return true;
}

static void tear_down(golden_case *fixture)
{
    carso_model_destroy(fixture->model);
    json_decref(fixture->strides);
    cso_safetensors_release(fixture->golden);
    carso_context_destroy(fixture->context);
}

static void compare(const golden_case *fixture, const char *name, const double *actual, size_t count, double tolerance)
{
    const cso_tensor *golden = golden_tensor(fixture, name);
    const json_t *entry = json_object_get(fixture->strides, name);
    const size_t stride = entry == NULL ? 1 : (size_t)json_integer_value(entry);
    double largest = 0.0, error = 0.0;
    ck_assert_uint_eq(golden->count, (count + stride - 1) / stride);
    for (size_t i = 0; i < golden->count; i++) {
        const double expected = golden->type == CSO_TENSOR_F64 ? ((const double *)golden->data)[i]
                                                               : (double)((const float *)golden->data)[i];
        const double difference = fabs(expected - actual[i * stride]);
        largest = fmax(largest, fabs(expected));
        if (!(difference <= error)) /* NaN included */
            error = difference;
    }
    if (getenv("CARSO_TEST_VERBOSE") != NULL)
        printf("%s %d %s: %.2e of %.2e\n", carso_context_backend(fixture->context), fixture->size, name,
               error / largest, tolerance);
    ck_assert_msg(largest > 0.0, "%s is all zero", name);
    ck_assert_msg(error <= tolerance * largest, "%s, %dx%d, %s: error %g of %g",
                  carso_context_backend(fixture->context), fixture->size, fixture->size, name, error / largest,
                  tolerance);
}

static double *numbers(size_t count)
{
    double *array = calloc(count, sizeof *array);
    ck_assert_ptr_nonnull(array);
    return array;
}

static double *to_double(const cso_tensor *tensor)
{
    double *array = numbers(tensor->count);
    ck_assert_int_eq(tensor->type, CSO_TENSOR_F32);
    for (size_t i = 0; i < tensor->count; i++)
        array[i] = (double)((const float *)tensor->data)[i];
    return array;
}

static void compare_taps(golden_case *fixture)
{
    const carso_model *model = fixture->model;
    const cso_graph *graph = model->classifier;
    cso_program *program = NULL;
    cso_plan *plan = NULL;
    const cso_program_request request = {.output = model->tap, .output_count = model->tap_count};
    require(fixture->context, cso_program_create(graph, &request, &program), "cso_program_create");
    require(fixture->context, cso_program_acquire(program, BATCH, &plan), "cso_program_acquire");
    require(fixture->context, cso_plan_write(plan, 0, golden_tensor(fixture, "input")->data, CSO_F32),
            "cso_plan_write");
    require(fixture->context, cso_plan_forward(plan), "cso_plan_forward");
    ck_assert_int_eq(model->tap_count, 8);
    for (int i = 0; i < model->tap_count; i++) {
        const cso_value *tap = &graph->value[model->tap[i]];
        const size_t count = BATCH * (size_t)cso_shape_count(&tap->shape);
        double *actual = numbers(count);
        char name[128];
        require(fixture->context, cso_plan_read(plan, i, actual, CSO_F64), "cso_plan_read");
        snprintf(name, sizeof name, "tap.%s", tap->name);
        compare(fixture, name, actual, count, FORWARD_TOLERANCE);
        free(actual);
    }
    cso_plan_release(plan);
    cso_program_destroy(program);
}

static void compare_condition(golden_case *fixture)
{
    cso_program *program = NULL;
    cso_plan *plan = NULL;
    double actual[BATCH * CONDITION];
    require(fixture->context, cso_model_get_program(fixture->model, CSO_PROGRAM_CONDITION, &program),
            "cso_model_get_program");
    require(fixture->context, cso_program_acquire(program, BATCH, &plan), "cso_program_acquire");
    require(fixture->context, cso_plan_write(plan, 0, golden_tensor(fixture, "input")->data, CSO_F32),
            "cso_plan_write");
    require(fixture->context, cso_plan_forward(plan), "cso_plan_forward");
    require(fixture->context, cso_plan_read(plan, 0, actual, CSO_F64), "cso_plan_read");
    compare(fixture, "condition", actual, BATCH * CONDITION, FORWARD_TOLERANCE);
    cso_plan_release(plan);
}

static void compare_aggregation(const golden_case *fixture, const double *logits, carso_aggregation how,
                                const char *name)
{
    double probability[BATCH * CLASSES], scratch[CSO_AGGREGATE_SCRATCH(CLASSES)];
    for (int i = 0; i < BATCH; i++) {
        double *const row = &probability[i * CLASSES];
        cso_aggregate(how, &logits[i * CLASSES], DRAWS, BATCH * CLASSES, CLASSES, row, NULL, scratch);
        for (int j = 0; j < CLASSES; j++)
            row[j] = exp(row[j]);
    }
    compare(fixture, name, probability, BATCH * CLASSES, FORWARD_TOLERANCE);
}

START_TEST(test_forward)
{
    golden_case fixture;
    if (!set_up(&fixture, _i))
        return;
    static const uint64_t image_index[BATCH] = {0, 1};
    double logits[DRAWS * BATCH * CLASSES];
    const size_t pixels = DRAWS * BATCH * fixture.image_size;
    double *latents = to_double(golden_tensor(&fixture, "latent"));
    double *images = to_double(golden_tensor(&fixture, "input"));
    double *reconstructions = numbers(pixels);
    compare_taps(&fixture);
    compare_condition(&fixture);

    cso_run run = {
        .images = images, .element = CSO_F64, .count = BATCH, .draws = 1, .image_index = image_index, .logits = logits};
    require(fixture.context, cso_run_classifier(fixture.model, &run), "cso_run_classifier");
    compare(&fixture, "classifier_logits", logits, BATCH * CLASSES, FORWARD_TOLERANCE);

    run.draws = DRAWS;
    run.latents = latents;
    run.reconstructions = reconstructions;
    require(fixture.context, cso_run_defence(fixture.model, &run), "cso_run_defence");
    compare(&fixture, "reconstructions", reconstructions, pixels, FORWARD_TOLERANCE);
    compare(&fixture, "sample_logits", logits, DRAWS * BATCH * CLASSES, FORWARD_TOLERANCE);
    compare_aggregation(&fixture, logits, CARSO_AGGREGATE_CARSO, "probabilities");
    compare_aggregation(&fixture, logits, CARSO_AGGREGATE_LOGIT, "probabilities_logit");
    compare_aggregation(&fixture, logits, CARSO_AGGREGATE_PROBABILITY, "probabilities_probability");

    memset(reconstructions, 0, pixels * sizeof *reconstructions);
    run.logits = NULL;
    require(fixture.context, cso_run_purify(fixture.model, &run), "cso_run_purify");
    compare(&fixture, "reconstructions", reconstructions, pixels, FORWARD_TOLERANCE);
    free(reconstructions);
    free(images);
    free(latents);
    tear_down(&fixture);
}
END_TEST

START_TEST(test_input_gradients)
{
    golden_case fixture;
    if (!set_up(&fixture, _i))
        return;
    static const uint64_t image_index[BATCH] = {0, 1};
    double *latents = to_double(golden_tensor(&fixture, "latent"));
    double *images = to_double(golden_tensor(&fixture, "input"));
    double *gradient = numbers(BATCH * fixture.image_size);
    cso_loss_request request = {.loss = CARSO_LOSS_CROSS_ENTROPY, .labels = fixture.labels, .context = fixture.context};
    cso_run run = {.images = images,
                   .element = CSO_F64,
                   .count = BATCH,
                   .draws = 1,
                   .image_index = image_index,
                   .function = cso_loss_function,
                   .user = &request,
                   .gradient = gradient};
    require(fixture.context, cso_run_classifier(fixture.model, &run), "cso_run_classifier");
    compare(&fixture, "classifier_input_gradient", gradient, BATCH * fixture.image_size, GRADIENT_TOLERANCE);

    run.draws = DRAWS;
    run.latents = latents;
    request.loss = CARSO_LOSS_PROBABILITY_CROSS_ENTROPY;
    require(fixture.context, cso_run_defence(fixture.model, &run), "cso_run_defence");
    compare(&fixture, "robust_input_gradient_probability", gradient, BATCH * fixture.image_size, GRADIENT_TOLERANCE);
    free(gradient);
    free(images);
    free(latents);
    tear_down(&fixture);
}
END_TEST

static int compare_parameter_gradients(const golden_case *fixture, const cso_graph *graph)
{
    int compared = 0;
    for (int i = 0; i < graph->parameter_count; i++) {
        const cso_named_parameter *named = &graph->parameter[i];
        char name[160];
        snprintf(name, sizeof name, "grad.%s", named->name);
        if (strstr(name, ".running_") != NULL)
            continue;
        double *gradient = numbers(named->parameter->count);
        require(fixture->context, cso_parameter_read_gradient_double(named->parameter, gradient), name);
        compare(fixture, name, gradient, named->parameter->count, GRADIENT_TOLERANCE);
        free(gradient);
        compared++;
    }
    return compared;
}

static int golden_gradients(const golden_case *fixture)
{
    int count = 0;
    for (size_t i = 0; i < cso_safetensors_count(fixture->golden); i++)
        count += strncmp(cso_safetensors_at(fixture->golden, i)->name, "grad.", 5) == 0;
    return count;
}

START_TEST(test_training_step)
{
    golden_case fixture;
    if (!set_up(&fixture, _i))
        return;
    const size_t pixels = BATCH * fixture.image_size;
    const float *images = golden_tensor(&fixture, "input")->data;
    double *noise = to_double(golden_tensor(&fixture, "train_epsilon"));
    double *reconstruction = numbers(pixels);
    double mean[BATCH * LATENT], log_variance[BATCH * LATENT];
    const cso_purifier_batch batch = {
        .count = BATCH, .images = images, .targets = images, .noise = noise, .beta = 0.7, .scale = 1.0};
    cso_purifier_losses losses = {.mean = mean, .log_variance = log_variance, .pre_sigmoid = reconstruction};
    cso_purifier_network *network = NULL;
    require(fixture.context, cso_purifier_network_create(fixture.model, &network), "cso_purifier_network_create");
    require(fixture.context, cso_purifier_step(network, &batch, &losses), "cso_purifier_step");

    compare(&fixture, "train_mean", mean, BATCH * LATENT, GRADIENT_TOLERANCE);
    compare(&fixture, "train_logvar", log_variance, BATCH * LATENT, GRADIENT_TOLERANCE);
    for (size_t i = 0; i < pixels; i++)
        reconstruction[i] = 1.0 / (1.0 + exp(-reconstruction[i]));
    compare(&fixture, "train_reconstruction", reconstruction, pixels, GRADIENT_TOLERANCE);
    const double all[3] = {losses.total, losses.reconstruction, losses.divergence};
    compare(&fixture, "train_loss", all, 3, GRADIENT_TOLERANCE);
    const cso_tensor *golden = golden_tensor(&fixture, "train_loss");
    for (int i = 0; i < 3; i++) {
        const double expected = (double)((const float *)golden->data)[i];
        ck_assert_double_le(fabs(all[i] - expected), GRADIENT_TOLERANCE * fabs(expected));
    }
    const int compared = compare_parameter_gradients(&fixture, network->condition) +
                         compare_parameter_gradients(&fixture, network->encoder) +
                         compare_parameter_gradients(&fixture, network->decoder);
    ck_assert_int_eq(compared, golden_gradients(&fixture));
    cso_purifier_network_destroy(network);
    free(reconstruction);
    free(noise);
    tear_down(&fixture);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    folder = argv[1];
    const int runs = (int)carso_backend_count() * SIZES;
    Suite *suite = suite_create("golden");
    TCase *tcase = tcase_create("golden");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, test_forward, 0, runs);
    tcase_add_loop_test(tcase, test_input_gradients, 0, runs);
    tcase_add_loop_test(tcase, test_training_step, 0, runs);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
