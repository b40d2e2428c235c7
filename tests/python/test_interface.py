# SPDX-License-Identifier: BSD-2-Clause
"""The package mirrors include/carso: every function, every struct field in its place, every enumeration value."""

import ctypes
import re
import sys
import unittest
from pathlib import Path

import carso
from carso import _library, _release, _structs, enums
from carso._handle import failure

HEADERS = Path(__file__).resolve().parents[2] / "include" / "carso"

SCALARS = {
    "size_t": ctypes.c_size_t,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "double": ctypes.c_double,
    "float": ctypes.c_float,
    "const char *": ctypes.c_char_p,
    "void *": ctypes.c_void_p,
    "const void *": ctypes.c_void_p,
    "const double *": ctypes.c_void_p,
    "const int32_t *": ctypes.c_void_p,
    "const uint64_t *": ctypes.c_void_p,
    "double *": ctypes.c_void_p,
    "const uint8_t *": ctypes.c_void_p,
    "const carso_read_options *": ctypes.c_void_p,
    "const char *const *": ctypes.POINTER(ctypes.c_char_p),
    "carso_log_callback": _structs.LogCallback,
    "carso_progress_callback": _structs.ProgressCallback,
    "carso_loss_callback": _structs.LossCallback,
    "carso_allocator": _structs.Allocator,
    "void *(*)(size_t size, size_t alignment, void *user)": _structs.AllocateCallback,
    "void (*)(void *memory, void *user)": _structs.ReleaseCallback,
}
PARAMETERS = {
    "int": ctypes.c_int,
    "int32_t": ctypes.c_int32,
    "size_t": ctypes.c_size_t,
    "uint64_t": ctypes.c_uint64,
    "double": ctypes.c_double,
    "carso_deviation_callback": _structs.DeviationCallback,
    "carso_progress_callback": _structs.ProgressCallback,
}


def headers():
    text = "".join(path.read_text() for path in sorted(HEADERS.glob("*.h")))
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def python_name(name):
    return "".join(part.capitalize() for part in name.split("_")[1:])


def split_field(declaration):
    """(type, name) of a struct's field."""
    declaration = " ".join(declaration.split())
    function = re.fullmatch(r"(.*)\(\*(\w+)\)(\(.*\))", declaration)
    if function:
        return f"{function[1]}(*){function[3]}", function[2]
    plain = re.fullmatch(r"(.*?)(\w+)(?:\[(\d+)\])?", declaration)
    kind = plain[1].strip()
    return (kind, plain[2]) if plain[3] is None else (f"{kind}[{plain[3]}]", plain[2])


def python_type(kind):
    array = re.fullmatch(r"(\w+)\[(\d+)\]", kind)
    return SCALARS[array[1]] * int(array[2]) if array else SCALARS[kind]


class TheInterfaceIsMirrored(unittest.TestCase):
    def test_every_struct_field_for_field(self):
        structs = re.findall(r"typedef struct carso_(\w+) \{(.*?)\}", headers(), re.DOTALL)
        self.assertGreaterEqual(len(structs), 15)
        for name, body in structs:
            with self.subTest(name):
                mirror = getattr(_structs, python_name("carso_" + name))
                fields = [split_field(one) for one in body.split(";") if one.strip()]
                self.assertEqual([field for _, field in fields], [field[0] for field in mirror._fields_])
                for (kind, field), mirrored in zip(fields, mirror._fields_):
                    self.assertEqual(python_type(kind), mirrored[1], field)

    def test_every_enumeration(self):
        found = re.findall(r"typedef enum carso_(\w+) \{(.*?)\}", headers(), re.DOTALL)
        self.assertGreaterEqual(len(found), 11)
        for name, body in found:
            with self.subTest(name):
                values = [int(value) for value in re.findall(r"= (\d+)", body)]
                mirror = getattr(enums, python_name("carso_" + name))
                self.assertEqual(values, [int(member) for member in mirror])
                names = re.findall(r"(\w+) = \d+", body)
                for in_c, member in zip(names, mirror):
                    self.assertTrue(in_c.endswith("_" + member.name), f"{in_c} and {member.name}")

    def test_every_function_with_its_parameters(self):
        declared = dict(re.findall(r"CARSO_API [^;(]*?\b(carso_\w+)\((.*?)\);", headers(), re.DOTALL))
        self.assertEqual(set(declared), set(_library.PROTOTYPES))
        for name, text in declared.items():
            with self.subTest(name):
                parameters = [] if text.strip() == "void" else [" ".join(one.split()) for one in text.split(",")]
                arguments = _library.PROTOTYPES[name][1]
                self.assertEqual(len(parameters), len(arguments))
                for parameter, argument in zip(parameters, arguments):
                    kind = re.sub(r"\b\w+$", "", parameter).strip()
                    if "*" not in kind:
                        self.assertIs(argument, PARAMETERS.get(kind, ctypes.c_int), parameter)
                    else:
                        self.assertEqual(ctypes.sizeof(argument), ctypes.sizeof(ctypes.c_void_p), parameter)

    def test_every_option_can_be_given(self):
        """Each field of an option struct is an argument of the call that takes it."""
        for kind, call in (
            (_structs.ModelOptions, carso.Model.create),
            (_structs.PurifierOptions, carso.Model.add_purifier),
            (_structs.PredictOptions, carso.Model.predict_robust),
            (_structs.GradientOptions, carso.Model.gradient),
            (_structs.AttackOptions, carso.Model.attack),
            (_structs.EvaluationOptions, carso.Evaluation.create),
            (_structs.PurifierTrainingOptions, carso.Trainer.purifier),
            (_structs.ClassifierTrainingOptions, carso.Trainer.classifier),
            (_structs.ReadOptions, carso.Dataset.read),
            (_structs.ContextOptions, carso.Context.__init__),
        ):
            code = getattr(call, "__func__", call).__code__
            arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            fields = {field[0] for field in kind._fields_} - {"struct_size", "reserved", "progress_user", "log_user", "loss_user", "epsilon_count"}
            self.assertEqual(fields - set(arguments), set(), call.__qualname__)

    def test_versions(self):
        version = re.search(r"VERSION_MAJOR (\d+).*?VERSION_MINOR (\d+).*?VERSION_PATCH (\d+)", headers(), re.DOTALL)
        self.assertEqual(_release.RELEASE, ".".join(version.groups()))
        self.assertEqual(carso.version(), _release.RELEASE)
        abi = re.search(r"ABI_MAJOR (\d+).*?ABI_MINOR (\d+)", headers(), re.DOTALL)
        self.assertEqual((_release.ABI_MAJOR, _release.ABI_MINOR), tuple(int(number) for number in abi.groups()))
        self.assertEqual(carso.abi_version(), _release.ABI_MAJOR * 1000 + _release.ABI_MINOR)

    def test_an_exception_for_every_failure(self):
        for status in enums.Status:
            if status is not enums.Status.OK:
                error = failure(status, None)
                self.assertIsInstance(error, carso.Error)
                self.assertIsNot(type(error), carso.Error)
                self.assertEqual(error.status, status)
                self.assertEqual(str(error), carso.status_text(status))

    def test_all_that_is_exported_is_there_and_documented(self):
        for name in carso.__all__:
            found = getattr(carso, name)
            if not name.startswith("__") and not name.endswith("Callback"):
                self.assertTrue(found.__doc__, name)


if __name__ == "__main__":
    sys.exit(unittest.main())
