/* SPDX-License-Identifier: BSD-2-Clause */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CLASS_COLUMNS 8

static const char style[] =
    ":root{color-scheme:light dark;--page:#fff;--text:#1c1e21;--soft:#5f6672;--line:#d8dce2;--card:#f5f6f8;--good:#146c2e;--bad:#b3261e;"
    "--c0:#1f6fb2;--c1:#c2410c;--c2:#6d28a8;--c3:#0f766e}"
    "@media(prefers-color-scheme:dark){:root{--page:#15171a;--text:#e6e8eb;--soft:#a0a8b4;--line:#363b43;--card:#1e2126;--good:#6fce8a;"
    "--bad:#ff9187;--c0:#6cb2f0;--c1:#fb9c63;--c2:#c79bf2;--c3:#5eccc0}}"
    "*{box-sizing:border-box}body{margin:0 auto;max-width:64rem;padding:1rem;background:var(--page);color:var(--text);"
    "font:16px/1.5 system-ui,sans-serif}h1{font-size:1.6rem;margin:.5rem 0}h2{font-size:1.2rem;margin:2rem 0 .5rem}h3{font-size:1rem;margin:1rem 0 .3rem}"
    "p{margin:.4rem 0}.soft{color:var(--soft)}.wide{overflow-x:auto}.wide+.wide{margin-top:1rem}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}th:first-child,td:first-child{text-align:left}"
    "th{font-weight:600;color:var(--soft)}td.big{font-weight:700}.flag{border-left:4px solid var(--bad);background:var(--card);padding:.5rem .8rem;margin:.5rem 0}"
    ".fine{border-left:4px solid var(--good);background:var(--card);padding:.5rem .8rem}.good{color:var(--good)}.bad{color:var(--bad)}"
    "code,pre{font-family:ui-monospace,monospace;font-size:.85rem}pre{background:var(--card);padding:.7rem;white-space:pre-wrap;overflow-wrap:anywhere}"
    "pre span{display:inline-block;max-width:100%}code{overflow-wrap:anywhere}svg{max-width:100%;height:auto;display:block}svg text{fill:var(--text);font:13px system-ui,sans-serif}"
    "svg .axis{stroke:var(--soft)}svg .grid{stroke:var(--line)}.s0{color:var(--c0)}.s1{color:var(--c1)}.s2{color:var(--c2)}.s3{color:var(--c3)}"
    ".key{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem}.card{background:var(--card);padding:.6rem;margin:.6rem 0;break-inside:avoid}"
    ".row{display:flex;flex-wrap:wrap;gap:.5rem}figure{margin:0;width:84px;font-size:.72rem;line-height:1.25}"
    "figure img{width:84px;height:auto;image-rendering:pixelated;display:block}figcaption{overflow-wrap:anywhere}"
    "@media(max-width:30rem){body{padding:.6rem}th,td{padding:.2rem .4rem;font-size:.85rem}figure,figure img{width:68px}svg text{font-size:18px}}"
    "@media print{:root{color-scheme:light;--page:#fff;--text:#000;--soft:#444;--line:#bbb;--card:#f3f3f3;--good:#146c2e;--bad:#b3261e;--c0:#1f6fb2;"
    "--c1:#c2410c;--c2:#6d28a8;--c3:#0f766e}body{max-width:none;font-size:11px}h2,h3,.lead{break-after:avoid}.wide{overflow:visible}th,td{padding:.15rem .4rem}"
    "th{white-space:normal;vertical-align:bottom}figure,figure img{width:66px}"
    "table,tr,svg,figure,.flag,.together{break-inside:avoid}p{orphans:3;widows:3}}";

double report_real(const json_t *object, const char *key)
{
    const json_t *found = json_object_get(object, key);
    return json_is_number(found) ? json_number_value(found) : NAN;
}

const char *report_string(const json_t *object, const char *key)
{
    const char *found = json_string_value(json_object_get(object, key));
    return found ? found : "";
}

void report_text(report *page, const char *text)
{
    for (; *text; text++) {
        const char *entity = *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '"' ? "&quot;" : NULL;
        if (entity) {
            fputs(entity, page->stream);
        } else {
            fputc(*text, page->stream);
        }
    }
}

/* What is not known is a dash. */
static void number_cell(report *page, const char *format, double value, const char *kind)
{
    fprintf(page->stream, kind ? "<td class=\"%s\">" : "<td>", kind);
    if (isfinite(value)) {
        fprintf(page->stream, format, value);
    } else {
        fputs("&ndash;", page->stream);
    }
    fputs("</td>", page->stream);
}

