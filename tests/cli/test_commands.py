# SPDX-License-Identifier: BSD-2-Clause
"""What every command does with good input: reports, their JSON form, pictures, the same bytes from the same seed."""
import json
import math
import os
import random
import unittest

import sample_files
from program import CLASSIFIER_TRAINING, PURIFIER_TRAINING, ProgramTest, TrainedTest

SIDE = sample_files.SIDE
SCORE = {"accuracy", "interval_half_width", "majority", "worst", "agreement", "repeats"}
ATTACK = {"first_loss", "last_loss", "loss_rose", "zero_gradient", "tiny_gradient", "non_finite", "seconds"}


def contents(path):
    with open(path, "rb") as file:
        return file.read()


class Info(TrainedTest):
    def test_model(self):
        out, err = self.run_program("info", self.model)
        self.assertEqual(err, "")
        self.assertIn("classifier of 1x28x28 images", out)
        self.assertIn("condition of 8, latent of 4", out)
        for layer in ("conv_0", "logits"):
            self.assertRegex(out, rf"(?m)^{layer} ")
        out, _ = self.run_program("info", self.classifier)
        self.assertIn("no purifier: 'carso train' adds one", out)

    def test_model_json(self):
        report = self.run_json("info", self.model)
        self.assertLessEqual({"classifier", "purifier", "taps", "provenance"}, set(report))
        layers = {layer["name"]: layer for layer in report["classifier"]["layers"]}
        self.assertEqual(layers["conv_1"]["shape"], [32, 14, 14])
        self.assertEqual(layers["conv_1"]["parameters"], 32 * 16 * 9 + 32)
        self.assertEqual(layers["conv_1"]["multiply_adds"], 32 * 14 * 14 * 16 * 9)
        self.assertEqual([tap["name"] for tap in report["taps"]], ["conv_0", "conv_1", "conv_2"])
        self.assertEqual(report["provenance"]["classifier_training"]["steps"], 8)
        self.assertEqual(report["provenance"]["purifier_training"]["steps"], 8)

    def test_idx(self):
        report = self.run_json("info", self.data)
        self.assertEqual(report["training"]["count"], 128)
        self.assertEqual(report["test"], {"format": "idx", "count": 24, "channels": 1, "height": SIDE, "width": SIDE,
                                          "classes": [str(i) for i in range(10)]})
        out, _ = self.run_program("info", self.data)
        self.assertIn("test images: 24 of 1x28x28", out)
        out, _ = self.run_program("info", os.path.join(self.data, "t10k-images-idx3-ubyte"))
        self.assertIn("24 of 1x28x28", out)

    def test_cifar(self):
        chooser = random.Random(3)
        os.mkdir(self.path("cifar"))
        for name in ["data_batch_%d" % i for i in range(1, 6)] + ["test_batch"]:
            with open(self.path("cifar", name + ".bin"), "wb") as file:
                for label in range(4):
                    file.write(bytes([label]) + chooser.randbytes(3072))
        report = self.run_json("info", self.path("cifar"))
        self.assertEqual([report[part]["count"] for part in ("training", "test")], [20, 4])
        self.assertEqual(report["test"]["classes"][3], "cat")

    def test_folder_of_png_files(self):
        for name in ("ape", "bee"):
            os.makedirs(self.path("photos", name))
            for i in range(3):
                sample_files.write_png(self.path("photos", name, f"{i}.png"), 9, 7, bytes([10 * i, 0, 200] * 63), channels=3)
        report = self.run_json("info", self.path("photos"))
        self.assertEqual(report["training"], {"format": "folder", "count": 6, "channels": 3, "height": 7, "width": 9,
                                              "classes": ["ape", "bee"]})


    def test_tiny_imagenet(self):
        for folder in ("train/n02/images", "train/n01/images", "val/images"):
            os.makedirs(self.path("tiny", folder))
            for i in range(2):
                sample_files.write_png(self.path("tiny", folder, f"{i}.JPEG"), 8, 8, bytes([40 * i, 0, 200] * 64), channels=3)
        with open(self.path("tiny", "val", "val_annotations.txt"), "w") as file:
            file.write("1.JPEG\tn02\t0\t0\t7\t7\n")
        with open(self.path("tiny", "words.txt"), "w") as file:
            file.write("n01\tgoldfish, Carassius auratus\nn03\tgondola\n")
        report = self.run_json("info", self.path("tiny"))
        common = {"format": "tinyimagenet", "channels": 3, "height": 8, "width": 8, "classes": ["goldfish", "n02"]}
        self.assertEqual(report, {"training": {**common, "count": 4}, "test": {**common, "count": 1}})


