/* SPDX-License-Identifier: BSD-2-Clause */
/* Small valid files of every kind, from which mutations start. */
#ifndef TEST_FUZZ_SEEDS_H
#define TEST_FUZZ_SEEDS_H

#include "mutation.h"
#include "targets.h"

/* Content with room to grow, to be freed; data NULL where it could not be made. folder: for files on the way. */
bytes seed_make(target_kind kind, const char *folder);

#endif
