/* SPDX-License-Identifier: BSD-2-Clause */
/* carso attack: FGSM, PGD, APGD and Square on the classifier or the defence. */
#include <math.h>
#include <stdlib.h>

#include "assault.h"
#include "commands.h"
#include "grid.h"
#include "scoring.h"
#include "text_table.h"

typedef struct attack_settings {
    common_settings common;
    sample_settings samples;
    int method, objective, loss, aggregation, norm;
    double epsilon, step_size, momentum;
    int64_t steps, restarts, draws, eot, repeats, queries, target_classes;
    bool no_random_start, early_stop, fixed_draws, transfer;
    const char *output;
    const char *folder;
} attack_settings;

static const char *const method_names[] = {"fgsm", "pgd", "apgd", "apgd-targeted", "square", "fab", "fab-targeted", NULL};
static const char *const norm_names[] = {"linf", "l2", NULL};

static const option_entry attack_options[] = {
    {"method", 'm', OPTION_CHOICE, "NAME", offsetof(attack_settings, method), 0, 0, method_names,
     "Attack: one signed step; projected gradient ascent; Auto-PGD, untargeted or towards the most likely classes; Square, which "
     "needs no gradient; or FAB, which looks for the nearest boundary, of all or of the most likely classes."},
    {"objective", 'O', OPTION_CHOICE, "WHAT", offsetof(attack_settings, objective), 0, 0, objective_names,
     "What is attacked. On the defence gradients go through both uses of the classifier and the purifier."},
    {"loss", 'l', OPTION_CHOICE, "NAME", offsetof(attack_settings, loss), 0, 0, loss_names,
     "What is raised. All but carso-cross-entropy, the paper's own, keep a gradient where the aggregation saturates."},
    {"norm", 0, OPTION_CHOICE, "NORM", offsetof(attack_settings, norm), 0, 0, norm_names, "Norm that epsilon bounds."},
    {"epsilon", 'e', OPTION_RATIO, "E", offsetof(attack_settings, epsilon), 0, 1000, NULL,
     "Bound of the perturbation, per component or, in l2, of its length, in units of [0, 1]."},
    {"steps", 0, OPTION_INTEGER, "N", offsetof(attack_settings, steps), 0, 1e6, NULL, "Steps of PGD, APGD and FAB."},
    {"step-size", 0, OPTION_RATIO, "A", offsetof(attack_settings, step_size), 0, 1000, NULL,
     "Step of PGD. Without it 2.5 epsilon / steps, at most epsilon."},
    {"no-random-start", 0, OPTION_FLAG, NULL, offsetof(attack_settings, no_random_start), 0, 0, NULL, "PGD and APGD start at the image itself."},
    {"momentum", 0, OPTION_REAL, "MU", offsetof(attack_settings, momentum), 0, 1000, NULL, "PGD: decay of the sum of normalised gradients."},
    {"queries", 0, OPTION_INTEGER, "N", offsetof(attack_settings, queries), 1, 1e6, NULL, "Square: evaluations of an image."},
    {"target-classes", 0, OPTION_INTEGER, "N", offsetof(attack_settings, target_classes), 1, 1e6, NULL,
     "apgd-targeted, fab-targeted: how many of the most likely other classes are tried."},
    {"early-stop", 0, OPTION_FLAG, NULL, offsetof(attack_settings, early_stop), 0, 0, NULL,
     "APGD, Square, FAB: leave an image alone once it is misclassified. On the defence one lucky set of draws is enough for that: a weaker attack."},
    {"restarts", 'R', OPTION_INTEGER, "N", offsetof(attack_settings, restarts), 1, 1e5, NULL,
     "Restarts; of each image the one with the largest loss is kept."},
    {"draws", 'N', OPTION_INTEGER, "N", offsetof(attack_settings, draws), 1, 65536, NULL, "Reconstructions of an image."},
    {"eot", 'k', OPTION_INTEGER, "K", offsetof(attack_settings, eot), 1, 1e5, NULL,
     "Sets of fresh draws whose gradients are averaged in each step on the defence."},
    {"fixed-draws", 0, OPTION_FLAG, NULL, offsetof(attack_settings, fixed_draws), 0, 0, NULL,
     "Hold the draws still: all steps on the defence use the same K sets. Scoring uses others."},
    {"transfer", 0, OPTION_FLAG, NULL, offsetof(attack_settings, transfer), 0, 0, NULL,
     "Attack the classifier alone, and report what that does to the defence."},
    {"repeats", 'M', OPTION_INTEGER, "M", offsetof(attack_settings, repeats), 1, 1e5, NULL,
     "Independent predictions of the defence that each image is scored on."},
    {"aggregation", 'a', OPTION_CHOICE, "HOW", offsetof(attack_settings, aggregation), 0, 0, aggregation_names,
     "Aggregation of the defence that is scored."},
    {"output", 'o', OPTION_TEXT, "FILE", offsetof(attack_settings, output), 0, 0, NULL,
     "Picture to write: images, perturbations, attacked images, reconstructions, and what the classifier says of each."},
    {"folder", 'f', OPTION_TEXT, "DIR", offsetof(attack_settings, folder), 0, 0, NULL,
     "Existing folder to write the attacked images into, as IMAGE.png, rounded to 8 bits."},
    SAMPLE_OPTIONS(attack_settings),
    COMMON_OPTIONS(attack_settings, common)};

