/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The binary interface, pinned: sizes, offsets and values that applications have compiled in (docs/abi.md). A line of
 * the tables may be added; one that would have to change means that the interface broke. LP64 only.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "carso/carso.h"

typedef struct pin {
    const char *name;
    long long actual, pinned;
} pin;

#define VALUE(name, value) {#name, (long long)(name), value}
#define SIZE(type, size) {"sizeof(" #type ")", (long long)sizeof(type), size}
#define OFFSET(type, field, offset) {#type "." #field, (long long)offsetof(type, field), offset}

static const pin values[] = {
    VALUE(CARSO_OK, 0),
    VALUE(CARSO_CANCELLED, 1),
    VALUE(CARSO_ERROR_INVALID_ARGUMENT, 10),
    VALUE(CARSO_ERROR_INVALID_IMAGE, 11),
    VALUE(CARSO_ERROR_CALLBACK, 12),
    VALUE(CARSO_ERROR_OUT_OF_MEMORY, 20),
    VALUE(CARSO_ERROR_IO, 30),
    VALUE(CARSO_ERROR_NOT_FOUND, 31),
    VALUE(CARSO_ERROR_BAD_FORMAT, 40),
    VALUE(CARSO_ERROR_UNSUPPORTED, 41),
    VALUE(CARSO_ERROR_NON_FINITE, 50),
    VALUE(CARSO_ERROR_BACKEND, 60),
    VALUE(CARSO_ERROR_INTERNAL, 70),
    VALUE(CARSO_LOG_ERROR, 0),
    VALUE(CARSO_LOG_WARNING, 1),
    VALUE(CARSO_LOG_INFO, 2),
    VALUE(CARSO_LOG_DEBUG, 3),
    VALUE(CARSO_CONVOLUTION_AUTOMATIC, 0),
    VALUE(CARSO_CONVOLUTION_PRECISE, 1),
    VALUE(CARSO_CONVOLUTION_DIRECT, 2),
    VALUE(CARSO_PIXEL_UINT8, 0),
    VALUE(CARSO_PIXEL_FLOAT32, 1),
    VALUE(CARSO_LAYOUT_HWC, 0),
    VALUE(CARSO_LAYOUT_CHW, 1),
    VALUE(CARSO_ORDER_GRAY, 0),
    VALUE(CARSO_ORDER_RGB, 1),
    VALUE(CARSO_ORDER_BGR, 2),
    VALUE(CARSO_WIDE_RESNET, 0),
    VALUE(CARSO_SMALL_CNN, 1),
    VALUE(CARSO_AGGREGATE_CARSO, 0),
    VALUE(CARSO_AGGREGATE_LOGIT, 1),
    VALUE(CARSO_AGGREGATE_PROBABILITY, 2),
    VALUE(CARSO_OBJECTIVE_CLASSIFIER, 0),
    VALUE(CARSO_OBJECTIVE_DEFENCE, 1),
    VALUE(CARSO_LOSS_CROSS_ENTROPY, 0),
    VALUE(CARSO_LOSS_MARGIN, 1),
    VALUE(CARSO_LOSS_PROBABILITY_CROSS_ENTROPY, 2),
    VALUE(CARSO_LOSS_LOG_ODDS, 3),
    VALUE(CARSO_LOSS_CARSO_CROSS_ENTROPY, 4),
    VALUE(CARSO_LOSS_DLR, 5),
    VALUE(CARSO_LOSS_PROBABILITY_MARGIN, 6),
    VALUE(CARSO_LOSS_PROBABILITY_DLR, 7),
    VALUE(CARSO_LOSS_CARSO_DLR, 8),
    VALUE(CARSO_LOSS_CARSO_MARGIN, 9),
    VALUE(CARSO_ATTACK_FGSM, 0),
    VALUE(CARSO_ATTACK_PGD, 1),
    VALUE(CARSO_ATTACK_APGD, 2),
    VALUE(CARSO_ATTACK_APGD_TARGETED, 3),
    VALUE(CARSO_ATTACK_SQUARE, 4),
    VALUE(CARSO_ATTACK_FAB, 5),
    VALUE(CARSO_ATTACK_FAB_TARGETED, 6),
    VALUE(CARSO_NORM_LINF, 0),
    VALUE(CARSO_NORM_L2, 1),
    VALUE(CARSO_SPLIT_TRAIN, 0),
    VALUE(CARSO_SPLIT_TEST, 1),
    SIZE(carso_status, 4),
    SIZE(carso_log_level, 4),
    SIZE(carso_convolution, 4),
    SIZE(carso_pixel_type, 4),
    SIZE(carso_pixel_layout, 4),
    SIZE(carso_pixel_order, 4),
    SIZE(carso_architecture, 4),
    SIZE(carso_aggregation, 4),
    SIZE(carso_objective, 4),
    SIZE(carso_loss, 4),
    SIZE(carso_attack_method, 4),
    SIZE(carso_split, 4),
};

