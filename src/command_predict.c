/* SPDX-License-Identifier: BSD-2-Clause */
/* carso predict: labels of images, by the classifier alone and by the defence. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "fingerprint.h"
#include "prediction_json.h"
#include "progress.h"
#include "scoring.h"
#include "source.h"
#include "stream.h"
#include "text_table.h"

typedef struct predict_settings {
    common_settings common;
    sample_settings samples;
    int64_t draws;
    int aggregation;
    bool plain;
    bool lines, resume;
    const char *output, *list;
    int64_t batch, read_threads;
} predict_settings;

static const option_entry predict_options[] = {
    {"draws", 'N', OPTION_INTEGER, "N", offsetof(predict_settings, draws), 1, 65536, NULL, "Reconstructions of an image."},
    {"aggregation", 'a', OPTION_CHOICE, "HOW", offsetof(predict_settings, aggregation), 0, 0, aggregation_names,
     "How the opinions of the reconstructions become one."},
    {"plain", 'p', OPTION_FLAG, NULL, offsetof(predict_settings, plain), 0, 0, NULL, "The classifier alone, without the defence."},
    SAMPLE_OPTIONS(predict_settings),
    {"json-lines", 'l', OPTION_FLAG, NULL, offsetof(predict_settings, lines), 0, 0, NULL,
     "Print a line of JSON for each image while predicting, in constant memory however many there are. An image that cannot be read "
     "has a line that says why, and is told of at the end."},
    {"output", 'o', OPTION_TEXT, "FILE", offsetof(predict_settings, output), 0, 0, NULL,
     "File to write these lines to, rather than standard output."},
    {"resume", 'r', OPTION_FLAG, NULL, offsetof(predict_settings, resume), 0, 0, NULL,
     "Go on behind the lines that are in the file already, to the same bytes as without the interruption. Give model, images and "
     "other options as before."},
    {"list", 'L', OPTION_TEXT, "FILE", offsetof(predict_settings, list), 0, 0, NULL,
     "Predict the image files that FILE names, one a line; '-' is standard input. With --json-lines."},
    {"batch", 'b', OPTION_INTEGER, "N", offsetof(predict_settings, batch), 1, 65536, NULL, "Images predicted at once with --json-lines."},
    {"read-threads", 0, OPTION_INTEGER, "N", offsetof(predict_settings, read_threads), 0, 256, NULL,
     "Threads that read and decode images ahead with --json-lines; 0 takes half as many as there are cores, at most 8."},
    COMMON_OPTIONS(predict_settings, common)};

static void predict_defaults(void *settings)
{
    predict_settings *own = settings;
    common_defaults(&own->common);
    own->samples = (sample_settings){.split = CARSO_SPLIT_TEST};
    own->draws = 8;
    own->batch = 64;
}

static exit_status predict(const predict_settings *own, const carso_model *model, const samples *held, bool robust,
                           carso_prediction **out)
{
    carso_images images = samples_describe(held, held->pixels, 0, held->count);
    carso_predict_options options;
    progress_bar bar;
    carso_predict_options_init(&options, sizeof options);
    options.draws = (int32_t)own->draws;
    options.aggregation = own->aggregation;
    options.seed = (uint64_t)own->common.seed;
    options.first_image = held->first;
    options.progress = progress_callback;
    options.progress_user = &bar;
    progress_start(&bar, robust ? "defence" : "classifier", own->common.quiet);
    carso_status status =
        robust ? carso_predict_robust(model, &images, &options, out) : carso_predict(model, &images, &options, out);
    progress_finish(&bar);
    return status == CARSO_OK ? STATUS_OK : session_failure(carso_model_context(model), status, "cannot predict");
}

static double accuracy(const samples *held, const carso_prediction *prediction)
{
    uint64_t right = 0;
    const int32_t *labels = carso_prediction_labels(prediction);
    for (uint64_t i = 0; i < held->count; i++) {
        right += labels[i] == held->labels[i];
    }
    return (double)right / (double)held->count;
}

static double probability(const carso_prediction *prediction, uint64_t image)
{
    uint64_t classes = (uint64_t)carso_prediction_classes(prediction);
    int32_t label = carso_prediction_labels(prediction)[image];
    return carso_prediction_probabilities(prediction)[image * classes + (uint64_t)label];
}

static void print_text(const carso_model *model, const samples *held, const carso_prediction *plain,
                       const carso_prediction *robust)
{
    static const char *const headings[] = {"image", "true", "classifier alone", "probability", "the defence", "log-odds", "draws that agree"};
    text_table *table = text_table_create(7, headings);
    for (uint64_t i = 0; i < held->count; i++) {
        char name[64];
        text_table_cell(table, "%s", samples_name(held, i, name, sizeof name));
        text_table_cell(table, "%s", held->labels ? carso_model_class_name(model, held->labels[i]) : "");
        text_table_cell(table, "%s", carso_model_class_name(model, carso_prediction_labels(plain)[i]));
        text_table_cell(table, "%.4f", probability(plain, i));
        if (robust) {
            int32_t label = carso_prediction_labels(robust)[i];
            uint64_t classes = (uint64_t)carso_prediction_classes(robust);
            text_table_cell(table, "%s", carso_model_class_name(model, label));
            text_table_cell(table, "%.4g", carso_prediction_log_odds(robust)[i * classes + (uint64_t)label]);
            text_table_cell(table, "%d of %d", (int)carso_prediction_agreement(robust)[i], (int)carso_prediction_draws(robust));
        } else {
            text_table_cell(table, "-");
            text_table_cell(table, "-");
            text_table_cell(table, "-");
        }
    }
    text_table_print(table, stdout);
    text_table_destroy(table);
    if (held->labels) {
        printf("\naccuracy on %llu images: classifier alone %.4f", (unsigned long long)held->count,
               accuracy(held, plain));
        if (robust) {
            printf(", the defence %.4f", accuracy(held, robust));
        }
        putchar('\n');
    }
}

static json_t *report_json(const predict_settings *own, const carso_model *model, const samples *held,
                           const carso_prediction *plain, const carso_prediction *robust)
{
    json_t *list = json_array();
    for (uint64_t i = 0; i < held->count; i++) {
        char name[64];
        json_t *entry = json_pack("{s:o, s:o}", "image", session_json_text(samples_name(held, i, name, sizeof name)), "classifier",
                                  prediction_json(model, plain, i));
        if (held->labels) {
            json_object_set_new(entry, "true", json_integer(held->labels[i]));
        }
        if (robust) {
            json_object_set_new(entry, "defence", prediction_json(model, robust, i));
        }
        json_array_append_new(list, entry);
    }
    json_t *report = json_pack("{s:I, s:s, s:o}", "seed", (json_int_t)own->common.seed, "aggregation", aggregation_names[own->aggregation],
                               "images", list);
    if (held->labels) {
        json_object_set_new(report, "accuracy_classifier", json_real(accuracy(held, plain)));
        if (robust) {
            json_object_set_new(report, "accuracy_defence", json_real(accuracy(held, robust)));
        }
    }
    return report;
}

/* All at once, as a table or one JSON object. */
static exit_status predict_held(const predict_settings *own, carso_context *context, const carso_model *model,
                                bool robust, int inputs, char **input)
{
    samples held = {0};
    carso_prediction *opinion = NULL, *defence = NULL;
    exit_status status = samples_load(context, model, &own->samples, inputs, input, &held);
    if (status == STATUS_OK) {
        status = predict(own, model, &held, false, &opinion);
    }
    if (status == STATUS_OK && robust) {
        status = predict(own, model, &held, true, &defence);
    }
    if (status == STATUS_OK && own->common.json) {
        status = session_print_json(report_json(own, model, &held, opinion, defence));
    } else if (status == STATUS_OK) {
        print_text(model, &held, opinion, defence);
    }
    carso_prediction_destroy(opinion);
    carso_prediction_destroy(defence);
    samples_release(&held);
    return status;
}

