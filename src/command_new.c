/* SPDX-License-Identifier: BSD-2-Clause */
/* carso new: a model with random weights, to train or to import weights into. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "session.h"

typedef struct new_settings {
    common_settings common;
    const char *output, *preset, *mean, *deviation;
    carso_model_options classifier; /* as the preset has it */
    int architecture;
    int64_t depth, width, channels, height, image_width, classes;
    int64_t condition_size, latent_size, seed_channels;
    bool no_purifier;
} new_settings;

static const char *const architecture_names[] = {"wide-resnet", "small-cnn", NULL};

static const option_entry new_options[] = {
    {"preset", 'p', OPTION_TEXT, "NAME", offsetof(new_settings, preset), 0, 0, NULL,
     "The paper's networks for cifar10, cifar100 or tinyimagenet. Other options override it."},
    {"output", 'o', OPTION_TEXT, "FILE", offsetof(new_settings, output), 0, 0, NULL, "Model file to write."},
    {"architecture", 'a', OPTION_CHOICE, "NAME", offsetof(new_settings, architecture), 0, 0, architecture_names,
     "Network of the classifier. A small-cnn has three convolutions, for images of 28x28 and 32x32."},
    {"depth", 0, OPTION_INTEGER, "N", offsetof(new_settings, depth), 10, 10000, NULL, "Depth of a wide-resnet, 6n + 4."},
    {"width", 'w', OPTION_INTEGER, "N", offsetof(new_settings, width), 0, 1024, NULL,
     "Width multiplier of either network; 0 takes the usual one, 10 and 1."},
    {"channels", 0, OPTION_INTEGER, "N", offsetof(new_settings, channels), 1, 3, NULL, "Channels of the images, 1 or 3."},
    {"image-height", 0, OPTION_INTEGER, "N", offsetof(new_settings, height), 8, 4096, NULL, "Height of the images."},
    {"image-width", 0, OPTION_INTEGER, "N", offsetof(new_settings, image_width), 8, 4096, NULL, "Width of the images."},
    {"classes", 0, OPTION_INTEGER, "N", offsetof(new_settings, classes), 2, 65536, NULL, "Number of classes."},
    {"mean", 0, OPTION_TEXT, "M", offsetof(new_settings, mean), 0, 0, NULL,
     "Mean of the standardisation inside the model, in units of [0, 1]: one number, or one for each channel with commas between; "
     "or the name of a preset, for that of its data set. Without it that of --preset, else 0."},
    {"deviation", 0, OPTION_TEXT, "D", offsetof(new_settings, deviation), 0, 0, NULL,
     "Its deviation, in the same way. Without it that of --preset, else 1."},
    {"no-purifier", 0, OPTION_FLAG, NULL, offsetof(new_settings, no_purifier), 0, 0, NULL, "Make the classifier only."},
    {"condition-size", 0, OPTION_INTEGER, "N", offsetof(new_settings, condition_size), 0, 65536, NULL,
     "Features of the purifier's compressed representation; 0 takes the paper's number."},
    {"latent-size", 0, OPTION_INTEGER, "N", offsetof(new_settings, latent_size), 0, 65536, NULL,
     "Features of the purifier's latent; 0 takes the paper's number."},
    {"seed-channels", 0, OPTION_INTEGER, "N", offsetof(new_settings, seed_channels), 16, 1024, NULL,
     "Channels that the purifier's decoder starts with."},
    COMMON_OPTIONS(new_settings, common)};

static void take_options(new_settings *own, const carso_model_options *classifier,
                         const carso_purifier_options *purifier)
{
    own->classifier = *classifier;
    own->architecture = classifier->architecture;
    own->depth = classifier->depth;
    own->width = classifier->width;
    own->channels = classifier->channels;
    own->height = classifier->image_height;
    own->image_width = classifier->image_width;
    own->classes = classifier->classes;
    own->condition_size = purifier->condition_size;
    own->latent_size = purifier->latent_size;
    own->seed_channels = purifier->seed_channels;
}

static void new_defaults(void *settings)
{
    new_settings *own = settings;
    carso_model_options classifier;
    carso_purifier_options purifier;
    carso_model_options_init(&classifier, sizeof classifier);
    carso_purifier_options_init(&purifier, sizeof purifier);
    common_defaults(&own->common);
    own->output = "model.safetensors";
    take_options(own, &classifier, &purifier);
}

static bool new_prepare(void *settings)
{
    new_settings *own = settings;
    carso_model_options classifier;
    carso_purifier_options purifier;
    if (!own->preset) {
        return true;
    }
    if (carso_model_options_preset(&classifier, sizeof classifier, own->preset) != CARSO_OK ||
        carso_purifier_options_preset(&purifier, sizeof purifier, own->preset) != CARSO_OK) {
        complain_of_preset(own->preset);
        return false;
    }
    take_options(own, &classifier, &purifier);
    return true;
}

