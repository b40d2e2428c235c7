/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How far float32 is from double on a model and its images, by each way of computing that the build has:
 *
 *   accuracy MODEL DATASET [IMAGES [STEPS [DRAWS [EPSILON [STEP]]]]]
 *
 * Images of the test split are attacked along the path that PGD takes in double (reference-double: slow): from a
 * uniform start within EPSILON, STEPS steps of STEP along the sign of the gradient; the classifier with cross-entropy,
 * and the defence, if the model has one, with cross-entropy of the mean probabilities of DRAWS draws. At each point
 * every other way computes logits and gradient of the same image with the same draws. Errors are relative to the root
 * mean square of the image's logits, or gradient, in double. What is "flipped" has another sign than in double.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attack/losses.h"
#include "base/random.h"
#include "carso/carso.h"

enum { WAYS = 5, OBJECTIVES = 2 };

typedef struct way {
    const char *name, *backend;
    carso_convolution convolution;
    carso_context *context;
    carso_model *model;
    double *logits, *gradient;
} way;

/* All errors of one kind. */
typedef struct sample {
    size_t count, capacity;
    float *value;
} sample;

typedef struct findings {
    sample logits, gradient; /* of elements */
    sample whole;            /* of each image's gradient: root mean square of the errors */
    size_t components, flipped;
    double most_flipped;    /* share of an image's components */
    double largest_flipped; /* component, relative to the root mean square */
} findings;

typedef struct settings {
    const char *model, *data;
    int images, steps, draws;
    double epsilon, step;
} settings;

typedef struct input {
    int count;
    size_t pixels; /* of an image */
    float *image;  /* [count][C][H][W]; the point of the path */
    float *clean;
    int32_t *label;
    uint64_t *index;
} input;

static void *require(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    return memory;
}

static void succeed(const carso_context *context, carso_status status, const char *what)
{
    char message[1024] = "";
    if (status == CARSO_OK) {
        return;
    }
    if (context != NULL) {
        carso_context_message(context, message, sizeof message);
    }
    fprintf(stderr, "%s: %s: %s\n", what, carso_status_str(status), message);
    exit(2);
}

static void add(sample *to, double value)
{
    if (to->count == to->capacity) {
        to->capacity = to->capacity == 0 ? 4096 : 2 * to->capacity;
        to->value = require(realloc(to->value, to->capacity * sizeof *to->value));
    }
    to->value[to->count++] = (float)value;
}

static int ascending(const void *left, const void *right)
{
    const float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

static double quantile(const sample *sorted, double share)
{
    return sorted->count == 0 ? NAN : (double)sorted->value[(size_t)(share * (double)(sorted->count - 1))];
}

static double root_mean_square(const double *value, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += value[i] * value[i];
    }
    return sqrt(sum / (double)count);
}

static int sign(double value)
{
    return (value > 0) - (value < 0);
}

static void compare_image(findings *found, const double *right, const double *got, size_t pixels)
{
    const double scale = root_mean_square(right, pixels);
    size_t flipped = 0;
    double squares = 0;
    if (!(scale > 0)) {
        return; /* no direction to agree with */
    }
    for (size_t i = 0; i < pixels; i++) {
        const double error = fabs(got[i] - right[i]) / scale;
        add(&found->gradient, error);
        squares += error * error;
        if (sign(got[i]) != sign(right[i])) {
            flipped++;
            found->largest_flipped = fmax(found->largest_flipped, fabs(right[i]) / scale);
        }
    }
    add(&found->whole, sqrt(squares / (double)pixels));
    found->components += pixels;
    found->flipped += flipped;
    found->most_flipped = fmax(found->most_flipped, (double)flipped / (double)pixels);
}

static void compare(findings *found, const way *exact, const way *other, const input *in, int draws, int classes)
{
    for (int i = 0; i < in->count * draws; i++) {
        const double *right = exact->logits + (size_t)i * (size_t)classes;
        const double *got = other->logits + (size_t)i * (size_t)classes;
        const double scale = root_mean_square(right, (size_t)classes);
        for (int j = 0; j < classes; j++) {
            add(&found->logits, fabs(got[j] - right[j]) / scale);
        }
    }
    for (int i = 0; i < in->count; i++) {
        compare_image(found, exact->gradient + (size_t)i * in->pixels, other->gradient + (size_t)i * in->pixels,
                      in->pixels);
    }
}

