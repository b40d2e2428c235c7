/* SPDX-License-Identifier: BSD-2-Clause */
/* Convolutions by Winograd's filtering: which, how tiles are blocked, and how threads share the work. */
#include "backends/onednn/winograd.h"

#include <string.h>
#include <unistd.h>

/* HALVED: so many channels of plain weights at a time that they stay in the first cache. */
enum { LINE = 16, HALVED = 16 };

/* Bytes of weights above which threads share each pass over them, tiles of a block then, and the share of the context's
 * memory limit that a block may take. */
#define SHARED_WEIGHTS ((size_t)6 << 20)
#define SHARED_BLOCK 128
#define BLOCK_SHARE 16
/* Shares of the memory limit above which a layer's transformed weights are kept only half made, or not at all: the rest
 * is done anew for each block, for a few frequencies of a panel at a time, in the cache. Bytes of a block's frequencies
 * where all of it is done anew. */
#define WHOLE_SHARE 64
#define HALF_SHARE 16
#define PLAIN_BLOCK ((size_t)48 << 20)
/* Bytes of a block's frequencies where each thread has blocks of its own, as its weights are read from further away once
 * for each block: most of a second cache of 2 MiB; where that holds no such block, the third one does. */
#define OWN_BLOCK ((size_t)3 << 19)
#define OWN_BLOCK_FURTHER ((size_t)5 << 19)

/* Bytes of a row of frequencies' inputs up to which these stay in the second cache: then all of a row are made together,
 * and of plain weights all rows of a panel. */
#define NEAR_BLOCK ((size_t)1 << 20)

/* Channels summed over from which real points are as accurate as a direct convolution, whose long sums are then what its
 * errors come from. With fewer only complex points are. Measured on networks: docs/accuracy.md. */
#define MANY_CHANNELS 160

/*
 * A model of where it pays, in multiply-adds, fitted to what tests/bench/bench_convolution measures: a tile's
 * transforms cost so many for each channel, and reading a weight as much as this many tiles' use of it, by whether the
 * weights stay in the cache.
 */
#define LEAST_CHANNELS 16
#define LEAST_GAIN 1.3
/* Of weights too large to be kept in more than one form: another batch may want them in oneDNN's, which costs memory. */
#define LEAST_MADE_GAIN 0.75
#define TRANSFORM_COST 12
#define CACHED_COST 4
#define READ_COST 16
#define MAKE_COST 24 /* of weights that are not constant, in each run */
#define CACHED_WEIGHTS ((size_t)1 << 20)
/* Half made weights used as they are, in columns' use of them. */
#define COLUMNWISE_READ_COST 8

struct cso_winograd_product {
    const cso_winograd *set;
    cso_winograd_shape shape;
    cso_parameter *parameter;
    const float *scale;  /* NULL, or factors of the weight's output channels */
    const float *weight; /* NULL: not asked for yet, or made in each run */
    size_t weight_size;  /* bytes of workspace for the latter */
    int threads;
    int64_t across, per_image, tiles; /* tiles in a row, in an image, in the batch */
    int64_t blocks, panels;           /* of tiles, and of outputs */
    bool shared;                      /* threads divide each step of a block among them; else the blocks */
    cso_winograd_form form;           /* of the weights; not whole: shared */
    bool panels_outside;              /* not whole: a panel's groups of frequencies, not a group of all panels, follow */
    const cso_winograd_group *groups; /* not whole: frequencies that are made together */
    int64_t group_count;
    bool turns;                       /* the plain weights are the other direction's */
    bool columnwise;                  /* half made weights serve as they are: filtering from row to row alone */
    size_t v_stride, v_pitch, m_stride, m_pitch; /* floats from tile to tile and from frequency to frequency */
};

const cso_winograd *cso_winograd_of_processor(bool complex_points)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) {
        return complex_points ? &cso_winograd_complex_avx512 : &cso_winograd_avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return complex_points ? &cso_winograd_complex_avx2 : &cso_winograd_avx2;
    }
#else
    (void)complex_points;
#endif
    return NULL;
}

