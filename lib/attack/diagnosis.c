/* SPDX-License-Identifier: BSD-2-Clause */
#include "attack/diagnosis.h"

#include <math.h>

carso_status cso_diagnosis_open(cso_diagnosis *diagnosis, const carso_context *context)
{
    diagnosis->image = cso_allocate(context, (size_t)diagnosis->count, sizeof *diagnosis->image);
    return diagnosis->image ? CARSO_OK : cso_fail_memory(context, "an attack's diagnosis");
}

void cso_diagnosis_close(cso_diagnosis *diagnosis, const carso_context *context)
{
    cso_release(context, diagnosis->image);
}

static cso_step_record *step_record(const cso_diagnosis *diagnosis, int64_t step)
{
    const cso_attack_report *const report = diagnosis->report;
    if (!report || !report->steps) {
        return NULL;
    }
    const int64_t place = step / report->step_stride;
    return report->steps + (place < report->step_count ? place : report->step_count - 1);
}

void cso_diagnosis_add_loss(cso_diagnosis *diagnosis, int64_t image, int64_t step, bool finite, double loss,
                            bool wrong)
{
    const cso_attack_report *const report = diagnosis->report;
    if (finite && report && report->evaluated_steps > 0) {
        cso_course_add_loss(&diagnosis->image[image].course, step, report->evaluated_steps, loss);
    }
    cso_step_record *const record = step_record(diagnosis, step);
    if (!record) {
        return;
    }
    record->evaluations++;
    record->non_finite += !finite;
    record->wrong += wrong;
    record->loss += finite ? loss : 0.0;
}

void cso_diagnosis_add_gradient(cso_diagnosis *diagnosis, int64_t image, int64_t step, const double *gradient,
                                int32_t exponent, int evaluations, size_t size, bool wrong)
{
    const double tiny_below = ldexp(CSO_TINY_SLOPE * evaluations, -exponent);
    uint64_t zero = 0, tiny = 0;
    for (size_t j = 0; j < size; j++) {
        const double slope = fabs(gradient[j]);
        zero += slope == 0.0;
        tiny += slope < tiny_below && slope > 0.0;
    }
    cso_image_record *const own = diagnosis->image + image;
    own->components += size;
    own->zero += zero;
    own->tiny += tiny;
    if (!wrong) {
        own->right_components += size;
        own->right_weak += zero + tiny;
        cso_course_add_gradient(&own->course, step, (double)(zero + tiny) >= CSO_VANISHED_SHARE * (double)size);
    }
    cso_step_record *const record = step_record(diagnosis, step);
    if (!record) {
        return;
    }
    record->gradients++;
    record->flat += zero == size;
    record->components += size;
    record->zero += zero;
    record->tiny += tiny;
}

double cso_diagnosis_share(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0.0;
}

/* Of what all runs say: the latest, and -1 where one says so. */
static void add_run(int64_t of_run, bool *has_runs, int64_t *all)
{
    const bool spoilt = *has_runs && *all < 0;
    *all = spoilt || of_run < 0 ? -1 : !*has_runs || of_run > *all ? of_run : *all;
    *has_runs = true;
}

void cso_diagnosis_end_run(cso_diagnosis *diagnosis)
{
    for (int64_t i = 0; i < diagnosis->count; i++) {
        cso_image_record *const own = diagnosis->image + i;
        if (own->course.gradients > 0) {
            add_run(cso_course_vanished_from(&own->course), &own->has_gradients, &own->vanished_from);
        }
        if (own->course.started) {
            add_run(cso_course_fell_from(&own->course), &own->has_losses, &own->fell_from);
        }
        own->course = (cso_course){0};
    }
}

void cso_diagnosis_finish(cso_diagnosis *diagnosis)
{
    const cso_attack_report *const report = diagnosis->report;
    cso_diagnosis_end_run(diagnosis);
    for (int64_t i = 0; report && i < diagnosis->count; i++) {
        const cso_image_record *const own = diagnosis->image + i;
        if (report->zero_gradient) {
            report->zero_gradient[i] = cso_diagnosis_share(own->zero, own->components);
        }
        if (report->tiny_gradient) {
            report->tiny_gradient[i] = cso_diagnosis_share(own->tiny, own->components);
        }
        if (report->weak_gradient) {
            report->weak_gradient[i] =
                own->right_components > 0 ? cso_diagnosis_share(own->right_weak, own->right_components) : NAN;
        }
        if (report->vanished_from) {
            report->vanished_from[i] = own->has_gradients ? (int32_t)own->vanished_from : -1;
        }
        if (report->fell_from) {
            report->fell_from[i] = own->has_losses ? (int32_t)own->fell_from : -1;
        }
        if (report->non_finite_losses) {
            report->non_finite_losses[i] = own->non_finite_losses;
        }
        if (report->non_finite_gradients) {
            report->non_finite_gradients[i] = own->non_finite_gradients;
        }
    }
}

carso_status cso_diagnosis_check_finite(const carso_context *context, const uint8_t *non_finite,
                                        const uint64_t *image_index, int64_t count)
{
    int64_t bad = 0, first = 0;
    for (int64_t i = 0; i < count; i++) {
        if (non_finite[i] && bad++ == 0) {
            first = i;
        }
    }
    if (bad == 0) {
        return CARSO_OK;
    }
    return cso_fail(
        context, CARSO_ERROR_NON_FINITE,
        "a logit, loss or gradient was not finite for %lld of the %lld images attacked, the first being image %llu",
        (long long)bad, (long long)count, (unsigned long long)image_index[first]);
}
