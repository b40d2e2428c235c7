/* SPDX-License-Identifier: BSD-2-Clause */
/* Weights in the forms that Winograd's steps read. */
#include "backends/onednn/winograd.h"

#include <string.h>

typedef struct making {
    const cso_device *device;
    const cso_winograd *set;
    const cso_winograd_shape *shape;
    int64_t panels;
    cso_winograd_form form;
} making;

/* Inputs first .. last - 1 of a panel's weights, [in][9][panel]; outputs beyond the last are 0. */
static void gather(const making *it, const float *weight, int64_t panel, int64_t first, int64_t last, float *to)
{
    const cso_winograd_shape *const s = it->shape;
    const int64_t width = it->set->panel, left = s->out - panel * width;
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
    const cso_winograd *const set = it->set;
    const int64_t in = it->shape->in, width = set->panel;
    float plain[GATHERED * CSO_WINOGRAD_AREA * WIDEST_PANEL], half[2 * GATHERED * CSO_WINOGRAD_KERNEL * WIDEST_PANEL];
    for (int64_t first = 0; first < in; first += GATHERED) {
        const int64_t count = in - first < GATHERED ? in - first : GATHERED, columns = count * width;
        gather(it, weight, panel, first, first + count, plain);
        for (int64_t row = 0; row < CSO_WINOGRAD_SIDE && it->form == CSO_WINOGRAD_HALF; row++) {
            set->halve_weights(plain, count, row,
                               out + ((row * it->panels + panel) * in * CSO_WINOGRAD_KERNEL + first) * width,
                               (size_t)(in * width));
        }
        for (int64_t i = 0; i < set->group_count && it->form == CSO_WINOGRAD_WHOLE; i++) {
            const cso_winograd_group *const group = &set->groups[i];
            for (int64_t k = 0; k < group->rows; k++) {
                set->halve_weights(plain, count, group->row + k, half + k * CSO_WINOGRAD_KERNEL * columns,
                                   (size_t)columns);
            }
            set->finish_weights(half, (size_t)columns, (size_t)(CSO_WINOGRAD_KERNEL * columns), count, group,
                                out + ((group->frequency * it->panels + panel) * in + first) * width,
                                (size_t)(it->panels * in * width));
        }
    }
}

static void make(const void *data, const float *values, void *out)
{
    const making *const it = data;
    const int64_t in = it->shape->in, plain = in * CSO_WINOGRAD_AREA * it->set->panel;
#pragma omp parallel for schedule(static) num_threads(it->device->threads)
    for (int64_t panel = 0; panel < it->panels; panel++) {
        if (it->form == CSO_WINOGRAD_PLAIN) {
            gather(it, values, panel, 0, in, (float *)out + panel * plain);
        } else {
            transform(it, values, panel, out);
        }
    }
}

static int64_t panels_of(const cso_winograd *set, const cso_winograd_shape *shape)
{
    return (shape->out + set->panel - 1) / set->panel;
}

/* Floats of one weight. */
static int64_t form_size(const cso_winograd *set, cso_winograd_form form)
{
    return form == CSO_WINOGRAD_WHOLE  ? set->frequencies
           : form == CSO_WINOGRAD_HALF ? CSO_WINOGRAD_SIDE * CSO_WINOGRAD_KERNEL
                                       : CSO_WINOGRAD_AREA;
}

size_t cso_winograd_weight_size(const cso_winograd *set, const cso_winograd_shape *shape, cso_winograd_form form)
{
    return (size_t)(form_size(set, form) * panels_of(set, shape) * set->panel * shape->in) * sizeof(float);
}

void cso_winograd_weight_make(const cso_device *device, const cso_winograd *set, const cso_parameter *weight,
                              const cso_winograd_shape *shape, cso_winograd_form form, float *out)
{
    const making it = {.device = device, .set = set, .shape = shape, .panels = panels_of(set, shape), .form = form};
    make(&it, weight->data, out);
}

carso_status cso_winograd_weight(cso_device *device, const cso_winograd *set, cso_parameter *weight,
                                 const cso_winograd_shape *shape, cso_winograd_form form, const float **out)
{
    cso_winograd_shape of = *shape;
    if (form == CSO_WINOGRAD_PLAIN && of.turned) {
        of.in = shape->out;
        of.out = shape->in;
        of.turned = false;
    }
    const making it = {.device = device, .set = set, .shape = &of, .panels = panels_of(set, &of), .form = form};
    /* Plain ones are the same for all points. */
    const int64_t points = form == CSO_WINOGRAD_PLAIN ? 0 : set->frequencies;
    const int number = (int)(((points * 3 + form) * WIDEST_PANEL + set->panel - 1) * 2) + of.turned;
    const void *data = NULL;
    const carso_status status = cso_packed_get_made(
        device, weight, number, form == CSO_WINOGRAD_PLAIN ? CSO_MEMORY_PACKED : CSO_MEMORY_TRANSFORMED,
        cso_winograd_weight_size(set, &of, form), make, &it, &data);
    *out = data;
    return status;
}
