/* SPDX-License-Identifier: BSD-2-Clause */
#include "inline_png.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Length and type before a chunk's data, checksum behind. */
#define CHUNK_FRAME 12

static uint8_t *put_number(uint8_t *to, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8) {
        *to++ = (uint8_t)(value >> shift);
    }
    return to;
}

/* The data lies there already, 8 bytes behind chunk. Returns the end. */
static uint8_t *close_chunk(uint8_t *chunk, const char *type, size_t size)
{
    put_number(chunk, (uint32_t)size);
    memcpy(chunk + 4, type, 4);
    return put_number(chunk + 8 + size, (uint32_t)crc32(0, chunk + 4, (uInt)(size + 4)));
}

static void write_base64(FILE *stream, const uint8_t *data, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t group =
            (uint32_t)data[i] << 16 | (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) | (left > 2 ? data[i + 2] : 0);
        fputc(digits[group >> 18], stream);
        fputc(digits[group >> 12 & 63], stream);
        fputc(left > 1 ? digits[group >> 6 & 63] : '=', stream);
        fputc(left > 2 ? digits[group & 63] : '=', stream);
    }
}

bool inline_png_write(FILE *stream, const uint8_t *bytes, int32_t width, int32_t height, int32_t channels)
{
    static const uint8_t signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    size_t row = (size_t)width * (size_t)channels, raw_size = (row + 1) * (size_t)height;
    uLongf packed = compressBound((uLong)raw_size);
    uint8_t *raw = malloc(raw_size), *file = malloc(sizeof signature + 3 * CHUNK_FRAME + 13 + packed);
    bool good = raw && file;
    if (good) {
        for (size_t y = 0; y < (size_t)height; y++) {
            raw[y * (row + 1)] = 0; /* no filter */
            memcpy(raw + y * (row + 1) + 1, bytes + y * row, row);
        }
        memcpy(file, signature, sizeof signature);
        uint8_t *chunk = file + sizeof signature, *data = put_number(chunk + 8, (uint32_t)width);
        data = put_number(data, (uint32_t)height);
        const uint8_t kind[] = {8, channels == 1 ? 0 : 2, 0, 0, 0};
        memcpy(data, kind, sizeof kind);
        chunk = close_chunk(chunk, "IHDR", 13);
        good = compress2(chunk + 8, &packed, raw, (uLong)raw_size, Z_BEST_COMPRESSION) == Z_OK;
        if (good) {
            chunk = close_chunk(chunk, "IDAT", packed);
            chunk = close_chunk(chunk, "IEND", 0);
            fputs("data:image/png;base64,", stream);
            write_base64(stream, file, (size_t)(chunk - file));
        }
    }
    free(raw);
    free(file);
    return good;
}
