/* SPDX-License-Identifier: BSD-2-Clause */
/* Image files. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <zlib.h>

#include "image_case.h"

static void refuse_image(const char *name, carso_status expected, const char *part)
{
    carso_image *image = (carso_image *)&counts;
    const carso_status status = carso_image_read(context, scratch_file(name), &image);
    ck_assert_msg(status == expected, "status %d instead of %d; message: %s", (int)status, (int)expected, message());
    ck_assert_ptr_null(image);
    ck_assert_msg(strstr(message(), part) != NULL && strstr(message(), name) != NULL, "message: %s", message());
}

#if CSO_HAVE_IMAGES

#include <png.h>

/* The decoded pixels of a file, of which the size and order are expected. */
static carso_image *read_image(const char *name, int width, int height, int order, const uint8_t **out_pixels)
{
    carso_image *image;
    carso_images images;
    const carso_status status = carso_image_read(context, scratch_file(name), &image);
    ck_assert_msg(status == CARSO_OK, "message: %s", message());
    carso_images_init(&images, sizeof images);
    ck_assert_int_eq(carso_image_get_images(image, &images), CARSO_OK);
    ck_assert_int_eq(images.width, width);
    ck_assert_int_eq(images.height, height);
    ck_assert_int_eq(images.order, order);
    ck_assert_int_eq(images.type, CARSO_PIXEL_UINT8);
    ck_assert_int_eq(images.layout, CARSO_LAYOUT_HWC);
    ck_assert_uint_eq(images.count, 1);
    *out_pixels = images.data;
    return image;
}

/* As libpng's own interface writes it: any type, depth and interlacing. */
static void write_png(const char *name, int width, int height, int type, int depth, int interlace, const uint8_t *rows,
                      size_t row_bytes)
{
    FILE *file = fopen(scratch_file(name), "wb");
    ck_assert_ptr_nonnull(file);
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_init_io(png, file);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, depth, type, interlace,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (type == PNG_COLOR_TYPE_PALETTE) {
        static const png_color palette[4] = {{1, 2, 3}, {40, 50, 60}, {200, 100, 0}, {255, 255, 255}};
        static const png_byte alpha[2] = {0, 128};
        png_set_PLTE(png, info, palette, 4);
        png_set_tRNS(png, info, alpha, 2, NULL);
    }
    png_write_info(png, info);
    const int passes = png_set_interlace_handling(png);
    for (int pass = 0; pass < passes; pass++) {
        for (int y = 0; y < height; y++) {
            png_write_row(png, rows + (size_t)y * row_bytes);
        }
    }
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    ck_assert_int_eq(fclose(file), 0);
}

/* components: 1, 3 or 4 (CMYK). */
static void fill(uint8_t *pixels, int width, int height, int components)
{
    for (int i = 0; i < width * height; i++) {
        for (int c = 0; c < components; c++) {
            *pixels++ = (uint8_t)(20 + 3 * (i % width) + 4 * (i / width) + 30 * c);
        }
    }
}

START_TEST(what_is_written_is_read)
{
    uint8_t pixels[2 * 7 * 5 * 3];
    const uint8_t *read;
    for (size_t i = 0; i < sizeof pixels; i++) {
        pixels[i] = (uint8_t)(i * 89);
    }
    carso_images images = describe(pixels, 7, 5, CARSO_ORDER_RGB);
    images.count = 2;
    ck_assert_int_eq(carso_image_write_png(context, scratch_file("a.png"), &images, 1), CARSO_OK);
    carso_image *image = read_image("a.png", 7, 5, CARSO_ORDER_RGB, &read);
    ck_assert_mem_eq(read, pixels + 105, 105);
    carso_image_destroy(image);
    images = describe(pixels, 7, 5, CARSO_ORDER_GRAY);
    ck_assert_int_eq(carso_image_write_png(context, scratch_file("a.png"), &images, 0), CARSO_OK);
    image = read_image("a.png", 7, 5, CARSO_ORDER_GRAY, &read);
    ck_assert_mem_eq(read, pixels, 35);
    carso_image_destroy(image);
    images = describe(pixels, 7, 5, CARSO_ORDER_BGR);
    ck_assert_int_eq(carso_image_write_png(context, scratch_file("a.png"), &images, 0), CARSO_OK);
    image = read_image("a.png", 7, 5, CARSO_ORDER_RGB, &read);
    for (int i = 0; i < 105; i++) {
        ck_assert_uint_eq(read[i], pixels[i / 3 * 3 + 2 - i % 3]);
    }
    carso_image_destroy(image);
    carso_image_destroy(NULL);
    ck_assert_int_eq(scratch_entries(), 1);
}
END_TEST

