/* SPDX-License-Identifier: BSD-2-Clause */
#include "carso/attack.h"

#include <math.h>
#include <string.h>

#include "api/image_batch.h"
#include "attack/objective.h"

#define MOST_STEPS 1000000
#define MOST_DRAWS 65536
/* Buffers of a sub-batch take about this many bytes per component of an image, and may take this share of the memory
 * limit. */
#define BYTES_PER_COMPONENT 32
#define HOST_SHARE 8

struct carso_attack_result {
    carso_context *context;
    uint64_t count;
    float *images;
    double *first_loss, *last_loss;
    uint8_t *non_finite;
    double *zero_gradient;
};

void carso_attack_options_init(carso_attack_options *options, size_t size)
{
    const carso_attack_options defaults = {
        .method = CARSO_ATTACK_PGD,
        .objective = CARSO_OBJECTIVE_CLASSIFIER,
        .loss = CARSO_LOSS_CROSS_ENTROPY,
        .steps = 40,
        .epsilon = 8.0 / 255.0,
        .step_size = 0.01,
        .random_start = 1,
        .restarts = 1,
        .draws = 8,
        .eot = 1,
    };
    cso_options_fill(options, size, &defaults, sizeof defaults);
}

static carso_status check_range(const carso_context *context, const char *name, int32_t value, int32_t low,
                                int32_t high)
{
    if (value >= low && value <= high)
        return CARSO_OK;
    return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_attack: %s is %d, not in %d to %d", name, value, low,
                    high);
}

static carso_status check_size(const carso_context *context, const char *name, double value)
{
    if (isfinite(value) && value >= 0.0)
        return CARSO_OK;
    return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                    "carso_attack: %s is %g; a finite number, 0 or larger, is needed", name, value);
}

/* Draws are numbered in 32 bits: with more of them, some would be used twice. */
static carso_status check_draws(const carso_context *context, const carso_attack_options *options)
{
    const uint64_t steps = options->method == CARSO_ATTACK_PGD ? (uint64_t)options->steps : 1;
    const uint64_t restarts = options->method == CARSO_ATTACK_PGD ? (uint64_t)options->restarts : 1;
    uint64_t total;
    if (!__builtin_mul_overflow((steps + 1) * (uint64_t)options->eot, restarts, &total) &&
        !__builtin_mul_overflow(total, (uint64_t)options->draws, &total) && total <= UINT32_MAX)
        return CARSO_OK;
    return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                    "carso_attack: %llu steps with %d evaluations of %d draws, %llu times, need more than the %lu "
                    "draws that an image "
                    "has",
                    (unsigned long long)steps, options->eot, options->draws, (unsigned long long)restarts,
                    (unsigned long)UINT32_MAX);
}

static carso_status check_options(const carso_model *model, const carso_attack_options *options)
{
    const carso_context *const context = model->context;
    const bool defence = options->objective == CARSO_OBJECTIVE_DEFENCE, pgd = options->method == CARSO_ATTACK_PGD;
    carso_status status;
    if ((status = check_range(context, "method", options->method, CARSO_ATTACK_FGSM, CARSO_ATTACK_PGD)) != CARSO_OK ||
        (status = check_range(context, "objective", options->objective, CARSO_OBJECTIVE_CLASSIFIER,
                              CARSO_OBJECTIVE_DEFENCE)) != CARSO_OK ||
        (status = check_range(context, "loss", options->loss, CARSO_LOSS_CROSS_ENTROPY,
                              CARSO_LOSS_CARSO_CROSS_ENTROPY)) != CARSO_OK ||
        (status = check_size(context, "epsilon", options->epsilon)) != CARSO_OK)
        return status;
    if (pgd && ((status = check_range(context, "steps", options->steps, 0, MOST_STEPS)) != CARSO_OK ||
                (status = check_size(context, "step_size", options->step_size)) != CARSO_OK ||
                (status = check_range(context, "random_start", options->random_start, 0, 1)) != CARSO_OK ||
                (status = check_range(context, "restarts", options->restarts, 1, MOST_STEPS)) != CARSO_OK))
        return status;
    if (!defence)
        return CARSO_OK;
    if (!model->purifier)
        return cso_fail(context, CARSO_ERROR_UNSUPPORTED,
                        "carso_attack: the objective is the defence, but the model has no purifier; add one with "
                        "carso_model_add_purifier and train it");
    if ((status = check_range(context, "draws", options->draws, 1, MOST_DRAWS)) != CARSO_OK ||
        (status = check_range(context, "eot", options->eot, 1, MOST_STEPS)) != CARSO_OK)
        return status;
    return check_draws(context, options);
}