class Training(ProgramTest):
    def setUp(self):
        super().setUp()
        sample_files.write_idx_folder(self.path("data"), train=512, test=16)

    def test_report(self):
        out, err = self.run_program("train-classifier", "data", "-o", "c.st", "-E", "2", "-n", "64", *CLASSIFIER_TRAINING,
                                    "--validate", "16")
        self.assertEqual(err, "")
        lines = out.splitlines()
        self.assertEqual(len(lines), 3, out)
        self.assertRegex(lines[0], r"\Aepoch 1/2  loss \d.*accuracy \d.*test: clean [01]\.\d+, PGD-20 [01]\.\d+ ")
        self.assertRegex(lines[2], r"\Awrote c\.st after \d+ seconds\Z")
        out, err = self.run_program("train", "c.st", "data", "-o", "m.st", "-E", "2", "-n", "64", *PURIFIER_TRAINING,
                                    "--validate", "16")
        self.assertEqual(err, "")
        self.assertRegex(out, r"\Aepoch 1/2  loss \d.*reconstruction \d.*KL \d.*diversity \d.*test: defence [01]\.\d+ ")
        self.assertFalse(os.path.exists(self.path("m.st.checkpoint")))

    def test_json_is_one_object_a_line(self):
        out, _ = self.run_program("train-classifier", "data", "-o", "c.st", "-E", "2", "-n", "512", "-b", "64", "-w", "1", "-t", "1",
                                  "--pgd-steps", "0", "--validate", "8", "--json", "--quiet", "--mirror", "--crop", "2")
        epochs = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([epoch["epoch"] for epoch in epochs], [1, 2])
        for epoch in epochs:
            self.assertLessEqual({"loss", "learning_rate", "gradient_norm", "seconds", "accuracy", "epsilon", "test_classifier",
                                  "test_attacked"}, set(epoch))
        out, _ = self.run_program("train", "c.st", "data", "-o", "m.st", "-E", "1", "-n", "64", *PURIFIER_TRAINING, "--json", "-q")
        self.assertLessEqual({"loss", "reconstruction", "kl", "beta", "draw_diversity", "collapsed"}, set(json.loads(out)))

    def test_small_network_learns(self):
        out, _ = self.run_program("train-classifier", "data", "-o", "c.st", "-E", "3", "-b", "32", "-w", "1", "-t", "1",
                                  "--pgd-steps", "0", "--validate", "16", "-l", "0.05", "--json", "-q")
        # Bands in ten places are easy; chance is a tenth. At the default rate so few steps end in another place on each processor.
        self.assertGreater(json.loads(out.splitlines()[-1])["test_classifier"], 0.8)

    def test_same_seed_same_bytes(self):
        for name, seed in (("a", "7"), ("b", "7"), ("other", "8")):
            self.run_program("train-classifier", "data", "-o", name + ".c", "-E", "1", "-n", "64", "-s", seed, *CLASSIFIER_TRAINING)
            self.run_program("train", name + ".c", "data", "-o", name + ".m", "-E", "1", "-n", "64", "-s", seed, *PURIFIER_TRAINING)
        for ending in (".c", ".m"):
            self.assertEqual(contents(self.path("a" + ending)), contents(self.path("b" + ending)))
            self.assertNotEqual(contents(self.path("a" + ending)), contents(self.path("other" + ending)))

    def test_wide_resnet_on_a_folder_of_colour_images(self):
        chooser = random.Random(5)
        for name in ("ape", "bee"):
            os.makedirs(self.path("photos", name))
            for i in range(4):
                sample_files.write_png(self.path("photos", name, f"{i}.png"), 32, 30, chooser.randbytes(32 * 30 * 3), channels=3)
        self.run_program("train-classifier", "photos", "-o", "c.st", "-a", "wide-resnet", "--depth", "10", "-w", "1", "-E", "1",
                         "-b", "4", "--pgd-steps", "1", "--trades", "6", "--validate", "0", "-t", "1")
        out, _ = self.run_program("predict", "c.st", "photos", "-p")
        self.assertIn(" ape ", out)
        self.assertIn("accuracy on 8 images", out)

    def test_data_set_without_test_images(self):
        for name in os.listdir(self.path("data")):
            if name.startswith("t10k"):
                os.remove(self.path("data", name))
        out, err = self.run_program("train-classifier", "data", "-o", "c.st", "-E", "1", "-b", "256", "-w", "1", "--pgd-steps", "0",
                                    "-t", "1")
        self.assertIn("warning: no test images, the accuracy is not measured: data: ", err)
        self.assertNotIn("test:", out)
        self.assertEqual(list(self.run_json("info", "data")), ["training"])
        self.refuse("predict", "c.st", "data", says="training split only")

    def test_more_images_in_a_batch_than_there_are(self):
        self.refuse("train-classifier", "data", "-o", "c.st", "-b", "513", expect=2, says=["--batch", "513", "512"])
        self.refuse("train-classifier", "data", "-o", "c.st", "-n", "8", "-b", "9", expect=2, says="--batch")

    def test_depth_that_no_network_has(self):
        self.refuse("train-classifier", "data", "-o", "c.st", "-a", "wide-resnet", "--depth", "11", says="depth")
        self.assertEqual(os.listdir(self.folder), ["data"])


