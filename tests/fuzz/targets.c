/* SPDX-License-Identifier: BSD-2-Clause */
#include "targets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "carso/carso.h"

/* More than any seed needs. What asks for more gets none, as on a machine that has no more. */
#define MOST_MEMORY (256u << 20)
/* Operations of a network beyond which it is loaded, but not run: a file may well ask for much work. */
#define MOST_MULTIPLY_ADDS 20000000u
#define MOST_IMAGES 64

const char *const target_names[TARGET_COUNT] = {"model",       "checkpoint", "idx images", "idx labels", "idx.gz",
                                                "cifar10",     "cifar100",   "png",        "jpeg",
                                                "weights"};

#define REQUIRE(condition)                                                                                                  \
    do {                                                                                                                    \
        if (!(condition)) {                                                                                                 \
            fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #condition);                                 \
            abort();                                                                                                        \
        }                                                                                                                   \
    } while (0)

/* The size of an allocation stands before it, with room for the largest alignment. */
#define PREFIX 4096

static void *allocate(size_t size, size_t alignment, void *user)
{
    size_t *held = user;
    void *memory = NULL;
    if (size > MOST_MEMORY - *held || alignment > PREFIX || posix_memalign(&memory, PREFIX, size + PREFIX) != 0) {
        return NULL;
    }
    *held += size;
    *(size_t *)memory = size;
    return (char *)memory + PREFIX;
}

static void release(void *memory, void *user)
{
    size_t *held = user;
    char *start = (char *)memory - PREFIX;
    *held -= *(size_t *)(void *)start;
    free(start);
}

/* Whether the call succeeded; if not, that it failed as promised. */
static bool succeeded(const carso_context *context, carso_status status, const void *handle)
{
    char message[512];
    if (status == CARSO_OK) {
        return true;
    }
    REQUIRE(handle == NULL);
    REQUIRE(strcmp(carso_status_str(status), "unknown status") != 0);
    REQUIRE(status != CARSO_ERROR_INTERNAL && status != CARSO_ERROR_INVALID_ARGUMENT);
    REQUIRE(carso_context_message(context, message, sizeof message) > 0);
    return false;
}

static void write_file(const char *folder, const char *name, const void *data, size_t size)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    REQUIRE(file && fwrite(data, 1, size, file) == size && fclose(file) == 0);
}

static carso_images blank(const carso_model_info *info, const void *pixels, uint64_t count)
{
    carso_images images;
    carso_images_init(&images, sizeof images);
    images.data = pixels;
    images.count = count;
    images.width = info->image_width;
    images.height = info->image_height;
    images.order = info->channels == 1 ? CARSO_ORDER_GRAY : CARSO_ORDER_RGB;
    return images;
}

static void use_model(const carso_model *model)
{
    carso_context *context = carso_model_context(model);
    carso_model_info info = {.struct_size = sizeof info};
    REQUIRE(carso_model_get_info(model, &info) == CARSO_OK);
    REQUIRE(info.channels >= 1 && info.image_height >= 1 && info.image_width >= 1 && info.classes >= 1);
    for (int32_t i = 0; i < info.classes && i < 100; i++) {
        REQUIRE(carso_model_class_name(model, i) != NULL);
    }
    carso_model_describe(model);
    size_t size = (size_t)info.channels * (size_t)info.image_height * (size_t)info.image_width;
    if (info.classifier_multiply_adds + info.condition_multiply_adds + info.decoder_multiply_adds >
            MOST_MULTIPLY_ADDS ||
        size > 1u << 20) {
        return;
    }
    uint8_t *pixels = calloc(size, 1);
    REQUIRE(pixels);
    carso_images images = blank(&info, pixels, 1);
    carso_predict_options options;
    carso_prediction *prediction = NULL;
    carso_predict_options_init(&options, sizeof options);
    options.draws = 1;
    if (succeeded(context, carso_predict(model, &images, &options, &prediction), prediction)) {
        int32_t label = carso_prediction_labels(prediction)[0];
        REQUIRE(label >= 0 && label < info.classes);
    }
    carso_prediction_destroy(prediction);
    prediction = NULL;
    if (info.has_purifier) {
        succeeded(context, carso_predict_robust(model, &images, &options, &prediction), prediction);
        carso_prediction_destroy(prediction);
    }
    free(pixels);
}

