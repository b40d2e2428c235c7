/* SPDX-License-Identifier: BSD-2-Clause */
/* IDX, the format of MNIST: big-endian header (two zeros, type, number of dimensions, sizes), then the data. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/data_file.h"
#include "data/dataset.h"

#define UNSIGNED_BYTES 8 /* the type */

static const char *const fashion_names[10] = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                              "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};

static carso_status read_header(cso_data_file *file, int rank, uint32_t *sizes)
{
    unsigned char header[4 + 4 * 3];
    carso_status status = cso_data_file_read(file, header, 4);
    if (status != CARSO_OK) {
        return status;
    }
    if (header[0] != 0 || header[1] != 0 || header[2] != UNSIGNED_BYTES || header[3] != rank) {
        return cso_fail(file->context, CARSO_ERROR_BAD_FORMAT,
                        "%s: not an IDX file of bytes in %d dimensions (it begins with %02x %02x %02x %02x)",
                        file->path, rank, header[0], header[1], header[2], header[3]);
    }
    status = cso_data_file_read(file, header + 4, 4 * (size_t)rank);
    for (int i = 0; i < rank && status == CARSO_OK; i++) {
        const unsigned char *size = header + 4 + 4 * i;
        sizes[i] = (uint32_t)size[0] << 24 | (uint32_t)size[1] << 16 | (uint32_t)size[2] << 8 | size[3];
        if (sizes[i] == 0) {
            status =
                cso_fail(file->context, CARSO_ERROR_BAD_FORMAT, "%s: dimension %d of %d is 0", file->path, i + 1, rank);
        }
    }
    return status;
}

static carso_status read_images(carso_dataset *dataset, const char *path)
{
    uint32_t sizes[3];
    cso_data_file file;
    carso_status status = cso_data_file_open(dataset->context, path, &file);
    if (status != CARSO_OK) {
        return status;
    }
    status = read_header(&file, 3, sizes);
    if (status != CARSO_OK) {
        goto done;
    }
    if (sizes[1] > CSO_LARGEST_SIDE || sizes[2] > CSO_LARGEST_SIDE) {
        status = cso_fail(dataset->context, CARSO_ERROR_BAD_FORMAT, "%s: images of %ux%u, the limit is %d", path,
                          sizes[2], sizes[1], CSO_LARGEST_SIDE);
        goto done;
    }
    dataset->info.count = sizes[0];
    dataset->info.channels = 1;
    dataset->info.height = (int32_t)sizes[1];
    dataset->info.width = (int32_t)sizes[2];
    dataset->image_size = (size_t)sizes[1] * sizes[2];
    status = cso_data_file_check_size(&file, 16, (uint64_t)sizes[0] * dataset->image_size);
    if (status != CARSO_OK) {
        goto done;
    }
    dataset->pixels = cso_allocate_raw(dataset->context, sizes[0], dataset->image_size);
    if (dataset->pixels == NULL) {
        status = cso_fail_memory(dataset->context, "images");
        goto done;
    }
    status = cso_data_file_read(&file, dataset->pixels, sizes[0] * dataset->image_size);
    if (status == CARSO_OK) {
        status = cso_data_file_check_end(&file);
    }
done:
    cso_data_file_close(&file);
    return status;
}

/* The labels of path; the caller releases them. */
static carso_status read_labels(const carso_context *context, const char *path, uint8_t **out, size_t *out_count)
{
    uint32_t count;
    cso_data_file file;
    carso_status status = cso_data_file_open(context, path, &file);
    *out = NULL;
    if (status != CARSO_OK) {
        return status;
    }
    status = read_header(&file, 1, &count);
    if (status == CARSO_OK) {
        status = cso_data_file_check_size(&file, 8, count);
    }
    if (status == CARSO_OK) {
        *out = cso_allocate_raw(context, count, 1);
        status = *out == NULL ? cso_fail_memory(context, "labels") : cso_data_file_read(&file, *out, count);
    }
    if (status == CARSO_OK) {
        status = cso_data_file_check_end(&file);
    }
    if (status != CARSO_OK) {
        cso_release(context, *out);
        *out = NULL;
    }
    *out_count = count;
    cso_data_file_close(&file);
    return status;
}

