# SPDX-License-Identifier: BSD-2-Clause
"""Losses of the caller's own, as the library calls them."""

import ctypes
from dataclasses import dataclass
from typing import Any, Callable, Optional, Tuple

import numpy

from ._structs import LossCallback


@dataclass(frozen=True)
class LossBatch:
    """What a loss function is called with. N images, some of the call's, K classes, D draws."""

    #: float64 (D, N, K)
    logits: numpy.ndarray
    #: int32 (N,); None where gradient was given none
    labels: Optional[numpy.ndarray]
    #: int32 (N,); None: untargeted
    targets: Optional[numpy.ndarray]
    #: uint64 (N,): first_image and the image's place in the call, added
    image_index: numpy.ndarray
    #: Whether d loss / d logits is wanted.
    wants_gradient: bool


#: Returns losses (N,), to be raised, and d loss / d logits (D, N, K), None where that is not wanted.
LossFunction = Callable[[LossBatch], Tuple[Any, Any]]


def _copy(address: Optional[int], dtype: Any, *shape: int) -> Optional[numpy.ndarray]:
    return None if not address else _memory(address, dtype, *shape).copy()


def _memory(address: int, dtype: Any, *shape: int) -> numpy.ndarray:
    kind = numpy.dtype(dtype)
    size = int(numpy.prod(shape, dtype=numpy.uint64)) * kind.itemsize
    return numpy.frombuffer((ctypes.c_ubyte * size).from_address(address), dtype=kind).reshape(shape)


class LossRelay:
    """A Python callable as the library's loss callback; an exception ends the call and is kept."""

    def __init__(self, function: Optional[LossFunction]) -> None:
        self.error: Optional[BaseException] = None
        self.function = function
        self.callback = LossCallback() if function is None else LossCallback(self._relay)

    def _relay(self, pointer: Any, user: Any) -> int:
        try:
            native = pointer.contents
            count, shape = native.count, (native.draws, native.count, native.classes)
            logits = _copy(native.logits, numpy.float64, *shape)
            image_index = _copy(native.image_index, numpy.uint64, count)
            assert self.function is not None and logits is not None and image_index is not None
            batch = LossBatch(
                logits=logits,
                labels=_copy(native.labels, numpy.int32, count),
                targets=_copy(native.targets, numpy.int32, count),
                image_index=image_index,
                wants_gradient=bool(native.logit_gradient),
            )
            losses, gradient = self.function(batch)
            _store(native.losses, losses, (count,), "losses")
            if batch.wants_gradient:
                _store(native.logit_gradient, gradient, shape, "a gradient")
            return 0
        except BaseException as error:  # pylint: disable=broad-except
            self.error = error
            return 1

    def raise_if_interrupted(self) -> None:
        """What is no Exception, such as KeyboardInterrupt, is not the loss's failure."""
        if self.error is not None and not isinstance(self.error, Exception):
            raise self.error


def _store(address: int, given: Any, shape: Tuple[int, ...], what: str) -> None:
    values = numpy.asarray(given, dtype=numpy.float64)
    if values.shape != shape:
        raise ValueError(f"the loss function returned {what} of shape {values.shape}; {shape} is needed")
    _memory(address, numpy.float64, *shape)[...] = values
