/* SPDX-License-Identifier: BSD-2-Clause */
/* Tiny-ImageNet-200's folders, made small: which image has which class, names from words.txt, what is wrong is named. */
#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "carso/carso.h"
#include "scratch_folder.h"

#define SIDE 6
#define TRAIN_OF_CLASS 3
#define VALIDATION 4

static const char *const classes[] = {"n01443537", "n02124075", "n07749582"}; /* in the order of their bytes */
static const char annotations[] = "val_0.JPEG\tn07749582\t0\t32\t44\t62\n"
                                  "val_1.JPEG\tn01443537\t52\t55\t57\t59\r\n"
                                  "\n"
                                  "val_3.JPEG\tn02124075\t4\t0\t60\t55\n"
                                  "val_2.JPEG\tn01443537\t3\t3\t63\t63";

static carso_context *context;

/* An image of one gray level, or of one colour. Its name says JPEG, as all there do; what it is, its first bytes say. */
static void write_image(const char *path, int level, bool colour)
{
    uint8_t pixels[SIDE * SIDE * 3];
    carso_images images;
    memset(pixels, level, sizeof pixels);
    carso_images_init(&images, sizeof images);
    images.data = pixels;
    images.count = 1;
    images.width = images.height = SIDE;
    images.order = colour ? CARSO_ORDER_RGB : CARSO_ORDER_GRAY;
    ck_assert_int_eq(carso_image_write_png(context, scratch_file("image.png"), &images, 0), CARSO_OK);
    ck_assert_int_eq(rename(scratch_file("image.png"), scratch_file(path)), 0);
}

static void set_up(void)
{
    char path[128];
    ck_assert_int_eq(carso_context_create(NULL, &context), CARSO_OK);
    scratch_create();
    scratch_make_folder("train");
    scratch_make_folder("val");
    scratch_make_folder("val/images");
    for (int i = 2; i >= 0; i--) {
        snprintf(path, sizeof path, "train/%s", classes[i]);
        scratch_make_folder(path);
        snprintf(path, sizeof path, "train/%s/%s_boxes.txt", classes[i], classes[i]);
        scratch_write(path, "x", 1);
        snprintf(path, sizeof path, "train/%s/images", classes[i]);
        scratch_make_folder(path);
        for (int j = 0; j < TRAIN_OF_CLASS; j++) {
            snprintf(path, sizeof path, "train/%s/images/%s_%d.JPEG", classes[i], classes[i], j);
            write_image(path, 10 * i + j, i != 1);
        }
    }
    for (int i = 0; i < VALIDATION; i++) {
        snprintf(path, sizeof path, "val/images/val_%d.JPEG", i);
        write_image(path, 100 + i, i != 2);
    }
    scratch_write("val/val_annotations.txt", annotations, strlen(annotations));
}

static void tear_down(void)
{
    carso_context_destroy(context);
    scratch_remove();
}

static carso_dataset *open_set(carso_split split)
{
    carso_dataset *dataset = NULL;
    ck_assert_int_eq(carso_dataset_open(context, scratch_path, split, &dataset), CARSO_OK);
    return dataset;
}

static void refuse(carso_split split, carso_status status, const char *words)
{
    carso_dataset *dataset = NULL;
    char message[1024];
    ck_assert_int_eq(carso_dataset_open(context, scratch_path, split, &dataset), status);
    ck_assert_ptr_null(dataset);
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(strstr(message, words) != NULL, "'%s' does not say '%s'", message, words);
}

static void check_images(const carso_dataset *dataset, const int *labels, const int *levels, uint64_t count)
{
    carso_dataset_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(carso_dataset_get_info(dataset, &info), CARSO_OK);
    ck_assert_uint_eq(info.count, count);
    ck_assert_int_eq(info.classes, 3);
    ck_assert_int_eq(info.channels, 3);
    ck_assert_int_eq(info.height, SIDE);
    ck_assert_str_eq(info.format, "tinyimagenet");
    for (uint64_t i = 0; i < count; i++) {
        uint8_t pixels[SIDE * SIDE * 3];
        int32_t label = -1;
        ck_assert_int_eq(carso_dataset_read(dataset, &i, 1, NULL, pixels, &label), CARSO_OK);
        ck_assert_int_eq(label, labels[i]);
        ck_assert_int_eq(pixels[0], levels[i]);
        ck_assert_int_eq(pixels[sizeof pixels - 1], levels[i]);
    }
}

