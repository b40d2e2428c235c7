/* SPDX-License-Identifier: BSD-2-Clause */
/* Several sets of draws in one run. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "run_case.h"

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
    for (int k = 0; k < COUNT * SMALL_IMAGE; k++) {
        images[k] = single[k];
    }
    cso_run run = set_run(images, &request, &together, SETS, 0);
    ck_assert_int_eq(cso_run_defence(model, &run), CARSO_OK);
    memset(expected, 0, sizeof expected);
    int wrong = 0;
    for (int set = 0; set < SETS; set++) {
        run = set_run(images, &request, &one, 1, set);
        ck_assert_int_eq(cso_run_defence(model, &run), CARSO_OK);
        for (int k = 0; k < COUNT * SMALL_IMAGE; k++) {
            expected[k] += one.gradient[k];
        }
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
    for (int k = 0; k < COUNT * SMALL_IMAGE; k++) {
        largest = fmax(largest, fabs(expected[k]));
    }
    ck_assert_double_gt(largest, 0);
    for (int k = 0; k < COUNT * SMALL_IMAGE; k++) {
        ck_assert_double_eq_tol(together.gradient[k], expected[k], 1e-12 * largest);
    }

    run = set_run(images, &request, &one, SETS, 0);
    run.gradient = NULL;
    run.bad_gradient = NULL;
    ck_assert_int_eq(cso_run_defence(model, &run), CARSO_OK);
    for (int k = 0; k < SETS * COUNT; k++) {
        ck_assert_double_eq_tol(one.losses[k], together.losses[k], 1e-12 * fabs(together.losses[k]));
    }
    ck_assert_mem_eq(one.wrong, together.wrong, sizeof one.wrong);
    run.losses = NULL;
    memset(one.reconstructions, 0xff, sizeof one.reconstructions);
    ck_assert_int_eq(cso_run_purify(model, &run), CARSO_OK);
    for (int k = 0; k < SET_ROWS * SMALL_IMAGE; k++) {
        ck_assert_double_eq_tol(one.reconstructions[k], together.reconstructions[k], 1e-12);
    }

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
            if (set == 1 && (first + i) % COUNT == how->spoilt_image) {
                *slope = NAN;
            }
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
    for (size_t k = 0; k < old->count; k++) {
        values[k] = k / row == 3 ? 0 : old->host[k];
    }
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
    for (int k = 0; k < 3 * COUNT; k++) {
        ck_assert_double_eq(losses[k], k);
    }
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
        for (int j = 0; j < 3 * COUNT; j++) {
            ck_assert_int_eq(bad[j], 0);
        }
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
    for (int k = 0; k < 3 * COUNT; k++) {
        ck_assert_int_eq(bad[k], k == COUNT + 1);
    }
    ck_assert_mem_eq(found, plain, SMALL_IMAGE * sizeof *found);
    ck_assert_mem_eq(found + 2 * SMALL_IMAGE, plain + 2 * SMALL_IMAGE, SMALL_IMAGE * sizeof *found);
    ck_assert(exponent[0][0] == exponent[1][0] && exponent[0][2] == exponent[1][2]);
    int finite = 0;
    for (int j = SMALL_IMAGE; j < 2 * SMALL_IMAGE; j++) {
        finite += isfinite(found[j]) != 0;
    }
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
        for (int j = 0; j < 3 * COUNT; j++) {
            ck_assert_int_eq(bad[j], 0);
        }
    }
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run_sets");
    TCase *tests = tcase_create("run_sets");
    tcase_set_timeout(tests, 600); /* the reference backend under sanitizers */
    tcase_add_loop_test(tests, sets_are_those_sets_one_by_one, 0, 6);
    tcase_add_loop_test(tests, sets_of_other_sizes_add_up, 0, 2);
    tcase_add_loop_test(tests, a_set_that_is_not_finite_is_named, 0, 2);
    tcase_add_loop_test(tests, images_without_a_gradient_leave_the_others_as_they_are, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
