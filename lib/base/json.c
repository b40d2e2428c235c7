/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* A value takes the parser some 60 bytes, so that the worst text takes about 100 MB while it is open. */
#define MOST_TEXT ((size_t)16 << 20)
#define MOST_VALUES ((size_t)1 << 20)
#define MOST_DEPTH 32

/* The parser recurses and allocates as the text tells it to: what it would take is bounded before it begins. */
static carso_status check_extent(carso_context *context, const char *text, size_t size, const char *name)
{
    size_t values = 1, depth = 0;
    bool in_string = false;
    if (size > MOST_TEXT) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: %zu bytes of JSON, the limit is %zu", name, size,
                        MOST_TEXT);
    }
    for (size_t i = 0; i < size; i++) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
            continue;
        }
        switch (c) {
        case '"':
            in_string = true;
            break;
        case '[':
        case '{':
            depth++;
            values++;
            break;
        case ']':
        case '}':
            depth -= depth > 0;
            break;
        case ',':
            values++;
            break;
        default:
            break;
        }
        if (depth > MOST_DEPTH || values > MOST_VALUES) {
            return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: JSON of more than %d levels or %zu values", name,
                            MOST_DEPTH, MOST_VALUES);
        }
    }
    return CARSO_OK;
}

carso_status cso_json_parse(carso_context *context, const char *text, size_t size, const char *name, json_t **out)
{
    json_error_t error;
    *out = NULL;
    const carso_status status = check_extent(context, text, size, name);
    if (status != CARSO_OK) {
        return status;
    }
    *out = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (*out == NULL) {
        if (json_error_code(&error) == json_error_out_of_memory) {
            return cso_fail_memory(context, "JSON text");
        }
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: JSON line %d, column %d: %s", name, error.line,
                        error.column, error.text);
    }
    return CARSO_OK;
}

static carso_status find_member(carso_context *context, const json_t *object, const char *key, const char *where,
                                const json_t **out)
{
    *out = json_object_get(object, key);
    if (*out == NULL) {
        return json_is_object(object) ? cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: \"%s\" is missing", where, key)
                                      : cso_fail(context, CARSO_ERROR_BAD_FORMAT,
                                                 "%s: not an object, which should have \"%s\"", where, key);
    }
    return CARSO_OK;
}

static carso_status wrong_type(carso_context *context, const char *key, const char *where, const char *expected)
{
    return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: \"%s\" is not %s", where, key, expected);
}

carso_status cso_json_integer(carso_context *context, const json_t *object, const char *key, const char *where,
                              int64_t low, int64_t high, int64_t *out)
{
    const json_t *value;
    const carso_status status = find_member(context, object, key, where, &value);
    if (status != CARSO_OK) {
        return status;
    }
    if (!json_is_integer(value)) {
        return wrong_type(context, key, where, "an integer");
    }
    const int64_t number = json_integer_value(value);
    if (number < low || number > high) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: \"%s\" is %" PRId64 ", not in %" PRId64 " to %" PRId64,
                        where, key, number, low, high);
    }
    *out = number;
    return CARSO_OK;
}

carso_status cso_json_number(carso_context *context, const json_t *object, const char *key, const char *where,
                             double *out)
{
    const json_t *value;
    const carso_status status = find_member(context, object, key, where, &value);
    if (status != CARSO_OK) {
        return status;
    }
    if (!json_is_number(value) || !isfinite(json_number_value(value))) {
        return wrong_type(context, key, where, "a finite number");
    }
    *out = json_number_value(value);
    return CARSO_OK;
}

carso_status cso_json_string(carso_context *context, const json_t *object, const char *key, const char *where,
                             const char **out)
{
    const json_t *value;
    const carso_status status = find_member(context, object, key, where, &value);
    if (status != CARSO_OK) {
        return status;
    }
    if (!json_is_string(value)) {
        return wrong_type(context, key, where, "a string");
    }
    *out = json_string_value(value);
    return CARSO_OK;
}

carso_status cso_json_array(carso_context *context, const json_t *object, const char *key, const char *where,
                            size_t most, const json_t **out)
{
    const json_t *value;
    const carso_status status = find_member(context, object, key, where, &value);
    if (status != CARSO_OK) {
        return status;
    }
    if (!json_is_array(value)) {
        return wrong_type(context, key, where, "an array");
    }
    if (json_array_size(value) > most) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: \"%s\" has %zu elements, the limit is %zu", where, key,
                        json_array_size(value), most);
    }
    *out = value;
    return CARSO_OK;
}

char *cso_json_text(const carso_context *context, const json_t *value, size_t *out_size)
{
    const size_t flags = JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY;
    const size_t size = json_dumpb(value, NULL, 0, flags);
    char *text = size == 0 ? NULL : cso_allocate_raw(context, size + 1, 1);
    if (text == NULL) {
        return NULL;
    }
    /* Sorting the keys takes memory: the second pass can fail where the first did not. */
    if (json_dumpb(value, text, size, flags) != size) {
        cso_release(context, text);
        return NULL;
    }
    text[size] = '\0';
    if (out_size != NULL) {
        *out_size = size;
    }
    return text;
}
