/* SPDX-License-Identifier: BSD-2-Clause */
/* carso evaluate: the accuracy that is left under a protocol of attacks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "evaluation_output.h"
#include "progress.h"
#include "samples.h"
#include "scoring.h"

#define MOST_EPSILONS 64
/* Of a protocol's description. */
#define MOST_DESCRIPTION (1 << 20)

typedef struct evaluate_settings {
    common_settings common;
    sample_settings samples;
    const char *protocol, *epsilons, *shard, *output, *report;
    int norm, aggregation;
    int64_t draws, repeats, batch;
    double save_minutes;
    bool resume, strict;
} evaluate_settings;

static const char *const norm_names[] = {"linf", "l2", NULL};

static const option_entry evaluate_options[] = {
    {"protocol", 'p', OPTION_TEXT, "NAME|FILE", offsetof(evaluate_settings, protocol), 0, 0, NULL,
     "quick, paper or adaptive, or a file with a description in JSON."},
    {"epsilon", 'e', OPTION_TEXT, "E,...", offsetof(evaluate_settings, epsilons), 0, 0, NULL,
     "Bounds of the perturbation in units of [0, 1], numbers or fractions like 8/255, separated by commas. Without it the protocol's."},
    {"norm", 0, OPTION_CHOICE, "NORM", offsetof(evaluate_settings, norm), 0, 0, norm_names, "Norm that epsilon bounds."},
    {"draws", 'N', OPTION_INTEGER, "N", offsetof(evaluate_settings, draws), 0, 65536, NULL,
     "Reconstructions of an image in a prediction of the defence; 0 as the protocol says."},
    {"repeats", 'M', OPTION_INTEGER, "M", offsetof(evaluate_settings, repeats), 0, 1000, NULL,
     "Independent predictions of the defence that each image is scored on; 0 as the protocol says."},
    {"aggregation", 'a', OPTION_CHOICE, "HOW", offsetof(evaluate_settings, aggregation), 0, 0, aggregation_names,
     "Aggregation of the defence that is scored."},
    {"batch", 'b', OPTION_INTEGER, "N", offsetof(evaluate_settings, batch), 1, 65536, NULL,
     "Images that are attacked together. To repeat an evaluation bit for bit, keep it."},
    {"shard", 0, OPTION_TEXT, "I/N", offsetof(evaluate_settings, shard), 0, 0, NULL,
     "Do every Nth batch alone, from the Ith on (1/4 to 4/4); 'carso merge' joins the results."},
    {"output", 'o', OPTION_TEXT, "PREFIX", offsetof(evaluate_settings, output), 0, 0, NULL,
     "Files to write: PREFIX.json, the result, and PREFIX.safetensors, adversarial images and what --resume needs."},
    {"report", 0, OPTION_TEXT, "FILE", offsetof(evaluate_settings, report), 0, 0, NULL,
     "HTML page to write, all in one file: table, curves, flags, images, protocol, and the command that repeats it."},
    {"resume", 0, OPTION_FLAG, NULL, offsetof(evaluate_settings, resume), 0, 0, NULL, "Go on from PREFIX.safetensors."},
    {"save-minutes", 0, OPTION_REAL, "T", offsetof(evaluate_settings, save_minutes), 0, 1e6, NULL,
     "Minutes between savings of what is done; 0 saves after each attack on a batch."},
    {"strict", 0, OPTION_FLAG, NULL, offsetof(evaluate_settings, strict), 0, 0, NULL, "Exit with status 3 where there are flags."},
    SAMPLE_OPTIONS(evaluate_settings),
    COMMON_OPTIONS(evaluate_settings, common)};

static void evaluate_defaults(void *settings)
{
    evaluate_settings *own = settings;
    carso_evaluation_options options;
    carso_evaluation_options_init(&options, sizeof options);
    common_defaults(&own->common);
    own->samples = (sample_settings){.split = CARSO_SPLIT_TEST, .count = 1000};
    own->protocol = options.protocol;
    own->batch = options.batch;
    own->output = "evaluation";
    own->save_minutes = 1;
}

