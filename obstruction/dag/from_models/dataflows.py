"""From the operations of a model to a network of nodes: layers that branch, add up and join.

What keeps no balance ends the analysis there and not the whole of it: values that enter a softmax,
say, are outputs of the network, and what it makes of them are inputs again. That is right because
only the edges at hidden nodes matter to their balances. Values that are added without weights of
their own, as in residual networks, have their scales tied to each other; they end it likewise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import cast

import numpy as np

from obstruction.dag.from_models.assembling import Assembly, ModelNetwork, Segment, Sum, size_of
from obstruction.dag.from_models.widths import matrix_of, widths_of
from obstruction.dag.graph.graph import FloatArray
from obstruction.models.activations import canonical, why_not
from obstruction.models.contents import Activation, Barrier, Contents, Dense, Join
from obstruction.models.contents import Node as Operation
from obstruction.models.layers.resolving import layer_of
from obstruction.models.operations.chains import makers, ordered
from obstruction.models.options import NO_OPTIONS, ReadOptions

_FIXED = (
    "values are added without weights of their own (a skip connection with the fixed weight 1), "
    "so none of them can be rescaled alone"
)

_NORMALISED = "its weights are normalised, which hides their scale from the neurons before"


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


def from_dataflow(contents: Contents, options: ReadOptions = NO_OPTIONS) -> ModelNetwork:
    """Return the network that a model's operations make.

    Parameters
    ----------
    contents : Contents
        With a dataflow.
    options : ReadOptions, optional
        The activation where the source does not name it; nothing else is used.

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
    builder = _Builder(contents, options.activation, widths_of(order, contents.tensors))
    builder.find_uses(order, results)
    for node in order:
        builder.add(node)
    for value in results:
        builder.give_back(value)
    builder.check_activation()
    return builder.net.network(contents.format)