START_TEST(both_splits)
{
    static const int train_labels[] = {0, 1, 2, 0, 1, 2, 0, 1, 2}, train_levels[] = {0, 10, 20, 1, 11, 21, 2, 12, 22};
    static const int labels[] = {2, 0, 1, 0}, levels[] = {100, 101, 103, 102}; /* as the list has them */
    carso_dataset *dataset = open_set(CARSO_SPLIT_TRAIN);
    check_images(dataset, train_labels, train_levels, 9);
    for (int i = 0; i < 3; i++) {
        ck_assert_str_eq(carso_dataset_class_name(dataset, i), classes[i]);
    }
    carso_dataset_destroy(dataset);
    dataset = open_set(CARSO_SPLIT_TEST);
    check_images(dataset, labels, levels, VALIDATION);
    carso_dataset_destroy(dataset);
}
END_TEST

START_TEST(words)
{
    static const char text[] = "n00001740\tentity\nn02124075\tEgyptian cat\nno tab\nn01443537\tgoldfish, Carassius auratus\r\n"
                               "n07749582\t\n";
    scratch_write("words.txt", text, strlen(text));
    carso_dataset *dataset = open_set(CARSO_SPLIT_TEST);
    ck_assert_str_eq(carso_dataset_class_name(dataset, 0), "goldfish");
    ck_assert_str_eq(carso_dataset_class_name(dataset, 1), "Egyptian cat");
    ck_assert_str_eq(carso_dataset_class_name(dataset, 2), classes[2]);
    carso_dataset_destroy(dataset);
}
END_TEST

START_TEST(wrong_lists)
{
    static const struct {
        const char *text, *words;
    } wrong[] = {
        {"val_0.JPEG\tn00000000\t0\n", "the class of image 0 has no folder"},
        {"val_0.JPEG\tn01443537\nval_1.JPEG\n", "the line of image 1"},
        {"../val_0.JPEG\tn01443537\n", "the line of image 0"},
        {"\t\t\n", "the line of image 0"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        scratch_write("val/val_annotations.txt", wrong[i].text, strlen(wrong[i].text));
        refuse(CARSO_SPLIT_TEST, CARSO_ERROR_BAD_FORMAT, wrong[i].words);
    }
    scratch_write("val/val_annotations.txt", "\n\r\n", 3);
    refuse(CARSO_SPLIT_TEST, CARSO_ERROR_NOT_FOUND, "no images of the test split");
    scratch_write("val/val_annotations.txt", "none.JPEG\tn01443537\n", 20);
    refuse(CARSO_SPLIT_TEST, CARSO_ERROR_NOT_FOUND, "none.JPEG");
    /* The training images do not need the list. */
    carso_dataset_destroy(open_set(CARSO_SPLIT_TRAIN));
}
END_TEST

START_TEST(wrong_folders)
{
    ck_assert_int_eq(rename(scratch_file("train/n02124075/images"), scratch_file("train/n02124075/pictures")), 0);
    refuse(CARSO_SPLIT_TRAIN, CARSO_ERROR_NOT_FOUND, "train/n02124075/images");
    carso_dataset_destroy(open_set(CARSO_SPLIT_TEST));
    ck_assert_int_eq(rename(scratch_file("train"), scratch_file("other")), 0);
    refuse(CARSO_SPLIT_TEST, CARSO_ERROR_NOT_FOUND, "train");
    scratch_make_folder("train");
    refuse(CARSO_SPLIT_TRAIN, CARSO_ERROR_NOT_FOUND, "no folders of classes");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tiny_imagenet");
    TCase *tests = tcase_create("tiny_imagenet");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, both_splits);
    tcase_add_test(tests, words);
    tcase_add_test(tests, wrong_lists);
    tcase_add_test(tests, wrong_folders);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
