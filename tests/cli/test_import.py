# SPDX-License-Identifier: BSD-2-Clause
"""Weights of other programs: in the forms in which they are published, strictly; what comes out against PyTorch's tensors."""
import functools
import json
import math
import os
import struct
import unittest

import named_weights
import tensor_files
from program import ProgramTest

GOLDEN = os.path.join(os.environ["CARSO_GOLDEN"], "wrn_10_1_32.safetensors")
COUNTER = tensor_files.numbers("I64", [], [7])
PARTS = ("repr_compressors", "repr_fcn_compressor", "decoder")


@functools.lru_cache(maxsize=None)
def state_dictionary(part):
    """Of the networks that the golden file is of, with PyTorch's names."""
    shapes = json.loads(tensor_files.read_metadata(GOLDEN)[part])
    return {name: ("F32", shape, named_weights.weights(name, shape).tobytes()) for name, shape in shapes.items()}


class ImportTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.run_program("new", "--preset", "cifar10", "--depth", "10", "-w", "1", "--condition-size", "24", "--latent-size", "8",
                         "-o", "new.safetensors", "-q")
        self.classifier, self.purifier = state_dictionary("classifier"), state_dictionary("purifier")
        tensor_files.write(self.path("classifier.safetensors"), self.classifier)
        tensor_files.write(self.path("purifier.safetensors"), self.purifier)

    def write(self, name, tensors):
        tensor_files.write(self.path(name), tensors)
        return name

    def with_counters(self, tensors):
        """As PyTorch's state dictionaries have them, at whatever offset they come to stand."""
        counted = {}
        for name, tensor in tensors.items():
            counted[name] = tensor
            if name.endswith("running_var"):
                counted[name.replace("running_var", "num_batches_tracked")] = COUNTER
        return counted

    def agree(self, model, compared):
        report = self.run_json("verify", model, GOLDEN)
        self.assertEqual((report["departures"], report["first_departure"], report["compared"]), (0, None, compared))
        for tensor in report["tensors"]:
            self.assertLess(tensor["relative"], 1e-4)