bool cso_winograd_shape_of(const cso_geometry *geometry, cso_product product, cso_winograd_shape *out)
{
    const cso_geometry *const g = geometry;
    if (product == CSO_PRODUCT_WEIGHT || g->groups != 1) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        if (g->kernel[i] != 3 || g->stride[i] != 1 || g->dilation[i] != 1 || g->pad_begin[i] < 0 ||
            g->pad_begin[i] > 2) {
            return false;
        }
    }
    const bool turned = product == CSO_PRODUCT_SOURCE;
    const int64_t *const in = turned ? g->destination : g->source, *const to = turned ? g->source : g->destination;
    *out = (cso_winograd_shape){.batch = g->batch,
                                .in = in[0],
                                .out = to[0],
                                .in_height = in[1],
                                .in_width = in[2],
                                .out_height = to[1],
                                .out_width = to[2],
                                .pad = {turned ? 2 - g->pad_begin[0] : g->pad_begin[0],
                                        turned ? 2 - g->pad_begin[1] : g->pad_begin[1]},
                                .turned = turned};
    return true;
}

/* Without the panels' filling, so that both instruction sets decide alike. */
static size_t weight_bytes(const cso_winograd *set, const cso_winograd_shape *shape)
{
    return (size_t)(set->frequencies * shape->out * shape->in) * sizeof(float);
}

/* constant: else weights are made for one run, and half made ones not worth being written. */
static cso_winograd_form form_of(const carso_context *context, const cso_winograd *set, const cso_winograd_shape *shape,
                                 bool constant)
{
    const size_t limit = context->memory_limit, whole = weight_bytes(set, shape);
    if (whole <= limit / WHOLE_SHARE) {
        return CSO_WINOGRAD_WHOLE;
    }
    return whole <= limit / HALF_SHARE && constant ? CSO_WINOGRAD_HALF : CSO_WINOGRAD_PLAIN;
}

/*
 * Filtering from row to row alone: every column of a strip of tiles has side frequencies, and a frequency's output is the
 * sum of three columns' products. Columns follow one another, those of the padding too, so that the three are one row of
 * a matrix, three times as long, and the next output's begins a column later. Between strips two outputs are of no use.
 */
static int64_t strips_of(const cso_winograd_shape *shape)
{
    return shape->batch * ((shape->out_height + CSO_WINOGRAD_STEP - 1) / CSO_WINOGRAD_STEP);
}

static int64_t strip_width(const cso_winograd_shape *shape) { return shape->out_width + CSO_WINOGRAD_KERNEL - 1; }

static int64_t columns_of(const cso_winograd_shape *shape)
{
    return strips_of(shape) * strip_width(shape);
}

static int64_t products_of(const cso_winograd_shape *shape)
{
    return columns_of(shape) - CSO_WINOGRAD_KERNEL + 1;
}

/* What a run costs, in multiply-adds of one input with one output, transforms aside. */
static int64_t columnwise_cost(const cso_winograd_shape *shape)
{
    return CSO_WINOGRAD_SIDE * CSO_WINOGRAD_KERNEL * (products_of(shape) + COLUMNWISE_READ_COST);
}

static bool columnwise_possible(const cso_winograd *set, const cso_winograd_shape *shape, cso_winograd_form form)
{
    return form == CSO_WINOGRAD_HALF && set->column_name && shape->in % LINE == 0;
}

const cso_winograd *cso_winograd_choose(const cso_device *device, const cso_geometry *geometry, cso_product product,
                                        const cso_parameter *weight)
{
    cso_winograd_shape s;
    if (!device->winograd_complex || !cso_winograd_shape_of(geometry, product, &s) || s.in < LEAST_CHANNELS ||
        s.out < LEAST_CHANNELS) {
        return NULL;
    }
    const bool real_points = device->winograd && s.in >= MANY_CHANNELS;
    const cso_winograd *const set = real_points ? device->winograd : device->winograd_complex;
    const int64_t tiles = (s.out_height + CSO_WINOGRAD_STEP - 1) / CSO_WINOGRAD_STEP *
                          ((s.out_width + CSO_WINOGRAD_STEP - 1) / CSO_WINOGRAD_STEP);
    const int64_t padded = (s.out + set->panel - 1) / set->panel * set->panel;
    const size_t weights = (size_t)(set->frequencies * padded * s.in) * sizeof(float);
    const double products = (double)padded * (double)s.in;
    const double each_tile = products + TRANSFORM_COST * (double)(s.in + s.out);
    const double once =
        products * ((weights > CACHED_WEIGHTS ? READ_COST : CACHED_COST) + (weight->constant ? 0 : MAKE_COST));
    const double direct = 9.0 * (double)(s.batch * s.out_height * s.out_width) * (double)s.out * (double)s.in;
    const double filtered = (double)set->frequencies * ((double)(s.batch * tiles) * each_tile + once);
    const cso_winograd_form form = form_of(device->context, set, &s, weight->constant);
    const bool columnwise_pays = columnwise_possible(set, &s, form) &&
                                 direct > LEAST_MADE_GAIN * products * (double)columnwise_cost(&s);
    const double least_gain = form == CSO_WINOGRAD_WHOLE ? LEAST_GAIN : LEAST_MADE_GAIN;
    return columnwise_pays || direct > least_gain * filtered ? set : NULL;
}

