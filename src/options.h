/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Options of a subcommand as a table, from which come parsing, --help and the manual page: one text, three uses.
 * A command's settings are a struct of its own; each option names the member that it sets.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef enum option_type {
    OPTION_FLAG,    /* bool: set to true */
    OPTION_INTEGER, /* int64_t within low .. high */
    OPTION_REAL,    /* double within low .. high */
    OPTION_RATIO,   /* double within low .. high, also written as a fraction: 8/255 */
    OPTION_TEXT,    /* const char * */
    OPTION_CHOICE   /* int: index into choices */
} option_type;

typedef struct option_entry {
    const char *name; /* NULL ends the table */
    char letter;      /* short form, 0: none */
    option_type type;
    const char *argument; /* what the help calls the value */
    size_t offset;        /* of the member */
    double low, high;
    const char *const *choices; /* NULL-terminated */
    const char *help;           /* a sentence without the default, which is taken from the settings */
} option_entry;

/* Exit statuses of the program. */
typedef enum exit_status {
    STATUS_OK = 0,
    STATUS_FAILURE = 1,
    STATUS_USAGE = 2,
    STATUS_UNTRUSTED = 3,
    STATUS_INTERRUPTED = 130
} exit_status;

typedef struct command {
    const char *name;
    const char *arguments; /* after the options, "MODEL IMAGE..." */
    const char *summary;   /* one line */
    const char *description;
    const char *const *examples; /* "command", "what it does", ..., NULL */
    const option_entry *options;
    size_t settings_size;
    void (*defaults)(void *settings);
    /* May be NULL. Called once the options are read; what it changes are new defaults, which options given on the
     * command line override. False after a complaint. */
    bool (*prepare)(void *settings);
    exit_status (*run)(void *settings, int argument_count, char **arguments);
    int least_arguments, most_arguments; /* most -1: any number */
} command;

/* Runs the command on argv (argv[0] is its name); prints help or complaints itself. */
exit_status command_execute(const command *the_command, int argc, char **argv);
void command_help(const command *the_command, FILE *stream);
/* Prints one line "carso NAME: ..." to stderr. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The default of an option as text, "" where there is none to show. */
void option_default_text(const option_entry *entry, const void *settings, char *text, size_t size);
/* "NAME=VALUE" form of the option's help: "--epsilon E". */
void option_form(const option_entry *entry, char *text, size_t size);

#endif