START_TEST(floats_are_rounded_to_nearest)
{
    static const float values[6] = {0.0f, 1.0f, 0.5f, 0.4f / 255.0f, 0.6f / 255.0f, 254.4f / 255.0f};
    static const uint8_t expected[6] = {0, 255, 128, 0, 1, 254};
    const uint8_t *read;
    carso_images images = describe(values, 3, 2, CARSO_ORDER_GRAY);
    images.type = CARSO_PIXEL_FLOAT32;
    images.layout = CARSO_LAYOUT_CHW;
    ck_assert_int_eq(carso_image_write_png(context, scratch_file("a.png"), &images, 0), CARSO_OK);
    carso_image *image = read_image("a.png", 3, 2, CARSO_ORDER_GRAY, &read);
    ck_assert_mem_eq(read, expected, 6);
    carso_image_destroy(image);
    static const float bad[6] = {0.0f, 1.0f, 1.01f, 0.0f, 0.0f, 0.0f};
    images.data = bad;
    ck_assert_int_eq(carso_image_write_png(context, scratch_file("b.png"), &images, 0), CARSO_ERROR_INVALID_IMAGE);
    ck_assert_int_eq(scratch_entries(), 1);
}
END_TEST

START_TEST(write_checks_its_arguments)
{
    static const uint8_t pixels[12] = {0};
    carso_images images = describe(pixels, 2, 2, CARSO_ORDER_RGB);
    const char *path = scratch_file("a.png");
    ck_assert_int_eq(carso_image_write_png(context, path, &images, 1), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_image_write_png(context, NULL, &images, 0), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_image_write_png(context, path, NULL, 0), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_image_write_png(NULL, path, &images, 0), CARSO_ERROR_INVALID_ARGUMENT);
    static const int32_t bad_sizes[][2] = {{0, 2},       {2, 0}, {-1, 2}, {2, INT32_MIN}, {INT32_MAX, INT32_MAX},
                                           {65536, 1025}};
    for (size_t i = 0; i < sizeof bad_sizes / sizeof bad_sizes[0]; i++) {
        images = describe(pixels, bad_sizes[i][0], bad_sizes[i][1], CARSO_ORDER_RGB);
        ck_assert_int_eq(carso_image_write_png(context, path, &images, 0), CARSO_ERROR_INVALID_ARGUMENT);
    }
    images = describe(NULL, 2, 2, CARSO_ORDER_RGB);
    ck_assert_int_eq(carso_image_write_png(context, path, &images, 0), CARSO_ERROR_INVALID_ARGUMENT);
    images = describe(pixels, 2, 2, CARSO_ORDER_RGB);
    ck_assert_int_eq(carso_image_write_png(context, scratch_file("none/a.png"), &images, 0), CARSO_ERROR_NOT_FOUND);
    ck_assert_int_eq(carso_image_write_png(context, scratch_path, &images, 0), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(scratch_entries(), 0);
}
END_TEST

START_TEST(a_full_disk_leaves_the_file_as_it_was)
{
    static uint8_t pixels[64 * 64];
    uint32_t state = 1;
    for (size_t i = 0; i < sizeof pixels; i++) {
        state = state * 1664525u + 1013904223u; /* does not compress */
        pixels[i] = (uint8_t)(state >> 24);
    }
    const carso_images images = describe(pixels, 64, 64, CARSO_ORDER_GRAY);
    size_t size;
    struct rlimit old;
    scratch_write("a.png", "before", 6);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    for (rlim_t bytes = 0; bytes < 4096; bytes += 500) {
        const struct rlimit limit = {bytes, old.rlim_max};
        /* Check's own messages go through a file: nothing is asserted while the limit holds. */
        const int limited = setrlimit(RLIMIT_FSIZE, &limit);
        const carso_status status = carso_image_write_png(context, scratch_file("a.png"), &images, 0);
        const int restored = setrlimit(RLIMIT_FSIZE, &old);
        ck_assert_int_eq(limited, 0);
        ck_assert_int_eq(restored, 0);
        ck_assert_int_eq(status, CARSO_ERROR_IO);
        ck_assert_ptr_nonnull(strstr(message(), "File too large"));
        unsigned char *after = scratch_read("a.png", &size);
        ck_assert_uint_eq(size, 6);
        ck_assert_mem_eq(after, "before", 6);
        free(after);
        ck_assert_int_eq(scratch_entries(), 1);
    }
    signal(SIGXFSZ, SIG_DFL);
}
END_TEST

START_TEST(all_kinds_of_png_are_read)
{
    static const uint8_t bits[2] = {0xa0, 0x40};
    static const uint8_t two_bits[2] = {0x1b, 0xe4};
    static const uint8_t deep[8] = {0x00, 0x00, 0x80, 0x80, 0xff, 0xff, 0x01, 0x40};
    static const uint8_t gray_alpha[8] = {10, 0, 20, 255, 30, 128, 40, 1};
    static const uint8_t rgba[16] = {1, 2, 3, 0, 4, 5, 6, 255, 7, 8, 9, 128, 10, 11, 12, 1};
    static const struct {
        int type, depth, width;
        const uint8_t *rows;
        size_t row_bytes;
        int order;
        uint8_t expected[24];
    } cases[] = {
        {PNG_COLOR_TYPE_GRAY, 1, 3, bits, 1, CARSO_ORDER_GRAY, {255, 0, 255, 0, 255, 0}},
        {PNG_COLOR_TYPE_GRAY, 2, 4, two_bits, 1, CARSO_ORDER_GRAY, {0, 85, 170, 255, 255, 170, 85, 0}},
        {PNG_COLOR_TYPE_GRAY, 16, 2, deep, 4, CARSO_ORDER_GRAY, {0, 128, 255, 1}},
        {PNG_COLOR_TYPE_GRAY_ALPHA, 8, 2, gray_alpha, 4, CARSO_ORDER_GRAY, {10, 20, 30, 40}},
        {PNG_COLOR_TYPE_RGB_ALPHA, 8, 2, rgba, 8, CARSO_ORDER_RGB, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
        {PNG_COLOR_TYPE_PALETTE, 2, 4, two_bits, 1, CARSO_ORDER_RGB, {1,   2,   3,   40,  50,  60,  200, 100,
                                                                      0,   255, 255, 255, 255, 255, 255, 200,
                                                                      100, 0,   40,  50,  60,  1,   2,   3}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int interlace = PNG_INTERLACE_NONE; interlace <= PNG_INTERLACE_ADAM7; interlace++) {
            const uint8_t *read;
            write_png("a.png", cases[i].width, 2, cases[i].type, cases[i].depth, interlace, cases[i].rows,
                      cases[i].row_bytes);
            carso_image *image = read_image("a.png", cases[i].width, 2, cases[i].order, &read);
            ck_assert_mem_eq(read, cases[i].expected,
                             (size_t)(cases[i].width * 2 * (cases[i].order == CARSO_ORDER_RGB ? 3 : 1)));
            carso_image_destroy(image);
        }
    }
}
END_TEST

START_TEST(jpeg_is_read)
{
    uint8_t pixels[16 * 12 * 3];
    for (int components = 1; components <= 3; components += 2) {
        for (int progressive = 0; progressive < 2; progressive++) {
            const uint8_t *read;
            fill(pixels, 16, 12, components);
            write_jpeg("photo", 16, 12, components, progressive != 0, pixels);
            carso_image *image =
                read_image("photo", 16, 12, components == 1 ? CARSO_ORDER_GRAY : CARSO_ORDER_RGB, &read);
            for (int i = 0; i < 16 * 12 * components; i++) {
                ck_assert_int_le(abs(read[i] - pixels[i]), 4);
            }
            carso_image_destroy(image);
        }
    }
    uint8_t inks[8 * 8 * 4] = {0};
    write_jpeg("inks.jpg", 8, 8, 4, false, inks);
    refuse_image("inks.jpg", CARSO_ERROR_UNSUPPORTED, "neither gray nor RGB");
}
END_TEST

/* Neither a cut nor a flipped bit anywhere may do more than fail, nor leave memory behind. */
START_TEST(damaged_images_are_refused)
{
    uint8_t pixels[16 * 12 * 3];
    fill(pixels, 16, 12, 3);
    const carso_images images = describe(pixels, 16, 12, CARSO_ORDER_RGB);
    for (int kind = 0; kind < 3; kind++) {
        size_t size;
        const long held = counts.held;
        if (kind == 0) {
            ck_assert_int_eq(carso_image_write_png(context, scratch_file("good"), &images, 0), CARSO_OK);
        } else {
            write_jpeg("good", 16, 12, 3, kind == 2, pixels);
        }
        unsigned char *good = scratch_read("good", &size);
        for (size_t kept = 0; kept < size; kept++) {
            scratch_write("bad", good, kept);
            refuse_image("bad", CARSO_ERROR_BAD_FORMAT, "bad");
        }
        for (size_t i = 0; i < 8 * size; i++) {
            carso_image *image;
            good[i / 8] ^= (unsigned char)(1 << i % 8);
            scratch_write("bad", good, size);
            const carso_status status = carso_image_read(context, scratch_file("bad"), &image);
            ck_assert(status == CARSO_OK || status == CARSO_ERROR_BAD_FORMAT || status == CARSO_ERROR_UNSUPPORTED);
            ck_assert_int_eq(image == NULL, status != CARSO_OK);
            carso_image_destroy(image);
            ck_assert_int_eq(counts.held, held);
            /* PNG has checksums: whatever matters to the pixels is found. */
            ck_assert(kind != 0 || i / 8 >= 33 || status == CARSO_ERROR_BAD_FORMAT);
            good[i / 8] ^= (unsigned char)(1 << i % 8);
        }
        free(good);
    }
}
END_TEST

static void put_big_endian(unsigned char *out, uint32_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        out[i] = (unsigned char)(value >> 8 * (bytes - 1 - i));
    }
}

START_TEST(hidden_bombs_are_refused_before_memory_is_taken)
{
    static const uint32_t sizes[][2] = {{8193, 8192},
                                        {65535, 65535},
                                        {1000000, 1000000},
                                        {0x7fffffff, 0x7fffffff},
                                        {0x7fffffff, 1},
                                        {0xffffffff, 0xffffffff},
                                        {0, 1}};
    uint8_t pixels[8 * 8 * 3];
    size_t size;
    fill(pixels, 8, 8, 3);
    const carso_images images = describe(pixels, 8, 8, CARSO_ORDER_RGB);
    ck_assert_int_eq(carso_image_write_png(context, scratch_file("good"), &images, 0), CARSO_OK);
    unsigned char *file = scratch_read("good", &size);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        put_big_endian(file + 16, sizes[i][0], 4);
        put_big_endian(file + 20, sizes[i][1], 4);
        put_big_endian(file + 29, (uint32_t)crc32(0, file + 12, 17), 4);
        scratch_write("bomb.png", file, size);
        const long made = counts.made;
        refuse_image("bomb.png", CARSO_ERROR_BAD_FORMAT, "bomb.png");
        ck_assert_int_eq(counts.made, made + 1);
    }
    free(file);
    write_jpeg("good", 8, 8, 3, false, pixels);
    file = scratch_read("good", &size);
    size_t frame = 0;
    while (file[frame] != 0xff || file[frame + 1] != 0xc0) {
        frame++;
        ck_assert_uint_lt(frame + 9, size);
    }
    put_big_endian(file + frame + 5, 65500, 2);
    put_big_endian(file + frame + 7, 65500, 2);
    scratch_write("bomb.jpg", file, size);
    const long made = counts.made;
    refuse_image("bomb.jpg", CARSO_ERROR_BAD_FORMAT, "65500x65500");
    ck_assert_int_eq(counts.made, made + 1);
    free(file);
}
END_TEST

