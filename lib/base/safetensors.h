/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading (mapped, or from memory) and atomic writing of safetensors files. The input is hostile. */
#ifndef CSO_BASE_SAFETENSORS_H
#define CSO_BASE_SAFETENSORS_H

#include <jansson.h>

#include "base/context.h"

#define CSO_TENSOR_MAX_RANK 8

typedef enum cso_tensor_type {
    CSO_TENSOR_F32,
    CSO_TENSOR_F64,
    CSO_TENSOR_I64,
    CSO_TENSOR_I32,
    CSO_TENSOR_U8
} cso_tensor_type;

typedef struct cso_tensor {
    const char *name;
    cso_tensor_type type;
    int rank;
    int64_t dimension[CSO_TENSOR_MAX_RANK];
    size_t count; /* elements */
    size_t bytes;
    /* In the file, aligned to 4 bytes (U8: 1), else the file is refused. F64 and I64, whose data others' files do not
     * always align to 8, are read with memcpy. */
    const void *data;
} cso_tensor;

typedef struct cso_safetensors cso_safetensors;

/* Reference-counted, so that weights can stay mapped: _release gives one back. */
carso_status cso_safetensors_open(carso_context *context, const char *path, cso_safetensors **out);
/* data must outlive the result; not copied. name: used in messages. */
carso_status cso_safetensors_open_memory(carso_context *context, const void *data, size_t size, const char *name,
                                         cso_safetensors **out);
void cso_safetensors_retain(cso_safetensors *file);
void cso_safetensors_release(cso_safetensors *file);

size_t cso_safetensors_count(const cso_safetensors *file);
const cso_tensor *cso_safetensors_at(const cso_safetensors *file, size_t index);
const cso_tensor *cso_safetensors_find(const cso_safetensors *file, const char *name); /* NULL: none */
/* Value of __metadata__[key], NULL: none. */
const char *cso_safetensors_metadata(const cso_safetensors *file, const char *key);
/* Compares the CRC-32 of the data section with metadata "crc32" (8 hexadecimal digits); BAD_FORMAT where they differ
 * or it is absent. */
carso_status cso_safetensors_check(const cso_safetensors *file);

/* These bytes of the file will not be read for long: their pages need not stay in memory. They can be read all the
 * same. */
void cso_safetensors_rest(const cso_safetensors *file, const void *data, size_t bytes);

typedef struct cso_tensor_write {
    const char *name;
    cso_tensor_type type;
    int rank;
    int64_t dimension[CSO_TENSOR_MAX_RANK];
    const void *data;
} cso_tensor_write;

/* Writes path + ".tmp-" + process id + a counter, fsyncs, renames, fsyncs the folder; on failure removes the temporary
 * file and leaves path as it was. keys/values: metadata; "crc32" is added. The data section is aligned to 64 bytes;
 * within, tensors follow without gaps, as the format demands: 8-byte types first, then 4-byte ones, then bytes, each in
 * the order given. */
carso_status cso_safetensors_write(carso_context *context, const char *path, const cso_tensor_write *tensors,
                                   size_t count, const char *const *keys, const char *const *values,
                                   size_t metadata_count);

#endif
