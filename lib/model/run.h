/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Running the two objectives, the bare classifier and the whole defence, on images already in dense C, H, W form:
 * logits, and the exact gradient to the images for any function of the logits. Prediction, gradients, attacks and
 * training all come through here.
 */
#ifndef CSO_MODEL_RUN_H
#define CSO_MODEL_RUN_H

#include "base/random.h"
#include "model/model.h"

/*
 * A function of the logits [draws][count][classes] of images first .. first + count - 1 of the call: writes losses
 * [count] (may be NULL) and d loss / d logits (same shape as logits; may be NULL). Where the call has several sets of
 * draws, image i with set s is number s * (images of the call) + i; those of one function call are of one set.
 */
typedef carso_status (*cso_logit_function)(void *user, int64_t first, int64_t count, int draws, int classes,
                                           const double *logits, double *losses, double *logit_gradient);

/* Converts images first .. first + count - 1 of the call into out [count][C][H][W]. */
typedef carso_status (*cso_image_source)(void *user, int64_t first, int64_t count, float *out);

/* Most images, and most (draw, image) pairs, in one plan: arenas stay modest and their sizes few, so that plans are
 * reused. */
#define CSO_RUN_IMAGES 128
#define CSO_RUN_PAIRS 512

typedef struct cso_run {
    /* [count][C][H][W], element says float or double; NULL: source is called for each part instead */
    const void *images;
    cso_element element;
    cso_image_source source; /* element must be CSO_F32 */
    void *source_user;
    int64_t count;
    int draws; /* defence; 1 for the classifier */
    uint64_t seed;
    cso_purpose purpose;         /* CSO_PURPOSE_LATENT but for attacks that want their own stream */
    const uint64_t *image_index; /* [count]: key of each image's latents */
    uint32_t first_draw;         /* draw d of the call has the latent (seed, purpose, image_index, first_draw + d) */
    /*
     * Defence. 0 and 1: one set of draws. Else this many, set s with draws s * draws .. (s + 1) * draws - 1, each given
     * to function by itself, under the same condition, which is computed once, as is its backward pass: gradient is the
     * sum over sets. What is [draws] below is [sets * draws] then.
     */
    int sets;
    const double *latents; /* NULL, or [draws][count][latent_size] given outright */
    cso_logit_function function; /* may be NULL */
    void *user;
    double *losses; /* out [sets][count] or NULL */
    void *gradient; /* out [count][C][H][W] in element, or NULL; needs function */
    /*
     * out [count], or NULL. The pull back runs on each image's logit gradient divided by the power of two next above
     * its largest element, so that exp(logit) neither overflows nor vanishes in the backend's float. Not NULL: gradient
     * is left like that, and d loss / d image is gradient * 2^gradient_exponent. NULL: gradient is multiplied back
     * (exact, but it may overflow or underflow in element).
     */
    int32_t *gradient_exponent;
    uint8_t *bad_gradient; /* defence: out [sets][count], 1 where a set's part in gradient is not finite; or NULL */
    double *logits;        /* out [draws][count][classes] or NULL */
    void *reconstructions; /* out [draws][count][C][H][W] in element, or NULL */
    carso_progress_callback progress;
    void *progress_user;
} cso_run;

/*
 * All split the batch under the memory limit, and call progress between the parts: CANCELLED leaves the outputs filled
 * as far as it got. Defence without a purifier: UNSUPPORTED. Non-finite numbers are not looked for here: callers check.
 */
carso_status cso_run_classifier(carso_model *model, const cso_run *run);
carso_status cso_run_defence(carso_model *model, const cso_run *run);
/* Reconstructions only. */
carso_status cso_run_purify(carso_model *model, const cso_run *run);

#endif
