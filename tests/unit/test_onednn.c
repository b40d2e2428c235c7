/* SPDX-License-Identifier: BSD-2-Clause */
/* What is particular to this backend; operations are tested by tests/backend. */
#include <check.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include <cblas.h>

#include "backends/onednn/loops.h"
#include "graph/parameter.h"

static int usable_loops(const cso_loops *out[3])
{
    int count = 0;
    out[count++] = &cso_loops_portable;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        out[count++] = &cso_loops_avx2;
    }
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
        out[count++] = &cso_loops_avx512;
    }
#endif
    return count;
}

static double exact(cso_op_kind kind, double x)
{
    switch ((int)kind) {
    case CSO_OP_RELU: return x < 0 ? 0 : x;
    case CSO_OP_LEAKY_RELU: return x > 0 ? x : x * (double)0.2f;
    case CSO_OP_SILU: return x / (1 + exp(-x));
    case CSO_OP_SIGMOID: return 1 / (1 + exp(-x));
    default: return tanh(x);
    }
}

/* Distance in units of the last place of the exact value, denormal ones as large as the smallest. */
static double distance(float got, double expected)
{
    int exponent;
    frexp(expected, &exponent);
    const double unit = ldexp(1, exponent - 24 < -149 ? -149 : exponent - 24);
    return fabs((double)got - expected) / unit;
}

/* Every 4093rd float: a million, all exponents and both signs. */
START_TEST(activations_are_within_a_few_units_in_the_last_place)
{
    enum { COUNT = 4096 };
    static const struct {
        cso_op_kind kind;
        double bound; /* 1.1 of the exponential, .5 for each further rounding, and margin; beside it denormal roundings
                         count */
    } cases[] = {{CSO_OP_RELU, 0}, {CSO_OP_LEAKY_RELU, .51}, {CSO_OP_SILU, 3.5}, {CSO_OP_SIGMOID, 3}, {CSO_OP_TANH, 3}};
    const cso_loops *loops[3];
    const cso_loops *const fastest = loops[usable_loops(loops) - 1];
    float x[COUNT], y[COUNT];
    const size_t which = (size_t)_i;
    uint64_t bits = 0;
    while (bits <= UINT32_MAX) {
        for (int i = 0; i < COUNT; i++, bits += 4093) {
            const uint32_t pattern = (uint32_t)bits;
            memcpy(&x[i], &pattern, sizeof x[i]);
        }
        fastest->activate(COUNT, cases[which].kind, 0.2f, x, y);
        for (int i = 0; i < COUNT; i++) {
            if (isnan(x[i])) {
                ck_assert_msg(isnan(y[i]), "kind %d lost a NaN", (int)cases[which].kind);
            } else if (isfinite(x[i])) {
                const double expected = exact(cases[which].kind, (double)x[i]);
                const double error = distance(y[i], expected);
                ck_assert_msg(error <= cases[which].bound || fabs((double)y[i] - expected) < 1e-42,
                              "kind %d at %.9g: %.9g instead of %.9g, %.2f units", (int)cases[which].kind, (double)x[i],
                              (double)y[i], expected, error);
            }
        }
    }
}
END_TEST

START_TEST(infinities_have_their_limits)
{
    const float x[2] = {INFINITY, -INFINITY};
    float y[2];
    const cso_loops *loops[3];
    const int count = usable_loops(loops);
    for (int i = 0; i < count; i++) {
        loops[i]->activate(2, CSO_OP_SIGMOID, 0, x, y);
        ck_assert(y[0] == 1.0f && y[1] == 0.0f);
        loops[i]->activate(2, CSO_OP_TANH, 0, x, y);
        ck_assert(y[0] == 1.0f && y[1] == -1.0f);
        loops[i]->activate(2, CSO_OP_RELU, 0, x, y);
        ck_assert(isinf(y[0]) && y[1] == 0.0f);
    }
}
END_TEST

static float *values(size_t count, uint32_t seed)
{
    float *const made = malloc(count * sizeof *made);
    ck_assert_ptr_nonnull(made);
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        made[i] = (float)(int32_t)seed / 5e8f;
    }
    return made;
}