/* "0.5" or "0.4,0.5,0.6" for each channel. */
static bool parse_channels(const char *option, const char *text, int32_t channels, float out[3])
{
    float values[3];
    int32_t count = 0;
    for (const char *rest = text;; rest++) {
        char *end;
        float value = strtof(rest, &end);
        if (end == rest || !isfinite(value) || count == 3 || (*end != ',' && *end != '\0')) {
            complain("--%s: '%s' is neither a preset's name nor numbers with commas between", option, text);
            return false;
        }
        values[count++] = value;
        rest = end;
        if (*rest == '\0') {
            break;
        }
    }
    if (count != 1 && count != channels) {
        complain("--%s: '%s' has %d numbers for %d channels", option, text, (int)count, (int)channels);
        return false;
    }
    for (int32_t i = 0; i < channels; i++) {
        out[i] = values[count == 1 ? 0 : i];
    }
    return true;
}

static bool standardise(const new_settings *own, carso_model_options *options)
{
    carso_model_options named;
    if (own->mean) {
        if (carso_model_options_preset(&named, sizeof named, own->mean) == CARSO_OK && options->channels == 3) {
            memcpy(options->mean, named.mean, sizeof named.mean);
        } else if (!parse_channels("mean", own->mean, options->channels, options->mean)) {
            return false;
        }
    }
    if (own->deviation) {
        if (carso_model_options_preset(&named, sizeof named, own->deviation) == CARSO_OK && options->channels == 3) {
            memcpy(options->deviation, named.deviation, sizeof named.deviation);
        } else if (!parse_channels("deviation", own->deviation, options->channels, options->deviation)) {
            return false;
        }
    }
    return true;
}

static carso_status build(const new_settings *own, const carso_model_options *options, carso_context *context,
                          carso_model **out)
{
    carso_model *classifier;
    carso_purifier_options purifier;
    carso_status status = carso_model_create(context, options, &classifier);
    if (status != CARSO_OK || own->no_purifier) {
        *out = classifier;
        return status;
    }
    carso_purifier_options_init(&purifier, sizeof purifier);
    purifier.condition_size = (int32_t)own->condition_size;
    purifier.latent_size = (int32_t)own->latent_size;
    purifier.seed_channels = (int32_t)own->seed_channels;
    purifier.seed = options->seed;
    status = carso_model_add_purifier(classifier, &purifier, out);
    carso_model_destroy(classifier);
    return status;
}

static exit_status report(const new_settings *own, const carso_model *model)
{
    carso_model_info info = {.struct_size = sizeof info};
    carso_model_get_info(model, &info);
    if (own->common.json) {
        return session_print_json(json_pack("{s:o, s:I, s:I, s:i}", "output", session_json_text(own->output),
                                            "classifier_parameters", (json_int_t)info.classifier_parameters, "purifier_parameters",
                                            (json_int_t)info.purifier_parameters, "taps", (int)info.taps));
    }
    if (!own->common.quiet) {
        printf("%s: %llu parameters of the classifier, %llu of the purifier, all random\n", own->output,
               (unsigned long long)info.classifier_parameters, (unsigned long long)info.purifier_parameters);
    }
    return STATUS_OK;
}

static exit_status new_run(void *settings, int argument_count, char **arguments)
{
    const new_settings *own = settings;
    carso_model_options options = own->classifier;
    carso_model *model = NULL;
    (void)argument_count;
    (void)arguments;
    options.architecture = own->architecture;
    options.depth = (int32_t)own->depth;
    options.width = (int32_t)own->width;
    options.channels = (int32_t)own->channels;
    options.image_height = (int32_t)own->height;
    options.image_width = (int32_t)own->image_width;
    options.classes = (int32_t)own->classes;
    options.seed = (uint64_t)own->common.seed;
    if (options.classes != own->classifier.classes) {
        options.class_names = NULL;
    }
    if (!standardise(own, &options)) {
        return STATUS_USAGE;
    }
    if (!session_can_write(own->output, false)) {
        return STATUS_FAILURE;
    }
    carso_context *context = session_open(&own->common);
    if (!context) {
        return STATUS_FAILURE;
    }
    carso_status made = build(own, &options, context, &model);
    exit_status status = made == CARSO_OK ? STATUS_OK : session_failure(context, made, "cannot build the model");
    if (status == STATUS_OK) {
        made = carso_model_save(model, own->output);
        status = made == CARSO_OK ? report(own, model) : session_failure(context, made, "cannot write %s", own->output);
    }
    carso_model_destroy(model);
    carso_context_destroy(context);
    return status;
}

static const char *const new_examples[] = {
    "carso new --preset cifar10 -o model.safetensors", "WideResNet-28-10 and its purifier, as in the paper; 572 MB.",
    "carso new -a wide-resnet --depth 16 --width 4 --mean cifar10 --deviation cifar10 --no-purifier -o classifier.safetensors",
    "A smaller classifier, to import weights into.", NULL};

const command command_new = {
    .name = "new",
    .arguments = "",
    .summary = "make a model with random weights",
    .description = "Builds a classifier and, unless told otherwise, the purifier for it, both with random weights, and writes them as a model "
                   "file: what 'carso import' puts given weights into.",
    .examples = new_examples,
    .options = new_options,
    .settings_size = sizeof(new_settings),
    .defaults = new_defaults,
    .prepare = new_prepare,
    .run = new_run,
    .least_arguments = 0,
    .most_arguments = 0};
