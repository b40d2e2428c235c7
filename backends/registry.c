/* SPDX-License-Identifier: BSD-2-Clause */
/* The backends of this build, in order of preference. */
#include "backends/backend.h"

#include <string.h>

#include "config.h"

extern const cso_backend cso_backend_onednn;
extern const cso_backend cso_backend_reference;
extern const cso_backend cso_backend_reference_double;

static const cso_backend *const backends[] = {
#if CSO_HAVE_ONEDNN
    &cso_backend_onednn,
#endif
    &cso_backend_reference,
    &cso_backend_reference_double,
};

size_t cso_backend_count(void) { return sizeof backends / sizeof backends[0]; }

const cso_backend *cso_backend_at(size_t index) { return index < cso_backend_count() ? backends[index] : NULL; }

const cso_backend *cso_backend_find(const char *name)
{
    for (size_t i = 0; i < cso_backend_count(); i++) {
        if (strcmp(backends[i]->name, name) == 0) {
            return backends[i];
        }
    }
    return NULL;
}
