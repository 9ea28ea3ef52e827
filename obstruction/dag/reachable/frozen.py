"""Frozen weights of a network, whose signs can never change, and the bottlenecks that prove it.

Gradient flow conserves the balance ``c_v`` of every hidden node: the sum of squared weights in,
including the bias, minus the sum of squared weights out. The *invariant set* holds all weights with
the same balances. With ``x = w²`` it is the flow polyhedron ``{x >= 0: B x = c}``, which is convex,
with one copy for every choice of signs; copies meet where weights vanish. The sign of a weight
``w_e`` is therefore frozen if and only if the minimum of ``x_e`` over the polyhedron is positive.

By Gale (1957) and Hoffman (1960) this holds if and only if there is a *bottleneck*: a set ``S`` of
hidden nodes with total balance ``c(S) < 0`` and ``e`` as its only edge out, or with ``c(S) > 0``
and ``e`` as its only edge in. The minimum of ``x_e`` is the largest such ``|c(S)|``. A bottleneck
is easily checked by hand. docs/dag.md has the proofs.
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
"""The default relative tolerance of balances if weights are floats, see `frozen_edges`."""


class FrozenEdge(NamedTuple):
    """A weight that is frozen or at the boundary of being so.

    Attributes
    ----------
    edge : (node, node)
    status : {"frozen", "boundary"}
        A weight is at the boundary if only some balances within the tolerance freeze it, or if the
        balance of its bottleneck is exactly zero.
    sign : int
        The sign of the weight: -1, 0 or 1.
    least : float
        The smallest absolute value that the weight can reach.
    bottleneck : tuple of nodes
        The set ``S`` of hidden nodes, in topological order.
    side : {"out", "in"}
        Whether the edge is the only one out of ``S`` or the only one into ``S``.
    balance : float, int or Fraction
        ``c(S)``, negative for a frozen edge out of ``S`` and positive for a frozen edge into ``S``.
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
    """The weights of a network that are frozen or at the boundary.

    As a sequence, this object has the elements of `frozen`.

    Attributes
    ----------
    frozen, boundary : tuple of FrozenEdge
        The weights with each status, in the order of the network's edges.
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
        """Return a table with one row per edge, first frozen edges and then those at the boundary.

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
    """Return the weights that can never change their sign under gradient flow.

    Parameters
    ----------
    graph : Graph
    weights : array_like or mapping
        As for `Graph.vector`. If all are integers or fractions, the decisions are exact.
    rtol : float, optional
        The relative tolerance of balances, in [0, 1). The balance of a node may be off by this
        share of the sum of its squared weights in or out, whichever is larger. A weight counts as
        frozen only if all balances within the tolerance freeze it. The default is 0 for integers
        and fractions, else 1e-9.

    Raises
    ------
    ValueError
        If weights do not fit, or the tolerance is out of range.

    Examples
    --------
    The output weight 2 cannot pass through zero, because its square stays at least 2² - 1² = 3.

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
            found[edge] = max(
                found.get(edge, one), one, key=lambda e: (e.status == FROZEN, abs(e.balance))
            )
    ordered = [found[edge] for edge in sorted(found)]
    return FrozenEdges(
        tuple(one for one in ordered if one.status == FROZEN),
        tuple(one for one in ordered if one.status == BOUNDARY),
    )


def count_frozen(graph: Graph, weights: WeightsLike, rtol: float | None = None) -> int:
    """Return the number of frozen weights, the logarithm to base 2 of the number of components.

    Arguments and errors are those of `frozen_edges`, which is slower as it finds bottlenecks too.
    """
    decisions = _decisions(graph, graph.vector(weights), rtol)
    places = [edges[decision.frozen] for _, _, edges, decision in decisions]
    return int(np.unique(np.concatenate(places)).size)


def balances_and_slack(
    graph: Graph, vector: NDArray[Any], rtol: float | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the balance of each hidden node, and by how much the balance may be off.

    The arguments are those of `frozen_edges`, with weights as `Graph.vector` returns them.
    """
    into, out = graph.sums_of_squares(vector)
    return into - out, used_rtol(rtol, vector) * np.maximum(into, out)


def used_rtol(rtol: float | None, vector: NDArray[Any]) -> float:
    """Return the tolerance of `frozen_edges` for weights as `Graph.vector` returns them."""
    if rtol is None:
        return 0.0 if vector.dtype == object else RTOL
    return check_rtol(rtol)


def _decisions(
    graph: Graph, vector: NDArray[Any], rtol: float | None
) -> Iterator[tuple[str, int, Indices, Decision]]:
    """Yield for each side its name, the sign of balances, the nodes' edges and the decision."""
    c, slack = balances_and_slack(graph, vector, rtol)
    for side, name, edges, sign in _sides(graph):
        yield name, sign, edges, side.decide(sign * c, slack if slack.any() else None)


def smallest_squares(graph: Graph, balances: Any) -> NDArray[Any]:
    """Return the smallest square that each weight can have in an invariant set.

    Parameters
    ----------
    graph : Graph
    balances : array_like, shape (hidden nodes,)
        The balance of each hidden node, in the order of `Graph.hidden`. Any numbers are possible.

    Returns
    -------
    ndarray of float64 or object, shape (size,)
        The minimum of ``x_e`` over the flow polyhedron for each edge ``e``. It is exact if the
        balances are integers or fractions. A weight is frozen if and only if it is positive.

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
    """Yield each side, its name, the edge of each node on it, and the sign of balances there."""
    yield from zip(graph.sides, ("out", "in"), graph.edges_of_hidden(), (1, -1), strict=True)
