/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "run_case.h"

/* The loss of one of the images, evaluated by itself. */
static double value_of(carso_model *model, const cso_run *whole, const double *images, bool defence, int image)
{
    double loss = NAN;
    const cso_loss_request *const all = whole->user;
    cso_loss_request request = {.loss = all->loss, .labels = labels + image, .context = all->context};
    cso_run run = *whole;
    run.images = images + image * SMALL_IMAGE;
    run.count = 1;
    run.image_index = image_index + image;
    run.user = &request;
    run.gradient = NULL;
    run.losses = &loss;
    ck_assert_int_eq(defence ? cso_run_defence(model, &run) : cso_run_classifier(model, &run), CARSO_OK);
    return loss;
}

/*
 * In double, both uses of the classifier included. A central difference with h = 1e-6 is good to about 1e-9 of the
 * loss's own size except where a ReLU's kink lies within h, which the directions chosen here do not meet; 1e-6 is asked
 * for.
 */
static void check_differences(bool defence, carso_loss loss)
{
    carso_context *const context = named_context("reference-double", 0);
    carso_model *const model = small_model(context);
    float single[COUNT * SMALL_IMAGE];
    double images[COUNT * SMALL_IMAGE], gradient[COUNT * SMALL_IMAGE], losses[COUNT];
    cso_loss_request request = {.loss = loss, .labels = labels, .context = context};
    fill_images(single, COUNT);
    for (int k = 0; k < COUNT * SMALL_IMAGE; k++) {
        images[k] = single[k];
    }
    cso_run run = {
        .images = images,
        .element = CSO_F64,
        .count = COUNT,
        .draws = defence ? DRAWS : 1,
        .seed = 77,
        .purpose = CSO_PURPOSE_LATENT,
        .image_index = image_index,
        .function = cso_loss_function,
        .user = &request,
        .losses = losses,
        .gradient = gradient,
    };
    ck_assert_int_eq(defence ? cso_run_defence(model, &run) : cso_run_classifier(model, &run), CARSO_OK);
    int not_zero = 0;
    double largest = 0;
    for (int k = 0; k < COUNT * SMALL_IMAGE; k++) {
        not_zero += gradient[k] != 0;
        largest = fmax(largest, fabs(gradient[k]));
    }
    ck_assert_int_gt(not_zero, COUNT * SMALL_IMAGE / 2);
    for (int sample = 0; sample < 8; sample++) {
        const int k = (sample * 409 + 13) % (COUNT * SMALL_IMAGE);
        const double kept = images[k], h = 1e-6;
        images[k] = kept + h;
        const double above = value_of(model, &run, images, defence, k / SMALL_IMAGE);
        images[k] = kept - h;
        const double below = value_of(model, &run, images, defence, k / SMALL_IMAGE);
        images[k] = kept;
        ck_assert_msg(fabs(gradient[k] - (above - below) / (2 * h)) <= 1e-6 * largest,
                      "loss %d, component %d: %.12g, difference %.12g", (int)loss, k, gradient[k],
                      (above - below) / (2 * h));
    }
    carso_model_destroy(model);
    carso_context_destroy(context);
}

START_TEST(classifier_gradient_is_exact)
{
    check_differences(false, (carso_loss)_i);
}
END_TEST

START_TEST(defence_gradient_is_exact)
{
    check_differences(true, (carso_loss)_i);
}
END_TEST

/* float and double backends agree to float's precision. */
START_TEST(backends_agree)
{
    float images[COUNT * SMALL_IMAGE];
    static outputs single, precise;
    fill_images(images, COUNT);
    for (int k = 0; k < 2; k++) {
        carso_context *const context = named_context(k ? "reference-double" : "reference", 0);
        carso_model *const model = small_model(context);
        cso_loss_request request = {.loss = CARSO_LOSS_LOG_ODDS, .labels = labels, .context = context};
        const cso_run run = basic_run(images, &request, k ? &precise : &single);
        ck_assert_int_eq(cso_run_defence(model, &run), CARSO_OK);
        carso_model_destroy(model);
        carso_context_destroy(context);
    }
    double largest = 0;
    for (int k = 0; k < COUNT * SMALL_IMAGE; k++) {
        largest = fmax(largest, fabs((double)precise.gradient[k]));
    }
    ck_assert_double_gt(largest, 0);
    for (int k = 0; k < COUNT * SMALL_IMAGE; k++) {
        ck_assert_double_eq_tol(single.gradient[k], precise.gradient[k], 1e-4 * largest);
    }
    for (int k = 0; k < ROWS * SMALL_CLASSES; k++) {
        ck_assert_double_eq_tol(single.logits[k], precise.logits[k], 1e-5);
    }
    for (int k = 0; k < ROWS * SMALL_IMAGE; k++) {
        ck_assert_double_eq_tol(single.reconstructions[k], precise.reconstructions[k], 1e-5);
    }
}
END_TEST

/*
 * Under a limit that holds one image, or a few pairs, parts and slices are small and the draws of an image need a
 * second forward pass. The reference backend computes each image by itself, so that only the sum over draws may differ
 * in order.
 */
