"""Graphs of operations of PyTorch's ATen library, as ``torch.export`` writes them.

Neurons lie along the last axis of every value. A node of an unknown operation is a barrier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from obstruction.models.activations import is_activation
from obstruction.models.contents import (
    FLOATS,
    Activation,
    Barrier,
    Dense,
    Join,
    Operation,
    OperationGraph,
    Orientation,
    Step,
    Tensor,
)
from obstruction.models.operations.einsum import matrix_layout
from obstruction.models.operations.graphs import operation_graph
from obstruction.models.readers.torch.aten_nodes import Node, Value

_SAME: Final = frozenset(
    {
        "dropout",
        "native_dropout",
        "feature_dropout",
        "alias",
        "clone",
        "contiguous",
        "lift_fresh_copy",
    }
)
_CASTS: Final = frozenset({"to", "_to_copy", "type_as"})
_RESHAPED: Final = frozenset(
    {"flatten", "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "unflatten"}
)
_TURNED: Final = frozenset({"t", "numpy_T", "transpose", "permute"})
_PRODUCTS: Final = frozenset({"linear", "addmm", "mm", "matmul", "einsum"})
_PARTIAL: Final = frozenset(
    {
        "slice",
        "select",
        "index",
        "index_select",
        "narrow",
        "gather",
        "take_along_dim",
        "masked_select",
    }
    | {"split", "split_with_sizes", "chunk", "tensor_split", "unbind", "as_strided", "diagonal"}
    | {"sum", "mean", "var", "std", "prod", "amax", "amin", "max", "min", "norm", "logsumexp"}
    | {"linalg_vector_norm", "bmm", "mm", "matmul", "einsum", "masked_fill", "where", "scatter"}
)
"""Operations after which only a part, or combinations, of the outputs of a layer may be seen."""

_REASONS: Final = (
    ("conv", "convolutions are not audited"),
    ("norm", "normalisation makes the outputs independent of the scale of the weights"),
    ("pool", "pooling mixes the outputs"),
    ("attention", "attention is not audited"),
    ("lstm", "recurrent layers are not audited"),
    ("gru", "recurrent layers are not audited"),
    ("rnn", "recurrent layers are not audited"),
    ("embedding", "an embedding is no fully connected layer"),
    ("quant", "the weights are quantised"),
    ("detach", "gradients do not pass"),
    ("set_grad_enabled", "gradients may be switched off in it"),
)
_CONSTANT: Final = "a constant is added or multiplied"
_JOINED: Final = "the outputs are joined with those of other layers"
_PRODUCT: Final = "the product is not one of outputs with fixed weights"
_COMPUTED: Final = "the weights are computed in the graph"


@dataclass(frozen=True)
class _Constant:
    """A value that depends on no input: a stored matrix or vector, or why it is none."""

    tensor: Tensor | None = None
    turned: bool = False
    reason: str = _COMPUTED


def graph_of(
    nodes: Sequence[Node],
    results: Sequence[str],
    weights: Mapping[str, Tensor | None],
    trained: Iterable[str],
) -> OperationGraph:
    """Return the graph of the operations of some nodes, each after those that make its inputs.

    Parameters
    ----------
    nodes : sequence of Node
    results : sequence of str
        The names of the values that the graph returns.
    weights : mapping of str to Tensor or None
        The stored tensors, by the names of the values that are theirs, None if one is not read.
    trained : iterable of str
        The names of the tensors that are trained.

    Raises
    ------
    ValueError
        If an operation changes a value that is used elsewhere.
    """
    return _Reading(nodes, results, weights, frozenset(trained)).graph()


class _Reading:
    def __init__(
        self,
        nodes: Sequence[Node],
        results: Sequence[str],
        weights: Mapping[str, Tensor | None],
        trained: frozenset[str],
    ) -> None:
        self.nodes = [node for node in nodes if node.outputs or node.is_in_place]
        self.results = list(results)
        self.trained = trained
        self.constants = {
            name: _Constant(tensor, reason=_COMPUTED if tensor else "the weights are not read")
            for name, tensor in weights.items()
        }
        self.neurons: set[str] = set()  # values that hold outputs of a layer
        self.operations: list[Operation] = []
        self.made: dict[str, int] = {}  # the operation that makes a value
        self.maker = {name: node for node in self.nodes for name in node.outputs}
        self.uses = Counter([*self.results, *(name for node in self.nodes for name in node.values)])
        self.elsewhere: set[str] = set()  # stored tensors that are used outside layers
        self.use(self.results)

    def graph(self) -> OperationGraph:
        """Return the graph of all operations."""
        for node in self.nodes:
            self.check(node)
            data = [name for name in node.values if name not in self.constants]
            if not data and not _draws(node):
                self.constant(node)
            elif not self.is_bias(node, data):
                self.add(node, data)
        return operation_graph(
            self.operations,
            self.results,
            lambda layer: not self.elsewhere.isdisjoint({layer.weight, layer.bias}),
        )

    def check(self, node: Node) -> None:
        """Raise a ValueError if an operation may change a value that something else sees."""
        overload = node.target.rpartition(".")[2]
        if node.is_in_place:
            changed = node.values[:1]
            if set(node.values) <= self.constants.keys():  # as a counter of batches
                self.use(changed)
                self.constants.update(dict.fromkeys(changed, _Constant()))
                return
        elif node.space in ("aten", "prims", "_operator") and not overload.endswith("out"):
            return
        else:
            changed = [name for name in node.values if name not in self.constants]
        for name in changed:
            if not self.is_private(name):
                raise ValueError(
                    f"{node.target} may change a value that is used elsewhere, which is not "
                    "followed: give the module that was exported"
                )

    def is_private(self, name: str) -> bool:
        """Return whether a value, and what it may be a view of, are used once."""
        if name in self.constants or self.uses[name] != 1:
            return False
        node = self.maker.get(name)
        if node is None or node.kind in _PRODUCTS:
            return True
        return all(self.is_private(one) for one in node.values if one not in self.constants)

    def use(self, names: Iterable[str], by_layer: Iterable[str | None] = ()) -> None:
        """Record which stored tensors are used outside layers, given those that a layer uses."""
        tensors = [self.constants[name].tensor for name in names if name in self.constants]
        told = {tensor.name for tensor in tensors if tensor is not None}
        self.elsewhere |= told - set(by_layer)

    def constant(self, node: Node) -> None:
        """Record the outputs of a node whose inputs are constants."""
        given = self.constants.get(node.values[0]) if node.values else None
        made = _Constant()
        if given is not None and given.tensor is not None:
            if node.kind in _SAME or (node.kind in _CASTS and node.space == "aten"):
                made = given
            elif node.kind in _TURNED and given.tensor.array.ndim == 2 and _exchanges(node):
                made = replace(given, turned=not given.turned)
            elif node.kind == "detach":
                made = _Constant(reason="the weights are detached, so they are not trained")
        if made.tensor is None:
            self.use(node.values)
        self.constants.update(dict.fromkeys(node.outputs, made))

    # --- nodes that depend on an input --------------------------------------------------------

    def add(self, node: Node, data: list[str]) -> None:
        """Add the operation of a node; `data` are its inputs that are no constants."""
        steps = tuple(self.of(node, data))
        layers = [step for step in steps if isinstance(step, Dense)]
        self.use(node.values, {name for one in layers for name in (one.weight, one.bias)})
        passes = all(isinstance(step, (Activation, Join)) for step in steps)
        if layers or (passes and not self.neurons.isdisjoint(data)):
            self.neurons.update(node.outputs)
        self.made.update(dict.fromkeys(node.outputs, len(self.operations)))
        reshapes = node.kind in _RESHAPED
        partial = node.kind in _PARTIAL and not layers
        self.operations.append(Operation(tuple(data), node.outputs, steps, reshapes, partial))

    def of(self, node: Node, data: list[str]) -> Iterator[Step]:
        """Yield the steps of a node."""
        name, kind = (*node.outputs, node.target)[0], node.kind
        first = node.values[:1] == data and len(node.values) == 1
        if first and node.target == "_operator.getitem":  # one of several results
            return
        if node.space != "aten":
            yield self.barrier(node, name)
        elif kind in _PRODUCTS:
            yield self.product(node, name, data)
        elif first and _passes(node):
            return
        elif len(data) == 1 and (applied := self.activation(node, data)) is not None:
            yield applied
        elif (operation := _joined(node, data)) is not None:
            second = operation.operation == "concat" and node.given.get("dim", 0) == 1
            yield replace(operation, name=name, second_axis=second)
        else:
            yield self.barrier(node, name)

    def barrier(self, node: Node, name: str) -> Barrier:
        """Return a barrier with the reason for an operation."""
        for part, why in _REASONS:
            if part in node.target:
                return Barrier(name, why)
        if node.kind in ("add", "sub", "mul", "div", "rsub"):
            return Barrier(name, _CONSTANT, incidental=True)
        return Barrier(name, f"{node.kind} is not audited", incidental=True)

    def product(self, node: Node, name: str, data: list[str]) -> Step:
        """Return a product with a stored matrix as a layer, or as a barrier if it is none."""
        given = node.given
        values: Any = None
        place: Any = None
        layout: Orientation | None = None
        if node.kind == "linear":
            values, place, layout = given.get("input"), given.get("weight"), "out_in"
        elif node.kind == "einsum":
            values, place, layout = _einsum(node, self.constants)
        else:
            first, second = {"addmm": ("mat1", "mat2"), "mm": ("self", "mat2")}.get(
                node.kind, ("self", "other")
            )
            values, place, layout = given.get(first), given.get(second), "in_out"
        weight = self.constants.get(place.name) if isinstance(place, Value) else None
        if weight is None or layout is None or data != [getattr(values, "name", None)]:
            return Barrier(name, _PRODUCT)
        tensor = weight.tensor
        if tensor is None:
            return Barrier(name, weight.reason)
        if tensor.dtype not in FLOATS:
            return Barrier(name, f"the weights are of type {tensor.dtype}")
        if tensor.array.ndim != 2:
            return Barrier(name, f"the weights have the shape {tensor.shape}")
        stored: Orientation = _turned(layout) if weight.turned else layout
        bias = given.get("bias" if node.kind == "linear" else "self")
        layer = self.layer(tensor, stored)
        if node.kind == "addmm":
            layer = replace(layer, factor=_number(given, "alpha", 1.0))
            layer = replace(layer, bias_factor=_number(given, "beta", 1.0))
        if isinstance(bias, Value) and node.kind in ("linear", "addmm"):
            held = self.bias(bias.name, layer)
            if held is None:
                return Barrier(name, "the biases are not one stored number for each output")
            layer = self.with_bias(layer, held)
        return layer

    def layer(self, tensor: Tensor, layout: Orientation) -> Dense:
        label = tensor.name.removesuffix(".weight")
        return Dense(label, tensor.name, layout=layout, trained=tensor.name in self.trained)

    def with_bias(self, layer: Dense, bias: str, factor: float = 1.0) -> Dense:
        both = layer.trained and bias in self.trained
        factor *= layer.bias_factor
        return replace(layer, bias=bias, bias_factor=factor, trained=both)

    def bias(self, name: str, layer: Dense) -> str | None:
        """Return the name of the tensor of a constant with one bias per output, else None."""
        tensor = self.constants[name].tensor if name in self.constants else None
        weight = next(
            one.tensor
            for one in self.constants.values()
            if one.tensor is not None and one.tensor.name == layer.weight
        )
        if tensor is None or weight is None or tensor.dtype not in FLOATS or not tensor.shape:
            return None
        outputs = weight.shape[0 if layer.layout == "out_in" else 1]
        turned = self.constants[name].turned
        fits = tensor.shape[-1] == outputs and set(tensor.shape[:-1]) <= {1} and not turned
        return tensor.name if fits else None

    def is_bias(self, node: Node, data: list[str]) -> bool:
        """Return whether a node adds biases to a layer, after giving the layer these biases."""
        if node.target not in ("aten.add.Tensor", "aten.sub.Tensor") or len(data) != 1:
            return False
        sides = node.given.get("self"), node.given.get("other")
        if not all(isinstance(one, Value) for one in sides) or _number(node.given, "alpha", 1) != 1:
            return False
        names = [one.name for one in sides if isinstance(one, Value)]
        if node.kind == "sub" and names[0] != data[0]:
            return False
        at = self.made.get(data[0])
        if at is None or self.uses[data[0]] != 1 or len(self.operations[at].steps) != 1:
            return False
        layer = self.operations[at].steps[0]
        if not isinstance(layer, Dense) or layer.bias is not None:
            return False
        bias = self.bias(names[1 - names.index(data[0])], layer)
        if bias is None:
            return False
        biased = self.with_bias(layer, bias, -1.0 if node.kind == "sub" else 1.0)
        self.operations[at] = replace(self.operations[at], outputs=node.outputs, steps=(biased,))
        self.made.update(dict.fromkeys(node.outputs, at))
        self.neurons.update(node.outputs)
        return True

    def activation(self, node: Node, data: list[str]) -> Activation | None:
        """Return the activation that a node applies to its only varying input, else None."""
        kind, given = node.kind, node.given
        if given.get("self") != Value(data[0]):
            return None
        low, high = (given.get(name) for name in ("min", "max"))
        if kind in ("clamp", "clamp_min"):
            return Activation("relu") if (low, high) == (0, None) else None
        if kind == "threshold":
            both = given.get("threshold"), given.get("value")
            return Activation("relu") if both == (0, 0) else None
        if kind == "hardtanh":
            low, high = given.get("min_val", -1), given.get("max_val", 1)
            return Activation("relu6" if (low, high) == (0, 6) else "hardtanh")
        if kind in ("prelu", "_prelu_kernel"):
            weight = given.get("weight")
            told = self.constants.get(weight.name) if isinstance(weight, Value) else None
            if told is None or told.tensor is None or not told.tensor.array.size:
                return None
            slopes = told.tensor.array
            uniform = bool((slopes == slopes.flat[0]).all())
            return Activation("prelu", float(slopes.flat[0]) if uniform else 0.0)
        slope = _number(given, "negative_slope", 0.01) if kind == "leaky_relu" else 0.0
        known = len(node.values) == 1 and is_activation(kind.removeprefix("_"))
        return Activation(kind.removeprefix("_"), slope) if known else None


def _draws(node: Node) -> bool:
    return "rand" in node.kind or node.kind in ("bernoulli", "normal", "dropout", "uniform")


def _number(given: Mapping[str, Any], name: str, otherwise: float) -> float:
    value = given.get(name, otherwise)
    return float(value) if isinstance(value, (int, float)) else otherwise


def _exchanges(node: Node) -> bool:
    """Return whether a node exchanges the two axes of a matrix."""
    given = node.given
    if node.kind == "permute":
        return [axis % 2 for axis in given.get("dims", ())] == [1, 0]
    if node.kind == "transpose":
        return bool((given.get("dim0", 0) - given.get("dim1", 0)) % 2 == 1)
    return True


def _passes(node: Node) -> bool:
    """Return whether a node hands on what it gets, perhaps in another shape or precision."""
    if node.kind in _CASTS:
        return node.given.get("dtype") is None or node.given["dtype"] in FLOATS
    return node.kind in _SAME or node.kind in _RESHAPED


def _turned(layout: Orientation) -> Orientation:
    return "in_out" if layout == "out_in" else "out_in"


def _einsum(node: Node, constants: Mapping[str, _Constant]) -> tuple[Any, Any, Orientation | None]:
    """Return the values and the weights of a sum of products, and how the weights are stored."""
    equation, tensors = node.given.get("equation"), node.given.get("tensors")
    if not isinstance(equation, str) or not isinstance(tensors, (list, tuple)) or len(tensors) != 2:
        return None, None, None
    place = int(isinstance(tensors[1], Value) and tensors[1].name in constants)
    return tensors[1 - place], tensors[place], matrix_layout(equation, place)


def _joined(node: Node, data: list[str]) -> Join | None:
    """Return a join if a node adds or concatenates its inputs, None if it does neither."""
    if len(data) < 2 or data != node.values:
        return None
    if node.target == "aten.add.Tensor" and _number(node.given, "alpha", 1) == 1:
        return Join("", "a skip connection adds outputs of other layers", "sum")
    if node.kind == "cat" and node.given.get("dim", 0) in (1, -1):
        return Join("", _JOINED, "concat", incidental=True)
    return None
