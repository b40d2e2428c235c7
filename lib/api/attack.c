/* SPDX-License-Identifier: BSD-2-Clause */
#include "carso/attack.h"

#include <string.h>

#include "api/attack.h"
#include "api/attack_options.h"
#include "api/attack_result.h"
#include "attack/apgd.h"
#include "attack/fab.h"
#include "attack/losses.h"
#include "attack/objective.h"
#include "attack/pgd.h"
#include "attack/square.h"

/* Enough to rank classes by their mean logits. */
#define RANKING_DRAWS 64
/* Buffers of a sub-batch take about this many bytes per component of an image, and may take this share of the memory
 * limit. */
#define BYTES_PER_COMPONENT 64
#define HOST_SHARE 8

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
    for (uint64_t i = 0; i < result->count; i++) {
        if (result->non_finite[i] && bad++ == 0) {
            first = i;
        }
    }
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

/* What a sub-batch is attacked with. Arrays hold as many images as the largest sub-batch. */
typedef struct sub_attack {
    const carso_attack_options *options;
    const cso_objective *objective;
    const cso_model_objective *settings;
    int eot;
    const cso_objective *judge; /* NULL but where the attack is transferred */
    float *original;
    double *epsilon, *step_size;
    int target_sets;
    int32_t *targets; /* of methods that rank them: [target_sets][count] */
    double *logits;   /* for that: [draws][count][classes] */
    sub_progress outer;
} sub_attack;

static int ranking_draws(const carso_attack_options *options)
{
    return options->objective != CARSO_OBJECTIVE_DEFENCE || options->transfer ? 1
           : options->draws < RANKING_DRAWS              ? options->draws
                                                         : RANKING_DRAWS;
}

/* The most likely other classes of each image, by its mean logits. Logits that are not finite rank somehow: the attack
 * meets them, and says so. */
static carso_status rank_targets(const cso_image_batch *batch, const int32_t *labels, sub_attack *work, int64_t first,
                                 int64_t count)
{
    const cso_model_objective *const settings = work->settings;
    const bool defence = settings->kind == CARSO_OBJECTIVE_DEFENCE;
    const int classes = batch->model->classes, draws = ranking_draws(work->options);
    const cso_run run = {
        .images = work->original,
        .element = CSO_F32,
        .count = count,
        .draws = draws,
        .seed = settings->seed,
        .purpose = settings->purpose,
        .image_index = batch->image_index + first,
        .first_draw = UINT32_MAX - (uint32_t)draws, /* the attack itself counts from 0 */
        .logits = work->logits,
    };
    const carso_status status =
        defence ? cso_run_defence(batch->model, &run) : cso_run_classifier(batch->model, &run);
    for (int64_t i = 0; i < count && status == CARSO_OK; i++) {
        double *const sum = work->logits + i * classes; /* of draw 0 */
        for (int d = 1; d < draws; d++) {
            for (int k = 0; k < classes; k++) {
                sum[k] += work->logits[(d * count + i) * classes + k];
            }
        }
        for (int set = 0; set < work->target_sets; set++) {
            int target = -1;
            for (int k = 0; k < classes; k++) {
                bool taken = k == labels[first + i];
                for (int earlier = 0; earlier < set; earlier++) {
                    taken = taken || work->targets[earlier * count + i] == k;
                }
                if (!taken && (target < 0 || sum[k] > sum[target])) {
                    target = k;
                }
            }
            work->targets[set * count + i] = target;
        }
    }
    return status;
}

static carso_status run_search(const cso_image_batch *batch, const int32_t *labels, sub_attack *work, int64_t first,
                               int64_t count, float *attacked, const cso_attack_report *report)
{
    const carso_attack_options *const options = work->options;
    const bool square = options->method == CARSO_ATTACK_SQUARE;
    const bool targeted = cso_attack_ranks_targets(options);
    if (targeted) {
        const carso_status status = rank_targets(batch, labels, work, first, count);
        if (status != CARSO_OK) {
            return status;
        }
    }
    const cso_search search = {
        .iterations = square ? options->queries : options->steps,
        .channels = batch->model->channels,
        .height = batch->model->height,
        .width = batch->model->width,
        .classes = batch->model->classes,
        .restarts = options->restarts,
        .eot = work->eot,
        .fixed_draws = options->fixed_draws == 1,
        .judge = work->judge,
        .judge_eot = options->eot,
        .early_stop = options->early_stop == 1,
        .random_start = options->random_start == 1,
        .norm = (carso_norm)options->norm,
        .epsilon = work->epsilon,
        .seed = options->seed,
        .purpose = CSO_PURPOSE_ATTACK_START,
        .image_index = batch->image_index + first,
        .targets = targeted ? work->targets : options->targets ? options->targets + first : NULL,
        .target_sets = work->target_sets,
        .judged_untargeted = targeted,
        .unit = square ? "queries" : "steps",
        .progress = options->progress ? forward_progress : NULL,
        .progress_user = &work->outer,
    };
    return (square                       ? cso_square_run
            : cso_attack_is_fab(options) ? cso_fab_run
                                         : cso_apgd_run)(work->objective, &search, work->original, labels + first,
                                                         count, attacked, report);
}

