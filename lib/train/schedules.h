/* SPDX-License-Identifier: BSD-2-Clause */
/* What changes in the course of a training: functions of the time in epochs. */
#ifndef CSO_TRAIN_SCHEDULES_H
#define CSO_TRAIN_SCHEDULES_H

/* CARSO, table 14: linear from start to peak, a plateau, linear from peak to end, which stays. Lengths may be 0. */
typedef struct cso_phases {
    double start, peak, end;
    double warm_up, plateau, annealing;
} cso_phases;

double cso_phases_at(const cso_phases *phases, double epoch);

/* 0 until start, linear to final at full, which stays. */
double cso_ramp_at(double start, double full, double final, double epoch);

/* Linear from 0 to peak over warm_up, then half a cosine to 0 at length. */
double cso_cosine_at(double peak, double warm_up, double length, double epoch);

#endif
