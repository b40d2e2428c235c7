/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mutated files of every kind that is loaded: each ends in success or in a status, with all memory released. The same files in
 * every run. CARSO_FUZZ_ROUNDS asks for more of them than the usual number, CARSO_FUZZ_SEED for others.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "../unit/scratch_folder.h"
#include "seeds.h"

static uint64_t from_environment(const char *name, uint64_t usual)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : usual;
}

static size_t header_length(const bytes *content)
{
    size_t length = 0;
    for (int i = 7; i >= 0; i--) {
        length = length << 8 | content->data[i];
    }
    return length;
}

/* Mutates the header of a safetensors file alone and puts the file together again, its length right and the data in place. */
static void mutate_header(chooser *source, const bytes *seed, bytes *content)
{
    size_t old_length = header_length(seed), data_size = seed->size - 8 - old_length;
    bytes header = {.data = content->data + 8, .size = old_length, .capacity = old_length + 2048};
    memcpy(header.data, seed->data + 8, old_length);
    mutate(source, &header, header.size);
    while (header.size % 4 != 0) {
        header.data[header.size++] = ' ';
    }
    for (int i = 0; i < 8; i++) {
        content->data[i] = (uint8_t)((uint64_t)header.size >> 8 * i);
    }
    memcpy(header.data + header.size, seed->data + 8 + old_length, data_size);
    content->size = 8 + header.size + data_size;
}

static size_t hot_part(target_kind kind, const bytes *seed)
{
    switch (kind) {
    case TARGET_MODEL:
    case TARGET_CHECKPOINT:
    case TARGET_WEIGHTS:
        return 8 + header_length(seed);
    case TARGET_CIFAR10:
    case TARGET_CIFAR100:
        return 2;
    default:
        return seed->size;
    }
}

static void check_kind(target_kind kind, uint64_t usual_rounds)
{
    uint64_t rounds = from_environment("CARSO_FUZZ_ROUNDS", usual_rounds), accepted = 0;
    chooser source = {from_environment("CARSO_FUZZ_SEED", 1) * 1000 + (uint64_t)kind};
    scratch_create();
    bytes seed = seed_make(kind, scratch_path);
    ck_assert_ptr_nonnull(seed.data);
    ck_assert_msg(target_run(kind, seed.data, seed.size, scratch_path, false), "the %s is not accepted as it is",
                  target_names[kind]);
    bool in_tensors = kind == TARGET_MODEL || kind == TARGET_CHECKPOINT || kind == TARGET_WEIGHTS;
    bytes content = {.data = malloc(seed.capacity), .capacity = seed.capacity};
    ck_assert_ptr_nonnull(content.data);
    for (uint64_t round = 0; round < rounds; round++) {
        if (in_tensors && choose(&source, 4)) {
            mutate_header(&source, &seed, &content);
        } else {
            memcpy(content.data, seed.data, seed.size);
            content.size = seed.size;
            mutate(&source, &content, hot_part(kind, &seed));
            if (kind == TARGET_PNG && choose(&source, 2)) {
                mend_png_checksums(&content);
            }
        }
        /* What made a crash, for whoever looks at it. */
        const char *keep = getenv("CARSO_FUZZ_KEEP");
        if (keep) {
            FILE *file = fopen(keep, "wb");
            ck_assert(file && fwrite(content.data, 1, content.size, file) == content.size && fclose(file) == 0);
        }
        /* Exactly as large as it is, so that a step beyond the end is seen. */
        uint8_t *exact = malloc(content.size ? content.size : 1);
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, content.data, content.size);
        accepted += target_run(kind, exact, content.size, scratch_path, round % 2);
        free(exact);
    }
    printf("%s: %llu of %llu accepted\n", target_names[kind], (unsigned long long)accepted, (unsigned long long)rounds);
    free(content.data);
    free(seed.data);
    scratch_remove();
}

/* clang-format off */
START_TEST(model) { check_kind(TARGET_MODEL, 1500); } END_TEST
START_TEST(checkpoint) { check_kind(TARGET_CHECKPOINT, 600); } END_TEST
START_TEST(idx_images) { check_kind(TARGET_IDX_IMAGES, 2000); } END_TEST
START_TEST(idx_labels) { check_kind(TARGET_IDX_LABELS, 1000); } END_TEST
START_TEST(idx_gzip) { check_kind(TARGET_IDX_GZIP, 2000); } END_TEST
START_TEST(cifar10) { check_kind(TARGET_CIFAR10, 500); } END_TEST
START_TEST(cifar100) { check_kind(TARGET_CIFAR100, 500); } END_TEST
START_TEST(png) { check_kind(TARGET_PNG, 3000); } END_TEST
START_TEST(jpeg) { check_kind(TARGET_JPEG, 3000); } END_TEST
START_TEST(weights) { check_kind(TARGET_WEIGHTS, 600); } END_TEST
/* clang-format on */

int main(void)
{
    Suite *suite = suite_create("mutations");
    TCase *tests = tcase_create("mutations");
    tcase_set_timeout(tests, 600);
    tcase_add_test(tests, model);
    tcase_add_test(tests, checkpoint);
    tcase_add_test(tests, idx_images);
    tcase_add_test(tests, idx_labels);
    tcase_add_test(tests, idx_gzip);
    tcase_add_test(tests, cifar10);
    tcase_add_test(tests, cifar100);
    tcase_add_test(tests, png);
    tcase_add_test(tests, jpeg);
    tcase_add_test(tests, weights);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
