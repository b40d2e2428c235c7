# SPDX-License-Identifier: BSD-2-Clause
"""Evaluation: the accuracy that is left under many attacks, and what speaks against believing it."""

import ctypes
import json
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import numpy

from ._handle import PathLike, ProgressFunction, ProgressRelay, check, encode_path, failure, fill, view
from ._images import Layout, Order, Shape, as_labels, describe
from ._library import library
from ._losses import LossFunction, LossRelay
from ._structs import EvaluationOptions
from .context import Context, ContextHandle
from .enums import Aggregation, Norm, Status, member
from .model import Model

#: The built-in name of a protocol, or a description: a dictionary, or its JSON text.
Protocol = Union[str, Mapping[str, Any]]


class Evaluation(ContextHandle):
    """An evaluation, under way or finished. Arrays are over the images that are finished, in the order given.

    Cells are numbered as in ``result["cells"]``. One thread at a time.
    """

    _destroy = "carso_evaluation_destroy"

    def __init__(
        self, address: int, context: Context, context_address: int, loss: Optional[LossRelay] = None, model: Any = None
    ) -> None:
        super().__init__(address, context, context_address)
        self._loss = loss
        self._model = model
        shape = (ctypes.c_int32 * 3)()
        library.carso_evaluation_shape(address, shape)
        self._shape: Shape = (shape[0], shape[1], shape[2])

    @classmethod
    def create(
        cls,
        model: Model,
        images: Any,
        labels: Any,
        *,
        protocol: Optional[Protocol] = None,
        epsilons: Union[Sequence[float], float, None] = None,
        norm: Union[Norm, str, None] = None,
        draws: Optional[int] = None,
        repeats: Optional[int] = None,
        aggregation: Union[Aggregation, str, None] = None,
        batch: Optional[int] = None,
        shard: Optional[int] = None,
        shards: Optional[int] = None,
        seed: Optional[int] = None,
        first_image: Optional[int] = None,
        loss_function: Optional[LossFunction] = None,
        layout: Layout = None,
        order: Order = "rgb",
    ) -> "Evaluation":
        """A new evaluation, of which no step is taken yet. Images and labels are copied. None: the library's default."""
        described = describe(images, layout, order, model.shape)
        true_labels = as_labels(labels, described.images.count)
        text = None if protocol is None else protocol if isinstance(protocol, str) else json.dumps(protocol)
        bounds = None if epsilons is None else numpy.atleast_1d(numpy.asarray(epsilons, dtype=numpy.float64))
        relay = LossRelay(loss_function)
        given = {
            "protocol": None if text is None else text.encode(),
            "norm": None if norm is None else member(Norm, norm),
            "draws": draws,
            "repeats": repeats,
            "aggregation": None if aggregation is None else member(Aggregation, aggregation),
            "batch": batch,
            "shard": shard,
            "shards": shards,
            "seed": seed,
            "first_image": first_image,
            "loss_function": relay.callback,
        }
        options = fill(EvaluationOptions, "carso_evaluation_options_init", given)
        if bounds is not None:
            bounds = numpy.ascontiguousarray(bounds)
            options.epsilons, options.epsilon_count = bounds.ctypes.data, bounds.size
        out = ctypes.c_void_p()
        context = model._context
        status = library.carso_evaluation_create(
            model.address,
            ctypes.byref(described.images),
            true_labels.ctypes.data,
            ctypes.byref(options),
            ctypes.byref(out),
        )
        check(status, model._context_address)
        assert out.value is not None
        return cls(out.value, context, model._context_address, relay, model._memory)

    @classmethod
    def open(cls, path: PathLike, context: Optional[Context] = None) -> "Evaluation":
        """A saved evaluation, to look at."""
        context = context or Context()
        out = ctypes.c_void_p()
        check(library.carso_evaluation_open(context.address, encode_path(path), ctypes.byref(out)), context.address)
        assert out.value is not None
        return cls(out.value, context, context.address)

    @classmethod
    def merge(cls, *paths: PathLike, context: Optional[Context] = None) -> "Evaluation":
        """The saved shards of one evaluation, all of them, each finished, as one."""
        context = context or Context()
        names = (ctypes.c_char_p * len(paths))(*map(encode_path, paths))
        out = ctypes.c_void_p()
        check(library.carso_evaluation_merge(context.address, names, len(paths), ctypes.byref(out)), context.address)
        assert out.value is not None
        return cls(out.value, context, context.address)

    def step(self, progress: Optional[ProgressFunction] = None) -> bool:
        """Takes the next step, one attack on one batch; true once all are taken. Can be tried again after an exception."""
        relay, finished = ProgressRelay(progress), ctypes.c_int32()
        if self._loss is not None:
            self._loss.error = None
        status = library.carso_evaluation_step(self.address, relay.callback, None, ctypes.byref(finished))
        relay.raise_if_failed()
        if self._loss is not None:
            self._loss.raise_if_interrupted()
        if status != Status.OK:
            raise failure(status, self._context_address) from (None if self._loss is None else self._loss.error)
        return bool(finished.value)

    def save(self, path: PathLike) -> None:
        """Writes all that is known, adversarial images too, as a safetensors file."""
        check(library.carso_evaluation_save(self.address, encode_path(path)), self._context_address)

    def resume(self, path: PathLike) -> None:
        """Goes on from a file of save(), of the same model, images, labels and options."""
        check(library.carso_evaluation_resume(self.address, encode_path(path)), self._context_address)

    def set_command(self, command: str) -> None:
        """Tells how it is repeated: files keep that, and ``result["commands"]`` has it, of a merged evaluation each shard's."""
        encoded = command.encode()
        if b"\0" in encoded:
            raise ValueError("a command with a null character")
        check(library.carso_evaluation_set_command(self.address, encoded), self._context_address)

    @property
    def count(self) -> int:
        """Number of images that are finished."""
        return library.carso_evaluation_count(self.address)

    @property
    def result(self) -> Dict[str, Any]:
        """Configuration, figures and flags (docs/robustness.md)."""
        text = library.carso_evaluation_result(self.address)
        if text is None:
            raise failure(Status.OUT_OF_MEMORY, None)
        return json.loads(text)

    @property
    def flags(self) -> List[Dict[str, Any]]:
        return self.result["flags"]

    @property
    def originals(self) -> numpy.ndarray:
        """float32 (count, C, H, W), RGB order."""
        return self.images(-1)

    def images(self, cell: int) -> numpy.ndarray:
        """float32 (count, C, H, W), RGB order: what a cell's attacks made of the images."""
        return self._array(library.carso_evaluation_images(self.address, cell), numpy.float32, *self._shape)

    def predictions(self, cell: int) -> numpy.ndarray:
        """int32 (count,): what most predictions of a cell's images say; of the originals, -1 the classifier's, -2 the defence's."""
        return self._array(library.carso_evaluation_predictions(self.address, cell), numpy.int32)

    @property
    def labels(self) -> numpy.ndarray:
        """int32 (count,)"""
        return self._array(library.carso_evaluation_labels(self.address), numpy.int32)

    @property
    def positions(self) -> numpy.ndarray:
        """int64 (count,): index among the images that were given."""
        return self._array(library.carso_evaluation_positions(self.address), numpy.int64)

    def _array(self, address: Optional[int], dtype: Any, *shape: int) -> numpy.ndarray:
        # A copy: the next step may change what lies there.
        found = view(address, dtype, (self.count, *shape), self)
        if found is None:
            raise IndexError("the evaluation has no such cell")
        return found.copy()


def evaluate(
    model: Model,
    images: Any,
    labels: Any,
    *,
    path: Optional[PathLike] = None,
    resume: bool = False,
    save_seconds: float = 60,
    progress: Optional[ProgressFunction] = None,
    **options: Any,
) -> Evaluation:
    """Evaluates a model under a protocol, to the end.

    options: those of Evaluation.create, such as protocol, epsilons, draws, repeats, seed, loss_function.
    path: where it is saved every save_seconds, at the end, and where an exception ends it; resume: goes on from there.
    """
    evaluation = Evaluation.create(model, images, labels, **options)
    if resume:
        if path is None:
            raise TypeError("resume needs a path")
        evaluation.resume(path)
    saved = time.monotonic()
    try:
        while not evaluation.step(progress):
            if path is not None and time.monotonic() - saved >= save_seconds:
                evaluation.save(path)
                saved = time.monotonic()
    finally:
        if path is not None:
            evaluation.save(path)
    return evaluation