/* Logits and gradient at the images, which float holds exactly. first_draw: of the latents. */
static void evaluate(way *by, const input *in, bool defence, int draws, uint32_t first_draw)
{
    const size_t count = (size_t)in->count * in->pixels;
    double *images = require(malloc(count * sizeof *images));
    for (size_t i = 0; i < count; i++) {
        images[i] = (double)in->image[i];
    }
    cso_loss_request request = {.loss = defence ? CARSO_LOSS_PROBABILITY_CROSS_ENTROPY : CARSO_LOSS_CROSS_ENTROPY,
                                .labels = in->label,
                                .context = by->context};
    const cso_run run = {.images = images,
                         .element = CSO_F64,
                         .count = in->count,
                         .draws = draws,
                         .purpose = CSO_PURPOSE_ATTACK_LATENT,
                         .image_index = in->index,
                         .first_draw = first_draw,
                         .function = cso_loss_function,
                         .user = &request,
                         .gradient = by->gradient,
                         .logits = by->logits};
    succeed(by->context, defence ? cso_run_defence(by->model, &run) : cso_run_classifier(by->model, &run), by->name);
    free(images);
}

static void start(input *in, double epsilon)
{
    for (int i = 0; i < in->count; i++) {
        const cso_random stream = {.purpose = CSO_PURPOSE_ATTACK_START, .image = in->index[i]};
        float *image = in->image + (size_t)i * in->pixels;
        cso_random_uniform(&stream, 0, in->pixels, image);
        for (size_t j = 0; j < in->pixels; j++) {
            const double clean = (double)in->clean[(size_t)i * in->pixels + j];
            image[j] = (float)fmin(fmax(clean + epsilon * (2 * (double)image[j] - 1), 0), 1);
        }
    }
}

static void step(input *in, const double *gradient, double epsilon, double size)
{
    for (size_t i = 0; i < (size_t)in->count * in->pixels; i++) {
        const double clean = (double)in->clean[i];
        const double moved = (double)in->image[i] + size * sign(gradient[i]);
        in->image[i] = (float)fmin(fmax(fmin(fmax(moved, clean - epsilon), clean + epsilon), 0), 1);
    }
}

static void print(const char *objective, const char *name, findings *found)
{
    sample *const all[] = {&found->logits, &found->gradient, &found->whole};
    for (int i = 0; i < 3; i++) {
        qsort(all[i]->value, all[i]->count, sizeof *all[i]->value, ascending);
    }
    printf("| %s | %s |", objective, name);
    for (int i = 0; i < 3; i++) {
        printf(" %.1e, %.1e, %.1e |", quantile(all[i], 0.5), quantile(all[i], 0.99), quantile(all[i], 1));
    }
    const double components = (double)found->components;
    printf(" %.4f %%, %.3f %%, %.1e |\n", 100 * (1 - (double)found->flipped / components),
           100 * (1 - found->most_flipped), found->largest_flipped);
    fflush(stdout);
    for (int i = 0; i < 3; i++) {
        free(all[i]->value);
    }
}

static void read_images(const settings *with, const carso_model *model, input *in)
{
    carso_context *context = carso_model_context(model);
    carso_dataset *data = NULL;
    carso_dataset_info info = {.struct_size = sizeof info};
    carso_model_info shape = {.struct_size = sizeof shape};
    carso_read_options reading;
    carso_read_options_init(&reading, sizeof reading);
    succeed(context, carso_dataset_open(context, with->data, CARSO_SPLIT_TEST, &data), with->data);
    succeed(context, carso_dataset_get_info(data, &info), with->data);
    succeed(context, carso_model_get_info(model, &shape), with->model);
    if (info.channels != shape.channels || info.height != shape.image_height || info.width != shape.image_width ||
        info.classes > shape.classes) {
        fprintf(stderr, "%s does not fit the model\n", with->data);
        exit(2);
    }
    in->count = info.count < (uint64_t)with->images ? (int)info.count : with->images;
    in->pixels = (size_t)info.channels * (size_t)info.height * (size_t)info.width;
    const size_t count = (size_t)in->count * in->pixels, channels = (size_t)info.channels;
    uint8_t *bytes = require(malloc(count));
    in->image = require(malloc(count * sizeof *in->image));
    in->clean = require(malloc(count * sizeof *in->clean));
    in->label = require(malloc((size_t)in->count * sizeof *in->label));
    in->index = require(malloc((size_t)in->count * sizeof *in->index));
    for (int i = 0; i < in->count; i++) {
        in->index[i] = (uint64_t)i;
    }
    succeed(context, carso_dataset_read(data, in->index, (size_t)in->count, &reading, bytes, in->label), with->data);
    const size_t plane = in->pixels / channels;
    for (size_t i = 0; i < count; i++) {
        const size_t image = i / in->pixels, channel = i % in->pixels / plane, position = i % plane;
        in->clean[i] = (float)bytes[image * in->pixels + position * channels + channel] / 255.0f;
    }
    free(bytes);
    carso_dataset_destroy(data);
}

