/* SPDX-License-Identifier: BSD-2-Clause */
/* Adversarial training of the classifier: on attacked images (Madry et al. 2018), or TRADES (Zhang et al. 2019). */
#include <math.h>
#include <string.h>

#include "attack/pgd.h"
#include "base/random.h"
#include "train/batch.h"
#include "train/classifier_loss.h"
#include "train/optimisers.h"
#include "train/options.h"
#include "train/schedules.h"
#include "train/trainer.h"

#define LARGEST_SUB_BATCH 256

void cso_classifier_network_clear(cso_classifier_network *network)
{
    cso_program_destroy(network->train);
    cso_program_destroy(network->attack);
    cso_graph_destroy(network->classifier);
    *network = (cso_classifier_network){0};
}

static carso_status create_train_program(const carso_model *model, cso_classifier_network *network)
{
    carso_context *context = model->context;
    cso_graph *graph = NULL;
    int *value = cso_allocate(context, (size_t)network->classifier->value_count, sizeof *value);
    if (!value) {
        return cso_fail_memory(context, "values of a graph");
    }
    carso_status status = cso_graph_create(context, &graph);
    if (status) {
        goto done;
    }
    int image;
    status = cso_graph_add_input(graph, "image", (cso_shape){3, {model->channels, model->height, model->width}}, &image);
    if (!status) {
        status = cso_graph_append(graph, network->classifier, "", &image, true, value);
    }
    if (!status) {
        const cso_program_request request = {.output = &value[model->logits], .output_count = 1, .parameter_gradients = true};
        status = cso_program_create(graph, &request, &network->train);
    }
done:
    cso_graph_destroy(graph);
    cso_release(context, value);
    return status;
}

static carso_status create_network(const carso_model *model, cso_classifier_network *network)
{
    carso_status status = cso_graph_clone_trainable(model->classifier, false, &network->classifier);
    if (!status) {
        status = create_train_program(model, network);
    }
    if (!status) {
        const cso_program_request request = {
            .output = &model->logits,
            .output_count = 1,
            .gradient_input = &network->classifier->input[0],
            .gradient_input_count = 1,
        };
        status = cso_program_create(network->classifier, &request, &network->attack);
    }
    return status;
}

carso_status cso_trainer_create_classifier(const carso_model *model, const carso_classifier_training_options *options,
                                           carso_trainer **out)
{
    *out = NULL;
    carso_context *context = model->context;
    carso_status status = cso_classifier_training_check(context, options);
    if (status) {
        return status;
    }
    carso_trainer *trainer;
    status = cso_trainer_begin(model, CSO_TRAIN_CLASSIFIER, options->sub_batch, &trainer);
    if (status) {
        return status;
    }
    trainer->classifier_options = *options;
    status = create_network(model, &trainer->classifier);
    if (status) {
        goto fail;
    }
    if (trainer->sub_batch == 0) {
        int64_t limit;
        status = cso_program_batch_limit(trainer->classifier.train, &limit);
        if (status) {
            goto fail;
        }
        /* TRADES holds the clean and the attacked images' plans at once. */
        limit = options->trades_beta > 0 ? limit / 2 : limit;
        trainer->sub_batch = limit < 2 ? 2 : limit < LARGEST_SUB_BATCH ? limit : LARGEST_SUB_BATCH;
    }
    status = cso_weights_create(context, &trainer->classifier.classifier, 1, CSO_CLASSIFIER_STATES, &trainer->weights);
    if (status) {
        goto fail;
    }
    *out = trainer;
    return CARSO_OK;
fail:
    cso_trainer_destroy(trainer);
    return status;
}

/* What the attack raises: cross-entropy, or TRADES' divergence from the clean images' predictions. */
typedef struct attack_objective {
    carso_trainer *trainer;
    int64_t sub_batch;
    const double *clean_logits; /* [images of the batch][classes], NULL: cross-entropy */
    double *logits, *logit_gradient, *reference; /* [sub_batch][classes] */
} attack_objective;

static carso_status read_logits(cso_program *program, const float *images, int64_t count, double *logits,
                                cso_plan **out_plan)
{
    cso_plan *plan = NULL;
    carso_status status = cso_program_acquire(program, count, &plan);
    if (status) {
        return status;
    }
    status = cso_plan_write(plan, 0, images, CSO_F32);
    if (!status) {
        status = cso_plan_forward(plan);
    }
    if (!status) {
        status = cso_plan_read(plan, 0, logits, CSO_F64);
    }
    if (status || !out_plan) {
        cso_plan_release(plan);
        return status;
    }
    *out_plan = plan;
    return CARSO_OK;
}

