/* SPDX-License-Identifier: BSD-2-Clause */
/* Tensors that PyTorch computed, of which some are stored by strides. What is not as it should be fails the test. */
#ifndef TEST_GOLDEN_FILE_H
#define TEST_GOLDEN_FILE_H

#include "base/json.h"
#include "base/safetensors.h"

typedef struct golden_file {
    carso_context *context;
    cso_safetensors *tensors;
    json_t *strides;
    char path[4096];
} golden_file;

/* A failed call, with the context's message. context: may be NULL. */
void golden_require(const carso_context *context, carso_status status, const char *what);

void golden_open(carso_context *context, const char *path, golden_file *file);
void golden_close(golden_file *file);
const char *golden_metadata(const golden_file *file, const char *key);
/* Of metadata in JSON: to be given back. */
json_t *golden_json(const golden_file *file, const char *key);

const cso_tensor *golden_tensor(const golden_file *file, const char *name);
/* Of a tensor of floats, in memory of malloc. */
double *golden_doubles(const golden_file *file, const char *name, size_t count);
/* out has room for count. */
void golden_labels(const golden_file *file, size_t count, int32_t *out);

/* within: of the largest difference, relative to the largest element; mean_within: of the root mean square, relative to
 * the tensor's. Environment variable CARSO_TEST_VERBOSE: the differences are printed. */
void golden_compare(const golden_file *file, const char *name, const double *actual, size_t count, double within,
                    double mean_within);

#endif
