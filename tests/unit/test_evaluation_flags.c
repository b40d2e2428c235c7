/* SPDX-License-Identifier: BSD-2-Clause */
/* Defences that are masked, models that are damaged, attacks that fail: each is told. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "evaluation_toy.h"

#define ATTACKS(objective, list) \
    "{\"name\": \"toy\", \"epsilons\": [0.1], \"draws\": 2, \"repeats\": 3, \"sections\": [{\"name\": \"s\", \"objective\": \"" objective "\"," \
    " \"attacks\": [" list "]}]}"

static const char *const every_flag[] = {"non-finite",
                                         "vanishing-gradient",
                                         "loss-does-not-rise",
                                         "accuracy-rises-with-epsilon",
                                         "accuracy-rises-with-steps",
                                         "noise-beats-gradient",
                                         "square-beats-gradient",
                                         "transfer-beats-white-box",
                                         "guard-above-chance",
                                         "gradient-check",
                                         "too-few-classes",
                                         "randomised-under-standard",
                                         "draws-alike",
                                         "probability-logits",
                                         "outside-ball",
                                         NULL};

/* Exactly these, in any number of places. expected ends with NULL. */
static void check_flags(carso_evaluation *evaluation, const char *const *expected)
{
    for (int i = 0; every_flag[i]; i++) {
        bool wanted = false;
        for (int j = 0; expected[j]; j++) {
            wanted = wanted || strcmp(expected[j], every_flag[i]) == 0;
        }
        ck_assert_msg(toy_has_flag(evaluation, every_flag[i]) == wanted, "%s is%s raised", every_flag[i],
                      wanted ? " not" : "");
    }
}

static carso_evaluation *run(const carso_model *model, const char *protocol)
{
    toy_options.protocol = protocol;
    carso_evaluation *const evaluation = toy_evaluation(model);
    toy_run(evaluation);
    return evaluation;
}

/* All weights of the layer that makes the logits 0, its biases these. */
static void fix_logits(carso_model *model, const float *bias)
{
    cso_graph *const graph = model->classifier;
    scale_parameter(graph, cso_graph_find_parameter(graph, "logits.weight"), 0);
    cso_parameter *fixed = NULL;
    const int index = cso_graph_find_parameter(graph, "logits.bias");
    const int64_t dimension = SMALL_CLASSES;
    ck_assert_int_ge(index, 0);
    ck_assert_int_eq(cso_parameter_create(toy_context, 1, &dimension, bias, &fixed), CARSO_OK);
    cso_parameter_release(graph->parameter[index].parameter);
    graph->parameter[index].parameter = fixed;
}

START_TEST(nothing_to_complain_of)
{
    carso_model *const sharp = small_classifier(toy_context);
    amplify(sharp->classifier, 3);
    toy_label(sharp);
    carso_evaluation *const evaluation = run(sharp, ATTACKS("classifier", "{\"method\": \"apgd\", \"loss\": \"margin\", \"steps\": 10},"
                                                                          "{\"method\": \"noise\"}, {\"method\": \"square\", \"queries\": 5}"));
    check_flags(evaluation, (const char *const[]){NULL});
    ck_assert_double_lt(evaluation->clean[0].gradient_error[0], 0.2);
    carso_evaluation_destroy(evaluation);
    carso_model_destroy(sharp);
}
END_TEST

/* A defence whose gradient is zero everywhere, and whose logits are the probabilities of a sure answer. */
START_TEST(constant_logits)
{
    static const float sure[SMALL_CLASSES] = {0, 1, 0, 0};
    carso_model *const constant = small_classifier(toy_context);
    fix_logits(constant, sure);
    toy_label(constant);
    carso_evaluation *const evaluation =
        run(constant, "{\"name\": \"toy\", \"epsilons\": [0.1, 0.95], \"sections\": [{\"name\": \"s\", \"objective\": \"classifier\", \"guard\": true,"
                      " \"attacks\": [{\"method\": \"pgd\", \"steps\": 3}]}]}");
    check_flags(evaluation, (const char *const[]){"vanishing-gradient", "loss-does-not-rise", "guard-above-chance", "probability-logits", NULL});
    json_t *const result = toy_result(evaluation);
    const json_t *const flag = json_array_get(json_object_get(result, "flags"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(flag, "flag")), "probability-logits");
    ck_assert_double_eq(json_real_value(json_object_get(flag, "value")), 1);
    ck_assert_ptr_nonnull(json_string_value(json_object_get(flag, "meaning")));
    json_decref(result);
    carso_evaluation_destroy(evaluation);
    carso_model_destroy(constant);
}
END_TEST

