# SPDX-License-Identifier: BSD-2-Clause
"""What PyTorch's functions and methods are in a libcarso graph.

Each handler has the parameters of the function that it stands for, after a Call. Traced tensors come as Values, all
others as the tensors that they are. It returns the Value of the result, or raises Inexpressible.
"""

import inspect
import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy

from ._network import Affine, Constant, Dimensions, Inexpressible, Network, Node, Padded, Reshaped, Value

Handler = Callable[..., Value]


class Call:
    """One call of a function, where it happened, and what came of it."""

    def __init__(
        self, network: Network, name: str, result: Any, parameter: Callable[[str, Any], Constant], torch: Any
    ) -> None:
        self.network = network
        #: For the node of the result.
        self.name = name
        #: The tensor that the function returned.
        self.result = result
        #: A constant tensor as a parameter.
        self.parameter = parameter
        self.torch = torch

    @property
    def shape(self) -> Dimensions:
        return tuple(self.result.shape[1:])

    def node(self, op: str, inputs: Sequence[Value], parameters: Any = None, **attributes: Any) -> Node:
        return self.part("", self.shape, op, inputs, parameters, **attributes)

    def part(
        self,
        suffix: str,
        shape: Dimensions,
        op: str,
        inputs: Sequence[Value],
        parameters: Any = None,
        **attributes: Any,
    ) -> Node:
        """A node on the way to the result."""
        nodes = [self.network.node(value) for value in inputs]
        return self.network.add(op, self.name + suffix, shape, nodes, parameters, attributes)

    def constant(self, role: str, array: numpy.ndarray) -> Constant:
        return self.network.constant(f"{self.name}.{role}", numpy.ascontiguousarray(array, numpy.float32))


def handler_of(name: str) -> Optional[Handler]:
    return _HANDLERS.get(name)


def apply(handler: Handler, call: Call, arguments: Sequence[Any], named: Dict[str, Any]) -> Any:
    try:
        bound = inspect.signature(handler).bind(call, *arguments, **named)
    except TypeError as error:
        raise Inexpressible(f"is called in a way that is not known here ({error})") from None
    return handler(*bound.args, **bound.kwargs)


_HANDLERS: Dict[str, Handler] = {}


def _stands_for(*names: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        for name in names:
            _HANDLERS[name] = handler
        return handler

    return register


# ---- arguments


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "shape")


def _traced(value: Any, what: str) -> Value:
    if not isinstance(value, Value):
        raise Inexpressible(f"has {what} that does not depend on the image")
    return value


def _image(value: Any) -> Value:
    if len(_traced(value, "an input").shape) != 3:
        raise Inexpressible(f"is applied to a tensor of shape {('N', *value.shape)}, not (N, channels, height, width)")
    return value


def _fixed(value: Any, what: str) -> Any:
    if isinstance(value, Value):
        raise Inexpressible(f"has {what} that depends on the image; only constants can be parameters")
    return value


def _pair(value: Any) -> Tuple[int, int]:
    if isinstance(value, (tuple, list)) or (hasattr(value, "__len__") and not _is_tensor(value)):
        numbers = [int(one) for one in value]
        if len(numbers) == 1:
            numbers *= 2
        if len(numbers) != 2:
            raise Inexpressible(f"has {len(numbers)} numbers where two directions are")
        return numbers[0], numbers[1]
    return int(value), int(value)


def _axis(dim: int, rank: int) -> int:
    return dim + rank if dim < 0 else dim


def _axes(dim: Any, rank: int) -> List[int]:
    given = range(rank) if dim is None else dim if isinstance(dim, (tuple, list)) else [dim]
    return sorted(_axis(int(one), rank) for one in given)


# ---- affine maps


def _affine(call: Call, value: Value, factor: numpy.ndarray, offset: numpy.ndarray) -> Value:
    if isinstance(value, Affine):
        assert value.base is not None
        return Affine(value.base, factor * value.factor, factor * value.offset + offset)
    return Affine(call.network.node(value), factor, offset)


def _everywhere(value: Value, number: float) -> numpy.ndarray:
    return numpy.full(value.shape[0], number, numpy.float64)


