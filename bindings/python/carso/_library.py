# SPDX-License-Identifier: BSD-2-Clause
"""Finds libcarso, loads it, and declares every function of its interface."""

import ctypes
import os
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from . import _structs as structs
from ._release import ABI_MAJOR, ABI_MINOR

VARIABLE = "CARSO_LIBRARY"
FILE_NAME = f"libcarso.so.{ABI_MAJOR}"

#: Name: (result, arguments). Handles and arrays are plain addresses.
PROTOTYPES: Dict[str, Tuple[object, Sequence[object]]] = {
    # version.h
    "carso_version": (c_char_p, []),
    "carso_abi_version": (c_int, []),
    # context.h
    "carso_status_str": (c_char_p, [c_int]),
    "carso_context_options_init": (None, [POINTER(structs.ContextOptions), c_size_t]),
    "carso_context_create": (c_int, [POINTER(structs.ContextOptions), POINTER(c_void_p)]),
    "carso_context_destroy": (None, [c_void_p]),
    "carso_context_message": (c_size_t, [c_void_p, c_char_p, c_size_t]),
    "carso_context_backend": (c_char_p, [c_void_p]),
    "carso_context_threads": (c_int32, [c_void_p]),
    "carso_context_memory": (c_int, [c_void_p, POINTER(structs.Memory)]),
    "carso_backend_count": (c_size_t, []),
    "carso_backend_name": (c_char_p, [c_size_t]),
    # image.h
    "carso_images_init": (None, [POINTER(structs.Images), c_size_t]),
    # model.h
    "carso_model_options_init": (None, [POINTER(structs.ModelOptions), c_size_t]),
    "carso_purifier_options_init": (None, [POINTER(structs.PurifierOptions), c_size_t]),
    "carso_preset_name": (c_char_p, [c_size_t]),
    "carso_model_options_preset": (c_int, [POINTER(structs.ModelOptions), c_size_t, c_char_p]),
    "carso_purifier_options_preset": (c_int, [POINTER(structs.PurifierOptions), c_size_t, c_char_p]),
    "carso_model_create": (c_int, [c_void_p, POINTER(structs.ModelOptions), POINTER(c_void_p)]),
    "carso_model_add_purifier": (c_int, [c_void_p, POINTER(structs.PurifierOptions), POINTER(c_void_p)]),
    "carso_model_load": (c_int, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "carso_model_load_memory": (c_int, [c_void_p, c_void_p, c_size_t, POINTER(c_void_p)]),
    "carso_model_import": (c_int, [c_void_p, POINTER(c_char_p), c_size_t, POINTER(c_void_p)]),
    "carso_model_verify": (
        c_int,
        [c_void_p, c_char_p, c_double, structs.DeviationCallback, c_void_p, POINTER(c_int32)],
    ),
    "carso_model_save": (c_int, [c_void_p, c_char_p]),
    "carso_model_destroy": (None, [c_void_p]),
    "carso_model_get_info": (c_int, [c_void_p, POINTER(structs.ModelInfo)]),
    "carso_model_class_name": (c_char_p, [c_void_p, c_int32]),
    "carso_model_describe": (c_char_p, [c_void_p]),
    "carso_model_context": (c_void_p, [c_void_p]),
    # predict.h
    "carso_predict_options_init": (None, [POINTER(structs.PredictOptions), c_size_t]),
    "carso_predict": (c_int, [c_void_p, POINTER(structs.Images), POINTER(structs.PredictOptions), POINTER(c_void_p)]),
    "carso_purify": (c_int, [c_void_p, POINTER(structs.Images), POINTER(structs.PredictOptions), POINTER(c_void_p)]),
    "carso_predict_robust": (
        c_int,
        [c_void_p, POINTER(structs.Images), POINTER(structs.PredictOptions), POINTER(c_void_p)],
    ),
    "carso_prediction_destroy": (None, [c_void_p]),
    "carso_prediction_count": (c_uint64, [c_void_p]),
    "carso_prediction_classes": (c_int32, [c_void_p]),
    "carso_prediction_draws": (c_int32, [c_void_p]),
    "carso_prediction_labels": (c_void_p, [c_void_p]),
    "carso_prediction_probabilities": (c_void_p, [c_void_p]),
    "carso_prediction_log_odds": (c_void_p, [c_void_p]),
    "carso_prediction_logits": (c_void_p, [c_void_p]),
    "carso_prediction_agreement": (c_void_p, [c_void_p]),
    "carso_prediction_reconstructions": (c_void_p, [c_void_p]),
    "carso_gradient_options_init": (None, [POINTER(structs.GradientOptions), c_size_t]),
    "carso_gradient": (
        c_int,
        [c_void_p, POINTER(structs.Images), c_void_p, POINTER(structs.GradientOptions), c_void_p, c_void_p, c_void_p],
    ),
    # attack.h
    "carso_attack_options_init": (None, [POINTER(structs.AttackOptions), c_size_t]),
    "carso_attack": (
        c_int,
        [c_void_p, POINTER(structs.Images), c_void_p, POINTER(structs.AttackOptions), POINTER(c_void_p)],
    ),
    "carso_attack_result_destroy": (None, [c_void_p]),
    "carso_attack_result_count": (c_uint64, [c_void_p]),
    "carso_attack_result_images": (c_void_p, [c_void_p]),
    "carso_attack_result_first_loss": (c_void_p, [c_void_p]),
    "carso_attack_result_last_loss": (c_void_p, [c_void_p]),
    "carso_attack_result_non_finite": (c_void_p, [c_void_p]),
    "carso_attack_result_zero_gradient": (c_void_p, [c_void_p]),
    "carso_attack_result_tiny_gradient": (c_void_p, [c_void_p]),
    "carso_attack_result_non_finite_losses": (c_void_p, [c_void_p]),
    "carso_attack_result_non_finite_gradients": (c_void_p, [c_void_p]),
    "carso_attack_result_distance": (c_void_p, [c_void_p]),
    "carso_attack_result_step_count": (c_uint64, [c_void_p]),
    "carso_attack_result_get_step": (c_int, [c_void_p, c_uint64, POINTER(structs.AttackStep)]),
    # evaluate.h
    "carso_evaluation_options_init": (None, [POINTER(structs.EvaluationOptions), c_size_t]),
    "carso_evaluation_create": (
        c_int,
        [c_void_p, POINTER(structs.Images), c_void_p, POINTER(structs.EvaluationOptions), POINTER(c_void_p)],
    ),
    "carso_evaluation_step": (c_int, [c_void_p, structs.ProgressCallback, c_void_p, POINTER(c_int32)]),
    "carso_evaluation_save": (c_int, [c_void_p, c_char_p]),
    "carso_evaluation_set_command": (c_int, [c_void_p, c_char_p]),
    "carso_evaluation_resume": (c_int, [c_void_p, c_char_p]),
    "carso_evaluation_open": (c_int, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "carso_evaluation_merge": (c_int, [c_void_p, POINTER(c_char_p), c_size_t, POINTER(c_void_p)]),
    "carso_evaluation_destroy": (None, [c_void_p]),
    "carso_evaluation_result": (c_char_p, [c_void_p]),
    "carso_evaluation_count": (c_uint64, [c_void_p]),
    "carso_evaluation_shape": (None, [c_void_p, c_void_p]),
    "carso_evaluation_images": (c_void_p, [c_void_p, c_int32]),
    "carso_evaluation_positions": (c_void_p, [c_void_p]),
    "carso_evaluation_labels": (c_void_p, [c_void_p]),
    "carso_evaluation_predictions": (c_void_p, [c_void_p, c_int32]),
    # train.h
    "carso_purifier_training_options_init": (None, [POINTER(structs.PurifierTrainingOptions), c_size_t]),
    "carso_classifier_training_options_init": (None, [POINTER(structs.ClassifierTrainingOptions), c_size_t]),
    "carso_purifier_training_options_preset": (
        c_int,
        [POINTER(structs.PurifierTrainingOptions), c_size_t, c_char_p, c_void_p],
    ),
    "carso_trainer_create_purifier": (c_int, [c_void_p, POINTER(structs.PurifierTrainingOptions), POINTER(c_void_p)]),
    "carso_trainer_create_classifier": (
        c_int,
        [c_void_p, POINTER(structs.ClassifierTrainingOptions), POINTER(c_void_p)],
    ),
    "carso_train_step": (c_int, [c_void_p, POINTER(structs.Images), c_void_p, POINTER(structs.TrainReport)]),
    "carso_trainer_get_model": (c_int, [c_void_p, POINTER(c_void_p)]),
    "carso_trainer_step": (c_uint64, [c_void_p]),
    "carso_trainer_set_data": (c_int, [c_void_p, c_char_p, c_uint64, c_uint64, POINTER(structs.ReadOptions)]),
    "carso_trainer_check_purifier": (c_int, [c_void_p, POINTER(structs.PurifierTrainingOptions)]),
    "carso_trainer_check_classifier": (c_int, [c_void_p, POINTER(structs.ClassifierTrainingOptions)]),
    "carso_trainer_save": (c_int, [c_void_p, c_char_p]),
    "carso_trainer_load": (c_int, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "carso_trainer_destroy": (None, [c_void_p]),
    # data.h
    "carso_read_options_init": (None, [POINTER(structs.ReadOptions), c_size_t]),
    "carso_dataset_open": (c_int, [c_void_p, c_char_p, c_int, POINTER(c_void_p)]),
    "carso_dataset_destroy": (None, [c_void_p]),
    "carso_dataset_get_info": (c_int, [c_void_p, POINTER(structs.DatasetInfo)]),
    "carso_dataset_class_name": (c_char_p, [c_void_p, c_int32]),
    "carso_dataset_read": (c_int, [c_void_p, c_void_p, c_size_t, POINTER(structs.ReadOptions), c_void_p, c_void_p]),
    "carso_dataset_shuffle": (c_int, [c_void_p, c_uint64, c_uint64, c_void_p]),
    "carso_dataset_options_init": (None, [POINTER(structs.DatasetOptions), c_size_t]),
    "carso_dataset_open_with": (c_int, [c_void_p, c_char_p, POINTER(structs.DatasetOptions), POINTER(c_void_p)]),
    "carso_dataset_open_files": (
        c_int,
        [c_void_p, POINTER(c_char_p), c_size_t, POINTER(structs.DatasetOptions), POINTER(c_void_p)],
    ),
    "carso_dataset_file": (c_char_p, [c_void_p, c_uint64]),
    "carso_reader_options_init": (None, [POINTER(structs.ReaderOptions), c_size_t]),
    "carso_reader_open": (c_int, [c_void_p, c_void_p, c_uint64, POINTER(structs.ReaderOptions), POINTER(c_void_p)]),
    "carso_reader_next": (c_int, [c_void_p, POINTER(structs.ReadBatch)]),
    "carso_reader_destroy": (None, [c_void_p]),
    "carso_image_read": (c_int, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "carso_image_destroy": (None, [c_void_p]),
    "carso_image_get_images": (c_int, [c_void_p, POINTER(structs.Images)]),
    "carso_image_write_png": (c_int, [c_void_p, c_char_p, POINTER(structs.Images), c_uint64]),
}


def candidates() -> List[str]:
    """The files to try, in order; a bare name is left to the system's loader."""
    named = os.environ.get(VARIABLE)
    if named:
        return [named]
    beside = Path(__file__).resolve().parents[3] / "build" / "include" / FILE_NAME
    return ([str(beside)] if beside.is_file() else []) + [FILE_NAME]


def load() -> ctypes.CDLL:
    """The first library that loads, its functions declared; ImportError where none does or it is of another interface."""
    reasons = []
    for candidate in candidates():
        try:
            library = ctypes.CDLL(candidate)
        except OSError as error:
            reasons.append(str(error))
            continue
        return declare(library, candidate)
    raise ImportError(f"libcarso was not found ({'; '.join(reasons)}); install it, or name the file in {VARIABLE}")


def declare(library: ctypes.CDLL, name: str) -> ctypes.CDLL:
    """Checks the version before anything else of the library is relied on."""
    try:
        found = library.carso_abi_version()
    except AttributeError:
        raise ImportError(f"{name} is not libcarso: it has no carso_abi_version") from None
    if found // 1000 != ABI_MAJOR or found % 1000 < ABI_MINOR:
        raise ImportError(
            f"{name} has the binary interface {found // 1000}.{found % 1000}; "
            f"this package needs {ABI_MAJOR}.{ABI_MINOR} or a later {ABI_MAJOR}.x"
        )
    for function, (result, arguments) in PROTOTYPES.items():
        declared = getattr(library, function)
        declared.restype = result
        declared.argtypes = arguments
    return library


library = load()
