/* SPDX-License-Identifier: BSD-2-Clause */
#include "model/run.h"

#include <math.h>
#include <string.h>

/* Host buffers of one kind may take this share of the memory limit. */
#define HOST_SHARE 16
/* Draws without a gradient take this share: buffers as large as that gain no speed by being larger. */
#define DRAW_SHARE 8

/* A program, and the plan of it that is in use. */
typedef struct stage {
    cso_program *program;
    cso_plan *plan;
    int64_t batch; /* of plan */
    int64_t limit; /* of a batch */
} stage;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static size_t element_size(cso_element element)
{
    return element == CSO_F64 ? sizeof(double) : sizeof(float);
}

static size_t image_elements(const carso_model *model)
{
    return (size_t)model->channels * (size_t)model->height * (size_t)model->width;
}

/* total in as few parts of at most most as can be, of about one size. */
static int64_t even_share(int64_t total, int64_t most)
{
    const int64_t parts = (total + most - 1) / most;
    return (total + parts - 1) / parts;
}

/* How many items of this size a host buffer may hold, at least 1. */
static int64_t host_limit(const carso_model *model, size_t item_size)
{
    return larger(1, (int64_t)(model->context->memory_limit / HOST_SHARE / larger(1, (int64_t)item_size)));
}

/* live_stages: how many such plans a call holds at once; they share the memory limit. */
static carso_status stage_open(carso_model *model, cso_model_program which, int live_stages, int64_t most, stage *out)
{
    *out = (stage){0};
    carso_status status = cso_model_get_program(model, which, &out->program);
    if (status == CARSO_OK)
        status = cso_program_batch_limit(out->program, &out->limit);
    if (status == CARSO_OK)
        out->limit = smaller(most, larger(1, out->limit / live_stages));
    return status;
}

static void stage_close(stage *used)
{
    if (used->plan)
        cso_plan_release(used->plan);
    used->plan = NULL;
    used->batch = 0;
}

/* Makes used->plan one for this batch. */
static carso_status stage_plan(stage *used, int64_t batch)
{
    if (used->plan && used->batch == batch)
        return CARSO_OK;
    stage_close(used);
    const carso_status status = cso_program_acquire(used->program, batch, &used->plan);
    if (status != CARSO_OK)
        used->plan = NULL;
    else
        used->batch = batch;
    return status;
}

static carso_status report_progress(const cso_run *run, double images_done)
{
    if (!run->progress)
        return CARSO_OK;
    const carso_progress progress = {sizeof progress, (uint64_t)(images_done + 1e-6), (uint64_t)run->count, "images"};
    return run->progress(&progress, run->progress_user) ? CARSO_CANCELLED : CARSO_OK;
}

/* Images first .. first + count - 1, in place or through buffer. */
static carso_status fetch_images(const carso_model *model, const cso_run *run, int64_t first, int64_t count,
                                 float *buffer, const void **out)
{
    if (run->images) {
        *out = (const char *)run->images + (size_t)first * image_elements(model) * element_size(run->element);
        return CARSO_OK;
    }
    *out = buffer;
    return run->source(run->source_user, first, count, buffer);
}

/* Divides each image's share of gradient [draws][count][classes] by a power of two that brings its largest element to
 * [0.5, 1). */
static void scale_logit_gradient(double *gradient, int64_t draws, int64_t count, int64_t classes, int32_t *exponent)
{
    for (int64_t i = 0; i < count; i++) {
        double largest = 0.0;
        for (int64_t d = 0; d < draws; d++) {
            const double *const row = gradient + (d * count + i) * classes;
            for (int64_t c = 0; c < classes; c++)
                if (fabs(row[c]) > largest)
                    largest = fabs(row[c]);
        }
        int power = 0;
        if (isfinite(largest) && largest > 0.0)
            frexp(largest, &power);
        exponent[i] = power;
        for (int64_t d = 0; d < draws && power != 0; d++) {
            double *const row = gradient + (d * count + i) * classes;
            for (int64_t c = 0; c < classes; c++)
                row[c] = ldexp(row[c], -power);
        }
    }
}

