/* SPDX-License-Identifier: BSD-2-Clause */
/* What all commands share: options for the context, opening it, reporting failures, being interrupted. */
#ifndef SESSION_H
#define SESSION_H

#include <float.h>
#include <jansson.h>

#include "carso/carso.h"
#include "options.h"

typedef struct common_settings {
    const char *backend;
    int64_t threads;
    int64_t memory_limit; /* MiB */
    bool precise;
    int64_t seed;
    bool json;
    bool quiet;
} common_settings;

/* clang-format off */
#define COMMON_OPTIONS(settings_type, common)                                                                                    \
    {"seed", 's', OPTION_INTEGER, "N", offsetof(settings_type, common.seed), 0, 9.2e18, NULL,                              \
     "Seed of everything random; the same seed gives the same result."},                                                   \
    {"backend", 0, OPTION_TEXT, "NAME", offsetof(settings_type, common.backend), 0, 0, NULL,                               \
     "Backend to compute with: onednn, reference or reference-double. Without it the fastest that works here is taken."}, \
    {"threads", 't', OPTION_INTEGER, "N", offsetof(settings_type, common.threads), 0, 1024, NULL,                          \
     "Threads to compute with; 0 takes all cores."},                                                                       \
    {"memory-limit", 0, OPTION_INTEGER, "MIB", offsetof(settings_type, common.memory_limit), 1, 1 << 24, NULL,             \
     "Mebibytes for working buffers; batches are split to keep it. Weights come on top."},                                 \
    {"precise", 0, OPTION_FLAG, NULL, offsetof(settings_type, common.precise), 0, 0, NULL,                                 \
     "Compute convolutions with smaller errors than direct ones have; slower."},                                           \
    {"json", 'j', OPTION_FLAG, NULL, offsetof(settings_type, common.json), 0, 0, NULL,                                     \
     "Print one JSON object instead of text."},                                                                            \
    {"quiet", 'q', OPTION_FLAG, NULL, offsetof(settings_type, common.quiet), 0, 0, NULL, "Print no progress."},            \
    {NULL, 0, OPTION_FLAG, NULL, 0, 0, 0, NULL, NULL}
/* clang-format on */

void common_defaults(common_settings *common);

/* Opens a context by the settings and begins to watch for interrupts; NULL after a complaint. */
carso_context *session_open(const common_settings *common);
/* Complains about what failed, with the context's message, and returns the exit status for it. what: "cannot load FILE". */
exit_status session_failure(const carso_context *context, carso_status status, const char *what, ...)
    __attribute__((format(printf, 3, 4)));

/* Says that name is no preset, and which there are. */
void complain_of_preset(const char *name);

/* True once the user has pressed Ctrl-C (or the process got SIGTERM). A second time ends the process at once. */
bool session_interrupted(void);

/*
 * Whether a file can be written at path, asked before hours of work are spent on what goes there; complains where not.
 * folder: path is the folder to write into.
 */
bool session_can_write(const char *path, bool folder);

/* Text for a JSON value; what is not UTF-8, as file names may be, has each strange byte replaced by '?'. */
json_t *session_json_text(const char *text);
/* Prints value as one line on standard output and releases it. */
exit_status session_print_json(json_t *value);

double session_seconds(void); /* monotonic clock */

#endif