static void attack_defaults(void *settings)
{
    attack_settings *own = settings;
    carso_attack_options options;
    carso_attack_options_init(&options, sizeof options);
    common_defaults(&own->common);
    own->samples = (sample_settings){.split = CARSO_SPLIT_TEST, .count = 100};
    own->method = options.method;
    own->objective = options.objective;
    own->loss = options.loss;
    own->epsilon = options.epsilon;
    own->step_size = NAN;
    own->steps = options.steps;
    own->restarts = options.restarts;
    own->draws = options.draws;
    own->eot = options.eot;
    own->queries = options.queries;
    own->target_classes = options.target_classes;
    own->norm = options.norm;
    own->repeats = 4;
    own->output = "attack.png";
}

static carso_attack_options library_options(const attack_settings *own)
{
    carso_attack_options options;
    carso_attack_options_init(&options, sizeof options);
    options.method = own->method;
    options.objective = own->objective;
    options.loss = own->loss;
    options.epsilon = own->epsilon;
    options.steps = (int32_t)own->steps;
    options.step_size = own->step_size;
    if (isnan(own->step_size)) {
        double usual = own->steps > 0 ? 2.5 * own->epsilon / (double)own->steps : 0;
        options.step_size = usual < own->epsilon ? usual : own->epsilon;
    }
    options.random_start = !own->no_random_start;
    options.restarts = (int32_t)own->restarts;
    options.draws = (int32_t)own->draws;
    options.norm = own->norm;
    options.momentum = own->momentum;
    options.queries = (int32_t)own->queries;
    options.target_classes = (int32_t)own->target_classes;
    options.early_stop = own->early_stop;
    options.fixed_draws = own->fixed_draws;
    options.transfer = own->transfer;
    if (own->transfer) {
        options.objective = CARSO_OBJECTIVE_DEFENCE; /* which it is transferred to */
    }
    options.eot = (int32_t)own->eot;
    options.seed = (uint64_t)own->common.seed;
    return options;
}

/* Clean and attacked, each scored on the classifier alone and, where there is one, on the defence. */
typedef struct attack_scores {
    score classifier[2], defence[2];
} attack_scores;

