/* SPDX-License-Identifier: BSD-2-Clause */
/* Batches read ahead, against the same images read one call at a time; files and folders without labels. */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/context.h"
#include "carso/data.h"
#include "counted_folder.h"
#include "scratch_folder.h"

#define SIDE 6
#define PIXELS (SIDE * SIDE)
#define IMAGES 23

/* A PNG file whose every pixel follows from the seed; channels 3 repeats the gray value unless coloured. */
static void write_png(const char *name, int side, int channels, bool coloured, int seed)
{
    unsigned char pixels[3 * 64 * 64];
    carso_images images;
    carso_images_init(&images, sizeof images);
    for (int i = 0; i < side * side * channels; i++) {
        pixels[i] = (unsigned char)(seed * 41 + (coloured ? i : i / channels) * 7);
    }
    images.data = pixels;
    images.count = 1;
    images.width = images.height = side;
    images.order = channels == 1 ? CARSO_ORDER_GRAY : CARSO_ORDER_RGB;
    ck_assert_msg(carso_image_write_png(context, scratch_file(name), &images, 0) == CARSO_OK, "%s", message());
}

/* Class folders a, b and c. */
static void write_classes(void)
{
    char name[32];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%c", 'a' + i);
        scratch_make_folder(name);
    }
    for (int i = 0; i < IMAGES; i++) {
        snprintf(name, sizeof name, "%c/%02d.png", 'a' + i % 3, i);
        write_png(name, SIDE, 1, false, i);
    }
}

static carso_dataset *open_classes(void)
{
    carso_dataset *dataset;
    write_classes();
    ck_assert_msg(carso_dataset_open(context, scratch_path, CARSO_SPLIT_TRAIN, &dataset) == CARSO_OK, "%s", message());
    return dataset;
}

static carso_dataset_options shape(int channels, int side)
{
    carso_dataset_options options;
    carso_dataset_options_init(&options, sizeof options);
    options.channels = channels;
    options.height = options.width = side;
    return options;
}

static carso_dataset *open_shaped(void)
{
    carso_dataset *dataset;
    const carso_dataset_options options = shape(1, SIDE);
    ck_assert_msg(carso_dataset_open_with(context, scratch_path, &options, &dataset) == CARSO_OK, "%s", message());
    return dataset;
}

static carso_reader_options reader_options(uint64_t batch, int threads, int ahead)
{
    carso_reader_options options;
    carso_reader_options_init(&options, sizeof options);
    options.batch = batch;
    options.threads = threads;
    options.ahead = ahead;
    return options;
}

static carso_read_batch next(carso_reader *reader)
{
    carso_read_batch batch = {.struct_size = sizeof batch};
    ck_assert_msg(carso_reader_next(reader, &batch) == CARSO_OK, "%s", message());
    return batch;
}

/* Reads the list to its end and compares with carso_dataset_read. */
static void check_reader(const carso_dataset *dataset, const uint64_t *indices, uint64_t count,
                         const carso_reader_options *options)
{
    carso_reader *reader;
    uint64_t position = 0;
    ck_assert_msg(carso_reader_open(dataset, indices, count, options, &reader) == CARSO_OK, "%s", message());
    for (carso_read_batch batch; (batch = next(reader)).count > 0; position += batch.count) {
        ck_assert_uint_eq(batch.first, position);
        ck_assert_uint_eq(batch.count, count - position < options->batch ? count - position : options->batch);
        for (uint64_t i = 0; i < batch.count; i++) {
            uint8_t pixels[PIXELS];
            int32_t label;
            const uint64_t index = indices != NULL ? indices[position + i] : options->first + position + i;
            ck_assert_int_eq(carso_dataset_read(dataset, &index, 1, options->reading, pixels, &label), CARSO_OK);
            ck_assert_mem_eq(batch.pixels + i * PIXELS, pixels, PIXELS);
            ck_assert_int_eq(batch.labels[i], label);
            ck_assert_int_eq(batch.statuses[i], CARSO_OK);
            ck_assert_ptr_null(batch.messages[i]);
        }
    }
    ck_assert_uint_eq(position, count);
    const carso_read_batch end = next(reader);
    ck_assert_uint_eq(end.first, count);
    ck_assert_uint_eq(end.count, 0);
    carso_reader_destroy(reader);
}

