/* SPDX-License-Identifier: BSD-2-Clause */
/* The carso program: picks the subcommand. */
#include <stdio.h>
#include <string.h>

#include "carso/version.h"
#include "commands.h"
#include "manual.h"

static const command *const commands[] = {
    &command_demo,   &command_info,             &command_predict, &command_purify,
    &command_attack, &command_train_classifier, &command_train,   &command_bench, NULL};

static void print_overview(FILE *stream)
{
    fputs("Usage: carso COMMAND [OPTION...] [ARGUMENT...]\n\n"
          "Defends image classifiers against adversarial attacks (CARSO), and attacks them.\n\nCommands:\n",
          stream);
    for (int i = 0; commands[i]; i++) {
        fprintf(stream, "  %-18s%s\n", commands[i]->name, commands[i]->summary);
    }
    fputs("\n'carso COMMAND --help' explains a command; 'carso --version' prints the version.\n", stream);
}

static const command *find_command(const char *name)
{
    for (int i = 0; commands[i]; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static exit_status help(int argc, char **argv)
{
    if (argc < 2) {
        print_overview(stdout);
        return STATUS_OK;
    }
    if (strcmp(argv[1], "--man") == 0) {
        manual_print(commands, stdout);
        return STATUS_OK;
    }
    const command *found = find_command(argv[1]);
    if (!found) {
        complain("'%s' is not a command; 'carso help' lists them", argv[1]);
        return STATUS_USAGE;
    }
    command_help(found, stdout);
    return STATUS_OK;
}

int main(int argc, char **argv)
{
    exit_status status;
    if (argc < 2) {
        print_overview(stderr);
        return STATUS_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        status = help(argc - 1, argv + 1);
    } else if (strcmp(argv[1], "--version") == 0) {
        printf("carso %s\n", carso_version());
        status = STATUS_OK;
    } else {
        const command *found = find_command(argv[1]);
        if (!found) {
            complain("'%s' is not a command; 'carso help' lists them", argv[1]);
            return STATUS_USAGE;
        }
        status = command_execute(found, argc - 1, argv + 1);
    }
    /* A full disk behind a redirected report must not look like success. */
    if (fflush(stdout) != 0 && status == STATUS_OK) {
        perror("carso: standard output");
        status = STATUS_FAILURE;
    }
    return status;
}
