/* SPDX-License-Identifier: BSD-2-Clause */
#include "graph/transfer.h"

#include <string.h>

/* out[row][column] = in[column][row] for one image, with a conversion. */
#define DEFINE_TRANSPOSE(name, from, to)                                                 \
    static void name(const void *source, void *destination, size_t rows, size_t columns) \
    {                                                                                    \
        const from *const in = source;                                                   \
        to *const out = destination;                                                     \
                                                                                         \
        for (size_t row = 0; row < rows; row++) {                                        \
            for (size_t column = 0; column < columns; column++) {                        \
                out[row * columns + column] = (to)in[column * rows + row];               \
            }                                                                            \
        }                                                                                \
    }

DEFINE_TRANSPOSE(transpose_float_float, float, float)
DEFINE_TRANSPOSE(transpose_float_double, float, double)
DEFINE_TRANSPOSE(transpose_double_float, double, float)
DEFINE_TRANSPOSE(transpose_double_double, double, double)

typedef void (*transpose_function)(const void *source, void *destination, size_t rows, size_t columns);

/* rows 1: a plain conversion. */
static void convert(const void *source, cso_element source_element, void *destination, cso_element destination_element,
                    size_t images, size_t rows, size_t columns)
{
    static const transpose_function function[2][2] = {
        {transpose_float_float, transpose_float_double},
        {transpose_double_float, transpose_double_double},
    };
    const size_t source_size = source_element == CSO_F64 ? sizeof(double) : sizeof(float);
    const size_t destination_size = destination_element == CSO_F64 ? sizeof(double) : sizeof(float);
    const size_t count = rows * columns;

    if (source_element == destination_element && (rows == 1 || columns == 1)) {
        memcpy(destination, source, images * count * source_size);
        return;
    }
    for (size_t i = 0; i < images; i++) {
        function[source_element == CSO_F64][destination_element == CSO_F64](
            (const unsigned char *)source + i * count * source_size,
            (unsigned char *)destination + i * count * destination_size, rows, columns);
    }
}

static void extents(const cso_backend *backend, const cso_shape *shape, size_t *pixels, size_t *channels)
{
    if (shape->rank == 3 && backend->layout == CSO_NHWC) {
        *channels = (size_t)shape->dimension[0];
        *pixels = (size_t)(shape->dimension[1] * shape->dimension[2]);
    } else {
        *pixels = 1;
        *channels = (size_t)shape->dimension[0];
        for (int i = 1; i < shape->rank; i++) {
            *channels *= (size_t)shape->dimension[i];
        }
    }
}

void cso_transfer_to_device(const cso_backend *backend, const cso_shape *shape, int64_t batch, const void *host,
                            cso_element element, void *device)
{
    size_t pixels, channels;

    extents(backend, shape, &pixels, &channels);
    convert(host, element, device, backend->element, (size_t)batch, pixels, channels);
}

void cso_transfer_to_host(const cso_backend *backend, const cso_shape *shape, int64_t batch, const void *device,
                          void *host, cso_element element)
{
    size_t pixels, channels;

    extents(backend, shape, &pixels, &channels);
    if (pixels == 1) {
        convert(device, backend->element, host, element, (size_t)batch, 1, channels);
    } else {
        convert(device, backend->element, host, element, (size_t)batch, channels, pixels);
    }
}
