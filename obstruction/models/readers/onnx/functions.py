"""Functions of an ONNX model, whose bodies take the places of the nodes that call them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

MOST_NODES: Final = 200_000
"""The largest number of nodes that the bodies of functions may become."""


def inlined(model: Any) -> Any:
    """Return the graph of a model without initialisers, with the bodies of its functions in it.

    The graph is that of the model itself if it has no functions, or if these cannot take the places
    of their calls.
    """
    if not model.functions or _size(model) > MOST_NODES:
        return model.graph
    import onnx
    from onnx import inliner

    bare = onnx.ModelProto(ir_version=model.ir_version)
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    bare.graph.name = model.graph.name
    bare.graph.node.extend(model.graph.node)
    bare.graph.input.extend(model.graph.input)
    bare.graph.output.extend(model.graph.output)
    try:
        return inliner.inline_local_functions(bare).graph
    except Exception:  # which the library raises for models that are not valid
        return model.graph


def _size(model: Any) -> int:
    """Return the number of nodes after all functions are inlined, or more than `MOST_NODES`."""
    bodies = {(one.domain, one.name): one.node for one in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    entered: set[tuple[str, str]] = set()

    def size_of(nodes: Iterable[Any]) -> int:
        total = 0
        for node in _all(nodes):
            key = node.domain, node.op_type
            if key not in bodies:
                total += 1
                continue
            if key not in sizes:
                if key in entered:  # a function that calls itself
                    return MOST_NODES + 1
                entered.add(key)
                sizes[key] = size_of(bodies[key])
            total += sizes[key]
        return min(total, MOST_NODES + 1)

    return size_of(model.graph.node)


def _all(nodes: Iterable[Any]) -> Iterator[Any]:
    """Yield nodes, and those of graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in [attribute.g, *attribute.graphs] if attribute.type in (5, 10) else []:
                yield from _all(graph.node)
