/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening IDX and CIFAR files. */
#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data_case.h"

#define FASHION "/usr/share/datasets/fashion-mnist"

static void refuse_set(const char *name, carso_split split, carso_status expected, const char *part)
{
    carso_dataset *dataset = (carso_dataset *)&counts;
    const carso_status status = carso_dataset_open(context, scratch_file(name), split, &dataset);
    ck_assert_msg(status == expected, "status %d instead of %d; message: %s", (int)status, (int)expected, message());
    ck_assert_ptr_null(dataset);
    ck_assert_msg(strstr(message(), part) != NULL, "message: %s", message());
}

START_TEST(idx_opens_in_all_spellings)
{
    static const char *const names[][2] = {
        {"train-images-idx3-ubyte", "train-labels-idx1-ubyte"},
        {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"},
        {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"},
        {"train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz"},
        {"train-images.idx3-ubyte", "train-labels.idx1-ubyte"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        write_idx(names[i][0], names[i][1], 7, 5, 4, 1);
        carso_dataset *dataset = open_set("", CARSO_SPLIT_TRAIN);
        check_idx(dataset);
        carso_dataset_destroy(dataset);
        dataset = open_set(names[i][0], CARSO_SPLIT_TEST);
        check_idx(dataset);
        carso_dataset_destroy(dataset);
        refuse_set("", CARSO_SPLIT_TEST, CARSO_ERROR_NOT_FOUND, "training split only");
        scratch_remove();
        ck_assert_int_eq(mkdir(scratch_path, 0777), 0);
    }
    carso_dataset_destroy(NULL);
}
END_TEST

START_TEST(classes_are_those_of_both_splits)
{
    write_idx("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 7, 5, 4, 1);
    write_idx("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 2, 5, 4, 0);
    carso_dataset *dataset = open_set("", CARSO_SPLIT_TEST);
    ck_assert_uint_eq(info_of(dataset).count, 2);
    ck_assert_int_eq(info_of(dataset).classes, 4);
    carso_dataset_destroy(dataset);
}
END_TEST

START_TEST(fashion_is_known_by_its_path)
{
    static const char *const folders[] = {"my-Fashion-set", "digits"};
    for (int i = 0; i < 2; i++) {
        char images[64], labels[64];
        scratch_make_folder(folders[i]);
        snprintf(images, sizeof images, "%s/t10k-images-idx3-ubyte", folders[i]);
        snprintf(labels, sizeof labels, "%s/t10k-labels-idx1-ubyte", folders[i]);
        write_idx(images, labels, 3, 28, 28, 7);
        carso_dataset *dataset = open_set(folders[i], CARSO_SPLIT_TEST);
        ck_assert_int_eq(info_of(dataset).classes, 10);
        ck_assert_str_eq(carso_dataset_class_name(dataset, 9), i == 0 ? "Ankle boot" : "9");
        carso_dataset_destroy(dataset);
    }
}
END_TEST

START_TEST(damaged_idx_is_refused)
{
    static const char *const images = "train-images-idx3-ubyte";
    static const char *const labels = "train-labels-idx1-ubyte";
    size_t size;
    write_idx(images, labels, 7, 5, 4, 1);
    unsigned char *good = scratch_read(images, &size);
    unsigned char *bad = malloc(size + 1);
    ck_assert_ptr_nonnull(bad);
    for (size_t kept = 0; kept < size; kept++) {
        scratch_write(images, good, kept);
        refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_BAD_FORMAT, images);
    }
    memcpy(bad, good, size);
    bad[size] = 0;
    scratch_write(images, bad, size + 1);
    refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_BAD_FORMAT, images);
    for (size_t i = 0; i < 16; i++) {
        memcpy(bad, good, size);
        bad[i] ^= 0x80;
        scratch_write(images, bad, size);
        refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_BAD_FORMAT, images);
        bad[i] = 0;
        scratch_write(images, bad, size);
        if (good[i] != 0) {
            refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_BAD_FORMAT, images);
        }
    }
    free(bad);
    free(good);
    write_idx(images, "other-labels", 6, 5, 4, 1);
    refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_BAD_FORMAT, "7 labels for 6 images");
    scratch_write(labels,
                  "\0\0\x08\x01\0\0\0\x06"
                  "abc",
                  11);
    refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_BAD_FORMAT, labels);
    ck_assert_int_eq(unlink(scratch_file(labels)), 0);
    refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_NOT_FOUND, "no file of labels");
    scratch_make_folder(labels);
    refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_NOT_FOUND, "no file of labels");
}
END_TEST

