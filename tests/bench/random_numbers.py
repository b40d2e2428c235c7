# SPDX-License-Identifier: BSD-2-Clause
"""The library's random numbers (lib/base/random.h) in numpy, so that another program can be given the same latents."""
import numpy

LATENT, TRAINING_LATENT = 1, 6


def philox(counter, key):
    """Philox4x32-10 of arrays of words: counter (4, n), key (2, n), both as uint64 below 2^32."""
    mask = numpy.uint64(0xFFFFFFFF)
    shift = numpy.uint64(32)
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = numpy.uint64(0xD2511F53) * c0, numpy.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (second >> shift) ^ c1 ^ k0, second & mask, (first >> shift) ^ c3 ^ k1, first & mask
        k0, k1 = (k0 + numpy.uint64(0x9E3779B9)) & mask, (k1 + numpy.uint64(0xBB67AE85)) & mask
    return numpy.stack([c0, c1, c2, c3])


def split(number):
    return number & 0xFFFFFFFF, number >> 32


def normal(seed, purpose, image, draw, count):
    """The first numbers of a stream, as float32."""
    words = numpy.array([[*split(image), draw, purpose]], numpy.uint64).T
    stream = philox(words, numpy.array([split(seed)], numpy.uint64).T)
    blocks = (count + 3) // 4
    counter = numpy.empty((4, blocks), numpy.uint64)
    counter[0], counter[1] = numpy.arange(blocks, dtype=numpy.uint64), 0
    counter[2:] = stream[2:]
    words = philox(counter, numpy.repeat(stream[:2], blocks, axis=1)).T.reshape(-1, 2).astype(numpy.float64)
    radius = numpy.sqrt(-2 * numpy.log((words[:, 0] + 1) * 2.0**-32))
    angle = 2 * numpy.pi * (words[:, 1] * 2.0**-32)
    pairs = numpy.stack([radius * numpy.cos(angle), radius * numpy.sin(angle)], 1)
    return pairs.reshape(-1)[:count].astype(numpy.float32)


def latents(seed, draws, images, size):
    """[draws][images][size], as predict_robust and gradient draw them."""
    return numpy.stack([numpy.stack([normal(seed, LATENT, image, draw, size) for image in range(images)])
                        for draw in range(draws)])


def training_noise(seed, step, images, size):
    """[images][size], of one step of the purifier's training."""
    return numpy.stack([normal(seed, TRAINING_LATENT, step << 32 | image, 0, size) for image in range(images)])