START_TEST(odd_files_are_refused)
{
    carso_image *image;
    refuse_image("none", CARSO_ERROR_NOT_FOUND, "No such file");
    scratch_write("text.png", "this is a text\n", 15);
    refuse_image("text.png", CARSO_ERROR_BAD_FORMAT, "neither a PNG nor a JPEG");
    ck_assert_int_eq(mkfifo(scratch_file("pipe.png"), 0600), 0);
    refuse_image("pipe.png", CARSO_ERROR_BAD_FORMAT, "not a regular file");
    scratch_make_folder("folder.png");
    refuse_image("folder.png", CARSO_ERROR_BAD_FORMAT, "not a regular file");
    ck_assert_int_eq(carso_image_read(context, NULL, &image), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_image_read(NULL, "a", &image), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_image_read(context, "a", NULL), CARSO_ERROR_INVALID_ARGUMENT);
}
END_TEST

START_TEST(each_failed_allocation_is_survived)
{
    uint8_t pixels[192] = {0};
    static const uint64_t index = 0;
    scratch_make_folder("a");
    scratch_make_folder("b");
    put_image("a/0.png", 8, 8, CARSO_ORDER_RGB, 1);
    write_jpeg("b/0.jpg", 8, 8, 3, false, pixels);
    const carso_images images = describe(pixels, 8, 8, CARSO_ORDER_RGB);
    carso_read_options options;
    carso_read_options_init(&options, sizeof options);
    options.mirror = 1;
    const long held = counts.held;
    for (int what = 0; what < 4; what++) {
        carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
        for (long failing = 1; status != CARSO_OK; failing++) {
            carso_dataset *dataset = NULL;
            carso_image *image = NULL;
            counts.made = 0;
            counts.failing = failing;
            if (what == 0) {
                status = carso_image_write_png(context, scratch_file("b/1.png"), &images, 0);
            } else if (what < 3) {
                status = carso_image_read(context, scratch_file(what == 1 ? "a/0.png" : "b/0.jpg"), &image);
            } else {
                status = carso_dataset_open(context, scratch_path, CARSO_SPLIT_TRAIN, &dataset);
                if (status == CARSO_OK) {
                    status = carso_dataset_read(dataset, &index, 1, &options, pixels, NULL);
                }
            }
            ck_assert_int_eq(status, counts.made < failing ? CARSO_OK : CARSO_ERROR_OUT_OF_MEMORY);
            carso_dataset_destroy(dataset);
            carso_image_destroy(image);
            ck_assert_int_eq(counts.held, held);
        }
    }
    counts.failing = 0;
}
END_TEST

