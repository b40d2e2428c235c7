/* SPDX-License-Identifier: BSD-2-Clause */
/* Life of parameters: creation from host data, the device's copy, reference counts. */
#ifndef CSO_GRAPH_PARAMETER_H
#define CSO_GRAPH_PARAMETER_H

#include "backends/backend.h"

struct cso_safetensors;

/* Constant, copying host data; NULL host: zeros. */
carso_status cso_parameter_create(const carso_context *context, int rank, const int64_t *dimension, const float *host,
                                  cso_parameter **out);
/* Constant, using host data in place; file (may be NULL) is retained. */
carso_status cso_parameter_create_mapped(const carso_context *context, int rank, const int64_t *dimension,
                                         const float *host, struct cso_safetensors *file, cso_parameter **out);
/* Constant, without values of its own: fill writes them when they are wanted. Takes recipe over, also on failure, which
 * the context's allocator made. */
carso_status cso_parameter_create_deferred(const carso_context *context, int rank, const int64_t *dimension,
                                           void (*fill)(const cso_parameter *parameter, float *out), void *recipe,
                                           struct cso_safetensors *file, cso_parameter **out);
/* Not constant, a copy of source's values, with a zeroed gradient. */
carso_status cso_parameter_create_trainable(const cso_parameter *source, cso_parameter **out);
void cso_parameter_retain(cso_parameter *parameter);
void cso_parameter_release(cso_parameter *parameter);

/* Not constant: the host values, to be changed by the trainer; then _upload brings them to the device. */
float *cso_parameter_host(cso_parameter *parameter);
carso_status cso_parameter_upload(cso_parameter *parameter);
/* Brings back what a forward run in training changed (running statistics). */
carso_status cso_parameter_download(cso_parameter *parameter);
carso_status cso_parameter_zero_gradient(cso_parameter *parameter);
/* count floats. */
carso_status cso_parameter_read_gradient(const cso_parameter *parameter, float *out);
/* The same in double (exact where the backend computes in double). */
carso_status cso_parameter_read_gradient_double(const cso_parameter *parameter, double *out);
/* The gradient where it lies, where that is the host's memory in float; else NULL. */
const float *cso_parameter_gradient_view(const cso_parameter *parameter);

#endif