static exit_status measure(const attack_settings *own, const carso_model *model, const samples *held,
                           const float *attacked, bool has_purifier, attack_scores *out)
{
    static const char *const titles[] = {"scoring clean images", "scoring attacked images"};
    exit_status status = STATUS_OK;
    for (int i = 0; i < 2 && status == STATUS_OK; i++) {
        const float *pixels = i ? attacked : held->pixels;
        status = score_images(model, held, pixels, 1, 0, 0, 0, titles[i], own->common.quiet, &out->classifier[i]);
        if (status == STATUS_OK && has_purifier) {
            status = score_images(model, held, pixels, (int32_t)own->draws, own->aggregation, (int)own->repeats,
                                  (uint64_t)own->common.seed + 1000, titles[i], own->common.quiet, &out->defence[i]);
        }
    }
    return status;
}

static void print_text(const attack_settings *own, const samples *held, const assault *attack,
                       const attack_scores *scores, bool has_purifier)
{
    static const char *const headings[] = {"accuracy", "clean", "attacked", "+-", "majority", "worst of M"};
    printf("%s on the %s%s, loss %s, norm %s, epsilon %g: %llu images, %.1f seconds\n", method_names[own->method],
           own->transfer ? "classifier, transferred to the defence" : objective_names[own->objective],
           own->fixed_draws ? ", draws held still" : "", loss_names[own->loss], norm_names[own->norm], own->epsilon, (unsigned long long)held->count, attack->seconds);
    printf("loss %.4g before, %.4g after; it rose on %.1f %% of the images; "
           "of the gradient's components %.3f %% are exactly zero and %.3f %% tiny\n\n",
           attack->mean_first_loss, attack->mean_last_loss, 100 * attack->loss_rose, 100 * attack->zero_gradient,
           100 * attack->tiny_gradient);
    text_table *table = text_table_create(6, headings);
    text_table_cell(table, "classifier alone");
    text_table_cell(table, "%.4f", scores->classifier[0].mean);
    text_table_cell(table, "%.4f", scores->classifier[1].mean);
    text_table_cell(table, "%.4f", scores->classifier[1].half_width);
    text_table_cell(table, "-");
    text_table_cell(table, "-");
    if (has_purifier) {
        text_table_cell(table, "the defence (N = %lld, M = %lld)", (long long)own->draws, (long long)own->repeats);
        text_table_cell(table, "%.4f", scores->defence[0].mean);
        text_table_cell(table, "%.4f", scores->defence[1].mean);
        text_table_cell(table, "%.4f", scores->defence[1].half_width);
        text_table_cell(table, "%.4f", scores->defence[1].majority);
        text_table_cell(table, "%.4f", scores->defence[1].worst);
    }
    text_table_print(table, stdout);
    text_table_destroy(table);
    printf("\npicture: %s\n", own->output);
}

static json_t *report_json(const attack_settings *own, const samples *held, const assault *attack,
                           const attack_scores *scores, bool has_purifier)
{
    json_t *report = json_pack(
        "{s:s, s:s, s:s, s:s, s:f, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "method", method_names[own->method],
        "objective", objective_names[own->objective], "loss", loss_names[own->loss], "norm", norm_names[own->norm],
        "epsilon", own->epsilon, "queries", (json_int_t)own->queries, "steps", (json_int_t)own->steps, "eot",
        (json_int_t)own->eot, "seed", (json_int_t)own->common.seed, "count", (json_int_t)held->count, "attack",
        assault_json(attack), "classifier_clean", score_json(&scores->classifier[0]), "classifier_attacked",
        score_json(&scores->classifier[1]), "picture", session_json_text(own->output));
    json_object_set_new(report, "transfer", json_boolean(own->transfer));
    json_object_set_new(report, "fixed_draws", json_boolean(own->fixed_draws));
    if (has_purifier) {
        json_object_set_new(report, "defence_clean", score_json(&scores->defence[0]));
        json_object_set_new(report, "defence_attacked", score_json(&scores->defence[1]));
    }
    return report;
}

