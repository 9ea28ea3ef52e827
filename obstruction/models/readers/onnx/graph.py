"""Read the tensors and the graph of operations of an ONNX file.

A fully connected layer is recognised by its nodes: ``Gemm``, or ``MatMul`` followed by ``Add``. The
names of tensors are not used for this, because exporters change them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.models.activations import is_activation
from obstruction.models.contents import (
    FLOATS,
    Activation,
    Barrier,
    Contents,
    Dense,
    Join,
    Operation,
    OperationGraph,
    Step,
    Tensor,
    UnreadableModel,
)
from obstruction.models.operations.graphs import operation_graph
from obstruction.models.readers.files import fitting, told_as
from obstruction.models.readers.onnx.tensors import Store

FORMAT: Final = "ONNX"
SUFFIXES: Final = (".onnx",)

NeuronAxis: TypeAlias = Literal["last", "rows"] | None
"""The axis of a value along which neurons lie: the last one, the one before it, or not known."""

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
    """Return whether a file begins like an ONNX model, with a version and a producer or graph."""
    tags = b"\x12\x1a\x22\x28\x32\x3a\x42\x72"
    if len(head) > 8 and head[0] == 8 and 0 < head[1] < 64 and head[2] in tags and head[8] != 0x7B:
        return True
    return path.suffix.lower() == ".onnx"


def read(path: Path) -> Contents:
    """Return the tensors of an ONNX model and the graph of its operations."""
    store = Store(path)
    with told_as(UnreadableModel, path):
        graph = _Reading(store.model, store.tensors).graph()
    layers = [one for found in graph.operations for one in found.steps if isinstance(one, Dense)]
    shared = _copies(store.tensors, [layer.weight for layer in layers])
    return Contents("ONNX", store.tensors, None, graph, shared, tuple(store.notes))


def write(path: Path, changes: Mapping[str, NDArray[Any]], out: Path) -> None:
    """Write a copy with new numbers in some tensors.

    If the model keeps numbers in a file beside it, so does the copy, in ``<out>.data``.
    """
    store = Store(path)
    store.write(fitting(changes, store.tensors), out)


@dataclass(frozen=True)
class _Constant:
    """A value that does not depend on an input of the model.

    It is a stored tensor, perhaps with its axes in another order. Axis ``i`` is the stored axis
    ``axes[i]``, or a new axis of length 1 if ``axes[i]`` is None. Without a tensor, `reason` says
    why the value cannot be weights.
    """

    tensor: Tensor | None = None
    axes: tuple[int | None, ...] = ()
    reason: str = "the weights are computed in the graph"

    @property
    def shape(self) -> tuple[int, ...]:
        assert self.tensor is not None
        return tuple(1 if axis is None else self.tensor.shape[axis] for axis in self.axes)

    def reshaped(self, shape: tuple[int, ...]) -> _Constant:
        """Return the constant with axes of length 1 moved, else one that cannot be weights."""
        left = [axis for axis, n in zip(self.axes, self.shape, strict=True) if n != 1]
        if [n for n in self.shape if n != 1] != [n for n in shape if n != 1]:
            return _Constant(reason="the weights change their shape in the graph")
        kept = iter(left)
        return replace(self, axes=tuple(None if n == 1 else next(kept) for n in shape))

    def matrix(self) -> tuple[Tensor, bool]:
        """Return the stored matrix and whether it is used transposed.

        A ValueError says why this is no stored matrix of floating-point numbers.
        """
        tensor = self.tensor
        if tensor is None:
            raise ValueError(self.reason)
        if tensor.dtype not in FLOATS:
            raise ValueError(f"the weights are of type {tensor.dtype}")
        if len(tensor.shape) != 2 or len(self.axes) != 2:
            raise ValueError(f"the weights have the shape {tensor.shape}")
        spare = iter(sorted({0, 1} - set(self.axes)))  # stored axes, of length 1, that are left
        axes = tuple(next(spare) if axis is None else axis for axis in self.axes)
        return tensor, axes == (1, 0)


class _Reading:
    """Turns the nodes of an ONNX graph into operations, in the order of the file."""

    def __init__(self, model: Any, tensors: Mapping[str, Tensor]) -> None:
        self.proto = model.graph
        self.results = [output.name for output in self.proto.output]
        self.functions = {(function.domain, function.name) for function in model.functions}
        self.constants = {
            name: _Constant(tensor, tuple(range(len(tensor.shape))))
            for name, tensor in tensors.items()
        }
        for proto in self.proto.initializer:
            self.constants.setdefault(proto.name, _Constant(reason=_UNREAD))
        for sparse in self.proto.sparse_initializer:
            self.constants[sparse.values.name] = _Constant(reason="the weights are sparse")
        self.axis: dict[str, NeuronAxis] = {}
        self.neurons: set[str] = set()  # values that hold outputs of a layer
        self.operations: list[Operation] = []
        self.made: dict[str, int] = {}  # the operation that makes a value
        self.elsewhere: set[str] = set()  # stored tensors that are used outside layers
        self.use(self.results)
        self.uses = Counter(self.results)
        for node in self.proto.node:
            self.uses.update([*node.input, *_captured(node)])

    def graph(self) -> OperationGraph:
        """Return the graph of all operations."""
        for node in self.proto.node:
            if not node.output:
                continue
            names = [*node.input, *_captured(node)]
            data = [name for name in names if name and name not in self.constants]
            if not data and node.op_type not in ("RandomNormal", "RandomUniform"):
                self.constant(node, names)
            elif not self.is_bias(node, data):
                self.add(node, names, data)
        return operation_graph(
            self.operations,
            self.results,
            lambda layer: not self.elsewhere.isdisjoint({layer.weight, layer.bias}),
        )

    def add(self, node: Any, names: Iterable[str], data: list[str]) -> None:
        """Add the operation of a node; `data` are its inputs that are no constants."""
        steps = tuple(self.of(node, data))
        layers = [step for step in steps if isinstance(step, Dense)]
        self.use(names, {name for layer in layers for name in (layer.weight, layer.bias)})
        passes = all(isinstance(step, (Activation, Join)) for step in steps)
        if layers or (passes and not self.neurons.isdisjoint(data)):
            self.neurons.add(node.output[0])
        self.made[node.output[0]] = len(self.operations)
        outputs = tuple(filter(None, node.output))
        reshapes = node.op_type in _RESHAPED
        self.operations.append(Operation(tuple(data), outputs, steps, reshapes))

    def use(self, names: Iterable[str], by_layer: Collection[str | None] = ()) -> None:
        """Record which stored tensors are used outside layers, given those that a layer uses."""
        tensors = [self.constants[name].tensor for name in names if name in self.constants]
        self.elsewhere.update(told.name for told in tensors if told and told.name not in by_layer)

    def constant(self, node: Any, names: Iterable[str]) -> None:
        """Record the outputs of a node whose inputs are constants."""
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
            self.use(names)
        for output in node.output:
            if output not in self.constants or kind != "Constant":
                self.constants[output] = made

    def new_shape(self, node: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the shape that a node gives a constant, or None if it is not known."""
        wanted = _ints(node, "axes")
        if len(node.input) > 1 and node.input[1]:
            told = self.constants[node.input[1]].tensor
            if told is None or told.array.size > 16 or told.array.dtype.kind != "i":
                return None
            wanted = [int(n) for n in told.array.ravel()]
        if node.op_type == "Reshape":
            kept = [shape[i] if n == 0 and i < len(shape) else n for i, n in enumerate(wanted)]
            known = math.prod(n for n in kept if n != -1)
            return tuple(math.prod(shape) // max(known, 1) if n == -1 else n for n in kept)
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

    # --- nodes that depend on an input --------------------------------------------------------

    def is_bias(self, node: Any, data: list[str]) -> bool:
        """Return whether a node adds biases to a layer, after giving the layer these biases."""
        if node.op_type != "Add" or len(node.input) != 2 or len(data) != 1:
            return False
        at = self.made.get(data[0])
        if at is None or self.uses[data[0]] != 1 or len(self.operations[at].steps) != 1:
            return False
        layer = self.operations[at].steps[0]
        if not isinstance(layer, Dense) or layer.bias is not None or len(node.output) != 1:
            return False
        other = node.input[1] if node.input[0] == data[0] else node.input[0]
        bias = self.bias(other, layer, self.axis.get(data[0]))
        if bias is None:
            return False
        output = node.output[0]
        biased = (replace(layer, bias=bias),)
        self.operations[at] = replace(self.operations[at], outputs=(output,), steps=biased)
        self.made[output], self.axis[output] = at, self.axis.get(data[0])
        self.neurons.add(output)
        return True

    def bias(self, name: str, layer: Dense, axis: NeuronAxis) -> str | None:
        """Return the name of the tensor of a constant with one bias per output, else None."""
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
        """Yield the steps of a node, and record along which axis of its output neurons lie."""
        kind, name = node.op_type, node.name or node.output[0]
        axis = self.axis.get(data[0])
        if (node.domain, kind) in self.functions:
            yield Barrier(name, f"{kind} is a function of the model, which is not opened")
        elif node.domain not in ("", "ai.onnx"):
            yield self.barrier(name, self.reason(f"{node.domain}.{kind}", data))
        elif kind in ("Gemm", "MatMul") and len(node.input) >= 2:
            yield from self.product(node, name, data, axis)
        elif len(data) == 1 and data[0] in node.input[:1] and kind in _SAME and _is_real(node):
            self.axis[node.output[0]] = axis
        elif len(data) == 1 and data[0] in node.input[:1] and kind in _RESHAPED and axis != "rows":
            # the layers before and after it fit each other only if the last axis stays as it is
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
            second = operation == "concat" and _number(node, "axis", 0.0) == 1
            reason, incidental = self.reason(kind, []), operation == "concat"
            yield Join(name, reason, operation, second_axis=second, incidental=incidental)
        else:
            yield self.barrier(name, self.reason(kind, data if len(data) < 2 else []))

    def barrier(self, name: str, reason: str) -> Barrier:
        """Return a barrier, an incidental one if it often follows the last layer."""
        incidental = reason in (_CONSTANT, _REASONS["Concat"]) or reason.endswith(_OTHER)
        return Barrier(name, reason, incidental=incidental)

    def common_axis(self, data: list[str]) -> NeuronAxis:
        """Return the axis of neurons in the values that hold neurons, None if axes differ."""
        axes = {self.axis.get(name) for name in data if name in self.neurons}
        return axes.pop() if len(axes) == 1 else None if axes else "last"

    def reason(self, kind: str, lone: list[str]) -> str:
        """Return why no balance is conserved across a node of which at most one input varies."""
        if lone and kind in ("Add", "Sum", "Sub", "Mul", "Div", "Max", "Min", "Pow"):
            return _CONSTANT
        if kind in _REASONS:
            return _REASONS[kind]
        for part, why in _FAMILIES.items():
            if part in kind:
                return why
        return f"{kind} {_OTHER}"

    def product(self, node: Any, name: str, data: list[str], axis: NeuronAxis) -> Iterator[Step]:
        """Yield a ``Gemm`` or ``MatMul`` as a layer, or as a barrier if it is no layer."""
        gemm = node.op_type == "Gemm"
        first = node.input[0] in self.constants
        weight = self.constants.get(node.input[0] if first else node.input[1])
        here: NeuronAxis = "rows" if first else "last"
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
        """Return the activation that a node applies to its only varying input, else None."""
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
        slope = _number(node, "alpha", 0.01) if kind == "LeakyRelu" else 0.0
        return Activation(kind, slope) if is_activation(kind) else None

    def scalar(self, name: str) -> float | None:
        constant = self.constants.get(name)
        tensor = constant.tensor if constant is not None else None
        single = tensor is not None and tensor.array.size == 1
        return float(tensor.array.flat[0]) if single and tensor is not None else None


def _copies(tensors: Mapping[str, Tensor], layers: Iterable[str]) -> tuple[frozenset[str], ...]:
    """Return the sets of weights that are equal or transposes of each other.

    Exporters store weights that two layers share twice if one layer uses their transpose. Weights
    that are all one number do not count, since they are often equal by chance.
    """
    alike: dict[tuple[Any, ...], list[list[str]]] = {}
    for name in dict.fromkeys(layers):
        array = tensors[name].array
        if array.ndim != 2 or not array.size or (array == array.flat[0]).all():
            continue
        # the first and the last number are the same in a transpose
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
    """Return whether a node adds or concatenates its inputs, None if it does neither."""
    if len(data) < 2 or data != list(node.input):
        return None
    if node.op_type in ("Add", "Sum"):
        return "sum"
    return "concat" if node.op_type == "Concat" and _number(node, "axis", 0.0) in (1, -1) else None


def _is_real(node: Any) -> bool:
    """Return whether the output of a node holds floating-point numbers."""
    return node.op_type != "Cast" or _number(node, "to", 1.0) in _REAL


def _captured(node: Any) -> Iterator[str]:
    """Yield the names of values that graphs inside a node use."""
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs] if attribute.type in (5, 10) else []:
            for inner in graph.node:
                yield from inner.input
                yield from _captured(inner)


def _moved(node: Any, axis: NeuronAxis) -> NeuronAxis:
    """Return the axis of the neurons behind a ``Transpose``, None if it is a third one."""
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
    """Return an attribute of a node that is a number."""
    for attribute in node.attribute:
        if attribute.name == name:
            return float(attribute.i if attribute.type == 2 else attribute.f)
    return otherwise
