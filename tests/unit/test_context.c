/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "counting_allocator.h"

typedef struct log_record {
    int lines;
    carso_log_level level;
    char text[CSO_MESSAGE_SIZE];
} log_record;

static void record_line(carso_log_level level, const char *text, void *user)
{
    log_record *record = user;
    record->lines++;
    record->level = level;
    snprintf(record->text, sizeof record->text, "%s", text);
}

static carso_context_options reference_options(void)
{
    carso_context_options options;
    carso_context_options_init(&options, sizeof options);
    options.backend = "reference";
    options.threads = 1;
    return options;
}

static carso_context *reference_context(log_record *record, carso_log_level level)
{
    carso_context *context;
    carso_context_options options = reference_options();
    options.log = record == NULL ? NULL : record_line;
    options.log_user = record;
    options.log_level = (int32_t)level;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
    return context;
}

START_TEST(statuses_have_pinned_values_and_texts)
{
    static const struct {
        carso_status status;
        int value;
    } pinned[] = {
        {CARSO_OK, 0},
        {CARSO_CANCELLED, 1},
        {CARSO_ERROR_INVALID_ARGUMENT, 10},
        {CARSO_ERROR_INVALID_IMAGE, 11},
        {CARSO_ERROR_CALLBACK, 12},
        {CARSO_ERROR_OUT_OF_MEMORY, 20},
        {CARSO_ERROR_IO, 30},
        {CARSO_ERROR_NOT_FOUND, 31},
        {CARSO_ERROR_BAD_FORMAT, 40},
        {CARSO_ERROR_UNSUPPORTED, 41},
        {CARSO_ERROR_NON_FINITE, 50},
        {CARSO_ERROR_BACKEND, 60},
        {CARSO_ERROR_INTERNAL, 70},
    };
    const size_t count = sizeof pinned / sizeof pinned[0];
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq((int)pinned[i].status, pinned[i].value);
        const char *text = carso_status_str(pinned[i].status);
        ck_assert_str_ne(text, "unknown status");
        for (size_t j = 0; j < i; j++) {
            ck_assert_str_ne(text, carso_status_str(pinned[j].status));
        }
    }
    ck_assert_str_eq(carso_status_str((carso_status)2), "unknown status");
    ck_assert_str_eq(carso_status_str((carso_status)-1), "unknown status");
}
END_TEST

START_TEST(version_is_that_of_the_headers)
{
    char expected[32];
    snprintf(expected, sizeof expected, "%d.%d.%d", CARSO_VERSION_MAJOR, CARSO_VERSION_MINOR, CARSO_VERSION_PATCH);
    ck_assert_str_eq(carso_version(), expected);
    ck_assert_int_eq(carso_abi_version(), CARSO_ABI_MAJOR * 1000 + CARSO_ABI_MINOR);
}
END_TEST

START_TEST(options_init_respects_the_callers_size)
{
    struct {
        carso_context_options options;
        char beyond[16];
    } larger;
    memset(&larger, 0x55, sizeof larger);
    carso_context_options_init(&larger.options, sizeof larger);
    ck_assert_uint_eq(larger.options.struct_size, sizeof larger);
    ck_assert_int_eq(larger.options.log_level, CARSO_LOG_WARNING);
    for (size_t i = 0; i < sizeof larger.beyond; i++) {
        ck_assert_int_eq(larger.beyond[i], 0);
    }
    carso_context_options shorter;
    memset(&shorter, 0x55, sizeof shorter);
    carso_context_options_init(&shorter, offsetof(carso_context_options, threads));
    ck_assert_uint_eq(shorter.struct_size, offsetof(carso_context_options, threads));
    ck_assert_ptr_null(shorter.backend);
    ck_assert_int_eq(shorter.threads, 0x55555555);
    carso_context_options_init(NULL, sizeof shorter);
    carso_context_options_init(&shorter, 1);
    ck_assert_uint_eq(shorter.struct_size, offsetof(carso_context_options, threads));
}
END_TEST

START_TEST(default_context_picks_a_backend_and_threads)
{
    carso_context *context;
    ck_assert_int_eq(carso_context_create(NULL, &context), CARSO_OK);
    bool known = false;
    for (size_t i = 0; i < carso_backend_count(); i++) {
        known = known || strcmp(carso_backend_name(i), carso_context_backend(context)) == 0;
    }
    ck_assert(known);
    ck_assert_int_ge(carso_context_threads(context), 1);
    ck_assert_int_le(carso_context_threads(context), 1024);
    ck_assert_uint_eq(carso_context_message(context, NULL, 0), 0);
    carso_context_destroy(context);
    carso_context_destroy(NULL);
    ck_assert_uint_ge(carso_backend_count(), 1);
    ck_assert_ptr_null(carso_backend_name(carso_backend_count()));
    ck_assert_ptr_null(carso_backend_name(SIZE_MAX));
}
END_TEST