/* An odd number of cache lines modulo 64, so that one tile's frequencies fall into different sets of the caches. */
static size_t pitch_of(size_t floats)
{
    size_t lines = (floats + LINE - 1) / LINE;
    while (lines % 64 != 11 && lines % 64 != 27 && lines % 64 != 43 && lines % 64 != 59) {
        lines++;
    }
    return lines * LINE;
}

static size_t own_block(void)
{
#ifdef _SC_LEVEL2_CACHE_SIZE
    const long cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (cache > 0 && (size_t)cache < OWN_BLOCK) {
        return OWN_BLOCK_FURTHER;
    }
#endif
    return OWN_BLOCK;
}

static void divide(const carso_context *context, cso_winograd_product *p)
{
    const cso_winograd_shape *const s = &p->shape;
    const size_t in = ((size_t)s->in + LINE - 1) / LINE * LINE, panel = (size_t)p->set->panel;
    const size_t tile = (size_t)p->set->frequencies * sizeof(float) * (in + (size_t)p->panels * panel);
    p->form = form_of(context, p->set, s, p->parameter->constant);
    p->shared = p->form != CSO_WINOGRAD_WHOLE || weight_bytes(p->set, s) > SHARED_WEIGHTS;
    const size_t share = context->memory_limit / BLOCK_SHARE;
    const size_t bytes = p->form == CSO_WINOGRAD_PLAIN ? PLAIN_BLOCK : p->shared ? SHARED_BLOCK * tile : own_block();
    int64_t most = (int64_t)((share < bytes ? share : bytes) / tile);
    most = most > p->set->rows ? most - most % (p->shared ? 1 : p->set->rows) : p->set->rows;
    const int64_t users = p->shared ? 1 : p->threads;
    p->blocks = (p->tiles + most - 1) / most;
    p->blocks = (p->blocks + users - 1) / users * users;
    p->blocks = p->blocks < p->tiles ? p->blocks : p->tiles;
    const size_t block = (size_t)((p->tiles + p->blocks - 1) / p->blocks);
    p->v_stride = in;
    p->v_pitch = pitch_of(block * p->v_stride);
    p->m_stride = (size_t)p->panels * panel;
    p->m_pitch = pitch_of(block * p->m_stride);
    const bool far = (size_t)CSO_WINOGRAD_SIDE * block * p->v_stride * sizeof(float) > NEAR_BLOCK;
    p->panels_outside = p->form == CSO_WINOGRAD_PLAIN && !far;
    const bool small = p->form == CSO_WINOGRAD_HALF && far;
    p->groups = small ? p->set->small_groups : p->set->groups;
    p->group_count = small ? p->set->small_group_count : p->set->group_count;
    p->turns = p->form == CSO_WINOGRAD_PLAIN && s->turned && p->parameter->constant;
    p->columnwise = columnwise_possible(p->set, s, p->form) &&
                    columnwise_cost(s) < p->set->frequencies * (p->tiles + READ_COST);
    if (p->columnwise) {
        p->v_pitch = pitch_of((size_t)columns_of(s) * p->v_stride);
        p->m_pitch = pitch_of((size_t)columns_of(s) * p->m_stride);
    }
}

