/* SPDX-License-Identifier: BSD-2-Clause */
#include "attack/losses.h"

#include <math.h>
#include <string.h>

#include "model/aggregation.h"

/* The logits of one image over the draws, and what a loss writes. row: distance from a draw to the next. */
typedef struct image_logits {
    const double *logit;
    double *gradient; /* NULL: not wanted */
    int64_t row;
    int draws, classes, label, target;  /* target: -1 where there is none */
    double *log_probability, *log_odds; /* [classes] */
    double *score;                      /* [classes] */
    double *scratch;                    /* CSO_AGGREGATE_SCRATCH */
} image_logits;

static bool all_finite(const image_logits *image)
{
    for (int d = 0; d < image->draws; d++) {
        for (int i = 0; i < image->classes; i++) {
            if (!isfinite(image->logit[d * image->row + i])) {
                return false;
            }
        }
    }
    return true;
}

static void fill_gradient(const image_logits *image, double value)
{
    for (int d = 0; image->gradient && d < image->draws; d++) {
        for (int i = 0; i < image->classes; i++) {
            image->gradient[d * image->row + i] = value;
        }
    }
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
    for (int d = 0; image->gradient && d < image->draws; d++) {
        for (int i = 0; i < image->classes; i++) {
            image->gradient[d * image->row + i] =
                (i == image->label ? -exp(label_log_rest(image)) : exp(image->log_probability[i])) / image->draws;
        }
    }
    return -image->log_probability[image->label];
}

/* d loss / d score, of the few classes where it is not 0; a class may be there twice. */
typedef struct class_slopes {
    int count;
    int class_index[5];
    double value[5];
} class_slopes;

static void add_slope(class_slopes *slopes, int class_index, double value)
{
    slopes->class_index[slopes->count] = class_index;
    slopes->value[slopes->count++] = value;
}

static double score_margin(const image_logits *image, class_slopes *slopes)
{
    const double *const score = image->score;
    int other = image->target;
    if (other < 0) {
        other = image->label == 0 ? 1 : 0;
        for (int i = 0; i < image->classes; i++) {
            if (i != image->label && score[i] > score[other]) {
                other = i;
            }
        }
    }
    add_slope(slopes, other, 1.0);
    add_slope(slopes, image->label, -1.0);
    return score[other] - score[image->label];
}

/* As in the authors' code: it keeps the ratio finite where the largest classes are equal. */
#define DLR_GUARD 1e-12

static double score_dlr(const image_logits *image, class_slopes *slopes)
{
    const double *const score = image->score;
    const bool targeted = image->target >= 0;
    int order[4] = {0};
    for (int k = 0; k < (targeted ? 4 : 3); k++) {
        order[k] = -1;
        for (int i = 0; i < image->classes; i++) {
            bool taken = false;
            for (int j = 0; j < k; j++) {
                taken = taken || order[j] == i;
            }
            if (!taken && (order[k] < 0 || score[i] > score[order[k]])) {
                order[k] = i;
            }
        }
    }
    const int top = order[0], label = image->label;
    const int other = targeted ? image->target : label == top ? order[1] : top;
    const double third = targeted ? (score[order[2]] + score[order[3]]) / 2.0 : score[order[2]];
    const double range = score[top] - third + DLR_GUARD, difference = score[other] - score[label];
    const double square = range * range;
    /* The terms of the largest are merged by hand: their difference would lose all digits where it leads by far. */
    add_slope(slopes, label, label == top ? (third - score[other] - DLR_GUARD) / square : -1.0 / range);
    add_slope(slopes, other, other == top ? (score[label] - third + DLR_GUARD) / square : 1.0 / range);
    if (top != label && top != other) {
        add_slope(slopes, top, -difference / square);
    }
    add_slope(slopes, order[2], (targeted ? 0.5 : 1.0) * difference / square);
    if (targeted) {
        add_slope(slopes, order[3], 0.5 * difference / square);
    }
    return difference / range;
}

typedef double (*score_loss)(const image_logits *image, class_slopes *slopes);

