/* SPDX-License-Identifier: BSD-2-Clause */
/* carso info: what a model file or a data set holds. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "session.h"
#include "text_table.h"

typedef struct info_settings {
    common_settings common;
} info_settings;

static const option_entry info_options[] = {COMMON_OPTIONS(info_settings, common)};

static void info_defaults(void *settings) { common_defaults(&((info_settings *)settings)->common); }

static const char *text_member(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void format_shape(const json_t *shape, char *text, size_t size)
{
    size_t length = 0;
    const json_t *dimension;
    size_t i;
    text[0] = '\0';
    json_array_foreach(shape, i, dimension) {
        length += (size_t)snprintf(text + length, size - length, "%s%lld", i ? "x" : "", (long long)json_integer_value(dimension));
        if (length >= size) {
            return;
        }
    }
}

static bool is_tap(const json_t *taps, const char *name)
{
    const json_t *tap;
    size_t i;
    json_array_foreach(taps, i, tap) {
        if (strcmp(text_member(tap, "name"), name) == 0) {
            return true;
        }
    }
    return false;
}

/* taps: NULL where the part has none. */
static void print_layers(const char *title, const json_t *layers, const json_t *taps)
{
    static const char *const headings[] = {"layer", "operation", "output", "parameters", "multiply-adds", "tap"};
    const json_t *layer;
    size_t i;
    if (json_array_size(layers) == 0) {
        return;
    }
    printf("\n%s\n", title);
    text_table *table = text_table_create(6, headings);
    json_array_foreach(layers, i, layer) {
        char shape[64];
        format_shape(json_object_get(layer, "shape"), shape, sizeof shape);
        text_table_cell(table, "%s", text_member(layer, "name"));
        text_table_cell(table, "%s", text_member(layer, "kind"));
        text_table_cell(table, "%s", shape);
        text_table_cell(table, "%lld", (long long)json_integer_value(json_object_get(layer, "parameters")));
        text_table_cell(table, "%lld", (long long)json_integer_value(json_object_get(layer, "multiply_adds")));
        text_table_cell(table, "%s", is_tap(taps, text_member(layer, "name")) ? "tap" : "");
    }
    text_table_print(table, stdout);
    text_table_destroy(table);
}

static exit_status print_model(const carso_model *model, const char *path, const json_t *description)
{
    carso_model_info info = {.struct_size = sizeof info};
    carso_model_get_info(model, &info);
    printf("%s: classifier of %dx%dx%d images (channels, height, width), %d classes:", path, (int)info.channels,
           (int)info.image_height, (int)info.image_width, (int)info.classes);
    for (int32_t i = 0; i < info.classes && i < 20; i++) {
        printf("%s %s", i ? "," : "", carso_model_class_name(model, i));
    }
    printf("%s\n", info.classes > 20 ? ", ..." : "");
    printf("classifier: %llu parameters, %llu multiply-adds per image, %d taps\n", (unsigned long long)info.classifier_parameters,
           (unsigned long long)info.classifier_multiply_adds, (int)info.taps);
    if (info.has_purifier) {
        printf("purifier: %llu parameters, condition of %d, latent of %d; %llu multiply-adds per image and %llu per draw\n",
               (unsigned long long)info.purifier_parameters, (int)info.condition_size, (int)info.latent_size,
               (unsigned long long)info.condition_multiply_adds, (unsigned long long)info.decoder_multiply_adds);
    } else {
        puts("no purifier: 'carso train' adds one");
    }
    const json_t *provenance = json_object_get(description, "provenance");
    if (json_object_size(provenance) > 0) {
        char *text = json_dumps(provenance, JSON_COMPACT | JSON_REAL_PRECISION(6));
        printf("provenance: %s\n", text ? text : "");
        free(text);
    }
    print_layers("Classifier", json_object_get(json_object_get(description, "classifier"), "layers"),
                 json_object_get(description, "taps"));
    const json_t *purifier = json_object_get(description, "purifier");
    static const char *const parts[] = {"condition", "encoder", "decoder"};
    static const char *const titles[] = {"Purifier: from the taps to the condition", "Purifier: encoder (training only)",
                                         "Purifier: decoder"};
    for (int i = 0; i < 3; i++) {
        print_layers(titles[i], json_object_get(json_object_get(purifier, parts[i]), "layers"), NULL);
    }
    return STATUS_OK;
}

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
        status = print_model(model, path, description);
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
            printf("%s: %s, %s images: %llu of %dx%dx%d (channels, height, width), %d classes\n", path, info.format, names[i],
                   (unsigned long long)info.count, (int)info.channels, (int)info.height, (int)info.width, (int)info.classes);
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
                   "trained on; or the size, format and classes of a data set.",
    .examples = info_examples,
    .options = info_options,
    .settings_size = sizeof(info_settings),
    .defaults = info_defaults,
    .run = info_run,
    .least_arguments = 1,
    .most_arguments = 1};
