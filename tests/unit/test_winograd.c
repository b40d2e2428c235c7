/* SPDX-License-Identifier: BSD-2-Clause */
/* Winograd's filtering, whatever the backend would choose: sizes, paddings, instruction sets, threads, memory. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/onednn/winograd.h"
#include "graph/parameter.h"

typedef struct example {
    int64_t batch, in, out, height, width; /* of the convolution's source */
    int64_t pad_begin[2], pad_end[2];
} example;

static const example examples[] = {
    {1, 1, 1, 1, 1, {1, 1}, {1, 1}},     {1, 3, 2, 4, 4, {1, 1}, {1, 1}},     {2, 17, 33, 5, 6, {0, 2}, {2, 1}},
    {3, 8, 15, 3, 3, {0, 0}, {0, 0}},    {1, 31, 7, 2, 9, {2, 1}, {2, 0}},    {2, 40, 64, 11, 13, {1, 1}, {1, 1}},
    {5, 16, 32, 1, 17, {2, 2}, {0, 2}},  {1, 200, 260, 9, 8, {1, 1}, {1, 1}}, {7, 33, 48, 16, 20, {1, 0}, {1, 2}},
    {2, 260, 200, 30, 31, {1, 1}, {1, 1}}, /* several shared blocks */
    {2, 64, 48, 6, 8, {1, 1}, {1, 1}}      /* half made weights serve as they are */
};
enum { EXAMPLES = sizeof examples / sizeof examples[0] };

static cso_geometry geometry_of(const example *it)
{
    cso_geometry g = {.batch = it->batch, .groups = 1, .source = {it->in, it->height, it->width},
                      .destination = {it->out}, .kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}};
    for (int i = 0; i < 2; i++) {
        g.pad_begin[i] = it->pad_begin[i];
        g.pad_end[i] = it->pad_end[i];
        g.destination[1 + i] = g.source[1 + i] + g.pad_begin[i] + g.pad_end[i] - 2;
    }
    return g;
}

/* Few bytes, under which no transformed weights are kept, and blocks are small. */
enum { LITTLE_MEMORY = 1 << 20 };

/* As many under which weights of so many channels are kept half transformed. */
static uint64_t half_memory(const example *it, bool complex_points)
{
    return (uint64_t)(it->in * it->out * (complex_points ? 46 : 36)) * 64;
}

static carso_context *context_of(int threads, uint64_t memory_limit)
{
    carso_context_options options;
    carso_context *context;
    carso_context_options_init(&options, sizeof options);
    options.backend = "onednn";
    options.threads = threads;
    options.memory_limit = memory_limit;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
    return context;
}

static int usable_sets(bool complex_points, const cso_winograd *out[2])
{
    int count = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        out[count++] = complex_points ? &cso_winograd_complex_avx2 : &cso_winograd_avx2;
    }
    if (__builtin_cpu_supports("avx512f")) {
        out[count++] = complex_points ? &cso_winograd_complex_avx512 : &cso_winograd_avx512;
    }
#else
    (void)out;
    (void)complex_points;
#endif
    return count;
}

static float *random_values(size_t count, uint64_t seed)
{
    float *const values = malloc((count + 1) * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < count; i++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        values[i] = (float)((double)(seed >> 33) * 0x1p-30 - 1);
    }
    return values;
}

static size_t count_of(int64_t batch, const int64_t shape[3])
{
    return (size_t)(batch * shape[0] * shape[1] * shape[2]);
}

typedef struct problem {
    cso_geometry geometry;
    cso_product product;
    const int64_t *from, *to; /* shapes */
    size_t from_count, to_count;
    float *x, *weight, *bias, *residual;
} problem;

