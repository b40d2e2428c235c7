/* SPDX-License-Identifier: BSD-2-Clause */
/* carso merge: the shards of an evaluation made one. */
#include "commands.h"
#include "evaluation_output.h"

typedef struct merge_settings {
    common_settings common;
    const char *output, *report, *model;
    bool strict;
} merge_settings;

static const option_entry merge_options[] = {
    {"output", 'o', OPTION_TEXT, "PREFIX", offsetof(merge_settings, output), 0, 0, NULL,
     "Files to write: PREFIX.json, the result, and PREFIX.safetensors, the adversarial images."},
    {"report", 0, OPTION_TEXT, "FILE", offsetof(merge_settings, report), 0, 0, NULL, "HTML page to write, all in one file."},
    {"model", 0, OPTION_TEXT, "FILE", offsetof(merge_settings, model), 0, 0, NULL, "The model, for the report's reconstructions."},
    {"strict", 0, OPTION_FLAG, NULL, offsetof(merge_settings, strict), 0, 0, NULL, "Exit with status 3 where there are flags."},
    COMMON_OPTIONS(merge_settings, common)};

static void merge_defaults(void *settings)
{
    merge_settings *own = settings;
    common_defaults(&own->common);
    own->output = "evaluation";
}

static exit_status merge_run(void *settings, int argument_count, char **arguments)
{
    const merge_settings *own = settings;
    carso_evaluation *evaluation = NULL;
    carso_model *model = NULL;
    carso_context *context = session_open(&own->common);
    if (!context) {
        return STATUS_FAILURE;
    }
    carso_status merged =
        carso_evaluation_merge(context, (const char *const *)arguments, (size_t)argument_count, &evaluation);
    exit_status status = merged == CARSO_OK ? STATUS_OK : session_failure(context, merged, "cannot merge");
    if (status == STATUS_OK && own->model) {
        carso_status loaded = carso_model_load(context, own->model, &model);
        status = loaded == CARSO_OK ? STATUS_OK : session_failure(context, loaded, "cannot load %s", own->model);
    }
    const output_settings output = {.output = own->output, .strict = own->strict, .json = own->common.json, .page = own->report, .model = model};
    if (status == STATUS_OK) {
        status = evaluation_publish(context, evaluation, &output);
    }
    carso_model_destroy(model);
    carso_evaluation_destroy(evaluation);
    carso_context_destroy(context);
    return status;
}

static const char *const merge_examples[] = {"carso merge part1.safetensors part2.safetensors -o whole",
                                             "Two shards of 'carso evaluate --shard', as if they had been one evaluation.", NULL};

const command command_merge = {
    .name = "merge",
    .arguments = "SHARD...",
    .summary = "join the shards of an evaluation",
    .description = "Joins the files that 'carso evaluate --shard' wrote, all of one evaluation, each finished, and prints its result.",
    .examples = merge_examples,
    .options = merge_options,
    .settings_size = sizeof(merge_settings),
    .defaults = merge_defaults,
    .run = merge_run,
    .least_arguments = 1,
    .most_arguments = -1};