/* Commas between numbers or fractions. */
static exit_status read_epsilons(const char *list, double *out, uint64_t *out_count)
{
    const char *rest = list;
    *out_count = 0;
    while (*out_count < MOST_EPSILONS) {
        char *end;
        double value = strtod(rest, &end), below = 1;
        bool good = end != rest;
        if (good && *end == '/') {
            rest = end + 1;
            below = strtod(rest, &end);
            good = end != rest;
        }
        value /= below;
        if (!good || !(value >= 0 && value <= 1000) || (*end && *end != ',')) {
            complain("--epsilon: '%s' is not numbers from 0 to 1000, or fractions like 8/255, separated by commas", list);
            return STATUS_USAGE;
        }
        out[(*out_count)++] = value;
        if (!*end) {
            return STATUS_OK;
        }
        rest = end + 1;
    }
    complain("--epsilon: more than %d values", MOST_EPSILONS);
    return STATUS_USAGE;
}

static exit_status read_shard(const char *text, carso_evaluation_options *options)
{
    int shard, shards, length = 0;
    if (!text) {
        return STATUS_OK;
    }
    if (sscanf(text, "%9d/%9d%n", &shard, &shards, &length) != 2 || text[length] || shard < 1 || shard > shards) {
        complain("--shard: '%s' is not of the form I/N, with I from 1 to N", text);
        return STATUS_USAGE;
    }
    options->shard = shard - 1;
    options->shards = shards;
    return STATUS_OK;
}

/* A name as it is; what looks like a file's name: its content, to be freed. */
static exit_status read_protocol(const char *name, char **out)
{
    *out = NULL;
    if (!strchr(name, '.') && !strchr(name, '/')) {
        return STATUS_OK;
    }
    FILE *file = fopen(name, "r");
    char *text = file ? malloc(MOST_DESCRIPTION) : NULL;
    if (!text) {
        complain("--protocol: cannot read %s: %s", name, strerror(errno));
        if (file) {
            fclose(file);
        }
        return STATUS_FAILURE;
    }
    size_t size = fread(text, 1, MOST_DESCRIPTION - 1, file);
    bool whole = !ferror(file) && feof(file);
    fclose(file);
    text[size] = '\0';
    if (!whole || strlen(text) != size || text[strspn(text, " \t\r\n")] != '{') {
        complain("--protocol: %s is no description in JSON, which begins with '{'", name);
        free(text);
        return STATUS_FAILURE;
    }
    *out = text;
    return STATUS_OK;
}

typedef struct watched_run {
    progress_bar bar;
    bool begun;
} watched_run;

/* What an evaluation that is resumed had done before says nothing of this run's rate. */
static int watch(const carso_progress *progress, void *user)
{
    watched_run *run = user;
    if (!run->begun) {
        run->bar.begun = progress->done;
        run->begun = true;
    }
    return progress_callback(progress, &run->bar);
}

static exit_status run_steps(const evaluate_settings *own, carso_context *context, carso_evaluation *evaluation,
                             const char *state)
{
    watched_run run = {.begun = false};
    int32_t finished = 0;
    double saved_at = session_seconds();
    carso_status status = CARSO_OK, saved = CARSO_OK;
    progress_start(&run.bar, own->protocol, own->common.quiet);
    while (status == CARSO_OK && saved == CARSO_OK && !finished) {
        status = carso_evaluation_step(evaluation, watch, &run, &finished);
        if (status == CARSO_OK && !finished && session_seconds() - saved_at >= 60 * own->save_minutes) {
            saved = carso_evaluation_save(evaluation, state);
            saved_at = session_seconds();
        }
    }
    progress_finish(&run.bar);
    if (saved != CARSO_OK) {
        return session_failure(context, saved, "cannot write %s", state);
    }
    if (status == CARSO_OK) {
        return STATUS_OK;
    }
    /* What is done is kept, whatever stopped the rest. */
    exit_status result =
        status == CARSO_CANCELLED ? STATUS_INTERRUPTED : session_failure(context, status, "the evaluation stopped");
    saved = carso_evaluation_save(evaluation, state);
    if (saved != CARSO_OK) {
        return session_failure(context, saved, "cannot write %s", state);
    }
    complain("%s; '--resume' goes on from %s", status == CARSO_CANCELLED ? "interrupted" : "what was done is kept",
             state);
    return result;
}

