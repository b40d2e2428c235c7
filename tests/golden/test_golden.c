/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * WideResNet-10-1 and its purifier at 32x32 and 64x64 against the tensors that make.py took from PyTorch, on every
 * backend of the build.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attack/losses.h"
#include "golden_file.h"
#include "model/aggregation.h"
#include "named_weights.h"
#include "train/purifier_step.h"

#define SIZES 2
#define BATCH 3
#define DRAWS 2
#define CLASSES 10
#define LATENT 8
#define CONDITION 24

/*
 * Relative to the largest element of a tensor, and of root mean squares. PyTorch computed in double, of which float32
 * is stored. Some ten times what is measured; of a training step in float32 twice: BatchNorm over three images cancels.
 */
typedef struct tolerance {
    double forward, input_gradient, training;
} tolerance;

static const tolerance of_float = {1e-5, 2e-5, 1e-3}, of_double = {6e-7, 6e-7, 6e-7};

static const int sizes[SIZES] = {32, 64};
static const char *folder;

typedef struct golden_case {
    carso_context *context;
    golden_file golden;
    named_weights weights;
    carso_model *model;
    tolerance allowed;
    size_t image_size; /* elements */
    int32_t labels[BATCH];
} golden_case;

static void require(const golden_case *fixture, carso_status status, const char *what)
{
    golden_require(fixture->context, status, what);
}

static void build(golden_case *fixture, int size)
{
    static const float mean[3] = {0.4914f, 0.4822f, 0.4465f}, deviation[3] = {0.2471f, 0.2435f, 0.2616f};
    carso_model_options options;
    carso_purifier_options purifier_options;
    carso_model_options_init(&options, sizeof options);
    options.architecture = CARSO_WIDE_RESNET;
    options.depth = 10;
    options.width = 1;
    options.image_height = options.image_width = size;
    options.classes = CLASSES;
    memcpy(options.mean, mean, sizeof mean);
    memcpy(options.deviation, deviation, sizeof deviation);
    carso_purifier_options_init(&purifier_options, sizeof purifier_options);
    purifier_options.condition_size = CONDITION;
    purifier_options.latent_size = LATENT;
    fixture->weights = (named_weights){.context = fixture->context};
    require(fixture, named_weights_model(&fixture->weights, &options, &purifier_options, &fixture->model),
            "named_weights_model");
}

/* false: the backend does not run on this machine. */
static bool set_up(golden_case *fixture, int number)
{
    const int size = sizes[number % SIZES];
    carso_context_options options;
    char path[4096];
    carso_context_options_init(&options, sizeof options);
    options.backend = carso_backend_name((size_t)(number / SIZES));
    options.threads = 2;
    memset(fixture, 0, sizeof *fixture);
    fixture->image_size = 3 * (size_t)size * (size_t)size;
    const carso_status status = carso_context_create(&options, &fixture->context);
    if (status == CARSO_ERROR_UNSUPPORTED) {
        return false;
    }
    golden_require(NULL, status, options.backend);
    fixture->allowed = strcmp(options.backend, "reference-double") == 0 ? of_double : of_float;
    snprintf(path, sizeof path, "%s/wrn_10_1_%d.safetensors", folder, size);
    golden_open(fixture->context, path, &fixture->golden);
    golden_labels(&fixture->golden, BATCH, fixture->labels);
    build(fixture, size);
    return true;
}

static void tear_down(golden_case *fixture)
{
    carso_model_destroy(fixture->model);
    named_weights_free(&fixture->weights);
    golden_close(&fixture->golden);
    carso_context_destroy(fixture->context);
}

static void compare(const golden_case *fixture, const char *name, const double *actual, size_t count, double within)
{
    golden_compare(&fixture->golden, name, actual, count, within, within);
}

static double *numbers(size_t count)
{
    double *array = calloc(count, sizeof *array);
    ck_assert_ptr_nonnull(array);
    return array;
}

static double *images_of(const golden_case *fixture)
{
    return golden_doubles(&fixture->golden, "input", BATCH * fixture->image_size);
}

static double *latents_of(const golden_case *fixture)
{
    return golden_doubles(&fixture->golden, "latent", DRAWS * BATCH * LATENT);
}

/* That they have the names and shapes of PyTorch's state dictionary. */
static void check_parameters(const cso_graph *graph, const json_t *shapes)
{
    for (int i = 0; i < graph->parameter_count; i++) {
        const cso_named_parameter *named = &graph->parameter[i];
        const json_t *shape = json_object_get(shapes, named->name);
        ck_assert_msg(shape != NULL, "the state dictionary has no %s", named->name);
        ck_assert_int_eq((int)json_array_size(shape), named->parameter->rank);
        for (int j = 0; j < named->parameter->rank; j++) {
            ck_assert_msg(json_integer_value(json_array_get(shape, (size_t)j)) == named->parameter->dimension[j],
                          "%s differs in shape", named->name);
        }
    }
}

