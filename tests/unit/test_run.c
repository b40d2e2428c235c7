/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attack/losses.h"
#include "model/run.h"
#include "small_model.h"

enum { COUNT = 3, DRAWS = 4, ROWS = DRAWS * COUNT, LATENT = 8 };

static const uint64_t image_index[COUNT] = {10, 11, 12};
static const int32_t labels[COUNT] = {1, 3, 0};

typedef struct outputs {
    double losses[COUNT], logits[ROWS * SMALL_CLASSES];
    float gradient[COUNT * SMALL_IMAGE];
    float reconstructions[ROWS * SMALL_IMAGE];
} outputs;

static cso_run basic_run(const float *images, cso_loss_request *request, outputs *out)
{
    return (cso_run){
        .images = images,
        .element = CSO_F32,
        .count = COUNT,
        .draws = DRAWS,
        .seed = 77,
        .purpose = CSO_PURPOSE_LATENT,
        .image_index = image_index,
        .function = cso_loss_function,
        .user = request,
        .losses = out->losses,
        .gradient = out->gradient,
        .logits = out->logits,
        .reconstructions = out->reconstructions,
    };
}

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
    for (int k = 0; k < COUNT * SMALL_IMAGE; k++)
        images[k] = single[k];
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
    for (int k = 0; k < COUNT * SMALL_IMAGE; k++)
        largest = fmax(largest, fabs((double)precise.gradient[k]));
    ck_assert_double_gt(largest, 0);
    for (int k = 0; k < COUNT * SMALL_IMAGE; k++)
        ck_assert_double_eq_tol(single.gradient[k], precise.gradient[k], 1e-4 * largest);
    for (int k = 0; k < ROWS * SMALL_CLASSES; k++)
        ck_assert_double_eq_tol(single.logits[k], precise.logits[k], 1e-5);
    for (int k = 0; k < ROWS * SMALL_IMAGE; k++)
        ck_assert_double_eq_tol(single.reconstructions[k], precise.reconstructions[k], 1e-5);
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
        for (int i = 0; i < ROWS * SMALL_CLASSES; i++)
            ck_assert_double_eq_tol(forward.logits[i], whole.logits[i], 1e-5);
        for (int i = 0; k > 0 && i < COUNT * SMALL_IMAGE; i++)
            ck_assert_float_eq_tol(split.gradient[i], whole.gradient[i], 1e-6f);
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

    for (int d = 0; d < DRAWS; d++)
        for (int i = 0; i < COUNT; i++) {
            float latent[LATENT];
            const cso_random stream = {77, CSO_PURPOSE_LATENT, image_index[i], 1000 + (uint32_t)d};
            cso_random_normal(&stream, 0, LATENT, latent);
            for (int j = 0; j < LATENT; j++)
                latents[(d * COUNT + i) * LATENT + j] = latent[j];
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
    for (int64_t k = 0; gradient && k < draws * count * classes; k++)
        gradient[k] = k % classes == 0 ? steepness : -0.25 * steepness;
    for (int64_t i = 0; losses && i < count; i++)
        losses[i] = 0;
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
            for (int k = 0; k < COUNT * SMALL_IMAGE; k++)
                ck_assert(ldexp((double)scaled.gradient[k], exponent[k / SMALL_IMAGE] - power) ==
                          (double)plain.gradient[k]);
            run.gradient_exponent = NULL; /* then float says what it can */
            ck_assert_int_eq(go(model, &run), CARSO_OK);
            for (int k = 0; k < COUNT * SMALL_IMAGE; k++)
                ck_assert(plain.gradient[k] == 0 || (power < 0 ? scaled.gradient[k] == 0 : isinf(scaled.gradient[k])));
        }
    }
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

enum { SETS = 5, SET_DRAWS = 2, SET_ROWS = SETS * SET_DRAWS * COUNT };

typedef struct set_outputs {
    double losses[SETS * COUNT], logits[SET_ROWS * SMALL_CLASSES], gradient[COUNT * SMALL_IMAGE];
    double reconstructions[SET_ROWS * SMALL_IMAGE];
    uint8_t wrong[SETS * COUNT], bad[SETS * COUNT];
} set_outputs;

