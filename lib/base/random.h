/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
 * A number is a function of (seed, purpose, image, draw, element) and of nothing else, so results do not depend on
 * batch sizes, threads or backends.
 */
#ifndef CSO_BASE_RANDOM_H
#define CSO_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

typedef enum cso_purpose {
    CSO_PURPOSE_LATENT = 1, /* z of a draw */
    CSO_PURPOSE_ATTACK_START = 2,
    CSO_PURPOSE_INITIAL_WEIGHTS = 3,
    CSO_PURPOSE_SHUFFLE = 4,
    CSO_PURPOSE_AUGMENTATION = 5,
    CSO_PURPOSE_TRAINING_LATENT = 6,
    CSO_PURPOSE_TRAINING_ATTACK = 7,
    CSO_PURPOSE_TRAINING_ASSIGNMENT = 8,
    CSO_PURPOSE_ATTACK_LATENT = 9, /* z of a draw that an attack consumes: never one that scoring uses */
    CSO_PURPOSE_ATTACK_SEARCH = 10, /* what a random search proposes */
    CSO_PURPOSE_SCORING = 20,       /* latents: an evaluation's figures */
    CSO_PURPOSE_SELECTION = 21,     /* latents: which of its points an evaluation keeps */
    CSO_PURPOSE_GRADIENT_CHECK = 22,
    CSO_PURPOSE_ATTACK_SEED = 23 /* of each attack of an evaluation */
} cso_purpose;

typedef struct cso_random {
    uint64_t seed;
    cso_purpose purpose;
    uint64_t image;
    uint32_t draw;
} cso_random;

/* One block of four 32-bit words; exposed for the published test vectors. */
void cso_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Elements first .. first + count - 1 of the stream. */
void cso_random_words(const cso_random *stream, uint64_t first, size_t count, uint32_t *out);
/* In [0, 1), 24 bits. */
void cso_random_uniform(const cso_random *stream, uint64_t first, size_t count, float *out);
/* Standard normal, by Box and Muller in double; first must be even. */
void cso_random_normal(const cso_random *stream, uint64_t first, size_t count, float *out);
/* Uniform permutation of 0 .. count - 1 (Fisher and Yates). */
void cso_random_permutation(const cso_random *stream, uint64_t count, uint64_t *out);

#endif