START_TEST(weights_that_are_no_numbers)
{
    carso_model *const damaged = small_classifier(toy_context);
    spoil_parameter(damaged->classifier, "conv_1.weight");
    carso_evaluation *const evaluation = run(damaged, ATTACKS("classifier", "{\"method\": \"pgd\", \"steps\": 2}"));
    ck_assert(toy_has_flag(evaluation, "non-finite"));
    ck_assert(toy_has_flag(evaluation, "gradient-check"));
    ck_assert_int_eq(carso_evaluation_predictions(evaluation, -1)[0], -1);
    ck_assert_int_eq(evaluation->cell[0].score.correct[0], 0);
    carso_evaluation_destroy(evaluation);
    carso_model_destroy(damaged);
}
END_TEST

START_TEST(too_few_classes)
{
    carso_model_options two;
    carso_model *model = NULL;
    carso_model_options_init(&two, sizeof two);
    two.architecture = CARSO_SMALL_CNN;
    two.channels = 1;
    two.image_height = two.image_width = SMALL_SIDE;
    two.classes = 2;
    ck_assert_int_eq(carso_model_create(toy_context, &two, &model), CARSO_OK);
    toy_label(model);
    toy_labels[4] = 0;
    toy_options.protocol = "{\"name\": \"toy\", \"epsilons\": [0.1], \"sections\": [{\"name\": \"s\", \"objective\": \"classifier\", \"attacks\": ["
                           "{\"name\": \"t\", \"method\": \"apgd-targeted\", \"loss\": \"dlr\"}, {\"name\": \"p\", \"method\": \"pgd\", \"steps\": 1}]}]}";
    carso_evaluation *const evaluation = toy_evaluation(model);
    toy_run(evaluation);
    ck_assert(toy_has_flag(evaluation, "too-few-classes"));
    ck_assert_int_eq(evaluation->protocol.cell[0].attack_count, 1);
    const json_t *const omitted = json_array_get(evaluation->protocol.omitted, 0);
    ck_assert_str_eq(json_string_value(json_object_get(omitted, "attack")), "t");
    carso_evaluation_destroy(evaluation);
    carso_model_destroy(model);
}
END_TEST

/* The decoder hears the latents or does not. */
START_TEST(draws_that_differ_or_not)
{
    toy_options.protocol = ATTACKS("defence", "{\"method\": \"apgd\", \"loss\": \"margin\", \"steps\": 2, \"eot\": 1}");
    carso_evaluation *evaluation = toy_evaluation(toy_model);
    toy_run(evaluation);
    const double spread = evaluation->clean[1].spread[0];
    ck_assert_double_gt(spread, 1e-3);
    ck_assert(toy_has_flag(evaluation, "randomised-under-standard"));
    ck_assert(toy_has_flag(evaluation, "draws-alike") == (spread < 0.01));
    carso_evaluation_destroy(evaluation);

    carso_model *const deaf = small_model(toy_context);
    const int index = cso_graph_find_parameter(deaf->purifier->decoder, "decoder.0.1.weight");
    ck_assert_int_ge(index, 0);
    scale_parameter(deaf->purifier->decoder, index, 0);
    evaluation = toy_evaluation(deaf);
    toy_run(evaluation);
    ck_assert(toy_has_flag(evaluation, "draws-alike"));
    ck_assert(!toy_has_flag(evaluation, "randomised-under-standard"));
    carso_evaluation_destroy(evaluation);
    carso_model_destroy(deaf);
}
END_TEST

/*
 * The paper's aggregation as floats make it: log(p / (1 - p)) of softmax(sum of exp), whose gradient is not a number
 * once p is 1; frameworks make sign(NaN) 0, and the attack stands still.
 */
typedef struct planted {
    bool nan_is_zero, random, failing;
    uint64_t state;
} planted;

