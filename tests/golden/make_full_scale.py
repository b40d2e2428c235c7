#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Makes the golden files of tests/golden/full_scale, of the paper's networks, from a PyTorch statement of CARSO.

    python3 tests/golden/make_full_scale.py REFERENCE.py [OUTPUT [SCENARIO...]]

REFERENCE.py is as oracle.py wants it. OUTPUT, by default full_scale/ beside this script, gets cifar10.safetensors,
cifar100.safetensors and tinyimagenet.safetensors: WideResNet-28-10 and its purifier as in the scenarios (a), (b) and (c),
one image, two draws. It takes up to 5 GB of memory and a minute.
"""
import sys
from pathlib import Path

import numpy as np
import torch

import oracle

KEPT = 2048
DRAWS = 2
# LeakyReLU's inputs in the decoder are at least so far from 0 that float32's rounding decides no side: one of a few ten thousand on the
# other side changes the gradient by a percent.
MARGIN = 5e-6
SCENARIOS = {
    # image, classes, f_crepr, f_joint, mean, deviation
    "cifar10": (32, 10, 512, 128, (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar100": (32, 100, 512, 128, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tinyimagenet": (64, 200, 768, 192, (0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
}


def latents(purifier, condition):
    """The first of some that keep the margin."""
    for number in range(1000):
        latent = (2 * oracle.noise(f"latent.{number}", (DRAWS, 1, purifier.f_joint))).astype(np.float32)

        def decode():
            for draw in torch.from_numpy(latent).double():
                purifier.decode(draw, condition)

        if oracle.nearest(purifier.decoder, decode) > MARGIN:
            return latent
    sys.exit("no latents keep the margin")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    reference = oracle.load(sys.argv[1])
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).resolve().parent / "full_scale"
    output.mkdir(parents=True, exist_ok=True)
    for scenario in sys.argv[3:] or SCENARIOS:
        classifier, purifier, checksum = oracle.build(reference, 28, 10, *SCENARIOS[scenario])
        image = oracle.image_of("input", 1, SCENARIOS[scenario][0])
        results = oracle.evaluate(reference, classifier, purifier, image, lambda condition: latents(purifier, condition))
        oracle.report(scenario, results)
        oracle.store(output / f"{scenario}.safetensors", results, KEPT,
                     {"weights": str(checksum), "made by": "make_full_scale.py, " + scenario})


if __name__ == "__main__":
    main()
