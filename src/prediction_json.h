/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PREDICTION_JSON_H
#define PREDICTION_JSON_H

#include "session.h"

/* What a prediction says of an image: label, class, probabilities, log-odds, draws, agreement. */
json_t *prediction_json(const carso_model *model, const carso_prediction *prediction, uint64_t image);

#endif
