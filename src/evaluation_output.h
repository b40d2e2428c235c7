/* SPDX-License-Identifier: BSD-2-Clause */
/* What evaluate and merge print and write of an evaluation. */
#ifndef EVALUATION_OUTPUT_H
#define EVALUATION_OUTPUT_H

#include "session.h"

typedef struct output_settings {
    const char *output; /* files are this and an ending */
    bool strict, json;
    const char *page;    /* HTML report to write, or NULL */
    const carso_model *model; /* for the page's reconstructions; NULL: none */
} output_settings;

/* PREFIX.safetensors, PREFIX.json; false after a complaint. Both are to be freed. */
bool evaluation_paths(const char *prefix, char **out_state, char **out_json);

/* Writes PREFIX.safetensors and PREFIX.json and prints the table, or with json the result. UNTRUSTED where it has flags
 * and strict is asked for. */
exit_status evaluation_publish(carso_context *context, carso_evaluation *evaluation, const output_settings *settings);

#endif
