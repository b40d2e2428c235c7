/* SPDX-License-Identifier: BSD-2-Clause */
/* A protocol as it stands in files and results, with every cell and attack spelt out. */
#include <string.h>

#include "evaluate/protocol.h"

#define MOST_CELLS 1024
#define MOST_ATTACKS 64

static const char *const roles[] = {"plain", "guard", "steps"};

static json_t *cell_json(const cso_cell *cell)
{
    json_t *const attacks = json_array();
    int failed = attacks == NULL;
    for (int i = 0; i < cell->attack_count && !failed; i++) {
        failed = json_array_append_new(attacks, cso_attack_entry_json(&cell->attack[i]));
    }
    if (failed) {
        json_decref(attacks);
        return NULL;
    }
    json_t *const object =
        json_pack("{s:s, s:s, s:s, s:f, s:o}", "section", cell->section, "role", roles[cell->role], "objective",
                  cso_objective_names[cell->objective], "epsilon", cell->epsilon, "attacks", attacks);
    if (object && cell->role == CSO_ROLE_STEPS && json_object_set_new(object, "steps", json_integer(cell->steps))) {
        json_decref(object);
        return NULL;
    }
    return object;
}

json_t *cso_protocol_json(const cso_protocol *protocol)
{
    json_t *const cells = json_array();
    int failed = cells == NULL;
    for (int i = 0; i < protocol->cell_count && !failed; i++) {
        failed = json_array_append_new(cells, cell_json(&protocol->cell[i]));
    }
    if (failed) {
        json_decref(cells);
        return NULL;
    }
    return json_pack("{s:s, s:i, s:i, s:o, s:O, s:i}", "name", protocol->name, "draws", protocol->draws, "repeats", protocol->repeats, "cells",
                     cells, "omitted", protocol->omitted, "too_few_classes", protocol->dlr_omitted);
}

static carso_status read_cell(carso_context *context, const json_t *object, int norm, cso_cell *cell)
{
    static const char *const where = "a cell";
    const char *section, *role, *objective;
    const json_t *attacks, *steps = json_object_get(object, "steps");
    carso_status status = cso_json_string(context, object, "section", where, &section);
    if (status == CARSO_OK) {
        status = cso_json_string(context, object, "role", where, &role);
    }
    if (status == CARSO_OK) {
        status = cso_json_string(context, object, "objective", where, &objective);
    }
    if (status == CARSO_OK) {
        status = cso_json_number(context, object, "epsilon", where, &cell->epsilon);
    }
    if (status == CARSO_OK) {
        status = cso_json_array(context, object, "attacks", where, MOST_ATTACKS, &attacks);
    }
    if (status != CARSO_OK) {
        return status;
    }
    cell->role = strcmp(role, roles[CSO_ROLE_GUARD]) == 0   ? CSO_ROLE_GUARD
                 : strcmp(role, roles[CSO_ROLE_STEPS]) == 0 ? CSO_ROLE_STEPS
                                                            : CSO_ROLE_PLAIN;
    cell->objective = strcmp(objective, cso_objective_names[CARSO_OBJECTIVE_DEFENCE]) == 0 ? CARSO_OBJECTIVE_DEFENCE
                                                                                          : CARSO_OBJECTIVE_CLASSIFIER;
    cell->steps = (int)json_integer_value(steps);
    cell->section = cso_duplicate_string(context, section);
    cell->attack = cso_allocate(context, json_array_size(attacks), sizeof *cell->attack);
    if (!cell->section || !cell->attack) {
        return cso_fail_memory(context, "the protocol");
    }
    for (size_t i = 0; i < json_array_size(attacks) && status == CARSO_OK; i++) {
        cso_planned_attack *const attack = &cell->attack[cell->attack_count++];
        status = cso_attack_entry_read(context, json_array_get(attacks, i), where, cell->objective, attack);
        attack->options.epsilon = cell->epsilon;
        attack->options.norm = norm;
    }
    return status;
}

carso_status cso_protocol_from_json(carso_context *context, const json_t *object, const char *where, int norm,
                                    cso_protocol *out)
{
    const char *name;
    const json_t *cells, *omitted;
    int64_t draws, repeats, few;
    *out = (cso_protocol){.context = context};
    carso_status status = cso_json_string(context, object, "name", where, &name);
    if (status == CARSO_OK) {
        status = cso_json_integer(context, object, "draws", where, 1, 65536, &draws);
    }
    if (status == CARSO_OK) {
        status = cso_json_integer(context, object, "repeats", where, 1, 1000, &repeats);
    }
    if (status == CARSO_OK) {
        status = cso_json_integer(context, object, "too_few_classes", where, 0, INT32_MAX, &few);
    }
    if (status == CARSO_OK) {
        status = cso_json_array(context, object, "omitted", where, MOST_CELLS * MOST_ATTACKS, &omitted);
    }
    if (status == CARSO_OK) {
        status = cso_json_array(context, object, "cells", where, MOST_CELLS, &cells);
    }
    if (status != CARSO_OK) {
        return status;
    }
    out->draws = (int)draws;
    out->repeats = (int)repeats;
    out->dlr_omitted = (int)few;
    out->omitted = json_incref((json_t *)omitted);
    out->name = cso_duplicate_string(context, name);
    out->cell = cso_allocate(context, json_array_size(cells), sizeof *out->cell);
    if (!out->name || !out->cell) {
        return cso_fail_memory(context, "the protocol");
    }
    for (size_t i = 0; i < json_array_size(cells) && status == CARSO_OK; i++) {
        status = read_cell(context, json_array_get(cells, i), norm, &out->cell[out->cell_count++]);
    }
    return status;
}
