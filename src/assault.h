/* SPDX-License-Identifier: BSD-2-Clause */
/* Running one attack over all samples, with progress and a summary of what it met. */
#ifndef ASSAULT_H
#define ASSAULT_H

#include "samples.h"

typedef struct assault {
    float *pixels; /* [count][channels][height][width] */
    double mean_first_loss, mean_last_loss;
    double loss_rose;      /* share of images */
    double zero_gradient;  /* mean share of components that are exactly zero */
    double tiny_gradient;  /* and of those that are not, but nearly so */
    uint64_t non_finite;   /* images */
    double seconds;
} assault;

/* options without progress, which is set here. NON_FINITE is no failure: it is counted. */
exit_status assault_run(const carso_model *model, const samples *held, const carso_attack_options *options,
                        const char *title, bool quiet, assault *out);
void assault_release(assault *held);
json_t *assault_json(const assault *held);

#endif