def _per_channel(call: Call, value: Value, constant: Any) -> numpy.ndarray:
    """The constant's number for each channel, float64."""
    if not _is_tensor(constant):
        number = float(constant)
        if not math.isfinite(number):
            raise Inexpressible(f"uses the constant {number}")
        return _everywhere(value, number)
    try:
        spread = constant.detach().double().cpu().expand(call.result.shape).numpy()
    except RuntimeError:
        spread = numpy.empty(0)
    if spread.shape[1:] != value.shape or len(value.shape) not in (1, 3):
        raise Inexpressible(
            f"combines values of shape {('N', *value.shape)} with a constant of shape {tuple(constant.shape)}; it must "
            "be a number for each channel"
        )
    first = spread.reshape(spread.shape[0], value.shape[0], -1)[0, :, 0]
    if not (spread == first.reshape((1, -1) + (1,) * (spread.ndim - 2))).all():
        raise Inexpressible("uses a constant that differs from pixel to pixel; it must be a number for each channel")
    return first.copy()


def _scaled(call: Call, value: Value, number: float) -> Value:
    return value if number == 1 else _affine(call, value, _everywhere(value, number), _everywhere(value, 0.0))


def _sum(call: Call, first: Any, second: Any, alpha: float) -> Value:
    if isinstance(first, Value) and isinstance(second, Value):
        if first.shape != second.shape:
            raise Inexpressible(f"adds values of shapes {('N', *first.shape)} and {('N', *second.shape)}")
        other = call.network.node(second)
        if alpha != 1:
            other = call.part(".scaled", second.shape, "scale", [other], factor=float(numpy.float32(alpha)))
        return call.node("add", [first, other])
    if isinstance(first, Value):
        return _affine(call, first, _everywhere(first, 1.0), alpha * _per_channel(call, first, second))
    return _affine(call, second, _everywhere(second, alpha), _per_channel(call, second, first))


@_stands_for("add", "__add__", "__radd__", "__iadd__")
def _add(call: Call, input: Any, other: Any, *, alpha: float = 1) -> Value:
    return _sum(call, input, other, float(alpha))


@_stands_for("sub", "subtract", "__sub__", "__isub__")
def _subtract(call: Call, input: Any, other: Any, *, alpha: float = 1) -> Value:
    return _sum(call, input, other, -float(alpha))


@_stands_for("rsub", "__rsub__")
def _subtract_from(call: Call, input: Any, other: Any, *, alpha: float = 1) -> Value:
    value = _traced(input, "an input")
    return _sum(call, _named_if_new(_scaled(call, value, -float(alpha)), value, call.name + ".negated"), other, 1.0)


@_stands_for("neg", "negative", "__neg__")
def _negate(call: Call, input: Any) -> Value:
    return _scaled(call, input, -1.0)


@_stands_for("mul", "multiply", "__mul__", "__rmul__", "__imul__")
def _multiply(call: Call, input: Any, other: Any) -> Value:
    value, constant = (input, other) if isinstance(input, Value) else (other, input)
    if isinstance(constant, Value):
        raise Inexpressible(
            "multiplies two values that both depend on the image (gating, squeeze-and-excitation, attention); there is "
            "no such operation"
        )
    return _affine(call, value, _per_channel(call, value, constant), _everywhere(value, 0.0))


@_stands_for("div", "divide", "true_divide", "__truediv__", "__div__", "__itruediv__")
def _divide(call: Call, input: Any, other: Any, *, rounding_mode: Optional[str] = None) -> Value:
    if rounding_mode is not None:
        raise Inexpressible("rounds, which has no gradient")
    divisor = _per_channel(call, _traced(input, "a dividend"), _fixed(other, "a divisor"))
    if not divisor.all():
        raise Inexpressible("divides by zero")
    return _affine(call, input, 1.0 / divisor, _everywhere(input, 0.0))


# ---- convolutions and linear layers


def _window(value: Value, fill: float) -> Tuple[Value, Tuple[int, int], Tuple[int, int]]:
    """The value without the padding that a convolution or pooling can do itself, and that padding."""
    if isinstance(value, Padded) and value.fill == fill:
        assert value.base is not None
        return value.base, value.begin, value.end
    return value, (0, 0), (0, 0)


def _weights(call: Call, weight: Any, bias: Any) -> Dict[str, Constant]:
    parameters = {"weight": call.parameter("weight", _fixed(weight, "a weight"))}
    if bias is not None:
        parameters["bias"] = call.parameter("bias", _fixed(bias, "a bias"))
    return parameters


