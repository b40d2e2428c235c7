/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Winograd's filtering against oneDNN's direct convolution, interleaved in one process, 3x3, stride 1, padding 1:
 * medians and errors against sums in double. The last column says which of the two the backend uses.
 * Usage: bench_convolution [precise] [little] [avx2]. precise: complex points in place of real ones. little: under the
 * default memory limit, with which large weights are not kept transformed. avx2: Winograd's kernels (not oneDNN's: for
 * that set DNNL_MAX_CPU_ISA) for AVX2.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/onednn/winograd.h"
#include "graph/parameter.h"

enum { MOST_ROUNDS = 201, LEAST_ROUNDS = 11, SAMPLES = 4000 };
#define SECONDS 0.5

typedef struct work {
    carso_context *context;
    cso_geometry geometry;
    cso_product product;
    cso_parameter *weight;
    float *x, *direct, *filtered, *bias;
    size_t in_count, out_count;
} work;

static void *require(void *memory)
{
    if (!memory) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    return memory;
}

static void succeed(const carso_context *context, carso_status status)
{
    char message[CSO_MESSAGE_SIZE] = "";
    if (status != CARSO_OK) {
        if (context) {
            carso_context_message(context, message, sizeof message);
        }
        fprintf(stderr, "%s: %s\n", carso_status_str(status), message);
        exit(2);
    }
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* About normal: the sum of four uniform numbers, with variance 1. */
static float normal(uint64_t *state)
{
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        *state = *state * 6364136223846793005U + 1442695040888963407U;
        sum += (double)(*state >> 33) * 0x1p-31 - 0.5;
    }
    return (float)(sum * sqrt(3.0));
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return values[count / 2];
}

static double exact(const work *it, size_t position)
{
    const cso_geometry *const g = &it->geometry;
    const bool turned = it->product == CSO_PRODUCT_SOURCE;
    const int64_t in = turned ? g->destination[0] : g->source[0], out = turned ? g->source[0] : g->destination[0];
    const int64_t height = g->source[1], width = g->source[2], o = (int64_t)position % out;
    const int64_t x = (int64_t)position / out % width, y = (int64_t)position / out / width % height;
    const int64_t image = (int64_t)position / out / width / height;
    const float *const weight = it->weight->data;
    double sum = turned ? 0 : (double)it->bias[o];
    for (int64_t i = 0; i < 3; i++) {
        for (int64_t j = 0; j < 3; j++) {
            const int64_t row = y + i - 1, column = x + j - 1;
            if (row < 0 || row >= height || column < 0 || column >= width) {
                continue;
            }
            const float *const pixel = it->x + ((image * height + row) * width + column) * in;
            for (int64_t c = 0; c < in; c++) {
                const int64_t tap = i * 3 + j;
                const float w = weight[turned ? (c * out + o) * 9 + 8 - tap : (o * in + c) * 9 + tap];
                sum += (double)pixel[c] * (double)w;
            }
        }
    }
    return sum;
}

/* Over the root mean square of the results. */
static void errors(const work *it, double largest[2], double mean[2])
{
    double squares = 0;
    uint64_t state = 7;
    largest[0] = largest[1] = mean[0] = mean[1] = 0;
    for (int i = 0; i < SAMPLES; i++) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        const size_t position = (size_t)(state >> 16) % it->out_count;
        const double value = exact(it, position);
        const double error[2] = {fabs((double)it->direct[position] - value),
                                 fabs((double)it->filtered[position] - value)};
        squares += value * value;
        for (int k = 0; k < 2; k++) {
            largest[k] = fmax(largest[k], error[k]);
            mean[k] += error[k] / SAMPLES;
        }
    }
    for (int k = 0; k < 2; k++) {
        largest[k] /= sqrt(squares / SAMPLES);
        mean[k] /= sqrt(squares / SAMPLES);
    }
}

