/* SPDX-License-Identifier: BSD-2-Clause */
/* What both training commands do: epochs of shuffled batches, a line of measurements each, checkpoints, resuming. */
#ifndef TRAINING_LOOP_H
#define TRAINING_LOOP_H

#include "session.h"

typedef struct training_settings {
    common_settings common;
    const char *output;
    const char *checkpoint;
    bool resume;
    int64_t epochs, batch, sub_batch, most_images, validate;
    double save_minutes;
} training_settings;

/* clang-format off */
#define TRAINING_OPTIONS(settings_type)                                                                                     \
    {"output", 'o', OPTION_TEXT, "FILE", offsetof(settings_type, training.output), 0, 0, NULL, "Model file to write."},     \
    {"epochs", 'E', OPTION_INTEGER, "N", offsetof(settings_type, training.epochs), 1, 1e6, NULL, "Passes over the data."},  \
    {"batch", 'b', OPTION_INTEGER, "N", offsetof(settings_type, training.batch), 2, 1e6, NULL, "Images in a step."},        \
    {"sub-batch", 0, OPTION_INTEGER, "N", offsetof(settings_type, training.sub_batch), 0, 1e6, NULL,                        \
     "Images computed at once; 0 chooses by the memory limit. Gradients of a batch accumulate over its parts."},            \
    {"images", 'n', OPTION_INTEGER, "N", offsetof(settings_type, training.most_images), 0, 9e15, NULL,                      \
     "Train on the first N images only, 0 for all."},                                                                       \
    {"validate", 0, OPTION_INTEGER, "N", offsetof(settings_type, training.validate), 0, 9e15, NULL,                         \
     "Test images that the accuracy is measured on after each epoch, 0 for none."},                                         \
    {"checkpoint", 'c', OPTION_TEXT, "FILE", offsetof(settings_type, training.checkpoint), 0, 0, NULL,                      \
     "Checkpoint to write after each epoch, every few minutes and when interrupted. Without it: the model's name with "     \
     "'.checkpoint' appended."},                                                                                            \
    {"save-minutes", 0, OPTION_REAL, "T", offsetof(settings_type, training.save_minutes), 0.01, 1e6, NULL,                  \
     "Minutes between checkpoints within an epoch."},                                                                       \
    {"resume", 'r', OPTION_FLAG, NULL, offsetof(settings_type, training.resume), 0, 0, NULL,                                \
     "Go on from the checkpoint, to the same bits as without the interruption. Give the other options as before; what they say of the training is compared."}
/* clang-format on */

void training_defaults(training_settings *training);

/* What distinguishes the two trainings. */
typedef struct training_task {
    const training_settings *settings;
    const char *dataset;
    bool purifier;
    double epsilon;                  /* of the validation's attack on the classifier */
    carso_read_options augmentation; /* seed and epoch are set by the loop */
    /* The model that training begins with, and its trainer. */
    exit_status (*new_model)(const void *user, const carso_dataset *data, carso_context *context, carso_model **out);
    carso_status (*new_trainer)(const void *user, int32_t steps_per_epoch, const carso_model *model,
                                carso_trainer **out);
    /* Whether the trainer of a run that resumes has the options that new_trainer gives one. */
    carso_status (*check_trainer)(const void *user, int32_t steps_per_epoch, const carso_trainer *trainer);
    const void *user;
} training_task;

/* Opens the data, resumes or begins, trains to the end and writes the model, or saves a checkpoint where interrupted. */
exit_status training_run(const training_task *task);

#endif
