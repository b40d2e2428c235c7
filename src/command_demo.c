/* SPDX-License-Identifier: BSD-2-Clause */
/* carso demo: the bundled model, clean and attacked, the classifier alone and the defence, on the same images. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "assault.h"
#include "bundled.h"
#include "commands.h"
#include "grid.h"
#include "scoring.h"
#include "text_table.h"

typedef struct demo_settings {
    common_settings common;
    const char *model;
    const char *images;
    const char *output;
    sample_settings samples;
    double epsilon;
    int64_t steps, defence_steps, draws, eot, repeats;
} demo_settings;

static const option_entry demo_options[] = {
    {"model", 'm', OPTION_TEXT, "FILE", offsetof(demo_settings, model), 0, 0, NULL,
     "Model to show. Without it the bundled Fashion-MNIST model is taken."},
    {"images", 'i', OPTION_TEXT, "PATH", offsetof(demo_settings, images), 0, 0, NULL,
     "Labelled images to show it on. Without it the bundled test images are taken."},
    SAMPLE_OPTIONS(demo_settings),
    {"epsilon", 'e', OPTION_RATIO, "E", offsetof(demo_settings, epsilon), 0, 1, NULL,
     "Bound of the perturbation per pixel, l-infinity, in units of [0, 1]."},
    {"steps", 0, OPTION_INTEGER, "N", offsetof(demo_settings, steps), 1, 1e6, NULL, "Steps of PGD on the classifier alone."},
    {"defence-steps", 0, OPTION_INTEGER, "N", offsetof(demo_settings, defence_steps), 1, 1e6, NULL,
     "Steps of PGD with EoT on the defence."},
    {"eot", 0, OPTION_INTEGER, "K", offsetof(demo_settings, eot), 1, 1e4, NULL,
     "Sets of fresh draws whose gradients are averaged in each of these steps."},
    {"draws", 'N', OPTION_INTEGER, "N", offsetof(demo_settings, draws), 1, 65536, NULL, "Reconstructions of a robust prediction."},
    {"repeats", 'M', OPTION_INTEGER, "M", offsetof(demo_settings, repeats), 1, 1e4, NULL,
     "Independent predictions of the defence that each image is scored on."},
    {"output", 'o', OPTION_TEXT, "FILE", offsetof(demo_settings, output), 0, 0, NULL, "Picture to write."},
    COMMON_OPTIONS(demo_settings, common)};

static void demo_defaults(void *settings)
{
    demo_settings *demo = settings;
    common_defaults(&demo->common);
    demo->output = "carso-demo.png";
    demo->samples = (sample_settings){.split = CARSO_SPLIT_TEST, .count = 256};
    demo->epsilon = 0.1;
    demo->steps = 40;
    demo->defence_steps = 15;
    demo->draws = 8;
    demo->eot = 1;
    demo->repeats = 4;
}

/* What was measured on one set of pixels. */
typedef struct demo_row {
    const char *name;
    const float *pixels;
    score classifier, defence;
} demo_row;

enum { ROW_CLEAN, ROW_CLASSIFIER_ATTACK, ROW_DEFENCE_ATTACK, ROW_MARGIN_ATTACK, ROW_COUNT };

static exit_status measure(const demo_settings *demo, const carso_model *model, const samples *held, demo_row *row)
{
    exit_status status =
        score_images(model, held, row->pixels, 1, 0, 0, 0, row->name, demo->common.quiet, &row->classifier);
    if (status == STATUS_OK) {
        /* Other latents than the attack's: its stream is its own. */
        status = score_images(model, held, row->pixels, (int32_t)demo->draws, CARSO_AGGREGATE_CARSO, (int)demo->repeats,
                              (uint64_t)demo->common.seed + 1000, row->name, demo->common.quiet, &row->defence);
    }
    return status;
}

static exit_status attack(const demo_settings *demo, const carso_model *model, const samples *held, int which,
                          const char *name, assault *out)
{
    carso_attack_options options;
    carso_attack_options_init(&options, sizeof options);
    bool defence = which != ROW_CLASSIFIER_ATTACK;
    options.objective = defence ? CARSO_OBJECTIVE_DEFENCE : CARSO_OBJECTIVE_CLASSIFIER;
    options.loss = which == ROW_MARGIN_ATTACK ? CARSO_LOSS_MARGIN : CARSO_LOSS_CROSS_ENTROPY;
    options.epsilon = demo->epsilon;
    options.steps = (int32_t)(defence ? demo->defence_steps : demo->steps);
    options.step_size = 2.5 * demo->epsilon / options.steps;
    options.draws = (int32_t)demo->draws;
    options.eot = (int32_t)demo->eot;
    options.seed = (uint64_t)demo->common.seed;
    return assault_run(model, held, &options, name, demo->common.quiet, out);
}

