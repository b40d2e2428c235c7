/* SPDX-License-Identifier: BSD-2-Clause */
/* Progress on standard error: a bar with rate and time left on a terminal, a plain line now and then elsewhere. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include "carso/context.h"
#include "options.h"

typedef struct progress_bar {
    const char *title; /* "PGD on the defence" */
    bool quiet;
    bool drawn;
    double started, drawn_at;
    uint64_t begun; /* done before the start, for the rate; 0 unless set after it */
    char note[96]; /* shown behind, "loss 0.3"; may be changed between updates */
} progress_bar;

void progress_start(progress_bar *bar, const char *title, bool quiet);
void progress_update(progress_bar *bar, uint64_t done, uint64_t total, const char *unit);
/* Clears the bar's line, so that ordinary output can follow. */
void progress_finish(progress_bar *bar);
/* A carso_progress_callback, user: a progress_bar. Cancels where the user has interrupted. */
int progress_callback(const carso_progress *progress, void *user);

#endif
