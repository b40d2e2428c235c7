/* SPDX-License-Identifier: BSD-2-Clause */
/* carso bench: speed and memory of a model. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bundled.h"
#include "commands.h"
#include "session.h"
#include "text_table.h"

typedef struct bench_settings {
    common_settings common;
    int64_t batch, draws, repeats, train_batch;
} bench_settings;

static const option_entry bench_options[] = {
    {"batch", 'b', OPTION_INTEGER, "N", offsetof(bench_settings, batch), 1, 65536, NULL, "Images in a call."},
    {"draws", 'N', OPTION_INTEGER, "N", offsetof(bench_settings, draws), 1, 65536, NULL, "Reconstructions of an image."},
    {"train-batch", 0, OPTION_INTEGER, "N", offsetof(bench_settings, train_batch), 4, 65536, NULL,
     "Images in a step of training the purifier."},
    {"repeats", 'r', OPTION_INTEGER, "N", offsetof(bench_settings, repeats), 1, 10000, NULL,
     "Timed runs of each kind, after one that is not timed; the kinds take turns, and medians are reported."},
    COMMON_OPTIONS(bench_settings, common)};

static void bench_defaults(void *settings)
{
    bench_settings *own = settings;
    common_defaults(&own->common);
    own->batch = 64;
    own->draws = 8;
    own->repeats = 7;
    own->train_batch = 64;
}

enum { KIND_PREDICT, KIND_ROBUST, KIND_CLASSIFIER_GRADIENT, KIND_DEFENCE_GRADIENT, KIND_TRAIN_STEP, KIND_COUNT };

static const char *const kind_names[KIND_COUNT] = {"predict", "predict_robust", "input_gradient_classifier", "input_gradient_defence",
                                                   "train_step"};

typedef struct bench_state {
    const bench_settings *settings;
    carso_context *context;
    carso_model *model;
    carso_trainer *trainer; /* NULL: the model has no purifier with an encoder */
    carso_model_info info;
    float *pixels;
    float *gradient;
    int32_t *labels;
} bench_state;

static carso_images describe(const bench_state *state, int64_t count)
{
    carso_images images;
    carso_images_init(&images, sizeof images);
    images.data = state->pixels;
    images.count = (uint64_t)count;
    images.width = state->info.image_width;
    images.height = state->info.image_height;
    images.type = CARSO_PIXEL_FLOAT32;
    images.layout = CARSO_LAYOUT_CHW;
    images.order = state->info.channels == 1 ? CARSO_ORDER_GRAY : CARSO_ORDER_RGB;
    return images;
}

static carso_status run_predict(const bench_state *state, bool robust)
{
    carso_images images = describe(state, state->settings->batch);
    carso_predict_options options;
    carso_prediction *prediction = NULL;
    carso_predict_options_init(&options, sizeof options);
    options.draws = (int32_t)state->settings->draws;
    carso_status status = robust ? carso_predict_robust(state->model, &images, &options, &prediction)
                                 : carso_predict(state->model, &images, &options, &prediction);
    carso_prediction_destroy(prediction);
    return status;
}

static carso_status run_gradient(const bench_state *state, carso_objective objective)
{
    carso_images images = describe(state, state->settings->batch);
    carso_gradient_options options;
    carso_gradient_options_init(&options, sizeof options);
    options.objective = objective;
    options.draws = (int32_t)state->settings->draws;
    return carso_gradient(state->model, &images, state->labels, &options, state->gradient, NULL, NULL);
}

static bool applies(const bench_state *state, int kind)
{
    if (kind == KIND_TRAIN_STEP) {
        return state->trainer != NULL;
    }
    return state->info.has_purifier || (kind != KIND_ROBUST && kind != KIND_DEFENCE_GRADIENT);
}

