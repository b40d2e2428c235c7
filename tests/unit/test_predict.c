/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "carso/carso.h"
#include "counting_allocator.h"
#include "small_model.h"

enum { COUNT = 3, DRAWS = 3 };

static carso_context *context;
static carso_model *model;
static float pixels[COUNT * SMALL_IMAGE];
static carso_images images;
static carso_predict_options options;
static carso_prediction *prediction;

static void set_up(void)
{
    context = named_context("reference", 0);
    model = small_model(context);
    fill_images(pixels, COUNT);
    images = describe_images(pixels, COUNT);
    carso_predict_options_init(&options, sizeof options);
    options.draws = DRAWS;
    prediction = NULL;
}

static void tear_down(void)
{
    carso_model_destroy(model);
    carso_context_destroy(context);
    carso_prediction_destroy(prediction); /* outlives what made it */
}

static void check_message(const char *a, const char *b)
{
    char message[512];
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(strstr(message, a) && strstr(message, b), "\"%s\" has no \"%s\" or no \"%s\"", message, a, b);
}

static void again(carso_status (*call)(const carso_model *, const carso_images *, const carso_predict_options *,
                                       carso_prediction **))
{
    carso_prediction_destroy(prediction);
    prediction = NULL;
    ck_assert_int_eq(call(model, &images, &options, &prediction), CARSO_OK);
    ck_assert_ptr_nonnull(prediction);
}

START_TEST(classifier_alone)
{
    options.draws = 0; /* not read */
    again(carso_predict);
    ck_assert_uint_eq(carso_prediction_count(prediction), COUNT);
    ck_assert_int_eq(carso_prediction_classes(prediction), SMALL_CLASSES);
    ck_assert_int_eq(carso_prediction_draws(prediction), 1);
    ck_assert_ptr_null(carso_prediction_reconstructions(prediction));
    for (int i = 0; i < COUNT; i++) {
        const double *const logits = carso_prediction_logits(prediction) + i * SMALL_CLASSES;
        const double *const p = carso_prediction_probabilities(prediction) + i * SMALL_CLASSES;
        const double *const odds = carso_prediction_log_odds(prediction) + i * SMALL_CLASSES;
        double total = 0;
        int best = 0;
        for (int c = 0; c < SMALL_CLASSES; c++) {
            total += exp(logits[c]);
            best = logits[c] > logits[best] ? c : best;
        }
        for (int c = 0; c < SMALL_CLASSES; c++) {
            ck_assert_double_eq_tol(p[c], exp(logits[c]) / total, 1e-14);
            ck_assert_double_eq_tol(odds[c], log(p[c] / (1 - p[c])), 1e-12);
        }
        ck_assert_int_eq(carso_prediction_labels(prediction)[i], best);
        ck_assert_int_eq(carso_prediction_agreement(prediction)[i], 1);
    }
}
END_TEST

START_TEST(defence_follows_its_logits)
{
    options.keep_reconstructions = 1;
    for (int how = 0; how < 3; how++) {
        options.aggregation = how;
        again(carso_predict_robust);
        ck_assert_int_eq(carso_prediction_draws(prediction), DRAWS);
        const double *const logits = carso_prediction_logits(prediction);
        for (int i = 0; i < COUNT; i++) {
            double score[SMALL_CLASSES] = {0}, total = 0;
            for (int d = 0; d < DRAWS; d++) {
                const double *const l = logits + (d * COUNT + i) * SMALL_CLASSES;
                double sum = 0;
                for (int c = 0; c < SMALL_CLASSES; c++) {
                    sum += exp(l[c]);
                }
                for (int c = 0; c < SMALL_CLASSES; c++) {
                    score[c] += how == CARSO_AGGREGATE_CARSO   ? exp(l[c])
                                : how == CARSO_AGGREGATE_LOGIT ? l[c] / DRAWS
                                                               : exp(l[c]) / sum / DRAWS;
                }
            }
            int best = 0;
            for (int c = 0; c < SMALL_CLASSES; c++) {
                total += exp(score[c]);
                best = score[c] > score[best] ? c : best;
            }
            int agree = 0;
            for (int d = 0; d < DRAWS; d++) {
                const double *const l = logits + (d * COUNT + i) * SMALL_CLASSES;
                int own = 0;
                for (int c = 0; c < SMALL_CLASSES; c++) {
                    own = l[c] > l[own] ? c : own;
                }
                agree += own == best;
            }
            for (int c = 0; c < SMALL_CLASSES; c++) {
                ck_assert_double_eq_tol(carso_prediction_probabilities(prediction)[i * SMALL_CLASSES + c],
                                        how == CARSO_AGGREGATE_PROBABILITY ? score[c] : exp(score[c]) / total, 1e-12);
            }
            ck_assert_int_eq(carso_prediction_labels(prediction)[i], best);
            ck_assert_int_eq(carso_prediction_agreement(prediction)[i], agree);
        }
    }
    const float *const reconstructions = carso_prediction_reconstructions(prediction);
    for (int k = 0; k < DRAWS * COUNT * SMALL_IMAGE; k++) {
        ck_assert(reconstructions[k] >= 0 && reconstructions[k] <= 1);
    }
}
END_TEST

