# SPDX-License-Identifier: BSD-2-Clause
"""Making models: from options, from presets; training as a preset has it."""
import unittest

from program import PURIFIER_TRAINING, ProgramTest, TrainedTest

# Tables 4 and 10 of the paper (32x32), and the last layers of table 11 (64x64), as it prints them.
TABLE_4 = """
Conv2D(ch_in=3, ch_out=6, ks=3, s=2, p=1, b=False)
BatchNorm2D(affine=True)
LeakyReLU(slope=0.2)
Conv2D(ch_in=6, ch_out=12, ks=3, s=2, p=1, b=False)
BatchNorm2D(affine=True)
LeakyReLU(slope=0.2)
"""
TABLE_10 = """
Unflatten(256, 3, 3)
ConvTranspose2D(ch_in=256, ch_out=256, ks=3, s=2, p=1, op=0, b=False)
BatchNorm2D(affine=True)
LeakyReLU(slope=0.2)
ConvTranspose2D(ch_in=256, ch_out=128, ks=3, s=2, p=1, op=0, b=False)
BatchNorm2D(affine=True)
LeakyReLU(slope=0.2)
ConvTranspose2D(ch_in=128, ch_out=64, ks=3, s=2, p=1, op=0, b=False)
BatchNorm2D(affine=True)
LeakyReLU(slope=0.2)
ConvTranspose2D(ch_in=64, ch_out=32, ks=3, s=2, p=1, op=0, b=False)
BatchNorm2D(affine=True)
LeakyReLU(slope=0.2)
ConvTranspose2D(ch_in=32, ch_out=3, ks=2, s=1, p=1, op=0, b=True)
Sigmoid()
"""
TABLE_11_END = """
ConvTranspose2D(ch_in=64, ch_out=32, ks=3, s=2, p=1, op=1, b=False)
BatchNorm2D(affine=True)
LeakyReLU(slope=0.2)
ConvTranspose2D(ch_in=32, ch_out=3, ks=3, s=1, p=1, op=0, b=True)
Sigmoid()
"""
# Table 6 for taps of 16 and of 64 channels; table 7 has a layer more.
TABLE_6 = """
Conv2D(ch_in={0}, ch_out={1}, ks=3, s=1, p=0, b=False)
BatchNorm2D(affine=True)
LeakyReLU(slope=0.2)
Conv2D(ch_in={1}, ch_out={2}, ks=3, s=1, p=0, b=False)
BatchNorm2D(affine=True)
LeakyReLU(slope=0.2)
Conv2D(ch_in={2}, ch_out={3}, ks=3, s=1, p=0, b=False)
BatchNorm2D(affine=True)
LeakyReLU(slope=0.2)
"""
TABLE_7_END = """
Conv2D(ch_in={3}, ch_out={4}, ks=3, s=1, p=0, b=False)
BatchNorm2D(affine=True)
LeakyReLU(slope=0.2)
"""
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

    def read_tables(self, path):
        """The model's parts by name, each a list of definitions, from the JSON; and the text."""
        report = self.run_json("info", path)
        purifier = report["purifier"]
        layers = {layer["name"]: layer for part in ("condition", "encoder", "decoder") for layer in purifier[part]["layers"]}
        for part in purifier["parts"]:
            for number in ("parameters", "multiply_adds"):
                self.assertEqual(part[number], sum(layers[name][number] for name in part["layers"]))
        self.assertEqual(sum(len(part["layers"]) for part in purifier["parts"]), len(layers))
        parts = {part["name"]: [layers[name]["definition"] for name in part["layers"]] for part in purifier["parts"]}
        self.assertEqual(sum(part["parameters"] for part in purifier["parts"]),
                         sum(purifier[part]["parameters"] for part in ("condition", "encoder", "decoder")))
        return report, parts, self.run_program("info", path)[0]

    def test_tables_are_those_of_the_paper(self):
        self.run_program("new", "-p", "cifar10", "--depth", "10", "-w", "1", "-q")
        report, parts, text = self.read_tables("model.safetensors")
        self.assertEqual(parts["input_encoder"], ["Standardise()", *TABLE_4.split("\n")[1:-1], "Flatten()"])
        for tap, channels in ((0, (16, 8, 4, 2)), (7, (64, 32, 16, 8))):
            self.assertEqual(parts[f"tap_encoder.{tap}"], [*TABLE_6.format(*channels).split("\n")[1:-1], "Flatten()"])
        features = 2 * 2 * 26**2 + 3 * 4 * 10**2 + 3 * 8 * 2**2
        self.assertEqual(parts["representation_encoder"],
                         ["Concatenate(inputs=8)", f"Linear(feats_in={features}, feats_out=512, b=False)",
                          "BatchNorm1D(affine=True)", "LeakyReLU(slope=0.2)"])
        two = 2 * ["Linear(feats_in=128, feats_out=128, b=True)"]
        self.assertEqual(parts["joint_encoder"], ["Concatenate(inputs=2)", "Linear(feats_in=1280, feats_out=128, b=False)",
                                                  "BatchNorm1D(affine=True)", "LeakyReLU(slope=0.2)", *two])
        self.assertEqual(parts["decoder"], ["Concatenate(inputs=2)", "Linear(feats_in=640, feats_out=2304, b=True)",
                                            "LeakyReLU(slope=0.2)", *TABLE_10.split("\n")[1:-1]])
        by_name = {layer["name"]: layer["definition"] for layer in report["classifier"]["layers"]}
        self.assertEqual(by_name["layer.1.block.0.conv_0"], "Conv2D(ch_in=16, ch_out=32, ks=3, s=2, p=0:1, b=False)")
        self.assertIn("mean 0.4914, 0.4822, 0.4465; deviation 0.2471, 0.2435, 0.2616", text)
        # Taps with encoders alike share a table: first group, second and third, with their shortcuts.
        for shape, taps in (("16x32x32", "01"), ("32x16x16", "234"), ("64x8x8", "567")):
            lines = "".join(rf"  {tap}: layer\..*\n" for tap in taps)
            self.assertRegex(text, rf"Encoder of a tap of {shape}, .*\n{lines}layer ")
        self.assertEqual(text.count("Encoder of a tap"), 3)
        for definitions in parts.values():
            for definition in definitions:
                self.assertIn(f" {definition} ", text)

    def test_tables_of_scenario_c(self):
        self.run_program("new", "-p", "tinyimagenet", "--depth", "10", "-w", "1", "-q")
        _, parts, text = self.read_tables("model.safetensors")
        channels = (64, 32, 16, 8, 4)
        self.assertEqual(parts["tap_encoder.7"],
                         [*(TABLE_6[:-1] + TABLE_7_END).format(*channels).split("\n")[1:-1], "Flatten()"])
        self.assertEqual(parts["decoder"][1:4],
                         ["Linear(feats_in=960, feats_out=4096, b=True)", "LeakyReLU(slope=0.2)", "Unflatten(256, 4, 4)"])
        self.assertEqual(parts["decoder"][-5:], TABLE_11_END.split("\n")[1:-1])
        self.assertIn("feats_out=768", text)

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
