/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the bundled model and its test images are. */
#ifndef BUNDLED_H
#define BUNDLED_H

#include <stdbool.h>
#include <stddef.h>

#define BUNDLED_MODEL "fashion-mnist/model.safetensors"
#define BUNDLED_IMAGES "fashion-mnist/test-256"

/* Path of a bundled file: below CARSO_DATA_DIR of the environment, else beside the program's installation, else in the
 * source tree that it was built from. False, after a complaint, where it is in none of them. */
bool bundled_path(const char *name, char *path, size_t size);

#endif
