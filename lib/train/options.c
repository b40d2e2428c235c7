/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGEST 1e6

typedef enum field_type { FIELD_INTEGER, FIELD_NUMBER, FIELD_SEED } field_type;

typedef struct field {
    const char *name;
    size_t offset;
    field_type type;
    double low, high;
} field;

#define PURIFIER(name, type, low, high) {#name, offsetof(carso_purifier_training_options, name), type, low, high}
static const field purifier_fields[] = {
    PURIFIER(steps_per_epoch, FIELD_INTEGER, 1, INT32_MAX),
    PURIFIER(epochs, FIELD_INTEGER, 1, INT32_MAX),
    PURIFIER(sub_batch, FIELD_INTEGER, 0, INT32_MAX),
    PURIFIER(schedule_by_step, FIELD_INTEGER, 0, 1),
    PURIFIER(adversarial_fraction, FIELD_NUMBER, 0, 1),
    PURIFIER(epsilon, FIELD_NUMBER, 0, LARGEST),
    PURIFIER(pgd_steps, FIELD_INTEGER, 0, LARGEST),
    PURIFIER(lookahead_steps, FIELD_INTEGER, 1, LARGEST),
    PURIFIER(pgd_step_size, FIELD_NUMBER, 0, LARGEST),
    PURIFIER(lookahead_rate, FIELD_NUMBER, 0, 1),
    PURIFIER(learning_rate_start, FIELD_NUMBER, 0, LARGEST),
    PURIFIER(learning_rate_peak, FIELD_NUMBER, 0, LARGEST),
    PURIFIER(learning_rate_end, FIELD_NUMBER, 0, LARGEST),
    PURIFIER(warm_up_epochs, FIELD_NUMBER, 0, INT32_MAX),
    PURIFIER(plateau_epochs, FIELD_NUMBER, 0, INT32_MAX),
    PURIFIER(annealing_epochs, FIELD_NUMBER, 0, INT32_MAX),
    PURIFIER(beta_start_epoch, FIELD_NUMBER, 0, INT32_MAX),
    PURIFIER(beta_full_epoch, FIELD_NUMBER, 0, INT32_MAX),
    PURIFIER(beta_final, FIELD_NUMBER, 0, LARGEST),
    PURIFIER(free_bits, FIELD_NUMBER, 0, LARGEST),
    PURIFIER(mean_loss, FIELD_INTEGER, 0, 1),
    PURIFIER(epsilon_over_deviation, FIELD_INTEGER, 0, 1),
    PURIFIER(seed, FIELD_SEED, 0, 0),
};

