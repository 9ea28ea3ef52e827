"""Sample networks on a graph: draw the weights that can be frozen or freeze others, and count.

Only the weights of nodes that can be in a bottleneck are drawn (`obstruction.topology.regions`);
the shape of the graph tells which. A weight depends on the seed, the number of the network, the
place of its edge and its law, so it does not matter which others are drawn, how many networks there
are and who counts them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from obstruction.dag.graph.graph import FloatArray, Graph
from obstruction.dag.probability.edge_laws import EdgeLaws, edge_laws
from obstruction.dag.probability.kernels import Candidates, Draws, Regions, count_frozen
from obstruction.dag.reachable.frozen import RTOL
from obstruction.sampling import streams
from obstruction.sampling.interface import Sampler
from obstruction.sampling.kernels import networks as kernels
from obstruction.schemes import SchemeLike
from obstruction.tools.checks import check_count, check_seed
from obstruction.tools.workers import check_room
from obstruction.topology.regions import Indices

_IN_FLIGHT: Final = 2**20
"""Sums of squares that a worker keeps at a time, more or less; without effect on counts."""


@dataclass(frozen=True, eq=False)
class FrozenCounts:
    """Integer counts of frozen weights. Those of disjoint sets of networks add up.

    Attributes
    ----------
    networks : int
        Networks drawn.
    numbers : ndarray of int64, shape (n + 1,)
        Networks by how many of their weights are frozen; ``n`` is how many could be at most.
    edges : ndarray of int64, shape (size,)
        For each weight the networks in which it is frozen.

    Examples
    --------
    >>> one = FrozenCounts(10, np.array([7, 3]), np.array([0, 0, 3]))
    >>> both = one + one
    >>> both.networks, both.disconnected, both.frozen
    (20, 6, 6)
    """

    networks: int
    numbers: NDArray[np.int64]
    edges: NDArray[np.int64]

    @property
    def disconnected(self) -> int:
        """Networks with at least one frozen weight."""
        return self.networks - int(self.numbers[0])

    @property
    def frozen(self) -> int:
        """Frozen weights, summed over the networks."""
        return int(self.edges.sum())

    def __add__(self, other: FrozenCounts) -> FrozenCounts:
        if self.edges.shape != other.edges.shape or self.numbers.shape != other.numbers.shape:
            raise ValueError(
                f"counts of networks with {self.edges.size:,} and {other.edges.size:,} weights "
                "cannot be added"
            )
        return FrozenCounts(
            self.networks + other.networks,
            self.numbers + other.numbers,
            self.edges + other.edges,
        )


def freezable_edges(graph: Graph) -> Indices:
    """Return the places of the edges whose weights could be frozen, by the shape of the graph.

    They are the only weights out of a hidden node, or the only ones into it.

    Examples
    --------
    >>> from obstruction.dag import Network
    >>> net = Network.mlp([3, 4, 2, 1])
    >>> [net.edges[e] for e in freezable_edges(net)]
    [('h2.0', 'y0'), ('h2.1', 'y0')]
    """
    both = [
        places[side.single]
        for side, places in zip(graph.sides, graph.edges_of_hidden(), strict=True)
    ]
    return np.unique(np.concatenate(both))


@dataclass(frozen=True, eq=False)
class DagSampler(Sampler[FrozenCounts, FrozenCounts]):
    """Networks on a graph, of which the frozen weights are counted.

    A weight counts if `frozen_edges` calls it frozen, with its tolerance for floats.

    Attributes
    ----------
    seed : int
    size : int
        The number of weights of the graph.
    edges : ndarray of int64
        The weights that could be frozen, by their places.
    nodes : int
        The number of nodes of which a balance is needed.
    draws : Draws
    candidates : Candidates
    regions : Regions
        What is to be drawn and counted of every network, as the kernel takes it.
    """

    seed: int
    size: int
    edges: Indices
    nodes: int
    draws: Draws
    candidates: Candidates
    regions: Regions

    @classmethod
    def of(cls, graph: Graph, scheme: SchemeLike, *, seed: int) -> DagSampler:
        """Find out which weights are to be drawn; a scheme that does not fit is a `ValueError`."""
        laws = edge_laws(graph, scheme)
        edges = freezable_edges(graph)
        found = list(_candidates(graph))
        inside = {v for one in found for v in (one.node, *one.others) if v >= 0}
        nodes = np.array(sorted(inside), dtype=np.int64)
        place = np.full(len(graph.hidden), -1)
        place[nodes] = np.arange(nodes.size)
        ends = np.cumsum([0, *(len(one.others) for one in found)])
        candidates = Candidates(
            place[np.array([one.node for one in found], np.int64)],
            np.array([one.sign for one in found], np.float64),
            np.searchsorted(edges, np.array([one.edge for one in found], np.int64)),
            ends[:-1],
            ends[1:],
        )
        draws, regions = _draws(graph, laws, place), _regions(found, ends, place)
        return cls(seed, graph.size, edges, nodes.size, draws, candidates, regions)

    @property
    def least(self) -> int:
        """As many networks as a worker has in flight."""
        most = _IN_FLIGHT // max(self.nodes, self.edges.size, 1)
        return max(kernels.PAD, min(kernels.CHUNK, most // kernels.PAD * kernels.PAD))

    def check_memory(self, threads: int) -> None:
        """Refuse workers that this machine could not hold, with a `ValueError`."""
        each = self.least * (16 * self.nodes + self.edges.size + 100) + 16 * self.edges.size
        check_room(f"threads: {threads} workers", threads * each)

    def tally(self) -> FrozenCounts:
        """Return counts of no network, for the weights that could be frozen."""
        n = self.edges.size
        return FrozenCounts(0, np.zeros(n + 1, np.int64), np.zeros(n, np.int64))

    def count(self, tally: FrozenCounts, start: int, stop: int, flag: NDArray[np.uint8]) -> bool:
        """Count the frozen weights of networks."""
        for block, first, several in streams.pieces(start, stop):
            if not count_frozen(
                streams.block_key(self.seed, streams.graph_path(), block),
                first,
                several,
                self.least,
                self.draws,
                self.candidates,
                self.regions,
                RTOL,
                self.nodes,
                flag,
                tally.numbers,
                tally.edges,
            ):
                return False
        return True

    def result(self, tally: FrozenCounts) -> FrozenCounts:
        """Return the counts for all weights of the graph."""
        edges = np.zeros(self.size, np.int64)
        edges[self.edges] = tally.edges
        return FrozenCounts(int(tally.numbers.sum()), tally.numbers, edges)


def replay_dag(graph: Graph, scheme: SchemeLike, *, network: Any, seed: Any = 0) -> FloatArray:
    """Return the weights of one network, signs included, as they were counted.

    Parameters
    ----------
    graph : Graph
    scheme : str or InitScheme
        Of independent weights.
    network : int
        The number of the network, from 0. It may lie beyond those that were counted.
    seed : int
        The seed of `obstruction.sample_dag`, >= 0.

    Returns
    -------
    ndarray of float64, shape (size,)
        In the order of the edges.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> from obstruction.dag import Network
    >>> net = Network.mlp([3, 4, 2, 1])
    >>> print(net.frozen_edges(replay_dag(net, "kaiming_normal", network=3)))
    1 frozen, 0 at the boundary
      h2.0 -> y0  frozen  sign +1  |w| >= 1.27503  only edge out of {h2.0}, c = -1.6257
    """
    laws = edge_laws(graph, scheme)
    network = check_count("network", network, least=0)
    block, index = divmod(network, streams.BLOCK)
    key = streams.block_key(check_seed(seed), streams.graph_path(), block)
    groups = np.arange((graph.size + 3) // 4, dtype=np.uint32)
    n = -(-groups.size // kernels.PAD) * kernels.PAD
    rows, networks = np.zeros((2, n), np.uint32)
    rows[: groups.size], networks[:] = groups, index
    words, scratch = np.empty((4, n), np.uint32), np.empty((2, n), np.float32)
    square, sign = np.empty((2, 4, n))
    standard = np.empty(graph.size)
    for code in np.unique(laws.codes).tolist():
        kernels.threefry(key, 0, rows, networks, np.uint32(code), n, words)
        kernels.squares(code, words, n, scratch, square)
        kernels.signs(code, words, n, sign)
        drawn = (sign * np.sqrt(square)).T.ravel()[: graph.size]
        mine = laws.codes == code
        standard[mine] = drawn[mine]
    return laws.stds * standard


class _Candidate(NamedTuple):
    """A weight that could be frozen, and what decides about it.

    Attributes
    ----------
    node : int
        The hidden node that has no other weight on this side.
    edge : int
        The place of the weight.
    sign : int
        1 if the weight leads out of the node, -1 if it leads in.
    others : list of int
        The region of the node; -1 for a node without a balance, which stands for arcs.
    successors : list of lists of int
        Where each of these leads, as places in `others`.
    """

    node: int
    edge: int
    sign: int
    others: list[int]
    successors: list[list[int]]


def _candidates(graph: Graph) -> Iterator[_Candidate]:
    """Yield the weights that could be frozen, seen from either end."""
    for side, places, sign in zip(graph.sides, graph.edges_of_hidden(), (1, -1), strict=True):
        centres = set(side.centres.tolist())
        for u in np.flatnonzero(side.single).tolist():
            region: tuple[list[int], list[list[int]]] = [], []
            if u in centres:
                whole = side.region(u)
                region = _with_hubs(whole.others, whole.successors)
            yield _Candidate(u, int(places[u]), sign, *region)


def _with_hubs(others: list[int], successors: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """Return a region in which arcs from each of many nodes to the same others share a node.

    That node, named -1, has no balance. Between two layers it stands for all pairs.
    """
    alike: dict[tuple[int, ...], list[int]] = {}
    for v, after in enumerate(successors):
        alike.setdefault(tuple(sorted(after)), []).append(v)
    others, successors = list(others), list(successors)
    for ways, before in alike.items():
        if len(before) * len(ways) > len(before) + len(ways):
            for v in before:
                successors[v] = [len(others)]
            others.append(-1)
            successors.append(list(ways))
    return others, successors


def _regions(found: list[_Candidate], ends: Indices, place: Indices) -> Regions:
    """Return all regions, one after the other."""
    shifts = ends[:-1].tolist()
    nodes = [-1 if v < 0 else int(place[v]) for one in found for v in one.others]
    after = [
        [shift + w for w in ways]
        for one, shift in zip(found, shifts, strict=True)
        for ways in one.successors
    ]
    tails = np.repeat(np.arange(len(after)), np.array([len(ways) for ways in after], np.int64))
    heads = np.array(list(itertools.chain.from_iterable(after)), np.int64)
    return Regions(
        np.array(nodes, np.int64),
        _starts(tails, len(after)),
        _starts(heads, len(after)),
        heads,
        tails,
        np.argsort(heads, kind="stable"),
    )


def _starts(ends: Indices, nodes: int) -> Indices:
    """Return where the arcs of each node start if they are ordered by their nodes."""
    return np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=nodes))]).astype(np.int64)


def _draws(graph: Graph, laws: EdgeLaws, place: Indices) -> Draws:
    """Return the weights at nodes that matter, by groups of four places and one law."""
    around = np.full(graph.nodes, -1)
    around[graph.first : graph.last] = place
    heads, tails = around[graph.heads], around[graph.tails]
    drawn = np.flatnonzero(((heads >= 0) | (tails >= 0)) & (laws.stds > 0.0))
    rows = np.stack([drawn // 4, laws.codes[drawn]])
    kinds, row = np.unique(rows, axis=1, return_inverse=True)
    n, row, lane = kinds.shape[1], row.ravel(), drawn % 4
    variances, ends = np.zeros((n, 4)), np.full((2, n, 4), -1)
    variances[row, lane] = laws.stds[drawn] ** 2
    ends[0, row, lane], ends[1, row, lane] = heads[drawn], tails[drawn]
    return Draws(kinds[1].copy(), kinds[0].astype(np.uint32), variances, ends[0], ends[1])