/* The size is what the struct had when the release that is named first shipped it, and grows when fields are appended.
 */
static const pin structs[] = {
    SIZE(carso_allocator, 24),
    OFFSET(carso_allocator, allocate, 0),
    OFFSET(carso_allocator, release, 8),
    OFFSET(carso_allocator, user, 16),
    SIZE(carso_progress, 32),
    OFFSET(carso_progress, struct_size, 0),
    OFFSET(carso_progress, done, 8),
    OFFSET(carso_progress, total, 16),
    OFFSET(carso_progress, unit, 24),
    SIZE(carso_context_options, 80),
    OFFSET(carso_context_options, struct_size, 0),
    OFFSET(carso_context_options, backend, 8),
    OFFSET(carso_context_options, threads, 16),
    OFFSET(carso_context_options, log_level, 20),
    OFFSET(carso_context_options, log, 24),
    OFFSET(carso_context_options, log_user, 32),
    OFFSET(carso_context_options, allocator, 40),
    OFFSET(carso_context_options, memory_limit, 64),
    OFFSET(carso_context_options, convolution, 72),
    OFFSET(carso_context_options, reserved, 76),
    SIZE(carso_memory, 56),
    OFFSET(carso_memory, struct_size, 0),
    OFFSET(carso_memory, mapped_weights, 8),
    OFFSET(carso_memory, own_weights, 16),
    OFFSET(carso_memory, packed_weights, 24),
    OFFSET(carso_memory, transformed_weights, 32),
    OFFSET(carso_memory, buffers, 40),
    OFFSET(carso_memory, most_buffers, 48),
    SIZE(carso_images, 80),
    OFFSET(carso_images, struct_size, 0),
    OFFSET(carso_images, data, 8),
    OFFSET(carso_images, count, 16),
    OFFSET(carso_images, width, 24),
    OFFSET(carso_images, height, 28),
    OFFSET(carso_images, type, 32),
    OFFSET(carso_images, layout, 36),
    OFFSET(carso_images, order, 40),
    OFFSET(carso_images, reserved, 44),
    OFFSET(carso_images, pixel_stride, 48),
    OFFSET(carso_images, row_stride, 56),
    OFFSET(carso_images, plane_stride, 64),
    OFFSET(carso_images, image_stride, 72),
    SIZE(carso_model_options, 80),
    OFFSET(carso_model_options, struct_size, 0),
    OFFSET(carso_model_options, architecture, 8),
    OFFSET(carso_model_options, depth, 12),
    OFFSET(carso_model_options, width, 16),
    OFFSET(carso_model_options, channels, 20),
    OFFSET(carso_model_options, image_height, 24),
    OFFSET(carso_model_options, image_width, 28),
    OFFSET(carso_model_options, classes, 32),
    OFFSET(carso_model_options, reserved, 36),
    OFFSET(carso_model_options, mean, 40),
    OFFSET(carso_model_options, deviation, 52),
    OFFSET(carso_model_options, class_names, 64),
    OFFSET(carso_model_options, seed, 72),
    SIZE(carso_purifier_options, 32),
    OFFSET(carso_purifier_options, struct_size, 0),
    OFFSET(carso_purifier_options, condition_size, 8),
    OFFSET(carso_purifier_options, latent_size, 12),
    OFFSET(carso_purifier_options, seed_channels, 16),
    OFFSET(carso_purifier_options, reserved, 20),
    OFFSET(carso_purifier_options, seed, 24),
    SIZE(carso_deviation, 72),
    OFFSET(carso_deviation, struct_size, 0),
    OFFSET(carso_deviation, name, 8),
    OFFSET(carso_deviation, count, 16),
    OFFSET(carso_deviation, largest_difference, 24),
    OFFSET(carso_deviation, scale, 32),
    OFFSET(carso_deviation, position, 40),
    OFFSET(carso_deviation, stored, 48),
    OFFSET(carso_deviation, computed, 56),
    OFFSET(carso_deviation, departs, 64),
    OFFSET(carso_deviation, reserved, 68),
    SIZE(carso_model_info, 80),
    OFFSET(carso_model_info, struct_size, 0),
    OFFSET(carso_model_info, channels, 8),
    OFFSET(carso_model_info, image_height, 12),
    OFFSET(carso_model_info, image_width, 16),
    OFFSET(carso_model_info, classes, 20),
    OFFSET(carso_model_info, has_purifier, 24),
    OFFSET(carso_model_info, taps, 28),
    OFFSET(carso_model_info, condition_size, 32),
    OFFSET(carso_model_info, latent_size, 36),
    OFFSET(carso_model_info, classifier_parameters, 40),
    OFFSET(carso_model_info, purifier_parameters, 48),
    OFFSET(carso_model_info, classifier_multiply_adds, 56),
    OFFSET(carso_model_info, condition_multiply_adds, 64),
    OFFSET(carso_model_info, decoder_multiply_adds, 72),
    SIZE(carso_predict_options, 56),
    OFFSET(carso_predict_options, struct_size, 0),
    OFFSET(carso_predict_options, draws, 8),
    OFFSET(carso_predict_options, aggregation, 12),
    OFFSET(carso_predict_options, seed, 16),
    OFFSET(carso_predict_options, first_image, 24),
    OFFSET(carso_predict_options, keep_reconstructions, 32),
    OFFSET(carso_predict_options, reserved, 36),
    OFFSET(carso_predict_options, progress, 40),
    OFFSET(carso_predict_options, progress_user, 48),
    SIZE(carso_loss_batch, 72),
    OFFSET(carso_loss_batch, struct_size, 0),
    OFFSET(carso_loss_batch, count, 8),
    OFFSET(carso_loss_batch, draws, 16),
    OFFSET(carso_loss_batch, classes, 20),
    OFFSET(carso_loss_batch, logits, 24),
    OFFSET(carso_loss_batch, labels, 32),
    OFFSET(carso_loss_batch, targets, 40),
    OFFSET(carso_loss_batch, image_index, 48),
    OFFSET(carso_loss_batch, losses, 56),
    OFFSET(carso_loss_batch, logit_gradient, 64),
    SIZE(carso_gradient_options, 88),
    OFFSET(carso_gradient_options, struct_size, 0),
    OFFSET(carso_gradient_options, objective, 8),
    OFFSET(carso_gradient_options, loss, 12),
    OFFSET(carso_gradient_options, draws, 16),
    OFFSET(carso_gradient_options, reserved, 20),
    OFFSET(carso_gradient_options, seed, 24),
    OFFSET(carso_gradient_options, first_image, 32),
    OFFSET(carso_gradient_options, logit_gradient, 40),
    OFFSET(carso_gradient_options, progress, 48),
    OFFSET(carso_gradient_options, progress_user, 56),
    OFFSET(carso_gradient_options, targets, 64),
    OFFSET(carso_gradient_options, loss_function, 72),
    OFFSET(carso_gradient_options, loss_user, 80),
    SIZE(carso_attack_options, 144),
    OFFSET(carso_attack_options, struct_size, 0),
    OFFSET(carso_attack_options, method, 8),
    OFFSET(carso_attack_options, objective, 12),
    OFFSET(carso_attack_options, loss, 16),
    OFFSET(carso_attack_options, steps, 20),
    OFFSET(carso_attack_options, epsilon, 24),
    OFFSET(carso_attack_options, step_size, 32),
    OFFSET(carso_attack_options, random_start, 40),
    OFFSET(carso_attack_options, restarts, 44),
    OFFSET(carso_attack_options, draws, 48),
    OFFSET(carso_attack_options, eot, 52),
    OFFSET(carso_attack_options, seed, 56),
    OFFSET(carso_attack_options, first_image, 64),
    OFFSET(carso_attack_options, progress, 72),
    OFFSET(carso_attack_options, progress_user, 80),
    OFFSET(carso_attack_options, norm, 88),
    OFFSET(carso_attack_options, early_stop, 92),
    OFFSET(carso_attack_options, momentum, 96),
    OFFSET(carso_attack_options, queries, 104),
    OFFSET(carso_attack_options, target_classes, 108),
    OFFSET(carso_attack_options, targets, 112),
    OFFSET(carso_attack_options, loss_function, 120),
    OFFSET(carso_attack_options, loss_user, 128),
    OFFSET(carso_attack_options, fixed_draws, 136),
    OFFSET(carso_attack_options, transfer, 140),
    SIZE(carso_attack_step, 88),
    OFFSET(carso_attack_step, struct_size, 0),
    OFFSET(carso_attack_step, first_step, 8),
    OFFSET(carso_attack_step, steps, 16),
    OFFSET(carso_attack_step, evaluations, 24),
    OFFSET(carso_attack_step, non_finite, 32),
    OFFSET(carso_attack_step, misclassified, 40),
    OFFSET(carso_attack_step, gradients, 48),
    OFFSET(carso_attack_step, flat_gradients, 56),
    OFFSET(carso_attack_step, mean_loss, 64),
    OFFSET(carso_attack_step, zero_gradient, 72),
    OFFSET(carso_attack_step, tiny_gradient, 80),
    SIZE(carso_evaluation_options, 96),
    OFFSET(carso_evaluation_options, struct_size, 0),
    OFFSET(carso_evaluation_options, protocol, 8),
    OFFSET(carso_evaluation_options, epsilons, 16),
    OFFSET(carso_evaluation_options, epsilon_count, 24),
    OFFSET(carso_evaluation_options, norm, 32),
    OFFSET(carso_evaluation_options, draws, 36),
    OFFSET(carso_evaluation_options, repeats, 40),
    OFFSET(carso_evaluation_options, aggregation, 44),
    OFFSET(carso_evaluation_options, batch, 48),
    OFFSET(carso_evaluation_options, shard, 52),
    OFFSET(carso_evaluation_options, shards, 56),
    OFFSET(carso_evaluation_options, seed, 64),
    OFFSET(carso_evaluation_options, first_image, 72),
    OFFSET(carso_evaluation_options, loss_function, 80),
    OFFSET(carso_evaluation_options, loss_user, 88),
    SIZE(carso_dataset_info, 40),
    OFFSET(carso_dataset_info, struct_size, 0),
    OFFSET(carso_dataset_info, count, 8),
    OFFSET(carso_dataset_info, channels, 16),
    OFFSET(carso_dataset_info, height, 20),
    OFFSET(carso_dataset_info, width, 24),
    OFFSET(carso_dataset_info, classes, 28),
    OFFSET(carso_dataset_info, format, 32),
    SIZE(carso_read_options, 32),
    OFFSET(carso_read_options, struct_size, 0),
    OFFSET(carso_read_options, crop_padding, 8),
    OFFSET(carso_read_options, mirror, 12),
    OFFSET(carso_read_options, seed, 16),
    OFFSET(carso_read_options, epoch, 24),
    SIZE(carso_dataset_options, 24),
    OFFSET(carso_dataset_options, struct_size, 0),
    OFFSET(carso_dataset_options, split, 8),
    OFFSET(carso_dataset_options, channels, 12),
    OFFSET(carso_dataset_options, height, 16),
    OFFSET(carso_dataset_options, width, 20),
    SIZE(carso_reader_options, 48),
    OFFSET(carso_reader_options, struct_size, 0),
    OFFSET(carso_reader_options, batch, 8),
    OFFSET(carso_reader_options, threads, 16),
    OFFSET(carso_reader_options, ahead, 20),
    OFFSET(carso_reader_options, keep_going, 24),
    OFFSET(carso_reader_options, reserved, 28),
    OFFSET(carso_reader_options, first, 32),
    OFFSET(carso_reader_options, reading, 40),
    SIZE(carso_read_batch, 56),
    OFFSET(carso_read_batch, struct_size, 0),
    OFFSET(carso_read_batch, first, 8),
    OFFSET(carso_read_batch, count, 16),
    OFFSET(carso_read_batch, pixels, 24),
    OFFSET(carso_read_batch, labels, 32),
    OFFSET(carso_read_batch, statuses, 40),
    OFFSET(carso_read_batch, messages, 48),
    SIZE(carso_purifier_training_options, 160),
    OFFSET(carso_purifier_training_options, struct_size, 0),
    OFFSET(carso_purifier_training_options, steps_per_epoch, 8),
    OFFSET(carso_purifier_training_options, epochs, 12),
    OFFSET(carso_purifier_training_options, sub_batch, 16),
    OFFSET(carso_purifier_training_options, schedule_by_step, 20),
    OFFSET(carso_purifier_training_options, adversarial_fraction, 24),
    OFFSET(carso_purifier_training_options, epsilon, 32),
    OFFSET(carso_purifier_training_options, pgd_steps, 40),
    OFFSET(carso_purifier_training_options, lookahead_steps, 44),
    OFFSET(carso_purifier_training_options, pgd_step_size, 48),
    OFFSET(carso_purifier_training_options, lookahead_rate, 56),
    OFFSET(carso_purifier_training_options, learning_rate_start, 64),
    OFFSET(carso_purifier_training_options, learning_rate_peak, 72),
    OFFSET(carso_purifier_training_options, learning_rate_end, 80),
    OFFSET(carso_purifier_training_options, warm_up_epochs, 88),
    OFFSET(carso_purifier_training_options, plateau_epochs, 96),
    OFFSET(carso_purifier_training_options, annealing_epochs, 104),
    OFFSET(carso_purifier_training_options, beta_start_epoch, 112),
    OFFSET(carso_purifier_training_options, beta_full_epoch, 120),
    OFFSET(carso_purifier_training_options, beta_final, 128),
    OFFSET(carso_purifier_training_options, free_bits, 136),
    OFFSET(carso_purifier_training_options, mean_loss, 144),
    OFFSET(carso_purifier_training_options, epsilon_over_deviation, 148),
    OFFSET(carso_purifier_training_options, seed, 152),
    SIZE(carso_classifier_training_options, 104),
    OFFSET(carso_classifier_training_options, struct_size, 0),
    OFFSET(carso_classifier_training_options, steps_per_epoch, 8),
    OFFSET(carso_classifier_training_options, epochs, 12),
    OFFSET(carso_classifier_training_options, sub_batch, 16),
    OFFSET(carso_classifier_training_options, pgd_steps, 20),
    OFFSET(carso_classifier_training_options, epsilon, 24),
    OFFSET(carso_classifier_training_options, pgd_step_size, 32),
    OFFSET(carso_classifier_training_options, epsilon_ramp_epochs, 40),
    OFFSET(carso_classifier_training_options, trades_beta, 48),
    OFFSET(carso_classifier_training_options, learning_rate, 56),
    OFFSET(carso_classifier_training_options, momentum, 64),
    OFFSET(carso_classifier_training_options, weight_decay, 72),
    OFFSET(carso_classifier_training_options, warm_up_epochs, 80),
    OFFSET(carso_classifier_training_options, label_smoothing, 88),
    OFFSET(carso_classifier_training_options, seed, 96),
    SIZE(carso_train_report, 112),
    OFFSET(carso_train_report, struct_size, 0),
    OFFSET(carso_train_report, step, 8),
    OFFSET(carso_train_report, epoch, 16),
    OFFSET(carso_train_report, learning_rate, 24),
    OFFSET(carso_train_report, loss, 32),
    OFFSET(carso_train_report, gradient_norm, 40),
    OFFSET(carso_train_report, adversarial_share, 48),
    OFFSET(carso_train_report, reconstruction, 56),
    OFFSET(carso_train_report, kl, 64),
    OFFSET(carso_train_report, beta, 72),
    OFFSET(carso_train_report, draw_diversity, 80),
    OFFSET(carso_train_report, collapsed, 88),
    OFFSET(carso_train_report, reserved, 92),
    OFFSET(carso_train_report, epsilon, 96),
    OFFSET(carso_train_report, accuracy, 104),
};

