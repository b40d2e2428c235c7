/* SPDX-License-Identifier: BSD-2-Clause */
/* A folder for each class, PNG and JPEG files within. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "data/data_file.h"
#include "data/dataset.h"
#include "data/image_file.h"

#define MOST_PROBES 64

static bool is_image_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot != NULL &&
           (strcasecmp(dot, ".png") == 0 || strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0);
}

carso_status cso_folder_list(const carso_context *context, const char *path, bool folders, cso_name_list *out)
{
    carso_status status = CARSO_OK;
    DIR *directory = opendir(path);
    if (directory == NULL) {
        return cso_fail_system(context, errno, "%s: cannot open", path);
    }
    while (status == CARSO_OK) {
        struct stat facts;
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            if (errno != 0) {
                status = cso_fail_system(context, errno, "%s: cannot read", path);
            }
            break;
        }
        if (entry->d_name[0] == '.' || (!folders && !is_image_name(entry->d_name))) {
            continue;
        }
        if (fstatat(dirfd(directory), entry->d_name, &facts, 0) == 0 &&
            (folders ? S_ISDIR(facts.st_mode) : S_ISREG(facts.st_mode))) {
            status = cso_name_list_append(context, out, entry->d_name);
        }
    }
    closedir(directory);
    if (status == CARSO_OK) {
        cso_name_list_sort(out);
    }
    return status;
}

/* The class folders in path/name, none where that is no folder. */
static carso_status list_part(const carso_context *context, const char *path, const char *name, cso_name_list *out)
{
    char part[PATH_MAX];
    const carso_status status = cso_path_join(context, path, name, part);
    if (status != CARSO_OK || !cso_path_is_folder(part)) {
        return status;
    }
    return cso_folder_list(context, part, true, out);
}

/*
 * Where the class folders of the split are, and the names of the classes. A folder called "train" is a part only if it
 * holds folders: there is nothing wrong with a class of trains.
 */
static carso_status find_classes(carso_dataset *dataset, const char *path, carso_split split, char base[PATH_MAX])
{
    const char *part = split == CARSO_SPLIT_TRAIN ? "train" : "test";
    cso_name_list *names = &dataset->class_names;
    carso_status status = list_part(dataset->context, path, "train", names);
    if (status == CARSO_OK) {
        status = list_part(dataset->context, path, "test", names);
    }
    if (status != CARSO_OK) {
        return status;
    }
    if (names->count > 0) {
        status = cso_path_join(dataset->context, path, part, base);
        if (status == CARSO_OK && !cso_path_is_folder(base)) {
            status = cso_fail(dataset->context, CARSO_ERROR_NOT_FOUND, "%s: has no folder \"%s\"", path, part);
        }
        return status;
    }
    if (strlen(path) >= PATH_MAX) {
        return cso_fail_system(dataset->context, ENAMETOOLONG, "%.64s...: cannot open", path);
    }
    strcpy(base, path);
    status = cso_folder_list(dataset->context, path, true, names);
    if (status == CARSO_OK && names->count == 0) {
        status = cso_fail(dataset->context, CARSO_ERROR_NOT_FOUND,
                          "%s: no data set: neither IDX nor CIFAR files, nor a folder for each class", path);
    }
    return status;
}

/* Appends the files of each class; returns through counts how many each has. */
static carso_status list_files(carso_dataset *dataset, const char *base, size_t *counts)
{
    for (size_t i = 0; i < dataset->class_names.count; i++) {
        char folder[PATH_MAX], path[PATH_MAX];
        cso_name_list names = {0};
        carso_status status = cso_path_join(dataset->context, base, cso_name_list_at(&dataset->class_names, i), folder);
        if (status == CARSO_OK && cso_path_is_folder(folder)) {
            status = cso_folder_list(dataset->context, folder, false, &names);
        }
        for (size_t j = 0; j < names.count && status == CARSO_OK; j++) {
            status = cso_path_join(dataset->context, folder, cso_name_list_at(&names, j), path);
            if (status == CARSO_OK) {
                status = cso_name_list_append(dataset->context, &dataset->files, path);
            }
        }
        counts[i] = names.count;
        cso_name_list_release(dataset->context, &names);
        if (status != CARSO_OK) {
            return status;
        }
        if (counts[i] == 0) {
            cso_log(dataset->context, CARSO_LOG_WARNING, "%s: no PNG or JPEG images", folder);
        }
    }
    return CARSO_OK;
}