/* false: the build or the machine does not have it. */
static bool open_way(way *by, const char *path)
{
    carso_context_options options;
    carso_context_options_init(&options, sizeof options);
    options.backend = by->backend;
    options.convolution = by->convolution;
    const carso_status status = carso_context_create(&options, &by->context);
    if (status == CARSO_ERROR_NOT_FOUND || status == CARSO_ERROR_UNSUPPORTED) {
        return false;
    }
    succeed(NULL, status, by->backend);
    succeed(by->context, carso_model_load(by->context, path, &by->model), path);
    return true;
}

/* Compares the other ways with the first along the path. */
static void walk(const settings *with, way *ways, const bool *there, input *in, bool defence)
{
    carso_model_info info = {.struct_size = sizeof info};
    const int draws = defence ? with->draws : 1;
    findings found[WAYS];
    memset(found, 0, sizeof found);
    carso_model_get_info(ways[0].model, &info);
    for (int i = 0; i < WAYS; i++) {
        ways[i].logits = require(calloc((size_t)in->count * (size_t)draws * (size_t)info.classes, sizeof(double)));
        ways[i].gradient = require(calloc((size_t)in->count * in->pixels, sizeof(double)));
    }
    start(in, with->epsilon);
    for (int i = 0; i < with->steps; i++) {
        evaluate(&ways[0], in, defence, draws, (uint32_t)(i * draws));
        for (int j = 1; j < WAYS; j++) {
            if (there[j]) {
                evaluate(&ways[j], in, defence, draws, (uint32_t)(i * draws));
                compare(&found[j], &ways[0], &ways[j], in, draws, info.classes);
            }
        }
        step(in, ways[0].gradient, with->epsilon, with->step);
        fprintf(stderr, "\r%s: step %d of %d", defence ? "defence" : "classifier", i + 1, with->steps);
    }
    fprintf(stderr, "\n");
    for (int i = 0; i < WAYS; i++) {
        if (i > 0 && there[i]) {
            print(defence ? "defence" : "classifier", ways[i].name, &found[i]);
        }
        free(ways[i].logits);
        free(ways[i].gradient);
    }
}

static double number(int argc, char **argv, int position, double usual)
{
    return argc > position ? strtod(argv[position], NULL) : usual;
}

int main(int argc, char **argv)
{
    way ways[WAYS] = {{.name = "double", .backend = "reference-double"},
                      {.name = "oneDNN, automatic", .backend = "onednn"},
                      {.name = "oneDNN, precise", .backend = "onednn", .convolution = CARSO_CONVOLUTION_PRECISE},
                      {.name = "oneDNN, direct", .backend = "onednn", .convolution = CARSO_CONVOLUTION_DIRECT},
                      {.name = "reference, float", .backend = "reference"}};
    bool there[WAYS];
    input in = {0};
    if (argc < 3 || argc > 8) {
        fprintf(stderr, "usage: accuracy MODEL DATASET [IMAGES [STEPS [DRAWS [EPSILON [STEP]]]]]\n");
        return 2;
    }
    const settings with = {.model = argv[1],
                           .data = argv[2],
                           .images = (int)number(argc, argv, 3, 8),
                           .steps = (int)number(argc, argv, 4, 10),
                           .draws = (int)number(argc, argv, 5, 4),
                           .epsilon = number(argc, argv, 6, 8. / 255),
                           .step = number(argc, argv, 7, 2. / 255)};
    if (with.images < 1 || with.steps < 1 || with.draws < 1) {
        fprintf(stderr, "images, steps and draws must be 1 or more\n");
        return 2;
    }
    for (int i = 0; i < WAYS; i++) {
        there[i] = open_way(&ways[i], with.model);
    }
    read_images(&with, ways[0].model, &in);
    carso_model_info info = {.struct_size = sizeof info};
    carso_model_get_info(ways[0].model, &info);
    printf("%d images, %d steps of %g within %g, %d draws\n\n", in.count, with.steps, with.step, with.epsilon,
           with.draws);
    puts("| objective | way | logits: median, 99th percentile, largest error | gradient's elements | whole gradients | "
         "signs that agree: of all, of the worst image; largest flipped |\n| --- | --- | --- | --- | --- | --- |");
    for (int objective = 0; objective < (info.has_purifier ? OBJECTIVES : 1); objective++) {
        walk(&with, ways, there, &in, objective == 1);
    }
    for (int i = 0; i < WAYS; i++) {
        if (there[i]) {
            carso_model_destroy(ways[i].model);
            carso_context_destroy(ways[i].context);
        }
    }
    free(in.image);
    free(in.clean);
    free(in.label);
    free(in.index);
    return 0;
}
