/* SPDX-License-Identifier: BSD-2-Clause */
/* Images given as files and folders, without labels; and image files read as the shape that the caller wants. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "data/data_file.h"
#include "data/dataset.h"
#include "data/image_file.h"
#include "data/visited.h"

#define DEEPEST 64

/* A path that is being searched, and the folder that it has come to. */
typedef struct descent {
    cso_name_list *files;
    const carso_context *context;
    cso_visited visited;
    int depth;
    size_t length; /* of path */
    char path[PATH_MAX];
} descent;

static carso_status too_long(const descent *state)
{
    return cso_fail_system(state->context, ENAMETOOLONG, "%.64s...: cannot open", state->path);
}

/* Appends "/name" to the path; the caller sets the length back. */
static carso_status enter(descent *state, const char *name)
{
    const size_t size = strlen(name) + 1;
    const bool separated = state->length > 0 && state->path[state->length - 1] == '/';
    if (state->length + size + 1 > sizeof state->path) {
        return too_long(state);
    }
    if (!separated) {
        state->path[state->length++] = '/';
    }
    memcpy(state->path + state->length, name, size);
    state->length += size - 1;
    return CARSO_OK;
}

static void leave(descent *state, size_t length)
{
    state->length = length;
    state->path[length] = '\0';
}

static carso_status add_images(descent *state)
{
    const size_t length = state->length;
    cso_name_list names = {0};
    carso_status status = cso_folder_list(state->context, state->path, false, &names);
    for (size_t i = 0; i < names.count && status == CARSO_OK; i++) {
        status = enter(state, cso_name_list_at(&names, i));
        if (status == CARSO_OK) {
            status = cso_name_list_append(state->context, state->files, state->path);
        }
        leave(state, length);
    }
    cso_name_list_release(state->context, &names);
    return status;
}

static carso_status add_folder(descent *state)
{
    struct stat facts;
    bool added = false;
    const size_t length = state->length;
    cso_name_list names = {0};
    if (stat(state->path, &facts) != 0) {
        return cso_fail_system(state->context, errno, "%s: cannot open", state->path);
    }
    carso_status status = cso_visited_add(state->context, &state->visited, &facts, &added);
    if (status != CARSO_OK || !added) {
        return status;
    }
    if (state->depth == DEEPEST) {
        return cso_fail(state->context, CARSO_ERROR_IO, "%.64s...: folders are more than %d deep", state->path,
                        DEEPEST);
    }
    state->depth++;
    status = add_images(state);
    if (status == CARSO_OK) {
        status = cso_folder_list(state->context, state->path, true, &names);
    }
    for (size_t i = 0; i < names.count && status == CARSO_OK; i++) {
        status = enter(state, cso_name_list_at(&names, i));
        if (status == CARSO_OK) {
            status = add_folder(state);
        }
        leave(state, length);
    }
    cso_name_list_release(state->context, &names);
    state->depth--;
    return status;
}

carso_status cso_file_set_open(carso_dataset *dataset, const char *const *paths, size_t count)
{
    const carso_context *context = dataset->context;
    carso_status status = CARSO_OK;
    dataset->info.format = "files";
    descent *state = cso_allocate(context, 1, sizeof *state);
    if (state == NULL) {
        return cso_fail_memory(context, "the names of files");
    }
    state->context = context;
    state->files = &dataset->files;
    for (size_t i = 0; i < count && status == CARSO_OK; i++) {
        state->length = strlen(paths[i]);
        snprintf(state->path, sizeof state->path, "%s", paths[i]);
        if (state->length >= sizeof state->path) {
            status = too_long(state);
        } else if (cso_path_is_folder(state->path)) {
            status = add_folder(state);
            cso_visited_release(context, &state->visited);
        } else {
            status = cso_name_list_append(context, &dataset->files, paths[i]);
        }
    }
    cso_release(context, state);
    dataset->info.count = dataset->files.count;
    if (status == CARSO_OK && dataset->files.count == 0) {
        status = cso_fail(context, CARSO_ERROR_NOT_FOUND, "%s: no PNG or JPEG images", paths[0]);
    }
    return status == CARSO_OK ? cso_folder_probe(dataset) : status;
}

/* A file in colour to a gray image. */
static carso_status read_gray(const carso_dataset *dataset, const char *path, cso_image_facts *facts, uint8_t *out)
{
    const size_t size = dataset->image_size;
    uint8_t *colour = cso_allocate_raw(dataset->context, size, 3);
    if (colour == NULL) {
        return cso_fail_memory(dataset->context, "an image");
    }
    carso_status status = cso_image_file_read(dataset->context, path, facts, &colour);
    for (size_t i = 0; i < size && status == CARSO_OK; i++) {
        out[i] = colour[3 * i];
        if (colour[3 * i + 1] != out[i] || colour[3 * i + 2] != out[i]) {
            status =
                cso_fail(dataset->context, CARSO_ERROR_BAD_FORMAT, "%s: a colour image, expected a gray one", path);
        }
    }
    cso_release(dataset->context, colour);
    return status;
}

carso_status cso_file_set_read(const carso_dataset *dataset, uint64_t index, uint8_t *out)
{
    const carso_dataset_info *info = &dataset->info;
    const char *path = cso_name_list_at(&dataset->files, (size_t)index);
    cso_image_facts facts;
    if (info->channels == 1) {
        const carso_status status = cso_image_file_measure(dataset->context, path, &facts);
        if (status != CARSO_OK) {
            return status;
        }
        if (facts.channels == 3 && facts.width == info->width && facts.height == info->height) {
            return read_gray(dataset, path, &facts, out);
        }
    }
    facts = (cso_image_facts){info->width, info->height, info->channels};
    return cso_image_file_read(dataset->context, path, &facts, &out);
}
