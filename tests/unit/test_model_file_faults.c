/* SPDX-License-Identifier: BSD-2-Clause */
/* Model files with faults. */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "model_file_case.h"

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

static cso_tensor_write *find(model_parts *parts, const char *name)
{
    for (size_t i = 0; i < parts->tensor_count; i++) {
        if (strcmp(parts->tensor[i].name, name) == 0) {
            return &parts->tensor[i];
        }
    }
    ck_abort_msg("no tensor %s", name);
    return NULL;
}

static void drop(model_parts *parts, const char *name)
{
    *find(parts, name) = parts->tensor[--parts->tensor_count];
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
    for (size_t i = 0; i < 4; i++) {
        parts.tensor[parts.tensor_count++] =
            (cso_tensor_write){.name = name[i], .type = CSO_TENSOR_F32, .rank = 1, .dimension = {1}, .data = &number};
    }
    expect(&parts, CARSO_ERROR_BAD_FORMAT, "4 tensors are unexpected");
    ck_assert(message_has("classifier.conv_7.weight"));
    ck_assert(!message_has("odd\n"));
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
        if (at % 4 != 0) {
            continue;
        }
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
    for (int i = 0; i < 3 + 3 * 784; i++) {
        data[i] = i < 3 ? 10.0f * (float)i : (float)((i - 3) / 784 + 1);
    }
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
    for (int i = 0; i < 3; i++) {
        ck_assert_double_eq_tol(logits[i], 10.0 * i + 0.75 * (i + 1), 1e-5);
    }
    ck_assert_int_eq(model->tap_count, 0);
    carso_model_destroy(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model file faults");
    TCase *tcase = tcase_create("model file");
    tcase_set_timeout(tcase, 100);
    tcase_add_checked_fixture(tcase, set_up_with_model, tear_down_with_folder);
    tcase_add_loop_test(tcase, test_bad_settings, 0, (int)(sizeof bad_settings / sizeof *bad_settings));
    tcase_add_test(tcase, test_optional_settings);
    tcase_add_test(tcase, test_missing_tensors);
    tcase_add_test(tcase, test_misshaped_tensors);
    tcase_add_test(tcase, test_unexpected_tensors);
    tcase_add_test(tcase, test_values);
    tcase_add_test(tcase, test_damage);
    tcase_add_test(tcase, test_foreign_file);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
