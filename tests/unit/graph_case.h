/* SPDX-License-Identifier: BSD-2-Clause */
/* Parameters of zeros, short shapes, and what a message says. */
#ifndef TEST_GRAPH_CASE_H
#define TEST_GRAPH_CASE_H

#include <check.h>
#include <string.h>

#include "counted_context.h"
#include "graph/graph.h"

static inline void expect_message(const char *part)
{
    char message[CSO_MESSAGE_SIZE];
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(strstr(message, part) != NULL, "the message is \"%s\", without \"%s\"", message, part);
}

#define FEATURES(f) ((cso_shape){.rank = 1, .dimension = {(f)}})
#define IMAGE(c, h, w) ((cso_shape){.rank = 3, .dimension = {(c), (h), (w)}})

static inline cso_parameter *zeros(int rank, const int64_t *dimension)
{
    cso_parameter *parameter;
    ck_assert_int_eq(cso_parameter_create(context, rank, dimension, NULL, &parameter), CARSO_OK);
    return parameter;
}

#endif
