/* SPDX-License-Identifier: BSD-2-Clause */
#include "stream.h"

#include <errno.h>
#include <string.h>

#include "progress.h"
#include "stream_writer.h"

typedef struct stream {
    const stream_task *task;
    carso_context *context;
    stream_writer *writer;
    progress_bar bar;
    uint64_t position; /* of the batch under way, from task->first on */
    bool told;         /* that an interrupt waits for the batch */
    exit_status status;
} stream;

/* A batch is finished in spite of an interrupt, so that the lines end where a batch does. */
static int note_progress(const carso_progress *progress, void *user)
{
    stream *state = user;
    progress_update(&state->bar, state->position + progress->done, state->task->count, "images");
    if (session_interrupted() && !state->told) {
        progress_finish(&state->bar);
        complain("interrupted: the images under way are finished first; interrupt again to leave them");
        state->told = true;
    }
    return 0;
}

static carso_status predict(stream *state, const carso_images *images, stream_results *results)
{
    const stream_task *task = state->task;
    carso_predict_options options = task->options;
    options.first_image = results->index;
    options.progress = note_progress;
    options.progress_user = state;
    carso_status status = carso_predict(task->model, images, &options, &results->plain);
    if (status == CARSO_OK && task->robust) {
        status = carso_predict_robust(task->model, images, &options, &results->robust);
    }
    return status;
}

/* Copies what is known of count images of a batch from place on. */
static bool describe(const carso_read_batch *batch, uint64_t index, uint64_t place, uint64_t count, stream_results *out)
{
    bool complete = stream_results_create(index, count, out);
    for (uint64_t i = 0; i < count && complete; i++) {
        out->labels[i] = batch->labels[place + i];
        if (batch->statuses[place + i] != CARSO_OK) {
            out->errors[i] = strdup(batch->messages[place + i]);
            complete = out->errors[i] != NULL;
        }
    }
    if (!complete) {
        stream_results_release(out);
        complain("out of memory");
    }
    return complete;
}

static bool all_failed(const stream_results *results)
{
    for (uint64_t i = 0; i < results->count; i++) {
        if (!results->errors[i]) {
            return false;
        }
    }
    return true;
}

static exit_status give(stream *state, stream_results *results)
{
    return stream_writer_give(state->writer, results) ? STATUS_OK : STATUS_FAILURE;
}

/* The images of a batch with something in it that is not finite, one by one. */
static exit_status predict_singly(stream *state, const carso_read_batch *batch, carso_images images, uint64_t index,
                                  uint64_t skip)
{
    const size_t size = (size_t)images.width * (size_t)images.height * (images.order == CARSO_ORDER_GRAY ? 1 : 3);
    exit_status result = STATUS_OK;
    images.count = 1;
    for (uint64_t i = skip; i < batch->count && result == STATUS_OK; i++) {
        stream_results results;
        if (!describe(batch, index + i, i, 1, &results)) {
            return STATUS_FAILURE;
        }
        images.data = batch->pixels + (size_t)i * size;
        carso_status status = results.errors[0] ? CARSO_OK : predict(state, &images, &results);
        if (status == CARSO_ERROR_NON_FINITE) {
            char message[1024];
            carso_context_message(state->context, message, sizeof message);
            results.errors[0] = strdup(message);
            results.non_finite = true;
        }
        if (status != CARSO_OK && !results.errors[0]) {
            stream_results_release(&results);
            return session_failure(state->context, status, "cannot predict");
        }
        result = give(state, &results);
    }
    return result;
}

static exit_status predict_batch(stream *state, const carso_read_batch *batch, carso_images images, uint64_t index,
                                 uint64_t skip)
{
    stream_results results;
    if (!describe(batch, index, 0, batch->count, &results)) {
        return STATUS_FAILURE;
    }
    results.skip = skip;
    images.data = batch->pixels;
    images.count = batch->count;
    carso_status status = all_failed(&results) ? CARSO_OK : predict(state, &images, &results);
    if (status == CARSO_OK) {
        return give(state, &results);
    }
    stream_results_release(&results);
    return status == CARSO_ERROR_NON_FINITE ? predict_singly(state, batch, images, index, skip)
                                            : session_failure(state->context, status, "cannot predict");
}

/* skip: images of the first batch whose lines are there. */
static exit_status predict_all(stream *state, carso_reader *reader, uint64_t skip)
{
    const stream_task *task = state->task;
    carso_read_batch batch = {.struct_size = sizeof batch};
    carso_model_info info = {.struct_size = sizeof info};
    carso_images images;
    exit_status status = STATUS_OK;
    carso_model_get_info(task->model, &info);
    carso_images_init(&images, sizeof images);
    images.width = info.image_width;
    images.height = info.image_height;
    images.order = info.channels == 1 ? CARSO_ORDER_GRAY : CARSO_ORDER_RGB;
    while (status == STATUS_OK) {
        carso_status read = carso_reader_next(reader, &batch);
        if (read != CARSO_OK) {
            return session_failure(state->context, read, "cannot read the images");
        }
        if (batch.count == 0) {
            return STATUS_OK;
        }
        status = predict_batch(state, &batch, images, task->first + state->position, skip);
        skip = 0;
        state->position += batch.count;
        progress_update(&state->bar, state->position, task->count, "images");
        if (status == STATUS_OK && session_interrupted()) {
            status = STATUS_INTERRUPTED;
        }
    }
    return status;
}

