/* SPDX-License-Identifier: BSD-2-Clause */
#include "data/data_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/regular_file.h"

/* A byte of deflate stands for at most 1032 of its output. */
#define HIGHEST_RATIO 1032
#define BUFFER_SIZE (128 << 10)
#define LARGEST_READ ((size_t)1 << 30)

carso_status cso_data_file_open(const carso_context *context, const char *path, cso_data_file *out)
{
    int descriptor;
    *out = (cso_data_file){.context = context, .path = path};
    const carso_status status = cso_regular_file_open(context, path, &descriptor, &out->size);
    if (status != CARSO_OK) {
        return status;
    }
    out->stream = gzdopen(descriptor, "rb");
    if (out->stream == NULL) {
        close(descriptor);
        return cso_fail_memory(context, "reading a file");
    }
    if (gzbuffer(out->stream, BUFFER_SIZE) != 0) {
        cso_data_file_close(out);
        return cso_fail_memory(context, "reading a file");
    }
    return CARSO_OK;
}

static carso_status report(const cso_data_file *file)
{
    int code;
    const char *text = gzerror(file->stream, &code);
    if (code == Z_ERRNO) {
        return cso_fail_system(file->context, errno, "%s: cannot read", file->path);
    }
    if (code == Z_MEM_ERROR) {
        return cso_fail_memory(file->context, "decompression");
    }
    return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT, "%s: truncated or damaged%s%s", file->path,
                    text[0] != '\0' ? ": " : "", text);
}

carso_status cso_data_file_read(cso_data_file *file, void *destination, size_t size)
{
    unsigned char *bytes = destination;
    while (size > 0) {
        const int got = gzread(file->stream, bytes, (unsigned)(size < LARGEST_READ ? size : LARGEST_READ));
        if (got <= 0) {
            return report(file);
        }
        bytes += got;
        size -= (size_t)got;
    }
    return CARSO_OK;
}

carso_status cso_data_file_check_size(const cso_data_file *file, uint64_t header_size, uint64_t promised)
{
    const bool plain = gzdirect(file->stream) != 0;
    if (plain ? file->size - header_size != promised : promised / HIGHEST_RATIO > file->size) {
        return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT,
                        "%s: truncated or damaged: its header promises %llu bytes of data, the file has %llu bytes%s",
                        file->path, (unsigned long long)promised, (unsigned long long)file->size,
                        plain ? "" : ", compressed");
    }
    return CARSO_OK;
}

carso_status cso_data_file_check_end(cso_data_file *file)
{
    char byte;
    const int got = gzread(file->stream, &byte, 1);
    if (got < 0) {
        return report(file);
    }
    if (got > 0) {
        return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT, "%s: more data follows than its header promises",
                        file->path);
    }
    /* A stream cut inside its trailer reads to the end without complaint; only this tells. */
    int code;
    gzerror(file->stream, &code);
    return code == Z_OK || code == Z_STREAM_END ? CARSO_OK : report(file);
}

void cso_data_file_close(cso_data_file *file)
{
    if (file->stream != NULL) {
        gzclose_r(file->stream);
        file->stream = NULL;
    }
}

carso_status cso_data_file_text(const carso_context *context, const char *path, size_t most, char **out)
{
    cso_data_file file;
    char *text = NULL;
    *out = NULL;
    carso_status status = cso_data_file_open(context, path, &file);
    if (status != CARSO_OK) {
        return status;
    }
    if (file.size > most) {
        status = cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: too large for a list of names", path);
    } else {
        text = cso_allocate(context, (size_t)file.size + 1, 1);
        status = text == NULL ? cso_fail_memory(context, "names") : cso_data_file_read(&file, text, (size_t)file.size);
    }
    cso_data_file_close(&file);
    if (status != CARSO_OK) {
        cso_release(context, text);
        return status;
    }
    *out = text;
    return CARSO_OK;
}

carso_status cso_path_join(const carso_context *context, const char *folder, const char *name, char out[PATH_MAX])
{
    const size_t length = strlen(folder);
    const char *separator = length > 0 && folder[length - 1] == '/' ? "" : "/";
    if (snprintf(out, PATH_MAX, "%s%s%s", folder, separator, name) >= PATH_MAX) {
        return cso_fail(context, CARSO_ERROR_IO, "%.200s...: a path of %d bytes or more", folder, PATH_MAX);
    }
    return CARSO_OK;
}

bool cso_path_is_file(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISREG(facts.st_mode);
}

bool cso_path_is_folder(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISDIR(facts.st_mode);
}