START_TEST(memory_of_a_fresh_context_is_nothing)
{
    carso_context *context;
    carso_memory memory = {.struct_size = sizeof memory, .buffers = 1};
    struct {
        size_t struct_size;
        uint64_t mapped_weights, own_weights;
    } shorter = {.struct_size = sizeof(size_t) + sizeof(uint64_t), .mapped_weights = 1, .own_weights = 42};
    ck_assert_int_eq(carso_context_create(NULL, &context), CARSO_OK);
    ck_assert_int_eq(carso_context_memory(context, &memory), CARSO_OK);
    ck_assert_uint_eq(memory.mapped_weights + memory.own_weights + memory.packed_weights + memory.transformed_weights,
                      0);
    ck_assert_uint_eq(memory.buffers + memory.most_buffers, 0);
    ck_assert_int_eq(carso_context_memory(context, (carso_memory *)(void *)&shorter), CARSO_OK);
    ck_assert_uint_eq(shorter.mapped_weights, 0);
    ck_assert_uint_eq(shorter.own_weights, 42);
    memory.struct_size = 0;
    ck_assert_int_eq(carso_context_memory(context, &memory), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_context_memory(context, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_context_memory(NULL, &memory), CARSO_ERROR_INVALID_ARGUMENT);
    carso_context_destroy(context);
}
END_TEST

START_TEST(kinds_of_convolution_are_checked)
{
    for (int32_t convolution = -1; convolution <= 3; convolution++) {
        const bool known = convolution >= CARSO_CONVOLUTION_AUTOMATIC && convolution <= CARSO_CONVOLUTION_DIRECT;
        carso_context *context;
        carso_context_options options;
        carso_context_options_init(&options, sizeof options);
        options.convolution = convolution;
        ck_assert_int_eq(carso_context_create(&options, &context), known ? CARSO_OK : CARSO_ERROR_INVALID_ARGUMENT);
        carso_context_destroy(context);
    }
}
END_TEST

START_TEST(every_backend_can_be_named)
{
    for (size_t i = 0; i < carso_backend_count(); i++) {
        carso_context *context;
        carso_context_options options = reference_options();
        options.backend = carso_backend_name(i);
        options.threads = 2;
        ck_assert_int_eq(carso_context_create(&options, &context), CARSO_OK);
        ck_assert_str_eq(carso_context_backend(context), carso_backend_name(i));
        ck_assert_int_eq(carso_context_threads(context), 2);
        carso_context_destroy(context);
    }
}
END_TEST

START_TEST(bad_options_are_refused_with_a_reason)
{
    log_record record = {0};
    carso_context *context = (carso_context *)&record;
    carso_context_options options = reference_options();
    options.log = record_line;
    options.log_user = &record;
    const carso_context_options good = options;

    options.backend = "no-such-backend";
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_ERROR_NOT_FOUND);
    ck_assert_ptr_null(context);
    ck_assert_int_eq(record.lines, 1);
    ck_assert_int_eq(record.level, CARSO_LOG_ERROR);
    ck_assert_ptr_nonnull(strstr(record.text, "no-such-backend"));
    ck_assert_ptr_nonnull(strstr(record.text, "reference"));

    static const int32_t bad_threads[] = {-1, 1025, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof bad_threads / sizeof bad_threads[0]; i++) {
        options = good;
        options.threads = bad_threads[i];
        ck_assert_int_eq(carso_context_create(&options, &context), CARSO_ERROR_INVALID_ARGUMENT);
        ck_assert_ptr_nonnull(strstr(record.text, "threads"));
    }
    options = good;
    options.log_level = 4;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_ERROR_INVALID_ARGUMENT);
    options.log_level = -1;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_ERROR_INVALID_ARGUMENT);
    options = good;
    options.allocator.allocate = counting_allocate;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_ERROR_INVALID_ARGUMENT);
    options = good;
    options.struct_size = 0;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_ERROR_INVALID_ARGUMENT);
    options.struct_size = SIZE_MAX;
    ck_assert_int_eq(carso_context_create(&options, &context), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_context_create(&good, NULL), CARSO_ERROR_INVALID_ARGUMENT);
}
END_TEST

START_TEST(shorter_and_longer_options_are_understood)
{
    carso_context *context;
    carso_context_options older = reference_options();
    older.threads = 3;
    older.log_level = 77; /* beyond what an older caller's struct had */
    older.struct_size = offsetof(carso_context_options, log_level);
    ck_assert_int_eq(carso_context_create(&older, &context), CARSO_OK);
    ck_assert_int_eq(carso_context_threads(context), 3);
    carso_context_destroy(context);

    struct {
        carso_context_options options;
        uint64_t added_later;
    } newer = {.options = reference_options(), .added_later = 1};
    newer.options.struct_size = sizeof newer;
    ck_assert_int_eq(carso_context_create(&newer.options, &context), CARSO_OK);
    carso_context_destroy(context);
}
END_TEST

