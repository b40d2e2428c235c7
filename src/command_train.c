/* SPDX-License-Identifier: BSD-2-Clause */
/* carso train: the purifier for a classifier. */
#include <stdlib.h>

#include "commands.h"
#include "training_loop.h"

typedef struct purifier_settings {
    training_settings training;
    int64_t condition_size, latent_size, seed_channels, pgd_steps, lookahead_steps;
    double fraction, epsilon, step_size, lookahead_rate, rate_start, rate_peak, rate_end, warm_up, plateau, annealing,
        beta_start, beta_full, beta_final, free_bits;
    bool by_step, mean_loss, over_deviation;
    const char *preset;
} purifier_settings;

static const option_entry purifier_options[] = {
    {"preset", 'p', OPTION_TEXT, "NAME", offsetof(purifier_settings, preset), 0, 0, NULL,
     "Train as the paper did on cifar10, cifar100 or tinyimagenet: sizes of the purifier, share of attacked images, epochs, batch, "
     "phases of learning rate and beta, Lookahead. Other options override it."},
    TRAINING_OPTIONS(purifier_settings),
    {"condition-size", 0, OPTION_INTEGER, "N", offsetof(purifier_settings, condition_size), 0, 1e6, NULL,
     "Features of the compressed representation; 0 takes the paper's number."},
    {"latent-size", 0, OPTION_INTEGER, "N", offsetof(purifier_settings, latent_size), 0, 1e6, NULL,
     "Features of the latent; 0 takes the paper's number."},
    {"seed-channels", 0, OPTION_INTEGER, "N", offsetof(purifier_settings, seed_channels), 16, 1024, NULL,
     "Channels that the decoder starts with."},
    {"adversarial-fraction", 0, OPTION_REAL, "F", offsetof(purifier_settings, fraction), 0, 1, NULL,
     "Share of each batch that is attacked."},
    {"epsilon", 'e', OPTION_RATIO, "E", offsetof(purifier_settings, epsilon), 0, 1, NULL,
     "Bound of the perturbations trained on, l-infinity, in units of [0, 1]."},
    {"pgd-steps", 0, OPTION_INTEGER, "N", offsetof(purifier_settings, pgd_steps), 0, 1e5, NULL, "Steps of PGD."},
    {"step-size", 0, OPTION_RATIO, "A", offsetof(purifier_settings, step_size), 0, 1, NULL, "Step of PGD."},
    {"epsilon-over-deviation", 0, OPTION_FLAG, NULL, offsetof(purifier_settings, over_deviation), 0, 0, NULL,
     "Divide epsilon and step by the mean deviation of the standardisation, as the authors' code does."},
    {"learning-rate", 'l', OPTION_REAL, "R", offsetof(purifier_settings, rate_peak), 0, 1e6, NULL, "Peak of the learning rate."},
    {"learning-rate-start", 0, OPTION_REAL, "R", offsetof(purifier_settings, rate_start), 0, 1e6, NULL, "Learning rate at the start."},
    {"learning-rate-end", 0, OPTION_REAL, "R", offsetof(purifier_settings, rate_end), 0, 1e6, NULL, "Learning rate at the end."},
    {"warm-up", 0, OPTION_REAL, "EPOCHS", offsetof(purifier_settings, warm_up), 0, 1e6, NULL, "Epochs from start to peak."},
    {"plateau", 0, OPTION_REAL, "EPOCHS", offsetof(purifier_settings, plateau), 0, 1e6, NULL, "Epochs at the peak."},
    {"annealing", 0, OPTION_REAL, "EPOCHS", offsetof(purifier_settings, annealing), 0, 1e6, NULL, "Epochs from peak to end."},
    {"by-step", 0, OPTION_FLAG, NULL, offsetof(purifier_settings, by_step), 0, 0, NULL,
     "Move the schedules with every step rather than with every epoch; needed where epochs are few."},
    {"mean-loss", 0, OPTION_FLAG, NULL, offsetof(purifier_settings, mean_loss), 0, 0, NULL,
     "Divide the loss by the batch size: the same method with a learning rate of another scale."},
    {"beta-start", 0, OPTION_REAL, "EPOCH", offsetof(purifier_settings, beta_start), 0, 1e6, NULL,
     "Epoch until which the weight of the KL term is 0."},
    {"beta-full", 0, OPTION_REAL, "EPOCH", offsetof(purifier_settings, beta_full), 0, 1e6, NULL, "Epoch from which it is full."},
    {"beta", 0, OPTION_REAL, "B", offsetof(purifier_settings, beta_final), 0, 1e6, NULL,
     "Full weight of the KL term; below 1 keeps the draws apart where the posterior collapses."},
    {"free-bits", 0, OPTION_REAL, "NATS", offsetof(purifier_settings, free_bits), 0, 1e6, NULL,
     "KL per latent feature that costs nothing."},
    {"lookahead-steps", 0, OPTION_INTEGER, "N", offsetof(purifier_settings, lookahead_steps), 1, 1e6, NULL,
     "Steps between moves of Lookahead's slow weights."},
    {"lookahead-rate", 0, OPTION_REAL, "R", offsetof(purifier_settings, lookahead_rate), 0, 1, NULL, "How far they move."},
    COMMON_OPTIONS(purifier_settings, training.common)};

