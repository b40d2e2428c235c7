/* SPDX-License-Identifier: BSD-2-Clause */
/* carso train-classifier: adversarial training of a new classifier. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "training_loop.h"

typedef struct classifier_settings {
    training_settings training;
    int architecture;
    int64_t depth, width, crop, pgd_steps;
    bool mirror;
    double epsilon, step_size, ramp, trades, rate, momentum, decay, warm_up, smoothing;
} classifier_settings;

static const char *const architecture_names[] = {"wide-resnet", "small-cnn", NULL};

static const option_entry classifier_options[] = {
    {"architecture", 'a', OPTION_CHOICE, "NAME", offsetof(classifier_settings, architecture), 0, 0, architecture_names,
     "Network to train. A small-cnn has three convolutions, for images of 28x28 and 32x32."},
    {"depth", 0, OPTION_INTEGER, "N", offsetof(classifier_settings, depth), 10, 10000, NULL, "Depth of a wide-resnet, 6n + 4."},
    {"width", 'w', OPTION_INTEGER, "N", offsetof(classifier_settings, width), 1, 1024, NULL, "Width multiplier of either network."},
    TRAINING_OPTIONS(classifier_settings),
    {"epsilon", 'e', OPTION_RATIO, "E", offsetof(classifier_settings, epsilon), 0, 1, NULL,
     "Bound of the perturbations trained on, l-infinity, in units of [0, 1]."},
    {"pgd-steps", 0, OPTION_INTEGER, "N", offsetof(classifier_settings, pgd_steps), 0, 1e5, NULL,
     "Steps of PGD that make the training images; 0 trains on clean ones."},
    {"step-size", 0, OPTION_RATIO, "A", offsetof(classifier_settings, step_size), 0, 1, NULL,
     "Step of PGD. Without it 2.5 epsilon / steps, at most epsilon."},
    {"ramp", 0, OPTION_REAL, "EPOCHS", offsetof(classifier_settings, ramp), 0, 1e6, NULL,
     "Epochs over which epsilon rises from 0; from a cold start small networks do not learn without."},
    {"trades", 0, OPTION_REAL, "BETA", offsetof(classifier_settings, trades), 0, 1e6, NULL,
     "Above 0 trains by TRADES with this weight of the divergence, 6 being usual."},
    {"learning-rate", 'l', OPTION_REAL, "R", offsetof(classifier_settings, rate), 0, 1e6, NULL, "Peak of the learning rate of SGD."},
    {"momentum", 0, OPTION_REAL, "M", offsetof(classifier_settings, momentum), 0, 0.9999, NULL, "Nesterov's momentum."},
    {"weight-decay", 0, OPTION_REAL, "D", offsetof(classifier_settings, decay), 0, 1, NULL, "Decay of the weights."},
    {"warm-up", 0, OPTION_REAL, "EPOCHS", offsetof(classifier_settings, warm_up), 0, 1e6, NULL,
     "Epochs over which the learning rate rises from 0."},
    {"label-smoothing", 0, OPTION_REAL, "S", offsetof(classifier_settings, smoothing), 0, 0.999, NULL, "Label smoothing."},
    {"crop", 0, OPTION_INTEGER, "PIXELS", offsetof(classifier_settings, crop), 0, 1000, NULL,
     "Augmentation: pad by so many pixels and crop at random."},
    {"mirror", 0, OPTION_FLAG, NULL, offsetof(classifier_settings, mirror), 0, 0, NULL, "Augmentation: mirror half of the images."},
    COMMON_OPTIONS(classifier_settings, training.common)};

static void classifier_defaults(void *settings)
{
    classifier_settings *own = settings;
    carso_classifier_training_options options;
    carso_classifier_training_options_init(&options, sizeof options);
    training_defaults(&own->training);
    own->training.output = "classifier.safetensors";
    own->training.epochs = options.epochs;
    own->training.batch = 128;
    own->architecture = CARSO_SMALL_CNN;
    own->depth = 28;
    own->width = 2;
    own->epsilon = options.epsilon;
    own->pgd_steps = options.pgd_steps;
    own->step_size = NAN;
    own->ramp = options.epsilon_ramp_epochs;
    own->trades = options.trades_beta;
    own->rate = options.learning_rate;
    own->momentum = options.momentum;
    own->decay = options.weight_decay;
    own->warm_up = options.warm_up_epochs;
    own->smoothing = options.label_smoothing;
}

#define STATISTICS_IMAGES 10000
#define STATISTICS_BATCH 500

/* Mean and deviation per channel of the first images, for the standardisation inside the model. */
static exit_status measure_statistics(const carso_dataset *data, const carso_dataset_info *info, carso_context *context,
                                      carso_model_options *options)
{
    size_t pixels = (size_t)info->height * (size_t)info->width, channels = (size_t)info->channels;
    uint64_t total = info->count < STATISTICS_IMAGES ? info->count : STATISTICS_IMAGES;
    double sum[3] = {0}, square[3] = {0};
    uint64_t indices[STATISTICS_BATCH];
    uint8_t *batch = malloc(STATISTICS_BATCH * pixels * channels);
    carso_status status = batch ? CARSO_OK : CARSO_ERROR_OUT_OF_MEMORY;
    for (uint64_t first = 0; first < total && status == CARSO_OK; first += STATISTICS_BATCH) {
        size_t count = total - first < STATISTICS_BATCH ? (size_t)(total - first) : STATISTICS_BATCH;
        for (size_t i = 0; i < count; i++) {
            indices[i] = first + i;
        }
        status = carso_dataset_read(data, indices, count, NULL, batch, NULL);
        for (size_t i = 0; i < count * pixels * channels && status == CARSO_OK; i++) {
            double value = batch[i] / 255.0;
            sum[i % channels] += value;
            square[i % channels] += value * value;
        }
    }
    free(batch);
    if (status != CARSO_OK) {
        return session_failure(context, status, "cannot measure the data set's mean and deviation");
    }
    for (size_t c = 0; c < channels; c++) {
        double n = (double)total * (double)pixels, mean = sum[c] / n, variance = square[c] / n - mean * mean;
        options->mean[c] = (float)mean;
        options->deviation[c] = variance > 1e-8 ? (float)sqrt(variance) : 1;
    }
    return STATUS_OK;
}