static void problem_create(const example *source, cso_product product, problem *it)
{
    const bool turned = product == CSO_PRODUCT_SOURCE;
    *it = (problem){.geometry = geometry_of(source), .product = product};
    it->from = turned ? it->geometry.destination : it->geometry.source;
    it->to = turned ? it->geometry.source : it->geometry.destination;
    it->from_count = count_of(it->geometry.batch, it->from);
    it->to_count = count_of(it->geometry.batch, it->to);
    it->x = random_values(it->from_count, 1);
    it->weight = random_values((size_t)(it->from[0] * it->to[0] * 9), 2);
    it->bias = random_values((size_t)it->to[0], 3);
    it->residual = random_values(it->to_count, 4);
}

static void problem_clear(problem *it)
{
    free(it->x);
    free(it->weight);
    free(it->bias);
    free(it->residual);
}

static cso_parameter *parameter_of(const carso_context *context, const problem *it)
{
    const int64_t shape[4] = {it->geometry.destination[0], it->geometry.source[0], 3, 3};
    cso_parameter *weight;
    ck_assert_int_eq(cso_parameter_create(context, 4, shape, it->weight, &weight), CARSO_OK);
    return weight;
}

/* True: filtered from row to row alone. */
static bool run(carso_context *context, const cso_winograd *set, const problem *it, cso_parameter *weight,
                float *out)
{
    cso_winograd_product *product;
    int state;
    ck_assert_int_eq(cso_winograd_product_create(context->device, set, &it->geometry, it->product, weight, &product),
                     CARSO_OK);
    ck_assert_ptr_nonnull(product);
    const size_t bytes = cso_winograd_product_workspace(product);
    unsigned char *const workspace = malloc(bytes + 1);
    ck_assert_ptr_nonnull(workspace);
    memset(workspace, 0xff, bytes + 1); /* NaN */
    const cso_product_arguments arguments = {.source_in = it->x,
                                             .destination_in = it->x,
                                             .out = out,
                                             .finish = {.bias = it->bias,
                                                        .residual = it->residual,
                                                        .activation = CSO_OP_LEAKY_RELU,
                                                        .slope = 0.5F},
                                             .workspace = workspace};
    out[it->to_count] = 42;
    ck_assert_int_eq(cso_winograd_product_ready(context->device, product), CARSO_OK);
    context->backend->begin(context->device, &state);
    ck_assert_int_eq(cso_winograd_product_run(context->device, product, &arguments), CARSO_OK);
    context->backend->end(context->device, state);
    ck_assert(out[it->to_count] == 42);
    ck_assert_uint_eq(workspace[bytes], 0xff);
    free(workspace);
    const bool columnwise = strstr(cso_winograd_product_name(product), "x1:") != NULL;
    cso_winograd_product_destroy(context->device, product);
    return columnwise;
}

static double exact(const problem *it, int64_t image, int64_t y, int64_t x, int64_t o)
{
    const bool turned = it->product == CSO_PRODUCT_SOURCE;
    const int64_t *const from = it->from, *const to = it->to, *const pad = it->geometry.pad_begin;
    double sum = (double)it->bias[o] + (double)it->residual[((image * to[1] + y) * to[2] + x) * to[0] + o];
    for (int64_t i = 0; i < 3; i++) {
        for (int64_t j = 0; j < 3; j++) {
            const int64_t row = turned ? y + pad[0] - i : y - pad[0] + i;
            const int64_t column = turned ? x + pad[1] - j : x - pad[1] + j;
            for (int64_t c = 0; c < from[0] && row >= 0 && row < from[1] && column >= 0 && column < from[2]; c++) {
                const int64_t position = turned ? c * to[0] + o : o * from[0] + c;
                sum += (double)it->x[((image * from[1] + row) * from[2] + column) * from[0] + c] *
                       (double)it->weight[position * 9 + i * 3 + j];
            }
        }
    }
    return sum > 0 ? sum : sum / 2;
}

/* Uniform inputs and weights: errors of some 5e-6 (complex points: 1e-6) of the largest result were seen; ten times that
 * is allowed. */
