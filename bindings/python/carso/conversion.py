# SPDX-License-Identifier: BSD-2-Clause
"""PyTorch classifiers as models, and PyTorch's checkpoints as files to import. torch is imported when it is needed."""

import difflib
import json
import logging
import math
import os
import tempfile
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy

from . import _checkpoint, _safetensors
from ._handle import PathLike
from ._network import Inexpressible, Network, Node, Value
from .context import Context
from .errors import InternalError, UnsupportedError
from .model import Model

_logger = logging.getLogger("carso")

#: Relative to a tensor's largest magnitude. A model file has float32 numbers: where the module computes in double, what
#: can differ is the rounding of constants (means, slopes); in single precision, every operation rounds.
TOLERANCE_DOUBLE = 1e-5
TOLERANCE_SINGLE = 1e-4

_FEWEST_FOR_STEM = 5
#: Of a dictionary in which dictionaries of tensors are looked for.
_LONGEST_NAME = 4096


def convert(
    module: Any,
    shape: Sequence[int],
    *,
    taps: Union[str, Sequence[str]] = "auto",
    mean: Optional[Sequence[float]] = None,
    deviation: Optional[Sequence[float]] = None,
    class_names: Optional[Sequence[str]] = None,
    provenance: Optional[Mapping[str, Any]] = None,
    context: Optional[Context] = None,
    verify: bool = True,
) -> Model:
    """A torch.nn.Module that maps images in [0, 1] to logits, as a Model without a purifier.

    shape: (channels, height, width) of an image; the batch is free.
    taps: paths of the modules whose outputs the purifier is to see, in this order; "auto": every convolution's output
    but those of 1x1 convolutions with stride 1 and, where there are five or more, of the first one.
    mean, deviation: standardise the image before the module, a number a channel; None: the module does, or nothing does.
    context: the model's; None for a new one with the defaults.
    verify: compare logits and taps with the module's own on random images.

    The module runs in evaluation mode and is left as it was. UnsupportedError: it does what a graph cannot; the message
    names the module, the function, why, and what to do. docs/convert.md says what can be converted.
    """
    torch = _import_torch("carso.convert")
    from . import _tracing  # needs torch

    module = _innermost(torch, module)
    image = _image_shape(shape)
    standardise = _standardisation(image[0], mean, deviation)
    with _tracing.evaluating(module) as was_training:
        if was_training:
            _logger.warning("carso.convert: the module was in training mode; what is converted is its evaluation mode")
        device, dtype = _tracing.placement(module)
        # Two batches of different sizes: whatever depends on the batch, or on the numbers in it, differs.
        trace = _tracing.trace(module, _tracing.random_images(2, image, device, dtype, 1), standardise)
        other = _tracing.trace(module, _tracing.random_images(3, image, device, dtype, 2), standardise)
        _compare(trace.network, other.network)
        try:
            logits = trace.network.node(trace.logits)
            chosen = _choose_taps(trace, logits, taps)
        except Inexpressible as reason:
            raise UnsupportedError(str(reason)) from None
        if len(logits.shape) != 1 or logits.shape[0] < 2:
            raise UnsupportedError(
                f"the module returns a tensor of shape {('N', *logits.shape)}; logits of two classes or "
                f"more, (N, classes), "
                "are needed"
            )
        if class_names is not None and len(class_names) != logits.shape[0]:
            raise ValueError(f"{len(class_names)} class_names for {logits.shape[0]} classes")
        trace.network.keep_only([logits, *chosen])
        origin = {"converted_from": type(module).__qualname__, "torch": str(torch.__version__), **(provenance or {})}
        data = _encode(trace.network, logits, list(chosen), class_names, origin)
        if verify:
            _verify(_tracing, module, standardise, data, trace, chosen)
    return Model.load_memory(data, context)


def convert_checkpoint(source: PathLike, destination: PathLike, *, key: Optional[str] = None) -> List[str]:
    """A checkpoint that torch.save wrote (.pt, .pth) as the safetensors file that Model.import_weights takes.

    key: where in the checkpoint the tensors are, "ema.state_dict" for example; None: they are looked for.
    Floating-point tensors become float32; num_batches_tracked is left out. PyTorch is not needed, and nothing that is
    in the file is run. Returns the names of the tensors.
    """
    path = os.fspath(source)
    tensors = _find_tensors(path, _checkpoint.read(path), key)
    budget = _checkpoint.Budget(path)
    arrays = {}
    for name, tensor in tensors.items():
        if name.rsplit(".", 1)[-1] != "num_batches_tracked":
            budget.spend(tensor.size * (4 if tensor.dtype.kind == "f" else tensor.itemsize))
            arrays[name] = tensor.astype(numpy.float32) if tensor.dtype.kind == "f" else tensor
    _write(destination, _safetensors.encode(arrays))
    return list(arrays)


def _import_torch(caller: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"{caller} needs PyTorch 1.13 or newer, which this Python does not have: {error}") from error
    try:
        from torch.overrides import TorchFunctionMode  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{caller} needs PyTorch 1.13 or newer; this is {torch.__version__}") from error
    return torch


# ---- the module