static carso_status pull_back(cso_plan *plan, const double *logit_gradient, float *image_gradient)
{
    carso_status status = cso_plan_write_gradient(plan, 0, logit_gradient, CSO_F64);
    if (!status) {
        status = cso_plan_backward(plan);
    }
    if (!status && image_gradient) {
        status = cso_plan_read_gradient(plan, 0, image_gradient, CSO_F32);
    }
    return status;
}

static carso_status evaluate_part(const attack_objective *objective, const float *images, int64_t count,
                                  const uint64_t *image_index, const int32_t *labels, double *losses, float *gradient)
{
    const carso_trainer *trainer = objective->trainer;
    const int classes = trainer->model->classes;
    cso_plan *plan = NULL;
    carso_status status = read_logits(trainer->classifier.attack, images, count, objective->logits, &plan);
    if (status) {
        return status;
    }
    if (objective->clean_logits) {
        for (int64_t i = 0; i < count; i++) {
            /* Whatever images the attack asks for, their keys tell their places in the batch. */
            const size_t place = (size_t)(image_index[i] & UINT32_MAX);
            memcpy(objective->reference + i * classes, objective->clean_logits + place * (size_t)classes,
                   (size_t)classes * sizeof(double));
        }
        cso_softmax_divergence(objective->reference, objective->logits, count, classes, 1, losses, NULL,
                               objective->logit_gradient);
    } else {
        for (int64_t i = 0; i < count; i++) {
            losses[i] = cso_cross_entropy(objective->logits + i * classes, labels + i, 1, classes, 0, 1,
                                          objective->logit_gradient + i * classes);
        }
    }
    if (gradient) {
        status = pull_back(plan, objective->logit_gradient, gradient);
    }
    cso_plan_release(plan);
    return status;
}

static carso_status evaluate(void *self, const float *images, int64_t count, const uint64_t *image_index,
                             uint32_t first_draw, const int32_t *labels, double *losses, float *gradient)
{
    (void)first_draw; /* the classifier draws nothing */
    const attack_objective *objective = self;
    const carso_model *model = objective->trainer->model;
    const int64_t image_size = (int64_t)model->channels * model->height * model->width;
    const int64_t parts = (count + objective->sub_batch - 1) / objective->sub_batch;
    for (int64_t part = 0; part < parts; part++) {
        const int64_t first = cso_batch_part_start(count, parts, part);
        const carso_status status = evaluate_part(
            objective, images + first * image_size, cso_batch_part_start(count, parts, part + 1) - first,
            image_index + first, labels + first, losses + first, gradient ? gradient + first * image_size : NULL);
        if (status) {
            return status;
        }
    }
    return CARSO_OK;
}

static carso_status read_clean_logits(carso_trainer *trainer, const cso_train_batch *batch, int64_t sub_batch,
                                      double *out)
{
    const carso_model *model = trainer->model;
    const int64_t image_size = (int64_t)model->channels * model->height * model->width;
    const int64_t parts = (batch->count + sub_batch - 1) / sub_batch;
    for (int64_t part = 0; part < parts; part++) {
        const int64_t first = cso_batch_part_start(batch->count, parts, part);
        const carso_status status = read_logits(trainer->classifier.attack, batch->images + first * image_size,
                                                cso_batch_part_start(batch->count, parts, part + 1) - first,
                                                out + first * model->classes, NULL);
        if (status) {
            return status;
        }
    }
    return CARSO_OK;
}

static carso_status run_attack(carso_trainer *trainer, const cso_train_batch *batch, attack_objective *self,
                               double epsilon, double step_size, float *attacked)
{
    const carso_context *context = trainer->context;
    const carso_classifier_training_options *options = &trainer->classifier_options;
    const size_t count = (size_t)batch->count;
    carso_status status = CARSO_OK;
    double *epsilons = cso_allocate_raw(context, count, sizeof *epsilons);
    double *step_sizes = cso_allocate_raw(context, count, sizeof *step_sizes);
    uint64_t *image_index = cso_allocate_raw(context, count, sizeof *image_index);
    if (!epsilons || !step_sizes || !image_index) {
        status = cso_fail_memory(context, "an attack on a batch");
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        epsilons[i] = epsilon;
        step_sizes[i] = step_size;
        image_index[i] = cso_batch_image_index(trainer->step, (int64_t)i);
    }
    const cso_objective objective = {
        .self = self,
        .evaluate = evaluate,
        .image_size = (int64_t)trainer->model->channels * trainer->model->height * trainer->model->width,
        .draws = 1,
        .context = context,
    };
    const cso_pgd pgd = {
        .steps = options->pgd_steps,
        .restarts = 1,
        .eot = 1,
        .random_start = true,
        .epsilon = epsilons,
        .step_size = step_sizes,
        .seed = options->seed,
        .purpose = CSO_PURPOSE_TRAINING_ATTACK,
        .image_index = image_index,
    };
    status = cso_pgd_run(&objective, &pgd, batch->images, batch->labels, batch->count, attacked, NULL);
    if (status == CARSO_ERROR_NON_FINITE) {
        status = cso_fail(context, CARSO_ERROR_NON_FINITE,
                          "training step %llu: the attack met a loss or gradient that is not finite, nothing was updated; lower the "
                          "learning rate, or warm it up more slowly",
                          (unsigned long long)trainer->step);
    }
done:
    cso_release(context, image_index);
    cso_release(context, step_sizes);
    cso_release(context, epsilons);
    return status;
}

