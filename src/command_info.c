/* SPDX-License-Identifier: BSD-2-Clause */
/* carso info: what a model file or a data set holds. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "model_tables.h"
#include "session.h"

typedef struct info_settings {
    common_settings common;
} info_settings;

static const option_entry info_options[] = {COMMON_OPTIONS(info_settings, common)};

static void info_defaults(void *settings) { common_defaults(&((info_settings *)settings)->common); }

static exit_status show_model(const info_settings *own, carso_context *context, const char *path)
{
    carso_model *model;
    json_error_t error;
    carso_status loaded = carso_model_load(context, path, &model);
    if (loaded != CARSO_OK) {
        return session_failure(context, loaded, "cannot load %s", path);
    }
    const char *text = carso_model_describe(model);
    json_t *description = text ? json_loads(text, 0, &error) : NULL;
    exit_status status = STATUS_FAILURE;
    if (!description) {
        complain("%s cannot be described: out of memory", path);
    } else if (own->common.json) {
        status = session_print_json(json_incref(description));
    } else {
        print_model_tables(model, path, description);
        status = STATUS_OK;
    }
    json_decref(description);
    carso_model_destroy(model);
    return status;
}

static exit_status show_dataset(const info_settings *own, carso_context *context, const char *path)
{
    carso_dataset *data;
    carso_dataset_info info = {.struct_size = sizeof info};
    static const carso_split splits[] = {CARSO_SPLIT_TRAIN, CARSO_SPLIT_TEST};
    static const char *const names[] = {"training", "test"};
    json_t *object = json_object();
    int opened_splits = 0;
    carso_status opened = CARSO_OK;
    for (int i = 0; i < 2; i++) {
        opened = carso_dataset_open(context, path, splits[i], &data);
        if (opened != CARSO_OK) {
            continue;
        }
        opened_splits++;
        carso_dataset_get_info(data, &info);
        if (own->common.json) {
            json_t *classes = json_array();
            for (int32_t j = 0; j < info.classes; j++) {
                json_array_append_new(classes, session_json_text(carso_dataset_class_name(data, j)));
            }
            json_object_set_new(object, names[i],
                                json_pack("{s:s, s:I, s:i, s:i, s:i, s:o}", "format", info.format, "count", (json_int_t)info.count,
                                          "channels", info.channels, "height", info.height, "width", info.width, "classes", classes));
        } else {
            printf("%s: %s, %s images: %llu of %dx%dx%d (channels, height, width), %d classes\n", path, info.format,
                   names[i], (unsigned long long)info.count, (int)info.channels, (int)info.height, (int)info.width,
                   (int)info.classes);
        }
        carso_dataset_destroy(data);
    }
    if (opened_splits == 0) {
        json_decref(object);
        return session_failure(context, opened, "cannot open %s", path);
    }
    if (own->common.json) {
        return session_print_json(object);
    }
    json_decref(object);
    return STATUS_OK;
}

static exit_status info_run(void *settings, int argument_count, char **arguments)
{
    const info_settings *own = settings;
    struct stat entry;
    (void)argument_count;
    carso_context *context = session_open(&own->common);
    if (!context) {
        return STATUS_FAILURE;
    }
    bool folder = stat(arguments[0], &entry) == 0 && S_ISDIR(entry.st_mode);
    bool images = folder || strstr(arguments[0], "-images-idx3-ubyte");
    exit_status status = images ? show_dataset(own, context, arguments[0]) : show_model(own, context, arguments[0]);
    carso_context_destroy(context);
    return status;
}

static const char *const info_examples[] = {"carso info model.safetensors", "Layers, shapes, parameters and provenance of a model.",
                                            "carso info --json cifar10/", "What a data set holds.", NULL};

const command command_info = {
    .name = "info",
    .arguments = "MODEL|DATASET",
    .summary = "say what a model file or a data set holds",
    .description = "Prints the layers of a model with their shapes, parameters and multiply-adds, its taps, its purifier and what it was "
                   "trained on; or the size, format and classes of a data set. Layers are written as in the tables of the CARSO paper: "
                   "ks kernel size, s stride, p padding, op output padding, b bias; p=0:1 pads by 0 above and on the left, by 1 below "
                   "and on the right. Encoders of taps that have the same layers are printed once.",
    .examples = info_examples,
    .options = info_options,
    .settings_size = sizeof(info_settings),
    .defaults = info_defaults,
    .run = info_run,
    .least_arguments = 1,
    .most_arguments = 1};