/* Hands out the exponents, or multiplies them back into the gradient of images first .. first + count - 1. */
static void finish_gradient(const carso_model *model, const cso_run *run, int64_t first, int64_t count,
                            const int32_t *exponent)
{
    if (run->gradient_exponent) {
        memcpy(run->gradient_exponent + first, exponent, (size_t)count * sizeof *exponent);
        return;
    }
    const size_t size = image_elements(model);
    for (int64_t i = 0; i < count; i++) {
        const size_t start = (size_t)(first + i) * size;
        for (size_t j = 0; j < size && exponent[i] != 0; j++) {
            if (run->element == CSO_F64)
                ((double *)run->gradient)[start + j] = ldexp(((double *)run->gradient)[start + j], exponent[i]);
            else
                ((float *)run->gradient)[start + j] = ldexpf(((float *)run->gradient)[start + j], exponent[i]);
        }
    }
}

/* Where the gradient of images first .. goes. */
static void *gradient_at(const carso_model *model, const cso_run *run, int64_t first)
{
    return (char *)run->gradient + (size_t)first * image_elements(model) * element_size(run->element);
}

static carso_status check_run(const carso_model *model, const cso_run *run, bool defence)
{
    const carso_context *const context = model->context;
    if (!run->images && (!run->source || run->element != CSO_F32))
        return cso_fail(context, CARSO_ERROR_INTERNAL, "a run has neither images nor a source of float images");
    if (run->gradient && !run->function)
        return cso_fail(context, CARSO_ERROR_INTERNAL, "a run wants a gradient of no function");
    if (!defence)
        return CARSO_OK;
    if (!model->purifier)
        return cso_fail(context, CARSO_ERROR_UNSUPPORTED,
                        "the model has no purifier; add one with carso_model_add_purifier and train it");
    if (run->draws < 1)
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "draws is %d; at least 1 is needed", run->draws);
    if (!run->latents && !run->image_index)
        return cso_fail(context, CARSO_ERROR_INTERNAL, "a run has neither latents nor image indices");
    return CARSO_OK;
}

carso_status cso_run_classifier(carso_model *model, const cso_run *run)
{
    const carso_context *const context = model->context;
    const size_t size = image_elements(model);
    const int64_t classes = model->classes;
    stage classify = {0};
    float *images = NULL;
    double *logits = NULL, *logit_gradient = NULL;
    int32_t *exponent = NULL;

    carso_status status = check_run(model, run, false);
    if (status != CARSO_OK || run->count <= 0)
        return status;
    status = stage_open(model, run->gradient ? CSO_PROGRAM_CLASSIFY_GRADIENT : CSO_PROGRAM_CLASSIFY, 1, CSO_RUN_IMAGES,
                        &classify);
    if (status != CARSO_OK)
        return status;
    const int64_t chunk = smaller(run->count, smaller(classify.limit, host_limit(model, size * sizeof(double))));

    logits = cso_allocate(context, (size_t)chunk, (size_t)classes * sizeof *logits);
    logit_gradient = cso_allocate(context, run->gradient ? (size_t)chunk : 0, (size_t)classes * sizeof *logit_gradient);
    exponent = cso_allocate(context, (size_t)chunk, sizeof *exponent);
    images = cso_allocate(context, run->images ? 0 : (size_t)chunk, size * sizeof *images);
    if (!logits || !logit_gradient || !exponent || !images) {
        status = cso_fail_memory(context, "logits");
        goto done;
    }

    for (int64_t first = 0; first < run->count && status == CARSO_OK; first += chunk) {
        const int64_t count = smaller(chunk, run->count - first);
        const void *input = NULL;
        if ((status = stage_plan(&classify, count)) != CARSO_OK ||
            (status = fetch_images(model, run, first, count, images, &input)) != CARSO_OK ||
            (status = cso_plan_write(classify.plan, 0, input, run->element)) != CARSO_OK ||
            (status = cso_plan_forward(classify.plan)) != CARSO_OK ||
            (status = cso_plan_read(classify.plan, 0, logits, CSO_F64)) != CARSO_OK)
            break;
        if (run->logits)
            memcpy(run->logits + first * classes, logits, (size_t)(count * classes) * sizeof *logits);
        if (run->function && (status = run->function(run->user, first, count, 1, (int)classes, logits,
                                                     run->losses ? run->losses + first : NULL,
                                                     run->gradient ? logit_gradient : NULL)) != CARSO_OK)
            break;
        if (run->gradient) {
            scale_logit_gradient(logit_gradient, 1, count, classes, exponent);
            if ((status = cso_plan_write_gradient(classify.plan, 0, logit_gradient, CSO_F64)) != CARSO_OK ||
                (status = cso_plan_backward(classify.plan)) != CARSO_OK ||
                (status = cso_plan_read_gradient(classify.plan, 0, gradient_at(model, run, first), run->element)) !=
                    CARSO_OK)
                break;
            finish_gradient(model, run, first, count, exponent);
        }
        status = report_progress(run, (double)(first + count));
    }

done:
    stage_close(&classify);
    cso_release(context, images);
    cso_release(context, exponent);
    cso_release(context, logit_gradient);
    cso_release(context, logits);
    return status;
}

