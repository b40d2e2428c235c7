/* SPDX-License-Identifier: BSD-2-Clause */
/* What a command line names, opened as a data set: one, or image files and folders of them. */
#ifndef SOURCE_H
#define SOURCE_H

#include "session.h"

/* Of a file, by its name. */
bool source_is_image(const char *path);
/*
 * Opens the one data set, or else image files and folders, that inputs name; images are read as the model takes them. A
 * folder that is no data set for the model (no folder for each class, another number of them, or images beside them) is
 * taken for all images within, without labels; a note says so where it may surprise. Complains where it fails.
 */
exit_status source_open(carso_context *context, const carso_model_info *model, carso_split split, int inputs,
                        const char *const *input, carso_dataset **out);
/* The files that a list names, one a line; "-": standard input. */
exit_status source_open_list(carso_context *context, const carso_model_info *model, const char *list,
                             carso_dataset **out);
/* How many images there are from first on, at most wanted (0: all); 0 after a complaint. path: for that. */
uint64_t source_count(const carso_dataset *dataset, const char *path, uint64_t first, uint64_t wanted);

#endif
