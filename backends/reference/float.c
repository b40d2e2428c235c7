/* SPDX-License-Identifier: BSD-2-Clause */
/* The reference backend in float: always in the build, the fallback where no other works. */
#define real float
#define ELEMENT CSO_F32
#define BACKEND cso_backend_reference
#define BACKEND_NAME "reference"
#define BACKEND_SUMMARY "plain C, float, one thread"

#include "backend_template.c"
