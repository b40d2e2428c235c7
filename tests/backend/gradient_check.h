/* SPDX-License-Identifier: BSD-2-Clause */
/* A backend's gradients against central differences of its own forward run, in double. */
#ifndef TESTS_BACKEND_GRADIENT_CHECK_H
#define TESTS_BACKEND_GRADIENT_CHECK_H

#include "session.h"

/* context: of a backend that computes in double on the host. gradients: its outcome for it. Returns whether all agree;
 * otherwise *problem says which do not. it->ties must not be set. */
bool gradients_agree(carso_context *context, const op_trial *it, const outcome *gradients, char *problem,
                     size_t problem_size);

#endif