static carso_status run_kind(const bench_state *state, int kind)
{
    carso_images images = describe(state, state->settings->train_batch);
    switch (kind) {
    case KIND_PREDICT:
        return run_predict(state, false);
    case KIND_ROBUST:
        return run_predict(state, true);
    case KIND_CLASSIFIER_GRADIENT:
        return run_gradient(state, CARSO_OBJECTIVE_CLASSIFIER);
    case KIND_DEFENCE_GRADIENT:
        return run_gradient(state, CARSO_OBJECTIVE_DEFENCE);
    default:
        return carso_train_step(state->trainer, &images, state->labels, NULL);
    }
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double peak_memory_mib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

static carso_memory memory_of(const carso_context *context)
{
    carso_memory memory = {.struct_size = sizeof memory};
    carso_context_memory(context, &memory);
    return memory;
}

static json_t *memory_json(const carso_memory *memory)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f}", "mapped_weights_mib", mib(memory->mapped_weights), "own_weights_mib", mib(memory->own_weights),
                     "packed_weights_mib", mib(memory->packed_weights), "transformed_weights_mib", mib(memory->transformed_weights), "buffers_mib",
                     mib(memory->most_buffers));
}

static void memory_print(const carso_memory *memory)
{
    printf("\nweights: %.1f MiB in the mapped file, %.1f MiB of their own, %.1f MiB packed, %.1f MiB transformed\n"
           "working buffers: %.1f MiB at most\npeak memory of the process: %.1f MiB\n",
           mib(memory->mapped_weights), mib(memory->own_weights), mib(memory->packed_weights),
           mib(memory->transformed_weights), mib(memory->most_buffers), peak_memory_mib());
}

static void fill_images(bench_state *state, int64_t count)
{
    uint32_t word = 1;
    int64_t size = (int64_t)state->info.channels * state->info.image_height * state->info.image_width;
    for (int64_t i = 0; i < count * size; i++) {
        word = word * 1664525u + 1013904223u;
        state->pixels[i] = (float)(word >> 8) / (float)(1 << 24);
    }
    for (int64_t i = 0; i < count; i++) {
        state->labels[i] = (int32_t)(i % state->info.classes);
    }
}

static exit_status measure(bench_state *state, double *median)
{
    int64_t repeats = state->settings->repeats;
    double *seconds = calloc((size_t)(KIND_COUNT * repeats), sizeof *seconds);
    carso_status status = seconds ? CARSO_OK : CARSO_ERROR_OUT_OF_MEMORY;
    for (int64_t round = -1; round < repeats && status == CARSO_OK; round++) {
        for (int kind = 0; kind < KIND_COUNT && status == CARSO_OK; kind++) {
            if (!applies(state, kind)) {
                continue;
            }
            double started = session_seconds();
            status = run_kind(state, kind);
            if (round >= 0) {
                seconds[kind * repeats + round] = session_seconds() - started;
            }
            if (session_interrupted()) {
                status = CARSO_CANCELLED;
            }
        }
    }
    for (int kind = 0; kind < KIND_COUNT && status == CARSO_OK; kind++) {
        qsort(seconds + kind * repeats, (size_t)repeats, sizeof *seconds, compare);
        median[kind] = seconds[kind * repeats + repeats / 2];
    }
    free(seconds);
    return status == CARSO_OK ? STATUS_OK : session_failure(state->context, status, "cannot measure");
}

static exit_status report(const bench_state *state, const double *median, const char *path)
{
    static const char *const headings[] = {"", "batch", "images/s", "milliseconds per call"};
    const bench_settings *own = state->settings;
    const carso_memory memory = memory_of(state->context);
    if (own->common.json) {
        json_t *object =
            json_pack("{s:o, s:s, s:i, s:I, s:I, s:I, s:f}", "model", session_json_text(path), "backend",
                      carso_context_backend(state->context), "threads", (int)carso_context_threads(state->context),
                      "batch", (json_int_t)own->batch, "draws", (json_int_t)own->draws, "train_batch",
                      (json_int_t)own->train_batch, "peak_memory_mib", peak_memory_mib());
        json_object_set_new(object, "memory", memory_json(&memory));
        for (int kind = 0; kind < KIND_COUNT; kind++) {
            if (applies(state, kind)) {
                double images = (double)(kind == KIND_TRAIN_STEP ? own->train_batch : own->batch);
                json_object_set_new(object, kind_names[kind],
                                    json_pack("{s:f, s:f}", "images_per_second", images / median[kind], "milliseconds", 1e3 * median[kind]));
            }
        }
        return session_print_json(object);
    }
    printf("%s on %s, %d threads, %lld draws, medians of %lld\n\n", path, carso_context_backend(state->context),
           (int)carso_context_threads(state->context), (long long)own->draws, (long long)own->repeats);
    text_table *table = text_table_create(4, headings);
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        if (applies(state, kind)) {
            int64_t images = kind == KIND_TRAIN_STEP ? own->train_batch : own->batch;
            text_table_cell(table, "%s", kind_names[kind]);
            text_table_cell(table, "%lld", (long long)images);
            text_table_cell(table, "%.1f", (double)images / median[kind]);
            text_table_cell(table, "%.2f", 1e3 * median[kind]);
        }
    }
    text_table_print(table, stdout);
    text_table_destroy(table);
    memory_print(&memory);
    return STATUS_OK;
}

