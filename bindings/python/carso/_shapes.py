# SPDX-License-Identifier: BSD-2-Clause
"""What PyTorch's pooling, reshaping, padding, indexing and copying are in a libcarso graph."""

import math
from typing import Any, List, Optional, Sequence

import numpy

from ._calls import Call, axes_of, axis_of, image_of, pair_of, stands_for, traced
from ._network import Dimensions, Inexpressible, Node, Padded, Reshaped, Value
from ._operations import scaled, window_of


# ---- pooling


def _pool(
    call: Call,
    op: str,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    **attributes: Any,
) -> Node:
    fill = -math.inf if op == "max_pool" else 0.0
    base, begin, end = (image_of(input), (0, 0), (0, 0)) if op == "average_pool" else window_of(image_of(input), fill)
    kernel = pair_of(kernel_size)
    step = kernel if stride is None or (isinstance(stride, (tuple, list)) and not stride) else pair_of(stride)
    pad = pair_of(padding)
    pad_begin = [begin[i] + pad[i] for i in range(2)]
    pad_end = [end[i] + pad[i] for i in range(2)]
    if ceil_mode:
        # Windows that begin inside may end outside: as much padding as the last one needs.
        for i in range(2):
            needed = (call.shape[1 + i] - 1) * step[i] + kernel[i] - pad_begin[i] - base.shape[1 + i]
            if needed > pad_end[i] and op == "average_pool":
                if pad[i] > 0 and attributes["count_padding"]:
                    raise Inexpressible("averages with ceil_mode and padding that counts; set count_include_pad=False")
            pad_end[i] = max(pad_end[i], needed)
        if op == "average_pool" and pad == (0, 0):
            attributes["count_padding"] = False
    if any(pad_begin[i] >= kernel[i] or pad_end[i] >= kernel[i] for i in range(2)):
        raise Inexpressible("pads by as much as the window is large, or more")
    return call.node(
        op, [base], kernel=list(kernel), stride=list(step), pad_begin=pad_begin, pad_end=pad_end, **attributes
    )


