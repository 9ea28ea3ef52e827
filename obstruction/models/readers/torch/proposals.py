"""What the layers of a PyTorch module and their order may be, to be verified by running it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np

from obstruction.models.contents import (
    ORIENTATIONS,
    Activation,
    Contents,
    Dense,
)
from obstruction.models.layers import ordering, orientations
from obstruction.models.layers.naming import bag_of
from obstruction.models.layers.parametrised import kind_of
from obstruction.models.readers.torch import layers as torch_layers
from obstruction.models.readers.torch.running import FloatArray

Values: TypeAlias = Mapping[str, FloatArray]

_MOST_ORIENTATIONS: Final = 6
"""The largest number of matrices whose orientation is tried out."""

_KEYS: Final = (
    ("weight", None),
    ("parametrizations.weight.original1", "parametrizations.weight.original0"),
    ("weight_v", "weight_g"),
)
"""The names of the weights of ``nn.Linear``, and of their magnitudes if they are normalised."""


@dataclass(frozen=True)
class Function:
    """A function that is applied to neurons.

    Attributes
    ----------
    step : Activation
        What it is called.
    compute : callable
        Returns the function of an array, given the values of all parameters as well.
    """

    step: Activation
    compute: Callable[[FloatArray, Values], FloatArray]


Gap: TypeAlias = "tuple[Function, ...] | None"
"""The functions behind a layer, or None if it is not known which they are."""


@dataclass(frozen=True)
class Proposal:
    """Layers in forward order, and what may be behind each of them."""

    layers: tuple[Dense, ...]
    gaps: tuple[Gap, ...]


def leaky(slope: float) -> Function:
    """Return the function that multiplies negative numbers by a slope."""
    name = {0.0: "relu", 1.0: "linear"}.get(slope, "leaky_relu")
    return Function(
        Activation(name, slope), lambda z, _: np.where(z < 0.0, slope * z, z) if slope != 1.0 else z
    )


def ends() -> tuple[tuple[Function, ...], ...]:
    """Return functions with which a forward pass may end, nothing first."""
    torch = sys.modules["torch"]
    functions = {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "softmax": lambda y: torch.softmax(y, -1),
        "log_softmax": lambda y: torch.log_softmax(y, -1),
    }
    return ((), *((_of_torch(name, one),) for name, one in functions.items()))


def impossible(module: Any, contents: Contents) -> str | None:
    """Return why a module cannot be a chain of fully connected layers, None if it may be one."""
    nn = sys.modules["torch"].nn
    for path, one in module.named_modules():
        kind = type(one)
        for name, held in getattr(one, "parametrizations", {}).items():
            if hasattr(held, "original"):  # weight normalisation has two tensors instead
                kinds = " and ".join(kind_of(type(way).__name__) for way in held)
                return f"{path}.{name} is computed from another tensor ({kinds})".lstrip(".")
        layer = kind.__module__.startswith("torch.nn.modules") and one._parameters
        if layer and kind is not nn.Module and not isinstance(one, (nn.Linear, nn.PReLU)):
            return f"{path or 'it'} is of the class {kind.__name__}"
    for name, tensor in contents.tensors.items():
        if tensor.array.ndim > 2 and "float" in tensor.dtype:
            return f"{name} has the shape {tensor.shape}"
    return None


def _is_magnitude(contents: Contents, name: str, weight: str) -> bool:
    """Return whether a tensor has a number for each row of a matrix."""
    held, shape = contents.tensors.get(name), contents.tensors[weight].shape
    return held is not None and len(shape) == 2 and held.shape == (shape[0], 1)


def matrices(module: Any, contents: Contents) -> list[Dense]:
    """Return all matrices of parameters that may be layers, in stored order.

    The layout is None where a matrix is no ``nn.Linear``.
    """
    nn = sys.modules["torch"].nn
    found: dict[str, Dense] = {}
    for path, one in module.named_modules():
        if isinstance(one, nn.Linear):
            start = f"{path}." if path else ""
            bias = f"{start}bias" if f"{start}bias" in contents.tensors else None
            for weight, magnitude in _KEYS:
                if start + weight in contents.tensors:
                    normed = start + magnitude if magnitude else None
                    name = path or type(one).__name__
                    dense = Dense(name, start + weight, bias, "out_in", magnitude=normed)
                    if normed is None or _is_magnitude(contents, normed, start + weight):
                        found[dense.weight] = dense
                    break
    bag = bag_of(contents)
    for matrix in (*bag.layers, *bag.unsure, *(one for one, _ in bag.others)):
        owner = matrix.dense.weight.rpartition(".")[0]
        linear = isinstance(_submodule(module, owner), nn.Linear)
        if not linear and matrix.reason is None:
            found.setdefault(matrix.dense.weight, replace(matrix.dense, layout=None))
    return [found[name] for name in contents.tensors if name in found]


def proposals(
    module: Any,
    contents: Contents,
    called: Sequence[str],
    named: Sequence[str] | None,
) -> Iterator[Proposal]:
    """Yield what the layers may be.

    Parameters
    ----------
    module : torch.nn.Module
    contents : Contents
        Its tensors.
    called : sequence of str
        The paths of the modules that a run calls, in order.
    named : sequence of str, optional
        The layers in the order that a user gives.
    """
    known = matrices(module, contents)
    by_name = {name: dense for dense in known for name in (dense.weight, dense.name)}
    if named is not None and all(name in by_name for name in named):
        yield from _turned([by_name[name] for name in named], None, contents)
    seen, gaps = _recorded(module, called, known)
    if seen:
        yield from _turned(seen, gaps, contents)
    for order in _orders(known, contents):
        if order != seen:
            yield from _turned(order, None, contents)


def starts(module: Any, contents: Contents) -> list[int]:
    """Return the numbers of inputs that the first layer may have, the first matrix first."""
    widths: list[int] = []
    for dense in matrices(module, contents):
        rows, columns = contents.tensors[dense.weight].shape
        widths += [columns] if dense.layout == "out_in" else [columns, rows]
    return list(dict.fromkeys(widths))


def _recorded(
    module: Any, called: Sequence[str], known: Sequence[Dense]
) -> tuple[list[Dense], list[Gap]]:
    """Return the layers that a run calls, and the functions that it calls behind each of them."""
    nn = sys.modules["torch"].nn
    by_owner = {one.weight.split(".parametrizations.")[0].rpartition(".")[0]: one for one in known}
    by_owner |= {
        one.weight.partition("parametrizations.")[0].removesuffix("."): one
        for one in known
        if one.magnitude is not None and "parametrizations." in one.weight
    }
    layers: list[Dense] = []
    gaps: list[list[Function]] = []
    for path in called:
        one = _submodule(module, path)
        if isinstance(one, nn.Linear):
            if path not in by_owner:
                return [], []
            layers.append(by_owner[path])
            gaps.append([])
        elif layers and (function := _function(one, path)) is not None:
            gaps[-1].append(function)
    return layers, [tuple(gap) or None for gap in gaps]


def _function(module: Any, path: str) -> Function | None:
    """Return the function of an activation of ``torch.nn``, or None for another module."""
    kind = type(module)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if torch_layers.role(name) != "activation":
        return None
    if kind.__name__ == "ReLU":
        return leaky(0.0)
    if kind.__name__ == "LeakyReLU":
        slope = float(module.negative_slope)
        return Function(Activation("leaky_relu", slope), leaky(slope).compute)
    if kind.__name__ == "PReLU":
        weight = f"{path}.weight"
        step = Activation("prelu", float(module.weight.detach().mean()))
        return Function(step, lambda z, values: np.where(z < 0.0, values[weight] * z, z))
    return _of_torch(kind.__name__, lambda z: kind.forward(module, z))


def _of_torch(name: str, function: Callable[[Any], Any]) -> Function:
    """Return a function that PyTorch computes."""
    torch = sys.modules["torch"]

    def compute(z: FloatArray, _: Values) -> FloatArray:
        with torch.no_grad():
            made: FloatArray = function(torch.from_numpy(z.copy())).numpy()
        return made

    return Function(Activation(name), compute)


def _orders(known: Sequence[Dense], contents: Contents) -> Iterator[list[Dense]]:
    """Yield the stored order, and one that the shapes allow if all layers are ``nn.Linear``."""
    yield list(known)
    shapes = [contents.tensors[dense.weight].shape for dense in known]
    if all(dense.layout == "out_in" for dense in known):
        found = ordering.shape_order([orientations.width(shape, "out_in") for shape in shapes])
        if found is not None:
            yield [known[i] for i in found[0]]


def _turned(
    layers: Sequence[Dense], gaps: Sequence[Gap] | None, contents: Contents
) -> Iterator[Proposal]:
    """Yield layers in all orientations in which each has the inputs that the one before makes."""
    shapes = [contents.tensors[dense.weight].shape for dense in layers]
    free = [dense.layout is None for dense in layers]
    if not layers or sum(free) > _MOST_ORIENTATIONS:
        return
    behind = tuple(gaps) if gaps is not None else (None,) * len(layers)
    for chosen in itertools.product(*(ORIENTATIONS if f else ("out_in",) for f in free)):
        widths = [orientations.width(*pair) for pair in zip(shapes, chosen, strict=True)]
        fits = all(
            dense.bias is None or contents.tensors[dense.bias].array.size == width[1]
            for dense, width in zip(layers, widths, strict=True)
        )
        if fits and ordering.chains(widths):
            turned = (replace(d, layout=how) for d, how in zip(layers, chosen, strict=True))
            yield Proposal(tuple(turned), behind)


def _submodule(module: Any, path: str) -> Any:
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None
