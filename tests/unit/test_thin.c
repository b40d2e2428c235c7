/* SPDX-License-Identifier: BSD-2-Clause */
/* Products of few rows, for each instruction set of this processor. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/onednn/thin.h"

typedef struct example {
    int64_t rows, in, out;
} example;

/* Around the widths of vectors, the numbers of rows and the chunks that the loops take together. */
static const example examples[] = {{1, 1, 1},     {2, 3, 5},     {3, 16, 4},    {4, 17, 8},     {5, 31, 7},
                                   {7, 33, 9},    {9, 1023, 6},  {16, 1024, 3}, {2, 1025, 12},  {6, 2100, 11},
                                   {13, 40, 130}, {1, 5000, 64}, {4, 7, 1},     {11, 3072, 10}};
enum { EXAMPLES = sizeof examples / sizeof examples[0], GUARD = 16 };

static int usable_sets(const cso_thin *out[2])
{
    int count = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        out[count++] = &cso_thin_avx2;
    }
    if (__builtin_cpu_supports("avx512f")) {
        out[count++] = &cso_thin_avx512;
    }
#else
    (void)out;
#endif
    return count;
}

static float *allocated(int64_t count)
{
    float *const values = malloc((size_t)(count + GUARD) * sizeof *values);
    ck_assert_ptr_nonnull(values);
    return values;
}

static float *random_values(int64_t count, uint64_t seed)
{
    float *const values = allocated(count);
    for (int64_t i = 0; i < count; i++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        values[i] = (float)((double)(seed >> 33) * 0x1p-30 - 1);
    }
    return values;
}

/* What must be written is NaN before, what must not be is 7. */
static float *result_place(int64_t count)
{
    float *const values = allocated(count);
    for (int64_t i = 0; i < count + GUARD; i++) {
        values[i] = i < count ? NAN : 7;
    }
    return values;
}

/* A sum of terms in whatever order: each of terms roundings moves it by at most half a unit of what has passed. */
static void check_near(float got, double sum, double magnitude, int64_t terms)
{
    ck_assert_msg(fabs((double)got - sum) <= (double)terms * 0x1p-24 * magnitude, "%.9g is not near %.9g", (double)got,
                  sum);
}

START_TEST(results_are_near_sums_in_double)
{
    const example *const it = &examples[_i];
    const cso_thin *sets[2];
    const int count = usable_sets(sets);
    float *const x = random_values(it->rows * it->in, 1), *const weight = random_values(it->out * it->in, 2);
    float *const dy = random_values(it->rows * it->out, 3);
    for (int s = 0; s < count; s++) {
        float *const y = result_place(it->rows * it->out), *const dx = result_place(it->rows * it->in);
        const int64_t left_out = it->out / 3, left_in = it->in / 3; /* two threads' shares */
        sets[s]->forward(it->rows, it->in, left_out, x, weight, y, it->out);
        sets[s]->forward(it->rows, it->in, it->out - left_out, x, weight + left_out * it->in, y + left_out, it->out);
        sets[s]->backward(it->rows, it->in, it->out, left_in, dy, weight, dx);
        sets[s]->backward(it->rows, it->in, it->out, it->in - left_in, dy, weight + left_in, dx + left_in);
        for (int64_t r = 0; r < it->rows; r++) {
            for (int64_t o = 0; o < it->out; o++) {
                double sum = 0, magnitude = 0;
                for (int64_t i = 0; i < it->in; i++) {
                    const double term = (double)x[r * it->in + i] * (double)weight[o * it->in + i];
                    sum += term;
                    magnitude += fabs(term);
                }
                check_near(y[r * it->out + o], sum, magnitude, it->in);
            }
            for (int64_t i = 0; i < it->in; i++) {
                double sum = 0, magnitude = 0;
                for (int64_t o = 0; o < it->out; o++) {
                    const double term = (double)dy[r * it->out + o] * (double)weight[o * it->in + i];
                    sum += term;
                    magnitude += fabs(term);
                }
                check_near(dx[r * it->in + i], sum, magnitude, it->out);
            }
        }
        for (int i = 0; i < GUARD; i++) {
            ck_assert_float_eq(y[it->rows * it->out + i], 7);
            ck_assert_float_eq(dx[it->rows * it->in + i], 7);
        }
        free(dx);
        free(y);
    }
    free(dy);
    free(weight);
    free(x);
}
END_TEST

START_TEST(bits_of_a_row_do_not_depend_on_the_others)
{
    const example *const it = &examples[_i];
    const cso_thin *sets[2];
    const int count = usable_sets(sets);
    float *const x = random_values(it->rows * it->in, 4), *const weight = random_values(it->out * it->in, 5);
    float *const together = result_place(it->rows * it->out), *const alone = result_place(it->out);
    for (int s = 0; s < count; s++) {
        sets[s]->forward(it->rows, it->in, it->out, x, weight, together, it->out);
        for (int64_t r = 0; r < it->rows; r++) {
            sets[s]->forward(1, it->in, it->out, x + r * it->in, weight, alone, it->out);
            ck_assert_mem_eq(alone, together + r * it->out, (size_t)it->out * sizeof *alone);
        }
    }
    free(alone);
    free(together);
    free(weight);
    free(x);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("thin");
    TCase *const tests = tcase_create("thin");
    tcase_add_loop_test(tests, results_are_near_sums_in_double, 0, EXAMPLES);
    tcase_add_loop_test(tests, bits_of_a_row_do_not_depend_on_the_others, 0, EXAMPLES);
    suite_add_tcase(suite, tests);
    SRunner *const runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