START_TEST(damaged_compression_is_refused)
{
    static const char *const images = "train-images-idx3-ubyte.gz";
    size_t size;
    write_idx(images, "train-labels-idx1-ubyte.gz", 7, 5, 4, 1);
    unsigned char *good = scratch_read(images, &size);
    for (size_t kept = 0; kept < size; kept++) {
        scratch_write(images, good, kept);
        refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_BAD_FORMAT, images);
    }
    for (size_t i = size - 8; i < size; i++) {
        good[i] ^= 1;
        scratch_write(images, good, size);
        refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_BAD_FORMAT, images);
        good[i] ^= 1;
    }
    free(good);
    /* More inside than the header says, and a header that promises what no file of this size can hold. */
    unsigned char data[64] = {0};
    const size_t length = put_header(data, 3, (const uint32_t[3]){1, 2, 2});
    write_maybe_compressed(images, data, length + 5);
    refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_BAD_FORMAT, "more data");
    put_header(data, 3, (const uint32_t[3]){UINT32_MAX, 16384, 16384});
    write_maybe_compressed(images, data, length);
    const long made = counts.made;
    refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_BAD_FORMAT, "promises");
    ck_assert_int_eq(counts.made, made + 1);
}
END_TEST

START_TEST(missing_and_odd_places_are_refused)
{
    refuse_set("none", CARSO_SPLIT_TRAIN, CARSO_ERROR_NOT_FOUND, "No such file");
    refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_NOT_FOUND, "no data set");
    scratch_write("file", "text", 4);
    refuse_set("file", CARSO_SPLIT_TRAIN, CARSO_ERROR_NOT_FOUND, "labels");
    refuse_set("file/x", CARSO_SPLIT_TRAIN, CARSO_ERROR_NOT_FOUND, "Not a directory");
    scratch_make_folder("class");
    refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_NOT_FOUND, "no PNG or JPEG");
    refuse_set("", (carso_split)2, CARSO_ERROR_INVALID_ARGUMENT, "split");
    ck_assert_int_eq(carso_dataset_open(context, NULL, CARSO_SPLIT_TRAIN, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    carso_dataset *dataset;
    ck_assert_int_eq(carso_dataset_open(context, NULL, CARSO_SPLIT_TRAIN, &dataset), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_dataset_open(NULL, "x", CARSO_SPLIT_TRAIN, &dataset), CARSO_ERROR_INVALID_ARGUMENT);
}
END_TEST

START_TEST(installed_fashion_mnist_opens)
{
    if (access(FASHION, F_OK) != 0) {
        return;
    }
    for (int split = CARSO_SPLIT_TRAIN; split <= CARSO_SPLIT_TEST; split++) {
        carso_dataset *dataset;
        ck_assert_int_eq(carso_dataset_open(context, FASHION, (carso_split)split, &dataset), CARSO_OK);
        const carso_dataset_info info = info_of(dataset);
        ck_assert_uint_eq(info.count, split == CARSO_SPLIT_TRAIN ? 60000 : 10000);
        ck_assert_int_eq(info.width, 28);
        ck_assert_int_eq(info.height, 28);
        ck_assert_int_eq(info.channels, 1);
        ck_assert_int_eq(info.classes, 10);
        ck_assert_str_eq(carso_dataset_class_name(dataset, 0), "T-shirt/top");
        /* Both splits are balanced. */
        uint64_t tally[10] = {0};
        uint8_t pixels[784];
        uint64_t failures = 0;
        for (uint64_t i = 0; i < info.count; i++) {
            int32_t label;
            if (carso_dataset_read(dataset, &i, 1, NULL, pixels, &label) == CARSO_OK && label >= 0 && label < 10) {
                tally[label]++;
            } else {
                failures++;
            }
        }
        ck_assert_uint_eq(failures, 0);
        for (int i = 0; i < 10; i++) {
            ck_assert_uint_eq(tally[i], info.count / 10);
        }
        carso_dataset_destroy(dataset);
    }
}
END_TEST

START_TEST(cifar_10_opens)
{
    for (int i = 1; i <= 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "data_batch_%d.bin", i);
        write_cifar(name, 1, i, 2);
    }
    refuse_set("", CARSO_SPLIT_TEST, CARSO_ERROR_NOT_FOUND, "training split only");
    write_cifar("test_batch.bin", 1, 3, 7);
    carso_dataset *dataset = open_set("", CARSO_SPLIT_TRAIN);
    carso_dataset_info info = info_of(dataset);
    ck_assert_uint_eq(info.count, 15);
    ck_assert_int_eq(info.channels, 3);
    ck_assert_int_eq(info.height, 32);
    ck_assert_int_eq(info.width, 32);
    ck_assert_int_eq(info.classes, 10);
    ck_assert_str_eq(info.format, "cifar10");
    ck_assert_str_eq(carso_dataset_class_name(dataset, 6), "frog");
    static const uint64_t index = 14;
    uint8_t pixels[3072];
    int32_t label;
    ck_assert_int_eq(carso_dataset_read(dataset, &index, 1, NULL, pixels, &label), CARSO_OK);
    ck_assert_int_eq(label, 6);
    int wrong = 0;
    for (size_t j = 0; j < 1024; j++) {
        for (size_t c = 0; c < 3; c++) {
            wrong += pixels[3 * j + c] != (unsigned char)(c * 80 + (c * 1024 + j) % 79 + 4);
        }
    }
    ck_assert_int_eq(wrong, 0);
    carso_dataset_destroy(dataset);
    scratch_write("batches.meta.txt", "a\nb\nc\r\nd\ne\nf\ng\nh\ni\nj\n\n", 23);
    dataset = open_set("", CARSO_SPLIT_TEST);
    ck_assert_uint_eq(info_of(dataset).count, 3);
    ck_assert_str_eq(carso_dataset_class_name(dataset, 2), "c");
    ck_assert_str_eq(carso_dataset_class_name(dataset, 9), "j");
    carso_dataset_destroy(dataset);
}
END_TEST