/* Draw 1 of image 2 is what the classifier alone says of the reconstruction of draw 1 of image 2. */
START_TEST(purification_is_what_the_defence_classifies)
{
    static float kept[DRAWS * COUNT * SMALL_IMAGE];
    double logits[DRAWS * COUNT * SMALL_CLASSES];
    options.keep_reconstructions = 1;
    again(carso_predict_robust);
    memcpy(kept, carso_prediction_reconstructions(prediction), sizeof kept);
    memcpy(logits, carso_prediction_logits(prediction), sizeof logits);
    options.keep_reconstructions = 0;
    again(carso_purify);
    ck_assert_ptr_null(carso_prediction_labels(prediction));
    ck_assert_ptr_null(carso_prediction_logits(prediction));
    ck_assert_ptr_null(carso_prediction_probabilities(prediction));
    ck_assert_ptr_null(carso_prediction_log_odds(prediction));
    ck_assert_ptr_null(carso_prediction_agreement(prediction));
    ck_assert_mem_eq(carso_prediction_reconstructions(prediction), kept, sizeof kept);
    images = describe_images(kept, DRAWS * COUNT);
    again(carso_predict);
    for (int k = 0; k < DRAWS * COUNT * SMALL_CLASSES; k++) {
        ck_assert_double_eq_tol(carso_prediction_logits(prediction)[k], logits[k], 1e-5);
    }
    again(carso_predict_robust);
    ck_assert_ptr_null(carso_prediction_reconstructions(prediction));
}
END_TEST

/* An image's draws depend on its number and the seed, not on its batch. */
START_TEST(keyed_by_image_and_seed)
{
    double logits[DRAWS * COUNT * SMALL_CLASSES];
    options.first_image = 40;
    options.seed = UINT64_MAX;
    again(carso_predict_robust);
    memcpy(logits, carso_prediction_logits(prediction), sizeof logits);
    again(carso_predict_robust);
    ck_assert_mem_eq(logits, carso_prediction_logits(prediction), sizeof logits);
    images = describe_images(pixels + 2 * SMALL_IMAGE, 1);
    options.first_image = 42;
    again(carso_predict_robust);
    for (int d = 0; d < DRAWS; d++) {
        ck_assert_mem_eq(logits + (d * COUNT + 2) * SMALL_CLASSES,
                         carso_prediction_logits(prediction) + d * SMALL_CLASSES, SMALL_CLASSES * sizeof *logits);
    }
    options.seed = 1;
    again(carso_predict_robust);
    ck_assert_mem_ne(logits + 2 * SMALL_CLASSES, carso_prediction_logits(prediction), SMALL_CLASSES * sizeof *logits);
}
END_TEST

static void refused(carso_status expected, const char *a, const char *b)
{
    carso_prediction *out = (carso_prediction *)&options;
    ck_assert_int_eq(carso_predict_robust(model, &images, &options, &out), expected);
    ck_assert_ptr_null(out);
    check_message(a, b);
}

