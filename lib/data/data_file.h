/* SPDX-License-Identifier: BSD-2-Clause */
/* Regular files, read from front to end, gzip-compressed or not. */
#ifndef CSO_DATA_DATA_FILE_H
#define CSO_DATA_DATA_FILE_H

#include <limits.h>
#include <zlib.h>

#include "base/context.h"

typedef struct cso_data_file {
    const carso_context *context;
    const char *path; /* borrowed */
    uint64_t size;    /* on disk */
    gzFile stream;
} cso_data_file;

/* path must outlive the file. On failure there is nothing to close, and closing does nothing. */
carso_status cso_data_file_open(const carso_context *context, const char *path, cso_data_file *out);
/* Exactly size bytes: BAD_FORMAT where the file is shorter or its compression is damaged. */
carso_status cso_data_file_read(cso_data_file *file, void *destination, size_t size);
/* Before memory is taken for what a header promises: could so many bytes be in the file, header_size of them read
 * already? */
carso_status cso_data_file_check_size(const cso_data_file *file, uint64_t header_size, uint64_t promised);
/* BAD_FORMAT where something follows, or the checksum of a compressed file is wrong. */
carso_status cso_data_file_check_end(cso_data_file *file);
void cso_data_file_close(cso_data_file *file);

/* The whole of a text of at most `most` bytes, terminated; to be released. */
carso_status cso_data_file_text(const carso_context *context, const char *path, size_t most, char **out);

/* folder/name. IO where that is too long. */
carso_status cso_path_join(const carso_context *context, const char *folder, const char *name, char out[PATH_MAX]);
bool cso_path_is_file(const char *path);
bool cso_path_is_folder(const char *path);

#endif
