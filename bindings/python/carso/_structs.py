# SPDX-License-Identifier: BSD-2-Clause
"""The structs of include/carso, field by field, and the types of its callbacks."""

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint64,
    c_void_p,
)
from typing import Any

LogCallback = CFUNCTYPE(None, c_int, c_char_p, c_void_p)
AllocateCallback = CFUNCTYPE(c_void_p, c_size_t, c_size_t, c_void_p)
ReleaseCallback = CFUNCTYPE(None, c_void_p, c_void_p)


class Progress(Structure):
    _fields_ = [("struct_size", c_size_t), ("done", c_uint64), ("total", c_uint64), ("unit", c_char_p)]


ProgressCallback = CFUNCTYPE(c_int, POINTER(Progress), c_void_p)


class SizedStructure(Structure):
    """A struct that begins with its own size."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(struct_size=ctypes.sizeof(type(self)), **fields)


class Allocator(Structure):
    """The caller's allocator: two C functions that any thread may call."""

    _fields_ = [("allocate", AllocateCallback), ("release", ReleaseCallback), ("user", c_void_p)]


class ContextOptions(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("backend", c_char_p),
        ("threads", c_int32),
        ("log_level", c_int32),
        ("log", LogCallback),
        ("log_user", c_void_p),
        ("allocator", Allocator),
        ("memory_limit", c_uint64),
        ("convolution", c_int32),
        ("reserved", c_int32),
    ]


class Memory(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("mapped_weights", c_uint64),
        ("own_weights", c_uint64),
        ("packed_weights", c_uint64),
        ("transformed_weights", c_uint64),
        ("buffers", c_uint64),
        ("most_buffers", c_uint64),
    ]


class Images(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("data", c_void_p),
        ("count", c_uint64),
        ("width", c_int32),
        ("height", c_int32),
        ("type", c_int32),
        ("layout", c_int32),
        ("order", c_int32),
        ("reserved", c_int32),
        ("pixel_stride", c_int64),
        ("row_stride", c_int64),
        ("plane_stride", c_int64),
        ("image_stride", c_int64),
    ]


class ModelOptions(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("architecture", c_int32),
        ("depth", c_int32),
        ("width", c_int32),
        ("channels", c_int32),
        ("image_height", c_int32),
        ("image_width", c_int32),
        ("classes", c_int32),
        ("reserved", c_int32),
        ("mean", c_float * 3),
        ("deviation", c_float * 3),
        ("class_names", POINTER(c_char_p)),
        ("seed", c_uint64),
    ]


class Deviation(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("name", c_char_p),
        ("count", c_uint64),
        ("largest_difference", c_double),
        ("scale", c_double),
        ("position", c_uint64),
        ("stored", c_double),
        ("computed", c_double),
        ("departs", c_int32),
        ("reserved", c_int32),
    ]


DeviationCallback = CFUNCTYPE(None, POINTER(Deviation), c_void_p)


class PurifierOptions(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("condition_size", c_int32),
        ("latent_size", c_int32),
        ("seed_channels", c_int32),
        ("reserved", c_int32),
        ("seed", c_uint64),
    ]


class ModelInfo(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("channels", c_int32),
        ("image_height", c_int32),
        ("image_width", c_int32),
        ("classes", c_int32),
        ("has_purifier", c_int32),
        ("taps", c_int32),
        ("condition_size", c_int32),
        ("latent_size", c_int32),
        ("classifier_parameters", c_uint64),
        ("purifier_parameters", c_uint64),
        ("classifier_multiply_adds", c_uint64),
        ("condition_multiply_adds", c_uint64),
        ("decoder_multiply_adds", c_uint64),
    ]


class PredictOptions(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("draws", c_int32),
        ("aggregation", c_int32),
        ("seed", c_uint64),
        ("first_image", c_uint64),
        ("keep_reconstructions", c_int32),
        ("reserved", c_int32),
        ("progress", ProgressCallback),
        ("progress_user", c_void_p),
    ]


class LossBatch(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("count", c_uint64),
        ("draws", c_int32),
        ("classes", c_int32),
        ("logits", c_void_p),
        ("labels", c_void_p),
        ("targets", c_void_p),
        ("image_index", c_void_p),
        ("losses", c_void_p),
        ("logit_gradient", c_void_p),
    ]


LossCallback = CFUNCTYPE(c_int, POINTER(LossBatch), c_void_p)


class GradientOptions(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("objective", c_int32),
        ("loss", c_int32),
        ("draws", c_int32),
        ("reserved", c_int32),
        ("seed", c_uint64),
        ("first_image", c_uint64),
        ("logit_gradient", c_void_p),
        ("progress", ProgressCallback),
        ("progress_user", c_void_p),
        ("targets", c_void_p),
        ("loss_function", LossCallback),
        ("loss_user", c_void_p),
    ]