/* A run of the defence, part by part: a part is some images with all their draws, computed in slices of (draw, image)
 * pairs. */
typedef struct defence {
    carso_model *model;
    const cso_run *run;
    bool purify_only;
    stage condition, draw;
    int64_t images, pairs; /* of a full part, of a full slice */
    size_t image_size, condition_size, latent_size;
    int64_t classes;
    float *part_image;      /* [images][C][H][W], where images come from a source */
    double *part_condition; /* [images][condition] */
    double *part_condition_gradient;
    double *part_logits; /* [draws][images][classes] */
    double *part_logit_gradient;
    int32_t *part_exponent;  /* [images] */
    void *slice_latent;      /* [pairs][latent], float, or double where given outright */
    double *slice_condition; /* [pairs][condition], and its gradient */
    void *slice_image;       /* [pairs][C][H][W] */
} defence;

static void defence_close(defence *work)
{
    const carso_context *const context = work->model->context;
    stage_close(&work->draw);
    stage_close(&work->condition);
    cso_release(context, work->slice_image);
    cso_release(context, work->slice_condition);
    cso_release(context, work->slice_latent);
    cso_release(context, work->part_exponent);
    cso_release(context, work->part_logit_gradient);
    cso_release(context, work->part_logits);
    cso_release(context, work->part_condition_gradient);
    cso_release(context, work->part_condition);
    cso_release(context, work->part_image);
}

static carso_status defence_open(defence *work, carso_model *model, const cso_run *run, bool purify_only)
{
    const carso_context *const context = model->context;
    const bool gradient = run->gradient != NULL;
    *work = (defence){.model = model, .run = run, .purify_only = purify_only};
    const int draw_share = gradient ? 2 : DRAW_SHARE;
    carso_status status = stage_open(model, gradient ? CSO_PROGRAM_CONDITION_GRADIENT : CSO_PROGRAM_CONDITION, 2,
                                     CSO_RUN_IMAGES, &work->condition);
    if (status == CARSO_OK)
        status = stage_open(model,
                            purify_only ? CSO_PROGRAM_PURIFY
                            : gradient  ? CSO_PROGRAM_DRAW_GRADIENT
                                        : CSO_PROGRAM_DRAW,
                            draw_share, CSO_RUN_PAIRS, &work->draw);
    if (status != CARSO_OK)
        return status;

    work->image_size = image_elements(model);
    work->condition_size = (size_t)model->purifier->condition_size;
    work->latent_size = (size_t)model->purifier->latent_size;
    work->classes = model->classes;
    work->pairs = work->draw.limit;
    if (run->reconstructions)
        work->pairs = smaller(work->pairs, host_limit(model, work->image_size * sizeof(double)));
    work->images =
        smaller(run->count, smaller(work->condition.limit, host_limit(model, work->image_size * sizeof(double))));
    if (!purify_only)
        work->images =
            smaller(work->images, host_limit(model, (size_t)run->draws * (size_t)work->classes * sizeof(double)));
    /* A part whose pairs fit in one slice needs no second forward pass before its backward one. */
    if (gradient)
        work->images = smaller(work->images, larger(1, work->pairs / run->draws));
    work->pairs = smaller(work->pairs, work->images * run->draws);
    if (!gradient)
        work->pairs = even_share(work->images * run->draws, work->pairs);

    const size_t images = (size_t)work->images, pairs = (size_t)work->pairs, draws = (size_t)run->draws;
    const size_t row = (size_t)work->classes * sizeof(double);
    const size_t logit_rows =
        purify_only ? 0 : draws * images; /* no overflow: draws is an int, images at most CSO_RUN_IMAGES */
    work->part_image = cso_allocate(context, run->images ? 0 : images, work->image_size * sizeof(float));
    work->part_condition = cso_allocate(context, images, work->condition_size * sizeof(double));
    work->part_condition_gradient = cso_allocate(context, gradient ? images : 0, work->condition_size * sizeof(double));
    work->part_logits = cso_allocate(context, logit_rows, row);
    work->part_logit_gradient = cso_allocate(context, gradient ? logit_rows : 0, row);
    work->part_exponent = cso_allocate(context, images, sizeof(int32_t));
    work->slice_latent = cso_allocate(context, pairs, work->latent_size * sizeof(double));
    work->slice_condition = cso_allocate(context, pairs, work->condition_size * sizeof(double));
    work->slice_image =
        cso_allocate(context, run->reconstructions ? pairs : 0, work->image_size * element_size(run->element));
    if (!work->part_image || !work->part_condition || !work->part_condition_gradient || !work->part_logits ||
        !work->part_logit_gradient || !work->part_exponent || !work->slice_latent || !work->slice_condition ||
        !work->slice_image)
        return cso_fail_memory(context, "latents and logits");
    return CARSO_OK;
}

