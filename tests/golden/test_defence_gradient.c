/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The whole defence's gradient to the image, in double, against central differences. The small CNN has ReLUs: a
 * difference quotient across a kink is off, so that each is taken with two steps and counts only where the two agree,
 * which nearly all must.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "attack/losses.h"
#include "base/random.h"
#include "model/run.h"

#define SIDE 28
#define PIXELS (SIDE * SIDE)
#define CLASSES 5
#define DRAWS 3
#define PROBES 24
#define TOLERANCE 1e-6 /* relative to the gradient's largest element; some 2e-9 is what is met */
#define STEP 1e-4
#define WEIGHT_SCALE 2.0f

typedef struct defence_case {
    carso_context *context;
    carso_model *model;
    double image[PIXELS];
    int32_t label;
} defence_case;

static void require(const carso_context *context, carso_status status, const char *what)
{
    char message[1024] = "";
    if (status != CARSO_OK && context != NULL) {
        carso_context_message(context, message, sizeof message);
    }
    ck_assert_msg(status == CARSO_OK, "%s: %s: %s", what, carso_status_str(status), message);
}

/*
 * A trainable copy whose signals and gradients keep their size from layer to layer, which they do not with initial
 * weights, and whose biases and running statistics are as irregular as a trained model's.
 */
static cso_graph *disturbed(const cso_graph *graph, uint64_t seed)
{
    cso_graph *copy = NULL;
    require(graph->context, cso_graph_clone_trainable(graph, false, &copy), "cso_graph_clone_trainable");
    for (int i = 0; i < copy->parameter_count; i++) {
        cso_parameter *parameter = copy->parameter[i].parameter;
        float *host = cso_parameter_host(parameter);
        const cso_random stream = {.seed = seed, .purpose = CSO_PURPOSE_INITIAL_WEIGHTS, .image = (uint64_t)i};
        float *shift = calloc(parameter->count, sizeof *shift);
        ck_assert_ptr_nonnull(shift);
        cso_random_uniform(&stream, 0, parameter->count, shift);
        for (size_t j = 0; j < parameter->count; j++) {
            host[j] = parameter->rank == 1 ? host[j] + 0.4f * shift[j] : WEIGHT_SCALE * host[j];
        }
        free(shift);
        require(graph->context, cso_parameter_upload(parameter), "cso_parameter_upload");
    }
    return copy;
}

static carso_model *build(carso_context *context)
{
    carso_model_options options;
    carso_purifier_options purifier_options;
    carso_model *classifier = NULL, *random = NULL, *model = NULL;
    carso_model_options_init(&options, sizeof options);
    options.channels = 1;
    options.image_height = options.image_width = SIDE;
    options.classes = CLASSES;
    options.mean[0] = 0.286f;
    options.deviation[0] = 0.353f;
    options.seed = 3;
    require(context, carso_model_create(context, &options, &classifier), "carso_model_create");
    carso_purifier_options_init(&purifier_options, sizeof purifier_options);
    purifier_options.condition_size = 12;
    purifier_options.latent_size = 6;
    purifier_options.seed_channels = 16;
    purifier_options.seed = 4;
    require(context, carso_model_add_purifier(classifier, &purifier_options, &random), "carso_model_add_purifier");
    cso_purifier purifier = *random->purifier;
    cso_graph *graph = disturbed(random->classifier, 5);
    purifier.encoder = NULL;
    purifier.condition = disturbed(random->purifier->condition, 6);
    purifier.decoder = disturbed(random->purifier->decoder, 7);
    require(context, cso_model_derive(random, graph, &purifier, NULL, &model), "cso_model_derive");
    ck_assert_ptr_null(model->purifier->encoder);
    cso_graph_destroy(graph);
    cso_graph_destroy(purifier.condition);
    cso_graph_destroy(purifier.decoder);
    carso_model_destroy(random);
    carso_model_destroy(classifier);
    return model;
}