/* A line_judge; counts what the lines of an earlier run say. */
typedef struct earlier {
    const stream_task *task;
    stream_summary *summary;
} earlier;

static bool labels_match(const json_t *line, const char *who)
{
    return json_integer_value(json_object_get(json_object_get(line, who), "label")) ==
           json_integer_value(json_object_get(line, "true"));
}

static bool judge(const json_t *line, uint64_t number, void *user)
{
    const earlier *state = user;
    const char *run = json_string_value(json_object_get(line, "run"));
    const json_t *index = json_object_get(line, "index");
    if (!run || strcmp(run, state->task->run) != 0) {
        size_t part = run && strlen(run) == strlen(state->task->run) ? RUN_PART + 1 : 0;
        const char *what = part == 0                                            ? "a run of another kind"
                           : strncmp(run, state->task->run, RUN_PART) != 0      ? "another model"
                           : strncmp(run + part, state->task->run + part, RUN_PART) != 0 ? "other options"
                                                                                : "other images";
        complain("--resume: %s is of %s; give model, options and images as before", state->task->output, what);
        return false;
    }
    if (number >= state->task->count || !json_is_integer(index) ||
        json_integer_value(index) != (json_int_t)(state->task->first + number)) {
        complain("--resume: line %llu of %s is not where this command would have it", (unsigned long long)number + 1,
                 state->task->output);
        return false;
    }
    state->summary->images++;
    if (json_object_get(line, "error")) {
        state->summary->failed++;
        state->summary->non_finite += json_is_true(json_object_get(line, "non_finite"));
    } else if (json_object_get(line, "true")) {
        state->summary->labelled++;
        state->summary->right_classifier += labels_match(line, "classifier");
        state->summary->right_defence += json_object_get(line, "defence") && labels_match(line, "defence");
    }
    return true;
}

static exit_status run_from(const stream_task *task, const line_file *file, uint64_t lines, stream_summary *summary)
{
    stream state = {.task = task, .context = carso_model_context(task->model)};
    carso_reader_options options;
    carso_reader *reader;
    /* Batches begin where they would have without the interruption: to the last bit, a result depends on its batch. */
    state.position = lines / task->batch * task->batch;
    carso_reader_options_init(&options, sizeof options);
    options.batch = task->batch;
    options.threads = task->read_threads;
    options.keep_going = 1;
    options.first = task->first + state.position;
    carso_status opened = carso_reader_open(task->dataset, NULL, task->count - state.position, &options, &reader);
    if (opened != CARSO_OK) {
        return session_failure(state.context, opened, "cannot read the images");
    }
    state.writer = stream_writer_start(task, file, summary);
    if (!state.writer) {
        carso_reader_destroy(reader);
        return STATUS_FAILURE;
    }
    progress_start(&state.bar, task->robust ? "defence" : "classifier", task->quiet);
    state.bar.begun = state.position;
    exit_status status = predict_all(&state, reader, lines - state.position);
    progress_finish(&state.bar);
    exit_status written = stream_writer_finish(state.writer);
    carso_reader_destroy(reader);
    return status == STATUS_OK || status == STATUS_INTERRUPTED ? (written == STATUS_OK ? status : written) : status;
}

exit_status stream_predictions(const stream_task *task, stream_summary *out)
{
    line_file file;
    uint64_t lines;
    earlier before = {task, out};
    *out = (stream_summary){0};
    exit_status status = line_file_open(task->output, task->resume, judge, &before, &file, &lines);
    if (status != STATUS_OK) {
        return status;
    }
    if (lines < task->count) {
        status = run_from(task, &file, lines, out);
    }
    if (!line_file_close(&file) && status == STATUS_OK) {
        complain("cannot write %s: %s", file.name, strerror(errno));
        status = STATUS_FAILURE;
    }
    out->complete = status == STATUS_OK;
    if (status == STATUS_INTERRUPTED) {
        complain("interrupted after %llu of %llu images%s", (unsigned long long)out->images, (unsigned long long)task->count,
                 task->output ? "; '--resume' goes on from there" : "");
    }
    if (status == STATUS_OK && out->failed > 0) {
        complain("%llu of %llu images have no prediction; their lines say why", (unsigned long long)out->failed,
                 (unsigned long long)out->images);
        status = out->non_finite > 0 ? STATUS_UNTRUSTED : STATUS_FAILURE;
    }
    return status;
}
