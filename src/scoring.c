/* SPDX-License-Identifier: BSD-2-Clause */
#include "scoring.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "progress.h"

const char *const aggregation_names[] = {"carso", "logit", "probability", NULL};
const char *const objective_names[] = {"classifier", "defence", NULL};
const char *const loss_names[] = {"cross-entropy", "margin", "probability-cross-entropy", "log-odds", "carso-cross-entropy",
                                  "dlr", "probability-margin", "probability-dlr", "carso-dlr", "carso-margin", NULL};

void score_release(score *held)
{
    free(held->correct_share);
    free(held->label);
    *held = (score){0};
}

static exit_status predict_once(const carso_model *model, const carso_images *images, const samples *held,
                                int32_t draws, int32_t aggregation, bool defended, uint64_t seed, progress_bar *bar,
                                carso_prediction **out)
{
    carso_predict_options options;
    carso_predict_options_init(&options, sizeof options);
    options.draws = draws;
    options.aggregation = aggregation;
    options.seed = seed;
    options.first_image = held->first;
    options.progress = progress_callback;
    options.progress_user = bar;
    carso_status status =
        defended ? carso_predict_robust(model, images, &options, out) : carso_predict(model, images, &options, out);
    if (status != CARSO_OK) {
        progress_finish(bar);
        return session_failure(carso_model_context(model), status, "cannot predict");
    }
    return STATUS_OK;
}

static void summarise(score *out, uint64_t count, const uint32_t *most_votes_right)
{
    double sum = 0, square = 0, majority = 0, worst = 0;
    for (uint64_t i = 0; i < count; i++) {
        double share = out->correct_share[i];
        sum += share;
        square += share * share;
        majority += most_votes_right[i];
        worst += share == 1;
    }
    double n = (double)count;
    out->mean = sum / n;
    double variance = count > 1 ? (square - n * out->mean * out->mean) / (n - 1) : 0;
    out->half_width = 1.96 * sqrt((variance > 0 ? variance : 0) / n);
    out->majority = majority / n;
    out->worst = worst / n;
}

exit_status score_images(const carso_model *model, const samples *held, const float *pixels, int32_t draws,
                         int32_t aggregation, int repeats, uint64_t seed, const char *title, bool quiet, score *out)
{
    bool defended = repeats > 0;
    int rounds = defended ? repeats : 1;
    size_t count = (size_t)held->count;
    carso_images images = samples_describe(held, pixels, 0, held->count);
    carso_model_info info = {.struct_size = sizeof info};
    progress_bar bar;
    carso_model_get_info(model, &info);
    uint32_t *votes = calloc(count * (size_t)info.classes, sizeof *votes);
    uint32_t *majority_right = calloc(count, sizeof *majority_right);
    *out = (score){.repeats = repeats, .correct_share = calloc(count, sizeof(double)), .label = calloc(count, sizeof(int32_t))};
    exit_status result = STATUS_OK;
    if (!votes || !majority_right || !out->correct_share || !out->label) {
        complain("out of memory");
        result = STATUS_FAILURE;
    }
    progress_start(&bar, title, quiet);
    for (int round = 0; round < rounds && result == STATUS_OK; round++) {
        carso_prediction *prediction;
        result =
            predict_once(model, &images, held, draws, aggregation, defended, seed + (uint64_t)round, &bar, &prediction);
        if (result != STATUS_OK) {
            break;
        }
        const int32_t *labels = carso_prediction_labels(prediction);
        const int32_t *agreement = carso_prediction_agreement(prediction);
        for (size_t i = 0; i < count; i++) {
            out->correct_share[i] += (labels[i] == held->labels[i]) / (double)rounds;
            out->agreement +=
                agreement[i] / (double)carso_prediction_draws(prediction) / (double)rounds / (double)count;
            votes[i * (size_t)info.classes + (size_t)labels[i]]++;
            if (round == 0) {
                out->label[i] = labels[i];
            }
        }
        carso_prediction_destroy(prediction);
    }
    progress_finish(&bar);
    if (result == STATUS_OK) {
        for (size_t i = 0; i < count; i++) {
            const uint32_t *vote = votes + i * (size_t)info.classes;
            int32_t winner = 0;
            for (int32_t j = 1; j < info.classes; j++) {
                winner = vote[j] > vote[winner] ? j : winner;
            }
            majority_right[i] = winner == held->labels[i];
            /* A sum of reciprocals is not exactly 1. */
            out->correct_share[i] = round(out->correct_share[i] * rounds) / rounds;
        }
        summarise(out, held->count, majority_right);
    } else {
        score_release(out);
    }
    free(votes);
    free(majority_right);
    return result;
}

json_t *score_json(const score *held)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:i}", "accuracy", held->mean, "interval_half_width", held->half_width, "majority",
                     held->majority, "worst", held->worst, "agreement", held->agreement, "repeats", held->repeats);
}
