/* SPDX-License-Identifier: BSD-2-Clause */
/* Model files: what is written comes back, and what is damaged or hostile is refused with its reason. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/json.h"
#include "base/safetensors.h"
#include "counting_allocator.h"
#include "model/run.h"
#include "scratch_folder.h"

#define MODEL "model.safetensors"
#define CHANGED "changed.safetensors"
#define CLASSES 4
#define MOST_TENSORS 256
#define MOST_SETTINGS 16

static counting_allocator counts;
static carso_context *context;

static void require(carso_status status)
{
    char message[1024];
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(status == CARSO_OK, "%s: %s", carso_status_str(status), message);
}

static bool message_has(const char *part)
{
    char message[1024];
    carso_context_message(context, message, sizeof message);
    return strstr(message, part) != NULL;
}

static carso_model *build(void)
{
    static const char *const names[CLASSES] = {"shirt", "caf\xc3\xa9", "\"quoted\"", ""};
    carso_model_options options;
    carso_purifier_options purifier;
    carso_model *classifier = NULL, *model = NULL, *derived = NULL;
    json_t *provenance = json_pack("{s:s, s:[f]}", "data", "none", "epsilon", 0.1);
    carso_model_options_init(&options, sizeof options);
    options.channels = 1;
    options.image_height = options.image_width = 28;
    options.classes = CLASSES;
    options.class_names = names;
    options.mean[0] = 0.286f;
    options.deviation[0] = 0.353f;
    carso_purifier_options_init(&purifier, sizeof purifier);
    purifier.condition_size = 4;
    purifier.latent_size = 2;
    purifier.seed_channels = 16;
    require(carso_model_create(context, &options, &classifier));
    require(carso_model_add_purifier(classifier, &purifier, &model));
    require(cso_model_derive(model, NULL, NULL, provenance, &derived));
    json_decref(provenance);
    carso_model_destroy(classifier);
    carso_model_destroy(model);
    return derived;
}

static void set_up(void)
{
    counts = (counting_allocator){0};
    context = counting_context(&counts);
    ck_assert_ptr_nonnull(context);
    scratch_create();
    carso_model *model = build();
    require(carso_model_save(model, scratch_file(MODEL)));
    carso_model_destroy(model);
}

static void tear_down(void)
{
    scratch_remove();
    carso_context_destroy(context);
    ck_assert_int_eq(counts.held, 0);
}

static void draw(carso_model *model, double *logits)
{
    static const uint64_t image_index[1] = {3};
    float image[28 * 28];
    for (int i = 0; i < 28 * 28; i++)
        image[i] = (float)(i % 17) / 16.0f;
    const cso_run run = {.images = image,
                         .element = CSO_F32,
                         .count = 1,
                         .draws = 2,
                         .purpose = CSO_PURPOSE_LATENT,
                         .image_index = image_index,
                         .logits = logits};
    require(cso_run_defence(model, &run));
}

static void check_same(carso_model *actual)
{
    carso_model *expected = build();
    double expected_logits[2 * CLASSES], logits[2 * CLASSES];
    ck_assert_int_eq(actual->classes, CLASSES);
    ck_assert_int_eq(actual->channels, 1);
    ck_assert_int_eq(actual->height, 28);
    ck_assert_int_eq(actual->tap_count, 3);
    ck_assert_float_eq(actual->mean[0], 0.286f);
    ck_assert_float_eq(actual->deviation[0], 0.353f);
    for (int i = 0; i < CLASSES; i++)
        ck_assert_str_eq(carso_model_class_name(actual, i), carso_model_class_name(expected, i));
    ck_assert(json_equal(actual->provenance, expected->provenance));
    ck_assert_str_eq(carso_model_describe(actual), carso_model_describe(expected));
    draw(expected, expected_logits);
    draw(actual, logits);
    ck_assert_mem_eq(expected_logits, logits, sizeof logits);
    carso_model_destroy(expected);
}

START_TEST(test_round_trip)
{
    carso_model *model = NULL, *again = NULL;
    size_t size, second_size;
    require(carso_model_load(context, scratch_file(MODEL), &model));
    check_same(model);
    require(carso_model_save(model, scratch_file("again.safetensors")));
    require(carso_model_load(context, scratch_file("again.safetensors"), &again));
    carso_model_destroy(model);
    check_same(again);
    carso_model_destroy(again);
    unsigned char *first = scratch_read(MODEL, &size), *second = scratch_read("again.safetensors", &second_size);
    ck_assert_uint_eq(size, second_size);
    ck_assert_mem_eq(first, second, size);
    free(first);
    free(second);
}
END_TEST

START_TEST(test_from_memory)
{
    carso_model *model = NULL;
    size_t size;
    unsigned char *data = scratch_read(MODEL, &size);
    require(carso_model_load_memory(context, data, size, &model));
    check_same(model);
    carso_model_destroy(model);
    free(data);
}
END_TEST

START_TEST(test_without_purifier)
{
    carso_model_options options;
    carso_model *model = NULL, *loaded = NULL;
    carso_model_options_init(&options, sizeof options);
    options.architecture = CARSO_WIDE_RESNET;
    options.depth = 10;
    options.width = 1;
    options.image_height = 30;
    require(carso_model_create(context, &options, &model));
    require(carso_model_save(model, scratch_file(CHANGED)));
    require(carso_model_load(context, scratch_file(CHANGED), &loaded));
    ck_assert_ptr_null(loaded->purifier);
    ck_assert_ptr_null(loaded->provenance);
    ck_assert_str_eq(carso_model_class_name(loaded, 9), "9");
    ck_assert_str_eq(carso_model_describe(loaded), carso_model_describe(model));
    carso_model_destroy(model);
    carso_model_destroy(loaded);
}
END_TEST

/* The file's parts, to be changed and written again. */
typedef struct model_parts {
    cso_safetensors *file;
    cso_tensor_write tensor[MOST_TENSORS];
    size_t tensor_count;
    const char *key[MOST_SETTINGS];
    const char *value[MOST_SETTINGS];
    size_t setting_count;
} model_parts;

