/* SPDX-License-Identifier: BSD-2-Clause */
#include "carso/image.h"

#include "base/context.h"

void carso_images_init(carso_images *images, size_t size)
{
    const carso_images defaults = {
        .count = 1, .type = CARSO_PIXEL_UINT8, .layout = CARSO_LAYOUT_HWC, .order = CARSO_ORDER_RGB};
    cso_options_fill(images, size, &defaults, sizeof defaults);
}