static carso_status run_pgd(const cso_image_batch *batch, const int32_t *labels, sub_attack *work, int64_t first,
                            int64_t count, float *attacked, const cso_attack_report *report)
{
    const carso_attack_options *const options = work->options;
    const cso_pgd pgd = {
        .fgsm = options->method == CARSO_ATTACK_FGSM,
        .steps = options->steps,
        .restarts = options->restarts,
        .eot = work->eot,
        .fixed_draws = options->fixed_draws == 1,
        .judge = work->judge,
        .judge_eot = options->eot,
        .random_start = options->random_start == 1,
        .epsilon = work->epsilon,
        .step_size = work->step_size,
        .seed = options->seed,
        .purpose = CSO_PURPOSE_ATTACK_START,
        .image_index = batch->image_index + first,
        .progress = options->progress ? forward_progress : NULL,
        .progress_user = &work->outer,
        .norm = (carso_norm)options->norm,
        .momentum = options->method == CARSO_ATTACK_PGD ? options->momentum : 0.0,
        .targets = options->targets ? options->targets + first : NULL,
    };
    return cso_pgd_run(work->objective, &pgd, work->original, labels + first, count, attacked, report);
}

static carso_status sub_attack_open(const cso_image_batch *batch, int64_t size, sub_attack *work)
{
    const carso_context *const context = batch->context;
    const size_t images = (size_t)size;
    work->original = cso_allocate_raw(context, images, batch->image_size * sizeof *work->original);
    work->epsilon = cso_allocate_raw(context, images, sizeof *work->epsilon);
    work->step_size = cso_allocate_raw(context, images, sizeof *work->step_size);
    if (!work->original || !work->epsilon || !work->step_size) {
        return cso_fail_memory(context, "the attack");
    }
    for (size_t i = 0; i < images; i++) {
        work->epsilon[i] = work->options->epsilon;
        work->step_size[i] = work->options->step_size;
    }
    if (!cso_attack_ranks_targets(work->options)) {
        return CARSO_OK;
    }
    work->targets = cso_allocate_raw(context, images, (size_t)work->target_sets * sizeof *work->targets);
    work->logits = cso_image_batch_allocate(batch, images, (size_t)ranking_draws(work->options),
                                            (size_t)batch->model->classes, sizeof *work->logits);
    return work->targets && work->logits ? CARSO_OK : cso_fail_memory(context, "the attack");
}

