# SPDX-License-Identifier: BSD-2-Clause
"""The library's enumerations. Wherever one is expected, its name in any case will do: ``loss="log_odds"``."""

from enum import IntEnum
from typing import Type, TypeVar, Union


class Status(IntEnum):
    """Result of a call."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 10
    INVALID_IMAGE = 11
    CALLBACK = 12
    OUT_OF_MEMORY = 20
    IO = 30
    NOT_FOUND = 31
    BAD_FORMAT = 40
    UNSUPPORTED = 41
    NON_FINITE = 50
    BACKEND = 60
    INTERNAL = 70


class LogLevel(IntEnum):
    """Severity of a log line."""

    ERROR = 0
    WARNING = 1
    INFO = 2
    DEBUG = 3


class Convolution(IntEnum):
    """How the CPU backend may compute convolutions."""

    AUTOMATIC = 0
    PRECISE = 1
    DIRECT = 2


class PixelType(IntEnum):
    """Type of a pixel component."""

    UINT8 = 0
    FLOAT32 = 1


class PixelLayout(IntEnum):
    """Order of the components in memory."""

    HWC = 0
    CHW = 1


class PixelOrder(IntEnum):
    """Meaning of the components."""

    GRAY = 0
    RGB = 1
    BGR = 2


class Split(IntEnum):
    """Part of a data set."""

    TRAIN = 0
    TEST = 1


class Architecture(IntEnum):
    """Architectures that :meth:`carso.Model.create` can build."""

    WIDE_RESNET = 0
    SMALL_CNN = 1


class Aggregation(IntEnum):
    """How the logits of the draws become one prediction."""

    CARSO = 0
    LOGIT = 1
    PROBABILITY = 2


class Objective(IntEnum):
    """What is attacked or differentiated."""

    CLASSIFIER = 0
    DEFENCE = 1


class Loss(IntEnum):
    """A loss of the draws' logits that an attack raises."""

    CROSS_ENTROPY = 0
    MARGIN = 1
    PROBABILITY_CROSS_ENTROPY = 2
    LOG_ODDS = 3
    CARSO_CROSS_ENTROPY = 4
    DLR = 5
    PROBABILITY_MARGIN = 6
    PROBABILITY_DLR = 7
    CARSO_DLR = 8
    CARSO_MARGIN = 9


class AttackMethod(IntEnum):
    """Methods of :meth:`carso.Model.attack`."""

    FGSM = 0
    PGD = 1
    APGD = 2
    APGD_TARGETED = 3
    SQUARE = 4
    FAB = 5
    FAB_TARGETED = 6


class Norm(IntEnum):
    """Norms that bound a perturbation."""

    LINF = 0
    L2 = 1


Enumeration = TypeVar("Enumeration", bound=IntEnum)


def member(enumeration: Type[Enumeration], value: Union[Enumeration, str, int]) -> Enumeration:
    """The member that a name or a number stands for; ValueError lists the names."""
    try:
        return enumeration[value.upper()] if isinstance(value, str) else enumeration(value)
    except (KeyError, ValueError):
        names = ", ".join(repr(one.name.lower()) for one in enumeration)
        raise ValueError(f"{value!r} is no {enumeration.__name__}; there are {names}") from None
