/* SPDX-License-Identifier: BSD-2-Clause */
/* Parsing a command line by its table, with getopt_long, and printing the table as help. */
#include "options.h"

#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MOST_OPTIONS 64
#define LONG_BASE 1000
#define HELP_VALUE 999
#define TEXT_WIDTH 78

static char current_command[64] = "carso";

void complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", current_command);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

static void *member(const option_entry *entry, void *settings) { return (char *)settings + entry->offset; }

static const void *const_member(const option_entry *entry, const void *settings)
{
    return (const char *)settings + entry->offset;
}

void option_default_text(const option_entry *entry, const void *settings, char *text, size_t size)
{
    const void *value = const_member(entry, settings);
    text[0] = '\0';
    switch (entry->type) {
    case OPTION_FLAG:
        break;
    case OPTION_INTEGER:
        snprintf(text, size, "%lld", (long long)*(const int64_t *)value);
        break;
    case OPTION_REAL:
    case OPTION_RATIO: {
        double number = *(const double *)value;
        double in_255 = number * 255;
        if (entry->type == OPTION_RATIO && number > 0 && number < 0.5 && fabs(in_255 - round(in_255)) < 1e-9) {
            snprintf(text, size, "%.0f/255", in_255);
        } else if (!isnan(number)) {
            snprintf(text, size, "%g", number);
        }
        break;
    }
    case OPTION_TEXT:
        if (*(const char *const *)value) {
            snprintf(text, size, "%s", *(const char *const *)value);
        }
        break;
    case OPTION_CHOICE:
        snprintf(text, size, "%s", entry->choices[*(const int *)value]);
        break;
    }
}

void option_form(const option_entry *entry, char *text, size_t size)
{
    if (entry->letter) {
        snprintf(text, size, "-%c, --%s%s%s", entry->letter, entry->name, entry->argument ? " " : "",
                 entry->argument ? entry->argument : "");
    } else {
        snprintf(text, size, "--%s%s%s", entry->name, entry->argument ? " " : "",
                 entry->argument ? entry->argument : "");
    }
}

static bool parse_number(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0';
}

static bool parse_ratio(const char *text, double *out)
{
    const char *slash = strchr(text, '/');
    char numerator_text[64];
    double numerator, denominator;
    if (!slash) {
        return parse_number(text, out);
    }
    if ((size_t)(slash - text) >= sizeof numerator_text) {
        return false;
    }
    memcpy(numerator_text, text, (size_t)(slash - text));
    numerator_text[slash - text] = '\0';
    if (!parse_number(numerator_text, &numerator) || !parse_number(slash + 1, &denominator) || denominator == 0) {
        return false;
    }
    *out = numerator / denominator;
    return true;
}

static bool set_integer(const option_entry *entry, void *settings, const char *value)
{
    char *end;
    /* What is too large for a long long becomes its largest value, which is out of every option's range too. */
    long long number = strtoll(value, &end, 10);
    if (end == value || *end != '\0') {
        complain("--%s: '%s' is not a whole number", entry->name, value);
        return false;
    }
    if ((double)number < entry->low || (double)number > entry->high) {
        complain("--%s: %s is not between %.0f and %.0f", entry->name, value, entry->low, entry->high);
        return false;
    }
    *(int64_t *)member(entry, settings) = number;
    return true;
}

static bool set_real(const option_entry *entry, void *settings, const char *value)
{
    double number;
    bool valid = entry->type == OPTION_RATIO ? parse_ratio(value, &number) : parse_number(value, &number);
    if (!valid) {
        complain("--%s: '%s' is not a number%s", entry->name, value,
                 entry->type == OPTION_RATIO ? " (such as 0.1 or 8/255)" : "");
        return false;
    }
    if (!(number >= entry->low && number <= entry->high)) {
        complain("--%s: %s is not between %g and %g", entry->name, value, entry->low, entry->high);
        return false;
    }
    *(double *)member(entry, settings) = number;
    return true;
}

static bool set_choice(const option_entry *entry, void *settings, const char *value)
{
    for (int i = 0; entry->choices[i]; i++) {
        if (strcmp(entry->choices[i], value) == 0) {
            *(int *)member(entry, settings) = i;
            return true;
        }
    }
    fprintf(stderr, "%s: --%s: '%s' is none of", current_command, entry->name, value);
    for (int i = 0; entry->choices[i]; i++) {
        fprintf(stderr, " %s", entry->choices[i]);
    }
    fputc('\n', stderr);
    return false;
}

static bool set_option(const option_entry *entry, void *settings, const char *value)
{
    switch (entry->type) {
    case OPTION_FLAG:
        *(bool *)member(entry, settings) = true;
        return true;
    case OPTION_INTEGER:
        return set_integer(entry, settings, value);
    case OPTION_REAL:
    case OPTION_RATIO:
        return set_real(entry, settings, value);
    case OPTION_TEXT:
        *(const char **)member(entry, settings) = value;
        return true;
    case OPTION_CHOICE:
        return set_choice(entry, settings, value);
    }
    return false;
}

