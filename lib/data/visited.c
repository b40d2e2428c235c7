/* SPDX-License-Identifier: BSD-2-Clause */
#include "data/visited.h"

struct cso_visited_folder {
    dev_t device;
    ino_t inode;
    bool taken;
};

/* Where the folder is, or would be put. There is a free place. */
static struct cso_visited_folder *place_of(const cso_visited *visited, dev_t device, ino_t inode)
{
    const uint64_t hash = ((uint64_t)inode ^ (uint64_t)device << 32) * UINT64_C(0x9E3779B97F4A7C15);
    size_t place = (size_t)(hash >> 32) & (visited->capacity - 1);
    struct cso_visited_folder *folder = &visited->folder[place];
    while (folder->taken && !(folder->device == device && folder->inode == inode)) {
        place = (place + 1) & (visited->capacity - 1);
        folder = &visited->folder[place];
    }
    return folder;
}

static carso_status grow(const carso_context *context, cso_visited *visited)
{
    cso_visited larger = {.count = visited->count, .capacity = visited->capacity == 0 ? 64 : 2 * visited->capacity};
    larger.folder = cso_allocate(context, larger.capacity, sizeof *larger.folder);
    if (larger.folder == NULL) {
        return cso_fail_memory(context, "the names of folders");
    }
    for (size_t i = 0; i < visited->capacity; i++) {
        const struct cso_visited_folder *folder = &visited->folder[i];
        if (folder->taken) {
            *place_of(&larger, folder->device, folder->inode) = *folder;
        }
    }
    cso_release(context, visited->folder);
    *visited = larger;
    return CARSO_OK;
}

carso_status cso_visited_add(const carso_context *context, cso_visited *visited, const struct stat *facts,
                             bool *out_added)
{
    const carso_status status = 2 * visited->count < visited->capacity ? CARSO_OK : grow(context, visited);
    if (status != CARSO_OK) {
        return status;
    }
    struct cso_visited_folder *folder = place_of(visited, facts->st_dev, facts->st_ino);
    *out_added = !folder->taken;
    visited->count += !folder->taken;
    *folder = (struct cso_visited_folder){.device = facts->st_dev, .inode = facts->st_ino, .taken = true};
    return CARSO_OK;
}

void cso_visited_release(const carso_context *context, cso_visited *visited)
{
    cso_release(context, visited->folder);
    *visited = (cso_visited){0};
}
