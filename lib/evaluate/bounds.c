/* SPDX-License-Identifier: BSD-2-Clause */
#include <math.h>

#include "evaluate/evaluation.h"

/* Of the sum of squares in l2, whose terms may be added in another order than the attack did. */
#define ROUNDING 1e-9
/* Levels of 8 bits are no floats: two that lie 8/255 apart may be further apart as floats, by their rounding. */
#define LEVEL_ROUNDING 1e-6

bool cso_inside(const carso_evaluation *evaluation, double epsilon, const float *original, const float *point)
{
    double sum = 0;
    for (size_t i = 0; i < evaluation->image_size; i++) {
        const double difference = (double)point[i] - (double)original[i];
        if (!(point[i] >= 0 && point[i] <= 1)) {
            return false;
        }
        if (evaluation->norm == CARSO_NORM_LINF && fabs(difference) > epsilon) {
            return false;
        }
        sum += difference * difference;
    }
    return evaluation->norm == CARSO_NORM_LINF || sqrt(sum) <= epsilon * (1 + ROUNDING);
}

bool cso_eight_bit(const carso_evaluation *evaluation, double epsilon, const float *original, const float *point,
                   float *out)
{
    for (size_t i = 0; i < evaluation->image_size; i++) {
        const double wanted = (double)point[i], centre = (double)original[i];
        double level = nearbyint(255 * wanted);
        float value = (float)level / 255.0f;
        if (evaluation->norm == CARSO_NORM_LINF && fabs((double)value - centre) > epsilon + LEVEL_ROUNDING) {
            level += (double)value > centre ? -1 : 1;
            value = (float)level / 255.0f;
        }
        out[i] = value;
    }
    return cso_inside(evaluation, epsilon + LEVEL_ROUNDING, original, out);
}