static exit_status prepare(bench_state *state, const char *path)
{
    carso_status status = carso_model_load(state->context, path, &state->model);
    if (status != CARSO_OK) {
        return session_failure(state->context, status, "cannot load %s", path);
    }
    carso_model_get_info(state->model, &state->info);
    carso_purifier_training_options options;
    carso_purifier_training_options_init(&options, sizeof options);
    options.steps_per_epoch = 1000;
    if (state->info.has_purifier) {
        status = carso_trainer_create_purifier(state->model, &options, &state->trainer);
        if (status != CARSO_OK && status != CARSO_ERROR_UNSUPPORTED) {
            return session_failure(state->context, status, "cannot start training");
        }
    }
    int64_t count =
        state->settings->batch > state->settings->train_batch ? state->settings->batch : state->settings->train_batch;
    size_t size = (size_t)count * (size_t)state->info.channels * (size_t)state->info.image_height *
                  (size_t)state->info.image_width;
    state->pixels = malloc(size * sizeof *state->pixels);
    state->gradient = malloc(size * sizeof *state->gradient);
    state->labels = malloc((size_t)count * sizeof *state->labels);
    if (!state->pixels || !state->gradient || !state->labels) {
        complain("out of memory");
        return STATUS_FAILURE;
    }
    fill_images(state, count);
    return STATUS_OK;
}

static exit_status bench_run(void *settings, int argument_count, char **arguments)
{
    bench_state state = {.settings = settings, .info = {.struct_size = sizeof state.info}};
    char bundled[4096];
    double median[KIND_COUNT] = {0};
    const char *path = argument_count > 0 ? arguments[0] : bundled;
    if (argument_count == 0 && !bundled_path(BUNDLED_MODEL, bundled, sizeof bundled)) {
        return STATUS_FAILURE;
    }
    state.context = session_open(&state.settings->common);
    if (!state.context) {
        return STATUS_FAILURE;
    }
    exit_status status = prepare(&state, path);
    if (status == STATUS_OK) {
        status = measure(&state, median);
    }
    if (status == STATUS_OK) {
        status = report(&state, median, path);
    }
    free(state.pixels);
    free(state.gradient);
    free(state.labels);
    carso_trainer_destroy(state.trainer);
    carso_model_destroy(state.model);
    carso_context_destroy(state.context);
    return status;
}

static const char *const bench_examples[] = {"carso bench --json", "The bundled model.", "carso bench model.safetensors --batch 8 --threads 1",
                                             "One thread, small batches.", NULL};

const command command_bench = {
    .name = "bench",
    .arguments = "[MODEL]",
    .summary = "measure speed and memory",
    .description = "Times prediction, robust prediction, the gradient to the image of the classifier and of the defence, and a step of training "
                   "the purifier with its attacks, on images of noise; prints images per second, and the memory taken by weights, by their packed and "
                   "transformed copies, by working buffers, and by the process at its peak.",
    .examples = bench_examples,
    .options = bench_options,
    .settings_size = sizeof(bench_settings),
    .defaults = bench_defaults,
    .run = bench_run,
    .least_arguments = 0,
    .most_arguments = 1};
