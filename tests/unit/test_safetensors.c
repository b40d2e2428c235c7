/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/safetensors.h"
#include "counted_folder.h"
#include "scratch_folder.h"

static bool message_has(const char *part)
{
    char text[CSO_MESSAGE_SIZE];
    carso_context_message(context, text, sizeof text);
    return strstr(text, part) != NULL;
}

/* A file of the header's text, spaces up to a multiple of 8, and so many bytes of data, in memory of exactly its size;
 * to be freed. */
static unsigned char *assemble(const char *header, size_t data_size, size_t *out_size)
{
    const uint64_t length = (strlen(header) + 7) / 8 * 8;
    unsigned char *file = malloc(8 + length + data_size);
    ck_assert_ptr_nonnull(file);
    memcpy(file, &length, 8);
    memset(file + 8, ' ', length);
    memcpy(file + 8, header, strlen(header));
    for (size_t i = 0; i < data_size; i++) {
        file[8 + length + i] = (unsigned char)i;
    }
    *out_size = 8 + length + data_size;
    return file;
}

/* Opens header + data from memory and from a file; both must give expected, and the message must contain part. */
static void expect(const char *header, size_t data_size, carso_status expected, const char *part)
{
    size_t size;
    unsigned char *bytes = assemble(header, data_size, &size);
    scratch_write("case", bytes, size);
    for (int mapped = 0; mapped < 2; mapped++) {
        cso_safetensors *file = (cso_safetensors *)&counts;
        const carso_status status = mapped ? cso_safetensors_open(context, scratch_file("case"), &file)
                                           : cso_safetensors_open_memory(context, bytes, size, "case", &file);
        ck_assert_msg(status == expected, "%s: status %d, expected %d", header, (int)status, (int)expected);
        ck_assert_int_eq(file == NULL, expected != CARSO_OK);
        if (part != NULL) {
            char text[CSO_MESSAGE_SIZE];
            carso_context_message(context, text, sizeof text);
            ck_assert_msg(strstr(text, part) != NULL && strstr(text, "case") != NULL, "message: %s", text);
        }
        cso_safetensors_release(file);
    }
    free(bytes);
}

static void refuse(const char *header, size_t data_size, const char *part)
{
    expect(header, data_size, CARSO_ERROR_BAD_FORMAT, part);
}

START_TEST(well_formed_files_open)
{
    expect("{}", 0, CARSO_OK, NULL);
    expect("{\"__metadata__\":{}}", 0, CARSO_OK, NULL);
    expect("{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, CARSO_OK, NULL);
    expect("{\"a\":{\"dtype\":\"U8\",\"shape\":[2,0,9223372036854775807],\"data_offsets\":[0,0]}}", 0, CARSO_OK, NULL);
    expect("{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[2,5]},\"a\":{\"dtype\":\"U8\",\"shape\":[2],"
           "\"data_offsets\":[0,2]}}",
           5, CARSO_OK, NULL);
    expect("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, CARSO_OK, NULL);
}
END_TEST

START_TEST(hostile_lengths_are_refused)
{
    static const uint64_t lengths[] = {
        (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 32, 17 << 20, 9, 3};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        unsigned char bytes[16] = "........{}      ";
        cso_safetensors *file;
        memcpy(bytes, &lengths[i], 8);
        /* 9 is one more than the file has; 3 cuts the header after its closing brace. */
        ck_assert_int_eq(cso_safetensors_open_memory(context, bytes, sizeof bytes, "case", &file),
                         CARSO_ERROR_BAD_FORMAT);
        ck_assert_ptr_null(file);
    }
    ck_assert(message_has("5 bytes follow"));
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]},"
                                 "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}";
    size_t size;
    unsigned char *bytes = assemble(header, 16, &size);
    for (size_t kept = 0; kept < size; kept++) {
        cso_safetensors *file;
        unsigned char *part = malloc(kept + 1);
        ck_assert_ptr_nonnull(part);
        memcpy(part + 1, bytes, kept);
        ck_assert_int_eq(cso_safetensors_open_memory(context, part + 1, kept, "case", &file), CARSO_ERROR_BAD_FORMAT);
        free(part);
    }
    free(bytes);
    scratch_write("empty", "", 0);
    cso_safetensors *file;
    ck_assert_int_eq(cso_safetensors_open(context, scratch_file("empty"), &file), CARSO_ERROR_BAD_FORMAT);
    ck_assert(message_has("empty: 0 bytes"));
}
END_TEST

