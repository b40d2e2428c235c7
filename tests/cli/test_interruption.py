# SPDX-License-Identifier: BSD-2-Clause
"""Training that is interrupted, killed or out of disk, and then resumed to the same bytes; progress on a terminal."""
import os
import pty
import resource
import signal
import subprocess
import time
import unittest

import sample_files
from program import CLASSIFIER_TRAINING, PATIENCE, PURIFIER_TRAINING, TrainedTest, describe_status

EPOCHS = 12
STEPS = 4  # in each, of 128 images


def contents(path):
    with open(path, "rb") as file:
        return file.read()


class Interruption(TrainedTest):
    """Runs of several epochs, whose lines tell when the middle is reached."""

    def classifier_training(self, output, *extra):
        return ["train-classifier", self.data, "-o", output, "-E", str(EPOCHS), *CLASSIFIER_TRAINING, "--mirror", "--crop", "1", *extra]

    def purifier_training(self, output, *extra):
        return ["train", self.classifier, self.data, "-o", output, "-E", str(EPOCHS), *PURIFIER_TRAINING, *extra]

    def stop_after_epochs(self, arguments, epochs, how, delay=0.0):
        """Sends the signal once so many epochs are reported; returns (return code, standard error)."""
        process = self.start(*arguments, "--quiet")
        for _ in range(epochs):
            self.assertTrue(process.stdout.readline().startswith("epoch "), "ended before it could be interrupted")
        time.sleep(delay)
        process.send_signal(how)
        out, err = process.communicate(timeout=PATIENCE)
        self.assertLess(epochs + out.count("epoch "), EPOCHS, "was not stopped in the middle")
        return process.returncode, err

    def check_ctrl_c(self, training):
        self.run_program(*training("whole.st"), "-q")
        code, err = self.stop_after_epochs(training("part.st"), 2, signal.SIGINT)
        self.assertEqual(code, 130, describe_status(code) + err)
        self.assertRegex(err, r"interrupted after \d+ steps; '--resume' goes on from part\.st\.checkpoint\n\Z")
        steps = int(err.split("interrupted after ")[1].split()[0])
        self.assertEqual(sorted(os.listdir(self.folder)), ["part.st.checkpoint", "whole.st"])
        # A checkpoint is a model as well.
        self.assertIn("classifier of 1x28x28", self.run_program("info", "part.st.checkpoint")[0])
        out, _ = self.run_program(*training("part.st"), "-q", "--resume")
        self.assertLess(out.count("epoch "), EPOCHS)
        # The first line says of how many steps its means are, where not of all.
        lines = out.splitlines()
        done = steps % STEPS
        self.assertTrue(lines[0].endswith(f" s, over {STEPS - done} of {STEPS} steps" if done else " s"), f"{steps} steps, then: {lines[0]}")
        self.assertTrue(all(line.endswith(" s") for line in lines[1:-1]), out)
        self.assertEqual(contents(self.path("part.st")), contents(self.path("whole.st")))
        self.assertEqual(sorted(os.listdir(self.folder)), ["part.st", "whole.st"])

    def test_ctrl_c_classifier(self):
        self.check_ctrl_c(self.classifier_training)

    def test_ctrl_c_purifier(self):
        self.check_ctrl_c(self.purifier_training)

    def test_terminate(self):
        code, _ = self.stop_after_epochs(self.purifier_training("part.st"), 1, signal.SIGTERM)
        self.assertEqual(code, 130)
        self.assertTrue(os.path.exists(self.path("part.st.checkpoint")))

    def check_kill(self, training):
        self.run_program(*training("whole.st"), "-q")
        # Again and again, at other moments: in a step, while a checkpoint is written, between the two.
        resume = []
        for attempt in range(3):
            code, _ = self.stop_after_epochs(training("part.st", *resume), 2, signal.SIGKILL, delay=0.003 * attempt)
            self.assertEqual(code, -signal.SIGKILL)
            resume = ["--resume"]
        self.run_program(*training("part.st"), "-q", "--resume")
        self.assertEqual(contents(self.path("part.st")), contents(self.path("whole.st")))

    def test_kill_classifier(self):
        self.check_kill(self.classifier_training)

    def test_kill_purifier(self):
        self.check_kill(self.purifier_training)

    def test_resume_from_what_is_no_checkpoint_of_this_training(self):
        self.refuse(*self.purifier_training("x.st", "--resume"), says=["cannot resume from x.st.checkpoint", "No such file"])
        self.refuse(*self.purifier_training("x.st", "--resume", "-c", self.model), says="cannot resume from")
        self.refuse(*self.purifier_training("x.st", "--resume", "-c", "."), says="folder")
        with open(self.path("junk"), "wb") as file:
            file.write(b"\x00" * 4096)
        self.refuse(*self.purifier_training("x.st", "--resume", "-c", "junk"), says="cannot resume from junk")
        self.stop_after_epochs(self.purifier_training("p.st"), 1, signal.SIGINT)
        self.refuse(*self.classifier_training("x.st", "--resume", "-c", "p.st.checkpoint"), says="of the training of a purifier")
        self.stop_after_epochs(self.classifier_training("c.st"), 1, signal.SIGINT)
        self.refuse(*self.purifier_training("x.st", "--resume", "-c", "c.st.checkpoint"), says="of the training of a classifier")
        whole = contents(self.path("p.st.checkpoint"))
        with open(self.path("p.st.checkpoint"), "wb") as file:
            file.write(whole[:-100])
        self.refuse(*self.purifier_training("p.st", "--resume"), says="cannot resume from p.st.checkpoint")
        self.assertEqual(contents(self.path("p.st.checkpoint")), whole[:-100])

    def test_checkpoint_that_is_the_model(self):
        self.refuse(*self.purifier_training("x.st", "-c", "x.st"), expect=2, says="--checkpoint")

    def test_other_batches_on_resuming(self):
        self.stop_after_epochs(self.purifier_training("p.st"), 1, signal.SIGINT)
        whole = contents(self.path("p.st.checkpoint"))
        halved = ["16" if word == "32" else word for word in self.purifier_training("p.st")]
        self.refuse(*halved, "--resume", says=["cannot resume from p.st.checkpoint", "batches of 32 out of 128", "16 out of 128"])
        self.refuse(*self.purifier_training("p.st", "--images", "96"), "--resume", says="32 out of 96")
        self.assertEqual(contents(self.path("p.st.checkpoint")), whole)
        self.run_program(*self.purifier_training("p.st"), "--resume", "-q")
        training = self.run_json("info", "p.st")["provenance"]["purifier_training"]
        self.assertEqual(training["data"], {"name": "data", "images": 128, "batch": 32, "crop_padding": 0, "mirror": 0})

    def test_other_options_on_resuming(self):
        self.stop_after_epochs(self.purifier_training("p.st"), 1, signal.SIGINT)
        whole = contents(self.path("p.st.checkpoint"))
        for option, value, says in (("--epochs", "40", ["epochs is 12", "should be 40"]), ("--epsilon", "0.2", "epsilon is"),
                                    ("--seed", "9", ["seed is 0", "should be 9"]), ("--latent-size", "5", "latent size is"),
                                    ("--seed-channels", "24", "purifier's parameters is")):
            self.refuse(*self.purifier_training("p.st", option, value), "--resume", says=says)
        self.assertEqual(contents(self.path("p.st.checkpoint")), whole)
        self.stop_after_epochs(self.classifier_training("c.st"), 1, signal.SIGINT)
        self.refuse(*self.classifier_training("c.st", "--momentum", "0.5"), "--resume", says=["momentum is", "should be 0.5"])
        self.refuse(*self.classifier_training("c.st", "--crop", "2"), "--resume", says=["crop_padding of 1", "should have 2 and 1"])
        self.refuse(*self.classifier_training("c.st", "--width", "3"), "--resume", says="classifier's parameters is")

    def test_other_data_on_resuming(self):
        self.stop_after_epochs(self.classifier_training("c.st"), 1, signal.SIGINT)
        sample_files.write_idx_folder(self.path("small"), train=128, test=8, side=20)
        self.refuse("train-classifier", "small", "-o", "c.st", "-E", str(EPOCHS), *CLASSIFIER_TRAINING, "--resume", "-q",
                    says=["height of the images is 28", "should be 20"])