/* result->images holds the originals, and in the end the attacked images. */
static carso_status run_attack(const cso_image_batch *batch, const int32_t *labels, const carso_attack_options *options,
                               carso_attack_result *result)
{
    const carso_context *const context = batch->context;
    const int64_t size = sub_batch_size(batch);
    const bool defence = options->objective == CARSO_OBJECTIVE_DEFENCE, transfer = options->transfer == 1;
    cso_model_objective defended = {
        .model = batch->model,
        .kind = (carso_objective)options->objective,
        .loss = cso_attack_is_fab(options) ? cso_loss_margin((carso_loss)options->loss) : (carso_loss)options->loss,
        .draws = options->draws,
        .seed = options->seed,
        .purpose = CSO_PURPOSE_ATTACK_LATENT,
        .wants_target = options->targets != NULL,
        .loss_function = options->loss_function,
        .loss_user = options->loss_user,
    };
    cso_model_objective settings = defended;
    if (transfer) {
        settings.kind = CARSO_OBJECTIVE_CLASSIFIER;
    }
    const cso_objective objective = cso_model_objective_create(&settings);
    const cso_objective judge = cso_model_objective_create(&defended);
    sub_attack work = {
        .options = options,
        .objective = &objective,
        .settings = &settings,
        .eot = defence && !transfer ? options->eot : 1,
        .judge = transfer ? &judge : NULL,
        .target_sets = cso_attack_target_sets(batch->model, options),
        .outer = {.callback = options->progress,
                  .user = options->progress_user,
                  .total = (uint64_t)((batch->count + size - 1) / size)},
    };
    bool any_non_finite = false;
    carso_status status = sub_attack_open(batch, size, &work);
    if (status != CARSO_OK) {
        goto done;
    }

    for (int64_t first = 0; first < batch->count; first += size) {
        const int64_t count = size < batch->count - first ? size : batch->count - first;
        const cso_attack_report report = {
            .first_loss = result->first_loss + first,
            .last_loss = result->last_loss + first,
            .non_finite = result->non_finite + first,
            .zero_gradient = result->zero_gradient + first,
            .tiny_gradient = result->tiny_gradient + first,
            .non_finite_losses = result->non_finite_losses + first,
            .non_finite_gradients = result->non_finite_gradients + first,
            .weak_gradient = result->weak_gradient + first,
            .vanished_from = result->vanished_from + first,
            .fell_from = result->fell_from + first,
            .distance = result->distance ? result->distance + first : NULL,
            .steps = result->steps,
            .step_count = result->step_count,
            .step_stride = result->step_stride,
            .evaluated_steps = result->evaluated_steps,
        };
        float *const attacked = result->images + (size_t)first * batch->image_size;
        memcpy(work.original, attacked, (size_t)count * batch->image_size * sizeof *work.original);
        status = (options->method >= CARSO_ATTACK_APGD ? run_search : run_pgd)(batch, labels, &work, first, count,
                                                                              attacked, &report);
        any_non_finite = any_non_finite || status == CARSO_ERROR_NON_FINITE;
        if (status != CARSO_OK && status != CARSO_ERROR_NON_FINITE) {
            goto done;
        }
        work.outer.finished++;
    }
    status = any_non_finite ? report_non_finite(result, options->first_image) : CARSO_OK;

done:
    cso_release(context, work.logits);
    cso_release(context, work.targets);
    cso_release(context, work.step_size);
    cso_release(context, work.epsilon);
    cso_release(context, work.original);
    return status;
}

carso_status cso_attack(const carso_model *model, const carso_images *images, const int32_t *labels,
                        const carso_attack_options *given, const uint64_t *image_index,
                        carso_attack_result **out_result)
{
    if (out_result) {
        *out_result = NULL;
    }
    if (!model) {
        return CARSO_ERROR_INVALID_ARGUMENT;
    }
    const carso_context *const context = model->context;
    if (!out_result) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "carso_attack: out_result is NULL");
    }
    carso_attack_options options;
    carso_attack_options_init(&options, sizeof options);
    carso_status status = cso_options_copy(context, "attack options", &options, sizeof options, given);
    if (status == CARSO_OK) {
        status = cso_attack_options_check(model, &options);
    }
    if (status != CARSO_OK) {
        return status;
    }

    cso_image_batch batch;
    carso_attack_result *result = NULL;
    status = cso_image_batch_open(model, images, options.first_image, "carso_attack", &batch);
    if (status == CARSO_OK) {
        status = cso_image_batch_check_labels(&batch, labels, "carso_attack");
    }
    if (status == CARSO_OK) {
        status = cso_image_batch_check_targets(&batch, labels, options.targets, "carso_attack");
    }
    for (int64_t i = 0; status == CARSO_OK && image_index && i < batch.count; i++) {
        batch.image_index[i] = image_index[i];
    }
    if (status == CARSO_OK) {
        status = cso_attack_result_allocate(&batch, cso_attack_evaluated_steps(&options), cso_attack_is_fab(&options),
                                            &result);
    }
    if (status == CARSO_OK) {
        status = cso_image_batch_source(&batch, 0, batch.count, result->images);
    }
    if (status == CARSO_OK) {
        status = run_attack(&batch, labels, &options, result);
    }
    cso_image_batch_close(&batch);
    if (status != CARSO_ERROR_NON_FINITE && !cso_keeps_points(status)) {
        carso_attack_result_destroy(result);
        return status;
    }
    *out_result = result;
    return status;
}

carso_status carso_attack(const carso_model *model, const carso_images *images, const int32_t *labels,
                          const carso_attack_options *options, carso_attack_result **out_result)
{
    return cso_attack(model, images, labels, options, NULL, out_result);
}