START_TEST(batches_are_those_of_single_reads)
{
    carso_dataset *dataset = open_classes();
    carso_read_options reading;
    uint64_t order[2 * IMAGES];
    carso_read_options_init(&reading, sizeof reading);
    reading.crop_padding = 2;
    reading.mirror = 1;
    reading.seed = 5;
    reading.epoch = 3;
    ck_assert_int_eq(carso_dataset_shuffle(dataset, 1, 2, order), CARSO_OK);
    ck_assert_int_eq(carso_dataset_shuffle(dataset, 1, 3, order + IMAGES), CARSO_OK);
    for (int threads = 1; threads <= 3; threads++) {
        for (int ahead = 1; ahead <= 4; ahead += 3) {
            static const uint64_t batches[] = {1, 4, 5, 46, 1000, UINT64_MAX};
            for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
                carso_reader_options options = reader_options(batches[i], threads, ahead);
                options.reading = &reading;
                check_reader(dataset, order, 2 * IMAGES, &options);
                options.reading = NULL;
                options.first = 3;
                check_reader(dataset, NULL, IMAGES - 3, &options);
            }
        }
    }
    const carso_reader_options options = reader_options(64, 0, 2);
    check_reader(dataset, order, 1, &options);
    check_reader(dataset, NULL, IMAGES, &options);
    carso_dataset_destroy(dataset);
}
END_TEST

START_TEST(first_bad_image_ends_the_reading)
{
    write_classes();
    /* Image 10 of the interleaved order is b/10.png; what is worse comes later. */
    scratch_write("b/10.png", "no image", 8);
    ck_assert_int_eq(unlink(scratch_file("c/20.png")), 0);
    carso_dataset *dataset = NULL;
    dataset = open_shaped();
    const carso_reader_options options = reader_options(4, 2, 4);
    carso_reader *reader;
    ck_assert_int_eq(carso_reader_open(dataset, NULL, IMAGES - 1, &options, &reader), CARSO_OK);
    ck_assert_uint_eq(next(reader).count, 4);
    ck_assert_uint_eq(next(reader).first, 4);
    for (int i = 0; i < 2; i++) {
        carso_read_batch batch = {.struct_size = sizeof batch};
        ck_assert_int_eq(carso_reader_next(reader, &batch), CARSO_ERROR_BAD_FORMAT);
        ck_assert_ptr_null(batch.pixels);
        ck_assert_msg(strstr(message(), "b/10.png: neither a PNG nor a JPEG file") != NULL, "%s", message());
    }
    carso_reader_destroy(reader);
    carso_dataset_destroy(dataset);
}
END_TEST

START_TEST(bad_images_are_told_of_one_by_one)
{
    write_classes();
    carso_dataset *dataset = open_shaped();
    scratch_write("a/03.png", "no image", 8);
    write_png("b/07.png", SIDE + 1, 1, false, 7);
    write_png("c/11.png", SIDE, 3, true, 11);
    ck_assert_int_eq(unlink(scratch_file("a/12.png")), 0);
    carso_reader_options options = reader_options(5, 3, 2);
    options.keep_going = 1;
    carso_reader *reader;
    ck_assert_int_eq(carso_reader_open(dataset, NULL, IMAGES, &options, &reader), CARSO_OK);
    int bad = 0;
    for (carso_read_batch batch; (batch = next(reader)).count > 0;) {
        for (uint64_t i = 0; i < batch.count; i++) {
            const char *file = carso_dataset_file(dataset, batch.first + i);
            static const uint8_t black[PIXELS];
            static const char *const what[4] = {"03.png: neither", "07.png: 7x7, expected 6x6", "11.png: a colour image",
                                                "12.png: cannot open"};
            static const int expected[4] = {CARSO_ERROR_BAD_FORMAT, CARSO_ERROR_BAD_FORMAT, CARSO_ERROR_BAD_FORMAT,
                                            CARSO_ERROR_NOT_FOUND};
            if (batch.statuses[i] == CARSO_OK) {
                ck_assert_ptr_null(batch.messages[i]);
                ck_assert_int_eq(batch.pixels[i * PIXELS], (uint8_t)((int)(batch.first + i) * 41));
                continue;
            }
            int which = 0;
            while (which < 4 && strstr(batch.messages[i], what[which]) == NULL) {
                which++;
            }
            ck_assert_msg(which < 4, "%s: %s", file, batch.messages[i]);
            ck_assert_int_eq(batch.statuses[i], expected[which]);
            ck_assert_ptr_nonnull(strstr(batch.messages[i], file));
            ck_assert_mem_eq(batch.pixels + i * PIXELS, black, PIXELS);
            ck_assert_int_eq(batch.labels[i], (int)(batch.first + i) % 3);
            bad++;
        }
    }
    ck_assert_int_eq(bad, 4);
    carso_reader_destroy(reader);
    carso_dataset_destroy(dataset);
}
END_TEST

