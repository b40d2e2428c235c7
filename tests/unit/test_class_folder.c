/* SPDX-License-Identifier: BSD-2-Clause */
/* Folders of image files, a folder a class. */
#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image_case.h"

static carso_status open_folder(const char *name, carso_split split, carso_dataset **out, carso_dataset_info *info)
{
    const carso_status status = carso_dataset_open(context, scratch_file(name), split, out);
    if (status == CARSO_OK) {
        info->struct_size = sizeof *info;
        ck_assert_int_eq(carso_dataset_get_info(*out, info), CARSO_OK);
    }
    return status;
}

START_TEST(folder_of_classes_opens)
{
    carso_dataset *dataset;
    carso_dataset_info info;
    uint8_t photo[8 * 8 * 3];
    scratch_make_folder("dog");
    scratch_make_folder("cat");
    scratch_make_folder(".hidden");
    put_image("cat/b.PNG", 8, 8, CARSO_ORDER_GRAY, 20);
    put_image("cat/a.png", 8, 8, CARSO_ORDER_RGB, 10);
    put_image("cat/.c.png", 4, 4, CARSO_ORDER_RGB, 0);
    put_image(".hidden/a.png", 4, 4, CARSO_ORDER_RGB, 0);
    scratch_write("cat/notes.txt", "x", 1);
    memset(photo, 30, sizeof photo);
    write_jpeg("dog/a.jpeg", 8, 8, 3, false, photo);
    for (int split = CARSO_SPLIT_TRAIN; split <= CARSO_SPLIT_TEST; split++) {
        ck_assert_int_eq(open_folder("", (carso_split)split, &dataset, &info), CARSO_OK);
        ck_assert_uint_eq(info.count, 3);
        ck_assert_int_eq(info.channels, 3);
        ck_assert_int_eq(info.width, 8);
        ck_assert_int_eq(info.height, 8);
        ck_assert_int_eq(info.classes, 2);
        ck_assert_str_eq(info.format, "folder");
        ck_assert_str_eq(carso_dataset_class_name(dataset, 0), "cat");
        ck_assert_str_eq(carso_dataset_class_name(dataset, 1), "dog");
        static const uint64_t indices[3] = {1, 2, 0}; /* the second of the class that has two comes last */
        uint8_t pixels[3 * 192];
        int32_t labels[3];
        ck_assert_int_eq(carso_dataset_read(dataset, indices, 3, NULL, pixels, labels), CARSO_OK);
        for (int i = 0; i < 3 * 192; i++) {
            ck_assert_int_le(abs(pixels[i] - (30 - i / 192 * 10)), 1);
        }
        ck_assert_int_eq(labels[0], 1);
        ck_assert_int_eq(labels[1], 0);
        ck_assert_int_eq(labels[2], 0);
        carso_read_options options;
        carso_read_options_init(&options, sizeof options);
        options.crop_padding = 8;
        options.mirror = 1;
        ck_assert_int_eq(carso_dataset_read(dataset, indices, 3, &options, pixels, labels), CARSO_OK);
        carso_dataset_destroy(dataset);
    }
}
END_TEST

START_TEST(parts_share_their_classes)
{
    carso_dataset *dataset;
    carso_dataset_info info;
    static const char *const folders[] = {"train", "train/a", "train/b", "train/c",
                                          "test",  "test/a",  "test/c",  "test/d"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        scratch_make_folder(folders[i]);
    }
    put_image("train/a/1.png", 8, 8, CARSO_ORDER_GRAY, 1);
    put_image("train/b/1.png", 8, 8, CARSO_ORDER_GRAY, 2);
    put_image("test/a/1.png", 8, 8, CARSO_ORDER_GRAY, 3);
    put_image("test/c/1.png", 8, 8, CARSO_ORDER_GRAY, 4);
    ck_assert_int_eq(open_folder("", CARSO_SPLIT_TRAIN, &dataset, &info), CARSO_OK);
    ck_assert_uint_eq(info.count, 2);
    ck_assert_int_eq(info.channels, 1);
    ck_assert_int_eq(info.classes, 4);
    carso_dataset_destroy(dataset);
    ck_assert_int_eq(open_folder("", CARSO_SPLIT_TEST, &dataset, &info), CARSO_OK);
    ck_assert_uint_eq(info.count, 2);
    ck_assert_int_eq(info.classes, 4);
    static const uint64_t index = 1;
    uint8_t pixels[64];
    int32_t label;
    ck_assert_int_eq(carso_dataset_read(dataset, &index, 1, NULL, pixels, &label), CARSO_OK);
    ck_assert_int_eq(label, 2);
    ck_assert_uint_eq(pixels[0], 4);
    ck_assert_str_eq(carso_dataset_class_name(dataset, 3), "d");
    carso_dataset_destroy(dataset);
    ck_assert_int_eq(rename(scratch_file("test"), scratch_file(".test")), 0);
    ck_assert_int_eq(open_folder("", CARSO_SPLIT_TEST, &dataset, &info), CARSO_ERROR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(message(), "\"test\""));
}
END_TEST

