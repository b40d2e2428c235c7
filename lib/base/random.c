/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/random.h"

#include <math.h>

#define ROUNDS 10
#define CHUNK 256 /* words made at once; a multiple of 4 */

static const double two_pi = 6.283185307179586476925286766559;

void cso_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t product0 = (uint64_t)0xD2511F53u * c0;
        const uint64_t product1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)product1;
        c3 = (uint32_t)product0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/*
 * The stream's own key and the upper half of its counter: one block over (image, draw, purpose) under the seed. A block
 * is a bijection of its counter, so no two streams of a seed are the same.
 */
static void derive_stream(const cso_random *stream, uint32_t out[4])
{
    const uint32_t key[2] = {(uint32_t)stream->seed, (uint32_t)(stream->seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)stream->image, (uint32_t)(stream->image >> 32), stream->draw,
                                 (uint32_t)stream->purpose};
    cso_philox(counter, key, out);
}

void cso_random_words(const cso_random *stream, uint64_t first, size_t count, uint32_t *out)
{
    uint32_t derived[4];
    uint32_t words[4];
    derive_stream(stream, derived);
    uint64_t block = first / 4;
    int position = (int)(first % 4);
    while (count > 0) {
        const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), derived[2], derived[3]};
        cso_philox(counter, derived, words);
        for (; position < 4 && count > 0; position++, count--) {
            *out++ = words[position];
        }
        position = 0;
        block++;
    }
}

void cso_random_uniform(const cso_random *stream, uint64_t first, size_t count, float *out)
{
    uint32_t words[CHUNK];
    while (count > 0) {
        const size_t now = count < CHUNK ? count : CHUNK;
        cso_random_words(stream, first, now, words);
        for (size_t i = 0; i < now; i++) {
            out[i] = (float)(words[i] >> 8) * 0x1p-24f;
        }
        first += now;
        out += now;
        count -= now;
    }
}

void cso_random_normal(const cso_random *stream, uint64_t first, size_t count, float *out)
{
    uint32_t words[CHUNK];
    while (count > 0) {
        const size_t now = count < CHUNK ? count : CHUNK;
        cso_random_words(stream, first, now + now % 2, words);
        for (size_t i = 0; i < now; i += 2) {
            /* In (0, 1], so that the logarithm is finite. */
            const double radius = sqrt(-2.0 * log(((double)words[i] + 1.0) * 0x1p-32));
            const double angle = two_pi * ((double)words[i + 1] * 0x1p-32);
            out[i] = (float)(radius * cos(angle));
            if (i + 1 < now) {
                out[i + 1] = (float)(radius * sin(angle));
            }
        }
        first += now;
        out += now;
        count -= now;
    }
}

/* The upper 64 bits of the product. */
static uint64_t multiply_high(uint64_t a, uint64_t b)
{
    const uint64_t a_low = a & 0xffffffffu, a_high = a >> 32;
    const uint64_t b_low = b & 0xffffffffu, b_high = b >> 32;
    const uint64_t middle = a_high * b_low + (a_low * b_low >> 32);
    const uint64_t other = a_low * b_high + (middle & 0xffffffffu);
    return a_high * b_high + (middle >> 32) + (other >> 32);
}

void cso_random_permutation(const cso_random *stream, uint64_t count, uint64_t *out)
{
    uint32_t words[CHUNK];
    for (uint64_t i = 0; i < count; i++) {
        const size_t position = (size_t)(2 * i % CHUNK);
        if (position == 0) {
            const uint64_t left = 2 * (count - i);
            cso_random_words(stream, 2 * i, left < CHUNK ? (size_t)left : CHUNK, words);
        }
        /* 64 bits for each choice keep the bias under count / 2^64 without a rejection, which would make the number of
         * words drawn depend on their values. */
        const uint64_t bits = (uint64_t)words[position] << 32 | words[position + 1];
        const uint64_t other = multiply_high(bits, i + 1);
        out[i] = i;
        out[i] = out[other];
        out[other] = i;
    }
}
