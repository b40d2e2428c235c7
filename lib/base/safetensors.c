/* SPDX-License-Identifier: BSD-2-Clause */
/* The reader: nothing in the file is believed before it is checked against the file's own size. */
#include "base/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "base/json.h"
#include "base/regular_file.h"
#include "base/tensor_type.h"

#define LENGTH_SIZE 8
#define LARGEST_HEADER ((uint64_t)16 << 20)

struct cso_safetensors {
    atomic_int references;
    carso_context *context;
    char *name;
    void *map; /* NULL: the caller's memory */
    const unsigned char *base;
    size_t size;
    size_t data_begin;
    json_t *header; /* owns the tensors' names and the metadata */
    size_t count;
    cso_tensor *tensors;        /* in the order of their data */
    const cso_tensor **by_name; /* sorted */
};

static carso_status bad_tensor(const cso_safetensors *file, const char *tensor, const char *what)
{
    return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT, "%s: tensor \"%s\": %s", file->name, tensor, what);
}

/* dtype must be one of ours. */
static carso_status read_type(const cso_safetensors *file, const json_t *value, cso_tensor *tensor)
{
    static const char *const foreign[] = {"F16", "BF16", "F8_E4M3", "F8_E5M2", "I16",
                                          "I8",  "U16",  "U32",     "U64",     "BOOL"};
    const char *text = json_string_value(value);
    if (text == NULL) {
        return bad_tensor(file, tensor->name, "\"dtype\" is missing or not a string");
    }
    if (cso_tensor_type_find(text, &tensor->type)) {
        return CARSO_OK;
    }
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        if (strcmp(text, foreign[i]) == 0) {
            return cso_fail(file->context, CARSO_ERROR_UNSUPPORTED,
                            "%s: tensor \"%s\" is of type %s; convert it to one of F32, F64, I64, I32, U8", file->name,
                            tensor->name, text);
        }
    }
    return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT, "%s: tensor \"%s\": unknown type \"%s\"", file->name,
                    tensor->name, text);
}

static carso_status read_shape(const cso_safetensors *file, const json_t *shape, cso_tensor *tensor)
{
    if (!json_is_array(shape)) {
        return bad_tensor(file, tensor->name, "\"shape\" is missing or not an array");
    }
    if (json_array_size(shape) > CSO_TENSOR_MAX_RANK) {
        return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT, "%s: tensor \"%s\" has %zu dimensions, the limit is %d",
                        file->name, tensor->name, json_array_size(shape), CSO_TENSOR_MAX_RANK);
    }
    tensor->rank = (int)json_array_size(shape);
    tensor->count = 1;
    bool empty = false, overflow = false;
    for (int i = 0; i < tensor->rank; i++) {
        const json_t *value = json_array_get(shape, (size_t)i);
        const json_int_t dimension = json_integer_value(value);
        if (!json_is_integer(value) || dimension < 0) {
            return bad_tensor(file, tensor->name, "a dimension is not an integer of at least 0");
        }
        tensor->dimension[i] = dimension;
        if (dimension == 0) {
            empty = true;
        } else if ((uint64_t)dimension > SIZE_MAX / tensor->count) {
            overflow = true;
        } else {
            tensor->count *= (size_t)dimension;
        }
    }
    const size_t element = cso_tensor_type_size(tensor->type);
    if (overflow || tensor->count > SIZE_MAX / element) {
        return bad_tensor(file, tensor->name, "the product of its dimensions overflows");
    }
    tensor->count = empty ? 0 : tensor->count;
    tensor->bytes = tensor->count * element;
    return CARSO_OK;
}

static carso_status read_offsets(const cso_safetensors *file, const json_t *offsets, cso_tensor *tensor)
{
    const json_t *first = json_array_get(offsets, 0);
    const json_t *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last)) {
        return bad_tensor(file, tensor->name, "\"data_offsets\" is missing or not two integers");
    }
    const json_int_t begin = json_integer_value(first);
    const json_int_t end = json_integer_value(last);
    const size_t available = file->size - file->data_begin;
    if (begin < 0 || end < begin) {
        return bad_tensor(file, tensor->name, "its data ends before it begins");
    }
    if ((uint64_t)end > available) {
        return cso_fail(
            file->context, CARSO_ERROR_BAD_FORMAT,
            "%s: tensor \"%s\" ends at byte %lld of the data, which has %zu; the file is truncated or damaged",
            file->name, tensor->name, (long long)end, available);
    }
    if ((uint64_t)(end - begin) != tensor->bytes) {
        return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT,
                        "%s: tensor \"%s\" has %lld bytes of data, its shape needs %zu", file->name, tensor->name,
                        (long long)(end - begin), tensor->bytes);
    }
    tensor->data = file->base + file->data_begin + (size_t)begin;
    /* Wider access than a byte would be undefined on some machines. Weights are 4 bytes wide; what is wider, such as
     * BatchNorm's counters, stands between them in the files of some programs, and is copied before use. */
    const size_t element = cso_tensor_type_size(tensor->type);
    if ((uintptr_t)tensor->data % (element < 4 ? element : 4) != 0) {
        return bad_tensor(file, tensor->name, "its data is not aligned to its type");
    }
    return CARSO_OK;
}

