/* SPDX-License-Identifier: BSD-2-Clause */
/* What an evaluation knows of each image, column by column: one list from which files are written, read and joined. */
#ifndef CSO_EVALUATE_COLUMNS_H
#define CSO_EVALUATE_COLUMNS_H

#include "base/safetensors.h"

#define CSO_COLUMN_NAME 64

typedef struct cso_column {
    char name[CSO_COLUMN_NAME];
    cso_tensor_type type;
    int rank;             /* of an entry */
    int64_t dimension[3]; /* of an entry */
    size_t size;          /* bytes of an entry */
    void *data;           /* [rows] entries */
} cso_column;

typedef struct cso_columns {
    const carso_context *context;
    int64_t rows;
    cso_column *column;
    size_t count, capacity;
} cso_columns;

/* rank 0 is one number a row. Zeroed. */
carso_status cso_columns_add(cso_columns *columns, cso_tensor_type type, int rank, const int64_t *dimension, void **out,
                             const char *format, ...) __attribute__((format(printf, 6, 7)));
void cso_columns_destroy(cso_columns *columns);
/* Into rows first .. of every column, from a file that has exactly rows rows of each; BAD_FORMAT names what does not fit. */
carso_status cso_columns_read(cso_columns *columns, const cso_safetensors *file, const char *path, int64_t first,
                              int64_t rows);
/* new: array of columns' count of descriptions to write. */
void cso_columns_describe(const cso_columns *columns, int64_t rows, cso_tensor_write *out);
/* Sorts all rows by the column named key, of I64. */
carso_status cso_columns_sort(cso_columns *columns, const char *key);

#endif
