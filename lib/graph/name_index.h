/* SPDX-License-Identifier: BSD-2-Clause */
/* A hash table from names to their places in an array, so that graphs of hostile size load in linear time. */
#ifndef CSO_GRAPH_NAME_INDEX_H
#define CSO_GRAPH_NAME_INDEX_H

#include "base/context.h"

/* Zeroed: empty. The array's elements begin with `char *name`. */
typedef struct cso_name_index {
    int *slot; /* place + 1, 0: free */
    int slot_count;
} cso_name_index;

/* Makes room for count names, of which used are in the array. */
carso_status cso_name_index_reserve(const carso_context *context, cso_name_index *index, const void *array,
                                    size_t element_size, int used, int count);
/* Room must have been reserved. */
void cso_name_index_insert(cso_name_index *index, const void *array, size_t element_size, int place);
int cso_name_index_find(const cso_name_index *index, const void *array, size_t element_size,
                        const char *name); /* -1: none */

#endif
