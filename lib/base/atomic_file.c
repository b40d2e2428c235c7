/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_ATTEMPTS 1000
#define LARGEST_WRITE ((size_t)1 << 30) /* one write call of Linux takes less than 2 GiB */

static carso_status open_temporary(cso_atomic_file *file)
{
    for (int counter = 0; counter < MOST_ATTEMPTS; counter++) {
        snprintf(file->temporary, sizeof file->temporary, "%s.tmp-%ld-%d", file->path, (long)getpid(), counter);
        file->descriptor = open(file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file->descriptor >= 0) {
            return CARSO_OK;
        }
        if (errno != EEXIST) {
            break;
        }
    }
    return cso_fail_system(file->context, errno, "%s: cannot create", file->temporary);
}

carso_status cso_atomic_file_open(const carso_context *context, const char *path, cso_atomic_file *out)
{
    struct stat existing;
    out->context = context;
    out->descriptor = -1;
    if (strlen(path) >= sizeof out->path) {
        return cso_fail_system(context, ENAMETOOLONG, "%.64s...: cannot write", path);
    }
    if (realpath(path, out->path) == NULL) {
        strcpy(out->path, path);
    }
    const bool exists = stat(out->path, &existing) == 0;
    if (exists && !S_ISREG(existing.st_mode)) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "%s: not a regular file; name one, or one that does not exist", path);
    }
    const carso_status status = open_temporary(out);
    /* A file that only its owner could read stays so. Where the system refuses, its default for new files holds. */
    if (status == CARSO_OK && exists && fchmod(out->descriptor, existing.st_mode & 0777) != 0) {
        cso_log(context, CARSO_LOG_DEBUG, "%s: permissions could not be kept", path);
    }
    return status;
}

carso_status cso_atomic_file_write(cso_atomic_file *file, const void *data, size_t size)
{
    const char *bytes = data;
    while (size > 0) {
        const ssize_t written = write(file->descriptor, bytes, size < LARGEST_WRITE ? size : LARGEST_WRITE);
        if (written < 0) {
            if (errno == EINTR) {
                continue;
            }
            return cso_fail_system(file->context, errno, "%s: cannot write", file->path);
        }
        bytes += written;
        size -= (size_t)written;
    }
    return CARSO_OK;
}

/* Makes the rename itself last through a power cut. Some file systems cannot; the file is complete there all the same.
 */
static void sync_folder(const cso_atomic_file *file)
{
    char folder[PATH_MAX];
    strcpy(folder, file->path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL) {
        strcpy(folder, ".");
    } else {
        slash[slash == folder ? 1 : 0] = '\0';
    }
    const int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0 || fsync(descriptor) != 0) {
        cso_log(file->context, CARSO_LOG_DEBUG, "%s: the folder could not be synced", folder);
    }
    if (descriptor >= 0) {
        close(descriptor);
    }
}

carso_status cso_atomic_file_commit(cso_atomic_file *file)
{
    int error = fsync(file->descriptor) == 0 ? 0 : errno;
    if (close(file->descriptor) != 0 && error == 0) {
        error = errno;
    }
    file->descriptor = -1;
    if (error == 0 && rename(file->temporary, file->path) != 0) {
        error = errno;
    }
    if (error != 0) {
        unlink(file->temporary);
        return cso_fail_system(file->context, error, "%s: cannot write", file->path);
    }
    sync_folder(file);
    return CARSO_OK;
}

void cso_atomic_file_abandon(cso_atomic_file *file)
{
    if (file->descriptor >= 0) {
        close(file->descriptor);
        unlink(file->temporary);
        file->descriptor = -1;
    }
}