@stands_for("max_pool2d", "max_pool2d_with_indices")
def _max_pool(
    call: Call,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    if pair_of(dilation) != (1, 1):
        raise Inexpressible(f"has dilation {dilation}; max-pooling has none here")
    return _pool(call, "max_pool", input, kernel_size, stride, padding, ceil_mode)


@stands_for("avg_pool2d")
def _average_pool(
    call: Call,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Optional[int] = None,
) -> Value:
    value = image_of(input)
    if divisor_override is not None:
        raise Inexpressible("has divisor_override; multiply by a constant instead")
    if pair_of(kernel_size) == tuple(value.shape[1:]) and pair_of(padding) == (0, 0):
        return _one_pixel(call, value)
    return _pool(
        call, "average_pool", value, kernel_size, stride, padding, ceil_mode, count_padding=bool(count_include_pad)
    )


def _one_pixel(call: Call, value: Value) -> Value:
    """The mean over all pixels, still an image of one pixel."""
    channels = value.shape[0]
    return Reshaped((channels, 1, 1), call.part("", (channels,), "global_average_pool", [value]))


def _adaptive(call: Call, op: str, input: Any, output_size: Any) -> Value:
    value = image_of(input)
    sizes = list(output_size) if isinstance(output_size, (tuple, list)) else [output_size] * 2
    wanted = [value.shape[1 + i] if sizes[i] is None else int(sizes[i]) for i in range(2)]
    if wanted == list(value.shape[1:]):
        return value
    if op == "average_pool" and wanted == [1, 1]:
        return _one_pixel(call, value)
    if any(value.shape[1 + i] % wanted[i] for i in range(2)):
        raise Inexpressible(
            f"pools {value.shape[1]}x{value.shape[2]} to {wanted[0]}x{wanted[1]} with windows of different "
            f"sizes; use an "
            "output size that divides the input's"
        )
    kernel = [value.shape[1 + i] // wanted[i] for i in range(2)]
    return call.node(op, [value], kernel=kernel, stride=kernel)


@stands_for("adaptive_avg_pool2d")
def _adaptive_average_pool(call: Call, input: Any, output_size: Any) -> Value:
    return _adaptive(call, "average_pool", input, output_size)


@stands_for("adaptive_max_pool2d")
def _adaptive_max_pool(call: Call, input: Any, output_size: Any, return_indices: bool = False) -> Value:
    return _adaptive(call, "max_pool", input, output_size)


@stands_for("mean")
def _mean(call: Call, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    value = traced(input, "an input")
    axes = axes_of(dim, len(value.shape) + 1)
    if len(value.shape) == 3 and axes == [2, 3]:
        pooled = _one_pixel(call, value)
        assert pooled.base is not None
        return pooled if keepdim else pooled.base
    # (N, C, H * W) over its last axis
    base = value.base
    if isinstance(value, Reshaped) and base is not None and axes == [2] and len(value.shape) == 2 and not keepdim:
        if len(base.shape) == 3 and base.shape[0] == value.shape[0]:
            return call.node("global_average_pool", [base])
    raise Inexpressible(
        f"averages a tensor of shape {('N', *value.shape)} over the axes {axes}; only the mean over all pixels of each "
        "channel can be converted"
    )


@stands_for("sum")
def _total(call: Call, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    value = traced(input, "an input")
    axes = axes_of(dim, len(value.shape) + 1)
    if len(value.shape) != 3 or axes != [2, 3] or keepdim:
        raise Inexpressible(f"sums a tensor of shape {('N', *value.shape)} over the axes {axes}")
    pixels = float(value.shape[1] * value.shape[2])
    return scaled(call, call.part(".mean", call.shape, "global_average_pool", [value]), pixels)


# ---- shapes


@stands_for("flatten", "view", "reshape", "squeeze", "unsqueeze", "_unsafe_view", "view_as", "reshape_as", "unflatten")
def _reshape(call: Call, input: Any, *rest: Any, **named: Any) -> Value:
    value = traced(input, "an input")
    if len(rest) == 1 and _is_dtype(call, rest[0]):
        raise Inexpressible("reads a tensor's bytes as another type")
    count = int(numpy.prod(call.shape, dtype=numpy.int64))
    if count != int(numpy.prod(value.shape, dtype=numpy.int64)):
        raise Inexpressible(
            f"makes a tensor of shape {tuple(call.result.shape)}, which mixes images; keep the batch as the first axis"
        )
    if call.shape == value.shape:
        return value
    base = value.base if isinstance(value, Reshaped) else call.network.node(value)
    assert base is not None
    return base if base.shape == call.shape else Reshaped(call.shape, base)


def _is_dtype(call: Call, value: Any) -> bool:
    return isinstance(value, call.torch.dtype)


@stands_for("cat", "concat", "concatenate")
def _concatenate(call: Call, tensors: Sequence[Any], dim: int = 0, **named: Any) -> Value:
    values = [traced(one, "a part") for one in tensors]
    ranks = {len(value.shape) for value in values}
    if ranks not in ({1}, {3}) or axis_of(named.get("axis", dim), len(values[0].shape) + 1) != 1:
        raise Inexpressible("concatenates along another axis than that of channels or features")
    return call.node("concatenate", values)


@stands_for("pad", "constant_pad_nd")
def _pad(call: Call, input: Any, pad: Sequence[int], mode: str = "constant", value: Optional[float] = None) -> Value:
    image = image_of(input)
    if mode != "constant":
        raise Inexpressible(f"pads with mode {mode!r}; only padding with zeros can be converted")
    fill = 0.0 if value is None else float(value)
    sides = [int(one) for one in pad] + [0] * (6 - len(pad))
    left, right, top, bottom, front, back = sides[:6]
    if len(sides) > 6 and any(sides[6:]):
        raise Inexpressible("pads the batch")
    if front or back:
        if fill != 0.0 or front < 0 or back < 0:
            raise Inexpressible("pads channels with something else than zeros")
        order = [-1] * front + list(range(image.shape[0])) + [-1] * back
        image = _select(call, image, order, (len(order), *image.shape[1:]), ".channels")
    if min(left, right, top, bottom) < 0:
        raise Inexpressible("crops; crop before the module")
    begin, end = (top, left), (bottom, right)
    if isinstance(image, Padded) and image.fill == fill:
        begin = (begin[0] + image.begin[0], begin[1] + image.begin[1])
        end = (end[0] + image.end[0], end[1] + image.end[1])
        assert image.base is not None
        return Padded(image.base, begin, end, fill)
    if not any(begin + end):
        return image
    return Padded(call.network.node(image), begin, end, fill)


def _select(call: Call, value: Value, order: Sequence[int], shape: Dimensions, suffix: str = "") -> Node:
    """Channels in another order, -1 for a channel of zeros: a convolution with ones and zeros."""
    chosen = numpy.zeros((len(order), value.shape[0], 1, 1), numpy.float32)
    for position, channel in enumerate(order):
        if channel >= 0:
            chosen[position, channel] = 1.0
    weight = call.network.constant(f"{call.name}{suffix}.weight", chosen)
    return call.part(suffix, shape, "convolution", [value], {"weight": weight})


@stands_for("__getitem__")
def _item(call: Call, input: Any, index: Any) -> Value:
    value = traced(input, "an input")
    entries = list(index) if isinstance(index, tuple) else [index]
    rank = len(value.shape) + 1
    if any(isinstance(entry, Value) for entry in entries):
        raise Inexpressible("is indexed by something that depends on the image")
    if any(entry is Ellipsis for entry in entries):
        place = next(i for i, entry in enumerate(entries) if entry is Ellipsis)
        entries[place : place + 1] = [slice(None)] * (rank - len(entries) + 1)
    entries += [slice(None)] * (rank - len(entries))
    if len(entries) != rank or not _is_whole(entries[0]) or any(entry is None for entry in entries):
        raise Inexpressible("is indexed in a way that is not known here; images cannot be taken from the batch")
    if all(map(_is_whole, entries)):
        return value
    if rank == 4 and _is_whole(entries[1]) and value.shape[1:] == (1, 1):
        # The one pixel of a pooled image
        if all(isinstance(entry, int) for entry in entries[2:]):
            return _reshape(call, value)
    if rank != 4:
        raise Inexpressible("takes parts of a tensor that is no image")
    image = value
    order = _channels(call, entries[1], value.shape[0])
    steps = []
    for axis in (1, 2):
        entry, size = entries[1 + axis], value.shape[axis]
        if not isinstance(entry, slice):
            raise Inexpressible("takes single rows or columns")
        start, stop, step = entry.indices(size)
        if step < 1 or start != 0 or stop <= (size - 1) // step * step:
            raise Inexpressible("crops; only whole images with a stride can be taken")
        steps.append(step)
    if order != list(range(value.shape[0])):
        last = steps == [1, 1]
        shape = (len(order), *value.shape[1:])
        image = _select(call, image, order, shape, "" if last else ".channels")
    if steps == [1, 1]:
        return image
    return call.node("average_pool", [image], kernel=[1, 1], stride=steps)


def _is_whole(entry: Any) -> bool:
    return isinstance(entry, slice) and entry == slice(None)


def _channels(call: Call, entry: Any, channels: int) -> List[int]:
    taken = call.torch.arange(channels)[entry]
    if taken.dim() != 1:
        raise Inexpressible("takes a single channel away from its axis; use a slice")
    return [int(one) for one in taken]


@stands_for("flip")
def _flip(call: Call, input: Any, *dims: Any) -> Value:
    given = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    value = image_of(input)
    if axes_of(list(given), 4) != [1]:
        raise Inexpressible("mirrors pixels; only channels can be reversed")
    return _select(call, value, list(reversed(range(value.shape[0]))), value.shape)


# ---- what changes no number


@stands_for(
    "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"
)
def _dropout(
    call: Call, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, **named: Any
) -> Value:
    if (training or named.get("train")) and p > 0:
        raise Inexpressible("drops at random, also in evaluation; use the module nn.Dropout or training=self.training")
    return input


@stands_for(
    "contiguous",
    "clone",
    "detach",
    "to",
    "float",
    "double",
    "half",
    "bfloat16",
    "type",
    "type_as",
    "cpu",
    "cuda",
    "requires_grad_",
    "data",
    "alias",
    "expand_as",
)
def _same(call: Call, input: Any, *rest: Any, **named: Any) -> Value:
    value = traced(input, "an input")
    if call.shape != value.shape:
        raise Inexpressible(f"makes a tensor of shape {tuple(call.result.shape)} of {('N', *value.shape)}")
    if not call.result.is_floating_point():
        raise Inexpressible(f"makes {call.result.dtype} of its input, which has no gradient")
    return value