carso_status cso_winograd_product_create(cso_device *device, const cso_winograd *set, const cso_geometry *geometry,
                                         cso_product product, cso_parameter *weight, cso_winograd_product **out)
{
    cso_winograd_product *const made = cso_allocate(device->context, 1, sizeof *made);
    *out = NULL;
    if (!made) {
        return cso_fail_memory(device->context, "kernels");
    }
    (void)cso_winograd_shape_of(geometry, product, &made->shape);
    const cso_winograd_shape *const s = &made->shape;
    made->set = set;
    made->parameter = weight->base ? weight->base : weight;
    made->scale = weight->base ? weight->scale : NULL;
    made->threads = device->threads;
    made->across = (s->out_width + CSO_WINOGRAD_STEP - 1) / CSO_WINOGRAD_STEP;
    made->per_image = (s->out_height + CSO_WINOGRAD_STEP - 1) / CSO_WINOGRAD_STEP * made->across;
    made->tiles = made->per_image * s->batch;
    made->panels = (s->out + set->panel - 1) / set->panel;
    divide(device->context, made);
    made->weight_size = weight->constant ? 0 : cso_round_up(cso_winograd_weight_size(set, s, made->form));
    *out = made;
    return CARSO_OK;
}

carso_status cso_winograd_product_ready(cso_device *device, cso_winograd_product *product)
{
    if (!product->parameter->constant) {
        return CARSO_OK;
    }
    return cso_winograd_weight(device, product->set, product->parameter, &product->shape, product->form,
                               &product->weight);
}

void cso_winograd_product_destroy(cso_device *device, cso_winograd_product *product)
{
    cso_release(device->context, product);
}

const char *cso_winograd_product_name(const cso_winograd_product *product)
{
    return product->columnwise ? product->set->column_name : product->set->name;
}

/* Floats of one block's frequencies, before and after the products. */
static size_t block_floats(const cso_winograd_product *p)
{
    return (size_t)(p->columnwise ? CSO_WINOGRAD_SIDE : p->set->frequencies) * (p->v_pitch + p->m_pitch);
}

/* Room of a thread where weights are not whole: those of a panel that are made together, what they are made from where
 * that is made too, and a panel of plain weights turned round. */
static size_t made_pitch(const cso_winograd_product *p) { return pitch_of((size_t)(p->shape.in * p->set->panel)); }

static size_t half_floats(const cso_winograd_product *p)
{
    return p->form == CSO_WINOGRAD_PLAIN ? (size_t)(2 * HALVED * CSO_WINOGRAD_KERNEL * p->set->panel) : 0;
}

static size_t turned_floats(const cso_winograd_product *p)
{
    const int64_t width = p->set->panel, squares = (p->shape.in + width - 1) / width;
    return p->turns ? (size_t)(squares * width * CSO_WINOGRAD_AREA * width) : 0;
}

static size_t room_floats(const cso_winograd_product *p)
{
    int64_t together = 0;
    for (int64_t i = 0; i < p->group_count; i++) {
        together = p->groups[i].count > together ? p->groups[i].count : together;
    }
    return p->form == CSO_WINOGRAD_WHOLE || p->columnwise
               ? 0
               : (size_t)together * made_pitch(p) + pitch_of(half_floats(p) + turned_floats(p));
}

size_t cso_winograd_product_workspace(const cso_winograd_product *product)
{
    const size_t threads = (size_t)product->threads;
    const size_t blocks = product->shared ? block_floats(product) + threads * room_floats(product)
                                          : threads * block_floats(product);
    return product->weight_size + cso_round_up((product->v_stride + blocks) * sizeof(float));
}

/* zero: a pixel outside of the image. */
static void transform_in(const cso_winograd_product *p, const float *source, const float *zero, int64_t tile, float *v)
{
    const cso_winograd_shape *const s = &p->shape;
    const int64_t within = tile % p->per_image, side = CSO_WINOGRAD_SIDE;
    const int64_t y0 = within / p->across * CSO_WINOGRAD_STEP - s->pad[0];
    const int64_t x0 = within % p->across * CSO_WINOGRAD_STEP - s->pad[1];
    const float *const image = source + tile / p->per_image * s->in_height * s->in_width * s->in;
    const float *pixel[CSO_WINOGRAD_SIDE * CSO_WINOGRAD_SIDE];
    for (int64_t i = 0; i < side; i++) {
        const int64_t y = y0 + i;
        for (int64_t j = 0; j < side; j++) {
            const int64_t x = x0 + j;
            const bool inside = y >= 0 && y < s->in_height && x >= 0 && x < s->in_width;
            pixel[i * side + j] = inside ? image + (y * s->in_width + x) * s->in : zero;
        }
    }
    p->set->transform_input(pixel, s->turned ? p->scale : NULL, s->in, v, p->v_pitch);
}

