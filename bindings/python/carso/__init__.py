# SPDX-License-Identifier: BSD-2-Clause
"""libcarso on numpy arrays: robust prediction of images, exact gradients, attacks, training.

    >>> model = carso.Model.load("models/fashion-mnist/model.safetensors")
    >>> prediction = model.predict_robust(images, draws=8, seed=1)
    >>> prediction.labels, prediction.agreement

Wherever an enumeration is expected, its name will do: ``loss="log_odds"``.
"""

from ._release import RELEASE as __version__
from ._structs import Allocator, AllocateCallback, ReleaseCallback
from ._losses import LossBatch
from .context import Context, Memory, abi_version, backends, status_text, version
from .conversion import convert, convert_checkpoint
from .data import Batch, Dataset, DatasetInfo, read_image, write_png
from .enums import (
    Aggregation,
    Architecture,
    AttackMethod,
    Convolution,
    LogLevel,
    Loss,
    Norm,
    Objective,
    PixelLayout,
    PixelOrder,
    PixelType,
    Split,
    Status,
)
from .errors import (
    BackendError,
    BadFormatError,
    CallbackError,
    Cancelled,
    Error,
    InputOutputError,
    InternalError,
    InvalidArgumentError,
    InvalidImageError,
    NonFiniteError,
    NotFoundError,
    OutOfMemoryError,
    UnsupportedError,
)
from .evaluation import Evaluation, evaluate
from .model import Deviation, Model, ModelInfo
from .results import AttackResult, AttackStep, Gradient, Prediction
from .training import Trainer, TrainReport

__all__ = [
    "AllocateCallback",
    "Allocator",
    "Aggregation",
    "Architecture",
    "AttackMethod",
    "AttackResult",
    "AttackStep",
    "BackendError",
    "BadFormatError",
    "Batch",
    "CallbackError",
    "Cancelled",
    "Context",
    "Convolution",
    "Dataset",
    "DatasetInfo",
    "Deviation",
    "Error",
    "Evaluation",
    "Gradient",
    "InputOutputError",
    "InternalError",
    "InvalidArgumentError",
    "InvalidImageError",
    "LogLevel",
    "Loss",
    "LossBatch",
    "Norm",
    "Memory",
    "Model",
    "ModelInfo",
    "NonFiniteError",
    "NotFoundError",
    "Objective",
    "OutOfMemoryError",
    "PixelLayout",
    "PixelOrder",
    "PixelType",
    "Prediction",
    "ReleaseCallback",
    "Split",
    "Status",
    "TrainReport",
    "Trainer",
    "UnsupportedError",
    "__version__",
    "abi_version",
    "backends",
    "convert",
    "convert_checkpoint",
    "evaluate",
    "read_image",
    "status_text",
    "version",
    "write_png",
]
