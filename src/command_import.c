/* SPDX-License-Identifier: BSD-2-Clause */
/* carso import: weights of other programs into a model. */
#include "commands.h"
#include "session.h"

typedef struct import_settings {
    common_settings common;
    const char *output;
} import_settings;

static const option_entry import_options[] = {
    {"output", 'o', OPTION_TEXT, "FILE", offsetof(import_settings, output), 0, 0, NULL,
     "Model file to write; MODEL itself stays as it is, unless it is named here."},
    COMMON_OPTIONS(import_settings, common)};

static void import_defaults(void *settings)
{
    import_settings *own = settings;
    common_defaults(&own->common);
    own->output = "model.safetensors";
}

static exit_status report(const import_settings *own, const carso_model *model)
{
    carso_model_info info = {.struct_size = sizeof info};
    carso_model_get_info(model, &info);
    if (own->common.json) {
        return session_print_json(json_pack("{s:o, s:I, s:I, s:b}", "output", session_json_text(own->output),
                                            "classifier_parameters", (json_int_t)info.classifier_parameters, "purifier_parameters",
                                            (json_int_t)info.purifier_parameters, "purifier", (int)info.has_purifier));
    }
    if (!own->common.quiet) {
        printf("%s: %llu parameters of the classifier, ", own->output, (unsigned long long)info.classifier_parameters);
        if (info.has_purifier) {
            printf("%llu of the purifier\n", (unsigned long long)info.purifier_parameters);
        } else {
            puts("no purifier");
        }
    }
    return STATUS_OK;
}

static exit_status import_run(void *settings, int argument_count, char **arguments)
{
    const import_settings *own = settings;
    carso_model *shape = NULL, *model = NULL;
    if (!session_can_write(own->output, false)) {
        return STATUS_FAILURE;
    }
    carso_context *context = session_open(&own->common);
    if (!context) {
        return STATUS_FAILURE;
    }
    exit_status status = STATUS_OK;
    carso_status done = carso_model_load(context, arguments[0], &shape);
    if (done != CARSO_OK) {
        status = session_failure(context, done, "cannot load %s", arguments[0]);
    }
    if (status == STATUS_OK) {
        done = carso_model_import(shape, (const char *const *)(arguments + 1), (size_t)argument_count - 1, &model);
        status = done == CARSO_OK ? STATUS_OK : session_failure(context, done, "cannot import into %s", arguments[0]);
    }
    if (status == STATUS_OK) {
        done = carso_model_save(model, own->output);
        status = done == CARSO_OK ? report(own, model) : session_failure(context, done, "cannot write %s", own->output);
    }
    carso_model_destroy(model);
    carso_model_destroy(shape);
    carso_context_destroy(context);
    return status;
}

static const char *const import_examples[] = {
    "carso import new.safetensors wrn-28-10.safetensors -o classifier.safetensors", "A checkpoint of the classifier.",
    "carso import new.safetensors wrn-28-10.safetensors a_repr_compressors.safetensors a_repr_fcn_compressor.safetensors "
    "a_decoder.safetensors -o model.safetensors",
    "The classifier and the three files of a released purifier.", NULL};

const command command_import = {
    .name = "import",
    .arguments = "MODEL WEIGHTS...",
    .summary = "put weights from safetensors files into a model",
    .description =
        "Writes a model with the structure of MODEL, which 'carso new' makes, and the weights in the safetensors files WEIGHTS: of the "
        "classifier, of the purifier, whole or in its three parts, or of both. What a file holds is seen from its names; a prefix that "
        "all of them share, as module., is left out. A tensor that is missing, unexpected or of the wrong shape is named, and then "
        "nothing is written. With weights of a classifier alone the purifier is left out; with those of a purifier alone the "
        "classifier stays.",
    .examples = import_examples,
    .options = import_options,
    .settings_size = sizeof(import_settings),
    .defaults = import_defaults,
    .run = import_run,
    .least_arguments = 2,
    .most_arguments = -1};
