/* SPDX-License-Identifier: BSD-2-Clause */
#include "carso/attack.h"

#include <math.h>
#include <string.h>

#include "api/image_batch.h"
#include "attack/apgd.h"
#include "attack/losses.h"
#include "attack/objective.h"
#include "attack/pgd.h"
#include "attack/square.h"

#define MOST_STEPS 1000000
#define MOST_DRAWS 65536
/* Enough to rank classes by their mean logits. */
#define RANKING_DRAWS 64
/* Buffers of a sub-batch take about this many bytes per component of an image, and may take this share of the memory
 * limit. */
#define BYTES_PER_COMPONENT 64
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
        .norm = CARSO_NORM_LINF,
        .queries = 5000,
        .target_classes = 9,
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

static int target_set_count(const carso_model *model, const carso_attack_options *options)
{
    const int others = model->classes - 1;
    return options->method != CARSO_ATTACK_APGD_TARGETED ? 1
           : options->target_classes < others            ? options->target_classes
                                                         : others;
}

/* Draws are numbered in 32 bits: with more of them, some would be used twice. */
static carso_status check_draws(const carso_model *model, const carso_attack_options *options)
{
    const bool searches = options->method >= CARSO_ATTACK_APGD, square = options->method == CARSO_ATTACK_SQUARE;
    const uint64_t steps = options->method == CARSO_ATTACK_FGSM ? 1
                           : square                             ? (uint64_t)options->queries
                                                                : (uint64_t)options->steps;
    const uint64_t evaluations = searches ? CSO_SEARCH_EVALUATIONS(steps) : steps + 1;
    const uint64_t runs = options->method == CARSO_ATTACK_FGSM
                              ? 1
                              : (uint64_t)options->restarts * (uint64_t)target_set_count(model, options);
    uint64_t total;
    /* One evaluation more, to rank the targets. */
    if (!__builtin_mul_overflow(evaluations * (uint64_t)options->eot, runs, &total) &&
        !__builtin_add_overflow(total, (uint64_t)1, &total) &&
        !__builtin_mul_overflow(total, (uint64_t)options->draws, &total) && total <= UINT32_MAX)
        return CARSO_OK;
    return cso_fail(model->context, CARSO_ERROR_INVALID_ARGUMENT,
                    "carso_attack: %llu %s with %d evaluations of %d draws, %llu times, need more than the %lu "
                    "draws that an image "
                    "has",
                    (unsigned long long)steps, square ? "queries" : "steps", options->eot, options->draws,
                    (unsigned long long)runs, (unsigned long)UINT32_MAX);
}

static carso_status check_classes(const carso_model *model, const carso_attack_options *options)
{
    const bool targeted = options->targets || options->method == CARSO_ATTACK_APGD_TARGETED;
    const int least = cso_loss_least_classes((carso_loss)options->loss, targeted);
    if (model->classes >= least)
        return CARSO_OK;
    return cso_fail(model->context, CARSO_ERROR_UNSUPPORTED,
                    "carso_attack: the %s DLR loss needs %d classes or more, and the model has %d; use a margin or a "
                    "cross-entropy",
                    targeted ? "targeted" : "untargeted", least, model->classes);
}

