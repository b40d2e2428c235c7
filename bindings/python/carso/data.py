# SPDX-License-Identifier: BSD-2-Clause
"""Labelled image data sets, and single image files."""

import ctypes
from dataclasses import dataclass
from typing import Any, List, Optional, Tuple, Union

import numpy

from ._handle import Handle, PathLike, check, encode_path, fill, integer, view
from ._images import Layout, Order, describe
from ._library import library
from ._structs import DatasetInfo as NativeDatasetInfo, Images, ReadOptions
from .context import Context, ContextHandle
from .enums import Split, member


@dataclass(frozen=True)
class DatasetInfo:
    """What a data set is."""

    count: int
    #: 1 gray, 3 RGB
    channels: int
    height: int
    width: int
    classes: int
    #: "idx", "cifar10", "cifar100", "tinyimagenet" or "folder"
    format: str


class Dataset(ContextHandle):
    """A data set; any number of threads may read it."""

    _destroy = "carso_dataset_destroy"

    def __init__(self, address: int, context: Context, context_address: int) -> None:
        super().__init__(address, context, context_address)
        native = NativeDatasetInfo()
        check(library.carso_dataset_get_info(address, ctypes.byref(native)), context_address)
        fields = {name: getattr(native, name) for name in DatasetInfo.__dataclass_fields__}
        fields["format"] = native.format.decode()
        self._info = DatasetInfo(**fields)

    @classmethod
    def open(
        cls, path: PathLike, split: Union[Split, str] = Split.TRAIN, context: Optional[Context] = None
    ) -> "Dataset":
        """Opens IDX (MNIST), CIFAR-10 and CIFAR-100 binary, Tiny-ImageNet, or folders of images; recognised by what is there."""
        context = context or Context()
        out = ctypes.c_void_p()
        status = library.carso_dataset_open(
            context.address, encode_path(path), int(member(Split, split)), ctypes.byref(out)
        )
        check(status, context.address)
        assert out.value is not None
        return cls(out.value, context, context.address)

    @property
    def info(self) -> DatasetInfo:
        return self._info

    def __len__(self) -> int:
        return self._info.count

    @property
    def class_names(self) -> List[str]:
        """Folder names, CIFAR or Fashion-MNIST names, or numbers."""
        return [library.carso_dataset_class_name(self.address, index).decode() for index in range(self._info.classes)]

    def read(
        self,
        indices: Any,
        *,
        crop_padding: Optional[int] = None,
        mirror: bool = False,
        seed: Optional[int] = None,
        epoch: Optional[int] = None,
    ) -> Tuple[numpy.ndarray, numpy.ndarray]:
        """Images (N, H, W, C) uint8 and labels (N,) int32 by index, augmented if asked.

        The augmentation of an image depends on (seed, epoch, its index) alone.
        """
        chosen = numpy.atleast_1d(numpy.asarray(indices if isinstance(indices, numpy.ndarray) else list(indices)))
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or (chosen.size > 0 and chosen.min() < 0):
            raise ValueError("indices must be one row of integers from 0")
        wanted = numpy.ascontiguousarray(chosen, dtype=numpy.uint64)
        given = {"crop_padding": crop_padding, "mirror": int(mirror), "seed": seed, "epoch": epoch}
        options = fill(ReadOptions, "carso_read_options_init", given)
        pixels = numpy.empty((wanted.size, self._info.height, self._info.width, self._info.channels), dtype=numpy.uint8)
        labels = numpy.empty(wanted.size, dtype=numpy.int32)
        status = library.carso_dataset_read(
            self.address,
            wanted.ctypes.data,
            wanted.size,
            ctypes.byref(options),
            pixels.ctypes.data,
            labels.ctypes.data,
        )
        check(status, self._context_address)
        return pixels, labels

    def shuffle(self, seed: int = 0, epoch: int = 0) -> numpy.ndarray:
        """A permutation of all indices, uint64, that depends on (count, seed, epoch) alone."""
        indices = numpy.empty(self._info.count, dtype=numpy.uint64)
        status = library.carso_dataset_shuffle(
            self.address,
            integer("seed", seed, ctypes.c_uint64),
            integer("epoch", epoch, ctypes.c_uint64),
            indices.ctypes.data,
        )
        check(status, self._context_address)
        return indices


class _ImageHandle(Handle):
    _destroy = "carso_image_destroy"


def read_image(path: PathLike, context: Optional[Context] = None) -> numpy.ndarray:
    """A PNG or JPEG file as (H, W, C) uint8, read-only; C is 1 or 3 (RGB)."""
    context = context or Context()
    out = ctypes.c_void_p()
    check(library.carso_image_read(context.address, encode_path(path), ctypes.byref(out)), context.address)
    assert out.value is not None
    handle = _ImageHandle(out.value)
    images = Images()
    check(library.carso_image_get_images(handle.address, ctypes.byref(images)), context.address)
    pixels = view(images.data, numpy.uint8, (images.height, images.width, 1 if images.order == 0 else 3), handle)
    assert pixels is not None
    return pixels


def write_png(
    path: PathLike,
    images: Any,
    index: int = 0,
    context: Optional[Context] = None,
    *,
    layout: Layout = None,
    order: Order = "rgb",
) -> None:
    """Writes one image of an array to an 8-bit PNG file, which appears whole or not at all."""
    context = context or Context()
    described = describe(images, layout, order)
    status = library.carso_image_write_png(
        context.address, encode_path(path), ctypes.byref(described.images), integer("index", index, ctypes.c_uint64)
    )
    check(status, context.address)