/* Share of images that survive all of the rows, clean included: by the mean over repeats for the defence. */
static double worst_case(const demo_row *rows, uint64_t count, bool defence)
{
    double sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        double least = 1;
        for (int row = 0; row < ROW_COUNT; row++) {
            const double *share = defence ? rows[row].defence.correct_share : rows[row].classifier.correct_share;
            least = share[i] < least ? share[i] : least;
        }
        sum += least;
    }
    return sum / (double)count;
}

static void print_report(const demo_settings *demo, const carso_model *model, const samples *held, const demo_row *rows,
                         const assault *attacks, double seconds)
{
    static const char *const headings[] = {"", "classifier alone", "the defence", "+-", "worst of M", "draws that agree"};
    carso_context *context = carso_model_context(model);
    printf("%llu images, epsilon %g, %lld draws, scored on M = %lld fresh sets of draws (backend %s, %d threads)\n\n",
           (unsigned long long)held->count, demo->epsilon, (long long)demo->draws, (long long)demo->repeats,
           carso_context_backend(context), (int)carso_context_threads(context));
    text_table *table = text_table_create(6, headings);
    for (int row = 0; row < ROW_COUNT; row++) {
        text_table_cell(table, "%s", rows[row].name);
        text_table_cell(table, "%.3f", rows[row].classifier.mean);
        text_table_cell(table, "%.3f", rows[row].defence.mean);
        text_table_cell(table, "%.3f", rows[row].defence.half_width);
        text_table_cell(table, "%.3f", rows[row].defence.worst);
        text_table_cell(table, "%.2f", rows[row].defence.agreement);
    }
    text_table_cell(table, "worst of these, per image");
    text_table_cell(table, "%.3f", worst_case(rows, held->count, false));
    text_table_cell(table, "%.3f", worst_case(rows, held->count, true));
    text_table_print(table, stdout);
    text_table_destroy(table);

    static const char *const attack_headings[] = {"attack", "loss before", "after", "images whose loss rose", "zero gradients",
                                                  "not finite", "seconds"};
    putchar('\n');
    table = text_table_create(7, attack_headings);
    for (int row = 1; row < ROW_COUNT; row++) {
        const assault *one = &attacks[row];
        text_table_cell(table, "%s", rows[row].name);
        text_table_cell(table, "%.3f", one->mean_first_loss);
        text_table_cell(table, "%.3f", one->mean_last_loss);
        text_table_cell(table, "%.3f", one->loss_rose);
        text_table_cell(table, "%.4f", one->zero_gradient);
        text_table_cell(table, "%llu", (unsigned long long)one->non_finite);
        text_table_cell(table, "%.1f", one->seconds);
    }
    text_table_print(table, stdout);
    text_table_destroy(table);
    printf("\nAccuracies. Each attack is scored on both; those on the defence use mean per-draw logits, which do not saturate.\n"
           "%.1f seconds. Picture: %s\n",
           seconds, demo->output);
}

static json_t *report_json(const demo_settings *demo, const samples *held, const demo_row *rows, const assault *attacks,
                           double seconds)
{
    json_t *list = json_array();
    for (int row = 0; row < ROW_COUNT; row++) {
        json_t *entry = json_pack("{s:s, s:o, s:o}", "images", rows[row].name, "classifier", score_json(&rows[row].classifier),
                                  "defence", score_json(&rows[row].defence));
        if (row > 0) {
            json_object_set_new(entry, "attack", assault_json(&attacks[row]));
        }
        json_array_append_new(list, entry);
    }
    return json_pack("{s:I, s:f, s:I, s:I, s:o, s:f, s:f, s:o, s:f}", "count", (json_int_t)held->count, "epsilon",
                     demo->epsilon, "draws", (json_int_t)demo->draws, "seed", (json_int_t)demo->common.seed, "rows",
                     list, "worst_classifier", worst_case(rows, held->count, false), "worst_defence",
                     worst_case(rows, held->count, true), "picture", session_json_text(demo->output), "seconds",
                     seconds);
}