@_stands_for("conv2d")
def _convolution(
    call: Call,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    base, begin, end = _window(_image(input), 0.0)
    kernel = tuple(_fixed(weight, "a weight").shape[2:])
    step, spread = _pair(stride), _pair(dilation)
    if padding == "valid":
        padding = 0
    if padding == "same":
        total = [spread[i] * (kernel[i] - 1) for i in range(2)]
        own_begin = [one // 2 for one in total]
        own_end = [one - one // 2 for one in total]
    else:
        own_begin = own_end = list(_pair(padding))
    return call.node(
        "convolution",
        [base],
        _weights(call, weight, bias),
        stride=list(step),
        dilation=list(spread),
        pad_begin=[begin[i] + own_begin[i] for i in range(2)],
        pad_end=[end[i] + own_end[i] for i in range(2)],
        groups=int(groups),
    )


@_stands_for("conv_transpose2d")
def _transposed_convolution(
    call: Call,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    pad = list(_pair(padding))
    return call.node(
        "transposed_convolution",
        [_image(input)],
        _weights(call, weight, bias),
        stride=list(_pair(stride)),
        dilation=list(_pair(dilation)),
        pad_begin=pad,
        pad_end=pad,
        output_padding=list(_pair(output_padding)),
        groups=int(groups),
    )


@_stands_for("linear")
def _linear(call: Call, input: Any, weight: Any, bias: Any = None) -> Value:
    if len(_traced(input, "an input").shape) != 1:
        raise Inexpressible(
            f"is applied to a tensor of shape {('N', *input.shape)}; a linear layer needs (N, features): flatten first"
        )
    return call.node("linear", [input], _weights(call, weight, bias))


@_stands_for("matmul", "mm", "__matmul__")
def _product(call: Call, input: Any, other: Any) -> Value:
    if not isinstance(input, Value) or isinstance(other, Value) or len(other.shape) != 2:
        raise Inexpressible("multiplies matrices, of which the second must be a constant of two dimensions")
    return _linear(call, input, other.t())


@_stands_for("addmm")
def _product_and_sum(call: Call, input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Value:
    if beta != 1 or alpha != 1 or not isinstance(mat1, Value):
        raise Inexpressible("multiplies matrices with factors; write a linear layer")
    return _linear(call, mat1, _fixed(mat2, "a matrix").t(), input)


@_stands_for("batch_norm")
def _batch_norm(
    call: Call,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    if training or running_mean is None or running_var is None:
        raise Inexpressible(
            "normalises by the statistics of the batch; libcarso uses running statistics: track_running_stats=True"
        )
    channels = _traced(input, "an input").shape[0]
    parameters = {}
    for role, given, number in (
        ("weight", weight, 1.0),
        ("bias", bias, 0.0),
        ("running_mean", running_mean, 0.0),
        ("running_var", running_var, 1.0),
    ):
        if given is None:
            parameters[role] = call.constant(role, numpy.full(channels, number))
        else:
            parameters[role] = call.parameter(role, _fixed(given, f"a {role}"))
    return call.node("batch_norm", [input], parameters, epsilon=max(float(eps), 1e-30))


# ---- pointwise


@_stands_for("relu")
def _relu(call: Call, input: Any, inplace: bool = False) -> Value:
    return call.node("relu", [input])


@_stands_for("silu")
def _silu(call: Call, input: Any, inplace: bool = False) -> Value:
    return call.node("silu", [input])


@_stands_for("sigmoid")
def _sigmoid(call: Call, input: Any) -> Value:
    return call.node("sigmoid", [input])


@_stands_for("tanh")
def _tanh(call: Call, input: Any) -> Value:
    return call.node("tanh", [input])


@_stands_for("leaky_relu")
def _leaky_relu(call: Call, input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    if negative_slope < 0:
        return _two_slopes(call, input, _everywhere(input, float(negative_slope)))
    return call.node("leaky_relu", [input], slope=float(numpy.float32(negative_slope)))


@_stands_for("prelu")
def _prelu(call: Call, input: Any, weight: Any) -> Value:
    slope = _fixed(weight, "a slope").detach().double().cpu().numpy().reshape(-1)
    if slope.size == 1 and slope[0] >= 0:
        return _leaky_relu(call, input, float(slope[0]))
    return _two_slopes(call, input, slope if slope.size > 1 else _everywhere(input, float(slope[0])))


def _two_slopes(call: Call, value: Value, slope: numpy.ndarray) -> Value:
    """slope * x + (1 - slope) * relu(x)"""
    zero = _everywhere(value, 0.0)
    positive = call.part(".positive", value.shape, "relu", [value])
    through = _named(_affine(call, value, slope, zero), call.name + ".through")
    bent = _named(_affine(call, positive, 1.0 - slope, zero), call.name + ".bent")
    return call.node("add", [through, bent])


def _named(value: Value, name: str) -> Value:
    value.name = name
    return value


@_stands_for("clamp", "clip", "hardtanh")
def _clamp(call: Call, input: Any, min: Any = None, max: Any = None, **named: Any) -> Value:
    """low + relu(x - low) - relu(x - high)"""
    low, high = named.pop("min_val", min), named.pop("max_val", max)
    named.pop("inplace", None)
    if named:
        raise Inexpressible(f"has the argument {next(iter(named))}, which is not known here")
    if low is None and high is None:
        return input
    value = _traced(input, "an input")
    one, minus = _everywhere(value, 1.0), _everywhere(value, -1.0)
    if low is None:
        top = _per_channel(call, value, _fixed(high, "a bound"))
        below = call.part(
            ".below", value.shape, "relu", [_named(_affine(call, value, minus, top), call.name + ".left")]
        )
        return _affine(call, below, minus, top)
    bottom = _per_channel(call, value, _fixed(low, "a bound"))
    lifted = _affine(call, value, one, -bottom) if bottom.any() else value
    if high is None and lifted is value:
        return call.node("relu", [value])
    above = call.part(".above", value.shape, "relu", [_named_if_new(lifted, value, call.name + ".lifted")])
    if high is None:
        return _affine(call, above, one, bottom)
    top = _per_channel(call, value, _fixed(high, "a bound"))
    if (top < bottom).any():
        raise Inexpressible("has an upper bound below the lower one")
    shifted = _named(_affine(call, value, one, -top), call.name + ".shifted")
    excess = call.part(".excess", value.shape, "relu", [shifted])
    less = call.part(".less", value.shape, "scale", [excess], factor=-1.0)
    if not bottom.any():
        return call.node("add", [above, less])
    return _affine(call, call.part(".between", value.shape, "add", [above, less]), one, bottom)


def _named_if_new(value: Value, old: Value, name: str) -> Value:
    return value if value is old else _named(value, name)


@_stands_for("relu6")
def _relu6(call: Call, input: Any, inplace: bool = False) -> Value:
    return _clamp(call, input, 0.0, 6.0)


@_stands_for("hardsigmoid")
def _hard_sigmoid(call: Call, input: Any, inplace: bool = False) -> Value:
    raised = _named(_affine(call, input, _everywhere(input, 1.0), _everywhere(input, 3.0)), call.name + ".raised")
    six = _clamp(call, raised, 0.0, 6.0)
    return _affine(call, six, _everywhere(six, 1.0 / 6.0), _everywhere(six, 0.0))


def _impossible(*names: str, why: str) -> None:
    def refuse(call: Call, *arguments: Any, **named: Any) -> Value:
        raise Inexpressible(why)

    for name in names:
        _HANDLERS[name] = refuse


_impossible(
    "softmax",
    "log_softmax",
    "softmin",
    "logsumexp",
    why="makes probabilities, or normalises over classes; CARSO needs the logits: convert the module without it",
)
_impossible(
    "gelu",
    "elu",
    "selu",
    "celu",
    "softplus",
    "hardswish",
    "mish",
    "softsign",
    "softshrink",
    "hardshrink",
    "tanhshrink",
    "logsigmoid",
    "erf",
    "exp",
    why="is no activation that a graph has: relu, leaky_relu, prelu, relu6, hardtanh, clamp, hardsigmoid, "
    "silu, sigmoid "
    "and tanh can be converted",
)
_impossible(
    "layer_norm",
    "group_norm",
    "instance_norm",
    "local_response_norm",
    "normalize",
    "norm",
    "var",
    "std",
    "var_mean",
    "std_mean",
    why="normalises by statistics of each image; only BatchNorm with running statistics can be converted",
)
_impossible(
    "interpolate",
    "upsample",
    "grid_sample",
    "pixel_shuffle",
    "fold",
    "unfold",
    why="resamples or rearranges pixels; only strided slices, pooling and (transposed) convolutions can be converted",
)
_impossible(
    "permute",
    "transpose",
    "swapaxes",
    "swapdims",
    "movedim",
    "t",
    "T",
    "mT",
    "H",
    "einsum",
    "bmm",
    "baddbmm",
    "scaled_dot_product_attention",
    "multi_head_attention_forward",
    why="reorders axes or multiplies values that depend on the image, as attention does; there is no such operation",
)
_impossible("conv1d", "conv3d", "conv_transpose1d", "conv_transpose3d", why="is no convolution over two dimensions")


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
    base, begin, end = (_image(input), (0, 0), (0, 0)) if op == "average_pool" else _window(_image(input), fill)
    kernel = _pair(kernel_size)
    step = kernel if stride is None or (isinstance(stride, (tuple, list)) and not stride) else _pair(stride)
    pad = _pair(padding)
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


@_stands_for("max_pool2d", "max_pool2d_with_indices")
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
    if _pair(dilation) != (1, 1):
        raise Inexpressible(f"has dilation {dilation}; max-pooling has none here")
    return _pool(call, "max_pool", input, kernel_size, stride, padding, ceil_mode)


@_stands_for("avg_pool2d")
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
    value = _image(input)
    if divisor_override is not None:
        raise Inexpressible("has divisor_override; multiply by a constant instead")
    if _pair(kernel_size) == tuple(value.shape[1:]) and _pair(padding) == (0, 0):
        return _one_pixel(call, value)
    return _pool(
        call, "average_pool", value, kernel_size, stride, padding, ceil_mode, count_padding=bool(count_include_pad)
    )


def _one_pixel(call: Call, value: Value) -> Value:
    """The mean over all pixels, still an image of one pixel."""
    channels = value.shape[0]
    return Reshaped((channels, 1, 1), call.part("", (channels,), "global_average_pool", [value]))


def _adaptive(call: Call, op: str, input: Any, output_size: Any) -> Value:
    value = _image(input)
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


@_stands_for("adaptive_avg_pool2d")
def _adaptive_average_pool(call: Call, input: Any, output_size: Any) -> Value:
    return _adaptive(call, "average_pool", input, output_size)


@_stands_for("adaptive_max_pool2d")
def _adaptive_max_pool(call: Call, input: Any, output_size: Any, return_indices: bool = False) -> Value:
    return _adaptive(call, "max_pool", input, output_size)


@_stands_for("mean")
def _mean(call: Call, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    value = _traced(input, "an input")
    axes = _axes(dim, len(value.shape) + 1)
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


@_stands_for("sum")
def _total(call: Call, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    value = _traced(input, "an input")
    axes = _axes(dim, len(value.shape) + 1)
    if len(value.shape) != 3 or axes != [2, 3] or keepdim:
        raise Inexpressible(f"sums a tensor of shape {('N', *value.shape)} over the axes {axes}")
    pixels = float(value.shape[1] * value.shape[2])
    return _scaled(call, call.part(".mean", call.shape, "global_average_pool", [value]), pixels)


# ---- shapes


@_stands_for("flatten", "view", "reshape", "squeeze", "unsqueeze", "_unsafe_view", "view_as", "reshape_as", "unflatten")
def _reshape(call: Call, input: Any, *rest: Any, **named: Any) -> Value:
    value = _traced(input, "an input")
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


@_stands_for("cat", "concat", "concatenate")
def _concatenate(call: Call, tensors: Sequence[Any], dim: int = 0, **named: Any) -> Value:
    values = [_traced(one, "a part") for one in tensors]
    ranks = {len(value.shape) for value in values}
    if ranks not in ({1}, {3}) or _axis(named.get("axis", dim), len(values[0].shape) + 1) != 1:
        raise Inexpressible("concatenates along another axis than that of channels or features")
    return call.node("concatenate", values)


@_stands_for("pad", "constant_pad_nd")
def _pad(call: Call, input: Any, pad: Sequence[int], mode: str = "constant", value: Optional[float] = None) -> Value:
    image = _image(input)
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


@_stands_for("__getitem__")
def _item(call: Call, input: Any, index: Any) -> Value:
    value = _traced(input, "an input")
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


@_stands_for("flip")
def _flip(call: Call, input: Any, *dims: Any) -> Value:
    given = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    value = _image(input)
    if _axes(list(given), 4) != [1]:
        raise Inexpressible("mirrors pixels; only channels can be reversed")
    return _select(call, value, list(reversed(range(value.shape[0]))), value.shape)


# ---- what changes no number


@_stands_for(
    "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"
)
def _dropout(
    call: Call, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, **named: Any
) -> Value:
    if (training or named.get("train")) and p > 0:
        raise Inexpressible("drops at random, also in evaluation; use the module nn.Dropout or training=self.training")
    return input


@_stands_for(
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
    value = _traced(input, "an input")
    if call.shape != value.shape:
        raise Inexpressible(f"makes a tensor of shape {tuple(call.result.shape)} of {('N', *value.shape)}")
    if not call.result.is_floating_point():
        raise Inexpressible(f"makes {call.result.dtype} of its input, which has no gradient")
    return value
