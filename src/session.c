/* SPDX-License-Identifier: BSD-2-Clause */
/* Context, failures and interrupts of the program. */
#include "session.h"

#include <errno.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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

/* Of the context. */
typedef struct opening {
    bool under_way, explained;
} opening;

/* Errors reach the user through the status of the call that failed, except while there is no context to ask. */
static void print_log(carso_log_level level, const char *text, void *user)
{
    opening *state = user;
    if (level == CARSO_LOG_WARNING) {
        complain("warning: %s", text);
    } else if (level == CARSO_LOG_ERROR && state->under_way) {
        complain("%s", text);
        state->explained = true;
    }
}

carso_context *session_open(const common_settings *common)
{
    static opening state;
    carso_context_options options;
    carso_context *context;
    carso_context_options_init(&options, sizeof options);
    options.backend = common->backend;
    options.threads = (int32_t)common->threads;
    options.memory_limit = (uint64_t)common->memory_limit << 20;
    options.convolution = common->precise ? CARSO_CONVOLUTION_PRECISE : CARSO_CONVOLUTION_AUTOMATIC;
    options.log = print_log;
    options.log_user = &state;
    state = (opening){.under_way = true};
    carso_status status = carso_context_create(&options, &context);
    state.under_way = false;
    if (status != CARSO_OK) {
        if (!state.explained) {
            complain("cannot start: %s", carso_status_str(status));
        }
        return NULL;
    }
    struct sigaction action = {.sa_handler = note_interrupt};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    /* A limit on file sizes then is a failed write like any other, with the temporary file removed and a message. */
    action.sa_handler = SIG_IGN;
    sigaction(SIGXFSZ, &action, NULL);
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

void complain_of_preset(const char *name)
{
    char known[256] = "";
    const char *preset;
    for (size_t i = 0; (preset = carso_preset_name(i)) != NULL; i++) {
        size_t length = strlen(known);
        snprintf(known + length, sizeof known - length, " %s", preset);
    }
    complain("--preset: '%s' is none of%s", name, known);
}

bool session_can_write(const char *path, bool folder)
{
    char parent[4096];
    struct stat entry;
    int length = snprintf(parent, sizeof parent, "%s", path);
    if (length < 0 || (size_t)length >= sizeof parent) {
        complain("cannot write %s: %s", path, strerror(ENAMETOOLONG));
        return false;
    }
    if (!folder && stat(path, &entry) == 0 && S_ISDIR(entry.st_mode)) {
        complain("cannot write %s: it is a folder", path);
        return false;
    }
    const char *where = folder ? path : dirname(parent);
    if (stat(where, &entry) == 0 && !S_ISDIR(entry.st_mode)) {
        complain("cannot write into %s: it is not a folder", where);
        return false;
    }
    if (access(where, W_OK | X_OK) != 0) {
        complain("cannot write into %s: %s", where, strerror(errno));
        return false;
    }
    return true;
}

json_t *session_json_text(const char *text)
{
    json_t *value = json_string(text);
    char *copy = value ? NULL : strdup(text);
    for (char *letter = copy; letter && *letter; letter++) {
        *letter = (*letter & 0x80) != 0 ? '?' : *letter;
    }
    if (copy) {
        value = json_string(copy);
        free(copy);
    }
    return value;
}

exit_status session_print_json(json_t *value)
{
    if (!value) {
        complain("out of memory");
        return STATUS_FAILURE;
    }
    char *text = json_dumps(value, JSON_REAL_PRECISION(10) | JSON_PRESERVE_ORDER);
    json_decref(value);
    if (!text) {
        complain("the result cannot be written as JSON");
        return STATUS_FAILURE;
    }
    puts(text); /* whether it could be written is seen at the end */
    free(text);
    return STATUS_OK;
}
