/* SPDX-License-Identifier: BSD-2-Clause */
#include "api/image_batch.h"

#include "api/pixels.h"

carso_status cso_image_batch_open(const carso_model *model, const carso_images *images, uint64_t first_image,
                                  const char *call, cso_image_batch *out)
{
    *out = (cso_image_batch){.model = (carso_model *)model, .context = model->context};
    const carso_status status =
        cso_pixels_check(out->context, images, model->channels, model->height, model->width, &out->images);
    if (status != CARSO_OK) {
        return status;
    }
    if (first_image > UINT64_MAX - out->images.count) {
        return cso_fail(out->context, CARSO_ERROR_INVALID_ARGUMENT,
                        "%s: first_image is %llu; with %llu images it overflows", call, (unsigned long long)first_image,
                        (unsigned long long)out->images.count);
    }
    out->count = (int64_t)out->images.count;
    out->image_size = (size_t)model->channels * (size_t)model->height * (size_t)model->width;
    out->image_index = cso_allocate_raw(out->context, (size_t)out->count, sizeof *out->image_index);
    if (!out->image_index) {
        return cso_fail_memory(out->context, "image numbers");
    }
    for (int64_t i = 0; i < out->count; i++) {
        out->image_index[i] = first_image + (uint64_t)i;
    }
    return CARSO_OK;
}

void cso_image_batch_close(cso_image_batch *batch)
{
    cso_release(batch->context, batch->image_index);
    batch->image_index = NULL;
}

carso_status cso_image_batch_source(void *user, int64_t first, int64_t count, float *out)
{
    const cso_image_batch *const batch = user;
    return cso_pixels_read(batch->context, &batch->images, (uint64_t)first, (uint64_t)count, out);
}

carso_status cso_image_batch_check_labels(const cso_image_batch *batch, const int32_t *labels, const char *call)
{
    if (!labels) {
        return cso_fail(batch->context, CARSO_ERROR_INVALID_ARGUMENT, "%s: labels is NULL", call);
    }
    for (int64_t i = 0; i < batch->count; i++) {
        if (labels[i] < 0 || labels[i] >= batch->model->classes) {
            return cso_fail(batch->context, CARSO_ERROR_INVALID_ARGUMENT,
                            "%s: label %lld is %d; the model's classes are 0 to %d", call, (long long)i, labels[i],
                            batch->model->classes - 1);
        }
    }
    return CARSO_OK;
}

carso_status cso_image_batch_check_targets(const cso_image_batch *batch, const int32_t *labels, const int32_t *targets,
                                           const char *call)
{
    for (int64_t i = 0; targets && i < batch->count; i++) {
        const int32_t target = targets[i];
        if (target < 0 || target >= batch->model->classes) {
            return cso_fail(batch->context, CARSO_ERROR_INVALID_ARGUMENT,
                            "%s: target %lld is %d; the model's classes are 0 to %d", call, (long long)i, target,
                            batch->model->classes - 1);
        }
        if (labels && target == labels[i]) {
            return cso_fail(batch->context, CARSO_ERROR_INVALID_ARGUMENT,
                            "%s: target %lld is %d; a class other than the label, which is %d, is needed", call,
                            (long long)i, target, labels[i]);
        }
    }
    return CARSO_OK;
}

void *cso_image_batch_allocate(const cso_image_batch *batch, size_t a, size_t b, size_t c, size_t item)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product) || __builtin_mul_overflow(product, c, &product)) {
        return NULL;
    }
    return cso_allocate(batch->context, product, item);
}