/* A word of a shell's command line. */
static void write_word(FILE *stream, const char *word)
{
    bool plain = *word && word[strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./,:=+")] == '\0';
    fputs(plain ? " " : " '", stream);
    for (; *word; word++) {
        if (*word == '\'') {
            fputs("'\\''", stream);
        } else {
            fputc(*word, stream);
        }
    }
    fputs(plain ? "" : "'", stream);
}

/* What repeats the run to the same bits, with what decides them stated though it was not given. To be freed; NULL where
 * memory ran out. */
static char *command_text(const evaluate_settings *own, const carso_context *context, char **arguments)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    if (!stream) {
        return NULL;
    }
    fputs("carso evaluate", stream);
    write_word(stream, arguments[0]);
    write_word(stream, arguments[1]);
    fputs(" --protocol", stream);
    write_word(stream, own->protocol);
    if (own->epsilons) {
        fputs(" --epsilon", stream);
        write_word(stream, own->epsilons);
    }
    fprintf(stream,
            " --norm %s --draws %lld --repeats %lld --aggregation %s --batch %lld --split %s --first %lld --count %lld"
            " --seed %lld",
            norm_names[own->norm], (long long)own->draws, (long long)own->repeats, aggregation_names[own->aggregation],
            (long long)own->batch, split_names[own->samples.split], (long long)own->samples.first,
            (long long)own->samples.count, (long long)own->common.seed);
    if (own->shard) {
        fprintf(stream, " --shard %s", own->shard);
    }
    fprintf(stream, " --backend %s --threads %d --memory-limit %lld%s", carso_context_backend(context), (int)carso_context_threads(context),
            (long long)own->common.memory_limit, own->common.precise ? " --precise" : "");
    return fclose(stream) == 0 ? text : NULL;
}

static exit_status tell_command(const evaluate_settings *own, carso_evaluation *evaluation,
                                const carso_context *context, char **arguments)
{
    char *text = command_text(own, context, arguments);
    json_t *utf8 = text ? session_json_text(text) : NULL;
    carso_status status =
        utf8 ? carso_evaluation_set_command(evaluation, json_string_value(utf8)) : CARSO_ERROR_OUT_OF_MEMORY;
    json_decref(utf8);
    free(text);
    return status == CARSO_OK ? STATUS_OK : session_failure(context, status, "cannot evaluate");
}

static exit_status evaluate_samples(const evaluate_settings *own, const carso_model *model, const samples *held,
                                    carso_evaluation_options *options, const char *state, char **arguments)
{
    carso_context *context = carso_model_context(model);
    carso_images images = samples_describe(held, held->pixels, 0, held->count);
    carso_evaluation *evaluation;
    options->first_image = held->first;
    carso_status created = carso_evaluation_create(model, &images, held->labels, options, &evaluation);
    if (created != CARSO_OK) {
        return session_failure(context, created, "cannot evaluate");
    }
    exit_status told = tell_command(own, evaluation, context, arguments);
    if (told != STATUS_OK) {
        carso_evaluation_destroy(evaluation);
        return told;
    }
    carso_status resumed = own->resume ? carso_evaluation_resume(evaluation, state) : CARSO_OK;
    exit_status status = resumed == CARSO_OK ? run_steps(own, context, evaluation, state)
                                             : session_failure(context, resumed, "cannot resume from %s", state);
    const output_settings output = {.output = own->output, .strict = own->strict, .json = own->common.json, .page = own->report, .model = model};
    if (status == STATUS_OK) {
        status = evaluation_publish(context, evaluation, &output);
    }
    carso_evaluation_destroy(evaluation);
    return status;
}