START_TEST(offsets_must_cover_the_data_exactly)
{
#define ENTRY(name, count, begin, end)                                                                                 \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[" #count "],\"data_offsets\":[" #begin "," #end "]}"
    refuse("{" ENTRY("a", 4, 0, 4) "," ENTRY("b", 4, 2, 6) "}", 6, "overlaps");
    refuse("{" ENTRY("a", 4, 0, 4) "," ENTRY("b", 4, 0, 4) "}", 4, "overlaps");
    refuse("{" ENTRY("a", 2, 1, 3) "," ENTRY("b", 4, 0, 4) "}", 4, "overlaps");
    refuse("{" ENTRY("a", 4, 0, 4) "," ENTRY("b", 4, 6, 10) "}", 10, "gap");
    refuse("{" ENTRY("a", 4, 1, 5) "}", 5, "gap");
    refuse("{" ENTRY("a", 4, 0, 4) "}", 5, "1 bytes follow");
    refuse("{}", 1, "1 bytes follow");
    refuse("{" ENTRY("a", 4, 0, 4) "}", 3, "truncated");
    refuse("{" ENTRY("a", 4, 4, 0) "}", 4, "ends before");
    refuse("{" ENTRY("a", 4, -4, 0) "}", 4, "ends before");
    refuse("{" ENTRY("a", 4, 0, 9223372036854775807) "}", 4, "truncated");
    refuse("{" ENTRY("a", 4, 9223372036854775803, 9223372036854775807) "}", 4, "truncated");
    refuse("{" ENTRY("a", 4, 0, 18446744073709551620) "}", 4, "JSON");
    refuse("{" ENTRY("a", 3, 0, 4) "}", 4, "its shape needs 3");
    refuse("{" ENTRY("a", 5, 0, 4) "}", 4, "its shape needs 5");
    refuse("{" ENTRY("a", 4, 0, 4) "," ENTRY("a", 4, 4, 8) "}", 8, "duplicate");
    refuse("{" ENTRY("", 4, 0, 4) "}", 4, "no name");
#undef ENTRY
}
END_TEST

START_TEST(shapes_and_types_are_checked)
{
#define ENTRY(type, shape) "{\"a\":{\"dtype\":" type ",\"shape\":" shape ",\"data_offsets\":[0,0]}}"
    refuse(ENTRY("\"F32\"", "[4294967296,4294967296]"), 0, "overflows");
    refuse(ENTRY("\"F32\"", "[4611686018427387904]"), 0, "overflows");
    refuse(ENTRY("\"F64\"", "[2305843009213693952]"), 0, "overflows");
    refuse(ENTRY("\"U8\"", "[9223372036854775807,3]"), 0, "overflows");
    refuse(ENTRY("\"U8\"", "[0,9223372036854775807,9223372036854775807]"), 0, "overflows");
    refuse(ENTRY("\"U8\"", "[-1]"), 0, "dimension");
    refuse(ENTRY("\"U8\"", "[1.0]"), 0, "dimension");
    refuse(ENTRY("\"U8\"", "[null]"), 0, "dimension");
    refuse(ENTRY("\"U8\"", "[1,1,1,1,1,1,1,1,1]"), 0, "9 dimensions");
    refuse(ENTRY("\"U8\"", "{}"), 0, "shape");
    refuse(ENTRY("\"U8\"", "0"), 0, "shape");
    refuse(ENTRY("\"F31\"", "[0]"), 0, "unknown type");
    refuse(ENTRY("\"f32\"", "[0]"), 0, "unknown type");
    refuse(ENTRY("\"\"", "[0]"), 0, "unknown type");
    refuse(ENTRY("32", "[0]"), 0, "dtype");
    expect(ENTRY("\"BF16\"", "[0]"), 0, CARSO_ERROR_UNSUPPORTED, "BF16");
#undef ENTRY
}
END_TEST

