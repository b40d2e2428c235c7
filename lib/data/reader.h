/* SPDX-License-Identifier: BSD-2-Clause */
/* Batches read ahead of their use. */
#ifndef CSO_DATA_READER_H
#define CSO_DATA_READER_H

#include "data/dataset.h"

/* Arguments and options, reading among them (never NULL here), are checked. */
carso_status cso_reader_open(const carso_dataset *dataset, const uint64_t *indices, uint64_t count,
                             const carso_reader_options *options, carso_reader **out);
carso_status cso_reader_next(carso_reader *reader, carso_read_batch *out);
void cso_reader_destroy(carso_reader *reader);
const carso_context *cso_reader_context(const carso_reader *reader);

#endif
