# SPDX-License-Identifier: BSD-2-Clause
"""Evaluations: results, flags and exit statuses, killed and resumed, in shards and joined."""
import base64
import html
import json
import os
import re
import shlex
import signal
import time
import unittest

import tensor_files
from program import PATIENCE, TrainedTest, describe_status

PROTOCOL = {
    "name": "toy", "epsilons": [0.1], "draws": 2, "repeats": 2, "sections": [
        {"name": "classifier", "objective": "classifier", "attacks": [
            {"name": "pgd", "method": "pgd", "steps": 3}, {"name": "square", "method": "square", "queries": 4}]},
        {"name": "defence", "objective": "defence", "attacks": [
            {"name": "pgd-eot", "method": "pgd", "loss": "margin", "steps": 20, "eot": 2},
            {"name": "transfer", "method": "pgd", "objective": "classifier", "steps": 3}]},
        {"name": "guard", "objective": "classifier", "guard": True, "epsilons": [0.95], "attacks": [{"method": "pgd", "steps": 5}]}]}


def timeless(result):
    """Times alone may differ between an evaluation and its repetition."""
    for cell in result["cells"]:
        cell.pop("seconds")
        for attack in cell["attacks"]:
            attack.pop("seconds")
    return result


class Evaluation(TrainedTest):
    def setUp(self):
        super().setUp()
        with open(self.path("toy.json"), "w") as file:
            json.dump(PROTOCOL, file)

    def evaluation(self, prefix, *extra):
        return ["evaluate", self.model, self.data, "-p", "toy.json", "-b", "5", "-t", "1", "-o", prefix, *extra]

    def result(self, prefix):
        with open(self.path(prefix + ".json")) as file:
            return timeless(json.load(file))

    def check_same(self, first, second):
        self.assertEqual(self.result(first), self.result(second))
        self.check_same_tensors(first, second)

    def check_same_tensors(self, first, second):
        self.assertEqual(tensor_files.read(self.path(first + ".safetensors")), tensor_files.read(self.path(second + ".safetensors")))

    def test_result(self):
        out, err = self.run_program(*self.evaluation("e"))
        self.assertRegex(out, r"protocol toy, 24 images, seed 0; the defence with N = 2, M = 2")
        self.assertRegex(out, r"\nclassifier, clean +0 +[01]\.\d{4} +[01]\.\d{4} to [01]\.\d{4} ")
        self.assertRegex(out, r"\nguard +0\.95 ")
        self.assertIn("result: e.json; adversarial images: e.safetensors", out)
        result = self.result("e")
        self.assertEqual(sorted(os.listdir(self.folder)), ["e.json", "e.safetensors", "toy.json"])
        self.assertTrue(result["finished"])
        self.assertEqual([cell["section"] for cell in result["cells"]], ["classifier", "defence", "guard"])
        for cell in result["cells"]:
            score = cell["score"]
            self.assertLessEqual(score["accuracy"], result["clean"][cell["objective"]]["accuracy"])
            self.assertTrue(0 <= score["low"] <= score["accuracy"] <= score["high"] <= 1)
            self.assertLessEqual(score["worst"], score["accuracy"])
            self.assertEqual(len(cell["per_class"]), len(result["class_names"]))
        for key in ("model_sha256", "data_sha256", "configuration_sha256"):
            self.assertRegex(result[key], r"\A[0-9a-f]{64}\Z")
        tensors = tensor_files.read(self.path("e.safetensors"))
        self.assertEqual(tensors["cell.1.image"][:2], ("F32", [24, 1, 28, 28]))
        self.assertEqual(tensors["cell.1.attack.state"][:2], ("U8", [24, 2]))
        again = self.run_json(*self.evaluation("e", "--resume"))
        self.assertEqual(timeless(again), result)

    def test_epsilon_0_is_clean_accuracy(self):
        result = self.run_json(*self.evaluation("e", "-e", "0,0/255"))
        for cell in result["cells"][:4]:
            self.assertEqual(cell["epsilon"], 0)
            for key, value in cell["score"].items():
                self.assertEqual(value, result["clean"][cell["objective"]][key], key)

    def test_strict(self):
        with open(self.path("weak.json"), "w") as file:
            json.dump({"name": "weak", "epsilons": [0.95], "sections": [
                {"name": "s", "objective": "classifier", "guard": True, "attacks": [{"method": "pgd", "steps": 0, "random_start": False}]}]}, file)
        arguments = ["evaluate", self.model, self.data, "-p", "weak.json", "-o"]
        result = self.run_json(*arguments, "lax")
        self.assertEqual([flag["flag"] for flag in result["flags"]], ["guard-above-chance"])
        out, err = self.run_program(*arguments, "strict", "--strict", "-q", expect=3)
        self.assertIn("guard-above-chance (s): more than chance is left", out)
        self.assertIn("1 flag: the figures are not to be trusted", err)
        self.assertEqual(self.result("strict"), self.result("lax"))

    def test_report_is_one_file(self):
        """It asks for nothing from elsewhere, and shows names as they are."""
        name = "a <b> & 'c'"
        with open(self.path("toy.json"), "w") as file:
            json.dump({**PROTOCOL, "name": name}, file)
        out, _ = self.run_program(*self.evaluation("e", "--report", "e.html"), "-q")
        self.assertIn("report: e.html", out)
        page = open(self.path("e.html")).read()
        self.assertTrue(page.startswith("<!DOCTYPE html>"))
        self.assertIn("a &lt;b&gt; &amp; 'c'", page)
        self.assertNotIn("<b> &", page)
        self.assertIsNone(re.search(r"https?:|<script|<link|@import|url\(", page))
        self.assertEqual(set(re.findall(r'src="(.{22})', page)), {"data:image/png;base64,"})
        for words in ("prefers-color-scheme:dark", "@media print", "width=device-width", "Accuracy against epsilon", "Accuracy of each class",
                      "Flags", "<span>--batch</span> <span>5</span>", self.result("e")["model_sha256"]):
            self.assertIn(words, page)
        image = base64.b64decode(re.search(r'src="data:image/png;base64,([^"]*)', page)[1])
        with open(self.path("first.png"), "wb") as file:
            file.write(image)
        self.run_program("predict", self.model, "first.png")
        # The command it names is the one that was given, and the joined shards of it are the same page but for that and for times.
        self.run_program("merge", "e.safetensors", "-o", "m", "--report", "m.html", "--model", self.model)
        self.assertEqual(re.findall(r"<svg.*?</svg>", page, re.DOTALL), re.findall(r"<svg.*?</svg>", open(self.path("m.html")).read(), re.DOTALL))

    def test_report_fits_on_paper(self):
        """Classes under many epsilons are in several tables, none wider than a page; each column once."""
        epsilons = ",".join(f"{i}e-9" for i in range(12))
        self.run_program("evaluate", self.classifier, self.data, "-p", "toy.json", "-e", epsilons, "-n", "3", "-o", "e", "--report", "e.html", "-q")
        page = open(self.path("e.html")).read()
        tables = re.findall("<thead><tr><th>class</th><th>images</th>(.*?)</thead>", page)
        columns = [re.findall("<th>([^<]*)</th>", table) for table in tables]
        self.assertEqual([len(row) for row in columns], [8, 5])
        self.assertEqual(sum(columns, []), ["classifier, clean"] + [f"classifier, {i * 1e-9:.4g}" for i in range(12)])

    def test_command_repeats_it(self):
        """To the same bits, whatever was left to defaults."""
        self.run_program(*self.evaluation("e", "--report", "e.html", "--precise", "--memory-limit", "64"), "-q")
        (command,) = self.result("e")["commands"]
        shown = re.search("<pre>(.*)</pre>", open(self.path("e.html")).read())[1]
        self.assertEqual(html.unescape(re.sub("<[^>]*>", "", shown)), command)
        for words in ("--threads 1", "--memory-limit 64", "--precise", "--batch 5", f"--backend {self.result('e')['configuration']['backend']}"):
            self.assertIn(words, command)
        name, *arguments = shlex.split(command)
        self.assertEqual(name, "carso")
        self.run_program(*arguments, "-o", "again", "-q")
        self.check_same("e", "again")
        default = self.run_json("evaluate", self.classifier, self.data, "-p", "toy.json", "-o", "default", "-n", "5")["commands"][0]
        self.assertRegex(default, r" --backend [a-z-]+ --threads [1-9]\d* --memory-limit 1024\Z")

    def test_classifier_alone(self):
        out, _ = self.run_program("evaluate", self.classifier, self.data, "-p", "toy.json", "-o", "e", "-q")
        self.assertIn("left out: defence: the model has no purifier", out)
        self.assertEqual([cell["section"] for cell in self.result("e")["cells"]], ["classifier", "guard"])

    def stop_once_saved(self, arguments, how, delay):
        """Sends the signal some time after the file has appeared or changed."""
        path = self.path("part.safetensors")
        before = os.stat(path).st_mtime_ns if os.path.exists(path) else None
        process = self.start(*arguments, "--quiet", "--save-minutes", "0")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            if os.path.exists(path) and os.stat(path).st_mtime_ns != before:
                break
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(how)
        _, err = process.communicate(timeout=PATIENCE)
        return process.returncode, err

    def test_killed_and_resumed(self):
        self.run_program(*self.evaluation("whole"), "-q")
        resume = []
        for attempt in range(4):
            code, err = self.stop_once_saved(self.evaluation("part", *resume), signal.SIGKILL, 0.004 * attempt)
            self.assertEqual(code, -signal.SIGKILL, describe_status(code) + err)
            self.assertFalse(os.path.exists(self.path("part.json")), "ended before it was killed")
            resume = ["--resume"]
        self.run_program(*self.evaluation("part", "--resume"), "-q")
        self.check_same("whole", "part")

    def test_interrupted_and_resumed(self):
        self.run_program(*self.evaluation("whole"), "-q")
        code, err = self.stop_once_saved(self.evaluation("part"), signal.SIGINT, 0)
        self.assertEqual(code, 130, err)
        self.assertIn("interrupted; '--resume' goes on from part.safetensors", err)
        self.run_program(*self.evaluation("part", "--resume"), "-q")
        self.check_same("whole", "part")

    def test_earlier_results_are_kept(self):
        self.run_program(*self.evaluation("e"), "-q")
        before = open(self.path("e.safetensors"), "rb").read()
        self.refuse(*self.evaluation("e"), says=["e.safetensors is there already", "--resume"])
        self.refuse("evaluate", self.classifier, self.data, "-p", "toy.json", "-b", "5", "-o", "e", "--resume",
                    says=["cannot resume from e.safetensors", "of another model"])
        self.refuse(*self.evaluation("e", "--resume", "-n", "20"), says="of other images or labels")
        self.refuse(*self.evaluation("e", "--resume", "-s", "1"), says="of another configuration")
        self.refuse(*self.evaluation("new", "--resume"), says=["cannot resume from new.safetensors", "No such file"])
        self.assertEqual(open(self.path("e.safetensors"), "rb").read(), before)

    def test_shards(self):
        self.run_program(*self.evaluation("whole"), "-q")
        for shard in (3, 1, 2):
            self.run_program(*self.evaluation(f"part{shard}", "--shard", f"{shard}/3"), "-q")
        parts = [f"part{shard}.safetensors" for shard in (1, 2, 3)]
        self.refuse("merge", *parts[:2], "-o", "merged", says="2 files of the 3 shards")
        out, _ = self.run_program("merge", *reversed(parts), "-o", "merged", "--report", "merged.html")
        self.assertIn("protocol toy, 24 images", out)
        whole, merged = self.result("whole"), self.result("merged")
        (command,), commands = whole.pop("commands"), merged.pop("commands")
        self.assertIn(" --batch 5 ", command)
        self.assertEqual([re.sub(r" --shard \d/3", "", each) for each in commands], [command] * 3)
        self.assertEqual([re.search(r"--shard (\d)/3", each)[1] for each in commands], ["1", "2", "3"])
        shown = re.findall("<pre>(.*)</pre>", open(self.path("merged.html")).read())
        self.assertEqual([html.unescape(re.sub("<[^>]*>", "", each)) for each in shown], commands)
        self.assertEqual(whole, merged)
        self.check_same_tensors("whole", "merged")

    def test_what_cannot_be(self):
        for options, says in ((["-e", "x"], "--epsilon: 'x'"), (["-e", "0.1,,1"], "--epsilon"), (["-e", "-1"], "--epsilon"),
                              (["-e", "1/0"], "--epsilon"), (["--shard", "0/3"], "--shard"), (["--shard", "4/3"], "--shard"),
                              (["--shard", "1/3x"], "--shard")):
            self.refuse(*self.evaluation("e", *options), expect=2, says=says)
        self.refuse(*self.evaluation("nowhere/e"), says="nowhere")
        self.refuse("evaluate", self.model, self.data, "-p", "thorough", says='no protocol "thorough"')
        self.refuse("evaluate", self.model, self.data, "-p", "none.json", says="cannot read none.json")
        self.refuse("evaluate", self.model, self.data, "-p", self.model, says="no description in JSON")
        self.refuse("merge", self.model, says="is not the file of an evaluation")
        self.assertEqual(os.listdir(self.folder), ["toy.json"])


if __name__ == "__main__":
    unittest.main()
