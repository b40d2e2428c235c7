/* SPDX-License-Identifier: BSD-2-Clause */
#include <inttypes.h>

#include "api/read_options.h"
#include "data/reader.h"

#define MOST_THREADS 256
#define MOST_AHEAD 256

void carso_reader_options_init(carso_reader_options *options, size_t size)
{
    const carso_reader_options defaults = {.batch = 64, .ahead = 2};
    cso_options_fill(options, size, &defaults, sizeof defaults);
}

static carso_status check_options(const carso_context *context, const carso_reader_options *options)
{
    if (options->batch == 0) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "reader options: batch is 0");
    }
    if (options->threads < 0 || options->threads > MOST_THREADS) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "reader options: threads is %d, not in 0 to %d",
                        (int)options->threads, MOST_THREADS);
    }
    if (options->ahead < 1 || options->ahead > MOST_AHEAD) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "reader options: ahead is %d, not in 1 to %d",
                        (int)options->ahead, MOST_AHEAD);
    }
    if (options->keep_going != 0 && options->keep_going != 1) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "reader options: keep_going is %d, not 0 or 1",
                        (int)options->keep_going);
    }
    return CARSO_OK;
}

static carso_status check_list(const carso_dataset *dataset, const uint64_t *indices, uint64_t count, uint64_t first)
{
    const uint64_t images = dataset->info.count;
    if (count == 0) {
        return cso_fail(dataset->context, CARSO_ERROR_INVALID_ARGUMENT, "carso_reader_open: count is 0");
    }
    if (indices == NULL && (first >= images || count > images - first)) {
        return cso_fail(dataset->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "carso_reader_open: %" PRIu64 " images from %" PRIu64 " on; the data set has %" PRIu64, count,
                        first, images);
    }
    for (uint64_t i = 0; indices != NULL && i < count; i++) {
        if (indices[i] >= images) {
            return cso_fail(dataset->context, CARSO_ERROR_INVALID_ARGUMENT,
                            "index %" PRIu64 " of the list is %" PRIu64 "; the data set has %" PRIu64 " images", i,
                            indices[i], images);
        }
    }
    return CARSO_OK;
}

carso_status carso_reader_open(const carso_dataset *dataset, const uint64_t *indices, uint64_t count,
                               const carso_reader_options *options, carso_reader **out_reader)
{
    carso_reader_options resolved;
    carso_read_options reading;
    if (out_reader != NULL) {
        *out_reader = NULL;
    }
    if (dataset == NULL || out_reader == NULL) {
        return cso_fail_missing(dataset == NULL ? NULL : dataset->context, "carso_reader_open",
                                dataset == NULL ? "dataset" : "out_reader");
    }
    carso_reader_options_init(&resolved, sizeof resolved);
    carso_status status = cso_options_copy(dataset->context, "reader options", &resolved, sizeof resolved, options);
    if (status == CARSO_OK) {
        status = check_options(dataset->context, &resolved);
    }
    if (status == CARSO_OK) {
        status = cso_read_options_resolve(dataset, resolved.reading, &reading);
    }
    if (status == CARSO_OK) {
        status = check_list(dataset, indices, count, resolved.first);
    }
    resolved.reading = &reading;
    return status == CARSO_OK ? cso_reader_open(dataset, indices, count, &resolved, out_reader) : status;
}

carso_status carso_reader_next(carso_reader *reader, carso_read_batch *out_batch)
{
    carso_read_batch batch;
    if (reader == NULL || out_batch == NULL) {
        return cso_fail_missing(reader == NULL ? NULL : cso_reader_context(reader), "carso_reader_next",
                                reader == NULL ? "reader" : "out_batch");
    }
    const carso_read_batch none = {0};
    carso_status status =
        cso_struct_fill(cso_reader_context(reader), "carso_reader_next", out_batch, &none, sizeof none);
    if (status == CARSO_OK) {
        status = cso_reader_next(reader, &batch);
    }
    return status == CARSO_OK ? cso_struct_fill(cso_reader_context(reader), "carso_reader_next", out_batch, &batch,
                                                sizeof batch)
                              : status;
}

void carso_reader_destroy(carso_reader *reader) { cso_reader_destroy(reader); }
