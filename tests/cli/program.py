# SPDX-License-Identifier: BSD-2-Clause
"""Runs the program that CARSO_PROGRAM names, as a user would."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest

import sample_files

PROGRAM = os.environ["CARSO_PROGRAM"]
# Long enough for a crowded machine; nothing here takes more than seconds.
PATIENCE = 300

# Networks that train in a fraction of a second.
CLASSIFIER_TRAINING = ["-w", "1", "-b", "32", "--pgd-steps", "1", "-e", "0.1", "--validate", "0", "-t", "1"]
PURIFIER_TRAINING = ["--condition-size", "8", "--latent-size", "4", "--seed-channels", "16", "-b", "32", "--pgd-steps", "1",
                     "-e", "0.1", "--mean-loss", "--by-step", "--warm-up", "1", "--plateau", "1", "--annealing", "1",
                     "-l", "0.01", "--beta-start", "0", "--beta-full", "1", "--validate", "0", "-t", "1"]


# In memory where that can be: checkpoints are synced, which on a busy disk takes a second each time.
SCRATCH = os.environ.get("TMPDIR") or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def environment():
    """Idle threads sleep: the machine may be shared. Messages are in English."""
    return {**os.environ, "OMP_WAIT_POLICY": "passive", "LC_ALL": "C"}


class ProgramTest(unittest.TestCase):
    """A folder of its own for each test, removed after it."""

    maxDiff = None

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="carso-cli-", dir=SCRATCH)
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def start(self, *arguments, **options):
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen([PROGRAM, *arguments], env=environment(), stdin=subprocess.DEVNULL, cwd=self.folder, text=True,
                                **options)

    def run_program(self, *arguments, expect=0, **options):
        """Runs to the end; returns (standard output, standard error)."""
        process = self.start(*arguments, **options)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self.fail("did not end: carso " + " ".join(arguments))
        out, err = out or "", err or ""
        self.assertEqual(process.returncode, expect, f"carso {' '.join(arguments)}\n{out[-2000:]}\n{err[-2000:]}")
        return out, err

    def run_json(self, *arguments, **options):
        out, _ = self.run_program(*arguments, "--json", "-q", **options)
        return json.loads(out)

    def refuse(self, *arguments, expect=1, says=(), **options):
        """The program must fail with one line that names itself and what is wrong, and print no result."""
        out, err = self.run_program(*arguments, expect=expect, **options)
        self.assertEqual(out, "")
        self.assertTrue(err.startswith("carso"), err)
        self.assertEqual(len(err.splitlines()), 1, err)
        for words in [says] if isinstance(says, str) else says:
            self.assertIn(words, err)
        return err


class TrainedTest(ProgramTest):
    """With a small data set, a classifier and a whole model, made once for the tests of a class."""

    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.mkdtemp(prefix="carso-cli-shared-", dir=SCRATCH)
        cls.addClassCleanup(shutil.rmtree, cls.shared, ignore_errors=True)
        cls.data = os.path.join(cls.shared, "data")
        cls.classifier = os.path.join(cls.shared, "classifier.safetensors")
        cls.model = os.path.join(cls.shared, "model.safetensors")
        sample_files.write_idx_folder(cls.data, train=128, test=24)
        for arguments in (["train-classifier", cls.data, "-o", cls.classifier, "-E", "2", *CLASSIFIER_TRAINING],
                          ["train", cls.classifier, cls.data, "-o", cls.model, "-E", "2", *PURIFIER_TRAINING]):
            done = subprocess.run([PROGRAM, *arguments, "-q"], env=environment(), stdin=subprocess.DEVNULL, cwd=cls.shared,
                                  capture_output=True, text=True, timeout=PATIENCE)
            if done.returncode != 0:
                raise AssertionError(f"carso {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}")


def describe_status(code):
    """For messages: what a negative return code of a process means."""
    return signal.Signals(-code).name if code < 0 else str(code)
