/* SPDX-License-Identifier: BSD-2-Clause */
#include <math.h>
#include <string.h>

#include "model/run_parts.h"

/* Draws without a gradient take this share of the memory limit: buffers as large as that gain no speed by being
 * larger. */
#define DRAW_SHARE 8
/* Most pairs in one plan where there are several sets, which fill plans of any size: as fast as CSO_RUN_PAIRS, in less
 * memory, whose first use is what a short attack waits for. */
#define SET_PAIRS 128

/* total in as few parts of at most most as can be, of about one size. */
static int64_t even_share(int64_t total, int64_t most)
{
    const int64_t parts = (total + most - 1) / most;
    return (total + parts - 1) / parts;
}

/*
 * A run of the defence, part by part: a part is some images, whose conditions are computed together. An image with one
 * set of draws is a unit; those of one image follow each other, so that a slice has few images and, where none of them has
 * a gradient, can be left out of the backward pass. Units go through the draw stage in groups, since the function wants
 * all draws of a unit, and groups in slices of (draw, unit) pairs.
 */
typedef struct defence {
    carso_model *model;
    const cso_run *run;
    bool purify_only;
    cso_stage condition, draw;
    int64_t draws, sets;
    int64_t images, units, pairs; /* of a full part, group, slice */
    size_t image_size, condition_size, latent_size;
    int64_t classes;
    float *part_image;      /* [images][C][H][W], where images come from a source */
    double *part_condition; /* [images][condition] */
    double *part_condition_gradient;
    int32_t *part_exponent; /* [images] */
    double *group_logits;   /* segment by segment, [draws][images of the segment][classes] */
    double *group_logit_gradient;
    int32_t *group_exponent; /* [units] */
    void *slice_latent;      /* [pairs][latent], float, or double where given outright */
    double *slice_condition; /* [pairs][condition], and its gradient */
    void *slice_image;       /* [pairs][C][H][W] */
} defence;

typedef struct group {
    int64_t first;        /* image of the call that the part begins with */
    int64_t start, units; /* of the part's units */
} group;

/* Units of a group that the function is called for at once: images image .. image + count - 1 of the part, with one set. */
typedef struct segment {
    int64_t set, image, count;
    int64_t unit; /* of the group, where it begins; its pairs begin at unit * draws, draw after draw */
} segment;

static segment segment_of_pair(const defence *work, const group *of, int64_t pair)
{
    if (work->sets == 1) {
        return (segment){0, of->start, of->units, 0};
    }
    const int64_t unit = pair / work->draws, number = of->start + unit;
    return (segment){number % work->sets, number / work->sets, 1, unit};
}

/* Where a pair of a group belongs: its image of the part, its draw of the call, its unit of the group. */
typedef struct place {
    int64_t image, draw, unit;
} place;

static place place_of_pair(const defence *work, const group *of, int64_t pair)
{
    const segment within = segment_of_pair(work, of, pair);
    const int64_t rest = pair - within.unit * work->draws, offset = rest % within.count;
    return (place){within.image + offset, within.set * work->draws + rest / within.count, within.unit + offset};
}

static void defence_close(defence *work)
{
    const carso_context *const context = work->model->context;
    cso_stage_close(&work->draw);
    cso_stage_close(&work->condition);
    cso_release(context, work->slice_image);
    cso_release(context, work->slice_condition);
    cso_release(context, work->slice_latent);
    cso_release(context, work->group_exponent);
    cso_release(context, work->group_logit_gradient);
    cso_release(context, work->group_logits);
    cso_release(context, work->part_exponent);
    cso_release(context, work->part_condition_gradient);
    cso_release(context, work->part_condition);
    cso_release(context, work->part_image);
}

