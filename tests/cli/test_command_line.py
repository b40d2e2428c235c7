# SPDX-License-Identifier: BSD-2-Clause
"""Help, the manual page, and command lines that are wrong: exit status 2 with one line that says why, before anything is opened."""
import re
import shutil
import subprocess
import unittest

from program import PROGRAM, ProgramTest

ARGUMENTS = {"demo": 0, "info": 1, "predict": 2, "purify": 2, "attack": 2, "train-classifier": 1, "train": 2, "bench": 0, "new": 0, "import": 2,
             "verify": 2, "evaluate": 2, "merge": 1}
SPARE = {"demo": 0, "info": 1, "predict": None, "purify": None, "attack": 2, "train-classifier": 1, "train": 2, "bench": 1, "new": 0, "import": None,
         "verify": 2, "evaluate": 2, "merge": None}

# Of each option that takes a number: the nearest values that are out of range, below and above.
COMMON = {"--seed": ("-1", "9300000000000000000"), "--threads": ("-1", "1025"), "--memory-limit": ("0", "16777217")}
SAMPLES = {"--first": ("-1", "9000000000000001"), "--count": ("-1", "9000000000000001")}
EPSILON = {"--epsilon": ("-0.001", "256/255")}
TRAINING = {"--epochs": ("0", "1000001"), "--batch": ("1", "1000001"), "--sub-batch": ("-1", "1000001"),
            "--images": ("-1", "9000000000000001"), "--validate": ("-1", "9000000000000001"), "--save-minutes": ("0", "1000001")}
NUMBERS = {
    "info": COMMON,
    "demo": {**COMMON, **SAMPLES, **EPSILON, "--steps": ("0", "1000001"), "--defence-steps": ("0", "1000001"),
             "--eot": ("0", "10001"), "--draws": ("0", "65537"), "--repeats": ("0", "10001")},
    "predict": {**COMMON, **SAMPLES, "--draws": ("0", "65537"), "--batch": ("0", "65537"), "--read-threads": ("-1", "257")},
    "purify": {**COMMON, **SAMPLES, "--draws": ("0", "65537")},
    "attack": {**COMMON, **SAMPLES, "--epsilon": ("-0.001", "1000.1"), "--steps": ("-1", "1000001"),
               "--step-size": ("-0.001", "1000.1"), "--momentum": ("-0.1", "1000.1"), "--queries": ("0", "1000001"),
               "--target-classes": ("0", "1000001"),
               "--restarts": ("0", "100001"), "--draws": ("0", "65537"), "--eot": ("0", "100001"), "--repeats": ("0", "100001")},
    "bench": {**COMMON, "--batch": ("0", "65537"), "--draws": ("0", "65537"), "--train-batch": ("3", "65537"),
              "--repeats": ("0", "10001")},
    "evaluate": {**COMMON, **SAMPLES, "--draws": ("-1", "65537"), "--repeats": ("-1", "1001"), "--batch": ("0", "65537"),
                 "--save-minutes": ("-0.1", "1000001")},
    "merge": COMMON,
    "import": COMMON,
    "verify": {**COMMON, "--tolerance": ("-0.1", "1000001")},
    "new": {**COMMON, "--depth": ("9", "10001"), "--width": ("-1", "1025"), "--channels": ("0", "4"),
            "--image-height": ("7", "4097"), "--image-width": ("7", "4097"), "--classes": ("1", "65537"),
            "--condition-size": ("-1", "65537"), "--latent-size": ("-1", "65537"), "--seed-channels": ("15", "1025")},
    "train-classifier": {**COMMON, **TRAINING, **EPSILON, "--depth": ("9", "10001"), "--width": ("0", "1025"),
                         "--pgd-steps": ("-1", "100001"), "--step-size": ("-1/255", "1.001"), "--ramp": ("-1", "1000001"),
                         "--trades": ("-0.1", "1000001"), "--learning-rate": ("-1e-9", "1000001"), "--momentum": ("-0.1", "1"),
                         "--weight-decay": ("-1e-9", "1.01"), "--warm-up": ("-1", "1000001"), "--label-smoothing": ("-0.1", "1"),
                         "--crop": ("-1", "1001")},
    "train": {**COMMON, **TRAINING, **EPSILON, "--condition-size": ("-1", "1000001"), "--latent-size": ("-1", "1000001"),
              "--seed-channels": ("15", "1025"), "--adversarial-fraction": ("-0.1", "1.1"), "--pgd-steps": ("-1", "100001"),
              "--step-size": ("-1/255", "1.001"), "--learning-rate": ("-1e-9", "1000001"),
              "--learning-rate-start": ("-1e-9", "1000001"), "--learning-rate-end": ("-1e-9", "1000001"),
              "--warm-up": ("-1", "1000001"), "--plateau": ("-1", "1000001"), "--annealing": ("-1", "1000001"),
              "--beta-start": ("-1", "1000001"), "--beta-full": ("-1", "1000001"), "--beta": ("-1", "1000001"),
              "--free-bits": ("-1", "1000001"), "--lookahead-steps": ("0", "1000001"), "--lookahead-rate": ("-0.1", "1.1")},
}
NOT_NUMBERS = {"--backend", "--split", "--output", "--folder", "--checkpoint", "--model", "--images", "--method", "--objective",
               "--loss", "--aggregation", "--architecture", "--preset", "--mean", "--deviation", "--norm", "--list", "--protocol", "--epsilon",
               "--shard", "--report"}
