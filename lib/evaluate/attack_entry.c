/* SPDX-License-Identifier: BSD-2-Clause */
/* One attack of a protocol's description. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/protocol.h"

#define MOST_STEPS 1000000

/* "noise" is PGD of no steps. */
static const char *const noise_name = "noise";
const char *const cso_method_names[] = {"fgsm", "pgd", "apgd", "apgd-targeted", "square", "fab", "fab-targeted", NULL};
const char *const cso_loss_names[] = {"cross-entropy", "margin", "probability-cross-entropy", "log-odds", "carso-cross-entropy",
                                      "dlr", "probability-margin", "probability-dlr", "carso-dlr", "carso-margin", "callback", NULL};
enum { CALLBACK = sizeof cso_loss_names / sizeof cso_loss_names[0] - 2 }; /* behind those of carso_loss */
const char *const cso_objective_names[] = {"classifier", "defence", NULL};
const char *const cso_norm_names[] = {"linf", "l2", NULL};

carso_status cso_ratio_read(carso_context *context, const json_t *value, const char *key, const char *where,
                            double *out)
{
    static const char *const digits = "0123456789";
    double number = NAN, over = 1;
    if (json_is_number(value)) {
        number = json_number_value(value);
    } else if (json_is_string(value)) {
        /* Whole numbers only: what a decimal point is depends on the application's locale. */
        const char *const text = json_string_value(value);
        const size_t above = strspn(text, digits), below = text[above] == '/' ? strspn(text + above + 1, digits) : 0;
        if (above > 0 && above < 10 && below > 0 && below < 10 && text[above + 1 + below] == '\0') {
            number = (double)strtoul(text, NULL, 10);
            over = (double)strtoul(text + above + 1, NULL, 10);
        }
    }
    *out = number / over;
    if (isfinite(*out) && *out >= 0) {
        return CARSO_OK;
    }
    return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: \"%s\" is not a number, 0 or larger, or a fraction like \"8/255\"", where, key);
}

carso_status cso_keys_check(carso_context *context, const json_t *object, const char *const *known, const char *where)
{
    const char *key;
    const json_t *value;
    if (!json_is_object(object)) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: not an object", where);
    }
    json_object_foreach((json_t *)object, key, value)
    {
        bool found = false;
        for (int i = 0; known[i] && !found; i++) {
            found = strcmp(known[i], key) == 0;
        }
        if (!found) {
            return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: \"%.60s\" is none of the keys that are known here",
                            where, key);
        }
    }
    return CARSO_OK;
}

static carso_status read_integer(carso_context *context, const json_t *entry, const char *key, const char *where,
                                 int64_t low, int32_t *value)
{
    int64_t number;
    if (!json_object_get(entry, key)) {
        return CARSO_OK;
    }
    const carso_status status = cso_json_integer(context, entry, key, where, low, MOST_STEPS, &number);
    if (status == CARSO_OK) {
        *value = (int32_t)number;
    }
    return status;
}

static carso_status read_flag(carso_context *context, const json_t *entry, const char *key, const char *where,
                              int32_t *value)
{
    const json_t *const flag = json_object_get(entry, key);
    if (flag && !json_is_boolean(flag)) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: \"%s\" is neither true nor false", where, key);
    }
    if (flag) {
        *value = json_is_true(flag);
    }
    return CARSO_OK;
}

static carso_status read_choice(carso_context *context, const json_t *entry, const char *key, const char *where,
                                const char *const *names, int32_t *value)
{
    const char *text;
    if (!json_object_get(entry, key)) {
        return CARSO_OK;
    }
    const carso_status status = cso_json_string(context, entry, key, where, &text);
    if (status != CARSO_OK) {
        return status;
    }
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], text) == 0) {
            *value = i;
            return CARSO_OK;
        }
    }
    return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: there is no %s \"%.60s\"", where, key, text);
}

static carso_status read_step_size(carso_context *context, const json_t *entry, const char *key, const char *where,
                                   double *value)
{
    const json_t *const given = json_object_get(entry, key);
    return given ? cso_ratio_read(context, given, key, where, value) : CARSO_OK;
}