/* Whether the plans of both stages, which a gradient holds at once, keep the memory limit. */
static carso_status fits(const defence *work, int64_t images, int64_t pairs, bool *out)
{
    size_t condition = 0, draw = 0;
    carso_status status = cso_program_arena_bound(work->condition.program, images, &condition);
    if (status == CARSO_OK) {
        status = cso_program_arena_bound(work->draw.program, pairs, &draw);
    }
    const size_t limit = work->model->context->memory_limit;
    *out = condition <= limit && draw <= limit - condition;
    return status;
}

/* The most, 1 to most, that fit, else 0: of a part's images with as many of their pairs as a slice takes, or of one
 * image's pairs. */
static carso_status most_fitting(const defence *work, int64_t most, bool of_images, int64_t most_pairs, int64_t *out)
{
    const int64_t each = work->draws * work->sets;
    int64_t low = 0, high = most + 1;
    carso_status status = CARSO_OK;
    while (status == CARSO_OK && high - low > 1) {
        /* All of them is what is asked for most often. */
        const int64_t middle = high == most + 1 ? most : low + (high - low) / 2;
        bool fit = false;
        status = of_images ? fits(work, middle, cso_smaller(most_pairs, middle * each), &fit)
                           : fits(work, 1, middle, &fit);
        if (fit) {
            low = middle;
        } else {
            high = middle;
        }
    }
    *out = low;
    return status;
}

/* How many images, and how many pairs in a slice, a gradient's plans may have. With one set, whose units are no more
 * than the part's images, no more images than a slice has units for: it needs no second forward pass then. */
static carso_status divide_limit(defence *work, int64_t *most_pairs)
{
    const int64_t filling = work->sets > 1 ? work->images : *most_pairs / work->draws;
    int64_t images;
    carso_status status = most_fitting(work, cso_smaller(work->images, filling), true, *most_pairs, &images);
    if (status != CARSO_OK || images > 0) {
        work->images = images;
        return status;
    }
    work->images = 1;
    const int64_t pairs = cso_smaller(*most_pairs, work->draws * work->sets);
    status = most_fitting(work, pairs, false, pairs, most_pairs);
    *most_pairs = cso_larger(1, *most_pairs);
    return status;
}

/* Sizes of parts, groups and slices. */
static carso_status defence_divide(defence *work)
{
    const carso_model *const model = work->model;
    const cso_run *const run = work->run;
    const bool gradient = run->gradient != NULL;
    const int64_t images_kept = cso_run_host_limit(model, work->image_size * sizeof(double));
    const size_t unit_size = (size_t)work->draws * (size_t)work->classes * sizeof(double); /* its logits' */
    const int64_t units_kept = work->purify_only ? INT64_MAX : cso_run_host_limit(model, unit_size);
    int64_t most_pairs = work->draw.limit;
    if (run->reconstructions) {
        most_pairs = cso_smaller(most_pairs, images_kept);
    }
    work->images = cso_smaller(run->count, cso_smaller(work->condition.limit, images_kept));
    if (gradient) {
        const carso_status status = divide_limit(work, &most_pairs);
        if (status != CARSO_OK) {
            return status;
        }
    }
    /* A group whose pairs fit in one slice needs no second forward pass before its backward one. */
    const int64_t most_units = gradient ? cso_smaller(units_kept, cso_larger(1, most_pairs / work->draws)) : units_kept;
    work->images = work->sets > 1 ? even_share(run->count, work->images) : cso_smaller(work->images, most_units);
    const int64_t all = work->images * work->sets;
    work->units = even_share(all, cso_smaller(most_units, all));
    work->pairs = cso_smaller(most_pairs, work->units * work->draws);
    if (!gradient) {
        work->pairs = even_share(work->units * work->draws, work->pairs);
    }
    return CARSO_OK;
}