/* What is compared below would differ in everything. */
START_TEST(test_weights)
{
    golden_case fixture;
    if (!set_up(&fixture, _i)) {
        return;
    }
    const cso_graph *classifier = fixture.model->classifier;
    const cso_purifier *purifier = fixture.model->purifier;
    json_t *shapes = golden_json(&fixture.golden, "classifier");
    ck_assert_int_eq((int)json_object_size(shapes), classifier->parameter_count);
    check_parameters(classifier, shapes);
    json_decref(shapes);
    shapes = golden_json(&fixture.golden, "purifier");
    ck_assert_int_eq((int)json_object_size(shapes), purifier->condition->parameter_count +
                                                        purifier->encoder->parameter_count +
                                                        purifier->decoder->parameter_count);
    check_parameters(purifier->condition, shapes);
    check_parameters(purifier->encoder, shapes);
    check_parameters(purifier->decoder, shapes);
    json_decref(shapes);
    ck_assert_uint_eq(fixture.weights.checksum, strtoull(golden_metadata(&fixture.golden, "weights"), NULL, 10));
    tear_down(&fixture);
}
END_TEST

static void compare_taps(golden_case *fixture)
{
    const carso_model *model = fixture->model;
    const cso_graph *graph = model->classifier;
    cso_program *program = NULL;
    cso_plan *plan = NULL;
    const cso_program_request request = {.output = model->tap, .output_count = model->tap_count};
    require(fixture, cso_program_create(graph, &request, &program), "cso_program_create");
    require(fixture, cso_program_acquire(program, BATCH, &plan), "cso_program_acquire");
    require(fixture, cso_plan_write(plan, 0, golden_tensor(&fixture->golden, "input")->data, CSO_F32),
            "cso_plan_write");
    require(fixture, cso_plan_forward(plan), "cso_plan_forward");
    ck_assert_int_eq(model->tap_count, 8);
    for (int i = 0; i < model->tap_count; i++) {
        const cso_value *tap = &graph->value[model->tap[i]];
        const size_t count = BATCH * (size_t)cso_shape_count(&tap->shape);
        double *actual = numbers(count);
        char name[128];
        require(fixture, cso_plan_read(plan, i, actual, CSO_F64), "cso_plan_read");
        snprintf(name, sizeof name, "tap.%s", tap->name);
        compare(fixture, name, actual, count, fixture->allowed.forward);
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
    require(fixture, cso_model_get_program(fixture->model, CSO_PROGRAM_CONDITION, &program),
            "cso_model_get_program");
    require(fixture, cso_program_acquire(program, BATCH, &plan), "cso_program_acquire");
    require(fixture, cso_plan_write(plan, 0, golden_tensor(&fixture->golden, "input")->data, CSO_F32),
            "cso_plan_write");
    require(fixture, cso_plan_forward(plan), "cso_plan_forward");
    require(fixture, cso_plan_read(plan, 0, actual, CSO_F64), "cso_plan_read");
    compare(fixture, "condition", actual, BATCH * CONDITION, fixture->allowed.forward);
    cso_plan_release(plan);
}

static void compare_aggregation(const golden_case *fixture, const double *logits, carso_aggregation how,
                                const char *name)
{
    double probability[BATCH * CLASSES], scratch[CSO_AGGREGATE_SCRATCH(CLASSES)];
    for (int i = 0; i < BATCH; i++) {
        double *const row = &probability[i * CLASSES];
        cso_aggregate(how, &logits[i * CLASSES], DRAWS, BATCH * CLASSES, CLASSES, row, NULL, scratch);
        for (int j = 0; j < CLASSES; j++) {
            row[j] = exp(row[j]);
        }
    }
    compare(fixture, name, probability, BATCH * CLASSES, fixture->allowed.forward);
}

START_TEST(test_forward)
{
    golden_case fixture;
    if (!set_up(&fixture, _i)) {
        return;
    }
    static const uint64_t image_index[BATCH] = {0, 1, 2};
    double logits[DRAWS * BATCH * CLASSES];
    const size_t pixels = DRAWS * BATCH * fixture.image_size;
    double *latents = latents_of(&fixture);
    double *images = images_of(&fixture);
    double *reconstructions = numbers(pixels);
    compare_taps(&fixture);
    compare_condition(&fixture);

    cso_run run = {
        .images = images, .element = CSO_F64, .count = BATCH, .draws = 1, .image_index = image_index, .logits = logits};
    require(&fixture, cso_run_classifier(fixture.model, &run), "cso_run_classifier");
    compare(&fixture, "classifier_logits", logits, BATCH * CLASSES, fixture.allowed.forward);

    run.draws = DRAWS;
    run.latents = latents;
    run.reconstructions = reconstructions;
    require(&fixture, cso_run_defence(fixture.model, &run), "cso_run_defence");
    compare(&fixture, "reconstructions", reconstructions, pixels, fixture.allowed.forward);
    compare(&fixture, "sample_logits", logits, DRAWS * BATCH * CLASSES, fixture.allowed.forward);
    compare_aggregation(&fixture, logits, CARSO_AGGREGATE_CARSO, "probabilities");
    compare_aggregation(&fixture, logits, CARSO_AGGREGATE_LOGIT, "probabilities_logit");
    compare_aggregation(&fixture, logits, CARSO_AGGREGATE_PROBABILITY, "probabilities_probability");

    memset(reconstructions, 0, pixels * sizeof *reconstructions);
    run.logits = NULL;
    require(&fixture, cso_run_purify(fixture.model, &run), "cso_run_purify");
    compare(&fixture, "reconstructions", reconstructions, pixels, fixture.allowed.forward);
    free(reconstructions);
    free(images);
    free(latents);
    tear_down(&fixture);
}
END_TEST

START_TEST(test_input_gradients)
{
    golden_case fixture;
    if (!set_up(&fixture, _i)) {
        return;
    }
    static const uint64_t image_index[BATCH] = {0, 1, 2};
    double *latents = latents_of(&fixture);
    double *images = images_of(&fixture);
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
    require(&fixture, cso_run_classifier(fixture.model, &run), "cso_run_classifier");
    compare(&fixture, "classifier_input_gradient", gradient, BATCH * fixture.image_size,
            fixture.allowed.input_gradient);

    run.draws = DRAWS;
    run.latents = latents;
    request.loss = CARSO_LOSS_PROBABILITY_CROSS_ENTROPY;
    require(&fixture, cso_run_defence(fixture.model, &run), "cso_run_defence");
    compare(&fixture, "robust_input_gradient_probability", gradient, BATCH * fixture.image_size,
            fixture.allowed.input_gradient);
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
        if (strstr(name, ".running_") != NULL) {
            continue;
        }
        double *gradient = numbers(named->parameter->count);
        require(fixture, cso_parameter_read_gradient_double(named->parameter, gradient), name);
        compare(fixture, name, gradient, named->parameter->count, fixture->allowed.training);
        free(gradient);
        compared++;
    }
    return compared;
}