static double of_mean_logits(const image_logits *image, score_loss loss)
{
    for (int i = 0; i < image->classes; i++) {
        double sum = 0.0;
        for (int d = 0; d < image->draws; d++) {
            sum += image->logit[d * image->row + i];
        }
        image->score[i] = sum / image->draws;
    }
    class_slopes slopes = {0};
    const double value = loss(image, &slopes);
    fill_gradient(image, 0.0);
    for (int d = 0; image->gradient && d < image->draws; d++) {
        for (int k = 0; k < slopes.count; k++) {
            image->gradient[d * image->row + slopes.class_index[k]] += slopes.value[k] / image->draws;
        }
    }
    return value;
}

/* d log P_i / d l_dj is w_di ([i = j] - p_dj), w_di = p_di / sum over draws of p_di. */
static double of_log_mean_probability(const image_logits *image, score_loss loss)
{
    aggregate(image, CARSO_AGGREGATE_PROBABILITY);
    memcpy(image->score, image->log_probability, (size_t)image->classes * sizeof *image->score);
    class_slopes slopes = {0};
    const double value = loss(image, &slopes);
    fill_gradient(image, 0.0);
    for (int d = 0; image->gradient && d < image->draws; d++) {
        cso_aggregate(CARSO_AGGREGATE_LOGIT, image->logit + d * image->row, 1, 0, image->classes,
                      image->log_probability, image->log_odds, image->scratch);
        for (int k = 0; k < slopes.count; k++) {
            const int i = slopes.class_index[k];
            const double log_weight = image->log_probability[i] - image->score[i] - log((double)image->draws);
            for (int j = 0; j < image->classes; j++) {
                const double log_part = image->log_probability[j] - (i == j ? image->log_odds[j] : 0.0);
                image->gradient[d * image->row + j] += (i == j ? 1.0 : -1.0) * slopes.value[k] *
                                                       exp(log_weight + log_part);
            }
        }
    }
    return value;
}

/* Of the sums of exp, all divided by the largest exp, which a ratio of differences does not notice. */
static double carso_dlr(const image_logits *image)
{
    double largest = -INFINITY;
    for (int d = 0; d < image->draws; d++) {
        for (int i = 0; i < image->classes; i++) {
            largest = fmax(largest, image->logit[d * image->row + i]);
        }
    }
    for (int i = 0; i < image->classes; i++) {
        image->score[i] = 0.0;
        for (int d = 0; d < image->draws; d++) {
            image->score[i] += exp(image->logit[d * image->row + i] - largest);
        }
    }
    class_slopes slopes = {0};
    const double value = score_dlr(image, &slopes);
    fill_gradient(image, 0.0);
    for (int d = 0; image->gradient && d < image->draws; d++) {
        for (int k = 0; k < slopes.count; k++) {
            const int64_t at = d * image->row + slopes.class_index[k];
            image->gradient[at] += slopes.value[k] * exp(image->logit[at] - largest);
        }
    }
    return value;
}

/* d log S_i / d l_di is exp(l_di) / S_i. */
static double of_log_sums(const image_logits *image, score_loss loss)
{
    for (int i = 0; i < image->classes; i++) {
        double largest = -INFINITY, sum = 0.0;
        for (int d = 0; d < image->draws; d++) {
            largest = fmax(largest, image->logit[d * image->row + i]);
        }
        for (int d = 0; d < image->draws; d++) {
            sum += exp(image->logit[d * image->row + i] - largest);
        }
        image->score[i] = largest + log(sum);
    }
    class_slopes slopes = {0};
    const double value = loss(image, &slopes);
    fill_gradient(image, 0.0);
    for (int d = 0; image->gradient && d < image->draws; d++) {
        for (int k = 0; k < slopes.count; k++) {
            const int i = slopes.class_index[k];
            const int64_t at = d * image->row + i;
            image->gradient[at] += slopes.value[k] * exp(image->logit[at] - image->score[i]);
        }
    }
    return value;
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
        for (int i = 0; i < image->classes; i++) {
            image->gradient[d * image->row + i] = i == image->label ? -exp(log_weight + label_log_rest(image))
                                                                    : exp(log_weight + image->log_probability[i]);
        }
    }
    return -log_mean;
}