START_TEST(entries_must_have_their_members_and_no_others)
{
    refuse("[]", 0, "not a JSON object");
    refuse("{\"a\":1}", 0, "not an object");
    refuse("{\"a\":[]}", 0, "not an object");
    refuse("{\"a\":{}}", 0, "members");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}", 0, "members");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"offsets\":[0,0]}}", 0, "data_offsets");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"x\":1}}", 0, "members");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0]}}", 0, "data_offsets");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0,0]}}", 0, "data_offsets");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0.0,0]}}", 0, "data_offsets");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":\"00\"}}", 0, "data_offsets");
    refuse("{\"__metadata__\":[]}", 0, "__metadata__");
    refuse("{\"__metadata__\":{\"a\":1}}", 0, "__metadata__");
    refuse("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "duplicate");
    refuse("{\"a\xff\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "JSON");
}
END_TEST

START_TEST(bombs_are_refused)
{
    const size_t size = 4 << 20;
    char *text = malloc(size + 1);
    ck_assert_ptr_nonnull(text);
    text[size] = '\0';
    memset(text, '[', size);
    refuse(text, 0, "levels");
    for (size_t i = 0; i + 2 <= size; i += 2) {
        memcpy(text + i, "1,", 2);
    }
    memcpy(text, "{\"a\":[", 6);
    refuse(text, 0, "values");
    free(text);
}
END_TEST

START_TEST(misaligned_data_is_refused)
{
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
           "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]}}",
           5, "aligned");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
           "\"b\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[2,10]}}",
           10, "aligned");
    /* The same file where memory makes it misaligned. */
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    size_t size;
    unsigned char *bytes = assemble(header, 4, &size);
    unsigned char *shifted = malloc(size + 1);
    ck_assert_ptr_nonnull(shifted);
    memcpy(shifted + 1, bytes, size);
    cso_safetensors *file;
    ck_assert_int_eq(cso_safetensors_open_memory(context, bytes, size, "case", &file), CARSO_OK);
    cso_safetensors_release(file);
    ck_assert_int_eq(cso_safetensors_open_memory(context, shifted + 1, size, "case", &file), CARSO_ERROR_BAD_FORMAT);
    free(shifted);
    free(bytes);
}
END_TEST

/* PyTorch's counters stand between weights, wherever their sizes put them. */
START_TEST(wide_types_need_no_more_than_the_weights_alignment)
{
    size_t size;
    unsigned char *bytes = assemble("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                                    "\"b\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[4,12]}}",
                                    12, &size);
    cso_safetensors *file = NULL;
    ck_assert_int_eq(cso_safetensors_open_memory(context, bytes, size, "case", &file), CARSO_OK);
    ck_assert_uint_eq(cso_safetensors_find(file, "b")->bytes, 8);
    cso_safetensors_release(file);
    free(bytes);
}
END_TEST