/* Results of every kind of loop, one after the other. */
static void exercise(const cso_loops *loops, size_t rows, size_t channels, const float *x, const float *dy,
                     const float *constants, const float *weight, float *out, double *totals)
{
    const size_t size = rows * channels;
    const float *const mean = constants, *const factor = constants + channels, *const bias = constants + 2 * channels;
    loops->normalise(rows, channels, x, out, mean, factor, bias, CSO_OP_SILU, 0);
    out += size;
    memcpy(out, x, size * sizeof *out);
    loops->finish(rows, channels, channels, out, bias, dy, CSO_OP_TANH, 0);
    out += size;
    loops->activate_backward(size, CSO_OP_SILU, 0, dy, x, out);
    out += size;
    loops->normalise_backward(rows, channels, dy, x, mean, factor, bias, constants + 3 * channels, out);
    out += size;
    loops->narrow_product(rows, channels, channels, x, weight, out);
    memset(totals, 0, 2 * channels * sizeof *totals);
    loops->sum_products(rows, channels, dy, x, mean, totals, totals + channels);
    loops->sum_squares(rows, channels, x, mean, totals);
    loops->sum(rows, channels, x, totals);
}

START_TEST(all_instruction_sets_give_the_same_bits)
{
    static const size_t widths[] = {1, 3, 4, 16, 31, 33, 100};
    const cso_loops *loops[3];
    const int count = usable_loops(loops);
    for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
        const size_t channels = widths[w], rows = 301, size = rows * channels, results = 4 * size + rows * CSO_NARROW;
        float *const x = values(size, 1), *const dy = values(size, 2), *const constants = values(4 * channels, 3);
        float *const weight = values(channels * CSO_NARROW, 4), *const expected = values(results, 5),
                     *const got = values(results, 6);
        double *const expected_totals = calloc(2 * channels, sizeof(double)), *const totals =
                                                                                  calloc(2 * channels, sizeof(double));
        ck_assert(expected_totals && totals);
        exercise(loops[0], rows, channels, x, dy, constants, weight, expected, expected_totals);
        for (int i = 1; i < count; i++) {
            exercise(loops[i], rows, channels, x, dy, constants, weight, got, totals);
            ck_assert_mem_eq(got, expected, results * sizeof *got);
            ck_assert_mem_eq(totals, expected_totals, 2 * channels * sizeof *totals);
        }
        free(x);
        free(dy);
        free(constants);
        free(weight);
        free(expected);
        free(got);
        free(expected_totals);
        free(totals);
    }
}
END_TEST

static carso_context *context_with(int threads)
{
    carso_context_options options;
    carso_context *context;
    carso_context_options_init(&options, sizeof options);
    options.backend = "onednn";
    options.threads = threads;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
    return context;
}

START_TEST(the_applications_thread_settings_come_back)
{
    carso_context *const context = context_with(3);
    const cso_backend *const backend = context->backend;
    int state;
    omp_set_num_threads(5);
    omp_set_dynamic(1);
    backend->begin(context->device, &state);
    ck_assert_int_eq(omp_get_max_threads(), 3);
    backend->end(context->device, state);
    ck_assert_int_eq(omp_get_max_threads(), 5);
    ck_assert_int_eq(omp_get_dynamic(), 1);
    omp_set_dynamic(0);
    carso_context_destroy(context);
}
END_TEST

START_TEST(matrix_products_share_the_openmp_threads) { ck_assert_int_eq(openblas_get_parallel(), OPENBLAS_OPENMP); }
END_TEST

/* A 3x3 convolution with 8 images of 16 x 10 x 10 to 32 channels, and its gradient to the weight. */
typedef struct example {
    cso_shape input;
    cso_op op;
    float *x, *y;
} example;

enum { EXAMPLE_IN = 8 * 16 * 100, EXAMPLE_OUT = 8 * 32 * 100 };

static example example_create(carso_context *context, bool constant)
{
    static const int64_t dimension[4] = {32, 16, 3, 3};
    example it = {.input = {3, {16, 10, 10}}};
    float *const weight = values(32 * 16 * 9, 9);
    cso_parameter *parameter;
    it.op = (cso_op){.kind = CSO_OP_CONVOLUTION, .batch = 8, .input_count = 1, .output = {3, {32, 10, 10}}};
    it.op.attributes.groups = 1;
    for (int i = 0; i < 2; i++) {
        it.op.attributes.kernel[i] = 3;
        it.op.attributes.stride[i] = it.op.attributes.dilation[i] = 1;
        it.op.attributes.pad_begin[i] = it.op.attributes.pad_end[i] = 1;
    }
    ck_assert_int_eq(cso_parameter_create(context, 4, dimension, weight, &parameter), CARSO_OK);
    if (!constant) {
        cso_parameter *trainable;
        ck_assert_int_eq(cso_parameter_create_trainable(parameter, &trainable), CARSO_OK);
        cso_parameter_release(parameter);
        parameter = trainable;
    }
    free(weight);
    it.op.parameter[0] = parameter;
    it.x = values(EXAMPLE_IN, 10);
    it.y = values(EXAMPLE_OUT, 11);
    return it;
}

