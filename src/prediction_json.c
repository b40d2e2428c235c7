/* SPDX-License-Identifier: BSD-2-Clause */
#include "prediction_json.h"

static json_t *number_list(const double *values, uint64_t count)
{
    json_t *list = json_array();
    for (uint64_t i = 0; i < count; i++) {
        json_array_append_new(list, json_real(values[i]));
    }
    return list;
}

json_t *prediction_json(const carso_model *model, const carso_prediction *prediction, uint64_t image)
{
    uint64_t classes = (uint64_t)carso_prediction_classes(prediction);
    int32_t label = carso_prediction_labels(prediction)[image];
    return json_pack("{s:i, s:o, s:o, s:o, s:i, s:i}", "label", label, "class",
                     session_json_text(carso_model_class_name(model, label)), "probabilities",
                     number_list(carso_prediction_probabilities(prediction) + image * classes, classes), "log_odds",
                     number_list(carso_prediction_log_odds(prediction) + image * classes, classes), "draws",
                     (int)carso_prediction_draws(prediction), "agreement",
                     (int)carso_prediction_agreement(prediction)[image]);
}
