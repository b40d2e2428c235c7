/* SPDX-License-Identifier: BSD-2-Clause */
/* CIFAR's binary version: records of a label (CIFAR-100: coarse and fine) and 32x32 pixels, a plane for each colour. */
#include <stdio.h>
#include <string.h>

#include "data/data_file.h"
#include "data/dataset.h"

#define SIDE 32
#define PLANE (SIDE * SIDE)
#define PIXELS (3 * PLANE)
#define MOST_FILES 5
#define LARGEST_NAMES 65536

typedef struct cifar_variant {
    const char *format;
    int32_t classes;
    size_t label_bytes; /* the last is the label that counts */
    const char *names;  /* file of the class names */
    int train_files;
    const char *train[MOST_FILES];
    const char *test;
} cifar_variant;

static const cifar_variant variants[] = {
    [CSO_CIFAR_10] = {.format = "cifar10",
                      .classes = 10,
                      .label_bytes = 1,
                      .names = "batches.meta.txt",
                      .train_files = 5,
                      .train = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                                "data_batch_5.bin"},
                      .test = "test_batch.bin"},
    [CSO_CIFAR_100] = {.format = "cifar100",
                       .classes = 100,
                       .label_bytes = 2,
                       .names = "fine_label_names.txt",
                       .train_files = 1,
                       .train = {"train.bin"},
                       .test = "test.bin"},
};

static const char *const cifar_10_names[10] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                               "dog",      "frog",       "horse", "ship", "truck"};

static bool exists(const char *folder, const char *name)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", folder, name) < PATH_MAX && cso_path_is_file(path);
}

bool cso_cifar_find(const char *folder, carso_split split, cso_cifar *out)
{
    for (cso_cifar which = CSO_CIFAR_10; which <= CSO_CIFAR_100; which++) {
        if (exists(folder, split == CARSO_SPLIT_TRAIN ? variants[which].train[0] : variants[which].test)) {
            *out = which;
            return true;
        }
    }
    return false;
}

/* Appends the images of a file; the arrays of the data set have room for them. */
static carso_status read_records(carso_dataset *dataset, cso_data_file *file, const cifar_variant *variant,
                                 uint64_t count)
{
    unsigned char record[2 + PIXELS];
    for (uint64_t i = 0; i < count; i++) {
        const carso_status status = cso_data_file_read(file, record, variant->label_bytes + PIXELS);
        if (status != CARSO_OK) {
            return status;
        }
        const int32_t label = record[variant->label_bytes - 1];
        if (label >= variant->classes) {
            return cso_fail(dataset->context, CARSO_ERROR_BAD_FORMAT,
                            "%s: image %llu has label %d, which is not below %d", file->path, (unsigned long long)i,
                            (int)label, (int)variant->classes);
        }
        dataset->labels[dataset->info.count] = label;
        uint8_t *out = dataset->pixels + dataset->info.count * PIXELS;
        const unsigned char *planes = record + variant->label_bytes;
        for (int j = 0; j < PLANE; j++) {
            for (int c = 0; c < 3; c++) {
                out[3 * j + c] = planes[c * PLANE + j];
            }
        }
        dataset->info.count++;
    }
    return cso_data_file_check_end(file);
}

static carso_status count_records(const cso_data_file *file, const cifar_variant *variant, uint64_t *out)
{
    const uint64_t record = variant->label_bytes + PIXELS;
    if (file->size == 0 || file->size % record != 0) {
        return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT,
                        "%s: %llu bytes are not a number of records of %llu bytes", file->path,
                        (unsigned long long)file->size, (unsigned long long)record);
    }
    *out = file->size / record;
    return CARSO_OK;
}

static carso_status read_files(carso_dataset *dataset, const char *folder, const cifar_variant *variant,
                               const char *const *names, int files)
{
    cso_data_file file[MOST_FILES] = {{0}};
    uint64_t count[MOST_FILES];
    char path[MOST_FILES][PATH_MAX];
    uint64_t total = 0;
    carso_status status = CARSO_OK;
    for (int i = 0; i < files && status == CARSO_OK; i++) {
        status = cso_path_join(dataset->context, folder, names[i], path[i]);
        if (status == CARSO_OK) {
            status = cso_data_file_open(dataset->context, path[i], &file[i]);
        }
        if (status == CARSO_OK) {
            status = count_records(&file[i], variant, &count[i]);
        }
        total += status == CARSO_OK ? count[i] : 0;
    }
    if (status == CARSO_OK) {
        dataset->pixels = cso_allocate_raw(dataset->context, total, PIXELS);
        dataset->labels = cso_allocate_raw(dataset->context, total, sizeof *dataset->labels);
        if (dataset->pixels == NULL || dataset->labels == NULL) {
            status = cso_fail_memory(dataset->context, "images");
        }
    }
    for (int i = 0; i < files && status == CARSO_OK; i++) {
        status = read_records(dataset, &file[i], variant, count[i]);
    }
    for (int i = 0; i < files; i++) {
        cso_data_file_close(&file[i]);
    }
    return status;
}

/* One name a line; empty lines are passed over. */
static carso_status split_names(carso_dataset *dataset, char *text, const char *path, int32_t classes)
{
    char *place = NULL;
    for (char *line = strtok_r(text, "\r\n", &place); line != NULL; line = strtok_r(NULL, "\r\n", &place)) {
        const carso_status status = cso_name_list_append(dataset->context, &dataset->class_names, line);
        if (status != CARSO_OK) {
            return status;
        }
    }
    if (dataset->class_names.count != (size_t)classes) {
        return cso_fail(dataset->context, CARSO_ERROR_BAD_FORMAT, "%s: %zu names for %d classes", path,
                        dataset->class_names.count, (int)classes);
    }
    return CARSO_OK;
}

static carso_status read_names(carso_dataset *dataset, const char *folder, const cifar_variant *variant)
{
    char path[PATH_MAX];
    char *text = NULL;
    carso_status status = cso_path_join(dataset->context, folder, variant->names, path);
    if (status == CARSO_OK) {
        status = cso_data_file_text(dataset->context, path, LARGEST_NAMES, &text);
    }
    if (status == CARSO_OK) {
        status = split_names(dataset, text, path, variant->classes);
    }
    cso_release(dataset->context, text);
    return status;
}

carso_status cso_cifar_open(carso_dataset *dataset, const char *folder, carso_split split, cso_cifar which)
{
    const cifar_variant *variant = &variants[which];
    const bool train = split == CARSO_SPLIT_TRAIN;
    dataset->info.format = variant->format;
    dataset->info.classes = variant->classes;
    dataset->info.channels = 3;
    dataset->info.height = SIDE;
    dataset->info.width = SIDE;
    dataset->image_size = PIXELS;
    carso_status status =
        read_files(dataset, folder, variant, train ? variant->train : &variant->test, train ? variant->train_files : 1);
    if (status != CARSO_OK) {
        return status;
    }
    if (exists(folder, variant->names)) {
        return read_names(dataset, folder, variant);
    }
    for (int i = 0; i < 10 && which == CSO_CIFAR_10 && status == CARSO_OK; i++) {
        status = cso_name_list_append(dataset->context, &dataset->class_names, cifar_10_names[i]);
    }
    return status;
}
