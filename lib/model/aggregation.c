/* SPDX-License-Identifier: BSD-2-Clause */
#include "model/aggregation.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>

/* Terms above exp(LARGEST_EXPONENT) are shifted down before they are summed, so that 65536 of them fit. */
#define LARGEST_EXPONENT 600.0

int cso_arg_max(const double *values, int count)
{
    int best = 0;
    for (int i = 1; i < count; i++) {
        if (values[i] > values[best]) {
            best = i;
        }
    }
    return best;
}

/* Not fmin and fmax, which would swallow a NaN. */
static double saturate(double x)
{
    return x > DBL_MAX ? DBL_MAX : x < -DBL_MAX ? -DBL_MAX : x;
}

/* exp(a) - exp(b), accurate where a and b are close. */
static double exp_difference(double a, double b)
{
    return a >= b ? -exp(a) * expm1(b - a) : exp(b) * expm1(a - b);
}

/* Whether none of the differences to *top is above 0; else *top becomes the one that is most. */
static bool is_top(const double *difference, int classes, int *top)
{
    const int better = cso_arg_max(difference, classes);
    if (!(difference[better] > 0.0)) {
        return true;
    }
    *top = better;
    return false;
}

/* What rounding may leave of a tie between three. */
static void cut_ties(double *difference, int classes)
{
    for (int i = 0; i < classes; i++) {
        if (difference[i] > 0.0) {
            difference[i] = 0.0;
        }
    }
}

/* difference[i] = s_i - s_m where s_i = sum_d exp(l_di) and m, returned, has the largest s. */
static int carso_differences(const double *logits, int draws, int64_t stride, int classes, double *difference)
{
    double largest = -DBL_MAX;
    for (int d = 0; d < draws; d++) {
        for (int i = 0; i < classes; i++) {
            if (logits[d * stride + i] > largest) {
                largest = logits[d * stride + i];
            }
        }
    }
    const double shift = largest > LARGEST_EXPONENT ? largest - LARGEST_EXPONENT : 0.0;
    /* exp(shift) may overflow where its product with a small sum does not. */
    const double half_scale = exp(shift / 2);

    for (int i = 0; i < classes; i++) {
        double sum = 0.0;
        for (int d = 0; d < draws; d++) {
            sum += exp(logits[d * stride + i] - shift);
        }
        difference[i] = sum;
    }
    int top = cso_arg_max(difference, classes);
    /* The sums are rounded, so that the first choice of top may lose a near tie: then the winner takes its place. */
    for (int attempt = 0; attempt < 2; attempt++) {
        for (int i = 0; i < classes; i++) {
            double sum = 0.0;
            for (int d = 0; d < draws && i != top; d++) {
                sum += exp_difference(logits[d * stride + i] - shift, logits[d * stride + top] - shift);
            }
            difference[i] = sum == 0.0 || shift == 0.0 ? sum : saturate(sum * half_scale * half_scale);
        }
        if (is_top(difference, classes, &top)) {
            break;
        }
    }
    cut_ties(difference, classes);
    return top;
}

/* difference[i] = mean_d l_di - mean_d l_dm, to the last bits (Neumaier's summation); m, returned, has the largest
 * mean. */
static int mean_differences(const double *logits, int draws, int64_t stride, int classes, double *difference)
{
    int top = 0;
    for (int attempt = 0; attempt < 2; attempt++) {
        for (int i = 0; i < classes; i++) {
            double sum = 0.0, lost = 0.0;
            for (int d = 0; d < 2 * draws; d++) {
                const double term = d % 2 ? -logits[d / 2 * stride + top] : logits[d / 2 * stride + i];
                const double next = sum + term;
                lost += fabs(sum) >= fabs(term) ? sum - next + term : term - next + sum;
                sum = next;
            }
            difference[i] = i == top ? 0.0 : (sum + lost) / draws;
        }
        if (is_top(difference, classes, &top)) {
            break;
        }
    }
    cut_ties(difference, classes);
    return top;
}

/* softmax of values given as differences, none above 0, to the largest, whose index is top. */
static void from_differences(const double *difference, int classes, int top, double *log_probability, double *log_odds)
{
    int second = -1;
    for (int i = 0; i < classes; i++) {
        if (i != top && (second < 0 || difference[i] > difference[second])) {
            second = i;
        }
    }
    if (second < 0) { /* a single class is certain */
        if (log_probability) {
            log_probability[0] = 0.0;
        }
        if (log_odds) {
            log_odds[0] = DBL_MAX;
        }
        return;
    }
    double others = 0.0, others_over_second = 0.0;
    for (int i = 0; i < classes; i++) {
        if (i == top) {
            continue;
        }
        others += exp(difference[i]);
        others_over_second += exp(difference[i] - difference[second]);
    }
    const double log_total = log1p(others);
    for (int i = 0; i < classes; i++) {
        if (log_probability) {
            log_probability[i] = saturate(difference[i] - log_total);
        }
        if (!log_odds) {
            continue;
        }
        if (i == top) {
            log_odds[i] = saturate(-difference[second] - log(others_over_second));
        } else if (difference[i] == 0.0) /* tied with top: the same number for both, so that the lowest index wins */ {
            log_odds[i] = -log(others_over_second);
        } else {
            log_odds[i] = saturate(difference[i] - log1p(others - exp(difference[i])));
        }
    }
}

