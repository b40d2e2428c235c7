/* SPDX-License-Identifier: BSD-2-Clause */
#include "stream_writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "prediction_json.h"

#define WAITING 2

struct stream_writer {
    const stream_task *task;
    const line_file *file;
    stream_summary *summary;
    char *text; /* lines of one batch */
    size_t length, room;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    stream_results queue[WAITING];
    int queued;
    bool ended;
    int error; /* errno of what failed */
};

bool stream_results_create(uint64_t index, uint64_t count, stream_results *out)
{
    *out = (stream_results){.index = index, .count = count};
    out->labels = malloc((size_t)count * sizeof *out->labels);
    out->errors = calloc((size_t)count, sizeof *out->errors);
    if (!out->labels || !out->errors) {
        stream_results_release(out);
    }
    return out->labels != NULL;
}

void stream_results_release(stream_results *results)
{
    for (uint64_t i = 0; results->errors && i < results->count; i++) {
        free(results->errors[i]);
    }
    free(results->errors);
    free(results->labels);
    carso_prediction_destroy(results->plain);
    carso_prediction_destroy(results->robust);
    *results = (stream_results){0};
}

static int append(const char *data, size_t size, void *user)
{
    stream_writer *writer = user;
    if (size > writer->room - writer->length) {
        size_t room = 2 * writer->room + size + 4096;
        char *larger = realloc(writer->text, room);
        if (!larger) {
            return -1;
        }
        writer->text = larger;
        writer->room = room;
    }
    memcpy(writer->text + writer->length, data, size);
    writer->length += size;
    return 0;
}

static json_t *make_line(const stream_writer *writer, const stream_results *results, uint64_t i)
{
    const stream_task *task = writer->task;
    const char *file = carso_dataset_file(task->dataset, results->index + i);
    json_t *line = json_pack("{s:I, s:o, s:I, s:s}", "index", (json_int_t)(results->index + i), "image",
                             file ? session_json_text(file) : json_null(), "seed", (json_int_t)task->options.seed,
                             "run", task->run);
    if (results->labels[i] >= 0) {
        json_object_set_new(line, "true", json_integer(results->labels[i]));
    }
    if (results->errors[i]) {
        json_object_set_new(line, "error", session_json_text(results->errors[i]));
        if (results->non_finite) {
            json_object_set_new(line, "non_finite", json_true());
        }
        return line;
    }
    json_object_set_new(line, "classifier", prediction_json(task->model, results->plain, i));
    if (results->robust) {
        json_object_set_new(line, "defence", prediction_json(task->model, results->robust, i));
    }
    return line;
}

static void count_image(stream_summary *summary, const stream_results *results, uint64_t i)
{
    int32_t label = results->labels[i];
    summary->images++;
    if (results->errors[i]) {
        summary->failed++;
        summary->non_finite += results->non_finite;
    } else if (label >= 0) {
        summary->labelled++;
        summary->right_classifier += carso_prediction_labels(results->plain)[i] == label;
        summary->right_defence += results->robust && carso_prediction_labels(results->robust)[i] == label;
    }
}

/* 0, or an errno. */
static int write_lines(stream_writer *writer, const stream_results *results)
{
    writer->length = 0;
    for (uint64_t i = results->skip; i < results->count; i++) {
        json_t *line = make_line(writer, results, i);
        int failed = !line ||
                     json_dump_callback(line, append, writer,
                                        JSON_REAL_PRECISION(10) | JSON_PRESERVE_ORDER | JSON_COMPACT) != 0 ||
                     append("\n", 1, writer) != 0;
        json_decref(line);
        if (failed) {
            return ENOMEM;
        }
    }
    if (!line_file_write(writer->file, writer->text, writer->length)) {
        return errno;
    }
    for (uint64_t i = results->skip; i < results->count; i++) {
        count_image(writer->summary, results, i);
    }
    return 0;
}

static void *work(void *argument)
{
    stream_writer *writer = argument;
    pthread_mutex_lock(&writer->lock);
    for (;;) {
        if (writer->queued == 0 && writer->ended) {
            break;
        }
        if (writer->queued == 0) {
            pthread_cond_wait(&writer->changed, &writer->lock);
            continue;
        }
        stream_results results = writer->queue[0];
        memmove(writer->queue, writer->queue + 1, sizeof *writer->queue * (size_t)(--writer->queued));
        int error = writer->error;
        pthread_cond_signal(&writer->changed);
        pthread_mutex_unlock(&writer->lock);
        if (error == 0) {
            error = write_lines(writer, &results);
        }
        stream_results_release(&results);
        pthread_mutex_lock(&writer->lock);
        writer->error = error;
        pthread_cond_signal(&writer->changed);
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

stream_writer *stream_writer_start(const stream_task *task, const line_file *file, stream_summary *summary)
{
    sigset_t others, before;
    stream_writer *writer = calloc(1, sizeof *writer);
    if (!writer) {
        complain("out of memory");
        return NULL;
    }
    writer->task = task;
    writer->file = file;
    writer->summary = summary;
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->changed, NULL);
    /* Interrupts are for the main thread; a reader that is gone ends the process as it would any other. */
    sigfillset(&others);
    sigdelset(&others, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &others, &before);
    int error = pthread_create(&writer->thread, NULL, work, writer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        complain("cannot start a thread: %s", strerror(error));
        free(writer);
        return NULL;
    }
    return writer;
}

bool stream_writer_give(stream_writer *writer, stream_results *results)
{
    pthread_mutex_lock(&writer->lock);
    while (writer->queued == WAITING) {
        pthread_cond_wait(&writer->changed, &writer->lock);
    }
    writer->queue[writer->queued++] = *results;
    *results = (stream_results){0};
    bool fine = writer->error == 0;
    pthread_cond_signal(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
    return fine;
}

exit_status stream_writer_finish(stream_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->ended = true;
    pthread_cond_signal(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->thread, NULL);
    int error = writer->error;
    if (error != 0) {
        complain("cannot write %s: %s", writer->file->name, strerror(error));
    }
    pthread_mutex_destroy(&writer->lock);
    pthread_cond_destroy(&writer->changed);
    free(writer->text);
    free(writer);
    return error == 0 ? STATUS_OK : STATUS_FAILURE;
}
