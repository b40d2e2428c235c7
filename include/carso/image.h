/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Description of images that the caller holds. Nothing is copied until a call needs it.
 */
#ifndef CARSO_IMAGE_H
#define CARSO_IMAGE_H

#include "carso/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Type of a pixel component. Since 0.1. */
typedef enum carso_pixel_type {
    /** 0 to 255, meaning 0 to 1. */
    CARSO_PIXEL_UINT8 = 0,
    /** In [0, 1]; anything else, NaN included, is refused. */
    CARSO_PIXEL_FLOAT32 = 1
} carso_pixel_type;

/** Order of the components in memory. Since 0.1. */
typedef enum carso_pixel_layout {
    /** Interleaved: rows of pixels, each with its components. */
    CARSO_LAYOUT_HWC = 0,
    /** Planar: one plane per component. */
    CARSO_LAYOUT_CHW = 1
} carso_pixel_layout;

/** Meaning of the components. A model for gray images takes GRAY, one for colour images RGB or BGR. Since 0.1. */
typedef enum carso_pixel_order {
    CARSO_ORDER_GRAY = 0,
    CARSO_ORDER_RGB = 1,
    CARSO_ORDER_BGR = 2
} carso_pixel_order;

/**
 * A batch of images in the caller's memory. Strides are in bytes, may be negative, and 0 means dense:
 *   HWC  pixel_stride: from a pixel to the next in its row; components of a pixel are adjacent.
 *   CHW  pixel_stride: the same within a plane; plane_stride: from a plane to the next.
 *   row_stride: from a row to the next; image_stride: from an image to the next.
 * Since 0.1.
 */
typedef struct carso_images {
    size_t struct_size;
    const void *data;
    uint64_t count;
    int32_t width;
    int32_t height;
    int32_t type;   /**< carso_pixel_type */
    int32_t layout; /**< carso_pixel_layout */
    int32_t order;  /**< carso_pixel_order */
    int32_t reserved;
    int64_t pixel_stride;
    int64_t row_stride;
    int64_t plane_stride;
    int64_t image_stride;
} carso_images;

/**
 * Describes no image: UINT8, HWC, RGB, dense, count 1, size 0x0, data NULL. size: sizeof *images. Since 0.1.
 */
CARSO_API void carso_images_init(carso_images *images, size_t size);

#ifdef __cplusplus
}
#endif
#endif
