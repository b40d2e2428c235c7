# SPDX-License-Identifier: BSD-2-Clause
"""What PyTorch's arithmetic, layers and activations are in a libcarso graph."""

import math
from typing import Any, Dict, Optional, Tuple

import numpy

from ._calls import Call, fixed, image_of, impossible, is_tensor, pair_of, stands_for, traced
from ._network import Affine, Constant, Inexpressible, Padded, Value


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
    if not is_tensor(constant):
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


def scaled(call: Call, value: Value, number: float) -> Value:
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


@stands_for("add", "__add__", "__radd__", "__iadd__")
def _add(call: Call, input: Any, other: Any, *, alpha: float = 1) -> Value:
    return _sum(call, input, other, float(alpha))


@stands_for("sub", "subtract", "__sub__", "__isub__")
def _subtract(call: Call, input: Any, other: Any, *, alpha: float = 1) -> Value:
    return _sum(call, input, other, -float(alpha))


@stands_for("rsub", "__rsub__")
def _subtract_from(call: Call, input: Any, other: Any, *, alpha: float = 1) -> Value:
    value = traced(input, "an input")
    return _sum(call, _named_if_new(scaled(call, value, -float(alpha)), value, call.name + ".negated"), other, 1.0)


@stands_for("neg", "negative", "__neg__")
def _negate(call: Call, input: Any) -> Value:
    return scaled(call, input, -1.0)


@stands_for("mul", "multiply", "__mul__", "__rmul__", "__imul__")
def _multiply(call: Call, input: Any, other: Any) -> Value:
    value, constant = (input, other) if isinstance(input, Value) else (other, input)
    if isinstance(constant, Value):
        raise Inexpressible(
            "multiplies two values that both depend on the image (gating, squeeze-and-excitation, attention); there is "
            "no such operation"
        )
    return _affine(call, value, _per_channel(call, value, constant), _everywhere(value, 0.0))


@stands_for("div", "divide", "true_divide", "__truediv__", "__div__", "__itruediv__")
def _divide(call: Call, input: Any, other: Any, *, rounding_mode: Optional[str] = None) -> Value:
    if rounding_mode is not None:
        raise Inexpressible("rounds, which has no gradient")
    divisor = _per_channel(call, traced(input, "a dividend"), fixed(other, "a divisor"))
    if not divisor.all():
        raise Inexpressible("divides by zero")
    return _affine(call, input, 1.0 / divisor, _everywhere(input, 0.0))


# ---- convolutions and linear layers


def window_of(value: Value, fill: float) -> Tuple[Value, Tuple[int, int], Tuple[int, int]]:
    """The value without the padding that a convolution or pooling can do itself, and that padding."""
    if isinstance(value, Padded) and value.fill == fill:
        assert value.base is not None
        return value.base, value.begin, value.end
    return value, (0, 0), (0, 0)


def _weights(call: Call, weight: Any, bias: Any) -> Dict[str, Constant]:
    parameters = {"weight": call.parameter("weight", fixed(weight, "a weight"))}
    if bias is not None:
        parameters["bias"] = call.parameter("bias", fixed(bias, "a bias"))
    return parameters


