/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading open data sets. */
#include <check.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "data_case.h"

START_TEST(read_checks_its_arguments)
{
    write_idx("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 7, 5, 4, 1);
    carso_dataset *dataset = open_set("", CARSO_SPLIT_TRAIN);
    static const uint64_t indices[2] = {0, 7};
    static const uint64_t far = UINT64_MAX;
    uint8_t pixels[40];
    ck_assert_int_eq(carso_dataset_read(dataset, indices, 2, NULL, pixels, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(message(), "index 1 of the list is 7"));
    ck_assert_int_eq(carso_dataset_read(dataset, &far, 1, NULL, pixels, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_dataset_read(dataset, indices, 0, NULL, pixels, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_dataset_read(dataset, NULL, 1, NULL, pixels, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_dataset_read(dataset, indices, 1, NULL, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_dataset_read(NULL, indices, 1, NULL, pixels, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    carso_read_options options;
    static const int32_t bad_paddings[] = {-1, 5, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof bad_paddings / sizeof bad_paddings[0]; i++) {
        carso_read_options_init(&options, sizeof options);
        options.crop_padding = bad_paddings[i];
        ck_assert_int_eq(carso_dataset_read(dataset, indices, 1, &options, pixels, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    }
    carso_read_options_init(&options, sizeof options);
    options.mirror = 2;
    ck_assert_int_eq(carso_dataset_read(dataset, indices, 1, &options, pixels, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    options.struct_size = 1;
    ck_assert_int_eq(carso_dataset_read(dataset, indices, 1, &options, pixels, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    carso_dataset_info info = {.struct_size = 0};
    ck_assert_int_eq(carso_dataset_get_info(dataset, &info), CARSO_ERROR_INVALID_ARGUMENT);
    info.struct_size = SIZE_MAX;
    ck_assert_int_eq(carso_dataset_get_info(dataset, &info), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_dataset_get_info(dataset, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    info.struct_size = offsetof(carso_dataset_info, channels);
    info.channels = 99;
    ck_assert_int_eq(carso_dataset_get_info(dataset, &info), CARSO_OK);
    ck_assert_uint_eq(info.count, 7);
    ck_assert_int_eq(info.channels, 99);
    ck_assert_int_eq(carso_dataset_shuffle(dataset, 0, 0, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    carso_dataset_destroy(dataset);
}
END_TEST

START_TEST(shuffle_depends_on_seed_and_epoch_alone)
{
    enum { COUNT = 200 };
    uint64_t first[COUNT], second[COUNT];
    write_idx("train-images-idx3-ubyte", "train-labels-idx1-ubyte", COUNT, 5, 4, 1);
    write_idx("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", COUNT, 2, 2, 0);
    carso_dataset *dataset = open_set("", CARSO_SPLIT_TRAIN);
    carso_dataset *other = open_set("", CARSO_SPLIT_TEST);
    ck_assert_int_eq(carso_dataset_shuffle(dataset, 1, 2, first), CARSO_OK);
    ck_assert_int_eq(carso_dataset_shuffle(other, 1, 2, second), CARSO_OK);
    ck_assert_mem_eq(first, second, sizeof first);
    bool seen[COUNT] = {false};
    for (int i = 0; i < COUNT; i++) {
        ck_assert_uint_lt(first[i], COUNT);
        ck_assert(!seen[first[i]]);
        seen[first[i]] = true;
    }
    ck_assert_int_eq(carso_dataset_shuffle(dataset, 1, 3, second), CARSO_OK);
    ck_assert_mem_ne(first, second, sizeof first);
    ck_assert_int_eq(carso_dataset_shuffle(dataset, 2, 2, second), CARSO_OK);
    ck_assert_mem_ne(first, second, sizeof first);
    carso_dataset_destroy(dataset);
    carso_dataset_destroy(other);
}
END_TEST

/* Whether out is the image moved by (down, right), zeros coming in, mirrored or not. */
static bool is_moved(const uint8_t *image, const uint8_t *out, int height, int width, int down, int right,
                     bool mirrored)
{
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            const int from_y = y + down, from_x = (mirrored ? width - 1 - x : x) + right;
            const bool inside = from_y >= 0 && from_y < height && from_x >= 0 && from_x < width;
            if (out[y * width + x] != (inside ? image[from_y * width + from_x] : 0)) {
                return false;
            }
        }
    }
    return true;
}

START_TEST(augmentation_crops_and_mirrors)
{
    enum { COUNT = 200 };
    uint64_t indices[COUNT];
    static uint8_t plain[COUNT * 20], moved[COUNT * 20], again[COUNT * 20];
    write_idx("train-images-idx3-ubyte", "train-labels-idx1-ubyte", COUNT, 5, 4, 1);
    carso_dataset *dataset = open_set("", CARSO_SPLIT_TRAIN);
    for (uint64_t i = 0; i < COUNT; i++) {
        indices[i] = i;
    }
    carso_read_options options;
    carso_read_options_init(&options, sizeof options);
    ck_assert_int_eq(carso_dataset_read(dataset, indices, COUNT, &options, plain, NULL), CARSO_OK);
    options.crop_padding = 1;
    options.mirror = 1;
    options.seed = 5;
    options.epoch = ((uint64_t)3 << 32) + 1;
    ck_assert_int_eq(carso_dataset_read(dataset, indices, COUNT, &options, moved, NULL), CARSO_OK);
    int tally[3][3][2] = {{{0}}};
    for (int i = 0; i < COUNT; i++) {
        int matches = 0;
        for (int variant = 0; variant < 18; variant++) {
            const int down = variant / 6 - 1, right = variant / 2 % 3 - 1, mirrored = variant % 2;
            if (is_moved(plain + 20 * i, moved + 20 * i, 5, 4, down, right, mirrored != 0)) {
                tally[down + 1][right + 1][mirrored]++;
                matches++;
            }
        }
        ck_assert_int_eq(matches, 1);
    }
    /* 200 images over 18 variants: none is left out, none has half of them. */
    for (int variant = 0; variant < 18; variant++) {
        ck_assert_int_ge(tally[variant / 6][variant / 2 % 3][variant % 2], 1);
        ck_assert_int_le(tally[variant / 6][variant / 2 % 3][variant % 2], 40);
    }
    /* One by one, in another order, the same. */
    for (uint64_t i = COUNT; i-- > 0;) {
        ck_assert_int_eq(carso_dataset_read(dataset, &i, 1, &options, again + 20 * i, NULL), CARSO_OK);
    }
    ck_assert_mem_eq(moved, again, sizeof moved);
    options.epoch = 1;
    ck_assert_int_eq(carso_dataset_read(dataset, indices, COUNT, &options, again, NULL), CARSO_OK);
    ck_assert_mem_ne(moved, again, sizeof moved);
    options.crop_padding = 0;
    ck_assert_int_eq(carso_dataset_read(dataset, indices, COUNT, &options, again, NULL), CARSO_OK);
    for (int i = 0; i < COUNT; i++) {
        ck_assert(is_moved(plain + 20 * i, again + 20 * i, 5, 4, 0, 0, false) ||
                  is_moved(plain + 20 * i, again + 20 * i, 5, 4, 0, 0, true));
    }
    options.mirror = 0;
    options.crop_padding = 4;
    ck_assert_int_eq(carso_dataset_read(dataset, indices, COUNT, &options, again, NULL), CARSO_OK);
    carso_dataset_destroy(dataset);
}
END_TEST

START_TEST(each_failed_allocation_is_survived)
{
    static const char *const names[] = {"train-images-idx3-ubyte", "data_batch_1.bin"};
    for (int i = 0; i < 2; i++) {
        if (i == 0) {
            write_idx(names[0], "train-labels-idx1-ubyte", 7, 5, 4, 1);
        } else {
            for (int j = 1; j <= 5; j++) {
                char name[32];
                snprintf(name, sizeof name, "data_batch_%d.bin", j);
                write_cifar(name, 1, 1, 0);
            }
            scratch_write("batches.meta.txt", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n", 20);
        }
        const long held = counts.held;
        carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
        for (long failing = 1; status != CARSO_OK; failing++) {
            carso_dataset *dataset = NULL;
            counts.made = 0;
            counts.failing = failing;
            status = carso_dataset_open(context, scratch_path, CARSO_SPLIT_TRAIN, &dataset);
            ck_assert_int_eq(status, counts.made < failing ? CARSO_OK : CARSO_ERROR_OUT_OF_MEMORY);
            carso_dataset_destroy(dataset);
            ck_assert_int_eq(counts.held, held);
        }
        counts.failing = 0;
        ck_assert_int_eq(unlink(scratch_file(names[i])), 0);
    }
}
END_TEST

static void *read_many(void *user)
{
    const carso_dataset *dataset = user;
    uint8_t pixels[20];
    for (uint64_t i = 0; i < 5000; i++) {
        const uint64_t index = i % 7;
        int32_t label;
        if (carso_dataset_read(dataset, &index, 1, NULL, pixels, &label) != CARSO_OK ||
            label != (int32_t)(index % 3 + 1) || pixels[1] != (20 * index + 1) % 251) {
            return user;
        }
    }
    return NULL;
}

START_TEST(threads_read_one_data_set)
{
    write_idx("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 7, 5, 4, 1);
    carso_dataset *dataset = open_set("", CARSO_SPLIT_TRAIN);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_many, dataset), 0);
    }
    for (int i = 0; i < 3; i++) {
        void *result;
        pthread_join(threads[i], &result);
        ck_assert_ptr_null(result);
    }
    carso_dataset_destroy(dataset);
}
END_TEST

START_TEST(a_data_set_keeps_its_context)
{
    write_idx("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 7, 5, 4, 1);
    counting_allocator own = {0};
    carso_context *other = counting_context(&own);
    carso_dataset *dataset;
    ck_assert_int_eq(carso_dataset_open(other, scratch_path, CARSO_SPLIT_TRAIN, &dataset), CARSO_OK);
    carso_context_destroy(other);
    check_idx(dataset);
    carso_dataset_destroy(dataset);
    ck_assert_int_eq(own.held, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("data");
    TCase *tests = tcase_create("data");
    tcase_add_checked_fixture(tests, set_up_with_folder, tear_down_with_folder);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, read_checks_its_arguments);
    tcase_add_test(tests, shuffle_depends_on_seed_and_epoch_alone);
    tcase_add_test(tests, augmentation_crops_and_mirrors);
    tcase_add_test(tests, each_failed_allocation_is_survived);
    tcase_add_test(tests, threads_read_one_data_set);
    tcase_add_test(tests, a_data_set_keeps_its_context);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