/* attacked: out, the batch's images as attacked. */
static carso_status attack_batch(carso_trainer *trainer, const cso_train_batch *batch, double epsilon, double step_size,
                                 float *attacked)
{
    const carso_context *context = trainer->context;
    const size_t classes = (size_t)trainer->model->classes;
    double *clean = NULL;
    int64_t limit;
    carso_status status = cso_program_batch_limit(trainer->classifier.attack, &limit);
    if (status) {
        return status;
    }
    const int64_t sub_batch = limit < LARGEST_SUB_BATCH ? limit : LARGEST_SUB_BATCH;
    attack_objective self = {
        .trainer = trainer,
        .sub_batch = sub_batch,
        .logits = cso_allocate_raw(context, (size_t)sub_batch * classes, sizeof(double)),
        .logit_gradient = cso_allocate_raw(context, (size_t)sub_batch * classes, sizeof(double)),
        .reference = cso_allocate_raw(context, (size_t)sub_batch * classes, sizeof(double)),
    };
    if (!self.logits || !self.logit_gradient || !self.reference) {
        status = cso_fail_memory(context, "logits");
        goto done;
    }
    if (trainer->classifier_options.trades_beta > 0) {
        clean = cso_allocate_raw(context, (size_t)batch->count * classes, sizeof *clean);
        if (!clean) {
            status = cso_fail_memory(context, "logits");
            goto done;
        }
        status = read_clean_logits(trainer, batch, sub_batch, clean);
        if (status) {
            goto done;
        }
        self.clean_logits = clean;
    }
    status = run_attack(trainer, batch, &self, epsilon, step_size, attacked);
done:
    cso_release(context, clean);
    cso_release(context, self.reference);
    cso_release(context, self.logit_gradient);
    cso_release(context, self.logits);
    return status;
}

/* Host side of a sub-batch. */
typedef struct part_arrays {
    double *clean, *clean_gradient, *attacked, *attacked_gradient, *divergence_gradient;
} part_arrays;

/* Gradients of one sub-batch. attacked: NULL trains on the clean images. Sums go to out_loss and out_correct. */
static carso_status train_part(carso_trainer *trainer, const float *clean, const float *attacked, const int32_t *labels,
                               int64_t count, double scale, const part_arrays *arrays, double *out_loss,
                               int64_t *out_correct)
{
    const carso_classifier_training_options *options = &trainer->classifier_options;
    const int classes = trainer->model->classes;
    const bool trades = options->trades_beta > 0;
    cso_plan *clean_plan = NULL, *attacked_plan = NULL;
    carso_status status = CARSO_OK;
    *out_loss = 0;
    *out_correct = 0;
    if (trades || !attacked) {
        status = read_logits(trainer->classifier.train, clean, count, arrays->clean, &clean_plan);
        if (status) {
            goto done;
        }
        *out_loss += cso_cross_entropy(arrays->clean, labels, count, classes, options->label_smoothing, scale, arrays->clean_gradient);
        *out_correct = cso_count_correct(arrays->clean, labels, count, classes);
    }
    if (attacked) {
        status = read_logits(trainer->classifier.train, attacked, count, arrays->attacked, &attacked_plan);
        if (status) {
            goto done;
        }
        *out_correct = cso_count_correct(arrays->attacked, labels, count, classes);
    }
    if (trades) {
        *out_loss +=
            options->trades_beta * cso_softmax_divergence(arrays->clean, arrays->attacked, count, classes,
                                                          options->trades_beta * scale, NULL,
                                                          arrays->divergence_gradient, arrays->attacked_gradient);
        for (int64_t i = 0; i < count * classes; i++) {
            arrays->clean_gradient[i] += arrays->divergence_gradient[i];
        }
    } else if (attacked) {
        *out_loss += cso_cross_entropy(arrays->attacked, labels, count, classes, options->label_smoothing, scale,
                                       arrays->attacked_gradient);
    }
    status = cso_trainer_check_finite(trainer, *out_loss, "the loss");
    if (!status && clean_plan) {
        status = pull_back(clean_plan, arrays->clean_gradient, NULL);
    }
    if (!status && attacked_plan) {
        status = pull_back(attacked_plan, arrays->attacked_gradient, NULL);
    }
done:
    if (attacked_plan) {
        cso_plan_release(attacked_plan);
    }
    if (clean_plan) {
        cso_plan_release(clean_plan);
    }
    return status;
}

