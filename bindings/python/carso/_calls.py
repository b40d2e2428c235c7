# SPDX-License-Identifier: BSD-2-Clause
"""The calls of PyTorch's functions and methods, and who handles them.

Each handler has the parameters of the function that it stands for, after a Call. Traced tensors come as Values, all
others as the tensors that they are. It returns the Value of the result, or raises Inexpressible.
"""

import inspect
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy

from ._network import Constant, Dimensions, Inexpressible, Network, Node, Value

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


def stands_for(*names: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        for name in names:
            _HANDLERS[name] = handler
        return handler

    return register


def impossible(*names: str, why: str) -> None:
    def refuse(call: Call, *arguments: Any, **named: Any) -> Value:
        raise Inexpressible(why)

    for name in names:
        _HANDLERS[name] = refuse


# ---- arguments


def is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "shape")


def traced(value: Any, what: str) -> Value:
    if not isinstance(value, Value):
        raise Inexpressible(f"has {what} that does not depend on the image")
    return value


def image_of(value: Any) -> Value:
    if len(traced(value, "an input").shape) != 3:
        raise Inexpressible(f"is applied to a tensor of shape {('N', *value.shape)}, not (N, channels, height, width)")
    return value


def fixed(value: Any, what: str) -> Any:
    if isinstance(value, Value):
        raise Inexpressible(f"has {what} that depends on the image; only constants can be parameters")
    return value


def pair_of(value: Any) -> Tuple[int, int]:
    if isinstance(value, (tuple, list)) or (hasattr(value, "__len__") and not is_tensor(value)):
        numbers = [int(one) for one in value]
        if len(numbers) == 1:
            numbers *= 2
        if len(numbers) != 2:
            raise Inexpressible(f"has {len(numbers)} numbers where two directions are")
        return numbers[0], numbers[1]
    return int(value), int(value)


def axis_of(dim: int, rank: int) -> int:
    return dim + rank if dim < 0 else dim


def axes_of(dim: Any, rank: int) -> List[int]:
    given = range(rank) if dim is None else dim if isinstance(dim, (tuple, list)) else [dim]
    return sorted(axis_of(int(one), rank) for one in given)
