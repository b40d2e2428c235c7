/* SPDX-License-Identifier: BSD-2-Clause */
/* jansson with what hostile input needs: bounded text, bounded depth, duplicate keys refused, typed reads with
 * messages. */
#ifndef CSO_BASE_JSON_H
#define CSO_BASE_JSON_H

#include <jansson.h>

#include "base/context.h"

/* Parses text (need not be terminated). name: used in messages. BAD_FORMAT with line and column. */
carso_status cso_json_parse(carso_context *context, const char *text, size_t size, const char *name, json_t **out);
/* Member of an object with range check; BAD_FORMAT names where and the member. where: e.g. "node 3 (conv_0)". */
carso_status cso_json_integer(carso_context *context, const json_t *object, const char *key, const char *where,
                              int64_t low, int64_t high, int64_t *out);
carso_status cso_json_number(carso_context *context, const json_t *object, const char *key, const char *where,
                             double *out); /* finite */
carso_status cso_json_string(carso_context *context, const json_t *object, const char *key, const char *where,
                             const char **out); /* borrowed */
carso_status cso_json_array(carso_context *context, const json_t *object, const char *key, const char *where,
                            size_t most, const json_t **out);
/* Compact text with sorted keys, from the context's allocator; NULL where memory ran out. */
char *cso_json_text(const carso_context *context, const json_t *value, size_t *out_size);

#endif
