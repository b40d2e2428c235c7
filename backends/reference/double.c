/* SPDX-License-Identifier: BSD-2-Clause */
/* The reference backend in double: what the other backends and the gradients are compared with. */
#define real double
#define ELEMENT CSO_F64
#define BACKEND cso_backend_reference_double
#define BACKEND_NAME "reference-double"
#define BACKEND_SUMMARY "plain C, double, one thread"

#include "backend_template.c"
