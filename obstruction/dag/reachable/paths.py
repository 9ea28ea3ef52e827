"""Explicit paths in the invariant set, along which weights that are not frozen change sign."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import optimize

from obstruction.dag.graph.graph import FloatArray, Graph, WeightsLike
from obstruction.dag.graph.names import shown
from obstruction.dag.reachable.frozen import RTOL, smallest_squares
from obstruction.tools.checks import check_rtol, check_share


def same_component(
    graph: Graph, weights: WeightsLike, other: WeightsLike, rtol: float = RTOL
) -> bool:
    """Return whether gradient flow may lead from some weights to others: one connected component.

    Parameters
    ----------
    graph : Graph
    weights, other : array_like or mapping
        As for `Graph.vector`.
    rtol : float
        Balances are the same within this share of a node's squared weights, in [0, 1).

    Returns
    -------
    bool
        True if all balances agree and so do the signs of all frozen weights.
    """
    one, two = (graph.vector(w).astype(np.float64) for w in (weights, other))
    share = check_rtol(rtol)
    slack = share * np.max([graph.sums_of_squares(w) for w in (one, two)], axis=(0, 1))
    c = graph.balances(one)
    if (np.abs(c - graph.balances(two)) > slack).any():
        return False
    bound = np.zeros(graph.nodes)
    bound[graph.first : graph.last] = slack
    doubtful = np.maximum(bound[graph.tails], bound[graph.heads])
    frozen = smallest_squares(graph, c) > doubtful
    return not (frozen & (np.sign(one) != np.sign(two))).any()


def path(
    graph: Graph, weights: WeightsLike, other: WeightsLike, rtol: float = RTOL
) -> Callable[[float], FloatArray]:
    """Return a continuous path between two points of one component of the invariant set.

    Parameters
    ----------
    graph, weights, other, rtol
        As for `same_component`.

    Returns
    -------
    callable
        ``point(s)`` for ``0 <= s <= 1``: the weights on the way, all with the same balances,
        ``weights`` at 0 and ``other`` at 1.

    Raises
    ------
    ValueError
        If they do not lie in the same component.

    Notes
    -----
    The squares move on straight lines through the flow polyhedron. Each line but the last ends at a
    point where a weight vanishes that has to change its sign, found by linear programming; the last
    one ends at ``other``. Signs change where weights vanish.

    `obstruction.topology.path` has a closed form for two layers, where weights in or out of a
    neuron turn on a sphere.

    Examples
    --------
    >>> graph = Graph(
    ...     [("x", "h"), ("z", "h"), ("h", "y")], inputs=["x", "z"], outputs=["y"]
    ... )
    >>> point = path(graph, [2.0, 0.0, 1.0], [2.0, 0.0, -1.0])  # c = 3: the output may vanish
    >>> point(0.5).round(3).tolist()
    [1.732, 0.0, -0.0]
    """
    one, two = (graph.vector(w).astype(np.float64) for w in (weights, other))
    if not same_component(graph, one, two, rtol):
        raise ValueError("other: must lie in the same component of the invariant set as weights")
    # where one end is zero the sign of the other, where both are any
    start = np.where((one < 0.0) | ((one == 0.0) & (two < 0.0)), -1.0, 1.0)
    target = np.where(two != 0.0, np.sign(two), start)
    squares, signs = [one * one], [start]
    c = graph.balances(one)
    unit = float(max(squares[0].max(initial=0.0), (two * two).max(initial=0.0))) or 1.0
    while (different := np.flatnonzero(signs[-1] != target)).size:
        edge = int(different[np.argmin(squares[-1][different])])
        squares.append(_vanishing(graph, edge, c, unit))
        turned = squares[-1] == 0.0
        signs.append(np.where(turned, target, signs[-1]))
    squares.append(two * two)

    def point(s: float) -> FloatArray:
        s = check_share("s", s)
        if s in (0.0, 1.0):
            return (two if s else one).copy()
        leg, share = divmod(s * (len(squares) - 1), 1.0)
        start, end = squares[int(leg)], squares[int(leg) + 1]
        found: FloatArray = signs[int(leg)] * np.sqrt((1.0 - share) * start + share * end)
        return found

    return point


def _vanishing(graph: Graph, edge: int, c: FloatArray, unit: float) -> FloatArray:
    """Return squares of weights with these balances, that of one edge being zero.

    Their size is about ``unit``; the solver's tolerances are absolute.
    """
    bounds = np.full((graph.size, 2), (0.0, np.inf))
    bounds[edge, 1] = 0.0
    incidence = graph.incidence()
    solved = optimize.linprog(
        np.ones(graph.size), A_eq=incidence, b_eq=c / unit, bounds=bounds, method="highs"
    )
    if solved.status != 0 or np.abs(incidence @ solved.x - c / unit).max(initial=0.0) > 1e-9:
        raise ValueError(
            f"weights: that of {shown([graph.edges[edge]])} is too close to being frozen for a path"
        )
    found: FloatArray = unit * np.maximum(solved.x, 0.0)
    return found
