/* SPDX-License-Identifier: BSD-2-Clause */
/* carso purify: reconstructions of images, as a picture or as files. */
#include <stdlib.h>

#include "commands.h"
#include "grid.h"
#include "progress.h"
#include "scoring.h"

typedef struct purify_settings {
    common_settings common;
    sample_settings samples;
    int64_t draws;
    const char *output;
    const char *folder;
} purify_settings;

static const option_entry purify_options[] = {
    {"draws", 'N', OPTION_INTEGER, "N", offsetof(purify_settings, draws), 1, 65536, NULL, "Reconstructions of an image."},
    {"output", 'o', OPTION_TEXT, "FILE", offsetof(purify_settings, output), 0, 0, NULL,
     "Picture to write: the first images with their first reconstructions, and what the classifier says of each."},
    {"folder", 'f', OPTION_TEXT, "DIR", offsetof(purify_settings, folder), 0, 0, NULL,
     "Existing folder to write every reconstruction into, as IMAGE-DRAW.png."},
    SAMPLE_OPTIONS(purify_settings),
    COMMON_OPTIONS(purify_settings, common)};

static void purify_defaults(void *settings)
{
    purify_settings *own = settings;
    common_defaults(&own->common);
    own->samples = (sample_settings){.split = CARSO_SPLIT_TEST, .count = 10};
    own->draws = 8;
    own->output = "purified.png";
}

static exit_status write_all(const purify_settings *own, const carso_model *model, const samples *held, uint64_t *written)
{
    carso_context *context = carso_model_context(model);
    carso_images images = samples_describe(held, held->pixels, 0, held->count);
    carso_predict_options options;
    carso_prediction *purified = NULL;
    progress_bar bar;
    carso_predict_options_init(&options, sizeof options);
    options.draws = (int32_t)own->draws;
    options.seed = (uint64_t)own->common.seed;
    options.first_image = held->first;
    options.progress = progress_callback;
    options.progress_user = &bar;
    progress_start(&bar, "reconstructions", own->common.quiet);
    carso_status status = carso_purify(model, &images, &options, &purified);
    progress_finish(&bar);
    if (status != CARSO_OK) {
        return session_failure(context, status, "cannot purify");
    }
    const float *pixels = carso_prediction_reconstructions(purified);
    for (uint64_t draw = 0; draw < (uint64_t)own->draws && status == CARSO_OK; draw++) {
        for (uint64_t i = 0; i < held->count && status == CARSO_OK; i++) {
            char path[4096];
            carso_images one = samples_describe(held, pixels + draw * held->count * samples_image_size(held), i, 1);
            snprintf(path, sizeof path, "%s/%llu-%llu.png", own->folder, (unsigned long long)(held->first + i),
                     (unsigned long long)draw);
            status = carso_image_write_png(context, path, &one, 0);
            *written += status == CARSO_OK;
        }
    }
    carso_prediction_destroy(purified);
    return status == CARSO_OK ? STATUS_OK : session_failure(context, status, "cannot write into %s", own->folder);
}

static exit_status purify_run(void *settings, int argument_count, char **arguments)
{
    const purify_settings *own = settings;
    carso_model *model = NULL;
    samples held = {0};
    uint64_t written = 0;
    if (!session_can_write(own->output, false) || (own->folder && !session_can_write(own->folder, true))) {
        return STATUS_FAILURE;
    }
    carso_context *context = session_open(&own->common);
    if (!context) {
        return STATUS_FAILURE;
    }
    carso_status loaded = carso_model_load(context, arguments[0], &model);
    exit_status status = loaded == CARSO_OK
                             ? samples_load(context, model, &own->samples, argument_count - 1, arguments + 1, &held)
                             : session_failure(context, loaded, "cannot load %s", arguments[0]);
    carso_model_info info = {.struct_size = sizeof info};
    if (status == STATUS_OK) {
        carso_model_get_info(model, &info);
        if (!info.has_purifier) {
            complain("%s has no purifier; 'carso train' makes one", arguments[0]);
            status = STATUS_FAILURE;
        }
    }
    if (status == STATUS_OK && own->folder) {
        status = write_all(own, model, &held, &written);
    }
    if (status == STATUS_OK) {
        status = grid_write(model, &held, NULL, 0, (int32_t)own->draws, (uint64_t)own->common.seed, own->output);
    }
    if (status == STATUS_OK && own->common.json) {
        status = session_print_json(json_pack("{s:I, s:I, s:o, s:I}", "count", (json_int_t)held.count, "draws", (json_int_t)own->draws,
                                              "picture", session_json_text(own->output), "files", (json_int_t)written));
    } else if (status == STATUS_OK) {
        printf("%s: %llu images, %lld reconstructions each\n", own->output, (unsigned long long)held.count, (long long)own->draws);
        if (own->folder) {
            printf("%s: %llu files\n", own->folder, (unsigned long long)written);
        }
    }
    samples_release(&held);
    carso_model_destroy(model);
    carso_context_destroy(context);
    return status;
}

static const char *const purify_examples[] = {"carso purify model.safetensors shoe.png -o shoe-purified.png",
                                              "One image and its reconstructions.", NULL};

const command command_purify = {
    .name = "purify",
    .arguments = "MODEL IMAGE...|DATASET",
    .summary = "draw clean reconstructions of images",
    .description = "Draws reconstructions of images by the purifier, which sees only the classifier's internal representation of them. Writes a "
                   "picture of the first ones and, where asked, all of them as files.",
    .examples = purify_examples,
    .options = purify_options,
    .settings_size = sizeof(purify_settings),
    .defaults = purify_defaults,
    .run = purify_run,
    .least_arguments = 2,
    .most_arguments = -1};