static void take_apart(model_parts *parts)
{
    static const char *const key[] = {"format", "graph",   "logits",   "taps",
                                      "input",  "classes", "purifier", "provenance"};
    memset(parts, 0, sizeof *parts);
    require(cso_safetensors_open(context, scratch_file(MODEL), &parts->file));
    ck_assert_uint_lt(cso_safetensors_count(parts->file), MOST_TENSORS - 4);
    for (size_t i = 0; i < cso_safetensors_count(parts->file); i++) {
        const cso_tensor *tensor = cso_safetensors_at(parts->file, i);
        cso_tensor_write *copy = &parts->tensor[parts->tensor_count++];
        *copy =
            (cso_tensor_write){.name = tensor->name, .type = tensor->type, .rank = tensor->rank, .data = tensor->data};
        memcpy(copy->dimension, tensor->dimension, sizeof copy->dimension);
    }
    for (size_t i = 0; i < sizeof key / sizeof *key; i++) {
        parts->key[parts->setting_count] = key[i];
        parts->value[parts->setting_count] = cso_safetensors_metadata(parts->file, key[i]);
        ck_assert_ptr_nonnull(parts->value[parts->setting_count]);
        parts->setting_count++;
    }
}

/* Writes, loads, and gives the parts up. */
static carso_status reload(model_parts *parts, carso_model **out)
{
    require(cso_safetensors_write(context, scratch_file(CHANGED), parts->tensor, parts->tensor_count, parts->key,
                                  parts->value, parts->setting_count));
    cso_safetensors_release(parts->file);
    return carso_model_load(context, scratch_file(CHANGED), out);
}

static void expect(model_parts *parts, carso_status expected, const char *part)
{
    char message[1024];
    carso_model *model = (carso_model *)&model;
    const carso_status status = reload(parts, &model);
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(status == expected, "%s instead of %s (%s): %s", carso_status_str(status), carso_status_str(expected),
                  part, message);
    ck_assert_ptr_null(model);
    ck_assert_msg(strstr(message, part) != NULL, "'%s' lacks '%s'", message, part);
}

