/* SPDX-License-Identifier: BSD-2-Clause */
/* The page that shows an evaluation, whole in one file. */
#ifndef REPORT_H
#define REPORT_H

#include "session.h"

/* What the parts of the page are made from. */
typedef struct report {
    FILE *stream;
    const json_t *result;
    carso_evaluation *evaluation;
    const carso_model *model; /* for reconstructions; NULL: none are shown */
    bool failed;              /* memory ran out */
} report;

/* The page as text, to be freed; NULL after a complaint. */
char *report_make(const json_t *result, carso_evaluation *evaluation, const carso_model *model);

/* Text with what HTML would take for markup replaced. */
void report_text(report *page, const char *text);
double report_real(const json_t *object, const char *key);
const char *report_string(const json_t *object, const char *key);

/* report_chart.c: nothing where there are no such cells. */
void report_epsilon_chart(report *page);
void report_steps_chart(report *page);
/* report_gallery.c */
void report_gallery(report *page);

#endif
