/* SPDX-License-Identifier: BSD-2-Clause */
/* What each operation means, one output at a time in long double, slow and with nothing shared with any backend. */
#ifndef TESTS_BACKEND_DEFINITION_H
#define TESTS_BACKEND_DEFINITION_H

#include "session.h"

/* The parts of a forward run. The reference in double is compared with it. */
void define_forward(const op_trial *it, outcome *out);

#endif
