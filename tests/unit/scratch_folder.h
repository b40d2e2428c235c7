/* SPDX-License-Identifier: BSD-2-Clause */
/* A temporary folder for a test's files. */
#ifndef TEST_SCRATCH_FOLDER_H
#define TEST_SCRATCH_FOLDER_H

#include <check.h>
#include <dirent.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch_path[PATH_MAX];

static inline void scratch_create(void)
{
    /* In memory where that can be: what is tested syncs its files, which on a busy disk takes a second each time. */
    const char *parent = getenv("TMPDIR");
    if (parent == NULL) {
        parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    }
    snprintf(scratch_path, sizeof scratch_path, "%s/carso-test-XXXXXX", parent);
    ck_assert_ptr_nonnull(mkdtemp(scratch_path));
}

static inline int scratch_remove_one(const char *path, const struct stat *facts, int kind, struct FTW *where)
{
    (void)facts;
    (void)kind;
    (void)where;
    return remove(path);
}

static inline void scratch_remove(void) { nftw(scratch_path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS); }

/* Path of name in the folder; of the two latest calls the results stay. */
static inline const char *scratch_file(const char *name)
{
    static char paths[2][3 * PATH_MAX];
    static int turn;
    turn = !turn;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", scratch_path, name);
    return paths[turn];
}

static inline void scratch_make_folder(const char *name) { ck_assert_int_eq(mkdir(scratch_file(name), 0777), 0); }

static inline void scratch_write(const char *name, const void *data, size_t size)
{
    FILE *file = fopen(scratch_file(name), "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

/* The whole file; to be freed. */
static inline unsigned char *scratch_read(const char *name, size_t *out_size)
{
    struct stat facts;
    FILE *file = fopen(scratch_file(name), "rb");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fstat(fileno(file), &facts), 0);
    unsigned char *data = malloc((size_t)facts.st_size + 1);
    ck_assert_ptr_nonnull(data);
    ck_assert_uint_eq(fread(data, 1, (size_t)facts.st_size, file), (size_t)facts.st_size);
    fclose(file);
    *out_size = (size_t)facts.st_size;
    return data;
}

/* Entries of the folder itself. */
static inline int scratch_entries(void)
{
    int entries = 0;
    DIR *folder = opendir(scratch_path);
    ck_assert_ptr_nonnull(folder);
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        entries += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    closedir(folder);
    return entries;
}

#endif
