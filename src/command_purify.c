/* SPDX-License-Identifier: BSD-2-Clause */
/* carso purify: reconstructions of images, as a picture or as files. */
#include <stdlib.h>

#include "commands.h"
#include "grid.h"
#include "progress.h"
#include "scoring.h"
#include "source.h"

typedef struct purify_settings {
    common_settings common;
    sample_settings samples;
    int64_t draws;
    const char *output;
    const char *folder;
} purify_settings;

static const option_entry purify_options[] = {
    {"draws", 'N', OPTION_INTEGER, "N", offsetof(purify_settings, draws), 1, 65536, NULL, "Reconstructions of an image."},
    {"output", 'o', OPTION_TEXT, "FILE", offsetof(purify_settings, output), 0, 0, NULL,
     "Picture to write: the first images with their first reconstructions, and what the classifier says of each."},
    {"folder", 'f', OPTION_TEXT, "DIR", offsetof(purify_settings, folder), 0, 0, NULL,
     "Existing folder to write every reconstruction into, as IMAGE-DRAW.png."},
    SAMPLE_OPTIONS(purify_settings),
    COMMON_OPTIONS(purify_settings, common)};

static void purify_defaults(void *settings)
{
    purify_settings *own = settings;
    common_defaults(&own->common);
    own->samples = (sample_settings){.split = CARSO_SPLIT_TEST, .count = 10};
    own->draws = 8;
    own->output = "purified.png";
}

/* Images of a data set that are purified and written a batch at a time. */
typedef struct purification {
    const purify_settings *own;
    const carso_model *model;
    const carso_dataset *dataset;
    uint64_t first, count;
    uint64_t done;    /* images */
    uint64_t failed;  /* of these, that cannot be read */
    uint64_t written; /* files */
    progress_bar bar;
} purification;

static int note_progress(const carso_progress *progress, void *user)
{
    purification *state = user;
    progress_update(&state->bar, state->done + progress->done, state->count, "images");
    return session_interrupted();
}

/* Statuses say which of the images could be read. */
static carso_status write_batch(purification *state, const carso_images *images, const int32_t *statuses)
{
    const purify_settings *own = state->own;
    carso_context *context = carso_model_context(state->model);
    carso_predict_options options;
    carso_prediction *purified = NULL;
    const size_t size = (size_t)images->width * (size_t)images->height * (images->order == CARSO_ORDER_GRAY ? 1 : 3);
    carso_predict_options_init(&options, sizeof options);
    options.draws = (int32_t)own->draws;
    options.seed = (uint64_t)own->common.seed;
    options.first_image = state->first + state->done;
    options.progress = note_progress;
    options.progress_user = state;
    carso_status status = carso_purify(state->model, images, &options, &purified);
    for (uint64_t i = 0; i < images->count && status == CARSO_OK; i++) {
        for (uint64_t draw = 0; draw < (uint64_t)own->draws && status == CARSO_OK && statuses[i] == CARSO_OK; draw++) {
            char path[4096];
            carso_images one = *images;
            one.count = 1;
            one.type = CARSO_PIXEL_FLOAT32;
            one.layout = CARSO_LAYOUT_CHW;
            one.data = carso_prediction_reconstructions(purified) + (size_t)(draw * images->count + i) * size;
            snprintf(path, sizeof path, "%s/%llu-%llu.png", own->folder, (unsigned long long)(options.first_image + i),
                     (unsigned long long)draw);
            status = carso_image_write_png(context, path, &one, 0);
            state->written += status == CARSO_OK;
        }
    }
    carso_prediction_destroy(purified);
    return status;
}

/* An image that cannot be read does not stand in the way of the others. */
static void note_failures(purification *state, const carso_read_batch *batch)
{
    for (uint64_t i = 0; i < batch->count; i++) {
        if (batch->statuses[i] != CARSO_OK) {
            progress_finish(&state->bar);
            complain("%s", batch->messages[i]);
            state->failed++;
        }
    }
}

static carso_status open_reader(const purification *state, uint64_t count, carso_reader **out)
{
    carso_reader_options options;
    carso_reader_options_init(&options, sizeof options);
    options.first = state->first;
    options.keep_going = 1;
    return carso_reader_open(state->dataset, NULL, count, &options, out);
}

static exit_status write_all(purification *state)
{
    carso_context *context = carso_model_context(state->model);
    carso_dataset_info info = {.struct_size = sizeof info};
    carso_read_batch batch = {.struct_size = sizeof batch};
    carso_reader *reader;
    carso_images images;
    bool reading = true;
    carso_status status = open_reader(state, state->count, &reader);
    carso_dataset_get_info(state->dataset, &info);
    carso_images_init(&images, sizeof images);
    images.width = info.width;
    images.height = info.height;
    images.order = info.channels == 1 ? CARSO_ORDER_GRAY : CARSO_ORDER_RGB;
    progress_start(&state->bar, "reconstructions", state->own->common.quiet);
    while (status == CARSO_OK && (status = carso_reader_next(reader, &batch)) == CARSO_OK && batch.count > 0) {
        const uint64_t failed = state->failed;
        note_failures(state, &batch);
        reading = false;
        images.data = batch.pixels;
        images.count = batch.count;
        status = state->failed - failed < batch.count ? write_batch(state, &images, batch.statuses) : CARSO_OK;
        reading = status == CARSO_OK;
        state->done += batch.count;
    }
    progress_finish(&state->bar);
    carso_reader_destroy(reader);
    if (status == CARSO_OK) {
        return STATUS_OK;
    }
    return reading ? session_failure(context, status, "cannot read the images")
                   : session_failure(context, status, "cannot write into %s", state->own->folder);
}