/* value NULL: left out. */
static void set(model_parts *parts, const char *key, const char *value)
{
    for (size_t i = 0; i < parts->setting_count; i++) {
        if (strcmp(parts->key[i], key) != 0)
            continue;
        parts->value[i] = value;
        if (value == NULL) {
            parts->setting_count--;
            parts->key[i] = parts->key[parts->setting_count];
            parts->value[i] = parts->value[parts->setting_count];
        }
        return;
    }
    ck_abort_msg("no setting %s", key);
}

static cso_tensor_write *find(model_parts *parts, const char *name)
{
    for (size_t i = 0; i < parts->tensor_count; i++) {
        if (strcmp(parts->tensor[i].name, name) == 0)
            return &parts->tensor[i];
    }
    ck_abort_msg("no tensor %s", name);
    return NULL;
}

static void drop(model_parts *parts, const char *name)
{
    *find(parts, name) = parts->tensor[--parts->tensor_count];
}

static void drop_prefix(model_parts *parts, const char *prefix)
{
    for (size_t i = parts->tensor_count; i-- > 0;) {
        if (strncmp(parts->tensor[i].name, prefix, strlen(prefix)) == 0)
            parts->tensor[i] = parts->tensor[--parts->tensor_count];
    }
}

static const struct {
    const char *key, *value, *part;
} bad_settings[] = {
    {"format", NULL, "\"format\" is missing"},
    {"format", "carso/2", "carso/2"},
    {"format", "\n\n", "not printable"},
    {"graph", NULL, "\"graph\" is missing"},
    {"graph", "{", "graph"},
    {"graph", "{\"inputs\":[],\"nodes\":[]}", "no layer 'logits'"},
    {"graph", "[]", "graph"},
    {"graph",
     "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,28,28]}],\"nodes\":[{\"op\":\"relu\",\"name\":\"logits\","
     "\"inputs\":[\"image\"]}]}",
     "logits have 1"},
    {"logits", NULL, "\"logits\" is missing"},
    {"logits", "nowhere", "no layer 'nowhere'"},
    {"logits", "image", "'image'"},
    {"logits", "conv_0", "3 dimensions"},
    {"taps", NULL, "\"taps\" is missing"},
    {"taps", "[\"conv_0\",\"conv_9\"]", "'conv_9'"},
    {"taps", "[\"image\"]", "the graph's input"},
    {"taps", "[\"conv_0\",\"conv_0\"]", "named twice"},
    {"taps", "[1]", "taps"},
    {"taps", "{}", "taps"},
    {"taps", "[]", "no taps"},
    {"input", NULL, "\"input\" is missing"},
    {"input", "{\"channels\":2,\"height\":28,\"width\":28,\"mean\":[0,0],\"deviation\":[1,1]}", "2 channels"},
    {"input", "{\"channels\":4,\"height\":28,\"width\":28,\"mean\":[0],\"deviation\":[1]}", "channels"},
    {"input", "{\"channels\":0,\"height\":28,\"width\":28,\"mean\":[],\"deviation\":[]}", "channels"},
    {"input", "{\"channels\":3,\"height\":28,\"width\":28,\"mean\":[0,0,0],\"deviation\":[1,1,1]}", "3x28x28"},
    {"input", "{\"channels\":1,\"height\":28,\"width\":29,\"mean\":[0],\"deviation\":[1]}", "1x28x29"},
    {"input", "{\"channels\":1,\"height\":28,\"width\":9223372036854775807,\"mean\":[0],\"deviation\":[1]}", "width"},
    {"input", "{\"channels\":1,\"height\":28,\"width\":28,\"mean\":[0,0],\"deviation\":[1]}", "mean"},
    {"input", "{\"channels\":1,\"height\":28,\"width\":28,\"mean\":[0],\"deviation\":[0]}", "deviation 0"},
    {"input", "{\"channels\":1,\"height\":28,\"width\":28,\"mean\":[1e300],\"deviation\":[1]}", "mean"},
    {"input", "{\"channels\":1,\"height\":28,\"width\":28,\"mean\":[\"0\"],\"deviation\":[1]}", "mean"},
    {"input", "[]", "input"},
    {"classes", "[\"a\",\"b\",\"c\"]", "4 names"},
    {"classes", "[\"a\",\"b\",\"c\",4]", "class 3"},
    {"classes", "{}", "4 names"},
    {"purifier", NULL, "unexpected (purifier."},
    {"purifier", "[]", "purifier"},
    {"purifier", "{\"condition_size\":4,\"latent_size\":2,\"seed_channels\":16}", "encoder"},
    {"purifier", "{\"condition_size\":0,\"latent_size\":2,\"seed_channels\":16,\"encoder\":true}", "condition_size"},
    {"purifier", "{\"condition_size\":4,\"latent_size\":2,\"seed_channels\":17,\"encoder\":true}", "17 seed channels"},
    {"purifier", "{\"condition_size\":2147483647,\"latent_size\":2,\"seed_channels\":16,\"encoder\":true}",
     "condition size"},
    {"purifier", "{\"condition_size\":65536,\"latent_size\":2,\"seed_channels\":16,\"encoder\":true}",
     "repr_fcn_compressor.1.0.weight"},
    {"purifier", "{\"condition_size\":4,\"latent_size\":65536,\"seed_channels\":1024,\"encoder\":true}",
     "wrong type or shape"},
    {"purifier", "{\"condition_size\":5,\"latent_size\":2,\"seed_channels\":16,\"encoder\":true}",
     "F32 [4, 1232] instead of F32 [5, 1232]"},
    {"purifier", "{\"condition_size\":4,\"latent_size\":2,\"seed_channels\":16,\"encoder\":false}",
     "unexpected (purifier."},
    {"provenance", "[]", "provenance"},
    {"provenance", "{", "provenance"},
};

