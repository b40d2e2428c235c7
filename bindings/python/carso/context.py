# SPDX-License-Identifier: BSD-2-Clause
"""Contexts: backend, threads, memory, messages."""

import ctypes
import logging
from dataclasses import dataclass
from typing import Callable, List, Optional, Union

from ._handle import Handle, check, failure, fill, message_of
from ._library import library
from . import _structs
from ._structs import Allocator, ContextOptions, LogCallback
from .enums import Convolution, LogLevel, Status, member

LogFunction = Callable[[LogLevel, str], None]

_logger = logging.getLogger("carso")
_logger.addHandler(logging.NullHandler())
_PYTHON_LEVEL = {
    LogLevel.ERROR: logging.ERROR,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.INFO: logging.INFO,
    LogLevel.DEBUG: logging.DEBUG,
}


def version() -> str:
    """The version of the library that was loaded."""
    return library.carso_version().decode()


def abi_version() -> int:
    """The binary interface of the library that was loaded: major * 1000 + minor."""
    return library.carso_abi_version()


def backends() -> List[str]:
    """Names of the backends in this build, in order of preference."""
    return [library.carso_backend_name(index).decode() for index in range(library.carso_backend_count())]


def status_text(status: Union[Status, int]) -> str:
    """One lower-case English sentence part for a status."""
    return library.carso_status_str(int(status)).decode()


class _LogRelay:
    """A Python callable as the library's log callback."""

    def __init__(self, function: Optional[LogFunction]) -> None:
        self.function = function
        self.last_error = ""
        self.callback = LogCallback(self._relay)

    def _relay(self, level: int, text: bytes, user: object) -> None:
        try:
            line = text.decode("utf-8", "replace")
            if level == LogLevel.ERROR:
                self.last_error = line
            if self.function is not None:
                self.function(LogLevel(level), line)
            else:
                _logger.log(_PYTHON_LEVEL[LogLevel(level)], "%s", line)
        except Exception:  # pylint: disable=broad-except
            _logger.exception("the log function of a context failed")


@dataclass(frozen=True)
class Memory:
    """What a context's models and calls hold of memory, in bytes."""

    #: Weights in mapped model files. Those that are packed need not be in memory.
    mapped_weights: int
    #: Weights otherwise: made, trained, with BatchNorm folded in, and their gradients.
    own_weights: int
    #: Copies of weights in the order that a backend's kernels want.
    packed_weights: int
    #: Copies in a larger form, for speed.
    transformed_weights: int
    #: Working buffers, in use or kept for the next call.
    buffers: int
    #: The most there have been of those.
    most_buffers: int


class Context(Handle):
    """Where computing happens. Models, data sets and trainers keep theirs alive; threads may share it.

    backend: one of :func:`backends`, None for the fastest that works here.
    threads: for computing, 0 for as many as the process has cores.
    log: called with (level, text); None hands lines to the logger "carso". Exceptions in it are logged.
    log_level: the most verbose level that is delivered.
    memory_limit: bytes for the working buffers of one call, 0 for 1 GiB; batches are split to keep it. Weights come on
        top, see :attr:`memory`.
    convolution: "precise" computes convolutions with smaller errors than direct ones have, "direct" direct ones.
    allocator: C functions for the library's memory, None for the C library's.
    """

    _destroy = "carso_context_destroy"

    def __init__(
        self,
        backend: Optional[str] = None,
        *,
        threads: int = 0,
        log: Optional[LogFunction] = None,
        log_level: Union[LogLevel, str] = LogLevel.WARNING,
        memory_limit: int = 0,
        convolution: Union[Convolution, str] = Convolution.AUTOMATIC,
        allocator: Optional[Allocator] = None,
    ) -> None:
        # The library calls these for as long as the context lives, which objects made from it may prolong.
        self._log = _LogRelay(log)
        self._allocator = allocator
        options = fill(
            ContextOptions,
            "carso_context_options_init",
            {
                "backend": None if backend is None else backend.encode(),
                "threads": threads,
                "log_level": member(LogLevel, log_level),
                "log": self._log.callback,
                "allocator": allocator,
                "memory_limit": memory_limit,
                "convolution": member(Convolution, convolution),
            },
        )
        address = ctypes.c_void_p()
        status = library.carso_context_create(ctypes.byref(options), ctypes.byref(address))
        if status != Status.OK or address.value is None:
            error = failure(status, None)
            # There is no context to ask: the reason went to the log.
            raise type(error)(self._log.last_error or str(error))
        super().__init__(address.value)

    @property
    def backend(self) -> str:
        """Name of the backend."""
        return library.carso_context_backend(self.address).decode()

    @property
    def threads(self) -> int:
        """Number of threads that the context computes with."""
        return library.carso_context_threads(self.address)

    @property
    def memory(self) -> Memory:
        """What the context's models and calls hold of memory."""
        memory = _structs.Memory()
        check(library.carso_context_memory(self.address, ctypes.byref(memory)), self.address)
        return Memory(**{name: getattr(memory, name) for name in Memory.__dataclass_fields__})

    @property
    def message(self) -> str:
        """The message of the latest failure of any thread; empty if there was none."""
        return message_of(self.address)


class ContextHandle(Handle):
    """A handle made from a context, which lives as long."""

    def __init__(self, address: int, context: Context, context_address: int) -> None:
        super().__init__(address)
        self._context = context
        # Valid as long as this handle is, also when the caller has closed the context.
        self._context_address = context_address

    @property
    def context(self) -> Context:
        """The context that this was made from."""
        return self._context