static carso_status read_method(carso_context *context, const json_t *entry, const char *where, cso_planned_attack *out)
{
    const char *method;
    carso_status status = cso_json_string(context, entry, "method", where, &method);
    if (status != CARSO_OK || strcmp(method, noise_name) != 0) {
        return status != CARSO_OK
                   ? status
                   : read_choice(context, entry, "method", where, cso_method_names, &out->options.method);
    }
    if (json_object_get(entry, "steps")) {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: noise takes no steps", where);
    }
    out->options.method = CARSO_ATTACK_PGD;
    out->options.steps = 0;
    out->options.step_size = 0;
    out->family = CSO_FAMILY_NOISE;
    return CARSO_OK;
}

carso_status cso_attack_entry_read(carso_context *context, const json_t *entry, const char *where,
                                   carso_objective objective, cso_planned_attack *out)
{
    static const char *const known[] = {"name",     "method",   "objective",  "loss",    "steps",          "step_size", "random_start",
                                        "restarts", "momentum", "early_stop", "queries", "target_classes", "eot",       "draws",
                                        "family",   "fixed_draws", NULL};
    const char *name;
    int32_t victim = objective;
    *out = (cso_planned_attack){.family = CSO_FAMILY_WHITE_BOX};
    carso_attack_options *const options = &out->options;
    carso_attack_options_init(options, sizeof *options);
    options->step_size = NAN;
    options->draws = 0;
    carso_status status = cso_keys_check(context, entry, known, where);
    if (status == CARSO_OK) {
        status = read_method(context, entry, where, out);
    }
    if (status == CARSO_OK) {
        status = read_choice(context, entry, "objective", where, cso_objective_names, &victim);
    }
    if (status == CARSO_OK && victim == CARSO_OBJECTIVE_DEFENCE && objective != CARSO_OBJECTIVE_DEFENCE) {
        status = cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: an attack on the defence in a section that scores the classifier", where);
    }
    if (status == CARSO_OK) {
        status = read_choice(context, entry, "loss", where, cso_loss_names, &options->loss);
    }
    if (status == CARSO_OK) {
        status = read_integer(context, entry, "steps", where, 0, &options->steps);
    }
    if (status == CARSO_OK) {
        status = read_step_size(context, entry, "step_size", where, &options->step_size);
    }
    if (status == CARSO_OK) {
        status = read_step_size(context, entry, "momentum", where, &options->momentum);
    }
    if (status == CARSO_OK) {
        status = read_flag(context, entry, "random_start", where, &options->random_start);
    }
    if (status == CARSO_OK) {
        status = read_flag(context, entry, "early_stop", where, &options->early_stop);
    }
    if (status == CARSO_OK) {
        status = read_flag(context, entry, "fixed_draws", where, &options->fixed_draws);
    }
    if (status == CARSO_OK) {
        status = read_integer(context, entry, "restarts", where, 1, &options->restarts);
    }
    if (status == CARSO_OK) {
        status = read_integer(context, entry, "queries", where, 1, &options->queries);
    }
    if (status == CARSO_OK) {
        status = read_integer(context, entry, "target_classes", where, 1, &options->target_classes);
    }
    if (status == CARSO_OK) {
        status = read_integer(context, entry, "eot", where, 1, &options->eot);
    }
    if (status == CARSO_OK) {
        status = read_integer(context, entry, "draws", where, 1, &options->draws);
    }
    if (status == CARSO_OK) {
        status = cso_json_string(context, entry, json_object_get(entry, "name") ? "name" : "method", where, &name);
    }
    if (status != CARSO_OK) {
        return status;
    }
    options->objective = victim;
    out->callback = options->loss == CALLBACK;
    options->loss = out->callback ? CARSO_LOSS_MARGIN : options->loss; /* its aggregation says what is misclassified */
    if (options->method == CARSO_ATTACK_SQUARE) {
        out->family = CSO_FAMILY_QUERY;
    } else if (out->family != CSO_FAMILY_NOISE && victim != (int32_t)objective) {
        out->family = CSO_FAMILY_TRANSFER;
    }
    out->name = cso_duplicate_string(context, name);
    return out->name ? CARSO_OK : cso_fail_memory(context, "the protocol");
}

