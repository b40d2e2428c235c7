# SPDX-License-Identifier: BSD-2-Clause
"""Training: the purifier as in the paper, and the classifier adversarially, one call per batch."""

import ctypes
from dataclasses import dataclass
from typing import Any, Mapping, Optional

from ._handle import PathLike, check, encode_path, failure, fill, integer
from ._images import Layout, Order, Shape, as_labels, describe
from ._library import library
from ._structs import ClassifierTrainingOptions, PurifierTrainingOptions, ReadOptions, TrainReport as NativeTrainReport
from .context import Context, ContextHandle
from .enums import Status
from .model import Model


@dataclass(frozen=True)
class TrainReport:
    """What a step measured. The fields of the other kind of trainer are 0."""

    step: int
    #: step / steps_per_epoch
    epoch: float
    learning_rate: float
    #: per image
    loss: float
    #: l2, of the loss that the optimiser saw
    gradient_norm: float
    #: of the batch
    adversarial_share: float
    #: purifier: binary cross-entropy, nats per image
    reconstruction: float
    #: purifier: nats per image
    kl: float
    #: purifier
    beta: float
    #: purifier: root mean square difference of two draws' reconstructions; near 0, the posterior has collapsed
    draw_diversity: float
    #: purifier: beta > 0 and KL under 0.1 nats per image
    collapsed: bool
    #: classifier: of this step's attack
    epsilon: float
    #: classifier: share of the batch that is right on the images trained on
    accuracy: float