static exit_status check_state(const evaluate_settings *own, const char *state)
{
    if (!session_can_write(state, false) || (own->report && !session_can_write(own->report, false))) {
        return STATUS_FAILURE;
    }
    if (!own->resume && access(state, F_OK) == 0) {
        complain("%s is there already: '--resume' goes on with it, '--output' names other files, or remove it", state);
        return STATUS_FAILURE;
    }
    return STATUS_OK;
}

static exit_status evaluate_run(void *settings, int argument_count, char **arguments)
{
    const evaluate_settings *own = settings;
    carso_evaluation_options options;
    double epsilons[MOST_EPSILONS];
    char *description = NULL, *state = NULL, *json = NULL;
    carso_evaluation_options_init(&options, sizeof options);
    options.norm = own->norm;
    options.draws = (int32_t)own->draws;
    options.repeats = (int32_t)own->repeats;
    options.aggregation = own->aggregation;
    options.batch = (int32_t)own->batch;
    options.seed = (uint64_t)own->common.seed;
    exit_status status = read_shard(own->shard, &options);
    if (status == STATUS_OK && own->epsilons) {
        options.epsilons = epsilons;
        status = read_epsilons(own->epsilons, epsilons, &options.epsilon_count);
    }
    if (status == STATUS_OK) {
        status = read_protocol(own->protocol, &description);
    }
    options.protocol = description ? description : own->protocol;
    if (status == STATUS_OK) {
        status = evaluation_paths(own->output, &state, &json) ? check_state(own, state) : STATUS_FAILURE;
    }
    carso_context *context = status == STATUS_OK ? session_open(&own->common) : NULL;
    carso_model *model = NULL;
    samples held = {0};
    if (status == STATUS_OK && !context) {
        status = STATUS_FAILURE;
    }
    if (status == STATUS_OK) {
        carso_status loaded = carso_model_load(context, arguments[0], &model);
        status = loaded == CARSO_OK
                     ? samples_load(context, model, &own->samples, argument_count - 1, arguments + 1, &held)
                     : session_failure(context, loaded, "cannot load %s", arguments[0]);
    }
    if (status == STATUS_OK && !held.labels) {
        complain("an evaluation needs the true labels: give a data set or a folder with one folder per class");
        status = STATUS_FAILURE;
    }
    if (status == STATUS_OK) {
        status = evaluate_samples(own, model, &held, &options, state, arguments);
    }
    samples_release(&held);
    carso_model_destroy(model);
    carso_context_destroy(context);
    free(description);
    free(state);
    free(json);
    return status;
}

static const char *const evaluate_examples[] = {
    "carso evaluate model.safetensors fashion-mnist/ --epsilon 0.1 -n 200", "A first look, in minutes.",
    "carso evaluate model.safetensors cifar-10/ --protocol adaptive --epsilon 8/255 -o adaptive", "All attacks, the worst of which counts.",
    "carso evaluate model.safetensors cifar-10/ --protocol adaptive -o adaptive --resume", "Goes on after an interruption.",
    "carso evaluate model.safetensors cifar-10/ --protocol paper --shard 2/4 -o part2", "One of four parts, each on a machine of its own.", NULL};

const command command_evaluate = {
    .name = "evaluate",
    .arguments = "MODEL DATASET",
    .summary = "measure what robustness is left under many attacks",
    .description = "Attacks labelled images as a protocol says, with each image's worst result counting, and scores them with fresh draws that no "
                   "attack has seen. Says what speaks against believing the figures. An interrupted evaluation can be resumed, to the same "
                   "bits.",
    .examples = evaluate_examples,
    .options = evaluate_options,
    .settings_size = sizeof(evaluate_settings),
    .defaults = evaluate_defaults,
    .run = evaluate_run,
    .least_arguments = 2,
    .most_arguments = 2};
