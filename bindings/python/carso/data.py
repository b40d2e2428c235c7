# SPDX-License-Identifier: BSD-2-Clause
"""Labelled image data sets, and single image files."""

import ctypes
import os
import weakref
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, Union

import numpy

from ._handle import Handle, PathLike, check, encode_path, fill, integer, view
from ._images import Layout, Order, describe
from ._library import library
from ._structs import DatasetInfo as NativeDatasetInfo, DatasetOptions, Images, ReadBatch, ReaderOptions, ReadOptions
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
    #: "idx", "cifar10", "cifar100", "tinyimagenet", "folder" or "files"
    format: str


@dataclass(frozen=True)
class Batch:
    """Images read together."""

    #: Position of the first one in the list that is read
    first: int
    #: (N, H, W, C) uint8
    images: numpy.ndarray
    #: (N,) int32, -1 where they are not known
    labels: numpy.ndarray
    #: What is wrong with an image that could not be read, by its place in the batch
    errors: Dict[int, str]


class _ReaderHandle(Handle):
    """Its threads read the data set: that lives as long, and closing it closes this first."""

    _destroy = "carso_reader_destroy"

    def __init__(self, address: int, dataset: "Dataset") -> None:
        super().__init__(address)
        self._dataset = dataset


def _indices(given: Any) -> numpy.ndarray:
    chosen = numpy.atleast_1d(numpy.asarray(given if isinstance(given, numpy.ndarray) else list(given)))
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or (chosen.size > 0 and chosen.min() < 0):
        raise ValueError("indices must be one row of integers from 0")
    return numpy.ascontiguousarray(chosen, dtype=numpy.uint64)


def _dataset_options(split: Union[Split, str], shape: Optional[Tuple[int, int, int]]) -> DatasetOptions:
    channels, height, width = shape or (0, 0, 0)
    given = {"split": int(member(Split, split)), "channels": channels, "height": height, "width": width}
    return fill(DatasetOptions, "carso_dataset_options_init", given)


class Dataset(ContextHandle):
    """A data set; any number of threads may read it."""

    _destroy = "carso_dataset_destroy"

    def __init__(self, address: int, context: Context, context_address: int) -> None:
        super().__init__(address, context, context_address)
        self._readers: "weakref.WeakSet[_ReaderHandle]" = weakref.WeakSet()
        native = NativeDatasetInfo()
        check(library.carso_dataset_get_info(address, ctypes.byref(native)), context_address)
        fields = {name: getattr(native, name) for name in DatasetInfo.__dataclass_fields__}
        fields["format"] = native.format.decode()
        self._info = DatasetInfo(**fields)

    @classmethod
    def open(
        cls,
        path: PathLike,
        split: Union[Split, str] = Split.TRAIN,
        context: Optional[Context] = None,
        *,
        shape: Optional[Tuple[int, int, int]] = None,
    ) -> "Dataset":
        """Opens IDX (MNIST), CIFAR-10 and CIFAR-100 binary, Tiny-ImageNet, or folders of images; recognised by what is there.

        shape (channels, height, width) is what image files are read as, none of which is then looked at on opening.
        """
        context = context or Context()
        out = ctypes.c_void_p()
        options = _dataset_options(split, shape)
        status = library.carso_dataset_open_with(
            context.address, encode_path(path), ctypes.byref(options), ctypes.byref(out)
        )
        check(status, context.address)
        assert out.value is not None
        return cls(out.value, context, context.address)

    @classmethod
    def from_files(
        cls,
        paths: Union[PathLike, Iterable[PathLike]],
        context: Optional[Context] = None,
        *,
        shape: Optional[Tuple[int, int, int]] = None,
    ) -> "Dataset":
        """Image files, and folders of them at any depth, without labels. shape as in open."""
        context = context or Context()
        names = [paths] if isinstance(paths, (str, bytes, os.PathLike)) else list(paths)
        native = (ctypes.c_char_p * len(names))(*(encode_path(name) for name in names))
        out = ctypes.c_void_p()
        options = _dataset_options(Split.TRAIN, shape)
        status = library.carso_dataset_open_files(
            context.address, native, len(names), ctypes.byref(options), ctypes.byref(out)
        )
        check(status, context.address)
        assert out.value is not None
        return cls(out.value, context, context.address)

    def close(self) -> None:
        """Gives the data set up, and ends the reading of batches of it."""
        for reader in list(self._readers):
            reader.close()
        super().close()

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
        wanted = _indices(indices)
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

    def file(self, index: int) -> Optional[str]:
        """Path of an image's file; None where images have no files of their own."""
        path = library.carso_dataset_file(self.address, integer("index", index, ctypes.c_uint64))
        return None if path is None else os.fsdecode(path)

    def batches(
        self,
        batch: Optional[int] = None,
        indices: Any = None,
        *,
        threads: Optional[int] = None,
        ahead: Optional[int] = None,
        keep_going: bool = False,
        crop_padding: Optional[int] = None,
        mirror: bool = False,
        seed: Optional[int] = None,
        epoch: Optional[int] = None,
    ) -> Iterator[Batch]:
        """Batches of all images, or of those of indices, read ahead on threads of the library's own.

        keep_going: an image that cannot be read is black, and the batch's errors say why. The arrays are the caller's.
        """
        wanted = None if indices is None else _indices(indices)
        augmentation = {"crop_padding": crop_padding, "mirror": int(mirror), "seed": seed, "epoch": epoch}
        reading = fill(ReadOptions, "carso_read_options_init", augmentation)
        given = {"batch": batch, "threads": threads, "ahead": ahead, "keep_going": int(keep_going)}
        options = fill(ReaderOptions, "carso_reader_options_init", given)
        options.reading = ctypes.addressof(reading)
        out = ctypes.c_void_p()
        status = library.carso_reader_open(
            self.address,
            None if wanted is None else wanted.ctypes.data,
            len(self) if wanted is None else wanted.size,
            ctypes.byref(options),
            ctypes.byref(out),
        )
        check(status, self._context_address)
        assert out.value is not None
        reader = _ReaderHandle(out.value, self)
        self._readers.add(reader)
        return self._read_batches(reader)

    def _read_batches(self, reader: _ReaderHandle) -> Iterator[Batch]:
        shape = (self._info.height, self._info.width, self._info.channels)
        with reader:
            while True:
                native = ReadBatch()
                if self.closed:
                    raise ValueError("the data set was closed while it was read")
                check(library.carso_reader_next(reader.address, ctypes.byref(native)), self._context_address)
                if native.count == 0:
                    return
                images = view(native.pixels, numpy.uint8, (native.count, *shape), reader)
                labels = view(native.labels, numpy.int32, (native.count,), reader)
                statuses = view(native.statuses, numpy.int32, (native.count,), reader)
                assert images is not None and labels is not None and statuses is not None
                errors = {int(i): native.messages[i].decode("utf-8", "replace") for i in numpy.flatnonzero(statuses)}
                yield Batch(native.first, images.copy(), labels.copy(), errors)

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
