/* SPDX-License-Identifier: BSD-2-Clause */
/* What runs of the classifier and of the defence have in common; shared by run.c and run_defence.c. */
#ifndef CSO_MODEL_RUN_PARTS_H
#define CSO_MODEL_RUN_PARTS_H

#include "model/run.h"

/* Of a gradient that is zero, or not finite: any other may be added to it as it is. */
#define CSO_NO_EXPONENT INT32_MIN

/* A program, and the plan of it that is in use. */
typedef struct cso_stage {
    cso_program *program;
    cso_plan *plan;
    int64_t batch; /* of plan */
    int64_t limit; /* of a batch */
} cso_stage;

static inline int64_t cso_smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t cso_larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline size_t cso_element_size(cso_element element)
{
    return element == CSO_F64 ? sizeof(double) : sizeof(float);
}

size_t cso_run_image_elements(const carso_model *model);

/* How many items of this size a host buffer may hold, at least 1. */
int64_t cso_run_host_limit(const carso_model *model, size_t item_size);

/* live_stages: how many such plans a call holds at once; they share the memory limit. */
carso_status cso_stage_open(carso_model *model, cso_model_program which, int live_stages, int64_t most, cso_stage *out);
void cso_stage_close(cso_stage *used);

/* Makes used->plan one for this batch. */
carso_status cso_stage_plan(cso_stage *used, int64_t batch);
carso_status cso_run_report_progress(const cso_run *run, double images_done);

/* Images first .. first + count - 1, in place or through buffer. */
carso_status cso_run_fetch_images(const carso_model *model, const cso_run *run, int64_t first, int64_t count,
                                  float *buffer, const void **out);

/* Divides each image's share of gradient [draws][count][classes] by a power of two that brings its largest element to
 * [0.5, 1); exponent [count]: of that power. */
void cso_run_scale_logit_gradient(double *gradient, int64_t draws, int64_t count, int64_t classes, int32_t *exponent);

/* Hands out the exponents, or multiplies them back into the gradient of images first .. first + count - 1. */
void cso_run_finish_gradient(const carso_model *model, const cso_run *run, int64_t first, int64_t count,
                             const int32_t *exponent);

/* Where the gradient of images first .. goes. */
void *cso_run_gradient_at(const carso_model *model, const cso_run *run, int64_t first);
carso_status cso_run_check(const carso_model *model, const cso_run *run, bool defence);

#endif
