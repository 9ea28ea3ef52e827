"""From the operations of a model to a network of nodes: layers that branch, add up and join.

What keeps no balance ends the analysis there and not the whole of it: values that enter a softmax,
say, are outputs of the network, and what it makes of them are inputs again. That is right because
only the edges at hidden nodes matter to their balances. Values that are added without weights of
their own, as in residual networks, have their scales tied to each other; they end it likewise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from obstruction.dag.arguments import BIAS, Node
from obstruction.dag.graph import FloatArray
from obstruction.dag.network import Network
from obstruction.dag.widths import matrix_of, widths_of
from obstruction.models.activations import canonical, check_activation, why_not
from obstruction.models.contents import (
    Activation,
    Barrier,
    Contents,
    Dense,
    Join,
    NothingAuditable,
)
from obstruction.models.contents import Node as Operation
from obstruction.models.readers.chains import makers, ordered
from obstruction.models.resolving import layer_of

_Indices: TypeAlias = NDArray[np.int64]

_FIXED = (
    "values are added without weights of their own (a skip connection with the fixed weight 1), "
    "so none of them can be rescaled alone"
)

_NORMALISED = "its weights are normalised, which hides their scale from the neurons before"

_LARGEST = 20_000_000
"""Edges that are listed at most: about a gigabyte."""


class ModelNetwork(NamedTuple):
    """A model as a network of nodes.

    Attributes
    ----------
    network : Network
    weights : ndarray, shape (size,)
    format : str
        What it was read from: ``"ONNX"``, ``"PyTorch module"``.
    chain : tuple of str
        The names of its layers if they are a chain, else empty: nodes then have these names.
    notes : tuple of str
        Where the network ends though the model goes on, a sentence each.
    """

    network: Network
    weights: FloatArray
    format: str
    chain: tuple[str, ...]
    notes: tuple[str, ...]


class _Sum(NamedTuple):
    """Outputs of layers before an activation: for each neuron a sum over nodes.

    ``parts`` are pairs of nodes and a matrix with one row a neuron; ``biases`` add up.
    """

    name: str
    size: int
    parts: tuple[tuple[_Indices, FloatArray], ...]
    biases: tuple[FloatArray, ...]


_Segment: TypeAlias = "_Sum | _Indices"
"""Neurons side by side: sums, or nodes."""


def has_branches(contents: Contents) -> bool:
    """Return whether a model says what its operations are, and its layers are no chain.

    That is so if outputs of layers meet, or if a value goes on to layers by two ways, or by one and
    is returned as well. What a model makes of its last outputs does not matter.
    """
    if contents.dataflow is None:
        return False
    nodes, results = contents.dataflow.nodes, contents.dataflow.results
    maker = makers(nodes)
    ahead: Counter[Hashable] = Counter()  # ways on from a value that lead to a layer
    for i in reversed(ordered(nodes, maker, results)):
        steps, leads = nodes[i].steps, any(ahead[value] for value in nodes[i].outputs)
        if any(isinstance(step, Join) for step in steps) and not any(
            isinstance(step, Barrier) and not isinstance(step, Join) for step in steps
        ):
            return True
        if leads or any(isinstance(step, Dense) for step in steps):
            ahead.update(nodes[i].inputs)
    return any(count + (value in results) > 1 for value, count in ahead.items())


def from_dataflow(contents: Contents, activation: str | None = None) -> ModelNetwork:
    """Return the network that a model's operations make.

    Parameters
    ----------
    contents : Contents
        With a dataflow.
    activation : str, optional
        What is applied where the source does not say.

    Raises
    ------
    UnreadableModel
        If weights are no matrix.
    NothingAuditable
        If no hidden neuron keeps a balance; the message gives the reasons.
    ValueError
        If an activation must be told or is not that of the model, or there are more edges than can
        be listed.
    """
    assert contents.dataflow is not None
    nodes, results = contents.dataflow.nodes, contents.dataflow.results
    order = [nodes[i] for i in ordered(nodes, makers(nodes), results)]
    builder = _Builder(contents, activation, widths_of(order, contents.tensors))
    builder.find_uses(order, results)
    for node in order:
        builder.add(node)
    for value in results:
        builder.give_back(value)
    return builder.finish()


class _Builder:
    """Collects nodes and edges. Nodes are numbered as they come and sorted at the end."""

    def __init__(
        self, contents: Contents, activation: str | None, widths: dict[Hashable, int]
    ) -> None:
        self.contents = contents
        self.format = contents.format
        self.tensors = contents.tensors
        self.shared = frozenset().union(*contents.shared)
        self.activation = None if activation is None else check_activation(activation)
        self.activations: set[str] = set()  # that the model names
        self.widths = widths
        self.signals: dict[Hashable, list[_Segment]] = {}
        self.names: list[str] = []
        self.kinds: list[str] = []
        self.edges: list[tuple[_Indices, _Indices, FloatArray]] = []
        self.biases: list[tuple[_Indices, FloatArray]] = []
        self.uses: Counter[str] = Counter()  # of tensors by layers
        self.lone: set[Hashable] = set()  # values that go one way, into one sum at most
        self.made: dict[int, tuple[_Sum, _Indices]] = {}  # sums that became nodes, by identity
        self.ended: set[int] = set()  # hidden nodes whose values are used as they are
        self.notes: list[str] = []
        self.size = 0

    # --- uses ----------------------------------------------------------------------------------

    def find_uses(self, order: Sequence[Operation], results: Iterable[Hashable]) -> None:
        """Find out what is used once, of tensors and of values."""
        layers = [step for node in order for step in node.steps if isinstance(step, Dense)]
        for layer in layers:
            self.uses.update({name for name in (layer.weight, layer.bias, layer.magnitude) if name})
        ways = Counter(results)
        for node in order:
            ways.update(node.inputs)
        for node in order:
            passes = not any(isinstance(step, Dense) for step in node.steps)
            if not passes or all(value in self.lone for value in node.inputs):
                self.lone.update(value for value in node.outputs if ways[value] == 1)

    def hindrance(self, layer: Dense) -> str | None:
        """Return why neurons that a layer leads from or to cannot be rescaled, None if they can."""
        if not layer.trained:
            return "it is not trained"
        for name in (layer.weight, layer.bias):
            if name and (self.uses[name] > 1 or name in self.shared):
                return f"its {name} is used elsewhere as well"
        return "its weights are multiplied by 0" if layer.factor == 0.0 else None

    # --- operations ----------------------------------------------------------------------------

    def signal(self, value: Hashable) -> list[_Segment]:
        """Return what a value is; an input of the model if nothing has made it."""
        if value not in self.signals:
            self.signals[value] = self.opened(str(value), self.widths.get(value))
        return self.signals[value]

    def opened(self, name: str, width: int | None) -> list[_Segment]:
        """Return new inputs; none if nobody asks for so many that their number is known."""
        return [self.created(name, width, "input")] if width else []

    def created(self, name: str, count: int, kind: str) -> _Indices:
        """Return new nodes."""
        start = len(self.names)
        self.names += [f"{name}.{i}" for i in range(count)]
        self.kinds += [kind] * count
        return np.arange(start, start + count)

    def add(self, node: Operation) -> None:
        """Apply an operation to its inputs."""
        given = [self.signal(value) for value in node.inputs]
        joins = [step for step in node.steps if isinstance(step, Join)]
        if joins:
            (join,), (value,) = joins, node.outputs
            if join.operation == "concat":
                self.signals[value] = self.side_by_side(join, given, self.widths.get(value))
            elif self.can_sum(node, given):
                self.signals[value] = self.summed(cast(list[list[_Sum]], given))
            else:
                self.note(f"{join.name}: {_FIXED}")
                self.end(segment for one in given for segment in one)
                self.signals[value] = self.opened(join.name, self.widths.get(value))
            return
        made: list[_Segment] | None = [segment for one in given for segment in one]
        for step in node.steps:
            if isinstance(step, Activation):
                made = None if made is None else self.activated(step, made)
            elif isinstance(step, Dense) and self.hindrance(step) is None:
                if step.magnitude is not None:
                    self.note(f"{step.name}: {_NORMALISED}")
                    self.end(made or [])
                    made = None
                made = [self.layer(step, made)]
            else:
                reason = step.reason if isinstance(step, Barrier) else self.hindrance(step)
                self.note(f"{step.name}: {reason}")
                self.end(made or [])
                made = None
                if isinstance(step, Dense):
                    made = self.opened(step.name, len(matrix_of(step, self.tensors)))
        for value in node.outputs:
            if made is None:
                self.signals[value] = self.opened(self.last_name(node), self.widths.get(value))
            else:
                self.signals[value] = made

    @staticmethod
    def last_name(node: Operation) -> str:
        """Return what the source calls an operation."""
        named = [step.name for step in node.steps if not isinstance(step, Activation)]
        return named[-1] if named else "made"

    def side_by_side(
        self, join: Join, given: Sequence[Sequence[_Segment]], width: int | None
    ) -> list[_Segment]:
        """Return neurons side by side, or new inputs if it cannot be told how many are whose."""
        found = [segment for one in given for segment in one]
        size = sum(map(_size, found))
        if width in (None, size):
            return found
        if found:
            self.note(f"{join.name}: has {width} neurons, and only of {size} it is known whose")
            self.end(found)
        return self.opened(join.name, width)

    def can_sum(self, node: Operation, given: Sequence[Sequence[_Segment]]) -> bool:
        """Return whether an addition makes sums of sums that are used for nothing else.

        Anything else is a connection without weights: of nodes to their sum, or of a sum to two.
        """
        sizes = [[_size(segment) for segment in one] for one in given]
        sums = all(isinstance(segment, _Sum) for one in given for segment in one)
        alike = all(other == sizes[0] for other in sizes)
        return sums and alike and all(value in self.lone for value in node.inputs)

    @staticmethod
    def summed(given: Sequence[Sequence[_Sum]]) -> list[_Segment]:
        """Return sums of sums."""
        return [
            _Sum(
                "+".join(one.name for one in across),
                across[0].size,
                tuple(part for one in across for part in one.parts),
                tuple(bias for one in across for bias in one.biases),
            )
            for across in zip(*given, strict=True)
        ]

    def layer(self, step: Dense, given: list[_Segment] | None) -> _Sum:
        """Return the outputs of a layer; what comes before without an activation is linear.

        What a layer is given of another size than it takes has been reshaped, and is another value.
        """
        assert step.layout is not None
        layer = layer_of(self.contents, step, step.layout)
        matrix = layer.weight.astype(np.float64)
        wanted, size = layer.inputs, sum(map(_size, given or []))
        if given is None or wanted != size:
            if given is not None:
                changed = "something changes them"
                self.note(f"{step.name}: has {wanted} inputs and is given {size}: {changed}")
                self.end(given)
            given = self.opened(f"{step.name}.in", wanted)
        nodes = [self.nodes(segment, "hidden") for segment in given]
        before = np.concatenate([np.zeros(0, dtype=np.int64), *nodes])
        biases: tuple[FloatArray, ...] = ()
        if layer.bias is not None and step.bias_factor != 0.0:
            biases = (layer.bias.astype(np.float64),)
        return _Sum(step.name, matrix.shape[0], ((before, matrix),), biases)

    def activated(self, step: Activation, given: list[_Segment]) -> list[_Segment]:
        """Return hidden nodes, or what a function that is not homogeneous makes of outputs."""
        name = step.name or self.activation
        if name is None:
            raise ValueError("activation = None: must be given, the model does not say what it is")
        if step.name:
            self.activations.add(canonical(name))
        reason = why_not(name)
        if reason is None:
            return [self.nodes(segment, "hidden") for segment in given]
        self.note(reason)
        self.end(given)
        return [self.created(name, _size(segment), "input") for segment in given]

    def nodes(self, segment: _Segment, kind: str) -> _Indices:
        """Return the nodes that neurons are, made of sums if need be."""
        if isinstance(segment, np.ndarray):
            return segment
        if id(segment) in self.made:  # one node, whatever homogeneous functions are applied to it
            _, nodes = self.made[id(segment)]
            if kind != self.kinds[nodes[0]]:
                self.ended.update(nodes.tolist())
            return nodes
        nodes = self.created(segment.name, segment.size, kind)
        self.made[id(segment)] = segment, nodes
        for before, matrix in segment.parts:
            self.size += matrix.size
            if self.size > _LARGEST:
                raise ValueError(
                    f"{segment.name}: more than {_LARGEST:,} edges, which are too many to list"
                )
            self.edges.append((np.tile(before, nodes.size), np.repeat(nodes, before.size), matrix))
        self.biases += [(nodes, bias) for bias in segment.biases]
        return nodes

    def end(self, given: Iterable[_Segment]) -> None:
        """Let values leave the network."""
        for segment in given:
            if isinstance(segment, np.ndarray):
                self.ended.update(v for v in segment.tolist() if self.kinds[v] == "hidden")
            else:
                self.nodes(segment, "output")

    def give_back(self, value: Hashable) -> None:
        """Let a value leave the network that the model returns; nodes that do keep no balance."""
        before = len(self.ended)
        self.end(self.signal(value))
        if len(self.ended) > before:
            names = {self.names[v].rpartition(".")[0] for v in self._nodes_of(value)}
            self.note(f"{', '.join(sorted(names))}: the model returns its values as they are")

    def _nodes_of(self, value: Hashable) -> set[int]:
        found: set[int] = set()
        for segment in self.signal(value):
            nodes = segment if isinstance(segment, np.ndarray) else self.made[id(segment)][1]
            found.update(nodes.tolist())
        return found & self.ended

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    # --- the network ---------------------------------------------------------------------------

    def finish(self) -> ModelNetwork:
        """Return the network.

        A hidden node whose value leaves the network keeps no balance: its edges in lead to an
        output, and those out, if any, come from an input.
        """
        if self.activation not in (None, *self.activations) and self.activations:
            raise ValueError(
                f"activation = {self.activation!r}: the {self.format} has "
                f"{', '.join(sorted(self.activations))}"
            )
        tails_of = np.arange(len(self.names))
        leading = {v for tails, _, _ in self.edges for v in np.unique(tails).tolist()}
        for v in sorted(self.ended):
            self.kinds[v] = "output"
            if v in leading:
                tails_of[v] = len(self.names)
                self.names.append(f"{self.names[v]}'")
                self.kinds.append("input")
        used = leading | set(range(tails_of.size, len(self.names)))
        places = {
            kind: [v for v, k in enumerate(self.kinds) if k == kind]
            for kind in ("input", "hidden", "output")
        }
        places["input"] = [v for v in places["input"] if v in used]
        if not places["hidden"]:
            raise NothingAuditable(
                f"this model ({self.format}) has no hidden neurons that keep a balance: "
                + ("; ".join(self.notes) or "no layer follows another")
            )
        order = [*places["input"], -1, *places["hidden"], *places["output"]]
        rank = np.zeros(len(self.names), dtype=np.int64)
        rank[[v for v in order if v >= 0]] = [i for i, v in enumerate(order) if v >= 0]
        bias = len(places["input"])
        tails = [rank[tails_of[a]] for a, _, _ in self.edges]
        heads = [rank[b] for _, b, _ in self.edges]
        weights = [matrix.ravel() for _, _, matrix in self.edges]
        for nodes, values in self.biases:
            tails.append(np.full(nodes.size, bias))
            heads.append(rank[nodes])
            weights.append(values)
        network: Network = Network._of(
            _distinct([BIAS if v < 0 else self.names[v] for v in order], bias),
            bias,
            len(places["output"]),
            np.concatenate(tails),
            np.concatenate(heads),
        )
        return ModelNetwork(network, np.concatenate(weights), self.format, (), tuple(self.notes))


def _size(segment: _Segment) -> int:
    return len(segment) if isinstance(segment, np.ndarray) else segment.size


def _distinct(names: list[str], bias: int) -> list[Node]:
    """Return names of which none comes twice, nor is that of the constant node."""
    seen: Counter[str] = Counter({BIAS: 1})
    made: list[Node] = []
    for i, name in enumerate(names):
        if i != bias and seen[name]:
            made.append(f"{name}#{seen[name] + 1}")
        else:
            made.append(name)
        seen[name] += 1
    return made
