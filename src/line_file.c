/* SPDX-License-Identifier: BSD-2-Clause */
#include "line_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "session.h"

/* Whether something follows on the stream. */
static bool more(FILE *stream)
{
    int next = getc(stream);
    if (next != EOF) {
        ungetc(next, stream);
    }
    return next != EOF;
}

/* Goes through the lines of the stream; *out_size is where the last good one ends. */
static exit_status judge_lines(FILE *stream, const char *name, line_judge judge, void *user, uint64_t *out_lines,
                               off_t *out_size)
{
    exit_status status = STATUS_OK;
    char *line = NULL;
    size_t room = 0;
    *out_lines = 0;
    *out_size = 0;
    for (ssize_t length; status == STATUS_OK && (length = getline(&line, &room, stream)) > 0;) {
        bool whole = line[length - 1] == '\n';
        json_t *value = whole ? json_loadb(line, (size_t)length, 0, NULL) : NULL;
        if (!json_is_object(value) && more(stream)) {
            complain("--resume: line %llu of %s is no result of this command", (unsigned long long)*out_lines + 1,
                     name);
            status = STATUS_FAILURE;
        } else if (json_is_object(value)) {
            status = judge(value, *out_lines, user) ? STATUS_OK : STATUS_FAILURE;
            *out_lines += 1;
            *out_size += length;
        }
        json_decref(value);
    }
    if (status == STATUS_OK && ferror(stream)) {
        complain("cannot read %s: %s", name, strerror(errno));
        status = STATUS_FAILURE;
    }
    free(line);
    return status;
}

static exit_status find_lines(const line_file *file, line_judge judge, void *user, uint64_t *out_lines)
{
    struct stat facts;
    off_t size;
    if (fstat(file->descriptor, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        complain("--resume: %s is not a regular file", file->name);
        return STATUS_FAILURE;
    }
    int copy = dup(file->descriptor);
    FILE *stream = copy < 0 ? NULL : fdopen(copy, "r");
    if (!stream) {
        complain("cannot read %s: %s", file->name, strerror(errno));
        if (copy >= 0) {
            close(copy);
        }
        return STATUS_FAILURE;
    }
    exit_status status = judge_lines(stream, file->name, judge, user, out_lines, &size);
    fclose(stream);
    if (status == STATUS_OK && (ftruncate(file->descriptor, size) != 0 || lseek(file->descriptor, size, SEEK_SET) != size)) {
        complain("cannot write %s: %s", file->name, strerror(errno));
        status = STATUS_FAILURE;
    }
    return status;
}

exit_status line_file_open(const char *path, bool resume, line_judge judge, void *user, line_file *out,
                           uint64_t *out_lines)
{
    *out_lines = 0;
    *out = (line_file){.name = "standard output", .descriptor = STDOUT_FILENO};
    if (!path) {
        fflush(stdout);
        return STATUS_OK;
    }
    *out = (line_file){.name = path, .owned = true};
    /* Not readable without need: a pipe would not notice that its reader is not there yet, or gone. */
    out->descriptor = open(path, (resume ? O_RDWR : O_WRONLY) | O_CREAT | O_CLOEXEC, 0666);
    if (out->descriptor < 0) {
        complain("cannot write %s: %s", path, strerror(errno));
        return STATUS_FAILURE;
    }
    exit_status status = STATUS_OK;
    if (flock(out->descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        complain("cannot write %s: another run writes it", path);
        status = STATUS_FAILURE;
    } else if (resume) {
        status = find_lines(out, judge, user, out_lines);
    } else if (ftruncate(out->descriptor, 0) != 0 && errno != EINVAL) {
        complain("cannot write %s: %s", path, strerror(errno));
        status = STATUS_FAILURE;
    }
    if (status != STATUS_OK) {
        close(out->descriptor);
    }
    return status;
}

bool line_file_write(const line_file *file, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t written = write(file->descriptor, data, size);
        if (written < 0 && errno != EINTR) {
            return false;
        }
        data += written > 0 ? written : 0;
        size -= written > 0 ? (size_t)written : 0;
    }
    return true;
}

bool line_file_close(line_file *file) { return !file->owned || close(file->descriptor) == 0; }
