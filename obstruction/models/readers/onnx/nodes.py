"""What the nodes of an ONNX graph do with neurons, and why some keep no balance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from obstruction.models.readers.onnx.constants import Constant, ints, number

NeuronAxis: TypeAlias = Literal["last", "rows"] | None
"""The axis of a value along which neurons lie: the last one, the one before it, or not known."""

QUANTISED: Final = "the weights are quantised"
CONSTANT: Final = "a constant is added, multiplied or compared with"
JOINED: Final = "the outputs are joined with those of other layers"
OTHER: Final = "nodes are not audited"

_REAL: Final = frozenset({1, 10, 11, 16})  # float, float16, double, bfloat16
_NORMALISED: Final = "normalisation makes the outputs independent of the scale of the weights"

_REASONS: Final = {
    "BatchNormalization": f"batch {_NORMALISED}",
    "LayerNormalization": f"layer {_NORMALISED}",
    "Add": "a skip connection adds outputs of other layers",
    "Sum": "a skip connection adds outputs of other layers",
    "Concat": JOINED,
    "Mul": "the outputs of different layers are multiplied",
    "Transpose": "the axes are exchanged",
}
_FAMILIES: Final = {
    "uantize": QUANTISED,
    "QLinear": QUANTISED,
    "QGemm": QUANTISED,
    "Integer": QUANTISED,
    "NBits": QUANTISED,
    "Normalization": _NORMALISED,
    "Conv": "convolutions are not audited",
    "Pool": "pooling mixes the outputs",
    "Attention": "attention is not audited",
    "LSTM": "recurrent layers are not audited",
    "GRU": "recurrent layers are not audited",
    "RNN": "recurrent layers are not audited",
}


def reason_of(kind: str, lone: list[str]) -> str:
    """Return why no balance is conserved across a node of which at most one input varies."""
    if lone and kind in ("Add", "Sum", "Sub", "Mul", "Div", "Max", "Min", "Pow"):
        return CONSTANT
    if kind in _REASONS:
        return _REASONS[kind]
    for part, why in _FAMILIES.items():
        if part in kind:
            return why
    return f"{kind} {OTHER}"


def joined(node: Any, data: list[str]) -> Literal["sum", "concat"] | None:
    """Return whether a node adds or concatenates its inputs, None if it does neither."""
    if len(data) < 2 or data != list(node.input):
        return None
    if node.op_type in ("Add", "Sum"):
        return "sum"
    return "concat" if node.op_type == "Concat" and number(node, "axis", 0.0) in (1, -1) else None


def is_partial(node: Any, constants: Mapping[str, Constant]) -> bool:
    """Return whether only a part or combinations of neurons may be seen behind a node.

    Graphs do not hold the numbers of axes, so that neurons may lie along any axis but the first.
    """
    kind = node.op_type
    if node.domain == "ai.onnx.ml":
        return bool(kind == "ArrayFeatureExtractor" and node.input[0] not in constants)
    if node.domain not in ("", "ai.onnx") or node.input[0] in constants:
        return False
    if kind in ("GatherElements", "GatherND", "TopK", "Compress", "Split"):
        return True
    if kind == "Gather":
        return bool(number(node, "axis", 0.0) != 0.0)
    if kind == "Slice" or kind.startswith("Reduce"):
        at = 3 if kind == "Slice" else 1
        axes = ints(node, "axes")
        if len(node.input) > at and node.input[at] in constants:
            told = constants[node.input[at]].tensor
            axes = [] if told is None else [int(n) for n in told.array.ravel()]
        return axes != [0]
    return False


def is_real(node: Any) -> bool:
    """Return whether the output of a node holds floating-point numbers."""
    return node.op_type != "Cast" or number(node, "to", 1.0) in _REAL


def captured(node: Any) -> Iterator[str]:
    """Yield the names of values that graphs inside a node use."""
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs] if attribute.type in (5, 10) else []:
            for inner in graph.node:
                yield from inner.input
                yield from captured(inner)


def moved_axis(node: Any, axis: NeuronAxis) -> NeuronAxis:
    """Return the axis of the neurons behind a ``Transpose``, None if it is a third one."""
    order = ints(node, "perm")
    rank = len(order)
    if axis is None or rank < 2 or sorted(order) != list(range(rank)):
        return None
    place = order.index(rank - 1 if axis == "last" else rank - 2)
    return "last" if place == rank - 1 else "rows" if place == rank - 2 else None
