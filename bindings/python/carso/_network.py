# SPDX-License-Identifier: BSD-2-Clause
"""A network in the making: values, and the nodes of docs/graph.md that they become when something needs them.

Per-channel affine maps, zero padding, pooling to one pixel and reshapes are kept as what they are until they are used:
most of them vanish into their neighbours.
"""

from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Set, Tuple

import numpy

#: Of one image: (features,) or (channels, height, width); others only of values that no node has.
Dimensions = Tuple[int, ...]


class Inexpressible(Exception):
    """Why an operation has no counterpart, and what to do about it."""


class Value:
    """What a traced tensor stands for."""

    def __init__(self, shape: Dimensions, base: Optional["Node"] = None) -> None:
        self.shape = tuple(int(size) for size in shape)
        #: The node that it is computed from; None: it is a node itself.
        self.base = base
        #: Its own node, once something needed one.
        self.made: Optional["Node"] = None
        #: Number of the traced operation that it came from.
        self.sequence = -1
        self.name = ""
        #: Whether the name is a module's path.
        self.named = False


class Constant:
    """A parameter's numbers and its name; registered says that the module keeps it under this name."""

    def __init__(self, name: str, array: numpy.ndarray, registered: bool) -> None:
        self.name = name
        self.array = array
        self.registered = registered


class Node(Value):
    """A value that the graph has."""

    def __init__(
        self,
        op: str,
        name: str,
        shape: Dimensions,
        inputs: Sequence["Node"] = (),
        parameters: Optional[Mapping[str, Constant]] = None,
        attributes: Optional[Mapping[str, Any]] = None,
    ) -> None:
        super().__init__(shape)
        self.op = op
        self.name = name
        self.inputs = list(inputs)
        self.parameters = dict(parameters or {})
        self.attributes = dict(attributes or {})


class Affine(Value):
    """factor * base + offset, a number of each for every channel."""

    def __init__(self, base: Node, factor: numpy.ndarray, offset: numpy.ndarray) -> None:
        super().__init__(base.shape, base)
        self.factor = factor
        self.offset = offset


class Padded(Value):
    """base with `fill` around it: (top, left) and (bottom, right)."""

    def __init__(self, base: Node, begin: Tuple[int, int], end: Tuple[int, int], fill: float) -> None:
        channels, height, width = base.shape
        super().__init__((channels, height + begin[0] + end[0], width + begin[1] + end[1]), base)
        self.begin = begin
        self.end = end
        self.fill = fill


class Reshaped(Value):
    """base's elements, in their order, in another shape."""


class Opaque(Value):
    """Computed from the image by what has no counterpart: an error as soon as the logits or a tap depend on it."""

    def __init__(self, shape: Dimensions, reason: str) -> None:
        super().__init__(shape)
        self.reason = reason


