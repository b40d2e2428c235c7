# SPDX-License-Identifier: BSD-2-Clause
"""safetensors files, read and written by hand: a tensor is (type, shape, bytes)."""
import json
import struct


def split(path):
    """(header, content, where the data begin)"""
    with open(path, "rb") as file:
        content = file.read()
    (length,) = struct.unpack_from("<Q", content)
    return json.loads(content[8:8 + length]), content, 8 + length


def read_metadata(path):
    return split(path)[0]["__metadata__"]


def read(path):
    header, content, data = split(path)
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = (entry["dtype"], entry["shape"], content[data + begin:data + end])
    return tensors


def write(path, tensors, metadata=None):
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (kind, shape, content) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def numbers(kind, shape, values):
    code = {"F32": "f", "F64": "d", "I64": "q"}[kind]
    return kind, shape, struct.pack(f"<{len(values)}{code}", *values)
