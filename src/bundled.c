/* SPDX-License-Identifier: BSD-2-Clause */
#include "bundled.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "options.h"

static bool exists(const char *folder, const char *name, char *path, size_t size)
{
    int length = snprintf(path, size, "%s/%s", folder, name);
    return length > 0 && (size_t)length < size && access(path, R_OK) == 0;
}

bool bundled_path(const char *name, char *path, size_t size)
{
    char program[4096];
    const char *given = getenv("CARSO_DATA_DIR");
    if (given && given[0]) {
        if (exists(given, name, path, size)) {
            return true;
        }
        complain("CARSO_DATA_DIR is '%s', but there is no %s in it", given, name);
        return false;
    }
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 32);
    if (length > 0) {
        program[length] = '\0';
        char *slash = strrchr(program, '/');
        if (slash) {
            strcpy(slash, "/../share/carso");
            if (exists(program, name, path, size)) {
                return true;
            }
        }
    }
    if (exists(CARSO_INSTALLED_DATA, name, path, size) || exists(CARSO_SOURCE_DATA, name, path, size)) {
        return true;
    }
    complain("the bundled file %s is neither installed nor in the source tree; name a model, or set CARSO_DATA_DIR", name);
    return false;
}