START_TEST(only_regular_files_are_opened)
{
    cso_safetensors *file;
    ck_assert_int_eq(cso_safetensors_open(context, scratch_file("none"), &file), CARSO_ERROR_NOT_FOUND);
    ck_assert_ptr_null(file);
    ck_assert(message_has("No such file"));
    ck_assert_int_eq(cso_safetensors_open(context, scratch_path, &file), CARSO_ERROR_BAD_FORMAT);
    ck_assert(message_has("not a regular file"));
    ck_assert_int_eq(cso_safetensors_open(context, "/dev/zero", &file), CARSO_ERROR_BAD_FORMAT);
    ck_assert_int_eq(mkfifo(scratch_file("pipe"), 0600), 0);
    ck_assert_int_eq(cso_safetensors_open(context, scratch_file("pipe"), &file), CARSO_ERROR_BAD_FORMAT);
    ck_assert_int_eq(cso_safetensors_open(context, "", &file), CARSO_ERROR_NOT_FOUND);
}
END_TEST

/* Whatever byte is changed, and to whatever, opening answers with a status; a change of the data is found by the check.
 */
START_TEST(flipped_bits_never_crash)
{
    static const float values[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    const cso_tensor_write tensor = {.name = "a", .type = CSO_TENSOR_F32, .rank = 1, .dimension = {4}, .data = values};
    size_t size;
    ck_assert_int_eq(cso_safetensors_write(context, scratch_file("file"), &tensor, 1, NULL, NULL, 0), CARSO_OK);
    unsigned char *bytes = scratch_read("file", &size);
    for (size_t i = 0; i < 8 * size; i++) {
        cso_safetensors *file;
        bytes[i / 8] ^= (unsigned char)(1 << i % 8);
        if (cso_safetensors_open_memory(context, bytes, size, "case", &file) == CARSO_OK) {
            for (size_t j = 0; j < cso_safetensors_count(file); j++) {
                const cso_tensor *found = cso_safetensors_at(file, j);
                ck_assert((const unsigned char *)found->data >= bytes);
                ck_assert((const unsigned char *)found->data + found->bytes <= bytes + size);
            }
            if (i / 8 >= size - sizeof values) {
                ck_assert_int_eq(cso_safetensors_check(file), CARSO_ERROR_BAD_FORMAT);
            }
            cso_safetensors_release(file);
        }
        bytes[i / 8] ^= (unsigned char)(1 << i % 8);
    }
    free(bytes);
}
END_TEST

static const double doubles[3] = {0.1, -1e300, 5e-324};
static const float floats[6] = {1.5f, -0.0f, 3e38f, 1e-45f, 7.0f, 8.0f};
static const uint8_t small[5] = {0, 1, 128, 254, 255};
static const int64_t longs[1] = {INT64_MIN};
static const int32_t integers[2] = {INT32_MIN, INT32_MAX};
static const cso_tensor_write samples[] = {
    {.name = "small", .type = CSO_TENSOR_U8, .rank = 1, .dimension = {5}, .data = small},
    {.name = "floats", .type = CSO_TENSOR_F32, .rank = 3, .dimension = {1, 2, 3}, .data = floats},
    {.name = "doubles", .type = CSO_TENSOR_F64, .rank = 1, .dimension = {3}, .data = doubles},
    {.name = "nothing", .type = CSO_TENSOR_F32, .rank = 2, .dimension = {0, 7}, .data = NULL},
    {.name = "integers", .type = CSO_TENSOR_I32, .rank = 1, .dimension = {2}, .data = integers},
    {.name = "layer.0.\xc3\xa9", .type = CSO_TENSOR_I64, .rank = 0, .data = longs},
};
#define SAMPLES (sizeof samples / sizeof samples[0])

static carso_status write_samples(const char *name)
{
    static const char *const keys[] = {"format", "text"};
    static const char *const values[] = {"carso/1", "{\"a\": [1, 2]}"};
    return cso_safetensors_write(context, scratch_file(name), samples, SAMPLES, keys, values, 2);
}

static void check_samples(const cso_safetensors *file)
{
    static const size_t bytes[SAMPLES] = {5, 24, 24, 0, 8, 8};
    ck_assert_uint_eq(cso_safetensors_count(file), SAMPLES);
    for (size_t i = 0; i < SAMPLES; i++) {
        const cso_tensor *tensor = cso_safetensors_find(file, samples[i].name);
        ck_assert_ptr_nonnull(tensor);
        ck_assert_str_eq(tensor->name, samples[i].name);
        ck_assert_int_eq(tensor->type, samples[i].type);
        ck_assert_int_eq(tensor->rank, samples[i].rank);
        for (int j = 0; j < tensor->rank; j++) {
            ck_assert_int_eq(tensor->dimension[j], samples[i].dimension[j]);
        }
        ck_assert_uint_eq(tensor->bytes, bytes[i]);
        if (tensor->bytes > 0) {
            ck_assert_mem_eq(tensor->data, samples[i].data, tensor->bytes);
        }
    }
    ck_assert_ptr_null(cso_safetensors_find(file, "none"));
    ck_assert_ptr_null(cso_safetensors_find(file, "__metadata__"));
    ck_assert_ptr_null(cso_safetensors_at(file, SAMPLES));
    ck_assert_str_eq(cso_safetensors_metadata(file, "format"), "carso/1");
    ck_assert_str_eq(cso_safetensors_metadata(file, "text"), "{\"a\": [1, 2]}");
    ck_assert_ptr_null(cso_safetensors_metadata(file, "none"));
    ck_assert_int_eq(cso_safetensors_check(file), CARSO_OK);
}

START_TEST(what_is_written_is_read)
{
    cso_safetensors *file;
    ck_assert_int_eq(write_samples("file"), CARSO_OK);
    ck_assert_int_eq(scratch_entries(), 1);
    ck_assert_int_eq(cso_safetensors_open(context, scratch_file("file"), &file), CARSO_OK);
    check_samples(file);
    /* Retained, it outlives the first holder and the name of the file. */
    cso_safetensors_retain(file);
    cso_safetensors_release(file);
    ck_assert_int_eq(unlink(scratch_file("file")), 0);
    check_samples(file);
    cso_safetensors_release(file);
    cso_safetensors_release(NULL);
}
END_TEST

START_TEST(data_begins_aligned_and_same_input_gives_same_bytes)
{
    size_t size, again_size;
    uint64_t length;
    ck_assert_int_eq(write_samples("file"), CARSO_OK);
    ck_assert_int_eq(write_samples("again"), CARSO_OK);
    unsigned char *bytes = scratch_read("file", &size);
    unsigned char *again = scratch_read("again", &again_size);
    ck_assert_uint_eq(size, again_size);
    ck_assert_mem_eq(bytes, again, size);
    memcpy(&length, bytes, 8);
    ck_assert_uint_eq((8 + length) % 64, 0);
    ck_assert_uint_eq(bytes[8], '{');
    ck_assert_uint_eq(8 + length + 5 + 24 + 24 + 8 + 8, size);
    free(bytes);
    free(again);
}
END_TEST

START_TEST(a_file_without_tensors_is_a_file)
{
    cso_safetensors *file;
    ck_assert_int_eq(cso_safetensors_write(context, scratch_file("file"), NULL, 0, NULL, NULL, 0), CARSO_OK);
    ck_assert_int_eq(cso_safetensors_open(context, scratch_file("file"), &file), CARSO_OK);
    ck_assert_uint_eq(cso_safetensors_count(file), 0);
    ck_assert_ptr_null(cso_safetensors_find(file, "a"));
    ck_assert_str_eq(cso_safetensors_metadata(file, "crc32"), "00000000");
    ck_assert_int_eq(cso_safetensors_check(file), CARSO_OK);
    cso_safetensors_release(file);
}
END_TEST

START_TEST(a_missing_or_odd_checksum_fails_the_check)
{
    static const char *const headers[] = {"{}", "{\"__metadata__\":{}}", "{\"__metadata__\":{\"crc32\":\"0\"}}",
                                          "{\"__metadata__\":{\"crc32\":\"000000000\"}}",
                                          "{\"__metadata__\":{\"crc32\":\"00000001\"}}"};
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        size_t size;
        cso_safetensors *file;
        unsigned char *bytes = assemble(headers[i], 0, &size);
        ck_assert_int_eq(cso_safetensors_open_memory(context, bytes, size, "case", &file), CARSO_OK);
        ck_assert_int_eq(cso_safetensors_check(file), CARSO_ERROR_BAD_FORMAT);
        cso_safetensors_release(file);
        free(bytes);
    }
}
END_TEST

