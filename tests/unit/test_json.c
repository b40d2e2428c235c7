/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "counted_context.h"

static bool message_has(const char *part)
{
    char text[CSO_MESSAGE_SIZE];
    carso_context_message(context, text, sizeof text);
    return strstr(text, part) != NULL;
}

static carso_status parse(const char *text, json_t **out)
{
    return cso_json_parse(context, text, strlen(text), "example", out);
}

static void refuse(const char *text, size_t size)
{
    json_t *value = (json_t *)&counts;
    ck_assert_int_eq(cso_json_parse(context, text, size, "example", &value), CARSO_ERROR_BAD_FORMAT);
    ck_assert_ptr_null(value);
    ck_assert(message_has("example"));
}

START_TEST(malformed_text_is_refused)
{
    static const char *const texts[] = {
        "",
        " ",
        "{",
        "}",
        "{]",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{'a':1}",
        "[1] x",
        "nul",
        "12",
        "\"text\"",
        "[01]",
        "[1e999]",
        "[-1e999]",
        "[NaN]",
        "[Infinity]",
        "[99999999999999999999]",
        "[\"\\u0000\"]",
        "[\"\\ud800\"]",
        "[\"\xff\"]",
        "[\"\xc0\x80\"]",
        "[\"\n\"]",
        "[\"a",
        "[\"a\\",
        "{\"a\":1,\"a\":2}",
        "{\"a\":{\"b\":1,\"b\":1}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        refuse(texts[i], strlen(texts[i]));
    }
    refuse("[1]\0", 4);
    refuse("[\0]", 3);
    json_t *value;
    ck_assert_int_eq(parse("{\n \"a\": ?}", &value), CARSO_ERROR_BAD_FORMAT);
    ck_assert(message_has("line 2"));
}
END_TEST

START_TEST(text_need_not_be_terminated)
{
    json_t *value;
    char *text = malloc(3); /* exactly, so that a sanitizer sees a read beyond */
    ck_assert_ptr_nonnull(text);
    memcpy(text, "[7]", 3);
    ck_assert_int_eq(cso_json_parse(context, text, 3, "example", &value), CARSO_OK);
    ck_assert_int_eq(json_integer_value(json_array_get(value, 0)), 7);
    json_decref(value);
    memcpy(text, "[\"\\", 3);
    refuse(text, 3);
    free(text);
}
END_TEST

START_TEST(depth_is_bounded)
{
    char text[256];
    for (int depth = 32; depth <= 33; depth++) {
        json_t *value = NULL;
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = '\0';
        ck_assert_int_eq(parse(text, &value), depth == 32 ? CARSO_OK : CARSO_ERROR_BAD_FORMAT);
        json_decref(value);
    }
    ck_assert(message_has("32 levels"));
    const size_t size = 1 << 20;
    char *bomb = malloc(size);
    ck_assert_ptr_nonnull(bomb);
    memset(bomb, '[', size);
    refuse(bomb, size);
    for (size_t i = 0; i + 5 <= size; i += 5) {
        memcpy(bomb + i, "{\"a\":", 5);
    }
    refuse(bomb, size);
    free(bomb);
}
END_TEST

START_TEST(brackets_and_commas_in_strings_do_not_count)
{
    const size_t size = 1 << 20;
    json_t *value;
    char *text = malloc(size);
    ck_assert_ptr_nonnull(text);
    memset(text, '[', size);
    memcpy(text, "[\"\\\"", 4);
    memcpy(text + size - 2, "\"]", 2);
    ck_assert_int_eq(cso_json_parse(context, text, size, "example", &value), CARSO_OK);
    ck_assert_uint_eq(json_string_length(json_array_get(value, 0)), size - 5);
    json_decref(value);
    free(text);
}
END_TEST

START_TEST(number_of_values_and_size_are_bounded)
{
    const size_t size = ((size_t)16 << 20) + 1;
    char *text = malloc(size);
    ck_assert_ptr_nonnull(text);
    memset(text, ' ', size);
    text[0] = '[';
    text[size - 1] = ']';
    refuse(text, size);
    ck_assert(message_has("limit"));
    json_t *value;
    text[size - 2] = ']';
    ck_assert_int_eq(cso_json_parse(context, text, size - 1, "example", &value), CARSO_OK);
    json_decref(value);
    for (size_t i = 1; i + 1 < size; i += 2) {
        text[i] = '0';
        text[i + 1] = ',';
    }
    refuse(text, size - 1);
    ck_assert(message_has("values"));
    free(text);
}
END_TEST

