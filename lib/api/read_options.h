/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CSO_API_READ_OPTIONS_H
#define CSO_API_READ_OPTIONS_H

#include "data/dataset.h"

/* Defaults where given is NULL; INVALID_ARGUMENT where they do not fit the data set. */
carso_status cso_read_options_resolve(const carso_dataset *dataset, const carso_read_options *given,
                                      carso_read_options *out);

#endif