START_TEST(splitting_changes_nothing)
{
    static const uint64_t limits[] = {1, 800 << 10, 1150 << 10, 3 << 20};
    float images[COUNT * SMALL_IMAGE];
    static outputs whole, split, forward;
    fill_images(images, COUNT);
    for (size_t k = 0; k < 1 + sizeof limits / sizeof *limits; k++) {
        carso_context *const context = named_context("reference", k == 0 ? 0 : limits[k - 1]);
        carso_model *const model = small_model(context);
        cso_loss_request request = {.loss = CARSO_LOSS_CROSS_ENTROPY, .labels = labels, .context = context};
        cso_run run = basic_run(images, &request, k == 0 ? &whole : &split);
        memset(&split, 0xff, sizeof split);
        ck_assert_int_eq(cso_run_defence(model, &run), CARSO_OK);
        run = basic_run(images, &request, &forward);
        run.gradient = NULL; /* another program, with other fusions */
        ck_assert_int_eq(cso_run_defence(model, &run), CARSO_OK);
        for (int i = 0; i < ROWS * SMALL_CLASSES; i++) {
            ck_assert_double_eq_tol(forward.logits[i], whole.logits[i], 1e-5);
        }
        for (int i = 0; k > 0 && i < COUNT * SMALL_IMAGE; i++) {
            ck_assert_float_eq_tol(split.gradient[i], whole.gradient[i], 1e-6f);
        }
        if (k > 0) {
            ck_assert_mem_eq(split.logits, whole.logits, sizeof whole.logits);
            ck_assert_mem_eq(split.losses, whole.losses, sizeof whole.losses);
            ck_assert_mem_eq(split.reconstructions, whole.reconstructions, sizeof whole.reconstructions);
        }
        carso_model_destroy(model);
        carso_context_destroy(context);
    }
}
END_TEST

static carso_status copy_source(void *user, int64_t first, int64_t count, float *out)
{
    memcpy(out, (const float *)user + first * SMALL_IMAGE, (size_t)count * SMALL_IMAGE * sizeof *out);
    return CARSO_OK;
}

static carso_status failing_source(void *user, int64_t first, int64_t count, float *out)
{
    (void)user;
    (void)count;
    (void)out;
    return first > 0 ? CARSO_ERROR_INVALID_IMAGE : copy_source(user, first, count, out);
}

