#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Makes the golden files of tests/golden from a PyTorch statement of CARSO.

    python3 tests/golden/make.py REFERENCE.py [OUTPUT]

REFERENCE.py has a subcommand `golden` that writes classifier.safetensors, purifier.safetensors
(random weights) and golden.safetensors (inputs, intermediate results, gradients) into a folder.
OUTPUT, by default the folder of this script, gets wrn_10_1_32/ and wrn_10_1_64/, each with
the same three files made smaller: counters of BatchNorm left out, and of results with more than
MOST elements only every stride-th element of the flattened tensor, the strides being JSON in the
metadata. The files are committed: it takes PyTorch to make them, but not to test.
"""
import json
import math
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64}
MOST = 16384
KEPT = 8192
# For these, PyTorch's float32 gradients are within 2e-4 of its float64 ones. With others a LeakyReLU's input may lie so near 0
# that rounding decides its side, and a gradient of the training step on two images is off by up to 8 %.
SEEDS = {32: 0, 64: 3}
INPUTS = ("input", "latent", "labels", "train_epsilon")


def read(path):
    data = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def write(path, tensors, metadata):
    names = {np.dtype(kind): name for name, kind in TYPES.items()}
    header, blobs, offset = {"__metadata__": metadata}, [], 0
    for name, tensor in sorted(tensors.items(), key=lambda item: -item[1].itemsize):
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        blobs.append(np.ascontiguousarray(tensor).tobytes())
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def stride_of(tensor):
    """About KEPT elements; coprime to 2 and 3, so that every kernel position and most channels are met."""
    stride = tensor.size // KEPT
    while math.gcd(stride, 6) != 1:
        stride += 1
    return stride


def reduce(source, target, command):
    target.mkdir(parents=True, exist_ok=True)
    for name in ("classifier", "purifier"):
        tensors, _ = read(source / f"{name}.safetensors")
        tensors = {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
        write(target / f"{name}.safetensors", tensors, {"made by": command})
    tensors, metadata = read(source / "golden.safetensors")
    strides = {}
    for name, tensor in tensors.items():
        if tensor.size > MOST and name not in INPUTS:
            strides[name] = stride_of(tensor)
            tensors[name] = tensor.reshape(-1)[:: strides[name]]
    metadata["strides"] = json.dumps(strides)
    metadata["made by"] = command
    write(target / "golden.safetensors", tensors, metadata)


def main():
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    output = Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).resolve().parent
    for size, seed in SEEDS.items():
        options = f"--depth 10 --width 1 --size {size} --seed {seed} --classes 10 --batch 2 --samples 2 --f-crepr 24 --f-joint 8"
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, sys.argv[1], "golden", folder, *options.split()], check=True)
            reduce(Path(folder), output / f"wrn_10_1_{size}", "golden " + options)


if __name__ == "__main__":
    main()