/* What the method reads; the rest may hold anything. */
static carso_status check_method(const carso_context *context, const carso_attack_options *options)
{
    const bool pgd = options->method == CARSO_ATTACK_PGD, square = options->method == CARSO_ATTACK_SQUARE;
    const bool targeted = options->method == CARSO_ATTACK_APGD_TARGETED;
    carso_status status = CARSO_OK;
    if (options->method == CARSO_ATTACK_FGSM && options->norm != CARSO_NORM_LINF)
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "carso_attack: FGSM is an l-infinity attack; for the l2 norm use PGD");
    if (options->method == CARSO_ATTACK_FGSM)
        return CARSO_OK;
    if ((status = check_range(context, "restarts", options->restarts, 1, MOST_STEPS)) != CARSO_OK)
        return status;
    if (square) {
        status = check_range(context, "queries", options->queries, 1, MOST_STEPS);
    } else {
        status = check_range(context, "steps", options->steps, 0, MOST_STEPS);
        if (status == CARSO_OK && pgd)
            status = check_size(context, "step_size", options->step_size);
        if (status == CARSO_OK && pgd)
            status = check_size(context, "momentum", options->momentum);
        if (status == CARSO_OK)
            status = check_range(context, "random_start", options->random_start, 0, 1);
    }
    if (status == CARSO_OK && !pgd)
        status = check_range(context, "early_stop", options->early_stop, 0, 1);
    if (status == CARSO_OK && targeted)
        status = check_range(context, "target_classes", options->target_classes, 1, MOST_STEPS);
    if (status == CARSO_OK && targeted && options->targets)
        status = cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                          "carso_attack: targets are given, and APGD_TARGETED chooses its own; use APGD");
    return status;
}

static carso_status check_options(const carso_model *model, const carso_attack_options *options)
{
    const carso_context *const context = model->context;
    carso_status status;
    if ((status = check_range(context, "method", options->method, CARSO_ATTACK_FGSM, CARSO_ATTACK_SQUARE)) !=
            CARSO_OK ||
        (status = check_range(context, "objective", options->objective, CARSO_OBJECTIVE_CLASSIFIER,
                              CARSO_OBJECTIVE_DEFENCE)) != CARSO_OK ||
        (status = check_range(context, "loss", options->loss, CARSO_LOSS_CROSS_ENTROPY, CARSO_LOSS_CARSO_DLR)) !=
            CARSO_OK ||
        (status = check_range(context, "norm", options->norm, CARSO_NORM_LINF, CARSO_NORM_L2)) != CARSO_OK ||
        (status = check_size(context, "epsilon", options->epsilon)) != CARSO_OK ||
        (status = check_method(context, options)) != CARSO_OK ||
        (status = check_classes(model, options)) != CARSO_OK)
        return status;
    if (options->objective != CARSO_OBJECTIVE_DEFENCE)
        return CARSO_OK;
    if (!model->purifier)
        return cso_fail(context, CARSO_ERROR_UNSUPPORTED,
                        "carso_attack: the objective is the defence, but the model has no purifier; add one with "
                        "carso_model_add_purifier and train it");
    if ((status = check_range(context, "draws", options->draws, 1, MOST_DRAWS)) != CARSO_OK ||
        (status = check_range(context, "eot", options->eot, 1, MOST_STEPS)) != CARSO_OK)
        return status;
    return check_draws(model, options);
}

static carso_status check_targets(const cso_image_batch *batch, const int32_t *labels,
                                  const carso_attack_options *options)
{
    for (int64_t i = 0; options->targets && i < batch->count; i++) {
        const int32_t target = options->targets[i];
        if (target < 0 || target >= batch->model->classes || target == labels[i])
            return cso_fail(batch->context, CARSO_ERROR_INVALID_ARGUMENT,
                            "carso_attack: target %lld is %d; a class from 0 to %d other than the label, which is %d, "
                            "is needed",
                            (long long)i, target, batch->model->classes - 1, labels[i]);
    }
    return CARSO_OK;
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

/* What a sub-batch is attacked with. Arrays hold as many images as the largest sub-batch. */
typedef struct sub_attack {
    const carso_attack_options *options;
    const cso_objective *objective;
    const cso_model_objective *settings;
    float *original;
    double *epsilon, *step_size;
    int target_sets;
    int32_t *targets;     /* APGD_TARGETED: [target_sets][count] */
    double *logits;       /* APGD_TARGETED: [draws][count][classes] */
    sub_progress outer;
} sub_attack;

static int ranking_draws(const carso_attack_options *options)
{
    return options->objective != CARSO_OBJECTIVE_DEFENCE ? 1
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
        for (int d = 1; d < draws; d++)
            for (int k = 0; k < classes; k++)
                sum[k] += work->logits[(d * count + i) * classes + k];
        for (int set = 0; set < work->target_sets; set++) {
            int target = -1;
            for (int k = 0; k < classes; k++) {
                bool taken = k == labels[first + i];
                for (int earlier = 0; earlier < set; earlier++)
                    taken = taken || work->targets[earlier * count + i] == k;
                if (!taken && (target < 0 || sum[k] > sum[target]))
                    target = k;
            }
            work->targets[set * count + i] = target;
        }
    }
    return status;
}

