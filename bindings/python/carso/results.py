# SPDX-License-Identifier: BSD-2-Clause
"""What predictions, gradients and attacks return."""

import ctypes
from dataclasses import dataclass, fields
from typing import Any, List, Optional

import numpy

from ._handle import Handle, check, view
from ._images import Description, Shape
from ._library import library
from ._structs import AttackStep as NativeAttackStep


class _PredictionHandle(Handle):
    _destroy = "carso_prediction_destroy"


class _AttackResultHandle(Handle):
    _destroy = "carso_attack_result_destroy"


@dataclass(frozen=True)
class Prediction:
    """Arrays of a prediction, read-only; None where it has none.

    N images, K classes, D draws. reconstructions have the caller's shape, layout and order of colours behind D.
    """

    #: Number of draws.
    draws: int
    #: int32 (N,)
    labels: Optional[numpy.ndarray]
    #: float64 (N, K)
    probabilities: Optional[numpy.ndarray]
    #: float64 (N, K): log(p / (1 - p)), finite for logits up to 700
    log_odds: Optional[numpy.ndarray]
    #: float64 (D, N, K)
    logits: Optional[numpy.ndarray]
    #: int32 (N,): how many draws have the label as their own arg max
    agreement: Optional[numpy.ndarray]
    #: float32 (D, ...) in [0, 1]
    reconstructions: Optional[numpy.ndarray]


@dataclass(frozen=True)
class Gradient:
    """d loss / d image, and what it was computed from. N images, K classes, D draws."""

    #: float32, in the images' shape, layout and order of colours, per unit of [0, 1]
    gradient: numpy.ndarray
    #: float64 (N,); None with a logit_gradient
    losses: Optional[numpy.ndarray]
    #: float64 (D, N, K)
    logits: numpy.ndarray


@dataclass(frozen=True)
class AttackStep:
    """What an attack met at a step, over the images, restarts and targets that were evaluated there."""

    #: 0: the start
    first_step: int
    #: how many steps this sums up: 1, but for attacks of more than 1000
    steps: int
    #: of an image, each the mean over eot sets of draws
    evaluations: int
    #: of these, with a loss or gradient that is not finite
    non_finite: int
    #: of these, by the loss's aggregation in each of the eot sets (or the target reached)
    misclassified: int
    #: finite ones
    gradients: int
    #: of these, zero in every component
    flat_gradients: int
    #: of the finite ones; NaN where none is
    mean_loss: float
    #: share of the gradients' components that are exactly zero
    zero_gradient: float
    #: share of those that are not zero but smaller than 1e-10
    tiny_gradient: float


@dataclass(frozen=True)
class AttackResult:
    """Attacked images and how the attack went, read-only. N images."""

    #: float32 in [0, 1], in the images' shape, layout and order of colours, within epsilon of them
    images: numpy.ndarray
    #: float64 (N,): at the first restart's start, and at the point kept
    first_loss: numpy.ndarray
    last_loss: numpy.ndarray
    #: bool (N,): a logit, loss or gradient was not finite at some step
    non_finite: numpy.ndarray
    #: float64 (N,): share, over steps, of gradient components that are exactly zero
    zero_gradient: numpy.ndarray
    #: float64 (N,): share of those that are not zero but smaller than 1e-10
    tiny_gradient: numpy.ndarray
    #: uint32 (N,): evaluations with a loss, or a gradient, that was not finite
    non_finite_losses: numpy.ndarray
    non_finite_gradients: numpy.ndarray
    #: float64 (N,): FAB's norms of the smallest change that misclassifies, inf where none was found; None of others
    distance: Optional[numpy.ndarray]
    steps: List[AttackStep]


def prediction_of(address: int, described: Description, shape: Shape) -> Prediction:
    handle = _PredictionHandle(address)
    count = library.carso_prediction_count(address)
    classes = library.carso_prediction_classes(address)
    draws = library.carso_prediction_draws(address)

    def array(name: str, dtype: Any, *dimensions: int) -> Optional[numpy.ndarray]:
        return view(getattr(library, "carso_prediction_" + name)(address), dtype, dimensions, handle)

    reconstructions = array("reconstructions", numpy.float32, draws, count, *shape)
    return Prediction(
        draws=draws,
        labels=array("labels", numpy.int32, count),
        probabilities=array("probabilities", numpy.float64, count, classes),
        log_odds=array("log_odds", numpy.float64, count, classes),
        logits=array("logits", numpy.float64, draws, count, classes),
        agreement=array("agreement", numpy.int32, count),
        reconstructions=None if reconstructions is None else described.restore(reconstructions),
    )


def _attack_step(address: int, index: int) -> AttackStep:
    native = NativeAttackStep()
    check(library.carso_attack_result_get_step(address, index, ctypes.byref(native)), None)
    return AttackStep(**{field.name: getattr(native, field.name) for field in fields(AttackStep)})


def attack_result_of(address: int, described: Description, shape: Shape) -> AttackResult:
    handle = _AttackResultHandle(address)
    count = library.carso_attack_result_count(address)

    def array(name: str, dtype: Any, *dimensions: int) -> numpy.ndarray:
        found = view(getattr(library, "carso_attack_result_" + name)(address), dtype, dimensions, handle)
        assert found is not None
        return found

    return AttackResult(
        images=described.restore(array("images", numpy.float32, count, *shape)),
        first_loss=array("first_loss", numpy.float64, count),
        last_loss=array("last_loss", numpy.float64, count),
        non_finite=array("non_finite", numpy.uint8, count).view(numpy.bool_),
        zero_gradient=array("zero_gradient", numpy.float64, count),
        tiny_gradient=array("tiny_gradient", numpy.float64, count),
        non_finite_losses=array("non_finite_losses", numpy.uint32, count),
        non_finite_gradients=array("non_finite_gradients", numpy.uint32, count),
        distance=view(library.carso_attack_result_distance(address), numpy.float64, (count,), handle),
        steps=[_attack_step(address, index) for index in range(library.carso_attack_result_step_count(address))],
    )
