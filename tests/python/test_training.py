# SPDX-License-Identifier: BSD-2-Clause
"""Trainers, their reports and checkpoints."""

import sys
import tempfile
import unittest
from pathlib import Path

import numpy

import carso
from small_model import CLASSES, make_classifier, make_context, make_images, make_model

PURIFIER = {
    "steps_per_epoch": 2,
    "epochs": 3,
    "pgd_steps": 1,
    "learning_rate_start": 1e-3,
    "learning_rate_peak": 1e-3,
    "seed": 3,
}
CLASSIFIER = {"steps_per_epoch": 2, "epochs": 3, "pgd_steps": 1, "learning_rate": 0.01, "warm_up_epochs": 0, "seed": 3}


def batch(step, count=4):
    labels = numpy.random.default_rng(step).integers(0, CLASSES, count)
    return make_images(count, seed=step), labels


class Training(unittest.TestCase):
    def setUp(self):
        self.context = make_context()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def trainers(self):
        yield carso.Trainer.purifier(make_model(self.context), **PURIFIER)
        yield carso.Trainer.classifier(make_classifier(self.context), **CLASSIFIER)

    def test_a_step_changes_the_model_and_says_what_it_did(self):
        images = make_images(2, seed=8)
        before = make_model(self.context).purify(images, seed=1).reconstructions
        with carso.Trainer.purifier(make_model(self.context), **PURIFIER) as trainer:
            self.assertTrue(numpy.array_equal(trainer.model().purify(images, seed=1).reconstructions, before))
            for step in range(6):
                report = trainer.step(*batch(step))
                self.assertEqual((report.step, report.epoch, trainer.steps_done), (step, step / 2, step + 1))
                self.assertTrue(
                    numpy.isfinite([report.loss, report.reconstruction, report.kl, report.gradient_norm]).all()
                )
                self.assertGreater(report.gradient_norm, 0)
            self.assertFalse(numpy.array_equal(trainer.model().purify(images, seed=1).reconstructions, before))

    def test_the_classifier_s_trainer(self):
        before = make_classifier(self.context).predict(make_images(2)).logits
        with carso.Trainer.classifier(make_model(self.context), **CLASSIFIER) as trainer:
            report = trainer.step(*batch(0))
            self.assertIn(report.accuracy, (0, 0.25, 0.5, 0.75, 1))
            model = trainer.model()
        self.assertFalse(model.info.has_purifier)
        self.assertFalse(numpy.array_equal(model.predict(make_images(2)).logits, before))

    def test_a_checkpoint_continues_bit_for_bit(self):
        for number, trainer in enumerate(self.trainers()):
            path = self.folder / f"checkpoint{number}.safetensors"
            with self.subTest(number), trainer:
                trainer.step(*batch(0))
                trainer.save(path)
                straight = trainer.step(*batch(1))
                trainer.set_data("small", images=8, batch=4, mirror=True)
                self.assertRaises(carso.InvalidArgumentError, trainer.set_data, "small", images=8, batch=2, mirror=True)
                self.assertRaisesRegex(
                    carso.InvalidArgumentError, "mirror", trainer.set_data, "small", images=8, batch=4
                )
                self.assertRaises(OverflowError, trainer.set_data, "small", images=-1, batch=4)
                kind = ("purifier", "classifier")[number] + "_training"
                with trainer.model() as model:
                    self.assertEqual(
                        model.describe()["provenance"][kind]["data"],
                        {"name": "small", "images": 8, "batch": 4, "crop_padding": 0, "mirror": 1},
                    )
                with carso.Trainer.load(path, self.context) as resumed:
                    self.assertEqual(resumed.steps_done, 1)
                    options, others = ((PURIFIER, CLASSIFIER), (CLASSIFIER, PURIFIER))[number]
                    name, other = (("purifier", "classifier"), ("classifier", "purifier"))[number]
                    check = getattr(resumed, "check_" + name)
                    check(**options)
                    self.assertRaisesRegex(carso.InvalidArgumentError, "seed is 3", check, **{**options, "seed": 4})
                    self.assertRaisesRegex(TypeError, "speed", check, **options, speed=1)
                    self.assertRaises(carso.InvalidArgumentError, getattr(resumed, "check_" + other), **others)
                    self.assertEqual(resumed.step(*batch(1)), straight)
                    images = make_images(2, seed=8)
                    predict = "purify" if number == 0 else "predict"
                    field = "reconstructions" if number == 0 else "logits"
                    expected = getattr(getattr(trainer.model(), predict)(images), field)
                    self.assertTrue(
                        numpy.array_equal(getattr(getattr(resumed.model(), predict)(images), field), expected)
                    )
                self.assertEqual(carso.Model.load(path, self.context).info, trainer.model().info)

    def test_refusals(self):
        with self.assertRaises(carso.InvalidArgumentError):
            carso.Trainer.purifier(make_model(self.context), steps_per_epoch=0)
        with self.assertRaises(carso.Error):
            carso.Trainer.purifier(make_classifier(self.context), steps_per_epoch=2)
        for trainer in self.trainers():
            with trainer:
                images, labels = batch(0)
                with self.assertRaises(carso.InvalidArgumentError):
                    trainer.step(images, labels + CLASSES)
                with self.assertRaises(carso.InvalidArgumentError):
                    trainer.step(images[:1], labels[:1])
                with self.assertRaises(carso.InvalidImageError):
                    trainer.step(images[:, :, :20], labels)
                self.assertEqual(trainer.steps_done, 0)
            with self.assertRaises(ValueError):
                trainer.steps_done
        make_model(self.context).save(self.folder / "model.safetensors")
        with self.assertRaises(carso.Error):
            carso.Trainer.load(self.folder / "model.safetensors", self.context)


if __name__ == "__main__":
    sys.exit(unittest.main())
