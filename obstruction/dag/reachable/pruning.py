"""Pruning, which removes the edges and nodes that add nothing to the function of a network."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from obstruction.dag.graph.graph import Graph, WeightsLike
from obstruction.dag.graph.names import Edge, Node
from obstruction.tools.checks import check_tolerance


class Parts(NamedTuple):
    """What is left of a network, and what is not.

    Attributes
    ----------
    nodes : list of int
        The places of the nodes that stay.
    edges : ndarray of int
        The places of the edges that stay, in order.
    removed_nodes : tuple of nodes
        Hidden nodes that are left out.
    removed_edges : tuple of (node, node)
        Edges that are left out.
    largest : float
        The largest absolute weight among edges that count as zero though they are not; 0 if the
        function is the same.
    """

    nodes: list[int]
    edges: NDArray[np.int64]
    removed_nodes: tuple[Node, ...]
    removed_edges: tuple[Edge, ...]
    largest: float


def useful_parts(graph: Graph, weights: WeightsLike, tolerance: float = 0.0) -> Parts:
    """Return the part of a network that its function needs.

    Parameters
    ----------
    graph : Graph
    weights : array_like or mapping
        As for `Graph.vector`.
    tolerance : float
        Weights of at most this absolute value count as zero, >= 0.

    Notes
    -----
    An edge stays if its weight does not count as zero and it lies on a path of such edges from an
    input or bias to an output; a hidden node stays if an edge of its does. A node that nothing
    reaches has the value ReLU(0) = 0, and one that leads nowhere has no effect: with tolerance 0
    the function stays the same, whether these nodes are cut off on both sides or on one.
    """
    limit = check_tolerance(tolerance)
    sizes = np.abs(graph.vector(weights).astype(np.float64))
    kept = graph.on_paths(sizes > limit)
    dropped = np.flatnonzero(~kept)
    used = np.zeros(graph.nodes, dtype=bool)
    used[graph.tails[kept]] = used[graph.heads[kept]] = True
    used[: graph.first] = used[graph.last :] = True
    ignored = sizes[(sizes > 0.0) & (sizes <= limit)]
    return Parts(
        np.flatnonzero(used).tolist(),
        np.flatnonzero(kept),
        tuple(graph.hidden[v - graph.first] for v in np.flatnonzero(~used).tolist()),
        tuple(graph.edges[e] for e in dropped.tolist()),
        float(ignored.max(initial=0.0)),
    )
