/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "base/random.h"
#include "data/dataset.h"

/* In 0 .. limit; the bias is below limit / 2^32. */
static int64_t choose(uint32_t word, int64_t limit) { return (int64_t)((uint64_t)word * (uint64_t)(limit + 1) >> 32); }

static void copy_row(const uint8_t *from, int64_t width, int64_t channels, int64_t shift, bool mirror, uint8_t *to)
{
    for (int64_t x = 0; x < width; x++) {
        const int64_t source = (mirror ? width - 1 - x : x) + shift;
        if (source >= 0 && source < width) {
            memcpy(to + x * channels, from + source * channels, (size_t)channels);
        } else {
            memset(to + x * channels, 0, (size_t)channels);
        }
    }
}

void cso_augment(const carso_dataset_info *info, const carso_read_options *options, uint64_t index,
                 const uint8_t *image, uint8_t *out)
{
    /* A draw has 32 bits, an epoch 64: the upper half moves along the stream. */
    const cso_random stream = {
        .seed = options->seed, .purpose = CSO_PURPOSE_AUGMENTATION, .image = index, .draw = (uint32_t)options->epoch};
    uint32_t words[4];
    cso_random_words(&stream, (options->epoch >> 32) * 4, 4, words);
    const int64_t down = choose(words[0], 2 * (int64_t)options->crop_padding) - options->crop_padding;
    const int64_t right = choose(words[1], 2 * (int64_t)options->crop_padding) - options->crop_padding;
    const bool mirror = options->mirror != 0 && words[2] >> 31 != 0;
    const size_t row = (size_t)info->width * (size_t)info->channels;
    for (int64_t y = 0; y < info->height; y++) {
        const int64_t source = y + down;
        if (source >= 0 && source < info->height) {
            copy_row(image + (size_t)source * row, info->width, info->channels, right, mirror, out + (size_t)y * row);
        } else {
            memset(out + (size_t)y * row, 0, row);
        }
    }
}
