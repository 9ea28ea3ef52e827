"""Nodes and edges of the network of a model, collected one operation after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.dag.graph.graph import FloatArray
from obstruction.dag.graph.names import BIAS, Node
from obstruction.dag.network import Network
from obstruction.models.contents import NothingAuditable

Indices: TypeAlias = NDArray[np.int64]

_LARGEST: Final = 20_000_000
"""How many nodes and how many edges may be listed. So many edges take about a gigabyte."""


class ModelNetwork(NamedTuple):
    """A model as a network of nodes.

    Attributes
    ----------
    network : Network
    weights : ndarray, shape (size,)
    format : str
        The format of its source: ``"ONNX"``, ``"PyTorch module"``.
    chain : tuple of str
        The names of its layers if they form a chain. It is empty if the nodes are named by their
        layers.
    notes : tuple of str
        Where the network ends although the model goes on, a sentence each.
    """

    network: Network
    weights: FloatArray
    format: str
    chain: tuple[str, ...]
    notes: tuple[str, ...]


class Preactivations(NamedTuple):
    """Neurons before their activation: weighted sums over nodes, plus biases.

    Attributes
    ----------
    name : str
        The layer that the neurons are outputs of, several names with ``+`` for added layers.
    size : int
        The number of neurons.
    parts : tuple of (ndarray of int64, ndarray of float64)
        Nodes, and their weights with one row per neuron. The parts are added.
    biases : tuple of ndarray of float64
        One bias per neuron each. They are added too.
    """

    name: str
    size: int
    parts: tuple[tuple[Indices, FloatArray], ...]
    biases: tuple[FloatArray, ...]


Segment: TypeAlias = "Preactivations | Indices"
"""Some neurons of a value, as weighted sums or as nodes. A value may have several segments."""


class Assembly:
    """Collects nodes and edges. Nodes are numbered in the order in which they are made.

    Attributes
    ----------
    names : list of str
        The name of each node.
    ended : set of int
        Hidden nodes whose values leave the network.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.ended: set[int] = set()
        self._notes: dict[str, None] = {}
        self._kinds: list[str] = []
        self._edges: list[tuple[Indices, Indices, FloatArray]] = []
        self._biases: list[tuple[Indices, FloatArray]] = []
        self._made: dict[int, tuple[Preactivations, Indices]] = {}  # those with nodes, by identity
        self._size = 0

    def note(self, text: str) -> None:
        """Record where the network ends; a text that is recorded twice counts once."""
        self._notes[text] = None

    def created(self, name: str, count: int, kind: str) -> Indices:
        """Return new nodes.

        Raises
        ------
        ValueError
            If there are too many.
        """
        start = len(self.names)
        if start + count > _LARGEST:
            raise ValueError(f"{name}: more than {_LARGEST:,} nodes, which are too many to list")
        self.names += [f"{name}.{i}" for i in range(count)]
        self._kinds += [kind] * count
        return np.arange(start, start + count)

    def nodes(self, segment: Segment, kind: str) -> Indices:
        """Return the nodes of neurons, new ones if these neurons have none yet.

        Raises
        ------
        ValueError
            If there are too many nodes or edges.
        """
        if isinstance(segment, np.ndarray):
            return segment
        if id(segment) in self._made:  # a neuron is one node, before and behind its activation
            _, nodes = self._made[id(segment)]
            if kind != self._kinds[nodes[0]]:
                self.ended.update(nodes.tolist())
            return nodes
        nodes = self.created(segment.name, segment.size, kind)
        self._made[id(segment)] = segment, nodes
        for before, matrix in segment.parts:
            self._size += matrix.size
            if self._size > _LARGEST:
                raise ValueError(
                    f"{segment.name}: more than {_LARGEST:,} edges, which are too many to list"
                )
            self._edges.append((np.tile(before, nodes.size), np.repeat(nodes, before.size), matrix))
        self._biases += [(nodes, bias) for bias in segment.biases]
        return nodes

    def end(self, given: Iterable[Segment]) -> None:
        """Let the values of neurons leave the network."""
        for segment in given:
            if isinstance(segment, np.ndarray):
                self.ended.update(v for v in segment.tolist() if self._kinds[v] == "hidden")
            else:
                self.nodes(segment, "output")

    def ended_names(self, given: Iterable[Segment]) -> list[str]:
        """Return the names of layers whose hidden nodes, among those given, leave the network."""
        nodes = (v for one in given for v in self.nodes(one, "output").tolist())
        return sorted({self.names[v].rpartition(".")[0] for v in nodes if v in self.ended})

    def network(self, source: str) -> ModelNetwork:
        """Return the network of a source of this format.

        A hidden node whose value leaves the network keeps no balance, so it is divided: its
        incoming edges lead to an output, and its outgoing edges, if there are any, begin at an
        input.

        Raises
        ------
        NothingAuditable
            If no hidden node is left.
        """
        tails_of = np.arange(len(self.names))
        leading = {v for tails, _, _ in self._edges for v in np.unique(tails).tolist()}
        for v in sorted(self.ended):
            self._kinds[v] = "output"
            if v in leading:
                tails_of[v] = len(self.names)
                self.names.append(f"{self.names[v]}'")
                self._kinds.append("input")
        used = leading | set(range(tails_of.size, len(self.names)))
        places = {
            kind: [v for v, k in enumerate(self._kinds) if k == kind]
            for kind in ("input", "hidden", "output")
        }
        places["input"] = [v for v in places["input"] if v in used]
        if not places["hidden"]:
            raise NothingAuditable(
                f"this model ({source}) has no hidden neurons that keep a balance: "
                + ("; ".join(self._notes) or "no layer follows another")
            )
        order = [*places["input"], -1, *places["hidden"], *places["output"]]
        rank = np.zeros(len(self.names), dtype=np.int64)
        rank[[v for v in order if v >= 0]] = [i for i, v in enumerate(order) if v >= 0]
        bias = len(places["input"])
        tails = [rank[tails_of[a]] for a, _, _ in self._edges]
        heads = [rank[b] for _, b, _ in self._edges]
        weights = [matrix.ravel() for _, _, matrix in self._edges]
        for nodes, values in self._biases:
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
        return ModelNetwork(network, np.concatenate(weights), source, (), tuple(self._notes))


def size_of(segment: Segment) -> int:
    """Return the number of neurons."""
    return len(segment) if isinstance(segment, np.ndarray) else segment.size


def _distinct(names: list[str], bias: int) -> list[Node]:
    """Return names in which no name is repeated or equal to that of the bias."""
    seen: Counter[str] = Counter({BIAS: 1})
    made: list[Node] = []
    for i, name in enumerate(names):
        if i != bias and seen[name]:
            made.append(f"{name}#{seen[name] + 1}")
        else:
            made.append(name)
        seen[name] += 1
    return made
