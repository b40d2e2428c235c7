/* SPDX-License-Identifier: BSD-2-Clause */
#include <inttypes.h>
#include <string.h>
#include <zlib.h>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/tensor_type.h"

#define LENGTH_SIZE 8

/* What is to be written: tensors in file order with their sizes. */
typedef struct file_plan {
    const cso_tensor_write **tensor;
    size_t *bytes;
    size_t count;
} file_plan;

static carso_status measure(const carso_context *context, const cso_tensor_write *tensor, size_t *out_bytes)
{
    size_t bytes = cso_tensor_type_size(tensor->type);
    bool empty = false;
    for (int i = 0; i < tensor->rank; i++) {
        const int64_t dimension = tensor->dimension[i];
        if (dimension < 0 || (dimension > 0 && (uint64_t)dimension > PTRDIFF_MAX / bytes)) {
            return cso_fail(context, CARSO_ERROR_INTERNAL, "tensor \"%s\" has an impossible shape", tensor->name);
        }
        if (dimension == 0) {
            empty = true;
        } else {
            bytes *= (size_t)dimension;
        }
    }
    *out_bytes = empty ? 0 : bytes;
    return CARSO_OK;
}

/* The format allows no gaps, so that the widest types go first to keep all of them aligned. */
static carso_status make_plan(const carso_context *context, const cso_tensor_write *tensors, size_t count,
                              file_plan *out)
{
    out->tensor = cso_allocate(context, count, sizeof *out->tensor);
    out->bytes = cso_allocate(context, count, sizeof *out->bytes);
    if (out->tensor == NULL || out->bytes == NULL) {
        return cso_fail_memory(context, "the list of tensors");
    }
    for (size_t width = 8; width > 0; width /= 2) {
        for (size_t i = 0; i < count; i++) {
            if (cso_tensor_type_size(tensors[i].type) == width) {
                const carso_status status = measure(context, &tensors[i], &out->bytes[out->count]);
                if (status != CARSO_OK) {
                    return status;
                }
                out->tensor[out->count++] = &tensors[i];
            }
        }
    }
    return CARSO_OK;
}

static carso_status make_metadata(const carso_context *context, const file_plan *plan, const char *const *keys,
                                  const char *const *values, size_t count, json_t *header)
{
    char checksum[CSO_CHECKSUM_SIZE];
    unsigned long sum = crc32_z(0, NULL, 0);
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->bytes[i] > 0) {
            sum = crc32_z(sum, plan->tensor[i]->data, plan->bytes[i]);
        }
    }
    cso_checksum_text((uint32_t)sum, checksum);
    json_t *metadata = json_object();
    if (json_object_set_new(header, "__metadata__", metadata) != 0 ||
        json_object_set_new(metadata, "crc32", json_string(checksum)) != 0) {
        return cso_fail_memory(context, "metadata");
    }
    for (size_t i = 0; i < count; i++) {
        json_t *text = json_string(values[i]);
        if (json_object_set_new(metadata, keys[i], text) != 0) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "metadata \"%s\" is not valid UTF-8", keys[i]);
        }
    }
    return CARSO_OK;
}

static json_t *describe(const cso_tensor_write *tensor, size_t begin, size_t end)
{
    json_t *shape = json_array();
    for (int i = 0; i < tensor->rank; i++) {
        if (json_array_append_new(shape, json_integer(tensor->dimension[i])) != 0) {
            json_decref(shape);
            return NULL;
        }
    }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", cso_tensor_type_name(tensor->type), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static carso_status make_header(const carso_context *context, const file_plan *plan, const char *const *keys,
                                const char *const *values, size_t metadata_count, char **out_text, size_t *out_size)
{
    json_t *header = json_object();
    size_t position = 0;
    carso_status status = make_metadata(context, plan, keys, values, metadata_count, header);
    for (size_t i = 0; i < plan->count && status == CARSO_OK; i++) {
        const char *name = plan->tensor[i]->name;
        json_t *entry = describe(plan->tensor[i], position, position + plan->bytes[i]);
        if (entry == NULL) {
            status = cso_fail_memory(context, "a file's header");
        } else if (json_object_get(header, name) != NULL) {
            status = cso_fail(context, CARSO_ERROR_INTERNAL, "two tensors are called \"%s\"", name);
            json_decref(entry);
        } else if (json_object_set_new(header, name, entry) != 0) {
            status = cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "the name of tensor %zu is not valid UTF-8", i);
        }
        position += plan->bytes[i];
    }
    if (status == CARSO_OK) {
        *out_text = cso_json_text(context, header, out_size);
        if (*out_text == NULL) {
            status = cso_fail_memory(context, "a file's header");
        }
    }
    json_decref(header);
    return status;
}

static carso_status write_file(cso_atomic_file *file, const file_plan *plan, const char *header, size_t header_size)
{
    static const char spaces[CSO_ALIGNMENT + 1] = "                                                                ";
    const size_t padding = (CSO_ALIGNMENT - (LENGTH_SIZE + header_size) % CSO_ALIGNMENT) % CSO_ALIGNMENT;
    const uint64_t length = header_size + padding;
    carso_status status = cso_atomic_file_write(file, &length, sizeof length);
    if (status == CARSO_OK) {
        status = cso_atomic_file_write(file, header, header_size);
    }
    if (status == CARSO_OK) {
        status = cso_atomic_file_write(file, spaces, padding);
    }
    for (size_t i = 0; i < plan->count && status == CARSO_OK; i++) {
        status = cso_atomic_file_write(file, plan->tensor[i]->data, plan->bytes[i]);
    }
    return status;
}

carso_status cso_safetensors_write(carso_context *context, const char *path, const cso_tensor_write *tensors,
                                   size_t count, const char *const *keys, const char *const *values,
                                   size_t metadata_count)
{
    file_plan plan = {0};
    char *header = NULL;
    size_t header_size = 0;
    cso_atomic_file *file = NULL;
    carso_status status = make_plan(context, tensors, count, &plan);
    if (status == CARSO_OK) {
        status = make_header(context, &plan, keys, values, metadata_count, &header, &header_size);
    }
    if (status == CARSO_OK) {
        file = cso_allocate(context, 1, sizeof *file);
        status = file == NULL ? cso_fail_memory(context, "a file") : cso_atomic_file_open(context, path, file);
    }
    if (status == CARSO_OK) {
        status = write_file(file, &plan, header, header_size);
        if (status == CARSO_OK) {
            status = cso_atomic_file_commit(file);
        }
        cso_atomic_file_abandon(file);
    }
    cso_release(context, file);
    cso_release(context, header);
    cso_release(context, plan.bytes);
    cso_release(context, plan.tensor);
    return status;
}