START_TEST(cifar_100_opens_with_fine_labels)
{
    write_cifar("train.bin", 2, 4, 96);
    carso_dataset *dataset = open_set("", CARSO_SPLIT_TRAIN);
    const carso_dataset_info info = info_of(dataset);
    ck_assert_uint_eq(info.count, 4);
    ck_assert_int_eq(info.classes, 100);
    ck_assert_str_eq(info.format, "cifar100");
    ck_assert_str_eq(carso_dataset_class_name(dataset, 99), "99");
    static const uint64_t index = 3;
    uint8_t pixels[3072];
    int32_t label;
    ck_assert_int_eq(carso_dataset_read(dataset, &index, 1, NULL, pixels, &label), CARSO_OK);
    ck_assert_int_eq(label, 99);
    carso_dataset_destroy(dataset);
}
END_TEST

START_TEST(damaged_cifar_is_refused)
{
    for (int i = 1; i <= 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "data_batch_%d.bin", i);
        write_cifar(name, 1, 2, i == 4 ? 9 : 0);
    }
    refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_BAD_FORMAT, "data_batch_4.bin: image 1 has label 10");
    ck_assert_int_eq(truncate(scratch_file("data_batch_3.bin"), 3073 + 5), 0);
    refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_BAD_FORMAT, "data_batch_3.bin");
    ck_assert_int_eq(truncate(scratch_file("data_batch_3.bin"), 0), 0);
    refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_BAD_FORMAT, "data_batch_3.bin");
    ck_assert_int_eq(unlink(scratch_file("data_batch_3.bin")), 0);
    refuse_set("", CARSO_SPLIT_TRAIN, CARSO_ERROR_NOT_FOUND, "data_batch_3.bin");
    write_cifar("test_batch.bin", 1, 2, 0);
    scratch_write("batches.meta.txt", "a\nb\n", 4);
    refuse_set("", CARSO_SPLIT_TEST, CARSO_ERROR_BAD_FORMAT, "2 names for 10 classes");
    ck_assert_int_eq(truncate(scratch_file("batches.meta.txt"), 1 << 20), 0);
    refuse_set("", CARSO_SPLIT_TEST, CARSO_ERROR_BAD_FORMAT, "batches.meta.txt");
    ck_assert_int_eq(truncate(scratch_file("batches.meta.txt"), 0), 0);
    refuse_set("", CARSO_SPLIT_TEST, CARSO_ERROR_BAD_FORMAT, "0 names");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("data formats");
    TCase *tests = tcase_create("data");
    tcase_add_checked_fixture(tests, set_up_with_folder, tear_down_with_folder);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, idx_opens_in_all_spellings);
    tcase_add_test(tests, classes_are_those_of_both_splits);
    tcase_add_test(tests, fashion_is_known_by_its_path);
    tcase_add_test(tests, damaged_idx_is_refused);
    tcase_add_test(tests, damaged_compression_is_refused);
    tcase_add_test(tests, missing_and_odd_places_are_refused);
    tcase_add_test(tests, installed_fashion_mnist_opens);
    tcase_add_test(tests, cifar_10_opens);
    tcase_add_test(tests, cifar_100_opens_with_fine_labels);
    tcase_add_test(tests, damaged_cifar_is_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
