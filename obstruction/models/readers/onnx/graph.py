"""Read the tensors and the graph of operations of an ONNX file.

A fully connected layer is recognised by its nodes: ``Gemm``, or ``MatMul`` followed by ``Add``, and
their like. The names of tensors are not used for this, because exporters change them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

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
from obstruction.models.readers.onnx.constants import Constant, ints, new_shape, number
from obstruction.models.readers.onnx.functions import inlined
from obstruction.models.readers.onnx.nodes import (
    CONSTANT,
    JOINED,
    OTHER,
    QUANTISED,
    NeuronAxis,
    captured,
    is_partial,
    is_real,
    joined,
    moved_axis,
    reason_of,
)
from obstruction.models.readers.onnx.products import is_product, product_of
from obstruction.models.readers.onnx.tensors import Store, constant_nodes, with_tensors

FORMAT: Final = "ONNX"
SUFFIXES: Final = (".onnx",)

_SAME: Final = frozenset({"Identity", "Dropout", "Cast", "CastLike"})
_RESHAPED: Final = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_SIZES: Final = ("Shape", "Size")
_ROUNDING: Final = ("QuantizeLinear", "DequantizeLinear")
_ROUNDED: Final = (
    "the model rounds weights or values (QuantizeLinear, DequantizeLinear) and was read as if it "
    "did not; balances are kept by training without rounding"
)
_UNREAD: Final = "the weights are of a type that is not read"
_PRODUCT: Final = "the product is not one of outputs with fixed weights"


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
        reading = _Reading(store)
        graph = reading.graph()
    layers = [one for found in graph.operations for one in found.steps if isinstance(one, Dense)]
    shared = _copies(store.tensors, [layer.weight for layer in layers])
    return Contents("ONNX", store.tensors, None, graph, shared, tuple(reading.notes))


def write(path: Path, changes: Mapping[str, NDArray[Any]], out: Path) -> None:
    """Write a copy with new numbers in some tensors.

    If the model keeps numbers in a file beside it, so does the copy, in ``<out>.data``.
    """
    store = Store(path)
    store.write(fitting(changes, store.tensors), out)


class _Reading:
    """Turns the nodes of an ONNX graph into operations, in the order of the file."""

    def __init__(self, store: Store) -> None:
        model, tensors = store.model, store.tensors
        self.proto = with_tensors(inlined(model))
        self.results = [output.name for output in self.proto.output]
        self.functions = {(function.domain, function.name) for function in model.functions}
        self.notes = list(store.notes)
        inner = {
            name: found
            for name, proto in constant_nodes(self.proto)
            if name not in store.protos and (found := store.tensor(name, proto)) is not None
        }
        self.stored = tensors.keys()
        self.constants = {
            name: Constant(tensor, tuple(range(len(tensor.shape))))
            for name, tensor in {**inner, **tensors}.items()
        }
        for proto in model.graph.initializer:
            self.constants.setdefault(proto.name, Constant(reason=_UNREAD))
        for sparse in model.graph.sparse_initializer:
            self.constants[sparse.values.name] = Constant(reason="the weights are sparse")
        self.axis: dict[str, NeuronAxis] = {}
        self.neurons: set[str] = set()  # values that hold outputs of a layer
        self.operations: list[Operation] = []
        self.made: dict[str, int] = {}  # the operation that makes a value
        self.elsewhere: set[str] = set()  # stored tensors that are used outside layers
        self.use(self.results)
        self.uses = Counter(self.results)
        self.readers: dict[str, set[str]] = {name: {"output"} for name in self.results}
        self.rounded: set[str] = set()  # values that are rounded to integers
        self.lasts: dict[str, int] = {}  # lengths of the last axes of values that are reshaped
        for node in self.proto.node:
            names = [*node.input, *captured(node)]
            self.uses.update(names if node.op_type not in _SIZES else ())
            for name in names:
                self.readers.setdefault(name, set()).add(node.op_type)

    def graph(self) -> OperationGraph:
        """Return the graph of all operations."""
        for node in self.proto.node:
            if not node.output:
                continue
            names = [*node.input, *captured(node)]
            data = [name for name in names if name and name not in self.constants]
            fixed = not data and node.op_type not in ("RandomNormal", "RandomUniform")
            if fixed or (node.op_type in _SIZES and not node.domain):  # which have no gradient
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
        partial = not layers and is_partial(node, self.constants)
        self.operations.append(Operation(tuple(data), outputs, steps, reshapes, partial))

    def use(self, names: Iterable[str], by_layer: Collection[str | None] = ()) -> None:
        """Record which stored tensors are used outside layers, given those that a layer uses."""
        tensors = [self.constants[name].tensor for name in names if name in self.constants]
        self.elsewhere.update(told.name for told in tensors if told and told.name not in by_layer)

    def constant(self, node: Any, names: Iterable[str]) -> None:
        """Record the outputs of a node whose inputs are constants."""
        kind, given = node.op_type, self.constants.get(node.input[0] if node.input else "")
        made = Constant()
        if kind in _ROUNDING and given is not None and self.rounds(node, given):
            made = replace(given, rounded=kind == "QuantizeLinear")
            self.note(_ROUNDED)
        elif "uantize" in kind:
            made = Constant(reason=QUANTISED)
        elif (given is not None and given.tensor is None) or (given is not None and kind in _SAME):
            made = given
        elif given is not None and kind == "Transpose":
            order = ints(node, "perm") or list(reversed(range(len(given.axes))))
            if sorted(order) == list(range(len(given.axes))):
                made = replace(given, axes=tuple(given.axes[i] for i in order))
        elif given is not None and kind in _RESHAPED:
            shape = new_shape(node, given.shape, self.constants)
            made = given.reshaped(shape) if shape is not None else made
        if made.tensor is None and kind not in _SIZES:
            self.use(names)
        for output in node.output:
            if output not in self.constants or kind != "Constant":
                self.constants[output] = made

    # --- nodes that depend on an input --------------------------------------------------------

    def rounds(self, node: Any, given: Constant) -> bool:
        """Return whether a node rounds a constant of floats, or turns it back into floats."""
        if given.tensor is None or given.tensor.dtype not in FLOATS:
            return False
        if node.op_type == "DequantizeLinear":
            return given.rounded
        return self.readers.get(node.output[0]) == {"DequantizeLinear"}

    def is_bias(self, node: Any, data: list[str]) -> bool:
        """Return whether a node adds biases to a layer, after giving the layer these biases."""
        kinds = ("Add", "Sum", "Sub")
        if node.op_type not in kinds or node.domain not in ("", "ai.onnx") or len(data) != 1:
            return False
        if len(node.input) != 2 or len(node.output) != 1:
            return False
        axis = self.axis.get(data[0])
        along = number(node, "axis", None)  # as before version 7 of the operations
        if along is not None and (along not in (1.0, -1.0) or axis == "rows"):
            return False
        at = self.layer_before(data[0])
        if at is None:
            return False
        layer = self.operations[at].steps[0]
        assert isinstance(layer, Dense)
        is_first = node.input[0] == data[0]
        bias = self.bias(node.input[1 if is_first else 0], layer, axis)
        if bias is None:
            return False
        signs = (1.0, 1.0)
        if node.op_type == "Sub":
            signs = (1.0, -1.0) if is_first else (-1.0, 1.0)
        biased = replace(layer, bias=bias, factor=signs[0] * layer.factor, bias_factor=signs[1])
        self.operations[at] = replace(self.operations[at], steps=(biased,))
        output, end = node.output[0], self.made[data[0]]
        self.operations[end] = replace(self.operations[end], outputs=(output,))
        self.made[output], self.axis[output] = end, axis
        self.neurons.add(output)
        return True

    def layer_before(self, name: str) -> int | None:
        """Return the operation of a layer without biases that a value comes from unchanged."""
        lasts: list[int | None] = []
        while (at := self.made.get(name)) is not None and self.uses[name] == 1:
            operation = self.operations[at]
            if operation.steps:
                (layer,) = operation.steps if len(operation.steps) == 1 else (None,)
                if not isinstance(layer, Dense) or layer.bias is not None:
                    return None
                outputs = self.width(layer)
                return at if all(last == outputs for last in lasts) else None
            if operation.reshapes:
                lasts.append(self.lasts.get(name))
            if len(operation.inputs) != 1 or len(operation.outputs) != 1:
                return None
            name = str(operation.inputs[0])
        return None

    def width(self, layer: Dense) -> int | None:
        """Return the number of outputs of a layer."""
        weight = self.constants[layer.weight].tensor
        return None if weight is None else weight.shape[0 if layer.layout == "out_in" else 1]

    def bias(self, name: str, layer: Dense, axis: NeuronAxis) -> str | None:
        """Return the name of the tensor of a constant with one bias per output, else None."""
        told, outputs = self.constants.get(name), self.width(layer)
        if told is None or told.tensor is None or told.tensor.dtype not in FLOATS or told.rounded:
            return None
        if told.tensor.name not in self.stored:
            return None
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
        moved = moved_axis(node, axis) if kind == "Transpose" else None
        if (node.domain, kind) in self.functions:
            yield Barrier(name, f"{kind} is a function of the model, which is not opened")
        elif is_product(node):
            yield from self.product(node, name, data, axis)
        elif kind in _ROUNDING and (found := self.rounding(node, data)) is not None:
            self.axis[node.output[0]] = axis
            yield from found
        elif node.domain not in ("", "ai.onnx"):
            yield self.barrier(name, reason_of(f"{node.domain}.{kind}", data))
        elif len(data) == 1 and data[0] in node.input[:1] and kind in _SAME and is_real(node):
            self.axis[node.output[0]] = axis
        elif len(data) == 1 and data[0] in node.input[:1] and kind in _RESHAPED and axis != "rows":
            # the layers before and after it fit each other only if the last axis stays as it is
            self.axis[node.output[0]] = axis
            shape = self.constants[node.input[1]].tensor if len(node.input) > 1 else None
            if kind == "Reshape" and shape is not None and shape.array.size:
                self.lasts[node.output[0]] = int(shape.array.flat[-1])
        elif kind == "Transpose" and (
            axis is None or (moved := moved_axis(node, axis)) is not None
        ):
            self.axis[node.output[0]] = None if axis is None else moved
        elif (applied := self.activation(node, data)) is not None:
            self.axis[node.output[0]] = axis
            yield applied
        elif (operation := joined(node, data)) is not None and (
            common := self.common_axis(data)
        ) in ("last", "rows" if operation == "sum" else "last"):
            self.axis[node.output[0]] = common
            second = operation == "concat" and number(node, "axis", 0.0) == 1
            reason, incidental = reason_of(kind, []), operation == "concat"
            yield Join(name, reason, operation, second_axis=second, incidental=incidental)
        else:
            yield self.barrier(name, reason_of(kind, data if len(data) < 2 else []))

    def barrier(self, name: str, reason: str) -> Barrier:
        """Return a barrier, an incidental one if it often follows the last layer."""
        incidental = reason in (CONSTANT, JOINED) or reason.endswith(OTHER)
        return Barrier(name, reason, incidental=incidental)

    def common_axis(self, data: list[str]) -> NeuronAxis:
        """Return the axis of neurons in the values that hold neurons, None if axes differ."""
        axes = {self.axis.get(name) for name in data if name in self.neurons}
        return axes.pop() if len(axes) == 1 else None if axes else "last"

    def rounding(self, node: Any, data: list[str]) -> list[Activation] | None:
        """Return what a node does that rounds values for the next one to undo, else None.

        Integers that begin with that of zero cut off what is negative, as ReLU does.
        """
        name, output = node.input[0], node.output[0]
        if data != [name]:
            return None
        if node.op_type == "DequantizeLinear":
            return [] if name in self.rounded else None
        if self.readers.get(output) != {"DequantizeLinear"}:
            return None
        least, zero = 0.0, 0.0
        if len(node.input) > 2 and node.input[2]:
            told = self.constants[node.input[2]].tensor
            if told is None or told.array.size != 1 or told.array.dtype.kind not in "iu":
                return None
            least, zero = float(np.iinfo(told.array.dtype).min), float(told.array.flat[0])
        elif number(node, "output_dtype", 0.0) != 0.0:
            return None
        self.rounded.add(output)
        self.note(_ROUNDED)
        return [Activation("relu")] if zero == least else []

    def note(self, text: str) -> None:
        """Add a note once."""
        self.notes += [text] if text not in self.notes else []

    def product(self, node: Any, name: str, data: list[str], axis: NeuronAxis) -> Iterator[Step]:
        """Yield a product as a layer, or as a barrier if it is no layer."""
        found = product_of(node, data, self.constants)
        if found is None or axis not in (None, found.reads) or found.factor == 0.0:
            yield Barrier(name, _PRODUCT)
            return
        try:
            tensor, transposed = self.constants[found.weights].matrix()
        except ValueError as problem:
            yield Barrier(name, str(problem))
            return
        if tensor.name not in self.stored:
            yield Barrier(name, "the weights are in the body of a function of the model")
            return
        layer = Dense(
            tensor.name.removesuffix(".weight") if tensor.name.endswith(".weight") else name,
            tensor.name,
            layout="out_in" if found.outputs_first != transposed else "in_out",
            factor=found.factor,
            bias_factor=found.bias_factor,
        )
        if found.bias:
            bias = self.bias(found.bias, layer, found.makes)
            if bias is None:
                yield Barrier(name, "the biases are not one stored number for each output")
                return
            layer = replace(layer, bias=bias)
        self.axis[node.output[0]] = found.makes
        yield layer
        if found.activation is not None:
            yield found.activation

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
            low, high = number(node, "min", ends[0]), number(node, "max", ends[1])
            if any(names[1:][i] and ends[i] is None for i in range(len(names[1:3]))):
                return None
            if low == 0.0 and high is None:
                return Activation("relu")
            return Activation("relu6" if (low, high) == (0.0, 6.0) else "Clip")
        slope = number(node, "alpha", 0.01) if kind == "LeakyRelu" else 0.0
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