static void print_wrapped(FILE *stream, const char *text, int indent)
{
    int column = indent;
    fprintf(stream, "%*s", indent, "");
    while (*text) {
        size_t word = strcspn(text, " \n");
        if (column > indent && column + 1 + (int)word > TEXT_WIDTH) {
            fprintf(stream, "\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', stream);
            column++;
        }
        fprintf(stream, "%.*s", (int)word, text);
        column += (int)word;
        text += word;
        if (*text == '\n') {
            fprintf(stream, "\n%*s", indent, "");
            column = indent;
        }
        if (*text) {
            text++;
        }
    }
    fputc('\n', stream);
}

void command_help(const command *the_command, FILE *stream)
{
    char settings[4096] __attribute__((aligned(16)));
    memset(settings, 0, sizeof settings);
    the_command->defaults(settings);
    fprintf(stream, "Usage: carso %s [OPTION...]%s%s\n\n", the_command->name, the_command->arguments[0] ? " " : "",
            the_command->arguments);
    print_wrapped(stream, the_command->description, 0);
    fputs("\nOptions:\n", stream);
    for (const option_entry *entry = the_command->options; entry->name; entry++) {
        char form[128], fallback[128], text[1024];
        option_form(entry, form, sizeof form);
        option_default_text(entry, settings, fallback, sizeof fallback);
        snprintf(text, sizeof text, "%s%s%s%s", entry->help, fallback[0] ? " Default: " : "", fallback,
                 fallback[0] ? "." : "");
        fprintf(stream, "  %s%s\n", entry->letter ? "" : "    ", form);
        print_wrapped(stream, text, 10);
        if (entry->type == OPTION_CHOICE) {
            size_t length = (size_t)snprintf(text, sizeof text, "One of:");
            for (int i = 0; entry->choices[i] && length < sizeof text; i++) {
                length += (size_t)snprintf(text + length, sizeof text - length, " %s", entry->choices[i]);
            }
            print_wrapped(stream, text, 10);
        }
    }
    fputs("  -h, --help\n          Print this text.\n", stream);
    if (the_command->examples) {
        fputs("\nExamples:\n", stream);
        for (int i = 0; the_command->examples[i]; i += 2) {
            fprintf(stream, "  %s\n", the_command->examples[i]);
            print_wrapped(stream, the_command->examples[i + 1], 10);
        }
    }
}

/* written: the word that getopt_long came to; of a cluster of letters it may be a neighbour. */
static void complain_of_option(const command *the_command, const char *written, bool lacks_value)
{
    char letter[3] = {'-', (char)optopt, '\0'};
    const char *fault = "is not an option of this command, or short for several";
    if (lacks_value) {
        fault = "needs a value";
    } else if (optopt >= HELP_VALUE) {
        fault = "takes no value";
    }
    complain("%s %s; 'carso %s --help' lists the options", optopt > 0 && optopt < HELP_VALUE ? letter : written, fault,
             the_command->name);
}

typedef struct option_forms {
    struct option longs[MOST_OPTIONS + 2];
    char letters[2 * MOST_OPTIONS + 8];
} option_forms;

static void list_forms(const command *the_command, option_forms *forms)
{
    int count = 0;
    snprintf(forms->letters, sizeof forms->letters, ":h");
    for (const option_entry *entry = the_command->options; entry->name && count < MOST_OPTIONS; entry++, count++) {
        int has_value = entry->type == OPTION_FLAG ? no_argument : required_argument;
        forms->longs[count] = (struct option){entry->name, has_value, NULL, LONG_BASE + count};
        if (entry->letter) {
            size_t length = strlen(forms->letters);
            snprintf(forms->letters + length, sizeof forms->letters - length, "%c%s", entry->letter,
                     has_value ? ":" : "");
        }
    }
    forms->longs[count] = (struct option){"help", no_argument, NULL, HELP_VALUE};
    forms->longs[count + 1] = (struct option){NULL, 0, NULL, 0};
}

/* Returns true where the command is to be run; else *out is the exit status. Afterwards optind is the first argument. */
static bool parse_options(const command *the_command, const option_forms *forms, int argc, char **argv, void *settings,
                          exit_status *out)
{
    opterr = 0;
    optind = 0; /* begins anew, as 1 would not within a cluster of letters */
    for (int value; (value = getopt_long(argc, argv, forms->letters, forms->longs, NULL)) != -1;) {
        if (value == HELP_VALUE || value == 'h') {
            command_help(the_command, stdout);
            *out = STATUS_OK;
            return false;
        }
        if (value == '?' || value == ':') {
            complain_of_option(the_command, argv[optind - 1], value == ':');
            *out = STATUS_USAGE;
            return false;
        }
        const option_entry *entry = the_command->options;
        if (value >= LONG_BASE) {
            entry += value - LONG_BASE;
        } else {
            while (entry->letter != value) {
                entry++;
            }
        }
        if (!set_option(entry, settings, optarg)) {
            *out = STATUS_USAGE;
            return false;
        }
    }
    return true;
}

exit_status command_execute(const command *the_command, int argc, char **argv)
{
    option_forms forms;
    char settings[4096] __attribute__((aligned(16)));
    exit_status status;

    snprintf(current_command, sizeof current_command, "carso %s", the_command->name);
    if (the_command->settings_size > sizeof settings) {
        complain("the settings of this command are too large");
        return STATUS_FAILURE;
    }
    memset(settings, 0, sizeof settings);
    the_command->defaults(settings);
    list_forms(the_command, &forms);
    if (!parse_options(the_command, &forms, argc, argv, settings, &status)) {
        return status;
    }
    if (the_command->prepare) {
        if (!the_command->prepare(settings)) {
            return STATUS_USAGE;
        }
        if (!parse_options(the_command, &forms, argc, argv, settings, &status)) {
            return status;
        }
    }
    int arguments = argc - optind;
    if (arguments < the_command->least_arguments) {
        complain("%s missing; usage: carso %s [OPTION...] %s", arguments == 0 ? "arguments are" : "an argument is",
                 the_command->name, the_command->arguments);
        return STATUS_USAGE;
    }
    if (the_command->most_arguments >= 0 && arguments > the_command->most_arguments) {
        complain("'%s' is one argument too many; usage: carso %s [OPTION...] %s",
                 argv[optind + the_command->most_arguments], the_command->name, the_command->arguments);
        return STATUS_USAGE;
    }
    return the_command->run(settings, arguments, argv + optind);
}