START_TEST(results_are_near_sums_in_double)
{
    problem it;
    const bool complex_points = _i / 2 >= EXAMPLES;
    const example *const source = &examples[_i / 2 % EXAMPLES];
    const cso_winograd *const set = cso_winograd_of_processor(complex_points);
    problem_create(source, _i % 2 == 0 ? CSO_PRODUCT_DESTINATION : CSO_PRODUCT_SOURCE, &it);
    const uint64_t limits[] = {0, half_memory(source, complex_points)};
    float *out[2] = {NULL};
    for (int k = 0; k < 2; k++) {
        carso_context *const context = context_of(2, limits[k]);
        if (set) {
            cso_parameter *const weight = parameter_of(context, &it);
            out[k] = random_values(it.to_count, 5);
            run(context, set, &it, weight, out[k]);
            cso_parameter_release(weight);
        }
        carso_context_destroy(context);
    }
    double largest = 0, error = 0;
    size_t position = 0;
    for (int64_t image = 0; out[1] && image < it.geometry.batch; image++) {
        for (int64_t y = 0; y < it.to[1]; y++) {
            for (int64_t x = 0; x < it.to[2]; x++) {
                for (int64_t o = 0; o < it.to[0]; o++, position++) {
                    const double wanted = exact(&it, image, y, x, o);
                    largest = fmax(largest, fabs(wanted));
                    for (int k = 0; k < 2; k++) {
                        error = fmax(error, fabs((double)out[k][position] - wanted));
                        ck_assert(isfinite(out[k][position]));
                    }
                }
            }
        }
    }
    ck_assert_double_le(error, (complex_points ? 1e-5 : 5e-5) * largest);
    free(out[0]);
    free(out[1]);
    problem_clear(&it);
}
END_TEST

/* Root mean square of the errors over that of the results, the largest of all instruction sets; 0: none is usable. */
static double error_of(const example *layer, bool complex_points)
{
    problem it;
    problem_create(layer, CSO_PRODUCT_DESTINATION, &it);
    const cso_winograd *sets[2];
    const int set_count = usable_sets(complex_points, sets);
    carso_context *const context = context_of(1, 0);
    float *const out = random_values(it.to_count, 5);
    double largest = 0;
    for (int set = 0; set < set_count; set++) {
        cso_parameter *const weight = parameter_of(context, &it);
        run(context, sets[set], &it, weight, out);
        double squares = 0, errors = 0;
        for (size_t k = 0; k < it.to_count; k++) {
            const int64_t pixel = (int64_t)k / layer->out;
            const double wanted = exact(&it, 0, pixel / layer->width, pixel % layer->width, (int64_t)k % layer->out);
            squares += wanted * wanted;
            errors += ((double)out[k] - wanted) * ((double)out[k] - wanted);
        }
        largest = fmax(largest, sqrt(errors / squares));
        cso_parameter_release(weight);
    }
    free(out);
    carso_context_destroy(context);
    problem_clear(&it);
    return largest;
}

/* Errors of 9.5e-7 of the results' root mean square; of sums in one register 2.3e-6. */
START_TEST(a_sum_over_many_channels_is_not_rounded_at_its_full_size_each_time)
{
    const example layer = {1, 640, 32, 8, 8, {1, 1}, {1, 1}};
    ck_assert_double_le(error_of(&layer, false), 1.5e-6);
}
END_TEST

/* 2.8e-7; real points 8.3e-7. */
START_TEST(complex_points_round_less)
{
    const example layer = {1, 64, 64, 8, 8, {1, 1}, {1, 1}};
    ck_assert_double_le(error_of(&layer, true), 4e-7);
}
END_TEST

/* Whatever the instruction set, the number of threads, the memory, and the images beside an image, in each direction of
 * filtering. */
