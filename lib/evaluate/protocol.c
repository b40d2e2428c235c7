/* SPDX-License-Identifier: BSD-2-Clause */
#include "evaluate/protocol.h"

#include <stdio.h>
#include <string.h>

#include "attack/losses.h"

#define MOST_SECTIONS 64
#define MOST_ATTACKS 64
#define MOST_EPSILONS 64
#define MOST_CELLS 1024
#define WHERE_SIZE 160

/* A protocol in the making. */
typedef struct making {
    const carso_model *model;
    carso_context *context;
    const carso_evaluation_options *options;
    const json_t *description;
    cso_protocol *out;
} making;

static void attack_release(const carso_context *context, cso_planned_attack *attack, int count)
{
    for (int i = 0; attack && i < count; i++) {
        cso_release(context, attack[i].name);
    }
    cso_release(context, attack);
}

void cso_protocol_destroy(cso_protocol *protocol)
{
    for (int i = 0; protocol->cell && i < protocol->cell_count; i++) {
        cso_release(protocol->context, protocol->cell[i].section);
        attack_release(protocol->context, protocol->cell[i].attack, protocol->cell[i].attack_count);
    }
    cso_release(protocol->context, protocol->cell);
    cso_release(protocol->context, protocol->name);
    json_decref(protocol->omitted);
    *protocol = (cso_protocol){0};
}