static int aggregate_in_float(const carso_loss_batch *batch, void *user)
{
    const planted *const how = user;
    const int64_t stride = (int64_t)batch->count * batch->classes;
    for (uint64_t i = 0; i < batch->count; i++) {
        float sum[SMALL_CLASSES] = {0}, total = 0, largest = 0;
        for (int k = 0; k < batch->classes; k++) {
            for (int d = 0; d < batch->draws; d++) {
                sum[k] += expf((float)batch->logits[d * stride + (int64_t)i * batch->classes + k]);
            }
            largest = fmaxf(largest, sum[k]);
        }
        for (int k = 0; k < batch->classes; k++) {
            total += expf(sum[k] - largest);
        }
        const int label = batch->labels[i];
        const float p = expf(sum[label] - largest) / total, odds = logf(p / (1 - p));
        batch->losses[i] = isfinite(odds) || !how->nan_is_zero ? -(double)odds : 0;
        for (int d = 0; d < batch->draws && batch->logit_gradient; d++) {
            for (int k = 0; k < batch->classes; k++) {
                const int64_t place = d * stride + (int64_t)i * batch->classes + k;
                const float share = expf(sum[k] - largest) / total;
                const float of_sum = ((float)(k == label) - share) / (1 - p) * expf((float)batch->logits[place]);
                batch->logit_gradient[place] = isfinite(of_sum) || !how->nan_is_zero ? -(double)of_sum : 0;
            }
        }
    }
    return 0;
}

/* Sharp enough for one sum of exponentials to lead by more than floats tell. */
static carso_model *sure_model(void)
{
    static const float bias[SMALL_CLASSES] = {0, 4, 0, 0};
    carso_model *const model = small_model(toy_context);
    cso_graph *const graph = model->classifier;
    const int weight = cso_graph_find_parameter(graph, "logits.weight");
    ck_assert_int_ge(weight, 0);
    fix_logits(model, bias);
    /* A little of the image is left in the logits. */
    carso_model *const other = small_classifier(toy_context);
    cso_parameter *const kept = other->classifier->parameter[weight].parameter;
    cso_parameter_retain(kept);
    cso_parameter_release(graph->parameter[weight].parameter);
    graph->parameter[weight].parameter = kept;
    carso_model_destroy(other);
    toy_label(model);
    return model;
}

#define WITH_CALLBACK ATTACKS("defence", "{\"name\": \"masked\", \"method\": \"pgd\", \"loss\": \"callback\", \"steps\": 3, \"eot\": 2}")

START_TEST(aggregation_in_float)
{
    planted how = {0};
    carso_model *const model = sure_model();
    toy_options.loss_function = aggregate_in_float;
    toy_options.loss_user = &how;
    carso_evaluation *evaluation = run(model, WITH_CALLBACK);
    ck_assert(toy_has_flag(evaluation, "non-finite"));
    ck_assert(toy_has_flag(evaluation, "gradient-check"));
    carso_evaluation_destroy(evaluation);
    /* As frameworks hide it. */
    how.nan_is_zero = true;
    evaluation = run(model, WITH_CALLBACK);
    ck_assert(!toy_has_flag(evaluation, "non-finite"));
    ck_assert(toy_has_flag(evaluation, "vanishing-gradient"));
    ck_assert(toy_has_flag(evaluation, "loss-does-not-rise"));
    carso_evaluation_destroy(evaluation);
    /* The same in double, and without saturation. */
    static const char *const losses[] = {"carso-cross-entropy", "log-odds", "margin"};
    for (int i = 0; i < 3; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "{\"name\": \"toy\", \"epsilons\": [0.1], \"draws\": 2, \"repeats\": 3, \"sections\": [{\"name\": \"s\", \"objective\": \"defence\","
                 " \"attacks\": [{\"method\": \"pgd\", \"loss\": \"%s\", \"steps\": 3, \"eot\": 2}]}]}",
                 losses[i]);
        evaluation = run(model, text);
        ck_assert(!toy_has_flag(evaluation, "non-finite"));
        ck_assert(!toy_has_flag(evaluation, "gradient-check"));
        ck_assert_msg(toy_has_flag(evaluation, "vanishing-gradient") == (i == 0), "%s", losses[i]);
        ck_assert_msg(!toy_has_flag(evaluation, "loss-does-not-rise") || i == 0, "%s", losses[i]);
        carso_evaluation_destroy(evaluation);
    }
    carso_model_destroy(model);
}
END_TEST

/* Margins with gradients that have nothing to do with them. */
static int astray(const carso_loss_batch *batch, void *user)
{
    planted *const how = user;
    const int64_t stride = (int64_t)batch->count * batch->classes;
    if (how->failing) {
        return 1;
    }
    for (uint64_t i = 0; i < batch->count; i++) {
        const double *const logits = batch->logits + (int64_t)i * batch->classes;
        batch->losses[i] = logits[(batch->labels[i] + 1) % batch->classes] - logits[batch->labels[i]];
        for (int d = 0; d < batch->draws && batch->logit_gradient; d++) {
            for (int k = 0; k < batch->classes; k++) {
                how->state = how->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
                batch->logit_gradient[d * stride + (int64_t)i * batch->classes + k] =
                    how->random ? (double)(how->state >> 40) / (1 << 23) - 1 : 0;
            }
        }
    }
    return 0;
}