static void compare(const pin *pins, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ck_assert_msg(pins[i].actual == pins[i].pinned, "%s is %lld; the interface says %lld", pins[i].name,
                      pins[i].actual, pins[i].pinned);
}

START_TEST(enumerations_keep_their_values)
{
    compare(values, sizeof values / sizeof *values);
}
END_TEST

START_TEST(structs_keep_their_layout)
{
    if (sizeof(size_t) == 8 && sizeof(void *) == 8)
        compare(structs, sizeof structs / sizeof *structs);
}
END_TEST

/* Versions: the shared library's name carries the major number, applications compare the sum. */
START_TEST(the_version_is_one_number)
{
    ck_assert_int_eq(carso_abi_version(), CARSO_ABI_MAJOR * 1000 + CARSO_ABI_MINOR);
    ck_assert_int_eq(CARSO_ABI_MAJOR, 0);
}
END_TEST

typedef struct initialiser {
    const char *name;
    void (*fill)(void *options, size_t size);
    size_t size;
} initialiser;

/* Calling through another function type is undefined; so each has a wrapper. */
#define INITIALISER(type)                               \
    static void fill_##type(void *options, size_t size) \
    {                                                   \
        carso_##type##_init(options, size);             \
    }
INITIALISER(context_options)
INITIALISER(images)
INITIALISER(model_options)
INITIALISER(purifier_options)
INITIALISER(predict_options)
INITIALISER(gradient_options)
INITIALISER(attack_options)
INITIALISER(read_options)
INITIALISER(dataset_options)
INITIALISER(reader_options)
INITIALISER(purifier_training_options)
INITIALISER(classifier_training_options)
#define ENTRY(type) {#type, fill_##type, sizeof(carso_##type)}