static uint64_t mark_text(uint64_t before, const char *text) { return fingerprint_bytes(before, text, strlen(text)); }

static uint64_t mark_options(const predict_settings *own, const carso_context *context, bool robust)
{
    /* Threads, batch, limit and the kind of convolutions move the last bits of a result. */
    const int64_t numbers[] = {own->common.seed, own->common.memory_limit, own->batch, carso_context_threads(context), robust,
                               robust ? own->draws : 0, robust ? own->aggregation : 0, own->common.precise};
    return mark_text(fingerprint_bytes(FINGERPRINT_START, numbers, sizeof numbers), carso_context_backend(context));
}

static uint64_t mark_images(const stream_task *task, const char *input, int split)
{
    const uint64_t numbers[] = {task->first, task->count, (uint64_t)split};
    uint64_t mark = fingerprint_bytes(FINGERPRINT_START, numbers, sizeof numbers);
    if (!carso_dataset_file(task->dataset, 0)) {
        return mark_text(mark, input);
    }
    for (uint64_t i = 0; i < task->count; i++) {
        mark = mark_text(mark, carso_dataset_file(task->dataset, task->first + i));
    }
    return mark;
}

static exit_status set_run(const predict_settings *own, const char *model_path, const char *input, stream_task *task)
{
    uint64_t model;
    if (!fingerprint_file(model_path, &model)) {
        complain("cannot read %s: %s", model_path, strerror(errno));
        return STATUS_FAILURE;
    }
    uint64_t options = mark_options(own, carso_model_context(task->model), task->robust);
    uint64_t images = mark_images(task, input, own->samples.split);
    snprintf(task->run, sizeof task->run, "%08" PRIx32 "-%08" PRIx32 "-%08" PRIx32, (uint32_t)model, (uint32_t)options, (uint32_t)images);
    return STATUS_OK;
}

