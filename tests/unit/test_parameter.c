/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/safetensors.h"
#include "counting_allocator.h"
#include "graph/parameter.h"

/* Longer than what is converted at a time. */
#define MANY 1300

static carso_context *named_context(const char *backend)
{
    carso_context_options options;
    carso_context *context = NULL;
    carso_context_options_init(&options, sizeof options);
    options.backend = backend;
    options.threads = 1;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
    return context;
}

/* A device with memory of its own, which the host must not touch: addresses handed out are not those of the memory. */
#define DEVICE_OFFSET ((uintptr_t)1 << 60)

static int device_buffers;
static int device_packed_releases;
static int device_calls_until_failure; /* 0: none fails */

static bool device_fails(void)
{
    return device_calls_until_failure > 0 && --device_calls_until_failure == 0;
}

static carso_status device_buffer_create(cso_device *device, size_t bytes, void **out)
{
    (void)device;
    if (device_fails()) {
        return CARSO_ERROR_BACKEND;
    }
    device_buffers++;
    *out = (void *)((uintptr_t)malloc(bytes) + DEVICE_OFFSET);
    return CARSO_OK;
}

static void device_buffer_destroy(cso_device *device, void *buffer)
{
    (void)device;
    device_buffers--;
    free((void *)((uintptr_t)buffer - DEVICE_OFFSET));
}

static carso_status device_buffer_write(cso_device *device, void *destination, const void *source, size_t bytes)
{
    (void)device;
    if (device_fails()) {
        return CARSO_ERROR_BACKEND;
    }
    memcpy((void *)((uintptr_t)destination - DEVICE_OFFSET), source, bytes);
    return CARSO_OK;
}

static carso_status device_buffer_read(cso_device *device, void *destination, const void *source, size_t bytes)
{
    (void)device;
    if (device_fails()) {
        return CARSO_ERROR_BACKEND;
    }
    memcpy(destination, (const void *)((uintptr_t)source - DEVICE_OFFSET), bytes);
    return CARSO_OK;
}

static void device_packed_release(cso_device *device, cso_parameter *parameter)
{
    (void)device;
    device_packed_releases++;
    parameter->packed = NULL;
}

static const cso_backend device_backends[] = {
    {.name = "device-float",
     .element = CSO_F32,
     .buffer_create = device_buffer_create,
     .buffer_destroy = device_buffer_destroy,
     .buffer_write = device_buffer_write,
     .buffer_read = device_buffer_read,
     .packed_release = device_packed_release},
    {.name = "device-double",
     .element = CSO_F64,
     .buffer_create = device_buffer_create,
     .buffer_destroy = device_buffer_destroy,
     .buffer_write = device_buffer_write,
     .buffer_read = device_buffer_read,
     .packed_release = device_packed_release},
    /* Without buffer functions the context's allocator serves. */
    {.name = "device-allocator", .element = CSO_F32, .packed_release = device_packed_release},
};

/* Element i of what is on the device, and the way to change it. */
static double data_at(const cso_parameter *parameter, const void *data, size_t i)
{
    const cso_backend *backend = parameter->context->backend;
    const char *memory = data;
    if (backend->buffer_create != NULL && !backend->host_memory) {
        memory = (const char *)((uintptr_t)data - DEVICE_OFFSET);
    }
    return backend->element == CSO_F64 ? ((const double *)memory)[i] : ((const float *)memory)[i];
}

static void set_data(const cso_parameter *parameter, void *data, size_t i, double number)
{
    const cso_backend *backend = parameter->context->backend;
    char *memory = data;
    if (backend->buffer_create != NULL && !backend->host_memory) {
        memory = (char *)((uintptr_t)data - DEVICE_OFFSET);
    }
    if (backend->element == CSO_F64) {
        ((double *)memory)[i] = number;
    } else {
        ((float *)memory)[i] = (float)number;
    }
}

