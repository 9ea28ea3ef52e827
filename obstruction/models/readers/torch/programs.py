"""Programs that ``torch.export`` made of a module, in memory.

This module never imports PyTorch, which must be loaded already if an object is of it.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

from numpy.typing import NDArray

from obstruction.models.contents import Contents, UnreadableModel
from obstruction.models.readers.memory.tensors import (
    as_tensors,
    check_changes,
    is_torch,
    overlapping_torch,
    overwrite,
)
from obstruction.models.readers.torch.aten import graph_of
from obstruction.models.readers.torch.aten_nodes import Node, Value

OBJECTS: Final = "a program of torch.export"

FORGOTTEN: Final = (
    "an exported program does not say where gradients stop or what hooks and custom backward "
    "passes do; a module is run and tells"
)
"""A note on every program."""


def matches(source: Any) -> bool:
    """Return whether an object is a program of ``torch.export``."""
    exported = sys.modules.get("torch.export")
    return exported is not None and isinstance(source, exported.ExportedProgram)


def read(source: Any) -> Contents:
    """Return the tensors of a program and the graph of its operations."""
    held = _held(source)
    tensors = as_tensors(held)
    places = {one.arg.name: one.target for one in source.graph_signature.input_specs if one.target}
    weights = {name: tensors.get(target) for name, target in places.items()}
    trained = {name for name, value in held.items() if value.requires_grad}
    shared = overlapping_torch(held.items())
    nodes = list(_nodes(source))
    results = [
        one.arg.name
        for one in source.graph_signature.output_specs
        if hasattr(one.arg, "name") and one.arg.name
    ]
    try:
        graph = graph_of(nodes, results, weights, trained)
    except ValueError as problem:
        raise UnreadableModel(f"the program of torch.export: {problem}") from None
    return Contents("program of torch.export", tensors, None, graph, shared, (FORGOTTEN,))


def updated(source: Any, changes: Mapping[str, NDArray[Any]], *, inplace: bool) -> Any:
    """Return a program with new values in some tensors."""
    check_changes(changes, _held(source))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch about its own trees
        target = source if inplace else copy.deepcopy(source)
    overwrite(_held(target), changes)
    return target


def _held(source: Any) -> dict[str, Any]:
    """Return the parameters, buffers and constants of a program."""
    constants = {name: one for name, one in source.constants.items() if is_torch(one)}
    return {**constants, **source.state_dict}


def _nodes(source: Any) -> Iterator[Node]:
    for node in source.graph.nodes:
        if node.op != "call_function":
            continue
        schema = getattr(node.target, "_schema", None)
        names = [one.name for one in schema.arguments] if schema is not None else []
        names += [str(i) for i in range(len(names), len(node.args))]
        given = dict(zip(names, map(_given, node.args), strict=False))
        given |= {name: _given(value) for name, value in node.kwargs.items()}
        made = node.meta.get("val")
        outputs = (node.name,) if _holds_tensors(made) else ()
        yield Node(_target(node.target), given, outputs)


def _target(target: Any) -> str:
    if hasattr(target, "_schema"):
        return str(target)
    space = "_operator" if getattr(target, "__module__", "") == "_operator" else "higher_order"
    return f"{space}.{getattr(target, '__name__', target)}"


def _given(value: Any) -> Any:
    """Return an argument as plain data, with a `Value` in place of a tensor."""
    torch = sys.modules["torch"]
    if isinstance(value, torch.fx.Node):
        return Value(value.name) if _holds_tensors(value.meta.get("val")) else str(value)
    if isinstance(value, (list, tuple)):
        return [_given(one) for one in value]
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    return value


def _holds_tensors(made: Any) -> bool:
    """Return whether a value is a tensor, or a sequence that holds one."""
    if isinstance(made, (list, tuple)):
        return any(map(_holds_tensors, made))
    return is_torch(made)