START_TEST(bits_depend_on_the_image_alone)
{
    problem it;
    const bool complex_points = _i / 2 >= EXAMPLES;
    problem_create(&examples[_i / 2 % EXAMPLES], _i % 2 == 0 ? CSO_PRODUCT_DESTINATION : CSO_PRODUCT_SOURCE, &it);
    const cso_winograd *sets[2];
    const int set_count = usable_sets(complex_points, sets);
    const size_t image = it.to_count / (size_t)it.geometry.batch;
    float *const first[2] = {random_values(it.to_count, 5), random_values(it.to_count, 5)};
    float *const other = random_values(it.to_count, 6);
    bool have_first[2] = {false};
    const uint64_t half = half_memory(&examples[_i / 2 % EXAMPLES], complex_points);
    const uint64_t limits[] = {half, 0, LITTLE_MEMORY, half};
    for (int k = 0; k < 4; k++) {
        carso_context *const context = context_of(k == 0 ? 1 : k, limits[k]);
        for (int set = 0; set < set_count; set++) {
            cso_parameter *const weight = parameter_of(context, &it);
            bool columnwise = run(context, sets[set], &it, weight, other);
            if (have_first[columnwise]) {
                ck_assert_mem_eq(other, first[columnwise], it.to_count * sizeof *other);
            }
            memcpy(first[columnwise], other, it.to_count * sizeof *other);
            have_first[columnwise] = true;
            problem last = it;
            last.geometry.batch = 1;
            last.x += it.from_count - it.from_count / (size_t)it.geometry.batch;
            last.residual += it.to_count - image;
            last.to_count = image;
            columnwise = run(context, sets[set], &last, weight, other);
            if (have_first[columnwise]) {
                ck_assert_mem_eq(other, first[columnwise] + it.to_count - image, image * sizeof *other);
            }
            cso_parameter_release(weight);
        }
        carso_context_destroy(context);
    }
    ck_assert(have_first[0] || set_count == 0);
    if (set_count > 0 && !complex_points && _i / 2 == EXAMPLES - 1) {
        ck_assert(have_first[1]);
    }
    free(first[0]);
    free(first[1]);
    free(other);
    problem_clear(&it);
}
END_TEST

START_TEST(nan_stays_in_the_tiles_that_read_it)
{
    const example wide = {1, 16, 16, 12, 12, {1, 1}, {1, 1}};
    const cso_winograd *const set = cso_winograd_of_processor(_i == 1);
    problem it;
    problem_create(&wide, CSO_PRODUCT_DESTINATION, &it);
    carso_context *const context = context_of(1, 0);
    if (set) {
        cso_parameter *const weight = parameter_of(context, &it);
        float *const out = random_values(it.to_count, 5);
        it.x[(5 * 12 + 6) * 16 + 3] = NAN; /* in the middle tile of three by three, read by it alone */
        run(context, set, &it, weight, out);
        for (int y = 0; y < 12; y++) {
            for (int x = 0; x < 12; x++) {
                const bool near = abs(y - 5) <= 1 && abs(x - 6) <= 1, tile = y / 4 == 1 && x / 4 == 1;
                for (int c = 0; c < 16; c++) {
                    const bool nan = isnan(out[(y * 12 + x) * 16 + c]);
                    ck_assert(near ? nan : tile || !nan);
                }
            }
        }
        free(out);
        cso_parameter_release(weight);
    }
    carso_context_destroy(context);
    problem_clear(&it);
}
END_TEST

static size_t taken(const carso_context *context, cso_memory_kind kind) { return atomic_load(&context->memory[kind].now); }

