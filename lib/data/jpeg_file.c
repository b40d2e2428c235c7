/* SPDX-License-Identifier: BSD-2-Clause */
/* libjpeg jumps back here on an error; see png_file.c for how nothing is lost by that. */
#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>

#include <jerror.h>

#include "data/image_file.h"

/* A progressive file may have as many scans as it likes, each of which costs as much as a whole image. */
#define MOST_SCANS 200

typedef struct jpeg_work {
    struct jpeg_error_mgr errors; /* first: libjpeg hands out a pointer to it */
    struct jpeg_progress_mgr progress;
    struct jpeg_decompress_struct jpeg;
    jmp_buf back;
    const cso_image_decoding *decoding;
    carso_status status;
} jpeg_work;

static void fail_with_message(j_common_ptr common, carso_status status)
{
    jpeg_work *work = (jpeg_work *)common->err;
    char text[JMSG_LENGTH_MAX];
    common->err->format_message(common, text);
    work->status = cso_fail(work->decoding->context, status, "%s: damaged JPEG file: %s", work->decoding->path, text);
    longjmp(work->back, 1);
}

static void on_error(j_common_ptr common)
{
    jpeg_work *work = (jpeg_work *)common->err;
    if (common->err->msg_code == JERR_OUT_OF_MEMORY) {
        work->status = cso_fail_memory(work->decoding->context, "reading a JPEG file");
        longjmp(work->back, 1);
    }
    fail_with_message(common, CARSO_ERROR_BAD_FORMAT);
}

/* libjpeg paints over missing and damaged data with no more than a warning. Three of them leave the pixels intact. */
static void on_message(j_common_ptr common, int level)
{
    const int code = common->err->msg_code;
    if (level < 0 && code != JWRN_EXTRANEOUS_DATA && code != JWRN_ADOBE_XFORM && code != JWRN_JFIF_MAJOR) {
        fail_with_message(common, CARSO_ERROR_BAD_FORMAT);
    }
}

static void print_nothing(j_common_ptr common) { (void)common; }

static void watch_scans(j_common_ptr common)
{
    jpeg_work *work = (jpeg_work *)common->err;
    if (common->is_decompressor && ((j_decompress_ptr)common)->input_scan_number > MOST_SCANS) {
        work->status = cso_fail(work->decoding->context, CARSO_ERROR_BAD_FORMAT,
                                "%s: a JPEG file of more than %d scans", work->decoding->path, MOST_SCANS);
        longjmp(work->back, 1);
    }
}

static carso_status decode(jpeg_work *work, cso_image_decoding *decoding)
{
    j_decompress_ptr jpeg = &work->jpeg;
    if (setjmp(work->back) != 0) {
        return work->status;
    }
    jpeg_create_decompress(jpeg);
    jpeg->progress = &work->progress;
    jpeg_stdio_src(jpeg, decoding->file);
    jpeg_read_header(jpeg, TRUE);
    if (jpeg->jpeg_color_space != JCS_GRAYSCALE && jpeg->jpeg_color_space != JCS_YCbCr &&
        jpeg->jpeg_color_space != JCS_RGB) {
        return cso_fail(decoding->context, CARSO_ERROR_UNSUPPORTED,
                        "%s: a JPEG file that is neither gray nor RGB; convert it to RGB", decoding->path);
    }
    const carso_status status = cso_image_decoding_accept(decoding, jpeg->image_width, jpeg->image_height,
                                                          jpeg->jpeg_color_space == JCS_GRAYSCALE ? 1 : 3);
    if (status != CARSO_OK || decoding->measure_only) {
        return status;
    }
    /* Equal pixels with every version of the library matter more than its fastest transform. */
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->out_color_space = decoding->facts.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_start_decompress(jpeg);
    const size_t row = (size_t)decoding->facts.width * (size_t)decoding->facts.channels;
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW place = decoding->pixels + jpeg->output_scanline * row;
        jpeg_read_scanlines(jpeg, &place, 1);
    }
    jpeg_finish_decompress(jpeg);
    return CARSO_OK;
}

carso_status cso_jpeg_decode(cso_image_decoding *decoding)
{
    jpeg_work work = {.decoding = decoding};
    work.jpeg.err = jpeg_std_error(&work.errors);
    work.errors.error_exit = on_error;
    work.errors.emit_message = on_message;
    work.errors.output_message = print_nothing;
    work.progress.progress_monitor = watch_scans;
    const carso_status status = decode(&work, decoding);
    jpeg_destroy_decompress(&work.jpeg);
    return status;
}
