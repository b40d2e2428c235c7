# SPDX-License-Identifier: BSD-2-Clause
"""Models with random weights and images for them, small enough to be used in every test."""

import numpy

import carso

SIDE = 28
CLASSES = 4


def make_context(backend="reference", **options):
    return carso.Context(backend, threads=1, **options)


def make_classifier(context, channels=1, seed=5):
    return carso.Model.create(
        context,
        architecture="small_cnn",
        channels=channels,
        image_height=SIDE,
        image_width=SIDE,
        classes=CLASSES,
        mean=[0.4] * channels,
        deviation=[0.3] * channels,
        seed=seed,
    )


def make_model(context, channels=1, seed=5):
    with make_classifier(context, channels, seed) as classifier:
        return classifier.add_purifier(condition_size=24, latent_size=8, seed_channels=16, seed=seed + 1)


def make_images(count, channels=1, seed=1):
    """(N, C, H, W) uint8."""
    return numpy.random.default_rng(seed).integers(0, 256, (count, channels, SIDE, SIDE), dtype=numpy.uint8)
