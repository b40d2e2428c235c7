/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libpng jumps back here on an error. What must survive the jump lives in a struct that the jumped-from function only
 * has a pointer to, so that nothing is clobbered and everything is released in one place.
 */
#include <png.h>
#include <setjmp.h>
#include <string.h>

#include "base/atomic_file.h"
#include "data/image_file.h"

#define LARGEST_CHUNK (8 << 20)
#define MOST_CHUNKS 256

typedef struct png_work {
    const carso_context *context;
    const char *path;
    jmp_buf back;
    png_structp png;
    png_infop info;
    carso_status status;     /* of the failure that made libpng jump */
    cso_atomic_file *target; /* NULL: reading */
} png_work;

static void on_error(png_structp png, png_const_charp text)
{
    png_work *work = png_get_error_ptr(png);
    if (work->status == CARSO_OK) {
        work->status =
            work->target == NULL
                ? cso_fail(work->context, CARSO_ERROR_BAD_FORMAT, "%s: damaged PNG file: %s", work->path, text)
                : cso_fail(work->context, CARSO_ERROR_INTERNAL, "%s: cannot encode PNG: %s", work->path, text);
    }
    longjmp(work->back, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    const png_work *work = png_get_error_ptr(png);
    cso_log(work->context, CARSO_LOG_DEBUG, "%s: %s", work->path, text);
}

/* What the header says becomes 8-bit gray, or RGB. */
static int32_t set_transformations(png_work *work, int32_t wanted_channels)
{
    const int colour = png_get_color_type(work->png, work->info);
    const bool gray = (colour & PNG_COLOR_MASK_COLOR) == 0;
    png_set_scale_16(work->png);
    png_set_packing(work->png);
    png_set_strip_alpha(work->png);
    if (colour == PNG_COLOR_TYPE_PALETTE) {
        png_set_palette_to_rgb(work->png);
    } else if (gray) {
        png_set_expand_gray_1_2_4_to_8(work->png);
        if (wanted_channels == 3) {
            png_set_gray_to_rgb(work->png);
        }
    }
    return gray ? 1 : 3;
}

static carso_status decode(png_work *work, cso_image_decoding *decoding)
{
    if (setjmp(work->back) != 0) {
        return work->status;
    }
    /* libpng's own limit of a side is a million; what the two make together is for _accept to judge. */
    png_set_chunk_malloc_max(work->png, LARGEST_CHUNK);
    png_set_chunk_cache_max(work->png, MOST_CHUNKS);
    png_init_io(work->png, decoding->file);
    png_read_info(work->png, work->info);
    const int32_t channels = set_transformations(work, decoding->given ? decoding->facts.channels : 0);
    const carso_status status = cso_image_decoding_accept(decoding, png_get_image_width(work->png, work->info),
                                                          png_get_image_height(work->png, work->info), channels);
    if (status != CARSO_OK || decoding->measure_only) {
        return status;
    }
    const int passes = png_set_interlace_handling(work->png);
    png_read_update_info(work->png, work->info);
    const size_t row = (size_t)decoding->facts.width * (size_t)decoding->facts.channels;
    if (png_get_rowbytes(work->png, work->info) != row) {
        return cso_fail(work->context, CARSO_ERROR_INTERNAL, "%s: rows of %zu bytes instead of %zu", work->path,
                        (size_t)png_get_rowbytes(work->png, work->info), row);
    }
    for (int pass = 0; pass < passes; pass++) {
        for (int32_t y = 0; y < decoding->facts.height; y++) {
            png_read_row(work->png, decoding->pixels + (size_t)y * row, NULL);
        }
    }
    png_read_end(work->png, NULL);
    return CARSO_OK;
}

carso_status cso_png_decode(cso_image_decoding *decoding)
{
    png_work work = {.context = decoding->context, .path = decoding->path};
    carso_status status;
    work.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &work, on_error, on_warning);
    work.info = work.png == NULL ? NULL : png_create_info_struct(work.png);
    if (work.info == NULL) {
        status = cso_fail_memory(decoding->context, "reading a PNG file");
    } else {
        status = decode(&work, decoding);
    }
    png_destroy_read_struct(&work.png, &work.info, NULL);
    return status;
}

static void write_bytes(png_structp png, png_bytep data, size_t size)
{
    png_work *work = png_get_io_ptr(png);
    work->status = cso_atomic_file_write(work->target, data, size);
    if (work->status != CARSO_OK) {
        png_error(png, "");
    }
}

static void flush_nothing(png_structp png) { (void)png; }

static carso_status encode(png_work *work, const cso_image_facts *facts, const uint8_t *pixels)
{
    if (setjmp(work->back) != 0) {
        return work->status;
    }
    png_set_user_limits(work->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_write_fn(work->png, work, write_bytes, flush_nothing);
    png_set_IHDR(work->png, work->info, (png_uint_32)facts->width, (png_uint_32)facts->height, 8,
                 facts->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(work->png, work->info);
    const size_t row = (size_t)facts->width * (size_t)facts->channels;
    for (int32_t y = 0; y < facts->height; y++) {
        png_write_row(work->png, pixels + (size_t)y * row);
    }
    png_write_end(work->png, NULL);
    return CARSO_OK;
}

carso_status cso_image_file_write_png(const carso_context *context, const char *path, const cso_image_facts *facts,
                                      const uint8_t *pixels)
{
    png_work work = {.context = context, .path = path};
    work.target = cso_allocate(context, 1, sizeof *work.target);
    if (work.target == NULL) {
        return cso_fail_memory(context, "writing a PNG file");
    }
    carso_status status = cso_atomic_file_open(context, path, work.target);
    if (status == CARSO_OK) {
        work.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &work, on_error, on_warning);
        work.info = work.png == NULL ? NULL : png_create_info_struct(work.png);
        status = work.info == NULL ? cso_fail_memory(context, "writing a PNG file") : encode(&work, facts, pixels);
        png_destroy_write_struct(&work.png, &work.info);
        if (status == CARSO_OK) {
            status = cso_atomic_file_commit(work.target);
        }
        cso_atomic_file_abandon(work.target);
    }
    cso_release(context, work.target);
    return status;
}