class Prediction(TrainedTest):
    def setUp(self):
        super().setUp()
        chooser = random.Random(9)
        for label in (3, 6):
            sample_files.write_png(self.path(f"{label}.png"), SIDE, SIDE, sample_files.pattern(label, chooser))

    def check_opinion(self, opinion, draws):
        self.assertEqual(set(opinion), {"label", "class", "probabilities", "log_odds", "draws", "agreement"})
        self.assertEqual(len(opinion["probabilities"]), 10)
        self.assertEqual(opinion["class"], str(opinion["label"]))
        self.assertAlmostEqual(math.fsum(opinion["probabilities"]), 1, places=8)
        self.assertEqual(max(opinion["log_odds"]), opinion["log_odds"][opinion["label"]])
        self.assertEqual(opinion["draws"], draws)
        self.assertIn(opinion["agreement"], range(draws + 1))

    def test_png_files(self):
        report = self.run_json("predict", self.model, "3.png", "6.png", "-N", "3", "-s", "11")
        self.assertEqual((report["seed"], report["aggregation"]), (11, "carso"))
        self.assertEqual([image["image"] for image in report["images"]], ["3.png", "6.png"])
        for image in report["images"]:
            self.check_opinion(image["classifier"], 1)
            self.check_opinion(image["defence"], 3)
        self.assertEqual([image["classifier"]["label"] for image in report["images"]], [3, 6])
        self.assertNotIn("accuracy_classifier", report)
        self.assertEqual(report, self.run_json("predict", self.model, "3.png", "6.png", "-N", "3", "-s", "11"))

    def test_colour_file_of_a_gray_image(self):
        gray = sample_files.pattern(3, random.Random(9))
        sample_files.write_png(self.path("rgb.png"), SIDE, SIDE, b"".join(bytes([value] * 3) for value in gray), channels=3)
        report = self.run_json("predict", self.model, "3.png", "rgb.png", "-p")
        self.assertEqual(report["images"][0]["classifier"], report["images"][1]["classifier"])

    def test_data_set(self):
        out, err = self.run_program("predict", self.model, self.data, "-n", "5", "--first", "2")
        self.assertEqual(err, "")
        self.assertEqual(len(out.splitlines()), 1 + 5 + 2, out)
        self.assertRegex(out, r"accuracy on 5 images: classifier alone [01]\.\d{4}, the defence [01]\.\d{4}\n\Z")
        for how in ("carso", "logit", "probability"):
            report = self.run_json("predict", self.model, self.data, "-n", "3", "--split", "train", "-a", how)
            self.assertEqual([image["true"] for image in report["images"]], [0, 1, 2])
            self.assertLessEqual({"accuracy_classifier", "accuracy_defence"}, set(report))
        report = self.run_json("predict", self.model, self.data, "--first", "23", "-n", "100")
        self.assertEqual(len(report["images"]), 1)
        self.refuse("predict", self.model, self.data, "--first", "24", says=["--first", "24 images"])

    def test_draws_do_not_depend_on_the_batch(self):
        whole = self.run_json("predict", self.model, self.data, "-n", "4", "-t", "1")
        part = self.run_json("predict", self.model, self.data, "-n", "2", "--first", "2", "-t", "1", "--memory-limit", "1")
        for one, other in zip(whole["images"][2:], part["images"]):
            for a, b in zip(one["defence"]["log_odds"], other["defence"]["log_odds"]):
                self.assertAlmostEqual(a, b, delta=1e-4 * max(1, abs(a)))

    def test_classifier_alone(self):
        out, err = self.run_program("predict", self.classifier, "3.png")
        self.assertIn("warning:", err)
        self.assertIn("has no purifier", err)
        self.assertIn("3.png", out)
        _, err = self.run_program("predict", self.classifier, "3.png", "--plain")
        self.assertEqual(err, "")

    def test_least_memory(self):
        for arguments in (["predict", self.model, self.data], ["attack", self.model, self.data, "-O", "defence", "--steps", "1",
                                                              "-N", "2", "-n", "4"]):
            self.run_program(*arguments, "--memory-limit", "1", "-t", "1")

    def test_every_backend(self):
        message = self.refuse("predict", self.model, "3.png", "--backend", "abacus", says="abacus")
        for name in ("reference", "reference-double"):
            self.assertIn(name, message)
        labels = set()
        for name in ("reference", "reference-double") + (("onednn",) if "onednn" in message else ()):
            report = self.run_json("predict", self.model, "3.png", "--backend", name, "-N", "2", "-t", "1")
            labels.add(report["images"][0]["classifier"]["label"])
        self.assertEqual(labels, {3})

    def test_name_that_is_not_utf8(self):
        os.rename(self.path("3.png"), os.fsencode(self.path("")) + b"\xe9t\xe9.png")
        report = self.run_json("predict", self.model, os.fsdecode(b"\xe9t\xe9.png"), "-p")
        self.assertEqual(report["images"][0]["image"], "?t?.png")

    def test_speed(self):
        report = self.run_json("bench", self.model, "-b", "2", "-N", "2", "--train-batch", "4", "-r", "2", "-t", "1")
        self.assertEqual(set(report["memory"]), {"mapped_weights_mib", "own_weights_mib", "packed_weights_mib", "transformed_weights_mib",
                                                 "buffers_mib"})
        self.assertGreater(report["memory"]["mapped_weights_mib"], 0)
        self.assertGreater(report["memory"]["buffers_mib"], 0)
        self.assertLessEqual({"model", "backend", "threads", "batch", "draws", "train_batch", "peak_memory_mib"}, set(report))
        for kind in ("predict", "predict_robust", "input_gradient_classifier", "input_gradient_defence", "train_step"):
            self.assertGreater(report[kind]["images_per_second"], 0)
            self.assertGreater(report[kind]["milliseconds"], 0)
        self.assertNotIn("train_step", self.run_json("bench", self.classifier, "-b", "2", "-r", "1", "-t", "1"))
        out, _ = self.run_program("bench", self.classifier, "-b", "2", "-r", "1", "-t", "1")
        self.assertRegex(out, r"weights: .* MiB in the mapped file, .* packed, .* transformed\nworking buffers: ")
        self.assertIn("peak memory of the process", out)