static void take_options(purifier_settings *own, const carso_purifier_training_options *options,
                         const carso_purifier_options *shape, int32_t batch)
{
    own->training.epochs = options->epochs;
    own->training.batch = batch;
    own->condition_size = shape->condition_size;
    own->latent_size = shape->latent_size;
    own->seed_channels = shape->seed_channels;
    own->pgd_steps = options->pgd_steps;
    own->lookahead_steps = options->lookahead_steps;
    own->fraction = options->adversarial_fraction;
    own->epsilon = options->epsilon;
    own->step_size = options->pgd_step_size;
    own->lookahead_rate = options->lookahead_rate;
    own->rate_start = options->learning_rate_start;
    own->rate_peak = options->learning_rate_peak;
    own->rate_end = options->learning_rate_end;
    own->warm_up = options->warm_up_epochs;
    own->plateau = options->plateau_epochs;
    own->annealing = options->annealing_epochs;
    own->beta_start = options->beta_start_epoch;
    own->beta_full = options->beta_full_epoch;
    own->beta_final = options->beta_final;
    own->free_bits = options->free_bits;
}

static void purifier_defaults(void *settings)
{
    purifier_settings *own = settings;
    carso_purifier_training_options options;
    carso_purifier_options shape;
    carso_purifier_training_options_init(&options, sizeof options);
    carso_purifier_options_init(&shape, sizeof shape);
    training_defaults(&own->training);
    own->training.output = "model.safetensors";
    take_options(own, &options, &shape, 640);
}

static bool purifier_prepare(void *settings)
{
    purifier_settings *own = settings;
    carso_purifier_training_options options;
    carso_purifier_options shape;
    int32_t batch;
    if (!own->preset) {
        return true;
    }
    if (carso_purifier_training_options_preset(&options, sizeof options, own->preset, &batch) != CARSO_OK ||
        carso_purifier_options_preset(&shape, sizeof shape, own->preset) != CARSO_OK) {
        complain_of_preset(own->preset);
        return false;
    }
    take_options(own, &options, &shape, batch);
    return true;
}

static carso_status with_purifier(const purifier_settings *own, carso_context *context, const char *path,
                                  carso_model **out)
{
    carso_model *loaded;
    carso_purifier_options options;
    carso_purifier_options_init(&options, sizeof options);
    options.condition_size = (int32_t)own->condition_size;
    options.latent_size = (int32_t)own->latent_size;
    options.seed_channels = (int32_t)own->seed_channels;
    options.seed = (uint64_t)own->training.common.seed;
    carso_status status = carso_model_load(context, path, &loaded);
    if (status == CARSO_OK) {
        status = carso_model_add_purifier(loaded, &options, out);
        carso_model_destroy(loaded);
    }
    return status;
}

/* user of the functions below */
typedef struct purifier_task {
    const purifier_settings *settings;
    const char *classifier;
} purifier_task;