static void text_cell(report *page, const char *tag, const char *text)
{
    fprintf(page->stream, "<%s>", tag);
    report_text(page, text);
    fprintf(page->stream, "</%s>", tag);
}

static void heading_row(report *page, const char *const *headings)
{
    fputs("<div class=\"wide\"><table><thead><tr>", page->stream);
    for (; *headings; headings++) {
        text_cell(page, "th", *headings);
    }
    fputs("</tr></thead>\n", page->stream);
}

static void score_cells(report *page, const json_t *score)
{
    number_cell(page, "%.4f", report_real(score, "accuracy"), "big");
    fprintf(page->stream, "<td>%.4f to %.4f</td>", report_real(score, "low"), report_real(score, "high"));
    number_cell(page, "%.4f", report_real(score, "majority"), NULL);
    number_cell(page, "%.4f", report_real(score, "worst"), NULL);
}

static void headline(report *page)
{
    static const char *const headings[] = {"", "epsilon", "accuracy", "95 % interval", "majority of M", "worst of M", "as 8-bit image", NULL};
    const json_t *cells = json_object_get(page->result, "cells"), *score;
    const char *objective;
    heading_row(page, headings);
    json_object_foreach(json_object_get(page->result, "clean"), objective, score)
    {
        fprintf(page->stream, "<tr><td>%s, clean</td><td>0</td>", objective);
        score_cells(page, score);
        fputs("<td>&ndash;</td></tr>\n", page->stream);
    }
    for (size_t i = 0; i < json_array_size(cells); i++) {
        const json_t *cell = json_array_get(cells, i), *steps = json_object_get(cell, "steps");
        fputs("<tr><td>", page->stream);
        report_text(page, report_string(cell, "section"));
        if (steps) {
            fprintf(page->stream, ", %lld steps", (long long)json_integer_value(steps));
        }
        fprintf(page->stream, "</td><td>%.4g</td>", report_real(cell, "epsilon"));
        score_cells(page, json_object_get(cell, "score"));
        number_cell(page, "%.4f", report_real(json_object_get(cell, "eight_bit"), "accuracy"), NULL);
        fputs("</tr>\n", page->stream);
    }
    fputs("</table></div>\n", page->stream);
}

static void flag_list(report *page)
{
    const json_t *flags = json_object_get(page->result, "flags");
    fputs("<h2>Flags</h2>\n", page->stream);
    if (json_array_size(flags) == 0) {
        fputs("<p class=\"fine\">None: nothing was found that speaks against these figures.</p>\n", page->stream);
        return;
    }
    fputs("<p>Each is a reason not to believe the figures before it is explained.</p>\n", page->stream);
    for (size_t i = 0; i < json_array_size(flags); i++) {
        const json_t *flag = json_array_get(flags, i);
        fputs("<div class=\"flag\"><strong>", page->stream);
        report_text(page, report_string(flag, "flag"));
        fputs("</strong>", page->stream);
        if (*report_string(flag, "section")) {
            fputs(" in ", page->stream);
            report_text(page, report_string(flag, "section"));
            fputs(*report_string(flag, "attack") ? ", " : "", page->stream);
            report_text(page, report_string(flag, "attack"));
        }
        fputs(": ", page->stream);
        report_text(page, report_string(flag, "meaning"));
        fprintf(page->stream, ". <span class=\"soft\">Measured %.4g, limit %.4g", report_real(flag, "value"),
                report_real(flag, "threshold"));
        if (json_is_integer(json_object_get(flag, "step"))) {
            fprintf(page->stream, "; from step %lld on", (long long)json_integer_value(json_object_get(flag, "step")));
        }
        fputs(".</span></div>\n", page->stream);
    }
}

/* What the accuracy of classes is of: the originals, or a cell. */
typedef struct class_column {
    const char *name;
    double epsilon; /* NAN: of the originals */
    const json_t *per_class;
} class_column;

static void class_heading(report *page, const class_column *column)
{
    fputs("<th>", page->stream);
    report_text(page, column->name);
    if (isnan(column->epsilon)) {
        fputs(", clean</th>", page->stream);
    } else {
        fprintf(page->stream, ", %.4g</th>", column->epsilon);
    }
}