START_TEST(gradients_that_lead_nowhere)
{
    planted how = {.random = true, .state = 3};
    toy_options.loss_function = astray;
    toy_options.loss_user = &how;
    carso_evaluation *evaluation = run(toy_model, ATTACKS("classifier", "{\"method\": \"pgd\", \"loss\": \"callback\", \"steps\": 5}"));
    ck_assert(toy_has_flag(evaluation, "gradient-check"));
    carso_evaluation_destroy(evaluation);
    how.random = false;
    evaluation = run(toy_model, ATTACKS("classifier", "{\"method\": \"pgd\", \"loss\": \"callback\", \"steps\": 5}"));
    ck_assert(toy_has_flag(evaluation, "gradient-check"));
    ck_assert(toy_has_flag(evaluation, "vanishing-gradient"));
    ck_assert(toy_has_flag(evaluation, "loss-does-not-rise"));
    carso_evaluation_destroy(evaluation);
}
END_TEST

/* Margins of the true slope until, for each image, so many gradients were asked for; then with another one. */
typedef struct turning {
    int steps[TOY_COUNT];
    int until, back_at;
    double factor;            /* of the slope between until and back_at */
    bool saturates; /* no slope where the margin is positive */
} turning;

static int turn(const carso_loss_batch *batch, void *user)
{
    turning *const how = user;
    for (uint64_t i = 0; i < batch->count; i++) {
        const double *const logits = batch->logits + (int64_t)i * batch->classes;
        const int label = batch->labels[i];
        int rival = label == 0 ? 1 : 0;
        for (int k = 0; k < batch->classes; k++) {
            rival = k != label && logits[k] > logits[rival] ? k : rival;
        }
        batch->losses[i] = logits[rival] - logits[label];
        if (!batch->logit_gradient) {
            continue;
        }
        const int step = how->steps[batch->image_index[i]]++;
        double slope = step >= how->until && step < how->back_at ? how->factor : 1;
        slope = how->saturates && batch->losses[i] > 0 ? 0 : slope;
        for (int k = 0; k < batch->classes; k++) {
            batch->logit_gradient[(int64_t)i * batch->classes + k] = k == rival ? slope : k == label ? -slope : 0;
        }
    }
    return 0;
}

/* The flag of the name, whose reference is the caller's; NULL: it was not raised. */
static json_t *find_flag(const carso_evaluation *evaluation, const char *name)
{
    json_t *const flags = cso_evaluation_flags(evaluation), *found = NULL, *flag;
    size_t i;
    json_array_foreach(flags, i, flag)
        if (!found && strcmp(json_string_value(json_object_get(flag, "flag")), name) == 0) {
            found = json_incref(flag);
        }
    json_decref(flags);
    return found;
}

static carso_evaluation *run_turning(turning *how, const char *protocol)
{
    int32_t finished;
    toy_options.loss_function = turn;
    toy_options.loss_user = how;
    toy_options.batch = TOY_COUNT;
    toy_options.protocol = protocol;
    carso_evaluation *const evaluation = toy_evaluation(toy_model);
    /* Gradients are checked on the originals first. */
    ck_assert_int_eq(carso_evaluation_step(evaluation, NULL, NULL, &finished), CARSO_OK);
    memset(how->steps, 0, sizeof how->steps);
    toy_run(evaluation);
    return evaluation;
}

#define TURNING(epsilon, step_size) \
    "{\"name\": \"t\", \"epsilons\": [" epsilon "], \"sections\": [{\"name\": \"s\", \"objective\": \"classifier\", \"attacks\": [" \
    " {\"name\": \"long\", \"method\": \"pgd\", \"loss\": \"callback\", \"steps\": 15, \"step_size\": " step_size ", \"random_start\": false}]}]}"
/* Too near for most images to be misclassified. */
#define NEAR TURNING("1e-3", "1e-4")

