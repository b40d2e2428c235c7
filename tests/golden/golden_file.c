/* SPDX-License-Identifier: BSD-2-Clause */
#include "golden_file.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void golden_require(const carso_context *context, carso_status status, const char *what)
{
    char message[1024] = "";
    if (status != CARSO_OK && context != NULL) {
        carso_context_message(context, message, sizeof message);
    }
    ck_assert_msg(status == CARSO_OK, "%s: %s: %s", what, carso_status_str(status), message);
}

void golden_open(carso_context *context, const char *path, golden_file *file)
{
    *file = (golden_file){.context = context};
    snprintf(file->path, sizeof file->path, "%s", path);
    golden_require(context, cso_safetensors_open(context, path, &file->tensors), path);
    file->strides = golden_json(file, "strides");
}

void golden_close(golden_file *file)
{
    json_decref(file->strides);
    cso_safetensors_release(file->tensors);
}

const char *golden_metadata(const golden_file *file, const char *key)
{
    const char *text = cso_safetensors_metadata(file->tensors, key);
    ck_assert_msg(text != NULL, "%s has no metadata %s", file->path, key);
    return text;
}

json_t *golden_json(const golden_file *file, const char *key)
{
    json_t *json = NULL;
    const char *text = golden_metadata(file, key);
    golden_require(file->context, cso_json_parse(file->context, text, strlen(text), key, &json), key);
    return json;
}

const cso_tensor *golden_tensor(const golden_file *file, const char *name)
{
    const cso_tensor *tensor = cso_safetensors_find(file->tensors, name);
    ck_assert_msg(tensor != NULL, "%s has no %s", file->path, name);
    return tensor;
}

/* Of any floating-point tensor; doubles need not be aligned. */
static double element(const cso_tensor *tensor, size_t index)
{
    double value;
    if (tensor->type == CSO_TENSOR_F32) {
        return (double)((const float *)tensor->data)[index];
    }
    ck_assert_int_eq(tensor->type, CSO_TENSOR_F64);
    memcpy(&value, (const char *)tensor->data + index * sizeof value, sizeof value);
    return value;
}

double *golden_doubles(const golden_file *file, const char *name, size_t count)
{
    const cso_tensor *tensor = golden_tensor(file, name);
    double *values = malloc(count * sizeof *values);
    ck_assert_ptr_nonnull(values);
    ck_assert_int_eq(tensor->type, CSO_TENSOR_F32);
    ck_assert_uint_eq(tensor->count, count);
    for (size_t i = 0; i < count; i++) {
        values[i] = element(tensor, i);
    }
    return values;
}

void golden_labels(const golden_file *file, size_t count, int32_t *out)
{
    const cso_tensor *labels = golden_tensor(file, "labels");
    ck_assert_int_eq(labels->type, CSO_TENSOR_I64);
    ck_assert_uint_eq(labels->count, count);
    for (size_t i = 0; i < count; i++) {
        int64_t label;
        memcpy(&label, (const char *)labels->data + i * sizeof label, sizeof label);
        out[i] = (int32_t)label;
    }
}

void golden_compare(const golden_file *file, const char *name, const double *actual, size_t count, double within,
                    double mean_within)
{
    const cso_tensor *tensor = golden_tensor(file, name);
    const json_t *entry = json_object_get(file->strides, name);
    const size_t stride = entry == NULL ? 1 : (size_t)json_integer_value(entry);
    const char *backend = carso_context_backend(file->context);
    double largest = 0.0, error = 0.0, squares = 0.0, error_squares = 0.0;
    ck_assert_uint_eq(tensor->count, (count + stride - 1) / stride);
    for (size_t i = 0; i < tensor->count; i++) {
        const double expected = element(tensor, i), difference = fabs(expected - actual[i * stride]);
        largest = fmax(largest, fabs(expected));
        squares += expected * expected;
        error_squares += difference * difference;
        if (!(difference <= error)) /* NaN included */ {
            error = difference;
        }
    }
    const double mean = sqrt(error_squares / squares);
    if (getenv("CARSO_TEST_VERBOSE") != NULL) {
        printf("%s %s: %.2e of %.1e, root mean square %.2e of %.1e\n", backend, name, error / largest, within, mean,
               mean_within);
    }
    ck_assert_msg(largest > 0.0, "%s, %s is all zero", file->path, name);
    ck_assert_msg(error <= within * largest, "%s, %s: %s: error %g of %g", backend, file->path, name, error / largest,
                  within);
    ck_assert_msg(mean <= mean_within, "%s, %s: %s: root mean square error %g of %g", backend, file->path, name, mean,
                  mean_within);
}