/* Latents and conditions of pairs start .. start + count - 1 of the part that begins at image first and has images
 * images; pair p is draw p / images of image p % images. Then forward. */
static carso_status slice_forward(defence *work, int64_t first, int64_t images, int64_t start, int64_t count)
{
    const cso_run *const run = work->run;
    for (int64_t p = 0; p < count; p++) {
        const int64_t draw = (start + p) / images, image = (start + p) % images;
        memcpy(work->slice_condition + (size_t)p * work->condition_size,
               work->part_condition + (size_t)image * work->condition_size, work->condition_size * sizeof(double));
        if (run->latents) {
            memcpy((double *)work->slice_latent + (size_t)p * work->latent_size,
                   run->latents + (size_t)(draw * run->count + first + image) * work->latent_size,
                   work->latent_size * sizeof(double));
        } else {
            const cso_random stream = {run->seed, run->purpose, run->image_index[first + image],
                                       run->first_draw + (uint32_t)draw};
            cso_random_normal(&stream, 0, work->latent_size,
                              (float *)work->slice_latent + (size_t)p * work->latent_size);
        }
    }
    carso_status status = stage_plan(&work->draw, count);
    if (status == CARSO_OK)
        status = cso_plan_write(work->draw.plan, 0, work->slice_latent, run->latents ? CSO_F64 : CSO_F32);
    if (status == CARSO_OK)
        status = cso_plan_write(work->draw.plan, 1, work->slice_condition, CSO_F64);
    if (status == CARSO_OK)
        status = cso_plan_forward(work->draw.plan);
    return status;
}

static carso_status slice_read(defence *work, int64_t first, int64_t images, int64_t start, int64_t count)
{
    const cso_run *const run = work->run;
    carso_status status = CARSO_OK;
    if (!work->purify_only)
        status = cso_plan_read(work->draw.plan, 0, work->part_logits + start * work->classes, CSO_F64);
    if (status != CARSO_OK || !run->reconstructions)
        return status;
    status = cso_plan_read(work->draw.plan, work->purify_only ? 0 : 1, work->slice_image, run->element);
    if (status != CARSO_OK)
        return status;
    const size_t bytes = work->image_size * element_size(run->element);
    for (int64_t p = 0; p < count; p++) {
        const int64_t draw = (start + p) / images, image = (start + p) % images;
        memcpy((char *)run->reconstructions + (size_t)(draw * run->count + first + image) * bytes,
               (const char *)work->slice_image + (size_t)p * bytes, bytes);
    }
    return CARSO_OK;
}

/* After slice_forward: adds the slice's d loss / d condition, summed over draws in double. */
static carso_status slice_backward(defence *work, int64_t images, int64_t start, int64_t count)
{
    carso_status status =
        cso_plan_write_gradient(work->draw.plan, 0, work->part_logit_gradient + start * work->classes, CSO_F64);
    if (status == CARSO_OK)
        status = cso_plan_backward(work->draw.plan);
    if (status == CARSO_OK)
        status = cso_plan_read_gradient(work->draw.plan, 0, work->slice_condition, CSO_F64);
    if (status != CARSO_OK)
        return status;
    for (int64_t p = 0; p < count; p++) {
        const double *const from = work->slice_condition + (size_t)p * work->condition_size;
        double *const to = work->part_condition_gradient + (size_t)((start + p) % images) * work->condition_size;
        for (size_t j = 0; j < work->condition_size; j++)
            to[j] += from[j];
    }
    return CARSO_OK;
}