static double log_odds(const image_logits *image)
{
    aggregate(image, CARSO_AGGREGATE_CARSO);
    if (image->gradient) {
        cso_aggregate_log_odds_gradient(image->logit, image->draws, image->row, image->classes, image->label,
                                        image->gradient, image->scratch);
        for (int d = 0; d < image->draws; d++) {
            for (int i = 0; i < image->classes; i++) {
                image->gradient[d * image->row + i] = -image->gradient[d * image->row + i];
            }
        }
    }
    return -image->log_odds[image->label];
}

/* (P_i - [i = y]) exp(l_di), each product as one exponential: it may vanish, but is never 0 times infinity. */
static double carso_cross_entropy(const image_logits *image)
{
    aggregate(image, CARSO_AGGREGATE_CARSO);
    for (int d = 0; image->gradient && d < image->draws; d++) {
        for (int i = 0; i < image->classes; i++) {
            const double logit = image->logit[d * image->row + i];
            image->gradient[d * image->row + i] =
                i == image->label ? -exp(logit + label_log_rest(image)) : exp(logit + image->log_probability[i]);
        }
    }
    return -image->log_probability[image->label];
}

static double untargeted_loss(const image_logits *image, carso_loss loss)
{
    switch (loss) {
    case CARSO_LOSS_CROSS_ENTROPY:
        return cross_entropy(image);
    case CARSO_LOSS_PROBABILITY_CROSS_ENTROPY:
        return probability_cross_entropy(image);
    case CARSO_LOSS_LOG_ODDS:
        return log_odds(image);
    case CARSO_LOSS_CARSO_CROSS_ENTROPY:
        return carso_cross_entropy(image);
    default:
        return NAN;
    }
}

static double image_loss(const image_logits *image, carso_loss loss)
{
    switch (loss) {
    case CARSO_LOSS_MARGIN:
        return of_mean_logits(image, score_margin);
    case CARSO_LOSS_DLR:
        return of_mean_logits(image, score_dlr);
    case CARSO_LOSS_PROBABILITY_MARGIN:
        return of_log_mean_probability(image, score_margin);
    case CARSO_LOSS_PROBABILITY_DLR:
        return of_log_mean_probability(image, score_dlr);
    case CARSO_LOSS_CARSO_DLR:
        return carso_dlr(image);
    case CARSO_LOSS_CARSO_MARGIN:
        return of_log_sums(image, score_margin);
    default:
        break;
    }
    if (image->target < 0) {
        return untargeted_loss(image, loss);
    }
    image_logits towards = *image;
    towards.label = image->target;
    const double value = -untargeted_loss(&towards, loss);
    for (int d = 0; image->gradient && d < image->draws; d++) {
        for (int i = 0; i < image->classes; i++) {
            image->gradient[d * image->row + i] = -image->gradient[d * image->row + i];
        }
    }
    return value;
}

static carso_aggregation loss_aggregation(carso_loss loss)
{
    switch (loss) {
    case CARSO_LOSS_PROBABILITY_CROSS_ENTROPY:
    case CARSO_LOSS_PROBABILITY_MARGIN:
    case CARSO_LOSS_PROBABILITY_DLR:
        return CARSO_AGGREGATE_PROBABILITY;
    case CARSO_LOSS_LOG_ODDS:
    case CARSO_LOSS_CARSO_CROSS_ENTROPY:
    case CARSO_LOSS_CARSO_DLR:
    case CARSO_LOSS_CARSO_MARGIN:
        return CARSO_AGGREGATE_CARSO;
    default:
        return CARSO_AGGREGATE_LOGIT;
    }
}

carso_loss cso_loss_margin(carso_loss loss)
{
    switch (loss_aggregation(loss)) {
    case CARSO_AGGREGATE_PROBABILITY:
        return CARSO_LOSS_PROBABILITY_MARGIN;
    case CARSO_AGGREGATE_CARSO:
        return CARSO_LOSS_CARSO_MARGIN;
    default:
        return CARSO_LOSS_MARGIN;
    }
}

