/* SPDX-License-Identifier: BSD-2-Clause */
/* Weights to Winograd's frequencies, in double, rounded once. */
#include "backends/onednn/winograd.h"

enum { SIDE = CSO_WINOGRAD_SIDE, KERNEL = 3 };

/* Half of the context's memory at most goes to transformed weights: they take four times the weights' own memory. */
#define MEMORY_SHARE 2

/* Row p of G: 1, p, p^2 over the product of p's distances to the other points. */
static void make_transform(double out[SIDE][KERNEL])
{
    static const double points[SIDE - 1] = {0, 0.625, -0.625, 1.5, -1.5};
    for (int i = 0; i < SIDE - 1; i++) {
        double distances = 1;
        for (int j = 0; j < SIDE - 1; j++) {
            distances *= j == i ? 1 : points[i] - points[j];
        }
        for (int j = 0; j < KERNEL; j++) {
            out[i][j] = (j == 0 ? 1 : j == 1 ? points[i] : points[i] * points[i]) / distances;
        }
    }
    out[SIDE - 1][0] = 0;
    out[SIDE - 1][1] = 0;
    out[SIDE - 1][2] = 1;
}

static void transform_one(double transform[SIDE][KERNEL], const float *weight, bool turned, float *out, int64_t pitch)
{
    double half[SIDE][KERNEL];
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < KERNEL; j++) {
            half[i][j] = 0;
            for (int k = 0; k < KERNEL; k++) {
                const int position = k * KERNEL + j;
                half[i][j] += transform[i][k] * (double)weight[turned ? KERNEL * KERNEL - 1 - position : position];
            }
        }
    }
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++) {
            double value = 0;
            for (int k = 0; k < KERNEL; k++) {
                value += half[i][k] * transform[j][k];
            }
            out[(i * SIDE + j) * pitch] = (float)value;
        }
    }
}

typedef struct making {
    const cso_winograd_shape *shape;
    const float *weight;
    int64_t panel, panels;
    int threads;
} making;

static void make(const void *data, void *out)
{
    const making *const it = data;
    const cso_winograd_shape *const s = it->shape;
    const int64_t area = KERNEL * KERNEL, pitch = it->panels * s->in * it->panel;
    double transform[SIDE][KERNEL];
    make_transform(transform);
#pragma omp parallel for schedule(static) num_threads(it->threads)
    for (int64_t o = 0; o < it->panels * it->panel; o++) {
        for (int64_t i = 0; i < s->in; i++) {
            float *const to = (float *)out + (o / it->panel * s->in + i) * it->panel + o % it->panel;
            if (o < s->out) {
                transform_one(transform, it->weight + (s->turned ? i * s->out + o : o * s->in + i) * area, s->turned,
                              to, pitch);
                continue;
            }
            for (int f = 0; f < CSO_WINOGRAD_FREQUENCIES; f++) {
                to[f * pitch] = 0;
            }
        }
    }
}

carso_status cso_winograd_weight(cso_device *device, cso_parameter *weight, const cso_winograd_shape *shape,
                                 const float **out)
{
    const cso_winograd *const set = device->winograd;
    const int64_t panels = (shape->out + set->panel - 1) / set->panel;
    const making it = {
        .shape = shape, .weight = weight->data, .panel = set->panel, .panels = panels, .threads = device->threads};
    const size_t count = (size_t)(CSO_WINOGRAD_FREQUENCIES * panels * set->panel) * (size_t)shape->in;
    const void *data = NULL;
    const carso_status status =
        cso_packed_get_made(device, weight, (int)set->panel * 2 + shape->turned, count * sizeof(float),
                            device->context->memory_limit / MEMORY_SHARE, make, &it, &data);
    *out = data;
    return status;
}
