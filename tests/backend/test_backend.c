/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One suite for any backend, operation by operation:
 *     test_backend NAME                every trial
 *     test_backend NAME KIND [NUMBER]  those of one operation, or one of them
 * Exit status 77 where the backend does not work on this machine.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "definition.h"
#include "error_bound.h"
#include "gradient_check.h"
#include "graph/graph.h"
#include "suite.h"

#define SKIPPED 77
/* Trials of a kind that also fail each allocation in turn. */
#define ALLOCATION_TRIALS 4

static carso_status open_context(const char *backend, carso_convolution convolution, int threads, carso_context **out)
{
    carso_context_options options;
    carso_context_options_init(&options, sizeof options);
    options.backend = backend;
    options.threads = threads;
    options.convolution = convolution;
    return carso_context_create(&options, out);
}

static const double *part_value(const outcome *it, const char *name)
{
    const outcome_part *part = outcome_find(it, name);
    return part != NULL ? part->value : NULL;
}

/* Gives the trial what BACKWARD_DATA needs of a forward run: exact, or as a float backend would have it. */
static carso_status fill_needed(carso_context *reference, op_trial *it, bool exact)
{
    session_options options = session_options_default();
    outcome forward;
    options.forward_only = true;
    if (!trial_needs_output(it->op.kind) && !trial_needs_input(it)) {
        return CARSO_OK;
    }
    const carso_status status = session_run(reference, it, &options, &forward, NULL);
    if (status == CARSO_OK) {
        const size_t count = trial_output_count(it);
        const double *source = trial_needs_output(it->op.kind) ? part_value(&forward, "y") : it->source[0];
        it->needed = test_allocate(count, sizeof *it->needed);
        for (size_t i = 0; i < count; i++) {
            it->needed[i] = exact ? source[i] : (double)(float)source[i];
        }
    }
    outcome_clear(&forward);
    return status;
}

/* The reference's results on a trial against their definition. special: what some inputs are set to, 0: nothing. */
static void check_definition(suite *it, const op_trial *source, double special)
{
    op_trial exact;
    outcome defined = {0};
    outcome found = {0};
    outcome bound = {0};
    char problem[160] = "";
    uint64_t state = (uint64_t)source->number + 3;
    session_options options = session_options_default();
    options.trainable = true;
    trial_copy(&exact, source);
    for (int i = 0; i < exact.source_count && special != 0; i++) {
        exact.source[i][test_random_below(&state, (int64_t)trial_source_count(&exact, i))] = special;
    }
    options.forward_only = special != 0 && exact.op.kind != CSO_OP_MAX_POOL;
    carso_status status = fill_needed(it->reference, &exact, true);
    if (status == CARSO_OK) {
        status = session_run(it->reference, &exact, &options, &found, NULL);
    }
    define_results(&exact, &defined);
    if (status == CARSO_OK) {
        status = error_bound(it->reference, source, &defined, 0x1p-52, &bound);
    }
    if (suite_check(it, &exact, status == CARSO_OK, "reference: %s", carso_status_str(status))) {
        outcome results = {0};
        for (int k = 0; k < found.count; k++) {
            if (found.part[k].name[0] != 'd' || outcome_find(&defined, found.part[k].name) != NULL) {
                results.part[results.count++] = found.part[k];
            }
        }
        suite_compare(it, &exact, special != 0 ? "definition, not finite" : "definition", &results, &defined, &bound);
        if (special == 0 && !exact.ties) {
            const bool good = gradients_agree(it->reference, &exact, &found, problem, sizeof problem);
            suite_check(it, &exact, good, "%s", problem);
        }
    }
    outcome_clear(&bound);
    outcome_clear(&defined);
    outcome_clear(&found);
    trial_clear(&exact);
}

/* The reference in double against the definition and against its own differences. */
static void check_reference(suite *it, const op_trial *trial)
{
    if (definition_is_affordable(trial)) {
        check_definition(it, trial, 0);
        check_definition(it, trial, (double)NAN);
        check_definition(it, trial, (double)INFINITY);
        check_definition(it, trial, (double)-INFINITY);
    }
}

