/* SPDX-License-Identifier: BSD-2-Clause */
/* Tiny-ImageNet-200 as it is published: train/CLASS/images, and a folder of validation images with a list beside. */
#include <string.h>

#include "data/data_file.h"
#include "data/dataset.h"

#define ANNOTATIONS "val/val_annotations.txt"
#define LARGEST_TEXT ((size_t)64 << 20)

bool cso_tiny_imagenet_find(const char *folder)
{
    char path[PATH_MAX];
    const size_t length = strlen(folder);
    if (length + sizeof "/" ANNOTATIONS > sizeof path) {
        return false;
    }
    memcpy(path, folder, length);
    strcpy(path + length, "/" ANNOTATIONS);
    return cso_path_is_file(path);
}

/* Index in a sorted list; -1: not there. */
static int32_t find_class(const cso_name_list *classes, const char *name)
{
    size_t low = 0, high = classes->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(name, cso_name_list_at(classes, middle));
        if (order == 0) {
            return (int32_t)middle;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return -1;
}

static carso_status label_images(carso_dataset *dataset, const int32_t *labels)
{
    dataset->info.count = dataset->files.count;
    dataset->labels = cso_allocate_raw(dataset->context, dataset->files.count, sizeof *dataset->labels);
    if (dataset->labels == NULL) {
        return cso_fail_memory(dataset->context, "labels");
    }
    if (dataset->files.count > 0) {
        memcpy(dataset->labels, labels, dataset->files.count * sizeof *labels);
    }
    return CARSO_OK;
}

/* Appends the images of train/CLASS/images. */
static carso_status list_class(carso_dataset *dataset, const char *train, const char *name)
{
    const carso_context *context = dataset->context;
    char folder[PATH_MAX], images[PATH_MAX], path[PATH_MAX];
    cso_name_list names = {0};
    carso_status status = cso_path_join(context, train, name, folder);
    if (status == CARSO_OK) {
        status = cso_path_join(context, folder, "images", images);
    }
    if (status == CARSO_OK) {
        status = cso_folder_list(context, images, false, &names);
    }
    for (size_t i = 0; i < names.count && status == CARSO_OK; i++) {
        status = cso_path_join(context, images, cso_name_list_at(&names, i), path);
        if (status == CARSO_OK) {
            status = cso_name_list_append(context, &dataset->files, path);
        }
    }
    cso_name_list_release(context, &names);
    return status;
}

static carso_status open_train(carso_dataset *dataset, const char *train, const cso_name_list *classes)
{
    const carso_context *context = dataset->context;
    size_t *end = cso_allocate(context, classes->count, sizeof *end); /* of each class's images */
    int32_t *labels = NULL;
    carso_status status = end == NULL ? cso_fail_memory(context, "classes") : CARSO_OK;
    for (size_t i = 0; i < classes->count && status == CARSO_OK; i++) {
        status = list_class(dataset, train, cso_name_list_at(classes, i));
        end[i] = dataset->files.count;
    }
    if (status == CARSO_OK) {
        labels = cso_allocate_raw(context, dataset->files.count, sizeof *labels);
        status = labels == NULL ? cso_fail_memory(context, "labels") : CARSO_OK;
    }
    for (size_t i = 0, position = 0; i < classes->count && status == CARSO_OK; i++) {
        for (; position < end[i]; position++) {
            labels[position] = (int32_t)i;
        }
    }
    if (status == CARSO_OK) {
        status = label_images(dataset, labels);
    }
    if (status == CARSO_OK) {
        status = cso_folder_interleave(dataset);
    }
    cso_release(context, labels);
    cso_release(context, end);
    return status;
}

/* A line is "val_0.JPEG<tab>n03444034<tab>" and the corners of a box. */
static carso_status read_annotation(carso_dataset *dataset, const char *images, const cso_name_list *classes,
                                    char *line, const char *where, int32_t *out_label)
{
    char path[PATH_MAX];
    char *place = NULL;
    const char *name = strtok_r(line, "\t ", &place), *class_name = strtok_r(NULL, "\t ", &place);
    if (name == NULL || class_name == NULL || strchr(name, '/') != NULL) {
        return cso_fail(dataset->context, CARSO_ERROR_BAD_FORMAT,
                        "%s: the line of image %zu is not a file's name and a class", where, dataset->files.count);
    }
    *out_label = find_class(classes, class_name);
    if (*out_label < 0) {
        return cso_fail(dataset->context, CARSO_ERROR_BAD_FORMAT,
                        "%s: the class of image %zu has no folder in \"train\"", where, dataset->files.count);
    }
    const carso_status status = cso_path_join(dataset->context, images, name, path);
    return status == CARSO_OK ? cso_name_list_append(dataset->context, &dataset->files, path) : status;
}

static carso_status open_validation(carso_dataset *dataset, const char *folder, const cso_name_list *classes)
{
    const carso_context *context = dataset->context;
    char list[PATH_MAX], images[PATH_MAX];
    char *text = NULL, *place = NULL;
    int32_t *labels = NULL;
    carso_status status = cso_path_join(context, folder, ANNOTATIONS, list);
    if (status == CARSO_OK) {
        status = cso_path_join(context, folder, "val/images", images);
    }
    if (status == CARSO_OK) {
        status = cso_data_file_text(context, list, LARGEST_TEXT, &text);
    }
    if (status == CARSO_OK) {
        size_t most = 1;
        for (const char *character = text; *character != '\0'; character++) {
            most += *character == '\n' ? 1 : 0;
        }
        labels = cso_allocate_raw(context, most, sizeof *labels);
        status = labels == NULL ? cso_fail_memory(context, "labels") : CARSO_OK;
    }
    if (status == CARSO_OK) {
        for (char *line = strtok_r(text, "\n", &place); line != NULL && status == CARSO_OK;
             line = strtok_r(NULL, "\n", &place)) {
            line[strcspn(line, "\r")] = '\0';
            if (line[0] != '\0') {
                status = read_annotation(dataset, images, classes, line, list, &labels[dataset->files.count]);
            }
        }
    }
    if (status == CARSO_OK) {
        status = label_images(dataset, labels);
    }
    cso_release(context, labels);
    cso_release(context, text);
    return status;
}

/* word[i]: what words.txt calls class i first, within text; lines are "n00001740<tab>entity, thing". */
static void find_words(char *text, const cso_name_list *classes, const char **word)
{
    char *place = NULL;
    for (char *line = strtok_r(text, "\r\n", &place); line != NULL; line = strtok_r(NULL, "\r\n", &place)) {
        char *tab = strchr(line, '\t');
        if (tab == NULL) {
            continue;
        }
        *tab = '\0';
        const int32_t found = find_class(classes, line);
        tab[1 + strcspn(tab + 1, ",")] = '\0';
        if (found >= 0 && tab[1] != '\0') {
            word[found] = tab + 1;
        }
    }
}

static carso_status name_classes(carso_dataset *dataset, const char *folder, const cso_name_list *classes)
{
    const carso_context *context = dataset->context;
    char path[PATH_MAX];
    char *text = NULL;
    const char **word = cso_allocate(context, classes->count, sizeof *word);
    carso_status status = word == NULL ? cso_fail_memory(context, "class names") : CARSO_OK;
    if (status == CARSO_OK) {
        status = cso_path_join(context, folder, "words.txt", path);
    }
    if (status == CARSO_OK && cso_path_is_file(path)) {
        status = cso_data_file_text(context, path, LARGEST_TEXT, &text);
        if (status == CARSO_OK) {
            find_words(text, classes, word);
        }
    }
    for (size_t i = 0; i < classes->count && status == CARSO_OK; i++) {
        const char *name = word[i] != NULL ? word[i] : cso_name_list_at(classes, i);
        status = cso_name_list_append(context, &dataset->class_names, name);
    }
    cso_release(context, text);
    cso_release(context, word);
    return status;
}

carso_status cso_tiny_imagenet_open(carso_dataset *dataset, const char *folder, carso_split split)
{
    const carso_context *context = dataset->context;
    char train[PATH_MAX];
    cso_name_list classes = {0};
    dataset->info.format = "tinyimagenet";
    carso_status status = cso_path_join(context, folder, "train", train);
    if (status == CARSO_OK) {
        status = cso_folder_list(context, train, true, &classes);
    }
    if (status == CARSO_OK && (classes.count == 0 || classes.count > INT32_MAX)) {
        status = cso_fail(context, CARSO_ERROR_NOT_FOUND, "%s: no folders of classes", train);
    }
    if (status == CARSO_OK) {
        dataset->info.classes = (int32_t)classes.count;
        status = split == CARSO_SPLIT_TRAIN ? open_train(dataset, train, &classes)
                                            : open_validation(dataset, folder, &classes);
    }
    if (status == CARSO_OK && dataset->files.count == 0) {
        status = cso_fail(context, CARSO_ERROR_NOT_FOUND, "%s: no images of the %s split", folder,
                          split == CARSO_SPLIT_TRAIN ? "training" : "test");
    }
    if (status == CARSO_OK) {
        status = name_classes(dataset, folder, &classes);
    }
    if (status == CARSO_OK) {
        status = cso_folder_probe(dataset);
    }
    cso_name_list_release(context, &classes);
    return status;
}
