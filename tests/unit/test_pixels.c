/* SPDX-License-Identifier: BSD-2-Clause */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/pixels.h"
#include "counting_allocator.h"

enum { COUNT = 2, WIDTH = 3, HEIGHT = 2, PLANE = WIDTH * HEIGHT, MOST = 4096 };

static counting_allocator counts;
static carso_context *context;
static uint8_t memory[MOST];
static carso_images images, resolved;
static float out[COUNT * 3 * PLANE];

static void set_up(void)
{
    memset(&counts, 0, sizeof counts);
    context = counting_context(&counts);
    ck_assert_ptr_nonnull(context);
    for (int k = 0; k < MOST; k++) {
        memory[k] = (uint8_t)(k * 37 + k / 256);
    }
    carso_images_init(&images, sizeof images);
    images.data = memory;
    images.count = COUNT;
    images.width = WIDTH;
    images.height = HEIGHT;
}

static void tear_down(void)
{
    carso_context_destroy(context);
}

static carso_status check(int32_t channels)
{
    return cso_pixels_check(context, &images, channels, HEIGHT, WIDTH, &resolved);
}

static void read_all(int32_t channels)
{
    ck_assert_int_eq(check(channels), CARSO_OK);
    ck_assert_int_eq(cso_pixels_read(context, &resolved, 0, COUNT, out), CARSO_OK);
}

static void check_message(const char *a, const char *b)
{
    char message[512];
    carso_context_message(context, message, sizeof message);
    ck_assert_msg(strstr(message, a) && strstr(message, b), "\"%s\" has no \"%s\" or no \"%s\"", message, a, b);
}

static float at(int image, int channel, int y, int x, int channels)
{
    return out[((image * channels + channel) * HEIGHT + y) * WIDTH + x];
}

/* Value of the byte at base + image, row, column, component strides, for every element. */
static void check_bytes(const uint8_t *base, int channels, long image_stride, long row_stride, long pixel_stride,
                        long plane_stride)
{
    for (int i = 0; i < COUNT; i++) {
        for (int c = 0; c < channels; c++) {
            for (int y = 0; y < HEIGHT; y++) {
                for (int x = 0; x < WIDTH; x++) {
                    const int component = images.order == CARSO_ORDER_BGR ? 2 - c : c;
                    const uint8_t byte =
                        base[i * image_stride + y * row_stride + x * pixel_stride + component * plane_stride];
                    ck_assert_msg(at(i, c, y, x, channels) == (float)byte / 255.0f,
                                  "image %d, channel %d, row %d, column %d", i, c, y, x);
                }
            }
        }
    }
}

START_TEST(dense_layouts)
{
    read_all(3);
    check_bytes(memory, 3, 3 * PLANE, 3 * WIDTH, 3, 1);
    images.order = CARSO_ORDER_BGR;
    read_all(3);
    check_bytes(memory, 3, 3 * PLANE, 3 * WIDTH, 3, 1);
    images.layout = CARSO_LAYOUT_CHW;
    read_all(3);
    check_bytes(memory, 3, 3 * PLANE, WIDTH, 1, PLANE);
    images.order = CARSO_ORDER_RGB;
    read_all(3);
    check_bytes(memory, 3, 3 * PLANE, WIDTH, 1, PLANE);
    images.order = CARSO_ORDER_GRAY;
    read_all(1);
    check_bytes(memory, 1, PLANE, WIDTH, 1, 0);
    images.layout = CARSO_LAYOUT_HWC;
    read_all(1);
    check_bytes(memory, 1, PLANE, WIDTH, 1, 0);
}
END_TEST