static carso_status run_search(const cso_image_batch *batch, const int32_t *labels, sub_attack *work, int64_t first,
                               int64_t count, float *attacked, const cso_pgd_report *report)
{
    const carso_attack_options *const options = work->options;
    const bool square = options->method == CARSO_ATTACK_SQUARE;
    const bool targeted = options->method == CARSO_ATTACK_APGD_TARGETED;
    if (targeted) {
        const carso_status status = rank_targets(batch, labels, work, first, count);
        if (status != CARSO_OK)
            return status;
    }
    const cso_search search = {
        .iterations = square ? options->queries : options->steps,
        .channels = batch->model->channels,
        .height = batch->model->height,
        .width = batch->model->width,
        .restarts = options->restarts,
        .eot = options->objective == CARSO_OBJECTIVE_DEFENCE ? options->eot : 1,
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
    return (square ? cso_square_run : cso_apgd_run)(work->objective, &search, work->original, labels + first, count,
                                                    attacked, report);
}

static carso_status run_pgd(const cso_image_batch *batch, const int32_t *labels, sub_attack *work, int64_t first,
                            int64_t count, float *attacked, const cso_pgd_report *report)
{
    const carso_attack_options *const options = work->options;
    const cso_pgd pgd = {
        .fgsm = options->method == CARSO_ATTACK_FGSM,
        .steps = options->steps,
        .restarts = options->restarts,
        .eot = options->objective == CARSO_OBJECTIVE_DEFENCE ? options->eot : 1,
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
    if (!work->original || !work->epsilon || !work->step_size)
        return cso_fail_memory(context, "the attack");
    for (size_t i = 0; i < images; i++) {
        work->epsilon[i] = work->options->epsilon;
        work->step_size[i] = work->options->step_size;
    }
    if (work->options->method != CARSO_ATTACK_APGD_TARGETED)
        return CARSO_OK;
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
    cso_model_objective settings = {
        .model = batch->model,
        .kind = (carso_objective)options->objective,
        .loss = (carso_loss)options->loss,
        .draws = options->draws,
        .seed = options->seed,
        .purpose = CSO_PURPOSE_ATTACK_LATENT,
        .wants_target = options->targets != NULL,
    };
    const cso_objective objective = cso_model_objective_create(&settings);
    sub_attack work = {
        .options = options,
        .objective = &objective,
        .settings = &settings,
        .target_sets = target_set_count(batch->model, options),
        .outer = {.callback = options->progress,
                  .user = options->progress_user,
                  .total = (uint64_t)((batch->count + size - 1) / size)},
    };
    bool any_non_finite = false;
    carso_status status = sub_attack_open(batch, size, &work);
    if (status != CARSO_OK)
        goto done;

    for (int64_t first = 0; first < batch->count; first += size) {
        const int64_t count = size < batch->count - first ? size : batch->count - first;
        const cso_pgd_report report = {result->first_loss + first, result->last_loss + first,
                                       result->non_finite + first, result->zero_gradient + first};
        float *const attacked = result->images + (size_t)first * batch->image_size;
        memcpy(work.original, attacked, (size_t)count * batch->image_size * sizeof *work.original);
        status = (options->method >= CARSO_ATTACK_APGD ? run_search : run_pgd)(batch, labels, &work, first, count,
                                                                              attacked, &report);
        any_non_finite = any_non_finite || status == CARSO_ERROR_NON_FINITE;
        if (status != CARSO_OK && status != CARSO_ERROR_NON_FINITE)
            goto done;
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
        status = check_targets(&batch, labels, &options);
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
