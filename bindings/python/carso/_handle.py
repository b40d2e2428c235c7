# SPDX-License-Identifier: BSD-2-Clause
"""What every class that owns a handle of the library does alike."""

import ctypes
import operator
import os
import threading
from types import TracebackType
from typing import Any, Callable, Mapping, Optional, Tuple, Type, TypeVar, Union

import numpy

from ._library import library
from ._structs import ProgressCallback, SizedStructure
from .enums import Status
from .errors import ERROR_OF_STATUS, Error

Self = TypeVar("Self", bound="Handle")

#: Called with (done, total, unit); true asks the call to stop.
ProgressFunction = Callable[[int, int, str], Any]
PathLike = Union[str, "os.PathLike[str]"]


class Handle:
    """Owns one handle; closed by close(), by leaving a with block, or when the last reference goes."""

    _destroy: str = ""

    def __init__(self, address: int) -> None:
        self._closing = threading.Lock()
        self._address: Optional[int] = address

    @property
    def address(self) -> int:
        """The handle itself, for calls of the library made by other means. ValueError once closed."""
        if self._address is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        return self._address

    @property
    def closed(self) -> bool:
        return self._address is None

    def close(self) -> None:
        """Gives the handle up; a second time does nothing. No call that uses it may be running."""
        with self._closing:
            address, self._address = self._address, None
        if address is not None:
            getattr(library, self._destroy)(address)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_address", None) is not None:
            self.close()


def message_of(context_address: int) -> str:
    """The message of the latest failure on a context."""
    length = library.carso_context_message(context_address, None, 0)
    while True:
        text = ctypes.create_string_buffer(length + 1)
        needed = library.carso_context_message(context_address, text, len(text))
        if needed <= length:
            return text.value.decode("utf-8", "replace")
        length = needed


def failure(status: int, context_address: Optional[int], result: Any = None) -> Error:
    """The exception for a status; the message comes from the context where that has set one."""
    text = ""
    if context_address is not None and status != Status.CANCELLED:
        text = message_of(context_address)
    if not text:
        text = library.carso_status_str(status).decode()
    kind = ERROR_OF_STATUS.get(status)
    return kind(text, result) if kind is not None else Error(f"status {status}: {text}", result)


def check(status: int, context_address: Optional[int]) -> None:
    if status != Status.OK:
        raise failure(status, context_address)


def encode_path(path: PathLike) -> bytes:
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError("a path with a null character")
    return encoded


Options = TypeVar("Options", bound=SizedStructure)


def fill(kind: Type[Options], initialise: str, given: Mapping[str, Any]) -> Options:
    """The library's defaults, and over them what was given; None leaves a default."""
    options = kind()
    getattr(library, initialise)(ctypes.byref(options), ctypes.sizeof(options))
    types = {field[0]: field[1] for field in options._fields_}
    for name, value in given.items():
        if value is not None:
            whole = types[name] in (ctypes.c_int32, ctypes.c_uint64)
            setattr(options, name, integer(name, value, types[name]) if whole else value)
    return options


def integer(name: str, value: Any, kind: Any) -> int:
    """ctypes cuts integers that do not fit without a word: they are refused here."""
    number = operator.index(value)
    least, most = (-(1 << 31), (1 << 31) - 1) if kind is ctypes.c_int32 else (0, (1 << 64) - 1)
    if not least <= number <= most:
        raise OverflowError(f"{name} is {number}, not in {least} to {most}")
    return number


class ProgressRelay:
    """A Python callable as the library's progress callback: its exceptions end the call and are raised after it."""

    def __init__(self, function: Optional[ProgressFunction]) -> None:
        self.error: Optional[BaseException] = None
        self.function = function
        self.callback = ProgressCallback() if function is None else ProgressCallback(self._relay)

    def _relay(self, progress: Any, user: Any) -> int:
        try:
            state = progress.contents
            assert self.function is not None
            return 1 if self.function(state.done, state.total, state.unit.decode()) else 0
        except BaseException as error:  # pylint: disable=broad-except
            self.error = error
            return 1

    def raise_if_failed(self) -> None:
        if self.error is not None:
            raise self.error


def view(address: Optional[int], dtype: Any, shape: Tuple[int, ...], owner: Handle) -> Optional[numpy.ndarray]:
    """A read-only array over the library's memory that keeps its owner alive; None where there is none."""
    if not address:
        return None
    kind = numpy.dtype(dtype)
    size = int(numpy.prod(shape, dtype=numpy.uint64)) * kind.itemsize
    memory: Any = (ctypes.c_ubyte * size).from_address(address)
    memory._owner = owner  # the array's base is this object
    array = numpy.frombuffer(memory, dtype=kind).reshape(shape)
    array.flags.writeable = False
    return array
