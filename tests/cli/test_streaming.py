# SPDX-License-Identifier: BSD-2-Clause
"""Predictions as JSON lines: of anything that is named, past broken images, out of disk, interrupted, killed and continued."""
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import time
import unittest
import zlib

import sample_files
import tensor_files
from program import PATIENCE, PROGRAM, TrainedTest, describe_status, environment
from sample_files import SIDE

CLASSES = 10


def contents(path):
    with open(path, "rb") as file:
        return file.read()


class Streaming(TrainedTest):
    def write_images(self, folder, count, seed=3):
        chooser = random.Random(seed)
        os.makedirs(self.path(folder), exist_ok=True)
        for i in range(count):
            sample_files.write_png(self.path(folder, f"{i:03}.png"), SIDE, SIDE, sample_files.pattern(i % CLASSES, chooser))

    def write_classes(self, folder, each):
        chooser = random.Random(4)
        for label in range(CLASSES):
            os.makedirs(self.path(folder, str(label)))
            for i in range(each):
                sample_files.write_png(self.path(folder, str(label), f"{i}.png"), SIDE, SIDE, sample_files.pattern(label, chooser))

    def lines(self, *arguments, **options):
        """(lines, standard error) of a run that prints them."""
        out, err = self.run_program("predict", self.model, *arguments, "--json-lines", "-t", "1", **options)
        return [json.loads(line) for line in out.splitlines()], err

    def written(self, name="out.jsonl"):
        return [json.loads(line) for line in contents(self.path(name)).splitlines()]


