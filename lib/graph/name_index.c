/* SPDX-License-Identifier: BSD-2-Clause */
#include "graph/name_index.h"

#include <string.h>

static const char *name_at(const void *array, size_t element_size, int place)
{
    const char *name;
    memcpy(&name, (const char *)array + element_size * (size_t)place, sizeof name);
    return name;
}

/* FNV-1a. */
static uint32_t hash(const char *name)
{
    uint32_t value = 2166136261U;
    for (; *name != '\0'; name++) {
        value = (value ^ (unsigned char)*name) * 16777619U;
    }
    return value;
}

/* slot_count is a power of two and at least twice the names, so a free slot is always met. */
static int probe(const cso_name_index *index, const void *array, size_t element_size, const char *name)
{
    const int mask = index->slot_count - 1;
    int position = (int)(hash(name) & (uint32_t)mask);
    while (index->slot[position] != 0 && strcmp(name_at(array, element_size, index->slot[position] - 1), name) != 0) {
        position = (position + 1) & mask;
    }
    return position;
}

void cso_name_index_insert(cso_name_index *index, const void *array, size_t element_size, int place)
{
    index->slot[probe(index, array, element_size, name_at(array, element_size, place))] = place + 1;
}

carso_status cso_name_index_reserve(const carso_context *context, cso_name_index *index, const void *array,
                                    size_t element_size, int used, int count)
{
    if (count <= index->slot_count / 2) {
        return CARSO_OK;
    }
    int slot_count = 64;
    while (slot_count / 2 < count) {
        slot_count *= 2;
    }
    int *slot = cso_allocate(context, (size_t)slot_count, sizeof *slot);
    if (slot == NULL) {
        return cso_fail_memory(context, "names of a graph");
    }
    cso_release(context, index->slot);
    index->slot = slot;
    index->slot_count = slot_count;
    for (int i = 0; i < used; i++) {
        cso_name_index_insert(index, array, element_size, i);
    }
    return CARSO_OK;
}

int cso_name_index_find(const cso_name_index *index, const void *array, size_t element_size, const char *name)
{
    return index->slot_count == 0 ? -1 : index->slot[probe(index, array, element_size, name)] - 1;
}