static carso_status defence_open(defence *work, carso_model *model, const cso_run *run, bool purify_only)
{
    const carso_context *const context = model->context;
    const bool gradient = run->gradient != NULL;
    *work = (defence){.model = model,
                      .run = run,
                      .purify_only = purify_only,
                      .draws = run->draws,
                      .sets = cso_larger(1, run->sets)};
    const int64_t most_pairs = work->sets > 1 ? SET_PAIRS : CSO_RUN_PAIRS;
    carso_status status = cso_stage_open(model, gradient ? CSO_PROGRAM_CONDITION_GRADIENT : CSO_PROGRAM_CONDITION,
                                     gradient ? 1 : 2, CSO_RUN_IMAGES, &work->condition);
    if (status == CARSO_OK) {
        status = cso_stage_open(model,
                                purify_only ? CSO_PROGRAM_PURIFY
                                : gradient  ? CSO_PROGRAM_DRAW_GRADIENT
                                            : CSO_PROGRAM_DRAW,
                                gradient ? 1 : DRAW_SHARE, most_pairs, &work->draw);
    }
    if (status != CARSO_OK) {
        return status;
    }

    work->image_size = cso_run_image_elements(model);
    work->condition_size = (size_t)model->purifier->condition_size;
    work->latent_size = (size_t)model->purifier->latent_size;
    work->classes = model->classes;
    status = defence_divide(work);
    if (status != CARSO_OK) {
        return status;
    }

    const size_t images = (size_t)work->images, units = (size_t)work->units, pairs = (size_t)work->pairs;
    const size_t row = (size_t)work->classes * sizeof(double);
    /* No overflow: there are as many units as fit in the memory limit, or there is one. */
    const size_t logit_rows = purify_only ? 0 : (size_t)work->draws * units;
    work->part_image = cso_allocate(context, run->images ? 0 : images, work->image_size * sizeof(float));
    work->part_condition = cso_allocate(context, images, work->condition_size * sizeof(double));
    work->part_condition_gradient = cso_allocate(context, gradient ? images : 0, work->condition_size * sizeof(double));
    work->part_exponent = cso_allocate(context, images, sizeof(int32_t));
    work->group_logits = cso_allocate(context, logit_rows, row);
    work->group_logit_gradient = cso_allocate(context, gradient ? logit_rows : 0, row);
    work->group_exponent = cso_allocate(context, gradient ? units : 0, sizeof(int32_t));
    work->slice_latent = cso_allocate(context, pairs, work->latent_size * sizeof(double));
    work->slice_condition = cso_allocate(context, pairs, work->condition_size * sizeof(double));
    work->slice_image =
        cso_allocate(context, run->reconstructions ? pairs : 0, work->image_size * cso_element_size(run->element));
    if (!work->part_image || !work->part_condition || !work->part_condition_gradient || !work->part_exponent ||
        !work->group_logits || !work->group_logit_gradient || !work->group_exponent || !work->slice_latent ||
        !work->slice_condition || !work->slice_image) {
        return cso_fail_memory(context, "latents and logits");
    }
    return CARSO_OK;
}

/* Latents and conditions of pairs start .. start + count - 1 of the group. Then forward. */
static carso_status slice_forward(defence *work, const group *of, int64_t start, int64_t count)
{
    const cso_run *const run = work->run;
    for (int64_t p = 0; p < count; p++) {
        const place at = place_of_pair(work, of, start + p);
        memcpy(work->slice_condition + (size_t)p * work->condition_size,
               work->part_condition + (size_t)at.image * work->condition_size, work->condition_size * sizeof(double));
        if (run->latents) {
            memcpy((double *)work->slice_latent + (size_t)p * work->latent_size,
                   run->latents + (size_t)(at.draw * run->count + of->first + at.image) * work->latent_size,
                   work->latent_size * sizeof(double));
        } else {
            const cso_random stream = {run->seed, run->purpose, run->image_index[of->first + at.image],
                                       run->first_draw + (uint32_t)at.draw};
            cso_random_normal(&stream, 0, work->latent_size,
                              (float *)work->slice_latent + (size_t)p * work->latent_size);
        }
    }
    carso_status status = cso_stage_plan(&work->draw, count);
    if (status == CARSO_OK) {
        status = cso_plan_write(work->draw.plan, 0, work->slice_latent, run->latents ? CSO_F64 : CSO_F32);
    }
    if (status == CARSO_OK) {
        status = cso_plan_write(work->draw.plan, 1, work->slice_condition, CSO_F64);
    }
    if (status == CARSO_OK) {
        status = cso_plan_forward(work->draw.plan);
    }
    return status;
}