#define CLASSIFIER(name, type, low, high) {#name, offsetof(carso_classifier_training_options, name), type, low, high}
static const field classifier_fields[] = {
    CLASSIFIER(steps_per_epoch, FIELD_INTEGER, 1, INT32_MAX),
    CLASSIFIER(epochs, FIELD_INTEGER, 1, INT32_MAX),
    CLASSIFIER(sub_batch, FIELD_INTEGER, 0, INT32_MAX),
    CLASSIFIER(pgd_steps, FIELD_INTEGER, 0, LARGEST),
    CLASSIFIER(epsilon, FIELD_NUMBER, 0, LARGEST),
    CLASSIFIER(pgd_step_size, FIELD_NUMBER, 0, LARGEST),
    CLASSIFIER(epsilon_ramp_epochs, FIELD_NUMBER, 0, INT32_MAX),
    CLASSIFIER(trades_beta, FIELD_NUMBER, 0, LARGEST),
    CLASSIFIER(learning_rate, FIELD_NUMBER, 0, LARGEST),
    CLASSIFIER(momentum, FIELD_NUMBER, 0, 1),
    CLASSIFIER(weight_decay, FIELD_NUMBER, 0, LARGEST),
    CLASSIFIER(warm_up_epochs, FIELD_NUMBER, 0, INT32_MAX),
    CLASSIFIER(label_smoothing, FIELD_NUMBER, 0, 1),
    CLASSIFIER(seed, FIELD_SEED, 0, 0),
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

void cso_purifier_training_defaults(carso_purifier_training_options *options)
{
    memset(options, 0, sizeof *options);
    *options = (carso_purifier_training_options){
        .struct_size = sizeof *options,
        .epochs = 200,
        .adversarial_fraction = .5,
        .epsilon = 8. / 255,
        .pgd_steps = 40,
        .lookahead_steps = 6,
        .pgd_step_size = .01,
        .lookahead_rate = .8,
        .learning_rate_start = 5e-9,
        .learning_rate_peak = .064,
        .learning_rate_end = 4.346e-4,
        .warm_up_epochs = 25,
        .plateau_epochs = 25,
        .annealing_epochs = 150,
        .beta_start_epoch = 25,
        .beta_full_epoch = 34,
        .beta_final = 1,
    };
}

void cso_classifier_training_defaults(carso_classifier_training_options *options)
{
    memset(options, 0, sizeof *options);
    *options = (carso_classifier_training_options){
        .struct_size = sizeof *options,
        .epochs = 30,
        .pgd_steps = 10,
        .epsilon = 8. / 255,
        .pgd_step_size = 2. / 255,
        .epsilon_ramp_epochs = 5,
        .learning_rate = .1,
        .momentum = .9,
        .weight_decay = 5e-4,
        .warm_up_epochs = 1,
    };
}

/* The fields' ranges, and what both trainers want of sub_batch. */
static carso_status check(const carso_context *context, const void *options, int32_t sub_batch, const field *fields,
                          size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *place = (const char *)options + fields[i].offset;
        double value = 0;
        if (fields[i].type == FIELD_INTEGER) {
            int32_t integer;
            memcpy(&integer, place, sizeof integer);
            value = integer;
        } else if (fields[i].type == FIELD_NUMBER) {
            memcpy(&value, place, sizeof value);
        }
        if (!(value >= fields[i].low && value <= fields[i].high)) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                            "training option %s is %.10g; it must be from %.10g to %.10g", fields[i].name, value,
                            fields[i].low, fields[i].high);
        }
    }
    if (sub_batch == 1) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "training option sub_batch is 1; BatchNorm needs at least 2 images at once (0: as many as fit)");
    }
    return CARSO_OK;
}

carso_status cso_purifier_training_check(const carso_context *context, const carso_purifier_training_options *options)
{
    const carso_status status = check(context, options, options->sub_batch, purifier_fields, COUNT(purifier_fields));
    if (status) {
        return status;
    }
    if (options->beta_full_epoch < options->beta_start_epoch) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT, "training option beta_full_epoch is %g; it must not come before "
                        "beta_start_epoch, which is %g", options->beta_full_epoch, options->beta_start_epoch);
    }
    return CARSO_OK;
}

carso_status cso_classifier_training_check(const carso_context *context,
                                           const carso_classifier_training_options *options)
{
    const carso_status status =
        check(context, options, options->sub_batch, classifier_fields, COUNT(classifier_fields));
    if (status) {
        return status;
    }
    if (options->trades_beta > 0 && options->pgd_steps == 0) {
        return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                        "training option trades_beta is %g, but pgd_steps is 0; TRADES needs attacked images", options->trades_beta);
    }
    return CARSO_OK;
}

static void value_text(const void *options, const field *of, char *text, size_t size)
{
    const char *place = (const char *)options + of->offset;
    if (of->type == FIELD_INTEGER) {
        int32_t integer;
        memcpy(&integer, place, sizeof integer);
        snprintf(text, size, "%" PRId32, integer);
    } else if (of->type == FIELD_NUMBER) {
        double number;
        memcpy(&number, place, sizeof number);
        snprintf(text, size, "%.17g", number);
    } else {
        uint64_t seed;
        memcpy(&seed, place, sizeof seed);
        snprintf(text, size, "%" PRIu64, seed);
    }
}

