/* SPDX-License-Identifier: BSD-2-Clause */
/* Prints carso(1) in the man macro package. */
#include "manual.h"

#include <string.h>

#include "carso/version.h"

/* Backslashes, hyphens and lines that begin with a control character are special to roff. */
static void print_escaped(FILE *stream, const char *text)
{
    bool line_start = true;
    for (; *text; text++) {
        if (line_start && (*text == '.' || *text == '\'')) {
            fputs("\\&", stream);
        }
        if (*text == '\\') {
            fputs("\\e", stream);
        } else if (*text == '-') {
            fputs("\\-", stream);
        } else {
            fputc(*text, stream);
        }
        line_start = *text == '\n';
    }
}

static void print_command(const command *the_command, FILE *stream)
{
    char settings[4096] __attribute__((aligned(16)));
    memset(settings, 0, sizeof settings);
    the_command->defaults(settings);
    fprintf(stream, ".SS carso %s\n.B carso %s\n[OPTION...]%s", the_command->name, the_command->name,
            the_command->arguments[0] ? " " : "");
    print_escaped(stream, the_command->arguments);
    fputs("\n.PP\n", stream);
    print_escaped(stream, the_command->description);
    fputs("\n", stream);
    for (const option_entry *entry = the_command->options; entry->name; entry++) {
        char form[128], fallback[128];
        option_form(entry, form, sizeof form);
        option_default_text(entry, settings, fallback, sizeof fallback);
        fputs(".TP\n.B ", stream);
        print_escaped(stream, form);
        fputs("\n", stream);
        print_escaped(stream, entry->help);
        if (entry->type == OPTION_CHOICE) {
            fputs(" One of:", stream);
            for (int i = 0; entry->choices[i]; i++) {
                fputs(i ? ", " : " ", stream);
                print_escaped(stream, entry->choices[i]);
            }
            fputs(".", stream);
        }
        if (fallback[0]) {
            fputs(" Default: ", stream);
            print_escaped(stream, fallback);
            fputs(".", stream);
        }
        fputs("\n", stream);
    }
    if (the_command->examples) {
        fputs(".PP\nExamples:\n", stream);
        for (int i = 0; the_command->examples[i]; i += 2) {
            fputs(".TP\n.B ", stream);
            print_escaped(stream, the_command->examples[i]);
            fputs("\n", stream);
            print_escaped(stream, the_command->examples[i + 1]);
            fputs("\n", stream);
        }
    }
}

void manual_print(const command *const *commands, FILE *stream)
{
    fprintf(stream, ".\\\" Made by 'carso help --man'; the texts are in src/.\n");
    fprintf(stream, ".TH CARSO 1 \"\" \"carso %d.%d.%d\" \"User Commands\"\n", CARSO_VERSION_MAJOR, CARSO_VERSION_MINOR,
            CARSO_VERSION_PATCH);
    fputs(".SH NAME\ncarso \\- defend image classifiers against adversarial attacks, and attack them\n"
          ".SH SYNOPSIS\n.B carso\nCOMMAND [OPTION...] [ARGUMENT...]\n.SH DESCRIPTION\n"
          "A model file holds a frozen classifier and, once trained, a purifier: a conditional variational autoencoder that\n"
          "sees only the classifier's internal representation of an image and draws several clean reconstructions of it. The\n"
          "classifier's opinions of these are aggregated into one robust prediction.\n.SH COMMANDS\n",
          stream);
    for (int i = 0; commands[i]; i++) {
        print_command(commands[i], stream);
    }
    fputs(".SH EXIT STATUS\n", stream);
    static const char *const statuses[] = {
        "0", "Success.",
        "1", "Something failed, or an image has no prediction; a message on standard error says what.",
        "2", "The command line is wrong.",
        "3", "The work was done, but what was measured is not to be trusted: a logit, loss or gradient was not finite.",
        "130", "Interrupted; training has saved a checkpoint first, predictions as JSON lines end with a whole line.", NULL};
    for (int i = 0; statuses[i]; i += 2) {
        fprintf(stream, ".TP\n.B %s\n%s\n", statuses[i], statuses[i + 1]);
    }
}
