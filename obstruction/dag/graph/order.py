"""Topological order and reachability of the nodes of a directed graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import sparse

from obstruction.dag.graph.names import Node
from obstruction.topology.regions import Indices, Mask


def depths(names: Sequence[Node], tails: Indices, heads: Indices) -> Indices:
    """Return the number of edges on the longest path to each node; raise ValueError for a cycle."""
    order = np.argsort(tails, kind="stable")
    ends = np.concatenate([[0], np.cumsum(np.bincount(tails, minlength=len(names)))])
    waiting = np.bincount(heads, minlength=len(names))
    depth = np.zeros(len(names), dtype=np.int64)
    ready = np.flatnonzero(waiting == 0)
    level = 0
    while ready.size:
        depth[ready] = level
        level += 1
        counts = ends[ready + 1] - ends[ready]
        before = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) + np.repeat(ends[ready] - before, counts)
        reached, times = np.unique(heads[order[places]], return_counts=True)
        waiting[reached] -= times
        ready = reached[waiting[reached] == 0]
    if (left := np.flatnonzero(waiting > 0)).size:
        raise ValueError(f"edges: must have no cycle: {_cycle(names, left, tails, heads)}")
    return depth


def _cycle(names: Sequence[Node], left: Indices, tails: Indices, heads: Indices) -> str:
    """Return a cycle among the nodes ``left`` as text."""
    # Every one of these nodes has an edge from another; following them backwards closes a cycle.
    inside = np.isin(tails, left) & np.isin(heads, left)
    before = dict(zip(heads[inside].tolist(), tails[inside].tolist(), strict=True))
    path = [int(left[0])]
    while path.count(path[-1]) == 1:
        path.append(before[path[-1]])
    cycle = path[path.index(path[-1]) :][::-1]
    words = [str(names[v]) for v in cycle]
    if len(words) > 10:
        words = [*words[:5], "...", *words[-5:]]
    return " -> ".join(words)


def reached(graph: sparse.csr_array, start: Iterable[int]) -> Mask:
    """Return which nodes can be reached from the nodes in ``start``, which are included."""
    mask = np.zeros(graph.shape[0], dtype=bool)
    mask[list(start)] = True
    front = np.flatnonzero(mask)
    while front.size:
        found = np.unique(graph[front].indices)
        front = found[~mask[found]]
        mask[front] = True
    return mask
