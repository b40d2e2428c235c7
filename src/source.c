/* SPDX-License-Identifier: BSD-2-Clause */
#include "source.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

bool source_is_image(const char *path)
{
    static const char *const endings[] = {".png", ".jpg", ".jpeg"};
    size_t length = strlen(path);
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t ending = strlen(endings[i]);
        if (length > ending && strcasecmp(path + length - ending, endings[i]) == 0) {
            return true;
        }
    }
    return false;
}

static carso_dataset_options shape_of(const carso_model_info *model, carso_split split)
{
    carso_dataset_options options;
    carso_dataset_options_init(&options, sizeof options);
    options.split = (int32_t)split;
    options.channels = model->channels;
    options.height = model->image_height;
    options.width = model->image_width;
    return options;
}

static exit_status open_files(carso_context *context, const carso_model_info *model, size_t count,
                              const char *const *path, carso_dataset **out)
{
    carso_dataset_options options = shape_of(model, CARSO_SPLIT_TEST);
    carso_status status = carso_dataset_open_files(context, path, count, &options, out);
    return status == CARSO_OK ? STATUS_OK : session_failure(context, status, "cannot open the images");
}

static bool is_folder(const char *parent, const char *name)
{
    char path[4096];
    struct stat facts;
    int length = snprintf(path, sizeof path, "%s/%s", parent, name);
    return length > 0 && (size_t)length < sizeof path && stat(path, &facts) == 0 && S_ISDIR(facts.st_mode);
}

/* Whether the folder holds images, or folders. */
static bool holds(const char *path, bool folders)
{
    bool found = false;
    DIR *folder = opendir(path);
    for (const struct dirent *entry; folder && !found && (entry = readdir(folder)) != NULL;) {
        found = entry->d_name[0] != '.' && (folders ? is_folder(path, entry->d_name) : source_is_image(entry->d_name));
    }
    if (folder) {
        closedir(folder);
    }
    return found;
}

static void note(const char *path, const char *reason)
{
    complain("note: %s %s; all images within are taken, without labels", path, reason);
}

static exit_status open_unlabelled(carso_context *context, const carso_model_info *model, const char *path,
                                   const char *reason, carso_dataset **out)
{
    exit_status status = open_files(context, model, 1, &path, out);
    if (status == STATUS_OK && reason[0]) {
        note(path, reason);
    }
    return status;
}

/* Whether an open data set is one for the model; complains where it can be none, and says in reason why a folder is none. */
static bool judge(const carso_model_info *model, const carso_dataset *dataset, const char *path, char *reason,
                  size_t size)
{
    carso_dataset_info info = {.struct_size = sizeof info};
    carso_dataset_get_info(dataset, &info);
    reason[0] = '\0';
    if (info.channels != model->channels || info.height != model->image_height || info.width != model->image_width) {
        complain("the images of %s are %dx%dx%d (channels, height, width), the model takes %dx%dx%d", path,
                 (int)info.channels, (int)info.height, (int)info.width, (int)model->channels, (int)model->image_height,
                 (int)model->image_width);
        return false;
    }
    if (info.classes == model->classes) {
        return true;
    }
    if (strcmp(info.format, "folder") == 0) {
        snprintf(reason, size, "has %d classes, the model %d", (int)info.classes, (int)model->classes);
    } else {
        complain("%s has %d classes, the model %d", path, (int)info.classes, (int)model->classes);
    }
    return false;
}

/* Whether images beside are no part of it: a picture that somebody put there. */
static bool keeps_labels_apart(const carso_dataset *dataset)
{
    carso_dataset_info info = {.struct_size = sizeof info};
    carso_dataset_get_info(dataset, &info);
    return strcmp(info.format, "folder") != 0;
}