START_TEST(test_bad_settings)
{
    static model_parts parts;
    take_apart(&parts);
    set(&parts, bad_settings[_i].key, bad_settings[_i].value);
    const bool no_taps =
        strcmp(bad_settings[_i].part, "no taps") == 0; /* is well-formed: only a purifier has no use for it */
    expect(&parts, no_taps ? CARSO_ERROR_UNSUPPORTED : CARSO_ERROR_BAD_FORMAT, bad_settings[_i].part);
}
END_TEST

START_TEST(test_optional_settings)
{
    static model_parts parts;
    carso_model *model = NULL;
    take_apart(&parts);
    set(&parts, "classes", NULL);
    set(&parts, "provenance", NULL);
    parts.key[parts.setting_count] = "note";
    parts.value[parts.setting_count++] = "of another program";
    require(reload(&parts, &model));
    ck_assert_str_eq(carso_model_class_name(model, 3), "3");
    ck_assert_ptr_null(model->provenance);
    carso_model_destroy(model);
}
END_TEST

START_TEST(test_missing_tensors)
{
    static model_parts parts;
    take_apart(&parts);
    drop(&parts, "classifier.conv_1.weight");
    drop(&parts, "classifier.logits.bias");
    expect(&parts, CARSO_ERROR_BAD_FORMAT, "2 tensors are missing (classifier.conv_1.weight, classifier.logits.bias)");

    take_apart(&parts);
    drop(&parts, "purifier.decoder.0.1.bias");
    drop(&parts, "purifier.to_mean.weight");
    expect(&parts, CARSO_ERROR_BAD_FORMAT,
           "2 tensors are missing (purifier.to_mean.weight, purifier.decoder.0.1.bias)");

    take_apart(&parts);
    drop_prefix(&parts, "purifier.");
    expect(&parts, CARSO_ERROR_BAD_FORMAT, " more)");
    ck_assert(message_has("purifier.repr_compressors.0.0.0.weight, "));

    take_apart(&parts);
    parts.tensor_count = 0;
    expect(&parts, CARSO_ERROR_BAD_FORMAT, "8 tensors are missing");
}
END_TEST