START_TEST(options_copy_keeps_defaults_and_size)
{
    carso_context *context = reference_context(NULL, CARSO_LOG_ERROR);
    typedef struct example {
        size_t struct_size;
        int64_t first, second;
    } example;
    example destination = {.first = 10, .second = 20};
    example source = {.struct_size = offsetof(example, second), .first = 1, .second = 2};
    ck_assert_int_eq(cso_options_copy(context, "example", &destination, sizeof destination, &source), CARSO_OK);
    ck_assert_uint_eq(destination.struct_size, sizeof destination);
    ck_assert_int_eq(destination.first, 1);
    ck_assert_int_eq(destination.second, 20);
    ck_assert_int_eq(cso_options_copy(context, "example", &destination, sizeof destination, NULL), CARSO_OK);
    ck_assert_int_eq(destination.first, 1);
    source.struct_size = sizeof(size_t) - 1;
    ck_assert_int_eq(cso_options_copy(context, "example", &destination, sizeof destination, &source),
                     CARSO_ERROR_INVALID_ARGUMENT);
    carso_context_destroy(context);
}
END_TEST

START_TEST(message_is_the_latest_failure)
{
    log_record record = {0};
    carso_context *context = reference_context(&record, CARSO_LOG_ERROR);
    char text[CSO_MESSAGE_SIZE];
    ck_assert_uint_eq(carso_context_message(context, text, sizeof text), 0);
    ck_assert_str_eq(text, "");
    ck_assert_int_eq(cso_fail(context, CARSO_ERROR_IO, "value %d of %s", 7, "nine"), CARSO_ERROR_IO);
    ck_assert_uint_eq(carso_context_message(context, text, sizeof text), strlen("value 7 of nine"));
    ck_assert_str_eq(text, "value 7 of nine");
    ck_assert_str_eq(record.text, "value 7 of nine");
    ck_assert_uint_eq(carso_context_message(context, text, 6), strlen("value 7 of nine"));
    ck_assert_str_eq(text, "value");
    ck_assert_uint_eq(carso_context_message(context, text, 0), strlen("value 7 of nine"));
    ck_assert_int_eq(cso_fail_system(context, 2, "%s: cannot open", "file"), CARSO_ERROR_NOT_FOUND);
    carso_context_message(context, text, sizeof text);
    ck_assert_str_eq(text, "file: cannot open: No such file or directory");
    ck_assert_int_eq(cso_fail_memory(context, "weights"), CARSO_ERROR_OUT_OF_MEMORY);
    carso_context_message(context, text, sizeof text);
    ck_assert_str_eq(text, "not enough memory for weights");
    ck_assert_uint_eq(carso_context_message(NULL, text, sizeof text), 0);
    ck_assert_str_eq(text, "");
    carso_context_destroy(context);
}
END_TEST

START_TEST(messages_stay_one_line_of_valid_utf8)
{
    carso_context *context = reference_context(NULL, CARSO_LOG_ERROR);
    char text[2 * CSO_MESSAGE_SIZE];
    cso_fail(context, CARSO_ERROR_IO, "%s", "a\nb\x1b[31mc\x7f");
    carso_context_message(context, text, sizeof text);
    ck_assert_str_eq(text, "a?b?[31mc?");
    for (int shift = 0; shift < 3; shift++) {
        char name[2 * CSO_MESSAGE_SIZE] = "";
        memset(name, 'x', (size_t)shift);
        for (size_t i = (size_t)shift; i + 3 < sizeof name; i += 3) {
            memcpy(name + i, "\xe2\x82\xac", 3);
        }
        cso_fail(context, CARSO_ERROR_IO, "%s", name);
        const size_t length = carso_context_message(context, text, sizeof text);
        ck_assert_uint_lt(length, CSO_MESSAGE_SIZE);
        ck_assert_uint_gt(length, CSO_MESSAGE_SIZE - 8);
        ck_assert_uint_eq((length - (size_t)shift) % 3, 0);
    }
    carso_context_destroy(context);
}
END_TEST

START_TEST(log_keeps_to_its_level)
{
    log_record record = {0};
    carso_context *context = reference_context(&record, CARSO_LOG_WARNING);
    cso_log(context, CARSO_LOG_INFO, "quiet");
    ck_assert_int_eq(record.lines, 0);
    cso_log(context, CARSO_LOG_WARNING, "loud %d", 1);
    ck_assert_int_eq(record.lines, 1);
    ck_assert_str_eq(record.text, "loud 1");
    ck_assert_int_eq(record.level, CARSO_LOG_WARNING);
    carso_context_destroy(context);
    cso_log(NULL, CARSO_LOG_ERROR, "nobody listens");
}
END_TEST