/* The gradient to the part's images, the last slice's forward pass being the latest one of the draw stage. */
static carso_status part_backward(defence *work, int64_t first, int64_t images, int64_t last_start)
{
    const cso_run *const run = work->run;
    const int64_t total = images * run->draws;
    scale_logit_gradient(work->part_logit_gradient, run->draws, images, work->classes, work->part_exponent);
    memset(work->part_condition_gradient, 0, (size_t)images * work->condition_size * sizeof(double));
    for (int64_t start = last_start; start >= 0; start -= work->pairs) {
        const int64_t count = smaller(work->pairs, total - start);
        carso_status status = start == last_start ? CARSO_OK : slice_forward(work, first, images, start, count);
        if (status == CARSO_OK)
            status = slice_backward(work, images, start, count);
        if (status == CARSO_OK && start > 0)
            status = report_progress(run, (double)first + (double)images * (1.0 - 0.5 * (double)start / (double)total));
        if (status != CARSO_OK)
            return status;
    }
    carso_status status = cso_plan_write_gradient(work->condition.plan, 0, work->part_condition_gradient, CSO_F64);
    if (status == CARSO_OK)
        status = cso_plan_backward(work->condition.plan);
    if (status == CARSO_OK)
        status = cso_plan_read_gradient(work->condition.plan, 0, gradient_at(work->model, run, first), run->element);
    if (status == CARSO_OK)
        finish_gradient(work->model, run, first, images, work->part_exponent);
    return status;
}

static carso_status run_part(defence *work, int64_t first, int64_t images)
{
    const cso_run *const run = work->run;
    const void *input = NULL;
    carso_status status;
    if ((status = fetch_images(work->model, run, first, images, work->part_image, &input)) != CARSO_OK ||
        (status = stage_plan(&work->condition, images)) != CARSO_OK ||
        (status = cso_plan_write(work->condition.plan, 0, input, run->element)) != CARSO_OK ||
        (status = cso_plan_forward(work->condition.plan)) != CARSO_OK ||
        (status = cso_plan_read(work->condition.plan, 0, work->part_condition, CSO_F64)) != CARSO_OK)
        return status;

    const int64_t total = images * run->draws;
    const double share = run->gradient ? 0.5 : 1.0; /* of the work that the forward pass is, roughly */
    int64_t last_start = 0;
    for (int64_t start = 0; start < total; start += work->pairs) {
        const int64_t count = smaller(work->pairs, total - start);
        last_start = start;
        status = slice_forward(work, first, images, start, count);
        if (status == CARSO_OK)
            status = slice_read(work, first, images, start, count);
        if (status == CARSO_OK && start + count < total)
            status =
                report_progress(run, (double)first + share * (double)images * (double)(start + count) / (double)total);
        if (status != CARSO_OK)
            return status;
    }
    if (run->logits)
        for (int64_t d = 0; d < run->draws; d++)
            memcpy(run->logits + (d * run->count + first) * work->classes,
                   work->part_logits + d * images * work->classes, (size_t)(images * work->classes) * sizeof(double));
    if (run->function)
        status =
            run->function(run->user, first, images, run->draws, (int)work->classes, work->part_logits,
                          run->losses ? run->losses + first : NULL, run->gradient ? work->part_logit_gradient : NULL);
    if (status == CARSO_OK && run->gradient)
        status = part_backward(work, first, images, last_start);
    if (status == CARSO_OK)
        status = report_progress(run, (double)(first + images));
    return status;
}

static carso_status run_defence(carso_model *model, const cso_run *run, bool purify_only)
{
    carso_status status = check_run(model, run, true);
    if (status != CARSO_OK || run->count <= 0)
        return status;
    defence work;
    status = defence_open(&work, model, run, purify_only);
    for (int64_t first = 0; first < run->count && status == CARSO_OK; first += work.images)
        status = run_part(&work, first, smaller(work.images, run->count - first));
    defence_close(&work);
    return status;
}

carso_status cso_run_defence(carso_model *model, const cso_run *run)
{
    return run_defence(model, run, false);
}

carso_status cso_run_purify(carso_model *model, const cso_run *run)
{
    cso_run forward = *run;
    forward.function = NULL;
    forward.losses = NULL;
    forward.gradient = NULL;
    forward.logits = NULL;
    return run_defence(model, &forward, true);
}
