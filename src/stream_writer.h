/* SPDX-License-Identifier: BSD-2-Clause */
/* The end of the stream: a thread that makes lines of results and writes them, a few batches behind at most. */
#ifndef STREAM_WRITER_H
#define STREAM_WRITER_H

#include "line_file.h"
#include "stream.h"

/* Results of images that follow one another; all that it points to is its own. */
typedef struct stream_results {
    uint64_t index;  /* of the first in the data set */
    uint64_t count;
    uint64_t skip;   /* of these the first have their lines already */
    int32_t *labels; /* [count], -1: not known */
    char **errors;   /* [count], NULL: predicted */
    bool non_finite; /* that is why there are errors */
    carso_prediction *plain, *robust; /* of all images, also those with an error; NULL: none */
} stream_results;

/* False: out of memory, and nothing is held. */
bool stream_results_create(uint64_t index, uint64_t count, stream_results *out);
void stream_results_release(stream_results *results);

typedef struct stream_writer stream_writer;

/* NULL after a complaint. summary: counts on from what it holds. */
stream_writer *stream_writer_start(const stream_task *task, const line_file *file, stream_summary *summary);
/* Takes the results over, and waits while two are waiting already. False where writing has failed. */
bool stream_writer_give(stream_writer *writer, stream_results *results);
/* Waits for what was given, ends the thread; complains and returns a failure where not all was written. */
exit_status stream_writer_finish(stream_writer *writer);

#endif
