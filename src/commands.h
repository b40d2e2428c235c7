/* SPDX-License-Identifier: BSD-2-Clause */
/* The subcommands, each in a file of its name. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "options.h"

extern const command command_demo;
extern const command command_evaluate;
extern const command command_import;
extern const command command_info;
extern const command command_merge;
extern const command command_new;
extern const command command_predict;
extern const command command_purify;
extern const command command_attack;
extern const command command_train_classifier;
extern const command command_train;
extern const command command_bench;
extern const command command_verify;

#endif
