/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Products of a convolution as matrix products over columns: for some output pixels, the taps that each reads laid out
 * in rows. Threads take disjoint blocks of pixels with columns that stay in their cache, and call OpenBLAS
 * one-threaded.
 */
#include "backends/onednn/convolution.h"

#include <cblas.h>
#include <omp.h>
#include <string.h>

enum {
    COLUMN_ELEMENTS = 1 << 16, /* of a thread's columns, where a block can be made that small */
    MOST_THREADS = 64          /* OpenBLAS ends the process when more callers than its build allows want buffers */
};

struct cso_columns_product {
    cso_geometry geometry;
    cso_product product;
    int threads;
    bool narrow;          /* SOURCE with at most CSO_NARROW taps: an own loop, OpenBLAS is slow at so few columns */
    int64_t pitch;        /* from row to row of columns; taps, or CSO_NARROW */
    int64_t taps;         /* kernel height * width * source channels per group: a row of columns */
    int64_t block;        /* destination pixels (SOURCE: source rows) in a unit of work */
    int64_t blocks;       /* per image */
    cso_parameter *parameter; /* NULL: not constant */
    const char *operation;
    int64_t rows;         /* destination pixels in a thread's columns, at most */
    const float *packed;  /* [destination channels][kh][kw][source channels / groups] of a constant parameter */
    int64_t weight_count; /* in that order too; only reordered at each run where the parameter is not constant */
    size_t column_size, partial_size, narrow_size;
};

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* [out][in][area] to [out][area][in], or back. */
static void turn(const float *from, float *to, int64_t first, int64_t last, int64_t in, int64_t area, bool back)
{
    for (int64_t o = first; o < last; o++) {
        const float *const source = from + o * in * area;
        float *const destination = to + o * in * area;
        for (int64_t i = 0; i < in; i++) {
            for (int64_t k = 0; k < area; k++) {
                const int64_t plain = i * area + k, turned = k * in + i;
                destination[back ? plain : turned] = source[back ? turned : plain];
            }
        }
    }
}

/* Destination rows that the source rows first .. last - 1 contribute to. */
static void reach(const cso_geometry *g, int64_t first, int64_t last, int64_t *out_first, int64_t *out_last)
{
    const int64_t low = first + g->pad_begin[0] - (g->kernel[0] - 1) * g->dilation[0];
    *out_first = low <= 0 ? 0 : (low + g->stride[0] - 1) / g->stride[0];
    *out_last = smaller(g->destination[1], (last - 1 + g->pad_begin[0]) / g->stride[0] + 1);
}

static carso_status pack(cso_device *device, const cso_geometry *geometry, cso_parameter *weight, const char *operation,
                         const void **out)
{
    const int64_t in = geometry->source[0] / geometry->groups, area = geometry->kernel[0] * geometry->kernel[1];
    const dnnl_dims_t shape = {geometry->destination[0], in, area};
    const dnnl_dims_t plain = {in * area, area, 1}, turned = {in * area, 1, in};
    cso_descriptor from = NULL, to = NULL;
    carso_status status = cso_onednn_check(device, cso_descriptor_create(3, shape, plain, &from), operation);
    if (status == CARSO_OK) {
        status = cso_onednn_check(device, cso_descriptor_create(3, shape, turned, &to), operation);
    }
    if (status == CARSO_OK) {
        status = cso_packed_get(device, weight, from, to, operation, out);
    }
    cso_descriptor_destroy(from);
    cso_descriptor_destroy(to);
    return status;
}

bool cso_columns_product_narrow(const cso_geometry *geometry, cso_product product)
{
    return product == CSO_PRODUCT_SOURCE && geometry->groups == 1 && geometry->source[0] <= 4 &&
           geometry->source[0] * geometry->kernel[0] * geometry->kernel[1] <= CSO_NARROW &&
           geometry->destination[0] >= 16;
}