static carso_status slice_read(defence *work, const group *of, int64_t start, int64_t count)
{
    const cso_run *const run = work->run;
    carso_status status = CARSO_OK;
    if (!work->purify_only) {
        status = cso_plan_read(work->draw.plan, 0, work->group_logits + start * work->classes, CSO_F64);
    }
    if (status != CARSO_OK || !run->reconstructions) {
        return status;
    }
    status = cso_plan_read(work->draw.plan, work->purify_only ? 0 : 1, work->slice_image, run->element);
    if (status != CARSO_OK) {
        return status;
    }
    const size_t bytes = work->image_size * cso_element_size(run->element);
    for (int64_t p = 0; p < count; p++) {
        const place at = place_of_pair(work, of, start + p);
        memcpy((char *)run->reconstructions + (size_t)(at.draw * run->count + of->first + at.image) * bytes,
               (const char *)work->slice_image + (size_t)p * bytes, bytes);
    }
    return CARSO_OK;
}

/* Brings sum and what is to be added to it, of these exponents, to the larger one: what is added is to be multiplied by
 * the result. */
static double align(double *sum, size_t size, int32_t *sum_exponent, int32_t exponent)
{
    if (exponent == CSO_NO_EXPONENT || exponent == *sum_exponent) {
        return 1.0;
    }
    if (*sum_exponent != CSO_NO_EXPONENT && exponent < *sum_exponent) {
        return ldexp(1.0, exponent - *sum_exponent);
    }
    if (*sum_exponent != CSO_NO_EXPONENT) {
        const double factor = ldexp(1.0, *sum_exponent - exponent);
        for (size_t j = 0; j < size; j++) {
            sum[j] *= factor;
        }
    }
    *sum_exponent = exponent;
    return 1.0;
}

static bool all_finite(const double *values, size_t count)
{
    for (size_t j = 0; j < count; j++) {
        if (!isfinite(values[j])) {
            return false;
        }
    }
    return true;
}

static void mark_bad_gradient(const defence *work, const group *of, const place *at)
{
    work->run->bad_gradient[at->draw / work->draws * work->run->count + of->first + at->image] = 1;
}

/* After slice_forward: adds the slice's d loss / d condition, summed over draws and sets in double. */
static carso_status slice_backward(defence *work, const group *of, int64_t start, int64_t count)
{
    carso_status status =
        cso_plan_write_gradient(work->draw.plan, 0, work->group_logit_gradient + start * work->classes, CSO_F64);
    if (status == CARSO_OK) {
        status = cso_plan_backward(work->draw.plan);
    }
    if (status == CARSO_OK) {
        status = cso_plan_read_gradient(work->draw.plan, 0, work->slice_condition, CSO_F64);
    }
    if (status != CARSO_OK) {
        return status;
    }
    for (int64_t p = 0; p < count; p++) {
        const place at = place_of_pair(work, of, start + p);
        const double *const from = work->slice_condition + (size_t)p * work->condition_size;
        double *const to = work->part_condition_gradient + (size_t)at.image * work->condition_size;
        if (work->run->bad_gradient && !all_finite(from, work->condition_size)) {
            mark_bad_gradient(work, of, &at);
        }
        const double factor =
            align(to, work->condition_size, &work->part_exponent[at.image], work->group_exponent[at.unit]);
        for (size_t j = 0; j < work->condition_size; j++) {
            to[j] += factor * from[j];
        }
    }
    return CARSO_OK;
}