static void set_up(defence_case *defence)
{
    carso_context_options options;
    float image[PIXELS];
    const cso_random stream = {.seed = 7, .purpose = CSO_PURPOSE_ATTACK_START};
    carso_context_options_init(&options, sizeof options);
    options.backend = "reference-double";
    options.threads = 1;
    defence->context = NULL;
    require(NULL, carso_context_create(&options, &defence->context), "carso_context_create");
    defence->model = build(defence->context);
    defence->label = 2;
    cso_random_uniform(&stream, 0, PIXELS, image);
    for (int i = 0; i < PIXELS; i++) {
        defence->image[i] = 0.1 + 0.8 * (double)image[i];
    }
}

static void tear_down(defence_case *defence)
{
    carso_model_destroy(defence->model);
    carso_context_destroy(defence->context);
}

/* gradient may be NULL. */
static double evaluate(const defence_case *defence, carso_loss loss, double *gradient)
{
    static const uint64_t image_index[1] = {11};
    double value = NAN;
    cso_loss_request request = {.loss = loss, .labels = &defence->label, .context = defence->context};
    const cso_run run = {.images = defence->image,
                         .element = CSO_F64,
                         .count = 1,
                         .draws = DRAWS,
                         .seed = 8,
                         .purpose = CSO_PURPOSE_LATENT,
                         .image_index = image_index,
                         .function = cso_loss_function,
                         .user = &request,
                         .losses = &value,
                         .gradient = gradient};
    require(defence->context, cso_run_defence(defence->model, &run), "cso_run_defence");
    return value;
}

static double difference_quotient(defence_case *defence, carso_loss loss, int pixel, double step)
{
    const double value = defence->image[pixel];
    defence->image[pixel] = value + step;
    const double above = evaluate(defence, loss, NULL);
    defence->image[pixel] = value - step;
    const double below = evaluate(defence, loss, NULL);
    defence->image[pixel] = value;
    return (above - below) / (2.0 * step);
}

static const carso_loss losses[] = {CARSO_LOSS_CROSS_ENTROPY, CARSO_LOSS_PROBABILITY_CROSS_ENTROPY,
                                    CARSO_LOSS_LOG_ODDS};

START_TEST(test_defence)
{
    defence_case defence;
    double gradient[PIXELS], largest = 0.0;
    uint64_t order[PIXELS];
    int smooth = 0;
    set_up(&defence);
    const cso_random stream = {.seed = 9, .purpose = CSO_PURPOSE_SHUFFLE};
    cso_random_permutation(&stream, PIXELS, order);
    const double loss = evaluate(&defence, losses[_i], gradient);
    ck_assert_msg(isfinite(loss), "the loss is %g", loss);
    for (int i = 0; i < PIXELS; i++) {
        largest = fmax(largest, fabs(gradient[i]));
    }
    ck_assert_msg(largest > 0.0, "the gradient is all zero");
    for (int i = 0; i < PROBES; i++) {
        const int pixel = (int)order[i];
        const double wide = difference_quotient(&defence, losses[_i], pixel, STEP);
        const double narrow = difference_quotient(&defence, losses[_i], pixel, STEP / 2.0);
        const double quotient = (4.0 * narrow - wide) / 3.0; /* Richardson's: error of the fourth order */
        if (fabs(wide - narrow) > 1e-4 * largest) {
            continue;
        }
        smooth++;
        ck_assert_msg(fabs(quotient - gradient[pixel]) <= TOLERANCE * largest,
                      "pixel %d: gradient %.12g, difference quotient %.12g, largest %g", pixel, gradient[pixel],
                      quotient, largest);
    }
    ck_assert_msg(smooth >= 3 * PROBES / 4, "only %d of %d pixels were far from kinks", smooth, PROBES);
    tear_down(&defence);
}
END_TEST

START_TEST(test_same_draws_same_bits)
{
    defence_case defence;
    double gradient[PIXELS], again[PIXELS];
    set_up(&defence);
    const double first = evaluate(&defence, CARSO_LOSS_CROSS_ENTROPY, gradient);
    const double second = evaluate(&defence, CARSO_LOSS_CROSS_ENTROPY, again);
    ck_assert_double_eq(first, second);
    ck_assert_mem_eq(gradient, again, sizeof gradient);
    tear_down(&defence);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("defence gradient");
    TCase *tcase = tcase_create("finite differences");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, test_defence, 0, (int)(sizeof losses / sizeof *losses));
    tcase_add_test(tcase, test_same_draws_same_bits);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
