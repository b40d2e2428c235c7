# SPDX-License-Identifier: BSD-2-Clause
"""Runs a torch.nn.Module once and writes down what it does.

A torch function mode sees every call of a PyTorch function as it happens, with real tensors: control flow, loops over
modules and shapes that are computed are no obstacle, and whatever does not depend on the image is a constant.
"""

import copy
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

import numpy
import torch
from torch.overrides import TorchFunctionMode, resolve_name

from . import _operations, _shapes  # noqa: F401: they register the handlers
from ._calls import Call, apply, handler_of
from ._network import Affine, Constant, Dimensions, Inexpressible, Network, Node, Opaque, Value, printable
from .errors import UnsupportedError

#: What takes numbers out of a tensor: a program that goes by them cannot be written down as a graph.
_READING = frozenset(
    ("item", "tolist", "numpy", "__array__", "__bool__", "__float__", "__int__", "__index__", "__complex__")
    + ("__contains__", "is_nonzero", "equal", "allclose")
)


Standardisation = Tuple[Sequence[float], Sequence[float]]


class Trace:
    """What a module did with a batch."""

    def __init__(
        self,
        network: Network,
        result: torch.Tensor,
        logits: Value,
        modules: Dict[str, Value],
        values: List[Value],
        kept: Dict[int, torch.Tensor],
    ) -> None:
        self.network = network
        #: What the module returned, and what that is.
        self.result = result
        self.logits = logits
        #: Values by the path of the module whose output they are; ":1" and so on for later calls of the same module.
        self.modules = modules
        #: All that came of an operation, in order.
        self.values = values
        #: Tensors by number of the operation.
        self.kept = kept


