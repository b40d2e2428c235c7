/* SPDX-License-Identifier: BSD-2-Clause */
#include "assault.h"

#include <stdlib.h>
#include <string.h>

#include "progress.h"

void assault_release(assault *held)
{
    free(held->pixels);
    *held = (assault){0};
}

static void summarise(const carso_attack_result *result, uint64_t count, assault *out)
{
    const double *first = carso_attack_result_first_loss(result);
    const double *last = carso_attack_result_last_loss(result);
    const double *zero = carso_attack_result_zero_gradient(result);
    const double *tiny = carso_attack_result_tiny_gradient(result);
    const uint8_t *non_finite = carso_attack_result_non_finite(result);
    uint64_t finite = 0, rose = 0;
    double first_sum = 0, last_sum = 0, zero_sum = 0, tiny_sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (non_finite[i]) {
            out->non_finite++;
            continue;
        }
        finite++;
        rose += last[i] > first[i];
        first_sum += first[i];
        last_sum += last[i];
        zero_sum += zero[i];
        tiny_sum += tiny[i];
    }
    if (finite > 0) {
        out->mean_first_loss = first_sum / (double)finite;
        out->mean_last_loss = last_sum / (double)finite;
        out->zero_gradient = zero_sum / (double)finite;
        out->tiny_gradient = tiny_sum / (double)finite;
        out->loss_rose = (double)rose / (double)finite;
    }
}

exit_status assault_run(const carso_model *model, const samples *held, const carso_attack_options *options,
                        const char *title, bool quiet, assault *out)
{
    carso_attack_options with_progress = *options;
    carso_images images = samples_describe(held, held->pixels, 0, held->count);
    carso_attack_result *result = NULL;
    progress_bar bar;
    size_t size = (size_t)held->count * samples_image_size(held) * sizeof(float);
    double started = session_seconds();
    *out = (assault){.pixels = malloc(size)};
    if (!out->pixels) {
        complain("out of memory");
        return STATUS_FAILURE;
    }
    progress_start(&bar, title, quiet);
    with_progress.first_image = held->first;
    with_progress.progress = progress_callback;
    with_progress.progress_user = &bar;
    carso_status status = carso_attack(model, &images, held->labels, &with_progress, &result);
    progress_finish(&bar);
    if (status != CARSO_OK && status != CARSO_ERROR_NON_FINITE) {
        carso_attack_result_destroy(result);
        assault_release(out);
        return session_failure(carso_model_context(model), status, "cannot attack");
    }
    memcpy(out->pixels, carso_attack_result_images(result), size);
    summarise(result, held->count, out);
    carso_attack_result_destroy(result);
    out->seconds = session_seconds() - started;
    return STATUS_OK;
}

json_t *assault_json(const assault *held)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:I, s:f}", "first_loss", held->mean_first_loss, "last_loss", held->mean_last_loss,
                     "loss_rose", held->loss_rose, "zero_gradient", held->zero_gradient, "tiny_gradient",
                     held->tiny_gradient, "non_finite", (json_int_t)held->non_finite, "seconds", held->seconds);
}