/* Once for all batches: small ones transformed, larger ones half, and those as they are that are large for the limit. */
START_TEST(weights_are_kept_by_size)
{
    const example small = {1, 160, 160, 16, 16, {1, 1}, {1, 1}}, large = {1, 352, 352, 16, 16, {1, 1}, {1, 1}};
    const cso_winograd *const set = cso_winograd_of_processor(_i == 1);
    for (int i = 0; i < 3; i++) {
        const bool transformed = i < 2;
        problem it;
        carso_context *const context = context_of(1, i < 2 ? 0 : LITTLE_MEMORY);
        problem_create(i == 1 ? &large : &small, CSO_PRODUCT_DESTINATION, &it);
        if (set) {
            cso_parameter *const weight = parameter_of(context, &it);
            float *const out = random_values(it.to_count, 5);
            const size_t size =
                (size_t)(it.from[0] * it.to[0]) * (i == 0 ? (_i == 1 ? 46 : 36) : i == 1 ? 18 : 9) * sizeof(float);
            for (int repeat = 0; repeat < 2; repeat++) {
                run(context, set, &it, weight, out);
                ck_assert_uint_eq(taken(context, CSO_MEMORY_TRANSFORMED), transformed ? size : 0);
                ck_assert_uint_eq(taken(context, CSO_MEMORY_PACKED), transformed ? 0 : size);
            }
            /* Both directions read the same plain weights. */
            it.product = CSO_PRODUCT_SOURCE;
            it.geometry = geometry_of(i == 1 ? &large : &small);
            run(context, set, &it, weight, out);
            ck_assert_uint_eq(taken(context, CSO_MEMORY_TRANSFORMED), transformed ? 2 * size : 0);
            ck_assert_uint_eq(taken(context, CSO_MEMORY_PACKED), transformed ? 0 : size);
            cso_parameter_release(weight);
            ck_assert_uint_eq(taken(context, CSO_MEMORY_TRANSFORMED) + taken(context, CSO_MEMORY_PACKED), 0);
            free(out);
        }
        carso_context_destroy(context);
        problem_clear(&it);
    }
}
END_TEST

/* One that is another times factors of its output channels reads what is packed of that. */
START_TEST(scaled_weights_share_what_is_packed)
{
    const bool complex_points = _i / 2 >= EXAMPLES;
    const example *const source = &examples[_i / 2 % EXAMPLES];
    const cso_winograd *const set = cso_winograd_of_processor(complex_points);
    problem it;
    problem_create(source, _i % 2 == 0 ? CSO_PRODUCT_DESTINATION : CSO_PRODUCT_SOURCE, &it);
    const size_t inner = (size_t)it.geometry.source[0] * 9;
    float *const out = random_values(it.to_count, 5), *const first = random_values(it.to_count, 6);
    float *const scale = random_values((size_t)it.geometry.destination[0], 7);
    const uint64_t limits[] = {0, LITTLE_MEMORY, half_memory(source, complex_points)};
    for (int k = 0; k < 3; k++) {
        carso_context *const context = context_of(2, limits[k]);
        if (set) {
            cso_parameter *const base = parameter_of(context, &it), *const scaled = parameter_of(context, &it);
            double largest = 0, error = 0;
            run(context, set, &it, base, out);
            const size_t before = taken(context, CSO_MEMORY_TRANSFORMED) + taken(context, CSO_MEMORY_PACKED);
            scaled->base = base;
            scaled->scale = scale;
            const bool columnwise = run(context, set, &it, scaled, out);
            ck_assert_uint_eq(taken(context, CSO_MEMORY_TRANSFORMED) + taken(context, CSO_MEMORY_PACKED), before);
            problem wanted = it;
            wanted.weight = random_values((size_t)it.geometry.destination[0] * inner, 2);
            for (size_t i = 0; i < (size_t)it.geometry.destination[0] * inner; i++) {
                wanted.weight[i] *= scale[i / inner];
            }
            for (int64_t y = 0, position = 0; (k == 0 || columnwise) && y < it.to[1]; y++) {
                for (int64_t x = 0; x < it.to[2]; x++) {
                    for (int64_t o = 0; o < it.to[0]; o++, position++) {
                        const double sum = exact(&wanted, 0, y, x, o);
                        largest = fmax(largest, fabs(sum));
                        error = fmax(error, fabs((double)out[position] - sum));
                    }
                }
            }
            ck_assert_double_le(error, (complex_points ? 1e-5 : 5e-5) * largest);
            if (k == 0) {
                memcpy(first, out, it.to_count * sizeof *out);
            }
            if (!columnwise) {
                ck_assert_mem_eq(out, first, it.to_count * sizeof *out);
            }
            free(wanted.weight);
            cso_parameter_release(scaled);
            cso_parameter_release(base);
        }
        carso_context_destroy(context);
    }
    free(out);
    free(first);
    free(scale);
    problem_clear(&it);
}
END_TEST