static bool has_gradient(const defence *work, int64_t start, int64_t count)
{
    const double *const gradient = work->group_logit_gradient + start * work->classes;
    for (int64_t j = 0; j < count * work->classes; j++) {
        if (gradient[j] != 0.0) /* or NaN */ {
            return true;
        }
    }
    return false;
}

/* The images that are done when this share of the group is. */
static double images_done(const defence *work, const group *of, double share)
{
    return (double)of->first + ((double)of->start + (double)of->units * share) / (double)work->sets;
}

/* The last slice's forward pass being the latest one of the draw stage. */
static carso_status group_backward(defence *work, const group *of, int64_t last_start)
{
    const cso_run *const run = work->run;
    const int64_t total = of->units * work->draws;
    for (int64_t pair = 0; run->bad_gradient && pair < total; pair++) {
        const place at = place_of_pair(work, of, pair);
        if (!all_finite(work->group_logit_gradient + pair * work->classes, (size_t)work->classes)) {
            mark_bad_gradient(work, of, &at);
        }
    }
    for (int64_t unit = 0; unit < of->units;) {
        const segment part = segment_of_pair(work, of, unit * work->draws);
        cso_run_scale_logit_gradient(work->group_logit_gradient + unit * work->draws * work->classes, work->draws,
                                     part.count, work->classes, work->group_exponent + unit);
        unit += part.count;
    }
    for (int64_t start = last_start; start >= 0; start -= work->pairs) {
        const int64_t count = cso_smaller(work->pairs, total - start);
        carso_status status = CARSO_OK;
        if (has_gradient(work, start, count)) {
            if (start != last_start) {
                status = slice_forward(work, of, start, count);
            }
            if (status == CARSO_OK) {
                status = slice_backward(work, of, start, count);
            }
        }
        if (status == CARSO_OK && start > 0) {
            status = cso_run_report_progress(run, images_done(work, of, 1.0 - 0.5 * (double)start / (double)total));
        }
        if (status != CARSO_OK) {
            return status;
        }
    }
    return CARSO_OK;
}

/* Logits of the caller's and the function, set by set. */
static carso_status group_finish(defence *work, const group *of)
{
    const cso_run *const run = work->run;
    const int64_t classes = work->classes;
    for (int64_t unit = 0; unit < of->units && !work->purify_only;) {
        const segment part = segment_of_pair(work, of, unit * work->draws);
        const int64_t number = part.set * run->count + of->first + part.image;
        const double *const logits = work->group_logits + unit * work->draws * classes;
        for (int64_t d = 0; run->logits && d < work->draws; d++) {
            memcpy(run->logits + ((part.set * work->draws + d) * run->count + of->first + part.image) * classes,
                   logits + d * part.count * classes, (size_t)(part.count * classes) * sizeof *logits);
        }
        if (run->function) {
            const carso_status status = run->function(
                run->user, number, part.count, run->draws, (int)classes, logits,
                run->losses ? run->losses + number : NULL,
                run->gradient ? work->group_logit_gradient + unit * work->draws * classes : NULL);
            if (status != CARSO_OK) {
                return status;
            }
        }
        unit += part.count;
    }
    return CARSO_OK;
}

static carso_status run_group(defence *work, const group *of)
{
    const cso_run *const run = work->run;
    const int64_t total = of->units * work->draws;
    const double forward = run->gradient ? 0.5 : 1.0; /* share of the work, roughly */
    int64_t last_start = 0;
    for (int64_t start = 0; start < total; start += work->pairs) {
        const int64_t count = cso_smaller(work->pairs, total - start);
        last_start = start;
        carso_status status = slice_forward(work, of, start, count);
        if (status == CARSO_OK) {
            status = slice_read(work, of, start, count);
        }
        if (status == CARSO_OK && start + count < total) {
            status = cso_run_report_progress(
                run, images_done(work, of, forward * (double)(start + count) / (double)total));
        }
        if (status != CARSO_OK) {
            return status;
        }
    }
    const carso_status status = group_finish(work, of);
    return status == CARSO_OK && run->gradient ? group_backward(work, of, last_start) : status;
}