static cso_run set_run(const double *images, cso_loss_request *request, set_outputs *out, int sets, int first_set)
{
    memset(out, 0xff, sizeof *out);
    *request = (cso_loss_request){.loss = CARSO_LOSS_LOG_ODDS,
                                  .labels = labels,
                                  .images = COUNT,
                                  .context = request->context,
                                  .wrong = out->wrong};
    return (cso_run){
        .images = images,
        .element = CSO_F64,
        .count = COUNT,
        .draws = SET_DRAWS,
        .seed = 77,
        .purpose = CSO_PURPOSE_LATENT,
        .image_index = image_index,
        .first_draw = 100 + SET_DRAWS * (uint32_t)first_set,
        .sets = sets,
        .function = cso_loss_function,
        .user = request,
        .losses = out->losses,
        .gradient = out->gradient,
        .bad_gradient = out->bad,
        .logits = out->logits,
        .reconstructions = out->reconstructions,
    };
}

/*
 * Several sets at once are those sets one by one, however memory divides them: parts of one image, groups of one unit,
 * slices of one draw. In double; sums of double in another order, and the pull back of a sum in place of the sum of pull
 * backs, differ by rounding alone: 1e-12 of the largest component is thousands of units in the last place.
 */
START_TEST(sets_are_those_sets_one_by_one)
{
    static const uint64_t limits[] = {0, 1, 800 << 10, 1150 << 10, 3 << 20, 6 << 20};
    static set_outputs together, one;
    static double expected[COUNT * SMALL_IMAGE], images[COUNT * SMALL_IMAGE];
    float single[COUNT * SMALL_IMAGE];
    carso_context *const context = named_context("reference-double", limits[_i]);
    carso_model *const model = small_model(context);
    cso_loss_request request = {.context = context};
    fill_images(single, COUNT);
    for (int k = 0; k < COUNT * SMALL_IMAGE; k++)
        images[k] = single[k];
    cso_run run = set_run(images, &request, &together, SETS, 0);
    ck_assert_int_eq(cso_run_defence(model, &run), CARSO_OK);
    memset(expected, 0, sizeof expected);
    int wrong = 0;
    for (int set = 0; set < SETS; set++) {
        run = set_run(images, &request, &one, 1, set);
        ck_assert_int_eq(cso_run_defence(model, &run), CARSO_OK);
        for (int k = 0; k < COUNT * SMALL_IMAGE; k++)
            expected[k] += one.gradient[k];
        ck_assert_mem_eq(together.losses + set * COUNT, one.losses, COUNT * sizeof *one.losses);
        ck_assert_mem_eq(together.wrong + set * COUNT, one.wrong, COUNT);
        ck_assert_mem_eq(together.logits + set * SET_DRAWS * COUNT * SMALL_CLASSES, one.logits,
                         SET_DRAWS * COUNT * SMALL_CLASSES * sizeof *one.logits);
        ck_assert_mem_eq(together.reconstructions + set * SET_DRAWS * COUNT * SMALL_IMAGE, one.reconstructions,
                         SET_DRAWS * COUNT * SMALL_IMAGE * sizeof *one.reconstructions);
        for (int i = 0; i < COUNT; i++) {
            wrong += one.wrong[i];
            ck_assert(together.bad[set * COUNT + i] == 0 && one.bad[i] == 0);
        }
    }
    ck_assert(wrong > 0 && wrong < SETS * COUNT);
    double largest = 0;
    for (int k = 0; k < COUNT * SMALL_IMAGE; k++)
        largest = fmax(largest, fabs(expected[k]));
    ck_assert_double_gt(largest, 0);
    for (int k = 0; k < COUNT * SMALL_IMAGE; k++)
        ck_assert_double_eq_tol(together.gradient[k], expected[k], 1e-12 * largest);

    run = set_run(images, &request, &one, SETS, 0);
    run.gradient = NULL;
    run.bad_gradient = NULL;
    ck_assert_int_eq(cso_run_defence(model, &run), CARSO_OK);
    for (int k = 0; k < SETS * COUNT; k++)
        ck_assert_double_eq_tol(one.losses[k], together.losses[k], 1e-12 * fabs(together.losses[k]));
    ck_assert_mem_eq(one.wrong, together.wrong, sizeof one.wrong);
    run.losses = NULL;
    memset(one.reconstructions, 0xff, sizeof one.reconstructions);
    ck_assert_int_eq(cso_run_purify(model, &run), CARSO_OK);
    for (int k = 0; k < SET_ROWS * SMALL_IMAGE; k++)
        ck_assert_double_eq_tol(one.reconstructions[k], together.reconstructions[k], 1e-12);

    run.element = CSO_F32;
    run.images = single;
    run.reconstructions = NULL;
    ck_assert_int_eq(cso_run_classifier(model, &run), CARSO_ERROR_INTERNAL);
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

/* A function whose slopes are constant, times 2^power of the set; powers of SKIP: times 0. */
enum { SKIP = 10000 };

typedef struct uneven {
    int power[3];
    int first_class[3]; /* slopes are those of classes from here on, 0 of the others' */
    int spoilt_image;   /* whose slopes are NaN with the middle set; < 0: none */
    int flat_images;    /* a bit for each image whose slopes are 0 */
} uneven;

static carso_status uneven_function(void *user, int64_t first, int64_t count, int draws, int classes,
                                    const double *logits, double *losses, double *gradient)
{
    const uneven *const how = user;
    const int64_t set = first / COUNT;
    (void)logits;
    ck_assert_int_eq((first + count - 1) / COUNT, set);
    for (int64_t i = 0; i < count; i++) {
        losses[i] = (double)(first + i);
        for (int64_t k = 0; gradient && k < draws * classes; k++) {
            const int64_t class = k % classes;
            double *const slope = gradient + (k / classes * count + i) * classes + class;
            const bool flat = how->power[set] == SKIP || class < how->first_class[set] ||
                              (how->flat_images >> (first + i) % COUNT & 1);
            *slope = flat ? 0 : ldexp(1.0 + (double)class, how->power[set]);
            if (set == 1 && (first + i) % COUNT == how->spoilt_image)
                *slope = NAN;
        }
    }
    return CARSO_OK;
}

/* Class 3 of the classifier has no weights: its logit depends on nothing. */
static void cut_last_class(carso_model *model)
{
    const int index = cso_graph_find_parameter(model->classifier, "logits.weight");
    ck_assert_int_ge(index, 0);
    cso_parameter *const old = model->classifier->parameter[index].parameter;
    const size_t row = old->count / SMALL_CLASSES;
    cso_parameter *cut = NULL;
    float *const values = malloc(old->count * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (size_t k = 0; k < old->count; k++)
        values[k] = k / row == 3 ? 0 : old->host[k];
    ck_assert_int_eq(cso_parameter_create(model->context, old->rank, old->dimension, values, &cut), CARSO_OK);
    free(values);
    cso_parameter_release(old);
    model->classifier->parameter[index].parameter = cut;
}

static void run_uneven(carso_model *model, uneven how, const float *images, float *gradient, int32_t *exponent,
                       uint8_t *bad)
{
    double losses[3 * COUNT];
    cso_run run = basic_run(images, NULL, &(outputs){0});
    run.draws = SET_DRAWS;
    run.sets = 3;
    run.function = uneven_function;
    run.user = &how;
    run.losses = losses;
    run.logits = NULL;
    run.reconstructions = NULL;
    run.gradient = gradient;
    run.gradient_exponent = exponent;
    run.bad_gradient = bad;
    ck_assert_int_eq(cso_run_defence(model, &run), CARSO_OK);
    for (int k = 0; k < 3 * COUNT; k++)
        ck_assert_double_eq(losses[k], k);
}

/*
 * Powers of two are exact: a set that leads by far is what it is alone, to the bit, and so is one whose companions have
 * no slope to the condition at all, however steep they seem. Others add up to float's precision.
 */
START_TEST(sets_of_other_sizes_add_up)
{
    static const uneven far[] = {{{SKIP, -900, SKIP}, {0}, -1, 0},
                                 {{900, -900, SKIP}, {0}, -1, 0},
                                 {{-900, -900, 900}, {0}, -1, 0},
                                 {{200, -200, 190}, {3, 0, 3}, -1},
                                 {{SKIP, SKIP, SKIP}, {0}, -1, 0}};
    static const int leader[] = {1, 0, 2, 1, -1}, power[] = {-900, 900, 900, -200, 0};
    static float alone[3][COUNT * SMALL_IMAGE], found[COUNT * SMALL_IMAGE];
    float images[COUNT * SMALL_IMAGE];
    int32_t alone_exponent[3][COUNT], exponent[COUNT];
    uint8_t bad[3 * COUNT];
    carso_context *const context = named_context("reference", _i == 0 ? 0 : 1);
    carso_model *const model = small_model(context);
    cut_last_class(model);
    fill_images(images, COUNT);
    for (int set = 0; set < 3; set++) {
        uneven how = {{SKIP, SKIP, SKIP}, {0}, -1, 0};
        how.power[set] = 0;
        run_uneven(model, how, images, alone[set], alone_exponent[set], NULL);
    }
    for (int k = 0; k < 5; k++) {
        run_uneven(model, far[k], images, found, exponent, bad);
        for (int j = 0; j < COUNT * SMALL_IMAGE; j++) {
            const int i = j / SMALL_IMAGE;
            const double expected =
                leader[k] < 0 ? 0 : ldexp((double)alone[leader[k]][j], alone_exponent[leader[k]][i] + power[k]);
            ck_assert(ldexp((double)found[j], exponent[i]) == expected);
        }
        for (int j = 0; j < 3 * COUNT; j++)
            ck_assert_int_eq(bad[j], 0);
    }
    run_uneven(model, (uneven){{0, -7, 3}, {0}, -1, 0}, images, found, exponent, NULL);
    double largest = 0, difference = 0;
    for (int j = 0; j < COUNT * SMALL_IMAGE; j++) {
        const int i = j / SMALL_IMAGE;
        const double expected = ldexp((double)alone[0][j], alone_exponent[0][i]) +
                                ldexp((double)alone[1][j], alone_exponent[1][i] - 7) +
                                ldexp((double)alone[2][j], alone_exponent[2][i] + 3);
        largest = fmax(largest, fabs(expected));
        difference = fmax(difference, fabs(ldexp((double)found[j], exponent[i]) - expected));
    }
    ck_assert(largest > 0 && difference <= 1e-5 * largest);
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

/* It is found in which set an image is not finite; the other images are what they were. */
START_TEST(a_set_that_is_not_finite_is_named)
{
    static float plain[COUNT * SMALL_IMAGE], found[COUNT * SMALL_IMAGE];
    float images[COUNT * SMALL_IMAGE];
    int32_t exponent[2][COUNT];
    uint8_t bad[3 * COUNT];
    carso_context *const context = named_context("reference", _i == 0 ? 0 : 1);
    carso_model *const model = small_model(context);
    fill_images(images, COUNT);
    run_uneven(model, (uneven){{0, 4, 0}, {0}, -1, 0}, images, plain, exponent[0], bad);
    run_uneven(model, (uneven){{0, 4, 0}, {0}, 1, 0}, images, found, exponent[1], bad);
    for (int k = 0; k < 3 * COUNT; k++)
        ck_assert_int_eq(bad[k], k == COUNT + 1);
    ck_assert_mem_eq(found, plain, SMALL_IMAGE * sizeof *found);
    ck_assert_mem_eq(found + 2 * SMALL_IMAGE, plain + 2 * SMALL_IMAGE, SMALL_IMAGE * sizeof *found);
    ck_assert(exponent[0][0] == exponent[1][0] && exponent[0][2] == exponent[1][2]);
    int finite = 0;
    for (int j = SMALL_IMAGE; j < 2 * SMALL_IMAGE; j++)
        finite += isfinite(found[j]) != 0;
    ck_assert_int_lt(finite, SMALL_IMAGE);
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

/* What has no gradient is left out, and only that: an image between two others, and in each case with other slices. */
START_TEST(images_without_a_gradient_leave_the_others_as_they_are)
{
    static float plain[COUNT * SMALL_IMAGE], found[COUNT * SMALL_IMAGE];
    float images[COUNT * SMALL_IMAGE];
    int32_t exponent[2][COUNT];
    uint8_t bad[3 * COUNT];
    carso_context *const context = named_context("reference", _i == 0 ? 0 : 1);
    carso_model *const model = small_model(context);
    fill_images(images, COUNT);
    run_uneven(model, (uneven){{0, 4, 0}, {0}, -1, 0}, images, plain, exponent[0], bad);
    for (int flat = 1; flat < 1 << COUNT; flat++) {
        run_uneven(model, (uneven){{0, 4, 0}, {0}, -1, flat}, images, found, exponent[1], bad);
        for (int j = 0; j < COUNT * SMALL_IMAGE; j++) {
            const int i = j / SMALL_IMAGE;
            const bool left_out = flat >> i & 1;
            ck_assert(found[j] == (left_out ? 0.0F : plain[j]));
            ck_assert(left_out || exponent[0][i] == exponent[1][i]);
        }
        for (int j = 0; j < 3 * COUNT; j++)
            ck_assert_int_eq(bad[j], 0);
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
    tcase_add_loop_test(tests, sets_are_those_sets_one_by_one, 0, 6);
    tcase_add_loop_test(tests, sets_of_other_sizes_add_up, 0, 2);
    tcase_add_loop_test(tests, a_set_that_is_not_finite_is_named, 0, 2);
    tcase_add_loop_test(tests, images_without_a_gradient_leave_the_others_as_they_are, 0, 2);
    tcase_add_test(tests, progress_and_cancellation);
    tcase_add_test(tests, refusals);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