static void example_destroy(example *it)
{
    cso_parameter_release(it->op.parameter[0]);
    free(it->x);
    free(it->y);
}

static cso_kernel *example_prepare(carso_context *context, const example *it, cso_direction direction)
{
    cso_op op = it->op;
    cso_kernel *kernel;
    op.direction = direction;
    op.input = &it->input;
    ck_assert_int_eq(context->backend->prepare(context->device, &op, &kernel), CARSO_OK);
    return kernel;
}

static void example_run(carso_context *context, cso_kernel *kernel, const float *first, const float *second, float *out)
{
    const cso_backend *const backend = context->backend;
    const void *const inputs[2] = {first, second};
    void *const outputs[2] = {out, NULL};
    int state;
    void *const workspace = cso_allocate_raw(context, 1, backend->workspace_size(kernel));
    ck_assert_ptr_nonnull(workspace);
    const cso_arguments arguments = {.input = inputs, .output = outputs, .workspace = workspace};
    backend->begin(context->device, &state);
    ck_assert_int_eq(backend->run(context->device, kernel, &arguments), CARSO_OK);
    backend->end(context->device, state);
    cso_release(context, workspace);
}

START_TEST(kernels_share_packed_weights)
{
    carso_context *const context = context_with(2);
    example it = example_create(context, true);
    ck_assert_ptr_null(it.op.parameter[0]->packed);
    cso_kernel *const one = example_prepare(context, &it, CSO_FORWARD);
    ck_assert_ptr_null(it.op.parameter[0]->packed); /* not for a kernel that never runs */
    example_run(context, one, it.x, NULL, it.y);
    void *const packed = it.op.parameter[0]->packed;
    ck_assert_ptr_nonnull(packed);
    cso_kernel *const other = example_prepare(context, &it, CSO_FORWARD);
    example_run(context, other, it.x, NULL, it.y);
    ck_assert_ptr_eq(it.op.parameter[0]->packed, packed);
    context->backend->kernel_destroy(context->device, one);
    context->backend->kernel_destroy(context->device, other);
    example_destroy(&it);
    carso_context_destroy(context);
}
END_TEST

START_TEST(changing_weights_are_not_packed)
{
    carso_context *const context = context_with(2);
    example it = example_create(context, false);
    cso_kernel *const kernel = example_prepare(context, &it, CSO_FORWARD);
    example_run(context, kernel, it.x, NULL, it.y);
    ck_assert_ptr_null(it.op.parameter[0]->packed);
    context->backend->kernel_destroy(context->device, kernel);
    example_destroy(&it);
    carso_context_destroy(context);
}
END_TEST

START_TEST(a_call_from_the_applications_parallel_region_gives_the_same_bits)
{
    enum { COUNT = 32 * 16 * 9 };
    carso_context *const context = context_with(2);
    example it = example_create(context, false);
    float *const once = values(COUNT, 12);
    cso_kernel *kernels[2];
    kernels[0] = example_prepare(context, &it, CSO_BACKWARD_PARAMETERS);
    example_run(context, kernels[0], it.y, it.x, once);
    float *const results[2] = {values(COUNT, 13), values(COUNT, 14)};
#pragma omp parallel for num_threads(2)
    for (int i = 0; i < 2; i++) {
        if (i == 1) {
            kernels[i] = example_prepare(context, &it, CSO_BACKWARD_PARAMETERS);
        }
        example_run(context, kernels[i], it.y, it.x, results[i]);
    }
    for (int i = 0; i < 2; i++) {
        ck_assert_mem_eq(results[i], once, COUNT * sizeof *once);
        context->backend->kernel_destroy(context->device, kernels[i]);
        free(results[i]);
    }
    free(once);
    example_destroy(&it);
    carso_context_destroy(context);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("onednn");
    TCase *const tests = tcase_create("onednn");
    tcase_set_timeout(tests, 600);
    tcase_add_loop_test(tests, activations_are_within_a_few_units_in_the_last_place, 0, 5);
    tcase_add_test(tests, infinities_have_their_limits);
    tcase_add_test(tests, all_instruction_sets_give_the_same_bits);
    tcase_add_test(tests, the_applications_thread_settings_come_back);
    tcase_add_test(tests, matrix_products_share_the_openmp_threads);
    tcase_add_test(tests, kernels_share_packed_weights);
    tcase_add_test(tests, changing_weights_are_not_packed);
    tcase_add_test(tests, a_call_from_the_applications_parallel_region_gives_the_same_bits);
    suite_add_tcase(suite, tests);
    SRunner *const runner = srunner_create(suite);
    /* OpenMP's threads do not survive a fork. */
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