START_TEST(kinds_of_convolution_are_chosen)
{
    static const struct {
        carso_convolution convolution;
        int64_t channels;
        const char *name;
    } kinds[] = {{CARSO_CONVOLUTION_AUTOMATIC, 64, "winograd4_complex:"},
                 {CARSO_CONVOLUTION_AUTOMATIC, 160, "winograd4:"},
                 {CARSO_CONVOLUTION_PRECISE, 64, "winograd4_complex:"},
                 {CARSO_CONVOLUTION_PRECISE, 160, "winograd4_complex:"},
                 {CARSO_CONVOLUTION_DIRECT, 64, NULL},
                 {CARSO_CONVOLUTION_DIRECT, 160, NULL}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const int64_t channels = kinds[i].channels;
        const example layer = {4, channels, channels, 16, 16, {1, 1}, {1, 1}};
        const cso_shape shape = {3, {channels, 16, 16}};
        carso_context_options options;
        carso_context *context;
        problem it;
        cso_kernel *kernel;
        cso_op op = {.kind = CSO_OP_CONVOLUTION, .batch = 4, .input_count = 1, .input = &shape, .output = shape,
                     .attributes = {.kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}, .pad_begin = {1, 1},
                                    .pad_end = {1, 1}, .groups = 1}};
        carso_context_options_init(&options, sizeof options);
        options.backend = "onednn";
        options.convolution = kinds[i].convolution;
        ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
        problem_create(&layer, CSO_PRODUCT_DESTINATION, &it);
        op.parameter[0] = parameter_of(context, &it);
        ck_assert_int_eq(context->backend->prepare(context->device, &op, &kernel), CARSO_OK);
        const char *const name = context->backend->kernel_name(kernel);
        if (kinds[i].name && cso_winograd_of_processor(false)) {
            ck_assert_ptr_eq(strstr(name, kinds[i].name), name);
        } else {
            ck_assert_ptr_null(strstr(name, "winograd"));
        }
        context->backend->kernel_destroy(context->device, kernel);
        cso_parameter_release(op.parameter[0]);
        carso_context_destroy(context);
        problem_clear(&it);
    }
}
END_TEST

/* To the same bits as constant ones, kept transformed or not. */
START_TEST(weights_may_change_between_runs)
{
    const uint64_t limits[] = {0, LITTLE_MEMORY};
    const cso_winograd *const set = cso_winograd_of_processor(_i / 2 >= EXAMPLES);
    problem it;
    problem_create(&examples[_i / 2 % EXAMPLES], _i % 2 == 0 ? CSO_PRODUCT_DESTINATION : CSO_PRODUCT_SOURCE, &it);
    const size_t bytes = it.to_count * sizeof(float), count = (size_t)(it.from[0] * it.to[0] * 9);
    float *const wanted = random_values(it.to_count, 5), *const out = random_values(it.to_count, 6);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        carso_context *const context = context_of(2, limits[i]);
        if (set) {
            cso_parameter *weight = parameter_of(context, &it), *changing;
            ck_assert_int_eq(cso_parameter_create_trainable(weight, &changing), CARSO_OK);
            run(context, set, &it, weight, wanted);
            run(context, set, &it, changing, out);
            ck_assert_mem_eq(out, wanted, bytes);
            cso_parameter_release(weight);
            for (size_t j = 0; j < count; j++) {
                it.weight[j] = cso_parameter_host(changing)[j] *= -0.75F + (float)(j % 3);
            }
            ck_assert_int_eq(cso_parameter_upload(changing), CARSO_OK);
            weight = parameter_of(context, &it);
            run(context, set, &it, weight, wanted);
            run(context, set, &it, changing, out);
            ck_assert_mem_eq(out, wanted, bytes);
            cso_parameter_release(weight);
            cso_parameter_release(changing);
        }
        carso_context_destroy(context);
    }
    free(wanted);
    free(out);
    problem_clear(&it);
}
END_TEST