START_TEST(typed_reads_check_type_and_range)
{
    json_t *object;
    int64_t integer = 77;
    double number = 77.0;
    const char *string = NULL;
    const json_t *array = NULL;
    ck_assert_int_eq(
        parse("{\"i\":5,\"r\":2.5,\"s\":\"text\",\"a\":[1,2,3],\"n\":null,\"big\":9223372036854775807}", &object),
        CARSO_OK);
    ck_assert_int_eq(cso_json_integer(context, object, "i", "here", 5, 5, &integer), CARSO_OK);
    ck_assert_int_eq(integer, 5);
    ck_assert_int_eq(cso_json_integer(context, object, "big", "here", INT64_MIN, INT64_MAX, &integer), CARSO_OK);
    ck_assert_int_eq(integer, INT64_MAX);
    ck_assert_int_eq(cso_json_integer(context, object, "i", "here", 6, 9, &integer), CARSO_ERROR_BAD_FORMAT);
    ck_assert(message_has("here: \"i\" is 5, not in 6 to 9"));
    ck_assert_int_eq(cso_json_integer(context, object, "i", "here", 0, 4, &integer), CARSO_ERROR_BAD_FORMAT);
    ck_assert_int_eq(cso_json_integer(context, object, "r", "here", 0, 9, &integer), CARSO_ERROR_BAD_FORMAT);
    ck_assert_int_eq(cso_json_integer(context, object, "s", "here", 0, 9, &integer), CARSO_ERROR_BAD_FORMAT);
    ck_assert_int_eq(cso_json_integer(context, object, "n", "here", 0, 9, &integer), CARSO_ERROR_BAD_FORMAT);
    ck_assert_int_eq(cso_json_integer(context, object, "none", "here", 0, 9, &integer), CARSO_ERROR_BAD_FORMAT);
    ck_assert(message_has("here: \"none\" is missing"));
    ck_assert_int_eq(integer, INT64_MAX);
    ck_assert_int_eq(cso_json_number(context, object, "r", "here", &number), CARSO_OK);
    ck_assert_double_eq(number, 2.5);
    ck_assert_int_eq(cso_json_number(context, object, "i", "here", &number), CARSO_OK);
    ck_assert_double_eq(number, 5.0);
    ck_assert_int_eq(cso_json_number(context, object, "s", "here", &number), CARSO_ERROR_BAD_FORMAT);
    ck_assert_int_eq(cso_json_string(context, object, "s", "here", &string), CARSO_OK);
    ck_assert_str_eq(string, "text");
    ck_assert_int_eq(cso_json_string(context, object, "a", "here", &string), CARSO_ERROR_BAD_FORMAT);
    ck_assert_int_eq(cso_json_array(context, object, "a", "here", 3, &array), CARSO_OK);
    ck_assert_uint_eq(json_array_size(array), 3);
    ck_assert_int_eq(cso_json_array(context, object, "a", "here", 2, &array), CARSO_ERROR_BAD_FORMAT);
    ck_assert_int_eq(cso_json_array(context, object, "s", "here", 9, &array), CARSO_ERROR_BAD_FORMAT);
    ck_assert_int_eq(cso_json_array(context, array, "a", "here", 9, &array), CARSO_ERROR_BAD_FORMAT);
    ck_assert(message_has("not an object"));
    ck_assert_int_eq(cso_json_string(context, NULL, "a", "here", &string), CARSO_ERROR_BAD_FORMAT);
    json_decref(object);
}
END_TEST

START_TEST(text_is_sorted_compact_and_round_trips)
{
    json_t *value, *again;
    size_t size = 0;
    ck_assert_int_eq(parse("{ \"b\" : [ 1, 0.1 ], \"a\" : \"\xc3\xa9\" }", &value), CARSO_OK);
    char *text = cso_json_text(context, value, &size);
    ck_assert_ptr_nonnull(text);
    ck_assert_uint_eq(size, strlen(text));
    ck_assert_ptr_eq(strstr(text, "{\"a\":\"\xc3\xa9\",\"b\":[1,0.1"), text);
    ck_assert_int_eq(parse(text, &again), CARSO_OK);
    ck_assert(json_equal(value, again));
    cso_release(context, text);
    json_decref(again);
    counts.failing = counts.made + 1;
    ck_assert_ptr_null(cso_json_text(context, value, &size));
    ck_assert_ptr_null(cso_json_text(context, NULL, NULL));
    json_decref(value);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("json");
    TCase *tests = tcase_create("json");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, malformed_text_is_refused);
    tcase_add_test(tests, text_need_not_be_terminated);
    tcase_add_test(tests, depth_is_bounded);
    tcase_add_test(tests, brackets_and_commas_in_strings_do_not_count);
    tcase_add_test(tests, number_of_values_and_size_are_bounded);
    tcase_add_test(tests, typed_reads_check_type_and_range);
    tcase_add_test(tests, text_is_sorted_compact_and_round_trips);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