/* Of several sets, the one with the largest exponent may have a gradient to the condition far below it, or none. */
static void scale_condition_gradient(defence *work, int64_t images)
{
    for (int64_t i = 0; i < images; i++) {
        double *const gradient = work->part_condition_gradient + (size_t)i * work->condition_size;
        double largest = 0.0;
        int power = 0;
        for (size_t j = 0; j < work->condition_size; j++) {
            largest = fabs(gradient[j]) > largest ? fabs(gradient[j]) : largest;
        }
        if (!isfinite(largest) || largest == 0.0) {
            continue;
        }
        frexp(largest, &power);
        for (size_t j = 0; j < work->condition_size; j++) {
            gradient[j] = ldexp(gradient[j], -power);
        }
        work->part_exponent[i] = (work->part_exponent[i] == CSO_NO_EXPONENT ? 0 : work->part_exponent[i]) + power;
    }
}

/* The gradient to the part's images. */
static carso_status part_backward(defence *work, int64_t first, int64_t images)
{
    const cso_run *const run = work->run;
    if (work->sets > 1) {
        scale_condition_gradient(work, images);
    }
    carso_status status = cso_plan_write_gradient(work->condition.plan, 0, work->part_condition_gradient, CSO_F64);
    if (status == CARSO_OK) {
        status = cso_plan_backward(work->condition.plan);
    }
    if (status == CARSO_OK) {
        status = cso_plan_read_gradient(work->condition.plan, 0, cso_run_gradient_at(work->model, run, first),
                                        run->element);
    }
    if (status == CARSO_OK) {
        cso_run_finish_gradient(work->model, run, first, images, work->part_exponent);
    }
    return status;
}

static carso_status run_part(defence *work, int64_t first, int64_t images)
{
    const cso_run *const run = work->run;
    const void *input = NULL;
    carso_status status;
    if ((status = cso_run_fetch_images(work->model, run, first, images, work->part_image, &input)) != CARSO_OK ||
        (status = cso_stage_plan(&work->condition, images)) != CARSO_OK ||
        (status = cso_plan_write(work->condition.plan, 0, input, run->element)) != CARSO_OK ||
        (status = cso_plan_forward(work->condition.plan)) != CARSO_OK ||
        (status = cso_plan_read(work->condition.plan, 0, work->part_condition, CSO_F64)) != CARSO_OK) {
        return status;
    }

    if (run->gradient) {
        memset(work->part_condition_gradient, 0, (size_t)images * work->condition_size * sizeof(double));
    }
    for (int64_t i = 0; i < images; i++) {
        work->part_exponent[i] = CSO_NO_EXPONENT;
    }
    for (int64_t set = 0; run->bad_gradient && set < work->sets; set++) {
        memset(run->bad_gradient + set * run->count + first, 0, (size_t)images);
    }
    const int64_t total = images * work->sets;
    for (int64_t start = 0; start < total && status == CARSO_OK; start += work->units) {
        const group next = {first, start, cso_smaller(work->units, total - start)};
        status = run_group(work, &next);
        if (status == CARSO_OK && start + next.units < total) {
            status = cso_run_report_progress(run, images_done(work, &next, 1.0));
        }
    }
    if (status == CARSO_OK && run->gradient) {
        status = part_backward(work, first, images);
    }
    if (status == CARSO_OK) {
        status = cso_run_report_progress(run, (double)(first + images));
    }
    return status;
}

static carso_status run_defence(carso_model *model, const cso_run *run, bool purify_only)
{
    carso_status status = cso_run_check(model, run, true);
    if (status != CARSO_OK || run->count <= 0) {
        return status;
    }
    defence work;
    status = defence_open(&work, model, run, purify_only);
    for (int64_t first = 0; first < run->count && status == CARSO_OK; first += work.images) {
        status = run_part(&work, first, cso_smaller(work.images, run->count - first));
    }
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
