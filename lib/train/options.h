/* SPDX-License-Identifier: BSD-2-Clause */
/* Defaults, ranges and JSON form of the training options. */
#ifndef CSO_TRAIN_OPTIONS_H
#define CSO_TRAIN_OPTIONS_H

#include "base/json.h"
#include "carso/train.h"

void cso_purifier_training_defaults(carso_purifier_training_options *options);
void cso_classifier_training_defaults(carso_classifier_training_options *options);

/* INVALID_ARGUMENT names the option, its value and what it may be. */
carso_status cso_purifier_training_check(const carso_context *context, const carso_purifier_training_options *options);
carso_status cso_classifier_training_check(const carso_context *context,
                                           const carso_classifier_training_options *options);

/* INVALID_ARGUMENT names the first option that differs, with both values. */
carso_status cso_purifier_training_same(const carso_context *context, const carso_purifier_training_options *options,
                                        const carso_purifier_training_options *wanted);
carso_status cso_classifier_training_same(const carso_context *context,
                                          const carso_classifier_training_options *options,
                                          const carso_classifier_training_options *wanted);

/* An object with every option by its name, 64-bit seeds as decimal strings; NULL where memory ran out. */
json_t *cso_purifier_training_to_json(const carso_purifier_training_options *options);
json_t *cso_classifier_training_to_json(const carso_classifier_training_options *options);

/* BAD_FORMAT where an option is absent or of the wrong type. Ranges are
 * not checked. where: for messages. */
carso_status cso_purifier_training_from_json(carso_context *context, const json_t *json, const char *where,
                                             carso_purifier_training_options *options);
carso_status cso_classifier_training_from_json(carso_context *context, const json_t *json, const char *where,
                                               carso_classifier_training_options *options);

#endif
