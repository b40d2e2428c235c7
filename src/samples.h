/* SPDX-License-Identifier: BSD-2-Clause */
/* The images that a command was given: files, or part of a data set. */
#ifndef SAMPLES_H
#define SAMPLES_H

#include "session.h"

typedef struct sample_settings {
    int split; /* carso_split */
    int64_t first;
    int64_t count; /* 0: all that there are */
} sample_settings;

/* clang-format off */
#define SAMPLE_OPTIONS(settings_type)                                                                                  \
    {"split", 0, OPTION_CHOICE, "PART", offsetof(settings_type, samples.split), 0, 0, split_names,                     \
     "Part of a data set."},                                                                                           \
    {"first", 0, OPTION_INTEGER, "N", offsetof(settings_type, samples.first), 0, 9e15, NULL,                           \
     "First image of a data set to use."},                                                                             \
    {"count", 'n', OPTION_INTEGER, "N", offsetof(settings_type, samples.count), 0, 9e15, NULL,                         \
     "Number of images of a data set to use, 0 for all."}
/* clang-format on */

extern const char *const split_names[];

typedef struct samples {
    uint64_t count;
    uint64_t first; /* index of the first in its data set, which keys the random draws */
    int32_t channels, height, width;
    float *pixels;   /* [count][channels][height][width] in [0, 1] */
    int32_t *labels; /* [count], or NULL: not known */
    char **names;    /* [count], or NULL: a data set, whose images are known by number */
} samples;

/* Loads inputs (image files, or one data set) to fit the model; complains and returns the status where it fails. */
exit_status samples_load(carso_context *context, const carso_model *model, const sample_settings *settings, int inputs,
                         char **input, samples *out);
/* Part of an open data set. */
exit_status samples_from_dataset(carso_context *context, const carso_dataset *dataset, uint64_t first, uint64_t count,
                                 samples *out);
void samples_release(samples *held);
/* Describes count images from first on, of float pixels of this shape. */
carso_images samples_describe(const samples *held, const float *pixels, uint64_t first, uint64_t count);
size_t samples_image_size(const samples *held);
/* What to call image i: its file's name or its number. */
const char *samples_name(const samples *held, uint64_t index, char *text, size_t size);

#endif
