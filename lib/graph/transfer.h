/* SPDX-License-Identifier: BSD-2-Clause */
/* Between the host's tensors ([batch][C][H][W], float or double) and a backend's (its layout and element type). */
#ifndef CSO_GRAPH_TRANSFER_H
#define CSO_GRAPH_TRANSFER_H

#include "backends/backend.h"

/* Both sides are host memory and hold batch times shape's elements. */
void cso_transfer_to_device(const cso_backend *backend, const cso_shape *shape, int64_t batch, const void *host,
                            cso_element element, void *device);
void cso_transfer_to_host(const cso_backend *backend, const cso_shape *shape, int64_t batch, const void *device,
                          void *host, cso_element element);

#endif
