/* SPDX-License-Identifier: BSD-2-Clause */
#include "progress.h"

#include <string.h>
#include <unistd.h>

#include "session.h"

#define BAR_WIDTH 24
#define TERMINAL_INTERVAL 0.1
#define PLAIN_INTERVAL 15.0

void progress_start(progress_bar *bar, const char *title, bool quiet)
{
    *bar = (progress_bar){.title = title, .quiet = quiet, .started = session_seconds()};
    bar->drawn_at = bar->started;
}

static void format_time(double seconds, char *text, size_t size)
{
    long whole = (long)(seconds + 0.5);
    if (whole >= 3600) {
        snprintf(text, size, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
    } else {
        snprintf(text, size, "%ld:%02ld", whole / 60, whole % 60);
    }
}

void progress_update(progress_bar *bar, uint64_t done, uint64_t total, const char *unit)
{
    double now = session_seconds();
    bool terminal = isatty(STDERR_FILENO);
    double elapsed = now - bar->started;
    char left[32];
    if (bar->quiet || now - bar->drawn_at < (terminal ? TERMINAL_INTERVAL : PLAIN_INTERVAL) || done <= bar->begun || total == 0) {
        return;
    }
    bar->drawn_at = now;
    double rate = (double)(done - bar->begun) / elapsed;
    format_time((double)(total - (done < total ? done : total)) / rate, left, sizeof left);
    if (!terminal) {
        fprintf(stderr, "%s: %llu of %llu %s, %.3g/s, %s left%s%s\n", bar->title, (unsigned long long)done,
                (unsigned long long)total, unit, rate, left, bar->note[0] ? ", " : "", bar->note);
        return;
    }
    int filled = (int)((double)done / (double)total * BAR_WIDTH);
    fprintf(stderr, "\r\033[K%s [", bar->title);
    for (int i = 0; i < BAR_WIDTH; i++) {
        fputc(i < filled ? '=' : ' ', stderr);
    }
    fprintf(stderr, "] %llu/%llu %s  %.3g/s  %s left%s%s", (unsigned long long)done, (unsigned long long)total, unit, rate,
            left, bar->note[0] ? "  " : "", bar->note);
    fflush(stderr);
    bar->drawn = true;
}

void progress_finish(progress_bar *bar)
{
    if (bar->drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        bar->drawn = false;
    }
}

int progress_callback(const carso_progress *progress, void *user)
{
    progress_update(user, progress->done, progress->total, progress->unit);
    return session_interrupted();
}