static exit_status open_folder(carso_context *context, const carso_model_info *model, carso_split split,
                               const char *path, carso_dataset **out)
{
    carso_dataset_options options = shape_of(model, split);
    char text[1024];
    *out = NULL;
    carso_status opened = carso_dataset_open_with(context, path, &options, out);
    if (holds(path, false) && !(opened == CARSO_OK && keeps_labels_apart(*out))) {
        carso_dataset_destroy(*out);
        return open_unlabelled(context, model, path, holds(path, true) ? "has images beside its folders" : "", out);
    }
    if (opened == CARSO_OK && judge(model, *out, path, text, sizeof text)) {
        return STATUS_OK;
    }
    if (opened == CARSO_OK) {
        carso_dataset_destroy(*out);
        *out = NULL;
        return text[0] ? open_unlabelled(context, model, path, text, out) : STATUS_FAILURE;
    }
    /* Folders in folders, unless they are the parts of a data set that lacks the one asked for. */
    carso_context_message(context, text, sizeof text);
    if (opened == CARSO_ERROR_NOT_FOUND && is_folder(path, ".") && !is_folder(path, "train") &&
        !is_folder(path, "test") && carso_dataset_open_files(context, &path, 1, &options, out) == CARSO_OK) {
        note(path, "is no data set");
        return STATUS_OK;
    }
    complain("cannot open %s: %s", path, text);
    return STATUS_FAILURE;
}

exit_status source_open(carso_context *context, const carso_model_info *model, carso_split split, int inputs,
                        const char *const *input, carso_dataset **out)
{
    return inputs == 1 && !source_is_image(input[0]) ? open_folder(context, model, split, input[0], out)
                                                     : open_files(context, model, (size_t)inputs, input, out);
}

/* Without the end of a line, as either kind of system writes it. */
static void strip(char *line, size_t length)
{
    if (length > 0 && line[length - 1] == '\n') {
        line[--length] = '\0';
        if (length > 0 && line[length - 1] == '\r') {
            line[length - 1] = '\0';
        }
    }
}

/* The lines of a stream, each to be freed, and the array too. False with errno where not all could be read. */
static bool read_lines(FILE *stream, char ***out_lines, size_t *out_count)
{
    char **lines = NULL, *line = NULL;
    size_t count = 0, room = 0, size = 0;
    bool whole = true;
    errno = 0;
    for (ssize_t length; (length = getline(&line, &size, stream)) >= 0;) {
        strip(line, (size_t)length);
        if (line[0] == '\0') {
            continue;
        }
        if (count == room) {
            char **larger = reallocarray(lines, room = 2 * room + 64, sizeof *lines);
            if (!larger) {
                errno = ENOMEM;
                whole = false;
                break;
            }
            lines = larger;
        }
        lines[count++] = line;
        line = NULL;
        size = 0;
    }
    /* Out of memory is no error of the stream, and may come when its end is reached already. */
    whole = whole && feof(stream) && !ferror(stream) && errno != ENOMEM;
    int reason = errno;
    free(line);
    errno = reason;
    *out_lines = lines;
    *out_count = count;
    return whole;
}

exit_status source_open_list(carso_context *context, const carso_model_info *model, const char *list,
                             carso_dataset **out)
{
    bool standard_input = strcmp(list, "-") == 0;
    size_t count = 0;
    exit_status status = STATUS_FAILURE;
    *out = NULL;
    FILE *stream = standard_input ? stdin : fopen(list, "re");
    char **lines = NULL;
    if (!stream || !read_lines(stream, &lines, &count)) {
        complain("cannot read %s: %s", standard_input ? "standard input" : list, strerror(errno));
    } else if (count == 0) {
        complain("%s names no images", standard_input ? "standard input" : list);
    } else {
        status = open_files(context, model, count, (const char *const *)lines, out);
    }
    for (size_t i = 0; i < count; i++) {
        free(lines[i]);
    }
    free(lines);
    if (stream && !standard_input) {
        fclose(stream);
    }
    return status;
}

uint64_t source_count(const carso_dataset *dataset, const char *path, uint64_t first, uint64_t wanted)
{
    carso_dataset_info info = {.struct_size = sizeof info};
    carso_dataset_get_info(dataset, &info);
    if (first >= info.count) {
        complain("--first: %s has %llu images, there is no number %llu", path, (unsigned long long)info.count,
                 (unsigned long long)first);
        return 0;
    }
    uint64_t left = info.count - first;
    return wanted > 0 && wanted < left ? wanted : left;
}