START_TEST(it_is_used_where_it_was_measured_to_be_faster)
{
    const example layer = {8, 640, 640, 8, 8, {1, 1}, {1, 1}};
    problem it;
    problem_create(&layer, CSO_PRODUCT_DESTINATION, &it);
    carso_context *const context = context_of(1, 0);
    const cso_device *const device = context->device;
    if (device->winograd) {
        cso_parameter *const weight = parameter_of(context, &it);
        cso_parameter *changing;
        ck_assert_int_eq(cso_parameter_create_trainable(weight, &changing), CARSO_OK);
        cso_geometry g = it.geometry;
        ck_assert_ptr_nonnull(cso_winograd_choose(device, &g, CSO_PRODUCT_DESTINATION, weight));
        ck_assert_ptr_nonnull(cso_winograd_choose(device, &g, CSO_PRODUCT_SOURCE, weight));
        ck_assert_ptr_null(cso_winograd_choose(device, &g, CSO_PRODUCT_WEIGHT, weight));
        /* Weights that are made in each run need more images to be worth it. */
        ck_assert_ptr_nonnull(cso_winograd_choose(device, &g, CSO_PRODUCT_DESTINATION, changing));
        g.batch = 2;
        ck_assert_ptr_nonnull(cso_winograd_choose(device, &g, CSO_PRODUCT_DESTINATION, weight));
        ck_assert_ptr_null(cso_winograd_choose(device, &g, CSO_PRODUCT_DESTINATION, changing));
        g.source[1] = g.source[2] = g.destination[1] = g.destination[2] = 4;
        g.batch = 1;
        ck_assert_ptr_null(cso_winograd_choose(device, &g, CSO_PRODUCT_DESTINATION, weight));
        for (int64_t width = 1; width <= 5; width += 2) {
            g = it.geometry;
            g.kernel[0] = width;
            g.kernel[1] = width == 3 ? 2 : width;
            ck_assert_ptr_null(cso_winograd_choose(device, &g, CSO_PRODUCT_DESTINATION, weight));
        }
        g = it.geometry;
        g.stride[0] = 2;
        ck_assert_ptr_null(cso_winograd_choose(device, &g, CSO_PRODUCT_DESTINATION, weight));
        g = it.geometry;
        g.dilation[1] = 2;
        ck_assert_ptr_null(cso_winograd_choose(device, &g, CSO_PRODUCT_DESTINATION, weight));
        g = it.geometry;
        g.groups = 2;
        ck_assert_ptr_null(cso_winograd_choose(device, &g, CSO_PRODUCT_DESTINATION, weight));
        g = it.geometry;
        g.pad_begin[0] = 3;
        ck_assert_ptr_null(cso_winograd_choose(device, &g, CSO_PRODUCT_DESTINATION, weight));
        cso_parameter_release(changing);
        cso_parameter_release(weight);
    }
    carso_context_destroy(context);
    problem_clear(&it);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("winograd");
    TCase *const tests = tcase_create("winograd");
    tcase_set_timeout(tests, 600);
    tcase_add_loop_test(tests, results_are_near_sums_in_double, 0, 4 * EXAMPLES);
    tcase_add_test(tests, a_sum_over_many_channels_is_not_rounded_at_its_full_size_each_time);
    tcase_add_test(tests, complex_points_round_less);
    tcase_add_loop_test(tests, bits_depend_on_the_image_alone, 0, 4 * EXAMPLES);
    tcase_add_loop_test(tests, weights_may_change_between_runs, 0, 4 * EXAMPLES);
    tcase_add_loop_test(tests, nan_stays_in_the_tiles_that_read_it, 0, 2);
    tcase_add_loop_test(tests, weights_are_kept_by_size, 0, 2);
    tcase_add_loop_test(tests, scaled_weights_share_what_is_packed, 0, 4 * EXAMPLES);
    tcase_add_test(tests, kinds_of_convolution_are_chosen);
    tcase_add_test(tests, it_is_used_where_it_was_measured_to_be_faster);
    suite_add_tcase(suite, tests);
    SRunner *const runner = srunner_create(suite);
    /* OpenMP's threads do not survive a fork. */
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