/* The activation follows while the outputs are in the cache. */
static void transform_out(const cso_device *device, const cso_winograd_product *p, const cso_product_arguments *a,
                          int64_t tile, const float *m)
{
    const cso_winograd_shape *const s = &p->shape;
    const cso_finish *const with = &a->finish;
    const int64_t within = tile % p->per_image, image = tile / p->per_image, step = CSO_WINOGRAD_STEP;
    const int64_t y = within / p->across * step, x = within % p->across * step;
    const int64_t height = s->out_height - y < step ? s->out_height - y : step;
    const int64_t width = s->out_width - x < step ? s->out_width - x : step;
    const int64_t row = s->out_width * s->out, offset = (image * s->out_height + y) * row + x * s->out;
    const int64_t next = x + step < s->out_width ? step * s->out : step * row - x * s->out;
    float *const to = a->out + offset;
    p->set->transform_output(m, p->m_pitch, s->out, height, width, s->turned ? NULL : p->scale, with->bias,
                             with->residual ? with->residual + offset : NULL, to, (size_t)row, (size_t)next);
    for (int64_t i = 0; i < height && with->activation != CSO_NO_ACTIVATION; i++) {
        device->loops->activate((size_t)(width * s->out), with->activation, with->slope, to + i * row, to + i * row);
    }
}

/* Weights of a frequency's panel. */
static const float *weight_of(const cso_winograd_product *p, int64_t frequency, int64_t panel)
{
    return p->weight + (frequency * p->panels + panel) * p->shape.in * p->set->panel;
}

/* Of panels of a frequency, first first. What lies two panels ahead is fetched. */
static void multiply_whole(const cso_winograd_product *p, int64_t count, int64_t frequency, int64_t first,
                           int64_t panels, const float *v, float *m)
{
    const int64_t width = p->set->panel;
    const float *const rows = v + (size_t)frequency * p->v_pitch, *const weight = weight_of(p, frequency, first);
    p->set->multiply(count, p->shape.in, panels, rows, p->v_stride, rows + p->v_pitch, weight,
                     weight + 2 * p->shape.in * width, width, m + (size_t)frequency * p->m_pitch + first * width,
                     p->m_stride);
}

static void run_own_blocks(const cso_device *device, const cso_winograd_product *p, const cso_product_arguments *a,
                           const float *source, const float *zero, int part, float *v)
{
    float *const m = v + (size_t)p->set->frequencies * p->v_pitch;
    int64_t first_block, last_block;
    cso_share(p->blocks, p->threads, part, &first_block, &last_block);
    for (int64_t block = first_block; block < last_block; block++) {
        int64_t first, last;
        cso_share(p->tiles, (int)p->blocks, (int)block, &first, &last);
        for (int64_t tile = first; tile < last; tile++) {
            transform_in(p, source, zero, tile, v + (size_t)(tile - first) * p->v_stride);
        }
        for (int64_t f = 0; f < p->set->frequencies; f++) {
            multiply_whole(p, last - first, f, 0, p->panels, v, m);
        }
        for (int64_t tile = first; tile < last; tile++) {
            transform_out(device, p, a, tile, m + (size_t)(tile - first) * p->m_stride);
        }
    }
}

/* The plain weights of a panel; where they are the other direction's, turned round in room for them. */
static const float *plain_of(const cso_winograd_product *p, int64_t panel, float *turned)
{
    const int64_t width = p->set->panel, square = CSO_WINOGRAD_AREA * width * width;
    if (!p->turns) {
        return p->weight + panel * CSO_WINOGRAD_AREA * p->shape.in * width;
    }
    const float *from = p->weight + panel * square;
    for (int64_t input = 0, i = 0; input < p->shape.in; input += width, i++) {
        p->set->turn_weights(from + i * CSO_WINOGRAD_AREA * p->shape.out * width, p->shape.out - panel * width,
                             turned + i * square);
    }
    return turned;
}

/* How often weights are made for a panel and a group of frequencies. */
static int64_t made_units(const cso_winograd_product *p) { return p->group_count * p->panels; }

