/* SPDX-License-Identifier: BSD-2-Clause */
/* Random initial values of parameters. */
#include <math.h>

#include "base/random.h"
#include "model/model.h"

/* FNV-1a: a parameter's values depend on its name alone, not on what else a network has. */
static uint64_t name_hash(const char *name)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (const unsigned char *byte = (const unsigned char *)name; *byte != 0; byte++) {
        hash = (hash ^ *byte) * UINT64_C(1099511628211);
    }
    return hash;
}

carso_status cso_initial_parameter(carso_context *context, uint64_t seed, const char *name, int rank,
                                   const int64_t *dimension, int64_t fan_in, float constant, cso_parameter **out)
{
    *out = NULL;
    size_t count = 1;
    for (int i = 0; i < rank; i++) {
        if (dimension[i] < 1 || __builtin_mul_overflow(count, (size_t)dimension[i], &count)) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                            "parameter '%s' has a dimension of %lld or too many elements", name,
                            (long long)dimension[i]);
        }
    }
    float *value = cso_allocate_raw(context, count, sizeof *value);
    if (value == NULL) {
        return cso_fail_memory(context, "initial weights");
    }
    if (fan_in > 0) {
        const cso_random stream = {
            .seed = seed, .purpose = CSO_PURPOSE_INITIAL_WEIGHTS, .image = name_hash(name), .draw = 0};
        const double bound = 1.0 / sqrt((double)fan_in);
        cso_random_uniform(&stream, 0, count, value);
        for (size_t i = 0; i < count; i++) {
            value[i] = (float)((2.0 * (double)value[i] - 1.0) * bound);
        }
    } else {
        for (size_t i = 0; i < count; i++) {
            value[i] = constant;
        }
    }
    const carso_status status = cso_parameter_create(context, rank, dimension, value, out);
    cso_release(context, value);
    return status;
}