carso_status cso_columns_product_create(cso_device *device, const cso_geometry *geometry, cso_product product,
                                        cso_parameter *weight, const char *operation, cso_columns_product **out)
{
    const cso_geometry *const g = geometry;
    *out = NULL;
    cso_columns_product *const made = cso_allocate(device->context, 1, sizeof *made);
    if (!made) {
        return cso_fail_memory(device->context, "kernels");
    }
    made->geometry = *g;
    made->product = product;
    made->threads = device->threads < MOST_THREADS ? device->threads : MOST_THREADS;
    made->taps = g->source[0] / g->groups * g->kernel[0] * g->kernel[1];
    made->narrow = cso_columns_product_narrow(g, product);
    made->pitch = made->narrow ? CSO_NARROW : made->taps;
    made->weight_count = g->destination[0] * made->taps;
    const int64_t units =
        (made->threads + g->batch - 1) / g->batch; /* per image, at least, for every thread to have one */
    if (product == CSO_PRODUCT_SOURCE) {
        int64_t block = (g->source[1] + units - 1) / units;
        for (;; block = (block + 1) / 2) {
            made->rows = 0;
            for (int64_t row = 0; row < g->source[1]; row += block) {
                int64_t first, last;
                reach(g, row, smaller(row + block, g->source[1]), &first, &last);
                made->rows = larger(made->rows, (last - first) * g->destination[2]);
            }
            if (block == 1 || made->rows * made->pitch <= COLUMN_ELEMENTS) {
                break;
            }
        }
        made->block = block;
        made->blocks = (g->source[1] + block - 1) / block;
    } else {
        const int64_t pixels = g->destination[1] * g->destination[2];
        made->block = smaller((pixels + units - 1) / units, larger(COLUMN_ELEMENTS / made->taps, 16));
        made->blocks = (pixels + made->block - 1) / made->block;
        made->rows = made->block;
    }
    made->column_size = cso_round_up((size_t)(made->rows * made->pitch) * sizeof(float));
    made->narrow_size = made->narrow ? cso_round_up((size_t)(g->destination[0] * CSO_NARROW) * sizeof(float)) : 0;
    made->partial_size = product == CSO_PRODUCT_WEIGHT ? cso_round_up((size_t)made->weight_count * sizeof(float)) : 0;
    if (product != CSO_PRODUCT_WEIGHT && weight->constant) {
        made->parameter = weight;
        made->operation = operation;
    }
    *out = made;
    return CARSO_OK;
}

carso_status cso_columns_product_ready(cso_device *device, cso_columns_product *product)
{
    const void *packed = NULL;
    carso_status status = CARSO_OK;
    if (product->parameter) {
        status = pack(device, &product->geometry, product->parameter, product->operation, &packed);
    }
    product->packed = packed;
    return status;
}

void cso_columns_product_destroy(cso_device *device, cso_columns_product *product)
{
    cso_release(device->context, product);
}

size_t cso_columns_product_workspace(const cso_columns_product *product)
{
    const size_t weight =
        product->packed || product->product == CSO_PRODUCT_WEIGHT ? 0 : (size_t)product->weight_count * sizeof(float);
    return cso_round_up(weight) + product->narrow_size +
           (size_t)product->threads * (product->column_size + product->partial_size);
}

/* Columns of destination pixels first .. last - 1 of an image, for one group. */
static void gather(const cso_columns_product *p, const float *image, int64_t group, int64_t first, int64_t last,
                   float *columns)
{
    const cso_geometry *const g = &p->geometry;
    const int64_t channels = g->source[0] / g->groups;
    for (int64_t pixel = first; pixel < last; pixel++) {
        const int64_t y0 = pixel / g->destination[2] * g->stride[0] - g->pad_begin[0];
        const int64_t x0 = pixel % g->destination[2] * g->stride[1] - g->pad_begin[1];
        for (int64_t i = 0; i < g->kernel[0]; i++) {
            const int64_t y = y0 + i * g->dilation[0];
            const bool row_inside = y >= 0 && y < g->source[1];
            for (int64_t j = 0; j < g->kernel[1]; j++, columns += channels) {
                const int64_t x = x0 + j * g->dilation[1];
                if (!row_inside || x < 0 || x >= g->source[2]) {
                    for (int64_t c = 0; c < channels; c++) {
                        columns[c] = 0;
                    }
                    continue;
                }
                const float *const from = image + (y * g->source[2] + x) * g->source[0] + group * channels;
                for (int64_t c = 0; c < channels; c++) {
                    columns[c] = from[c];
                }
            }
        }
    }
}

