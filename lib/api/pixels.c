/* SPDX-License-Identifier: BSD-2-Clause */
#include "api/pixels.h"

#include <stdbool.h>
#include <string.h>

#include "base/context.h"

static int32_t component_count(int32_t order)
{
    return order == CARSO_ORDER_GRAY ? 1 : 3;
}

static const char *order_name(int32_t order)
{
    switch (order) {
    case CARSO_ORDER_GRAY:
        return "gray";
    case CARSO_ORDER_RGB:
        return "RGB";
    case CARSO_ORDER_BGR:
        return "BGR";
    default:
        return "unknown";
    }
}

/* *total += |count * stride|, false where that leaves the address space. */
static bool add_span(int64_t count, int64_t stride, int64_t *total)
{
    int64_t span;
    if (stride == INT64_MIN || __builtin_mul_overflow(count, stride < 0 ? -stride : stride, &span)) {
        return false;
    }
    return !__builtin_add_overflow(*total, span, total) && *total <= PTRDIFF_MAX / 2;
}

/* stride, or where it is 0 that of dense items: count times the inner stride's size. */
static bool resolve_stride(int64_t count, int64_t inner, int64_t *stride)
{
    if (*stride != 0) {
        return *stride != INT64_MIN;
    }
    return !__builtin_mul_overflow(count, inner < 0 ? -inner : inner, stride);
}

static carso_status resolve_strides(const carso_context *context, carso_images *images)
{
    const bool planar = images->layout == CARSO_LAYOUT_CHW;
    const int64_t component = images->type == CARSO_PIXEL_UINT8 ? 1 : (int64_t)sizeof(float);
    const int64_t components = component_count(images->order);
    int64_t span = planar ? component : component * components;
    bool valid = resolve_stride(planar ? 1 : components, component, &images->pixel_stride) &&
                 resolve_stride(images->width, images->pixel_stride, &images->row_stride) &&
                 resolve_stride(images->height, images->row_stride, &images->plane_stride) &&
                 resolve_stride(planar ? components : images->height,
                                planar ? images->plane_stride : images->row_stride, &images->image_stride);
    if (!planar) {
        images->plane_stride = component; /* from a component to the next: the reader knows one layout */
    }
    valid = valid && images->count <= INT64_MAX && add_span(images->width - 1, images->pixel_stride, &span) &&
            add_span(images->height - 1, images->row_stride, &span) &&
            add_span(components - 1, images->plane_stride, &span) &&
            add_span((int64_t)(images->count - 1), images->count > 1 ? images->image_stride : 0, &span);
    if (!valid) {
        return cso_fail(
            context, CARSO_ERROR_INVALID_ARGUMENT,
            "images: %llu images with strides of %lld, %lld, %lld and %lld bytes (pixel, row, plane, image) leave the "
            "address space",
            (unsigned long long)images->count, (long long)images->pixel_stride, (long long)images->row_stride,
            (long long)images->plane_stride, (long long)images->image_stride);
    }
    return CARSO_OK;
}

carso_status cso_pixels_check(const carso_context *context, const carso_images *images, int32_t channels,
                              int32_t height, int32_t width, carso_images *out_resolved)
{
    carso_images found;
    carso_images_init(&found, sizeof found);
    if (!images) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "images is NULL");
    }
    const carso_status status = cso_options_copy(context, "images", &found, sizeof found, images);
    if (status != CARSO_OK) {
        return status;
    }
    if (!found.data) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "images: data is NULL");
    }
    if (found.count == 0) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "images: count is 0; at least one image is needed");
    }
    if (found.type != CARSO_PIXEL_UINT8 && found.type != CARSO_PIXEL_FLOAT32) {
        return cso_fail(context, CARSO_ERROR_INVALID_IMAGE, "images: type is %d; expected %d (uint8) or %d (float32)",
                        found.type, CARSO_PIXEL_UINT8, CARSO_PIXEL_FLOAT32);
    }
    if (found.layout != CARSO_LAYOUT_HWC && found.layout != CARSO_LAYOUT_CHW) {
        return cso_fail(context, CARSO_ERROR_INVALID_IMAGE, "images: layout is %d; expected %d (HWC) or %d (CHW)",
                        found.layout, CARSO_LAYOUT_HWC, CARSO_LAYOUT_CHW);
    }
    if (found.width != width || found.height != height) {
        return cso_fail(context, CARSO_ERROR_INVALID_IMAGE, "images: width x height is %dx%d; the model takes %dx%d",
                        found.width, found.height, width, height);
    }
    const bool known =
        found.order == CARSO_ORDER_GRAY || found.order == CARSO_ORDER_RGB || found.order == CARSO_ORDER_BGR;
    if (!known || component_count(found.order) != channels) {
        return cso_fail(context, CARSO_ERROR_INVALID_IMAGE, "images: order is %d (%s); the model takes %s", found.order,
                        order_name(found.order), channels == 1 ? "gray images" : "RGB or BGR images");
    }
    *out_resolved = found;
    return resolve_strides(context, out_resolved);
}

static carso_status refuse_value(const carso_context *context, const carso_images *images, uint64_t image, int32_t row,
                                 int32_t column, int32_t component, float value)
{
    static const char *const name[] = {"red", "green", "blue"};
    const char *const channel = images->order == CARSO_ORDER_GRAY  ? "gray"
                                : images->order == CARSO_ORDER_RGB ? name[component]
                                                                   : name[2 - component];
    return cso_fail(context, CARSO_ERROR_INVALID_IMAGE,
                    "image %llu, row %d, column %d, channel %d (%s): the value %.9g is not in [0, 1]",
                    (unsigned long long)image, row, column, component, channel, (double)value);
}

static carso_status read_plane(const carso_context *context, const carso_images *images, uint64_t image,
                               int32_t component, float *out)
{
    const uint8_t *const plane =
        (const uint8_t *)images->data + (int64_t)image * images->image_stride + component * images->plane_stride;
    for (int32_t y = 0; y < images->height; y++) {
        const uint8_t *const row = plane + y * images->row_stride;
        for (int32_t x = 0; x < images->width; x++) {
            const uint8_t *const place = row + x * images->pixel_stride;
            float value;
            if (images->type == CARSO_PIXEL_UINT8) {
                value = (float)*place / 255.0f;
            } else {
                memcpy(&value, place, sizeof value); /* strides may leave it unaligned */
            }
            if (!(value >= 0.0f && value <= 1.0f))   /* NaN as well */ {
                return refuse_value(context, images, image, y, x, component, value);
            }
            *out++ = value;
        }
    }
    return CARSO_OK;
}

carso_status cso_pixels_read(const carso_context *context, const carso_images *resolved, uint64_t first, uint64_t count,
                             float *out)
{
    const int32_t components = component_count(resolved->order);
    const size_t plane = (size_t)resolved->width * (size_t)resolved->height;
    for (uint64_t i = first; i < first + count; i++) {
        for (int32_t c = 0; c < components; c++) {
            const int32_t component = resolved->order == CARSO_ORDER_BGR ? 2 - c : c;
            const carso_status status = read_plane(context, resolved, i, component, out);
            if (status != CARSO_OK) {
                return status;
            }
            out += plane;
        }
    }
    return CARSO_OK;
}