OPTION = re.compile(r"^  (?:-(\w), |    )--([\w-]+)( \S+)?$", re.MULTILINE)


def arguments_of(command):
    return ["nowhere"] * ARGUMENTS[command]


class Help(ProgramTest):
    def test_overview_names_every_command(self):
        for arguments in (["help"], ["--help"], ["-h"]):
            out, err = self.run_program(*arguments)
            self.assertEqual(err, "")
            for command in ARGUMENTS:
                self.assertIn("\n  " + command + " ", out)

    def test_without_a_command_the_overview_goes_to_standard_error(self):
        out, err = self.run_program(expect=2)
        self.assertEqual(out, "")
        self.assertIn("Usage: carso COMMAND", err)

    def test_version(self):
        out, _ = self.run_program("--version")
        self.assertRegex(out, r"\Acarso \d+\.\d+\.\d+\n\Z")

    def test_every_command(self):
        for command in ARGUMENTS:
            with self.subTest(command):
                out, err = self.run_program(command, "--help")
                self.assertEqual(err, "")
                self.assertTrue(out.startswith(f"Usage: carso {command} "), out[:80])
                self.assertEqual(self.run_program("help", command)[0], out)
                self.assertEqual(self.run_program(command, *arguments_of(command), "-h")[0], out)
                for line in out.splitlines():
                    self.assertFalse(len(line) > 80 and not line.startswith("  carso"), line)
                letters = [letter for letter, _, _ in OPTION.findall(out) if letter]
                names = [name for _, name, _ in OPTION.findall(out)]
                self.assertEqual(sorted(letters), sorted(set(letters)))
                self.assertEqual(sorted(names), sorted(set(names)))
                self.assertLessEqual({"seed", "backend", "threads", "memory-limit", "json", "quiet", "help"}, set(names))

    def test_manual_page(self):
        out, err = self.run_program("help", "--man")
        self.assertEqual(err, "")
        self.assertTrue(out.startswith('.\\"'))
        for command in ARGUMENTS:
            self.assertIn(f"\n.SS carso {command}\n", out)
            for _, name, _ in OPTION.findall(self.run_program(command, "--help")[0]):
                if name != "help":
                    self.assertIn("\\-\\-" + name.replace("-", "\\-"), out)
        self.assertIn(".SH EXIT STATUS", out)

    @unittest.skipUnless(shutil.which("mandoc"), "mandoc is not installed")
    def test_manual_page_is_well_formed(self):
        page, _ = self.run_program("help", "--man")
        # A date would make the page differ from build to build.
        lint = subprocess.run(["mandoc", "-Tlint", "-Wwarning"], input=page, capture_output=True, text=True, timeout=60)
        found = [line for line in (lint.stdout + lint.stderr).splitlines() if "missing date" not in line]
        self.assertEqual(found, [])
        text = subprocess.run(["mandoc", "-Tascii"], input=page, capture_output=True, text=True, timeout=60).stdout
        self.assertIn("EXIT STATUS", re.sub(".\b", "", text))


