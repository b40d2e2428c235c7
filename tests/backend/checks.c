/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks of one trial on one context. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "error_bound.h"
#include "suite.h"

/* Runs the trial and reports failure and damage. */
static bool run(suite *it, carso_context *context, const op_trial *trial, const session_options *options,
                const char *check, outcome *out)
{
    const char *damage = NULL;
    char message[CSO_MESSAGE_SIZE] = "";
    const carso_status status = session_run(context, trial, options, out, &damage);
    if (status != CARSO_OK) {
        carso_context_message(context, message, sizeof message);
    }
    return suite_check(it, trial, status == CARSO_OK, "%s: %s: %s", check, carso_status_str(status), message) &&
           suite_check(it, trial, damage == NULL, "%s: changed %s", check, damage != NULL ? damage : "");
}

static void check_values_on(suite *it, carso_context *context, const expectation *expected, bool trainable,
                            const char *check)
{
    session_options options = session_options_default();
    outcome found;
    options.trainable = trainable;
    if (run(it, context, &expected->trial, &options, check, &found)) {
        suite_compare(it, &expected->trial, check, &found, &expected->forward_and_backward, &expected->bound);
    }
    outcome_clear(&found);
}

void check_values(suite *it, const expectation *expected)
{
    check_values_on(it, it->tested, expected, false, "values");
    check_values_on(it, it->single_thread, expected, false, "values, one thread");
    if (expected->trial.parameter_count > 0) {
        check_values_on(it, it->tested, expected, true, "values, parameters not constant");
        check_values_on(it, it->single_thread, expected, true, "values, parameters not constant, one thread");
    }
}

/* Memory that is about to be written holds other bytes in the second session. The second forward run of a session reads
 * what the first left in the workspace. */
void check_repeatability(suite *it, const expectation *expected)
{
    const op_trial *trial = &expected->trial;
    session_options options = session_options_default();
    outcome first;
    outcome second = {0};
    session again;
    options.trainable = true;
    if (!run(it, it->tested, trial, &options, "repeatability", &first)) {
        outcome_clear(&first);
        return;
    }
    options.fill = 0x3c;
    if (run(it, it->tested, trial, &options, "repeatability", &second)) {
        suite_same(it, trial, "a second session", &first, &second, NULL);
    }
    outcome_clear(&second);
    carso_status status = session_create(it->tested, trial, &options, &again);
    if (status == CARSO_OK) {
        for (int k = 0; k < 2 && status == CARSO_OK; k++) {
            status = session_forward(&again);
            if (status == CARSO_OK) {
                status = session_backward(&again);
            }
        }
        if (status == CARSO_OK) {
            status = session_collect(&again, &second);
        }
        if (suite_check(it, trial, status == CARSO_OK, "second run: %s", carso_status_str(status)) &&
            !trial->op.attributes.training) { /* whose running statistics have moved twice */
            suite_same(it, trial, "a second run", &first, &second, NULL);
        }
        session_destroy(&again);
    }
    outcome_clear(&second);
    outcome_clear(&first);
}

void check_in_place(suite *it, const expectation *expected)
{
    const op_trial *trial = &expected->trial;
    session_options options = session_options_default();
    outcome apart;
    if (!trial_is_pointwise(trial) || !run(it, it->tested, trial, &options, "in place", &apart)) {
        return;
    }
    const bool sum = trial->op.input_count == 2;
    for (int i = 0; i < trial->op.input_count; i++) {
        outcome together;
        options.in_place = i;
        options.backward_in_place = true;
        options.unwanted = sum ? 2U - (unsigned)i : 0; /* dx over dy: then it must be the only one */
        if (run(it, it->tested, trial, &options, "in place", &together)) {
            suite_same(it, trial, "in place", &apart, &together, sum ? (i == 0 ? "dx1" : "dx0") : NULL);
        }
        outcome_clear(&together);
    }
    outcome_clear(&apart);
}

