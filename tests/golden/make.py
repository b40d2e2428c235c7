#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Makes the golden files of WideResNet-10-1 and its purifier at 32x32 and 64x64 from a PyTorch statement of CARSO.

    python3 tests/golden/make.py REFERENCE.py [OUTPUT]

REFERENCE.py is as oracle.py wants it. OUTPUT, by default the folder of this script, gets wrn_10_1_32.safetensors and
wrn_10_1_64.safetensors: results and input gradients of the classifier and of the defence, and one training step of the
purifier with all parameters' gradients. Metadata "classifier" and "purifier" say, in JSON, the names of PyTorch's state
dictionaries and their shapes. The files are committed: it takes PyTorch to make them, but not to test.
"""
import copy
import json
import sys
from pathlib import Path

import numpy as np
import torch

import oracle

SIZES = (32, 64)
NETWORKS = dict(depth=10, width=1, classes=10, f_crepr=24, f_joint=8, mean=(0.4914, 0.4822, 0.4465),
                deviation=(0.2471, 0.2435, 0.2616))
BATCH = 3
DRAWS = 2
BETA = 0.7
KEPT = 8192
# Where a LeakyReLU's input is nearer to 0 float32's rounding decides its side, and a gradient is off by up to 8 %.
MARGIN = 1.5e-6


def train(reference, classifier, purifier, image, epsilon):
    """One step: the purifier's BatchNorms take the statistics of the batch, the classifier stays as it is."""
    purifier = copy.deepcopy(purifier).train().requires_grad_()
    x = torch.from_numpy(image).double()
    _, taps = reference.run_with_taps(classifier, x, reference.tap_names(classifier))
    condition = purifier.condition(taps)
    mean, logvar = purifier.encode((x - classifier.mean) / classifier.std, condition)
    latent = mean + torch.from_numpy(epsilon).double() * torch.exp(0.5 * logvar)
    reconstruction = purifier.decode(latent, condition)
    losses = reference.vae_loss(reconstruction, x, mean, logvar, BETA)
    losses[0].backward()
    results = {"train_mean": mean, "train_logvar": logvar, "train_reconstruction": reconstruction, "train_loss": torch.stack(losses)}
    results.update({"grad." + name: parameter.grad for name, parameter in purifier.named_parameters()})
    results = {name: tensor.detach().numpy() for name, tensor in results.items()}
    return {**results, "train_epsilon": epsilon}


def compute(reference, classifier, purifier, size):
    """Of the first inputs that keep the margin."""
    results = {}
    for number in range(1000):
        image = oracle.image_of(f"input.{number}", BATCH, size)
        latent = (2 * oracle.noise(f"latent.{number}", (DRAWS, BATCH, purifier.f_joint))).astype(np.float32)
        epsilon = (2 * oracle.noise(f"epsilon.{number}", (BATCH, purifier.f_joint))).astype(np.float32)

        def run():
            results.update(oracle.evaluate(reference, classifier, purifier, image, lambda _: latent))
            results.update(train(reference, classifier, purifier, image, epsilon))

        if oracle.nearest(purifier, run) > MARGIN:
            return {name: tensor.astype(np.float32) if tensor.dtype == np.float64 else tensor for name, tensor in results.items()}
    sys.exit("no inputs keep the margin")


def shapes_of(module):
    return json.dumps({name: list(tensor.shape) for name, tensor in oracle.parameters_of(module).items()})


def main():
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    reference = oracle.load(sys.argv[1])
    output = Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).resolve().parent
    for size in SIZES:
        classifier, purifier, checksum = oracle.build(reference, size=size, **NETWORKS)
        results = compute(reference, classifier, purifier, size)
        oracle.report(f"wrn_10_1_{size}", results)
        oracle.store(output / f"wrn_10_1_{size}.safetensors", results, KEPT,
                     {"classifier": shapes_of(classifier), "purifier": shapes_of(purifier), "weights": str(checksum),
                      "made by": f"make.py, {size}"})


if __name__ == "__main__":
    main()
