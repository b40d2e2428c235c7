/* SPDX-License-Identifier: BSD-2-Clause */
/* Training of the purifier (CARSO sections 4.4 and 5.1). */
#include <math.h>
#include <string.h>

#include "attack/objective.h"
#include "attack/pgd.h"
#include "base/random.h"
#include "train/batch.h"
#include "train/optimisers.h"
#include "train/options.h"
#include "train/schedules.h"
#include "train/trainer.h"

#define LARGEST_SUB_BATCH 256
#define DIVERSITY_IMAGES 8
#define COLLAPSE_NATS .1

/* Draws of an image's training latents: one to train on, two to compare. */
enum { DRAW_TRAINING, DRAW_DIVERSITY };

carso_status cso_trainer_create_purifier(const carso_model *model, const carso_purifier_training_options *options,
                                         carso_trainer **out)
{
    *out = NULL;
    carso_context *context = model->context;
    carso_status status = cso_purifier_training_check(context, options);
    if (status) {
        return status;
    }
    carso_trainer *trainer;
    status = cso_trainer_begin(model, CSO_TRAIN_PURIFIER, options->sub_batch, &trainer);
    if (status) {
        return status;
    }
    trainer->purifier_options = *options;
    status = cso_purifier_network_create(model, &trainer->purifier);
    if (status) {
        goto fail;
    }
    if (trainer->sub_batch == 0) {
        int64_t limit;
        status = cso_purifier_network_batch_limit(trainer->purifier, &limit);
        if (status) {
            goto fail;
        }
        trainer->sub_batch = limit < LARGEST_SUB_BATCH ? limit : LARGEST_SUB_BATCH;
    }
    cso_graph *graphs[] = {trainer->purifier->condition, trainer->purifier->encoder, trainer->purifier->decoder};
    status = cso_weights_create(context, graphs, 3, CSO_PURIFIER_STATES, &trainer->weights);
    if (status) {
        goto fail;
    }
    for (int i = 0; i < trainer->weights->learned_count; i++) {
        const cso_weight *weight = &trainer->weights->learned[i];
        memcpy(weight->state[CSO_STATE_SLOW], weight->parameter->host, weight->parameter->count * sizeof(float));
    }
    *out = trainer;
    return CARSO_OK;
fail:
    cso_trainer_destroy(trainer);
    return status;
}

/* The images of a batch that one attack works on. */
typedef struct selection {
    int64_t count;
    int64_t *place; /* in the batch */
    float *clean, *attacked;
    int32_t *label;
    uint64_t *image_index;
    double *epsilon, *step_size;
} selection;

static void release_selection(const carso_context *context, selection *chosen)
{
    cso_release(context, chosen->place);
    cso_release(context, chosen->clean);
    cso_release(context, chosen->attacked);
    cso_release(context, chosen->label);
    cso_release(context, chosen->image_index);
    cso_release(context, chosen->epsilon);
    cso_release(context, chosen->step_size);
}

static carso_status allocate_selection(const carso_context *context, int64_t most, int64_t image_size,
                                       selection *chosen)
{
    const size_t count = (size_t)most;
    const size_t pixels = (size_t)(most * image_size);
    *chosen = (selection){
        .place = cso_allocate_raw(context, count, sizeof *chosen->place),
        .clean = cso_allocate_raw(context, pixels, sizeof *chosen->clean),
        .attacked = cso_allocate_raw(context, pixels, sizeof *chosen->attacked),
        .label = cso_allocate_raw(context, count, sizeof *chosen->label),
        .image_index = cso_allocate_raw(context, count, sizeof *chosen->image_index),
        .epsilon = cso_allocate_raw(context, count, sizeof *chosen->epsilon),
        .step_size = cso_allocate_raw(context, count, sizeof *chosen->step_size),
    };
    if (!chosen->place || !chosen->clean || !chosen->attacked || !chosen->label || !chosen->image_index ||
        !chosen->epsilon || !chosen->step_size) {
        release_selection(context, chosen);
        return cso_fail_memory(context, "attacked images");
    }
    return CARSO_OK;
}