static exit_status print_summary(const predict_settings *own, const stream_task *task, const stream_summary *summary)
{
    double labelled = (double)summary->labelled;
    if (own->common.json) {
        json_t *report = json_pack("{s:s, s:I, s:I, s:s}", "output", task->output, "images", (json_int_t)summary->images, "failed",
                                   (json_int_t)summary->failed, "run", task->run);
        if (summary->labelled > 0) {
            json_object_set_new(report, "accuracy_classifier", json_real((double)summary->right_classifier / labelled));
            if (task->robust) {
                json_object_set_new(report, "accuracy_defence", json_real((double)summary->right_defence / labelled));
            }
        }
        return session_print_json(report);
    }
    printf("%s: %llu images\n", task->output, (unsigned long long)summary->images);
    if (summary->labelled > 0) {
        printf("accuracy on %llu images: classifier alone %.4f", (unsigned long long)summary->labelled,
               (double)summary->right_classifier / labelled);
        if (task->robust) {
            printf(", the defence %.4f", (double)summary->right_defence / labelled);
        }
        putchar('\n');
    }
    return STATUS_OK;
}

static exit_status predict_lines(const predict_settings *own, carso_context *context, const carso_model *model,
                                 bool robust, char **arguments, int inputs)
{
    carso_model_info info = {.struct_size = sizeof info};
    carso_dataset *dataset = NULL;
    const char *const *input = (const char *const *)arguments + 1;
    const char *name = own->list ? own->list : input[0];
    stream_summary summary;
    carso_model_get_info(model, &info);
    exit_status status = own->list
                             ? source_open_list(context, &info, own->list, &dataset)
                             : source_open(context, &info, (carso_split)own->samples.split, inputs, input, &dataset);
    if (status != STATUS_OK) {
        return status;
    }
    stream_task task = {.model = model,
                        .dataset = dataset,
                        .first = (uint64_t)own->samples.first,
                        .batch = (uint64_t)own->batch,
                        .read_threads = (int32_t)own->read_threads,
                        .robust = robust,
                        .output = own->output,
                        .resume = own->resume,
                        .quiet = own->common.quiet};
    carso_predict_options_init(&task.options, sizeof task.options);
    task.options.draws = (int32_t)own->draws;
    task.options.aggregation = own->aggregation;
    task.options.seed = (uint64_t)own->common.seed;
    task.count = source_count(dataset, name, task.first, (uint64_t)own->samples.count);
    status = task.count == 0 ? STATUS_FAILURE : set_run(own, arguments[0], name, &task);
    if (status == STATUS_OK) {
        status = stream_predictions(&task, &summary);
        if (task.output && summary.complete) {
            exit_status printed = print_summary(own, &task, &summary);
            status = status == STATUS_OK ? printed : status;
        }
    }
    carso_dataset_destroy(dataset);
    return status;
}

