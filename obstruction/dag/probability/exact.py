"""Exact probabilities that weights of a randomly initialised network on a graph are frozen.

Let a hidden node have a single weight out, and let no other node lead to this node alone. The
weight is frozen iff its square exceeds the sum of the node's squared weights in. This is the
condition for a pathological neuron of a two-layer network, whose probability `obstruction.exact`
computes. The same holds for a single weight in, with the two sides exchanged. There is no formula
here for a weight that several nodes together can freeze, or that can be frozen from either end.

Nodes that share no weight are independent. If no weight joins two nodes that can freeze a weight,
the number of frozen weights is therefore a sum of independent counts, one per node, and its
distribution is a convolution. An example is a chain of layers with two or more neurons and one
output: its last hidden layer behaves like that of a two-layer network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from obstruction.dag.graph.graph import FloatArray, Graph
from obstruction.dag.graph.names import shown
from obstruction.dag.probability.edge_laws import EdgeLaws, edge_laws
from obstruction.exact import NoExactValue, inversion
from obstruction.exact import craig_integral as craig
from obstruction.exact.methods import LARGEST_INPUTS, exact_scheme
from obstruction.exact.neurons_to_network import log_value, value
from obstruction.exact.transforms import SQUARE, log_transform, slope
from obstruction.schemes import SchemeLike
from obstruction.schemes.laws import CONSTANT, LAWS, NORMAL, Law

_TINY_LOG: Final = -660.0
"""For probabilities below exp(-660), that of a union equals their sum to the last digit."""

_CODES: Final = {law.code: law for law in LAWS.values()}


@dataclass(frozen=True, eq=False)
class FrozenProbabilities:
    """Exact probabilities that the weights of a randomly initialised network are frozen.

    Attributes
    ----------
    edges : ndarray of float64, shape (size,)
        The probability that each weight is frozen: 0 if the graph does not allow it, NaN if it is
        not known.
    law : ndarray of float64, shape (n + 1,), or None
        The probabilities that 0, 1, ..., n weights are frozen; None if they are not known.
    log_disconnected : float
        The logarithm of `disconnected`, which is accurate even if `disconnected` underflows. It is
        0 if a node has a single weight in and a single weight out, because the larger one is then
        frozen. Otherwise it is NaN if there is no `law`.
    reason : str
        The reason why there is no `law`; empty if there is one.
    """

    edges: FloatArray
    law: FloatArray | None
    log_disconnected: float
    reason: str

    @property
    def disconnected(self) -> float:
        """The probability that some weight is frozen, NaN if it is not known."""
        return math.exp(self.log_disconnected)

    @property
    def mean(self) -> float:
        """The expected number of frozen weights, NaN if it is not known.

        It may be known even if `law` is not, because means of dependent counts add up too.
        """
        return math.fsum(self.edges)


def frozen_probabilities(graph: Graph, scheme: SchemeLike) -> FrozenProbabilities:
    """Return the exact probabilities that weights of a randomly initialised network are frozen.

    Parameters
    ----------
    graph : Graph
    scheme : str or InitScheme
        A scheme with independent weights.

    Returns
    -------
    FrozenProbabilities
        With NaN, None and a reason where there is no exact value.

    Raises
    ------
    NoExactValue
        If the weights of the scheme depend on each other.
    ValueError
        If the scheme does not fit the network.

    Examples
    --------
    The last hidden layer of a deep network is that of a two-layer network:

    >>> from obstruction import exact
    >>> from obstruction.dag import Network
    >>> found = frozen_probabilities(Network.mlp([8, 16, 4, 1]), "kaiming_normal")
    >>> round(found.disconnected, 10)
    0.2284197779
    >>> round(exact.obstruction_probability("kaiming_normal", 16, 4), 10)
    0.2284197779
    >>> found.law.round(4).tolist()
    [0.7716, 0.2067, 0.0208, 0.0009, 0.0]
    """
    rule = exact_scheme(scheme)
    laws = edge_laws(graph, rule)
    edges = np.zeros(graph.size)
    log_node, node = np.full(len(graph.hidden), -np.inf), np.zeros(len(graph.hidden))
    reasons = _shared(graph)
    both = np.zeros(graph.size, dtype=np.int64)
    for out, (side, places) in enumerate(zip(graph.sides, graph.edges_of_hidden(), strict=True)):
        nodes = np.flatnonzero(side.single)
        both[places[nodes]] += 1
        log_p, p = _probabilities(graph, laws, nodes, places[nodes], out == 0)
        together = np.isin(nodes, side.centres)
        if together.any():
            log_p[together] = p[together] = np.nan
            first = places[nodes[together][0]]
            reasons.append(f"several nodes together can freeze {shown([graph.edges[first]])}")
        elif np.isnan(p).any():
            first = places[nodes[np.isnan(p)][0]]
            reasons.append(
                f"{shown([graph.edges[first]])} is not normal, and the weights on the other side "
                "of its node have several variances"
            )
        edges[places[nodes]] = p
        node[nodes] += p  # a node freezes at most one weight, as its balance has only one sign
        with np.errstate(invalid="ignore"):
            log_node[nodes] = np.logaddexp(log_node[nodes], log_p)
    if (twice := np.flatnonzero(both > 1)).size:
        edges[twice] = np.nan
        reasons.append(f"{shown([graph.edges[twice[0]]])} can be frozen from either end")
    if reasons:
        log_disconnected = 0.0 if _certain(graph, laws) else math.nan
        return FrozenProbabilities(edges, None, log_disconnected, reasons[0])
    can = np.logical_or(*(side.single for side in graph.sides))
    node = np.minimum(node[can], 1.0)
    return FrozenProbabilities(edges, _convolved(node), _log_some(node, log_node[can]), "")


def disconnection_probability(graph: Graph, scheme: SchemeLike) -> float:
    """Return the exact probability that some weight of a randomly initialised network is frozen.

    The arguments are those of `frozen_probabilities`.

    Raises
    ------
    NoExactValue
        If there is no exact value; the message gives the reason.
    ValueError
        If the scheme does not fit the network.
    """
    found = frozen_probabilities(graph, scheme)
    if math.isnan(found.log_disconnected):
        raise NoExactValue(f"no exact value for this network: {found.reason}")
    return found.disconnected


def _shared(graph: Graph) -> list[str]:
    """Return the reason why nodes that can freeze a weight are dependent, or an empty list."""
    can = np.zeros(graph.nodes, dtype=bool)
    can[graph.first : graph.last] = np.logical_or(*(side.single for side in graph.sides))
    joined = np.flatnonzero(can[graph.tails] & can[graph.heads])
    if not joined.size:
        return []
    edge = shown([graph.edges[joined[0]]])
    return [f"{edge} joins two nodes that can freeze weights, so they depend on each other"]


def _certain(graph: Graph, laws: EdgeLaws) -> bool:
    """Return whether some node has one weight in, one out, and a balance that is never zero."""
    nodes = np.flatnonzero(np.logical_and(*(side.single for side in graph.sides)))
    both = np.stack([places[nodes] for places in graph.edges_of_hidden()])
    varying = (laws.codes[both] != CONSTANT.code) & (laws.stds[both] > 0.0)
    return bool(varying.any())


def _probabilities(
    graph: Graph, laws: EdgeLaws, nodes: NDArray[np.int64], single: NDArray[np.int64], out: bool
) -> tuple[FloatArray, FloatArray]:
    """Return log p and p, with p the probability that a node's single weight on one side is frozen.

    Both are NaN where there is no formula. ``single`` are the places of the weights of ``nodes``,
    and ``out`` says whether they lead out of the nodes.
    """
    codes, variances = laws.codes, laws.stds**2
    kinds, kind = np.unique(np.stack([codes, variances]), axis=1, return_inverse=True)
    ends = (graph.heads if out else graph.tails) - graph.first
    row = np.full(graph.nodes, -1)
    row[nodes] = np.arange(nodes.size)
    inner = (ends >= 0) & (ends < len(graph.hidden))
    rows, kind = np.where(inner, row[ends], -1), kind.ravel()
    counts = np.zeros((nodes.size, kinds.shape[1]), np.int64)
    np.add.at(counts, (rows[rows >= 0], kind[rows >= 0]), 1)
    log_p, p = np.empty(nodes.size), np.empty(nodes.size)
    for i, edge in enumerate(single.tolist()):
        others = tuple(
            (int(kinds[0, j]), float(kinds[1, j]), int(counts[i, j]))
            for j in np.flatnonzero(counts[i])
            if kinds[1, j] > 0.0
        )
        log_p[i], p[i] = _outweighs(int(codes[edge]), float(variances[edge]), others)
    return log_p, p


@lru_cache(maxsize=1 << 14)
def _outweighs(
    code: int, variance: float, others: tuple[tuple[int, float, int], ...]
) -> tuple[float, float]:
    """Return log p and p, with p the probability that a single weight is frozen.

    ``others`` holds the laws, the variances and the numbers of the weights on the other side.
    """
    if variance == 0.0:
        return -math.inf, 0.0
    if not others:
        return 0.0, 1.0
    found = _factors(_CODES[code], variance, [(_CODES[c], v, n) for c, v, n in others])
    if found is None:
        return math.nan, math.nan
    return float(log_value(*found)[0]), float(value(*found)[0])


def _factors(
    law: Law, variance: float, others: list[tuple[Law, float, int]]
) -> tuple[FloatArray, FloatArray] | None:
    """Return (exponent, factor) with ``p = exp(exponent) * factor``, or None without a formula."""
    *rest, (hidden, unit, d) = sorted(others, key=lambda one: one[2])
    normal = law == NORMAL and all(one == NORMAL for one, _, _ in others)
    if d > LARGEST_INPUTS and not (normal and not rest):
        return None
    a, size = np.array([variance / unit]), np.array([float(d)])
    if not rest:
        return inversion.factors(law, hidden, None, size, a, np.zeros(1))
    if len(rest) == 1 and rest[0][2] == 1:  # one weight of another law or variance, as a bias
        bias, share, _ = rest[0]
        return inversion.factors(law, hidden, bias, size, a, np.array([share / unit]))
    return _craig(variance, others) if law == NORMAL else None


def _craig(variance: float, others: list[tuple[Law, float, int]]) -> tuple[FloatArray, FloatArray]:
    """Return the factors for a normal weight and weights of any laws on the other side."""
    fixed = math.fsum(n * v for law, v, n in others if law == CONSTANT) / variance
    groups = [(law, n, SQUARE[law] * v / variance) for law, v, n in others if law != CONSTANT]

    def log_all(x: FloatArray) -> FloatArray:
        return np.asarray(sum(n * log_transform(law, unit * x) for law, n, unit in groups))

    def slope_all(x: FloatArray) -> FloatArray:
        return np.asarray(sum(n * unit * slope(law, unit * x) for law, n, unit in groups))

    return craig.solve(np.ones(1), np.array([fixed]), log_all, slope_all)


def _convolved(p: FloatArray) -> FloatArray:
    """Return the distribution of the number of independent events with probabilities ``p``."""
    law = np.ones(1)
    for one, n in zip(*np.unique(p, return_counts=True), strict=True):
        law = np.convolve(law, stats.binom.pmf(np.arange(n + 1), n, one))
    return law


def _log_some(p: FloatArray, log_p: FloatArray) -> float:
    """Return the logarithm of the probability that at least one of independent events occurs."""
    if not p.size:
        return -math.inf
    if log_p.max() < _TINY_LOG:
        return float(np.logaddexp.reduce(log_p))
    with np.errstate(divide="ignore"):
        none = math.fsum(np.log1p(-p)) if p.max() < 1.0 else -math.inf
    return (
        math.log(-math.expm1(none)) if none > -math.log(2.0) else math.log1p(-math.exp(none)) + 0.0
    )
