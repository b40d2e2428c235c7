/* SPDX-License-Identifier: BSD-2-Clause */
/* Weights in the forms that Winograd's steps read. */
#include "backends/onednn/winograd.h"

#include <string.h>

typedef struct making {
    const cso_device *device;
    const cso_winograd_shape *shape;
    int64_t panels;
    cso_winograd_form form;
} making;

/* Inputs first .. last - 1 of a panel's weights, [in][9][panel]; outputs beyond the last are 0. */
static void gather(const making *it, const float *weight, int64_t panel, int64_t first, int64_t last, float *to)
{
    const cso_winograd_shape *const s = it->shape;
    const int64_t width = it->device->winograd->panel, left = s->out - panel * width;
    const int64_t outputs = left < width ? left : width;
    memset(to, 0, (size_t)((last - first) * CSO_WINOGRAD_AREA * width) * sizeof *to);
    for (int64_t o = 0; o < outputs; o++) {
        for (int64_t i = first; i < last; i++) {
            const int64_t output = panel * width + o;
            const float *const from =
                weight + (s->turned ? i * s->out + output : output * s->in + i) * CSO_WINOGRAD_AREA;
            for (int k = 0; k < CSO_WINOGRAD_AREA; k++) {
                to[((i - first) * CSO_WINOGRAD_AREA + k) * width + o] = from[s->turned ? CSO_WINOGRAD_AREA - 1 - k : k];
            }
        }
    }
}

/* So few inputs at a time that what is gathered stays in the cache. */
enum { GATHERED = 8, WIDEST_PANEL = 32 };

static void transform(const making *it, const float *weight, int64_t panel, float *out)
{
    const cso_winograd *const set = it->device->winograd;
    const int64_t in = it->shape->in, width = set->panel;
    float plain[GATHERED * CSO_WINOGRAD_AREA * WIDEST_PANEL], half[GATHERED * CSO_WINOGRAD_KERNEL * WIDEST_PANEL];
    for (int64_t first = 0; first < in; first += GATHERED) {
        const int64_t count = in - first < GATHERED ? in - first : GATHERED;
        gather(it, weight, panel, first, first + count, plain);
        for (int64_t row = 0; row < set->side; row++) {
            if (it->form == CSO_WINOGRAD_HALF) {
                float *const to = out + ((row * it->panels + panel) * in * CSO_WINOGRAD_KERNEL + first) * width;
                set->halve_weights(plain, count, row, to, (size_t)(in * width));
                continue;
            }
            set->halve_weights(plain, count, row, half, (size_t)(count * width));
            set->finish_weights(half, (size_t)(count * width), count, 0, set->side,
                                out + ((row * set->side * it->panels + panel) * in + first) * width,
                                (size_t)(it->panels * in * width));
        }
    }
}

static void make(const void *data, const float *values, void *out)
{
    const making *const it = data;
    const int64_t in = it->shape->in, plain = in * CSO_WINOGRAD_AREA * it->device->winograd->panel;
#pragma omp parallel for schedule(static) num_threads(it->device->threads)
    for (int64_t panel = 0; panel < it->panels; panel++) {
        if (it->form == CSO_WINOGRAD_PLAIN) {
            gather(it, values, panel, 0, in, (float *)out + panel * plain);
        } else {
            transform(it, values, panel, out);
        }
    }
}

static making describe(const cso_device *device, const cso_winograd_shape *shape, cso_winograd_form form)
{
    const int64_t panel = device->winograd->panel;
    return (making){.device = device, .shape = shape, .panels = (shape->out + panel - 1) / panel, .form = form};
}

/* Floats of one weight. */
static int64_t form_size(const cso_winograd *set, cso_winograd_form form)
{
    return form == CSO_WINOGRAD_WHOLE  ? set->frequencies
           : form == CSO_WINOGRAD_HALF ? set->side * CSO_WINOGRAD_KERNEL
                                       : CSO_WINOGRAD_AREA;
}

size_t cso_winograd_weight_size(const cso_device *device, const cso_winograd_shape *shape, cso_winograd_form form)
{
    const making it = describe(device, shape, form);
    return (size_t)(form_size(device->winograd, form) * it.panels * device->winograd->panel * shape->in) *
           sizeof(float);
}

void cso_winograd_weight_make(const cso_device *device, const cso_parameter *weight, const cso_winograd_shape *shape,
                              cso_winograd_form form, float *out)
{
    const making it = describe(device, shape, form);
    make(&it, weight->data, out);
}

carso_status cso_winograd_weight(cso_device *device, cso_parameter *weight, const cso_winograd_shape *shape,
                                 cso_winograd_form form, const float **out)
{
    const cso_winograd *const set = device->winograd;
    cso_winograd_shape of = *shape;
    if (form == CSO_WINOGRAD_PLAIN && of.turned) {
        of.in = shape->out;
        of.out = shape->in;
        of.turned = false;
    }
    const making it = describe(device, &of, form);
    const size_t size = cso_winograd_weight_size(device, &of, form);
    const int number = (int)((form_size(set, form) * WIDEST_PANEL + set->panel - 1) * 2) + of.turned;
    const void *data = NULL;
    const carso_status status = cso_packed_get_made(
        device, weight, number, form == CSO_WINOGRAD_PLAIN ? CSO_MEMORY_PACKED : CSO_MEMORY_TRANSFORMED, size, make,
        &it, &data);
    *out = data;
    return status;
}