START_TEST(bad_options)
{
    options.draws = 0;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "draws is 0", "65536");
    options.draws = 65537;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "draws is 65537", "65536");
    options.draws = 1;
    options.aggregation = 3;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "aggregation is 3", "0 to 2");
    options.aggregation = 0;
    options.keep_reconstructions = 2;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "keep_reconstructions is 2", "0 nor 1");
    options.keep_reconstructions = 0;
    options.first_image = UINT64_MAX - 1;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "first_image is 18446744073709551614", "overflows");
    options.first_image = 0;
    options.struct_size = 3;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "struct_size is 3", "predict options");
    options.struct_size = sizeof options;
    images.count = 0;
    refused(CARSO_ERROR_INVALID_ARGUMENT, "count is 0", "images");
    images.count = COUNT;
    images.width = 27;
    refused(CARSO_ERROR_INVALID_IMAGE, "27x28", "28x28");
    images.width = 28;
    pixels[SMALL_IMAGE + 30] = 1.5f;
    refused(CARSO_ERROR_INVALID_IMAGE, "image 1, row 1, column 2", "1.5");
    ck_assert_int_eq(carso_predict(model, &images, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("out_prediction is NULL", "carso_predict");
    ck_assert_int_eq(carso_predict(NULL, &images, NULL, &prediction), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(prediction);
    ck_assert_int_eq(carso_purify(model, NULL, NULL, &prediction), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("images is NULL", "images");
}
END_TEST

static void *modest_allocate(size_t size, size_t alignment, void *user)
{
    void *memory = NULL;
    (void)user;
    return size < (size_t)1 << 28 && posix_memalign(&memory, alignment, size) == 0 ? memory : NULL;
}

static void modest_release(void *memory, void *user)
{
    (void)user;
    free(memory);
}

/* A result that no memory can hold is an error, not an overflow. */
START_TEST(an_impossible_result)
{
    carso_context_options settings;
    carso_context *modest = NULL;
    carso_context_options_init(&settings, sizeof settings);
    settings.backend = "reference";
    settings.allocator = (carso_allocator){modest_allocate, modest_release, NULL};
    ck_assert_int_eq(carso_context_create(&settings, &modest), CARSO_OK);
    carso_model *const other = small_model(modest);
    options.draws = 65536;
    options.keep_reconstructions = 1;
    images.image_stride = 1;
    for (int power = 20; power <= 60; power += 10) {
        images.count = (uint64_t)1 << power;
        ck_assert_int_eq(carso_predict_robust(other, &images, &options, &prediction), CARSO_ERROR_OUT_OF_MEMORY);
        ck_assert_ptr_null(prediction);
    }
    carso_model_destroy(other);
    carso_context_destroy(modest);
}
END_TEST

START_TEST(no_purifier)
{
    carso_model *const with = model;
    model = small_classifier(context);
    refused(CARSO_ERROR_UNSUPPORTED, "no purifier", "carso_model_add_purifier");
    carso_model_destroy(model);
    model = with;
}
END_TEST

START_TEST(accessors_take_null)
{
    carso_prediction_destroy(NULL);
    ck_assert_uint_eq(carso_prediction_count(NULL), 0);
    ck_assert_int_eq(carso_prediction_classes(NULL), 0);
    ck_assert_int_eq(carso_prediction_draws(NULL), 0);
    ck_assert_ptr_null(carso_prediction_labels(NULL));
    ck_assert_ptr_null(carso_prediction_probabilities(NULL));
    ck_assert_ptr_null(carso_prediction_log_odds(NULL));
    ck_assert_ptr_null(carso_prediction_logits(NULL));
    ck_assert_ptr_null(carso_prediction_agreement(NULL));
    ck_assert_ptr_null(carso_prediction_reconstructions(NULL));
}
END_TEST

START_TEST(damaged_weights_are_reported)
{
    float gradient[COUNT * SMALL_IMAGE];
    const int32_t labels[COUNT] = {0, 1, 2};
    spoil_parameter(model->classifier, "logits.bias");
    ck_assert_int_eq(carso_predict(model, &images, NULL, &prediction), CARSO_ERROR_NON_FINITE);
    ck_assert_ptr_null(prediction);
    check_message("3 of the 3 images", "image 0");
    ck_assert_int_eq(carso_gradient(model, &images, labels, NULL, gradient, NULL, NULL), CARSO_ERROR_NON_FINITE);
    check_message("3 of the 3 images", "image 0");
    spoil_parameter(model->purifier->decoder, "decoder.0.1.bias");
    ck_assert_int_eq(carso_purify(model, &images, &options, &prediction), CARSO_ERROR_NON_FINITE);
    check_message("reconstruction of image 0", "draw 0");
}
END_TEST

/* The gradient of a call is that of the draws that carso_predict_robust makes; losses and logits are theirs as well. */
START_TEST(gradient_of_the_defence)
{
    static float gradient[COUNT * SMALL_IMAGE], given[COUNT * SMALL_IMAGE];
    double losses[COUNT], logits[DRAWS * COUNT * SMALL_CLASSES], seeds[DRAWS * COUNT * SMALL_CLASSES] = {0};
    const int32_t labels[COUNT] = {2, 0, 3};
    carso_gradient_options how;
    carso_gradient_options_init(&how, sizeof how);
    how.objective = CARSO_OBJECTIVE_DEFENCE;
    how.loss = CARSO_LOSS_LOG_ODDS;
    how.draws = DRAWS;
    how.seed = options.seed = 8;
    how.first_image = options.first_image = 3;
    ck_assert_int_eq(carso_gradient(model, &images, labels, &how, gradient, losses, logits), CARSO_OK);
    again(carso_predict_robust);
    for (int k = 0; k < DRAWS * COUNT * SMALL_CLASSES; k++) {
        ck_assert_double_eq_tol(carso_prediction_logits(prediction)[k], logits[k], 1e-5);
    }
    for (int i = 0; i < COUNT; i++) {
        ck_assert_double_eq_tol(losses[i], -carso_prediction_log_odds(prediction)[i * SMALL_CLASSES + labels[i]], 1e-4);
    }

    /* The margin's gradient, handed in. */
    how.loss = CARSO_LOSS_MARGIN;
    ck_assert_int_eq(carso_gradient(model, &images, labels, &how, gradient, losses, logits), CARSO_OK);
    for (int i = 0; i < COUNT; i++) {
        double mean[SMALL_CLASSES] = {0};
        int other = labels[i] == 0;
        for (int d = 0; d < DRAWS; d++) {
            for (int c = 0; c < SMALL_CLASSES; c++) {
                mean[c] += logits[(d * COUNT + i) * SMALL_CLASSES + c];
            }
        }
        for (int c = 0; c < SMALL_CLASSES; c++) {
            other = c != labels[i] && mean[c] > mean[other] ? c : other;
        }
        for (int d = 0; d < DRAWS; d++) {
            seeds[(d * COUNT + i) * SMALL_CLASSES + other] = 1.0 / DRAWS;
            seeds[(d * COUNT + i) * SMALL_CLASSES + labels[i]] = -1.0 / DRAWS;
        }
    }
    how.logit_gradient = seeds;
    ck_assert_int_eq(carso_gradient(model, &images, NULL, &how, given, NULL, NULL), CARSO_OK);
    ck_assert_mem_eq(given, gradient, sizeof given);
    ck_assert_int_eq(carso_gradient(model, &images, NULL, &how, given, losses, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("out_losses must be NULL", "logit_gradient");
}
END_TEST

START_TEST(bad_gradient_arguments)
{
    static float gradient[COUNT * SMALL_IMAGE];
    int32_t labels[COUNT] = {0, 1, SMALL_CLASSES};
    carso_gradient_options how;
    carso_gradient_options_init(&how, sizeof how);
    ck_assert_int_eq(carso_gradient(model, &images, labels, &how, gradient, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("label 2 is 4", "0 to 3");
    labels[2] = -1;
    ck_assert_int_eq(carso_gradient(model, &images, labels, &how, gradient, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("label 2 is -1", "0 to 3");
    labels[2] = 0;
    ck_assert_int_eq(carso_gradient(model, &images, NULL, &how, gradient, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("labels is NULL", "carso_gradient");
    ck_assert_int_eq(carso_gradient(model, &images, labels, &how, NULL, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("out_gradient is NULL", "carso_gradient");
    how.loss = 10;
    ck_assert_int_eq(carso_gradient(model, &images, labels, &how, gradient, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("loss is 10", "0 to 9");
    how.loss = 0;
    how.objective = -1;
    ck_assert_int_eq(carso_gradient(model, &images, labels, &how, gradient, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("objective is -1", "0 to 1");
    how.objective = CARSO_OBJECTIVE_DEFENCE;
    how.draws = 0;
    ck_assert_int_eq(carso_gradient(model, &images, labels, &how, gradient, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("draws is 0", "65536");
    ck_assert_int_eq(carso_gradient(NULL, &images, labels, NULL, gradient, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
}
END_TEST

/* Cross-entropy towards a target is minus that of the target as a label; the same loss as a function of the caller's. */
typedef struct own_cross_entropy {
    int calls, fail_at;
    bool had_labels, had_targets;
} own_cross_entropy;

static int own_loss(const carso_loss_batch *batch, void *user)
{
    static const int32_t wanted[COUNT] = {1, 2, 3};
    own_cross_entropy *const own = user;
    own->had_labels = batch->labels != NULL;
    own->had_targets = batch->targets != NULL;
    if (++own->calls == own->fail_at) {
        return -1;
    }
    const int row = (int)batch->count * batch->classes;
    for (int i = 0; i < (int)batch->count; i++) {
        double mean[SMALL_CLASSES] = {0}, sum = 0;
        for (int c = 0; c < SMALL_CLASSES; c++) {
            for (int d = 0; d < batch->draws; d++) {
                mean[c] += batch->logits[d * row + i * SMALL_CLASSES + c] / batch->draws;
            }
            sum += exp(mean[c]);
        }
        const int target = wanted[batch->image_index[i] - 40];
        batch->losses[i] = mean[target] - log(sum);
        for (int d = 0; d < batch->draws; d++) {
            for (int c = 0; c < SMALL_CLASSES; c++) {
                batch->logit_gradient[d * row + i * SMALL_CLASSES + c] =
                    ((c == target ? 1 : 0) - exp(mean[c]) / sum) / batch->draws;
            }
        }
    }
    return 0;
}

START_TEST(gradient_towards_targets_and_of_own_losses)
{
    static float plain[COUNT * SMALL_IMAGE], other[COUNT * SMALL_IMAGE];
    static const int32_t labels[COUNT] = {0, 1, 2}, targets[COUNT] = {1, 2, 3}, outside[COUNT] = {1, 2, -1},
                         same[COUNT] = {1, 1, 3};
    static double slopes[2 * COUNT * SMALL_CLASSES];
    double losses[COUNT], other_losses[COUNT];
    carso_gradient_options how;
    carso_gradient_options_init(&how, sizeof how);
    ck_assert(how.targets == NULL && how.loss_function == NULL && how.loss_user == NULL);
    how.first_image = 40;
    how.draws = 2;
    for (int objective = 0; objective < 2; objective++) {
        own_cross_entropy own = {0};
        how.objective = objective;
        how.targets = NULL;
        how.loss_function = NULL;
        ck_assert_int_eq(carso_gradient(model, &images, targets, &how, plain, losses, NULL), CARSO_OK);
        how.targets = targets;
        ck_assert_int_eq(carso_gradient(model, &images, labels, &how, other, other_losses, NULL), CARSO_OK);
        for (int k = 0; k < COUNT * SMALL_IMAGE; k++) {
            ck_assert(other[k] == -plain[k]);
        }
        for (int i = 0; i < COUNT; i++) {
            ck_assert_double_eq(other_losses[i], -losses[i]);
        }

        how.loss_function = own_loss;
        how.loss_user = &own;
        how.loss = CARSO_LOSS_DLR;
        ck_assert_int_eq(carso_gradient(model, &images, labels, &how, plain, losses, NULL), CARSO_OK);
        ck_assert(own.had_labels && own.had_targets);
        how.targets = NULL;
        ck_assert_int_eq(carso_gradient(model, &images, NULL, &how, plain, NULL, NULL), CARSO_OK);
        ck_assert(!own.had_labels && !own.had_targets);
        double scale = 0;
        for (int k = 0; k < COUNT * SMALL_IMAGE; k++) {
            scale = fmax(scale, fabs((double)other[k]));
        }
        for (int k = 0; k < COUNT * SMALL_IMAGE; k++) /* the logit gradients differ in their last bits */ {
            ck_assert_double_eq_tol(plain[k], other[k], 1e-5 * scale);
        }
        for (int i = 0; i < COUNT; i++) {
            ck_assert_double_eq_tol(losses[i], other_losses[i], 1e-12);
        }
        own = (own_cross_entropy){.fail_at = 1};
        ck_assert_int_eq(carso_gradient(model, &images, NULL, &how, plain, NULL, NULL), CARSO_ERROR_CALLBACK);
        check_message("returned -1", "number 40");
        how.loss = CARSO_LOSS_CROSS_ENTROPY;
    }
    how.logit_gradient = slopes;
    ck_assert_int_eq(carso_gradient(model, &images, labels, &how, plain, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("logit_gradient", "loss_function");
    how.loss_function = NULL;
    how.targets = targets;
    ck_assert_int_eq(carso_gradient(model, &images, labels, &how, plain, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("logit_gradient", "targets");
    how.logit_gradient = NULL;
    how.targets = outside;
    ck_assert_int_eq(carso_gradient(model, &images, labels, &how, plain, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("carso_gradient: target 2 is -1", "0 to 3");
    how.targets = same;
    ck_assert_int_eq(carso_gradient(model, &images, labels, &how, plain, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("target 1 is 1", "other than the label");
}
END_TEST

static int stop_at_once(const carso_progress *progress, void *user)
{
    (void)progress;
    (*(int *)user)++;
    return 1;
}

START_TEST(cancellation)
{
    int calls = 0;
    options.progress = stop_at_once;
    options.progress_user = &calls;
    ck_assert_int_eq(carso_predict_robust(model, &images, &options, &prediction), CARSO_CANCELLED);
    ck_assert_ptr_null(prediction);
    ck_assert_int_eq(calls, 1);
}
END_TEST

/* Two threads on one model: each result is what one thread alone gets. */
typedef struct job {
    int first;
    carso_status status;
    carso_prediction *result;
} job;

static void *predict_in_thread(void *user)
{
    job *const own = user;
    carso_predict_options how = options;
    how.first_image = (uint64_t)own->first;
    own->status = carso_predict_robust(model, &images, &how, &own->result);
    return NULL;
}

START_TEST(threads_share_a_model)
{
    enum { THREADS = 3 };
    pthread_t thread[THREADS];
    job jobs[THREADS] = {{0}};
    for (int t = 0; t < THREADS; t++) {
        jobs[t].first = 100 * t;
        ck_assert_int_eq(pthread_create(&thread[t], NULL, predict_in_thread, &jobs[t]), 0);
    }
    for (int t = 0; t < THREADS; t++) {
        pthread_join(thread[t], NULL);
    }
    for (int t = 0; t < THREADS; t++) {
        ck_assert_int_eq(jobs[t].status, CARSO_OK);
        options.first_image = (uint64_t)jobs[t].first;
        again(carso_predict_robust);
        ck_assert_mem_eq(carso_prediction_logits(prediction), carso_prediction_logits(jobs[t].result),
                         DRAWS * COUNT * SMALL_CLASSES * sizeof(double));
        carso_prediction_destroy(jobs[t].result);
    }
}
END_TEST

/* Each allocation of a call failed in turn, those of the programs and plans made on first use included. */
START_TEST(allocations_failing)
{
    counting_allocator counts = {0};
    const int32_t label = 1;
    carso_context *const counted = counting_context(&counts);
    ck_assert_ptr_nonnull(counted);
    images = describe_images(pixels, 1);
    carso_gradient_options how;
    carso_gradient_options_init(&how, sizeof how);
    how.objective = CARSO_OBJECTIVE_DEFENCE;
    how.draws = options.draws = 1;
    options.keep_reconstructions = 1;
    for (int which = 0; which < 3; which++) {
        carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
        for (long n = 1; status != CARSO_OK; n++) {
            carso_model *const fresh = small_model(counted);
            carso_prediction *result = NULL;
            static float gradient[SMALL_IMAGE];
            atomic_store(&counts.failing, atomic_load(&counts.made) + n);
            status = which == 0   ? carso_predict(fresh, &images, NULL, &result)
                     : which == 1 ? carso_predict_robust(fresh, &images, &options, &result)
                                  : carso_gradient(fresh, &images, &label, &how, gradient, NULL, NULL);
            atomic_store(&counts.failing, 0);
            ck_assert(status == CARSO_OK || status == CARSO_ERROR_OUT_OF_MEMORY);
            ck_assert((result != NULL) == (status == CARSO_OK && which < 2));
            carso_prediction_destroy(result);
            carso_model_destroy(fresh);
        }
    }
    carso_context_destroy(counted);
    ck_assert_int_eq(atomic_load(&counts.held), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("predict");
    TCase *tests = tcase_create("predict");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, classifier_alone);
    tcase_add_test(tests, defence_follows_its_logits);
    tcase_add_test(tests, purification_is_what_the_defence_classifies);
    tcase_add_test(tests, keyed_by_image_and_seed);
    tcase_add_test(tests, bad_options);
    tcase_add_test(tests, an_impossible_result);
    tcase_add_test(tests, no_purifier);
    tcase_add_test(tests, accessors_take_null);
    tcase_add_test(tests, damaged_weights_are_reported);
    tcase_add_test(tests, gradient_of_the_defence);
    tcase_add_test(tests, gradient_towards_targets_and_of_own_losses);
    tcase_add_test(tests, bad_gradient_arguments);
    tcase_add_test(tests, cancellation);
    tcase_add_test(tests, threads_share_a_model);
    tcase_add_test(tests, allocations_failing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
