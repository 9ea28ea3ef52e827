"""Find the frozen weights of a network by the smallest sum of balances over sets of nodes.

A weight out of a hidden node ``u`` is frozen if it is the only weight out of some set ``S`` of
hidden nodes with ``c(S) < 0``, where ``c(S)`` is the sum of the balances of ``S``;
`obstruction.topology.chains` states the theorem. Then it is also the only weight out of ``u``, and
``u`` is called a *single* node. Indeed, any other weight out of ``u`` would lead to a node of
``S``. Every path from that node to an output would have to leave ``S`` by the weight of ``u``,
and so return to ``u``, but the network has no cycles.

The other nodes of ``S`` lie in the *region* of ``u``: the nodes from which every path to an output
passes through ``u``. ``S`` is closed in the region: it contains every successor of its nodes. If
the region is empty, the smallest ``c(S)`` is the balance of ``u``. Otherwise
`obstruction.topology.closures` finds it. Weights into a node are decided in the same way, with all
arcs reversed and all balances negated.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.topology.closures import smallest_closed_sum

Indices: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Balances: TypeAlias = NDArray[Any]
"""One balance for each node, as float64 or as objects that are Python integers or fractions."""


class Region(NamedTuple):
    """The region of a single node, its centre."""

    others: list[int]
    """The nodes of the region, without the regions of `leaves`."""
    successors: list[list[int]]
    """For each of `others` the indices in `others` of its successors."""
    leaves: frozenset[int]
    """The nodes among `others` that also represent their own regions."""
    sealed: bool
    """Whether all predecessors of the centre and of the region belong to the region."""


@dataclass(frozen=True, eq=False)
class Side:
    """The hidden nodes of a network and the weights on one of their sides, out or in.

    Parameters
    ----------
    nodes : int
        The number of hidden nodes, which are numbered from 0.
    tails, heads : ndarray of int, shape (arcs,)
        The arcs between hidden nodes, without cycles; some may be parallel. If each of many nodes
        leads to each of many others, an extra node of balance 0 may replace these arcs: arcs lead
        from the former to the extra node and from it to the latter.
    leaves : ndarray of bool, shape (nodes,)
        Whether a weight of the node leads out of the hidden nodes.
    single : ndarray of bool, shape (nodes,)
        Whether the node has exactly one weight on this side.
    """

    nodes: int
    tails: Indices
    heads: Indices
    leaves: Mask
    single: Mask

    def reversed(self, leaves: Mask, single: Mask) -> Side:
        """Return the side with all arcs reversed."""
        return Side(self.nodes, self.heads, self.tails, leaves, single)

    @cached_property
    def centres(self) -> Indices:
        """The single nodes with a region that is not empty: some node leads to them alone."""
        first, last = np.full(self.nodes, self.nodes), np.full(self.nodes, -1)
        np.minimum.at(first, self.tails, self.heads)
        np.maximum.at(last, self.tails, self.heads)
        found = np.unique(last[(first == last) & ~self.leaves])
        centres: Indices = found[self.single[found]]
        return centres

    def region(self, u: int, sealed: Container[int] = ()) -> Region:
        """Return the region of a single node by a search against the direction of the arcs.

        Single nodes in `sealed` have sealed regions, which they represent. The search stops there.
        """
        others: list[int] = []
        leading: dict[int, int] = {}
        todo = [u]
        while todo:
            for w in self._into[todo.pop()]:
                leading[w] = leading.get(w, 0) + 1
                if leading[w] == self._ways[w]:
                    others.append(w)
                    if w not in sealed:
                        todo.append(w)
        place = {w: i for i, w in enumerate(others)}
        return Region(
            others,
            [[place[x] for x in self._out[w] if x != u] for w in others],
            frozenset(w for w in others if w in sealed),
            len(leading) == len(others),
        )

    def decide(self, balances: Balances, slack: Balances | None = None) -> Decision:
        """Decide which single weights are frozen if each balance may be wrong by up to `slack`.

        Both arrays have shape ``(nodes,)``. For weights in, the balances are negated.
        """
        sums = self.solve(balances)
        low = high = sums.least
        if slack is not None:
            low, high = (self.solve(balances + off).least for off in (-slack, slack))
        frozen = self.single & (high < 0)
        return Decision(sums, frozen, self.single & (low <= 0) & ~frozen)

    def solve(self, balances: Balances) -> SmallestSums:
        """Return the smallest ``c(S)`` over the sets ``S`` whose only weight out is a single one.

        For weights in, the balances are negated.
        """
        least = balances.copy()
        exact: dict[int, Fraction] = {}
        chosen: dict[int, tuple[list[int], frozenset[int]]] = {}
        sealed: set[int] = set()
        waiting = self.centres.tolist()
        centres = set(waiting)
        while waiting:
            u = waiting[-1]
            if u in exact:
                waiting.pop()
                continue
            others, successors, leaves, closed = self.region(u, sealed)
            if inner := [w for w in others if w in centres and w not in exact]:
                waiting += inner  # the inner regions come first, so that each is solved once
                continue
            values = [exact[w] if w in leaves else balances[w] for w in others]
            more, members = smallest_closed_sum(values, successors)
            exact[u] = Fraction(balances[u]) + more
            chosen[u] = [others[i] for i in members], leaves
            least[u] = float(exact[u]) if least.dtype == np.float64 else exact[u]
            if closed:
                sealed.add(u)
        return SmallestSums(least, chosen)

    @cached_property
    def _ways(self) -> Indices:
        return np.bincount(self.tails, minlength=self.nodes) + self.leaves

    @cached_property
    def _into(self) -> _Lists:
        return _Lists(self.heads, self.tails, self.nodes)

    @cached_property
    def _out(self) -> _Lists:
        return _Lists(self.tails, self.heads, self.nodes)


class Decision(NamedTuple):
    """The frozen single weights on one side of a network, in arrays of shape ``(nodes,)``."""

    sums: SmallestSums
    """The smallest ``c(S)`` for the given balances."""
    frozen: Mask
    """Whether the smallest ``c(S)`` is negative for all balances within the tolerance."""
    boundary: Mask
    """Whether it is zero or negative for some of these balances, but not negative for all."""


@dataclass(frozen=True, eq=False)
class SmallestSums:
    """The smallest sums of balances on one side of a network, and the sets with these sums."""

    least: Balances
    """For each single node the smallest ``c(S)``. Entries of other nodes have no meaning."""
    _chosen: dict[int, tuple[list[int], frozenset[int]]]

    def members(self, u: int) -> list[int]:
        """Return the nodes of a set ``S`` with the smallest ``c(S)`` for a single node."""
        found, todo = [], [u]
        while todo:
            centre = todo.pop()
            others, leaves = self._chosen.get(centre, ([], frozenset()))
            found += [centre, *(w for w in others if w not in leaves)]
            todo += [w for w in others if w in leaves]
        return sorted(found)


class _Lists:
    """For each key the list of its values, from arrays of keys and values."""

    def __init__(self, keys: Indices, values: Indices, count: int) -> None:
        self._values = values[np.argsort(keys, kind="stable")]
        self._ends = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=count))])

    def __getitem__(self, key: int) -> list[int]:
        found: list[int] = self._values[self._ends[key] : self._ends[key + 1]].tolist()
        return found
