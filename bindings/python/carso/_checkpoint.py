# SPDX-License-Identifier: BSD-2-Clause
"""Reads the tensors of a file that torch.save wrote, without PyTorch and without running anything that is in it.

The file is a ZIP archive: a pickle that describes, and one file of bytes for each storage. Of the pickle only
containers, numbers, text and tensors are made; objects of any other class become one that holds nothing.
"""

import math
import os
import pickle
import zipfile
from collections import OrderedDict
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import numpy

from .errors import BadFormatError

#: numpy's types of PyTorch's storages and types; bfloat16 are the upper halves of float32.
_BFLOAT16 = "bfloat16"
_TYPES: Dict[str, Any] = {
    "Double": "<f8", "Float": "<f4", "Half": "<f2", "BFloat16": _BFLOAT16, "Long": "<i8", "Int": "<i4", "Short": "<i2",
    "Char": "<i1", "Byte": "<u1", "Bool": "?",
}  # fmt: skip
_NAMED_TYPES = {
    "float64": "Double", "double": "Double", "float32": "Float", "float": "Float", "float16": "Half", "half": "Half",
    "bfloat16": "BFloat16", "int64": "Long", "long": "Long", "int32": "Int", "int": "Int", "int16": "Short",
    "short": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool",
}  # fmt: skip
_LARGEST_DESCRIPTION = 1 << 28
#: Elements of a tensor that repeats the elements of its storage.
_MOST_REPEATED = 1 << 26
#: Bytes of all tensors for each byte of the file: storages are shared, and narrow types become float32.
_MOST_TIMES = 8


class Ignored:
    """Stands for an object of a class that is not looked at."""

    def __new__(cls, *arguments: Any, **named: Any) -> "Ignored":
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, name: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass

    def add(self, value: Any) -> None:
        pass


class _Type:
    """A storage's class or a tensor's type."""

    def __init__(self, name: str) -> None:
        self.name = name


