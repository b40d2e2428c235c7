/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/schedules.h"

#include <math.h>

double cso_phases_at(const cso_phases *phases, double epoch)
{
    if (epoch < phases->warm_up) {
        return phases->start + (phases->peak - phases->start) * (epoch / phases->warm_up);
    }
    epoch -= phases->warm_up;
    if (epoch < phases->plateau) {
        return phases->peak;
    }
    epoch -= phases->plateau;
    if (epoch < phases->annealing) {
        return phases->peak + (phases->end - phases->peak) * (epoch / phases->annealing);
    }
    return phases->end;
}

double cso_ramp_at(double start, double full, double final, double epoch)
{
    if (epoch >= full) {
        return final;
    }
    return epoch <= start ? 0 : final * ((epoch - start) / (full - start));
}

double cso_cosine_at(double peak, double warm_up, double length, double epoch)
{
    if (epoch < warm_up) {
        return peak * (epoch / warm_up);
    }
    if (epoch >= length) {
        return 0;
    }
    return peak * .5 * (1 + cos(M_PI * (epoch - warm_up) / (length - warm_up)));
}