void cso_attack_entry_finish(const carso_model *model, int draws, int norm, double epsilon, cso_planned_attack *attack)
{
    carso_attack_options *const options = &attack->options;
    const bool defence = options->objective == CARSO_OBJECTIVE_DEFENCE;
    const int others = model->classes - 1;
    options->epsilon = epsilon;
    options->norm = norm;
    if (options->draws == 0) {
        options->draws = draws;
    }
    if (!(options->step_size >= 0)) {
        const double usual = options->steps > 0 ? 2.5 * epsilon / options->steps : 0;
        options->step_size = usual < epsilon ? usual : epsilon;
    }
    /* A gradient takes about three evaluations. */
    double evaluations = options->method == CARSO_ATTACK_FGSM     ? 4
                         : options->method == CARSO_ATTACK_SQUARE ? options->queries
                                                                  : 3.0 * options->steps + 1;
    if (options->method != CARSO_ATTACK_FGSM) {
        evaluations *= options->restarts;
    }
    if (options->method == CARSO_ATTACK_APGD_TARGETED || options->method == CARSO_ATTACK_FAB_TARGETED) {
        evaluations *= options->target_classes < others ? options->target_classes : others;
    }
    if (options->method == CARSO_ATTACK_FAB) {
        evaluations *= others;
    }
    attack->cost = evaluations * cso_prediction_cost(model, (carso_objective)options->objective, options->draws) *
                   (defence ? options->eot : 1);
}

json_t *cso_attack_entry_json(const cso_planned_attack *attack)
{
    static const char *const families[] = {"white-box", "noise", "query", "transfer"};
    const carso_attack_options *const options = &attack->options;
    json_t *const object =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:i}", "name", attack->name, "family", families[attack->family], "method",
                  attack->family == CSO_FAMILY_NOISE ? noise_name : cso_method_names[options->method], "objective",
                  cso_objective_names[options->objective], "loss",
                  cso_loss_names[attack->callback ? CALLBACK : options->loss], "restarts", (int)options->restarts);
    if (!object) {
        return NULL;
    }
    int failed = 0;
    if (options->method == CARSO_ATTACK_SQUARE) {
        failed |= json_object_set_new(object, "queries", json_integer(options->queries));
    } else if (attack->family != CSO_FAMILY_NOISE) {
        failed |= json_object_set_new(object, "steps", json_integer(options->steps));
    }
    if (options->method == CARSO_ATTACK_PGD && attack->family != CSO_FAMILY_NOISE) {
        failed |= json_object_set_new(object, "step_size", json_real(options->step_size));
        failed |= json_object_set_new(object, "momentum", json_real(options->momentum));
    }
    if (options->method >= CARSO_ATTACK_PGD && options->method <= CARSO_ATTACK_APGD_TARGETED) {
        failed |= json_object_set_new(object, "random_start", json_boolean(options->random_start));
    }
    if (options->method >= CARSO_ATTACK_APGD && options->method <= CARSO_ATTACK_SQUARE) {
        failed |= json_object_set_new(object, "early_stop", json_boolean(options->early_stop));
    }
    if (options->method == CARSO_ATTACK_APGD_TARGETED || options->method == CARSO_ATTACK_FAB_TARGETED) {
        failed |= json_object_set_new(object, "target_classes", json_integer(options->target_classes));
    }
    if (options->objective == CARSO_OBJECTIVE_DEFENCE) {
        failed |= json_object_set_new(object, "draws", json_integer(options->draws));
        failed |= json_object_set_new(object, "eot", json_integer(options->eot));
        failed |= json_object_set_new(object, "fixed_draws", json_boolean(options->fixed_draws));
    }
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}
