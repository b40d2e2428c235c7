# SPDX-License-Identifier: BSD-2-Clause
"""Numbers that are a function of a name, so that weights need not be stored; named_weights.c makes the same bits of them."""
import array
import math

MASK = 2**64 - 1


def name_hash(name):
    """FNV-1a."""
    value = 14695981039346656037
    for byte in name.encode():
        value = (value ^ byte) * 1099511628211 & MASK
    return value


def noise(name, element):
    """Of a stream of numbers in [-1, 1), multiples of 2^-23: splitmix64 from the name's hash on.

    element: an int, or an array of numpy.uint64."""
    state = name_hash(name) + (element + 1) * 0x9E3779B97F4A7C15 & MASK
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK
    state = (state ^ state >> 27) * 0x94D049BB133111EB & MASK
    state ^= state >> 31
    return (state >> 40) * 2.0**-23 - 1.0


def distribution(name, shape):
    """Centre and spread that keep activations and gradients of ordinary size through all layers."""
    if len(shape) > 1:
        return 0.0, math.sqrt(3.0 / math.prod(shape[1:]))
    return (1.0, 0.5) if name.endswith((".running_var", ".weight")) else (0.0, 0.25)


def weights(name, shape):
    """Single precision, in an array of the standard library. All but the product is exact in double."""
    centre, spread = distribution(name, shape)
    return array.array("f", [centre + spread * noise(name, element) for element in range(math.prod(shape))])
