# SPDX-License-Identifier: BSD-2-Clause
"""Models: a frozen classifier and, optionally, the purifier trained for it."""

import ctypes
import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import numpy

from ._handle import PathLike, ProgressFunction, ProgressRelay, check, encode_path, failure, fill
from ._images import Description, Layout, Order, Shape, as_labels, describe
from ._library import library
from ._losses import LossFunction, LossRelay
from ._structs import (
    AttackOptions,
    DeviationCallback,
    GradientOptions,
    ModelInfo as NativeModelInfo,
    ModelOptions,
    PredictOptions,
    PurifierOptions,
)
from .context import Context, ContextHandle
from .enums import Aggregation, Architecture, AttackMethod, Loss, Norm, Objective, Status, member
from .results import AttackResult, Gradient, Prediction, attack_result_of, prediction_of


@dataclass(frozen=True)
class ModelInfo:
    """What a model is. Counts of multiply-adds are per image, for the decoder per draw."""

    channels: int
    image_height: int
    image_width: int
    classes: int
    has_purifier: bool
    taps: int
    condition_size: int
    latent_size: int
    classifier_parameters: int
    purifier_parameters: int
    classifier_multiply_adds: int
    condition_multiply_adds: int
    decoder_multiply_adds: int


@dataclass(frozen=True)
class Deviation:
    """How a tensor that a model computes differs from the stored one."""

    name: str
    count: int
    #: NaN where something computed is not a number
    largest_difference: float
    #: largest magnitude among the stored
    scale: float
    #: of the largest difference, in the flattened tensor
    position: int
    stored: float
    computed: float
    #: whether the difference is beyond tolerance * scale
    departs: bool