class _Builder:
    """Applies the operations of a model in their order."""

    def __init__(
        self, contents: Contents, activation: str | None, widths: dict[Hashable, int]
    ) -> None:
        self.contents = contents
        self.format = contents.format
        self.tensors = contents.tensors
        self.shared = frozenset().union(*contents.shared)
        self.activation = activation
        self.activations: set[str] = set()  # that the model names
        self.widths = widths
        self.signals: dict[Hashable, list[Segment]] = {}
        self.net = Assembly()
        self.uses: Counter[str] = Counter()  # of tensors by layers
        self.lone: set[Hashable] = set()  # values that go one way, into one sum at most

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

    def signal(self, value: Hashable) -> list[Segment]:
        """Return what a value is; an input of the model if nothing has made it."""
        if value not in self.signals:
            self.signals[value] = self.opened(str(value), self.widths.get(value))
        return self.signals[value]

    def opened(self, name: str, width: int | None) -> list[Segment]:
        """Return new inputs; none if nobody asks for so many that their number is known."""
        return [self.net.created(name, width, "input")] if width else []

    def add(self, node: Operation) -> None:
        """Apply an operation to its inputs."""
        given = [self.signal(value) for value in node.inputs]
        joins = [step for step in node.steps if isinstance(step, Join)]
        if joins:
            (join,), (value,) = joins, node.outputs
            if join.operation == "concat":
                self.signals[value] = self.side_by_side(join, given, self.widths.get(value))
            elif self.can_sum(node, given):
                self.signals[value] = self.summed(cast(list[list[Sum]], given))
            else:
                self.net.note(f"{join.name}: {_FIXED}")
                self.net.end(segment for one in given for segment in one)
                self.signals[value] = self.opened(join.name, self.widths.get(value))
            return
        made: list[Segment] | None = [segment for one in given for segment in one]
        for step in node.steps:
            if isinstance(step, Activation):
                made = None if made is None else self.activated(step, made)
            elif isinstance(step, Dense) and self.hindrance(step) is None:
                if step.magnitude is not None:
                    self.net.note(f"{step.name}: {_NORMALISED}")
                    self.net.end(made or [])
                    made = None
                made = [self.layer(step, made)]
            else:
                reason = step.reason if isinstance(step, Barrier) else self.hindrance(step)
                self.net.note(f"{step.name}: {reason}")
                self.net.end(made or [])
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
        self, join: Join, given: Sequence[Sequence[Segment]], width: int | None
    ) -> list[Segment]:
        """Return neurons side by side, or new inputs if it cannot be told how many are whose."""
        found = [segment for one in given for segment in one]
        size = sum(map(size_of, found))
        if width in (None, size):
            return found
        if found:
            self.net.note(f"{join.name}: has {width} neurons, and only of {size} it is known whose")
            self.net.end(found)
        return self.opened(join.name, width)

    def can_sum(self, node: Operation, given: Sequence[Sequence[Segment]]) -> bool:
        """Return whether an addition makes sums of sums that are used for nothing else.

        Anything else is a connection without weights: of nodes to their sum, or of a sum to two.
        """
        sizes = [[size_of(segment) for segment in one] for one in given]
        sums = all(isinstance(segment, Sum) for one in given for segment in one)
        alike = all(other == sizes[0] for other in sizes)
        return sums and alike and all(value in self.lone for value in node.inputs)

    @staticmethod
    def summed(given: Sequence[Sequence[Sum]]) -> list[Segment]:
        """Return sums of sums."""
        return [
            Sum(
                "+".join(one.name for one in across),
                across[0].size,
                tuple(part for one in across for part in one.parts),
                tuple(bias for one in across for bias in one.biases),
            )
            for across in zip(*given, strict=True)
        ]

    def layer(self, step: Dense, given: list[Segment] | None) -> Sum:
        """Return the outputs of a layer; what comes before without an activation is linear.

        What a layer is given of another size than it takes has been reshaped, and is another value.
        """
        assert step.layout is not None
        layer = layer_of(self.contents, step, step.layout)
        matrix = layer.weight.astype(np.float64)
        wanted, size = layer.inputs, sum(map(size_of, given or []))
        if given is None or wanted != size:
            if given is not None:
                changed = "something changes them"
                self.net.note(f"{step.name}: has {wanted} inputs and is given {size}: {changed}")
                self.net.end(given)
            given = self.opened(f"{step.name}.in", wanted)
        nodes = [self.net.nodes(segment, "hidden") for segment in given]
        before = np.concatenate([np.zeros(0, dtype=np.int64), *nodes])
        biases: tuple[FloatArray, ...] = ()
        if layer.bias is not None and step.bias_factor != 0.0:
            biases = (layer.bias.astype(np.float64),)
        return Sum(step.name, matrix.shape[0], ((before, matrix),), biases)

    def activated(self, step: Activation, given: list[Segment]) -> list[Segment]:
        """Return hidden nodes, or what a function that is not homogeneous makes of outputs."""
        name = step.name or self.activation
        if name is None:
            raise ValueError("activation = None: must be given, the model does not say what it is")
        if step.name:
            self.activations.add(canonical(name))
        reason = why_not(name)
        if reason is None:
            return [self.net.nodes(segment, "hidden") for segment in given]
        self.net.note(reason)
        self.net.end(given)
        return [self.net.created(name, size_of(segment), "input") for segment in given]

    def give_back(self, value: Hashable) -> None:
        """Let a value leave the network that the model returns; nodes that do keep no balance."""
        before = len(self.net.ended)
        self.net.end(self.signal(value))
        if len(self.net.ended) > before:
            names = self.net.ended_names(self.signal(value))
            self.net.note(f"{', '.join(names)}: the model returns its values as they are")

    def check_activation(self) -> None:
        """Refuse an activation that was given though the model has others."""
        if self.activation not in (None, *self.activations) and self.activations:
            raise ValueError(
                f"activation = {self.activation!r}: the {self.format} has "
                f"{', '.join(sorted(self.activations))}"
            )
