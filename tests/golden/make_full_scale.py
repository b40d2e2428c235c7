#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Makes the golden files of tests/golden/full_scale, of the paper's networks, from a PyTorch statement of CARSO.

    python3 tests/golden/make_full_scale.py REFERENCE.py [OUTPUT]

REFERENCE.py is a module with the classes WideResNet and Purifier, the functions tap_names, run_with_taps and aggregate.
OUTPUT, by default full_scale/ beside this script, gets cifar10.safetensors, cifar100.safetensors and
tinyimagenet.safetensors: WideResNet-28-10 and its purifier as in the scenarios (a), (b) and (c), one image, two draws.

143 to 361 million weights are not stored: weights() makes them here, full_scale_weights.c in the test, to the same
bits. PyTorch computes in double precision. Of tensors with more than MOST elements only every stride-th of the
flattened tensor is stored, the strides being JSON in the metadata. It takes up to 5 GB of memory and a minute.
"""
import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from make import write

MOST = 16384
KEPT = 2048
DRAWS = 2
CHUNK = 1 << 24
# LeakyReLU's inputs in the decoder, in standard deviations of their layer, are at least so far from 0 that float32's rounding decides
# no side: one of a few ten thousand on the other side changes the gradient by a percent.
MARGIN = 5e-6
SCENARIOS = {
    # image, classes, f_crepr, f_joint, mean, deviation
    "cifar10": (32, 10, 512, 128, (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar100": (32, 100, 512, 128, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tinyimagenet": (64, 200, 768, 192, (0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
}


def name_hash(name):
    """FNV-1a."""
    value = 14695981039346656037
    for byte in name.encode():
        value = (value ^ byte) * 1099511628211 % 2**64
    return value


def noise(name, first, count):
    """Elements first, first + 1, ... of a stream of numbers in [-1, 1), multiples of 2^-23: splitmix64 from the name's hash on."""
    state = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    state *= np.uint64(0x9E3779B97F4A7C15)
    state += np.uint64(name_hash(name))
    state = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ state >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0


