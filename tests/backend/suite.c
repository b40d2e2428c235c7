/* SPDX-License-Identifier: BSD-2-Clause */
#include "suite.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "graph/graph.h"
#include "winograd_bound.h"

#define MOST_MESSAGES 40

bool suite_check(suite *it, const op_trial *trial, bool good, const char *format, ...)
{
    va_list arguments;
    it->checks++;
    if (good) {
        return true;
    }
    it->failures++;
    if (it->failures > MOST_MESSAGES) {
        return false;
    }
    fprintf(stderr, "FAILED %s: ", it->backend);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    if (trial != NULL) {
        fprintf(stderr, "    ");
        trial_print(stderr, trial);
        fprintf(stderr, "    to repeat: test_backend %s %s %d\n", it->backend, cso_op_kind_name(trial->op.kind),
                trial->number);
    }
    return false;
}

static bool alike(double found, double expected, double bound)
{
    if (isnan(expected) || isnan(found)) {
        return isnan(expected) && isnan(found);
    }
    if (isinf(expected) || isinf(found)) {
        return expected == found;
    }
    return fabs(found - expected) <= bound;
}

bool suite_compare(suite *it, const op_trial *trial, const char *check, const outcome *found, const outcome *expected,
                   const outcome *bound)
{
    bool good = true;
    for (int k = 0; k < found->count && good; k++) {
        const outcome_part *part = &found->part[k];
        const outcome_part *wanted = outcome_find(expected, part->name);
        char name[32];
        snprintf(name, sizeof name, "%s%s", part->name,
                 part->winograd == WINOGRAD_REAL      ? " winograd"
                 : part->winograd == WINOGRAD_COMPLEX ? " winograd complex"
                                                      : "");
        const outcome_part *limit = outcome_find(bound, name);
        if (wanted == NULL || limit == NULL || wanted->count != part->count) {
            return suite_check(it, trial, false, "%s: nothing to compare %s with", check, part->name);
        }
        for (size_t i = 0; i < part->count && good; i++) {
            const double error = fabs(part->value[i] - wanted->value[i]);
            good = alike(part->value[i], wanted->value[i], limit->value[i]) ||
                   (part->winograd != WINOGRAD_NONE && isnan(part->value[i]) &&
                    winograd_reached(trial, part->name[0] == 'y', i));
            if (limit->value[i] > 0 && error / limit->value[i] > it->worst) {
                it->worst = error / limit->value[i];
            }
            if (!good) {
                suite_check(it, trial, false, "%s: %s[%zu] is %.9g, expected %.9g within %.3g", check, part->name, i,
                            part->value[i], wanted->value[i], limit->value[i]);
            }
        }
        it->checks += good ? 1 : 0;
    }
    return good;
}

bool suite_same(suite *it, const op_trial *trial, const char *check, const outcome *first, const outcome *second,
                const char *skip)
{
    for (int k = 0; k < first->count; k++) {
        const outcome_part *a = &first->part[k];
        const outcome_part *b = outcome_find(second, a->name);
        if (skip != NULL && strcmp(a->name, skip) == 0) {
            continue;
        }
        const bool same = b != NULL && memcmp(a->value, b->value, a->count * sizeof *a->value) == 0;
        if (!suite_check(it, trial, same, "%s: %s has other bits", check, a->name)) {
            return false;
        }
    }
    return true;
}
