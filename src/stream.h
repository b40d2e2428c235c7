/* SPDX-License-Identifier: BSD-2-Clause */
/* Predictions of any number of images in constant memory, as JSON lines: reading, predicting and writing overlap. */
#ifndef STREAM_H
#define STREAM_H

#include "samples.h"

#define RUN_PART 8

typedef struct stream_task {
    const carso_model *model;
    const carso_dataset *dataset;
    uint64_t first, count; /* images of the data set */
    uint64_t batch;
    int32_t read_threads; /* 0: a fitting number */
    bool robust;
    carso_predict_options options; /* draws, aggregation, seed */
    const char *output;            /* NULL: standard output */
    bool resume;
    bool quiet;
    /* What the results depend on, in short: hexadecimal marks of model, options and images, a hyphen between. Each line
     * holds it, and no other lines are continued. */
    char run[3 * (RUN_PART + 1)];
} stream_task;

typedef struct stream_summary {
    uint64_t images; /* that have a line, those of earlier runs among them */
    uint64_t failed; /* that could not be read or predicted */
    uint64_t non_finite; /* of these, whose results are no numbers */
    uint64_t labelled;
    uint64_t right_classifier, right_defence; /* of those */
    bool complete;
} stream_summary;

exit_status stream_predictions(const stream_task *task, stream_summary *out);

#endif