/* The first images that can be read and follow each other, of those that the picture has room for; counts the others. */
static exit_status find_shown(purification *state, uint64_t *out_first, uint64_t *out_count)
{
    const uint64_t rows = state->count < GRID_ROWS ? state->count : GRID_ROWS;
    carso_read_batch batch = {.struct_size = sizeof batch};
    carso_reader *reader;
    uint64_t place = 0;
    bool ended = false;
    *out_first = *out_count = 0;
    carso_status status = open_reader(state, rows, &reader);
    while (status == CARSO_OK && (status = carso_reader_next(reader, &batch)) == CARSO_OK && batch.count > 0) {
        for (uint64_t i = 0; i < batch.count; i++, place++) {
            const bool readable = batch.statuses[i] == CARSO_OK;
            ended = ended || (!readable && *out_count > 0);
            if (readable && !ended) {
                *out_first = *out_count == 0 ? place : *out_first;
                *out_count += 1;
            }
        }
        if (!state->own->folder) {
            note_failures(state, &batch);
        }
    }
    carso_reader_destroy(reader);
    return status == CARSO_OK ? STATUS_OK
                              : session_failure(carso_model_context(state->model), status, "cannot read the images");
}

/* The picture, and where asked the files. */
static exit_status purify(purification *state)
{
    const purify_settings *own = state->own;
    carso_context *context = carso_model_context(state->model);
    samples shown = {0};
    uint64_t first, rows;
    exit_status status = find_shown(state, &first, &rows);
    if (status == STATUS_OK && rows > 0) {
        status = samples_from_dataset(context, state->dataset, state->first + first, rows, &shown);
    }
    if (status == STATUS_OK && own->folder) {
        status = write_all(state);
    }
    if (status == STATUS_OK && rows > 0) {
        status =
            grid_write(state->model, &shown, NULL, 0, (int32_t)own->draws, (uint64_t)own->common.seed, own->output);
    }
    if (status == STATUS_OK && rows == 0) {
        complain("%s is not written: none of the first %d images can be read", own->output, GRID_ROWS);
    }
    samples_release(&shown);
    return status;
}

static exit_status report(const purification *state)
{
    const purify_settings *own = state->own;
    if (own->common.json) {
        return session_print_json(json_pack("{s:I, s:I, s:I, s:o, s:I}", "count", (json_int_t)state->count, "failed",
                                            (json_int_t)state->failed, "draws", (json_int_t)own->draws, "picture",
                                            session_json_text(own->output), "files", (json_int_t)state->written));
    }
    printf("%s: %llu images, %lld reconstructions each\n", own->output, (unsigned long long)state->count, (long long)own->draws);
    if (own->folder) {
        printf("%s: %llu files\n", own->folder, (unsigned long long)state->written);
    }
    return STATUS_OK;
}

static exit_status purify_inputs(const purify_settings *own, carso_context *context, const carso_model *model,
                                 int inputs, char **input)
{
    carso_model_info info = {.struct_size = sizeof info};
    carso_dataset *dataset;
    carso_model_get_info(model, &info);
    if (!info.has_purifier) {
        complain("the model has no purifier; 'carso train' makes one");
        return STATUS_FAILURE;
    }
    exit_status status =
        source_open(context, &info, (carso_split)own->samples.split, inputs, (const char *const *)input, &dataset);
    if (status != STATUS_OK) {
        return status;
    }
    /* Files that are named are meant, all of them. */
    bool named = inputs > 1 || source_is_image(input[0]);
    purification state = {.own = own, .model = model, .dataset = dataset, .first = named ? 0 : (uint64_t)own->samples.first};
    state.count = source_count(dataset, input[0], state.first, named ? 0 : (uint64_t)own->samples.count);
    status = state.count == 0 ? STATUS_FAILURE : purify(&state);
    if (status == STATUS_OK) {
        status = report(&state);
    }
    if (status == STATUS_OK && state.failed > 0) {
        complain("%llu of %llu images cannot be read", (unsigned long long)state.failed, (unsigned long long)state.count);
        status = STATUS_FAILURE;
    }
    carso_dataset_destroy(dataset);
    return status;
}

static exit_status purify_run(void *settings, int argument_count, char **arguments)
{
    const purify_settings *own = settings;
    carso_model *model = NULL;
    if (!session_can_write(own->output, false) || (own->folder && !session_can_write(own->folder, true))) {
        return STATUS_FAILURE;
    }
    carso_context *context = session_open(&own->common);
    if (!context) {
        return STATUS_FAILURE;
    }
    carso_status loaded = carso_model_load(context, arguments[0], &model);
    exit_status status = loaded == CARSO_OK ? purify_inputs(own, context, model, argument_count - 1, arguments + 1)
                                            : session_failure(context, loaded, "cannot load %s", arguments[0]);
    carso_model_destroy(model);
    carso_context_destroy(context);
    return status;
}

static const char *const purify_examples[] = {"carso purify model.safetensors shoe.png -o shoe-purified.png",
                                              "One image and its reconstructions.", NULL};

const command command_purify = {
    .name = "purify",
    .arguments = "MODEL IMAGE...|FOLDER|DATASET",
    .summary = "draw clean reconstructions of images",
    .description = "Draws reconstructions of images by the purifier, which sees only the classifier's internal representation of them. Writes a "
                   "picture of the first ones and, where asked, all of them as files.",
    .examples = purify_examples,
    .options = purify_options,
    .settings_size = sizeof(purify_settings),
    .defaults = purify_defaults,
    .run = purify_run,
    .least_arguments = 2,
    .most_arguments = -1};