/* The adjoint of gather, for source rows row_first .. row_last - 1 only; columns hold destination rows from, from + 1,
 * .. */
static void scatter(const cso_columns_product *p, float *image, int64_t group, int64_t row_first, int64_t row_last,
                    int64_t from, int64_t to, const float *columns)
{
    const cso_geometry *const g = &p->geometry;
    const int64_t channels = g->source[0] / g->groups;
    for (int64_t i = 0; i < g->kernel[0]; i++) {
        for (int64_t destination_row = from; destination_row < to; destination_row++) {
            const int64_t y = destination_row * g->stride[0] - g->pad_begin[0] + i * g->dilation[0];
            if (y < row_first || y >= row_last) {
                continue;
            }
            for (int64_t j = 0; j < g->kernel[1]; j++) {
                /* Destination columns low .. high - 1 read a source column that is inside the image. */
                const int64_t start = j * g->dilation[1] - g->pad_begin[1], step = g->stride[1];
                const int64_t low = start >= 0 ? 0 : (-start + step - 1) / step;
                const int64_t inside = g->source[2] - 1 - start;
                const int64_t high = inside < 0 ? 0 : smaller(g->destination[2], inside / step + 1);
                const float *column = columns + ((destination_row - from) * g->destination[2] + low) * p->pitch +
                                      (i * g->kernel[1] + j) * channels;
                float *pixel = image + (y * g->source[2] + low * step + start) * g->source[0] + group * channels;
                for (int64_t x = low; x < high; x++, column += p->pitch, pixel += step * g->source[0]) {
                    for (int64_t c = 0; c < channels; c++) {
                        pixel[c] += column[c];
                    }
                }
            }
        }
    }
}

static void finish(const cso_device *device, const cso_finish *with, int64_t pixels, int64_t channels, float *y,
                   int64_t offset)
{
    if (with->bias || with->residual || with->activation != CSO_NO_ACTIVATION) {
        device->loops->finish((size_t)pixels, (size_t)channels, (size_t)channels, y, with->bias,
                              with->residual ? with->residual + offset : NULL, with->activation, with->slope);
    }
}

static void destination_block(const cso_device *device, const cso_columns_product *p, const cso_product_arguments *a,
                              const float *weight, int64_t image, int64_t block, float *columns)
{
    const cso_geometry *const g = &p->geometry;
    const int64_t pixels = g->destination[1] * g->destination[2], channels = g->destination[0] / g->groups;
    const int64_t first = block * p->block, last = smaller(first + p->block, pixels);
    const int64_t offset = (image * pixels + first) * g->destination[0];
    for (int64_t group = 0; group < g->groups; group++) {
        gather(p, a->source_in + image * g->source[0] * g->source[1] * g->source[2], group, first, last, columns);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)(last - first), (int)channels, (int)p->taps, 1,
                    columns, (int)p->taps, weight + group * channels * p->taps, (int)p->taps, 0,
                    a->out + offset + group * channels, (int)g->destination[0]);
    }
    finish(device, &a->finish, last - first, g->destination[0], a->out + offset, offset);
}

static void source_block(const cso_device *device, const cso_columns_product *p, const cso_product_arguments *a,
                         const float *weight, int64_t image, int64_t block, float *columns)
{
    const cso_geometry *const g = &p->geometry;
    const int64_t channels = g->destination[0] / g->groups, row = g->source[2] * g->source[0];
    const int64_t first = block * p->block, last = smaller(first + p->block, g->source[1]);
    float *const whole = a->out + image * g->source[1] * row;
    int64_t from, to;
    reach(g, first, last, &from, &to);
    memset(whole + first * row, 0, (size_t)((last - first) * row) * sizeof(float));
    for (int64_t group = 0; group < g->groups && to > from; group++) {
        const int64_t pixel = (image * g->destination[1] + from) * g->destination[2];
        const float *const dy = a->destination_in + pixel * g->destination[0] + group * channels;
        const int64_t rows = (to - from) * g->destination[2];
        if (p->narrow) {
            device->loops->narrow_product((size_t)rows, (size_t)channels, (size_t)channels, dy, weight, columns);
        } else {
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)p->taps, (int)channels, 1, dy,
                        (int)g->destination[0], weight + group * channels * p->taps, (int)p->taps, 0, columns,
                        (int)p->taps);
        }
        scatter(p, whole, group, first, last, from, to, columns);
    }
    finish(device, &a->finish, (last - first) * g->source[2], g->source[0], whole + first * row,
           image * g->source[1] * row + first * row);
}

