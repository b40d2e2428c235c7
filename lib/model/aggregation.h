/* SPDX-License-Identifier: BSD-2-Clause */
/* From the draws' logits to one prediction (CARSO section 4.5, appendix D), in double and in the log domain. */
#ifndef CSO_MODEL_AGGREGATION_H
#define CSO_MODEL_AGGREGATION_H

#include <stdint.h>

#include "carso/predict.h"

/* Doubles of scratch that cso_aggregate wants. */
#define CSO_AGGREGATE_SCRATCH(classes) (4 * (size_t)(classes))

/*
 * logits: draw d, class i at logits[d * draw_stride + i]. classes >= 2. Outputs [classes], each may be NULL.
 *   log_probability: log P_i;  log_odds: log(P_i / (1 - P_i)); both finite (possibly huge) for finite logits.
 * The paper's: s_i = sum_d exp(l_di), log P_i = s_i - logsumexp_j(s_j), log odds = s_i - logsumexp_{j != i}(s_j).
 * The s_i themselves are never formed: what is summed are the differences s_i - s_m to the largest, draw by draw, in a
 * form without cancellation. Where such a difference is beyond the largest double (65536 draws with logits of 700
 * reach 6.6e308, and any logit above 709.8 may), it saturates at +-DBL_MAX. A logit that is NaN or infinite makes the
 * result NaN or meaningless: callers refuse it first.
 */
void cso_aggregate(carso_aggregation how, const double *logits, int draws, int64_t draw_stride, int classes,
                   double *log_probability, double *log_odds, double *scratch);

/*
 * Writes d log_odds_label / d logits of the paper's aggregation, in the same strides. Finite for logits up to 700.
 * scratch as above.
 */
void cso_aggregate_log_odds_gradient(const double *logits, int draws, int64_t draw_stride, int classes, int label,
                                     double *logit_gradient, double *scratch);

/* Index of the largest value, the lowest of equals. */
int cso_arg_max(const double *values, int count);

#endif