/* All that a parameter does, on any kind of memory. */
static void check_life(const carso_context *context)
{
    static float host[MANY];
    static float read[MANY];
    static double read_double[MANY];
    const int64_t dimension[2] = {MANY / 10, 10};
    const bool wide = context->backend->element == CSO_F64;
    cso_parameter *constant;
    cso_parameter *trainable;
    for (int i = 0; i < MANY; i++) {
        host[i] = 0.1F * (float)i;
    }
    ck_assert_int_eq(cso_parameter_create(context, 2, dimension, host, &constant), CARSO_OK);
    ck_assert(constant->constant);
    ck_assert_uint_eq(constant->count, MANY);
    ck_assert_ptr_ne(constant->host, host);
    ck_assert_ptr_null(cso_parameter_host(constant));
    ck_assert_int_eq(cso_parameter_create_trainable(constant, &trainable), CARSO_OK);
    cso_parameter_release(constant);
    ck_assert(!trainable->constant);
    ck_assert_int_eq(trainable->rank, 2);
    ck_assert_int_eq(trainable->dimension[0], MANY / 10);
    for (size_t i = 0; i < MANY; i++) {
        ck_assert_double_eq(data_at(trainable, trainable->data, i), host[i]);
        ck_assert_double_eq(data_at(trainable, trainable->gradient, i), 0.0);
    }

    float *own = cso_parameter_host(trainable);
    ck_assert_ptr_eq(own, trainable->host);
    own[0] = 7.0F;
    own[MANY - 1] = -7.0F;
    ck_assert_int_eq(cso_parameter_upload(trainable), CARSO_OK);
    ck_assert_double_eq(data_at(trainable, trainable->data, 0), 7.0);
    ck_assert_double_eq(data_at(trainable, trainable->data, MANY - 1), -7.0);
    ck_assert_double_eq(data_at(trainable, trainable->data, 1), host[1]);

    set_data(trainable, trainable->data, MANY - 2, 1.0 / 3.0);
    ck_assert_int_eq(cso_parameter_download(trainable), CARSO_OK);
    ck_assert_float_eq(own[MANY - 2], (float)(1.0 / 3.0));
    ck_assert_float_eq(own[0], 7.0F);

    set_data(trainable, trainable->gradient, 0, 1.0 / 3.0);
    set_data(trainable, trainable->gradient, MANY - 1, 2.0);
    ck_assert_int_eq(cso_parameter_read_gradient(trainable, read), CARSO_OK);
    ck_assert_float_eq(read[0], (float)(1.0 / 3.0));
    ck_assert_float_eq(read[MANY - 1], 2.0F);
    ck_assert_float_eq(read[MANY / 2], 0.0F);
    ck_assert_int_eq(cso_parameter_read_gradient_double(trainable, read_double), CARSO_OK);
    ck_assert_double_eq(read_double[0], wide ? 1.0 / 3.0 : (double)(float)(1.0 / 3.0));
    ck_assert_double_eq(read_double[MANY - 1], 2.0);
    ck_assert_int_eq(cso_parameter_zero_gradient(trainable), CARSO_OK);
    ck_assert_int_eq(cso_parameter_read_gradient(trainable, read), CARSO_OK);
    for (size_t i = 0; i < MANY; i++) {
        ck_assert_float_eq(read[i], 0.0F);
    }
    cso_parameter_release(trainable);
}

START_TEST(lives_on_every_backend)
{
    for (size_t i = 0; i < cso_backend_count(); i++) {
        carso_context *context = named_context(cso_backend_at(i)->name);
        check_life(context);
        carso_context_destroy(context);
    }
}
END_TEST

START_TEST(lives_on_a_device_with_its_own_memory)
{
    carso_context *context = named_context("reference");
    for (size_t i = 0; i < sizeof device_backends / sizeof *device_backends; i++) {
        carso_context other = *context;
        other.backend = &device_backends[i];
        check_life(&other);
        ck_assert_int_eq(device_buffers, 0);
    }
    carso_context_destroy(context);
}
END_TEST

