/* SPDX-License-Identifier: BSD-2-Clause */
#include "attack/course.h"

#include <math.h>

#define LEAST_VANISHED 2
#define LEAST_IN_PART 2
/* Standard errors of a difference of means that scatter does not explain. */
#define SIGNIFICANT 3.0
#define KEPT_SHARE 0.5

void cso_course_add_gradient(cso_course *course, int64_t step, bool vanished)
{
    course->gradients++;
    if (!vanished) {
        course->vanished = 0;
        return;
    }
    if (course->vanished++ == 0) {
        course->vanished_at = step;
    }
}

void cso_course_add_loss(cso_course *course, int64_t step, int64_t steps, double loss)
{
    if (!course->started) {
        course->start = loss;
    }
    course->started = true;
    int64_t number = step * CSO_COURSE_PARTS / steps;
    number = number < CSO_COURSE_PARTS ? number : CSO_COURSE_PARTS - 1;
    cso_course_part *const part = &course->part[number];
    const double rise = loss - course->start;
    if (part->count++ == 0) {
        part->first_step = step;
    }
    part->sum += rise;
    part->squares += rise * rise;
}

int64_t cso_course_vanished_from(const cso_course *course)
{
    const bool always = course->vanished == course->gradients;
    if (course->vanished == 0 || (!always && (course->vanished < LEAST_VANISHED || course->vanished < course->gradients / 4))) {
        return -1;
    }
    return course->vanished_at;
}

static double part_mean(const cso_course_part *part)
{
    return part->sum / part->count;
}

/* Variance of the mean. */
static double part_scatter(const cso_course_part *part)
{
    const double mean = part_mean(part), variance = part->squares / part->count - mean * mean;
    return isnan(variance) ? INFINITY : fmax(variance, 0.0) / (part->count - 1);
}

int64_t cso_course_fell_from(const cso_course *course)
{
    const cso_course_part *const last = &course->part[CSO_COURSE_PARTS - 1];
    int best = 0;
    for (int i = 0; i < CSO_COURSE_PARTS; i++) {
        if (course->part[i].count < LEAST_IN_PART) {
            return -1;
        }
        if (part_mean(&course->part[i]) > part_mean(&course->part[best])) {
            best = i;
        }
    }
    const double most = part_mean(&course->part[best]), left = part_mean(last);
    const double scatter = sqrt(part_scatter(&course->part[best]) + part_scatter(last));
    if (!(most - left > SIGNIFICANT * scatter) || !(left < KEPT_SHARE * most)) {
        return -1;
    }
    return course->part[best + 1].first_step;
}