/* Numbers from .. to - 1 of these, and their products. What the next half made weights are is fetched meanwhile. */
static void multiply_made(const cso_winograd_product *p, int64_t count, int64_t from, int64_t to, const float *v,
                          float *m, float *room)
{
    const int64_t in = p->shape.in, width = p->set->panel, panels = p->panels;
    const int64_t panel_floats = CSO_WINOGRAD_KERNEL * in * width, some_floats = CSO_WINOGRAD_KERNEL * HALVED * width;
    float *const made = room + pitch_of(half_floats(p) + turned_floats(p));
    const float *plain = NULL;
    for (int64_t unit = from; unit < to; unit++) {
        const int64_t panel = p->panels_outside ? unit / p->group_count : unit % panels;
        const int64_t number = p->panels_outside ? unit % p->group_count : unit / panels;
        const cso_winograd_group *const group = &p->groups[number];
        const int64_t share = CSO_WINOGRAD_KERNEL * width / group->count;
        const float *ahead = room;
        if (p->form == CSO_WINOGRAD_HALF) {
            const float *const half = p->weight + (group->row * panels + panel) * panel_floats;
            p->set->finish_weights(half, (size_t)(in * width), (size_t)(panels * panel_floats), in, group, made,
                                   made_pitch(p));
            ahead = half + panel_floats;
        } else {
            if (!p->panels_outside || number == 0 || !plain) {
                plain = plain_of(p, panel, room + half_floats(p));
            }
            for (int64_t c = 0; c < in; c += HALVED) {
                const int64_t some = in - c < HALVED ? in - c : HALVED;
                for (int64_t k = 0; k < group->rows; k++) {
                    p->set->halve_weights(plain + c * CSO_WINOGRAD_AREA * width, some, group->row + k,
                                          room + k * some_floats, HALVED * (size_t)width);
                }
                p->set->finish_weights(room, HALVED * (size_t)width, (size_t)some_floats, some, group,
                                       made + c * width, made_pitch(p));
            }
        }
        for (int64_t j = 0; j < group->count; j++) {
            const size_t f = (size_t)(group->frequency + j);
            const float *const rows = v + f * p->v_pitch;
            p->set->multiply(count, in, 1, rows, p->v_stride, rows + p->v_pitch, made + (size_t)j * made_pitch(p),
                             ahead + j * share * in, share, m + f * p->m_pitch + panel * width, p->m_stride);
        }
    }
}

static void run_shared_block(const cso_device *device, const cso_winograd_product *p, const cso_product_arguments *a,
                             const float *source, const float *zero, int64_t block, float *v)
{
    float *const m = v + (size_t)p->set->frequencies * p->v_pitch, *const u = v + block_floats(p);
    int64_t first, last;
    cso_share(p->tiles, (int)p->blocks, (int)block, &first, &last);
    const int64_t count = last - first;
#pragma omp parallel for schedule(static) num_threads(p->threads)
    for (int part = 0; part < p->threads; part++) {
        int64_t from, to;
        cso_share(count, p->threads, part, &from, &to);
        for (int64_t tile = from; tile < to; tile++) {
            transform_in(p, source, zero, first + tile, v + (size_t)tile * p->v_stride);
        }
    }
#pragma omp parallel for schedule(static) num_threads(p->threads)
    for (int part = 0; part < p->threads; part++) {
        int64_t from, to;
        if (p->form != CSO_WINOGRAD_WHOLE) {
            cso_share(made_units(p), p->threads, part, &from, &to);
            multiply_made(p, count, from, to, v, m, u + (size_t)part * room_floats(p));
            continue;
        }
        cso_share(p->set->frequencies * p->panels, p->threads, part, &from, &to);
        while (from < to) {
            const int64_t f = from / p->panels, panel = from % p->panels;
            const int64_t panels = p->panels - panel < to - from ? p->panels - panel : to - from;
            multiply_whole(p, count, f, panel, panels, v, m);
            from += panels;
        }
    }
#pragma omp parallel for schedule(static) num_threads(p->threads)
    for (int part = 0; part < p->threads; part++) {
        int64_t from, to;
        cso_share(count, p->threads, part, &from, &to);
        for (int64_t tile = from; tile < to; tile++) {
            transform_out(device, p, a, first + tile, m + (size_t)tile * p->m_stride);
        }
    }
}