int cso_loss_least_classes(carso_loss loss, bool targeted)
{
    const bool dlr =
        loss == CARSO_LOSS_DLR || loss == CARSO_LOSS_PROBABILITY_DLR || loss == CARSO_LOSS_CARSO_DLR;
    return dlr ? (targeted ? 4 : 3) : 0;
}

static bool judged_wrong(const image_logits *image, const cso_loss_request *request)
{
    aggregate(image, loss_aggregation(request->loss));
    const int predicted = cso_arg_max(image->log_odds, image->classes);
    return request->wants_target && image->target >= 0 ? predicted == image->target : predicted != image->label;
}

/* The caller's own loss, of all images at once; what it says of an image with a logit that is not finite is overruled. */
static carso_status own_losses(const cso_loss_request *request, int64_t first, int64_t count, int draws, int classes,
                               const double *logits, double *losses, double *logit_gradient)
{
    const size_t slopes = logit_gradient ? (size_t)draws * (size_t)count * (size_t)classes : 0;
    for (int64_t i = 0; i < count; i++) {
        losses[i] = NAN;
    }
    for (size_t k = 0; k < slopes; k++) {
        logit_gradient[k] = NAN;
    }
    const carso_loss_batch batch = {
        .struct_size = sizeof batch,
        .count = (uint64_t)count,
        .draws = draws,
        .classes = classes,
        .logits = logits,
        .labels = request->labels ? request->labels + first : NULL,
        .targets = request->targets ? request->targets + first : NULL,
        .image_index = request->image_index + first,
        .losses = losses,
        .logit_gradient = logit_gradient,
    };
    const int result = request->function(&batch, request->function_user);
    if (result == 0) {
        return CARSO_OK;
    }
    return cso_fail(request->context, CARSO_ERROR_CALLBACK,
                    "the caller's own loss function returned %d for %lld images, the first of them number %llu", result,
                    (long long)count, (unsigned long long)request->image_index[first]);
}

carso_status cso_loss_function(void *user, int64_t first, int64_t count, int draws, int classes, const double *logits,
                               double *losses, double *logit_gradient)
{
    const cso_loss_request *const request = user;
    const int64_t number = first; /* of the image with its set of draws */
    carso_status status = CARSO_OK;
    if (request->images > 0) {
        first %= request->images;
    }
    double *const work =
        cso_allocate_raw(request->context, 3 * (size_t)classes + CSO_AGGREGATE_SCRATCH(classes), sizeof *work);
    double *const loss = cso_allocate_raw(request->context, (size_t)count, sizeof *loss);
    if (!work || !loss) {
        status = cso_fail_memory(request->context, "losses");
        goto done;
    }
    if (request->function) {
        status = own_losses(request, first, count, draws, classes, logits, loss, logit_gradient);
    }
    for (int64_t i = 0; i < count && status == CARSO_OK; i++) {
        const image_logits image = {
            .logit = logits + i * classes,
            .gradient = logit_gradient ? logit_gradient + i * classes : NULL,
            .row = count * classes,
            .draws = draws,
            .classes = classes,
            .label = request->labels ? request->labels[first + i] : 0,
            .target = request->targets ? request->targets[first + i] : -1,
            .log_probability = work,
            .log_odds = work + classes,
            .score = work + 2 * (int64_t)classes,
            .scratch = work + 3 * (int64_t)classes,
        };
        const bool finite = all_finite(&image);
        if (!finite) {
            fill_gradient(&image, loss[i] = NAN);
        } else if (!request->function) {
            loss[i] = image_loss(&image, request->loss);
        }
        if (request->wrong) {
            request->wrong[number + i] = finite && judged_wrong(&image, request);
        }
    }
    if (losses && status == CARSO_OK) {
        memcpy(losses, loss, (size_t)count * sizeof *losses);
    }

done:
    cso_release(request->context, loss);
    cso_release(request->context, work);
    return status;
}
