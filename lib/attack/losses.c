/* SPDX-License-Identifier: BSD-2-Clause */
#include "attack/losses.h"

#include <math.h>

#include "model/aggregation.h"

/* The logits of one image over the draws, and what a loss writes. row: distance from a draw to the next. */
typedef struct image_logits {
    const double *logit;
    double *gradient; /* NULL: not wanted */
    int64_t row;
    int draws, classes, label;
    double *log_probability, *log_odds; /* [classes] */
    double *scratch;                    /* CSO_AGGREGATE_SCRATCH */
} image_logits;

static bool all_finite(const image_logits *image)
{
    for (int d = 0; d < image->draws; d++)
        for (int i = 0; i < image->classes; i++)
            if (!isfinite(image->logit[d * image->row + i]))
                return false;
    return true;
}

static void fill_gradient(const image_logits *image, double value)
{
    for (int d = 0; image->gradient && d < image->draws; d++)
        for (int i = 0; i < image->classes; i++)
            image->gradient[d * image->row + i] = value;
}

static void aggregate(const image_logits *image, carso_aggregation how)
{
    cso_aggregate(how, image->logit, image->draws, image->row, image->classes, image->log_probability, image->log_odds,
                  image->scratch);
}

/* log(1 - p) of the label, accurate where p is near 1. */
static double label_log_rest(const image_logits *image)
{
    return image->log_probability[image->label] - image->log_odds[image->label];
}

static double cross_entropy(const image_logits *image)
{
    aggregate(image, CARSO_AGGREGATE_LOGIT);
    for (int d = 0; image->gradient && d < image->draws; d++)
        for (int i = 0; i < image->classes; i++)
            image->gradient[d * image->row + i] =
                (i == image->label ? -exp(label_log_rest(image)) : exp(image->log_probability[i])) / image->draws;
    return -image->log_probability[image->label];
}

static double margin(const image_logits *image)
{
    double *const mean = image->scratch;
    for (int i = 0; i < image->classes; i++) {
        double sum = 0.0;
        for (int d = 0; d < image->draws; d++)
            sum += image->logit[d * image->row + i];
        mean[i] = sum / image->draws;
    }
    int other = image->label == 0 ? 1 : 0;
    for (int i = 0; i < image->classes; i++)
        if (i != image->label && mean[i] > mean[other])
            other = i;
    fill_gradient(image, 0.0);
    for (int d = 0; image->gradient && d < image->draws; d++) {
        image->gradient[d * image->row + other] = 1.0 / image->draws;
        image->gradient[d * image->row + image->label] = -1.0 / image->draws;
    }
    return mean[other] - mean[image->label];
}

static double probability_cross_entropy(const image_logits *image)
{
    aggregate(image, CARSO_AGGREGATE_PROBABILITY);
    const double log_mean = image->log_probability[image->label];
    /* d / d l_dj of -log mean_d p_dy is w_d (p_dj - [j = y]), w_d = p_dy / sum over draws of p_dy. The draw's own
     * probabilities take the place of the mean's. */
    for (int d = 0; image->gradient && d < image->draws; d++) {
        cso_aggregate(CARSO_AGGREGATE_LOGIT, image->logit + d * image->row, 1, 0, image->classes,
                      image->log_probability, image->log_odds, image->scratch);
        const double log_weight = image->log_probability[image->label] - log_mean - log((double)image->draws);
        for (int i = 0; i < image->classes; i++)
            image->gradient[d * image->row + i] = i == image->label ? -exp(log_weight + label_log_rest(image))
                                                                    : exp(log_weight + image->log_probability[i]);
    }
    return -log_mean;
}

static double log_odds(const image_logits *image)
{
    aggregate(image, CARSO_AGGREGATE_CARSO);
    if (image->gradient) {
        cso_aggregate_log_odds_gradient(image->logit, image->draws, image->row, image->classes, image->label,
                                        image->gradient, image->scratch);
        for (int d = 0; d < image->draws; d++)
            for (int i = 0; i < image->classes; i++)
                image->gradient[d * image->row + i] = -image->gradient[d * image->row + i];
    }
    return -image->log_odds[image->label];
}

/* (P_i - [i = y]) exp(l_di), each product as one exponential: it may vanish, but is never 0 times infinity. */
static double carso_cross_entropy(const image_logits *image)
{
    aggregate(image, CARSO_AGGREGATE_CARSO);
    for (int d = 0; image->gradient && d < image->draws; d++)
        for (int i = 0; i < image->classes; i++) {
            const double logit = image->logit[d * image->row + i];
            image->gradient[d * image->row + i] =
                i == image->label ? -exp(logit + label_log_rest(image)) : exp(logit + image->log_probability[i]);
        }
    return -image->log_probability[image->label];
}

static double image_loss(const image_logits *image, carso_loss loss)
{
    switch (loss) {
    case CARSO_LOSS_CROSS_ENTROPY:
        return cross_entropy(image);
    case CARSO_LOSS_MARGIN:
        return margin(image);
    case CARSO_LOSS_PROBABILITY_CROSS_ENTROPY:
        return probability_cross_entropy(image);
    case CARSO_LOSS_LOG_ODDS:
        return log_odds(image);
    case CARSO_LOSS_CARSO_CROSS_ENTROPY:
        return carso_cross_entropy(image);
    }
    return NAN;
}

carso_status cso_loss_function(void *user, int64_t first, int64_t count, int draws, int classes, const double *logits,
                               double *losses, double *logit_gradient)
{
    const cso_loss_request *const request = user;
    double *const work =
        cso_allocate_raw(request->context, 2 * (size_t)classes + CSO_AGGREGATE_SCRATCH(classes), sizeof *work);
    if (!work)
        return cso_fail_memory(request->context, "losses");
    for (int64_t i = 0; i < count; i++) {
        const image_logits image = {
            .logit = logits + i * classes,
            .gradient = logit_gradient ? logit_gradient + i * classes : NULL,
            .row = count * classes,
            .draws = draws,
            .classes = classes,
            .label = request->labels[first + i],
            .log_probability = work,
            .log_odds = work + classes,
            .scratch = work + 2 * (int64_t)classes,
        };
        double loss = NAN;
        if (all_finite(&image))
            loss = image_loss(&image, request->loss);
        else
            fill_gradient(&image, NAN);
        if (losses)
            losses[i] = loss;
    }
    cso_release(request->context, work);
    return CARSO_OK;
}
