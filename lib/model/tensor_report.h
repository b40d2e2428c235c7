/* SPDX-License-Identifier: BSD-2-Clause */
/* What is wrong with the tensors of a file: collected, and told in one message that names the first of each kind. */
#ifndef CSO_MODEL_TENSOR_REPORT_H
#define CSO_MODEL_TENSOR_REPORT_H

#include "base/safetensors.h"

#define CSO_REPORT_LIST_SIZE 320

typedef struct cso_tensor_list {
    int count;
    char text[CSO_REPORT_LIST_SIZE];
} cso_tensor_list;

typedef struct cso_tensor_report {
    const carso_context *log; /* NULL, or each tensor is also logged at warning level, however many there are */
    cso_tensor_list missing, wrong, unexpected;
} cso_tensor_report;

/* text, or that it is not fit for a message: what is put into messages must not carry control characters into a log. */
const char *cso_printable(const char *text);

bool cso_tensor_fits(const cso_tensor *tensor, int rank, const int64_t *dimension); /* and is F32 */
/* "F32 [16, 3, 3, 3]" */
void cso_tensor_describe(const cso_tensor *tensor, char *text, size_t size);

void cso_tensor_report_missing(cso_tensor_report *report, const char *name);
void cso_tensor_report_wrong(cso_tensor_report *report, const char *name, const cso_tensor *found, int rank,
                             const int64_t *dimension);
/* detail: said behind the name, may be "". */
void cso_tensor_report_unexpected(cso_tensor_report *report, const char *name, const char *detail);

/* BAD_FORMAT with a message that begins with where, unless nothing was reported. */
carso_status cso_tensor_report_finish(const cso_tensor_report *report, const carso_context *context, const char *where);

#endif