class Network:
    """Nodes in the order in which they can run."""

    def __init__(self, image: Dimensions) -> None:
        self.image = Node("input", "image", image)
        self.nodes: List[Node] = []
        #: Names that no node may take by itself: the modules' paths.
        self.reserved = {"image"}
        self._taken = {"image"}
        #: Names of the parameters that the module keeps.
        self.reserved_parameters: FrozenSet[str] = frozenset()
        self._parameters: Dict[str, Constant] = {}

    def unused_name(self, wanted: str, reserved_too: bool = False) -> str:
        """wanted, or wanted_1, wanted_2, ... if that is another's."""
        wanted = printable(wanted)
        name = wanted
        number = 0
        while name in self._taken or (not reserved_too and name in self.reserved):
            number += 1
            name = f"{wanted}_{number}"
        return name

    def add(
        self,
        op: str,
        name: str,
        shape: Dimensions,
        inputs: Sequence[Node],
        parameters: Optional[Mapping[str, Constant]] = None,
        attributes: Optional[Mapping[str, Any]] = None,
    ) -> Node:
        node = Node(op, self.unused_name(name), shape, inputs, parameters, attributes)
        self._taken.add(node.name)
        self.nodes.append(node)
        for constant in node.parameters.values():
            self._parameters[constant.name] = constant
        return node

    def rename(self, node: Node, name: str, reserved_too: bool = True) -> None:
        self._taken.discard(node.name)
        node.name = self.unused_name(name, reserved_too)
        self._taken.add(node.name)

    def node(self, value: Value) -> Node:
        """The value as a node."""
        if isinstance(value, Node):
            return value
        if value.made is None:
            value.made = self._make(value)
        return value.made

    def tensors(self) -> Dict[str, numpy.ndarray]:
        return {name: constant.array for name, constant in self._parameters.items()}

    def to_json(self) -> Dict[str, Any]:
        nodes = []
        for node in self.nodes:
            entry: Dict[str, Any] = {"op": node.op, "name": node.name, "inputs": [each.name for each in node.inputs]}
            if node.parameters:
                entry["parameters"] = {role: constant.name for role, constant in node.parameters.items()}
            if node.attributes:
                entry["attributes"] = node.attributes
            nodes.append(entry)
        return {"inputs": [{"name": self.image.name, "shape": list(self.image.shape)}], "nodes": nodes}

    @staticmethod
    def needed(outputs: Sequence[Node]) -> Set[Node]:
        """The outputs and what they are computed from."""
        found: Set[Node] = set()
        waiting = list(outputs)
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting.extend(node.inputs)
        return found

    def keep_only(self, outputs: Sequence[Node]) -> None:
        """Drops what the outputs do not need: its parameters would be in the file for nothing."""
        needed = self.needed(outputs)
        self.nodes = [node for node in self.nodes if node in needed]
        used = {constant.name for node in self.nodes for constant in node.parameters.values()}
        self._parameters = {name: constant for name, constant in self._parameters.items() if name in used}

    # ---- values as nodes

    def _make(self, value: Value) -> Node:
        if isinstance(value, Opaque):
            raise Inexpressible(value.reason)
        assert value.base is not None
        if isinstance(value, Affine):
            return self._make_affine(value)
        if isinstance(value, Padded):
            if value.fill != 0.0:
                raise Inexpressible(f"padding with {value.fill} is possible only before max-pooling, with -inf")
            channels = value.shape[0]
            one = numpy.ones((channels, 1, 1, 1), numpy.float32)
            return self.add(
                "convolution",
                value.name,
                value.shape,
                [value.base],
                {"weight": self.constant(value.name + ".weight", one)},
                {"pad_begin": list(value.begin), "pad_end": list(value.end), "groups": channels},
            )
        if len(value.shape) == 1:
            return self.add("flatten", value.name, value.shape, [value.base])
        if len(value.shape) == 3:
            flat = value.base
            if len(flat.shape) == 3:
                flat = self.add("flatten", value.name + ".flat", (int(numpy.prod(flat.shape)),), [flat])
            return self.add("unflatten", value.name, value.shape, [flat], attributes={"shape": list(value.shape)})
        raise Inexpressible(
            f"a tensor of shape {('N', *value.shape)} is used; only (N, features) and (N, channels, "
            f"height, width) can be"
        )

    def _make_affine(self, value: Affine) -> Node:
        attributes: Dict[str, Any]
        base = value.base
        assert base is not None
        channels = value.shape[0]
        if base is self.image and (value.factor > 0).all():
            deviation = 1.0 / value.factor
            attributes = {"mean": _floats(-value.offset * deviation), "deviation": _floats(deviation)}
            return self.add("standardise", value.name, value.shape, [base], attributes=attributes)
        if not value.offset.any() and (value.factor == value.factor[0]).all():
            attributes = {"factor": _floats(value.factor)[0]}
            return self.add("scale", value.name, value.shape, [base], attributes=attributes)
        zero = numpy.zeros(channels, numpy.float32)
        # sqrt(0 + 1) divides exactly.
        numbers = {
            "weight": value.factor.astype(numpy.float32),
            "bias": value.offset.astype(numpy.float32),
            "running_mean": zero,
            "running_var": zero,
        }
        parameters = {role: self.constant(f"{value.name}.{role}", array) for role, array in numbers.items()}
        return self.add("batch_norm", value.name, value.shape, [base], parameters, {"epsilon": 1.0})

    def constant(self, name: str, array: numpy.ndarray) -> Constant:
        """A parameter that the module does not keep under a name."""
        wanted = printable(name)
        free = wanted
        number = 0
        while free in self._parameters or free in self.reserved_parameters:
            number += 1
            free = f"{wanted}_{number}"
        made = Constant(free, array, False)
        self._parameters[free] = made
        return made


def printable(name: str) -> str:
    """A name as a graph may have it: printable ASCII without spaces."""
    text = name.encode("ascii", "backslashreplace").decode()
    return "".join(letter if "!" <= letter <= "~" else "_" for letter in text)


def _floats(array: numpy.ndarray) -> List[float]:
    """As the file keeps them: what float32 rounds them to."""
    return [float(number) for number in array.astype(numpy.float32)]
