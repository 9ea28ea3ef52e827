"""Betti numbers of the invariant set of a small network, from the faces of its flow polyhedron.

With ``x = w²`` the weights of given balances are the polyhedron ``P = {x >= 0: B x = c}``,
reflected in every coordinate. Add the reflections one at a time: doubling a space ``Y`` along a
part ``Y_e`` gives a space that folds back onto ``Y``, so its homology is that of ``Y`` and, beside
it, that of the pair ``(Y, Y_e)``. After all edges (Davis, "The Geometry and Topology of Coxeter
Groups", 2008, ch. 8)

    H_k(H(c)) = sum over all sets w of edges of H_k(P, P_w),   P_w = union of {x_e = 0}, e in w.

``P`` is convex, so this is the reduced ``H_{k-1}(P_w)``; faces of a polyhedron meet in faces, so
``P_w`` has the homotopy type of the nerve ``K_w``: the sets ``s`` of edges in ``w`` that can vanish
together. By Gale and Hoffman the edges ``s`` cannot exactly if they are all edges out of some set
``S`` of hidden nodes with ``c(S) < 0``, or all edges into one with ``c(S) > 0``. None of this asks
for balances in general position. The sum over ``w`` is Hochster's formula for the ideal of these
*obstacles*; only unions of obstacles contribute, and ``w = {}`` gives the one component there is at
least. docs/dag_homology.md has the proof in full, and examples.

Ranks are those over the rational numbers, exactly; torsion, if there is any, is not seen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
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
"""Edges up to which hidden nodes that are linked with each other are worked through."""

_REMEMBERED: Final = 1 << 16

Coefficients: TypeAlias = tuple[int, ...]
Obstacles: TypeAlias = tuple[int, ...]
"""Sets of edges as bit masks, ascending, none within another: they cannot vanish together."""


def poincare_polynomial(
    graph: Graph, weights: WeightsLike, rtol: float | None = None
) -> PoincarePolynomial:
    """Return the Poincare polynomial of the set of weights with the same balances.

    Parameters
    ----------
    graph : Graph
        Hidden nodes that edges link, directly or through other hidden nodes, must have at most 20
        edges together, those from inputs and biases and to outputs among them.
    weights : array_like or mapping
        As for `Graph.vector`; only their balances matter.
    rtol : float, optional
        As for `frozen_edges`. Sums ``c(S)`` within their tolerance count as zero.

    Returns
    -------
    PoincarePolynomial
        The number in degree 0 is that of components; the ranks are those over the rationals. Parts
        of the network that share no obstacle are factors.

    Raises
    ------
    ValueError
        If the network is too large, or an argument is not what it must be.

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
    """Yield the hidden nodes that hang together, from 0 on, and the edges that they have."""
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
        if a >= 0 or b < n:  # not straight from an input to an output
            edges[labels[a if a >= 0 else b]].append(e)
    for members, own in zip(nodes, edges, strict=True):
        if len(own) > LARGEST:
            raise ValueError(
                f"graph: the hidden nodes {shown([graph.hidden[v] for v in members])} have "
                f"{len(own):,} edges together, Betti numbers are computed for at most {LARGEST}"
            )
        yield members, own


def _obstacles(
    tails: list[int], heads: list[int], balances: list[Fraction], bounds: list[Fraction]
) -> Obstacles:
    """Return the smallest sets of edges that cannot vanish together, by all sets ``S`` of nodes.

    ``tails`` and ``heads`` hold for each node the edges out of it and into it.
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
    """Return those sets that hold no other one."""
    kept: list[int] = []
    for mask in sorted(set(sets), key=lambda mask: (mask.bit_count(), mask)):
        if not any(mask & other == other for other in kept):
            kept.append(mask)
    return tuple(sorted(kept))


def _linked(obstacles: Obstacles) -> list[Obstacles]:
    """Return the obstacles in parts that have no edge in common."""
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


@lru_cache(maxsize=_REMEMBERED)
def _polynomial(obstacles: Obstacles) -> Coefficients:
    """Return the sum over all sets ``w`` of edges of ``t^k`` times the rank of ``H_{k-1}(K_w)``.

    An edge of ``w`` in none of the obstacles within ``w`` makes ``K_w`` a cone, so only unions of
    obstacles count.
    """
    unions = {0}
    for mask in obstacles:
        unions |= {union | mask for union in unions}
    total: list[int] = []
    for union in unions:
        inside = tuple(mask for mask in obstacles if mask & union == mask)
        _add(total, _ranks(inside))
    return tuple(total)


@lru_cache(maxsize=_REMEMBERED)
def _ranks(obstacles: Obstacles) -> Coefficients:
    """Return as a polynomial the ranks of the complex of all sets of edges without an obstacle.

    The coefficient of ``t^k`` is that of its reduced homology in degree ``k - 1``. Its vertices are
    the edges in the obstacles.
    """
    parts = _linked(obstacles)
    if len(parts) != 1:  # a join
        found: Coefficients = (1,)
        for part in parts:
            found = _product(found, _ranks(part))
        return found
    if len(obstacles) == 1:  # the border of a simplex, a sphere
        return (0,) * (obstacles[0].bit_count() - 1) + (1,)
    for bit in _bits(_union(obstacles)):
        rest = _union(obstacles) & ~bit
        without = tuple(mask for mask in obstacles if not mask & bit)
        link = _smallest(mask & ~bit for mask in obstacles)
        if _union(link) != rest:  # the link is a cone: the vertex can be left out
            return _ranks(without) if _union(without) == rest else ()
        if _union(without) != rest:  # the others are a cone: a suspension of the link
            ranks = _ranks(link)
            return (0, *ranks) if ranks else ()
    return _ranks_of_boundaries(obstacles)


def _ranks_of_boundaries(obstacles: Obstacles) -> Coefficients:
    """Return the same by elimination in the matrices of the boundaries."""
    faces = _faces(obstacles)
    ranks = [0, *(_rank(small, large) for small, large in itertools.pairwise(faces)), 0]
    found = [len(level) - ranks[k] - ranks[k + 1] for k, level in enumerate(faces)]
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _faces(obstacles: Obstacles) -> list[list[int]]:
    """Return the sets of edges without an obstacle, by their size, from the empty one on."""
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
            column = _eliminated(column, pivots[top], top)
    return len(pivots)


def _eliminated(column: dict[int, int], by: dict[int, int], place: int) -> dict[int, int]:
    """Return a whole multiple of a column less one of another, without the entry at a place."""
    a, b = column[place], by[place]
    found = {i: b * value for i, value in column.items()}
    for i, value in by.items():
        found[i] = found.get(i, 0) - a * value
    found = {i: value for i, value in found.items() if value}
    common = math.gcd(*found.values())
    return {i: value // common for i, value in found.items()} if common > 1 else found


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        found.append(mask & -mask)
        mask &= mask - 1
    return found


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union


def _product(one: Coefficients, two: Coefficients) -> Coefficients:
    if not one or not two:
        return ()
    found = [0] * (len(one) + len(two) - 1)
    for i, a in enumerate(one):
        for j, b in enumerate(two):
            found[i + j] += a * b
    return tuple(found)


def _add(total: list[int], more: Coefficients) -> None:
    total.extend([0] * (len(more) - len(total)))
    for k, number in enumerate(more):
        total[k] += number