class Trainer(ContextHandle):
    """Weights in training, optimiser state and random-number position. One thread at a time."""

    _destroy = "carso_trainer_destroy"

    def __init__(self, address: int, context: Context, context_address: int, shape: Optional[Shape] = None) -> None:
        super().__init__(address, context, context_address)
        if shape is None:
            with self.model() as model:
                shape = model.shape
        self._shape = shape

    @classmethod
    def purifier(
        cls,
        model: Model,
        *,
        steps_per_epoch: int,
        epochs: Optional[int] = None,
        sub_batch: Optional[int] = None,
        schedule_by_step: Optional[bool] = None,
        adversarial_fraction: Optional[float] = None,
        epsilon: Optional[float] = None,
        pgd_steps: Optional[int] = None,
        lookahead_steps: Optional[int] = None,
        pgd_step_size: Optional[float] = None,
        lookahead_rate: Optional[float] = None,
        learning_rate_start: Optional[float] = None,
        learning_rate_peak: Optional[float] = None,
        learning_rate_end: Optional[float] = None,
        warm_up_epochs: Optional[float] = None,
        plateau_epochs: Optional[float] = None,
        annealing_epochs: Optional[float] = None,
        beta_start_epoch: Optional[float] = None,
        beta_full_epoch: Optional[float] = None,
        beta_final: Optional[float] = None,
        free_bits: Optional[float] = None,
        mean_loss: Optional[bool] = None,
        epsilon_over_deviation: Optional[bool] = None,
        seed: Optional[int] = None,
    ) -> "Trainer":
        """Trains the model's purifier; the classifier stays frozen. None leaves the paper's scenario (a).

        The fields are those of carso_purifier_training_options in include/carso/train.h.
        """
        given = {
            "steps_per_epoch": steps_per_epoch,
            "epochs": epochs,
            "sub_batch": sub_batch,
            "schedule_by_step": None if schedule_by_step is None else int(schedule_by_step),
            "adversarial_fraction": adversarial_fraction,
            "epsilon": epsilon,
            "pgd_steps": pgd_steps,
            "lookahead_steps": lookahead_steps,
            "pgd_step_size": pgd_step_size,
            "lookahead_rate": lookahead_rate,
            "learning_rate_start": learning_rate_start,
            "learning_rate_peak": learning_rate_peak,
            "learning_rate_end": learning_rate_end,
            "warm_up_epochs": warm_up_epochs,
            "plateau_epochs": plateau_epochs,
            "annealing_epochs": annealing_epochs,
            "beta_start_epoch": beta_start_epoch,
            "beta_full_epoch": beta_full_epoch,
            "beta_final": beta_final,
            "free_bits": free_bits,
            "mean_loss": None if mean_loss is None else int(mean_loss),
            "epsilon_over_deviation": None if epsilon_over_deviation is None else int(epsilon_over_deviation),
            "seed": seed,
        }
        options = fill(PurifierTrainingOptions, "carso_purifier_training_options_init", given)
        return cls._create("carso_trainer_create_purifier", model, options)

    @classmethod
    def classifier(
        cls,
        model: Model,
        *,
        steps_per_epoch: int,
        epochs: Optional[int] = None,
        sub_batch: Optional[int] = None,
        pgd_steps: Optional[int] = None,
        epsilon: Optional[float] = None,
        pgd_step_size: Optional[float] = None,
        epsilon_ramp_epochs: Optional[float] = None,
        trades_beta: Optional[float] = None,
        learning_rate: Optional[float] = None,
        momentum: Optional[float] = None,
        weight_decay: Optional[float] = None,
        warm_up_epochs: Optional[float] = None,
        label_smoothing: Optional[float] = None,
        seed: Optional[int] = None,
    ) -> "Trainer":
        """Trains the model's classifier adversarially; a purifier is left out. None: the library's default.

        The fields are those of carso_classifier_training_options in include/carso/train.h.
        """
        given = {
            "steps_per_epoch": steps_per_epoch,
            "epochs": epochs,
            "sub_batch": sub_batch,
            "pgd_steps": pgd_steps,
            "epsilon": epsilon,
            "pgd_step_size": pgd_step_size,
            "epsilon_ramp_epochs": epsilon_ramp_epochs,
            "trades_beta": trades_beta,
            "learning_rate": learning_rate,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "warm_up_epochs": warm_up_epochs,
            "label_smoothing": label_smoothing,
            "seed": seed,
        }
        options = fill(ClassifierTrainingOptions, "carso_classifier_training_options_init", given)
        return cls._create("carso_trainer_create_classifier", model, options)

    @classmethod
    def load(cls, path: PathLike, context: Optional[Context] = None) -> "Trainer":
        """Loads a checkpoint: given the same batches, backend and threads, training goes on with the same bits."""
        context = context or Context()
        out = ctypes.c_void_p()
        check(library.carso_trainer_load(context.address, encode_path(path), ctypes.byref(out)), context.address)
        assert out.value is not None
        return cls(out.value, context, context.address)

    def step(self, images: Any, labels: Any, *, layout: Layout = None, order: Order = "rgb") -> TrainReport:
        """One step on a batch of at least two images: attacks, losses, gradients, update.

        NonFiniteError: nothing was updated; the message says where.
        """
        described = describe(images, layout, order, self._shape)
        true_labels = as_labels(labels, described.images.count)
        native = NativeTrainReport()
        status = library.carso_train_step(
            self.address, ctypes.byref(described.images), true_labels.ctypes.data, ctypes.byref(native)
        )
        check(status, self._context_address)
        fields = {name: getattr(native, name) for name in TrainReport.__dataclass_fields__}
        fields["collapsed"] = bool(native.collapsed)
        return TrainReport(**fields)

    @property
    def steps_done(self) -> int:
        return library.carso_trainer_step(self.address)

    def model(self) -> Model:
        """The model with the weights reached."""
        out = ctypes.c_void_p()
        check(library.carso_trainer_get_model(self.address, ctypes.byref(out)), self._context_address)
        assert out.value is not None
        return Model(out.value, self._context, self._context_address)

    def set_data(
        self, name: str, images: int, batch: int, *, crop_padding: Optional[int] = None, mirror: bool = False
    ) -> None:
        """Tells where the batches come from, and their augmentation: checkpoints and the model's provenance keep it.

        A loaded trainer refuses other numbers of images (of an epoch) or batch (of a step), or another augmentation,
        than it was told of before.
        """
        encoded = name.encode()
        if b"\0" in encoded:
            raise ValueError("a name with a null character")
        given = {"crop_padding": crop_padding, "mirror": int(mirror)}
        reading = fill(ReadOptions, "carso_read_options_init", given)
        status = library.carso_trainer_set_data(
            self.address,
            encoded,
            integer("images", images, ctypes.c_uint64),
            integer("batch", batch, ctypes.c_uint64),
            ctypes.byref(reading),
        )
        check(status, self._context_address)

    def check_purifier(self, **options: Any) -> None:
        """Refuses another training than that of a purifier with these options, which are those of Trainer.purifier."""
        self._check(PurifierTrainingOptions, "purifier", options)

    def check_classifier(self, **options: Any) -> None:
        """Refuses another training than that of a classifier with these options, which are those of Trainer.classifier."""
        self._check(ClassifierTrainingOptions, "classifier", options)

    def save(self, path: PathLike) -> None:
        """Writes a checkpoint, which is a model file too; a failure leaves what was at path as it was."""
        check(library.carso_trainer_save(self.address, encode_path(path)), self._context_address)

    def _check(self, kind: Any, name: str, given: Mapping[str, Any]) -> None:
        names = {field[0] for field in kind._fields_} - {"struct_size"}
        for option in given:
            if option not in names:
                raise TypeError(f"no option of a {name}'s training is called {option}")
        options = fill(kind, f"carso_{name}_training_options_init", given)
        check(getattr(library, f"carso_trainer_check_{name}")(self.address, ctypes.byref(options)), self._context_address)

    @classmethod
    def _create(cls, function: str, model: Model, options: Any) -> "Trainer":
        out = ctypes.c_void_p()
        status = getattr(library, function)(model.address, ctypes.byref(options), ctypes.byref(out))
        if status != Status.OK or out.value is None:
            raise failure(status, model._context_address)
        return cls(out.value, model.context, model._context_address, model.shape)
