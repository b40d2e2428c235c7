/* SPDX-License-Identifier: BSD-2-Clause */
/* What a model is, as text: a table for each part that the paper has one for. */
#ifndef MODEL_TABLES_H
#define MODEL_TABLES_H

#include <jansson.h>

#include "carso/carso.h"

/* description: of carso_model_describe, parsed. path: to call the model by. */
void print_model_tables(const carso_model *model, const char *path, const json_t *description);

#endif
