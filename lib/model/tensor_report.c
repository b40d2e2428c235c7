/* SPDX-License-Identifier: BSD-2-Clause */
#include "model/tensor_report.h"

#include <stdio.h>
#include <string.h>

#include "base/tensor_type.h"

/* Names that one message gives; of more only the number. */
#define LISTED_NAMES 5

const char *cso_printable(const char *text)
{
    for (const char *character = text; *character != '\0'; character++) {
        if (*character < ' ' || *character > '~') {
            return "(not printable)";
        }
    }
    return text;
}

bool cso_tensor_fits(const cso_tensor *tensor, int rank, const int64_t *dimension)
{
    bool same = tensor->type == CSO_TENSOR_F32 && tensor->rank == rank;
    for (int i = 0; same && i < rank; i++) {
        same = tensor->dimension[i] == dimension[i];
    }
    return same;
}

void cso_tensor_describe(const cso_tensor *tensor, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "%s [", cso_tensor_type_name(tensor->type));
    for (int i = 0; i < tensor->rank && used < size; i++) {
        used +=
            (size_t)snprintf(text + used, size - used, "%s%lld", i == 0 ? "" : ", ", (long long)tensor->dimension[i]);
    }
    if (used < size) {
        snprintf(text + used, size - used, "]");
    }
}

static void list_name(cso_tensor_list *list, const char *name, const char *detail)
{
    const size_t used = strlen(list->text);
    if (list->count < LISTED_NAMES) {
        snprintf(list->text + used, sizeof list->text - used, "%s%.80s%s", list->count == 0 ? "" : ", ",
                 cso_printable(name), detail);
    }
    list->count++;
}

void cso_tensor_report_missing(cso_tensor_report *report, const char *name)
{
    list_name(&report->missing, name, "");
    if (report->log != NULL) {
        cso_log(report->log, CARSO_LOG_WARNING, "missing: %s", cso_printable(name));
    }
}

void cso_tensor_report_wrong(cso_tensor_report *report, const char *name, const cso_tensor *found, int rank,
                             const int64_t *dimension)
{
    cso_tensor expected = {.type = CSO_TENSOR_F32, .rank = rank};
    char is[160], should[160], detail[360];
    memcpy(expected.dimension, dimension, (size_t)rank * sizeof *dimension);
    cso_tensor_describe(found, is, sizeof is);
    cso_tensor_describe(&expected, should, sizeof should);
    snprintf(detail, sizeof detail, ": %s instead of %s", is, should);
    list_name(&report->wrong, name, detail);
    if (report->log != NULL) {
        cso_log(report->log, CARSO_LOG_WARNING, "of the wrong type or shape: %s%s", cso_printable(name), detail);
    }
}

void cso_tensor_report_unexpected(cso_tensor_report *report, const char *name, const char *detail)
{
    list_name(&report->unexpected, name, detail);
    if (report->log != NULL) {
        cso_log(report->log, CARSO_LOG_WARNING, "unexpected: %s%s", cso_printable(name), detail);
    }
}

static void close_list(const cso_tensor_list *list, char text[CSO_REPORT_LIST_SIZE + 32])
{
    if (list->count > LISTED_NAMES) {
        snprintf(text, CSO_REPORT_LIST_SIZE + 32, "%s and %d more", list->text, list->count - LISTED_NAMES);
    } else {
        snprintf(text, CSO_REPORT_LIST_SIZE + 32, "%s", list->text);
    }
}

carso_status cso_tensor_report_finish(const cso_tensor_report *report, const carso_context *context, const char *where)
{
    const cso_tensor_list *const list[3] = {&report->missing, &report->wrong, &report->unexpected};
    static const char *const what[3] = {"missing", "of the wrong type or shape", "unexpected"};
    char message[3 * (CSO_REPORT_LIST_SIZE + 80)] = "";
    for (int i = 0; i < 3; i++) {
        if (list[i]->count == 0) {
            continue;
        }
        char text[CSO_REPORT_LIST_SIZE + 32];
        close_list(list[i], text);
        const size_t used = strlen(message);
        snprintf(message + used, sizeof message - used, "%s%d tensor%s %s %s (%s)", used == 0 ? "" : "; ",
                 list[i]->count, list[i]->count == 1 ? "" : "s", list[i]->count == 1 ? "is" : "are", what[i], text);
    }
    return message[0] == '\0' ? CARSO_OK : cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: %s", where, message);
}