static exit_status new_model(const void *user, const carso_dataset *data, carso_context *context, carso_model **out)
{
    const classifier_settings *own = user;
    carso_model_options options;
    carso_dataset_info info = {.struct_size = sizeof info};
    carso_dataset_get_info(data, &info);
    carso_model_options_init(&options, sizeof options);
    options.architecture = own->architecture;
    options.depth = (int32_t)own->depth;
    options.width = (int32_t)own->width;
    options.channels = info.channels;
    options.image_height = info.height;
    options.image_width = info.width;
    options.classes = info.classes;
    options.seed = (uint64_t)own->training.common.seed;
    exit_status status = measure_statistics(data, &info, context, &options);
    if (status != STATUS_OK) {
        return status;
    }
    const char **names = calloc((size_t)info.classes, sizeof *names);
    if (!names) {
        complain("out of memory");
        return STATUS_FAILURE;
    }
    for (int32_t i = 0; i < info.classes; i++) {
        names[i] = carso_dataset_class_name(data, i);
    }
    options.class_names = names;
    carso_status made = carso_model_create(context, &options, out);
    free(names);
    return made == CARSO_OK ? STATUS_OK : session_failure(context, made, "cannot build the classifier");
}

static carso_classifier_training_options options_of(const classifier_settings *own, int32_t steps_per_epoch)
{
    carso_classifier_training_options options;
    carso_classifier_training_options_init(&options, sizeof options);
    options.steps_per_epoch = steps_per_epoch;
    options.epochs = (int32_t)own->training.epochs;
    options.sub_batch = (int32_t)own->training.sub_batch;
    options.pgd_steps = (int32_t)own->pgd_steps;
    options.epsilon = own->epsilon;
    options.pgd_step_size = own->step_size;
    if (isnan(own->step_size)) {
        double usual = own->pgd_steps > 0 ? 2.5 * own->epsilon / (double)own->pgd_steps : 0;
        options.pgd_step_size = usual < own->epsilon ? usual : own->epsilon;
    }
    options.epsilon_ramp_epochs = own->ramp;
    options.trades_beta = own->trades;
    options.learning_rate = own->rate;
    options.momentum = own->momentum;
    options.weight_decay = own->decay;
    options.warm_up_epochs = own->warm_up;
    options.label_smoothing = own->smoothing;
    options.seed = (uint64_t)own->training.common.seed;
    return options;
}

static carso_status new_trainer(const void *user, int32_t steps_per_epoch, const carso_model *model,
                                carso_trainer **out)
{
    const carso_classifier_training_options options = options_of(user, steps_per_epoch);
    return carso_trainer_create_classifier(model, &options, out);
}

static carso_status check_trainer(const void *user, int32_t steps_per_epoch, const carso_trainer *trainer)
{
    const carso_classifier_training_options options = options_of(user, steps_per_epoch);
    return carso_trainer_check_classifier(trainer, &options);
}

static exit_status classifier_run(void *settings, int argument_count, char **arguments)
{
    const classifier_settings *own = settings;
    training_task task = {.settings = &own->training, .dataset = arguments[0], .epsilon = own->epsilon,
                          .new_model = new_model, .new_trainer = new_trainer, .check_trainer = check_trainer, .user = own};
    (void)argument_count;
    carso_read_options_init(&task.augmentation, sizeof task.augmentation);
    task.augmentation.crop_padding = (int32_t)own->crop;
    task.augmentation.mirror = own->mirror;
    return training_run(&task);
}

static const char *const classifier_examples[] = {
    "carso train-classifier fashion-mnist/ --epsilon 0.1 --pgd-steps 5 -o classifier.safetensors",
    "Trains a small network on the IDX files of a folder.",
    "carso train-classifier cifar-10-batches-bin/ -a wide-resnet --depth 16 --width 2 --crop 4 --mirror",
    "Trains a WRN-16-2 at epsilon 8/255.", NULL};

const command command_train_classifier = {
    .name = "train-classifier",
    .arguments = "DATASET",
    .summary = "train a classifier adversarially",
    .description =
        "Trains a new classifier on images attacked by PGD (Madry et al. 2018, or TRADES), with SGD, a warm-up of epsilon and a cosine "
        "schedule of the learning rate. The mean and deviation that it standardises images with are measured on the data. DATASET is "
        "a folder with IDX files, CIFAR binary files, or one folder of PNG or JPEG images per class.",
    .examples = classifier_examples,
    .options = classifier_options,
    .settings_size = sizeof(classifier_settings),
    .defaults = classifier_defaults,
    .run = classifier_run,
    .least_arguments = 1,
    .most_arguments = 1};