static carso_status read_tensor(const cso_safetensors *file, const char *name, const json_t *value, cso_tensor *tensor)
{
    tensor->name = name;
    if (name[0] == '\0') {
        return bad_tensor(file, name, "has no name");
    }
    if (!json_is_object(value)) {
        return bad_tensor(file, name, "its entry is not an object");
    }
    if (json_object_size(value) != 3) {
        return bad_tensor(file, name, "its entry has other members than dtype, shape and data_offsets");
    }
    carso_status status = read_type(file, json_object_get(value, "dtype"), tensor);
    if (status == CARSO_OK) {
        status = read_shape(file, json_object_get(value, "shape"), tensor);
    }
    if (status == CARSO_OK) {
        status = read_offsets(file, json_object_get(value, "data_offsets"), tensor);
    }
    return status;
}

static carso_status check_metadata(const cso_safetensors *file)
{
    json_t *metadata = json_object_get(file->header, "__metadata__");
    const char *key;
    json_t *value;
    if (metadata != NULL && !json_is_object(metadata)) {
        return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT, "%s: __metadata__ is not an object", file->name);
    }
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value)) {
            return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT, "%s: __metadata__ \"%s\" is not a string",
                            file->name, key);
        }
    }
    return CARSO_OK;
}

static int compare_places(const void *left, const void *right)
{
    const cso_tensor *a = left;
    const cso_tensor *b = right;
    if (a->data != b->data) {
        return (uintptr_t)a->data < (uintptr_t)b->data ? -1 : 1;
    }
    return (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

static int compare_names(const void *left, const void *right)
{
    return strcmp((*(const cso_tensor *const *)left)->name, (*(const cso_tensor *const *)right)->name);
}

/* The format demands that the tensors cover the data: no overlap, no gap, nothing behind. */
static carso_status check_cover(const cso_safetensors *file)
{
    const unsigned char *expected = file->base + file->data_begin;
    for (size_t i = 0; i < file->count; i++) {
        const cso_tensor *tensor = &file->tensors[i];
        const unsigned char *data = tensor->data;
        if (data != expected) {
            return bad_tensor(file, tensor->name,
                              data < expected ? "its data overlaps that of another tensor"
                                              : "there is a gap before its data");
        }
        expected = data + tensor->bytes;
    }
    if (expected != file->base + file->size) {
        return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT, "%s: %zu bytes follow the last tensor", file->name,
                        (size_t)(file->base + file->size - expected));
    }
    return CARSO_OK;
}

static carso_status read_tensors(cso_safetensors *file)
{
    const size_t most = json_object_size(file->header);
    const char *key;
    json_t *value;
    file->tensors = cso_allocate(file->context, most, sizeof *file->tensors);
    file->by_name = cso_allocate(file->context, most, sizeof *file->by_name);
    if (file->tensors == NULL || file->by_name == NULL) {
        return cso_fail_memory(file->context, "the list of tensors");
    }
    json_object_foreach(file->header, key, value)
    {
        if (strcmp(key, "__metadata__") != 0) {
            const carso_status status = read_tensor(file, key, value, &file->tensors[file->count]);
            if (status != CARSO_OK) {
                return status;
            }
            file->count++;
        }
    }
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_places);
    for (size_t i = 0; i < file->count; i++) {
        file->by_name[i] = &file->tensors[i];
    }
    qsort(file->by_name, file->count, sizeof *file->by_name, compare_names);
    return check_cover(file);
}

static carso_status read_header(cso_safetensors *file)
{
    uint64_t length = 0;
    if (file->size < LENGTH_SIZE) {
        return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT, "%s: %zu bytes are too few for a safetensors file",
                        file->name, file->size);
    }
    for (int i = 0; i < LENGTH_SIZE; i++) {
        length |= (uint64_t)file->base[i] << 8 * i;
    }
    if (memcmp(file->base, "PK\003\004", 4) == 0) {
        return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT,
                        "%s: a ZIP archive, as PyTorch's checkpoints are; carso.convert_checkpoint in Python makes a "
                        "safetensors file of one",
                        file->name);
    }
    if (length > LARGEST_HEADER) {
        return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT,
                        "%s: a header of %llu bytes, the limit is %llu; not a safetensors file, or damaged", file->name,
                        (unsigned long long)length, (unsigned long long)LARGEST_HEADER);
    }
    if (length > file->size - LENGTH_SIZE) {
        return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT, "%s: truncated: the header has %llu bytes, the file %zu",
                        file->name, (unsigned long long)length, file->size);
    }
    file->data_begin = LENGTH_SIZE + (size_t)length;
    carso_status status = cso_json_parse(file->context, (const char *)file->base + LENGTH_SIZE, (size_t)length,
                                         file->name, &file->header);
    if (status == CARSO_OK && !json_is_object(file->header)) {
        status = cso_fail(file->context, CARSO_ERROR_BAD_FORMAT, "%s: the header is not a JSON object", file->name);
    }
    if (status == CARSO_OK) {
        status = check_metadata(file);
    }
    if (status == CARSO_OK) {
        status = read_tensors(file);
    }
    return status;
}