static carso_status same(const carso_context *context, const void *options, const void *wanted, const field *fields,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char have[32], want[32];
        value_text(options, &fields[i], have, sizeof have);
        value_text(wanted, &fields[i], want, sizeof want);
        if (strcmp(have, want) != 0) {
            return cso_fail(context, CARSO_ERROR_INVALID_ARGUMENT,
                            "training option %s is %s in the training, and now should be %s; it goes on with what it began with alone",
                            fields[i].name, have, want);
        }
    }
    return CARSO_OK;
}

carso_status cso_purifier_training_same(const carso_context *context, const carso_purifier_training_options *options,
                                        const carso_purifier_training_options *wanted)
{
    return same(context, options, wanted, purifier_fields, COUNT(purifier_fields));
}

carso_status cso_classifier_training_same(const carso_context *context,
                                          const carso_classifier_training_options *options,
                                          const carso_classifier_training_options *wanted)
{
    return same(context, options, wanted, classifier_fields, COUNT(classifier_fields));
}

static json_t *to_json(const void *options, const field *fields, size_t count)
{
    json_t *object = json_object();
    for (size_t i = 0; object && i < count; i++) {
        const char *place = (const char *)options + fields[i].offset;
        json_t *value;
        if (fields[i].type == FIELD_INTEGER) {
            int32_t integer;
            memcpy(&integer, place, sizeof integer);
            value = json_integer(integer);
        } else if (fields[i].type == FIELD_NUMBER) {
            double number;
            memcpy(&number, place, sizeof number);
            value = json_real(number);
        } else {
            uint64_t seed;
            char text[24];
            memcpy(&seed, place, sizeof seed);
            snprintf(text, sizeof text, "%" PRIu64, seed);
            value = json_string(text);
        }
        if (json_object_set_new(object, fields[i].name, value)) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

json_t *cso_purifier_training_to_json(const carso_purifier_training_options *options)
{
    return to_json(options, purifier_fields, COUNT(purifier_fields));
}

json_t *cso_classifier_training_to_json(const carso_classifier_training_options *options)
{
    return to_json(options, classifier_fields, COUNT(classifier_fields));
}

static carso_status from_json(carso_context *context, const json_t *json, const char *where, void *options,
                              const field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *place = (char *)options + fields[i].offset;
        carso_status status;
        if (fields[i].type == FIELD_INTEGER) {
            int64_t integer;
            status = cso_json_integer(context, json, fields[i].name, where, INT32_MIN, INT32_MAX, &integer);
            if (!status) {
                const int32_t narrow = (int32_t)integer;
                memcpy(place, &narrow, sizeof narrow);
            }
        } else if (fields[i].type == FIELD_NUMBER) {
            double number;
            status = cso_json_number(context, json, fields[i].name, where, &number);
            if (!status) {
                memcpy(place, &number, sizeof number);
            }
        } else {
            const char *text;
            status = cso_json_string(context, json, fields[i].name, where, &text);
            if (!status) {
                char *end;
                errno = 0;
                const uint64_t seed = strtoull(text, &end, 10);
                if (errno || *end || *text < '0' || *text > '9') {
                    return cso_fail(context, CARSO_ERROR_BAD_FORMAT, "%s: %s is \"%s\", not an unsigned 64-bit number",
                                    where, fields[i].name, text);
                }
                memcpy(place, &seed, sizeof seed);
            }
        }
        if (status) {
            return status;
        }
    }
    return CARSO_OK;
}

carso_status cso_purifier_training_from_json(carso_context *context, const json_t *json, const char *where,
                                             carso_purifier_training_options *options)
{
    return from_json(context, json, where, options, purifier_fields, COUNT(purifier_fields));
}

carso_status cso_classifier_training_from_json(carso_context *context, const json_t *json, const char *where,
                                               carso_classifier_training_options *options)
{
    return from_json(context, json, where, options, classifier_fields, COUNT(classifier_fields));
}
