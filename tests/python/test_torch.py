# SPDX-License-Identifier: BSD-2-Clause
"""carso.torch: the classifier and the defence as modules, differentiated by autograd."""

import sys
import unittest

import numpy

import carso
import small_model
from torch_networks import F, nn, random_images, torch

import carso.torch

SHAPE = (1, small_model.SIDE, small_model.SIDE)
LABELS = [1, 3, 0]


def slope_of(loss, images):
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(images), images)
    return gradient.numpy()


class Modules(unittest.TestCase):
    def setUp(self):
        self.model = small_model.make_model(small_model.make_context())
        self.images = random_images(3, SHAPE)
        self.labels = torch.tensor(LABELS)

    def close(self, computed, expected, tolerance=1e-6):
        scale = abs(expected).max()
        self.assertGreater(scale, 0)
        self.assertLess(abs(computed - expected).max(), tolerance * scale)

    def test_forward_is_the_library_s(self):
        images = self.images.numpy()
        classifier = carso.torch.Classifier(self.model)
        self.close(classifier(self.images).numpy(), self.model.predict(images).logits[0], 1e-6)
        draws = carso.torch.Defence(self.model, draws=3, seed=11, output="draws")
        for seed in (11, 12):
            expected = self.model.predict_robust(images, draws=3, seed=seed).logits
            self.assertTrue(numpy.array_equal(draws(self.images).numpy(), expected))
        for aggregation in carso.Aggregation:
            options = {"draws": 3, "seed": 4, "aggregation": aggregation, "fresh": False}
            expected = self.model.predict_robust(images, draws=3, seed=4, aggregation=aggregation)
            logits = carso.torch.Defence(self.model, **options)(self.images)
            self.assertEqual(logits.dtype, torch.float32)
            self.assertEqual(logits.argmax(1).tolist(), expected.labels.tolist())
            log_odds = carso.torch.Defence(self.model, output="log_odds", **options)(self.images)
            self.assertEqual(log_odds.dtype, torch.float64)
            self.close(log_odds.numpy(), expected.log_odds, 1e-9)

    def test_gradients_are_the_library_s(self):
        """autograd through the module and a loss in PyTorch, against carso_gradient with the same loss."""
        losses = {
            "cross_entropy": lambda draws: F.cross_entropy(draws.mean(0), self.labels, reduction="sum"),
            "probability_cross_entropy": lambda draws: -torch.log(
                torch.softmax(draws, 2).mean(0)[range(3), LABELS]
            ).sum(),
            "carso_cross_entropy": lambda draws: F.cross_entropy(torch.exp(draws).sum(0), self.labels, reduction="sum"),
        }
        defence = carso.torch.Defence(self.model, draws=4, seed=6, output="draws", fresh=False)
        for loss, function in losses.items():
            expected = self.model.gradient(
                self.images.numpy(), LABELS, objective="defence", loss=loss, draws=4, seed=6
            ).gradient
            self.close(slope_of(lambda x, function=function: function(defence(x)), self.images), expected)
        classifier = carso.torch.Classifier(self.model)
        expected = self.model.gradient(self.images.numpy(), LABELS).gradient
        self.close(
            slope_of(lambda x: F.cross_entropy(classifier(x), self.labels, reduction="sum"), self.images), expected
        )
        odds = carso.torch.Defence(self.model, draws=4, seed=6, output="log_odds", fresh=False)
        expected = self.model.gradient(
            self.images.numpy(), LABELS, objective="defence", loss="log_odds", draws=4, seed=6
        ).gradient
        self.close(slope_of(lambda x: -odds(x)[range(3), LABELS].sum(), self.images), expected)

    def test_gradients_are_those_of_finite_differences(self):
        model = small_model.make_model(small_model.make_context("reference-double"))
        numbers = numpy.random.default_rng(5)
        images = (self.images * 128).round() / 256 + 0.25
        for module in (
            carso.torch.Classifier(model),
            *(carso.torch.Defence(model, draws=2, seed=3, fresh=False, aggregation=one) for one in carso.Aggregation),
        ):
            weights = torch.as_tensor(numbers.normal(size=(3, small_model.CLASSES)))

            def value(x, module=module, weights=weights):
                return (module(x).double() * weights).sum()

            # In double only where the images are; these are exact in both.
            gradient = slope_of(value, images.double())
            for _ in range(4):
                direction = torch.as_tensor(numbers.integers(-1, 2, images.shape)).double() * 2.0**-20
                ahead, behind = value(images.double() + direction), value(images.double() - direction)
                expected = float(ahead - behind) / 2
                computed = float((torch.as_tensor(gradient) * direction).sum())
                self.assertAlmostEqual(computed, expected, delta=1e-3 * abs(expected) + 1e-12)

    def test_fresh_draws_and_their_own_backward(self):
        defence = carso.torch.Defence(self.model, draws=2, output="draws")
        torch.manual_seed(9)
        first, second = defence(self.images), defence(self.images)
        self.assertFalse(torch.equal(first, second))
        torch.manual_seed(9)
        self.assertTrue(torch.equal(defence(self.images), first))
        images = self.images.clone().requires_grad_()
        torch.manual_seed(9)
        one = defence(images)
        defence(images)
        one.sum().backward()
        with torch.no_grad():
            torch.manual_seed(9)
        seed = int(torch.randint((1 << 63) - 1, ()))
        expected = self.model.gradient(
            self.images.numpy(),
            objective="defence",
            draws=2,
            seed=seed,
            logit_gradient=numpy.ones((2, 3, small_model.CLASSES)),
        ).gradient
        self.assertTrue(numpy.array_equal(images.grad.numpy(), expected))

    def test_types_and_shapes(self):
        defence = carso.torch.Defence(self.model, draws=2, seed=1, fresh=False)
        expected = defence(self.images)
        double = self.images.double().requires_grad_()
        logits = defence(double)
        self.assertEqual(logits.dtype, torch.float64)
        self.close(logits.detach().numpy(), expected.numpy())
        logits.sum().backward()
        self.assertEqual((double.grad.dtype, double.grad.shape), (torch.float64, self.images.shape))
        last = self.images.to(memory_format=torch.channels_last)
        self.assertTrue(torch.equal(defence(last), expected))
        strided = torch.stack([self.images, self.images], -1)[..., 0].requires_grad_()
        self.assertTrue(torch.equal(defence(strided), expected))
        none = torch.zeros((0, *SHAPE), requires_grad=True)
        self.assertEqual(tuple(defence(none).shape), (0, small_model.CLASSES))
        defence(none).sum().backward()
        self.assertEqual(next(defence.parameters()).device, torch.device("cpu"))
        self.assertIn("draws=2", repr(defence))

    def test_log_odds_that_leave_the_range_of_double(self):
        defence = carso.torch.Defence(self.model, draws=1, output="log_odds")
        logits = torch.tensor([[[700.0, 699.0, 0.0]]], dtype=torch.float64)
        self.assertTrue(torch.isfinite(defence._log_odds(logits)).all())
        for first in (720.0, 800.0):
            logits[0, 0, 0] = first
            with self.assertRaises(carso.NonFiniteError):
                defence._log_odds(logits)

    def test_what_cannot_be(self):
        classifier = carso.torch.Classifier(self.model)
        for images, error in (
            (self.images[0], ValueError),
            (self.images[:, :, :9], ValueError),
            (self.images.mul(255).byte(), TypeError),
            (self.images + 1, carso.InvalidImageError),
            (self.images.numpy(), TypeError),
        ):
            with self.assertRaises(error):
                classifier(images)
        for options in ({"draws": 0}, {"output": "votes"}, {"aggregation": "mean"}):
            with self.assertRaises(ValueError):
                carso.torch.Defence(self.model, **options)
        with self.assertRaises(ValueError):
            carso.torch.Defence(small_model.make_classifier(self.model.context))
        images = self.images.clone().requires_grad_()
        logits = classifier(images)
        with self.assertRaises(carso.NonFiniteError):
            (logits * float("nan")).sum().backward()
        (gradient,) = torch.autograd.grad(classifier(images).sum(), images, create_graph=True)
        with self.assertRaises(RuntimeError):
            gradient.sum().backward()
        logits = classifier(images * 1)
        changed = images * 1
        logits = classifier(changed)
        changed.mul_(0.5)
        with self.assertRaises(RuntimeError):
            logits.sum().backward()


class Attacks(unittest.TestCase):
    """An attack as others write them: it knows modules, losses and autograd."""

    def test_pgd(self):
        model = small_model.make_model(small_model.make_context())
        images, labels = random_images(8, SHAPE, seed=2), torch.arange(8) % small_model.CLASSES

        def attack(module, epsilon=0.1, steps=10, step=0.02):
            start = images + torch.empty_like(images).uniform_(-epsilon, epsilon)
            attacked = start.clamp(0, 1)
            for _ in range(steps):
                attacked = attacked.detach().requires_grad_()
                nn.CrossEntropyLoss()(module(attacked), labels).backward()
                moved = attacked.detach() + step * attacked.grad.sign()
                attacked = torch.min(torch.max(moved, images - epsilon), images + epsilon).clamp(0, 1)
            return attacked.detach()

        torch.manual_seed(1)
        for module in (carso.torch.Classifier(model), carso.torch.Defence(model, draws=2, fresh=False).eval()):
            before = F.cross_entropy(module(images), labels)
            after = F.cross_entropy(module(attack(module)), labels)
            self.assertGreater(float(after), float(before))


if __name__ == "__main__":
    sys.exit(unittest.main())
