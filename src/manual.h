/* SPDX-License-Identifier: BSD-2-Clause */
/* The manual page, made of the commands' tables. */
#ifndef MANUAL_H
#define MANUAL_H

#include "options.h"

void manual_print(const command *const *commands, FILE *stream);

#endif