class Pictures(TrainedTest):
    """The grid: 28x28 images enlarged three times, with a line of text below each and one above the columns."""

    CELL, MARGIN = 3 * SIDE, 8

    def check_grid(self, path, columns, rows):
        width, height, channels = sample_files.read_png_header(path)
        self.assertEqual(width, self.MARGIN + columns * (self.CELL + self.MARGIN))
        text = (height - self.MARGIN - rows * (self.CELL + self.MARGIN)) / (rows + 1)
        self.assertTrue(text.is_integer() and 8 <= text <= 16, text)
        self.assertEqual(channels, 3)

    def test_purify(self):
        os.mkdir(self.path("all"))
        report = self.run_json("purify", self.model, self.data, "-n", "3", "--first", "4", "-N", "2", "-o", "p.png", "-f", "all")
        self.assertEqual(report, {"count": 3, "failed": 0, "draws": 2, "picture": "p.png", "files": 6})
        self.check_grid(self.path("p.png"), columns=1 + 2, rows=3)
        self.assertEqual(sorted(os.listdir(self.path("all"))), sorted(f"{i}-{j}.png" for i in (4, 5, 6) for j in (0, 1)))
        for name in os.listdir(self.path("all")):
            self.assertEqual(sample_files.read_png_header(self.path("all", name)), (SIDE, SIDE, 1))
        first = contents(self.path("p.png"))
        self.run_program("purify", self.model, self.data, "-n", "3", "--first", "4", "-N", "2", "-o", "p.png")
        self.assertEqual(contents(self.path("p.png")), first)

    def test_most_rows_and_columns(self):
        out, _ = self.run_program("purify", self.model, self.data, "-n", "12", "-N", "9", "-o", "p.png")
        self.assertEqual(out, "p.png: 12 images, 9 reconstructions each\n")
        self.check_grid(self.path("p.png"), columns=1 + 6, rows=10)

    def test_purify_more_than_a_batch(self):
        os.mkdir(self.path("all"))
        out, _ = self.run_program("purify", self.model, self.data, "--split", "train", "-n", "70", "--first", "3", "-N", "1", "-o", "p.png",
                                  "-f", "all", "-t", "1")
        self.assertEqual(out, "p.png: 70 images, 1 reconstructions each\nall: 70 files\n")
        self.assertEqual(sorted(os.listdir(self.path("all"))), sorted(f"{i}-0.png" for i in range(3, 73)))
        os.mkdir(self.path("one"))
        self.run_program("purify", self.model, self.data, "--split", "train", "-n", "6", "--first", "67", "-N", "1", "-f", "one", "-t", "1")
        self.assertEqual(contents(self.path("one", "72-0.png")), contents(self.path("all", "72-0.png")))
        # A folder of files, and files by name, of which all are meant.
        out, _ = self.run_program("purify", self.model, "all", "-n", "2", "-N", "1", "-o", "p.png")
        self.assertEqual(out, "p.png: 2 images, 1 reconstructions each\n")
        out, _ = self.run_program("purify", self.model, *(f"all/{i}-0.png" for i in range(3, 15)), "-N", "1", "-o", "p.png")
        self.assertEqual(out, "p.png: 12 images, 1 reconstructions each\n")
        with open(self.path("all", "3-0.png"), "w") as file:
            file.write("no image")

    def test_purify_goes_on(self):
        """Past images that cannot be read, as predict does; the others do not notice."""
        for folder in ("all", "whole", "some"):
            os.mkdir(self.path(folder))
        self.run_program("purify", self.model, self.data, "-n", "14", "-N", "1", "-f", "all", "-o", "p.png")
        files = [f"all/{i}-0.png" for i in range(14)]
        arguments = ["purify", self.model, *files, "-N", "2", "-o", "p.png", "-t", "1"]
        self.run_program(*arguments, "-f", "whole")
        for i in (0, 13):
            with open(self.path(files[i]), "w") as file:
                file.write("no image")
        out, err = self.run_program(*arguments, "-f", "some", "-q", expect=1)
        self.assertEqual(out, "p.png: 14 images, 2 reconstructions each\nsome: 24 files\n")
        self.assertEqual(sorted(os.listdir(self.path("some"))), sorted(f"{i}-{draw}.png" for i in range(1, 13) for draw in range(2)))
        self.assertEqual(contents(self.path("some", "12-1.png")), contents(self.path("whole", "12-1.png")))
        self.assertIn("all/0-0.png: neither", err)
        self.assertIn("all/13-0.png: neither", err)
        self.assertIn("2 of 14 images cannot be read", err)
        # The picture begins with the first that can.
        self.assertTrue(os.path.exists(self.path("p.png")))
        os.remove(self.path("p.png"))
        _, err = self.run_program("purify", self.model, files[0], "-o", "p.png", expect=1)
        self.assertIn("p.png is not written: none of the first", err)
        self.assertFalse(os.path.exists(self.path("p.png")))

    def test_purify_without_purifier(self):
        self.refuse("purify", self.classifier, self.data, "-o", "p.png", says="has no purifier")
        self.assertEqual(os.listdir(self.folder), [])

    def test_attack(self):
        os.mkdir(self.path("attacked"))
        for objective in ("classifier", "defence"):
            report = self.run_json("attack", self.model, self.data, "-n", "4", "-O", objective, "--steps", "2", "-N", "2", "-k", "2",
                                   "-e", "8/255", "-M", "2", "-o", "a.png", "-f", "attacked", "-t", "1")
            self.assertLessEqual({"method", "objective", "loss", "norm", "epsilon", "queries", "steps", "eot", "seed", "count", "attack", "picture"},
                                 set(report))
            self.assertEqual((report["count"], report["objective"]), (4, objective))
            self.assertAlmostEqual(report["epsilon"], 8 / 255)
            self.assertEqual(set(report["attack"]), ATTACK)
            for kind in ("classifier_clean", "classifier_attacked", "defence_clean", "defence_attacked"):
                self.assertEqual(set(report[kind]), SCORE)
            self.check_grid(self.path("a.png"), columns=3 + 2, rows=4)
            self.assertEqual(sorted(os.listdir(self.path("attacked"))), ["0.png", "1.png", "2.png", "3.png"])

    def test_attack_raises_the_loss(self):
        for extra in (["-m", "fgsm"], ["--steps", "3"], ["--steps", "3", "-l", "margin", "-R", "2"],
                      ["-m", "apgd", "--steps", "5", "-l", "dlr"], ["-m", "apgd-targeted", "--steps", "3", "--target-classes", "2"],
                      ["-m", "square", "--queries", "100"], ["-m", "fab", "--steps", "10", "-e", "0.9"],
                      ["-m", "fab-targeted", "--steps", "3", "--norm", "l2", "-e", "9", "--target-classes", "2"], ["--steps", "3", "--norm", "l2", "--momentum", "0.5"]):
            report = self.run_json("attack", self.classifier, self.data, "-e", "0.1", "-n", "8", *extra)
            self.assertGreater(report["attack"]["last_loss"], report["attack"]["first_loss"])
            self.assertNotIn("defence_clean", report)
        self.check_grid(self.path("attack.png"), columns=3, rows=8)
        self.refuse("attack", self.classifier, self.data, "-O", "defence", says="purifier")

    def test_attack_transferred_and_with_draws_held_still(self):
        for objective, extra in (("defence", ["--fixed-draws", "-O", "defence", "-k", "2"]), ("classifier", ["--transfer"])):
            report = self.run_json("attack", self.model, self.data, "-e", "0.1", "-n", "4", "-N", "2", "-M", "2", "--steps", "3", *extra)
            self.assertEqual((report["objective"], report["transfer"], report["fixed_draws"]),
                             (objective, "--transfer" in extra, "--fixed-draws" in extra))
            alone = self.run_json("attack", self.model, self.data, "-e", "0.1", "-n", "4", "-N", "2", "-M", "2", "--steps", "3")
            if "--transfer" in extra:
                self.assertEqual(report["classifier_attacked"], alone["classifier_attacked"])
                self.assertNotEqual(report["attack"]["last_loss"], alone["attack"]["last_loss"])
        out, _ = self.run_program("attack", self.model, self.data, "-n", "2", "--steps", "2", "-M", "1", "--transfer")
        self.assertIn("pgd on the classifier, transferred to the defence, loss", out)
        self.refuse("attack", self.model, self.data, "--fixed-draws", says="no draws")
        self.refuse("attack", self.classifier, self.data, "--transfer", says="purifier")

    def test_attack_without_an_epsilon_changes_nothing(self):
        report = self.run_json("attack", self.classifier, self.data, "-e", "0", "-n", "8", "--steps", "2")
        self.assertEqual(report["classifier_clean"], report["classifier_attacked"])

    def test_attack_needs_labels(self):
        sample_files.write_png(self.path("x.png"), SIDE, SIDE, bytes(SIDE * SIDE))
        self.refuse("attack", self.model, "x.png", says="labels")

    def test_demo(self):
        report = self.run_json("demo", "--model", self.model, "--images", self.data, "--count", "4", "--steps", "2",
                               "--defence-steps", "2", "-N", "2", "-M", "2", "-t", "1")
        self.assertLessEqual({"count", "epsilon", "draws", "seed", "rows", "worst_classifier", "worst_defence", "picture", "seconds"},
                             set(report))
        self.assertEqual(len(report["rows"]), 4)
        self.assertEqual(report["rows"][0]["images"], "clean")
        for i, row in enumerate(report["rows"]):
            self.assertEqual(set(row["classifier"]), SCORE)
            self.assertEqual(set(row["defence"]), SCORE)
            self.assertEqual("attack" in row, i > 0)
            if i:
                self.assertEqual(row["attack"]["non_finite"], 0)
            self.assertLessEqual(report["worst_defence"], row["defence"]["accuracy"] + 1e-9)
        self.check_grid(self.path("carso-demo.png"), columns=3 + 2, rows=4)
        out, _ = self.run_program("demo", "-m", self.model, "-i", self.data, "-n", "2", "--steps", "1", "--defence-steps", "1",
                                  "-N", "1", "-M", "1", "-t", "1")
        self.assertIn("PGD-1+EoT on the defence, margin", out)


if __name__ == "__main__":
    unittest.main()