class WhatIsRead(Streaming):
    def test_data_set_as_with_json(self):
        report = self.run_json("predict", self.model, self.data, "-n", "9", "--first", "2", "-N", "2", "-s", "5", "-t", "1")
        lines, err = self.lines(self.data, "-n", "9", "--first", "2", "-N", "2", "-s", "5", "-b", "4")
        self.assertEqual(err, "")
        self.assertEqual([line["index"] for line in lines], list(range(2, 11)))
        self.assertEqual({line["seed"] for line in lines}, {5})
        self.assertEqual(len({line["run"] for line in lines}), 1)
        for line, image in zip(lines, report["images"]):
            self.assertIsNone(line["image"])
            self.assertEqual(line["true"], image["true"])
            for who in ("classifier", "defence"):
                self.assertEqual(set(line[who]), set(image[who]))
                self.assertEqual(line[who]["label"], image[who]["label"])
                for a, b in zip(line[who]["log_odds"], image[who]["log_odds"]):
                    self.assertAlmostEqual(a, b, delta=1e-4 * max(1, abs(a)))

    def test_folder_without_classes(self):
        self.write_images("in", 3)
        self.write_images("in/deep/er", 2)
        lines, err = self.lines("in", "-p")
        self.assertIn("note: in has images beside its folders; all images within are taken, without labels", err)
        self.assertEqual([line["image"] for line in lines],
                         [f"in/{name}.png" for name in ("000", "001", "002", "deep/er/000", "deep/er/001")])
        named, _ = self.lines(*(line["image"] for line in lines), "-p")
        self.assertEqual([line["classifier"] for line in lines], [line["classifier"] for line in named])
        self.assertTrue(all("defence" not in line and "true" not in line for line in lines))
        # The table and the one JSON object take such a folder as well.
        report = self.run_json("predict", self.model, "in", "-p", "-n", "4")
        self.assertEqual([image["image"] for image in report["images"]], [line["image"] for line in lines[:4]])
        self.assertNotIn("accuracy_classifier", report)
        self.assertIn("in/deep/er/001.png", self.run_program("predict", self.model, "in")[0])
        self.refuse("attack", self.model, "in/deep/er", says="labels")

    def test_folder_for_each_class(self):
        self.write_classes("in", 2)
        report = self.run_json("predict", self.model, "in", "-l", "-o", "out.jsonl")
        lines = self.written()
        self.assertEqual([line["true"] for line in lines], 2 * list(range(CLASSES)))
        self.assertEqual([line["image"] for line in lines], [f"in/{i % 10}/{i // 10}.png" for i in range(20)])
        right = sum(line["true"] == line["classifier"]["label"] for line in lines)
        self.assertEqual((report["images"], report["failed"], report["output"]), (20, 0, "out.jsonl"))
        self.assertAlmostEqual(report["accuracy_classifier"], right / 20)
        self.assertEqual(report["run"], lines[0]["run"])
        out, _ = self.run_program("predict", self.model, "in", "-l", "-o", "out.jsonl")
        self.assertRegex(out, r"\Aout\.jsonl: 20 images\naccuracy on 20 images: classifier alone \d\.\d{4}, the defence \d\.\d{4}\n\Z")

    def test_folders_that_are_no_classes(self):
        self.write_images("in/june", 2)
        self.write_images("in/july", 2)
        lines, err = self.lines("in", "-p")
        self.assertEqual(len(lines), 4)
        self.assertIn("note: in has 2 classes, the model 10; all images within are taken, without labels", err)
        self.write_classes("some", 1)
        sample_files.write_png(self.path("some", "x.png"), SIDE, SIDE, bytes(SIDE * SIDE))
        os.makedirs(self.path("nest", "of"))
        os.rename(self.path("in"), self.path("nest", "of", "in"))
        lines, err = self.lines("nest", "-p")
        self.assertEqual([line["image"] for line in lines], [f"nest/of/in/{name}.png" for name in ("july/000", "july/001", "june/000", "june/001")])
        self.assertIn("note: nest is no data set", err)
        lines, err = self.lines("some", "-p")
        self.assertEqual(len(lines), 11)
        self.assertIn("note: some has images beside its folders", err)

    def test_data_set_with_an_image_beside(self):
        shutil.copytree(self.data, self.path("set"))
        sample_files.write_png(self.path("set", "preview.png"), SIDE, SIDE, bytes(SIDE * SIDE))
        lines, err = self.lines("set", "-p")
        self.assertEqual((len(lines), err), (24, ""))
        self.assertTrue(all("true" in line for line in lines))

    def test_files_and_lists(self):
        self.write_images("in", 4)
        wanted = ["in/003.png", "in/000.png"]
        self.assertEqual([line["image"] for line in self.lines(*wanted, "-p")[0]], wanted)
        self.assertEqual([line["image"] for line in self.lines(wanted[0], "-p")[0]], wanted[:1])
        with open(self.path("list"), "w") as file:
            file.write("\n".join(wanted) + "\n\n")
        self.assertEqual([line["image"] for line in self.lines("--list", "list", "-p")[0]], wanted)
        done = subprocess.run([PROGRAM, "predict", self.model, "-pl", "--list", "-"], input="in/001.png\nin/002.png", cwd=self.folder,
                              env=environment(), capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual([json.loads(line)["image"] for line in done.stdout.splitlines()], ["in/001.png", "in/002.png"], done.stderr)
        # As another system ends its lines, with a piece of one at the end.
        with open(self.path("list"), "wb") as file:
            file.write(b"\r\n".join(name.encode() for name in ["", *wanted, "", "in/001.png"]))
        self.assertEqual([line["image"] for line in self.lines("--list", "list", "-p")[0]], [*wanted, "in/001.png"])
        with open(self.path("none"), "w") as file:
            file.write("\n")
        self.refuse("predict", self.model, "-l", "--list", "none", says="none names no images")
        self.refuse("predict", self.model, "-l", "--list", "absent", says=["absent", "No such file"])

    def test_suffixes(self):
        os.mkdir(self.path("in"))
        for name in ("a.PNG", "b.JPEG", "c.Jpg", "d.txt", "e"):
            sample_files.write_png(self.path("in", name), SIDE, SIDE, bytes(SIDE * SIDE))
        self.assertEqual([line["image"] for line in self.lines("in", "-p")[0]], ["in/a.PNG", "in/b.JPEG", "in/c.Jpg"])

    def test_nothing_to_predict(self):
        os.mkdir(self.path("in"))
        for arguments in ([], ["--json-lines"]):
            self.refuse("predict", self.model, "in", *arguments, says=["in", "no data set"])
            self.refuse("predict", self.model, "absent", *arguments, says=["absent", "No such file"])
        self.refuse("predict", self.model, self.data, "-l", "--first", "24", says=["--first", "24 images"])

    def test_usage(self):
        for arguments, says in ((["-o", "x"], "--output: only with --json-lines"), (["-r"], "--resume: only with --json-lines"),
                                (["-L", "x"], "--list: only with --json-lines"), (["-lr"], "--resume: only with --output"),
                                (["-lj"], "--json: standard output is for the lines"), (["-l", "-L", "x"], "either a list or images")):
            self.refuse("predict", "nowhere", "nowhere", *arguments, expect=2, says=says)


class BrokenImages(Streaming):
    def test_have_lines_that_say_why(self):
        self.write_images("in", 12)
        whole, _ = self.lines("in", "-b", "4", "-N", "2")
        with open(self.path("in", "001.png"), "w") as file:
            file.write("no image")
        with open(self.path("in", "005.png"), "r+b") as file:
            file.truncate(100)
        sample_files.write_png(self.path("in", "006.png"), 30, 20, bytes(600))
        os.remove(self.path("in", "008.png"))
        os.symlink("nowhere", self.path("in", "008.png"))
        for i in (9, 10, 11):  # nothing but broken images in a batch
            os.truncate(self.path("in", f"{i:03}.png"), 0)
        with open(self.path("list"), "w") as file:
            file.write("".join(f"in/{i:03}.png\n" for i in range(12)))
        lines, err = self.lines("-L", "list", "-b", "4", "-N", "2", expect=1)
        self.assertIn("7 of 12 images have no prediction; their lines say why\n", err)
        said = {1: "neither a PNG nor a JPEG", 5: "damaged PNG", 6: "30x20, expected 28x28", 8: "No such file", 9: "neither a PNG",
                10: "neither", 11: "neither"}
        for i, line in enumerate(lines):
            self.assertEqual((line["index"], line["image"]), (i, f"in/{i:03}.png"))
            if i in said:
                self.assertIn(said[i], line["error"])
                self.assertIn(line["image"], line["error"])
                self.assertNotIn("classifier", line)
            else:
                # The others do not notice.
                self.assertEqual((line["classifier"], line["defence"]), (whole[i]["classifier"], whole[i]["defence"]))
        self.run_program("predict", self.model, "-L", "list", "-b", "4", "-N", "2", "-l", "-o", "out.jsonl", "-t", "1", expect=1)
        self.assertEqual(self.written(), lines)
        _, err = self.run_program("predict", self.model, "-L", "list", "-b", "4", "-N", "2", "-lro", "out.jsonl", "-t", "1", expect=1)
        self.assertIn("7 of 12 images", err)
        self.assertEqual(self.written(), lines)

    def test_unreadable_file(self):
        if os.geteuid() == 0:
            self.skipTest("root reads everything")
        self.write_images("in", 3)
        os.chmod(self.path("in", "001.png"), 0)
        lines, _ = self.lines("in", "-p", expect=1)
        self.assertIn("Permission denied", lines[1]["error"])

    def test_in_class_folders(self):
        self.write_classes("in", 1)
        with open(self.path("in", "0", "0.png"), "w") as file:
            file.write("no image")
        lines, err = self.lines("in", "-p", expect=1)
        self.assertIn("1 of 10 images", err)
        self.assertEqual([line["true"] for line in lines], list(range(CLASSES)))
        self.assertIn("error", lines[0])

    def test_results_that_are_not_finite(self):
        self.write_images("in", 3)
        model = contents(self.classifier)
        weight = tensor_files.read(self.classifier)["classifier.logits.weight"][2]
        wild = model.replace(weight, struct.pack("<2f", 3e38, -3e38) * (len(weight) // 8))
        begin = 8 + struct.unpack_from("<Q", wild)[0]
        stated = b"%08x" % zlib.crc32(model[begin:])
        self.assertEqual(wild.count(stated), 1)
        wild = wild.replace(stated, b"%08x" % zlib.crc32(wild[begin:]))
        with open(self.path("wild.st"), "wb") as file:
            file.write(wild)
        out, err = self.run_program("predict", "wild.st", "in", "-pl", "-t", "1", expect=3)
        self.assertIn("3 of 3 images have no prediction", err)
        for line in out.splitlines():
            self.assertIn("not finite", json.loads(line)["error"])
            self.assertIs(json.loads(line)["non_finite"], True)
        # A run that goes on behind such lines is as little to be trusted, though it meets none itself.
        arguments = ["predict", "wild.st", "in", "-plo", "out.jsonl", "-t", "1"]
        self.run_program(*arguments, expect=3)
        before = contents(self.path("out.jsonl"))
        self.run_program(*arguments, "--resume", expect=3)
        self.assertEqual(contents(self.path("out.jsonl")), before)


class Interrupted(Streaming):
    """Draws enough that a run takes a second."""

    COUNT = 60

    def setUp(self):
        super().setUp()
        self.write_images("in", self.COUNT)

    def arguments(self, *extra, draws="200"):
        return ["predict", self.model, "in", "-l", "-N", draws, "-b", "7", "-t", "1", "-q", *extra]

    def stop_within(self, how, *extra, least=1):
        """Sends the signal once a part is written."""
        process = self.start(*self.arguments("-o", "part", *extra))
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            if os.path.exists(self.path("part")) and contents(self.path("part")).count(b"\n") >= least:
                break
            time.sleep(0.002)
        process.send_signal(how)
        _, err = process.communicate(timeout=PATIENCE)
        return process.returncode, err

    def test_ctrl_c(self):
        self.run_program(*self.arguments("-o", "whole"))
        code, err = self.stop_within(signal.SIGINT)
        self.assertEqual(code, 130, describe_status(code) + err)
        self.assertRegex(err, r"interrupted after \d+ of 60 images; '--resume' goes on from there\n\Z")
        part = contents(self.path("part"))
        self.assertTrue(contents(self.path("whole")).startswith(part))
        self.assertEqual(part.count(b"\n") % 7, 0)
        self.assertLess(part.count(b"\n"), self.COUNT)
        self.run_program(*self.arguments("-o", "part", "--resume"))
        self.assertEqual(contents(self.path("part")), contents(self.path("whole")))

    def test_kill(self):
        self.run_program(*self.arguments("-o", "whole"))
        whole = contents(self.path("whole"))
        for least in (0, 8, 20, 35):
            code, _ = self.stop_within(signal.SIGKILL, "-r", least=least)
            self.assertEqual(code, -signal.SIGKILL)
            self.assertTrue(whole.startswith(contents(self.path("part"))) if least else True)
        self.run_program(*self.arguments("-o", "part", "--resume"))
        self.assertEqual(contents(self.path("part")), whole)

    def test_torn_at_any_place(self):
        self.run_program(*self.arguments("-o", "whole", draws="2"))
        whole = contents(self.path("whole"))
        chooser = random.Random(8)
        second_line = whole.index(b"\n") + 1
        for size in [0, 1, second_line - 1, second_line, second_line + 1, len(whole) - 1, len(whole),
                     *(chooser.randrange(len(whole)) for _ in range(5))]:
            for torn in (b"", b"\0" * 100, b"\0" * 10 + b"\n"):
                # What follows the last whole line goes, be it a piece of a line or what a crashed system leaves.
                if torn and (size == 0 or size == len(whole) or whole[size - 1:size] != b"\n"):
                    continue
                with open(self.path("part"), "wb") as file:
                    file.write(whole[:size] + torn)
                self.run_program(*self.arguments("-o", "part", "--resume", draws="2"))
                self.assertEqual(contents(self.path("part")), whole, f"{size} {torn}")

    def test_resume_with_something_else(self):
        self.run_program(*self.arguments("-o", "part", draws="2"))
        before = contents(self.path("part"))

        def refuse(*arguments, says):
            self.refuse(*arguments, "-o", "part", "--resume", says=["--resume", says])
            self.assertEqual(contents(self.path("part")), before)

        refuse(*self.arguments("-s", "1", draws="2"), says="other options")
        refuse(*self.arguments(draws="3"), says="other options")
        refuse(*self.arguments("-p", draws="2"), says="other options")
        refuse(*self.arguments("-t", "2", draws="2"), says="other options")
        refuse(*self.arguments("--precise", draws="2"), says="other options")
        refuse("predict", self.classifier, "in", "-l", "-b", "7", "-q", says="another model")
        refuse(*self.arguments("-n", "59", draws="2"), says="other images")
        os.rename(self.path("in", "030.png"), self.path("in", "030b.png"))
        refuse(*self.arguments(draws="2"), says="other images")
        os.rename(self.path("in", "030b.png"), self.path("in", "030.png"))
        lines = before.splitlines(keepends=True)
        for broken, says in ((lines[:3] + lines[4:], "line 4 of part is not where"), (lines + lines[-1:], "line 61"),
                             (lines[:5] + [b"{\n"] + lines[5:], "line 6 of part is no result"), ([b'{"a": 1}\n'], "another kind")):
            before = b"".join(broken)
            with open(self.path("part"), "wb") as file:
                file.write(before)
            refuse(*self.arguments(draws="2"), says=says)
        self.refuse(*self.arguments("-o", "in", "-r"), says="folder")
        self.refuse(*self.arguments("-o", "/dev/null", "-r"), says="not a regular file")

    def test_two_runs_on_one_file(self):
        process = self.start(*self.arguments("-o", "part", draws="2000"))
        deadline = time.monotonic() + PATIENCE
        while not os.path.exists(self.path("part")) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(0.05)
        self.refuse(*self.arguments("-o", "part"), says="another run writes it")
        process.kill()
        process.communicate()


class NoPlaceToWrite(Streaming):
    def test_full_disk(self):
        self.write_images("in", 6)
        _, err = self.run_program("predict", self.model, "in", "-plo", "/dev/full", expect=1)
        self.assertEqual(err, "carso predict: cannot write /dev/full: No space left on device\n")
        with open("/dev/full", "w") as full:
            _, err = self.run_program("predict", self.model, "in", "-pl", expect=1, stdout=full)
        self.assertEqual(err, "carso predict: cannot write standard output: No space left on device\n")
        self.refuse("predict", self.model, "in", "-plo", "absent/x", says="absent")
        # A limit in the middle of a line; more room afterwards.
        arguments = ["predict", self.model, "in", "-pl", "-b", "2", "-o", "out.jsonl"]
        _, err = self.run_program(*arguments, expect=1, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)))
        self.assertIn("File too large", err)
        self.assertEqual(os.path.getsize(self.path("out.jsonl")), 1500)
        self.run_program(*arguments, "--resume")
        self.assertEqual([line["index"] for line in self.written()], list(range(6)))

    def test_named_pipe(self):
        self.write_images("in", 3)
        os.mkfifo(self.path("pipe"))
        process = self.start("predict", self.model, "in", "-plo", "pipe")
        self.addCleanup(process.kill)
        with self.assertRaises(subprocess.TimeoutExpired):  # it waits for somebody to read
            process.wait(timeout=2)
        with open(self.path("pipe")) as pipe:
            lines = pipe.read().splitlines()
        _, err = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, len(lines)), (0, 3), err)

    def test_reader_that_is_gone(self):
        self.write_images("in", 40)
        for ignored in (False, True):
            process = self.start("predict", self.model, "in", "-pl", "-b", "1", restore_signals=not ignored,
                                 preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN if ignored else signal.SIG_DFL))
            process.stdout.close()
            err = process.stderr.read()
            process.stderr.close()
            code = process.wait(timeout=PATIENCE)
            if ignored:
                self.assertEqual((code, err), (1, "carso predict: cannot write standard output: Broken pipe\n"))
            else:
                self.assertEqual((code, err), (-signal.SIGPIPE, ""))


if __name__ == "__main__":
    unittest.main()
