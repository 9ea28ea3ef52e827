"""ONNX files: the graph from input to output, and the weights that its nodes use.

Layers are told by what nodes do (``Gemm``, ``MatMul`` with ``Add``), never by the names of tensors,
which exporters change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.models.activations import check_activation
from obstruction.models.contents import (
    FLOATS,
    Activation,
    Barrier,
    Contents,
    Dataflow,
    Dense,
    Join,
    Node,
    Step,
    Tensor,
    UnreadableModel,
)
from obstruction.models.operations.chains import BRANCHES, JOINS, chained, fenced
from obstruction.models.operations.regrouping import Regrouping
from obstruction.models.readers.files import fitting, told_as
from obstruction.models.readers.onnx.tensors import Store

FORMAT: Final = "ONNX"
SUFFIXES: Final = (".onnx",)

Axis: TypeAlias = Literal["last", "rows"] | None
"""Which axis of a value belongs to the neurons: the last, the one before, or not known yet."""

_SAME: Final = frozenset({"Identity", "Dropout", "Cast", "CastLike"})
_RESHAPED: Final = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_REAL: Final = frozenset({1, 10, 11, 16})  # float, float16, double, bfloat16
_QUANTISED: Final = "the weights are quantised"
_NORMALISED: Final = "normalisation makes the outputs independent of the scale of the weights"
_UNREAD: Final = "the weights are of a type that is not read"
_OTHER: Final = "nodes are not audited"
_CONSTANT: Final = "a constant is added, multiplied or compared with"

_REASONS: Final = {
    "BatchNormalization": f"batch {_NORMALISED}",
    "LayerNormalization": f"layer {_NORMALISED}",
    "Add": "a skip connection adds outputs of other layers",
    "Sum": "a skip connection adds outputs of other layers",
    "Concat": "the outputs are joined with those of other layers",
    "Mul": "the outputs of different layers are multiplied",
    "Transpose": "the axes are exchanged",
    "Gemm": "the product is not one of outputs with fixed weights",
    "MatMul": "the product is not one of outputs with fixed weights",
}
_FAMILIES: Final = {
    "uantize": _QUANTISED,
    "QLinear": _QUANTISED,
    "QGemm": _QUANTISED,
    "Integer": _QUANTISED,
    "NBits": _QUANTISED,
    "Normalization": _NORMALISED,
    "Conv": "convolutions are not audited",
    "Pool": "pooling mixes the outputs",
    "Attention": "attention is not audited",
    "LSTM": "recurrent layers are not audited",
    "GRU": "recurrent layers are not audited",
    "RNN": "recurrent layers are not audited",
}


def matches(head: bytes, path: Path) -> bool:
    """Return whether a file begins like an ONNX model, or is called one.

    Parameters
    ----------
    head : bytes
        The first 4096 bytes. A model has its version first, then its producer or its graph.
    path : Path
        The file.
    """
    tags = b"\x12\x1a\x22\x28\x32\x3a\x42\x72"
    if len(head) > 8 and head[0] == 8 and 0 < head[1] < 64 and head[2] in tags and head[8] != 0x7B:
        return True
    return path.suffix.lower() == ".onnx"


def read(path: Path) -> Contents:
    """Return the tensors of an ONNX model and its steps.

    Raises
    ------
    UnreadableModel
        If the file is damaged or unsafe, or if the package onnx is not installed.
    """
    store = Store(path)
    with told_as(UnreadableModel, path):
        graph = _Graph(store.model, store.tensors)
        steps = graph.steps()
    results = tuple(output.name for output in graph.graph.output)
    nodes = [replace(node, steps=fenced(node.steps, graph.is_elsewhere)) for node in graph.nodes]
    flow = Dataflow(tuple(nodes), results)
    steps = fenced(steps, graph.is_elsewhere)
    shared = _copies(store.tensors, [step.weight for step in steps if isinstance(step, Dense)])
    return Contents("ONNX", store.tensors, None, steps, shared, tuple(store.notes), flow)


def write(path: Path, changes: Mapping[str, NDArray[Any]], out: Path) -> None:
    """Write a copy of an ONNX model in which some tensors have other values.

    Parameters
    ----------
    path : Path
        The file.
    changes : mapping of str to ndarray
        New values by the names of `Contents.tensors`, in stored shape and type.
    out : Path
        Where the copy goes; it may be ``path``. Numbers that the model keeps in a file beside it
        go into a file beside the copy, called ``<out>.data``.

    Raises
    ------
    UnreadableModel
        If ``path`` cannot be read.
    ValueError
        If a change does not fit, or ``out`` cannot be written.
    """
    store = Store(path)
    store.write(fitting(changes, store.tensors), out)


@dataclass(frozen=True)
class _Constant:
    """A value that does not depend on the input: a stored tensor, turned about, or a reason.

    ``axes[i]`` is the stored axis that axis ``i`` is, None for a new one of length 1.
    """

    tensor: Tensor | None = None
    axes: tuple[int | None, ...] = ()
    reason: str = "the weights are computed in the graph"

    @property
    def shape(self) -> tuple[int, ...]:
        assert self.tensor is not None
        return tuple(1 if axis is None else self.tensor.shape[axis] for axis in self.axes)

    def reshaped(self, shape: tuple[int, ...]) -> _Constant:
        """Return it with axes of length 1 put elsewhere; any other change of shape hides it."""
        left = [axis for axis, n in zip(self.axes, self.shape, strict=True) if n != 1]
        if [n for n in self.shape if n != 1] != [n for n in shape if n != 1]:
            return _Constant(reason="the weights change their shape in the graph")
        kept = iter(left)
        return replace(self, axes=tuple(None if n == 1 else next(kept) for n in shape))

    def matrix(self) -> tuple[Tensor, bool]:
        """Return the stored matrix, and whether it is used transposed; ValueError if it is none."""
        tensor = self.tensor
        if tensor is None:
            raise ValueError(self.reason)
        if tensor.dtype not in FLOATS:
            raise ValueError(f"the weights are of type {tensor.dtype}")
        if len(tensor.shape) != 2 or len(self.axes) != 2:
            raise ValueError(f"the weights have the shape {tensor.shape}")
        spare = iter(sorted({0, 1} - set(self.axes)))  # stored axes of length 1
        axes = tuple(next(spare) if axis is None else axis for axis in self.axes)
        return tensor, axes == (1, 0)


class _Graph:
    """The nodes of an ONNX graph as steps."""

    def __init__(self, model: Any, tensors: Mapping[str, Tensor]) -> None:
        self.graph = model.graph
        self.functions = {(function.domain, function.name) for function in model.functions}
        self.constants = {
            name: _Constant(tensor, tuple(range(len(tensor.shape))))
            for name, tensor in tensors.items()
        }
        for proto in self.graph.initializer:
            self.constants.setdefault(proto.name, _Constant(reason=_UNREAD))
        for sparse in self.graph.sparse_initializer:
            self.constants[sparse.values.name] = _Constant(reason="the weights are sparse")
        self.axis: dict[str, Axis] = {}
        self.regrouping = Regrouping()
        self.nodes: list[Node] = []
        self.made: dict[str, int] = {}
        results = [output.name for output in self.graph.output]
        self.elsewhere: set[str] = set()  # stored tensors that are read by no layer
        self.read_alone(results)
        self.uses = Counter(results)
        for node in self.graph.node:
            self.uses.update([*node.input, *_captured(node)])

    def steps(self) -> tuple[Step, ...]:
        """Return the steps from the inputs to the outputs."""
        for node in self.graph.node:
            if not node.output:
                continue
            names = [*node.input, *_captured(node)]
            data = [name for name in names if name and name not in self.constants]
            if not data and node.op_type not in ("RandomNormal", "RandomUniform"):
                self.constant(node, names)
            elif not self.is_bias(node, data):
                self.made[node.output[0]] = len(self.nodes)
                inner = self.regrouping.followed(
                    data,
                    node.output[0],
                    tuple(self.of(node, data)),
                    reshapes=node.op_type in _RESHAPED,
                    second_axis=_number(node, "axis", 0.0) == 1,
                )
                layers = [step for step in inner if isinstance(step, Dense)]
                used = {name for layer in layers for name in (layer.weight, layer.bias)}
                self.read_alone(names, used)
                self.nodes.append(Node(tuple(data), tuple(filter(None, node.output)), inner))
        found = chained(self.nodes, [output.name for output in self.graph.output])
        last = max((i for i, step in enumerate(found) if isinstance(step, Dense)), default=-1)
        rest = list(found[last + 1 :])
        if last >= 0:  # what turns the outputs of the last layer into labels and the like
            while rest and isinstance(rest[-1], Barrier) and _is_plain(rest[-1]):
                rest.pop()
        return (*found[: last + 1], *rest)

    def read_alone(self, names: Iterable[str], used: Collection[str | None] = ()) -> None:
        """Remember the stored tensors that values are, but for those that a layer uses."""
        tensors = [self.constants[name].tensor for name in names if name in self.constants]
        self.elsewhere.update(told.name for told in tensors if told and told.name not in used)

    def is_elsewhere(self, layer: Dense) -> bool:
        """Return whether the weights of a layer are also read by something else."""
        return not self.elsewhere.isdisjoint({layer.weight, layer.bias})

    def constant(self, node: Any, names: Iterable[str]) -> None:
        """Follow a node that turns a stored tensor about."""
        kind, given = node.op_type, self.constants.get(node.input[0] if node.input else "")
        made = _Constant()
        if "uantize" in kind:
            made = _Constant(reason=_QUANTISED)
        elif (given is not None and given.tensor is None) or (given is not None and kind in _SAME):
            made = given
        elif given is not None and kind == "Transpose":
            order = _ints(node, "perm") or list(reversed(range(len(given.axes))))
            if sorted(order) == list(range(len(given.axes))):
                made = replace(given, axes=tuple(given.axes[i] for i in order))
        elif given is not None and kind in _RESHAPED:
            shape = self.new_shape(node, given.shape)
            made = given.reshaped(shape) if shape is not None else made
        if made.tensor is None and kind not in ("Shape", "Size"):
            self.read_alone(names)
        for output in node.output:
            if output not in self.constants or kind != "Constant":
                self.constants[output] = made

    def new_shape(self, node: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the shape into which a node brings a constant, None if it does not say."""
        wanted = _ints(node, "axes")
        if len(node.input) > 1 and node.input[1]:
            told = self.constants[node.input[1]].tensor
            if told is None or told.array.size > 16 or told.array.dtype.kind != "i":
                return None
            wanted = [int(n) for n in told.array.ravel()]
        if node.op_type == "Reshape":
            kept = [shape[i] if n == 0 and i < len(shape) else n for i, n in enumerate(wanted)]
            known, total = 1, 1
            for n in kept:
                known *= n if n != -1 else 1
            for n in shape:
                total *= n
            return tuple(total // max(known, 1) if n == -1 else n for n in kept)
        if node.op_type == "Squeeze":
            gone = {n % len(shape) for n in wanted} if wanted and shape else None
            return tuple(
                n for i, n in enumerate(shape) if not (n == 1 if gone is None else i in gone)
            )
        if node.op_type == "Unsqueeze":
            rank = len(shape) + len(wanted)
            new, old = {n % rank for n in wanted}, iter(shape)
            return tuple(1 if i in new else next(old, 1) for i in range(rank))
        return None

    # --- nodes that depend on the input ------------------------------------------------------

    def is_bias(self, node: Any, data: list[str]) -> bool:
        """Give a layer the biases that a node adds to it; return whether it is such a node."""
        if node.op_type != "Add" or len(node.input) != 2 or len(data) != 1:
            return False
        at = self.made.get(data[0])
        if at is None or self.uses[data[0]] != 1 or len(self.nodes[at].steps) != 1:
            return False
        layer = self.nodes[at].steps[0]
        if not isinstance(layer, Dense) or layer.bias is not None or len(node.output) != 1:
            return False
        other = node.input[1] if node.input[0] == data[0] else node.input[0]
        bias = self.bias(other, layer, self.axis.get(data[0]))
        if bias is None:
            return False
        output = node.output[0]
        self.nodes[at] = replace(
            self.nodes[at], outputs=(output,), steps=(replace(layer, bias=bias),)
        )
        self.made[output], self.axis[output] = at, self.axis.get(data[0])
        self.regrouping.followed(data, output, ())
        return True

    def bias(self, name: str, layer: Dense, axis: Axis) -> str | None:
        """Return the tensor of biases that a constant is, one for each output, or None."""
        told = self.constants.get(name)
        weight = self.constants[layer.weight].tensor
        if told is None or told.tensor is None or weight is None or told.tensor.dtype not in FLOATS:
            return None
        outputs = weight.shape[0 if layer.layout == "out_in" else 1]
        shape = told.shape
        if axis == "rows":
            fits = len(shape) >= 2 and shape[-2:] == (outputs, 1) and set(shape[:-2]) <= {1}
        else:
            fits = bool(shape) and shape[-1] == outputs and set(shape[:-1]) <= {1}
        return told.tensor.name if fits else None

    def of(self, node: Any, data: list[str]) -> Iterator[Step]:
        """Yield what a node is for the audit, and note which axis of its output is the neurons'."""
        kind, name = node.op_type, node.name or node.output[0]
        axis = self.axis.get(data[0])
        if (node.domain, kind) in self.functions:
            yield Barrier(name, f"{kind} is a function of the model, which is not opened")
        elif node.domain not in ("", "ai.onnx"):
            yield Barrier(name, self.reason(f"{node.domain}.{kind}", data))
        elif kind in ("Gemm", "MatMul") and len(node.input) >= 2:
            yield from self.product(node, name, data, axis)
        elif len(data) == 1 and data[0] in node.input[:1] and kind in _SAME and _is_real(node):
            self.axis[node.output[0]] = axis
        elif len(data) == 1 and data[0] in node.input[:1] and kind in _RESHAPED and axis != "rows":
            # the widths of the layers on both sides agree only if the last axis stays as it is
            self.axis[node.output[0]] = axis
        elif kind == "Transpose" and (axis is None or (moved := _moved(node, axis)) is not None):
            self.axis[node.output[0]] = None if axis is None else moved
        elif (applied := self.activation(node, data)) is not None:
            self.axis[node.output[0]] = axis
            yield applied
        elif (operation := _joined(node, data)) is not None and (
            common := self.common_axis(data)
        ) in ("last", "rows" if operation == "sum" else "last"):
            self.axis[node.output[0]] = common
            yield Join(name, self.reason(kind, []), operation)
        else:
            yield Barrier(name, self.reason(kind, data if len(data) < 2 else []))

    def common_axis(self, data: list[str]) -> Axis:
        """Return which axis of all values that hold neurons is theirs, None if they differ."""
        axes = {self.axis.get(name) for name in data if self.regrouping.holds_neurons(name)}
        return axes.pop() if len(axes) == 1 else None if axes else "last"

    def reason(self, kind: str, lone: list[str]) -> str:
        """Return why no balance is kept across a node, which has one input that is no constant."""
        if lone and kind in ("Add", "Sum", "Sub", "Mul", "Div", "Max", "Min", "Pow"):
            return _CONSTANT
        if kind in _REASONS:
            return _REASONS[kind]
        for part, why in _FAMILIES.items():
            if part in kind:
                return why
        return f"{kind} {_OTHER}"

    def product(self, node: Any, name: str, data: list[str], axis: Axis) -> Iterator[Step]:
        """Yield the layer that a ``Gemm`` or ``MatMul`` with weights is."""
        gemm = node.op_type == "Gemm"
        first = node.input[0] in self.constants
        weight = self.constants.get(node.input[0] if first else node.input[1])
        here: Axis = "rows" if first else "last"
        turned = gemm and (_number(node, "transA", 0.0) != 0.0 or first)
        if weight is None or len(data) != 1 or turned or axis not in (None, here):
            yield Barrier(name, _REASONS[node.op_type])
            return
        try:
            tensor, transposed = weight.matrix()
        except ValueError as problem:
            yield Barrier(name, str(problem))
            return
        outputs_first = first or (gemm and _number(node, "transB", 0.0) != 0.0)
        layer = Dense(
            tensor.name.removesuffix(".weight") if tensor.name.endswith(".weight") else name,
            tensor.name,
            layout="out_in" if outputs_first != transposed else "in_out",
            factor=_number(node, "alpha", 1.0) if gemm else 1.0,
            bias_factor=_number(node, "beta", 1.0) if gemm else 1.0,
        )
        if gemm and len(node.input) > 2 and node.input[2]:
            bias = self.bias(node.input[2], layer, here)
            if bias is None:
                yield Barrier(name, "the biases are not one stored number for each output")
                return
            layer = replace(layer, bias=bias)
        self.axis[node.output[0]] = here
        yield layer

    def activation(self, node: Any, data: list[str]) -> Activation | None:
        """Return the activation that a node applies to its only input that is no constant."""
        kind, names = node.op_type, list(node.input)
        if len(data) != 1 or not names or (kind != "Max" and names[0] != data[0]):
            return None
        if kind == "PRelu":
            told = self.constants[names[1]].tensor if len(names) == 2 and names[1] else None
            if told is None:
                return None
            uniform = told.array.size > 0 and bool((told.array == told.array.flat[0]).all())
            return Activation("PRelu", float(told.array.flat[0]) if uniform else 0.0)
        if kind == "Max":
            others = [self.scalar(name) for name in names if name != data[0]]
            return Activation("relu") if others == [0.0] else None
        if kind == "Clip":
            ends = [self.scalar(name) if name else None for name in [*names[1:], "", ""][:2]]
            low, high = _number(node, "min", ends[0]), _number(node, "max", ends[1])
            if any(names[1:][i] and ends[i] is None for i in range(len(names[1:3]))):
                return None
            if low == 0.0 and high is None:
                return Activation("relu")
            return Activation("relu6" if (low, high) == (0.0, 6.0) else "Clip")
        try:
            check_activation(kind)
        except ValueError:
            return None
        return Activation(kind, _number(node, "alpha", 0.01) if kind == "LeakyRelu" else 0.0)

    def scalar(self, name: str) -> float | None:
        constant = self.constants.get(name)
        tensor = constant.tensor if constant is not None else None
        single = tensor is not None and tensor.array.size == 1
        return float(tensor.array.flat[0]) if single and tensor is not None else None


def _copies(tensors: Mapping[str, Tensor], layers: Iterable[str]) -> tuple[frozenset[str], ...]:
    """Return which weights of layers are the same, perhaps transposed, and not all one number.

    Exporters store weights that two layers share twice where one of them uses them transposed.
    """
    alike: dict[tuple[Any, ...], list[list[str]]] = {}
    for name in dict.fromkeys(layers):
        array = tensors[name].array
        if array.ndim != 2 or not array.size or (array == array.flat[0]).all():
            continue
        # corners stay where they are
        key = (array.dtype, *sorted(array.shape), array.flat[0], array.flat[-1])
        groups = alike.setdefault(key, [])
        for group in groups:
            other = tensors[group[0]].array
            if any(np.array_equal(array, one) for one in (other, other.T)):
                group.append(name)
                break
        else:
            groups.append([name])
    found = [group for groups in alike.values() for group in groups]
    return tuple(frozenset(group) for group in found if len(group) > 1)


def _joined(node: Any, data: list[str]) -> Literal["sum", "concat"] | None:
    """Return how a node joins the outputs of several layers, None if it does something else."""
    if len(data) < 2 or data != list(node.input):
        return None
    if node.op_type in ("Add", "Sum"):
        return "sum"
    return "concat" if node.op_type == "Concat" and _number(node, "axis", 0.0) in (1, -1) else None


def _is_real(node: Any) -> bool:
    """Return whether a node does not turn numbers into whole ones or truth values."""
    return node.op_type != "Cast" or _number(node, "to", 1.0) in _REAL


def _is_plain(barrier: Barrier) -> bool:
    """Return whether a barrier is nothing that a user would look for among the layers."""
    plain = (_CONSTANT, BRANCHES, JOINS, _REASONS["Concat"])
    return barrier.reason in plain or barrier.reason.endswith(_OTHER)


def _captured(node: Any) -> Iterator[str]:
    """Yield the values that the inner graphs of a node use."""
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs] if attribute.type in (5, 10) else []:
            for inner in graph.node:
                yield from inner.input
                yield from _captured(inner)


def _moved(node: Any, axis: Axis) -> Axis:
    """Return where a ``Transpose`` brings the axis of the neurons, None if too far."""
    order = _ints(node, "perm")
    rank = len(order)
    if rank < 2 or sorted(order) != list(range(rank)):
        return None
    place = order.index(rank - 1 if axis == "last" else rank - 2)
    return "last" if place == rank - 1 else "rows" if place == rank - 2 else None


def _ints(node: Any, name: str) -> list[int]:
    for attribute in node.attribute:
        if attribute.name == name:
            return list(attribute.ints)
    return []


def _number(node: Any, name: str, otherwise: Any) -> Any:
    """Return a number that is an attribute of a node, whole or not."""
    for attribute in node.attribute:
        if attribute.name == name:
            return float(attribute.i if attribute.type == 2 else attribute.f)
    return otherwise
