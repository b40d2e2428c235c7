/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

#define MANY 1000000

static const cso_random example = {.seed = 42, .purpose = CSO_PURPOSE_LATENT, .image = 7, .draw = 3};

/* Known-answer vectors of Random123 (Salmon et al.), file kat_vectors, philox4x32 with 10 rounds. */
START_TEST(philox_gives_the_published_answers)
{
    static const struct {
        uint32_t counter[4], key[2], answer[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint32_t out[4];
        cso_philox(vectors[i].counter, vectors[i].key, out);
        for (int j = 0; j < 4; j++) {
            ck_assert_uint_eq(out[j], vectors[i].answer[j]);
        }
    }
}
END_TEST

START_TEST(pieces_are_those_of_the_whole)
{
    uint32_t whole[600], piece[600];
    float uniform[600], uniform_piece[600], normal[600], normal_piece[600];
    cso_random_words(&example, 0, 600, whole);
    cso_random_uniform(&example, 0, 600, uniform);
    cso_random_normal(&example, 0, 600, normal);
    for (size_t first = 0; first < 300; first += 7) {
        for (size_t count = 0; count < 300; count += 29) {
            cso_random_words(&example, first, count, piece);
            ck_assert_mem_eq(piece, whole + first, count * sizeof *piece);
            cso_random_uniform(&example, first, count, uniform_piece);
            ck_assert_mem_eq(uniform_piece, uniform + first, count * sizeof *piece);
            const size_t even = first / 2 * 2;
            normal_piece[count] = 123.0f;
            cso_random_normal(&example, even, count, normal_piece);
            ck_assert_mem_eq(normal_piece, normal + even, count * sizeof *piece);
            ck_assert_float_eq(normal_piece[count], 123.0f);
        }
    }
    /* Across the point where a block's number no longer fits 32 bits. */
    const uint64_t far = ((uint64_t)1 << 34) - 2;
    cso_random_words(&example, far, 4, whole);
    cso_random_words(&example, far + 2, 2, piece);
    ck_assert_mem_eq(piece, whole + 2, 2 * sizeof *piece);
    cso_random_words(&example, 0, 2, piece);
    ck_assert_mem_ne(piece, whole + 2, 2 * sizeof *piece);
}
END_TEST

START_TEST(every_part_of_the_key_matters)
{
    uint32_t base[8], other[8];
    cso_random streams[8];
    for (int i = 0; i < 8; i++) {
        streams[i] = example;
    }
    streams[0].seed ^= 1;
    streams[1].seed ^= (uint64_t)1 << 63;
    streams[2].purpose = CSO_PURPOSE_ATTACK_START;
    streams[3].image ^= 1;
    streams[4].image ^= (uint64_t)1 << 40;
    streams[5].draw ^= 1;
    streams[6].draw ^= 0x80000000u;
    streams[7].image = example.draw;
    streams[7].draw = (uint32_t)example.image;
    cso_random_words(&example, 0, 8, base);
    for (int i = 0; i < 8; i++) {
        int equal = 0;
        cso_random_words(&streams[i], 0, 8, other);
        for (int j = 0; j < 8; j++) {
            equal += base[j] == other[j];
        }
        ck_assert_int_eq(equal, 0);
    }
}
END_TEST

/* Bounds are 5 standard deviations of the estimate; the numbers are fixed, so that the test can't flicker. */
START_TEST(uniform_has_its_moments)
{
    float *values = malloc(MANY * sizeof *values);
    ck_assert_ptr_nonnull(values);
    cso_random_uniform(&example, 0, MANY, values);
    double sum = 0.0, squares = 0.0;
    int outside = 0;
    for (int i = 0; i < MANY; i++) {
        outside += !(values[i] >= 0.0f && values[i] < 1.0f);
        sum += values[i] - 0.5;
        squares += (values[i] - 0.5) * (values[i] - 0.5);
    }
    ck_assert_int_eq(outside, 0);
    ck_assert_double_le(fabs(sum / MANY), 5.0 * sqrt(1.0 / 12.0 / MANY));
    ck_assert_double_le(fabs(squares / MANY - 1.0 / 12.0), 5.0 * sqrt(1.0 / 180.0 / MANY));
    free(values);
}
END_TEST

static int compare_floats(const void *left, const void *right)
{
    const float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

START_TEST(normal_has_its_moments_and_distribution)
{
    float *values = malloc(MANY * sizeof *values);
    ck_assert_ptr_nonnull(values);
    cso_random_normal(&example, 0, MANY, values);
    double moments[5] = {0.0}, neighbours = 0.0;
    for (int i = 0; i < MANY; i++) {
        double power = 1.0;
        for (int j = 1; j < 5; j++) {
            power *= values[i];
            moments[j] += power / MANY;
        }
        neighbours += i % 2 == 1 ? (double)values[i] * values[i - 1] / (MANY / 2) : 0.0;
    }
    /* Variances of the sample moments of a normal: 1, 2, 15, 96 over n. */
    ck_assert_double_le(fabs(moments[1]), 5.0 * sqrt(1.0 / MANY));
    ck_assert_double_le(fabs(moments[2] - 1.0), 5.0 * sqrt(2.0 / MANY));
    ck_assert_double_le(fabs(moments[3]), 5.0 * sqrt(15.0 / MANY));
    ck_assert_double_le(fabs(moments[4] - 3.0), 5.0 * sqrt(96.0 / MANY));
    ck_assert_double_le(fabs(neighbours), 5.0 * sqrt(2.0 / MANY));
    qsort(values, MANY, sizeof *values, compare_floats);
    double distance = 0.0;
    for (int i = 0; i < MANY; i++) {
        const double expected = 0.5 * erfc(-values[i] * M_SQRT1_2);
        distance = fmax(distance, fmax(fabs(expected - i / (double)MANY), fabs(expected - (i + 1) / (double)MANY)));
    }
    /* Kolmogorov and Smirnov: 1.95 / sqrt(n) is passed by chance once in a thousand streams. */
    ck_assert_double_le(distance, 1.95 / sqrt(MANY));
    free(values);
}
END_TEST

START_TEST(neighbouring_streams_are_uncorrelated)
{
    enum { COUNT = 10000 };
    static float first[COUNT], second[COUNT];
    for (uint64_t image = 0; image < 20; image++) {
        cso_random stream = example;
        double product = 0.0;
        stream.image = image;
        cso_random_normal(&stream, 0, COUNT, first);
        stream.image = image + 1;
        cso_random_normal(&stream, 0, COUNT, second);
        for (int i = 0; i < COUNT; i++) {
            product += (double)first[i] * second[i] / COUNT;
        }
        ck_assert_double_le(fabs(product), 5.0 / sqrt(COUNT));
    }
}
END_TEST

START_TEST(permutation_has_every_number_once)
{
    static const uint64_t counts[] = {0, 1, 2, 3, 127, 128, 129, 1000, 60000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        const uint64_t count = counts[i];
        uint64_t *order = malloc((count + 1) * sizeof *order);
        unsigned char *seen = calloc(count + 1, 1);
        ck_assert_ptr_nonnull(order);
        ck_assert_ptr_nonnull(seen);
        order[count] = 999;
        cso_random_permutation(&example, count, order);
        ck_assert_uint_eq(order[count], 999);
        uint64_t wrong = 0;
        for (uint64_t j = 0; j < count; j++) {
            wrong += order[j] >= count || seen[order[j]]++ != 0;
        }
        ck_assert_uint_eq(wrong, 0);
        free(order);
        free(seen);
    }
}
END_TEST

START_TEST(permutations_are_equally_likely)
{
    enum { TRIALS = 24000, ORDERS = 24 };
    int tally[256] = {0};
    for (int trial = 0; trial < TRIALS; trial++) {
        uint64_t order[4];
        cso_random stream = example;
        stream.image = (uint64_t)trial;
        cso_random_permutation(&stream, 4, order);
        tally[order[0] * 64 + order[1] * 16 + order[2] * 4 + order[3]]++;
    }
    double chi_squared = 0.0;
    int orders = 0;
    for (int i = 0; i < 256; i++) {
        const double expected = (double)TRIALS / ORDERS;
        orders += tally[i] > 0;
        chi_squared += tally[i] > 0 ? (tally[i] - expected) * (tally[i] - expected) / expected : 0.0;
    }
    ck_assert_int_eq(orders, ORDERS);
    /* 23 degrees of freedom: 49.7 is passed once in a thousand. */
    ck_assert_double_le(chi_squared, 49.7);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("random");
    TCase *tests = tcase_create("random");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, philox_gives_the_published_answers);
    tcase_add_test(tests, pieces_are_those_of_the_whole);
    tcase_add_test(tests, every_part_of_the_key_matters);
    tcase_add_test(tests, uniform_has_its_moments);
    tcase_add_test(tests, normal_has_its_moments_and_distribution);
    tcase_add_test(tests, neighbouring_streams_are_uncorrelated);
    tcase_add_test(tests, permutation_has_every_number_once);
    tcase_add_test(tests, permutations_are_equally_likely);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
