"""Singular points of the invariant set, at which a sub-network is cut off from the rest.

The constraints ``B w² = c`` have the Jacobian ``2 B diag(w)``. Its rank is the number of hidden
nodes less the number of groups of them that the edges with ``w_e != 0`` do not connect, in whatever
direction, with any input, bias or output. So a point is singular exactly if there is such a group
``S``; then ``c(S) = 0``, as no weight crosses its border. docs/dag.md has the proofs, and what this
has to do with pruning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from obstruction.dag.graph.graph import FloatArray, Graph, WeightsLike
from obstruction.dag.graph.names import Node
from obstruction.dag.reachable.frozen import balances_and_slack
from obstruction.tools.checks import check_tolerance

LARGEST_LISTED: Final = 20
"""Hidden nodes up to which all their subsets are looked at."""

LARGEST_CUT: Final = 4000
"""Hidden nodes up to which the nearest singular point is looked for."""


class Singularity(NamedTuple):
    """The nearest point at which a network is singular.

    Attributes
    ----------
    distance : float
        The Euclidean distance to it in the space of weights.
    nodes : tuple of nodes
        The hidden nodes that are cut off there; all weights that cross their border vanish.
    balance : float
        Their balance ``c(S)``. Unless it is zero, gradient flow cannot reach a point where they are
        cut off: the squares of the weights that cross their border add up to ``|c(S)|`` at least.
    """

    distance: float
    nodes: tuple[Node, ...]
    balance: float


def cut_off(
    graph: Graph, weights: WeightsLike, tolerance: float = 0.0
) -> tuple[tuple[Node, ...], ...]:
    """Return the groups of hidden nodes that no weight connects with inputs, biases or outputs.

    Parameters
    ----------
    graph : Graph
    weights : array_like or mapping
        As for `Graph.vector`.
    tolerance : float
        Weights of at most this absolute value count as zero, >= 0.

    Returns
    -------
    tuple of tuples of nodes
        Empty at a regular point.
    """
    labels = _groups(graph, np.abs(graph.vector(weights)) > check_tolerance(tolerance))
    names = graph.hidden
    return tuple(
        tuple(names[v] for v in np.flatnonzero(labels == label).tolist())
        for label in np.unique(labels[labels >= 0]).tolist()
    )


def is_singular(graph: Graph, weights: WeightsLike, tolerance: float = 0.0) -> bool:
    """Return whether weights are a singular point of their invariant set.

    Arguments are those of `cut_off`.

    Examples
    --------
    A hidden neuron of two without any weights:

    >>> graph = Graph(
    ...     [("x", "g"), ("g", "y"), ("x", "h"), ("h", "y")], inputs=["x"], outputs=["y"]
    ... )
    >>> is_singular(graph, [1, 2, 0, 0]), is_singular(graph, [1, 2, 0, 3])
    (True, False)
    """
    return bool(cut_off(graph, weights, tolerance))


def singular_subnetworks(
    graph: Graph, weights: WeightsLike, rtol: float | None = None
) -> tuple[tuple[Node, ...], ...]:
    """Return the connected sub-networks that could be cut off within the invariant set.

    Parameters
    ----------
    graph : Graph
        With at most 20 hidden nodes, as all their subsets are looked at.
    weights : array_like or mapping
        As for `Graph.vector`; only their balances matter.
    rtol : float, optional
        As for `frozen_edges`.

    Returns
    -------
    tuple of tuples of nodes
        The sets ``S`` with ``c(S) = 0`` for which the invariant set has a point where no weight
        crosses the border of ``S``; small ones first. For weights without such coincidences none.

    Raises
    ------
    ValueError
        If there are more hidden nodes, or an argument is out of its range.
    """
    n = len(graph.hidden)
    if n > LARGEST_LISTED:
        raise ValueError(
            f"graph: has {n:,} hidden nodes, all subsets are looked at for at most {LARGEST_LISTED}"
        )
    c, slack = balances_and_slack(graph, graph.vector(weights), rtol)
    slack = slack.astype(np.float64)
    found = [
        members for members in _zero_sums(graph, c, slack) if _separable(graph, members, c, slack)
    ]
    return tuple(tuple(graph.hidden[v] for v in members) for members in sorted(found, key=_by_size))


def distance_to_singularity(graph: Graph, weights: WeightsLike) -> Singularity:
    """Return the nearest singular point: what would have to vanish to cut a sub-network off.

    Parameters
    ----------
    graph : Graph
        With at most 4000 hidden nodes.
    weights : array_like or mapping
        As for `Graph.vector`.

    Returns
    -------
    Singularity
        Over all sets ``S`` of hidden nodes the smallest root of the sum of squared weights that
        cross the border of ``S``: a global minimum cut (Stoer and Wagner 1997).

    Raises
    ------
    ValueError
        If there is no hidden node, or too many.

    Examples
    --------
    >>> graph = Graph(
    ...     [("x", "g"), ("g", "y"), ("x", "h"), ("h", "y")], inputs=["x"], outputs=["y"]
    ... )
    >>> distance_to_singularity(graph, [5.0, 5.0, 3.0, 4.0])
    Singularity(distance=5.0, nodes=('h',), balance=-7.0)
    """
    n = len(graph.hidden)
    if not 1 <= n <= LARGEST_CUT:
        raise ValueError(f"graph: has {n:,} hidden nodes, must have 1 to {LARGEST_CUT:,}")
    vector = graph.vector(weights).astype(np.float64)
    tails, heads = _merged_ends(graph)
    between = np.zeros((n + 1, n + 1))
    np.add.at(between, (tails, heads), vector * vector)
    between = between + between.T
    np.fill_diagonal(between, 0.0)
    size, members = _minimum_cut(between)
    inside = [v for v in range(n) if members[v] != members[n]]
    balance = math.fsum(graph.balances(vector)[inside])
    return Singularity(math.sqrt(size), tuple(graph.hidden[v] for v in inside), balance)


def _merged_ends(graph: Graph) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ends of the edges with hidden nodes from 0 and one number for all others."""
    n = len(graph.hidden)
    tails, heads = (ends - graph.first for ends in (graph.tails, graph.heads))
    return tuple(np.where((e >= 0) & (e < n), e, n) for e in (tails, heads))  # type: ignore[return-value]