/* What befalls every image alike is not put down to one of them. */
START_TEST(no_more_files_can_be_opened)
{
    carso_dataset *dataset = open_classes();
    carso_reader *reader;
    carso_reader_options options;
    carso_read_batch batch = {.struct_size = sizeof batch};
    struct rlimit limit;
    carso_reader_options_init(&options, sizeof options);
    options.keep_going = 1;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 0;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(carso_reader_open(dataset, NULL, IMAGES, &options, &reader), CARSO_OK);
    ck_assert_int_eq(carso_reader_next(reader, &batch), CARSO_ERROR_OUT_OF_MEMORY);
    ck_assert_ptr_nonnull(strstr(message(), ".png"));
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    carso_reader_destroy(reader);
    carso_dataset_destroy(dataset);
}
END_TEST

START_TEST(reader_ends_at_any_time)
{
    carso_dataset *dataset = open_classes();
    for (int taken = 0; taken < 4; taken++) {
        carso_reader *reader, *other;
        const carso_reader_options options = reader_options(3, 2, 1);
        ck_assert_int_eq(carso_reader_open(dataset, NULL, IMAGES, &options, &reader), CARSO_OK);
        ck_assert_int_eq(carso_reader_open(dataset, NULL, IMAGES, &options, &other), CARSO_OK);
        for (int i = 0; i < taken; i++) {
            ck_assert_uint_eq(next(reader).first, (uint64_t)(3 * i));
            ck_assert_uint_eq(next(other).first, (uint64_t)(3 * i));
        }
        carso_reader_destroy(reader);
        carso_reader_destroy(other);
    }
    carso_reader_destroy(NULL);
    carso_dataset_destroy(dataset);
}
END_TEST

