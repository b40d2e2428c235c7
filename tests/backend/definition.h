/* SPDX-License-Identifier: BSD-2-Clause */
/* What each operation means, one output at a time in long double, slow and with nothing shared with any backend. */
#ifndef TESTS_BACKEND_DEFINITION_H
#define TESTS_BACKEND_DEFINITION_H

#include "session.h"

/* The parts of a forward run, and the gradient to the input where the operation chooses: ReLU at 0, the maximum of a
 * window. The reference in double is compared with it. */
void define_results(const op_trial *it, outcome *out);
/* Whether that is quick enough. */
bool definition_is_affordable(const op_trial *it);

#endif