class AttackOptions(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("method", c_int32),
        ("objective", c_int32),
        ("loss", c_int32),
        ("steps", c_int32),
        ("epsilon", c_double),
        ("step_size", c_double),
        ("random_start", c_int32),
        ("restarts", c_int32),
        ("draws", c_int32),
        ("eot", c_int32),
        ("seed", c_uint64),
        ("first_image", c_uint64),
        ("progress", ProgressCallback),
        ("progress_user", c_void_p),
        ("norm", c_int32),
        ("early_stop", c_int32),
        ("momentum", c_double),
        ("queries", c_int32),
        ("target_classes", c_int32),
        ("targets", c_void_p),
        ("loss_function", LossCallback),
        ("loss_user", c_void_p),
        ("fixed_draws", c_int32),
        ("transfer", c_int32),
    ]


class AttackStep(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("first_step", c_uint64),
        ("steps", c_uint64),
        ("evaluations", c_uint64),
        ("non_finite", c_uint64),
        ("misclassified", c_uint64),
        ("gradients", c_uint64),
        ("flat_gradients", c_uint64),
        ("mean_loss", c_double),
        ("zero_gradient", c_double),
        ("tiny_gradient", c_double),
    ]


class EvaluationOptions(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("protocol", c_char_p),
        ("epsilons", c_void_p),
        ("epsilon_count", c_uint64),
        ("norm", c_int32),
        ("draws", c_int32),
        ("repeats", c_int32),
        ("aggregation", c_int32),
        ("batch", c_int32),
        ("shard", c_int32),
        ("shards", c_int32),
        ("reserved", c_int32),
        ("seed", c_uint64),
        ("first_image", c_uint64),
        ("loss_function", LossCallback),
        ("loss_user", c_void_p),
    ]


class DatasetInfo(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("count", c_uint64),
        ("channels", c_int32),
        ("height", c_int32),
        ("width", c_int32),
        ("classes", c_int32),
        ("format", c_char_p),
    ]


class ReadOptions(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("crop_padding", c_int32),
        ("mirror", c_int32),
        ("seed", c_uint64),
        ("epoch", c_uint64),
    ]


class DatasetOptions(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("split", c_int32),
        ("channels", c_int32),
        ("height", c_int32),
        ("width", c_int32),
    ]


class ReaderOptions(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("batch", c_uint64),
        ("threads", c_int32),
        ("ahead", c_int32),
        ("keep_going", c_int32),
        ("reserved", c_int32),
        ("first", c_uint64),
        ("reading", c_void_p),
    ]


class ReadBatch(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("first", c_uint64),
        ("count", c_uint64),
        ("pixels", c_void_p),
        ("labels", c_void_p),
        ("statuses", c_void_p),
        ("messages", POINTER(c_char_p)),
    ]


class PurifierTrainingOptions(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("steps_per_epoch", c_int32),
        ("epochs", c_int32),
        ("sub_batch", c_int32),
        ("schedule_by_step", c_int32),
        ("adversarial_fraction", c_double),
        ("epsilon", c_double),
        ("pgd_steps", c_int32),
        ("lookahead_steps", c_int32),
        ("pgd_step_size", c_double),
        ("lookahead_rate", c_double),
        ("learning_rate_start", c_double),
        ("learning_rate_peak", c_double),
        ("learning_rate_end", c_double),
        ("warm_up_epochs", c_double),
        ("plateau_epochs", c_double),
        ("annealing_epochs", c_double),
        ("beta_start_epoch", c_double),
        ("beta_full_epoch", c_double),
        ("beta_final", c_double),
        ("free_bits", c_double),
        ("mean_loss", c_int32),
        ("epsilon_over_deviation", c_int32),
        ("seed", c_uint64),
    ]


class ClassifierTrainingOptions(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("steps_per_epoch", c_int32),
        ("epochs", c_int32),
        ("sub_batch", c_int32),
        ("pgd_steps", c_int32),
        ("epsilon", c_double),
        ("pgd_step_size", c_double),
        ("epsilon_ramp_epochs", c_double),
        ("trades_beta", c_double),
        ("learning_rate", c_double),
        ("momentum", c_double),
        ("weight_decay", c_double),
        ("warm_up_epochs", c_double),
        ("label_smoothing", c_double),
        ("seed", c_uint64),
    ]


class TrainReport(SizedStructure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("step", c_uint64),
        ("epoch", c_double),
        ("learning_rate", c_double),
        ("loss", c_double),
        ("gradient_norm", c_double),
        ("adversarial_share", c_double),
        ("reconstruction", c_double),
        ("kl", c_double),
        ("beta", c_double),
        ("draw_diversity", c_double),
        ("collapsed", c_int32),
        ("reserved", c_int32),
        ("epsilon", c_double),
        ("accuracy", c_double),
    ]