static double deviation_divisor(const carso_trainer *trainer)
{
    if (!trainer->purifier_options.epsilon_over_deviation) {
        return 1;
    }
    double sum = 0;
    for (int i = 0; i < trainer->model->channels; i++) {
        sum += trainer->model->deviation[i];
    }
    return sum / trainer->model->channels;
}

/* Attacks the images of kinds half and full in place. */
static carso_status attack(const carso_trainer *trainer, const cso_train_batch *batch, const cso_batch_kind *kind,
                           bool fgsm, selection *chosen, float *images)
{
    const carso_purifier_training_options *options = &trainer->purifier_options;
    const cso_batch_kind half = fgsm ? CSO_BATCH_FGSM_HALF : CSO_BATCH_PGD_HALF;
    const cso_batch_kind full = fgsm ? CSO_BATCH_FGSM_FULL : CSO_BATCH_PGD_FULL;
    const size_t image_size = (size_t)trainer->purifier->image_size;
    const double divisor = deviation_divisor(trainer);
    chosen->count = 0;
    for (int64_t i = 0; i < batch->count; i++) {
        if (kind[i] != half && kind[i] != full) {
            continue;
        }
        const int64_t n = chosen->count++;
        chosen->place[n] = i;
        chosen->label[n] = batch->labels[i];
        chosen->image_index[n] = cso_batch_image_index(trainer->step, i);
        chosen->epsilon[n] = options->epsilon / divisor * (kind[i] == half ? .5 : 1);
        chosen->step_size[n] = fgsm ? chosen->epsilon[n] : options->pgd_step_size / divisor;
        memcpy(chosen->clean + (size_t)n * image_size, batch->images + (size_t)i * image_size,
               image_size * sizeof(float));
    }
    if (chosen->count == 0) {
        return CARSO_OK;
    }
    cso_model_objective settings = {
        .model = trainer->model,
        .kind = CARSO_OBJECTIVE_CLASSIFIER,
        .loss = CARSO_LOSS_CROSS_ENTROPY,
    };
    const cso_objective objective = cso_model_objective_create(&settings);
    const cso_pgd pgd = {
        .fgsm = fgsm,
        .steps = fgsm ? 1 : options->pgd_steps,
        .restarts = 1,
        .eot = 1,
        .random_start = !fgsm,
        .epsilon = chosen->epsilon,
        .step_size = chosen->step_size,
        .seed = options->seed,
        .purpose = CSO_PURPOSE_TRAINING_ATTACK,
        .image_index = chosen->image_index,
    };
    const carso_status status =
        cso_pgd_run(&objective, &pgd, chosen->clean, chosen->label, chosen->count, chosen->attacked, NULL);
    if (status == CARSO_ERROR_NON_FINITE) {
        return cso_fail(trainer->context, CARSO_ERROR_NON_FINITE,
                        "training step %llu: attacking the classifier with %s met a loss or gradient that is not finite, nothing was "
                        "updated; the classifier is damaged",
                        (unsigned long long)trainer->step, fgsm ? "FGSM" : "PGD");
    }
    if (status) {
        return status;
    }
    for (int64_t n = 0; n < chosen->count; n++) {
        memcpy(images + (size_t)chosen->place[n] * image_size, chosen->attacked + (size_t)n * image_size,
               image_size * sizeof(float));
    }
    return CARSO_OK;
}

/* images: the batch's, to be attacked in place by the step's assignment. */
static carso_status attack_batch(const carso_trainer *trainer, const cso_train_batch *batch, float *images,
                                 double *out_share)
{
    const carso_context *context = trainer->context;
    const carso_purifier_training_options *options = &trainer->purifier_options;
    int64_t size[CSO_BATCH_KINDS];
    cso_batch_sizes(batch->count, options->adversarial_fraction, trainer->step, size);
    const int64_t attacked = batch->count - size[CSO_BATCH_CLEAN];
    *out_share = (double)attacked / (double)batch->count;
    if (attacked == 0) {
        return CARSO_OK;
    }
    if (!batch->labels) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "labels is NULL; the attacked share of a batch needs them");
    }
    selection chosen;
    carso_status status = allocate_selection(context, attacked, trainer->purifier->image_size, &chosen);
    if (status) {
        return status;
    }
    cso_batch_kind *kind = cso_allocate_raw(context, (size_t)batch->count, sizeof *kind);
    if (!kind) {
        status = cso_fail_memory(context, "places in the batch");
        goto done;
    }
    status = cso_batch_assign(context, batch->count, options->adversarial_fraction, options->seed, trainer->step, kind);
    if (!status) {
        status = attack(trainer, batch, kind, true, &chosen, images);
    }
    if (!status) {
        status = attack(trainer, batch, kind, false, &chosen, images);
    }
