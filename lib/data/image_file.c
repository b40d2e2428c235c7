/* SPDX-License-Identifier: BSD-2-Clause */
#include "data/image_file.h"

#include "base/regular_file.h"
#include "config.h"

carso_status cso_image_decoding_accept(cso_image_decoding *decoding, uint64_t width, uint64_t height, int32_t channels)
{
    const cso_image_facts *wanted = &decoding->facts;
    if (width == 0 || height == 0 || width > (uint64_t)CSO_MOST_PIXELS || height > (uint64_t)CSO_MOST_PIXELS / width) {
        return cso_fail(decoding->context, CARSO_ERROR_BAD_FORMAT, "%s: %llux%llu pixels, not in 1 to %lld in all",
                        decoding->path, (unsigned long long)width, (unsigned long long)height,
                        (long long)CSO_MOST_PIXELS);
    }
    if (decoding->given) {
        if (width != (uint64_t)wanted->width || height != (uint64_t)wanted->height) {
            return cso_fail(decoding->context, CARSO_ERROR_BAD_FORMAT, "%s: %llux%llu, expected %dx%d", decoding->path,
                            (unsigned long long)width, (unsigned long long)height, (int)wanted->width,
                            (int)wanted->height);
        }
        if (channels > wanted->channels) {
            return cso_fail(decoding->context, CARSO_ERROR_BAD_FORMAT, "%s: a colour image, expected a gray one",
                            decoding->path);
        }
        return CARSO_OK;
    }
    decoding->facts = (cso_image_facts){(int32_t)width, (int32_t)height, channels};
    if (!decoding->measure_only) {
        decoding->pixels = cso_allocate_raw(decoding->context, (size_t)width * (size_t)height, (size_t)channels);
        if (decoding->pixels == NULL) {
            return cso_fail_memory(decoding->context, "an image");
        }
    }
    return CARSO_OK;
}

#if CSO_HAVE_IMAGES

#include <errno.h>
#include <string.h>
#include <unistd.h>

static carso_status open_image(cso_image_decoding *decoding)
{
    int descriptor;
    const carso_status status = cso_regular_file_open(decoding->context, decoding->path, &descriptor, NULL);
    if (status != CARSO_OK) {
        return status;
    }
    decoding->file = fdopen(descriptor, "rb");
    if (decoding->file == NULL) {
        close(descriptor);
        return cso_fail_memory(decoding->context, "reading a file");
    }
    return CARSO_OK;
}

static carso_status decode(cso_image_decoding *decoding)
{
    static const unsigned char png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    static const unsigned char jpeg[3] = {0xff, 0xd8, 0xff};
    unsigned char start[8] = {0};
    carso_status status = open_image(decoding);
    if (status != CARSO_OK) {
        return status;
    }
    const size_t got = fread(start, 1, sizeof start, decoding->file);
    if (ferror(decoding->file) || fseek(decoding->file, 0, SEEK_SET) != 0) {
        status = cso_fail_system(decoding->context, errno, "%s: cannot read", decoding->path);
    } else if (got == sizeof start && memcmp(start, png, sizeof png) == 0) {
        status = cso_png_decode(decoding);
    } else if (got >= sizeof jpeg && memcmp(start, jpeg, sizeof jpeg) == 0) {
        status = cso_jpeg_decode(decoding);
    } else {
        status =
            cso_fail(decoding->context, CARSO_ERROR_BAD_FORMAT, "%s: neither a PNG nor a JPEG file", decoding->path);
    }
    fclose(decoding->file);
    return status;
}

carso_status cso_image_file_measure(const carso_context *context, const char *path, cso_image_facts *out)
{
    cso_image_decoding decoding = {.context = context, .path = path, .measure_only = true};
    const carso_status status = decode(&decoding);
    *out = decoding.facts;
    return status;
}

carso_status cso_image_file_read(const carso_context *context, const char *path, cso_image_facts *facts,
                                 uint8_t **pixels)
{
    const bool given = *pixels != NULL;
    cso_image_decoding decoding = {.context = context, .path = path, .given = given};
    if (given) {
        decoding.facts = *facts;
        decoding.pixels = *pixels;
    }
    const carso_status status = decode(&decoding);
    if (given) {
        return status;
    }
    if (status != CARSO_OK) {
        cso_release(context, decoding.pixels);
        return status;
    }
    *facts = decoding.facts;
    *pixels = decoding.pixels;
    return CARSO_OK;
}

#else

static carso_status refuse(const carso_context *context, const char *path)
{
    return cso_fail(context, CARSO_ERROR_UNSUPPORTED,
                    "%s: this build of libcarso has no PNG and JPEG support (option images)", path);
}

carso_status cso_image_file_measure(const carso_context *context, const char *path, cso_image_facts *out)
{
    *out = (cso_image_facts){0};
    return refuse(context, path);
}

carso_status cso_image_file_read(const carso_context *context, const char *path, cso_image_facts *facts,
                                 uint8_t **pixels)
{
    (void)facts;
    (void)pixels;
    return refuse(context, path);
}

carso_status cso_image_file_write_png(const carso_context *context, const char *path, const cso_image_facts *facts,
                                      const uint8_t *pixels)
{
    (void)facts;
    (void)pixels;
    return refuse(context, path);
}

#endif