/* A stream of images, latents given outright, a later first draw: the same numbers by another way. */
START_TEST(other_ways_to_the_same_numbers)
{
    float images[COUNT * SMALL_IMAGE];
    static outputs expected, found;
    double latents[ROWS * LATENT];
    carso_context *const context = named_context("reference", 1);
    carso_model *const model = small_model(context);
    cso_loss_request request = {.loss = CARSO_LOSS_MARGIN, .labels = labels, .context = context};
    fill_images(images, COUNT);
    cso_run run = basic_run(images, &request, &expected);
    run.first_draw = 1000;
    ck_assert_int_eq(cso_run_defence(model, &run), CARSO_OK);

    for (int d = 0; d < DRAWS; d++) {
        for (int i = 0; i < COUNT; i++) {
            float latent[LATENT];
            const cso_random stream = {77, CSO_PURPOSE_LATENT, image_index[i], 1000 + (uint32_t)d};
            cso_random_normal(&stream, 0, LATENT, latent);
            for (int j = 0; j < LATENT; j++) {
                latents[(d * COUNT + i) * LATENT + j] = latent[j];
            }
        }
    }
    run = basic_run(NULL, &request, &found);
    run.source = copy_source;
    run.source_user = images;
    run.latents = latents;
    run.image_index = NULL;
    ck_assert_int_eq(cso_run_defence(model, &run), CARSO_OK);
    ck_assert_mem_eq(&expected, &found, sizeof found);

    run.source = failing_source;
    ck_assert_int_eq(cso_run_defence(model, &run), CARSO_ERROR_INVALID_IMAGE);
    ck_assert_int_eq(cso_run_classifier(model, &run), CARSO_ERROR_INVALID_IMAGE);

    run = basic_run(images, &request, &found);
    ck_assert_int_eq(cso_run_defence(model, &run), CARSO_OK);
    ck_assert_mem_ne(expected.logits, found.logits, sizeof found.logits); /* draws 0 to 3 are others */
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

/* d loss / d logits of exp(600) and of exp(-600): far outside of float, on the way back and in the result. */
static double steepness;

static carso_status steep_function(void *user, int64_t first, int64_t count, int draws, int classes,
                                   const double *logits, double *losses, double *gradient)
{
    (void)user;
    (void)first;
    (void)logits;
    for (int64_t k = 0; gradient && k < draws * count * classes; k++) {
        gradient[k] = k % classes == 0 ? steepness : -0.25 * steepness;
    }
    for (int64_t i = 0; losses && i < count; i++) {
        losses[i] = 0;
    }
    return CARSO_OK;
}

START_TEST(exponents_keep_steep_and_flat_gradients)
{
    float images[COUNT * SMALL_IMAGE];
    static outputs plain, scaled;
    int32_t exponent[COUNT];
    carso_context *const context = named_context("reference", 0);
    carso_model *const model = small_model(context);
    fill_images(images, COUNT);
    for (int defence = 0; defence < 2; defence++) {
        carso_status (*const go)(carso_model *, const cso_run *) = defence ? cso_run_defence : cso_run_classifier;
        cso_run run = basic_run(images, NULL, &plain);
        run.function = steep_function;
        run.draws = defence ? DRAWS : 1;
        steepness = 1;
        ck_assert_int_eq(go(model, &run), CARSO_OK);
        for (int power = -900; power <= 900; power += 1800) {
            run.gradient = scaled.gradient;
            steepness = ldexp(1, power);
            run.gradient_exponent = exponent;
            ck_assert_int_eq(go(model, &run), CARSO_OK);
            for (int k = 0; k < COUNT * SMALL_IMAGE; k++) {
                ck_assert(ldexp((double)scaled.gradient[k], exponent[k / SMALL_IMAGE] - power) ==
                          (double)plain.gradient[k]);
            }
            run.gradient_exponent = NULL; /* then float says what it can */
            ck_assert_int_eq(go(model, &run), CARSO_OK);
            for (int k = 0; k < COUNT * SMALL_IMAGE; k++) {
                ck_assert(plain.gradient[k] == 0 || (power < 0 ? scaled.gradient[k] == 0 : isinf(scaled.gradient[k])));
            }
        }
    }
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

typedef struct watch {
    int calls, stop_at;
    uint64_t last;
} watch;

static int watch_progress(const carso_progress *progress, void *user)
{
    watch *const seen = user;
    ck_assert_str_eq(progress->unit, "images");
    ck_assert_uint_eq(progress->total, COUNT);
    ck_assert(progress->done >= seen->last && progress->done <= COUNT);
    seen->last = progress->done;
    return ++seen->calls == seen->stop_at;
}

START_TEST(progress_and_cancellation)
{
    float images[COUNT * SMALL_IMAGE];
    static outputs out;
    carso_context *const context = named_context("reference", 1);
    carso_model *const model = small_model(context);
    cso_loss_request request = {.loss = CARSO_LOSS_MARGIN, .labels = labels, .context = context};
    fill_images(images, COUNT);
    for (int defence = 0; defence < 3; defence++) {
        carso_status (*const go)(carso_model *, const cso_run *) = defence ? cso_run_defence : cso_run_classifier;
        cso_run run = basic_run(images, &request, &out);
        watch seen = {0};
        if (defence == 2) { /* the same draws, as two sets */
            run.draws = DRAWS / 2;
            run.sets = 2;
            run.losses = NULL;
            request.images = COUNT;
        }
        run.progress = watch_progress;
        run.progress_user = &seen;
        ck_assert_int_eq(go(model, &run), CARSO_OK);
        ck_assert_uint_eq(seen.last, COUNT);
        const int all = seen.calls;
        ck_assert_int_ge(all, COUNT);
        for (int stop = 1; stop <= all; stop++) {
            seen = (watch){.stop_at = stop};
            ck_assert_int_eq(go(model, &run), CARSO_CANCELLED);
            ck_assert_int_eq(seen.calls, stop);
        }
    }
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

START_TEST(refusals)
{
    float images[COUNT * SMALL_IMAGE];
    static outputs out;
    carso_context *const context = named_context("reference", 0);
    carso_model *const classifier = small_classifier(context);
    cso_loss_request request = {.loss = CARSO_LOSS_MARGIN, .labels = labels, .context = context};
    fill_images(images, COUNT);
    cso_run run = basic_run(images, &request, &out);
    ck_assert_int_eq(cso_run_defence(classifier, &run), CARSO_ERROR_UNSUPPORTED);
    ck_assert_int_eq(cso_run_purify(classifier, &run), CARSO_ERROR_UNSUPPORTED);
    run.function = NULL;
    ck_assert_int_eq(cso_run_classifier(classifier, &run), CARSO_ERROR_INTERNAL);
    run.gradient = NULL;
    run.images = NULL;
    ck_assert_int_eq(cso_run_classifier(classifier, &run), CARSO_ERROR_INTERNAL);
    run.images = images;
    run.count = 0;
    ck_assert_int_eq(cso_run_classifier(classifier, &run), CARSO_OK);
    carso_model_destroy(classifier);
    carso_context_destroy(context);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run");
    TCase *tests = tcase_create("run");
    tcase_set_timeout(tests, 600); /* the reference backend under sanitizers */
    tcase_add_loop_test(tests, classifier_gradient_is_exact, 0, 5);
    tcase_add_loop_test(tests, defence_gradient_is_exact, 0, 5);
    tcase_add_test(tests, backends_agree);
    tcase_add_test(tests, splitting_changes_nothing);
    tcase_add_test(tests, other_ways_to_the_same_numbers);
    tcase_add_test(tests, exponents_keep_steep_and_flat_gradients);
    tcase_add_test(tests, progress_and_cancellation);
    tcase_add_test(tests, refusals);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
