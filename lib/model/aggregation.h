/* SPDX-License-Identifier: BSD-2-Clause */
/* From the draws' logits to one prediction (CARSO section 4.5, appendix D), in double and in the log domain. */
#ifndef CSO_MODEL_AGGREGATION_H
#define CSO_MODEL_AGGREGATION_H

#include <stdint.h>

#include "carso/predict.h"

/*
 * logits: draw d, class i at logits[d * draw_stride + i]. Outputs [classes], each may be NULL.
 *   log_probability: log P_i;  log_odds: log(P_i / (1 - P_i)); both finite (possibly huge) for |logits| <= 700.
 * The paper's: s_i = sum_d exp(l_di), log P_i = s_i - logsumexp_j(s_j), log odds = s_i - logsumexp_{j != i}(s_j).
 * scratch: classes doubles.
 */
void cso_aggregate(carso_aggregation how, const double *logits, int draws, int64_t draw_stride, int classes, double *log_probability,
                   double *log_odds, double *scratch);

/* Pull back: given g_i = d loss / d log_odds_i (paper's aggregation), adds nothing, writes d loss / d logits in the same strides. */
void cso_aggregate_log_odds_gradient(const double *logits, int draws, int64_t draw_stride, int classes, int label,
                                     double *logit_gradient);

#endif