static bool check_settings(const predict_settings *own, int inputs)
{
    if (!own->lines && (own->output || own->resume || own->list)) {
        complain("%s: only with --json-lines", own->output ? "--output" : own->resume ? "--resume" : "--list");
    } else if (own->resume && !own->output) {
        complain("--resume: only with --output");
    } else if (own->lines && own->common.json && !own->output) {
        complain("--json: standard output is for the lines; give --output as well");
    } else if (!own->list && inputs == 0) {
        complain("an argument is missing; usage: carso predict [OPTION...] %s", command_predict.arguments);
    } else if (own->list && inputs > 0) {
        complain("--list: give either a list or images");
    } else {
        return true;
    }
    return false;
}

static exit_status predict_run(void *settings, int argument_count, char **arguments)
{
    const predict_settings *own = settings;
    carso_model *model = NULL;
    carso_model_info info = {.struct_size = sizeof info};
    int inputs = argument_count - 1;
    if (!check_settings(own, inputs)) {
        return STATUS_USAGE;
    }
    if (own->output && !session_can_write(own->output, false)) {
        return STATUS_FAILURE;
    }
    carso_context *context = session_open(&own->common);
    if (!context) {
        return STATUS_FAILURE;
    }
    carso_status loaded = carso_model_load(context, arguments[0], &model);
    exit_status status = STATUS_OK;
    if (loaded != CARSO_OK) {
        status = session_failure(context, loaded, "cannot load %s", arguments[0]);
    } else {
        carso_model_get_info(model, &info);
        bool robust = !own->plain && info.has_purifier;
        status = own->lines ? predict_lines(own, context, model, robust, arguments, inputs)
                            : predict_held(own, context, model, robust, inputs, arguments + 1);
        if (status == STATUS_OK && !own->plain && !robust) {
            complain("warning: %s has no purifier; this is the classifier alone", arguments[0]);
        }
    }
    carso_model_destroy(model);
    carso_context_destroy(context);
    return status;
}

static const char *const predict_examples[] = {
    "carso predict model.safetensors shoe.png bag.png", "Two image files, of the size that the model takes.",
    "carso predict model.safetensors fashion-mnist/ --count 1000 --json", "The first 1000 test images of a data set.",
    "carso predict model.safetensors photos/ --json-lines -o photos.jsonl --resume",
    "All images in a folder, however many; the same command goes on after an interruption.", NULL};

const command command_predict = {
    .name = "predict",
    .arguments = "MODEL IMAGE...|FOLDER|DATASET",
    .summary = "label images robustly",
    .description = "Labels PNG or JPEG images, or those of a data set, with the classifier alone and with the defence, and says how many of the "
                   "reconstructions agree. Prints the accuracy where the true labels are known. A folder that is no data set is taken for all PNG and "
                   "JPEG images within it at any depth, without labels.",
    .examples = predict_examples,
    .options = predict_options,
    .settings_size = sizeof(predict_settings),
    .defaults = predict_defaults,
    .run = predict_run,
    .least_arguments = 1,
    .most_arguments = -1};