static carso_status accumulate(carso_trainer *trainer, const cso_train_batch *batch, const float *attacked,
                               carso_train_report *report)
{
    const carso_context *context = trainer->context;
    const carso_model *model = trainer->model;
    const int64_t image_size = (int64_t)model->channels * model->height * model->width;
    const int64_t parts = cso_batch_parts(batch->count, trainer->sub_batch);
    const size_t logits = (size_t)(cso_batch_part_start(batch->count, parts, 1) * model->classes);
    carso_status status = CARSO_OK;
    int64_t correct = 0;
    part_arrays arrays = {
        .clean = cso_allocate_raw(context, logits, sizeof(double)),
        .clean_gradient = cso_allocate_raw(context, logits, sizeof(double)),
        .attacked = cso_allocate_raw(context, logits, sizeof(double)),
        .attacked_gradient = cso_allocate_raw(context, logits, sizeof(double)),
        .divergence_gradient = cso_allocate_raw(context, logits, sizeof(double)),
    };
    if (!arrays.clean || !arrays.clean_gradient || !arrays.attacked || !arrays.attacked_gradient || !arrays.divergence_gradient) {
        status = cso_fail_memory(context, "logits");
        goto done;
    }
    for (int64_t part = 0; part < parts; part++) {
        const int64_t first = cso_batch_part_start(batch->count, parts, part);
        const int64_t count = cso_batch_part_start(batch->count, parts, part + 1) - first;
        const int64_t offset = first * image_size;
        double loss;
        int64_t right;
        status = train_part(trainer, batch->images + offset, attacked ? attacked + offset : NULL, batch->labels + first,
                            count, 1 / (double)batch->count, &arrays, &loss, &right);
        if (status) {
            goto done;
        }
        report->loss += loss / (double)batch->count;
        correct += right;
    }
    report->accuracy = (double)correct / (double)batch->count;
done:
    cso_release(context, arrays.divergence_gradient);
    cso_release(context, arrays.attacked_gradient);
    cso_release(context, arrays.attacked);
    cso_release(context, arrays.clean_gradient);
    cso_release(context, arrays.clean);
    return status;
}

carso_status cso_classifier_gradients(carso_trainer *trainer, const cso_train_batch *batch, carso_train_report *report)
{
    const carso_context *context = trainer->context;
    const carso_classifier_training_options *options = &trainer->classifier_options;
    /* Schedules are read in the middle of a step: neither the first nor the last of a run is lost to a rate of 0. */
    const double time = ((double)trainer->step + .5) / options->steps_per_epoch;
    const double ramp = cso_ramp_at(0, options->epsilon_ramp_epochs, 1, time);
    report->learning_rate = cso_cosine_at(options->learning_rate, options->warm_up_epochs, options->epochs, time);
    if (!batch->labels) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "labels is NULL; training a classifier needs them");
    }
    if (options->pgd_steps == 0) {
        return accumulate(trainer, batch, NULL, report);
    }
    report->epsilon = options->epsilon * ramp;
    report->adversarial_share = 1;
    const size_t pixels =
        (size_t)batch->count * (size_t)(trainer->model->channels * trainer->model->height * trainer->model->width);
    float *attacked = cso_allocate_raw(context, pixels, sizeof *attacked);
    if (!attacked) {
        return cso_fail_memory(context, "attacked images");
    }
    carso_status status = attack_batch(trainer, batch, report->epsilon, options->pgd_step_size * ramp, attacked);
    if (!status) {
        status = accumulate(trainer, batch, attacked, report);
    }
    cso_release(context, attacked);
    return status;
}

typedef struct update {
    double learning_rate, momentum, weight_decay;
} update;

static void update_block(const cso_weight *weight, size_t first, size_t count, const float *gradient,
                         const void *argument)
{
    const update *it = argument;
    cso_sgd_update(it->learning_rate, it->momentum, it->weight_decay, count, gradient,
                   cso_parameter_host(weight->parameter) + first, weight->state[CSO_STATE_VELOCITY] + first);
}

carso_status cso_classifier_update(carso_trainer *trainer, carso_train_report *report)
{
    const carso_classifier_training_options *options = &trainer->classifier_options;
    const update step = {report->learning_rate, options->momentum, options->weight_decay};
    return cso_weights_each_block(trainer->weights, update_block, &step);
}