static carso_status create(carso_context *context, const char *name, cso_safetensors **out)
{
    *out = NULL;
    cso_safetensors *file = cso_allocate(context, 1, sizeof *file);
    if (file == NULL) {
        return cso_fail_memory(context, "an open file");
    }
    atomic_init(&file->references, 1);
    file->name = cso_duplicate_string(context, name);
    if (file->name == NULL) {
        cso_release(context, file);
        return cso_fail_memory(context, "a file's name");
    }
    file->context = context;
    cso_context_retain(context);
    *out = file;
    return CARSO_OK;
}

static carso_status map_file(cso_safetensors *file)
{
    int descriptor;
    uint64_t size;
    carso_status status = cso_regular_file_open(file->context, file->name, &descriptor, &size);
    if (status != CARSO_OK) {
        return status;
    }
    if (size > PTRDIFF_MAX) {
        status = cso_fail(file->context, CARSO_ERROR_BAD_FORMAT, "%s: too large for this machine", file->name);
    } else if (size > 0) {
        void *map = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (map == MAP_FAILED) {
            status = cso_fail_system(file->context, errno, "%s: cannot map", file->name);
        } else {
            file->map = map;
            file->base = map;
            file->size = (size_t)size;
        }
    }
    close(descriptor);
    return status;
}

carso_status cso_safetensors_open(carso_context *context, const char *path, cso_safetensors **out)
{
    carso_status status = create(context, path, out);
    if (status == CARSO_OK) {
        status = map_file(*out);
        if (status == CARSO_OK) {
            status = read_header(*out);
        }
        if (status != CARSO_OK) {
            cso_safetensors_release(*out);
            *out = NULL;
        }
    }
    return status;
}

carso_status cso_safetensors_open_memory(carso_context *context, const void *data, size_t size, const char *name,
                                         cso_safetensors **out)
{
    carso_status status = create(context, name, out);
    if (status == CARSO_OK) {
        (*out)->base = data;
        (*out)->size = size;
        status = read_header(*out);
        if (status != CARSO_OK) {
            cso_safetensors_release(*out);
            *out = NULL;
        }
    }
    return status;
}

void cso_safetensors_retain(cso_safetensors *file) { atomic_fetch_add(&file->references, 1); }

void cso_safetensors_release(cso_safetensors *file)
{
    if (file == NULL || atomic_fetch_sub(&file->references, 1) != 1) {
        return;
    }
    carso_context *context = file->context;
    if (file->map != NULL) {
        munmap(file->map, file->size);
    }
    json_decref(file->header);
    cso_release(context, file->by_name);
    cso_release(context, file->tensors);
    cso_release(context, file->name);
    cso_release(context, file);
    carso_context_destroy(context);
}

void cso_safetensors_rest(const cso_safetensors *file, const void *data, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)data + page - 1) / page * page, end = ((uintptr_t)data + bytes) / page * page;
    if (file->map != NULL && begin < end) {
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED); /* a wish */
    }
}

size_t cso_safetensors_count(const cso_safetensors *file) { return file->count; }

const cso_tensor *cso_safetensors_at(const cso_safetensors *file, size_t index)
{
    return index < file->count ? &file->tensors[index] : NULL;
}

const cso_tensor *cso_safetensors_find(const cso_safetensors *file, const char *name)
{
    const cso_tensor wanted = {.name = name};
    const cso_tensor *key = &wanted;
    if (file->count == 0) {
        return NULL;
    }
    const cso_tensor **found = bsearch(&key, file->by_name, file->count, sizeof *file->by_name, compare_names);
    return found == NULL ? NULL : *found;
}

const char *cso_safetensors_metadata(const cso_safetensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

carso_status cso_safetensors_check(const cso_safetensors *file)
{
    char actual[CSO_CHECKSUM_SIZE];
    const char *stated = cso_safetensors_metadata(file, "crc32");
    if (stated == NULL) {
        return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT, "%s: no checksum in the metadata (\"crc32\")",
                        file->name);
    }
    const unsigned long sum =
        crc32_z(crc32_z(0, NULL, 0), file->base + file->data_begin, file->size - file->data_begin);
    cso_checksum_text((uint32_t)sum, actual);
    if (strcmp(stated, actual) != 0) {
        return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT,
                        "%s: damaged: checksum of the data is %s, the file says %s", file->name, actual, stated);
    }
    return CARSO_OK;
}
