/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "train/classifier_loss.h"
#include "train/vae_loss.h"

enum { IMAGES = 4, FEATURES = 5, COUNT = IMAGES * FEATURES };

/* Central differences of a smooth function in double: truncation and rounding are near 1e-10 with this step. */
#define STEP 1e-5
#define TOLERANCE 1e-8

static double value_of(int i, double scale)
{
    return scale * sin(1.7 * i + .3);
}

START_TEST(pixel_loss_is_cross_entropy)
{
    const double logits[] = {0, 1, -1, 5, -5, 20};
    const float targets[] = {.5f, 1, 0, .25f, .75f, .1f};
    for (int i = 0; i < 6; i++) {
        const long double p = 1 / (1 + expl(-(long double)logits[i]));
        const long double q = 1 / (1 + expl((long double)logits[i]));
        const double expected = (double)-(targets[i] * logl(p) + (1 - (long double)targets[i]) * logl(q));
        double gradient;
        ck_assert_double_eq_tol(cso_pixel_loss(&logits[i], &targets[i], 1, 3, &gradient), expected,
                                1e-14 * (1 + expected));
        ck_assert_double_eq_tol(gradient, (double)(3 * (p - targets[i])), 1e-14);
    }
}
END_TEST

START_TEST(pixel_loss_stays_exact_where_the_sigmoid_saturates)
{
    const double logits[] = {1000, -1000, 1000, -1000};
    const float targets[] = {1, 0, 0, 1};
    double gradient[4];
    ck_assert_double_eq(cso_pixel_loss(logits, targets, 2, 1, gradient), 0);
    ck_assert_double_eq(cso_pixel_loss(logits, targets, 4, 1, gradient), 2000);
    ck_assert_double_eq(gradient[2], 1);
    ck_assert_double_eq(gradient[3], -1);
    const double bad[] = {NAN, 0};
    ck_assert(isnan(cso_pixel_loss(bad, targets, 2, 1, NULL)));
    const double infinite[] = {INFINITY, 0};
    ck_assert(!isfinite(cso_pixel_loss(infinite, targets + 2, 2, 1, NULL)));
}
END_TEST

START_TEST(divergence_is_the_closed_form)
{
    double mean[COUNT], log_variance[COUNT];
    long double expected = 0;
    for (int i = 0; i < COUNT; i++) {
        mean[i] = value_of(i, 2);
        log_variance[i] = value_of(i + 100, 1.5);
        expected += -.5L * (1 + (long double)log_variance[i] - (long double)mean[i] * mean[i] - expl(log_variance[i]));
    }
    const cso_divergence found = cso_divergence_loss(mean, log_variance, IMAGES, FEATURES, 0, 1, NULL, NULL);
    ck_assert_double_eq_tol(found.sum, (double)expected, 1e-12);
    ck_assert_double_eq(found.term, found.sum);

    const double zero[2] = {0, 0};
    ck_assert_double_eq(cso_divergence_loss(zero, zero, 1, 2, 0, 1, NULL, NULL).sum, 0);
}
END_TEST

/* The latent's way through a made-up decoder, sum_i w_i sin(z_i), plus beta times the divergence. */
static double whole_loss(const double *mean, const double *log_variance, const double *noise, double beta,
                         double free_bits)
{
    double latent[COUNT], sum = 0;
    cso_reparameterise(mean, log_variance, noise, COUNT, latent);
    for (int i = 0; i < COUNT; i++) {
        sum += (i % 3 - 1.2) * sin(latent[i]);
    }
    return sum + beta * cso_divergence_loss(mean, log_variance, IMAGES, FEATURES, free_bits, 1, NULL, NULL).term;
}

static void check_gradients(double beta, double free_bits)
{
    double mean[COUNT], log_variance[COUNT], noise[COUNT], latent[COUNT], latent_gradient[COUNT];
    double mean_gradient[COUNT], log_variance_gradient[COUNT];
    for (int i = 0; i < COUNT; i++) {
        mean[i] = value_of(i, .8);
        log_variance[i] = value_of(i + 50, .6) - .2;
        noise[i] = value_of(i + 200, 1.3);
    }
    cso_divergence_loss(mean, log_variance, IMAGES, FEATURES, free_bits, beta, mean_gradient, log_variance_gradient);
    cso_reparameterise(mean, log_variance, noise, COUNT, latent);
    for (int i = 0; i < COUNT; i++) {
        latent_gradient[i] = (i % 3 - 1.2) * cos(latent[i]);
    }
    cso_reparameterise_gradient(log_variance, noise, latent_gradient, COUNT, mean_gradient, log_variance_gradient);
    for (int i = 0; i < 2 * COUNT; i++) {
        double *place = i < COUNT ? &mean[i] : &log_variance[i - COUNT];
        const double kept = *place;
        *place = kept + STEP;
        const double above = whole_loss(mean, log_variance, noise, beta, free_bits);
        *place = kept - STEP;
        const double below = whole_loss(mean, log_variance, noise, beta, free_bits);
        *place = kept;
        const double expected = (above - below) / (2 * STEP);
        const double found = i < COUNT ? mean_gradient[i] : log_variance_gradient[i - COUNT];
        ck_assert_double_eq_tol(found, expected, TOLERANCE);
    }
}