static bool run_model(carso_context *context, const uint8_t *data, size_t size)
{
    carso_model *model = NULL;
    bool loaded = succeeded(context, carso_model_load_memory(context, data, size, &model), model);
    if (loaded) {
        use_model(model);
        carso_model_destroy(model);
    }
    return loaded;
}

/* Into the structure that the seed has. */
static bool run_weights(carso_context *context, const uint8_t *data, size_t size, const char *folder)
{
    char path[4096];
    const char *name = path;
    carso_model_options options;
    carso_purifier_options purifier;
    carso_model *classifier, *model, *imported = NULL;
    carso_model_options_init(&options, sizeof options);
    carso_purifier_options_init(&purifier, sizeof purifier);
    options.channels = 1;
    options.image_height = options.image_width = 28;
    options.classes = 2;
    purifier.condition_size = 4;
    purifier.latent_size = 2;
    purifier.seed_channels = 16;
    REQUIRE(carso_model_create(context, &options, &classifier) == CARSO_OK);
    REQUIRE(carso_model_add_purifier(classifier, &purifier, &model) == CARSO_OK);
    snprintf(path, sizeof path, "%s/weights", folder);
    write_file(folder, "weights", data, size);
    bool accepted = succeeded(context, carso_model_import(model, &name, 1, &imported), imported);
    if (accepted) {
        use_model(imported);
        carso_model_destroy(imported);
    }
    carso_model_destroy(model);
    carso_model_destroy(classifier);
    return accepted;
}

/* Whether all numbers of attack steps in the file are small: as many as it says would be done. */
static bool few_steps(const uint8_t *data, size_t size)
{
    static const char name[] = "pgd_steps";
    const uint8_t *end = data + size;
    for (const uint8_t *at = data; (at = memmem(at, (size_t)(end - at), name, sizeof name - 1)) != NULL; at++) {
        const uint8_t *digit = at + sizeof name - 1;
        while (digit < end && (*digit < '0' || *digit > '9') && *digit != '}') {
            digit++;
        }
        if (end - digit < 2 || *digit > '2' || (digit[1] >= '0' && digit[1] <= '9') || digit[1] == 'e') {
            return false;
        }
    }
    return true;
}

static void use_trainer(carso_trainer *trainer, bool step)
{
    carso_model *model = NULL;
    carso_model_info info = {.struct_size = sizeof info};
    carso_train_report report = {.struct_size = sizeof report};
    if (carso_trainer_get_model(trainer, &model) != CARSO_OK) {
        return;
    }
    REQUIRE(carso_model_get_info(model, &info) == CARSO_OK);
    size_t size = (size_t)info.channels * (size_t)info.image_height * (size_t)info.image_width;
    if (step &&
        info.classifier_multiply_adds + info.condition_multiply_adds + info.decoder_multiply_adds <=
            MOST_MULTIPLY_ADDS &&
        size <= 1u << 20) {
        static const int32_t labels[2];
        uint8_t *pixels = calloc(size, 2);
        REQUIRE(pixels);
        for (size_t i = 0; i < 2 * size; i++) {
            pixels[i] = (uint8_t)(i * 37);
        }
        carso_images images = blank(&info, pixels, 2);
        succeeded(carso_model_context(model), carso_train_step(trainer, &images, labels, &report), NULL);
        free(pixels);
    }
    carso_model_destroy(model);
}

static bool run_checkpoint(carso_context *context, const uint8_t *data, size_t size, const char *folder)
{
    char path[4096];
    carso_trainer *trainer = NULL;
    write_file(folder, "checkpoint", data, size);
    snprintf(path, sizeof path, "%s/checkpoint", folder);
    bool loaded = succeeded(context, carso_trainer_load(context, path, &trainer), trainer);
    if (loaded) {
        use_trainer(trainer, few_steps(data, size));
        carso_trainer_destroy(trainer);
    }
    return loaded;
}