static void column_in(const cso_winograd_product *p, const float *source, const float *zero, int64_t column, float *v)
{
    const cso_winograd_shape *const s = &p->shape;
    const int64_t strip = column / strip_width(s), strips = p->per_image / p->across;
    const int64_t x = column % strip_width(s) - s->pad[1], y0 = strip % strips * CSO_WINOGRAD_STEP - s->pad[0];
    const float *const image = source + strip / strips * s->in_height * s->in_width * s->in;
    const float *pixel[CSO_WINOGRAD_SIDE];
    for (int64_t i = 0; i < CSO_WINOGRAD_SIDE; i++) {
        const int64_t y = y0 + i;
        const bool inside = y >= 0 && y < s->in_height && x >= 0 && x < s->in_width;
        pixel[i] = inside ? image + (y * s->in_width + x) * s->in : zero;
    }
    p->set->transform_column(pixel, s->turned ? p->scale : NULL, s->in, v + (size_t)column * p->v_stride, p->v_pitch);
}

static void column_out(const cso_device *device, const cso_winograd_product *p, const cso_product_arguments *a,
                       int64_t column, const float *m)
{
    const cso_winograd_shape *const s = &p->shape;
    const cso_finish *const with = &a->finish;
    const int64_t strip = column / s->out_width, strips = p->per_image / p->across, step = CSO_WINOGRAD_STEP;
    const int64_t x = column % s->out_width, y = strip % strips * step, row = s->out_width * s->out;
    const int64_t height = s->out_height - y < step ? s->out_height - y : step;
    const int64_t offset = (strip / strips * s->out_height + y) * row + x * s->out;
    float *const to = a->out + offset;
    p->set->finish_column(m + (size_t)(strip * strip_width(s) + x) * p->m_stride, p->m_pitch, s->out, height,
                          s->turned ? NULL : p->scale, with->bias, with->residual ? with->residual + offset : NULL, to,
                          (size_t)row);
    for (int64_t i = 0; i < height && with->activation != CSO_NO_ACTIVATION; i++) {
        device->loops->activate((size_t)s->out, with->activation, with->slope, to + i * row, to + i * row);
    }
}

static void run_columns(const cso_device *device, const cso_winograd_product *p, const cso_product_arguments *a,
                        const float *source, const float *zero, float *v)
{
    const cso_winograd_shape *const s = &p->shape;
    const int64_t columns = columns_of(s), outputs = strips_of(s) * s->out_width;
    const int64_t length = CSO_WINOGRAD_KERNEL * s->in, width = p->set->panel, panel_floats = length * width;
    float *const m = v + (size_t)CSO_WINOGRAD_SIDE * p->v_pitch;
#pragma omp parallel num_threads(p->threads)
    {
#pragma omp for schedule(static)
        for (int64_t column = 0; column < columns; column++) {
            column_in(p, source, zero, column, v);
        }
#pragma omp for schedule(static)
        for (int64_t unit = 0; unit < CSO_WINOGRAD_SIDE * p->panels; unit++) {
            const int64_t row = unit / p->panels, panel = unit % p->panels;
            const float *const rows = v + (size_t)row * p->v_pitch, *const weight = p->weight + unit * panel_floats;
            p->set->multiply(products_of(s), length, 1, rows, p->v_stride, rows, weight, weight + panel_floats, width,
                             m + (size_t)row * p->m_pitch + panel * width, p->m_stride);
        }
#pragma omp for schedule(static)
        for (int64_t column = 0; column < outputs; column++) {
            column_out(device, p, a, column, m);
        }
    }
}

carso_status cso_winograd_product_run(cso_device *device, const cso_winograd_product *product,
                                      const cso_product_arguments *arguments)
{
    cso_winograd_product now = *product;
    const cso_winograd_product *const p = &now;
    const float *const source = p->shape.turned ? arguments->destination_in : arguments->source_in;
    float *const made = arguments->workspace, *const zero = made + p->weight_size / sizeof *made;
    float *const blocks = zero + p->v_stride;
    if (!now.parameter->constant) {
        cso_winograd_weight_make(device, now.set, now.parameter, &now.shape, now.form, made);
        now.weight = made;
    }
    memset(zero, 0, p->v_stride * sizeof *zero);
    if (p->columnwise) {
        run_columns(device, p, arguments, source, zero, blocks);
        return CARSO_OK;
    }
    if (p->shared) {
        for (int64_t block = 0; block < p->blocks; block++) {
            run_shared_block(device, p, arguments, source, zero, block, blocks);
        }
        return CARSO_OK;
    }
#pragma omp parallel for schedule(static) num_threads(p->threads)
    for (int part = 0; part < p->threads; part++) {
        run_own_blocks(device, p, arguments, source, zero, part, blocks + (size_t)part * block_floats(p));
    }
    return CARSO_OK;
}