START_TEST(given_strides)
{
    images.pixel_stride = 4; /* RGBA in memory, rows padded */
    images.row_stride = 32;
    images.image_stride = 100;
    read_all(3);
    check_bytes(memory, 3, 100, 32, 4, 1);
    images.row_stride = 0; /* dense rows of such pixels, then dense images */
    images.image_stride = 0;
    read_all(3);
    check_bytes(memory, 3, 4 * PLANE, 4 * WIDTH, 4, 1);
    images.layout = CARSO_LAYOUT_CHW;
    images.pixel_stride = 2;
    images.row_stride = 11;
    images.plane_stride = 50;
    images.image_stride = 7; /* planes of one image between those of another */
    read_all(3);
    check_bytes(memory, 3, 7, 11, 2, 50);
}
END_TEST

START_TEST(negative_strides)
{
    images.data = memory + 1000; /* bottom up, right to left, last image first */
    images.row_stride = -3 * WIDTH;
    images.image_stride = -200;
    read_all(3);
    check_bytes(memory + 1000, 3, -200, -3 * WIDTH, 3, 1);
    images.pixel_stride = -3;
    read_all(3);
    check_bytes(memory + 1000, 3, -200, -3 * WIDTH, -3, 1);
    images.row_stride = 0;
    images.image_stride = 0;
    read_all(3);
    check_bytes(memory + 1000, 3, 3 * PLANE, 3 * WIDTH, -3, 1);
    images.layout = CARSO_LAYOUT_CHW;
    images.pixel_stride = 0;
    images.plane_stride = -PLANE;
    images.image_stride = 3 * PLANE;
    read_all(3);
    check_bytes(memory + 1000, 3, 3 * PLANE, WIDTH, 1, -PLANE);
}
END_TEST

START_TEST(floats_need_no_alignment)
{
    for (int k = 0; k < COUNT * 3 * PLANE; k++) {
        const float value = (float)k / (COUNT * 3 * PLANE - 1);
        memcpy(memory + 1 + 4 * k, &value, sizeof value);
    }
    images.data = memory + 1;
    images.type = CARSO_PIXEL_FLOAT32;
    images.layout = CARSO_LAYOUT_CHW;
    read_all(3);
    for (int k = 0; k < COUNT * 3 * PLANE; k++) {
        ck_assert(out[k] == (float)k / (COUNT * 3 * PLANE - 1));
    }
    ck_assert_int_eq(cso_pixels_read(context, &resolved, 1, 1, out), CARSO_OK);
    ck_assert(out[0] == (float)(3 * PLANE) / (COUNT * 3 * PLANE - 1));
}
END_TEST

START_TEST(bad_values_are_located)
{
    static const struct {
        float value;
        const char *text;
    } bad[] = {{NAN, "nan"},           {INFINITY, "inf"}, {-INFINITY, "-inf"}, {1.0000001f, "1.00000012"},
               {-1e-9f, "-9.9999997"}, {255, "255"}};
    float values[COUNT * 3 * PLANE] = {0};
    images.data = values;
    images.type = CARSO_PIXEL_FLOAT32;
    images.order = CARSO_ORDER_BGR;
    for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
        values[((1 * HEIGHT + 1) * WIDTH + 2) * 3 + 0] = bad[b].value; /* image 1, row 1, column 2, blue */
        ck_assert_int_eq(check(3), CARSO_OK);
        ck_assert_int_eq(cso_pixels_read(context, &resolved, 0, COUNT, out), CARSO_ERROR_INVALID_IMAGE);
        check_message("image 1, row 1, column 2, channel 0 (blue)", bad[b].text);
        ck_assert_int_eq(cso_pixels_read(context, &resolved, 0, 1, out), CARSO_OK);
    }
}
END_TEST