static bool run_dataset(carso_context *context, const char *folder)
{
    carso_dataset *dataset = NULL;
    carso_dataset_info info = {.struct_size = sizeof info};
    if (!succeeded(context, carso_dataset_open(context, folder, CARSO_SPLIT_TEST, &dataset), dataset)) {
        return false;
    }
    REQUIRE(carso_dataset_get_info(dataset, &info) == CARSO_OK);
    REQUIRE(info.count > 0 && info.classes > 0 && (info.channels == 1 || info.channels == 3));
    size_t image_size = (size_t)info.channels * (size_t)info.height * (size_t)info.width;
    if (image_size <= 1u << 20) {
        uint8_t *pixels = malloc(image_size);
        REQUIRE(pixels);
        for (uint64_t i = 0; i < info.count && i < MOST_IMAGES; i++) {
            int32_t label = -1;
            REQUIRE(carso_dataset_read(dataset, &i, 1, NULL, pixels, &label) == CARSO_OK);
            REQUIRE(label >= 0 && label < info.classes && carso_dataset_class_name(dataset, label));
        }
        free(pixels);
    }
    carso_dataset_destroy(dataset);
    return true;
}

static bool run_idx(carso_context *context, target_kind kind, const uint8_t *data, size_t size, const char *folder)
{
    static const uint8_t images[16 + 2 * 6] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3};
    static const uint8_t labels[8 + 2] = {0, 0, 8, 1, 0, 0, 0, 2, 1, 0};
    static const char images_name[] = "t10k-images-idx3-ubyte", labels_name[] = "t10k-labels-idx1-ubyte";
    if (kind == TARGET_IDX_LABELS) {
        write_file(folder, images_name, images, sizeof images);
        write_file(folder, labels_name, data, size);
    } else {
        write_file(folder, kind == TARGET_IDX_GZIP ? "t10k-images-idx3-ubyte.gz" : images_name, data, size);
        write_file(folder, labels_name, labels, sizeof labels);
    }
    return run_dataset(context, folder);
}

static bool run_image(carso_context *context, const uint8_t *data, size_t size, const char *folder)
{
    char path[4096];
    carso_image *image = NULL;
    carso_images described;
    write_file(folder, "image", data, size);
    snprintf(path, sizeof path, "%s/image", folder);
    if (!succeeded(context, carso_image_read(context, path, &image), image)) {
        return false;
    }
    carso_images_init(&described, sizeof described);
    REQUIRE(carso_image_get_images(image, &described) == CARSO_OK);
    size_t bytes = (size_t)described.width * (size_t)described.height * (described.order == CARSO_ORDER_GRAY ? 1 : 3);
    const uint8_t *pixels = described.data;
    unsigned sum = 0;
    for (size_t i = 0; i < bytes; i++) {
        sum += pixels[i];
    }
    REQUIRE(sum <= bytes * 255);
    carso_image_destroy(image);
    return true;
}

bool target_run(target_kind kind, const uint8_t *data, size_t size, const char *folder, bool fastest_backend)
{
    size_t held = 0;
    bool accepted = false;
    carso_context_options options;
    carso_context *context;
    carso_context_options_init(&options, sizeof options);
    options.backend = fastest_backend ? NULL : "reference";
    options.threads = 1;
    options.allocator = (carso_allocator){allocate, release, &held};
    REQUIRE(carso_context_create(&options, &context) == CARSO_OK);
    switch (kind) {
    case TARGET_MODEL:
        accepted = run_model(context, data, size);
        break;
    case TARGET_CHECKPOINT:
        accepted = run_checkpoint(context, data, size, folder);
        break;
    case TARGET_IDX_IMAGES:
    case TARGET_IDX_LABELS:
    case TARGET_IDX_GZIP:
        accepted = run_idx(context, kind, data, size, folder);
        break;
    case TARGET_CIFAR10:
        write_file(folder, "test_batch.bin", data, size);
        accepted = run_dataset(context, folder);
        break;
    case TARGET_CIFAR100:
        write_file(folder, "test.bin", data, size);
        accepted = run_dataset(context, folder);
        break;
    case TARGET_PNG:
    case TARGET_JPEG:
        accepted = run_image(context, data, size, folder);
        break;
    case TARGET_WEIGHTS:
        accepted = run_weights(context, data, size, folder);
        break;
    case TARGET_COUNT:
        break;
    }
    carso_context_destroy(context);
    REQUIRE(held == 0);
    return accepted;
}
