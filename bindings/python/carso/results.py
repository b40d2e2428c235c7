# SPDX-License-Identifier: BSD-2-Clause
"""What predictions, gradients and attacks return."""

from dataclasses import dataclass
from typing import Any, Optional

import numpy

from ._handle import Handle, view
from ._images import Description, Shape
from ._library import library


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
    )