/* A running logsumexp. */
static void log_add(double *largest, double *sum, double x)
{
    if (x > *largest) {
        *sum = *sum * exp(*largest - x) + 1.0;
        *largest = x;
    } else {
        *sum += exp(x - *largest);
    }
}

/* log p_i and log(1 - p_i) of a draw's softmax go into logsumexps over draws; their difference is the log odds. */
static void aggregate_probability(const double *logits, int draws, int64_t stride, int classes, double *log_probability,
                                  double *log_odds, double *scratch)
{
    double *const inside_largest = scratch, *const inside_sum = scratch + classes;
    double *const outside_largest = scratch + 2 * (int64_t)classes, *const outside_sum = scratch + 3 * (int64_t)classes;
    for (int i = 0; i < classes; i++) {
        inside_largest[i] = outside_largest[i] = -DBL_MAX;
        inside_sum[i] = outside_sum[i] = 0.0;
    }
    for (int d = 0; d < draws; d++) {
        const double *const logit = logits + d * stride;
        const int top = cso_arg_max(logit, classes);
        int second = top == 0 && classes > 1 ? 1 : 0;
        for (int i = 0; i < classes; i++) {
            if (i != top && logit[i] > logit[second]) {
                second = i;
            }
        }
        double rest = 0.0;
        for (int i = 0; i < classes; i++) {
            if (i != top) {
                rest += exp(logit[i] - logit[second]);
            }
        }
        const double log_rest = logit[second] - logit[top] + log(rest);
        const double log_total = log1p(exp(log_rest));
        for (int i = 0; i < classes; i++) {
            const double inside = logit[i] - logit[top] - log_total;
            /* what is tied with top gets the same number, so that the lowest index wins */
            const double outside = logit[i] == logit[top] ? log_rest - log_total : log1p(-exp(inside));
            log_add(&inside_largest[i], &inside_sum[i], inside);
            log_add(&outside_largest[i], &outside_sum[i], outside);
        }
    }
    const double log_draws = log((double)draws);
    for (int i = 0; i < classes; i++) {
        const double inside = inside_largest[i] + (log(inside_sum[i]) - log_draws);
        const double outside = outside_largest[i] + (log(outside_sum[i]) - log_draws);
        if (log_probability) /* log P from 1 - P where P is the larger: it is then far more accurate */ {
            log_probability[i] = inside > outside ? log1p(-exp(outside)) : inside;
        }
        if (log_odds) {
            log_odds[i] = saturate(inside - outside);
        }
    }
}

void cso_aggregate(carso_aggregation how, const double *logits, int draws, int64_t draw_stride, int classes,
                   double *log_probability, double *log_odds, double *scratch)
{
    if (how == CARSO_AGGREGATE_PROBABILITY && classes > 1) {
        aggregate_probability(logits, draws, draw_stride, classes, log_probability, log_odds, scratch);
        return;
    }
    const int top = how == CARSO_AGGREGATE_CARSO ? carso_differences(logits, draws, draw_stride, classes, scratch)
                                                 : mean_differences(logits, draws, draw_stride, classes, scratch);
    from_differences(scratch, classes, top, log_probability, log_odds);
}

void cso_aggregate_log_odds_gradient(const double *logits, int draws, int64_t draw_stride, int classes, int label,
                                     double *logit_gradient, double *scratch)
{
    /* log odds = s_y - logsumexp_{j != y}(s_j): + exp(l_dy), and - w_j exp(l_dj), w the softmax of the other s_j. */
    carso_differences(logits, draws, draw_stride, classes, scratch);
    double largest = -INFINITY;
    for (int i = 0; i < classes; i++) {
        if (i != label && scratch[i] > largest) {
            largest = scratch[i];
        }
    }
    double sum = 0.0;
    for (int i = 0; i < classes; i++) {
        if (i != label) {
            sum += exp(scratch[i] - largest);
        }
    }
    const double log_sum = log(sum);
    for (int d = 0; d < draws; d++) {
        for (int i = 0; i < classes; i++) {
            const double logit = logits[d * draw_stride + i];
            logit_gradient[d * draw_stride + i] =
                i == label ? exp(logit) : -exp(logit + (scratch[i] - largest - log_sum));
        }
    }
}