START_TEST(a_failing_device_loses_nothing)
{
    carso_context *context = named_context("reference");
    carso_context other = *context;
    const int64_t dimension[1] = {MANY};
    int failures = 0;
    other.backend = &device_backends[1];
    for (int n = 1;; n++) {
        cso_parameter *constant = NULL;
        cso_parameter *trainable = NULL;
        device_calls_until_failure = n;
        carso_status status = cso_parameter_create(&other, 1, dimension, NULL, &constant);
        if (status == CARSO_OK) {
            status = cso_parameter_create_trainable(constant, &trainable);
        }
        if (status == CARSO_OK) {
            status = cso_parameter_upload(trainable);
        }
        if (status == CARSO_OK) {
            status = cso_parameter_download(trainable);
        }
        cso_parameter_release(constant);
        cso_parameter_release(trainable);
        ck_assert_int_eq(device_buffers, 0);
        if (device_calls_until_failure > 0) {
            ck_assert_int_eq(status, CARSO_OK);
            break;
        }
        ck_assert_int_eq(status, CARSO_ERROR_BACKEND);
        failures++;
    }
    device_calls_until_failure = 0;
    ck_assert_int_gt(failures, 6);
    carso_context_destroy(context);
}
END_TEST

START_TEST(sharing_follows_the_backend)
{
    const int64_t dimension[1] = {3};
    const float host[3] = {1.0F, 2.0F, 3.0F};
    cso_parameter *parameter;
    carso_context *context = named_context("reference");
    ck_assert_int_eq(cso_parameter_create_mapped(context, 1, dimension, host, NULL, &parameter), CARSO_OK);
    ck_assert_ptr_eq(parameter->host, host);
    ck_assert_ptr_eq(parameter->data, host);
    cso_parameter_release(parameter);
    carso_context_destroy(context);

    context = named_context("reference-double");
    ck_assert_int_eq(cso_parameter_create_mapped(context, 1, dimension, host, NULL, &parameter), CARSO_OK);
    ck_assert_ptr_eq(parameter->host, host);
    ck_assert_ptr_ne(parameter->data, host);
    ck_assert_double_eq(((const double *)parameter->data)[2], 3.0);
    cso_parameter_release(parameter);
    carso_context_destroy(context);
}
END_TEST

START_TEST(mapped_keeps_its_file)
{
    static _Alignas(8) char bytes[256];
    const char *header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}   ";
    const uint64_t length = (strlen(header) + 7) / 8 * 8;
    const float numbers[2] = {1.5F, -2.5F};
    cso_safetensors *file;
    cso_parameter *parameter;
    carso_context *context = named_context("reference");
    memset(bytes, ' ', sizeof bytes);
    memcpy(bytes, &length, sizeof length);
    memcpy(bytes + 8, header, strlen(header));
    memcpy(bytes + 8 + length, numbers, sizeof numbers);
    ck_assert_int_eq(cso_safetensors_open_memory(context, bytes, 8 + length + sizeof numbers, "test", &file), CARSO_OK);
    const cso_tensor *tensor = cso_safetensors_find(file, "a");
    ck_assert_ptr_nonnull(tensor);
    ck_assert_int_eq(
        cso_parameter_create_mapped(context, tensor->rank, tensor->dimension, tensor->data, file, &parameter),
        CARSO_OK);
    cso_safetensors_release(file);
    ck_assert_uint_eq(cso_safetensors_count(parameter->mapped), 1);
    ck_assert_float_eq(parameter->host[1], -2.5F);
    cso_parameter_release(parameter);
    carso_context_destroy(context);
}
END_TEST

START_TEST(the_last_release_releases_what_was_packed)
{
    carso_context *context = named_context("reference");
    carso_context other = *context;
    const int64_t dimension[1] = {3};
    int packed = 0;
    cso_parameter *parameter;
    other.backend = &device_backends[0];
    ck_assert_int_eq(cso_parameter_create(&other, 1, dimension, NULL, &parameter), CARSO_OK);
    ck_assert_float_eq(parameter->host[2], 0.0F);
    parameter->packed = &packed;
    device_packed_releases = 0;
    cso_parameter_retain(parameter);
    cso_parameter_release(parameter);
    ck_assert_int_eq(device_packed_releases, 0);
    cso_parameter_release(parameter);
    ck_assert_int_eq(device_packed_releases, 1);
    ck_assert_int_eq(device_buffers, 0);
    cso_parameter_release(NULL);
    carso_context_destroy(context);
}
END_TEST