def _innermost(torch: Any, module: Any) -> Any:
    """Without the wrappers that only say how to run it."""
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(module, parallel):
            module = module.module
        elif hasattr(module, "_orig_mod"):  # torch.compile
            module = module._orig_mod
        else:
            break
    if not isinstance(module, torch.nn.Module):
        hint = " (carso.convert_checkpoint converts files)" if isinstance(module, (str, os.PathLike)) else ""
        raise TypeError(f"{type(module).__name__} is no torch.nn.Module{hint}")
    return module


def _image_shape(shape: Sequence[int]) -> Tuple[int, int, int]:
    numbers = tuple(int(size) for size in shape)
    if len(numbers) != 3:
        raise ValueError(f"shape {numbers}; (channels, height, width) is needed, without the batch")
    if numbers[0] not in (1, 3) or not all(8 <= size <= 4096 for size in numbers[1:]):
        raise ValueError(f"shape {numbers}; 1 or 3 channels, and sides of 8 to 4096 are needed")
    return numbers  # type: ignore[return-value]


def _standardisation(
    channels: int, mean: Optional[Sequence[float]], deviation: Optional[Sequence[float]]
) -> Optional[Tuple[List[float], List[float]]]:
    if mean is None and deviation is None:
        return None
    means = [0.0] * channels if mean is None else [float(number) for number in mean]
    deviations = [1.0] * channels if deviation is None else [float(number) for number in deviation]
    for name, numbers in (("mean", means), ("deviation", deviations)):
        if len(numbers) != channels or not all(map(math.isfinite, numbers)):
            raise ValueError(f"{name} has {len(numbers)} numbers for {channels} channels; each must be finite")
    if min(deviations) <= 0:
        raise ValueError("each deviation must be above 0")
    return means, deviations


def _compare(network: Network, other: Network) -> None:
    """Raises where the same module made two different networks of two batches."""
    fixed = (
        "what it does depends on the numbers in the image, or on the number of images, and a graph is always the same"
    )
    if len(network.nodes) != len(other.nodes):
        raise UnsupportedError(
            f"the module made {len(network.nodes)} operations once and {len(other.nodes)} then: {fixed}"
        )
    for mine, its in zip(network.nodes, other.nodes):
        alike = (mine.op, mine.name, mine.shape, mine.attributes) == (its.op, its.name, its.shape, its.attributes)
        if not alike or [each.name for each in mine.inputs] != [each.name for each in its.inputs]:
            raise UnsupportedError(f"{mine.name} ({mine.op}) differs from run to run: {fixed}")
        for role, constant in mine.parameters.items():
            twin = its.parameters.get(role)
            if twin is None or constant.name != twin.name or not numpy.array_equal(constant.array, twin.array, True):
                raise UnsupportedError(
                    f"{mine.name} ({mine.op}): its {role} differs from run to run; it depends on the image "
                    f"by way of NumPy, "
                    "TorchScript or an autograd function of its own, which cannot be seen, or on chance"
                )


# ---- taps


def _choose_taps(trace: Any, logits: Node, taps: Union[str, Sequence[str]]) -> Dict[Node, Value]:
    """The tapped nodes, and the values that they were traced as."""
    if isinstance(taps, str):
        if taps != "auto":
            raise ValueError(f"taps is {taps!r}; 'auto' or a sequence of modules' paths is needed")
        return {node: node for node in _usual_taps(trace, logits)}
    known = {value.name: value for value in trace.values}
    known.update(trace.modules)
    chosen: Dict[Node, Value] = {}
    for path in taps:
        value = known.get(path)
        if value is None:
            close = difflib.get_close_matches(path, known, 5) or sorted(known)[:5]
            raise ValueError(f"there is no tap {path!r}: no such module was called. Near it: {', '.join(close)}")
        node = trace.network.node(value)
        if node is trace.network.image:
            raise ValueError(f"tap {path!r} is the image itself")
        if node in chosen:
            raise ValueError(f"tap {path!r} is the same tensor as tap {node.name!r}")
        if node.name != path:
            trace.network.rename(node, path)
        chosen[node] = value
    return chosen


def _usual_taps(trace: Any, logits: Node) -> List[Node]:
    needed = trace.network.needed([logits])
    nodes = [node for node in trace.network.nodes if node in needed and node.sequence >= 0 and node is not logits]
    convolutions = [node for node in nodes if node.op == "convolution" and not _is_selection(node)]
    wide = [node for node in convolutions if not _is_pointwise(node)]
    found = wide or convolutions
    if len(found) >= _FEWEST_FOR_STEM and found[0] is convolutions[0]:
        found = found[1:]
    if not found:
        found = [node for node in nodes if node.op == "linear"]
    if not found:
        raise ValueError("the module has no convolution or hidden linear layer: name the taps, or give taps=[]")
    return found


def _is_selection(node: Node) -> bool:
    """Stands for padding or indexing."""
    return not node.parameters["weight"].registered and "bias" not in node.parameters and not node.named


def _is_pointwise(node: Node) -> bool:
    return node.parameters["weight"].array.shape[2:] == (1, 1) and node.attributes["stride"] == [1, 1]


# ---- the file


