/* SPDX-License-Identifier: BSD-2-Clause */
/* Three images in a run of the small model, for tests of cso_run_defence and its like. */
#ifndef RUN_CASE_H
#define RUN_CASE_H

#include "attack/losses.h"
#include "model/run.h"
#include "small_model.h"

enum { COUNT = 3, DRAWS = 4, ROWS = DRAWS * COUNT, LATENT = 8 };

static const uint64_t image_index[COUNT] = {10, 11, 12};
static const int32_t labels[COUNT] = {1, 3, 0};

typedef struct outputs {
    double losses[COUNT], logits[ROWS * SMALL_CLASSES];
    float gradient[COUNT * SMALL_IMAGE];
    float reconstructions[ROWS * SMALL_IMAGE];
} outputs;

static inline cso_run basic_run(const float *images, cso_loss_request *request, outputs *out)
{
    return (cso_run){
        .images = images,
        .element = CSO_F32,
        .count = COUNT,
        .draws = DRAWS,
        .seed = 77,
        .purpose = CSO_PURPOSE_LATENT,
        .image_index = image_index,
        .function = cso_loss_function,
        .user = request,
        .losses = out->losses,
        .gradient = out->gradient,
        .logits = out->logits,
        .reconstructions = out->reconstructions,
    };
}

#endif