static void weight_block(const cso_columns_product *p, const cso_product_arguments *a, int64_t image, int64_t block,
                         float *columns, float *partial)
{
    const cso_geometry *const g = &p->geometry;
    const int64_t pixels = g->destination[1] * g->destination[2], channels = g->destination[0] / g->groups;
    const int64_t first = block * p->block, last = smaller(first + p->block, pixels);
    for (int64_t group = 0; group < g->groups; group++) {
        gather(p, a->source_in + image * g->source[0] * g->source[1] * g->source[2], group, first, last, columns);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)channels, (int)p->taps, (int)(last - first), 1,
                    a->destination_in + (image * pixels + first) * g->destination[0] + group * channels,
                    (int)g->destination[0], columns, (int)p->taps, 1, partial + group * channels * p->taps,
                    (int)p->taps);
    }
}

carso_status cso_columns_product_run(cso_device *device, const cso_columns_product *product,
                                     const cso_product_arguments *arguments)
{
    const cso_columns_product *const p = product;
    const cso_geometry *const g = &p->geometry;
    const bool gradient = p->product == CSO_PRODUCT_WEIGHT;
    const int64_t in = g->source[0] / g->groups, area = g->kernel[0] * g->kernel[1], units = g->batch * p->blocks;
    char *workspace = arguments->workspace;
    const float *weight = p->packed;
    if (!gradient && !p->packed) {
        float *const turned = (float *)(void *)workspace;
        workspace += cso_round_up((size_t)p->weight_count * sizeof(float));
        turn(arguments->weight_in, turned, 0, g->destination[0], in, area, false);
        weight = turned;
    }
    if (p->narrow) {
        float *const widened = (float *)(void *)workspace;
        workspace += p->narrow_size;
        memset(widened, 0, p->narrow_size);
        for (int64_t o = 0; o < g->destination[0]; o++) {
            memcpy(widened + o * CSO_NARROW, weight + o * p->taps, (size_t)p->taps * sizeof *widened);
        }
        weight = widened;
    }
    char *const partials = workspace + (size_t)p->threads * p->column_size;
#pragma omp parallel for schedule(static) num_threads(p->threads)
    for (int part = 0; part < p->threads; part++) {
        float *const columns = (float *)(void *)(workspace + (size_t)part * p->column_size);
        float *const partial = (float *)(void *)(partials + (size_t)part * p->partial_size);
        int64_t first, last;
        cso_share(units, p->threads, part, &first, &last);
        if (gradient) {
            memset(partial, 0, p->partial_size);
        }
        for (int64_t unit = first; unit < last; unit++) {
            const int64_t image = unit / p->blocks, block = unit % p->blocks;
            switch (p->product) {
            case CSO_PRODUCT_DESTINATION: destination_block(device, p, arguments, weight, image, block, columns); break;
            case CSO_PRODUCT_SOURCE: source_block(device, p, arguments, weight, image, block, columns); break;
            case CSO_PRODUCT_WEIGHT: weight_block(p, arguments, image, block, columns, partial); break;
            }
        }
    }
    if (gradient) {
        float *const total = (float *)(void *)partials;
        for (int part = 1; part < p->threads; part++) {
            const float *const partial = (const float *)(const void *)(partials + (size_t)part * p->partial_size);
            device->loops->add((size_t)p->weight_count, total, partial, total);
        }
        turn(total, arguments->out, 0, g->destination[0], in, area, true);
    }
    return CARSO_OK;
}