START_TEST(test_misshaped_tensors)
{
    static model_parts parts;
    static const double wide[4] = {0.0, 0.0, 0.0, 0.0};
    take_apart(&parts);
    find(&parts, "purifier.repr_fcn_compressor.1.0.weight")->dimension[0] = 1232;
    find(&parts, "purifier.repr_fcn_compressor.1.0.weight")->dimension[1] = 4;
    drop(&parts, "purifier.to_mean.weight");
    expect(&parts, CARSO_ERROR_BAD_FORMAT,
           "purifier.repr_fcn_compressor.1.0.weight: F32 [1232, 4] instead of F32 [4, 1232]");
    ck_assert(message_has("1 tensor is missing (purifier.to_mean.weight)"));

    take_apart(&parts);
    find(&parts, "purifier.to_mean.weight")->rank = 1;
    find(&parts, "purifier.to_mean.weight")->dimension[0] = 4;
    expect(&parts, CARSO_ERROR_BAD_FORMAT, "purifier.to_mean.weight: F32 [4] instead of F32 [2, 2]");

    take_apart(&parts);
    find(&parts, "classifier.conv_1.bias")->dimension[0] = 31;
    expect(&parts, CARSO_ERROR_BAD_FORMAT, "conv_1");

    take_apart(&parts);
    cso_tensor_write *bias = find(&parts, "classifier.logits.bias");
    bias->type = CSO_TENSOR_F64;
    bias->data = wide;
    expect(&parts, CARSO_ERROR_BAD_FORMAT, "'classifier.logits.bias' is F64 [4]");

    take_apart(&parts);
    find(&parts, "classifier.logits.bias")->rank = 0;
    expect(&parts, CARSO_ERROR_BAD_FORMAT, "classifier.logits.bias");
}
END_TEST

START_TEST(test_unexpected_tensors)
{
    static model_parts parts;
    static const char *const name[] = {"classifier.conv_7.weight", "purifier.conv_0.weight", "conv_0.weight",
                                       "odd\nname"};
    static const float number = 1.0f;
    take_apart(&parts);
    for (size_t i = 0; i < 4; i++)
        parts.tensor[parts.tensor_count++] =
            (cso_tensor_write){.name = name[i], .type = CSO_TENSOR_F32, .rank = 1, .dimension = {1}, .data = &number};
    expect(&parts, CARSO_ERROR_BAD_FORMAT, "4 tensors are unexpected");
    ck_assert(message_has("classifier.conv_7.weight"));
    ck_assert(!message_has("odd\n"));
}
END_TEST

START_TEST(test_checkpoint_tensors_are_passed_over)
{
    static const float number[2] = {NAN, 1.0f};
    static const int64_t step = 7;
    static const char *const key[] = {"checkpoint"};
    static const char *const value[] = {"{\"step\":7}"};
    const cso_tensor_write extra[2] = {
        {.name = "checkpoint.moment", .type = CSO_TENSOR_F32, .rank = 1, .dimension = {2}, .data = number},
        {.name = "checkpoint.step", .type = CSO_TENSOR_I64, .rank = 1, .dimension = {1}, .data = &step},
    };
    carso_model *model = build(), *loaded = NULL;
    cso_safetensors *file = NULL;
    require(cso_model_write(model, scratch_file(CHANGED), extra, 2, key, value, 1));
    carso_model_destroy(model);
    require(carso_model_load(context, scratch_file(CHANGED), &loaded));
    check_same(loaded);
    carso_model_destroy(loaded);
    require(cso_safetensors_open(context, scratch_file(CHANGED), &file));
    ck_assert_str_eq(cso_safetensors_metadata(file, "checkpoint"), value[0]);
    ck_assert_int_eq(*(const int64_t *)cso_safetensors_find(file, "checkpoint.step")->data, 7);
    cso_safetensors_release(file);
}
END_TEST

START_TEST(test_without_encoder)
{
    static model_parts parts;
    carso_model *model = NULL, *again = NULL;
    double expected[2 * CLASSES], logits[2 * CLASSES];
    take_apart(&parts);
    drop_prefix(&parts, "purifier.input_compressor.");
    drop_prefix(&parts, "purifier.joint_fcn_compressor.");
    drop_prefix(&parts, "purifier.to_");
    set(&parts, "purifier", "{\"condition_size\":4,\"latent_size\":2,\"seed_channels\":16,\"encoder\":false}");
    require(reload(&parts, &model));
    ck_assert_ptr_null(model->purifier->encoder);
    draw(model, logits);
    require(carso_model_save(model, scratch_file("again.safetensors")));
    carso_model_destroy(model);
    require(carso_model_load(context, scratch_file("again.safetensors"), &again));
    ck_assert_ptr_null(again->purifier->encoder);
    carso_model_destroy(again);
    model = build();
    draw(model, expected);
    ck_assert_mem_eq(expected, logits, sizeof logits);
    carso_model_destroy(model);
}
END_TEST