#else

START_TEST(a_build_without_image_files_says_so)
{
    static const uint8_t pixel = 0;
    carso_dataset *dataset;
    const carso_images images = describe(&pixel, 1, 1, CARSO_ORDER_GRAY);
    refuse_image("a.png", CARSO_ERROR_UNSUPPORTED, "option images");
    ck_assert_int_eq(carso_image_write_png(context, scratch_file("a.png"), &images, 0), CARSO_ERROR_UNSUPPORTED);
    scratch_make_folder("class");
    scratch_write("class/a.png", &pixel, 1);
    ck_assert_int_eq(carso_dataset_open(context, scratch_path, CARSO_SPLIT_TRAIN, &dataset), CARSO_ERROR_UNSUPPORTED);
}
END_TEST

#endif

int main(void)
{
    Suite *suite = suite_create("image_file");
    TCase *tests = tcase_create("image_file");
    tcase_add_checked_fixture(tests, set_up_with_folder, tear_down_with_folder);
    tcase_set_timeout(tests, 100);
#if CSO_HAVE_IMAGES
    tcase_add_test(tests, what_is_written_is_read);
    tcase_add_test(tests, floats_are_rounded_to_nearest);
    tcase_add_test(tests, write_checks_its_arguments);
    tcase_add_test(tests, a_full_disk_leaves_the_file_as_it_was);
    tcase_add_test(tests, all_kinds_of_png_are_read);
    tcase_add_test(tests, jpeg_is_read);
    tcase_add_test(tests, damaged_images_are_refused);
    tcase_add_test(tests, hidden_bombs_are_refused_before_memory_is_taken);
    tcase_add_test(tests, odd_files_are_refused);
    tcase_add_test(tests, each_failed_allocation_is_survived);
#else
    tcase_add_test(tests, a_build_without_image_files_says_so);
#endif
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