done:
    cso_release(context, kind);
    release_selection(context, &chosen);
    return status;
}

/* Standard normal numbers of images first .. first + count - 1 of the batch. row: room for one image's. */
static void draw_noise(const carso_trainer *trainer, int64_t first, int64_t count, uint32_t draw, float *row,
                       double *out)
{
    const int64_t size = trainer->purifier->latent_size;
    for (int64_t i = 0; i < count; i++) {
        const cso_random stream = {
            .seed = trainer->purifier_options.seed,
            .purpose = CSO_PURPOSE_TRAINING_LATENT,
            .image = cso_batch_image_index(trainer->step, first + i),
            .draw = draw,
        };
        cso_random_normal(&stream, 0, (size_t)size, row);
        for (int64_t j = 0; j < size; j++) {
            out[i * size + j] = row[j];
        }
    }
}

static carso_status check_losses(const carso_trainer *trainer, const cso_purifier_losses *losses)
{
    carso_status status = cso_trainer_check_finite(trainer, losses->divergence, "the KL divergence");
    if (!status) {
        status = cso_trainer_check_finite(trainer, losses->reconstruction, "the reconstruction loss");
    }
    return status ? status : cso_trainer_check_finite(trainer, losses->total, "the loss");
}

static carso_status measure_diversity(const carso_trainer *trainer, int64_t count, const double *condition, float *row,
                                      double *out)
{
    const size_t size = (size_t)(count * trainer->purifier->latent_size);
    double *latent = cso_allocate_raw(trainer->context, 2 * size, sizeof *latent);
    if (!latent) {
        return cso_fail_memory(trainer->context, "latents");
    }
    draw_noise(trainer, 0, count, DRAW_DIVERSITY, row, latent);
    draw_noise(trainer, 0, count, DRAW_DIVERSITY + 1, row, latent + size);
    const carso_status status = cso_purifier_diversity(trainer->purifier, count, condition, latent, latent + size, out);
    cso_release(trainer->context, latent);
    return status;
}

static carso_status accumulate(carso_trainer *trainer, const cso_train_batch *batch, const float *images,
                               carso_train_report *report)
{
    const carso_context *context = trainer->context;
    const carso_purifier_training_options *options = &trainer->purifier_options;
    const int64_t parts = cso_batch_parts(batch->count, trainer->sub_batch);
    const int64_t largest = cso_batch_part_start(batch->count, parts, 1);
    const int64_t watched = largest < DIVERSITY_IMAGES ? largest : DIVERSITY_IMAGES;
    carso_status status = CARSO_OK;
    double *noise = cso_allocate_raw(context, (size_t)(largest * trainer->purifier->latent_size), sizeof *noise);
    double *condition =
        cso_allocate_raw(context, (size_t)(largest * trainer->purifier->condition_size), sizeof *condition);
    float *row = cso_allocate_raw(context, (size_t)trainer->purifier->latent_size, sizeof *row);
    if (!noise || !condition || !row) {
        status = cso_fail_memory(context, "latents");
        goto done;
    }
    for (int64_t part = 0; part < parts; part++) {
        const int64_t first = cso_batch_part_start(batch->count, parts, part);
        const int64_t count = cso_batch_part_start(batch->count, parts, part + 1) - first;
        const int64_t offset = first * trainer->purifier->image_size;
        draw_noise(trainer, first, count, DRAW_TRAINING, row, noise);
        const cso_purifier_batch sub_batch = {
            .count = count,
            .images = images + offset,
            .targets = batch->images + offset,
            .noise = noise,
            .beta = report->beta,
            .free_bits = options->free_bits,
            .scale = options->mean_loss ? 1 / (double)batch->count : 1,
        };
        cso_purifier_losses losses = {.condition = part == 0 ? condition : NULL};
        status = cso_purifier_step(trainer->purifier, &sub_batch, &losses);
        if (!status) {
            status = check_losses(trainer, &losses);
        }
        if (!status && part == 0) {
            status = measure_diversity(trainer, watched, condition, row, &report->draw_diversity);
        }
        if (status) {
            goto done;
        }
        report->loss += losses.total / (double)batch->count;
        report->reconstruction += losses.reconstruction / (double)batch->count;
        report->kl += losses.divergence / (double)batch->count;
    }
done:
    cso_release(context, row);
    cso_release(context, condition);
    cso_release(context, noise);
    return status;
}