static exit_status show(const demo_settings *demo, const carso_model *model, const samples *held)
{
    demo_row rows[ROW_COUNT] = {{.name = "clean", .pixels = held->pixels}};
    assault attacks[ROW_COUNT] = {{0}};
    char names[ROW_COUNT][96];
    double started = session_seconds();
    snprintf(names[1], sizeof names[1], "PGD-%lld on the classifier", (long long)demo->steps);
    snprintf(names[2], sizeof names[2], "PGD-%lld+EoT on the defence, cross-entropy", (long long)demo->defence_steps);
    snprintf(names[3], sizeof names[3], "PGD-%lld+EoT on the defence, margin", (long long)demo->defence_steps);
    exit_status status = measure(demo, model, held, &rows[0]);
    for (int row = 1; row < ROW_COUNT && status == STATUS_OK; row++) {
        rows[row].name = names[row];
        status = attack(demo, model, held, row, names[row], &attacks[row]);
        rows[row].pixels = attacks[row].pixels;
        if (status == STATUS_OK) {
            status = measure(demo, model, held, &rows[row]);
        }
    }
    if (status == STATUS_OK) {
        status = grid_write(model, held, attacks[ROW_DEFENCE_ATTACK].pixels, demo->epsilon, (int32_t)demo->draws,
                            (uint64_t)demo->common.seed + 1000, demo->output);
    }
    if (status == STATUS_OK) {
        double seconds = session_seconds() - started;
        if (demo->common.json) {
            status = session_print_json(report_json(demo, held, rows, attacks, seconds));
        } else {
            print_report(demo, model, held, rows, attacks, seconds);
        }
        for (int row = 1; row < ROW_COUNT && status == STATUS_OK; row++) {
            if (attacks[row].non_finite > 0) {
                complain("%s met numbers that are not finite on %llu images: the figures are not to be trusted", rows[row].name,
                         (unsigned long long)attacks[row].non_finite);
                status = STATUS_UNTRUSTED;
            }
        }
    }
    for (int row = 0; row < ROW_COUNT; row++) {
        score_release(&rows[row].classifier);
        score_release(&rows[row].defence);
        assault_release(&attacks[row]);
    }
    return status;
}

static exit_status demo_run(void *settings, int argument_count, char **arguments)
{
    demo_settings *demo = settings;
    char model_path[4096], images_path[4096];
    char *input = images_path;
    carso_model *model = NULL;
    samples held = {0};
    (void)argument_count;
    (void)arguments;
    if (!session_can_write(demo->output, false)) {
        return STATUS_FAILURE;
    }
    if (!demo->model && !bundled_path(BUNDLED_MODEL, model_path, sizeof model_path)) {
        return STATUS_FAILURE;
    }
    if (!demo->images && !bundled_path(BUNDLED_IMAGES, images_path, sizeof images_path)) {
        return STATUS_FAILURE;
    }
    const char *path = demo->model ? demo->model : model_path;
    if (demo->images) {
        snprintf(images_path, sizeof images_path, "%s", demo->images);
    }
    carso_context *context = session_open(&demo->common);
    if (!context) {
        return STATUS_FAILURE;
    }
    carso_status loaded = carso_model_load(context, path, &model);
    exit_status status = loaded == CARSO_OK ? samples_load(context, model, &demo->samples, 1, &input, &held)
                                            : session_failure(context, loaded, "cannot load %s", path);
    if (status == STATUS_OK && !held.labels) {
        complain("%s has no labels to measure accuracy by; give a data set or a folder with one folder per class", images_path);
        status = STATUS_FAILURE;
    }
    if (status == STATUS_OK) {
        status = show(demo, model, &held);
    }
    samples_release(&held);
    carso_model_destroy(model);
    carso_context_destroy(context);
    return status;
}

static const char *const demo_examples[] = {
    "carso demo", "About half a minute; writes carso-demo.png.",
    "carso demo --count 64 --defence-steps 100 --eot 4", "A stronger attack on fewer images.", NULL};

const command command_demo = {
    .name = "demo",
    .arguments = "",
    .summary = "measure the bundled model, clean and under attack",
    .description =
        "Shows the defence at work: the accuracy of the classifier alone and of the whole defence on the same test images, clean, "
        "under PGD on the classifier, and under PGD with expectation over transformation (EoT) through the whole defence. What "
        "is printed is what was measured. Also writes a picture of some images, their perturbations and reconstructions.",
    .examples = demo_examples,
    .options = demo_options,
    .settings_size = sizeof(demo_settings),
    .defaults = demo_defaults,
    .run = demo_run,
    .least_arguments = 0,
    .most_arguments = 0};