@stands_for("conv2d")
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
    base, begin, end = window_of(image_of(input), 0.0)
    kernel = tuple(fixed(weight, "a weight").shape[2:])
    step, spread = pair_of(stride), pair_of(dilation)
    if padding == "valid":
        padding = 0
    if padding == "same":
        total = [spread[i] * (kernel[i] - 1) for i in range(2)]
        own_begin = [one // 2 for one in total]
        own_end = [one - one // 2 for one in total]
    else:
        own_begin = own_end = list(pair_of(padding))
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


@stands_for("conv_transpose2d")
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
    pad = list(pair_of(padding))
    return call.node(
        "transposed_convolution",
        [image_of(input)],
        _weights(call, weight, bias),
        stride=list(pair_of(stride)),
        dilation=list(pair_of(dilation)),
        pad_begin=pad,
        pad_end=pad,
        output_padding=list(pair_of(output_padding)),
        groups=int(groups),
    )


@stands_for("linear")
def _linear(call: Call, input: Any, weight: Any, bias: Any = None) -> Value:
    if len(traced(input, "an input").shape) != 1:
        raise Inexpressible(
            f"is applied to a tensor of shape {('N', *input.shape)}; a linear layer needs (N, features): flatten first"
        )
    return call.node("linear", [input], _weights(call, weight, bias))


@stands_for("matmul", "mm", "__matmul__")
def _product(call: Call, input: Any, other: Any) -> Value:
    if not isinstance(input, Value) or isinstance(other, Value) or len(other.shape) != 2:
        raise Inexpressible("multiplies matrices, of which the second must be a constant of two dimensions")
    return _linear(call, input, other.t())


@stands_for("addmm")
def _product_and_sum(call: Call, input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Value:
    if beta != 1 or alpha != 1 or not isinstance(mat1, Value):
        raise Inexpressible("multiplies matrices with factors; write a linear layer")
    return _linear(call, mat1, fixed(mat2, "a matrix").t(), input)


@stands_for("batch_norm")
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
    channels = traced(input, "an input").shape[0]
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
            parameters[role] = call.parameter(role, fixed(given, f"a {role}"))
    return call.node("batch_norm", [input], parameters, epsilon=max(float(eps), 1e-30))


# ---- pointwise


@stands_for("relu")
def _relu(call: Call, input: Any, inplace: bool = False) -> Value:
    return call.node("relu", [input])


@stands_for("silu")
def _silu(call: Call, input: Any, inplace: bool = False) -> Value:
    return call.node("silu", [input])


@stands_for("sigmoid")
def _sigmoid(call: Call, input: Any) -> Value:
    return call.node("sigmoid", [input])


@stands_for("tanh")
def _tanh(call: Call, input: Any) -> Value:
    return call.node("tanh", [input])


@stands_for("leaky_relu")
def _leaky_relu(call: Call, input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    if negative_slope < 0:
        return _two_slopes(call, input, _everywhere(input, float(negative_slope)))
    return call.node("leaky_relu", [input], slope=float(numpy.float32(negative_slope)))


@stands_for("prelu")
def _prelu(call: Call, input: Any, weight: Any) -> Value:
    slope = fixed(weight, "a slope").detach().double().cpu().numpy().reshape(-1)
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


@stands_for("clamp", "clip", "hardtanh")
def _clamp(call: Call, input: Any, min: Any = None, max: Any = None, **named: Any) -> Value:
    """low + relu(x - low) - relu(x - high)"""
    low, high = named.pop("min_val", min), named.pop("max_val", max)
    named.pop("inplace", None)
    if named:
        raise Inexpressible(f"has the argument {next(iter(named))}, which is not known here")
    if low is None and high is None:
        return input
    value = traced(input, "an input")
    one, minus = _everywhere(value, 1.0), _everywhere(value, -1.0)
    if low is None:
        top = _per_channel(call, value, fixed(high, "a bound"))
        below = call.part(
            ".below", value.shape, "relu", [_named(_affine(call, value, minus, top), call.name + ".left")]
        )
        return _affine(call, below, minus, top)
    bottom = _per_channel(call, value, fixed(low, "a bound"))
    lifted = _affine(call, value, one, -bottom) if bottom.any() else value
    if high is None and lifted is value:
        return call.node("relu", [value])
    above = call.part(".above", value.shape, "relu", [_named_if_new(lifted, value, call.name + ".lifted")])
    if high is None:
        return _affine(call, above, one, bottom)
    top = _per_channel(call, value, fixed(high, "a bound"))
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


@stands_for("relu6")
def _relu6(call: Call, input: Any, inplace: bool = False) -> Value:
    return _clamp(call, input, 0.0, 6.0)


@stands_for("hardsigmoid")
def _hard_sigmoid(call: Call, input: Any, inplace: bool = False) -> Value:
    raised = _named(_affine(call, input, _everywhere(input, 1.0), _everywhere(input, 3.0)), call.name + ".raised")
    six = _clamp(call, raised, 0.0, 6.0)
    return _affine(call, six, _everywhere(six, 1.0 / 6.0), _everywhere(six, 0.0))


impossible(
    "softmax",
    "log_softmax",
    "softmin",
    "logsumexp",
    why="makes probabilities, or normalises over classes; CARSO needs the logits: convert the module without it",
)
impossible(
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
impossible(
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
impossible(
    "interpolate",
    "upsample",
    "grid_sample",
    "pixel_shuffle",
    "fold",
    "unfold",
    why="resamples or rearranges pixels; only strided slices, pooling and (transposed) convolutions can be converted",
)
impossible(
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
impossible("conv1d", "conv3d", "conv_transpose1d", "conv_transpose3d", why="is no convolution over two dimensions")
