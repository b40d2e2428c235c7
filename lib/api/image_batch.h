/* SPDX-License-Identifier: BSD-2-Clause */
/* What the calls on a model and a batch of images have in common: checked images, their keys, their conversion. */
#ifndef CSO_API_IMAGE_BATCH_H
#define CSO_API_IMAGE_BATCH_H

#include "carso/image.h"
#include "model/run.h"

typedef struct cso_image_batch {
    carso_model *model;
    const carso_context *context;
    carso_images images; /* resolved */
    int64_t count;
    uint64_t *image_index; /* first_image + i */
    size_t image_size;     /* channels * height * width */
} cso_image_batch;

/* *out can be given to _close whatever the result. call: name of the public function, for messages. */
carso_status cso_image_batch_open(const carso_model *model, const carso_images *images, uint64_t first_image,
                                  const char *call, cso_image_batch *out);
void cso_image_batch_close(cso_image_batch *batch);
/* A cso_image_source; user is a cso_image_batch. */
carso_status cso_image_batch_source(void *user, int64_t first, int64_t count, float *out);
/* INVALID_ARGUMENT names the first label that is no class. */
carso_status cso_image_batch_check_labels(const cso_image_batch *batch, const int32_t *labels, const char *call);
/* Targets may be NULL: there are none. labels may be NULL: a target may then be any class. */
carso_status cso_image_batch_check_targets(const cso_image_batch *batch, const int32_t *labels, const int32_t *targets,
                                           const char *call);
/* Zeroed memory for a * b * c items; NULL where it fails or the product overflows. */
void *cso_image_batch_allocate(const cso_image_batch *batch, size_t a, size_t b, size_t c, size_t item);

#endif
