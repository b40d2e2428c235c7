# SPDX-License-Identifier: BSD-2-Clause
"""What make.py and make_full_scale.py share: CARSO in PyTorch with weights of named_weights.py, its results, and their file.

The reference is a module with the classes WideResNet and Purifier, the functions tap_names, run_with_taps, aggregate and
vae_loss. It computes in double precision.
"""
import importlib.util
import json
import math
import struct

import numpy as np
import torch
from torch.nn import functional

import named_weights

TYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64}
CHUNK = 1 << 24
# Of tensors with more elements some are kept.
MOST = 16384
INPUTS = ("input", "latent", "labels", "train_epsilon")


def load(path):
    specification = importlib.util.spec_from_file_location("reference", path)
    reference = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(reference)
    torch.set_default_dtype(torch.float64)
    return reference


def noise(name, shape):
    """In [-1, 1)."""
    return named_weights.noise(name, np.arange(math.prod(shape), dtype=np.uint64)).reshape(shape)


def weights(name, shape):
    centre, spread = named_weights.distribution(name, shape)
    values = np.empty(math.prod(shape), np.float32)
    for first in range(0, values.size, CHUNK):
        elements = np.arange(first, min(first + CHUNK, values.size), dtype=np.uint64)
        values[first : first + CHUNK] = centre + spread * named_weights.noise(name, elements)
    return values.reshape(shape)


def parameters_of(module):
    """The state dictionary without BatchNorm's counters."""
    return {name: tensor for name, tensor in module.state_dict().items() if not name.endswith("num_batches_tracked")}


def fill(module):
    """Gives the module its weights, for evaluation; returns the sum of their float32 bit patterns.

    Slopes and epsilons, too, are in single precision, as models have them."""
    total = 0
    for name, tensor in parameters_of(module).items():
        values = weights(name, tuple(tensor.shape))
        total += int(values.view(np.uint32).sum(dtype=np.uint64))
        tensor.copy_(torch.from_numpy(values))
    for part in module.modules():
        for setting in ("negative_slope", "eps"):
            if hasattr(part, setting):
                setattr(part, setting, float(np.float32(getattr(part, setting))))
    module.eval().requires_grad_(False)
    return total


def build(reference, depth, width, size, classes, f_crepr, f_joint, mean, deviation):
    """(classifier, purifier, checksum: the sum of all weights' bit patterns modulo 2^64)"""
    classifier = reference.WideResNet(depth, width, classes, mean=mean, std=deviation)
    classifier.mean, classifier.std = classifier.mean.float().double(), classifier.std.float().double()
    checksum = fill(classifier)
    with torch.no_grad():
        _, taps = reference.run_with_taps(classifier, torch.zeros(1, 3, size, size), reference.tap_names(classifier))
    purifier = reference.Purifier((3, size, size), [tap.shape[1:] for tap in taps], f_crepr, f_joint, deep=size == 64)
    checksum += fill(purifier)
    return classifier, purifier, checksum % 2**64


def image_of(name, count, size):
    return (noise(name, (count, 3, size, size)) * 0.5 + 0.5).astype(np.float32)


def nearest(module, run):
    """How near to 0 a LeakyReLU's input comes while run() runs, in standard deviations of its layer."""
    distances = []
    handles = [part.register_forward_pre_hook(lambda _, inputs: distances.append(float(inputs[0].abs().min() / inputs[0].std())))
               for part in module.modules() if isinstance(part, torch.nn.LeakyReLU)]
    run()
    for handle in handles:
        handle.remove()
    return min(distances)


def evaluate(reference, classifier, purifier, image, choose_latent):
    """Of both objectives. choose_latent: makes latents [draws][images][latent size], single precision, of the condition."""
    names = reference.tap_names(classifier)
    x = torch.from_numpy(image).double().requires_grad_()
    logits, taps = reference.run_with_taps(classifier, x, names)
    # The labels that the classifier likes least: their gradients do not vanish.
    labels = logits.argmin(1)
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    results = {"classifier_logits": logits, "classifier_input_gradient": torch.autograd.grad(loss, x, retain_graph=True)[0]}
    results.update({"tap." + name: tap for name, tap in zip(names, taps)})
    condition = purifier.condition(taps)
    results["condition"] = condition
    latent = choose_latent(condition.detach())
    reconstructions = torch.stack([purifier.decode(draw, condition) for draw in torch.from_numpy(latent).double()])
    sample_logits = torch.stack([classifier(reconstruction) for reconstruction in reconstructions])
    results.update(reconstructions=reconstructions, sample_logits=sample_logits)
    results["probabilities"] = reference.aggregate(sample_logits)
    for how in ("logit", "probability"):
        results["probabilities_" + how] = reference.aggregate(sample_logits, how)
    loss = functional.nll_loss(torch.log(results["probabilities_probability"]), labels, reduction="sum")
    results["robust_input_gradient_probability"] = torch.autograd.grad(loss, x)[0]
    results = {name: tensor.detach().numpy() for name, tensor in results.items()}
    results.update(input=image, latent=latent, labels=labels.numpy())
    return results


def stride_of(count, kept):
    """About kept elements; coprime to 2, 3 and 5, so that all positions and most channels are met."""
    stride = count // kept
    while math.gcd(stride, 30) != 1:
        stride += 1
    return stride


def store(path, results, kept, metadata):
    """A safetensors file. Of results with more than MOST elements only every stride-th of the flattened tensor is
    stored, the strides being JSON in the metadata."""
    names = {np.dtype(kind): name for name, kind in TYPES.items()}
    strides, tensors, blobs, offset = {}, {}, [], 0
    for name, tensor in sorted(results.items(), key=lambda item: -item[1].itemsize):
        if tensor.size > MOST and name not in INPUTS:
            strides[name] = stride_of(tensor.size, kept)
            tensor = tensor.reshape(-1)[:: strides[name]]
        tensors[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        blobs.append(np.ascontiguousarray(tensor).tobytes())
        offset += tensor.nbytes
    header = {"__metadata__": {"strides": json.dumps(strides), **metadata}, **tensors}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def report(case, results):
    for name, tensor in results.items():
        print(f"{case} {name} {list(tensor.shape)}: mean {tensor.mean():.3g}, deviation {tensor.std():.3g}, "
              f"largest {abs(tensor).max():.3g}", flush=True)