START_TEST(forked_process_is_told)
{
    carso_dataset *dataset = open_classes();
    carso_reader *reader;
    const carso_reader_options options = reader_options(2, 2, 2);
    ck_assert_int_eq(carso_reader_open(dataset, NULL, IMAGES, &options, &reader), CARSO_OK);
    next(reader);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        carso_read_batch batch = {.struct_size = sizeof batch};
        const bool told = carso_reader_next(reader, &batch) == CARSO_ERROR_INVALID_ARGUMENT;
        carso_reader_destroy(reader);
        _exit(told ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_assert_uint_eq(next(reader).first, 2);
    carso_reader_destroy(reader);
    carso_dataset_destroy(dataset);
}
END_TEST

START_TEST(wrong_arguments)
{
    carso_dataset *dataset = open_classes();
    carso_reader *reader = (carso_reader *)&counts;
    carso_read_batch batch = {0};
    uint64_t index = IMAGES;
    ck_assert_int_eq(carso_reader_open(NULL, NULL, 1, NULL, &reader), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(reader);
    ck_assert_int_eq(carso_reader_open(dataset, NULL, 1, NULL, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_reader_open(dataset, NULL, 0, NULL, &reader), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_reader_open(dataset, NULL, IMAGES + 1, NULL, &reader), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_reader_open(dataset, &index, 1, NULL, &reader), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(message(), "index 0 of the list is 23"));
    carso_read_options reading;
    carso_read_options_init(&reading, sizeof reading);
    reading.mirror = 2;
    const struct {
        uint64_t batch, first;
        int threads, ahead, keep_going;
        const carso_read_options *reading;
    } wrong[] = {{0, 0, 1, 1, 0, NULL},  {1, 0, -1, 1, 0, NULL},      {1, 0, 257, 1, 0, NULL},
                 {1, 0, 1, 0, 0, NULL},  {1, 0, 1, 257, 0, NULL},     {1, 0, 1, 1, 2, NULL},
                 {1, 23, 1, 1, 0, NULL}, {1, UINT64_MAX, 1, 1, 0, NULL}, {1, 0, 1, 1, 0, &reading}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        carso_reader_options options = reader_options(wrong[i].batch, wrong[i].threads, wrong[i].ahead);
        options.first = wrong[i].first;
        options.keep_going = wrong[i].keep_going;
        options.reading = wrong[i].reading;
        ck_assert_int_eq(carso_reader_open(dataset, NULL, 1, &options, &reader), CARSO_ERROR_INVALID_ARGUMENT);
        ck_assert_ptr_null(reader);
    }
    ck_assert_int_eq(carso_reader_next(NULL, &batch), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_reader_open(dataset, NULL, 1, NULL, &reader), CARSO_OK);
    ck_assert_int_eq(carso_reader_next(reader, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_reader_next(reader, &batch), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_uint_eq(next(reader).count, 1);
    carso_reader_destroy(reader);
    carso_dataset_destroy(dataset);
}
END_TEST

/* Files without labels */

static void check_files(const carso_dataset *dataset, const char *const *names, size_t count)
{
    carso_dataset_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(carso_dataset_get_info(dataset, &info), CARSO_OK);
    ck_assert_uint_eq(info.count, count);
    ck_assert_str_eq(info.format, "files");
    ck_assert_int_eq(info.classes, 0);
    ck_assert_ptr_null(carso_dataset_class_name(dataset, 0));
    for (size_t i = 0; i < count; i++) {
        ck_assert_str_eq(carso_dataset_file(dataset, i), scratch_file(names[i]));
    }
    ck_assert_ptr_null(carso_dataset_file(dataset, count));
}

START_TEST(folders_are_searched_at_any_depth)
{
    static const char *const found[] = {"b.JPEG.PNG", "z.png", "a/x.png", "a/deep/y.png", "c/x.png", "c/deep/y.png"};
    scratch_make_folder("a");
    scratch_make_folder("a/deep");
    scratch_make_folder("c");
    scratch_make_folder("c/deep");
    scratch_make_folder("empty");
    scratch_make_folder(".hidden");
    for (size_t i = 0; i < 6; i++) {
        write_png(found[i], SIDE, 1, false, (int)i);
    }
    write_png(".hidden/no.png", SIDE, 1, false, 0);
    write_png(".no.png", SIDE, 1, false, 0);
    scratch_write("a/notes.txt", "x", 1);
    ck_assert_int_eq(symlink("../..", scratch_file("a/deep/up")), 0);
    ck_assert_int_eq(symlink("a", scratch_file("link")), 0);
    carso_dataset *dataset;
    const char *paths[2] = {scratch_path, NULL};
    ck_assert_msg(carso_dataset_open_files(context, paths, 1, NULL, &dataset) == CARSO_OK, "%s", message());
    check_files(dataset, found, 6);
    uint8_t pixels[PIXELS];
    int32_t label = 9;
    const uint64_t index = 3;
    ck_assert_int_eq(carso_dataset_read(dataset, &index, 1, NULL, pixels, &label), CARSO_OK);
    ck_assert_int_eq(label, -1);
    ck_assert_int_eq(pixels[0], 3 * 41);
    const carso_reader_options options = reader_options(4, 2, 1);
    check_reader(dataset, NULL, 6, &options);
    carso_dataset_destroy(dataset);

    static const char *const mixed[] = {"z.png", "a/deep/y.png", "none.png"};
    char file[3][PATH_MAX + 32];
    const char *named[3] = {file[0], file[1], file[2]};
    snprintf(file[0], sizeof file[0], "%s/z.png", scratch_path);
    snprintf(file[1], sizeof file[1], "%s/a/deep", scratch_path);
    snprintf(file[2], sizeof file[2], "%s/none.png", scratch_path);
    ck_assert_int_eq(unlink(scratch_file("a/deep/up")), 0);
    carso_dataset_options given = shape(1, SIDE);
    ck_assert_int_eq(carso_dataset_open_files(context, named, 3, &given, &dataset), CARSO_OK);
    check_files(dataset, mixed, 3);
    const uint64_t missing = 2;
    ck_assert_int_eq(carso_dataset_read(dataset, &missing, 1, NULL, pixels, NULL), CARSO_ERROR_NOT_FOUND);
    carso_dataset_destroy(dataset);
    /* Without a shape the files are looked at. */
    ck_assert_int_eq(carso_dataset_open_files(context, named, 3, NULL, &dataset), CARSO_ERROR_NOT_FOUND);
    ck_assert_ptr_null(dataset);
}
END_TEST

START_TEST(files_without_images)
{
    carso_dataset *dataset = (carso_dataset *)&counts;
    const char *path = scratch_path;
    carso_dataset_options options = shape(1, SIDE);
    ck_assert_int_eq(carso_dataset_open_files(context, &path, 1, &options, &dataset), CARSO_ERROR_NOT_FOUND);
    ck_assert_ptr_null(dataset);
    ck_assert_ptr_nonnull(strstr(message(), "no PNG or JPEG images"));
    ck_assert_int_eq(carso_dataset_open_files(context, &path, 0, &options, &dataset), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_dataset_open_files(context, NULL, 1, &options, &dataset), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(carso_dataset_open_files(context, &path, 1, &options, NULL), CARSO_ERROR_INVALID_ARGUMENT);
    path = NULL;
    ck_assert_int_eq(carso_dataset_open_files(context, &path, 1, &options, &dataset), CARSO_ERROR_INVALID_ARGUMENT);
    static char endless[2 * PATH_MAX];
    memset(endless, 'a', sizeof endless - 1);
    path = endless;
    ck_assert_int_eq(carso_dataset_open_files(context, &path, 1, &options, &dataset), CARSO_ERROR_IO);
    path = scratch_path;
    static const int wrong[][3] = {{1, 0, 0}, {2, 8, 8}, {1, 0, 8}, {3, 8, -1}, {1, 16385, 8}, {1, 8, 16385}, {-1, 8, 8}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        options.channels = wrong[i][0];
        options.height = wrong[i][1];
        options.width = wrong[i][2];
        ck_assert_int_eq(carso_dataset_open_files(context, &path, 1, &options, &dataset), CARSO_ERROR_INVALID_ARGUMENT);
        ck_assert_int_eq(carso_dataset_open_with(context, path, &options, &dataset), CARSO_ERROR_INVALID_ARGUMENT);
    }
    options = shape(1, SIDE);
    options.split = 7;
    ck_assert_int_eq(carso_dataset_open_with(context, path, &options, &dataset), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_ptr_null(carso_dataset_file(NULL, 0));
}
END_TEST

/* Folders, each with four links to the next and one to the first: more paths than could ever be listed. */
START_TEST(links_lead_nowhere_twice)
{
    char name[24], target[24];
    for (int i = 0; i < 36; i++) { /* the system follows 40 links */
        snprintf(name, sizeof name, "d%02d", i);
        scratch_make_folder(name);
        snprintf(name, sizeof name, "d%02d/x.png", i);
        write_png(name, SIDE, 1, false, 0);
        for (int j = 0; j < 5; j++) {
            snprintf(name, sizeof name, "d%02d/%d", i, j);
            snprintf(target, sizeof target, "../d%02d", j == 4 ? 0 : (i + 1) % 36);
            ck_assert_int_eq(symlink(target, scratch_file(name)), 0);
        }
    }
    carso_dataset *dataset;
    const char *const paths[2] = {scratch_path, scratch_path};
    const carso_dataset_options options = shape(1, SIDE);
    for (size_t named = 1; named <= 2; named++) { /* what is named twice is wanted twice */
        ck_assert_msg(carso_dataset_open_files(context, paths, named, &options, &dataset) == CARSO_OK, "%s", message());
        carso_dataset_info info = {.struct_size = sizeof info};
        ck_assert_int_eq(carso_dataset_get_info(dataset, &info), CARSO_OK);
        ck_assert_uint_eq(info.count, 36 * named);
        ck_assert_str_eq(carso_dataset_file(dataset, 1), scratch_file("d00/0/x.png"));
        carso_dataset_destroy(dataset);
    }
    carso_status status = CARSO_ERROR_OUT_OF_MEMORY;
    for (long failing = 1; status != CARSO_OK; failing++) {
        const long held = counts.held;
        counts.made = 0;
        counts.failing = failing;
        status = carso_dataset_open_files(context, paths, 1, &options, &dataset);
        ck_assert_int_eq(status, counts.made < failing ? CARSO_OK : CARSO_ERROR_OUT_OF_MEMORY);
        counts.failing = 0;
        carso_dataset_destroy(dataset);
        ck_assert_int_eq(counts.held, held);
    }
}
END_TEST

START_TEST(deep_folders_are_refused)
{
    char path[PATH_MAX] = "d";
    for (int i = 0; i < 64; i++) {
        scratch_make_folder(path);
        strcat(path, "/d");
    }
    carso_dataset *dataset;
    const char *folder = scratch_path;
    const carso_dataset_options options = shape(1, SIDE);
    ck_assert_int_eq(carso_dataset_open_files(context, &folder, 1, &options, &dataset), CARSO_ERROR_IO);
    ck_assert_ptr_nonnull(strstr(message(), "deep"));
}
END_TEST

START_TEST(gray_pixels_of_a_colour_file)
{
    uint8_t pixels[PIXELS];
    carso_dataset *dataset;
    const char *path = scratch_path;
    write_png("gray.png", SIDE, 3, false, 3);
    write_png("more.png", SIDE, 3, true, 3);
    const carso_dataset_options options = shape(1, SIDE);
    ck_assert_int_eq(carso_dataset_open_files(context, &path, 1, &options, &dataset), CARSO_OK);
    uint64_t index = 0;
    ck_assert_int_eq(carso_dataset_read(dataset, &index, 1, NULL, pixels, NULL), CARSO_OK);
    for (int i = 0; i < PIXELS; i++) {
        ck_assert_int_eq(pixels[i], (uint8_t)(3 * 41 + 7 * i));
    }
    index = 1;
    ck_assert_int_eq(carso_dataset_read(dataset, &index, 1, NULL, pixels, NULL), CARSO_ERROR_BAD_FORMAT);
    carso_dataset_destroy(dataset);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reader");
    TCase *group = tcase_create("reader");
    tcase_add_checked_fixture(group, set_up_with_folder, tear_down_with_folder);
    tcase_set_timeout(group, 120);
    tcase_add_test(group, batches_are_those_of_single_reads);
    tcase_add_test(group, first_bad_image_ends_the_reading);
    tcase_add_test(group, bad_images_are_told_of_one_by_one);
    tcase_add_test(group, no_more_files_can_be_opened);
    tcase_add_test(group, reader_ends_at_any_time);
    tcase_add_test(group, forked_process_is_told);
    tcase_add_test(group, wrong_arguments);
    tcase_add_test(group, folders_are_searched_at_any_depth);
    tcase_add_test(group, files_without_images);
    tcase_add_test(group, links_lead_nowhere_twice);
    tcase_add_test(group, deep_folders_are_refused);
    tcase_add_test(group, gray_pixels_of_a_colour_file);
    suite_add_tcase(suite, group);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