static int golden_gradients(const golden_case *fixture)
{
    int count = 0;
    for (size_t i = 0; i < cso_safetensors_count(fixture->golden.tensors); i++) {
        count += strncmp(cso_safetensors_at(fixture->golden.tensors, i)->name, "grad.", 5) == 0;
    }
    return count;
}

START_TEST(test_training_step)
{
    golden_case fixture;
    if (!set_up(&fixture, _i)) {
        return;
    }
    const size_t pixels = BATCH * fixture.image_size;
    const float *images = golden_tensor(&fixture.golden, "input")->data;
    double *noise = golden_doubles(&fixture.golden, "train_epsilon", BATCH * LATENT);
    double *reconstruction = numbers(pixels);
    double mean[BATCH * LATENT], log_variance[BATCH * LATENT];
    const cso_purifier_batch batch = {
        .count = BATCH, .images = images, .targets = images, .noise = noise, .beta = 0.7, .scale = 1.0};
    cso_purifier_losses losses = {.mean = mean, .log_variance = log_variance, .pre_sigmoid = reconstruction};
    cso_purifier_network *network = NULL;
    require(&fixture, cso_purifier_network_create(fixture.model, &network), "cso_purifier_network_create");
    require(&fixture, cso_purifier_step(network, &batch, &losses), "cso_purifier_step");

    compare(&fixture, "train_mean", mean, BATCH * LATENT, fixture.allowed.training);
    compare(&fixture, "train_logvar", log_variance, BATCH * LATENT, fixture.allowed.training);
    for (size_t i = 0; i < pixels; i++) {
        reconstruction[i] = 1.0 / (1.0 + exp(-reconstruction[i]));
    }
    compare(&fixture, "train_reconstruction", reconstruction, pixels, fixture.allowed.training);
    const double all[3] = {losses.total, losses.reconstruction, losses.divergence};
    compare(&fixture, "train_loss", all, 3, fixture.allowed.training);
    const cso_tensor *golden = golden_tensor(&fixture.golden, "train_loss");
    for (int i = 0; i < 3; i++) {
        const double expected = (double)((const float *)golden->data)[i];
        ck_assert_double_le(fabs(all[i] - expected), fixture.allowed.training * fabs(expected));
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
    tcase_add_loop_test(tcase, test_weights, 0, runs);
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