static exit_status write_files(const attack_settings *own, carso_context *context, const samples *held,
                               const float *pixels)
{
    carso_status status = CARSO_OK;
    for (uint64_t i = 0; i < held->count && status == CARSO_OK; i++) {
        char path[4096];
        carso_images one = samples_describe(held, pixels, i, 1);
        snprintf(path, sizeof path, "%s/%llu.png", own->folder, (unsigned long long)(held->first + i));
        status = carso_image_write_png(context, path, &one, 0);
    }
    return status == CARSO_OK ? STATUS_OK : session_failure(context, status, "cannot write into %s", own->folder);
}

static exit_status attack_images(const attack_settings *own, const carso_model *model, const samples *held)
{
    carso_attack_options options = library_options(own);
    carso_model_info info = {.struct_size = sizeof info};
    assault attack;
    attack_scores scores = {0};
    carso_model_get_info(model, &info);
    exit_status status = assault_run(model, held, &options, method_names[own->method], own->common.quiet, &attack);
    if (status != STATUS_OK) {
        return status;
    }
    status = measure(own, model, held, attack.pixels, info.has_purifier, &scores);
    if (status == STATUS_OK && own->folder) {
        status = write_files(own, carso_model_context(model), held, attack.pixels);
    }
    if (status == STATUS_OK) {
        status = grid_write(model, held, attack.pixels, own->epsilon, (int32_t)own->draws,
                            (uint64_t)own->common.seed + 1000, own->output);
    }
    if (status == STATUS_OK && own->common.json) {
        status = session_print_json(report_json(own, held, &attack, &scores, info.has_purifier));
    } else if (status == STATUS_OK) {
        print_text(own, held, &attack, &scores, info.has_purifier);
    }
    if (status == STATUS_OK && attack.non_finite > 0) {
        complain("logits, losses or gradients of %llu images were not finite: the figures are not to be trusted",
                 (unsigned long long)attack.non_finite);
        status = STATUS_UNTRUSTED;
    }
    for (int i = 0; i < 2; i++) {
        score_release(&scores.classifier[i]);
        score_release(&scores.defence[i]);
    }
    assault_release(&attack);
    return status;
}

static exit_status attack_run(void *settings, int argument_count, char **arguments)
{
    const attack_settings *own = settings;
    carso_model *model = NULL;
    samples held = {0};
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
    if (status == STATUS_OK && !held.labels) {
        complain("an attack needs the true labels: give a data set or a folder with one folder per class");
        status = STATUS_FAILURE;
    }
    if (status == STATUS_OK) {
        status = attack_images(own, model, &held);
    }
    samples_release(&held);
    carso_model_destroy(model);
    carso_context_destroy(context);
    return status;
}

static const char *const attack_examples[] = {
    "carso attack model.safetensors fashion-mnist/ --epsilon 0.1 --steps 50", "PGD-50 on the classifier alone.",
    "carso attack model.safetensors fashion-mnist/ -O defence -e 0.1 --steps 100 --eot 4 --loss margin",
    "PGD with EoT through the whole defence.",
    "carso attack model.safetensors fashion-mnist/ -e 0.1 --steps 100 --method apgd-targeted --loss dlr --early-stop",
    "APGD on the classifier alone, towards every other class.",
    "carso attack model.safetensors fashion-mnist/ -e 0.1 --steps 100 --method apgd --transfer",
    "APGD on the classifier alone, and what it does to the defence.", NULL};

const command command_attack = {
    .name = "attack",
    .arguments = "MODEL DATASET",
    .summary = "attack the classifier or the defence",
    .description = "Attacks labelled images within an l-infinity or l2 ball and scores the result on the classifier alone and on the defence, with fresh "
                   "draws that the attack has not seen. Says whether the loss rose and whether gradients vanished or were not finite. Writes a "
                   "picture.",
    .examples = attack_examples,
    .options = attack_options,
    .settings_size = sizeof(attack_settings),
    .defaults = attack_defaults,
    .run = attack_run,
    .least_arguments = 2,
    .most_arguments = 2};
