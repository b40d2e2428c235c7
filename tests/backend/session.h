/* SPDX-License-Identifier: BSD-2-Clause */
/* A trial on a backend: parameters, kernels of every direction, guarded buffers. Steps are public so that a check can
 * do something between them. */
#ifndef TESTS_BACKEND_SESSION_H
#define TESTS_BACKEND_SESSION_H

#include "guarded_buffer.h"
#include "trial.h"
#include "winograd_bound.h"

#define SESSION_MOST_PARTS 16

typedef struct session_options {
    bool trainable;           /* parameters are not constant; BatchNorm in training: always */
    int in_place;             /* forward writes over this input; -1: over none */
    bool backward_in_place;   /* BACKWARD_DATA writes dx over dy */
    bool forward_only;
    unsigned unwanted;        /* bit i: output i of the backward directions is NULL */
    unsigned char fill;       /* bytes of outputs, saved and workspace before a run */
    cso_parameter *const *parameter; /* shared with other sessions; NULL: of its own */
} session_options;

typedef struct session_direction {
    cso_kernel *kernel;
    guarded_buffer workspace;
} session_direction;

typedef struct session {
    carso_context *context;
    const op_trial *trial;
    session_options options;
    cso_parameter *parameter[CSO_MAX_PARAMETERS];
    session_direction direction[3];
    guarded_buffer source[TRIAL_MOST_SOURCES];
    guarded_buffer output, saved;
    guarded_buffer gradient, needed;
    guarded_buffer data_gradient[TRIAL_MOST_INPUTS];
    guarded_buffer parameter_gradient[2];
} session;

/* What came out: named tensors in double, images in C, H, W order. */
typedef struct outcome_part {
    char name[24];
    size_t count;
    double *value;
    winograd_points winograd; /* what kind of kernel made it */
} outcome_part;

typedef struct outcome {
    int count;
    outcome_part part[SESSION_MOST_PARTS];
} outcome;

session_options session_options_default(void);
/* UNSUPPORTED where the backend refuses the operation. On failure out is cleared. */
carso_status session_create(carso_context *context, const op_trial *trial, const session_options *options,
                            session *out);
void session_destroy(session *it);

carso_status session_forward(session *it);
/* Both backward directions, those that the trial has. */
carso_status session_backward(session *it);
carso_status session_collect(const session *it, outcome *out);
/* Name of a buffer whose guards, or of an input whose values changed; NULL: none. */
const char *session_damage(const session *it);

/* All of it. damage (may be NULL): as session_damage. */
carso_status session_run(carso_context *context, const op_trial *trial, const session_options *options, outcome *out,
                         const char **damage);

void outcome_clear(outcome *it);
const outcome_part *outcome_find(const outcome *it, const char *name);

/* Host values to a device's element type and layout, and back. */
carso_status parameter_create(const carso_context *context, const trial_parameter *source, bool trainable,
                              cso_parameter **out);

#endif