class Model(ContextHandle):
    """A classifier and, optionally, its purifier. Immutable: any number of threads may share it.

    ``layout`` and ``order`` of the images that calls take: see the package's README.
    """

    _destroy = "carso_model_destroy"

    def __init__(self, address: int, context: Context, context_address: int, memory: Any = None) -> None:
        super().__init__(address, context, context_address)
        self._memory = memory
        native = NativeModelInfo()
        check(library.carso_model_get_info(address, ctypes.byref(native)), context_address)
        fields = {name: getattr(native, name) for name in ModelInfo.__dataclass_fields__}
        fields["has_purifier"] = bool(native.has_purifier)
        self._info = ModelInfo(**fields)
        self._class_names = [
            library.carso_model_class_name(address, index).decode() for index in range(self._info.classes)
        ]

    @classmethod
    def load(cls, path: PathLike, context: Optional[Context] = None) -> "Model":
        """Loads a model file. context: None for a new one with the defaults."""
        context = context or Context()
        out = ctypes.c_void_p()
        check(library.carso_model_load(context.address, encode_path(path), ctypes.byref(out)), context.address)
        return cls(_made(out), context, context.address)

    @classmethod
    def load_memory(cls, data: Any, context: Optional[Context] = None) -> "Model":
        """Loads a model from bytes or any contiguous buffer, which must stay unchanged and is kept alive."""
        context = context or Context()
        memory = numpy.frombuffer(data, dtype=numpy.uint8)
        out = ctypes.c_void_p()
        status = library.carso_model_load_memory(context.address, memory.ctypes.data, memory.size, ctypes.byref(out))
        check(status, context.address)
        return cls(_made(out), context, context.address, memory)

    @classmethod
    def create(
        cls,
        context: Optional[Context] = None,
        *,
        architecture: Union[Architecture, str, None] = None,
        depth: Optional[int] = None,
        width: Optional[int] = None,
        channels: Optional[int] = None,
        image_height: Optional[int] = None,
        image_width: Optional[int] = None,
        classes: Optional[int] = None,
        mean: Optional[Sequence[float]] = None,
        deviation: Optional[Sequence[float]] = None,
        class_names: Optional[Sequence[str]] = None,
        seed: Optional[int] = None,
    ) -> "Model":
        """A classifier with random weights, without a purifier.

        None leaves the library's default.
        mean, deviation: of the standardisation, one number a channel, in units of [0, 1].
        class_names also sets classes.
        """
        context = context or Context()
        given: Dict[str, Any] = {
            "architecture": None if architecture is None else member(Architecture, architecture),
            "depth": depth,
            "width": width,
            "channels": channels,
            "image_height": image_height,
            "image_width": image_width,
            "classes": classes,
            "seed": seed,
        }
        if class_names is not None:
            names = [name.encode() for name in class_names]
            if any(b"\0" in name for name in names):
                raise ValueError("a class name with a null character")
            if classes not in (None, len(names)):
                raise ValueError(f"{len(names)} class_names for {classes} classes")
            given["classes"] = len(names)
            given["class_names"] = (ctypes.c_char_p * len(names))(*names)
        options = fill(ModelOptions, "carso_model_options_init", given)
        _set_channels(options.mean, "mean", mean, options.channels)
        _set_channels(options.deviation, "deviation", deviation, options.channels)
        out = ctypes.c_void_p()
        check(library.carso_model_create(context.address, ctypes.byref(options), ctypes.byref(out)), context.address)
        return cls(_made(out), context, context.address)

    def add_purifier(
        self,
        *,
        condition_size: Optional[int] = None,
        latent_size: Optional[int] = None,
        seed_channels: Optional[int] = None,
        seed: Optional[int] = None,
    ) -> "Model":
        """This one's classifier, shared, and a new purifier with random weights. None: the library's default."""
        options = fill(
            PurifierOptions,
            "carso_purifier_options_init",
            {
                "condition_size": condition_size,
                "latent_size": latent_size,
                "seed_channels": seed_channels,
                "seed": seed,
            },
        )
        out = ctypes.c_void_p()
        self._check(library.carso_model_add_purifier(self.address, ctypes.byref(options), ctypes.byref(out)))
        return Model(_made(out), self._context, self._context_address, self._memory)

    def import_weights(self, *paths: PathLike) -> "Model":
        """A model of this structure with the weights in safetensors files: a classifier's, a purifier's, or both; strict."""
        names = (ctypes.c_char_p * len(paths))(*map(encode_path, paths))
        out = ctypes.c_void_p()
        self._check(library.carso_model_import(self.address, names, len(paths), ctypes.byref(out)))
        return Model(_made(out), self._context, self._context_address, self._memory)

    def verify(self, golden: PathLike, tolerance: float = 1e-4) -> List[Deviation]:
        """How what the model computes differs from the tensors of a golden file, in the order of computation."""
        found: List[Deviation] = []

        def note(deviation: Any, _user: Any) -> None:
            one = deviation.contents
            found.append(
                Deviation(
                    one.name.decode(),
                    one.count,
                    one.largest_difference,
                    one.scale,
                    one.position,
                    one.stored,
                    one.computed,
                    bool(one.departs),
                )
            )

        departures = ctypes.c_int32()
        callback = DeviationCallback(note)
        self._check(
            library.carso_model_verify(
                self.address, encode_path(golden), tolerance, callback, None, ctypes.byref(departures)
            )
        )
        return found

    def save(self, path: PathLike) -> None:
        """Writes a model file; a failure leaves what was at path as it was."""
        self._check(library.carso_model_save(self.address, encode_path(path)))

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def class_names(self) -> List[str]:
        """Names of the classes, their numbers where the file has none."""
        return list(self._class_names)

    @property
    def shape(self) -> Shape:
        """(channels, height, width) of an image."""
        return (self._info.channels, self._info.image_height, self._info.image_width)

    def describe(self) -> Dict[str, Any]:
        """Layers with shapes, parameters and multiply-adds, taps, purifier and provenance."""
        text = library.carso_model_describe(self.address)
        if text is None:
            raise failure(Status.OUT_OF_MEMORY, None)
        return json.loads(text)

    def predict(
        self, images: Any, *, layout: Layout = None, order: Order = "rgb", progress: Optional[ProgressFunction] = None
    ) -> Prediction:
        """The classifier alone: one draw."""
        return self._predict("carso_predict", images, layout, order, progress, {})

    def purify(
        self,
        images: Any,
        *,
        draws: Optional[int] = None,
        seed: Optional[int] = None,
        first_image: Optional[int] = None,
        layout: Layout = None,
        order: Order = "rgb",
        progress: Optional[ProgressFunction] = None,
    ) -> Prediction:
        """Reconstructions only. Image i draws the latents of (seed, first_image + i). None: the library's default."""
        given = {"draws": draws, "seed": seed, "first_image": first_image}
        return self._predict("carso_purify", images, layout, order, progress, given)

    def predict_robust(
        self,
        images: Any,
        *,
        draws: Optional[int] = None,
        aggregation: Union[Aggregation, str, None] = None,
        seed: Optional[int] = None,
        first_image: Optional[int] = None,
        keep_reconstructions: bool = False,
        layout: Layout = None,
        order: Order = "rgb",
        progress: Optional[ProgressFunction] = None,
    ) -> Prediction:
        """The defence: purify, classify each draw, aggregate. None: the library's default."""
        given = {
            "draws": draws,
            "aggregation": None if aggregation is None else member(Aggregation, aggregation),
            "seed": seed,
            "first_image": first_image,
            "keep_reconstructions": int(keep_reconstructions),
        }
        return self._predict("carso_predict_robust", images, layout, order, progress, given)

    def gradient(
        self,
        images: Any,
        labels: Any = None,
        *,
        objective: Union[Objective, str, None] = None,
        loss: Union[Loss, str, None] = None,
        draws: Optional[int] = None,
        seed: Optional[int] = None,
        first_image: Optional[int] = None,
        logit_gradient: Any = None,
        targets: Any = None,
        loss_function: Optional[LossFunction] = None,
        layout: Layout = None,
        order: Order = "rgb",
        progress: Optional[ProgressFunction] = None,
    ) -> Gradient:
        """d loss / d image, exact, for the draws that predict_robust would make. None: the library's default.

        logit_gradient: d loss / d logits (D, N, K) of the caller's own loss, in place of loss and labels.
        targets (N,): classes to be favoured, none the label; None: untargeted.
        loss_function: called with a LossBatch, in place of loss, and labels where it needs none; returns losses (N,) and
        d loss / d logits (D, N, K). Its exceptions cause a CallbackError.
        NonFiniteError carries the Gradient in its result.
        """
        described = self._describe(images, layout, order)
        given = {
            "objective": None if objective is None else member(Objective, objective),
            "loss": None if loss is None else member(Loss, loss),
            "draws": draws,
            "seed": seed,
            "first_image": first_image,
        }
        relay, own_loss = ProgressRelay(progress), LossRelay(loss_function)
        callbacks = {"progress": relay.callback, "loss_function": own_loss.callback}
        options = fill(GradientOptions, "carso_gradient_options_init", {**given, **callbacks})
        count = described.images.count
        # Draws that the library will refuse need no room.
        used_draws = max(options.draws, 1) if options.objective == Objective.DEFENCE else 1
        logits_shape = (used_draws, count, self._info.classes)
        own = None
        if logit_gradient is not None:
            own = numpy.ascontiguousarray(logit_gradient, dtype=numpy.float64)
            if own.shape != logits_shape:
                raise ValueError(f"logit_gradient of shape {own.shape}; the logits' is {logits_shape}")
            options.logit_gradient = own.ctypes.data
        elif labels is None and loss_function is None:
            raise TypeError("labels are needed where neither logit_gradient nor loss_function is given")
        true_labels = None if labels is None else as_labels(labels, count)
        wanted = None if targets is None else as_labels(targets, count)
        options.targets = _data(wanted)
        gradient = numpy.empty((count, *self.shape), dtype=numpy.float32)
        losses = None if own is not None else numpy.empty(count, dtype=numpy.float64)
        logits = numpy.empty(logits_shape, dtype=numpy.float64)
        status = library.carso_gradient(
            self.address,
            ctypes.byref(described.images),
            _data(true_labels),
            ctypes.byref(options),
            _data(gradient),
            _data(losses),
            _data(logits),
        )
        relay.raise_if_failed()
        own_loss.raise_if_interrupted()
        result = Gradient(described.restore(gradient), losses, logits)
        if status != Status.OK:
            partial = result if status == Status.NON_FINITE else None
            raise failure(status, self._context_address, partial) from own_loss.error
        return result

    def attack(
        self,
        images: Any,
        labels: Any,
        *,
        method: Union[AttackMethod, str, None] = None,
        objective: Union[Objective, str, None] = None,
        loss: Union[Loss, str, None] = None,
        steps: Optional[int] = None,
        epsilon: Optional[float] = None,
        step_size: Optional[float] = None,
        random_start: Optional[bool] = None,
        restarts: Optional[int] = None,
        draws: Optional[int] = None,
        eot: Optional[int] = None,
        seed: Optional[int] = None,
        first_image: Optional[int] = None,
        norm: Union[Norm, str, None] = None,
        early_stop: Optional[bool] = None,
        momentum: Optional[float] = None,
        queries: Optional[int] = None,
        target_classes: Optional[int] = None,
        targets: Any = None,
        loss_function: Optional[LossFunction] = None,
        fixed_draws: Optional[bool] = None,
        transfer: Optional[bool] = None,
        layout: Layout = None,
        order: Order = "rgb",
        progress: Optional[ProgressFunction] = None,
    ) -> AttackResult:
        """Attacks a batch; labels are the true ones. None: the library's default.

        targets (N,): classes to be favoured, none the label; None: untargeted.
        loss_function: called with a LossBatch, in place of loss; returns losses (N,) to be raised and d loss / d logits
        (D, N, K). Its exceptions cause a CallbackError.
        Cancelled, CallbackError and NonFiniteError carry the AttackResult in their result. An exception of progress
        comes without it.
        """
        described = self._describe(images, layout, order)
        true_labels = as_labels(labels, described.images.count)
        given = {
            "method": None if method is None else member(AttackMethod, method),
            "objective": None if objective is None else member(Objective, objective),
            "loss": None if loss is None else member(Loss, loss),
            "steps": steps,
            "epsilon": epsilon,
            "step_size": step_size,
            "random_start": None if random_start is None else int(random_start),
            "restarts": restarts,
            "draws": draws,
            "eot": eot,
            "seed": seed,
            "first_image": first_image,
            "norm": None if norm is None else member(Norm, norm),
            "early_stop": None if early_stop is None else int(early_stop),
            "momentum": momentum,
            "queries": queries,
            "target_classes": target_classes,
            "fixed_draws": None if fixed_draws is None else int(fixed_draws),
            "transfer": None if transfer is None else int(transfer),
        }
        relay, own_loss = ProgressRelay(progress), LossRelay(loss_function)
        callbacks = {"progress": relay.callback, "loss_function": own_loss.callback}
        options = fill(AttackOptions, "carso_attack_options_init", {**given, **callbacks})
        wanted = None if targets is None else as_labels(targets, described.images.count)
        options.targets = _data(wanted)
        out = ctypes.c_void_p()
        status = library.carso_attack(
            self.address, ctypes.byref(described.images), _data(true_labels), ctypes.byref(options), ctypes.byref(out)
        )
        result = None if out.value is None else attack_result_of(out.value, described, self.shape)
        relay.raise_if_failed()
        own_loss.raise_if_interrupted()
        if status != Status.OK or result is None:
            raise failure(status, self._context_address, result) from own_loss.error
        return result

    def _check(self, status: int) -> None:
        check(status, self._context_address)

    def _describe(self, images: Any, layout: Layout, order: Order) -> Description:
        return describe(images, layout, order, self.shape)

    def _predict(
        self,
        function: str,
        images: Any,
        layout: Layout,
        order: Order,
        progress: Optional[ProgressFunction],
        given: Mapping[str, Any],
    ) -> Prediction:
        described = self._describe(images, layout, order)
        relay = ProgressRelay(progress)
        options = fill(PredictOptions, "carso_predict_options_init", {**given, "progress": relay.callback})
        out = ctypes.c_void_p()
        status = getattr(library, function)(
            self.address, ctypes.byref(described.images), ctypes.byref(options), ctypes.byref(out)
        )
        result = None if out.value is None else prediction_of(out.value, described, self.shape)
        relay.raise_if_failed()
        if status != Status.OK or result is None:
            raise failure(status, self._context_address)
        return result


def _made(out: ctypes.c_void_p) -> int:
    assert out.value is not None
    return out.value


def _data(array: Optional[numpy.ndarray]) -> Optional[int]:
    return None if array is None else array.ctypes.data


def _set_channels(field: Any, name: str, values: Optional[Sequence[float]], channels: int) -> None:
    if values is None:
        return
    if len(values) != channels or channels > len(field):
        raise ValueError(f"{name} has {len(values)} numbers for {channels} channels")
    for index, value in enumerate(values):
        field[index] = value
