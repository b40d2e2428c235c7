/* SPDX-License-Identifier: BSD-2-Clause */
/* JSON lines on standard output or in a file, which a later run can continue. */
#ifndef LINE_FILE_H
#define LINE_FILE_H

#include <jansson.h>
#include <stdint.h>

#include "options.h"

typedef struct line_file {
    const char *name; /* for messages */
    int descriptor;
    bool owned;
} line_file;

/* Judges a line that is there already; false after a complaint. number from 0. */
typedef bool (*line_judge)(const json_t *line, uint64_t number, void *user);

/*
 * path NULL: standard output. resume: what is in the file stays, less a last line that was not written to its end; judge
 * sees each line, and *out_lines is how many there are. Else the file begins empty. A file that another run writes is
 * refused.
 */
exit_status line_file_open(const char *path, bool resume, line_judge judge, void *user, line_file *out,
                           uint64_t *out_lines);
/* All of it, or false with errno. Any thread, one at a time. */
bool line_file_write(const line_file *file, const char *data, size_t size);
/* False with errno where the system says only now that something was not written. */
bool line_file_close(line_file *file);

#endif