def _groups(graph: Graph, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return a number for each hidden node: its group, or -1 if that has an end outside."""
    n = len(graph.hidden)
    tails, heads = (ends[kept] for ends in _merged_ends(graph))
    links = sparse.csr_array((np.ones(tails.size), (tails, heads)), shape=(n + 1, n + 1))
    _, labels = csgraph.connected_components(links, directed=False)
    return np.where(labels[:n] == labels[n], -1, labels[:n])


def _zero_sums(graph: Graph, c: NDArray[Any], slack: NDArray[Any]) -> Iterator[list[int]]:
    """Yield the connected sets of nodes whose balances add up to zero within their slacks."""
    sums, slacks = np.zeros(1, dtype=c.dtype), np.zeros(1)
    for balance, more in zip(c, slack, strict=True):
        sums = np.concatenate([sums, sums + balance])
        slacks = np.concatenate([slacks, slacks + float(more)])
    sets = np.flatnonzero(np.abs(sums) <= slacks)[1:]  # but the empty one
    for members in sets[_connected(graph, sets)].tolist():
        yield [v for v in range(c.size) if members >> v & 1]


def _connected(graph: Graph, sets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which sets of hidden nodes, given as bit masks, hang together."""
    tails, heads = _merged_ends(graph)
    n = len(graph.hidden)
    neighbours = [0] * (n + 1)
    for a, b in zip(tails.tolist(), heads.tolist(), strict=True):
        neighbours[a] |= 1 << b
        neighbours[b] |= 1 << a
    reached, before = sets & -sets, np.zeros_like(sets)
    while (reached != before).any():
        before = reached
        for v in range(n):
            reached = reached | np.where(reached >> v & 1, neighbours[v] & sets, 0)
    found: NDArray[np.bool_] = reached == sets
    return found


def _separable(graph: Graph, members: list[int], c: NDArray[Any], slack: NDArray[Any]) -> bool:
    """Return whether the balances can be kept without any weight across the border of a set.

    A flow along the other edges must bring each node what its balance asks for; what all ends
    outside have to bring follows.
    """
    if not any(c.tolist()):
        return True  # all weights may vanish
    import networkx

    tails, heads = _merged_ends(graph)
    n = len(graph.hidden)
    kept = np.isin(tails, members) == np.isin(heads, members)
    flow = networkx.DiGraph()
    flow.add_nodes_from(("source", "sink"))
    flow.add_edges_from(zip(tails[kept].tolist(), heads[kept].tolist(), strict=True))
    exact = [Fraction(value) for value in c.tolist()]
    asked = Fraction(0)
    for v, value in enumerate([*exact, -sum(exact, Fraction(0))]):
        if value < 0:
            asked -= value
            flow.add_edge("source", v, capacity=-value)
        elif value > 0:
            flow.add_edge(v, "sink", capacity=value)
    flow.remove_edges_from([(n, n)])
    brought = networkx.maximum_flow_value(flow, "source", "sink")
    return bool(asked - brought <= sum(map(Fraction, slack.tolist()), Fraction(0)))


def _minimum_cut(between: FloatArray) -> tuple[float, NDArray[np.int64]]:
    """Return the smallest cut of an undirected graph and on which side each node is.

    Stoer and Wagner, "A simple min-cut algorithm", J. ACM 44 (1997), on a full matrix.
    """
    n = len(between)
    between = between.copy()
    merged = [[v] for v in range(n)]
    gone = np.zeros(n)  # -inf for nodes that were merged into others
    best, side = math.inf, [0]
    for left in range(n, 1, -1):
        reach = gone.copy()  # -inf for nodes that were visited
        last = previous = int(np.argmax(reach))
        cut = 0.0
        for _ in range(left - 1):
            reach += between[last]
            reach[last] = -math.inf
            previous, last = last, int(np.argmax(reach))
            cut = float(reach[last])
        if cut < best:
            best, side = cut, list(merged[last])
        merged[previous] += merged[last]
        between[previous] += between[last]
        between[:, previous] += between[:, last]
        between[previous, previous] = 0.0
        gone[last] = -math.inf
    sides = np.zeros(n, dtype=np.int64)
    sides[side] = 1
    return best, sides


def _by_size(members: list[int]) -> tuple[int, list[int]]:
    return len(members), members