/* No more columns at once than paper is wide. */
static void class_columns(report *page, const class_column *column, size_t count)
{
    const json_t *names = json_object_get(page->result, "class_names"),
                 *counts = json_object_get(page->result, "class_images");
    fputs("<div class=\"wide\"><table><thead><tr><th>class</th><th>images</th>", page->stream);
    for (size_t i = 0; i < count; i++) {
        class_heading(page, &column[i]);
    }
    fputs("</tr></thead>\n", page->stream);
    for (size_t k = 0; k < json_array_size(names); k++) {
        fputs("<tr>", page->stream);
        text_cell(page, "td", json_string_value(json_array_get(names, k)));
        fprintf(page->stream, "<td>%lld</td>", (long long)json_integer_value(json_array_get(counts, k)));
        for (size_t i = 0; i < count; i++) {
            const json_t *value = json_array_get(column[i].per_class, k);
            number_cell(page, "%.3f", json_is_number(value) ? json_number_value(value) : NAN, NULL);
        }
        fputs("</tr>\n", page->stream);
    }
    fputs("</table></div>\n", page->stream);
}

static void class_table(report *page)
{
    const json_t *cells = json_object_get(page->result, "cells"), *score;
    const json_t *clean = json_object_get(page->result, "clean");
    class_column *columns = calloc(json_object_size(clean) + json_array_size(cells), sizeof *columns);
    const char *objective;
    size_t count = 0;
    if (!columns) {
        page->failed = true;
        return;
    }
    json_object_foreach((json_t *)clean, objective, score)
    {
        columns[count++] = (class_column){objective, NAN, json_object_get(score, "per_class")};
    }
    for (size_t i = 0; i < json_array_size(cells); i++) {
        const json_t *cell = json_array_get(cells, i);
        if (strcmp(report_string(cell, "role"), "plain") == 0) {
            columns[count++] = (class_column){report_string(cell, "section"), report_real(cell, "epsilon"), json_object_get(cell, "per_class")};
        }
    }
    fputs("<h2>Accuracy of each class</h2>\n", page->stream);
    for (size_t first = 0; first < count; first += CLASS_COLUMNS) {
        class_columns(page, columns + first, count - first < CLASS_COLUMNS ? count - first : CLASS_COLUMNS);
    }
    free(columns);
}

static void attack_row(report *page, const json_t *attack)
{
    double attacked = report_real(attack, "attacked");
    fputs("<tr>", page->stream);
    text_cell(page, "td", report_string(attack, "name"));
    text_cell(page, "td", report_string(attack, "method"));
    text_cell(page, "td", report_string(attack, "loss"));
    const json_t *steps =
        json_object_get(attack, "queries") ? json_object_get(attack, "queries") : json_object_get(attack, "steps");
    number_cell(page, "%.0f", json_is_number(steps) ? json_number_value(steps) : NAN, NULL);
    number_cell(page, "%.0f", report_real(attack, "eot"), NULL);
    number_cell(page, "%.0f", attacked, NULL);
    number_cell(page, "%.0f", report_real(attack, "broke"), NULL);
    number_cell(page, "%.4g", report_real(attack, "first_loss"), NULL);
    number_cell(page, "%.4g", report_real(attack, "last_loss"), NULL);
    number_cell(page, "%.1f %%", attacked > 0 ? 100 * report_real(attack, "loss_rose") / attacked : NAN, NULL);
    number_cell(page, "%.2f %%", 100 * (report_real(attack, "zero_gradient") + report_real(attack, "tiny_gradient")),
                NULL);
    number_cell(page, "%.0f", report_real(attack, "non_finite"), NULL);
    number_cell(page, "%.1f", report_real(attack, "seconds"), NULL);
    fputs("</tr>\n", page->stream);
}

static void protocol(report *page)
{
    static const char *const headings[] = {"attack", "method", "loss", "steps", "EoT", "images", "broke", "loss before", "after", "rose",
                                           "zero or tiny gradient", "not finite", "seconds", NULL};
    const json_t *cells = json_object_get(page->result, "cells");
    fputs("<h2>Protocol</h2>\n<p>Of each image the worst point that any attack of a section found counts, chosen and scored with draws that no "
          "attack has seen, and not with the same ones. An image that no prediction gets right any more is not attacked again. Accuracy is the mean "
          "of one prediction's; the interval is Wilson's, over images.</p>\n",
          page->stream);
    for (size_t i = 0; i < json_array_size(cells); i++) {
        const json_t *cell = json_array_get(cells, i), *attacks = json_object_get(cell, "attacks");
        fputs("<h3>", page->stream);
        report_text(page, report_string(cell, "section"));
        fprintf(page->stream, " <span class=\"soft\">%s, epsilon %.4g", report_string(cell, "objective"),
                report_real(cell, "epsilon"));
        if (json_object_get(cell, "steps")) {
            fprintf(page->stream, ", %lld steps", (long long)json_integer_value(json_object_get(cell, "steps")));
        }
        fputs("</span></h3>\n", page->stream);
        heading_row(page, headings);
        for (size_t j = 0; j < json_array_size(attacks); j++) {
            attack_row(page, json_array_get(attacks, j));
        }
        fputs("</table></div>\n", page->stream);
    }
}