static carso_purifier_training_options options_of(const purifier_settings *own, int32_t steps_per_epoch)
{
    carso_purifier_training_options options;
    carso_purifier_training_options_init(&options, sizeof options);
    options.steps_per_epoch = steps_per_epoch;
    options.epochs = (int32_t)own->training.epochs;
    options.sub_batch = (int32_t)own->training.sub_batch;
    options.schedule_by_step = own->by_step;
    options.adversarial_fraction = own->fraction;
    options.epsilon = own->epsilon;
    options.pgd_steps = (int32_t)own->pgd_steps;
    options.lookahead_steps = (int32_t)own->lookahead_steps;
    options.pgd_step_size = own->step_size;
    options.lookahead_rate = own->lookahead_rate;
    options.learning_rate_start = own->rate_start;
    options.learning_rate_peak = own->rate_peak;
    options.learning_rate_end = own->rate_end;
    options.warm_up_epochs = own->warm_up;
    options.plateau_epochs = own->plateau;
    options.annealing_epochs = own->annealing;
    options.beta_start_epoch = own->beta_start;
    options.beta_full_epoch = own->beta_full;
    options.beta_final = own->beta_final;
    options.free_bits = own->free_bits;
    options.mean_loss = own->mean_loss;
    options.epsilon_over_deviation = own->over_deviation;
    options.seed = (uint64_t)own->training.common.seed;
    return options;
}

static exit_status new_model(const void *user, const carso_dataset *data, carso_context *context, carso_model **out)
{
    const purifier_task *task = user;
    (void)data;
    const carso_status status = with_purifier(task->settings, context, task->classifier, out);
    return status == CARSO_OK ? STATUS_OK
                              : session_failure(context, status, "cannot make a purifier for %s", task->classifier);
}

static carso_status new_trainer(const void *user, int32_t steps_per_epoch, const carso_model *model,
                                carso_trainer **out)
{
    const purifier_task *task = user;
    const carso_purifier_training_options options = options_of(task->settings, steps_per_epoch);
    return carso_trainer_create_purifier(model, &options, out);
}

static carso_status check_trainer(const void *user, int32_t steps_per_epoch, const carso_trainer *trainer)
{
    const purifier_task *task = user;
    const carso_purifier_training_options options = options_of(task->settings, steps_per_epoch);
    return carso_trainer_check_purifier(trainer, &options);
}

static exit_status purifier_run(void *settings, int argument_count, char **arguments)
{
    const purifier_settings *own = settings;
    const purifier_task user = {own, arguments[0]};
    training_task task = {.settings = &own->training, .dataset = arguments[1], .purifier = true, .new_model = new_model,
                          .new_trainer = new_trainer, .check_trainer = check_trainer, .user = &user};
    (void)argument_count;
    carso_read_options_init(&task.augmentation, sizeof task.augmentation);
    return training_run(&task);
}

static const char *const purifier_examples[] = {
    "carso train classifier.safetensors fashion-mnist/ -o model.safetensors --epochs 8 --by-step --warm-up 1 --plateau 3 --annealing 4 "
    "--beta-start 1 --beta-full 2 --epsilon 0.1 --mean-loss",
    "A short run on small images.", NULL};

const command command_train = {
    .name = "train",
    .arguments = "CLASSIFIER DATASET",
    .summary = "train the purifier for a classifier",
    .description =
        "Trains a new purifier for the frozen classifier of the model file CLASSIFIER, as the paper does: batches of which a part is "
        "attacked by FGSM and PGD at half and full epsilon, the loss of a variational autoencoder with a rising weight of its KL term, "
        "RAdam inside Lookahead, and a learning rate that warms up, stays and anneals. Writes a model file with both. Watch the KL and "
        "the diversity of the draws: near 0 the posterior has collapsed and the defence is in effect deterministic.",
    .examples = purifier_examples,
    .options = purifier_options,
    .settings_size = sizeof(purifier_settings),
    .defaults = purifier_defaults,
    .prepare = purifier_prepare,
    .run = purifier_run,
    .least_arguments = 2,
    .most_arguments = 2};