carso_status cso_purifier_gradients(carso_trainer *trainer, const cso_train_batch *batch, carso_train_report *report)
{
    const carso_purifier_training_options *options = &trainer->purifier_options;
    const double epoch = options->schedule_by_step ? report->epoch : floor(report->epoch);
    const cso_phases phases = {
        options->learning_rate_start, options->learning_rate_peak, options->learning_rate_end,
        options->warm_up_epochs,      options->plateau_epochs,     options->annealing_epochs,
    };
    report->learning_rate = cso_phases_at(&phases, epoch);
    report->beta = cso_ramp_at(options->beta_start_epoch, options->beta_full_epoch, options->beta_final, epoch);
    report->epsilon = options->epsilon / deviation_divisor(trainer);

    const size_t pixels = (size_t)(batch->count * trainer->purifier->image_size);
    float *images = cso_allocate_raw(trainer->context, pixels, sizeof *images);
    if (!images) {
        return cso_fail_memory(trainer->context, "attacked images");
    }
    memcpy(images, batch->images, pixels * sizeof *images);
    carso_status status = attack_batch(trainer, batch, images, &report->adversarial_share);
    if (!status) {
        status = accumulate(trainer, batch, images, report);
    }
    cso_release(trainer->context, images);
    return status;
}

static void watch_for_collapse(carso_trainer *trainer, carso_train_report *report)
{
    report->collapsed = report->beta > 0 && report->kl < COLLAPSE_NATS;
    if (report->collapsed && !trainer->collapse_reported) {
        trainer->collapse_reported = true;
        cso_log(trainer->context, CARSO_LOG_WARNING,
                "training step %llu: the posterior has collapsed: KL %.3g nats per image with beta %.3g, two draws differ by %.3g; the "
                "defence is in effect deterministic; try a smaller final beta or free bits",
                (unsigned long long)report->step, report->kl, report->beta, report->draw_diversity);
    }
}

typedef struct update {
    cso_radam radam;
    uint64_t number; /* from 1 */
    double learning_rate, lookahead_rate;
    bool looks_ahead;
} update;

static void update_block(const cso_weight *weight, size_t first, size_t count, const float *gradient,
                         const void *argument)
{
    const update *it = argument;
    float *fast = cso_parameter_host(weight->parameter) + first;
    cso_radam_update(&it->radam, it->number, it->learning_rate, count, gradient, fast,
                     weight->state[CSO_STATE_FIRST_MOMENT] + first, weight->state[CSO_STATE_SECOND_MOMENT] + first);
    if (it->looks_ahead) {
        cso_lookahead_update(it->lookahead_rate, count, fast, weight->state[CSO_STATE_SLOW] + first);
    }
}

carso_status cso_purifier_update(carso_trainer *trainer, carso_train_report *report)
{
    const carso_purifier_training_options *options = &trainer->purifier_options;
    const update step = {
        .radam = CSO_RADAM_DEFAULTS,
        .number = trainer->step + 1,
        .learning_rate = report->learning_rate,
        .lookahead_rate = options->lookahead_rate,
        .looks_ahead = (trainer->step + 1) % (uint64_t)options->lookahead_steps == 0,
    };
    const carso_status status = cso_weights_each_block(trainer->weights, update_block, &step);
    if (!status) {
        watch_for_collapse(trainer, report);
    }
    return status;
}
