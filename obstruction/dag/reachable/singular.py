"""Singular points of the invariant set, where a sub-network is cut off from the rest.

The constraints ``B w² = c`` have the Jacobian ``2 B diag(w)``. A group of hidden nodes is *cut off*
if no chain of edges with ``w_e != 0``, in whatever direction, connects it with an input, a bias or
an output. The rank of the Jacobian is the number of hidden nodes minus the number of such groups.
A point is therefore singular if and only if some group ``S`` is cut off. Then ``c(S) = 0``, because
no nonzero weight crosses the border of ``S``. docs/dag.md has the proofs and the relation to
pruning.
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
"""The most hidden nodes of which all subsets are searched."""

LARGEST_CUT: Final = 4000
"""The most hidden nodes for which the nearest singular point is searched."""


class Singularity(NamedTuple):
    """The nearest point at which a network is singular.

    Attributes
    ----------
    distance : float
        The Euclidean distance to this point in the space of weights.
    nodes : tuple of nodes
        The set ``S`` of hidden nodes that are cut off there. All weights that cross the border of
        ``S`` vanish.
    balance : float
        The balance ``c(S)``. Unless it is zero, gradient flow cannot reach a point where ``S`` is
        cut off, because the squared weights across the border of ``S`` sum to at least ``|c(S)|``.
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

    The arguments are those of `cut_off`.

    Examples
    --------
    All weights of one of the two hidden neurons are zero:

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
        A network with at most 20 hidden nodes, because all their subsets are searched.
    weights : array_like or mapping
        As for `Graph.vector`; only their balances matter.
    rtol : float, optional
        As for `frozen_edges`.

    Returns
    -------
    tuple of tuples of nodes
        The sets ``S`` with ``c(S) = 0`` for which the invariant set has a point where no nonzero
        weight crosses the border of ``S``, by increasing size. There are none for weights in
        general position.

    Raises
    ------
    ValueError
        If there are too many hidden nodes, or an argument is out of its range.
    """
    n = len(graph.hidden)
    if n > LARGEST_LISTED:
        raise ValueError(f"graph: must have at most {LARGEST_LISTED} hidden nodes, not {n:,}")
    c, slack = balances_and_slack(graph, graph.vector(weights), rtol)
    slack = slack.astype(np.float64)
    found = [
        members for members in _zero_sums(graph, c, slack) if _separable(graph, members, c, slack)
    ]
    found.sort(key=lambda members: (len(members), members))
    return tuple(tuple(graph.hidden[v] for v in members) for members in found)


def distance_to_singularity(graph: Graph, weights: WeightsLike) -> Singularity:
    """Return the singular point that is nearest to given weights.

    Parameters
    ----------
    graph : Graph
        A network with 1 to 4000 hidden nodes.
    weights : array_like or mapping
        As for `Graph.vector`.

    Returns
    -------
    Singularity
        The distance to a point where a set ``S`` is cut off is the square root of the sum of
        squared weights across the border of ``S``. The smallest one is found as a global minimum
        cut (Stoer and Wagner 1997).

    Raises
    ------
    ValueError
        If there are no hidden nodes or too many, or the weights do not fit.

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
        raise ValueError(f"graph: must have 1 to {LARGEST_CUT:,} hidden nodes, not {n:,}")
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
    """Return the ends of the edges: hidden nodes are numbered from 0, all others are ``n``."""
    n = len(graph.hidden)
    tails, heads = (ends - graph.first for ends in (graph.tails, graph.heads))
    return tuple(np.where((e >= 0) & (e < n), e, n) for e in (tails, heads))  # type: ignore[return-value]


def _groups(graph: Graph, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the number of each hidden node's group, -1 if the group is not cut off."""
    n = len(graph.hidden)
    tails, heads = (ends[kept] for ends in _merged_ends(graph))
    links = sparse.csr_array((np.ones(tails.size), (tails, heads)), shape=(n + 1, n + 1))
    _, labels = csgraph.connected_components(links, directed=False)
    return np.where(labels[:n] == labels[n], -1, labels[:n])


def _zero_sums(graph: Graph, c: NDArray[Any], slack: NDArray[Any]) -> Iterator[list[int]]:
    """Yield the connected sets of nodes whose balances sum to zero within their slacks."""
    sums, slacks = np.zeros(1, dtype=c.dtype), np.zeros(1)
    for balance, more in zip(c, slack, strict=True):
        sums = np.concatenate([sums, sums + balance])
        slacks = np.concatenate([slacks, slacks + float(more)])
    sets = np.flatnonzero(np.abs(sums) <= slacks)[1:]  # without the empty set
    for members in sets[_connected(graph, sets)].tolist():
        yield [v for v in range(c.size) if members >> v & 1]


def _connected(graph: Graph, sets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which sets of hidden nodes, given as bit masks, are connected."""
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
    """Return whether the balances allow that no nonzero weight crosses the border of a set.

    They do if a flow along the other edges gives each hidden node its balance. All inputs, biases
    and outputs together then supply the negative sum of the balances.
    """
    if not any(c.tolist()):
        return True  # all weights can vanish
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
    """Return the size of the smallest cut of an undirected graph and the side of each node, 0 or 1.

    The algorithm is that of Stoer and Wagner, "A simple min-cut algorithm", J. ACM 44 (1997), on a
    full matrix.
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
    return best, np.isin(np.arange(n), side).astype(np.int64)