static carso_status allocate_result(const cso_image_batch *batch, carso_attack_result **out)
{
    const size_t count = (size_t)batch->count;
    carso_attack_result *const result = cso_allocate(batch->context, 1, sizeof *result);
    if (!result)
        return cso_fail_memory(batch->context, "the attack's result");
    *out = result;
    result->context = batch->model->context;
    cso_context_retain(result->context);
    result->count = (uint64_t)count;
    result->images = cso_image_batch_allocate(batch, count, batch->image_size, 1, sizeof *result->images);
    result->first_loss = cso_allocate(batch->context, count, sizeof *result->first_loss);
    result->last_loss = cso_allocate(batch->context, count, sizeof *result->last_loss);
    result->non_finite = cso_allocate(batch->context, count, sizeof *result->non_finite);
    result->zero_gradient = cso_allocate(batch->context, count, sizeof *result->zero_gradient);
    if (!result->images || !result->first_loss || !result->last_loss || !result->non_finite || !result->zero_gradient)
        return cso_fail_memory(batch->context, "the attack's result");
    for (size_t i = 0; i < count; i++)
        result->first_loss[i] = result->last_loss[i] = NAN; /* of images that a cancelled attack did not reach */
    return CARSO_OK;
}

/* Progress of one sub-batch as a share of the whole call. */
typedef struct sub_progress {
    carso_progress_callback callback;
    void *user;
    uint64_t finished; /* sub-batches */
    uint64_t total;
} sub_progress;

static int forward_progress(const carso_progress *progress, void *user)
{
    const sub_progress *const outer = user;
    carso_progress whole = *progress;
    whole.done += outer->finished * progress->total;
    whole.total = outer->total * progress->total;
    return outer->callback(&whole, outer->user);
}

static carso_status report_non_finite(const carso_attack_result *result, uint64_t first_image)
{
    uint64_t bad = 0, first = 0;
    for (uint64_t i = 0; i < result->count; i++)
        if (result->non_finite[i] && bad++ == 0)
            first = i;
    return cso_fail(result->context, CARSO_ERROR_NON_FINITE,
                    "carso_attack: a logit, loss or gradient was not finite for %llu of the %llu images, the first "
                    "being image %llu "
                    "(number %llu); they keep their last finite points",
                    (unsigned long long)bad, (unsigned long long)result->count, (unsigned long long)first,
                    (unsigned long long)(first_image + first));
}

static int64_t sub_batch_size(const cso_image_batch *batch)
{
    const size_t most = batch->context->memory_limit / HOST_SHARE / (batch->image_size * BYTES_PER_COMPONENT);
    int64_t size = most < 1 ? 1 : most > CSO_RUN_IMAGES ? CSO_RUN_IMAGES : (int64_t)most;
    return size < batch->count ? size : batch->count;
}