static void measure(int threads, bool precise, bool little, bool avx2, int64_t channels, int64_t side, int64_t batch,
                    cso_product product)
{
    carso_context_options options;
    work it = {.product = product};
    cso_primitive_product *primitive = NULL;
    cso_winograd_product *winograd = NULL;
    cso_fusion fused;
    uint64_t state = 1;
    const int64_t shape[4] = {channels, channels, 3, 3};
    const size_t weights = (size_t)(channels * channels * 9);
    carso_context_options_init(&options, sizeof options);
    options.backend = "onednn";
    options.threads = threads;
    options.memory_limit = little ? 0 : (uint64_t)64 << 30;
    options.convolution = precise ? CARSO_CONVOLUTION_PRECISE : CARSO_CONVOLUTION_AUTOMATIC;
    succeed(NULL, carso_context_create(&options, &it.context));
    cso_device *const device = it.context->device;
    const cso_winograd *set = cso_winograd_of_processor(precise);
#if defined(__x86_64__)
    if (avx2) {
        set = precise ? &cso_winograd_complex_avx2 : &cso_winograd_avx2;
    }
#else
    (void)avx2;
#endif
    if (!set) {
        fprintf(stderr, "nothing to compare\n");
        exit(2);
    }
    it.geometry = (cso_geometry){.batch = batch, .groups = 1, .source = {channels, side, side},
                                 .destination = {channels, side, side}, .kernel = {3, 3}, .stride = {1, 1},
                                 .dilation = {1, 1}, .pad_begin = {1, 1}, .pad_end = {1, 1}};
    it.in_count = it.out_count = (size_t)(batch * side * side * channels);
    float *const values = require(malloc(weights * sizeof *values));
    for (size_t i = 0; i < weights; i++) {
        values[i] = normal(&state) * sqrtf(2.0F / (9 * (float)channels));
    }
    succeed(it.context, cso_parameter_create(it.context, 4, shape, values, &it.weight));
    free(values);
    it.x = require(cso_allocate_raw(it.context, it.in_count, sizeof(float)));
    it.direct = require(cso_allocate(it.context, it.out_count, sizeof(float)));
    it.filtered = require(cso_allocate(it.context, it.out_count, sizeof(float)));
    it.bias = require(cso_allocate(it.context, (size_t)channels, sizeof(float)));
    for (size_t i = 0; i < it.in_count; i++) {
        it.x[i] = normal(&state);
    }
    for (int64_t i = 0; i < channels; i++) {
        it.bias[i] = normal(&state);
    }
    int begun;
    it.context->backend->begin(device, &begun);
    const bool forward = product == CSO_PRODUCT_DESTINATION;
    const cso_fusion wanted = {.bias = forward, .activation = CSO_NO_ACTIVATION};
    succeed(it.context, cso_primitive_product_create(device, &it.geometry, product, it.weight, &wanted, "convolution",
                                                     &primitive, &fused));
    succeed(it.context, cso_winograd_product_create(device, set, &it.geometry, product, it.weight, &winograd));
    if (!primitive) {
        fprintf(stderr, "nothing to compare\n");
        exit(2);
    }
    succeed(it.context, cso_primitive_product_ready(device, primitive));
    succeed(it.context, cso_winograd_product_ready(device, winograd));
    void *const workspace[2] = {require(cso_allocate(it.context, 1, cso_primitive_product_workspace(primitive))),
                                require(cso_allocate(it.context, 1, cso_winograd_product_workspace(winograd)))};
    double time[2][MOST_ROUNDS];
    int rounds = 0;
    const double start = now();
    for (int round = -2; round < MOST_ROUNDS && (round < LEAST_ROUNDS || now() - start < SECONDS); round++) {
        for (int k = 0; k < 2; k++) {
            const cso_product_arguments arguments = {
                .source_in = it.x,
                .destination_in = it.x,
                .out = k == 0 ? it.direct : it.filtered,
                .finish = {.bias = forward ? it.bias : NULL, .activation = CSO_NO_ACTIVATION},
                .workspace = workspace[k]};
            const double before = now();
            succeed(it.context, k == 0 ? cso_primitive_product_run(device, primitive, &arguments)
                                       : cso_winograd_product_run(device, winograd, &arguments));
            if (round >= 0) {
                time[k][round] = now() - before;
                rounds = round + 1;
            }
        }
    }
    it.context->backend->end(device, begun);
    double largest[2], mean[2];
    errors(&it, largest, mean);
    const double direct = median(time[0], rounds), filtered = median(time[1], rounds);
    const double operations = 2.0 * 9 * (double)channels * (double)it.out_count;
    const cso_winograd *const chosen = cso_winograd_choose(device, &it.geometry, product, it.weight);
    const char *const used = chosen == set ? cso_winograd_product_name(winograd)
                             : chosen      ? "other points"
                                           : cso_primitive_product_name(primitive);
    printf("%-8s %4d %4dx%-3d %3d %2d | %8.3f ms %6.0f GFLOP/s | %8.3f ms %6.0f | %5.2f | %.1e %.1e | %.1e %.1e | %s\n",
           forward ? "forward" : "gradient", (int)channels, (int)side, (int)side, (int)batch, threads, 1e3 * direct,
           1e-9 * operations / direct, 1e3 * filtered, 1e-9 * operations / filtered, direct / filtered, largest[0],
           mean[0], largest[1], mean[1], used);
    fflush(stdout);
    for (int k = 0; k < 2; k++) {
        cso_release(it.context, workspace[k]);
    }
    cso_winograd_product_destroy(device, winograd);
    cso_primitive_product_destroy(device, primitive);
    cso_parameter_release(it.weight);
    cso_release(it.context, it.x);
    cso_release(it.context, it.direct);
    cso_release(it.context, it.filtered);
    cso_release(it.context, it.bias);
    carso_context_destroy(it.context);
}

int main(int argument_count, char **arguments)
{
    static const int64_t batches[] = {1, 8};
    static const int64_t shapes[][2] = {{160, 32}, {320, 16}, {640, 8}, {16, 32}, {32, 32},
                                        {64, 32},  {128, 16}, {32, 14}, {64, 7},  {128, 3}};
    bool precise = false, little = false, avx2 = false;
    for (int i = 1; i < argument_count; i++) {
        precise = precise || strcmp(arguments[i], "precise") == 0;
        little = little || strcmp(arguments[i], "little") == 0;
        avx2 = avx2 || strcmp(arguments[i], "avx2") == 0;
    }
    printf("product  channels size batch threads | oneDNN direct, median | Winograd | ratio | "
           "error of direct over rms: largest, mean | of Winograd | used\n");
    for (int threads = 2; threads >= 1; threads--) {
        for (int product = 0; product < 2; product++) {
            for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
                for (size_t k = 0; k < sizeof batches / sizeof batches[0]; k++) {
                    measure(threads, precise, little, avx2, shapes[i][0], shapes[i][1], batches[k],
                            product == 0 ? CSO_PRODUCT_DESTINATION : CSO_PRODUCT_SOURCE);
                }
            }
        }
    }
    return 0;
}
