"""Networks of models whose layers branch, are added or are concatenated.

The operations of the model are applied one after the other to inputs that stand for neurons. Where
an operation conserves no balance, the network ends and begins anew: the values that enter a softmax
become outputs of the network, and its result becomes inputs. This loses nothing, because the
balance of a neuron depends only on the weights at that neuron. Values that are added without
weights of their own, as in residual networks, cannot be rescaled independently of each other, so
the network ends there too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final, cast

import numpy as np

from obstruction.dag.from_models.assembling import (
    Assembly,
    ModelNetwork,
    Preactivations,
    Segment,
    size_of,
)
from obstruction.dag.from_models.widths import matrix_of, widths_of
from obstruction.dag.graph.graph import FloatArray
from obstruction.models.activations import canonical, why_not
from obstruction.models.contents import Activation, Barrier, Contents, Dense, Join, Operation
from obstruction.models.layers.resolving import layer_of
from obstruction.models.options import NO_OPTIONS, ReadOptions

_FIXED: Final = (
    "values are added without weights of their own (a skip connection with the fixed weight 1), "
    "so none of them can be rescaled alone"
)
_NORMALISED: Final = "its weights are normalised, which hides their scale from the neurons before"
_MOST_SEGMENTS: Final = 10_000_000
"""How many parts all concatenated values may have together: about 100 megabytes."""


def has_branches(contents: Contents) -> bool:
    """Return whether the layers of a model are known not to form a chain.

    That is so if outputs of layers are added or concatenated, or if a value takes more than one way
    to a layer or to the results of the model. Operations behind the last layers do not count.
    """
    if contents.graph is None:
        return False
    results = set(contents.graph.results)
    ahead: Counter[Hashable] = Counter()  # from each value, the number of ways that lead to a layer
    for operation in reversed(contents.graph.operations):
        barriers = [step for step in operation.steps if isinstance(step, Barrier)]
        if barriers and all(isinstance(step, Join) for step in barriers):
            return True
        is_layer = any(isinstance(step, Dense) for step in operation.steps)
        if is_layer or any(ahead[value] for value in operation.outputs):
            ahead.update(operation.inputs)
    return any(count + (value in results) > 1 for value, count in ahead.items())


def from_operations(contents: Contents, options: ReadOptions = NO_OPTIONS) -> ModelNetwork:
    """Return the network that the operations of a model form.

    Parameters
    ----------
    contents : Contents
        With a graph that says how the weights of every layer are stored.
    options : ReadOptions, optional
        The activation wherever the source does not name one. Nothing else is used.

    Raises
    ------
    UnreadableModel
        If weights are no matrix of finite numbers.
    NothingAuditable
        If no hidden neuron keeps a balance; the message gives the reasons.
    ValueError
        If an activation must be given, or is given but is none of those in the model, or if there
        are too many nodes or edges to list.
    """
    assert contents.graph is not None
    builder = _Builder(contents, options.activation)
    builder.find_uses()
    for operation in contents.graph.operations:
        builder.add(operation)
    for value in contents.graph.results:
        builder.give_back(value)
    builder.check_activation()
    return builder.net.network(contents.format)


class _Builder:
    """Applies the operations of a model to values that stand for neurons."""

    def __init__(self, contents: Contents, activation: str | None) -> None:
        assert contents.graph is not None
        self.contents, self.graph = contents, contents.graph
        self.shared = frozenset().union(*contents.shared)
        self.activation = activation
        self.activations: set[str] = set()  # those that the model names
        self.widths = widths_of(self.graph.operations, contents.tensors)
        self.signals: dict[Hashable, list[Segment]] = {}  # the neurons of each value
        self.net = Assembly()
        self.uses: Counter[str] = Counter()  # how many layers use each tensor
        self.exclusive: set[Hashable] = set()  # values of neurons that nothing else uses
        self.segments = 0  # of all concatenated values

    # --- uses ----------------------------------------------------------------------------------

    def find_uses(self) -> None:
        """Count the layers that use each tensor, and find the values that are used only once.

        The output of a layer is exclusive if one operation uses it. The output of any other
        operation is exclusive if one operation uses it and all inputs are exclusive.
        """
        ways = Counter(self.graph.results)
        for operation in self.graph.operations:
            ways.update(operation.inputs)
        for operation in self.graph.operations:
            layers = [step for step in operation.steps if isinstance(step, Dense)]
            for layer in layers:
                parts = {layer.weight, layer.bias, layer.magnitude}
                self.uses.update(name for name in parts if name)
            if layers or self.exclusive.issuperset(operation.inputs):
                self.exclusive.update(value for value in operation.outputs if ways[value] == 1)

    def hindrance(self, layer: Dense) -> str | None:
        """Return why no neuron at a layer can be rescaled, None if they can."""
        if not layer.trained:
            return "it is not trained"
        for name in (layer.weight, layer.bias):
            if name and (self.uses[name] > 1 or name in self.shared):
                return f"its {name} is used elsewhere as well"
        return "its weights are multiplied by 0" if layer.factor == 0.0 else None

    # --- operations ----------------------------------------------------------------------------

    def signal(self, value: Hashable) -> list[Segment]:
        """Return the neurons of a value, new inputs if no operation has made it."""
        if value not in self.signals:
            self.signals[value] = self.opened(str(value), self.widths.get(value))
        return self.signals[value]

    def opened(self, name: str, width: int | None) -> list[Segment]:
        """Return new inputs; none if their number is not known, as no layer reads them then."""
        return [self.net.created(name, width, "input")] if width else []

    def add(self, operation: Operation) -> None:
        """Apply an operation to its inputs."""
        given = [self.signal(value) for value in operation.inputs]
        joins = [step for step in operation.steps if isinstance(step, Join)]
        if joins:
            (join,), (value,) = joins, operation.outputs
            if join.operation == "concat":
                self.signals[value] = self.concatenated(join, given, self.widths.get(value))
            elif self.can_sum(operation, given):
                self.signals[value] = self.summed(cast(list[list[Preactivations]], given))
            else:
                self.net.note(f"{join.name}: {_FIXED}")
                self.net.end(segment for one in given for segment in one)
                self.signals[value] = self.opened(join.name, self.widths.get(value))
            return
        made: list[Segment] | None = [segment for one in given for segment in one]
        for step in operation.steps:
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
                    rows = len(matrix_of(step, self.contents.tensors))
                    made = self.opened(step.name, rows)
        for value in operation.outputs:
            if made is None:
                name = self.last_name(operation)
                self.signals[value] = self.opened(name, self.widths.get(value))
            else:
                self.signals[value] = made

    @staticmethod
    def last_name(operation: Operation) -> str:
        """Return what the source calls an operation."""
        named = [step.name for step in operation.steps if not isinstance(step, Activation)]
        return named[-1] if named else "made"

    def concatenated(
        self, join: Join, given: Sequence[Sequence[Segment]], width: int | None
    ) -> list[Segment]:
        """Return the neurons of several values, or new inputs if some of them are not known."""
        self.segments += sum(map(len, given))
        if self.segments > _MOST_SEGMENTS:
            raise ValueError(
                f"{join.name}: the concatenated values have more than {_MOST_SEGMENTS:,} parts, "
                "which are too many to list"
            )
        found = [segment for one in given for segment in one]
        size = sum(map(size_of, found))
        if width in (None, size):
            return found
        if found:
            self.net.note(f"{join.name}: has {width} neurons, and only of {size} it is known whose")
            self.net.end(found)
        return self.opened(join.name, width)

    def can_sum(self, operation: Operation, given: Sequence[Sequence[Segment]]) -> bool:
        """Return whether an addition only adds up outputs of layers that nothing else uses.

        Any other addition has connections without weights: from nodes to their sum, or from one
        sum of inputs to two nodes.
        """
        sizes = [[size_of(segment) for segment in one] for one in given]
        sums = all(isinstance(segment, Preactivations) for one in given for segment in one)
        alike = all(other == sizes[0] for other in sizes)
        return sums and alike and self.exclusive.issuperset(operation.inputs)

    @staticmethod
    def summed(given: Sequence[Sequence[Preactivations]]) -> list[Segment]:
        """Return the sums of values, segment by segment."""
        return [
            Preactivations(
                "+".join(one.name for one in across),
                across[0].size,
                tuple(part for one in across for part in one.parts),
                tuple(bias for one in across for bias in one.biases),
            )
            for across in zip(*given, strict=True)
        ]

    def layer(self, step: Dense, given: list[Segment] | None) -> Preactivations:
        """Return the outputs of a layer.

        Inputs that are themselves outputs of a layer become hidden nodes with a linear activation.
        If the layer takes another number of inputs than it is given, something has reshaped them,
        and new inputs take their place.
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
        return Preactivations(step.name, matrix.shape[0], ((before, matrix),), biases)

    def activated(self, step: Activation, given: list[Segment]) -> list[Segment]:
        """Return hidden nodes, or new inputs behind an activation that is not homogeneous."""
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
        """Let the model return a value; hidden nodes that it returns keep no balance."""
        before = len(self.net.ended)
        self.net.end(self.signal(value))
        if len(self.net.ended) > before:
            names = self.net.ended_names(self.signal(value))
            self.net.note(f"{', '.join(names)}: the model returns its values as they are")

    def check_activation(self) -> None:
        """Check that an activation that was given is one of those in the model.

        Raises
        ------
        ValueError
            If it is none of them.
        """
        if self.activation not in (None, *self.activations) and self.activations:
            raise ValueError(
                f"activation = {self.activation!r}: the {self.contents.format} has "
                f"{', '.join(sorted(self.activations))}"
            )
