/* SPDX-License-Identifier: BSD-2-Clause */
/* The picture that purify, attack and demo write: image, perturbation, attacked image, reconstructions, with labels. */
#ifndef GRID_H
#define GRID_H

#include "samples.h"

#define GRID_ROWS 10
#define GRID_DRAWS 6

/* The first GRID_ROWS images. attacked NULL: only images and reconstructions. A model without a purifier: no
 * reconstructions. Labels are the classifier's, green where they are right, red where wrong, gray where not known. */
exit_status grid_write(const carso_model *model, const samples *held, const float *attacked, double epsilon,
                       int32_t draws, uint64_t seed, const char *path);

#endif
