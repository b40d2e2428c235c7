/* SPDX-License-Identifier: BSD-2-Clause */
/* Models and batches small enough to train in a test. */
#ifndef TEST_TRAINING_TOY_H
#define TEST_TRAINING_TOY_H

#include <check.h>
#include <stdint.h>
#include <string.h>

#include "carso/train.h"
#include "train/trainer.h"

enum { TOY_CLASSES = 4, TOY_SIDE = 28, TOY_SMALL_SIDE = 8, TOY_MOST_IMAGES = 32 };

typedef struct toy_batch {
    carso_images images;
    uint8_t pixels[TOY_MOST_IMAGES * TOY_SIDE * TOY_SIDE];
    int32_t labels[TOY_MOST_IMAGES];
} toy_batch;

static carso_context *toy_context;
static int toy_warnings;

static inline void toy_log(carso_log_level level, const char *text, void *user)
{
    (void)text;
    (void)user;
    toy_warnings += level == CARSO_LOG_WARNING;
}

static inline carso_context *toy_context_on(const char *backend, uint64_t memory_limit)
{
    carso_context *context = NULL;
    carso_context_options options;
    carso_context_options_init(&options, sizeof options);
    options.backend = backend;
    options.threads = 1;
    options.log = toy_log;
    options.memory_limit = memory_limit;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
    return context;
}

static inline void toy_open(void)
{
    toy_warnings = 0;
    toy_context = toy_context_on("reference", 0);
}

static inline void toy_close(void) { carso_context_destroy(toy_context); }

static inline bool toy_message_has(const char *part)
{
    char message[1024];
    carso_context_message(toy_context, message, sizeof message);
    return strstr(message, part) != NULL;
}

/* Gray images of side x side: the class is the corner with the bright square; everything else is dim noise by number. */
static inline void toy_fill(toy_batch *batch, int side, int count, uint32_t number)
{
    carso_images_init(&batch->images, sizeof batch->images);
    batch->images.data = batch->pixels;
    batch->images.count = (uint64_t)count;
    batch->images.width = batch->images.height = side;
    batch->images.order = CARSO_ORDER_GRAY;
    uint32_t state = number * 2654435761u + 1;
    for (int image = 0; image < count; image++) {
        const int label = (int)((number + (uint32_t)image) % TOY_CLASSES);
        batch->labels[image] = label;
        for (int y = 0; y < side; y++) {
            for (int x = 0; x < side; x++) {
                state = state * 1664525u + 1013904223u;
                const bool bright = (y >= side / 2) == label / 2 && (x >= side / 2) == label % 2;
                batch->pixels[(image * side + y) * side + x] = (uint8_t)((bright ? 180 : 0) + (state >> 24) / 4);
            }
        }
    }
}

static inline carso_model *toy_classifier_in(carso_context *context, carso_architecture architecture, int side)
{
    carso_model *model = NULL;
    carso_model_options options;
    carso_model_options_init(&options, sizeof options);
    options.architecture = architecture;
    options.depth = 10;
    options.width = 1;
    options.channels = 1;
    options.image_height = options.image_width = side;
    options.classes = TOY_CLASSES;
    options.mean[0] = .25f;
    options.deviation[0] = .3f;
    options.seed = 5;
    ck_assert_int_eq(carso_model_create(context, &options, &model), CARSO_OK);
    return model;
}

static inline carso_model *toy_classifier(carso_architecture architecture)
{
    return toy_classifier_in(toy_context, architecture, TOY_SMALL_SIDE);
}

static inline carso_model *toy_purifier_in(carso_context *context)
{
    carso_model *classifier = toy_classifier_in(context, CARSO_SMALL_CNN, TOY_SIDE), *model = NULL;
    carso_purifier_options options;
    carso_purifier_options_init(&options, sizeof options);
    options.condition_size = 12;
    options.latent_size = 4;
    options.seed_channels = 16;
    options.seed = 6;
    ck_assert_int_eq(carso_model_add_purifier(classifier, &options, &model), CARSO_OK);
    carso_model_destroy(classifier);
    return model;
}