START_TEST(a_class_may_be_called_train)
{
    carso_dataset *dataset;
    carso_dataset_info info;
    scratch_make_folder("train");
    scratch_make_folder("bus");
    put_image("train/1.png", 8, 8, CARSO_ORDER_GRAY, 1);
    put_image("bus/1.png", 8, 8, CARSO_ORDER_GRAY, 1);
    ck_assert_int_eq(open_folder("", CARSO_SPLIT_TRAIN, &dataset, &info), CARSO_OK);
    ck_assert_int_eq(info.classes, 2);
    ck_assert_uint_eq(info.count, 2);
    carso_dataset_destroy(dataset);
}
END_TEST

START_TEST(bad_images_in_folders_are_named)
{
    carso_dataset *dataset;
    carso_dataset_info info;
    char name[32];
    uint8_t pixels[64];
    scratch_make_folder("a");
    put_image("a/0.png", 8, 8, CARSO_ORDER_GRAY, 1);
    put_image("a/1.png", 8, 4, CARSO_ORDER_GRAY, 1);
    ck_assert_int_eq(open_folder("", CARSO_SPLIT_TRAIN, &dataset, &info), CARSO_ERROR_BAD_FORMAT);
    ck_assert_ptr_nonnull(strstr(message(), "1.png: 8x4, others of the data set are 8x8"));
    scratch_write("a/1.png", "", 0);
    ck_assert_int_eq(open_folder("", CARSO_SPLIT_TRAIN, &dataset, &info), CARSO_ERROR_BAD_FORMAT);
    ck_assert_ptr_nonnull(strstr(message(), "1.png"));
    /* More than are looked at on opening: what is wrong with the second is found when it is read. */
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "a/%03d.png", i);
        ck_assert_int_eq(link(scratch_file("a/0.png"), scratch_file(name)), 0);
    }
    put_image("a/1.png", 8, 8, CARSO_ORDER_GRAY, 1);
    put_image("a/001.png", 8, 4, CARSO_ORDER_GRAY, 1);
    ck_assert_int_eq(open_folder("", CARSO_SPLIT_TRAIN, &dataset, &info), CARSO_OK);
    ck_assert_uint_eq(info.count, 202);
    uint64_t bad = UINT64_MAX;
    for (uint64_t i = 0; i < info.count; i++) {
        const carso_status status = carso_dataset_read(dataset, &i, 1, NULL, pixels, NULL);
        if (status != CARSO_OK) {
            ck_assert_int_eq(status, CARSO_ERROR_BAD_FORMAT);
            ck_assert_ptr_nonnull(strstr(message(), "001.png: 8x4, expected 8x8"));
            ck_assert_uint_eq(bad, UINT64_MAX);
            bad = i;
        }
    }
    ck_assert_uint_ne(bad, UINT64_MAX);
    put_image("a/001.png", 8, 8, CARSO_ORDER_RGB, 1);
    ck_assert_int_eq(carso_dataset_read(dataset, &bad, 1, NULL, pixels, NULL), CARSO_ERROR_BAD_FORMAT);
    ck_assert_ptr_nonnull(strstr(message(), "colour"));
    ck_assert_int_eq(unlink(scratch_file("a/001.png")), 0);
    ck_assert_int_eq(carso_dataset_read(dataset, &bad, 1, NULL, pixels, NULL), CARSO_ERROR_NOT_FOUND);
    carso_dataset_destroy(dataset);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("class folder");
    TCase *tests = tcase_create("class_folder");
    tcase_add_checked_fixture(tests, set_up_with_folder, tear_down_with_folder);
    tcase_set_timeout(tests, 100);
    tcase_add_test(tests, folder_of_classes_opens);
    tcase_add_test(tests, parts_share_their_classes);
    tcase_add_test(tests, a_class_may_be_called_train);
    tcase_add_test(tests, bad_images_in_folders_are_named);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