START_TEST(memory_is_aligned_zeroed_and_bounded)
{
    counting_allocator counts = {0};
    carso_context *context = counting_context(&counts);
    ck_assert_ptr_nonnull(context);
    const long before = counts.held;
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4097};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *memory = cso_allocate(context, sizes[i], 3);
        ck_assert_ptr_nonnull(memory);
        ck_assert_uint_eq((uintptr_t)memory % CSO_ALIGNMENT, 0);
        for (size_t j = 0; j < 3 * sizes[i]; j++) {
            ck_assert_uint_eq(memory[j], 0);
        }
        cso_release(context, memory);
    }
    const long made = counts.made;
    ck_assert_ptr_null(cso_allocate(context, SIZE_MAX / 2, 3));
    ck_assert_ptr_null(cso_allocate_raw(context, 3, SIZE_MAX / 2));
    ck_assert_ptr_null(cso_allocate_raw(context, SIZE_MAX, 1));
    ck_assert_int_eq(counts.made, made);
    char *copy = cso_duplicate_string(context, "text");
    ck_assert_str_eq(copy, "text");
    cso_release(context, copy);
    cso_release(context, NULL);
    ck_assert_int_eq(counts.held, before);
    carso_context_destroy(context);
    ck_assert_int_eq(counts.held, 0);
}
END_TEST

START_TEST(context_lives_until_the_last_reference)
{
    counting_allocator counts = {0};
    carso_context *context = counting_context(&counts);
    ck_assert_ptr_nonnull(context);
    cso_context_retain(context);
    carso_context_destroy(context);
    ck_assert_int_gt(counts.held, 0);
    ck_assert_str_eq(carso_context_backend(context), "reference");
    carso_context_destroy(context);
    ck_assert_int_eq(counts.held, 0);
}
END_TEST

START_TEST(each_failed_allocation_is_survived)
{
    static const char *const names[] = {NULL, "reference"};
    for (int i = 0; i < 2; i++) {
        carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
        for (long failing = 1; status != CARSO_OK; failing++) {
            counting_allocator counts = {.failing = failing};
            carso_context_options options = reference_options();
            carso_context *context = NULL;
            options.backend = names[i];
            options.allocator = (carso_allocator){counting_allocate, counting_release, &counts};
            status = carso_context_create(&options, &context);
            ck_assert_int_eq(status, counts.made < failing ? CARSO_OK : CARSO_ERROR_OUT_OF_MEMORY);
            ck_assert_int_eq(context == NULL, status != CARSO_OK);
            carso_context_destroy(context);
            ck_assert_int_eq(counts.held, 0);
        }
    }
}
END_TEST

static void *fail_often(void *user)
{
    const carso_context *context = user;
    for (int i = 0; i < 2000; i++) {
        if (i % 2 == 0) {
            cso_fail(context, CARSO_ERROR_IO, "first first first first first first");
        } else {
            cso_fail(context, CARSO_ERROR_IO, "second second");
        }
    }
    return NULL;
}

START_TEST(threads_never_tear_a_message)
{
    carso_context *context = reference_context(NULL, CARSO_LOG_ERROR);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, fail_often, context), 0);
    }
    for (int i = 0; i < 2000; i++) {
        char text[CSO_MESSAGE_SIZE];
        carso_context_message(context, text, sizeof text);
        ck_assert(text[0] == '\0' || strcmp(text, "first first first first first first") == 0 ||
                  strcmp(text, "second second") == 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    carso_context_destroy(context);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("context");
    TCase *tests = tcase_create("context");
    tcase_add_test(tests, statuses_have_pinned_values_and_texts);
    tcase_add_test(tests, version_is_that_of_the_headers);
    tcase_add_test(tests, options_init_respects_the_callers_size);
    tcase_add_test(tests, memory_of_a_fresh_context_is_nothing);
    tcase_add_test(tests, kinds_of_convolution_are_checked);
    tcase_add_test(tests, default_context_picks_a_backend_and_threads);
    tcase_add_test(tests, every_backend_can_be_named);
    tcase_add_test(tests, bad_options_are_refused_with_a_reason);
    tcase_add_test(tests, shorter_and_longer_options_are_understood);
    tcase_add_test(tests, options_copy_keeps_defaults_and_size);
    tcase_add_test(tests, message_is_the_latest_failure);
    tcase_add_test(tests, messages_stay_one_line_of_valid_utf8);
    tcase_add_test(tests, log_keeps_to_its_level);
    tcase_add_test(tests, memory_is_aligned_zeroed_and_bounded);
    tcase_add_test(tests, context_lives_until_the_last_reference);
    tcase_add_test(tests, each_failed_allocation_is_survived);
    tcase_add_test(tests, threads_never_tear_a_message);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