START_TEST(test_values)
{
    static model_parts parts;
    float bias[CLASSES] = {0.0f, 1.0f, 0.0f, 0.0f}, variance[4] = {1.0f, 1.0f, -1e-6f, 1.0f};
    static const float not_finite[2] = {NAN, INFINITY};
    for (int i = 0; i < 2; i++) {
        take_apart(&parts);
        bias[2] = not_finite[i];
        find(&parts, "classifier.logits.bias")->data = bias;
        expect(&parts, CARSO_ERROR_NON_FINITE, "element 2 of tensor 'classifier.logits.bias'");
    }
    take_apart(&parts);
    find(&parts, "purifier.repr_fcn_compressor.1.1.weight")->data = bias;
    bias[2] = -INFINITY;
    expect(&parts, CARSO_ERROR_NON_FINITE, "element 2 of tensor 'purifier.repr_fcn_compressor.1.1.weight'");
    take_apart(&parts);
    find(&parts, "purifier.repr_fcn_compressor.1.1.running_var")->data = variance;
    expect(&parts, CARSO_ERROR_BAD_FORMAT, "negative");
}
END_TEST

/* Header and data alike: no byte may be changed, and none cut off, without the loader noticing or the model being the
 * same. */
START_TEST(test_damage)
{
    size_t size;
    unsigned char *data = scratch_read(MODEL, &size);
    carso_model *model = NULL;
    uint64_t header;
    memcpy(&header, data, sizeof header);
    ck_assert_uint_lt(header, size);
    for (size_t at = 0; at < size; at += at < 64 ? 1 : at < header ? 61 : 4099) {
        data[at] ^= 0x10;
        const carso_status status = carso_model_load_memory(context, data, size, &model);
        data[at] ^= 0x10;
        ck_assert_msg(status == CARSO_OK || status == CARSO_ERROR_BAD_FORMAT || status == CARSO_ERROR_UNSUPPORTED,
                      "byte %zu: %s", at, carso_status_str(status));
        ck_assert_msg(status != CARSO_OK || at < header + 8, "byte %zu of the data was changed unnoticed", at);
        carso_model_destroy(model);
        if (at % 4 != 0)
            continue;
        ck_assert_int_eq(carso_model_load_memory(context, data, at, &model), CARSO_ERROR_BAD_FORMAT);
        ck_assert_ptr_null(model);
    }
    ck_assert_int_eq(carso_model_load_memory(context, data, size - 1, &model), CARSO_ERROR_BAD_FORMAT);
    free(data);
}
END_TEST