/* Of which an average over all steps says nothing: a third of the components at most. */
START_TEST(gradients_that_vanish_on_the_way)
{
    turning how = {.until = 10, .back_at = 15};
    carso_evaluation *evaluation = run_turning(&how, NEAR);
    ck_assert_double_lt(evaluation->cell[0].zero_gradient[0] + evaluation->cell[0].tiny_gradient[0], 0.5);
    check_flags(evaluation, (const char *const[]){"vanishing-gradient", NULL});
    json_t *flag = find_flag(evaluation, "vanishing-gradient");
    ck_assert_int_eq(json_integer_value(json_object_get(flag, "step")), 10);
    ck_assert_str_eq(json_string_value(json_object_get(flag, "attack")), "long");
    ck_assert_double_gt(json_real_value(json_object_get(flag, "value")), 0.8);
    json_decref(flag);
    carso_evaluation_destroy(evaluation);
    /* Gradients that come back were enough. */
    how = (turning){.until = 2, .back_at = 8};
    evaluation = run_turning(&how, NEAR);
    check_flags(evaluation, (const char *const[]){NULL});
    carso_evaluation_destroy(evaluation);
}
END_TEST

/* An image that is broken needs no gradient, and a loss that saturates there has none. */
START_TEST(ordinary_runs)
{
    turning how = {.until = 15, .back_at = 15, .saturates = true};
    carso_evaluation *evaluation = run_turning(&how, NEAR);
    check_flags(evaluation, (const char *const[]){NULL});
    ck_assert_int_eq(evaluation->cell[0].vanished_from[0], -1);
    carso_evaluation_destroy(evaluation);
    evaluation = run_turning(&how, TURNING("0.5", "0.05"));
    int broken = 0, vanished = 0;
    for (int i = 0; i < TOY_COUNT; i++) {
        broken += evaluation->cell[0].best[i] == 0 && evaluation->cell[0].selected[i] == 0;
        vanished += evaluation->cell[0].zero_gradient[i] > 0.3;
    }
    ck_assert_int_ge(broken, TOY_COUNT - 2);
    ck_assert_int_ge(vanished, TOY_COUNT - 2);
    check_flags(evaluation, (const char *const[]){NULL});
    carso_evaluation_destroy(evaluation);
}
END_TEST

START_TEST(losses_that_fall_on_the_way)
{
    turning how = {.until = 8, .back_at = 15, .factor = -1};
    carso_evaluation *evaluation = run_turning(&how, NEAR);
    for (int i = 0; i < TOY_COUNT; i++) {
        ck_assert(evaluation->cell[0].state[i] == CSO_STATE_LEFT_OUT ||
                  evaluation->cell[0].last_loss[i] > evaluation->cell[0].first_loss[i]);
    }
    check_flags(evaluation, (const char *const[]){"loss-does-not-rise", NULL});
    json_t *flag = find_flag(evaluation, "loss-does-not-rise");
    ck_assert_int_eq(json_integer_value(json_object_get(flag, "step")), 12);
    json_decref(flag);
    carso_evaluation_destroy(evaluation);
    /* From the start on. */
    how = (turning){.until = 0, .back_at = 15, .factor = -1};
    evaluation = run_turning(&how, NEAR);
    flag = find_flag(evaluation, "loss-does-not-rise");
    ck_assert_int_eq(json_integer_value(json_object_get(flag, "step")), 0);
    json_decref(flag);
    carso_evaluation_destroy(evaluation);
    /* A few steps astray. */
    how = (turning){.until = 8, .back_at = 10, .factor = -1};
    evaluation = run_turning(&how, NEAR);
    check_flags(evaluation, (const char *const[]){NULL});
    carso_evaluation_destroy(evaluation);
}
END_TEST

START_TEST(callbacks_that_fail_or_are_not_there)
{
    planted how = {.random = true};
    int32_t finished = 0;
    carso_evaluation *evaluation = NULL;
    toy_options.protocol = ATTACKS("classifier", "{\"method\": \"pgd\", \"steps\": 0, \"random_start\": false}, {\"method\": \"pgd\", \"loss\": \"callback\", \"steps\": 5}");
    ck_assert_int_eq(carso_evaluation_create(toy_model, &toy_images, toy_labels, &toy_options, &evaluation),
                     CARSO_ERROR_INVALID_ARGUMENT);
    toy_check_message("loss_function is NULL", "attack 2");
    toy_options.loss_function = astray;
    toy_options.loss_user = &how;
    evaluation = toy_evaluation(toy_model);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(carso_evaluation_step(evaluation, NULL, NULL, &finished), CARSO_OK);
    }
    how.failing = true;
    ck_assert_int_eq(carso_evaluation_step(evaluation, NULL, NULL, &finished), CARSO_ERROR_CALLBACK);
    /* What was known is kept, and it goes on once the callback does. */
    ck_assert_uint_eq(carso_evaluation_count(evaluation), 2);
    ck_assert_ptr_nonnull(carso_evaluation_result(evaluation));
    how.failing = false;
    toy_run(evaluation);
    ck_assert_uint_eq(carso_evaluation_count(evaluation), TOY_COUNT);
    carso_evaluation_destroy(evaluation);
}
END_TEST

