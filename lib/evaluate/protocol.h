/* SPDX-License-Identifier: BSD-2-Clause */
/* What is attacked with what, how hard, in which order: a protocol's description made into a list of cells. */
#ifndef CSO_EVALUATE_PROTOCOL_H
#define CSO_EVALUATE_PROTOCOL_H

#include "base/json.h"
#include "carso/evaluate.h"
#include "model/model.h"

/* What an attack knows of its victim. */
typedef enum cso_family {
    CSO_FAMILY_WHITE_BOX,
    CSO_FAMILY_NOISE,   /* a random point */
    CSO_FAMILY_QUERY,   /* losses alone */
    CSO_FAMILY_TRANSFER /* gradients of the classifier, against the defence */
} cso_family;

typedef struct cso_planned_attack {
    char *name;
    carso_attack_options options; /* without what differs from call to call */
    cso_family family;
    bool callback; /* raises the application's own loss */
    double cost;   /* about, in evaluations of the classifier for one image */
} cso_planned_attack;

typedef enum cso_role { CSO_ROLE_PLAIN, CSO_ROLE_GUARD, CSO_ROLE_STEPS } cso_role;

/* One section at one epsilon, and of a curve, one number of steps: its attacks are joined, the worst counts. */
typedef struct cso_cell {
    char *section;
    cso_role role;
    carso_objective objective;
    double epsilon;
    int steps; /* STEPS */
    cso_planned_attack *attack;
    int attack_count;
} cso_cell;

typedef struct cso_protocol {
    const carso_context *context;
    char *name;
    int draws, repeats;
    cso_cell *cell;
    int cell_count;
    json_t *omitted; /* array of objects: section, attack (or null), reason */
    int dlr_omitted; /* attacks left out for want of classes */
} cso_protocol;

/* options: resolved, in range. The result can be destroyed whatever is returned. */
carso_status cso_protocol_create(const carso_model *model, const carso_evaluation_options *options, cso_protocol *out);
void cso_protocol_destroy(cso_protocol *protocol);
/* lib/evaluate/protocol_json.c: a new object with all cells and attacks; NULL where memory ran out. */
json_t *cso_protocol_json(const cso_protocol *protocol);
/* From such an object. The result can be destroyed whatever is returned. */
carso_status cso_protocol_from_json(carso_context *context, const json_t *object, const char *where, int norm,
                                    cso_protocol *out);

/* lib/evaluate/protocol_text.c: description of a protocol, list of attacks of an ensemble, as JSON; NULL: none of that name. */
const char *cso_protocol_text(const char *name);
const char *cso_ensemble_text(const char *name);

/* lib/evaluate/attack_entry.c */
extern const char *const cso_method_names[], *const cso_loss_names[];
extern const char *const cso_objective_names[], *const cso_norm_names[];
/* Reads one attack of a section on objective; where: for messages. The name is allocated. */
carso_status cso_attack_entry_read(carso_context *context, const json_t *entry, const char *where,
                                   carso_objective objective, cso_planned_attack *out);
/* What follows of the epsilon, the model's classes and draws. */
void cso_attack_entry_finish(const carso_model *model, int draws, int norm, double epsilon, cso_planned_attack *attack);
/* lib/evaluate/cost.c: of a prediction, in evaluations of the classifier. */
double cso_prediction_cost(const carso_model *model, carso_objective objective, int draws);
json_t *cso_attack_entry_json(const cso_planned_attack *attack);
/* A number, or a fraction in a string: "8/255". */
carso_status cso_ratio_read(carso_context *context, const json_t *value, const char *key, const char *where,
                            double *out);
/* INVALID where object has a key that is not listed. */
carso_status cso_keys_check(carso_context *context, const json_t *object, const char *const *known, const char *where);

#endif