void check_unwanted(suite *it, const expectation *expected)
{
    const op_trial *trial = &expected->trial;
    session_options options = session_options_default();
    outcome all;
    options.trainable = true;
    if (!run(it, it->tested, trial, &options, "unwanted gradients", &all)) {
        outcome_clear(&all);
        return;
    }
    const bool training = trial->op.attributes.training;
    const bool data = !trial_has_parameter_gradients(trial);
    const int count = training ? 3 : data ? trial->op.input_count : trial->parameter_count > 1 ? 2 : 1;
    for (int i = 0; i < count && count > 1 && outcome_find(&all, "dx0") != NULL; i++) {
        char skip[24];
        outcome some;
        const bool parameter = training ? i > 0 : !data;
        snprintf(skip, sizeof skip, "%s%d", parameter ? "dp" : "dx", training && i > 0 ? i - 1 : i);
        options.unwanted = 1U << i;
        if (run(it, it->tested, trial, &options, "unwanted gradients", &some)) {
            /* Of an operation with both backward directions, the first output of each has position 0. */
            const bool both = !data && !training && i == 0;
            if (both) {
                free(some.part[1].value);
                some.part[1] = all.part[1];
                some.part[1].value = test_allocate(all.part[1].count, sizeof(double));
                memcpy(some.part[1].value, all.part[1].value, all.part[1].count * sizeof(double));
            }
            suite_same(it, trial, "unwanted gradients", &all, &some, skip);
        }
        outcome_clear(&some);
    }
    outcome_clear(&all);
}

/* NaN and infinities come out where the reference has them, and nowhere else. */
void check_non_finite(suite *it, const expectation *expected)
{
    static const double special[] = {NAN, INFINITY, -INFINITY};
    session_options options = session_options_default();
    uint64_t state = (uint64_t)expected->trial.number;
    for (int k = 0; k < 3; k++) {
        op_trial poisoned;
        outcome wanted;
        outcome found = {0};
        trial_copy(&poisoned, &expected->trial);
        options.forward_only = true;
        for (int i = 0; i < poisoned.source_count; i++) {
            poisoned.source[i][test_random_below(&state, (int64_t)trial_source_count(&poisoned, i))] = special[k];
        }
        if (run(it, it->reference, &poisoned, &options, "not finite, reference", &wanted) &&
            run(it, it->tested, &poisoned, &options, "not finite", &found)) {
            outcome bound = {0};
            if (error_bound(it->reference, &expected->trial, &wanted, 0x1p-23, &bound) == CARSO_OK) {
                suite_compare(it, &poisoned,
                              k == 0 ? "NaN in the input" : k == 1 ? "inf in the input" : "-inf in the input",
                              &found, &wanted, &bound);
            }
            outcome_clear(&bound);
        }
        outcome_clear(&wanted);
        outcome_clear(&found);
        trial_clear(&poisoned);
    }
}

/* Parameters that are not constant change between two runs of one kernel. */
void check_changed_parameters(suite *it, const expectation *expected)
{
    session_options options = session_options_default();
    op_trial changed;
    outcome wanted;
    outcome found = {0};
    session live;
    uint64_t state = (uint64_t)expected->trial.number + 5;
    if (expected->trial.parameter_count == 0) {
        return;
    }
    options.trainable = true;
    trial_copy(&changed, &expected->trial);
    carso_status status = session_create(it->tested, &changed, &options, &live);
    if (!suite_check(it, &changed, status == CARSO_OK, "changed parameters: %s", carso_status_str(status))) {
        trial_clear(&changed);
        return;
    }
    status = session_forward(&live);
    if (status == CARSO_OK) {
        status = session_backward(&live);
    }
    for (int p = 0; p < changed.parameter_count && status == CARSO_OK; p++) {
        float *host = cso_parameter_host(live.parameter[p]);
        for (size_t i = 0; i < changed.parameter[p].count; i++) {
            changed.parameter[p].value[i] = test_random_between(&state, 0.25, 2);
            host[i] = (float)changed.parameter[p].value[i];
        }
        status = cso_parameter_upload(live.parameter[p]);
    }
    if (status == CARSO_OK) {
        status = session_forward(&live);
    }
    if (status == CARSO_OK) {
        status = session_backward(&live);
    }
    if (status == CARSO_OK) {
        status = session_collect(&live, &found);
    }
    session_destroy(&live);
    if (suite_check(it, &changed, status == CARSO_OK, "changed parameters: %s", carso_status_str(status)) &&
        run(it, it->reference, &changed, &options, "changed parameters, reference", &wanted)) {
        outcome bound = {0};
        if (error_bound(it->reference, &changed, &wanted, 0x1p-23, &bound) == CARSO_OK) {
            suite_compare(it, &changed, "changed parameters", &found, &wanted, &bound);
        }
        outcome_clear(&bound);
        outcome_clear(&wanted);
    }
    outcome_clear(&found);
    trial_clear(&changed);
}
