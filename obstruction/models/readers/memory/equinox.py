"""Modules of Equinox in memory, which are trees of arrays with the classes of layers.

This module never imports JAX or Equinox, which must be loaded already if an object is of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from numpy.typing import NDArray

from obstruction.models.activations import is_activation
from obstruction.models.contents import (
    Activation,
    Barrier,
    Contents,
    Dense,
    Step,
    UnreadableModel,
)
from obstruction.models.operations.graphs import operation_chain
from obstruction.models.readers.memory.tensors import as_tensors, check_changes, is_array, like

OBJECTS: Final = "a module of Equinox"

_NOT_RUN: Final = (
    "a module of Equinox is not run without inputs=, so the order of its layers and their "
    "activation are told by names, shapes and options and not verified"
)


def matches(source: Any) -> bool:
    """Return whether an object is a module of Equinox."""
    equinox = sys.modules.get("equinox")
    return equinox is not None and isinstance(source, equinox.Module)


def read(source: Any) -> Contents:
    """Return the arrays of a module, whose names are the attributes and indices joined by ``/``.

    The layers of an ``MLP`` or a ``Sequential`` are in forward order, with their activations. Those
    of another module are told by names and shapes.
    """
    held = _held(source)
    if not held:
        raise UnreadableModel(f"{type(source).__name__}: the module of Equinox has no arrays")
    tensors = as_tensors(held)
    nn = sys.modules["equinox"].nn
    if type(source) in (nn.MLP, nn.Sequential, nn.Linear):
        graph = operation_chain(_steps(source, ""))
        return Contents("Equinox module", tensors, None, graph)
    layers = {f"{name}/weight" if name else "weight" for name in _linears(source)}
    known = all(name in layers for name, tensor in tensors.items() if tensor.array.ndim == 2)
    return Contents("Equinox module", tensors, "out_in" if known else None, notes=(_NOT_RUN,))


def updated(source: Any, changes: Mapping[str, NDArray[Any]], *, inplace: bool) -> Any:
    """Return a module with new values in some arrays; modules of Equinox allow no ``inplace``."""
    check_changes(changes, _held(source))
    if inplace:
        raise ValueError("inplace = True: a module of Equinox cannot be changed in place")
    tree = sys.modules["jax"].tree_util
    pairs, structure = tree.tree_flatten_with_path(source)
    leaves = [
        like(leaf, changes[_name(path)]) if _name(path) in changes else leaf for path, leaf in pairs
    ]
    return tree.tree_unflatten(structure, leaves)


def _held(source: Any) -> dict[str, Any]:
    """Return the arrays of numbers of a module, without those of random keys."""
    pairs, _ = sys.modules["jax"].tree_util.tree_flatten_with_path(source)
    return {_name(path): leaf for path, leaf in pairs if is_array(leaf)}


def _linears(source: Any) -> Iterator[str]:
    """Yield the names of all ``Linear`` layers in a module."""
    kind = sys.modules["equinox"].nn.Linear
    tree = sys.modules["jax"].tree_util
    pairs, _ = tree.tree_flatten_with_path(source, is_leaf=lambda one: isinstance(one, kind))
    yield from (_name(path) for path, leaf in pairs if type(leaf) is kind)


def _name(path: tuple[Any, ...]) -> str:
    keys = (getattr(key, "name", getattr(key, "idx", getattr(key, "key", key))) for key in path)
    return "/".join(map(str, keys))


def _steps(module: Any, name: str) -> Iterator[Step]:
    """Yield the steps of a module of a known class."""
    nn, kind = sys.modules["equinox"].nn, type(module)
    start = f"{name}/" if name else ""
    label = name or kind.__name__
    if kind is nn.Linear:
        if module.weight.ndim != 2:
            yield Barrier(label, "its weights are stacked")
            return
        bias = f"{start}bias" if module.bias is not None else None
        yield Dense(label, f"{start}weight", bias, "out_in")
    elif kind is nn.MLP:
        last = len(module.layers) - 1
        for i, layer in enumerate(module.layers):
            yield from _steps(layer, f"{start}layers/{i}")
            if i < last:
                yield _function(module.activation, f"{start}activation")
        ending = _function(module.final_activation, f"{start}final_activation")
        if isinstance(ending, Activation) and ending.name:
            yield ending
    elif kind is nn.Sequential:
        for i, layer in enumerate(module.layers):
            yield from _steps(layer, f"{start}layers/{i}")
    elif kind is nn.Lambda:
        yield _function(module.fn, label)
    elif kind not in (nn.Dropout, nn.Identity):
        yield _function(module, label)


def _function(function: Any, label: str) -> Step:
    """Return a function as an activation, without a name if it is not one of ``jax.nn``."""
    nn = sys.modules["equinox"].nn
    if type(function) is nn.PReLU:
        slopes = as_tensors({label: function.negative_slope})[label].array
        uniform = bool(slopes.size) and bool((slopes == slopes.flat[0]).all())
        return Activation("prelu", float(slopes.flat[0]) if uniform else 0.0)
    if isinstance(function, sys.modules["equinox"].Module):
        return Barrier(label, f"what {type(function).__name__!r} does is not known")
    name = getattr(function, "__name__", "")
    module = getattr(function, "__module__", "") or ""
    if module.startswith("jax.") and is_activation(name):
        return Activation(name, 0.01 if name == "leaky_relu" else 0.0)
    return Activation("")