START_TEST(impossible_sizes_are_refused)
{
    static const struct {
        int rank;
        int64_t dimension[4];
    } sizes[] = {
        {0, {1}},
        {-1, {1}},
        {5, {1, 1, 1, 1}},
        {1, {0}},
        {1, {-1}},
        {1, {INT64_MIN}},
        {1, {(int64_t)1 << 31}},
        {1, {INT64_MAX}},
        {2, {3, 0}},
        {3, {INT32_MAX, INT32_MAX, 1}},
        {4, {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX}},
        {4, {65536, 65536, 65536, 65536}},
    };
    const float host[1] = {1.0F};
    carso_context *context = named_context("reference");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        cso_parameter *parameter = (cso_parameter *)context;
        ck_assert_int_eq(cso_parameter_create(context, sizes[i].rank, sizes[i].dimension, host, &parameter),
                         CARSO_ERROR_INVALID_ARGUMENT);
        ck_assert_ptr_null(parameter);
        ck_assert_int_eq(
            cso_parameter_create_mapped(context, sizes[i].rank, sizes[i].dimension, host, NULL, &parameter),
            CARSO_ERROR_INVALID_ARGUMENT);
    }
    cso_parameter *parameter;
    ck_assert_int_eq(cso_parameter_create_mapped(context, 1, (const int64_t[1]){1}, NULL, NULL, &parameter),
                     CARSO_ERROR_INVALID_ARGUMENT);
    carso_context_destroy(context);
}
END_TEST

START_TEST(constants_cannot_be_trained)
{
    carso_context *context = named_context("reference");
    cso_parameter *parameter;
    float single[1];
    double wide[1];
    ck_assert_int_eq(cso_parameter_create(context, 1, (const int64_t[1]){1}, NULL, &parameter), CARSO_OK);
    ck_assert_int_eq(cso_parameter_upload(parameter), CARSO_ERROR_INTERNAL);
    ck_assert_int_eq(cso_parameter_download(parameter), CARSO_ERROR_INTERNAL);
    ck_assert_int_eq(cso_parameter_zero_gradient(parameter), CARSO_ERROR_INTERNAL);
    ck_assert_int_eq(cso_parameter_read_gradient(parameter, single), CARSO_ERROR_INTERNAL);
    ck_assert_int_eq(cso_parameter_read_gradient_double(parameter, wide), CARSO_ERROR_INTERNAL);
    cso_parameter_release(parameter);
    carso_context_destroy(context);
}
END_TEST

START_TEST(every_failing_allocation_is_survived)
{
    static const char *const backend[] = {"reference", "reference-double"};
    counting_allocator counts = {0};
    carso_context *context = counting_context(&counts);
    ck_assert_ptr_nonnull(context);
    const long before = counts.held;
    for (size_t i = 0; i < sizeof backend / sizeof *backend; i++) {
        carso_context other = *context;
        other.backend = cso_backend_find(backend[i]);
        for (long n = 1;; n++) {
            cso_parameter *constant = NULL;
            cso_parameter *trainable = NULL;
            counts.failing = counts.made + n;
            carso_status status = cso_parameter_create(&other, 1, (const int64_t[1]){100}, NULL, &constant);
            if (status == CARSO_OK) {
                status = cso_parameter_create_trainable(constant, &trainable);
            }
            const bool failed = counts.made >= counts.failing;
            counts.failing = 0;
            cso_parameter_release(constant);
            cso_parameter_release(trainable);
            ck_assert_int_eq(counts.held, before);
            if (!failed) {
                ck_assert_int_eq(status, CARSO_OK);
                ck_assert_int_gt(n, 5);
                break;
            }
            ck_assert_int_eq(status, CARSO_ERROR_OUT_OF_MEMORY);
        }
    }
    carso_context_destroy(context);
    ck_assert_int_eq(counts.held, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("parameter");
    TCase *tests = tcase_create("parameter");
    tcase_add_test(tests, lives_on_every_backend);
    tcase_add_test(tests, lives_on_a_device_with_its_own_memory);
    tcase_add_test(tests, a_failing_device_loses_nothing);
    tcase_add_test(tests, sharing_follows_the_backend);
    tcase_add_test(tests, mapped_keeps_its_file);
    tcase_add_test(tests, the_last_release_releases_what_was_packed);
    tcase_add_test(tests, impossible_sizes_are_refused);
    tcase_add_test(tests, constants_cannot_be_trained);
    tcase_add_test(tests, every_failing_allocation_is_survived);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