START_TEST(wrong_descriptions)
{
    images.width = 5;
    ck_assert_int_eq(check(3), CARSO_ERROR_INVALID_IMAGE);
    check_message("5x2", "3x2");
    images.width = WIDTH;
    images.height = -2;
    ck_assert_int_eq(check(3), CARSO_ERROR_INVALID_IMAGE);
    check_message("3x-2", "3x2");
    images.height = HEIGHT;
    images.type = 7;
    ck_assert_int_eq(check(3), CARSO_ERROR_INVALID_IMAGE);
    check_message("type is 7", "uint8");
    images.type = CARSO_PIXEL_UINT8;
    images.layout = -1;
    ck_assert_int_eq(check(3), CARSO_ERROR_INVALID_IMAGE);
    check_message("layout is -1", "HWC");
    images.layout = CARSO_LAYOUT_CHW;
    ck_assert_int_eq(check(1), CARSO_ERROR_INVALID_IMAGE);
    check_message("RGB", "gray images");
    images.order = CARSO_ORDER_GRAY;
    ck_assert_int_eq(check(3), CARSO_ERROR_INVALID_IMAGE);
    check_message("gray", "RGB or BGR");
    images.order = 3;
    ck_assert_int_eq(check(3), CARSO_ERROR_INVALID_IMAGE);
    check_message("order is 3", "RGB or BGR");
    images.order = CARSO_ORDER_RGB;
    images.count = 0;
    ck_assert_int_eq(check(3), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("count is 0", "images");
    images.count = 1;
    images.data = NULL;
    ck_assert_int_eq(check(3), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("data is NULL", "images");
    images.data = memory;
    images.struct_size = 0;
    ck_assert_int_eq(check(3), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(cso_pixels_check(context, NULL, 3, HEIGHT, WIDTH, &resolved), CARSO_ERROR_INVALID_ARGUMENT);
    check_message("images is NULL", "images");
}
END_TEST

START_TEST(strides_beyond_the_address_space)
{
    static const int64_t strides[] = {INT64_MAX, INT64_MIN, INT64_MIN + 1, INT64_MAX / 2};
    int64_t *const field[] = {&images.pixel_stride, &images.row_stride, &images.plane_stride, &images.image_stride};
    images.layout = CARSO_LAYOUT_CHW;
    for (size_t f = 0; f < sizeof field / sizeof *field; f++) {
        for (size_t s = 0; s < sizeof strides / sizeof *strides; s++) {
            *field[f] = strides[s];
            ck_assert_int_eq(check(3), CARSO_ERROR_INVALID_ARGUMENT);
            check_message("address space", "bytes");
            *field[f] = 0;
        }
    }
    images.count = UINT64_MAX;
    ck_assert_int_eq(check(3), CARSO_ERROR_INVALID_ARGUMENT);
    images.count = INT64_MAX;
    ck_assert_int_eq(check(3), CARSO_ERROR_INVALID_ARGUMENT);
    images.count = 1; /* then the stride between images does not matter */
    images.image_stride = INT64_MAX;
    ck_assert_int_eq(check(3), CARSO_OK);
}
END_TEST

START_TEST(init_fills_what_the_caller_has)
{
    carso_images described;
    memset(&described, 0xff, sizeof described);
    carso_images_init(&described, sizeof described);
    ck_assert_uint_eq(described.struct_size, sizeof described);
    ck_assert_ptr_null(described.data);
    ck_assert_uint_eq(described.count, 1);
    ck_assert_int_eq(described.type, CARSO_PIXEL_UINT8);
    ck_assert_int_eq(described.layout, CARSO_LAYOUT_HWC);
    ck_assert_int_eq(described.order, CARSO_ORDER_RGB);
    ck_assert_int_eq(described.image_stride, 0);
    carso_images_init(NULL, sizeof described);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pixels");
    TCase *tests = tcase_create("pixels");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, dense_layouts);
    tcase_add_test(tests, given_strides);
    tcase_add_test(tests, negative_strides);
    tcase_add_test(tests, floats_need_no_alignment);
    tcase_add_test(tests, bad_values_are_located);
    tcase_add_test(tests, wrong_descriptions);
    tcase_add_test(tests, strides_beyond_the_address_space);
    tcase_add_test(tests, init_fills_what_the_caller_has);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