static const initialiser initialisers[] = {
    ENTRY(context_options),
    ENTRY(images),
    ENTRY(model_options),
    ENTRY(purifier_options),
    ENTRY(predict_options),
    ENTRY(gradient_options),
    ENTRY(attack_options),
    ENTRY(read_options),
    ENTRY(dataset_options),
    ENTRY(reader_options),
    ENTRY(purifier_training_options),
    ENTRY(classifier_training_options),
};

#define GUARD 0xa5
#define ROOM 512

static size_t stated_size(const unsigned char *options)
{
    size_t size;
    memcpy(&size, options, sizeof size);
    return size;
}

START_TEST(initialisers_write_what_they_are_told)
{
    const initialiser *const checked = &initialisers[_i];
    unsigned char whole[ROOM], part[ROOM];
    ck_assert_uint_le(checked->size + 64, sizeof whole);
    memset(whole, GUARD, sizeof whole);
    checked->fill(whole, checked->size);
    ck_assert_uint_eq(stated_size(whole), checked->size);
    for (size_t i = checked->size; i < sizeof whole; i++)
        ck_assert_msg(whole[i] == GUARD, "%s: byte %zu was written", checked->name, i);

    for (size_t size = 0; size < checked->size + 64; size++) {
        memset(part, GUARD, sizeof part);
        checked->fill(part, size);
        const size_t written = size < sizeof(size_t) ? 0 : size;
        if (written > 0)
            ck_assert_uint_eq(stated_size(part), size);
        for (size_t i = sizeof(size_t); i < written; i++)
            ck_assert_msg(part[i] == (i < checked->size ? whole[i] : 0), "%s of %zu bytes: byte %zu is %u",
                          checked->name, size, i, part[i]);
        for (size_t i = written; i < sizeof part; i++)
            ck_assert_msg(part[i] == GUARD, "%s of %zu bytes: byte %zu was written", checked->name, size, i);
    }
    checked->fill(NULL, checked->size);
}
END_TEST

