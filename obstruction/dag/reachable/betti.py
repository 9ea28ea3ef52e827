"""Betti numbers of the invariant set of a small network, from the faces of its flow polyhedron.

The invariant set ``H(c)`` holds all weights with the balances ``c``. With ``x = w²`` it is the
polyhedron ``P = {x >= 0: B x = c}``, reflected in every coordinate. The reflections are added one
at a time. Each doubles a space ``Y`` along a part ``Y_e``. The double folds back onto ``Y``, so its
homology is the sum of the homology of ``Y`` and that of the pair ``(Y, Y_e)``. After all edges
(Davis, "The Geometry and Topology of Coxeter Groups", 2008, ch. 8)

    H_k(H(c)) = sum over all sets w of edges of H_k(P, P_w),   P_w = union of {x_e = 0}, e in w.

Since ``P`` is convex, the summand is the reduced ``H_{k-1}(P_w)``. Since faces of a polyhedron meet
in faces, ``P_w`` has the homotopy type of its nerve ``K_w``, the complex of the sets of edges in
``w`` that can vanish together. By Gale and Hoffman, edges cannot vanish together exactly if they
include all edges out of some set ``S`` of hidden nodes with ``c(S) < 0``, or all edges into one
with ``c(S) > 0``. Such a set of edges is called an *obstacle* here. The balances need not be in
general position. The sum over ``w`` is Hochster's formula for the ideal of the obstacles. Only
unions of obstacles contribute, and ``w = {}`` contributes one component. docs/dag_homology.md has
the proof and examples.

Ranks are computed exactly over the rational numbers. They do not show torsion.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Final, TypeAlias

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from obstruction.dag.graph.graph import Graph, WeightsLike
from obstruction.dag.graph.names import shown
from obstruction.dag.reachable.frozen import balances_and_slack
from obstruction.topology.polynomial import PoincarePolynomial as PoincarePolynomial
from obstruction.topology.polynomial import product

LARGEST: Final = 20
"""The most edges that linked hidden nodes may have together."""

_REMEMBERED: Final = 1 << 16

Coefficients: TypeAlias = tuple[int, ...]
Obstacles: TypeAlias = tuple[int, ...]
"""The smallest sets of edges that cannot vanish together, as bit masks in ascending order."""


def poincare_polynomial(
    graph: Graph, weights: WeightsLike, rtol: float | None = None
) -> PoincarePolynomial:
    """Return the Poincare polynomial of the set of weights with the same balances.

    Parameters
    ----------
    graph : Graph
        Hidden nodes that edges link, directly or through other hidden nodes, must have at most 20
        edges together, including those from inputs and biases and those to outputs.
    weights : array_like or mapping
        As for `Graph.vector`; only their balances matter.
    rtol : float, optional
        As for `frozen_edges`. A sum ``c(S)`` within its tolerance counts as zero.

    Returns
    -------
    PoincarePolynomial
        The coefficient of ``t^k`` is the k-th Betti number over the rationals. The coefficient in
        degree 0 is the number of components. Parts of the network that share no obstacle are
        separate factors.

    Raises
    ------
    ValueError
        If the network is too large, the weights do not fit, or ``rtol`` is out of its range.

    Examples
    --------
    Nothing is frozen, but there are five independent loops: a torus with four holes.

    >>> graph = Graph(
    ...     [("x", "g"), ("z", "g"), ("g", "h"), ("z", "h"), ("g", "y"), ("h", "y")],
    ...     inputs=["x", "z"],
    ...     outputs=["y"],
    ... )
    >>> print(poincare_polynomial(graph, [1, 1, 2, 1, 2, 1]))
    (1 + 5 t)
    """
    c, slack = balances_and_slack(graph, graph.vector(weights), rtol)
    factors = []
    for nodes, edges in _groups(graph):
        balances = [Fraction(c[v]) for v in nodes]
        bounds = [Fraction(slack[v]) for v in nodes]
        tails, heads = (
            [sum(1 << i for i, e in enumerate(edges) if ends[e] == v + graph.first) for v in nodes]
            for ends in (graph.tails, graph.heads)
        )
        for part in _linked(_obstacles(tails, heads, balances, bounds)):
            numbers = _polynomial(_relabelled(part))
            factors.append((tuple((k, b) for k, b in enumerate(numbers) if b), 1))
    return product(factors)


# --- which edges cannot vanish together ----------------------------------------------------------


def _groups(graph: Graph) -> Iterator[tuple[list[int], list[int]]]:
    """Yield each connected group of hidden nodes, numbered from 0, and the edges at its nodes."""
    n, first = len(graph.hidden), graph.first
    tails, heads = graph.tails - first, graph.heads - first
    inner = (tails >= 0) & (heads < n)
    links = sparse.csr_array(
        (np.ones(np.count_nonzero(inner)), (tails[inner], heads[inner])), shape=(n, n)
    )
    count, labels = csgraph.connected_components(links, directed=False)
    nodes: list[list[int]] = [[] for _ in range(count)]
    edges: list[list[int]] = [[] for _ in range(count)]
    for v, label in enumerate(labels.tolist()):
        nodes[label].append(v)
    for e, (a, b) in enumerate(zip(tails.tolist(), heads.tolist(), strict=True)):
        if a >= 0 or b < n:  # edges from an input or bias to an output have no hidden node
            edges[labels[a if a >= 0 else b]].append(e)
    for members, own in zip(nodes, edges, strict=True):
        if len(own) > LARGEST:
            raise ValueError(
                f"graph: the hidden nodes {shown([graph.hidden[v] for v in members])} have "
                f"{len(own):,} edges together; Betti numbers are computed for at most {LARGEST}"
            )
        yield members, own


def _obstacles(
    tails: list[int], heads: list[int], balances: list[Fraction], bounds: list[Fraction]
) -> Obstacles:
    """Return the obstacles, found by going through all sets ``S`` of nodes.

    ``tails`` and ``heads`` hold the edges out of and into each node as bit masks.
    """
    sets = [(0, 0, Fraction(0), Fraction(0))]
    for a, b, c, t in zip(tails, heads, balances, bounds, strict=True):
        sets += [(out | a, into | b, s + c, u + t) for out, into, s, u in sets]
    return _smallest(
        out & ~into if total < 0 else into & ~out
        for out, into, total, bound in sets
        if abs(total) > bound
    )


def _smallest(sets: Iterable[int]) -> Obstacles:
    """Return the sets that contain no other of the sets, in ascending order."""
    kept: list[int] = []
    for mask in sorted(set(sets), key=lambda mask: (mask.bit_count(), mask)):
        if not any(mask & other == other for other in kept):
            kept.append(mask)
    return tuple(sorted(kept))


def _linked(obstacles: Obstacles) -> list[Obstacles]:
    """Split obstacles into parts that have no edge in common."""
    parts: list[tuple[int, list[int]]] = []
    for mask in obstacles:
        touched = [part for part in parts if part[0] & mask]
        parts = [part for part in parts if not part[0] & mask]
        together = [mask, *(other for _, others in touched for other in others)]
        parts.append((mask | _union(m for m, _ in touched), together))
    return [tuple(sorted(others)) for _, others in parts]


def _relabelled(obstacles: Obstacles) -> Obstacles:
    """Return the obstacles with their edges numbered from 0, in the same order."""
    place = {bit: 1 << i for i, bit in enumerate(_bits(_union(obstacles)))}
    return tuple(sorted(sum(place[bit] for bit in _bits(mask)) for mask in obstacles))


# --- homology ----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=_REMEMBERED)
def _polynomial(obstacles: Obstacles) -> Coefficients:
    """Return the sum over all sets ``w`` of edges of ``t^k`` times the rank of ``H_{k-1}(K_w)``.

    If an edge of ``w`` is in no obstacle within ``w``, then ``K_w`` is a cone and contributes
    nothing. Only unions of obstacles therefore count.
    """
    unions = {0}
    for mask in obstacles:
        unions |= {union | mask for union in unions}
    found = (_ranks(tuple(m for m in obstacles if m & union == m)) for union in unions)
    return tuple(map(sum, itertools.zip_longest(*found, fillvalue=0)))


@functools.lru_cache(maxsize=_REMEMBERED)
def _ranks(obstacles: Obstacles) -> Coefficients:
    """Return the Betti numbers of the complex of all sets of edges that contain no obstacle.

    Its vertices are the edges in the obstacles. Entry ``k`` is the rank of the reduced homology in
    degree ``k - 1``.
    """
    parts = _linked(obstacles)
    if len(parts) != 1:  # a join
        return functools.reduce(_product, map(_ranks, parts), (1,))
    if len(obstacles) == 1:  # the boundary of a simplex, which is a sphere
        return (0,) * (obstacles[0].bit_count() - 1) + (1,)
    for bit in _bits(_union(obstacles)):
        rest = _union(obstacles) & ~bit
        without = tuple(mask for mask in obstacles if not mask & bit)
        link = _smallest(mask & ~bit for mask in obstacles)
        if _union(link) != rest:  # the link is a cone, so the vertex can be left out
            return _ranks(without) if _union(without) == rest else ()
        if _union(without) != rest:  # the rest is a cone, so this is a suspension of the link
            ranks = _ranks(link)
            return (0, *ranks) if ranks else ()
    return _ranks_of_boundaries(obstacles)


def _ranks_of_boundaries(obstacles: Obstacles) -> Coefficients:
    """Return the result of `_ranks` by elimination in the matrices of the boundary maps."""
    faces = _faces(obstacles)
    ranks = [0, *(_rank(small, large) for small, large in itertools.pairwise(faces)), 0]
    found = [len(level) - ranks[k] - ranks[k + 1] for k, level in enumerate(faces)]
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _faces(obstacles: Obstacles) -> list[list[int]]:
    """Return the sets of edges that contain no obstacle, one list for each size from 0 on."""
    vertices = _bits(_union(obstacles))
    levels = [[0]]
    while levels[-1]:
        levels.append(
            [
                face | bit
                for face in levels[-1]
                for bit in vertices
                if bit > face and not any((face | bit) & mask == mask for mask in obstacles)
            ]
        )
    return levels[:-1]


def _rank(small: Sequence[int], large: Sequence[int]) -> int:
    """Return the rank over the rationals of the boundary map from larger faces to smaller ones."""
    place = {face: i for i, face in enumerate(small)}
    pivots: dict[int, dict[int, int]] = {}
    for face in large:
        column = {place[face & ~bit]: (-1) ** i for i, bit in enumerate(_bits(face))}
        while column:
            top = max(column)
            if top not in pivots:
                pivots[top] = column
                break
            pivot = pivots[top]
            a, b = column[top], pivot[top]
            less = {i: b * column.get(i, 0) - a * pivot.get(i, 0) for i in column | pivot}
            common = math.gcd(*less.values())  # divided out, so that the numbers stay small
            column = {i: value // common for i, value in less.items() if value}
    return len(pivots)


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        found.append(mask & -mask)
        mask &= mask - 1
    return found


def _union(masks: Iterable[int]) -> int:
    return functools.reduce(operator.or_, masks, 0)


def _product(one: Coefficients, two: Coefficients) -> Coefficients:
    return tuple(np.convolve(one, two).tolist()) if one and two else ()
