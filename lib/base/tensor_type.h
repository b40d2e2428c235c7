/* SPDX-License-Identifier: BSD-2-Clause */
/* What the reader and the writer of safetensors files agree on. */
#ifndef CSO_BASE_TENSOR_TYPE_H
#define CSO_BASE_TENSOR_TYPE_H

#include <stdio.h>
#include <string.h>

#include "base/safetensors.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensors are used in place, in the file's byte order, which is little-endian"
#endif

#define CSO_CHECKSUM_SIZE 9

static inline const char *cso_tensor_type_name(cso_tensor_type type)
{
    static const char *const names[] = {"F32", "F64", "I64", "I32", "U8"};
    return names[type];
}

static inline size_t cso_tensor_type_size(cso_tensor_type type)
{
    static const size_t sizes[] = {4, 8, 8, 4, 1};
    return sizes[type];
}

static inline bool cso_tensor_type_find(const char *name, cso_tensor_type *out)
{
    for (cso_tensor_type type = CSO_TENSOR_F32; type <= CSO_TENSOR_U8; type++) {
        if (strcmp(name, cso_tensor_type_name(type)) == 0) {
            *out = type;
            return true;
        }
    }
    return false;
}

static inline void cso_checksum_text(uint32_t sum, char out[CSO_CHECKSUM_SIZE])
{
    snprintf(out, CSO_CHECKSUM_SIZE, "%08x", (unsigned)sum);
}

#endif