class Budget:
    """How many bytes the tensors of a file may still take: a small file can name one storage again and again."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._left = _MOST_TIMES * os.path.getsize(path) + 4 * _MOST_REPEATED

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise BadFormatError(f"{self._path}: its tensors repeat what is stored to far more than the file's size")


class _Storage:
    def __init__(self, data: bytes, kind: str, budget: Budget) -> None:
        self.data = data
        self.kind = kind
        self.budget = budget


def _tensor(
    storage: Any, offset: int, size: Sequence[int], stride: Sequence[int], *rest: Any, kind: Optional[str] = None
) -> numpy.ndarray:
    if not isinstance(storage, _Storage):
        raise BadFormatError("a tensor without a storage")
    numbers = [offset, *size, *stride]
    if len(size) != len(stride) or not all(isinstance(one, int) and one >= 0 for one in numbers):
        raise BadFormatError(f"a tensor of size {tuple(size)} with strides {tuple(stride)}")
    found = _TYPES[kind or storage.kind]
    whole = numpy.frombuffer(storage.data, "<u2" if found is _BFLOAT16 else found)
    kept = numpy.dtype("<f4") if found is _BFLOAT16 else whole.dtype
    if 0 in size:
        return numpy.empty(size, kept)
    last = offset + sum((one - 1) * step for one, step in zip(size, stride))
    if last >= whole.size or math.prod(size) > max(whole.size, _MOST_REPEATED):
        raise BadFormatError(f"a tensor of size {tuple(size)} leaves its storage of {whole.size} elements")
    storage.budget.spend(math.prod(size) * kept.itemsize)
    steps = [step * whole.itemsize for step in stride]
    view = numpy.lib.stride_tricks.as_strided(whole[offset:], size, steps, writeable=False)
    if found is not _BFLOAT16:
        return view.copy()
    upper = view.astype("<u4", order="C")
    return numpy.left_shift(upper, 16, out=upper).view(kept)


def _tensor_of_type(
    storage: Any, offset: int, size: Sequence[int], stride: Sequence[int], grad: Any, hooks: Any, kind: Any, *rest: Any
) -> numpy.ndarray:
    if not isinstance(kind, _Type):
        raise BadFormatError("a tensor of a type that is not known here")
    return _tensor(storage, offset, size, stride, kind=kind.name)


def _first(value: Any, *rest: Any) -> Any:
    return value


def _rebuilt(function: Any, kind: Any, arguments: Tuple[Any, ...], state: Any) -> Any:
    return function(*arguments)


class _Maker:
    """A function that the file may call, and can do nothing else with."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise BadFormatError("it changes a function")


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str, path: str) -> None:
        super().__init__(file, encoding="utf-8")
        self._archive = archive
        self._folder = folder
        self._storages: Dict[str, bytes] = {}
        self._unread = os.path.getsize(path)
        self._budget = Budget(path)

    def find_class(self, module: str, name: str) -> Any:
        """What is made for a name in the file: never what the name says."""
        if module == "torch" and name.endswith("Storage") and name[: -len("Storage")] in _TYPES:
            return _Type(name[: -len("Storage")])
        if module in ("torch.storage", "torch") and name in ("UntypedStorage", "_UntypedStorage"):
            return _Type("Byte")
        if module == "torch" and name in _NAMED_TYPES:
            return _Type(_NAMED_TYPES[name])
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch", "Size"): tuple,
            ("torch._utils", "_rebuild_tensor_v2"): _Maker(_tensor),
            ("torch._utils", "_rebuild_tensor_v3"): _Maker(_tensor_of_type),
            ("torch._utils", "_rebuild_parameter"): _Maker(_first),
            ("torch._utils", "_rebuild_parameter_with_state"): _Maker(_first),
            ("torch._tensor", "_rebuild_from_type_v2"): _Maker(_rebuilt),
        }
        return known.get((module, name), Ignored)

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], _Type):
            raise BadFormatError("something that is no storage is kept beside the description")
        kind, key = pid[1].name, str(pid[2])
        if key not in self._storages:
            entry = self._archive.getinfo(f"{self._folder}/data/{key}")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise BadFormatError(f"storage {key} is compressed, as torch.save does not do it")
            self._unread -= entry.file_size
            if self._unread < 0:
                raise BadFormatError("its storages are larger than the file; they overlap")
            self._storages[key] = self._archive.read(entry)
        return _Storage(self._storages[key], kind, self._budget)


def read(path: str) -> Any:
    """What was saved: dicts, lists, numbers and text as they are, tensors as arrays."""
    with open(path, "rb") as file:
        try:
            if not zipfile.is_zipfile(file):
                raise BadFormatError(
                    f"{path} is no file that torch.save writes since PyTorch 1.6; load it with an old "
                    f"version, if you trust "
                    "its source, and save its state_dict() again"
                )
            with zipfile.ZipFile(file) as archive:
                return _read_archive(path, archive)
        except (BadFormatError, MemoryError):
            raise
        except Exception as error:  # whatever damage makes of the readers of ZIP and pickle
            raise BadFormatError(f"{path} is damaged: {error or type(error).__name__}") from error


def _read_archive(path: str, archive: zipfile.ZipFile) -> Any:
    names = archive.namelist()
    description = next((name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")), None)
    if description is None:
        raise BadFormatError(f"{path} is a ZIP archive, but none that torch.save wrote")
    folder = description.split("/")[0]
    order = f"{folder}/byteorder"
    if order in names and (archive.getinfo(order).file_size > 16 or archive.read(order) != b"little"):
        raise BadFormatError(f"{path} comes from a big-endian machine")
    if archive.getinfo(description).file_size > _LARGEST_DESCRIPTION:
        raise BadFormatError(f"{path}: its description is too large")
    with archive.open(description) as pickled:
        return _Reader(pickled, archive, folder, path).load()
