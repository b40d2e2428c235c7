/* SPDX-License-Identifier: BSD-2-Clause */
/* carso_attack on images that need not be next to each other in their data set. */
#ifndef CSO_API_ATTACK_H
#define CSO_API_ATTACK_H

#include "carso/attack.h"

/* image_index: NULL, or [count] in place of first_image, first_image + 1, ... */
carso_status cso_attack(const carso_model *model, const carso_images *images, const int32_t *labels,
                        const carso_attack_options *options, const uint64_t *image_index,
                        carso_attack_result **out_result);

#endif