/* A file as docs/model-format.md tells others to write one, byte by byte. */
START_TEST(test_foreign_file)
{
    static const char *const header =
        "{\"classifier.logits.weight\":{\"dtype\":\"F32\",\"shape\":[3,784],\"data_offsets\":[12,9420]},"
        "\"classifier.logits.bias\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
        "\"__metadata__\":{\"format\":\"carso/1\",\"logits\":\"logits\",\"taps\":\"[]\",\"crc32\":\"%08lx\","
        "\"input\":\"{\\\"channels\\\":1,\\\"height\\\":28,\\\"width\\\":28,\\\"mean\\\":[0],\\\"deviation\\\":[1]}\","
        "\"graph\":\"{\\\"inputs\\\":[{\\\"name\\\":\\\"image\\\",\\\"shape\\\":[1,28,28]}],\\\"nodes\\\":["
        "{\\\"op\\\":\\\"flatten\\\",\\\"name\\\":\\\"flat\\\",\\\"inputs\\\":[\\\"image\\\"]},"
        "{\\\"op\\\":\\\"linear\\\",\\\"name\\\":\\\"logits\\\",\\\"inputs\\\":[\\\"flat\\\"],"
        "\\\"parameters\\\":{\\\"weight\\\":\\\"logits.weight\\\",\\\"bias\\\":\\\"logits.bias\\\"}}]}\"}}";
    static union {
        unsigned char byte[16384];
        uint64_t aligned;
    } file;
    static float image[784];
    static const uint64_t image_index[1] = {0};
    float data[3 + 3 * 784];
    double logits[3];
    carso_model *model = NULL;
    for (int i = 0; i < 3 + 3 * 784; i++)
        data[i] = i < 3 ? 10.0f * (float)i : (float)((i - 3) / 784 + 1);
    image[0] = 0.25f;
    image[783] = 0.5f;
    const unsigned long sum = crc32(0, (const unsigned char *)data, sizeof data);
    const int written = snprintf((char *)file.byte + 8, 4096, header, sum);
    ck_assert(written > 0 && written < 4096);
    const uint64_t length = ((uint64_t)written + 7) / 8 * 8;
    memset(file.byte + 8 + written, ' ', length - (size_t)written);
    memcpy(file.byte, &length, 8);
    memcpy(file.byte + 8 + length, data, sizeof data);
    require(carso_model_load_memory(context, file.byte, 8 + length + sizeof data, &model));
    const cso_run run = {
        .images = image, .element = CSO_F32, .count = 1, .draws = 1, .image_index = image_index, .logits = logits};
    require(cso_run_classifier(model, &run));
    for (int i = 0; i < 3; i++)
        ck_assert_double_eq_tol(logits[i], 10.0 * i + 0.75 * (i + 1), 1e-5);
    ck_assert_int_eq(model->tap_count, 0);
    carso_model_destroy(model);
}
END_TEST

START_TEST(test_paths)
{
    carso_model *model = build(), *none = (carso_model *)&counts;
    ck_assert_int_eq(carso_model_load(context, scratch_file("nothing"), &none), CARSO_ERROR_NOT_FOUND);
    ck_assert_ptr_null(none);
    ck_assert(message_has("nothing"));
    ck_assert_int_ne(carso_model_load(context, scratch_path, &none), CARSO_OK);
    ck_assert_int_eq(carso_model_load(context, NULL, &none), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_model_load(NULL, scratch_file(MODEL), &none), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_model_load_memory(context, NULL, 10, &none), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_model_save(model, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_model_save(NULL, scratch_file(MODEL)), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_ne(carso_model_save(model, scratch_file("no folder/model")), CARSO_OK);
    ck_assert_int_eq(scratch_entries(), 1);
    carso_model_destroy(model);
}
END_TEST

START_TEST(test_each_allocation_failing)
{
    carso_model *model = build();
    const long held = counts.held;
    carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
    for (long failing = 1; status != CARSO_OK; failing++) {
        carso_model *loaded = NULL;
        counts.made = 0;
        counts.failing = failing;
        status = carso_model_save(model, scratch_file(CHANGED));
        if (status == CARSO_OK)
            status = carso_model_load(context, scratch_file(CHANGED), &loaded);
        ck_assert_msg(status == CARSO_OK || status == CARSO_ERROR_OUT_OF_MEMORY, "allocation %ld: %s", failing,
                      carso_status_str(status));
        carso_model_destroy(loaded);
        ck_assert_int_eq(counts.held, held);
    }
    counts.failing = 0;
    carso_model_destroy(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model file");
    TCase *tcase = tcase_create("model file");
    tcase_set_timeout(tcase, 100);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, test_round_trip);
    tcase_add_test(tcase, test_from_memory);
    tcase_add_test(tcase, test_without_purifier);
    tcase_add_loop_test(tcase, test_bad_settings, 0, (int)(sizeof bad_settings / sizeof *bad_settings));
    tcase_add_test(tcase, test_optional_settings);
    tcase_add_test(tcase, test_missing_tensors);
    tcase_add_test(tcase, test_misshaped_tensors);
    tcase_add_test(tcase, test_unexpected_tensors);
    tcase_add_test(tcase, test_checkpoint_tensors_are_passed_over);
    tcase_add_test(tcase, test_without_encoder);
    tcase_add_test(tcase, test_values);
    tcase_add_test(tcase, test_damage);
    tcase_add_test(tcase, test_foreign_file);
    tcase_add_test(tcase, test_paths);
    tcase_add_test(tcase, test_each_allocation_failing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
