/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an attack on images that are no pictures is given, and what it reports: the fixture of counted_context.h, with
 * numbers of a seed. To be defined before: COUNT images (at most 4) of SIZE components, and RECORDS entries of steps.
 */
#ifndef TEST_ATTACK_TRIAL_H
#define TEST_ATTACK_TRIAL_H

#include "attack/diagnosis.h"
#include "counted_context.h"

enum { ALL = COUNT * SIZE };

static float original[ALL], adversarial[ALL];
static double epsilon[COUNT];
static const uint64_t image_index[4] = {5, 6, 7, 8};
static int32_t labels[COUNT];
static double first_loss[COUNT], last_loss[COUNT], zero_gradient[COUNT], tiny_gradient[COUNT], distances[COUNT];
static uint8_t non_finite[COUNT];
static uint32_t bad_losses[COUNT], bad_gradients[COUNT];
static cso_step_record steps[RECORDS];
static const cso_attack_report report = {.first_loss = first_loss,
                                         .last_loss = last_loss,
                                         .non_finite = non_finite,
                                         .zero_gradient = zero_gradient,
                                         .tiny_gradient = tiny_gradient,
                                         .non_finite_losses = bad_losses,
                                         .non_finite_gradients = bad_gradients,
                                         .distance = distances,
                                         .steps = steps,
                                         .step_count = RECORDS,
                                         .step_stride = 1};

static uint64_t random_state = 1;

/* In [0, 1), of 24 bits. */
static inline float uniform(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(random_state >> 40) / 16777216.0f;
}

#endif
