/* SPDX-License-Identifier: BSD-2-Clause */
#include "evaluation_output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "text_table.h"

bool evaluation_paths(const char *prefix, char **out_state, char **out_json)
{
    *out_state = *out_json = NULL;
    if (asprintf(out_state, "%s.safetensors", prefix) >= 0 && asprintf(out_json, "%s.json", prefix) >= 0) {
        return true;
    }
    free(*out_state);
    *out_state = *out_json = NULL;
    complain("out of memory");
    return false;
}

static double real(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }

static const char *text(const json_t *object, const char *key)
{
    const char *found = json_string_value(json_object_get(object, key));
    return found ? found : "";
}

static void score_cells(text_table *table, const json_t *score)
{
    text_table_cell(table, "%.4f", real(score, "accuracy"));
    text_table_cell(table, "%.4f to %.4f", real(score, "low"), real(score, "high"));
    text_table_cell(table, "%.4f", real(score, "majority"));
    text_table_cell(table, "%.4f", real(score, "worst"));
}

static void print_table(const json_t *result)
{
    static const char *const headings[] = {"", "epsilon", "accuracy", "95 % interval", "majority", "worst of M", "as 8 bits"};
    const json_t *clean = json_object_get(result, "clean"), *cells = json_object_get(result, "cells");
    const char *objective;
    const json_t *score;
    text_table *table = text_table_create(7, headings);
    json_object_foreach((json_t *)clean, objective, score)
    {
        text_table_cell(table, "%s, clean", objective);
        text_table_cell(table, "0");
        score_cells(table, score);
        text_table_cell(table, "-");
    }
    for (size_t i = 0; i < json_array_size(cells); i++) {
        const json_t *cell = json_array_get(cells, i);
        if (json_object_get(cell, "steps")) {
            text_table_cell(table, "%s: %lld steps", text(cell, "section"),
                            (long long)json_integer_value(json_object_get(cell, "steps")));
        } else {
            text_table_cell(table, "%s", text(cell, "section"));
        }
        text_table_cell(table, "%.4g", real(cell, "epsilon"));
        score_cells(table, json_object_get(cell, "score"));
        text_table_cell(table, "%.4f", real(json_object_get(cell, "eight_bit"), "accuracy"));
    }
    text_table_print(table, stdout);
    text_table_destroy(table);
}

static void print_flags(const json_t *result)
{
    const json_t *flags = json_object_get(result, "flags");
    if (json_array_size(flags) == 0) {
        printf("\nNo flags: nothing was found that speaks against these figures.\n");
        return;
    }
    printf("\nFlags, each a reason not to believe the figures before it is explained:\n");
    for (size_t i = 0; i < json_array_size(flags); i++) {
        const json_t *flag = json_array_get(flags, i);
        printf("  %s", text(flag, "flag"));
        if (*text(flag, "section")) {
            printf(" (%s%s%s)", text(flag, "section"), *text(flag, "attack") ? ": " : "", text(flag, "attack"));
        }
        printf(": %s. Measured %.4g, limit %.4g", text(flag, "meaning"), real(flag, "value"), real(flag, "threshold"));
        if (json_is_integer(json_object_get(flag, "step"))) {
            printf("; from step %lld on", (long long)json_integer_value(json_object_get(flag, "step")));
        }
        puts(".");
    }
}

static void print_text(const json_t *result)
{
    const json_t *configuration = json_object_get(result, "configuration"),
                 *protocol = json_object_get(configuration, "protocol");
    printf("protocol %s, %lld images, seed %lld; the defence with N = %lld, M = %lld\n\n", text(protocol, "name"),
           (long long)json_integer_value(json_object_get(result, "images")),
           (long long)json_integer_value(json_object_get(configuration, "seed")),
           (long long)json_integer_value(json_object_get(protocol, "draws")),
           (long long)json_integer_value(json_object_get(protocol, "repeats")));
    print_table(result);
    const json_t *omitted = json_object_get(protocol, "omitted");
    for (size_t i = 0; i < json_array_size(omitted); i++) {
        const json_t *entry = json_array_get(omitted, i);
        printf("%sleft out: %s%s%s: %s\n", i == 0 ? "\n" : "", text(entry, "section"),
               *text(entry, "attack") ? ", " : "", text(entry, "attack"), text(entry, "reason"));
    }
    print_flags(result);
}

/* A new file beside path, renamed: what is there was written whole. */
static exit_status write_text(const char *path, const char *content)
{
    char *temporary;
    if (asprintf(&temporary, "%s.tmp", path) < 0) {
        complain("out of memory");
        return STATUS_FAILURE;
    }
    FILE *file = fopen(temporary, "w");
    bool written = file && fputs(content, file) >= 0 && fputc('\n', file) >= 0;
    written = (file && fclose(file) == 0) && written;
    if (!written || rename(temporary, path) != 0) {
        complain("cannot write %s: %s", path, strerror(errno));
        if (file) {
            remove(temporary);
        }
        written = false;
    }
    free(temporary);
    return written ? STATUS_OK : STATUS_FAILURE;
}

exit_status evaluation_publish(carso_context *context, carso_evaluation *evaluation, const output_settings *settings)
{
    char *state, *json;
    if (!evaluation_paths(settings->output, &state, &json)) {
        return STATUS_FAILURE;
    }
    carso_status saved = carso_evaluation_save(evaluation, state);
    exit_status status = saved == CARSO_OK ? STATUS_OK : session_failure(context, saved, "cannot write %s", state);
    const char *known = status == STATUS_OK ? carso_evaluation_result(evaluation) : NULL;
    json_t *result = known ? json_loads(known, 0, NULL) : NULL;
    char *result_text = result ? json_dumps(result, JSON_REAL_PRECISION(10) | JSON_PRESERVE_ORDER) : NULL;
    if (status == STATUS_OK && !result_text) {
        complain("out of memory");
        status = STATUS_FAILURE;
    }
    if (status == STATUS_OK) {
        status = write_text(json, result_text);
    }
    if (status == STATUS_OK && settings->page) {
        char *page = report_make(result, evaluation, settings->model);
        status = page ? write_text(settings->page, page) : STATUS_FAILURE;
        free(page);
    }
    if (status == STATUS_OK && settings->json) {
        puts(result_text);
    } else if (status == STATUS_OK) {
        print_text(result);
        printf("\nresult: %s; adversarial images: %s%s%s\n", json, state, settings->page ? "; report: " : "",
               settings->page ? settings->page : "");
    }
    size_t flags = json_array_size(json_object_get(result, "flags"));
    if (status == STATUS_OK && settings->strict && flags > 0) {
        complain("%zu %s: the figures are not to be trusted", flags, flags == 1 ? "flag" : "flags");
        status = STATUS_UNTRUSTED;
    }
    json_decref(result);
    free(result_text);
    free(state);
    free(json);
    return status;
}