def _encode(
    network: Network,
    logits: Node,
    taps: Sequence[Node],
    class_names: Optional[Sequence[str]],
    provenance: Mapping[str, Any],
) -> bytearray:
    channels, height, width = network.image.shape
    first = next((node for node in network.nodes if node.op == "standardise" and node.inputs == [network.image]), None)
    metadata = {
        "format": "carso/1",
        "graph": json.dumps(network.to_json()),
        "logits": logits.name,
        "taps": json.dumps([node.name for node in taps]),
        "input": json.dumps(
            {
                "channels": channels,
                "height": height,
                "width": width,
                "mean": [0.0] * channels if first is None else first.attributes["mean"],
                "deviation": [1.0] * channels if first is None else first.attributes["deviation"],
            }
        ),
        "provenance": json.dumps(provenance),
    }
    if class_names is not None:
        metadata["classes"] = json.dumps(list(class_names))
    tensors = {"classifier." + name: array for name, array in network.tensors().items()}
    return _safetensors.encode(tensors, metadata, checksum=True)


def _write(path: PathLike, data: bytearray) -> None:
    """Whole or not at all."""
    target = os.fspath(path)
    folder = os.path.dirname(target) or os.curdir
    number, part = tempfile.mkstemp(prefix=os.path.basename(target) + ".", dir=folder)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise


def _verify(
    tracing: Any, module: Any, standardise: Any, data: bytearray, trace: Any, taps: Mapping[Node, Value]
) -> None:
    """Compares what the file computes with what the module does."""
    shape = trace.network.image.shape
    sequences = {value.sequence for value in taps.values()}
    try:
        double = tracing.in_double(module)
        device, dtype = tracing.placement(double)
        images = tracing.random_images(2, shape, device, dtype, 3)
        original = tracing.trace(double, images, standardise, sequences)
        if [value.sequence for value in original.values] != [value.sequence for value in trace.values]:
            raise UnsupportedError("it does something else in double")
        backend, tolerance = "reference-double", TOLERANCE_DOUBLE
    except Exception as error:  # whatever a module raises that has more than its parameters
        _logger.info("carso.convert: the module does not run in double (%s); verifying in single precision", error)
        device, dtype = tracing.placement(module)
        images = tracing.random_images(2, shape, device, dtype, 3)
        original = tracing.trace(module, images, standardise, sequences)
        backend, tolerance = None, TOLERANCE_SINGLE
    golden = {"input": images.float().cpu().numpy()}
    for node, value in taps.items():
        golden["tap." + node.name] = original.kept[value.sequence].double().cpu().numpy()
    golden["classifier_logits"] = original.result.double().cpu().numpy()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "golden.safetensors")
        _write(path, _safetensors.encode(golden))
        with Context(backend) as context, Model.load_memory(data, context) as model:
            deviations = model.verify(path, tolerance)
    for one in deviations:
        if one.departs:
            raise InternalError(
                f"the converted module departs from the original first at {one.name}: {one.computed} for "
                f"{one.stored}, more "
                f"than {tolerance} of {one.scale}. Please report the module; a part of it can be found by "
                f"giving convert "
                "smaller parts of it"
            )
    worst = max(one.largest_difference / (one.scale or 1.0) for one in deviations)
    _logger.info("carso.convert: verified %d tensors, largest relative difference %.1e", len(deviations), worst)


# ---- checkpoints


def _find_tensors(path: str, content: Any, key: Optional[str]) -> Dict[str, numpy.ndarray]:
    """The dictionary of tensors in what a checkpoint holds."""
    if key is not None:
        for part in _parts(content, key):
            content = content[part]
        if not _is_state(content):
            raise ValueError(f"{path}: there is no dictionary of tensors at {key!r}")
        return dict(content)
    found: Dict[str, Mapping[str, numpy.ndarray]] = {}

    waiting = [("", content)]
    entered = set()  # a dictionary may be in many places, in itself even
    while waiting:
        name, value = waiting.pop()
        if _is_state(value):
            found[name] = value
        elif isinstance(value, Mapping) and id(value) not in entered and len(name) < _LONGEST_NAME:
            entered.add(id(value))
            before = name + "." if name else ""
            waiting += [(before + part, one) for part, one in value.items() if isinstance(part, str)]
    if len(found) > 1:
        raise ValueError(
            f"{path}: there are several dictionaries of tensors; give key as one of {', '.join(sorted(found))}"
        )
    if not found:
        hint = "; give a whole module to carso.convert" if isinstance(content, _checkpoint.Ignored) else ""
        raise ValueError(f"{path}: there is no dictionary of tensors in it{hint}")
    return dict(next(iter(found.values())))


def _parts(content: Any, key: str) -> List[str]:
    """The names along a path; names may have points themselves."""
    names = [name for name in content if isinstance(name, str)] if isinstance(content, Mapping) else []
    if key in names:
        return [key]
    for name in names:
        if key.startswith(name + "."):
            return [name, *_parts(content[name], key[len(name) + 1 :])]
    raise ValueError(f"there is nothing at {key!r}; on this level are: {', '.join(names)}")


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(one, numpy.ndarray) for name, one in value.items())
    )