START_TEST(a_full_disk_leaves_the_file_as_it_was)
{
    size_t before_size, after_size;
    ck_assert_int_eq(write_samples("file"), CARSO_OK);
    unsigned char *before = scratch_read("file", &before_size);
    struct rlimit old, limit;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    for (rlim_t bytes = 0; bytes < before_size; bytes += 37) {
        limit = (struct rlimit){bytes, old.rlim_max};
        /* Check's own messages go through a file: nothing is asserted while the limit holds. */
        const int limited = setrlimit(RLIMIT_FSIZE, &limit);
        const carso_status status = write_samples("file");
        const int restored = setrlimit(RLIMIT_FSIZE, &old);
        ck_assert_int_eq(limited, 0);
        ck_assert_int_eq(restored, 0);
        ck_assert_int_eq(status, CARSO_ERROR_IO);
        ck_assert(message_has("File too large"));
        unsigned char *after = scratch_read("file", &after_size);
        ck_assert_uint_eq(after_size, before_size);
        ck_assert_mem_eq(after, before, before_size);
        ck_assert_int_eq(scratch_entries(), 1);
        free(after);
    }
    free(before);
    signal(SIGXFSZ, SIG_DFL);
}
END_TEST

START_TEST(impossible_places_are_refused)
{
    char longest[2 * PATH_MAX];
    scratch_make_folder("folder");
    ck_assert_int_eq(write_samples("folder"), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(write_samples("none/file"), CARSO_ERROR_NOT_FOUND);
    ck_assert_int_eq(cso_safetensors_write(context, "/dev/full", NULL, 0, NULL, NULL, 0), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(access("/dev/full", F_OK), 0);
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    ck_assert_int_eq(cso_safetensors_write(context, longest, NULL, 0, NULL, NULL, 0), CARSO_ERROR_IO);
    longest[300] = '\0';
    ck_assert_int_eq(write_samples(longest), CARSO_ERROR_IO);
    ck_assert_int_eq(scratch_entries(), 1);
}
END_TEST

START_TEST(links_and_permissions_survive)
{
    struct stat facts;
    cso_safetensors *file;
    scratch_write("file", "old", 3);
    ck_assert_int_eq(chmod(scratch_file("file"), 0600), 0);
    ck_assert_int_eq(symlink("file", scratch_file("link")), 0);
    ck_assert_int_eq(write_samples("link"), CARSO_OK);
    ck_assert_int_eq(lstat(scratch_file("link"), &facts), 0);
    ck_assert(S_ISLNK(facts.st_mode));
    ck_assert_int_eq(stat(scratch_file("file"), &facts), 0);
    ck_assert_uint_eq(facts.st_mode & 0777, 0600);
    ck_assert_int_eq(cso_safetensors_open(context, scratch_file("file"), &file), CARSO_OK);
    cso_safetensors_release(file);
}
END_TEST

START_TEST(text_that_is_not_utf8_is_refused)
{
    static const char *const key = "key";
    static const char *const value = "\xff";
    cso_tensor_write tensor = {.name = "\xff", .type = CSO_TENSOR_U8, .rank = 1, .dimension = {1}, .data = small};
    ck_assert_int_eq(cso_safetensors_write(context, scratch_file("file"), NULL, 0, &key, &value, 1),
                     CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(cso_safetensors_write(context, scratch_file("file"), &tensor, 1, NULL, NULL, 0),
                     CARSO_ERROR_INVALID_ARGUMENT);
    const cso_tensor_write twice[2] = {samples[0], samples[0]};
    ck_assert_int_eq(cso_safetensors_write(context, scratch_file("file"), twice, 2, NULL, NULL, 0),
                     CARSO_ERROR_INTERNAL);
    ck_assert_int_eq(scratch_entries(), 0);
}
END_TEST

START_TEST(each_failed_allocation_is_survived)
{
    ck_assert_int_eq(write_samples("file"), CARSO_OK);
    const long held = counts.held;
    carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
    for (long failing = 1; status != CARSO_OK; failing++) {
        cso_safetensors *file = NULL;
        counts.made = 0;
        counts.failing = failing;
        status = cso_safetensors_open(context, scratch_file("file"), &file);
        ck_assert_int_eq(status, counts.made < failing ? CARSO_OK : CARSO_ERROR_OUT_OF_MEMORY);
        cso_safetensors_release(file);
        ck_assert_int_eq(counts.held, held);
    }
    status = CARSO_ERROR_OUT_OF_MEMORY;
    for (long failing = 1; status != CARSO_OK; failing++) {
        counts.made = 0;
        counts.failing = failing;
        status = write_samples("file");
        ck_assert_int_eq(status, counts.made < failing ? CARSO_OK : CARSO_ERROR_OUT_OF_MEMORY);
        ck_assert_int_eq(counts.held, held);
        ck_assert_int_eq(scratch_entries(), 1);
    }
    counts.failing = 0;
}
END_TEST

START_TEST(a_writer_killed_at_any_moment_leaves_a_whole_file)
{
    ck_assert_int_eq(write_samples("file"), CARSO_OK);
    for (int delay = 0; delay < 20; delay++) {
        const pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            for (;;) {
                if (write_samples("file") != CARSO_OK) {
                    _exit(1);
                }
            }
        }
        usleep((useconds_t)(500 + 700 * delay));
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        int how;
        ck_assert_int_eq(waitpid(child, &how, 0), child);
        ck_assert(WIFSIGNALED(how));
        cso_safetensors *file;
        ck_assert_int_eq(cso_safetensors_open(context, scratch_file("file"), &file), CARSO_OK);
        check_samples(file);
        cso_safetensors_release(file);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("safetensors");
    TCase *tests = tcase_create("safetensors");
    tcase_add_checked_fixture(tests, set_up_with_folder, tear_down_with_folder);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, well_formed_files_open);
    tcase_add_test(tests, hostile_lengths_are_refused);
    tcase_add_test(tests, every_truncation_is_refused);
    tcase_add_test(tests, offsets_must_cover_the_data_exactly);
    tcase_add_test(tests, shapes_and_types_are_checked);
    tcase_add_test(tests, entries_must_have_their_members_and_no_others);
    tcase_add_test(tests, bombs_are_refused);
    tcase_add_test(tests, misaligned_data_is_refused);
    tcase_add_test(tests, wide_types_need_no_more_than_the_weights_alignment);
    tcase_add_test(tests, only_regular_files_are_opened);
    tcase_add_test(tests, flipped_bits_never_crash);
    tcase_add_test(tests, what_is_written_is_read);
    tcase_add_test(tests, data_begins_aligned_and_same_input_gives_same_bytes);
    tcase_add_test(tests, a_file_without_tensors_is_a_file);
    tcase_add_test(tests, a_missing_or_odd_checksum_fails_the_check);
    tcase_add_test(tests, a_full_disk_leaves_the_file_as_it_was);
    tcase_add_test(tests, impossible_places_are_refused);
    tcase_add_test(tests, links_and_permissions_survive);
    tcase_add_test(tests, text_that_is_not_utf8_is_refused);
    tcase_add_test(tests, each_failed_allocation_is_survived);
    tcase_add_test(tests, a_writer_killed_at_any_moment_leaves_a_whole_file);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