class _Tracer(TorchFunctionMode):
    def __init__(
        self, module: torch.nn.Module, image: torch.Tensor, standardise: Optional[Standardisation], keep: Set[int]
    ) -> None:
        super().__init__()
        self.network = Network(tuple(image.shape[1:]))
        self.modules: Dict[str, Value] = {}
        self.kept: Dict[int, torch.Tensor] = {}
        self._keep = keep
        #: Number of the latest operation
        self._sequence = 0
        self.values: List[Value] = []
        self._batch = image.shape[0]
        #: By id; each tensor is held, so that no other gets its id.
        self._values: Dict[int, Tuple[torch.Tensor, Value]] = {id(image): (image, self.network.image)}
        self.image = image
        if standardise is not None:
            mean, deviation = (numpy.array(numbers, numpy.float32).astype(numpy.float64) for numbers in standardise)
            row = [
                torch.as_tensor(numbers).to(image.device, image.dtype).view(1, -1, 1, 1)
                for numbers in (mean, deviation)
            ]
            self.image = (image - row[0]) / row[1]
            value = Affine(self.network.image, 1.0 / deviation, -mean / deviation)
            value.name = "standardise"
            self._values[id(self.image)] = (self.image, value)
        self._stack: List[Tuple[str, torch.nn.Module, int]] = []
        self._calls: Dict[int, int] = {}
        self._constants: Dict[Tuple[int, str], Constant] = {}
        self._held: List[torch.Tensor] = []
        self._registered = {id(tensor): name for name, tensor in _tensors_of(module)}
        self.network.reserved_parameters = frozenset(printable(name) for name in self._registered.values())
        self.network.reserved.update(printable(name) for name, _ in module.named_modules() if name)

    # ---- modules

    def enter(self, path: str, module: torch.nn.Module) -> None:
        count = self._calls.get(id(module), 0)
        self._calls[id(module)] = count + 1
        self._stack.append((path if count == 0 or not path else f"{path}:{count}", module, self._sequence))

    def leave(self, result: Any) -> None:
        path, _, first = self._stack.pop()
        value = self.value_of(result)
        if value is None or not path:
            return
        self.modules[path] = value
        # Called after the innermost module that made it.
        if value.named or value.sequence <= first or value.made is not None:
            return
        value.named = True
        if isinstance(value, Node):
            self.network.rename(value, path)
        else:
            value.name = path

    def where(self) -> str:
        if not self._stack:
            return "the module"
        path, module, _ = self._stack[-1]
        return f"{path or 'the module itself'} ({type(module).__name__})"

    # ---- tensors

    def value_of(self, tensor: Any) -> Optional[Value]:
        if not isinstance(tensor, torch.Tensor):
            return None
        found = self._values.get(id(tensor))
        return None if found is None else found[1]

    def _bind(self, tensor: torch.Tensor, value: Value, name: str) -> None:
        if value.sequence < 0 and value is not self.network.image:
            value.sequence = self._sequence
            self.values.append(value)
            if not value.name:
                value.name = name
            if self._sequence in self._keep:
                self.kept[self._sequence] = tensor.detach().clone()
        self._values[id(tensor)] = (tensor, value)

    def _parameter(self, name: str, role: str, tensor: torch.Tensor) -> Constant:
        registered = self._registered.get(id(tensor))
        key = (id(tensor), "" if registered else role)
        if key not in self._constants:
            array = tensor.detach().float().cpu().contiguous().numpy().copy()
            if registered is not None:
                self._constants[key] = Constant(printable(registered), array, True)
            else:
                self._constants[key] = self.network.constant(f"{name}.{role}", array)
            self._held.append(tensor)
        return self._constants[key]

    # ---- functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(self.value_of(tensor) is not None for tensor in _flat((args, kwargs))):
            return func(*args, **kwargs)
        name = _name_of(func)
        short = name.rsplit(".", 1)[-1]
        if short in _READING:
            raise UnsupportedError(
                f"{self.where()}: {name} reads a number that depends on the image. A graph has no branches "
                f"or values of "
                "its own; make what depends on it fixed, or convert the part before it"
            )
        before = [(tensor, tensor._version) for tensor in _flat((args, kwargs))]
        result = func(*args, **kwargs)
        for tensor, version in before:
            if tensor._version != version:
                self._forget_views(tensor)
                if tensor is not result:
                    self._refuse(tensor, name, "writes into a tensor; make a new one, by torch.cat or addition")
        if isinstance(result, (tuple, list)):
            for one in result:
                if isinstance(one, torch.Tensor):
                    self._refuse(one, name, "returns several tensors; only functions that return one can be converted")
            return result
        if not isinstance(result, torch.Tensor):
            return result
        self._sequence += 1
        self._record(name, short, args, kwargs, result)
        return result

    def _record(self, name: str, short: str, args: Any, kwargs: Any, result: torch.Tensor) -> None:
        opaque = next((v for v in map(self.value_of, _flat((args, kwargs))) if isinstance(v, Opaque)), None)
        if opaque is not None:
            self._values[id(result)] = (result, opaque)
            return
        key = short if short in ("data", "T", "mT", "H") else short.rstrip("_") if not short.endswith("__") else short
        label = key.strip("_")
        label = {"iadd": "add", "isub": "sub", "imul": "mul"}.get(label, label)
        path = self._stack[-1][0] if self._stack else ""
        own = f"{path}.{label}" if path else label
        handler = handler_of(key)
        if handler is None:
            self._refuse(result, name, "is not known here; docs/convert.md lists what can be converted")
            return
        if result.dim() < 1 or result.shape[0] != self._batch:
            shape = tuple(result.shape)
            self._refuse(result, name, f"makes a tensor of shape {shape}; the batch must stay the first axis")
            return

        def parameter(role: str, tensor: torch.Tensor) -> Constant:
            return self._parameter(own, role, tensor)

        call = Call(self.network, own, result, parameter, torch)
        try:
            value = apply(handler, call, [self._as_values(one) for one in args], self._as_values(kwargs))
        except Inexpressible as reason:
            self._refuse(result, name, str(reason))
            return
        if value.shape != tuple(result.shape[1:]):
            self._refuse(result, name, f"makes {tuple(result.shape)}, which its conversion would not")
            return
        self._bind(result, value, self.network.unused_name(own))

    def _refuse(self, tensor: torch.Tensor, name: str, reason: str) -> None:
        opaque = Opaque(tuple(tensor.shape[1:]), f"{self.where()}: {name} {reason}")
        opaque.sequence = self._sequence
        self._values[id(tensor)] = (tensor, opaque)

    def _forget_views(self, changed: torch.Tensor) -> None:
        memory = _memory(changed)
        for tensor, _ in list(self._values.values()):
            if tensor is not changed and _memory(tensor) == memory:
                self._refuse(
                    tensor, "an operation in place", "changes a tensor that is also seen as another; copy first"
                )

    def _as_values(self, argument: Any) -> Any:
        if isinstance(argument, torch.Tensor):
            found = self.value_of(argument)
            return argument if found is None else found
        if isinstance(argument, dict):
            return {name: self._as_values(one) for name, one in argument.items()}
        if isinstance(argument, (tuple, list)) and not isinstance(argument, torch.Size):
            return type(argument)(self._as_values(one) for one in argument)
        return argument