/* path with the first old after its last slash replaced, and .gz dropped or added where only that exists. */
static bool find_relative(const char *path, const char *old, const char *new, char out[PATH_MAX])
{
    const char *name = strrchr(path, '/');
    const char *found = strstr(name == NULL ? path : name, old);
    if (found == NULL ||
        snprintf(out, PATH_MAX, "%.*s%s%s", (int)(found - path), path, new, found + strlen(old)) >= PATH_MAX - 3) {
        return false;
    }
    if (cso_path_is_file(out)) {
        return true;
    }
    const size_t length = strlen(out);
    if (length > 3 && strcmp(out + length - 3, ".gz") == 0) {
        out[length - 3] = '\0';
    } else {
        strcat(out, ".gz");
    }
    return cso_path_is_file(out);
}

static bool find_labels(const char *images_path, char out[PATH_MAX])
{
    return find_relative(images_path, "images-idx3", "labels-idx1", out) ||
           find_relative(images_path, "images.idx3", "labels.idx1", out);
}

/* A class may be missing from one split: the labels of both say how many there are. */
static carso_status count_classes(carso_dataset *dataset, const char *labels_path)
{
    char other_path[PATH_MAX];
    uint8_t *other = NULL;
    size_t other_count = 0;
    int32_t highest = 0;
    if (find_relative(labels_path, "train-", "t10k-", other_path) ||
        find_relative(labels_path, "t10k-", "train-", other_path)) {
        const carso_status status = read_labels(dataset->context, other_path, &other, &other_count);
        if (status != CARSO_OK) {
            return status;
        }
    }
    for (size_t i = 0; i < other_count; i++) {
        highest = other[i] > highest ? other[i] : highest;
    }
    cso_release(dataset->context, other);
    for (uint64_t i = 0; i < dataset->info.count; i++) {
        highest = dataset->labels[i] > highest ? dataset->labels[i] : highest;
    }
    dataset->info.classes = highest + 1;
    return CARSO_OK;
}

static bool is_fashion(const carso_dataset *dataset, const char *path)
{
    char resolved[PATH_MAX];
    return dataset->info.classes == 10 && dataset->info.width == 28 && dataset->info.height == 28 &&
           (strcasestr(path, "fashion") != NULL ||
            (realpath(path, resolved) != NULL && strcasestr(resolved, "fashion") != NULL));
}

carso_status cso_idx_open(carso_dataset *dataset, const char *images_path)
{
    char labels_path[PATH_MAX];
    uint8_t *labels = NULL;
    size_t count = 0;
    dataset->info.format = "idx";
    if (!find_labels(images_path, labels_path)) {
        return cso_fail(dataset->context, CARSO_ERROR_NOT_FOUND,
                        "%s: no file of labels beside; it is named like the images, with labels-idx1 for images-idx3",
                        images_path);
    }
    carso_status status = read_images(dataset, images_path);
    if (status == CARSO_OK) {
        status = read_labels(dataset->context, labels_path, &labels, &count);
    }
    if (status == CARSO_OK && count != dataset->info.count) {
        status = cso_fail(dataset->context, CARSO_ERROR_BAD_FORMAT, "%s: %zu labels for %llu images", labels_path,
                          count, (unsigned long long)dataset->info.count);
    }
    if (status == CARSO_OK) {
        dataset->labels = cso_allocate_raw(dataset->context, count, sizeof *dataset->labels);
        if (dataset->labels == NULL) {
            status = cso_fail_memory(dataset->context, "labels");
        }
    }
    for (size_t i = 0; i < count && status == CARSO_OK; i++) {
        dataset->labels[i] = labels[i];
    }
    cso_release(dataset->context, labels);
    if (status == CARSO_OK) {
        status = count_classes(dataset, labels_path);
    }
    if (status == CARSO_OK && is_fashion(dataset, images_path)) {
        for (int i = 0; i < 10 && status == CARSO_OK; i++) {
            status = cso_name_list_append(dataset->context, &dataset->class_names, fashion_names[i]);
        }
    }
    return status;
}

bool cso_idx_find(const char *folder, carso_split split, char *out, size_t size)
{
    static const char *const endings[] = {"images-idx3-ubyte", "images-idx3-ubyte.gz", "images.idx3-ubyte",
                                          "images.idx3-ubyte.gz"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        const int length =
            snprintf(out, size, "%s/%s-%s", folder, split == CARSO_SPLIT_TRAIN ? "train" : "t10k", endings[i]);
        if (length > 0 && (size_t)length < size && cso_path_is_file(out)) {
            return true;
        }
    }
    return false;
}
