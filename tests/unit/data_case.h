/* SPDX-License-Identifier: BSD-2-Clause */
/* Data sets in the temporary folder. */
#ifndef TEST_DATA_CASE_H
#define TEST_DATA_CASE_H

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "carso/data.h"
#include "counted_folder.h"

static inline carso_dataset *open_set(const char *name, carso_split split)
{
    carso_dataset *dataset;
    const carso_status status = carso_dataset_open(context, scratch_file(name), split, &dataset);
    ck_assert_msg(status == CARSO_OK, "message: %s", message());
    return dataset;
}

static inline carso_dataset_info info_of(const carso_dataset *dataset)
{
    carso_dataset_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(carso_dataset_get_info(dataset, &info), CARSO_OK);
    return info;
}

static inline size_t put_header(unsigned char *out, int rank, const uint32_t *sizes)
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

static inline void write_maybe_compressed(const char *name, const void *data, size_t size)
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
static inline void write_idx(const char *images, const char *labels, uint32_t count, uint32_t height, uint32_t width,
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

static inline void check_idx(const carso_dataset *dataset)
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

static inline void write_cifar(const char *name, size_t label_bytes, int count, int first_label)
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

#endif
