/* SPDX-License-Identifier: BSD-2-Clause */
#include "data/name_list.h"

#include <stdlib.h>
#include <string.h>

/* Room for needed items, at least doubling, so that appending stays linear. */
static bool reserve(const carso_context *context, void **items, size_t *capacity, size_t needed, size_t item)
{
    if (needed <= *capacity) {
        return true;
    }
    const size_t wanted = needed > 2 * *capacity ? needed + 64 : 2 * *capacity;
    void *larger = cso_allocate_raw(context, wanted, item);
    if (larger == NULL) {
        return false;
    }
    if (*items != NULL) {
        memcpy(larger, *items, *capacity * item);
    }
    cso_release(context, *items);
    *items = larger;
    *capacity = wanted;
    return true;
}

carso_status cso_name_list_append(const carso_context *context, cso_name_list *list, const char *name)
{
    const size_t size = strlen(name) + 1;
    void *text = list->text;
    void *offset = list->offset;
    const bool room = reserve(context, &text, &list->reserved, list->used + size, 1);
    list->text = text;
    if (!room || !reserve(context, &offset, &list->capacity, list->count + 1, sizeof *list->offset)) {
        return cso_fail_memory(context, "names");
    }
    list->offset = offset;
    memcpy(list->text + list->used, name, size);
    list->offset[list->count++] = list->used;
    list->used += size;
    return CARSO_OK;
}

static int compare(const void *left, const void *right, void *user)
{
    const char *text = user;
    return strcmp(text + *(const size_t *)left, text + *(const size_t *)right);
}

void cso_name_list_sort(cso_name_list *list)
{
    size_t kept = 0;
    if (list->count == 0) {
        return;
    }
    qsort_r(list->offset, list->count, sizeof *list->offset, compare, list->text);
    for (size_t i = 1; i < list->count; i++) {
        if (strcmp(cso_name_list_at(list, i), cso_name_list_at(list, kept)) != 0) {
            list->offset[++kept] = list->offset[i];
        }
    }
    list->count = kept + 1;
}

const char *cso_name_list_at(const cso_name_list *list, size_t index) { return list->text + list->offset[index]; }

void cso_name_list_release(const carso_context *context, cso_name_list *list)
{
    cso_release(context, list->text);
    cso_release(context, list->offset);
    *list = (cso_name_list){0};
}