/* Lines end between words, not behind the hyphens of options. */
static void command_words(report *page, const char *line)
{
    char word[2] = "";
    fputs("<span>", page->stream);
    for (const char *letter = line; *letter; letter++) {
        if (*letter == ' ') {
            fputs("</span> <span>", page->stream);
            continue;
        }
        word[0] = *letter;
        report_text(page, word);
    }
    fputs("</span>", page->stream);
}

static void origin(report *page)
{
    static const char *const names[] = {"model_sha256", "data_sha256", "configuration_sha256"};
    const json_t *configuration = json_object_get(page->result, "configuration");
    fputs("<h2>How to repeat it</h2>\n", page->stream);
    const json_t *commands = json_object_get(page->result, "commands");
    if (json_array_size(commands) > 1) {
        fputs("<p>A command for each shard; <code>carso merge</code> joins them.</p>\n", page->stream);
    }
    for (size_t i = 0; i < json_array_size(commands); i++) {
        fputs("<pre>", page->stream);
        command_words(page, json_string_value(json_array_get(commands, i)));
        fputs("</pre>\n", page->stream);
    }
    fprintf(page->stream, "<p>carso %s, backend %s.</p>\n<div class=\"wide\"><table><thead><tr><th>what</th><th>SHA-256</th></tr></thead>\n",
            report_string(configuration, "version"), report_string(configuration, "backend"));
    for (int i = 0; i < 3; i++) {
        fprintf(page->stream, "<tr><td>%.*s</td><td><code>%s</code></td></tr>\n", (int)strcspn(names[i], "_"), names[i],
                report_string(page->result, names[i]));
    }
    fputs("</table></div>\n", page->stream);
}

static void write_page(report *page)
{
    const json_t *configuration = json_object_get(page->result, "configuration"),
                 *plan = json_object_get(configuration, "protocol");
    static const char *const norms[] = {"l-infinity", "l2"};
    int norm = (int)json_integer_value(json_object_get(configuration, "norm"));
    fprintf(page->stream, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>Robustness: ");
    report_text(page, report_string(plan, "name"));
    fprintf(page->stream, "</title>\n<style>%s</style></head><body>\n<h1>Robustness under &ldquo;", style);
    report_text(page, report_string(plan, "name"));
    fprintf(page->stream,
            "&rdquo;</h1>\n<p class=\"soft\">%lld images, %s, seed %lld; each prediction of the defence "
            "from N = %lld draws, each image scored on M = %lld predictions.%s</p>\n",
            (long long)json_integer_value(json_object_get(page->result, "images")), norms[norm == 1],
            (long long)json_integer_value(json_object_get(configuration, "seed")),
            (long long)json_integer_value(json_object_get(plan, "draws")),
            (long long)json_integer_value(json_object_get(plan, "repeats")),
            json_is_true(json_object_get(page->result, "finished")) ? "" : " <strong>Not finished.</strong>");
    headline(page);
    const json_t *omitted = json_object_get(plan, "omitted");
    for (size_t i = 0; i < json_array_size(omitted); i++) {
        const json_t *entry = json_array_get(omitted, i);
        fputs("<p class=\"soft\">Left out: ", page->stream);
        report_text(page, report_string(entry, "section"));
        fputs(*report_string(entry, "attack") ? ", " : "", page->stream);
        report_text(page, report_string(entry, "attack"));
        fprintf(page->stream, ": %s.</p>\n", report_string(entry, "reason"));
    }
    flag_list(page);
    report_epsilon_chart(page);
    report_steps_chart(page);
    report_gallery(page);
    class_table(page);
    protocol(page);
    origin(page);
    fputs("</body></html>\n", page->stream);
}

char *report_make(const json_t *result, carso_evaluation *evaluation, const carso_model *model)
{
    char *text = NULL;
    size_t size = 0;
    report page = {.stream = open_memstream(&text, &size), .result = result, .evaluation = evaluation, .model = model};
    if (page.stream) {
        write_page(&page);
        page.failed = fclose(page.stream) != 0 || page.failed;
    }
    if (!page.stream || page.failed) {
        complain("the report cannot be made: out of memory");
        free(text);
        return NULL;
    }
    return text;
}