class FullDisk(TrainedTest):
    """A limit on the size of files stands for the full disk: what cannot be written whole is not there at all."""

    def limited(self, size):
        return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))}

    def test_model(self):
        _, err = self.run_program("train-classifier", self.data, "-o", "c.st", "-E", "1", *CLASSIFIER_TRAINING, expect=1,
                                  **self.limited(50000))
        self.assertIn("cannot save the checkpoint c.st.checkpoint", err)
        self.assertIn("File too large", err)
        self.assertEqual(os.listdir(self.folder), [])

    def test_old_file_stays(self):
        for name in ("c.st.checkpoint", "p.png"):
            with open(self.path(name), "w") as file:
                file.write("as it was")
        self.run_program("train-classifier", self.data, "-o", "c.st", "-E", "1", *CLASSIFIER_TRAINING, expect=1, **self.limited(50000))
        self.refuse("purify", self.model, self.data, "-n", "2", "-N", "2", "-o", "p.png", says=["p.png", "File too large"],
                    **self.limited(1000))
        for name in ("c.st.checkpoint", "p.png"):
            self.assertEqual(contents(self.path(name)), b"as it was")
        self.assertEqual(len(os.listdir(self.folder)), 2)

    def test_pictures(self):
        os.mkdir(self.path("all"))
        self.refuse("purify", self.model, self.data, "-n", "2", "-N", "2", "-f", "all", says="File too large", **self.limited(20))
        self.assertEqual(os.listdir(self.path("all")), [])
        self.refuse("attack", self.classifier, self.data, "-n", "2", "--steps", "1", says="File too large", **self.limited(1000))
        self.assertEqual(os.listdir(self.folder), ["all"])

    def test_report(self):
        with open("/dev/full", "w") as full:
            for arguments in (["info", self.model], ["info", self.model, "--json"], ["predict", self.model, self.data, "-n", "2"],
                              ["predict", self.model, self.data, "-n", "2", "-j"], ["bench", self.classifier, "-b", "1", "-r", "1", "-t", "1"],
                              ["train-classifier", self.data, "-o", "c.st", "-E", "2", *CLASSIFIER_TRAINING]):
                with self.subTest(arguments[0]):
                    _, err = self.run_program(*arguments, expect=1, stdout=full)
                    self.assertIn("cannot write to standard output", err)
        # Only the report is lost.
        self.assertIn("classifier of", self.run_program("info", "c.st")[0])

    def test_closed_standard_output_ends_up_in_no_file(self):
        arguments = ["train-classifier", self.data, "-o", "c.st", "-E", "2", *CLASSIFIER_TRAINING]
        _, err = self.run_program(*arguments, expect=1, stdout=None, preexec_fn=lambda: (os.close(1), os.close(2), os.close(0)))
        self.run_program("train-classifier", self.data, "-o", "other.st", "-E", "2", *CLASSIFIER_TRAINING)
        self.assertEqual(contents(self.path("c.st")), contents(self.path("other.st")))

    def test_unwritable_place_is_found_before_the_work(self):
        self.refuse("train-classifier", self.data, "-o", "nowhere/c.st", *CLASSIFIER_TRAINING, says=["nowhere", "No such file"])
        self.refuse("train-classifier", self.data, "-o", ".", *CLASSIFIER_TRAINING, says="folder")
        self.refuse("train", self.classifier, self.data, "-c", "nowhere/c", *PURIFIER_TRAINING, says=["nowhere", "No such file"])
        for arguments in (["purify", self.model, self.data], ["attack", self.model, self.data], ["demo", "-m", self.model]):
            self.refuse(*arguments, "-o", "nowhere/p.png", says=["nowhere", "No such file"])
            self.refuse(*arguments, "-o", self.model + "/p.png", says="not a folder")
            self.refuse(*arguments, "-o", "/" + "x" * 5000, says="File name too long")
        for arguments in (["purify", self.model, self.data], ["attack", self.model, self.data]):
            self.refuse(*arguments, "-f", "nowhere", says=["nowhere", "No such file"])
            self.refuse(*arguments, "-f", self.model, says="not a folder")
        self.assertEqual(os.listdir(self.folder), [])


class Progress(TrainedTest):
    def terminal_output(self, *arguments):
        """What appears on a terminal that standard error is."""
        leader, follower = pty.openpty()
        process = self.start(*arguments, stderr=follower)
        os.close(follower)
        seen = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:
                break
            if not piece:
                break
            seen += piece
        os.close(leader)
        process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0, seen)
        return seen.decode()

    def test_terminal(self):
        arguments = ["attack", self.classifier, self.data, "--steps", "250", "-n", "16", "-t", "1", "-o", "a.png"]
        seen = self.terminal_output(*arguments)
        self.assertRegex(seen, r"\r\x1b\[Kpgd \[=* *\] \d+/250 steps  [\d.e+]+/s  \d+:\d\d left")
        # The line is wiped at the end.
        self.assertTrue(seen.endswith("\r\x1b[K"), repr(seen[-40:]))
        self.assertEqual(self.terminal_output(*arguments, "--quiet"), "")

    def test_elsewhere_quick_runs_print_none(self):
        _, err = self.run_program("attack", self.classifier, self.data, "--steps", "20", "-n", "4", "-t", "1")
        self.assertEqual(err, "")


if __name__ == "__main__":
    unittest.main()
