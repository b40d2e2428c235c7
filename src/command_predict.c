/* SPDX-License-Identifier: BSD-2-Clause */
/* carso predict: labels of images, by the classifier alone and by the defence. */
#include <stdlib.h>

#include "commands.h"
#include "progress.h"
#include "samples.h"
#include "scoring.h"
#include "text_table.h"

typedef struct predict_settings {
    common_settings common;
    sample_settings samples;
    int64_t draws;
    int aggregation;
    bool plain;
} predict_settings;

static const option_entry predict_options[] = {
    {"draws", 'N', OPTION_INTEGER, "N", offsetof(predict_settings, draws), 1, 65536, NULL, "Reconstructions of an image."},
    {"aggregation", 'a', OPTION_CHOICE, "HOW", offsetof(predict_settings, aggregation), 0, 0, aggregation_names,
     "How the opinions of the reconstructions become one."},
    {"plain", 'p', OPTION_FLAG, NULL, offsetof(predict_settings, plain), 0, 0, NULL, "The classifier alone, without the defence."},
    SAMPLE_OPTIONS(predict_settings),
    COMMON_OPTIONS(predict_settings, common)};

static void predict_defaults(void *settings)
{
    predict_settings *own = settings;
    common_defaults(&own->common);
    own->samples = (sample_settings){.split = CARSO_SPLIT_TEST};
    own->draws = 8;
}

static exit_status predict(const predict_settings *own, const carso_model *model, const samples *held, bool robust, carso_prediction **out)
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
    carso_status status = robust ? carso_predict_robust(model, &images, &options, out) : carso_predict(model, &images, &options, out);
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

static void print_text(const carso_model *model, const samples *held, const carso_prediction *plain, const carso_prediction *robust)
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
        printf("\naccuracy on %llu images: classifier alone %.4f", (unsigned long long)held->count, accuracy(held, plain));
        if (robust) {
            printf(", the defence %.4f", accuracy(held, robust));
        }
        putchar('\n');
    }
}

static json_t *number_list(const double *values, uint64_t count)
{
    json_t *list = json_array();
    for (uint64_t i = 0; i < count; i++) {
        json_array_append_new(list, json_real(values[i]));
    }
    return list;
}

static json_t *prediction_json(const carso_model *model, const carso_prediction *prediction, uint64_t image)
{
    uint64_t classes = (uint64_t)carso_prediction_classes(prediction);
    int32_t label = carso_prediction_labels(prediction)[image];
    return json_pack("{s:i, s:o, s:o, s:o, s:i, s:i}", "label", label, "class",
                     session_json_text(carso_model_class_name(model, label)), "probabilities",
                     number_list(carso_prediction_probabilities(prediction) + image * classes, classes), "log_odds",
                     number_list(carso_prediction_log_odds(prediction) + image * classes, classes), "draws",
                     (int)carso_prediction_draws(prediction), "agreement", (int)carso_prediction_agreement(prediction)[image]);
}

static json_t *report_json(const predict_settings *own, const carso_model *model, const samples *held, const carso_prediction *plain,
                           const carso_prediction *robust)
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

static exit_status predict_run(void *settings, int argument_count, char **arguments)
{
    const predict_settings *own = settings;
    carso_model *model = NULL;
    carso_prediction *plain = NULL, *robust = NULL;
    samples held = {0};
    carso_model_info info = {.struct_size = sizeof info};
    carso_context *context = session_open(&own->common);
    if (!context) {
        return STATUS_FAILURE;
    }
    carso_status loaded = carso_model_load(context, arguments[0], &model);
    exit_status status = loaded == CARSO_OK
                             ? samples_load(context, model, &own->samples, argument_count - 1, arguments + 1, &held)
                             : session_failure(context, loaded, "cannot load %s", arguments[0]);
    if (status == STATUS_OK) {
        carso_model_get_info(model, &info);
        status = predict(own, model, &held, false, &plain);
    }
    if (status == STATUS_OK && !own->plain && !info.has_purifier) {
        complain("warning: %s has no purifier; this is the classifier alone", arguments[0]);
    } else if (status == STATUS_OK && !own->plain) {
        status = predict(own, model, &held, true, &robust);
    }
    if (status == STATUS_OK && own->common.json) {
        status = session_print_json(report_json(own, model, &held, plain, robust));
    } else if (status == STATUS_OK) {
        print_text(model, &held, plain, robust);
    }
    carso_prediction_destroy(plain);
    carso_prediction_destroy(robust);
    samples_release(&held);
    carso_model_destroy(model);
    carso_context_destroy(context);
    return status;
}

static const char *const predict_examples[] = {
    "carso predict model.safetensors shoe.png bag.png", "Two image files, of the size that the model takes.",
    "carso predict model.safetensors fashion-mnist/ --count 1000 --json", "The first 1000 test images of a data set.", NULL};

const command command_predict = {
    .name = "predict",
    .arguments = "MODEL IMAGE...|DATASET",
    .summary = "label images robustly",
    .description = "Labels PNG or JPEG images, or those of a data set, with the classifier alone and with the defence, and says how many of the "
                   "reconstructions agree. Prints the accuracy where the true labels are known.",
    .examples = predict_examples,
    .options = predict_options,
    .settings_size = sizeof(predict_settings),
    .defaults = predict_defaults,
    .run = predict_run,
    .least_arguments = 2,
    .most_arguments = -1};