static inline carso_classifier_training_options toy_classifier_options(void)
{
    carso_classifier_training_options options;
    carso_classifier_training_options_init(&options, sizeof options);
    options.steps_per_epoch = 10;
    options.epochs = 6;
    options.pgd_steps = 2;
    options.epsilon = .1;
    options.pgd_step_size = .06;
    options.epsilon_ramp_epochs = 1;
    options.learning_rate = .05;
    options.seed = 9;
    return options;
}

static inline carso_purifier_training_options toy_purifier_options(void)
{
    carso_purifier_training_options options;
    carso_purifier_training_options_init(&options, sizeof options);
    options.steps_per_epoch = 8;
    options.epochs = 6;
    options.schedule_by_step = 1;
    options.mean_loss = 1;
    options.epsilon = .1;
    options.pgd_steps = 2;
    options.pgd_step_size = .05;
    options.learning_rate_start = 1e-5;
    options.learning_rate_peak = .01;
    options.learning_rate_end = 1e-3;
    options.warm_up_epochs = 1;
    options.plateau_epochs = 3;
    options.annealing_epochs = 2;
    options.beta_start_epoch = 0;
    options.beta_full_epoch = 2;
    options.beta_final = .5;
    options.seed = 9;
    return options;
}

static inline carso_trainer *toy_classifier_trainer(carso_architecture architecture,
                                                    const carso_classifier_training_options *options)
{
    carso_trainer *trainer = NULL;
    carso_model *model = toy_classifier(architecture);
    ck_assert_int_eq(carso_trainer_create_classifier(model, options, &trainer), CARSO_OK);
    carso_model_destroy(model);
    return trainer;
}

static inline carso_trainer *toy_purifier_trainer(const carso_purifier_training_options *options)
{
    carso_trainer *trainer = NULL;
    carso_model *model = toy_purifier_in(toy_context);
    ck_assert_int_eq(carso_trainer_create_purifier(model, options, &trainer), CARSO_OK);
    carso_model_destroy(model);
    return trainer;
}

/* The step's own batch. */
static inline carso_status toy_step(carso_trainer *trainer, int count, carso_train_report *report)
{
    static toy_batch batch;
    toy_fill(&batch, trainer->model->height, count, (uint32_t)trainer->step);
    report->struct_size = sizeof *report;
    return carso_train_step(trainer, &batch.images, batch.labels, report);
}

static inline bool toy_same_graph(const cso_graph *first, const cso_graph *second)
{
    if (first->parameter_count != second->parameter_count) {
        return false;
    }
    for (int i = 0; i < first->parameter_count; i++) {
        const cso_parameter *a = first->parameter[i].parameter, *b = second->parameter[i].parameter;
        if (a->count != b->count || memcmp(a->host, b->host, a->count * sizeof(float)) != 0) {
            return false;
        }
    }
    return true;
}

/* Bit for bit, running statistics included. */
static inline bool toy_same_model(const carso_model *first, const carso_model *second)
{
    if (!toy_same_graph(first->classifier, second->classifier) || !first->purifier != !second->purifier) {
        return false;
    }
    return !first->purifier || (toy_same_graph(first->purifier->condition, second->purifier->condition) &&
                                toy_same_graph(first->purifier->encoder, second->purifier->encoder) &&
                                toy_same_graph(first->purifier->decoder, second->purifier->decoder));
}

static inline carso_model *toy_reached(const carso_trainer *trainer)
{
    carso_model *model = NULL;
    ck_assert_int_eq(carso_trainer_get_model(trainer, &model), CARSO_OK);
    return model;
}

/* Fast weights, optimiser state and statistics too. */
static inline bool toy_same_trainer(const carso_trainer *first, const carso_trainer *second)
{
    carso_model *a = toy_reached(first), *b = toy_reached(second);
    bool same = first->step == second->step && toy_same_model(a, b);
    for (int i = 0; same && i < first->weights->learned_count; i++) {
        const cso_weight *x = &first->weights->learned[i], *y = &second->weights->learned[i];
        const size_t bytes = x->parameter->count * sizeof(float);
        same = memcmp(x->parameter->host, y->parameter->host, bytes) == 0;
        for (int state = 0; same && state < first->weights->states; state++) {
            same = memcmp(x->state[state], y->state[state], bytes) == 0;
        }
    }
    carso_model_destroy(a);
    carso_model_destroy(b);
    return same;
}

#endif
