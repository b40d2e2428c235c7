/* SPDX-License-Identifier: BSD-2-Clause */
/* The carso program: picks the subcommand. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "carso/version.h"
#include "commands.h"
#include "manual.h"

static const command *const commands[] = {
    &command_demo,   &command_info,   &command_predict,          &command_purify,  &command_attack,
    &command_evaluate, &command_merge,
    &command_new,    &command_import, &command_train_classifier, &command_train,   &command_verify,
    &command_bench,  NULL};

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

/*
 * A closed standard stream would give its number to the next file that is opened, and reports would end up in a model.
 * What takes its place refuses to be read or written in the direction that the stream is meant for.
 */
static void reserve_standard_streams(void)
{
    for (int number = STDIN_FILENO; number <= STDERR_FILENO; number++) {
        if (fcntl(number, F_GETFD) < 0 && errno == EBADF) {
            int opened = open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY);
            if (opened > STDERR_FILENO) {
                close(opened);
            }
        }
    }
}

int main(int argc, char **argv)
{
    exit_status status;
    reserve_standard_streams();
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
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == STATUS_OK) {
        complain("cannot write to standard output: %s",
                 errno ? strerror(errno) : "an earlier part of the report is lost");
        status = STATUS_FAILURE;
    }
    return status;
}