def weights(name, shape):
    """Centre and spread keep activations and gradients of ordinary size through all layers. All but the product is exact in double."""
    count = math.prod(shape)
    if len(shape) > 1:
        centre, spread = 0.0, math.sqrt(3.0 / (count // shape[0]))
    elif name.endswith((".running_var", ".weight")):
        centre, spread = 1.0, 0.5
    else:
        centre, spread = 0.0, 0.25
    values = np.empty(count, np.float32)
    for first in range(0, count, CHUNK):
        last = min(first + CHUNK, count)
        values[first:last] = centre + spread * noise(name, first, last - first)
    return values.reshape(shape)


def fill(module):
    """Gives the module its weights, doubles; returns the sum, modulo 2^64, of their float32 bit patterns."""
    total = 0
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            values = weights(name, tuple(tensor.shape))
            total += int(values.view(np.uint32).sum(dtype=np.uint64))
            tensor.copy_(torch.from_numpy(values))
    return total % 2**64


def round_settings(module):
    """Slopes and epsilons are in single precision, as models have them."""
    for part in module.modules():
        for setting in ("negative_slope", "eps"):
            if hasattr(part, setting):
                setattr(part, setting, float(np.float32(getattr(part, setting))))


def margin_of(decoder, latent, condition):
    """How near to 0 a LeakyReLU's input comes."""
    distances = []
    handles = [part.register_forward_pre_hook(lambda _, inputs: distances.append(float(inputs[0].abs().min() / inputs[0].std())))
               for part in decoder.modules() if isinstance(part, torch.nn.LeakyReLU)]
    for draw in latent:
        decoder([draw, condition])
    for handle in handles:
        handle.remove()
    return min(distances)


def latents(purifier, condition):
    """The first of some that keep the margin."""
    shape = (DRAWS, 1, purifier.f_joint)
    for number in range(1000):
        latent = torch.from_numpy((2 * noise(f"latent.{number}", 0, math.prod(shape))).astype(np.float32).reshape(shape))
        if margin_of(purifier.decoder, latent.double(), condition) > MARGIN:
            return latent
    sys.exit("no latents keep the margin")


def stride_of(count):
    """About KEPT elements; coprime to 2, 3 and 5, so that all positions and most channels are met."""
    stride = count // KEPT
    while math.gcd(stride, 30) != 1:
        stride += 1
    return stride


def compute(reference, scenario):
    size, classes, f_crepr, f_joint, mean, deviation = SCENARIOS[scenario]
    torch.set_default_dtype(torch.float64)
    classifier = reference.WideResNet(28, 10, classes, mean=mean, std=deviation)
    # Single precision, as models have them.
    classifier.mean, classifier.std = classifier.mean.float().double(), classifier.std.float().double()
    round_settings(classifier)
    checksum = fill(classifier.eval())
    names = reference.tap_names(classifier)
    image = torch.from_numpy((noise("input", 0, 3 * size * size) * 0.5 + 0.5).astype(np.float32).reshape(1, 3, size, size))
    x = image.double().requires_grad_()
    logits, taps = reference.run_with_taps(classifier, x, names)
    purifier = reference.Purifier((3, size, size), [tap.shape[1:] for tap in taps], f_crepr, f_joint, deep=size == 64)
    checksum = (checksum + fill(purifier.eval())) % 2**64
    round_settings(purifier)
    for parameter in (*classifier.parameters(), *purifier.parameters()):
        parameter.requires_grad_(False)
    # The label that the classifier likes least: its gradient does not vanish.
    label = logits.argmin(1)
    loss = functional.cross_entropy(logits, label)
    results = {"classifier_logits": logits, "classifier_input_gradient": torch.autograd.grad(loss, x, retain_graph=True)[0]}
    results.update({"tap." + name: tap for name, tap in zip(names, taps)})
    condition = purifier.condition(taps)
    results["condition"] = condition
    with torch.no_grad():
        latent = latents(purifier, condition)
    reconstructions = torch.stack([purifier.decode(draw.double(), condition) for draw in latent])
    sample_logits = torch.stack([classifier(reconstruction) for reconstruction in reconstructions])
    results.update(reconstructions=reconstructions, sample_logits=sample_logits)
    results["probabilities"] = reference.aggregate(sample_logits)
    for how in ("logit", "probability"):
        results["probabilities_" + how] = reference.aggregate(sample_logits, how)
    loss = functional.nll_loss(torch.log(results["probabilities_probability"]), label)
    results["robust_input_gradient_probability"] = torch.autograd.grad(loss, x)[0]
    results = {name: tensor.detach().numpy() for name, tensor in results.items()}
    results.update(input=image.numpy(), latent=latent.numpy(), labels=label.numpy())
    return results, checksum


def store(path, results, checksum, scenario):
    strides = {}
    for name, tensor in results.items():
        if tensor.size > MOST and name != "input":
            strides[name] = stride_of(tensor.size)
            results[name] = tensor.reshape(-1)[:: strides[name]]
    write(path, results, {"strides": json.dumps(strides), "weights": str(checksum), "made by": "make_full_scale.py, " + scenario})


def main():
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    specification = importlib.util.spec_from_file_location("reference", sys.argv[1])
    reference = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(reference)
    output = Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).resolve().parent / "full_scale"
    output.mkdir(parents=True, exist_ok=True)
    for scenario in SCENARIOS:
        results, checksum = compute(reference, scenario)
        for name, tensor in results.items():
            print(f"{scenario} {name} {list(tensor.shape)}: mean {tensor.mean():.3g}, deviation {tensor.std():.3g}, "
                  f"largest {abs(tensor).max():.3g}", flush=True)
        store(output / f"{scenario}.safetensors", results, checksum, scenario)


if __name__ == "__main__":
    main()
