/* SPDX-License-Identifier: BSD-2-Clause */
/* Context, failures and interrupts of the program. */
#include "session.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t interrupted;

static void note_interrupt(int signal_number)
{
    interrupted = 1;
    /* The next one is taken by the default action. */
    signal(signal_number, SIG_DFL);
}

bool session_interrupted(void) { return interrupted != 0; }

double session_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void common_defaults(common_settings *common) { *common = (common_settings){.memory_limit = 1024}; }

/* Errors reach the user through the status of the call that failed, except while there is no context to ask. */
static void print_log(carso_log_level level, const char *text, void *user)
{
    const bool *opening = user;
    if (level == CARSO_LOG_WARNING) {
        complain("warning: %s", text);
    } else if (level == CARSO_LOG_ERROR && *opening) {
        complain("%s", text);
    }
}

carso_context *session_open(const common_settings *common)
{
    static bool opening;
    carso_context_options options;
    carso_context *context;
    carso_context_options_init(&options, sizeof options);
    options.backend = common->backend;
    options.threads = (int32_t)common->threads;
    options.memory_limit = (uint64_t)common->memory_limit << 20;
    options.log = print_log;
    options.log_user = &opening;
    opening = true;
    carso_status status = carso_context_create(&options, &context);
    opening = false;
    if (status != CARSO_OK) {
        complain("cannot start: %s", carso_status_str(status));
        return NULL;
    }
    struct sigaction action = {.sa_handler = note_interrupt};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return context;
}

exit_status session_failure(const carso_context *context, carso_status status, const char *what, ...)
{
    char message[2048] = "", text[1024];
    va_list arguments;
    if (status == CARSO_CANCELLED) {
        complain("interrupted");
        return STATUS_INTERRUPTED;
    }
    va_start(arguments, what);
    vsnprintf(text, sizeof text, what, arguments);
    va_end(arguments);
    carso_context_message(context, message, sizeof message);
    complain("%s: %s", text, message[0] ? message : carso_status_str(status));
    return status == CARSO_ERROR_NON_FINITE ? STATUS_UNTRUSTED : STATUS_FAILURE;
}

exit_status session_print_json(json_t *value)
{
    if (!value) {
        complain("out of memory");
        return STATUS_FAILURE;
    }
    int failed = json_dumpf(value, stdout, JSON_REAL_PRECISION(10) | JSON_PRESERVE_ORDER);
    json_decref(value);
    if (failed) {
        complain("the result cannot be written as JSON");
        return STATUS_FAILURE;
    }
    putchar('\n');
    return STATUS_OK;
}