/* Returns whether the backend has the operation. */
static bool run_trial(suite *it, cso_op_kind kind, int number)
{
    expectation expected = {0};
    session_options options = session_options_default();
    session attempt;
    trial_create(&expected.trial, kind, number);
    const double roundoff = it->is_reference ? 0x1p-52 : 0x1p-23;
    options.trainable = true;
    carso_status status = session_create(it->tested, &expected.trial, &options, &attempt);
    if (status == CARSO_ERROR_UNSUPPORTED) {
        trial_clear(&expected.trial);
        return false;
    }
    if (status == CARSO_OK) {
        session_destroy(&attempt);
    }
    if (it->is_reference) {
        check_reference(it, &expected.trial);
    }
    status = fill_needed(it->reference, &expected.trial, false);
    if (status == CARSO_OK) {
        status = session_run(it->reference, &expected.trial, &options, &expected.forward_and_backward, NULL);
    }
    if (status == CARSO_OK) {
        status = error_bound(it->reference, &expected.trial, &expected.forward_and_backward, roundoff, &expected.bound);
    }
    if (suite_check(it, &expected.trial, status == CARSO_OK, "reference: %s", carso_status_str(status))) {
        check_values(it, &expected);
        check_repeatability(it, &expected);
        check_in_place(it, &expected);
        check_unwanted(it, &expected);
        check_non_finite(it, &expected);
        check_changed_parameters(it, &expected);
        check_threads(it, &expected);
        if (number < ALLOCATION_TRIALS) {
            check_allocations(it, &expected.trial);
        }
    }
    outcome_clear(&expected.bound);
    outcome_clear(&expected.forward_and_backward);
    trial_clear(&expected.trial);
    return true;
}

static void run_kind(suite *it, cso_op_kind kind, int only)
{
    const int count = trial_count(kind);
    int refused = 0;
    const int before = it->failures;
    it->worst = 0;
    for (int number = 0; number < count; number++) {
        if (only < 0 || only == number) {
            refused += run_trial(it, kind, number) ? 0 : 1;
        }
    }
    suite_check(it, NULL, refused < count, "%s: the backend refuses all of it", cso_op_kind_name(kind));
    printf("%-24s %3d trials, %d refused, %d failures, largest error %.2f of its bound\n", cso_op_kind_name(kind),
           only < 0 ? count : 1, refused, it->failures - before, it->worst);
}

int main(int argument_count, char **arguments)
{
    suite it = {0};
    cso_op_kind kind = CSO_OP_COUNT;
    if (argument_count > 1 && strcmp(arguments[1], "--precise") == 0) {
        it.convolution = CARSO_CONVOLUTION_PRECISE;
        argument_count--;
        arguments++;
    }
    if (argument_count < 2 || argument_count > 4 ||
        (argument_count > 2 && !cso_op_kind_parse(arguments[2], &kind))) {
        fprintf(stderr, "usage: test_backend [--precise] NAME [KIND [NUMBER]]\n");
        return 2;
    }
    it.backend = arguments[1];
    it.is_reference = strcmp(it.backend, "reference-double") == 0;
    if (cso_backend_find(it.backend) == NULL) {
        fprintf(stderr, "no backend %s in this build\n", it.backend);
        return 2;
    }
    if (open_context(it.backend, it.convolution, 2, &it.tested) != CARSO_OK) {
        printf("backend %s does not work on this machine\n", it.backend);
        return SKIPPED;
    }
    if (open_context(it.backend, it.convolution, 1, &it.single_thread) == CARSO_OK &&
        open_context("reference-double", CARSO_CONVOLUTION_AUTOMATIC, 1, &it.reference) == CARSO_OK) {
        const int only = argument_count > 3 ? atoi(arguments[3]) : -1;
        for (int k = 0; k < CSO_OP_COUNT; k++) {
            if (kind == CSO_OP_COUNT || kind == (cso_op_kind)k) {
                run_kind(&it, (cso_op_kind)k, only);
            }
        }
        check_accumulate(&it);
    } else {
        suite_check(&it, NULL, false, "a context could not be made");
    }
    carso_context_destroy(it.reference);
    carso_context_destroy(it.single_thread);
    carso_context_destroy(it.tested);
    printf("%s: %d checks, %d failures\n", it.backend, it.checks, it.failures);
    return it.failures == 0 ? 0 : 1;
}
