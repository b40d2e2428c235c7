# SPDX-License-Identifier: BSD-2-Clause
"""Models: making, saving, loading; predictions; how handles live and end."""

import gc
import json
import logging
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import numpy

import carso
from small_model import CLASSES, SIDE, make_classifier, make_context, make_images, make_model


class Models(unittest.TestCase):
    def setUp(self):
        self.context = make_context()
        self.model = make_model(self.context)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_contexts_say_what_memory_they_hold(self):
        self.model.predict_robust(make_images(2), draws=2)
        memory = self.context.memory
        self.assertGreater(memory.own_weights, 0)
        self.assertEqual(memory.mapped_weights, 0)
        self.assertGreaterEqual(memory.most_buffers, memory.buffers)
        self.assertGreater(memory.buffers, 0)
        self.model.save(self.folder / "model.safetensors")
        with carso.Context(convolution="precise") as context:
            with carso.Model.load(self.folder / "model.safetensors", context=context):
                self.assertGreater(context.memory.mapped_weights, 0)
            self.assertEqual(context.memory.mapped_weights, 0)
        with self.assertRaises(ValueError):
            carso.Context(convolution="exact")

    def test_say_what_they_are(self):
        info = self.model.info
        self.assertEqual((info.channels, info.image_height, info.image_width, info.classes), (1, SIDE, SIDE, CLASSES))
        self.assertEqual((info.has_purifier, info.condition_size, info.latent_size), (True, 24, 8))
        self.assertGreater(info.purifier_parameters, 0)
        self.assertFalse(make_classifier(self.context).info.has_purifier)
        self.assertEqual(self.model.class_names, [str(index) for index in range(CLASSES)])
        self.assertIsInstance(self.model.describe(), dict)
        self.assertIs(self.model.context, self.context)

    def test_class_names(self):
        names = ["T-shirt", "Ærmel", "靴"]
        model = carso.Model.create(self.context, channels=1, image_height=28, image_width=28, class_names=names)
        self.assertEqual(model.class_names, names)
        self.assertEqual(model.info.classes, 3)
        with self.assertRaises(ValueError):
            carso.Model.create(self.context, class_names=names, classes=4)

    def test_come_back_from_a_file_and_from_memory(self):
        images = make_images(2)
        expected = self.model.predict_robust(images, seed=4).logits
        path = self.folder / "model.safetensors"
        self.model.save(path)
        self.assertTrue(
            numpy.array_equal(carso.Model.load(path, self.context).predict_robust(images, seed=4).logits, expected)
        )
        for data in (path.read_bytes(), bytearray(path.read_bytes()), numpy.fromfile(path, dtype=numpy.uint8)):
            loaded = carso.Model.load_memory(data, self.context)
            del data
            gc.collect()
            self.assertTrue(numpy.array_equal(loaded.predict_robust(images, seed=4).logits, expected))

    def test_imported_weights(self):
        path = self.folder / "model.safetensors"
        self.model.save(path)
        images = make_images(2)
        other = make_model(self.context, seed=8)
        expected = self.model.predict_robust(images, seed=4).logits
        self.assertFalse(numpy.array_equal(other.predict_robust(images, seed=4).logits, expected))
        imported = other.import_weights(path)
        self.assertTrue(numpy.array_equal(imported.predict_robust(images, seed=4).logits, expected))
        with self.assertRaises(carso.BadFormatError):
            other.import_weights(path, path)
        with self.assertRaises(carso.InvalidArgumentError):
            make_classifier(self.context).import_weights(path)

    def test_verification(self):
        stored = make_images(2).astype(numpy.float32) / 255
        logits = self.model.predict(stored).logits[0]
        header, data = {}, b""
        for name, kind, array in (("input", "F32", stored), ("classifier_logits", "F64", logits)):
            header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
            data += array.tobytes()
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path = self.folder / "golden.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)
        (one,) = self.model.verify(path)
        self.assertEqual((one.name, one.count, one.departs), ("classifier_logits", logits.size, False))
        self.assertEqual(one.scale, abs(logits).max())
        (one,) = make_classifier(self.context, seed=8).verify(path)
        self.assertTrue(one.departs)
        self.assertGreater(one.largest_difference, 1e-4 * one.scale)
        self.assertEqual(one.stored, logits.flat[one.position])
        with self.assertRaises(carso.InvalidArgumentError):
            self.model.verify(path, tolerance=-1)

    def test_damaged_files_are_refused(self):
        path = self.folder / "model.safetensors"
        self.model.save(path)
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[-5] ^= 16
        for data in (b"", b"x" * 7, whole[: len(whole) // 2], bytes(damaged)):
            with self.assertRaises(carso.BadFormatError) as caught:
                carso.Model.load_memory(data, self.context)
            self.assertTrue(str(caught.exception))
        with self.assertRaises(carso.NotFoundError) as caught:
            carso.Model.load(self.folder / "absent", self.context)
        self.assertIn("absent", str(caught.exception))
        self.assertEqual(self.context.message, str(caught.exception))
        with self.assertRaises(ValueError):
            carso.Model.load("with\0null", self.context)

    def test_predictions(self):
        images = make_images(3)
        plain = self.model.predict(images)
        self.assertEqual((plain.draws, plain.labels.shape, plain.logits.shape), (1, (3,), (1, 3, CLASSES)))
        self.assertTrue(numpy.array_equal(plain.labels, plain.logits[0].argmax(axis=1)))
        self.assertTrue(numpy.allclose(plain.probabilities.sum(axis=1), 1))
        self.assertIsNone(plain.reconstructions)

        robust = self.model.predict_robust(images, draws=5, seed=2, keep_reconstructions=True)
        self.assertEqual(robust.logits.shape, (5, 3, CLASSES))
        self.assertEqual(robust.reconstructions.shape, (5, 3, 1, SIDE, SIDE))
        sums = numpy.exp(robust.logits).sum(axis=0)
        self.assertTrue(numpy.array_equal(robust.labels, sums.argmax(axis=1)))
        shares = numpy.exp(sums - sums.max(axis=1, keepdims=True))
        self.assertTrue(numpy.allclose(robust.probabilities, shares / shares.sum(axis=1, keepdims=True)))
        self.assertTrue(
            numpy.array_equal(robust.agreement, (robust.logits.argmax(axis=2) == robust.labels).sum(axis=0))
        )
        mean = self.model.predict_robust(images, draws=5, seed=2, aggregation="logit")
        shares = numpy.exp(robust.logits.mean(axis=0))
        self.assertTrue(numpy.allclose(mean.probabilities, shares / shares.sum(axis=1, keepdims=True)))

        purified = self.model.purify(images, draws=5, seed=2)
        self.assertIsNone(purified.labels)
        self.assertTrue(numpy.array_equal(purified.reconstructions, robust.reconstructions))
        again = self.model.predict(numpy.ascontiguousarray(purified.reconstructions[1]))
        self.assertTrue(numpy.allclose(again.logits[0], robust.logits[1], atol=1e-4))

    def test_draws_depend_on_seed_and_image_alone(self):
        images = make_images(4)
        whole = self.model.purify(images, draws=3, seed=9)
        part = self.model.purify(images[2:], draws=3, seed=9, first_image=2)
        self.assertTrue(numpy.allclose(whole.reconstructions[:, 2:], part.reconstructions, atol=1e-6))
        self.assertFalse(
            numpy.array_equal(whole.reconstructions, self.model.purify(images, draws=3, seed=10).reconstructions)
        )

    def test_arrays_outlive_everything_and_are_read_only(self):
        model = make_model(make_context())
        reconstructions = model.predict_robust(make_images(2), keep_reconstructions=True, seed=1).reconstructions
        copy = reconstructions.copy()
        model.close()
        del model
        gc.collect()
        self.assertTrue(numpy.array_equal(reconstructions, copy))
        with self.assertRaises(ValueError):
            reconstructions[0] = 0

    def test_close_once(self):
        with self.model as model:
            self.assertFalse(model.closed)
        self.assertTrue(model.closed)
        model.close()
        with self.assertRaises(ValueError):
            model.predict(make_images(1))

    def test_a_model_keeps_its_context(self):
        self.context.close()
        self.assertEqual(self.model.predict(make_images(1)).labels.shape, (1,))
        with self.assertRaises(carso.InvalidImageError) as caught:
            self.model.predict(make_images(1)[:, :, :9])
        self.assertIn("28x9", str(caught.exception))

    def test_what_cannot_be(self):
        images = make_images(1)
        for draws in (0, -1, 65537):
            with self.assertRaises(carso.InvalidArgumentError):
                self.model.predict_robust(images, draws=draws)
        for draws, error in ((1 << 40, OverflowError), (2.5, TypeError)):
            with self.assertRaises(error):
                self.model.predict_robust(images, draws=draws)
        with self.assertRaises(OverflowError):
            self.model.predict_robust(images, seed=-1)
        with self.assertRaises(ValueError) as caught:
            self.model.predict_robust(images, aggregation="mean")
        self.assertIn("'probability'", str(caught.exception))
        with self.assertRaises(carso.UnsupportedError):
            make_classifier(self.context).predict_robust(images)
        with self.assertRaises(carso.InvalidArgumentError):
            carso.Model.create(self.context, classes=1)
        with self.assertRaises(ValueError):
            carso.Model.create(self.context, channels=1, mean=[0.1, 0.2])


class Contexts(unittest.TestCase):
    def test_have_a_backend(self):
        self.assertIn("reference", carso.backends())
        for name in carso.backends():
            self.assertEqual(carso.Context(name, threads=1).backend, name)
        with carso.Context(threads=2) as context:
            self.assertEqual(context.threads, 2)
            self.assertEqual(context.message, "")

    def test_say_why_one_cannot_be_made(self):
        with self.assertRaises(carso.NotFoundError) as caught:
            carso.Context("abacus", log=lambda level, text: None)
        self.assertIn("abacus", str(caught.exception))
        with self.assertRaises(carso.InvalidArgumentError):
            carso.Context(threads=-1)

    def test_log_to_a_function_or_to_logging(self):
        lines = []
        context = make_context(log=lambda level, text: lines.append((level, text)))
        with self.assertRaises(carso.NotFoundError):
            carso.Model.load("absent", context)
        self.assertEqual(lines[-1][0], carso.LogLevel.ERROR)
        self.assertIn("absent", lines[-1][1])
        with self.assertLogs("carso", logging.ERROR) as logged, self.assertRaises(carso.NotFoundError):
            carso.Model.load("absent", make_context())
        self.assertIn("absent", logged.output[-1])

    def test_a_log_function_s_exception_goes_to_logging(self):
        def fail(level, text):
            raise RuntimeError("no ink")

        context = make_context(log=fail)
        with self.assertLogs("carso", logging.ERROR) as logged, self.assertRaises(carso.NotFoundError):
            carso.Model.load("absent", context)
        self.assertIn("no ink", logged.output[-1])

    def test_take_an_allocator(self):
        held, refuse = {}, []

        def allocate(size, alignment, user):
            if refuse:
                return None
            memory = numpy.empty(size + alignment, dtype=numpy.uint8)
            address = -(-memory.ctypes.data // alignment) * alignment
            held[address] = memory
            return address

        def release(address, user):
            held.pop(address, None)

        allocator = carso.Allocator(carso.AllocateCallback(allocate), carso.ReleaseCallback(release), None)
        context = make_context(allocator=allocator)
        model = make_model(context)
        self.assertGreater(len(held), 0)
        refuse.append(True)
        with self.assertRaises(carso.OutOfMemoryError):
            make_classifier(context)
        refuse.clear()
        model.close()
        context.close()
        self.assertEqual(held, {})

    def test_threads_share_a_model(self):
        model = make_model(make_context())
        images = make_images(2)
        expected = model.predict_robust(images, seed=3).logits
        results = []

        def work():
            for _ in range(3):
                results.append(numpy.array_equal(model.predict_robust(images, seed=3).logits, expected))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(results, [True] * 12)


if __name__ == "__main__":
    sys.exit(unittest.main())
