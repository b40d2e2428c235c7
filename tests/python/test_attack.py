# SPDX-License-Identifier: BSD-2-Clause
"""Gradients and attacks, their progress, and how they end early."""

import sys
import unittest

import numpy

import carso
from small_model import CLASSES, make_context, make_images, make_model


class Gradients(unittest.TestCase):
    def test_is_the_slope_of_the_loss(self):
        """Along a direction, by central differences in double: the pixels are exact in float32."""
        model = make_model(make_context("reference-double"))
        images = ((make_images(2) // 2 + 64) / numpy.float32(256)).astype(numpy.float32)
        direction = numpy.random.default_rng(4).choice([-1, 1], images.shape).astype(numpy.float32)
        for objective in ("classifier", "defence"):
            for loss in ("cross_entropy", "margin", "log_odds"):
                options = {"objective": objective, "loss": loss, "draws": 2, "seed": 3}
                with self.subTest(**options):
                    found = model.gradient(images, [1, 2], **options)
                    step = numpy.float32(2.0**-18)
                    ahead = model.gradient(images + step * direction, [1, 2], **options).losses
                    behind = model.gradient(images - step * direction, [1, 2], **options).losses
                    slope = (ahead - behind) / (2 * step)
                    self.assertTrue(
                        numpy.allclose((found.gradient * direction).sum(axis=(1, 2, 3)), slope, rtol=1e-3, atol=1e-6)
                    )

    def test_of_a_loss_of_the_caller_s_own(self):
        model = make_model(make_context())
        images = make_images(2)
        labels = numpy.array([1, 3])
        found = model.gradient(images, labels, objective="defence", draws=3, seed=2)
        self.assertEqual(found.logits.shape, (3, 2, CLASSES))
        self.assertTrue(numpy.array_equal(found.logits, model.predict_robust(images, draws=3, seed=2).logits))
        # Cross-entropy of the mean logits, written down here.
        mean = numpy.exp(found.logits.mean(axis=0))
        slope = (mean / mean.sum(axis=1, keepdims=True) - numpy.eye(CLASSES)[labels]) / 3
        own = model.gradient(images, objective="defence", draws=3, seed=2, logit_gradient=numpy.stack([slope] * 3))
        self.assertIsNone(own.losses)
        scale = numpy.abs(found.gradient).max()
        self.assertTrue(numpy.allclose(own.gradient, found.gradient, atol=1e-5 * scale))
        with self.assertRaises(ValueError):
            model.gradient(images, objective="defence", draws=2, logit_gradient=numpy.stack([slope] * 3))
        with self.assertRaises(TypeError):
            model.gradient(images)

    def test_towards_targets(self):
        model = make_model(make_context())
        images, labels, targets = make_images(2), [0, 1], [2, 3]
        for loss in ("cross_entropy", "log_odds"):
            found = model.gradient(images, labels, targets=targets, loss=loss)
            other = model.gradient(images, targets, loss=loss)
            self.assertTrue(numpy.array_equal(found.gradient, -other.gradient))
        with self.assertRaises(carso.InvalidArgumentError):
            model.gradient(images, labels, targets=labels)

    def test_of_a_loss_function(self):
        model = make_model(make_context())
        images = make_images(2)
        options = {"objective": "defence", "draws": 3, "seed": 2, "first_image": 7}
        seen = []

        def variance(batch):
            seen.append(batch)
            mean = batch.logits.mean(axis=0)
            slope = 2 * (mean - mean.mean(axis=1, keepdims=True)) / CLASSES / len(batch.logits)
            return mean.var(axis=1), numpy.broadcast_to(slope, batch.logits.shape)

        found = model.gradient(images, loss_function=variance, **options)
        self.assertEqual(seen[0].logits.shape, (3, 2, CLASSES))
        self.assertTrue(numpy.array_equal(seen[0].logits, found.logits))
        self.assertIsNone(seen[0].labels)
        self.assertIsNone(seen[0].targets)
        self.assertEqual(list(seen[0].image_index), [7, 8])
        self.assertTrue(numpy.allclose(found.losses, found.logits.mean(axis=0).var(axis=1)))
        outright = model.gradient(images, logit_gradient=variance(seen[0])[1], **options)
        self.assertTrue(numpy.array_equal(found.gradient, outright.gradient))
        with self.assertRaises(carso.InvalidArgumentError):
            model.gradient(images, loss_function=variance, logit_gradient=variance(seen[0])[1], **options)


class Attacks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = make_model(make_context())
        cls.images = make_images(3)

    def test_stay_in_the_ball_and_raise_the_loss(self):
        for method in ("fgsm", "pgd"):
            result = self.model.attack(self.images, [0, 1, 2], method=method, epsilon=0.05, steps=5, random_start=False)
            self.assertEqual(result.images.shape, self.images.shape)
            self.assertEqual(result.images.dtype, numpy.float32)
            self.assertLessEqual(numpy.abs(result.images - self.images / 255.0).max(), 0.05 + 1e-6)
            self.assertTrue((result.images >= 0).all() and (result.images <= 1).all())
            self.assertTrue((result.last_loss > result.first_loss).all())
            self.assertFalse(result.non_finite.any())
            self.assertFalse(result.non_finite_losses.any() or result.non_finite_gradients.any())
            self.assertLess(result.tiny_gradient.max(), 0.1)
            self.assertEqual([step.first_step for step in result.steps], list(range(2 if method == "fgsm" else 6)))
            self.assertEqual([step.evaluations for step in result.steps], [3] * len(result.steps))
            self.assertEqual([step.gradients for step in result.steps], [3] * (len(result.steps) - 1) + [0])
            self.assertAlmostEqual(result.steps[0].mean_loss, result.first_loss.mean())
            self.assertAlmostEqual(result.steps[-1].mean_loss, result.last_loss.mean())

    def test_on_the_defence(self):
        options = {"objective": "defence", "loss": "margin", "draws": 2, "eot": 2, "steps": 2, "restarts": 2, "seed": 5}
        result = self.model.attack(self.images, [0, 1, 2], **options)
        self.assertEqual(result.last_loss.shape, (3,))
        self.assertTrue(numpy.array_equal(result.images, self.model.attack(self.images, [0, 1, 2], **options).images))

    def test_transferred_and_with_draws_held_still(self):
        options = {"draws": 2, "steps": 3, "seed": 5}
        alone = self.model.attack(self.images, [0, 1, 2], **options)
        moved = self.model.attack(self.images, [0, 1, 2], objective="defence", transfer=True, **options)
        self.assertTrue(numpy.array_equal(alone.images, moved.images))
        self.assertFalse((alone.last_loss == moved.last_loss).any())
        still = self.model.attack(self.images, [0, 1, 2], objective="defence", fixed_draws=True, **options)
        fresh = self.model.attack(self.images, [0, 1, 2], objective="defence", **options)
        self.assertFalse(numpy.array_equal(still.images, fresh.images))

    def test_methods_norms_and_targets(self):
        clean = self.images / 255.0
        for method in ("pgd", "apgd", "apgd_targeted", "square", "fab", "fab_targeted"):
            for norm in carso.Norm:
                with self.subTest(method=method, norm=norm):
                    result = self.model.attack(
                        self.images, [0, 1, 2], method=method, norm=norm, loss="dlr", epsilon=0.5, steps=5, queries=30,
                        momentum=0.5, target_classes=2, early_stop=False, step_size=0.2,
                    )
                    change = (result.images - clean).reshape(3, -1)
                    order = numpy.inf if norm == carso.Norm.LINF else 2
                    size = numpy.linalg.norm(change, ord=order, axis=1)
                    self.assertLessEqual(size.max(), 0.5 + 1e-5)
                    self.assertTrue((result.last_loss >= result.first_loss).all())
        targets = [1, 2, 3]
        result = self.model.attack(self.images, [0, 1, 2], method="apgd", targets=targets, steps=5, epsilon=0.1)
        before = self.model.gradient(self.images, targets).losses
        self.assertTrue((self.model.gradient(result.images, targets).losses < before).all())
        with self.assertRaises(carso.InvalidArgumentError):
            self.model.attack(self.images, [0, 1, 2], targets=[0, 2, 3])
        with self.assertRaises(ValueError):
            self.model.attack(self.images, [0, 1, 2], targets=[1, 2])

    def test_say_how_far_the_nearest_boundary_is(self):
        right = self.model.predict(self.images).labels
        result = self.model.attack(self.images, right, method="fab", epsilon=1, steps=10)
        change = numpy.abs(result.images - self.images / numpy.float32(255)).reshape(3, -1).max(axis=1)
        self.assertTrue(numpy.allclose(result.distance, change, atol=1e-7))
        self.assertTrue((self.model.predict(result.images).labels != right).all())
        self.assertIsNone(self.model.attack(self.images, right, steps=1).distance)

    def test_report_progress(self):
        calls = []
        self.model.attack(self.images, [0, 1, 2], steps=4, progress=lambda *state: calls.append(state))
        self.assertEqual(calls[-1], (4, 4, "steps"))
        calls.clear()
        self.model.predict_robust(self.images, progress=lambda *state: calls.append(state))
        self.assertEqual(calls[-1], (3, 3, "images"))

    def test_keep_what_there_is_when_cancelled(self):
        with self.assertRaises(carso.Cancelled) as caught:
            self.model.attack(self.images, [0, 1, 2], steps=50, progress=lambda done, total, unit: done >= 3)
        self.assertEqual(caught.exception.status, carso.Status.CANCELLED)
        self.assertEqual(caught.exception.result.images.shape, self.images.shape)
        with self.assertRaises(carso.Cancelled) as caught:
            self.model.predict(self.images, progress=lambda done, total, unit: True)
        self.assertIsNone(caught.exception.result)

    def test_let_exceptions_out(self):
        for kind in (RuntimeError, KeyboardInterrupt):

            def fail(done, total, unit):
                raise kind("enough")

            with self.assertRaises(kind):
                self.model.attack(self.images, [0, 1, 2], progress=fail)

    def test_raise_a_loss_of_the_caller_s_own(self):
        """The logit of class 3, with nobody's label in it."""

        def third(batch):
            self.assertEqual(list(batch.labels), [batch.image_index[i] % 3 for i in range(len(batch.labels))])
            slope = None
            if batch.wants_gradient:
                slope = numpy.zeros(batch.logits.shape)
                slope[:, :, 3] = 1 / len(batch.logits)
            return batch.logits[:, :, 3].mean(axis=0), slope

        for method in ("fgsm", "pgd", "apgd", "apgd_targeted", "square"):
            with self.subTest(method=method):
                result = self.model.attack(
                    self.images, [0, 1, 2], method=method, loss_function=third, steps=4, queries=20, epsilon=0.1
                )
                self.assertTrue((result.last_loss >= result.first_loss).all())
                before = self.model.predict(self.images).logits[0][:, 3]
                after = self.model.predict(result.images).logits[0][:, 3]
                self.assertTrue((after >= before).all() and (after > before).any())

    def test_keep_what_there_is_when_the_loss_fails(self):
        def fail_at(count, kind):
            calls = []

            def loss(batch):
                calls.append(batch)
                if len(calls) == count:
                    raise kind("enough")
                return batch.logits[0].sum(axis=1), numpy.ones(batch.logits.shape)

            return loss

        with self.assertRaises(carso.CallbackError) as caught:
            self.model.attack(self.images, [0, 1, 2], loss_function=fail_at(3, ZeroDivisionError))
        self.assertIsInstance(caught.exception.__cause__, ZeroDivisionError)
        self.assertTrue(numpy.isfinite(caught.exception.result.last_loss).all())
        with self.assertRaises(KeyboardInterrupt):
            self.model.attack(self.images, [0, 1, 2], loss_function=fail_at(3, KeyboardInterrupt))
        with self.assertRaises(carso.CallbackError) as caught:
            self.model.gradient(self.images, loss_function=fail_at(1, ZeroDivisionError))
        self.assertIsNone(caught.exception.result)
        for bad in (lambda batch: (0, 0), lambda batch: None, lambda batch: (batch.logits[0, :, 0], None)):
            with self.assertRaises(carso.CallbackError):
                self.model.attack(self.images, [0, 1, 2], loss_function=bad)
        with self.assertRaises(carso.NonFiniteError) as caught:
            self.model.attack(
                self.images, [0, 1, 2], loss_function=lambda batch: (batch.logits[0, :, 0] * numpy.nan, batch.logits)
            )
        self.assertTrue(caught.exception.result.non_finite.all())

    def test_refuse_what_makes_no_sense(self):
        for options in (
            {"epsilon": -0.1},
            {"epsilon": float("nan")},
            {"steps": -1},
            {"restarts": 0},
            {"eot": 0, "objective": "defence"},
        ):
            with self.assertRaises(carso.InvalidArgumentError, msg=str(options)):
                self.model.attack(self.images, [0, 1, 2], **options)
        with self.assertRaises(carso.InvalidArgumentError):
            self.model.attack(self.images, [0, 1, CLASSES])


if __name__ == "__main__":
    sys.exit(unittest.main())