START_TEST(gradients_match_finite_differences)
{
    check_gradients(0, 0);
    check_gradients(.7, 0);
    check_gradients(1, .3);
    check_gradients(1, 10);
}
END_TEST

START_TEST(free_bits_spare_features_under_the_threshold)
{
    /* Feature 0 has a divergence of .02 nats, feature 1 of 2. */
    const double mean[4] = {.2, 2, -.2, -2}, log_variance[4] = {0, 0, 0, 0};
    double mean_gradient[4], log_variance_gradient[4];
    const cso_divergence found =
        cso_divergence_loss(mean, log_variance, 2, 2, .5, 1, mean_gradient, log_variance_gradient);
    ck_assert_double_eq_tol(found.sum, 2 * 2.02, 1e-15);
    ck_assert_double_eq_tol(found.term, 2 * (.5 + 2), 1e-15);
    ck_assert_double_eq(mean_gradient[0], 0);
    ck_assert_double_eq(mean_gradient[2], 0);
    ck_assert_double_eq(mean_gradient[1], 2);
    ck_assert_double_eq(mean_gradient[3], -2);
}
END_TEST

START_TEST(classifier_gradients_match_finite_differences)
{
    enum { CLASSES = 3, ROWS = 2, LOGITS = CLASSES * ROWS };
    const int32_t labels[ROWS] = {2, 0};
    double logits[LOGITS], other[LOGITS], gradient[LOGITS], other_gradient[LOGITS], unused[LOGITS];
    for (int i = 0; i < LOGITS; i++) {
        logits[i] = value_of(i, 2);
        other[i] = value_of(i + 7, 3);
    }
    for (int smoothing = 0; smoothing < 2; smoothing++) {
        cso_cross_entropy(logits, labels, ROWS, CLASSES, .2 * smoothing, 1, gradient);
        for (int i = 0; i < LOGITS; i++) {
            const double kept = logits[i];
            logits[i] = kept + STEP;
            const double above = cso_cross_entropy(logits, labels, ROWS, CLASSES, .2 * smoothing, 1, unused);
            logits[i] = kept - STEP;
            const double below = cso_cross_entropy(logits, labels, ROWS, CLASSES, .2 * smoothing, 1, unused);
            logits[i] = kept;
            ck_assert_double_eq_tol(gradient[i], (above - below) / (2 * STEP), TOLERANCE);
        }
    }
    cso_softmax_divergence(logits, other, ROWS, CLASSES, 1, NULL, gradient, other_gradient);
    for (int i = 0; i < 2 * LOGITS; i++) {
        double *place = i < LOGITS ? &logits[i] : &other[i - LOGITS];
        const double kept = *place;
        *place = kept + STEP;
        const double above = cso_softmax_divergence(logits, other, ROWS, CLASSES, 1, NULL, NULL, NULL);
        *place = kept - STEP;
        const double below = cso_softmax_divergence(logits, other, ROWS, CLASSES, 1, NULL, NULL, NULL);
        *place = kept;
        const double found = i < LOGITS ? gradient[i] : other_gradient[i - LOGITS];
        ck_assert_double_eq_tol(found, (above - below) / (2 * STEP), TOLERANCE);
    }
}
END_TEST

START_TEST(classifier_losses_survive_large_logits)
{
    const double logits[2] = {1000, -1000};
    const int32_t right = 0, wrong = 1;
    double gradient[2];
    ck_assert_double_eq(cso_cross_entropy(logits, &right, 1, 2, 0, 1, gradient), 0);
    ck_assert_double_eq(cso_cross_entropy(logits, &wrong, 1, 2, 0, 1, gradient), 2000);
    ck_assert_double_eq(gradient[0], 1);
    ck_assert_double_eq(gradient[1], -1);
    ck_assert_double_eq(cso_softmax_divergence(logits, logits, 1, 2, 1, NULL, NULL, NULL), 0);
    const double bad[2] = {NAN, 0};
    ck_assert(isnan(cso_cross_entropy(bad, &right, 1, 2, 0, 1, gradient)));
    ck_assert(isnan(cso_cross_entropy(bad, &wrong, 1, 2, 0, 1, gradient)));
    ck_assert_int_eq(cso_count_correct(logits, &right, 1, 2), 1);
    ck_assert_int_eq(cso_count_correct(logits, &wrong, 1, 2), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vae_loss");
    TCase *tests = tcase_create("losses of training");
    tcase_add_test(tests, pixel_loss_is_cross_entropy);
    tcase_add_test(tests, pixel_loss_stays_exact_where_the_sigmoid_saturates);
    tcase_add_test(tests, divergence_is_the_closed_form);
    tcase_add_test(tests, gradients_match_finite_differences);
    tcase_add_test(tests, free_bits_spare_features_under_the_threshold);
    tcase_add_test(tests, classifier_gradients_match_finite_differences);
    tcase_add_test(tests, classifier_losses_survive_large_logits);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
