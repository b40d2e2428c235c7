/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening a file that somebody named, whatever may be there. */
#ifndef CSO_BASE_REGULAR_FILE_H
#define CSO_BASE_REGULAR_FILE_H

#include "base/context.h"

/* For reading; *out_descriptor is to be closed. out_size: may be NULL. BAD_FORMAT: a folder, a pipe, a device. */
carso_status cso_regular_file_open(const carso_context *context, const char *path, int *out_descriptor,
                                   uint64_t *out_size);

#endif
