# SPDX-License-Identifier: BSD-2-Clause
"""One exception for each status that is a failure."""

from typing import Any, Dict, Type

from .enums import Status


class Error(Exception):
    """A call of libcarso failed. The text is the library's message."""

    #: What the call returned.
    status: Status = Status.INTERNAL
    #: What the call has produced nevertheless, or None.
    result: Any = None

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class Cancelled(Error):
    """The progress callback asked to stop."""

    status = Status.CANCELLED


class InvalidArgumentError(Error, ValueError):
    """An argument or option is out of range or contradicts another."""

    status = Status.INVALID_ARGUMENT


class InvalidImageError(Error, ValueError):
    """An image has the wrong size, channels, type, or a value that is not in [0, 1]."""

    status = Status.INVALID_IMAGE


class CallbackError(Error):
    """A function of the caller's own raised an exception, which is the cause of this one."""

    status = Status.CALLBACK


class OutOfMemoryError(Error, MemoryError):
    """The allocator, a mapping or a backend ran out of memory."""

    status = Status.OUT_OF_MEMORY


class InputOutputError(Error):
    """A file could not be opened, read or written."""

    status = Status.IO


class NotFoundError(Error, LookupError):
    """The named file, folder, backend, tap or class does not exist."""

    status = Status.NOT_FOUND


class BadFormatError(Error):
    """A file is damaged, or is not of the format that was expected."""

    status = Status.BAD_FORMAT


class UnsupportedError(Error):
    """The request is valid, but this model, build or backend cannot do it."""

    status = Status.UNSUPPORTED


class NonFiniteError(Error, ArithmeticError):
    """A logit, loss, gradient or weight is not finite."""

    status = Status.NON_FINITE


class BackendError(Error):
    """A backend's own library reported an error."""

    status = Status.BACKEND


class InternalError(Error):
    """A defect in libcarso: please report it."""

    status = Status.INTERNAL


ERROR_OF_STATUS: Dict[int, Type[Error]] = {
    int(kind.status): kind
    for kind in (
        Cancelled,
        InvalidArgumentError,
        InvalidImageError,
        CallbackError,
        OutOfMemoryError,
        InputOutputError,
        NotFoundError,
        BadFormatError,
        UnsupportedError,
        NonFiniteError,
        BackendError,
        InternalError,
    )
}
