# SPDX-License-Identifier: BSD-2-Clause
"""Writes safetensors files, libcarso's own among them (docs/model-format.md)."""

import json
import struct
import zlib
from typing import Dict, Mapping, Optional

import numpy

_TYPES = {"<f4": "F32", "<f8": "F64", "<i8": "I64", "<i4": "I32", "<i2": "I16", "|i1": "I8", "|u1": "U8", "|b1": "BOOL"}
#: libcarso aligns its data section to so many bytes.
_ALIGNMENT = 64


def encode(
    tensors: Mapping[str, numpy.ndarray], metadata: Optional[Dict[str, str]] = None, checksum: bool = False
) -> bytearray:
    """The bytes of a file. checksum adds "crc32" of the data, as a model file has it, to the metadata."""
    header: Dict[str, Mapping[str, object]] = {}
    parts = []
    position = 0
    check = 0
    for name, tensor in tensors.items():
        little = numpy.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<"))
        kind = _TYPES.get(little.dtype.str)
        if kind is None:
            raise TypeError(f"tensor {name!r} of {tensor.dtype}: a safetensors file has no such type here")
        end = position + little.nbytes
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [position, end]}
        parts.append(little)
        if checksum:
            check = zlib.crc32(_bytes_of(little), check)
        position = end
    if metadata is not None or checksum:
        texts = dict(metadata or {})
        if checksum:
            texts["crc32"] = f"{check:08x}"
        header["__metadata__"] = texts
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    whole = bytearray(8 + len(text) + position)
    struct.pack_into("<Q", whole, 0, len(text))
    whole[8 : 8 + len(text)] = text
    filled = 8 + len(text)
    for part in parts:
        whole[filled : filled + part.nbytes] = _bytes_of(part)
        filled += part.nbytes
    return whole


def _bytes_of(array: numpy.ndarray) -> memoryview:
    return array.reshape(-1).view(numpy.uint8).data