/* result->images holds the originals, and in the end the attacked images. */
static carso_status run_attack(const cso_image_batch *batch, const int32_t *labels, const carso_attack_options *options,
                               carso_attack_result *result)
{
    const carso_context *const context = batch->context;
    const int64_t size = sub_batch_size(batch);
    const bool defence = options->objective == CARSO_OBJECTIVE_DEFENCE;
    cso_model_objective settings = {
        .model = batch->model,
        .kind = (carso_objective)options->objective,
        .loss = (carso_loss)options->loss,
        .draws = options->draws,
        .seed = options->seed,
        .purpose = CSO_PURPOSE_ATTACK_LATENT,
    };
    const cso_objective objective = cso_model_objective_create(&settings);
    sub_progress outer = {
        .callback = options->progress,
        .user = options->progress_user,
        .total = (uint64_t)((batch->count + size - 1) / size),
    };
    float *const original = cso_allocate_raw(context, (size_t)size, batch->image_size * sizeof *original);
    double *const epsilon = cso_allocate_raw(context, (size_t)size, sizeof *epsilon);
    double *const step_size = cso_allocate_raw(context, (size_t)size, sizeof *step_size);
    carso_status status = CARSO_OK;
    bool any_non_finite = false;
    if (!original || !epsilon || !step_size) {
        status = cso_fail_memory(context, "the attack");
        goto done;
    }
    for (int64_t i = 0; i < size; i++) {
        epsilon[i] = options->epsilon;
        step_size[i] = options->step_size;
    }

    for (int64_t first = 0; first < batch->count; first += size) {
        const int64_t count = size < batch->count - first ? size : batch->count - first;
        const cso_pgd pgd = {
            .fgsm = options->method == CARSO_ATTACK_FGSM,
            .steps = options->steps,
            .restarts = options->restarts,
            .eot = defence ? options->eot : 1,
            .random_start = options->random_start == 1,
            .epsilon = epsilon,
            .step_size = step_size,
            .seed = options->seed,
            .purpose = CSO_PURPOSE_ATTACK_START,
            .image_index = batch->image_index + first,
            .progress = options->progress ? forward_progress : NULL,
            .progress_user = &outer,
        };
        const cso_pgd_report report = {result->first_loss + first, result->last_loss + first,
                                       result->non_finite + first, result->zero_gradient + first};
        float *const attacked = result->images + (size_t)first * batch->image_size;
        memcpy(original, attacked, (size_t)count * batch->image_size * sizeof *original);
        status = cso_pgd_run(&objective, &pgd, original, labels + first, count, attacked, &report);
        any_non_finite = any_non_finite || status == CARSO_ERROR_NON_FINITE;
        if (status != CARSO_OK && status != CARSO_ERROR_NON_FINITE)
            goto done;
        outer.finished++;
    }
    status = any_non_finite ? report_non_finite(result, options->first_image) : CARSO_OK;

done:
    cso_release(context, step_size);
    cso_release(context, epsilon);
    cso_release(context, original);
    return status;
}

carso_status carso_attack(const carso_model *model, const carso_images *images, const int32_t *labels,
                          const carso_attack_options *given, carso_attack_result **out_result)
{
    if (out_result)
        *out_result = NULL;
    if (!model)
        return CARSO_ERROR_INVALID_ARGUMENT;
    const carso_context *const context = model->context;
    if (!out_result)
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_attack: out_result is NULL");
    carso_attack_options options;
    carso_attack_options_init(&options, sizeof options);
    carso_status status = cso_options_copy(context, "attack options", &options, sizeof options, given);
    if (status == CARSO_OK)
        status = check_options(model, &options);
    if (status != CARSO_OK)
        return status;

    cso_image_batch batch;
    carso_attack_result *result = NULL;
    status = cso_image_batch_open(model, images, options.first_image, "carso_attack", &batch);
    if (status == CARSO_OK)
        status = cso_image_batch_check_labels(&batch, labels, "carso_attack");
    if (status == CARSO_OK)
        status = allocate_result(&batch, &result);
    if (status == CARSO_OK)
        status = cso_image_batch_source(&batch, 0, batch.count, result->images);
    if (status == CARSO_OK)
        status = run_attack(&batch, labels, &options, result);
    cso_image_batch_close(&batch);
    if (status != CARSO_OK && status != CARSO_ERROR_NON_FINITE && status != CARSO_CANCELLED) {
        carso_attack_result_destroy(result);
        return status;
    }
    *out_result = result;
    return status;
}

void carso_attack_result_destroy(carso_attack_result *result)
{
    if (!result)
        return;
    carso_context *const context = result->context;
    cso_release(context, result->images);
    cso_release(context, result->first_loss);
    cso_release(context, result->last_loss);
    cso_release(context, result->non_finite);
    cso_release(context, result->zero_gradient);
    cso_release(context, result);
    carso_context_destroy(context);
}

uint64_t carso_attack_result_count(const carso_attack_result *result)
{
    return result ? result->count : 0;
}

const float *carso_attack_result_images(const carso_attack_result *result)
{
    return result ? result->images : NULL;
}

const double *carso_attack_result_first_loss(const carso_attack_result *result)
{
    return result ? result->first_loss : NULL;
}

const double *carso_attack_result_last_loss(const carso_attack_result *result)
{
    return result ? result->last_loss : NULL;
}

const uint8_t *carso_attack_result_non_finite(const carso_attack_result *result)
{
    return result ? result->non_finite : NULL;
}

const double *carso_attack_result_zero_gradient(const carso_attack_result *result)
{
    return result ? result->zero_gradient : NULL;
}
