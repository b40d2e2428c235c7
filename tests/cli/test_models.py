# SPDX-License-Identifier: BSD-2-Clause
"""Making models: from options, from presets; training as a preset has it."""
import unittest

from program import PURIFIER_TRAINING, ProgramTest, TrainedTest

SMALL_PURIFIER = ["--condition-size", "24", "--latent-size", "8", "--seed-channels", "16"]


class New(ProgramTest):
    def test_preset_with_options_that_override_it(self):
        small = ["--depth", "10", "-w", "1", *SMALL_PURIFIER]
        out, err = self.run_program("new", *small, "--preset", "tinyimagenet", "-o", "a.safetensors")
        self.assertEqual(err, "")
        self.assertIn("parameters of the classifier", out)
        report = self.run_json("info", "a.safetensors")
        layers = {layer["name"]: layer for layer in report["classifier"]["layers"]}
        self.assertEqual(layers["logits"]["shape"], [200])
        self.assertEqual(layers["layer.2.block.0.conv_0"]["shape"], [64, 16, 16])
        self.assertEqual(len(report["taps"]), 8)
        condition = report["purifier"]["condition"]["layers"]
        self.assertEqual(condition[-1]["shape"], [24])
        # The place of --preset does not matter.
        self.run_program("new", "--preset", "tinyimagenet", *small, "-o", "b.safetensors")
        with open(self.path("a.safetensors"), "rb") as a, open(self.path("b.safetensors"), "rb") as b:
            self.assertEqual(a.read(), b.read())

    def test_preset_names_its_classes(self):
        self.run_program("new", "-p", "cifar10", "--depth", "10", "-w", "1", "--no-purifier", "-q")
        out, _ = self.run_program("info", "model.safetensors")
        self.assertIn("airplane, automobile", out)
        self.assertIn("no purifier", out)
        self.run_program("new", "-p", "cifar10", "--classes", "4", "--depth", "10", "-w", "1", "--no-purifier", "-q")
        out, _ = self.run_program("info", "model.safetensors")
        self.assertIn("4 classes: 0, 1, 2, 3\n", out)

    def test_small_cnn_and_its_report(self):
        report = self.run_json("new", "-a", "small-cnn", "--channels", "1", "--image-height", "28", "--image-width", "28",
                               "--mean", "0.286", "--deviation", "0.353", *SMALL_PURIFIER, "-o", "m.safetensors")
        convolutions = (1 * 16 + 16 * 32 + 32 * 64) * 9 + 16 + 32 + 64
        self.assertEqual(report["classifier_parameters"], convolutions + 64 * 7 * 7 * 10 + 10)
        self.assertEqual(report["taps"], 3)
        self.assertEqual(report["output"], "m.safetensors")

    def test_seed(self):
        written = []
        for seed in ("1", "1", "2"):
            self.run_program("new", "-a", "small-cnn", "--no-purifier", "-s", seed, "-q")
            with open(self.path("model.safetensors"), "rb") as file:
                written.append(file.read())
        self.assertEqual(written[0], written[1])
        self.assertNotEqual(written[0], written[2])

    def test_refusals(self):
        self.refuse("new", "--preset", "imagenet", expect=2, says=["imagenet", "cifar10 cifar100 tinyimagenet"])
        self.refuse("new", "--mean", "0.1,0.2", expect=2, says=["--mean", "2 numbers for 3 channels"])
        self.refuse("new", "--deviation", "one", expect=2, says="--deviation")
        self.refuse("new", "-a", "wide-resnet", "--depth", "11", says="depth 11")
        self.refuse("new", "-o", "none/m.safetensors", says="none")
        self.refuse("new", "model", expect=2, says="one argument too many")


class TrainAsThePaper(TrainedTest):
    def test_preset_and_overrides(self):
        self.run_program("train", self.classifier, self.data, "-o", "m.safetensors", "-E", "2", *PURIFIER_TRAINING, "--preset",
                         "tinyimagenet", "-q")
        trained = self.run_json("info", "m.safetensors")["provenance"]["purifier_training"]
        options = trained["options"] if "options" in trained else trained
        self.assertEqual(options["adversarial_fraction"], 0.01)
        self.assertEqual(options["learning_rate_end"], 1.378e-4)
        self.assertEqual(options["lookahead_rate"], 0.8)
        self.assertEqual(options["warm_up_epochs"], 1)
        self.assertEqual(options["epochs"], 2)
        self.refuse("train", self.classifier, self.data, "-p", "none", expect=2, says="none of cifar10")


if __name__ == "__main__":
    unittest.main()