/* What attacks found, stated by hand: where one that knows less does better, and where more leaves more. */
START_TEST(attacks_that_beat_each_other)
{
    static const struct {
        const char *attacks, *flag;
    } cases[] = {{"{\"method\": \"pgd\"}, {\"method\": \"noise\"}", "noise-beats-gradient"},
                 {"{\"method\": \"pgd\"}, {\"method\": \"square\"}", "square-beats-gradient"},
                 {"{\"method\": \"pgd\"}, {\"method\": \"pgd\", \"objective\": \"classifier\"}", "transfer-beats-white-box"}};
    for (int i = 0; i < 3; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "{\"name\": \"toy\", \"epsilons\": [0.1], \"repeats\": 3, \"sections\": [{\"name\": \"s\", \"objective\": \"defence\", \"attacks\": [%s]}]}",
                 cases[i].attacks);
        toy_options.protocol = text;
        carso_evaluation *const evaluation = toy_evaluation(toy_model);
        evaluation->units_done = cso_evaluation_units(evaluation);
        cso_cell_columns *const cell = &evaluation->cell[0];
        for (int better = 0; better <= TOY_COUNT; better++) {
            for (int row = 0; row < TOY_COUNT; row++) {
                for (int a = 0; a < 2; a++) {
                    cell->state[2 * row + a] = CSO_STATE_ATTACKED;
                    cell->attack_selected[2 * row + a] = a == 1 && row < better ? 0 : 3;
                    cell->last_loss[2 * row + a] = 1;
                }
            }
            /* Four images could be chance. */
            ck_assert_int_eq(toy_has_flag(evaluation, cases[i].flag), better > 4);
        }
        cell->state[0] = CSO_STATE_OUTSIDE;
        ck_assert(toy_has_flag(evaluation, "outside-ball"));
        carso_evaluation_destroy(evaluation);
    }
}
END_TEST

START_TEST(accuracy_that_rises)
{
    static const char *const protocols[] = {
        "{\"name\": \"toy\", \"epsilons\": [0.2, 0.1], \"sections\": [{\"name\": \"s\", \"objective\": \"classifier\", \"attacks\": [{\"method\": \"pgd\"}]}]}",
        "{\"name\": \"toy\", \"epsilons\": [0.1], \"sections\": [{\"name\": \"s\", \"objective\": \"classifier\", \"curve\": [9, 3],"
        " \"attacks\": [{\"method\": \"pgd\"}]}]}"};
    static const char *const names[] = {"accuracy-rises-with-epsilon", "accuracy-rises-with-steps"};
    for (int i = 0; i < 2; i++) {
        toy_options.protocol = protocols[i];
        carso_evaluation *const evaluation = toy_evaluation(toy_model);
        evaluation->units_done = cso_evaluation_units(evaluation);
        ck_assert(!toy_has_flag(evaluation, names[i]));
        for (int row = 0; row < 5; row++) {
            evaluation->cell[0].score.correct[row] = 1;
        }
        ck_assert(toy_has_flag(evaluation, names[i]));
        ck_assert(!toy_has_flag(evaluation, names[1 - i]));
        for (int row = 0; row < 5; row++) {
            evaluation->cell[1].score.correct[row] = 1;
        }
        ck_assert(!toy_has_flag(evaluation, names[i]));
        carso_evaluation_destroy(evaluation);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("evaluation_flags");
    TCase *tests = tcase_create("evaluation_flags");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, toy_open, toy_close);
    tcase_add_test(tests, nothing_to_complain_of);
    tcase_add_test(tests, constant_logits);
    tcase_add_test(tests, weights_that_are_no_numbers);
    tcase_add_test(tests, too_few_classes);
    tcase_add_test(tests, draws_that_differ_or_not);
    tcase_add_test(tests, aggregation_in_float);
    tcase_add_test(tests, gradients_that_lead_nowhere);
    tcase_add_test(tests, gradients_that_vanish_on_the_way);
    tcase_add_test(tests, ordinary_runs);
    tcase_add_test(tests, losses_that_fall_on_the_way);
    tcase_add_test(tests, callbacks_that_fail_or_are_not_there);
    tcase_add_test(tests, attacks_that_beat_each_other);
    tcase_add_test(tests, accuracy_that_rises);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
