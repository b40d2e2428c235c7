/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"

static void check_digest(const char *text, size_t repeats, const char *expected)
{
    char found[CSO_SHA256_TEXT];
    cso_sha256 hash;
    cso_sha256_begin(&hash);
    for (size_t i = 0; i < repeats; i++) {
        cso_sha256_add(&hash, text, strlen(text));
    }
    cso_sha256_end(&hash, found);
    ck_assert_str_eq(found, expected);
}

/* The examples of FIPS 180-4. */
START_TEST(published_examples)
{
    check_digest("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check_digest("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
                 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    check_digest("a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}
END_TEST

/* What is hashed does not depend on how it was handed over; lengths around a block's end. */
START_TEST(parts)
{
    char text[200], whole[CSO_SHA256_TEXT], piecewise[CSO_SHA256_TEXT];
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (char)(i * 7);
    }
    for (size_t size = 50; size < sizeof text; size++) {
        cso_sha256 hash;
        cso_sha256_begin(&hash);
        cso_sha256_add(&hash, text, size);
        cso_sha256_end(&hash, whole);
        cso_sha256_begin(&hash);
        for (size_t i = 0; i < size; i++) {
            cso_sha256_add(&hash, text + i, 1);
        }
        cso_sha256_end(&hash, piecewise);
        ck_assert_str_eq(whole, piecewise);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sha256");
    TCase *tests = tcase_create("sha256");
    tcase_add_test(tests, published_examples);
    tcase_add_test(tests, parts);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
