/* SPDX-License-Identifier: BSD-2-Clause */
#include "model_tables.h"

#include <stdlib.h>
#include <string.h>

#include "text_table.h"

#define TAP_ENCODER "tap_encoder."

enum { COLUMNS = 6, MOST_CLASSES = 20 };

static const char *text_member(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static long long number_member(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void format_shape(const json_t *shape, char *text, size_t size)
{
    size_t length = 0;
    const json_t *dimension;
    size_t i;
    text[0] = '\0';
    json_array_foreach(shape, i, dimension) {
        length += (size_t)snprintf(text + length, size - length, "%s%lld", i ? "x" : "",
                                   (long long)json_integer_value(dimension));
        if (length >= size) {
            return;
        }
    }
}

static const json_t *named(const json_t *array, const char *name)
{
    const json_t *element;
    size_t i;
    json_array_foreach(array, i, element) {
        if (strcmp(text_member(element, "name"), name) == 0) {
            return element;
        }
    }
    return NULL;
}

/* The last column is for tables with taps. */
static text_table *begin_table(bool with_taps)
{
    static const char *const headings[COLUMNS] = {"layer", "definition", "output", "parameters", "multiply-adds", "tap"};
    return text_table_create(with_taps ? COLUMNS : COLUMNS - 1, headings);
}

static void add_layer(text_table *table, const json_t *layer)
{
    char shape[64];
    format_shape(json_object_get(layer, "shape"), shape, sizeof shape);
    text_table_cell(table, "%s", text_member(layer, "name"));
    text_table_cell(table, "%s", text_member(layer, "definition"));
    text_table_cell(table, "%s", shape);
    text_table_cell(table, "%lld", number_member(layer, "parameters"));
    text_table_cell(table, "%lld", number_member(layer, "multiply_adds"));
}

static void print_classifier(const json_t *description)
{
    const json_t *classifier = json_object_get(description, "classifier"), *layer;
    const json_t *taps = json_object_get(description, "taps");
    size_t i;
    printf("\nClassifier: %lld parameters, %lld multiply-adds\n", number_member(classifier, "parameters"),
           number_member(classifier, "multiply_adds"));
    text_table *table = begin_table(true);
    json_array_foreach(json_object_get(classifier, "layers"), i, layer) {
        const json_t *tap = named(taps, text_member(layer, "name"));
        add_layer(table, layer);
        text_table_cell(table, "%s", tap ? "tap" : "");
    }
    text_table_print(table, stdout);
    text_table_destroy(table);
}

/* The layers of a part, each an object. */
static const json_t *layer_of(const json_t *purifier, const json_t *part, size_t i)
{
    static const char *const graphs[] = {"condition", "encoder", "decoder"};
    const char *name = json_string_value(json_array_get(json_object_get(part, "layers"), i));
    const json_t *layer = NULL;
    for (int graph = 0; graph < 3 && name && !layer; graph++) {
        layer = named(json_object_get(json_object_get(purifier, graphs[graph]), "layers"), name);
    }
    return layer;
}

static size_t layer_count(const json_t *part) { return json_array_size(json_object_get(part, "layers")); }

static void print_part(const json_t *purifier, const json_t *part)
{
    text_table *table = begin_table(false);
    for (size_t i = 0; i < layer_count(part); i++) {
        add_layer(table, layer_of(purifier, part, i));
    }
    text_table_print(table, stdout);
    text_table_destroy(table);
}

static void print_named_part(const json_t *purifier, const char *name, const char *title)
{
    const json_t *part = named(json_object_get(purifier, "parts"), name);
    if (part) {
        printf("\nPurifier, %s: %lld parameters, %lld multiply-adds\n", title, number_member(part, "parameters"),
               number_member(part, "multiply_adds"));
        print_part(purifier, part);
    }
}

static bool is_tap_encoder(const json_t *part) { return strncmp(text_member(part, "name"), TAP_ENCODER, strlen(TAP_ENCODER)) == 0; }

/* Of the encoder that is this part. */
static const json_t *tap_of(const json_t *taps, const json_t *part)
{
    return json_array_get(taps, strtoul(text_member(part, "name") + strlen(TAP_ENCODER), NULL, 10));
}

/* The same definitions on the same shapes. */
static bool alike(const json_t *purifier, const json_t *left, const json_t *right)
{
    bool same = layer_count(left) == layer_count(right);
    for (size_t i = 0; i < layer_count(left) && same; i++) {
        const json_t *one = layer_of(purifier, left, i), *other = layer_of(purifier, right, i);
        same = strcmp(text_member(one, "definition"), text_member(other, "definition")) == 0 &&
               json_equal(json_object_get(one, "shape"), json_object_get(other, "shape"));
    }
    return same;
}

static void print_tap_encoders(const json_t *purifier, const json_t *taps)
{
    const json_t *parts = json_object_get(purifier, "parts"), *part, *other;
    long long parameters = 0, multiply_adds = 0;
    size_t i, j, encoders = 0;
    json_array_foreach(parts, i, part) {
        if (is_tap_encoder(part)) {
            encoders++;
            parameters += number_member(part, "parameters");
            multiply_adds += number_member(part, "multiply_adds");
        }
    }
    if (encoders > 0) {
        printf("\nPurifier, encoders of %zu taps: %lld parameters, %lld multiply-adds\n", encoders, parameters, multiply_adds);
    }
    json_array_foreach(parts, i, part) {
        bool first = is_tap_encoder(part);
        for (j = 0; j < i && first; j++) {
            first = !is_tap_encoder(json_array_get(parts, j)) || !alike(purifier, json_array_get(parts, j), part);
        }
        if (!first) {
            continue;
        }
        char shape[64];
        format_shape(json_object_get(tap_of(taps, part), "shape"), shape, sizeof shape);
        printf("\nEncoder of a tap of %s, %lld parameters, %lld multiply-adds; one each for\n", shape,
               number_member(part, "parameters"), number_member(part, "multiply_adds"));
        json_array_foreach(parts, j, other) {
            if (is_tap_encoder(other) && alike(purifier, part, other)) {
                printf("  %s: %s\n", text_member(other, "name") + strlen(TAP_ENCODER),
                       text_member(tap_of(taps, other), "name"));
            }
        }
        print_part(purifier, part);
    }
}

static void print_numbers(const char *before, const json_t *numbers)
{
    const json_t *number;
    size_t i;
    fputs(before, stdout);
    json_array_foreach(numbers, i, number) {
        printf("%s%g", i ? ", " : "", json_number_value(number));
    }
}

static void print_summary(const carso_model *model, const char *path, const json_t *description)
{
    const json_t *input = json_object_get(description, "input");
    carso_model_info info = {.struct_size = sizeof info};
    carso_model_get_info(model, &info);
    printf("%s: classifier of %dx%dx%d images (channels, height, width), %d classes:", path, (int)info.channels,
           (int)info.image_height, (int)info.image_width, (int)info.classes);
    for (int32_t i = 0; i < info.classes && i < MOST_CLASSES; i++) {
        printf("%s %s", i ? "," : "", carso_model_class_name(model, i));
    }
    printf("%s\n", info.classes > MOST_CLASSES ? ", ..." : "");
    print_numbers("standardisation: mean ", json_object_get(input, "mean"));
    print_numbers("; deviation ", json_object_get(input, "deviation"));
    printf("\nclassifier: %llu parameters, %llu multiply-adds per image, %d taps\n", (unsigned long long)info.classifier_parameters,
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
}

void print_model_tables(const carso_model *model, const char *path, const json_t *description)
{
    const json_t *purifier = json_object_get(description, "purifier");
    print_summary(model, path, description);
    print_classifier(description);
    print_named_part(purifier, "input_encoder", "input encoder (training only)");
    print_tap_encoders(purifier, json_object_get(description, "taps"));
    print_named_part(purifier, "representation_encoder", "representation encoder");
    print_named_part(purifier, "joint_encoder", "joint encoder (training only)");
    print_named_part(purifier, "decoder", "decoder");
}
