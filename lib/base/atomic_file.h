/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files that appear whole or not at all: written beside the path under a name of their own, synced, renamed. Whatever
 * fails, the file that was at the path stays as it was.
 */
#ifndef CSO_BASE_ATOMIC_FILE_H
#define CSO_BASE_ATOMIC_FILE_H

#include <limits.h>

#include "base/context.h"

typedef struct cso_atomic_file {
    const carso_context *context;
    int descriptor; /* -1: none open */
    char path[PATH_MAX];
    char temporary[PATH_MAX + 48]; /* path + ".tmp-" + process id + "-" + a counter */
} cso_atomic_file;

/* A path that is a symbolic link stands for the file behind it; anything but a regular file is refused. On failure
 * there is nothing to abandon, and abandoning does nothing. */
carso_status cso_atomic_file_open(const carso_context *context, const char *path, cso_atomic_file *out);
carso_status cso_atomic_file_write(cso_atomic_file *file, const void *data, size_t size);
/* Syncs, renames, syncs the folder. The file is closed whether it succeeds or not. */
carso_status cso_atomic_file_commit(cso_atomic_file *file);
/* Closes and removes what was not committed; does nothing after a commit. */
void cso_atomic_file_abandon(cso_atomic_file *file);

#endif
