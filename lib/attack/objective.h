/* SPDX-License-Identifier: BSD-2-Clause */
/* A model's classifier alone, or its whole defence, as what an attack attacks. */
#ifndef CSO_ATTACK_OBJECTIVE_H
#define CSO_ATTACK_OBJECTIVE_H

#include "attack/query.h"
#include "carso/predict.h"

typedef struct cso_model_objective {
    carso_model *model; /* borrowed */
    carso_objective kind;
    carso_loss loss;
    int draws; /* DEFENCE */
    uint64_t seed;
    cso_purpose purpose; /* of the latents: CSO_PURPOSE_ATTACK_LATENT but for the trainers' own */
    bool wants_target;   /* wrong is: predicts the target, where there is one */
    carso_loss_callback loss_function; /* NULL, or in place of loss */
    void *loss_user;
} cso_model_objective;

/* settings must outlive the result. */
cso_objective cso_model_objective_create(cso_model_objective *settings);

#endif
