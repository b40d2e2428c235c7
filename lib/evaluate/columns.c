/* SPDX-License-Identifier: BSD-2-Clause */
#include "evaluate/columns.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/tensor_type.h"

static carso_status grow(cso_columns *columns)
{
    const size_t capacity = columns->capacity ? 2 * columns->capacity : 64;
    cso_column *const larger = cso_allocate(columns->context, capacity, sizeof *larger);
    if (!larger) {
        return cso_fail_memory(columns->context, "the evaluation's figures");
    }
    if (columns->count > 0) {
        memcpy(larger, columns->column, columns->count * sizeof *larger);
    }
    cso_release(columns->context, columns->column);
    columns->column = larger;
    columns->capacity = capacity;
    return CARSO_OK;
}

carso_status cso_columns_add(cso_columns *columns, cso_tensor_type type, int rank, const int64_t *dimension, void **out,
                             const char *format, ...)
{
    va_list arguments;
    *out = NULL;
    if (columns->count == columns->capacity) {
        const carso_status status = grow(columns);
        if (status != CARSO_OK) {
            return status;
        }
    }
    cso_column *const column = &columns->column[columns->count];
    *column = (cso_column){.type = type, .rank = rank, .size = cso_tensor_type_size(type)};
    va_start(arguments, format);
    vsnprintf(column->name, sizeof column->name, format, arguments);
    va_end(arguments);
    for (int i = 0; i < rank; i++) {
        column->dimension[i] = dimension[i];
        column->size *= (size_t)dimension[i];
    }
    column->data = cso_allocate(columns->context, (size_t)columns->rows, column->size);
    if (!column->data) {
        return cso_fail_memory(columns->context, "the evaluation's figures");
    }
    columns->count++;
    *out = column->data;
    return CARSO_OK;
}

void cso_columns_destroy(cso_columns *columns)
{
    for (size_t i = 0; i < columns->count; i++) {
        cso_release(columns->context, columns->column[i].data);
    }
    cso_release(columns->context, columns->column);
    *columns = (cso_columns){0};
}

carso_status cso_columns_read(cso_columns *columns, const cso_safetensors *file, const char *path, int64_t first,
                              int64_t rows)
{
    for (size_t i = 0; i < columns->count; i++) {
        const cso_column *const column = &columns->column[i];
        const cso_tensor *const tensor = cso_safetensors_find(file, column->name);
        if (!tensor || tensor->type != column->type || tensor->rank != column->rank + 1 ||
            tensor->dimension[0] != rows ||
            memcmp(tensor->dimension + 1, column->dimension, (size_t)column->rank * sizeof *column->dimension) != 0) {
            return cso_fail(columns->context, CARSO_ERROR_BAD_FORMAT, "%s: tensor %s %s; the file is damaged", path,
                            column->name, tensor ? "has another type or shape than the evaluation has" : "is missing");
        }
    }
    for (size_t i = 0; i < columns->count; i++) {
        const cso_column *const column = &columns->column[i];
        memcpy((char *)column->data + (size_t)first * column->size, cso_safetensors_find(file, column->name)->data,
               (size_t)rows * column->size);
    }
    return CARSO_OK;
}

void cso_columns_describe(const cso_columns *columns, int64_t rows, cso_tensor_write *out)
{
    for (size_t i = 0; i < columns->count; i++) {
        const cso_column *const column = &columns->column[i];
        out[i] = (cso_tensor_write){.name = column->name, .type = column->type, .rank = column->rank + 1, .data = column->data};
        out[i].dimension[0] = rows;
        memcpy(out[i].dimension + 1, column->dimension, (size_t)column->rank * sizeof *column->dimension);
    }
}

typedef struct sort_entry {
    int64_t key, row;
} sort_entry;

static int compare(const void *a, const void *b)
{
    const int64_t first = ((const sort_entry *)a)->key, second = ((const sort_entry *)b)->key;
    return (first > second) - (first < second);
}

carso_status cso_columns_sort(cso_columns *columns, const char *key)
{
    const size_t rows = (size_t)columns->rows;
    sort_entry *const order = cso_allocate(columns->context, rows, sizeof *order);
    carso_status status = order ? CARSO_OK : cso_fail_memory(columns->context, "sorting");
    for (size_t i = 0; i < columns->count && order; i++) {
        if (strcmp(columns->column[i].name, key) == 0) {
            for (size_t j = 0; j < rows; j++) {
                order[j] = (sort_entry){((const int64_t *)columns->column[i].data)[j], (int64_t)j};
            }
        }
    }
    if (order) {
        qsort(order, rows, sizeof *order, compare);
    }
    for (size_t i = 0; i < columns->count && status == CARSO_OK; i++) {
        const cso_column *const column = &columns->column[i];
        char *const copy = cso_allocate_raw(columns->context, rows, column->size);
        if (!copy) {
            status = cso_fail_memory(columns->context, "sorting");
            break;
        }
        memcpy(copy, column->data, rows * column->size);
        for (size_t j = 0; j < rows; j++) {
            memcpy((char *)column->data + j * column->size, copy + (size_t)order[j].row * column->size, column->size);
        }
        cso_release(columns->context, copy);
    }
    cso_release(columns->context, order);
    return status;
}