class Forms(ImportTest):
    def test_state_dictionaries(self):
        report = self.run_json("import", "new.safetensors", "classifier.safetensors", "purifier.safetensors", "-o", "m.safetensors")
        self.assertEqual(report["classifier_parameters"], sum(len(data) // 4 for _, _, data in self.classifier.values()))
        self.assertEqual(report["purifier_parameters"], sum(len(data) // 4 for _, _, data in self.purifier.values()))
        self.agree("m.safetensors", 12)
        described = self.run_json("info", "m.safetensors")
        self.assertEqual(described["provenance"]["imported"], ["classifier.safetensors", "purifier.safetensors"])

    def test_nested_checkpoint_with_counters(self):
        for prefix in ("module.", "model.", "state.module.0.", "layer."):
            with self.subTest(prefix):
                self.write("w.safetensors", {prefix + name: tensor for name, tensor in self.with_counters(self.classifier).items()})
                out, err = self.run_program("import", "new.safetensors", "w.safetensors", "-o", "m.safetensors")
                self.assertEqual(err, "")
                self.assertIn("no purifier", out)
                self.agree("m.safetensors", 9)

    def test_the_three_released_files(self):
        names = ["classifier.safetensors"]
        for part in PARTS:
            tensors = {name[len(part) + 1:]: tensor for name, tensor in self.purifier.items() if name.startswith(part + ".")}
            self.assertGreater(len(tensors), 4)
            names.append(self.write(f"cifar10_{part}.safetensors", self.with_counters(tensors)))
        self.run_program("import", "new.safetensors", *names, "-o", "m.safetensors", "-q")
        self.agree("m.safetensors", 12)
        self.assertFalse(self.run_json("info", "m.safetensors")["purifier"].get("encoder"))
        # The purifier alone leaves the classifier, whichever it is.
        self.run_program("import", "m.safetensors", *names[:0:-1], "-o", "again.safetensors", "-q")
        self.agree("again.safetensors", 12)

    def test_a_model_file(self):
        self.run_program("import", "new.safetensors", "classifier.safetensors", "purifier.safetensors", "-o", "m.safetensors",
                         "-q")
        self.run_program("import", "new.safetensors", "m.safetensors", "-o", "new.safetensors", "-q")
        self.agree("new.safetensors", 12)


class Strictness(ImportTest):
    def refuse_import(self, tensors, expected, model="new.safetensors"):
        """Each tensor at fault has a line of its own, and nothing is written."""
        names = [self.write(f"{i}.safetensors", one) for i, one in enumerate(tensors)]
        out, err = self.run_program("import", model, *names, "-o", "m.safetensors", expect=1)
        self.assertEqual(out, "")
        lines = err.splitlines()
        self.assertEqual(sorted(lines[:-1]), sorted("carso import: warning: " + line for line in expected))
        self.assertFalse(os.path.exists(self.path("m.safetensors")))
        return lines[-1]

    def test_everything_at_fault_is_named(self):
        weights = dict(self.classifier)
        kind, shape, data = weights.pop("layer.1.block.0.shortcut.weight")
        weights["layer.1.block.0.shortcut.weight_v"] = (kind, shape, data)
        weights["logits.weight"] = tensor_files.numbers("F32", [20, 64], [0.0] * 1280)
        weights["logits.bias"] = tensor_files.numbers("F64", [10], [0.0] * 10)
        message = self.refuse_import([weights], [
            "missing: classifier.layer.1.block.0.shortcut.weight",
            "unexpected: classifier.layer.1.block.0.shortcut.weight_v",
            "of the wrong type or shape: classifier.logits.weight: F32 [20, 64] instead of F32 [10, 64]",
            "of the wrong type or shape: classifier.logits.bias: F64 [10] instead of F32 [10]"])
        self.assertIn("1 tensor is missing", message)
        self.assertIn("2 tensors are of the wrong type or shape", message)

    def test_more_than_a_message_holds(self):
        few = {name: tensor for name, tensor in self.classifier.items() if name.startswith("logits.")}
        missing = ["missing: classifier." + name for name in self.classifier if name not in few]
        self.assertGreater(len(missing), 30)
        message = self.refuse_import([few], missing)
        self.assertIn(f"{len(missing)} tensors are missing", message)
        self.assertIn(f"and {len(missing) - 5} more", message)

    def test_a_part_of_the_purifier(self):
        decoder = {name: tensor for name, tensor in self.purifier.items() if name.startswith("decoder.")}
        rest = [name for name in self.purifier if name.startswith("repr_")]
        self.refuse_import([decoder], ["missing: purifier." + name for name in rest])

    def test_a_prefix_that_not_all_have(self):
        weights = {"module." + name: tensor for name, tensor in self.classifier.items()}
        weights["epoch"] = COUNTER
        message = self.refuse_import([weights], [])
        self.assertIn("none of its", message)

    def test_twice_the_same(self):
        self.refuse_import([self.classifier, self.classifier],
                           [f"unexpected: classifier.{name}, which is there twice" for name in self.classifier])

    def test_values(self):
        weights = dict(self.classifier)
        weights["logits.bias"] = tensor_files.numbers("F32", [10], [0.0] * 9 + [math.inf])
        names = self.write("w.safetensors", weights)
        self.refuse("import", "new.safetensors", names, expect=3, says=["element 9", "logits.bias"])
        weights["logits.bias"] = self.classifier["logits.bias"]
        weights["batchnorm.running_var"] = tensor_files.numbers("F32", [64], [-1.0] * 64)
        names = self.write("w.safetensors", weights)
        self.refuse("import", "new.safetensors", names, says=["batchnorm.running_var", "negative"])

    def test_other_refusals(self):
        self.run_program("new", "-p", "cifar10", "--depth", "10", "-w", "1", "--no-purifier", "-o", "bare.safetensors", "-q")
        self.refuse("import", "bare.safetensors", "purifier.safetensors", says="purifier")
        self.refuse("import", "new.safetensors", "absent.safetensors", says="absent.safetensors")
        with open(self.path("checkpoint.pt"), "wb") as file:
            file.write(b"PK\3\4" + bytes(60))
        self.refuse("import", "new.safetensors", "checkpoint.pt", says=["checkpoint.pt", "carso.convert_checkpoint"])
        self.refuse("import", "new.safetensors", self.write("empty.safetensors", {}), says="no tensors")
        self.refuse("import", "new.safetensors", expect=2, says="missing")


class Verify(ImportTest):
    def setUp(self):
        super().setUp()
        self.run_program("import", "new.safetensors", "classifier.safetensors", "purifier.safetensors", "-o", "m.safetensors",
                         "-q")
        self.golden = tensor_files.read(GOLDEN)

    def short_golden(self, *names):
        """Without what is stored by strides."""
        tensors = {name: self.golden[name] for name in ("input", *names)}
        return tensors

    def test_where_it_first_departs(self):
        weights = dict(self.classifier)
        kind, shape, data = weights["layer.1.block.0.batchnorm_1.weight"]
        weights["layer.1.block.0.batchnorm_1.weight"] = (kind, shape, struct.pack("<f", 9.0) + data[4:])
        self.run_program("import", "m.safetensors", self.write("w.safetensors", weights),
                         "purifier.safetensors", "-o", "other.safetensors", "-q")
        out, err = self.run_program("verify", "other.safetensors", GOLDEN, expect=1)
        self.assertEqual(err, "")
        self.assertTrue(out.endswith("; the first is tap.layer.1.block.0.conv_1\n"), out)
        self.assertNotRegex(out, r"(?m)^tap\.layer\.0\S+ .*departs")
        report = self.run_json("verify", "other.safetensors", GOLDEN, expect=1)
        self.assertEqual(report["first_departure"], "tap.layer.1.block.0.conv_1")
        self.assertEqual([tensor["departs"] for tensor in report["tensors"][:3]], [False, False, False])
        report = self.run_json("verify", "other.safetensors", GOLDEN, "-T", "1000")
        self.assertEqual(report["departures"], 0)

    def test_not_a_number_departs(self):
        tensors = self.short_golden("classifier_logits")
        kind, shape, data = tensors["classifier_logits"]
        tensors["classifier_logits"] = (kind, shape, data[:-4] + struct.pack("<f", math.nan))
        tensor_files.write(self.path("g.safetensors"), tensors)
        report = self.run_json("verify", "m.safetensors", "g.safetensors", "-T", "1000", expect=1)
        self.assertEqual(report["tensors"][0]["position"], 29)
        self.assertIsNone(report["tensors"][0]["largest_difference"])

    def test_any_layer(self):
        logits = self.golden["classifier_logits"]
        tensor_files.write(self.path("g.safetensors"), {**self.short_golden("classifier_logits"), "tap.logits": logits})
        report = self.run_json("verify", "m.safetensors", "g.safetensors")
        self.assertEqual([tensor["name"] for tensor in report["tensors"]], ["tap.logits", "classifier_logits"])

    def test_refusals(self):
        logits = self.golden["classifier_logits"]
        for tensors, metadata, says in (
                ({"classifier_logits": logits}, None, "no tensor 'input'"),
                (self.short_golden(), None, "no tensor to compare"),
                ({**self.short_golden(), "tap.layer.7": logits}, None, "tap.layer.7"),
                ({**self.short_golden(), "condition": logits}, None, "30 elements, 72 are computed"),
                ({**self.short_golden(), "classifier_logits": COUNTER}, None, "neither F32 nor F64"),
                ({"input": logits}, None, "[images, 3, 32, 32]"),
                ({**self.short_golden("classifier_logits"), "latent": logits}, None, "latent size"),
                (self.short_golden("classifier_logits"), {"strides": json.dumps({"classifier_logits": 0})}, "stride"),
                (self.short_golden("classifier_logits"), {"strides": "{"}, "strides")):
            with self.subTest(says):
                tensor_files.write(self.path("g.safetensors"), tensors, metadata)
                self.refuse("verify", "m.safetensors", "g.safetensors", says=says)


if __name__ == "__main__":
    unittest.main()