/* Built-in texts are written with apostrophes, which C strings hold without escapes. */
static carso_status parse_text(carso_context *context, const char *text, bool built_in, const char *name, json_t **out)
{
    char *const copy = cso_duplicate_string(context, text);
    *out = NULL;
    if (!copy) {
        return cso_fail_memory(context, "the protocol");
    }
    for (char *c = copy; built_in && *c; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    const carso_status status = cso_json_parse(context, copy, strlen(copy), name, out);
    cso_release(context, copy);
    return status;
}

static carso_status omit(const making *work, const char *section, const char *attack, const char *reason)
{
    const int failed = json_array_append_new(work->out->omitted, json_pack("{s:s, s:s?, s:s}", "section", section, "attack", attack,
                                                                            "reason", reason));
    return failed ? cso_fail_memory(work->context, "the protocol") : CARSO_OK;
}

static bool enough_classes(const making *work, const cso_planned_attack *attack)
{
    const bool targeted = attack->options.method == CARSO_ATTACK_APGD_TARGETED;
    return attack->callback ||
           work->model->classes >= cso_loss_least_classes((carso_loss)attack->options.loss, targeted);
}

static carso_status add_attack(const making *work, cso_cell *cell, const json_t *entry, const char *where)
{
    cso_planned_attack attack;
    if (cell->attack_count == MOST_ATTACKS) {
        return cso_fail(work->context, CARSO_ERROR_BAD_FORMAT, "%s: more than %d attacks", where, MOST_ATTACKS);
    }
    carso_status status = cso_attack_entry_read(work->context, entry, where, cell->objective, &attack);
    if (status == CARSO_OK) {
        if (cell->role == CSO_ROLE_STEPS) {
            attack.options.steps = cell->steps;
        }
        if (attack.callback && !work->options->loss_function) {
            cso_release(work->context, attack.name);
            return cso_fail(work->context, CARSO_ERROR_INVALID_ARGUMENT,
                            "%s: the loss is \"callback\", but loss_function is NULL", where);
        }
        cso_attack_entry_finish(work->model, work->out->draws, work->options->norm, cell->epsilon, &attack);
        if (enough_classes(work, &attack)) {
            cell->attack[cell->attack_count++] = attack;
            return CARSO_OK;
        }
        work->out->dlr_omitted++;
        status = omit(work, cell->section, attack.name, "the model has too few classes for its loss");
    }
    cso_release(work->context, attack.name);
    return status;
}

static carso_status add_attacks(const making *work, cso_cell *cell, const json_t *attacks, const char *where)
{
    carso_status status = CARSO_OK;
    for (size_t i = 0; i < json_array_size(attacks) && status == CARSO_OK; i++) {
        const json_t *const entry = json_array_get(attacks, i);
        char place[WHERE_SIZE + 32];
        snprintf(place, sizeof place, "%s, attack %zu", where, i + 1);
        if (!json_is_string(entry)) {
            status = add_attack(work, cell, entry, place);
            continue;
        }
        const char *const text = cso_ensemble_text(json_string_value(entry));
        json_t *members;
        if (!text) {
            return cso_fail(work->context, CARSO_ERROR_BAD_FORMAT, "%s: there is no ensemble \"%.60s\"", place,
                            json_string_value(entry));
        }
        status = parse_text(work->context, text, true, place, &members);
        for (size_t j = 0; j < json_array_size(members) && status == CARSO_OK; j++) {
            status = add_attack(work, cell, json_array_get(members, j), place);
        }
        json_decref(members);
    }
    return status;
}

static carso_status add_cell(const making *work, const json_t *section, const char *name, const char *where,
                             cso_cell shape)
{
    cso_protocol *const out = work->out;
    const json_t *attacks;
    if (out->cell_count == MOST_CELLS) {
        return cso_fail(work->context, CARSO_ERROR_BAD_FORMAT,
                        "%s: more than %d combinations of section, epsilon and steps", where, MOST_CELLS);
    }
    carso_status status = cso_json_array(work->context, section, "attacks", where, MOST_ATTACKS, &attacks);
    if (status != CARSO_OK) {
        return status;
    }
    cso_cell *const cell = &out->cell[out->cell_count++];
    *cell = shape;
    cell->section = cso_duplicate_string(work->context, name);
    cell->attack = cso_allocate(work->context, MOST_ATTACKS, sizeof *cell->attack);
    if (!cell->section || !cell->attack) {
        return cso_fail_memory(work->context, "the protocol");
    }
    return add_attacks(work, cell, attacks, where);
}

static carso_status read_epsilons(const making *work, const json_t *object, const char *where, double *out,
                                  size_t *out_count)
{
    const json_t *list;
    carso_status status = cso_json_array(work->context, object, "epsilons", where, MOST_EPSILONS, &list);
    *out_count = 0;
    for (size_t i = 0; status == CARSO_OK && i < json_array_size(list); i++) {
        status = cso_ratio_read(work->context, json_array_get(list, i), "epsilons", where, &out[i]);
        *out_count = i + 1;
    }
    return status;
}

/* A section's own, else the caller's, else the protocol's. */
static carso_status find_epsilons(const making *work, const json_t *section, const char *where, double *out,
                                  size_t *out_count)
{
    if (json_object_get(section, "epsilons")) {
        return read_epsilons(work, section, where, out, out_count);
    }
    if (!work->options->epsilons) {
        return read_epsilons(work, work->description, "the protocol", out, out_count);
    }
    *out_count = (size_t)work->options->epsilon_count;
    memcpy(out, work->options->epsilons, *out_count * sizeof *out);
    return CARSO_OK;
}

static carso_status find_curve(const making *work, const json_t *section, const char *where, const json_t **out)
{
    *out = NULL;
    return json_object_get(section, "curve")
               ? cso_json_array(work->context, section, "curve", where, MOST_EPSILONS, out)
               : CARSO_OK;
}

static carso_status add_section(const making *work, const json_t *section, size_t number)
{
    static const char *const known[] = {"name", "objective", "epsilons", "guard", "curve", "attacks", NULL};
    char where[WHERE_SIZE];
    double epsilon[MOST_EPSILONS];
    size_t epsilon_count = 0;
    const char *name, *objective;
    const json_t *curve;
    snprintf(where, sizeof where, "section %zu", number + 1);
    carso_status status = cso_keys_check(work->context, section, known, where);
    if (status == CARSO_OK) {
        status = cso_json_string(work->context, section, "name", where, &name);
    }
    if (status == CARSO_OK) {
        status = cso_json_string(work->context, section, "objective", where, &objective);
    }
    if (status != CARSO_OK) {
        return status;
    }
    const bool defence = strcmp(objective, cso_objective_names[CARSO_OBJECTIVE_DEFENCE]) == 0;
    snprintf(where, sizeof where, "section %zu (%.60s)", number + 1, name);
    if (!defence && strcmp(objective, cso_objective_names[CARSO_OBJECTIVE_CLASSIFIER]) != 0) {
        return cso_fail(work->context, CARSO_ERROR_BAD_FORMAT, "%s: there is no objective \"%.60s\"", where, objective);
    }
    if (json_object_get(section, "guard") && !json_is_boolean(json_object_get(section, "guard"))) {
        return cso_fail(work->context, CARSO_ERROR_BAD_FORMAT, "%s: \"guard\" is neither true nor false", where);
    }
    if (defence && !work->model->purifier) {
        return omit(work, name, NULL, "the model has no purifier");
    }
    const bool guard = json_is_true(json_object_get(section, "guard"));
    status = find_epsilons(work, section, where, epsilon, &epsilon_count);
    if (status == CARSO_OK) {
        status = find_curve(work, section, where, &curve);
    }
    const size_t points = status == CARSO_OK && curve ? json_array_size(curve) : 1;
    for (size_t i = 0; i < epsilon_count * points && status == CARSO_OK; i++) {
        const json_t *const steps = curve ? json_array_get(curve, i % points) : NULL;
        if (steps && (!json_is_integer(steps) || json_integer_value(steps) < 0 || json_integer_value(steps) > 1000000)) {
            return cso_fail(work->context, CARSO_ERROR_BAD_FORMAT, "%s: \"curve\" holds what is no number of steps",
                            where);
        }
        const cso_cell shape = {.role = curve ? CSO_ROLE_STEPS : guard ? CSO_ROLE_GUARD : CSO_ROLE_PLAIN,
                                .objective = defence ? CARSO_OBJECTIVE_DEFENCE : CARSO_OBJECTIVE_CLASSIFIER,
                                .epsilon = epsilon[i / points],
                                .steps = steps ? (int)json_integer_value(steps) : 0};
        status = add_cell(work, section, name, where, shape);
    }
    return status;
}

static carso_status read_count(const making *work, const char *key, int64_t most, int given, int usual, int *out)
{
    int64_t number = given > 0 ? given : usual;
    carso_status status = CARSO_OK;
    if (json_object_get(work->description, key)) {
        status = cso_json_integer(work->context, work->description, key, "the protocol", 1, most, &number);
        number = given > 0 ? given : number;
    }
    *out = (int)number;
    return status;
}

static carso_status build(making *work)
{
    static const char *const known[] = {"name", "epsilons", "draws", "repeats", "sections", NULL};
    cso_protocol *const out = work->out;
    const json_t *sections;
    const char *name;
    carso_status status = cso_keys_check(work->context, work->description, known, "the protocol");
    if (status == CARSO_OK) {
        status = cso_json_string(work->context, work->description, "name", "the protocol", &name);
    }
    if (status == CARSO_OK) {
        status = cso_json_array(work->context, work->description, "sections", "the protocol", MOST_SECTIONS, &sections);
    }
    if (status == CARSO_OK) {
        status = read_count(work, "draws", 65536, work->options->draws, 8, &out->draws);
    }
    if (status == CARSO_OK) {
        status = read_count(work, "repeats", 1000, work->options->repeats, 10, &out->repeats);
    }
    if (status != CARSO_OK) {
        return status;
    }
    out->name = cso_duplicate_string(work->context, name);
    out->cell = cso_allocate(work->context, MOST_CELLS, sizeof *out->cell);
    out->omitted = json_array();
    if (!out->name || !out->cell || !out->omitted) {
        return cso_fail_memory(work->context, "the protocol");
    }
    for (size_t i = 0; i < json_array_size(sections) && status == CARSO_OK; i++) {
        status = add_section(work, json_array_get(sections, i), i);
    }
    if (status == CARSO_OK && out->cell_count == 0) {
        status = cso_fail(work->context, CARSO_ERROR_BAD_FORMAT,
                          "the protocol leaves nothing to attack: it has no sections, no epsilons, or only such as need a purifier");
    }
    return status;
}

carso_status cso_protocol_create(const carso_model *model, const carso_evaluation_options *options, cso_protocol *out)
{
    carso_context *const context = model->context;
    const char *const built_in = cso_protocol_text(options->protocol);
    json_t *description = NULL;
    *out = (cso_protocol){.context = context};
    if (!built_in && options->protocol[strspn(options->protocol, " \t\r\n")] != '{') {
        return cso_fail(context, CARSO_ERROR_BAD_FORMAT,
                        "there is no protocol \"%.60s\"; known are quick, paper and adaptive, or a description in JSON", options->protocol);
    }
    carso_status status =
        parse_text(context, built_in ? built_in : options->protocol, built_in != NULL, "the protocol", &description);
    if (status == CARSO_OK) {
        making work = {.model = model, .context = context, .options = options, .description = description, .out = out};
        status = build(&work);
    }
    json_decref(description);
    return status;
}
