# SPDX-License-Identifier: BSD-2-Clause
"""Data sets and image files."""

import gc
import sys
import tempfile
import unittest
import weakref
from pathlib import Path

import numpy

import carso
from small_model import make_context

TEST_IMAGES = Path(__file__).resolve().parents[2] / "models" / "fashion-mnist" / "test-256"


class Datasets(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = make_context()
        cls.dataset = carso.Dataset.open(TEST_IMAGES, "test", cls.context)

    def test_say_what_they_are(self):
        self.assertEqual(self.dataset.info, carso.DatasetInfo(256, 1, 28, 28, 10, "idx"))
        self.assertEqual(len(self.dataset), 256)
        self.assertEqual(self.dataset.class_names[9], "Ankle boot")
        self.assertIs(self.dataset.context, self.context)

    def test_are_read_by_index(self):
        images, labels = self.dataset.read(range(256))
        self.assertEqual((images.shape, images.dtype), ((256, 28, 28, 1), numpy.uint8))
        self.assertEqual((labels.shape, labels.dtype), ((256,), numpy.int32))
        self.assertEqual(labels[0], 9)
        some, their_labels = self.dataset.read(numpy.array([7, 7, 3]))
        self.assertTrue(numpy.array_equal(some, images[[7, 7, 3]]))
        self.assertTrue(numpy.array_equal(their_labels, labels[[7, 7, 3]]))
        for wrong in ([-1], [0.5], [[1]]):
            with self.assertRaises(ValueError):
                self.dataset.read(wrong)
        for wrong in ([256], []):
            with self.assertRaises((carso.InvalidArgumentError, ValueError)):
                self.dataset.read(wrong)

    def test_are_augmented_by_seed_and_epoch(self):
        options = {"crop_padding": 3, "mirror": True, "seed": 1}
        first, _ = self.dataset.read(range(16), epoch=0, **options)
        again, _ = self.dataset.read(range(16), epoch=0, **options)
        other, _ = self.dataset.read(range(16), epoch=1, **options)
        self.assertTrue(numpy.array_equal(first, again))
        self.assertFalse(numpy.array_equal(first, other))
        mirrored, _ = self.dataset.read(range(64), mirror=True, seed=1)
        plain, _ = self.dataset.read(range(64))
        turned = [numpy.array_equal(one, two[:, ::-1]) for one, two in zip(mirrored, plain)]
        kept = [numpy.array_equal(one, two) for one, two in zip(mirrored, plain)]
        self.assertTrue(all(a or b for a, b in zip(turned, kept)))
        self.assertTrue(0 < sum(turned) < 64)

    def test_are_shuffled_by_seed_and_epoch(self):
        order = self.dataset.shuffle(seed=2, epoch=1)
        self.assertEqual(sorted(order), list(range(256)))
        self.assertTrue(numpy.array_equal(order, self.dataset.shuffle(seed=2, epoch=1)))
        self.assertFalse(numpy.array_equal(order, self.dataset.shuffle(seed=2, epoch=2)))
        with self.assertRaises(OverflowError):
            self.dataset.shuffle(seed=-1)

    def test_are_read_ahead_in_batches(self):
        images, labels = self.dataset.read(range(256))
        batches = list(self.dataset.batches(100))
        self.assertEqual([(batch.first, len(batch.labels), batch.errors) for batch in batches], [(0, 100, {}), (100, 100, {}), (200, 56, {})])
        self.assertTrue(numpy.array_equal(numpy.concatenate([batch.images for batch in batches]), images))
        self.assertTrue(numpy.array_equal(numpy.concatenate([batch.labels for batch in batches]), labels))
        order = self.dataset.shuffle(seed=1)[:10]
        options = {"crop_padding": 3, "mirror": True, "seed": 1, "epoch": 4}
        one, two = self.dataset.batches(5, order, threads=2, ahead=1, **options)
        self.assertTrue(numpy.array_equal(numpy.concatenate([one.images, two.images]), self.dataset.read(order, **options)[0]))
        next(self.dataset.batches(2)).images[:] = 0  # left half-way, and the caller's own
        with self.assertRaises(carso.InvalidArgumentError):
            self.dataset.batches(0)
        self.assertIsNone(self.dataset.file(0))

    def test_that_are_closed_end_the_reading_of_them(self):
        with carso.Dataset.open(TEST_IMAGES, "test", self.context) as dataset:
            begun, other = dataset.batches(4), dataset.batches(4)
            next(begun)
        for batches in (begun, other):
            with self.assertRaisesRegex(ValueError, "closed while it was read"):
                next(batches)

    def test_live_as_long_as_they_are_read(self):
        # Nothing but the reader, of which no batch was taken, knows the data set.
        batches = carso.Dataset.open(TEST_IMAGES, "test", self.context).batches(4)
        reader = weakref.ref(batches.gi_frame.f_locals["reader"])
        dataset = weakref.ref(batches.gi_frame.f_locals["self"])
        closed = []
        weakref.finalize(reader(), lambda: closed.append(dataset() is None))
        del batches
        gc.collect()
        self.assertIsNone(dataset())
        self.assertEqual(closed, [False])

    def test_that_are_not_there(self):
        with self.assertRaises(carso.NotFoundError):
            carso.Dataset.open(TEST_IMAGES / "absent", "test", self.context)
        with self.assertRaises(ValueError):
            carso.Dataset.open(TEST_IMAGES, "validation", self.context)


class ImageFiles(unittest.TestCase):
    def setUp(self):
        self.context = make_context()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        try:
            carso.write_png(self.folder / "probe.png", numpy.zeros((2, 2), numpy.uint8), context=self.context)
        except carso.UnsupportedError:
            self.skipTest("a build without image files")

    def test_come_back(self):
        path = self.folder / "image.png"
        for shape in ((9, 7, 3), (9, 7, 1)):
            pixels = numpy.random.default_rng(1).integers(0, 256, shape, dtype=numpy.uint8)
            carso.write_png(path, pixels, context=self.context)
            found = carso.read_image(path, self.context)
            self.assertTrue(numpy.array_equal(found, pixels))
            with self.assertRaises(ValueError):
                found[0] = 0
        carso.write_png(path, pixels[..., 0].astype(numpy.float32) / 255, context=self.context)
        self.assertTrue(numpy.array_equal(carso.read_image(path, self.context), pixels))
        kept = carso.read_image(path)
        gc.collect()
        self.assertTrue(numpy.array_equal(kept, pixels))

    def test_as_a_data_set_without_labels(self):
        (self.folder / "deep").mkdir()
        for i, name in enumerate(("a.png", "deep/b.png", "deep/c.png")):
            carso.write_png(self.folder / name, numpy.full((4, 5, 1), 10 * i, numpy.uint8), context=self.context)
        (self.folder / "probe.png").unlink()
        files = carso.Dataset.from_files(self.folder, self.context)
        self.assertEqual(files.info, carso.DatasetInfo(3, 1, 4, 5, 0, "files"))
        self.assertEqual([files.file(i) for i in range(3)], [str(self.folder / name) for name in ("a.png", "deep/b.png", "deep/c.png")])
        (self.folder / "deep" / "b.png").write_bytes(b"no image")
        absent = self.folder / "absent.png"
        files = carso.Dataset.from_files([self.folder / "deep", absent], self.context, shape=(1, 4, 5))
        with self.assertRaises(carso.BadFormatError):
            list(files.batches())
        batch, = files.batches(keep_going=True)
        self.assertEqual(sorted(batch.errors), [0, 2])
        self.assertIn("b.png: neither", batch.errors[0])
        self.assertIn("absent.png", batch.errors[2])
        self.assertEqual(batch.labels.tolist(), [-1, -1, -1])
        self.assertEqual(batch.images[:, 0, 0, 0].tolist(), [0, 20, 0])
        with self.assertRaises(carso.InvalidArgumentError):
            carso.Dataset.from_files([], self.context)

    def test_one_of_many(self):
        batch = numpy.random.default_rng(1).integers(0, 256, (4, 3, 9, 7), dtype=numpy.uint8)
        carso.write_png(self.folder / "third.png", batch, 2, self.context, order="bgr")
        found = carso.read_image(self.folder / "third.png", self.context)
        self.assertTrue(numpy.array_equal(found, batch[2, ::-1].transpose(1, 2, 0)))
        with self.assertRaises(carso.InvalidArgumentError):
            carso.write_png(self.folder / "fifth.png", batch, 4, self.context)
        self.assertFalse((self.folder / "fifth.png").exists())

    def test_that_are_damaged_or_not_there(self):
        with self.assertRaises(carso.NotFoundError):
            carso.read_image(self.folder / "absent.png", self.context)
        (self.folder / "no.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        with self.assertRaises(carso.BadFormatError):
            carso.read_image(self.folder / "no.png", self.context)


if __name__ == "__main__":
    sys.exit(unittest.main())
