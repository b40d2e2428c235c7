/* SPDX-License-Identifier: BSD-2-Clause */
#include "mutation.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <zlib.h>

#define MOST_PIECE 64

uint64_t choose(chooser *source, uint64_t bound)
{
    /* SplitMix64 */
    uint64_t z = source->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % bound;
}

static void replace(bytes *content, size_t place, size_t length, const void *with, size_t new_length)
{
    if (content->size - length + new_length > content->capacity) {
        return;
    }
    memmove(content->data + place + new_length, content->data + place + length, content->size - place - length);
    memcpy(content->data + place, with, new_length);
    content->size += new_length - length;
}

/* The number written out at or after place becomes an extreme one. */
static void change_number(chooser *source, bytes *content, size_t place)
{
    static const char *const numbers[] = {"0", "1", "-1", "2", "3", "16", "255", "65536", "1073741824", "2147483647", "2147483648",
                                          "4294967296", "9223372036854775807", "18446744073709551616", "1e308", "1e999", "-0.0",
                                          "0.5", "true", "null", "[]", "\"\""};
    const char *number = numbers[choose(source, sizeof numbers / sizeof numbers[0])];
    size_t end;
    while (place < content->size && !isdigit(content->data[place])) {
        place++;
    }
    for (end = place; end < content->size && end - place < 24 && isdigit(content->data[end]);) {
        end++;
    }
    if (end > place) {
        replace(content, place, end - place, number, strlen(number));
    }
}

/* The quoted word at or after place: start and length without the quotes; length 0 where there is none. */
static size_t find_word(const bytes *content, size_t place, size_t *start)
{
    const uint8_t *open = memchr(content->data + place, '"', content->size - place);
    const uint8_t *close = open ? memchr(open + 1, '"', content->size - (size_t)(open + 1 - content->data)) : NULL;
    if (!close || close - open > MOST_PIECE) {
        return 0;
    }
    *start = (size_t)(open + 1 - content->data);
    return (size_t)(close - open - 1);
}

static void exchange_words(chooser *source, bytes *content, size_t place, size_t hot)
{
    char word[MOST_PIECE];
    size_t from = 0, to = 0;
    size_t length = find_word(content, choose(source, hot), &from);
    size_t old_length = find_word(content, place, &to);
    if (length > 0 && old_length > 0) {
        memcpy(word, content->data + from, length);
        replace(content, to, old_length, word, length);
    }
}

/* sparing: only what is likely to leave JSON that can be read. */
static void change(chooser *source, bytes *content, size_t hot, bool sparing)
{
    static const uint8_t telling[] = {0, 1, 127, 128, 255, '"', '{', '}', '[', ']', ',', ':', '-', '9', 'e', '\\'};
    uint8_t piece[MOST_PIECE];
    size_t near = hot < content->size ? hot : content->size;
    size_t place = (size_t)choose(source, choose(source, 8) ? near : content->size);
    size_t length = 1 + (size_t)choose(source, MOST_PIECE - 1);
    length = length < content->size - place ? length : content->size - place;
    switch (sparing ? 8 + choose(source, 4) : choose(source, 12)) {
    case 0:
    case 1:
        content->data[place] ^= (uint8_t)(1u << choose(source, 8));
        break;
    case 2:
        content->data[place] = (uint8_t)choose(source, 256);
        break;
    case 3:
        content->data[place] = telling[choose(source, sizeof telling)];
        break;
    case 4:
        replace(content, place, length, "", 0);
        break;
    case 5:
        memcpy(piece, content->data + place, length);
        replace(content, (size_t)choose(source, near), 0, piece, length);
        break;
    case 6:
        memmove(content->data + choose(source, content->size - length + 1), content->data + place, length);
        break;
    case 7:
        content->size = choose(source, 4) ? content->size - (size_t)choose(source, length) : place;
        break;
    case 8:
    case 9:
        change_number(source, content, place);
        break;
    default:
        exchange_words(source, content, place, near);
        break;
    }
}

void mutate(chooser *source, bytes *content, size_t hot)
{
    int changes = 1 + (int)choose(source, 3);
    bool sparing = choose(source, 2) == 1;
    for (int i = 0; i < changes && content->size > 0; i++) {
        change(source, content, hot, sparing);
    }
}

void mend_png_checksums(bytes *content)
{
    for (size_t place = 8; place + 12 <= content->size;) {
        const uint8_t *chunk = content->data + place;
        uint32_t length = (uint32_t)chunk[0] << 24 | (uint32_t)chunk[1] << 16 | (uint32_t)chunk[2] << 8 | chunk[3];
        if (length > content->size - place - 12) {
            return;
        }
        uint32_t sum = (uint32_t)crc32(0, chunk + 4, length + 4);
        for (int i = 0; i < 4; i++) {
            content->data[place + 8 + length + (size_t)i] = (uint8_t)(sum >> (24 - 8 * i));
        }
        place += 12 + length;
    }
}
