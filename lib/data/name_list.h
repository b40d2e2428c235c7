/* SPDX-License-Identifier: BSD-2-Clause */
/* A list of texts in one block of memory: a million paths are three allocations, not a million. */
#ifndef CSO_DATA_NAME_LIST_H
#define CSO_DATA_NAME_LIST_H

#include "base/context.h"

/* All zero: empty. */
typedef struct cso_name_list {
    char *text;
    size_t used, reserved;
    size_t *offset; /* of each text */
    size_t count, capacity;
} cso_name_list;

carso_status cso_name_list_append(const carso_context *context, cso_name_list *list, const char *name);
/* By the names' bytes, equal ones made one. */
void cso_name_list_sort(cso_name_list *list);
const char *cso_name_list_at(const cso_name_list *list, size_t index);
void cso_name_list_release(const carso_context *context, cso_name_list *list);

#endif
