# SPDX-License-Identifier: BSD-2-Clause
"""Evaluations: from start to end, saved and resumed, in shards, with a loss of the caller's own."""

import os
import sys
import tempfile
import unittest

import numpy

import carso
from small_model import CLASSES, make_context, make_images, make_model

PROTOCOL = {
    "name": "toy",
    "epsilons": [0.1],
    "draws": 2,
    "repeats": 2,
    "sections": [
        {"name": "c", "objective": "classifier", "attacks": [{"name": "pgd", "method": "pgd", "steps": 2}]},
        {"name": "d", "objective": "defence", "attacks": [{"name": "eot", "method": "pgd", "steps": 1, "eot": 2}]},
    ],
}
COUNT = 5


def timeless(result):
    for cell in result["cells"]:
        cell.pop("seconds")
        for attack in cell["attacks"]:
            attack.pop("seconds")
    return result


class Evaluations(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = make_model(make_context())
        cls.images = make_images(COUNT)
        cls.labels = cls.model.predict(cls.images).labels
        cls.options = {"protocol": PROTOCOL, "batch": 2, "seed": 3}

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = lambda name: os.path.join(folder.name, name)

    def test_to_the_end(self):
        seen = []
        found = carso.evaluate(self.model, self.images, self.labels, progress=lambda *state: seen.append(state), **self.options)
        self.assertEqual(found.count, COUNT)
        self.assertTrue(seen and all(done <= total and unit == "evaluations" for done, total, unit in seen))
        result = found.result
        self.assertEqual(result["clean"]["classifier"]["accuracy"], 1)
        self.assertEqual([cell["section"] for cell in result["cells"]], ["c", "d"])
        self.assertEqual(found.flags, result["flags"])
        self.assertEqual(found.images(0).shape, (COUNT, *self.model.shape))
        self.assertLessEqual(numpy.abs(found.images(0) - found.originals).max(), numpy.float32(0.1))
        self.assertTrue(numpy.array_equal(self.model.predict(found.images(0), layout="chw").labels, found.predictions(0)))
        self.assertTrue(numpy.array_equal(found.labels, self.labels))
        self.assertTrue(numpy.array_equal(found.positions, range(COUNT)))
        self.assertTrue(numpy.array_equal(found.predictions(-1), self.labels))
        with self.assertRaises(IndexError):
            found.images(2)

    def test_interrupted_and_resumed(self):
        whole = carso.evaluate(self.model, self.images, self.labels, **self.options)
        calls = 0

        def stop_late(_done, _total, _unit):
            nonlocal calls
            calls += 1
            if calls == 12:
                raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            carso.evaluate(self.model, self.images, self.labels, path=self.path("e"), progress=stop_late, **self.options)
        self.assertLess(carso.Evaluation.open(self.path("e")).count, COUNT)
        resumed = carso.evaluate(self.model, self.images, self.labels, path=self.path("e"), resume=True, **self.options)
        self.assertEqual(timeless(whole.result), timeless(resumed.result))
        self.assertTrue(numpy.array_equal(whole.images(1), resumed.images(1)))
        opened = carso.Evaluation.open(self.path("e"))
        self.assertEqual(opened.result, resumed.result)
        with self.assertRaises(carso.InvalidArgumentError):
            carso.evaluate(self.model, self.images[::-1], self.labels, path=self.path("f"), resume=False, **self.options).resume(
                self.path("e")
            )

    def test_shards(self):
        whole = carso.evaluate(self.model, self.images, self.labels, **self.options)
        for shard in range(2):
            carso.evaluate(
                self.model, self.images, self.labels, path=self.path(str(shard)), shard=shard, shards=2, **self.options
            )
            with carso.Evaluation.open(self.path(str(shard))) as told:
                told.set_command(f"shard {shard}")
                self.assertRaises(ValueError, told.set_command, "\0")
                told.save(self.path(str(shard)))
        merged = carso.Evaluation.merge(self.path("1"), self.path("0"))
        self.assertEqual(merged.result["commands"], ["shard 0", "shard 1"])
        merged.set_command("")
        whole.set_command("")
        self.assertEqual(timeless(whole.result), timeless(merged.result))

    def test_a_loss_of_the_caller_s_own(self):
        """One whose gradient is lost, as a masked defence's is."""
        protocol = {
            "name": "masked",
            "epsilons": [0.1],
            "sections": [
                {"name": "c", "objective": "classifier", "attacks": [{"method": "pgd", "loss": "callback", "steps": 2}]}
            ],
        }

        def lost(batch):
            return -batch.logits[0][numpy.arange(len(batch.labels)), batch.labels], numpy.zeros_like(batch.logits)

        found = carso.evaluate(self.model, self.images, self.labels, protocol=protocol, loss_function=lost)
        self.assertLessEqual({"gradient-check", "vanishing-gradient"}, {flag["flag"] for flag in found.flags})

        def failing(batch):
            raise ZeroDivisionError

        with self.assertRaises(carso.CallbackError) as caught:
            carso.evaluate(self.model, self.images, self.labels, protocol=protocol, loss_function=failing)
        self.assertIsInstance(caught.exception.__cause__, ZeroDivisionError)

        interrupted = []

        def interrupted_once(batch):
            if not interrupted:
                interrupted.append(True)
                raise KeyboardInterrupt
            return lost(batch)

        evaluation = carso.Evaluation.create(
            self.model, self.images, self.labels, protocol=protocol, loss_function=interrupted_once
        )
        with self.assertRaises(KeyboardInterrupt):
            while not evaluation.step():
                pass
        while not evaluation.step():
            pass
        self.assertEqual(evaluation.count, COUNT)

    def test_what_cannot_be(self):
        with self.assertRaises(carso.BadFormatError):
            carso.evaluate(self.model, self.images, self.labels, protocol="thorough")
        with self.assertRaises(carso.InvalidArgumentError):
            carso.evaluate(self.model, self.images, self.labels, epsilons=[0.1, -1])
        with self.assertRaises(carso.InvalidArgumentError):
            carso.evaluate(self.model, self.images, [CLASSES] * COUNT)
        with self.assertRaises(TypeError):
            carso.evaluate(self.model, self.images, self.labels, resume=True)


if __name__ == "__main__":
    sys.exit(unittest.main())
