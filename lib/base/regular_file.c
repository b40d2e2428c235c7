/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/regular_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

carso_status cso_regular_file_open(const carso_context *context, const char *path, int *out_descriptor,
                                   uint64_t *out_size)
{
    struct stat facts;
    carso_status status = CARSO_OK;
    /* Without O_NONBLOCK a named pipe would hold up the call before it can be refused. */
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        return cso_fail_system(context, errno, "%s: cannot open", path);
    }
    if (fstat(descriptor, &facts) != 0) {
        status = cso_fail_system(context, errno, "%s: cannot read", path);
    } else if (!S_ISREG(facts.st_mode)) {
        status = cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: not a regular file", path);
    }
    if (status != CARSO_OK) {
        close(descriptor);
        return status;
    }
    *out_descriptor = descriptor;
    if (out_size != NULL) {
        *out_size = (uint64_t)facts.st_size;
    }
    return CARSO_OK;
}
