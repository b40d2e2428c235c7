# SPDX-License-Identifier: BSD-2-Clause
"""Arrays of any shape, type, layout and stride are the images that they look like."""

import sys
import unittest

import numpy

import carso
from carso._images import describe, find_axes
from small_model import SIDE, make_context, make_images, make_model


class AxesAreFound(unittest.TestCase):
    def test_by_the_model_s_shape(self):
        for shape, expected, axes in (
            ((5, 28, 28, 3), (3, 28, 28), "nhwc"),
            ((5, 3, 28, 28), (3, 28, 28), "nchw"),
            ((28, 28, 3), (3, 28, 28), "hwc"),
            ((3, 28, 28), (3, 28, 28), "chw"),
            ((28, 28), (1, 28, 28), "hw"),
            ((3, 28, 28), (1, 28, 28), "nhw"),
            ((1, 28, 28), (1, 28, 28), "chw"),
            ((28, 28, 1), (1, 28, 28), "hwc"),
            ((28, 20, 28), (1, 20, 28), "nhw"),
            ((2, 3, 8, 3), (3, 3, 8), "nhwc"),
            ((2, 3, 8, 3), (3, 8, 3), "nchw"),
        ):
            self.assertEqual(find_axes(shape, None, expected), axes, (shape, expected))

    def test_by_the_channels_where_the_size_is_another(self):
        for shape, axes in (
            ((5, 30, 30, 3), "nhwc"),
            ((5, 3, 30, 30), "nchw"),
            ((30, 30, 3), "hwc"),
            ((1, 30, 30), "chw"),
            ((7, 30, 30), "nhw"),
        ):
            self.assertEqual(find_axes(shape, None, None), axes)
            self.assertEqual(find_axes(shape, None, (3, 28, 28)), axes)

    def test_by_the_layout_that_was_said(self):
        self.assertEqual(find_axes((2, 3, 8, 3), "HWC", None), "nhwc")
        self.assertEqual(find_axes((2, 3, 8, 3), carso.PixelLayout.CHW, None), "nchw")
        self.assertEqual(find_axes((3, 8, 3), "chw", None), "chw")

    def test_what_is_no_image(self):
        for shape, layout in (
            ((2, 3, 8, 3), None),
            ((2, 5, 5, 5), None),
            ((9,), None),
            ((), None),
            ((1, 2, 3, 4, 5), None),
            ((8, 8), "hwc"),
        ):
            with self.assertRaises(ValueError, msg=str(shape)):
                find_axes(shape, layout, None)
        with self.assertRaises(ValueError):
            find_axes((2, 3, 8, 8), "nchw", None)


