# SPDX-License-Identifier: BSD-2-Clause
"""numpy arrays as the library's described images, and its dense results back in the shape that came in."""

from typing import Any, NamedTuple, Optional, Sequence, Tuple, Union

import numpy

from ._structs import Images
from .enums import PixelLayout, PixelOrder, PixelType, member

#: The model's (channels, height, width).
Shape = Tuple[int, int, int]
Layout = Union[PixelLayout, str, None]
Order = Union[PixelOrder, str]

_CHANNELS = (1, 3)


class Description(NamedTuple):
    """An array that the library can read where it lies."""

    images: Images
    array: numpy.ndarray
    #: The caller's shape, and how its axes lie: "nhwc", "nchw", "hwc", "chw", "nhw" or "hw".
    shape: Tuple[int, ...]
    axes: str
    order: PixelOrder

    def restore(self, dense: numpy.ndarray) -> numpy.ndarray:
        """[..., N, C, H, W] in RGB order as [...] followed by the caller's shape, in the caller's layout and order."""
        if self.order is PixelOrder.BGR:
            dense = dense[..., ::-1, :, :]
        if self.axes.endswith("c"):
            dense = numpy.moveaxis(dense, -3, -1)
        return dense.reshape(dense.shape[:-4] + self.shape)


def find_axes(shape: Sequence[int], layout: Layout, expected: Optional[Shape]) -> str:
    """What the axes mean: by the expected (channels, height, width) if that fits, else by the channels' place."""
    chosen = None if layout is None else member(PixelLayout, layout)
    rank = len(shape)
    batch = "n" if rank == 4 else ""
    fitting = []
    if rank in (3, 4):
        if chosen is not PixelLayout.CHW:
            fitting.append((batch + "hwc", shape[-1], (shape[-1], shape[-3], shape[-2])))
        if chosen is not PixelLayout.HWC:
            fitting.append((batch + "chw", shape[-3], (shape[-3], shape[-2], shape[-1])))
    if rank in (2, 3) and chosen is None:
        fitting.append(("nhw" if rank == 3 else "hw", 1, (1, shape[-2], shape[-1])))
    exact = [axes for axes, _, found in fitting if found == expected]
    if exact:
        return exact[0]
    # A stack of gray images is only assumed where no axis could be that of the components.
    possible = [axes for axes, channels, _ in fitting if channels in _CHANNELS and axes != "nhw"] or [
        axes for axes, _, _ in fitting if axes == "nhw"
    ]
    if len(possible) == 1:
        return possible[0]
    if not possible:
        raise ValueError(f"an array of shape {tuple(shape)} is no image: one axis must have 1 or 3 components")
    raise ValueError(
        f"an array of shape {tuple(shape)} could be {' or '.join(possible)}: say layout='hwc' or layout='chw'"
    )


def describe(array: Any, layout: Layout = None, order: Order = "rgb", expected: Optional[Shape] = None) -> Description:
    """Describes a uint8 or float32 array; only an array that the library's strides cannot express is copied."""
    given = numpy.asarray(array)
    if given.dtype not in (numpy.uint8, numpy.float32) or not given.dtype.isnative:
        raise TypeError(f"images of {given.dtype}; uint8 (0 to 255) or float32 (0 to 1) is needed")
    axes = find_axes(given.shape, layout, expected)
    if given.size == 0:
        raise ValueError(f"images of shape {given.shape}: there is none")
    planar = axes.endswith("chw")
    whole = given
    if "c" not in axes:
        whole = whole[..., numpy.newaxis]
    if "n" not in axes:
        whole = whole[numpy.newaxis]
    component = whole.strides[1] if planar else whole.strides[3]
    apart = not planar and whole.shape[3] > 1 and component != whole.itemsize
    # For the library a stride of 0 means dense; numpy repeats with it.
    repeated = any(stride == 0 and size > 1 for stride, size in zip(whole.strides, whole.shape))
    if apart or repeated:
        whole = numpy.ascontiguousarray(whole)
    count, height, width, channels = (whole.shape[0], *whole.shape[2:], whole.shape[1]) if planar else whole.shape
    strides = whole.strides
    colours = PixelOrder.GRAY if channels == 1 else member(PixelOrder, order)
    if channels == 3 and colours is PixelOrder.GRAY:
        raise ValueError("order is gray, and the images have three components")
    if max(height, width) >= 1 << 31:
        raise ValueError(f"images of shape {given.shape} are too large")
    if channels not in _CHANNELS:
        raise ValueError(f"images of shape {given.shape} have {channels} components; 1 or 3 are needed")
    images = Images(
        data=whole.ctypes.data,
        count=count,
        width=width,
        height=height,
        type=PixelType.UINT8 if given.dtype == numpy.uint8 else PixelType.FLOAT32,
        layout=PixelLayout.CHW if planar else PixelLayout.HWC,
        order=colours,
        pixel_stride=strides[3] if planar else strides[2],
        row_stride=strides[2] if planar else strides[1],
        plane_stride=strides[1] if planar else 0,
        image_stride=strides[0],
    )
    return Description(images, whole, given.shape, axes, colours)


def as_labels(labels: Any, count: int) -> numpy.ndarray:
    """Labels as the library takes them: int32, one an image. Nothing that is not an integer is rounded."""
    given = numpy.asarray(labels)
    if given.dtype.kind not in "iu":
        raise TypeError(f"labels of {given.dtype}; integers are needed")
    flat = numpy.atleast_1d(given)
    if flat.shape != (count,):
        raise ValueError(f"labels of shape {given.shape} for {count} images")
    if flat.min() < -(1 << 31) or flat.max() >= 1 << 31:
        raise ValueError("a label does not fit in 32 bits")
    return numpy.ascontiguousarray(flat, dtype=numpy.int32)
