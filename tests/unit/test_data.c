/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/context.h"
#include "carso/data.h"
#include "counted_folder.h"
#include "scratch_folder.h"

#define FASHION "/usr/share/datasets/fashion-mnist"

static const char *message(void)
{
    static char text[CSO_MESSAGE_SIZE];
    carso_context_message(context, text, sizeof text);
    return text;
}

static void refuse_set(const char *name, carso_split split, carso_status expected, const char *part)
{
    carso_dataset *dataset = (carso_dataset *)&counts;
    const carso_status status = carso_dataset_open(context, scratch_file(name), split, &dataset);
    ck_assert_msg(status == expected, "status %d instead of %d; message: %s", (int)status, (int)expected, message());
    ck_assert_ptr_null(dataset);
    ck_assert_msg(strstr(message(), part) != NULL, "message: %s", message());
}

static carso_dataset *open_set(const char *name, carso_split split)
{
    carso_dataset *dataset;
    const carso_status status = carso_dataset_open(context, scratch_file(name), split, &dataset);
    ck_assert_msg(status == CARSO_OK, "message: %s", message());
    return dataset;
}

static carso_dataset_info info_of(const carso_dataset *dataset)
{
    carso_dataset_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(carso_dataset_get_info(dataset, &info), CARSO_OK);
    return info;
}

/* IDX */

static size_t put_header(unsigned char *out, int rank, const uint32_t *sizes)
{
    size_t length = 4;
    memcpy(out, (const unsigned char[4]){0, 0, 8, (unsigned char)rank}, 4);
    for (int i = 0; i < rank; i++) {
        for (int shift = 24; shift >= 0; shift -= 8) {
            out[length++] = (unsigned char)(sizes[i] >> shift);
        }
    }
    return length;
}

static void write_maybe_compressed(const char *name, const void *data, size_t size)
{
    if (strstr(name, ".gz") == NULL) {
        scratch_write(name, data, size);
        return;
    }
    gzFile file = gzopen(scratch_file(name), "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(gzwrite(file, data, (unsigned)size), (int)size);
    ck_assert_int_eq(gzclose(file), Z_OK);
}

/* count images of height x width whose pixel i has the value i modulo 251, label i modulo 3 plus lowest. */
static void write_idx(const char *images, const char *labels, uint32_t count, uint32_t height, uint32_t width,
                      int lowest)
{
    static unsigned char data[100000];
    size_t length = put_header(data, 3, (const uint32_t[3]){count, height, width});
    for (uint32_t i = 0; i < count * height * width; i++) {
        data[length++] = (unsigned char)(i % 251);
    }
    write_maybe_compressed(images, data, length);
    length = put_header(data, 1, &count);
    for (uint32_t i = 0; i < count; i++) {
        data[length++] = (unsigned char)(i % 3 + (uint32_t)lowest);
    }
    write_maybe_compressed(labels, data, length);
}

static void check_idx(const carso_dataset *dataset)
{
    const carso_dataset_info info = info_of(dataset);
    ck_assert_uint_eq(info.count, 7);
    ck_assert_int_eq(info.channels, 1);
    ck_assert_int_eq(info.height, 5);
    ck_assert_int_eq(info.width, 4);
    ck_assert_int_eq(info.classes, 4);
    ck_assert_str_eq(info.format, "idx");
    ck_assert_str_eq(carso_dataset_class_name(dataset, 3), "3");
    ck_assert_ptr_null(carso_dataset_class_name(dataset, 4));
    ck_assert_ptr_null(carso_dataset_class_name(dataset, -1));
    static const uint64_t indices[4] = {6, 0, 6, 3};
    uint8_t pixels[4 * 20];
    int32_t labels[4];
    ck_assert_int_eq(carso_dataset_read(dataset, indices, 4, NULL, pixels, labels), CARSO_OK);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(labels[i], (int)(indices[i] % 3 + 1));
        for (size_t j = 0; j < 20; j++) {
            ck_assert_uint_eq(pixels[20 * i + j], (20 * indices[i] + j) % 251);
        }
    }
    ck_assert_int_eq(carso_dataset_read(dataset, indices, 1, NULL, pixels, NULL), CARSO_OK);
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

/* CIFAR */

static void write_cifar(const char *name, size_t label_bytes, int count, int first_label)
{
    unsigned char record[2 + 3072];
    FILE *file = fopen(scratch_file(name), "wb");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < count; i++) {
        record[0] = 1;
        record[label_bytes - 1] = (unsigned char)(first_label + i);
        for (size_t j = 0; j < 3072; j++) {
            record[label_bytes + j] = (unsigned char)(j / 1024 * 80 + j % 79 + (size_t)i);
        }
        ck_assert_uint_eq(fwrite(record, 1, label_bytes + 3072, file), label_bytes + 3072);
    }
    ck_assert_int_eq(fclose(file), 0);
}

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

/* Reading */

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