static carso_context *make_context(void)
{
    carso_context_options options;
    carso_context *context = NULL;
    carso_context_options_init(&options, sizeof options);
    options.backend = "reference";
    options.threads = 1;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
    return context;
}

static carso_model *make_model(carso_context *context)
{
    carso_model_options options;
    carso_model *model = NULL;
    carso_model_options_init(&options, sizeof options);
    options.channels = 1;
    options.image_height = options.image_width = 28;
    options.classes = 4;
    ck_assert_int_eq(carso_model_create(context, &options, &model), CARSO_OK);
    return model;
}

/* The struct of an older release: what lies beyond its size is not the library's, whatever it holds. */
START_TEST(an_older_application_s_options_work)
{
    carso_context_options context_options;
    carso_context *context = NULL;
    memset(&context_options, GUARD, sizeof context_options);
    carso_context_options_init(&context_options, offsetof(carso_context_options, log_level));
    context_options.backend = "reference";
    context_options.threads = 2;
    ck_assert_int_eq(carso_context_create(&context_options, &context), CARSO_OK);
    ck_assert_int_eq(carso_context_threads(context), 2);

    carso_model_options model_options;
    carso_model *model = NULL;
    memset(&model_options, GUARD, sizeof model_options);
    carso_model_options_init(&model_options, offsetof(carso_model_options, mean));
    model_options.channels = 1;
    model_options.image_height = model_options.image_width = 28;
    model_options.classes = 4;
    ck_assert_int_eq(carso_model_create(context, &model_options, &model), CARSO_OK);

    static const uint8_t pixels[28 * 28] = {0};
    carso_images images;
    memset(&images, GUARD, sizeof images);
    carso_images_init(&images, offsetof(carso_images, pixel_stride));
    images.data = pixels;
    images.width = images.height = 28;
    images.order = CARSO_ORDER_GRAY;
    carso_predict_options predict_options;
    carso_prediction *prediction = NULL;
    memset(&predict_options, GUARD, sizeof predict_options);
    carso_predict_options_init(&predict_options, offsetof(carso_predict_options, keep_reconstructions));
    ck_assert_int_eq(carso_predict(model, &images, &predict_options, &prediction), CARSO_OK);
    ck_assert_uint_eq(carso_prediction_count(prediction), 1);
    carso_prediction_destroy(prediction);
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

START_TEST(a_newer_application_s_options_work)
{
    struct {
        carso_model_options known;
        uint64_t appended;
    } options;
    carso_context *const context = make_context();
    carso_model *model = NULL;
    memset(&options, GUARD, sizeof options);
    carso_model_options_init(&options.known, sizeof options);
    ck_assert_uint_eq(options.known.struct_size, sizeof options);
    ck_assert_uint_eq(options.appended, 0);
    options.known.channels = 1;
    options.known.image_height = options.known.image_width = 28;
    options.appended = 7;
    ck_assert_int_eq(carso_model_create(context, &options.known, &model), CARSO_OK);
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

START_TEST(information_is_cut_or_extended_to_the_caller_s_size)
{
    carso_context *const context = make_context();
    carso_model *const model = make_model(context);
    union {
        carso_model_info known;
        unsigned char bytes[sizeof(carso_model_info) + 32];
    } info;
    const size_t older = offsetof(carso_model_info, has_purifier);
    memset(&info, GUARD, sizeof info);
    info.known.struct_size = older;
    ck_assert_int_eq(carso_model_get_info(model, &info.known), CARSO_OK);
    ck_assert_uint_eq(info.known.struct_size, older);
    ck_assert_int_eq(info.known.classes, 4);
    for (size_t i = older; i < sizeof info; i++)
        ck_assert_msg(info.bytes[i] == GUARD, "byte %zu was written", i);

    memset(&info, GUARD, sizeof info);
    info.known.struct_size = sizeof info;
    ck_assert_int_eq(carso_model_get_info(model, &info.known), CARSO_OK);
    ck_assert_int_eq(info.known.has_purifier, 0);
    for (size_t i = sizeof(carso_model_info); i < sizeof info; i++)
        ck_assert_msg(info.bytes[i] == 0, "byte %zu is %u", i, info.bytes[i]);
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

START_TEST(a_size_that_was_never_set_is_refused)
{
    static const size_t wrong[] = {0, 1, sizeof(size_t) - 1, (size_t)-1};
    carso_context *const context = make_context();
    carso_model *const model = make_model(context);
    carso_model_options options;
    carso_model_options_init(&options, sizeof options);
    options.struct_size = wrong[_i];
    carso_model *other = NULL;
    ck_assert_int_eq(carso_model_create(context, &options, &other), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(other);
    carso_model_info info;
    info.struct_size = wrong[_i];
    ck_assert_int_eq(carso_model_get_info(model, &info), CARSO_ERROR_INVALID_ARGUMENT);
    carso_model_destroy(model);
    carso_context_destroy(context);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("abi");
    TCase *const layout = tcase_create("layout");
    tcase_add_test(layout, the_version_is_one_number);
    tcase_add_test(layout, enumerations_keep_their_values);
    tcase_add_test(layout, structs_keep_their_layout);
    suite_add_tcase(suite, layout);
    TCase *const sizes = tcase_create("sizes");
    tcase_add_loop_test(sizes, initialisers_write_what_they_are_told, 0,
                        (int)(sizeof initialisers / sizeof *initialisers));
    tcase_add_test(sizes, an_older_application_s_options_work);
    tcase_add_test(sizes, a_newer_application_s_options_work);
    tcase_add_test(sizes, information_is_cut_or_extended_to_the_caller_s_size);
    tcase_add_loop_test(sizes, a_size_that_was_never_set_is_refused, 0, 4);
    suite_add_tcase(suite, sizes);
    SRunner *const runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