class WrongCommandLine(ProgramTest):
    def refuse_usage(self, *arguments, says=()):
        return self.refuse(*arguments, expect=2, says=says)

    def test_unknown_command(self):
        self.refuse_usage("conquer", says=["'conquer'", "carso help"])
        self.refuse_usage("help", "conquer", says="'conquer'")
        self.refuse_usage("", says="''")

    def test_unknown_option(self):
        for command in ARGUMENTS:
            with self.subTest(command):
                self.refuse_usage(command, *arguments_of(command), "--conquer", says=["--conquer", f"carso {command} --help"])
                self.refuse_usage(command, *arguments_of(command), "--conquer=3", says="--conquer")
                self.refuse_usage(command, *arguments_of(command), "-Z", says="-Z is not an option")

    def test_unknown_letter_among_others(self):
        self.refuse_usage("info", "-qZj", "nowhere", says="-Z is not an option")

    def test_ambiguous_abbreviation(self):
        self.refuse_usage("train", *arguments_of("train"), "--learning", "1", says="--learning")
        self.refuse_usage("attack", *arguments_of("attack"), "--re", "1", says="--re")

    def test_option_without_its_value(self):
        self.refuse_usage("info", "nowhere", "--threads", says="--threads needs a value")
        self.refuse_usage("info", "nowhere", "-qt", says="-t needs a value")

    def test_flag_with_a_value(self):
        self.refuse_usage("info", "nowhere", "--quiet=3", says="--quiet=3 takes no value")

    def test_missing_argument(self):
        for command, least in ARGUMENTS.items():
            for count in range(least):
                with self.subTest(command=command, count=count):
                    self.refuse_usage(command, *["nowhere"] * count, says=["missing", f"usage: carso {command}"])

    def test_argument_too_many(self):
        for command, most in SPARE.items():
            if most is not None:
                with self.subTest(command):
                    self.refuse_usage(command, *["nowhere"] * most, "surplus", says="'surplus' is one argument too many")

    def test_every_number_is_bounded(self):
        for command, numbers in NUMBERS.items():
            described = {"--" + name for _, name, value in OPTION.findall(self.run_program(command, "--help")[0]) if value}
            self.assertEqual(described - NOT_NUMBERS, set(numbers) - NOT_NUMBERS, command)
            for option, (below, above) in numbers.items():
                for value in (below, above):
                    with self.subTest(command=command, option=option, value=value):
                        self.refuse_usage(command, *arguments_of(command), f"{option}={value}", says=[option, "is not between"])

    def test_what_is_no_number(self):
        for value in ("", "x", "3x", "0x", "1e400", "--"):
            with self.subTest(value):
                self.refuse_usage("predict", "nowhere", "nowhere", "--draws", value, says="is not a whole number")
        self.refuse_usage("predict", "nowhere", "nowhere", "--draws", "1.5", says="'1.5' is not a whole number")
        self.refuse_usage("predict", "nowhere", "nowhere", "--draws", "9" * 30, says="is not between")
        for value in ("", "x", "1/", "/255", "1/0", "8/255/2", "1" + "0" * 70 + "/3"):
            with self.subTest(value):
                self.refuse_usage("attack", "nowhere", "nowhere", "--epsilon", value, says="is not a number (such as")
        for value in ("nan", "inf", "-inf", "nan/255", "1e400"):
            with self.subTest(value):
                self.refuse_usage("attack", "nowhere", "nowhere", "--epsilon", value, says="is not between")
        self.refuse_usage("train", "nowhere", "nowhere", "--beta", "nan", says="is not between")

    def test_choices_name_what_there_is(self):
        for command, option in (("predict", "--aggregation"), ("predict", "--split"), ("attack", "--loss"), ("attack", "--method"),
                                ("attack", "--objective"), ("train-classifier", "--architecture")):
            with self.subTest(command=command, option=option):
                message = self.refuse_usage(command, *arguments_of(command), option, "nonsense", says=["nonsense", option])
                listed = message.split("is none of")[1].split()
                self.assertGreaterEqual(len(listed), 2)
                helped = " ".join(self.run_program(command, "--help")[0].split())
                self.assertIn("One of: " + " ".join(listed), helped)

    def test_images_and_data_sets_are_not_mixed(self):
        # Only found once the model is there, so the model's absence is what is said.
        self.refuse("predict", "nowhere", "a.png", "b", expect=1, says="nowhere")

    def test_double_dash_ends_the_options(self):
        self.refuse("info", "--", "--json", expect=1, says="cannot load --json")


class StandardStreams(ProgramTest):
    """A report that does not reach its reader is a failure."""

    def test_full_disk_behind_standard_output(self):
        with open("/dev/full", "w") as full:
            for arguments in (["--version"], ["help"], ["help", "--man"], ["train", "--help"]):
                with self.subTest(arguments):
                    _, err = self.run_program(*arguments, expect=1, stdout=full)
                    self.assertIn("cannot write to standard output: No space left on device", err)

    def test_closed_standard_output(self):
        done = subprocess.run(["sh", "-c", '"$0" help >&-', PROGRAM], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("cannot write to standard output", done.stderr)

    def test_closed_standard_error(self):
        done = subprocess.run(["sh", "-c", '"$0" info nowhere 2>&- <&-', PROGRAM], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (1, ""))


if __name__ == "__main__":
    unittest.main()