carso_status cso_folder_probe(carso_dataset *dataset)
{
    const uint64_t count = dataset->info.count;
    const uint64_t most = dataset->shape_given ? 0 : MOST_PROBES;
    const uint64_t probes = count < most ? count : most;
    for (uint64_t i = 0; i < probes; i++) {
        const char *path =
            cso_name_list_at(&dataset->files, (size_t)(count / probes * i + count % probes * i / probes));
        cso_image_facts facts;
        const carso_status status = cso_image_file_measure(dataset->context, path, &facts);
        if (status != CARSO_OK) {
            return status;
        }
        if (facts.width > CSO_LARGEST_SIDE || facts.height > CSO_LARGEST_SIDE) {
            return cso_fail(dataset->context, CARSO_ERROR_BAD_FORMAT, "%s: %dx%d, the limit is %d", path,
                            (int)facts.width, (int)facts.height, CSO_LARGEST_SIDE);
        }
        if (i > 0 && (facts.width != dataset->info.width || facts.height != dataset->info.height)) {
            return cso_fail(dataset->context, CARSO_ERROR_BAD_FORMAT, "%s: %dx%d, others of the data set are %dx%d",
                            path, (int)facts.width, (int)facts.height, (int)dataset->info.width,
                            (int)dataset->info.height);
        }
        dataset->info.width = facts.width;
        dataset->info.height = facts.height;
        dataset->info.channels = facts.channels > dataset->info.channels ? facts.channels : dataset->info.channels;
    }
    dataset->image_size = (size_t)dataset->info.width * (size_t)dataset->info.height * (size_t)dataset->info.channels;
    return CARSO_OK;
}

carso_status cso_folder_interleave(carso_dataset *dataset)
{
    const carso_context *context = dataset->context;
    const size_t count = dataset->files.count, classes = (size_t)dataset->info.classes;
    cso_name_list files = {0};
    size_t *next = cso_allocate(context, classes, sizeof *next), *end = cso_allocate(context, classes, sizeof *end);
    size_t *live = cso_allocate(context, classes, sizeof *live); /* classes that have images left */
    size_t live_count = 0, position = 0;
    carso_status status =
        next == NULL || end == NULL || live == NULL ? cso_fail_memory(context, "the order of images") : CARSO_OK;
    while (position < count && status == CARSO_OK) {
        const size_t class_index = (size_t)dataset->labels[position];
        next[class_index] = position;
        while (position < count && (size_t)dataset->labels[position] == class_index) {
            position++;
        }
        end[class_index] = position;
        live[live_count++] = class_index;
    }
    for (position = 0; live_count > 0 && status == CARSO_OK;) {
        size_t kept = 0;
        for (size_t i = 0; i < live_count && status == CARSO_OK; i++) {
            const size_t class_index = live[i];
            status = cso_name_list_append(context, &files, cso_name_list_at(&dataset->files, next[class_index]++));
            dataset->labels[position++] = (int32_t)class_index;
            if (next[class_index] < end[class_index]) {
                live[kept++] = class_index;
            }
        }
        live_count = kept;
    }
    if (status == CARSO_OK) {
        cso_name_list_release(context, &dataset->files);
        dataset->files = files;
    } else {
        cso_name_list_release(context, &files);
    }
    cso_release(context, live);
    cso_release(context, end);
    cso_release(context, next);
    return status;
}

static carso_status label_files(carso_dataset *dataset, const size_t *counts)
{
    dataset->labels = cso_allocate_raw(dataset->context, dataset->files.count, sizeof *dataset->labels);
    if (dataset->labels == NULL) {
        return cso_fail_memory(dataset->context, "labels");
    }
    size_t position = 0;
    for (int32_t i = 0; i < dataset->info.classes; i++) {
        for (size_t j = 0; j < counts[i]; j++) {
            dataset->labels[position++] = i;
        }
    }
    return CARSO_OK;
}

carso_status cso_folder_open(carso_dataset *dataset, const char *path, carso_split split)
{
    char base[PATH_MAX];
    dataset->info.format = "folder";
    carso_status status = find_classes(dataset, path, split, base);
    if (status != CARSO_OK) {
        return status;
    }
    if (dataset->class_names.count > INT32_MAX) {
        return cso_fail(dataset->context, CARSO_ERROR_BAD_FORMAT, "%s: too many folders", base);
    }
    dataset->info.classes = (int32_t)dataset->class_names.count;
    size_t *counts = cso_allocate(dataset->context, dataset->class_names.count, sizeof *counts);
    if (counts == NULL) {
        return cso_fail_memory(dataset->context, "classes");
    }
    status = list_files(dataset, base, counts);
    dataset->info.count = dataset->files.count;
    if (status == CARSO_OK && dataset->files.count == 0) {
        status = cso_fail(dataset->context, CARSO_ERROR_NOT_FOUND,
                          "%s: no data set: neither IDX nor CIFAR files, and no PNG or JPEG images in its %d folders",
                          base, (int)dataset->info.classes);
    }
    if (status == CARSO_OK) {
        status = cso_folder_probe(dataset);
    }
    if (status == CARSO_OK) {
        status = label_files(dataset, counts);
    }
    if (status == CARSO_OK) {
        status = cso_folder_interleave(dataset);
    }
    cso_release(dataset->context, counts);
    return status;
}

carso_status cso_folder_read(const carso_dataset *dataset, uint64_t index, uint8_t *out)
{
    cso_image_facts facts = {dataset->info.width, dataset->info.height, dataset->info.channels};
    return cso_image_file_read(dataset->context, cso_name_list_at(&dataset->files, (size_t)index), &facts, &out);
}