def trace(
    module: torch.nn.Module,
    images: torch.Tensor,
    standardise: Optional[Standardisation] = None,
    keep: Optional[Set[int]] = None,
) -> Trace:
    """Runs the module on a batch, standardised before it by mean and deviation.

    keep: numbers of operations whose tensors are wanted.
    """
    tracer = _Tracer(module, images, standardise, keep or set())
    handles = []
    try:
        for path, part in module.named_modules():
            if isinstance(part, torch.jit.ScriptModule):
                raise UnsupportedError(
                    f"{path or 'the module itself'} is TorchScript, in which nothing can be seen; convert "
                    f"the module that "
                    "it was made from"
                )
            handles.append(part.register_forward_pre_hook(lambda each, _, path=path: tracer.enter(path, each)))
            handles.append(part.register_forward_hook(lambda _, __, result: tracer.leave(result)))
        with torch.no_grad(), tracer:
            result = module(tracer.image)
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(result, torch.Tensor):
        raise UnsupportedError(
            f"the module returns {type(result).__name__}, not a tensor; wrap it in one that returns the logits"
        )
    logits = tracer.value_of(result)
    if logits is None:
        raise UnsupportedError(
            "the module returns a tensor that no PyTorch function made from the image: it is constant, or computed by "
            "NumPy, TorchScript or an autograd function of its own, which cannot be seen"
        )
    if isinstance(logits, Opaque):
        raise UnsupportedError(logits.reason)
    return Trace(tracer.network, result, logits, tracer.modules, tracer.values, tracer.kept)


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[bool]:
    """The module in evaluation mode, each part back as it was after; true where a part was in training mode."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        yield any(training for _, training in modes)
    finally:
        for part, training in modes:
            part.training = training


def placement(module: torch.nn.Module) -> Tuple[torch.device, torch.dtype]:
    """Where the module computes, and in what."""
    for _, tensor in _tensors_of(module):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32


def in_double(module: torch.nn.Module) -> torch.nn.Module:
    """A copy that computes in double, with weights as a model file keeps them."""
    double = copy.deepcopy(module).cpu()
    with torch.no_grad():
        double.float()
    return double.double()


def random_images(count: int, shape: Dimensions, device: torch.device, dtype: torch.dtype, seed: int) -> torch.Tensor:
    # Multiples of 2^-8 are the same numbers in half, single and double precision.
    levels = numpy.random.default_rng(seed).integers(0, 257, (count, *shape))
    return torch.as_tensor(levels / 256.0).to(device, dtype)


def _tensors_of(module: torch.nn.Module) -> Iterator[Tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _name_of(func: Any) -> str:
    name = resolve_name(func) or getattr(func, "__qualname__", None) or getattr(func, "__name__", None) or repr(func)
    # A property: torch.Tensor.shape.__get__
    return name[: -len(".__get__")] if name.endswith(".__get__") else name


def _memory(tensor: torch.Tensor) -> int:
    storage = tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage()
    return storage.data_ptr()


def _flat(argument: Any) -> Iterator[torch.Tensor]:
    if isinstance(argument, torch.Tensor):
        yield argument
    elif isinstance(argument, dict):
        for one in argument.values():
            yield from _flat(one)
    elif isinstance(argument, (tuple, list)):
        for one in argument:
            yield from _flat(one)
