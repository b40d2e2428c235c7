/* SPDX-License-Identifier: BSD-2-Clause */
/* carso verify: what a model computes against stored tensors. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "session.h"
#include "text_table.h"

typedef struct verify_settings {
    common_settings common;
    double tolerance;
} verify_settings;

static const option_entry verify_options[] = {
    {"tolerance", 'T', OPTION_REAL, "T", offsetof(verify_settings, tolerance), 0, 1e6, NULL,
     "Largest difference that still counts as agreement, relative to the largest magnitude in the stored tensor."},
    COMMON_OPTIONS(verify_settings, common)};

static void verify_defaults(void *settings)
{
    verify_settings *own = settings;
    common_defaults(&own->common);
    own->tolerance = 1e-4;
}

typedef struct findings {
    text_table *table; /* NULL: JSON is wanted */
    json_t *tensors;
    char *first_departure; /* name, NULL: none */
    uint64_t compared;
} findings;

/* JSON has no NaN. */
static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static void note_deviation(const carso_deviation *deviation, void *user)
{
    findings *found = user;
    double relative =
        deviation->scale > 0 ? deviation->largest_difference / deviation->scale : deviation->largest_difference;
    found->compared++;
    if (deviation->departs && !found->first_departure) {
        found->first_departure = strdup(deviation->name);
    }
    if (found->tensors) {
        json_array_append_new(found->tensors,
                              json_pack("{s:o, s:I, s:o, s:o, s:o, s:I, s:o, s:o, s:b}", "name",
                                        session_json_text(deviation->name), "count", (json_int_t)deviation->count,
                                        "largest_difference", number(deviation->largest_difference), "scale",
                                        number(deviation->scale), "relative", number(relative), "position",
                                        (json_int_t)deviation->position, "stored", number(deviation->stored),
                                        "computed", number(deviation->computed), "departs", (int)deviation->departs));
    }
    text_table_cell(found->table, "%s", deviation->name);
    text_table_cell(found->table, "%llu", (unsigned long long)deviation->count);
    text_table_cell(found->table, "%.2e", relative);
    text_table_cell(found->table, "%llu", (unsigned long long)deviation->position);
    text_table_cell(found->table, "%.6g", deviation->stored);
    text_table_cell(found->table, "%.6g", deviation->computed);
    text_table_cell(found->table, "%s", deviation->departs ? "departs" : "");
}

static exit_status report(const verify_settings *own, findings *found, int32_t departures)
{
    exit_status status = STATUS_OK;
    if (own->common.json) {
        json_t *first = found->first_departure ? session_json_text(found->first_departure) : json_null();
        status = session_print_json(json_pack("{s:f, s:I, s:i, s:o, s:O}", "tolerance", own->tolerance, "compared",
                                              (json_int_t)found->compared, "departures", (int)departures,
                                              "first_departure", first, "tensors", found->tensors));
    } else {
        if (!own->common.quiet) {
            text_table_print(found->table, stdout);
        }
        if (departures == 0) {
            printf("all %llu tensors agree within %g\n", (unsigned long long)found->compared, own->tolerance);
        } else {
            printf("%d of %llu tensors depart by more than %g; the first is %s\n", (int)departures,
                   (unsigned long long)found->compared, own->tolerance,
                   found->first_departure ? found->first_departure : "not known: out of memory");
        }
    }
    return status == STATUS_OK && departures > 0 ? STATUS_FAILURE : status;
}

static exit_status verify_run(void *settings, int argument_count, char **arguments)
{
    static const char *const headings[] = {"tensor", "elements", "difference", "at", "stored", "computed", ""};
    const verify_settings *own = settings;
    carso_model *model = NULL;
    int32_t departures = 0;
    (void)argument_count;
    carso_context *context = session_open(&own->common);
    if (!context) {
        return STATUS_FAILURE;
    }
    findings found = {.table = own->common.json ? NULL : text_table_create(7, headings),
                      .tensors = own->common.json ? json_array() : NULL};
    exit_status status = STATUS_OK;
    carso_status done = carso_model_load(context, arguments[0], &model);
    if (done != CARSO_OK) {
        status = session_failure(context, done, "cannot load %s", arguments[0]);
    }
    if (status == STATUS_OK) {
        done = carso_model_verify(model, arguments[1], own->tolerance, note_deviation, &found, &departures);
        status = done == CARSO_OK ? report(own, &found, departures)
                                  : session_failure(context, done, "cannot compare with %s", arguments[1]);
    }
    free(found.first_departure);
    json_decref(found.tensors);
    text_table_destroy(found.table);
    carso_model_destroy(model);
    carso_context_destroy(context);
    return status;
}

static const char *const verify_examples[] = {"carso verify model.safetensors golden.safetensors",
                                              "Layer by layer, whether this model computes what another program stored.", NULL};

const command command_verify = {
    .name = "verify",
    .arguments = "MODEL GOLDEN",
    .summary = "compare a model with stored logits and activations",
    .description =
        "Runs the model on the tensor input of the safetensors file GOLDEN and compares what it computes with the other tensors there, in "
        "the order of computation: tap.LAYER for a layer's output, classifier_logits, condition, and with latent given reconstructions "
        "and sample_logits. The first that departs says where the model and the other program part ways; the exit status is then 1.",
    .examples = verify_examples,
    .options = verify_options,
    .settings_size = sizeof(verify_settings),
    .defaults = verify_defaults,
    .run = verify_run,
    .least_arguments = 2,
    .most_arguments = 2};
