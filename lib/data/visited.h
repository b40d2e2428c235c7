/* SPDX-License-Identifier: BSD-2-Clause */
/* Folders that were entered, known by device and inode, so that links lead nowhere twice. */
#ifndef CSO_DATA_VISITED_H
#define CSO_DATA_VISITED_H

#include <sys/stat.h>

#include "base/context.h"

/* All zero: none. */
typedef struct cso_visited {
    struct cso_visited_folder *folder; /* a hash table of capacity places */
    size_t count, capacity;
} cso_visited;

/* *out_added: it was not there. */
carso_status cso_visited_add(const carso_context *context, cso_visited *visited, const struct stat *facts,
                             bool *out_added);
void cso_visited_release(const carso_context *context, cso_visited *visited);

#endif
