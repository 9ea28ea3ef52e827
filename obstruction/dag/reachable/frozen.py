"""The weights of a network that can never change sign, and the bottlenecks that freeze them.

Gradient flow conserves the balance of every hidden node, ``c_v``: squared weights (and bias) in
less squared weights out. With ``x = w²`` the weights it can reach are those of the flow polyhedron
``{x >= 0: B x = c}``, which is convex, with all signs, glued together where weights vanish. So the
sign of a weight is frozen exactly if ``min x_e > 0`` over the polyhedron, and by Gale (1957) and
Hoffman (1960) exactly if some set ``S`` of hidden nodes, a *bottleneck*, has ``e`` as its only edge
out and ``c(S) < 0``, or as its only edge in and ``c(S) > 0``. The largest such ``|c(S)|`` is the
smallest ``x_e``. Anybody can check a set by hand. docs/dag.md has the proofs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from obstruction.dag.graph.graph import Graph, WeightsLike
from obstruction.dag.graph.names import Edge, Node, as_objects, check_iterable, check_numbers, shown
from obstruction.tools.checks import check_rtol
from obstruction.topology.regions import Decision, Indices, Side

if TYPE_CHECKING:
    import pandas as pd

FROZEN = "frozen"
BOUNDARY = "boundary"

RTOL = 1e-9
"""The share of a node's squared weights within which the balance of floats may be off."""


class FrozenEdge(NamedTuple):
    """A weight whose sign cannot change, or might not be able to.

    Attributes
    ----------
    edge : (node, node)
    status : {"frozen", "boundary"}
        A weight at the boundary is frozen for some balances within the tolerance, or the smallest
        value it can reach is exactly zero with such a bottleneck.
    sign : int
        Of the weight: -1, 0 or 1.
    least : float
        The smallest absolute value that the weight can reach.
    bottleneck : tuple of nodes
        The set ``S`` of hidden nodes, in topological order.
    side : {"out", "in"}
        Whether the edge is the only one out of ``S`` or the only one into it.
    balance : float, int or Fraction
        ``c(S)``: negative for a frozen edge out of ``S``, positive for one into it.
    """

    edge: Edge
    status: str
    sign: int
    least: float
    bottleneck: tuple[Node, ...]
    side: str
    balance: Any


@dataclass(frozen=True, eq=False)
class FrozenEdges(Sequence[FrozenEdge]):
    """The frozen weights of a network, in the order of its edges, and those that might be.

    Attributes
    ----------
    frozen, boundary : tuple of FrozenEdge
        As a sequence this object is `frozen`.
    """

    frozen: tuple[FrozenEdge, ...]
    boundary: tuple[FrozenEdge, ...]

    def __len__(self) -> int:
        return len(self.frozen)

    def __getitem__(self, index: Any) -> Any:
        return self.frozen[index]

    def __iter__(self) -> Iterator[FrozenEdge]:
        return iter(self.frozen)

    @property
    def components(self) -> int:
        """The number of connected components of the invariant set, ``2^frozen``, exactly."""
        return 1 << len(self.frozen)

    @property
    def log2_components(self) -> int:
        """The logarithm to base 2 of the number of components."""
        return len(self.frozen)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table with one row an edge, the frozen ones first.

        Returns
        -------
        DataFrame
            Columns ``tail, head, status, sign, least, side, bottleneck, balance``.
        """
        import pandas as pd

        rows = [
            (*one.edge, one.status, one.sign, one.least, one.side, one.bottleneck, one.balance)
            for one in (*self.frozen, *self.boundary)
        ]
        columns = ["tail", "head", "status", "sign", "least", "side", "bottleneck", "balance"]
        return pd.DataFrame(rows, columns=columns)

    def __str__(self) -> str:
        total = f"{len(self.frozen):,} frozen, {len(self.boundary):,} at the boundary"
        lines = [
            f"  {shown([one.edge])}  {one.status}  sign {one.sign:+d}  |w| >= {one.least:.6g}  "
            f"only edge {'out of' if one.side == 'out' else 'into'} {{{shown(one.bottleneck)}}}, "
            f"c = {float(one.balance):.6g}"
            for one in (*self.frozen, *self.boundary)
        ]
        return "\n".join([total, *lines])


def frozen_edges(graph: Graph, weights: WeightsLike, rtol: float | None = None) -> FrozenEdges:
    """Return the weights that gradient flow keeps from ever changing their sign.

    Parameters
    ----------
    graph : Graph
    weights : array_like or mapping
        As for `Graph.vector`. Of integers and fractions everything is decided exactly.
    rtol : float, optional
        The share of the larger of a node's squared weights in and out by which its balance may be
        off, in [0, 1); 1e-9 by default, and 0 for integers and fractions. A weight counts as frozen
        only if it is for all balances within.

    Raises
    ------
    ValueError
        If weights do not fit, or the tolerance is out of range.

    Examples
    --------
    The output weight 2 cannot pass through zero: it keeps ``2² - 1² = 3`` at least.

    >>> graph = Graph([("x", "h"), ("h", "y")], inputs=["x"], outputs=["y"])
    >>> print(frozen_edges(graph, [1, 2]))
    1 frozen, 0 at the boundary
      h -> y  frozen  sign +1  |w| >= 1.73205  only edge out of {h}, c = -3
    """
    vector = graph.vector(weights)
    found: dict[int, FrozenEdge] = {}
    for name, sign, edges, decision in _decisions(graph, vector, rtol):
        for v in np.flatnonzero(decision.frozen | decision.boundary).tolist():
            edge, least = int(edges[v]), decision.sums.least[v]
            one = FrozenEdge(
                edge=graph.edges[edge],
                status=FROZEN if decision.frozen[v] else BOUNDARY,
                sign=int(vector[edge] > 0) - int(vector[edge] < 0),
                least=math.sqrt(max(-least, 0)),
                bottleneck=tuple(graph.hidden[u] for u in decision.sums.members(v)),
                side=name,
                balance=sign * least,
            )
            found[edge] = max(found.get(edge, one), one, key=_strength)
    ordered = [found[edge] for edge in sorted(found)]
    return FrozenEdges(
        tuple(one for one in ordered if one.status == FROZEN),
        tuple(one for one in ordered if one.status == BOUNDARY),
    )


def count_frozen(graph: Graph, weights: WeightsLike, rtol: float | None = None) -> int:
    """Return how many weights are frozen, without their bottlenecks, which cost more.

    Arguments and errors are those of `frozen_edges`.
    """
    decisions = _decisions(graph, graph.vector(weights), rtol)
    places = [edges[decision.frozen] for _, _, edges, decision in decisions]
    return int(np.unique(np.concatenate(places)).size)


def balances_and_slack(
    graph: Graph, vector: NDArray[Any], rtol: float | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the balance of each hidden node, and how far off it may be.

    Arguments are those of `frozen_edges`, the weights as `Graph.vector` returns them.
    """
    into, out = graph.sums_of_squares(vector)
    return into - out, used_rtol(rtol, vector) * np.maximum(into, out)


