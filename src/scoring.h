/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How often a prediction is right. The defence is random, so it is scored on several independent sets of draws that no
 * attack has seen: the mean accuracy of one prediction, with its interval over images, the majority of the predictions,
 * and the worst: an image counts only if every prediction was right.
 */
#ifndef SCORING_H
#define SCORING_H

#include "samples.h"

typedef struct score {
    double mean;
    double half_width; /* of the 95 % interval of the mean, over images */
    double majority;
    double worst;
    double agreement; /* mean share of draws that agree with the prediction */
    int repeats;
    double *correct_share; /* [count], share of predictions that were right */
    int32_t *label;        /* [count], the first prediction */
} score;

/* repeats 0: the bare classifier, once. Uses seeds seed .. seed + repeats - 1. */
exit_status score_images(const carso_model *model, const samples *held, const float *pixels, int32_t draws,
                         int32_t aggregation, int repeats, uint64_t seed, const char *title, bool quiet, score *out);
void score_release(score *held);
json_t *score_json(const score *held);

extern const char *const aggregation_names[];
extern const char *const objective_names[];
extern const char *const loss_names[];

#endif