class ThePixelsAreTheSame(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = make_context()
        cls.gray = make_model(cls.context)
        cls.colour = make_model(cls.context, channels=3)

    def assert_same(self, model, first, second, **options):
        expected = model.predict(first).logits
        self.assertTrue(numpy.array_equal(model.predict(second, **options).logits, expected))

    def test_whatever_the_layout(self):
        planes = make_images(3, channels=3)
        self.assert_same(self.colour, planes, numpy.ascontiguousarray(planes.transpose(0, 2, 3, 1)))
        self.assert_same(self.colour, planes, planes.transpose(0, 2, 3, 1), layout="hwc")
        gray = make_images(3)
        for shape in ((3, SIDE, SIDE), (3, SIDE, SIDE, 1)):
            self.assert_same(self.gray, gray, gray.reshape(shape))
        for shape in ((SIDE, SIDE), (1, SIDE, SIDE), (SIDE, SIDE, 1)):
            self.assert_same(self.gray, gray[:1], gray[0].reshape(shape))

    def test_whatever_the_type(self):
        pixels = make_images(3)
        self.assert_same(self.gray, pixels, pixels.astype(numpy.float32) / numpy.float32(255))

    def test_whatever_the_order_of_colours(self):
        planes = make_images(2, channels=3)
        self.assert_same(self.colour, planes, numpy.ascontiguousarray(planes[:, ::-1]), order="bgr")
        mixed = numpy.ascontiguousarray(planes.transpose(0, 2, 3, 1)[..., ::-1])
        self.assert_same(self.colour, planes, mixed, order=carso.PixelOrder.BGR)

    def test_whatever_the_strides(self):
        planes = make_images(6, channels=3)
        self.assert_same(self.colour, planes[::2].copy(), planes[::2])
        self.assert_same(self.colour, planes[:, :, ::-1].copy(), planes[:, :, ::-1])
        self.assert_same(self.colour, planes[:, :, :, ::-1].copy(), planes[:, :, :, ::-1])
        self.assert_same(self.colour, planes[::-1].copy(), planes[::-1])
        wide = numpy.random.default_rng(2).random((2, 40, 50, 3), dtype=numpy.float32)
        region = wide[:, 5 : 5 + SIDE, 7 : 7 + SIDE]
        self.assert_same(self.colour, region.copy(), region)
        self.assert_same(self.gray, region[..., 1].copy(), region[..., 1])
        self.assert_same(
            self.colour, numpy.repeat(planes[:1], 3, axis=0), numpy.broadcast_to(planes[:1], planes[:3].shape)
        )

    def test_slices_are_not_copied(self):
        wide = numpy.zeros((2, 40, 50, 3), dtype=numpy.uint8)
        region = wide[:, 5 : 5 + SIDE, 7 : 7 + SIDE]
        self.assertEqual(describe(region).images.data, region.ctypes.data)
        turned = numpy.zeros((2, 3, 28, 28), dtype=numpy.uint8)[:, :, ::-1, ::-1]
        self.assertEqual(describe(turned).images.data, turned.ctypes.data)
        self.assertTrue(numpy.shares_memory(describe(region).array, wide))

    def test_results_come_back_as_the_images_went_in(self):
        planes = make_images(2, channels=3)
        mixed = numpy.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        dense = self.colour.gradient(planes, [0, 1]).gradient
        self.assertEqual(dense.shape, planes.shape)
        there = self.colour.gradient(mixed, [0, 1]).gradient
        self.assertTrue(numpy.array_equal(there, dense.transpose(0, 2, 3, 1)))
        back = self.colour.gradient(numpy.ascontiguousarray(mixed[..., ::-1]), [0, 1], order="bgr").gradient
        self.assertTrue(numpy.array_equal(back, dense.transpose(0, 2, 3, 1)[..., ::-1]))
        one = self.colour.purify(mixed[0], draws=2, seed=3).reconstructions
        self.assertEqual(one.shape, (2, SIDE, SIDE, 3))
        batch = self.colour.purify(planes, draws=2, seed=3).reconstructions
        self.assertEqual(batch.shape, (2, 2, 3, SIDE, SIDE))
        self.assertTrue(numpy.allclose(one, batch[:, 0].transpose(0, 2, 3, 1), atol=1e-6))

    def test_refusals(self):
        images = make_images(2)
        for wrong, error in (
            (images.astype(numpy.float64), TypeError),
            (images.astype(numpy.int32), TypeError),
            (images.astype(">f4"), TypeError),
            (images[:0], ValueError),
            (images[:, :, :20], carso.InvalidImageError),
            (numpy.full(images.shape, 1.5, dtype=numpy.float32), carso.InvalidImageError),
            (numpy.full(images.shape, numpy.nan, dtype=numpy.float32), carso.InvalidImageError),
            (make_images(2, channels=3), carso.InvalidImageError),
        ):
            with self.assertRaises(error):
                self.gray.predict(wrong)
        with self.assertRaises(ValueError):
            self.colour.predict(make_images(2, channels=3), order="gray")
        with self.assertRaises(ValueError):
            self.colour.predict(make_images(2, channels=3), order="grb")
        for labels, error in (
            ([0], ValueError),
            ([0.0, 1.0], TypeError),
            ([0, 1 << 40], ValueError),
            ([0, -1], carso.InvalidArgumentError),
        ):
            with self.assertRaises(error):
                self.gray.gradient(images, labels)


if __name__ == "__main__":
    sys.exit(unittest.main())