def used_rtol(rtol: float | None, vector: NDArray[Any]) -> float:
    """Return the tolerance that `frozen_edges` uses for weights as `Graph.vector` returns them."""
    if rtol is None:
        return 0.0 if vector.dtype == object else RTOL
    return check_rtol(rtol)


def _decisions(
    graph: Graph, vector: NDArray[Any], rtol: float | None
) -> Iterator[tuple[str, int, Indices, Decision]]:
    """Yield what is decided on both sides, with `_sides`'s name, sign and edges."""
    c, slack = balances_and_slack(graph, vector, rtol)
    for side, name, edges, sign in _sides(graph):
        yield name, sign, edges, side.decide(sign * c, slack if slack.any() else None)


def smallest_squares(graph: Graph, balances: Any) -> NDArray[Any]:
    """Return the smallest square that each weight can have in an invariant set.

    Parameters
    ----------
    graph : Graph
    balances : array_like, shape (hidden nodes,)
        One a hidden node, in the order of `Graph.hidden`. Every choice is possible.

    Returns
    -------
    ndarray of float64 or object, shape (size,)
        ``min x_e`` over the flow polyhedron; exact if the balances are integers or fractions. A
        weight is frozen exactly where it is above 0.

    Raises
    ------
    ValueError
        If there is not one finite number for each hidden node.
    """
    c = balances
    if not isinstance(c, np.ndarray):
        c = as_objects(check_iterable("balances", c))
    if c.shape != (len(graph.hidden),):
        raise ValueError(
            f"balances: must be one number for each of {len(graph.hidden):,} hidden nodes, "
            f"not of shape {c.shape}"
        )
    c = check_numbers("balances", c, lambda i: str(graph.hidden[i]))
    least = np.zeros(graph.size, dtype=c.dtype)
    for side, _, edges, sign in _sides(graph):
        nodes = np.flatnonzero(side.single)
        places = edges[nodes]
        least[places] = np.maximum(least[places], -side.solve(sign * c).least[nodes])
    return least


def _sides(graph: Graph) -> Iterator[tuple[Side, str, Indices, int]]:
    """Yield both sides, the edge of each node on it, and the sign with which balances enter."""
    yield from zip(graph.sides, ("out", "in"), graph.edges_of_hidden(), (1, -1), strict=True)


def _strength(one: FrozenEdge) -> tuple[bool, Any]:
    return one.status == FROZEN, abs(one.balance)
