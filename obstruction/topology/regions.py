"""Which single weights of a network are frozen, decided by the smallest balance of a set of nodes.

A weight out of a hidden node ``u`` is frozen if it is the only one out of some set ``S`` of hidden
nodes with ``c(S) < 0``; `obstruction.topology.chains` states the theorem. It can be the only one
only if ``u`` has no other weight out. A second weight would lead to a node of ``S``. All ways on
from there would stay in ``S`` or leave it by the weight of ``u``. Since there are no cycles, none
comes back to ``u``, so none could leave ``S``. But every hidden node leads to an output.

The other nodes of ``S`` lie in the *region* of ``u``: the nodes all of whose ways on lead to ``u``.
With each of them ``S`` holds all nodes to which it leads, so ``S`` is closed in the region. If the
region is empty, the smallest ``c(S)`` is the balance of ``u``. Otherwise
`obstruction.topology.closures` finds it. Weights in are decided in the same way, with all arcs
reversed and balances negated.
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
    """The nodes all of whose ways on lead to one node.

    Attributes
    ----------
    others : list of int
        These nodes, without those in the regions of `leaves`.
    successors : list of lists of int
        For each of `others`, to which of them it leads, as places in `others`.
    leaves : frozenset of int
        Those among `others` that stand for their own regions as well.
    sealed : bool
        Whether all nodes that lead to the centre or into the region belong to the region.
    """

    others: list[int]
    successors: list[list[int]]
    leaves: frozenset[int] = frozenset()
    sealed: bool = False


@dataclass(frozen=True, eq=False)
class Side:
    """The hidden nodes of a network and the weights on one of their sides, out or in.

    Parameters
    ----------
    nodes : int
        The number of hidden nodes. They are numbered from 0.
    tails, heads : ndarray of int, shape (arcs,)
        The arcs between hidden nodes, without cycles; some may be parallel. Arcs from each of many
        nodes to each of many others may be replaced by arcs to and from one more node, whose
        balance is 0.
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
        """Return the other side: the weights in, if this one has the weights out."""
        return Side(self.nodes, self.heads, self.tails, leaves, single)

    @cached_property
    def centres(self) -> Indices:
        """The single nodes whose region is not empty: some node leads to them alone."""
        first, last = np.full(self.nodes, self.nodes), np.full(self.nodes, -1)
        np.minimum.at(first, self.tails, self.heads)
        np.maximum.at(last, self.tails, self.heads)
        found = np.unique(last[(first == last) & ~self.leaves])
        centres: Indices = found[self.single[found]]
        return centres

    def region(self, u: int, sealed: Container[int] = ()) -> Region:
        """Return the region of a single node, found against the direction of the arcs.

        Parameters
        ----------
        u : int
            A single node.
        sealed : container of int
            Single nodes with sealed regions. They stand for these, which are not searched again.
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
        """Decide which single weights are frozen, for balances that are known within a tolerance.

        Parameters
        ----------
        balances : ndarray, shape (nodes,)
            The balance of each node for weights out, its negative for weights in.
        slack : ndarray, shape (nodes,), optional
            How far off each balance may be, >= 0; by default not at all.
        """
        sums = self.solve(balances)
        low = high = sums.least
        if slack is not None:
            low, high = (self.solve(balances + off).least for off in (-slack, slack))
        frozen = self.single & (high < 0)
        return Decision(sums, frozen, self.single & (low <= 0) & ~frozen)

    def solve(self, balances: Balances) -> SmallestSums:
        """Return for each single node the smallest ``c(S)`` over the sets ``S`` of its weight."""
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
                waiting += inner  # the regions within come first, so that each is solved once
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
    """Which single weights on one side of a network are frozen, and the sets that freeze them.

    A node's single weight on that side is frozen if the smallest ``c(S)`` over the sets ``S`` of
    the weight is below zero. A single node decides by its own balance if its region is empty, as
    in a two-layer network.

    Attributes
    ----------
    sums : SmallestSums
        The smallest ``c(S)`` for the balances as they are.
    frozen : ndarray of bool, shape (nodes,)
        Whether the smallest ``c(S)`` is below zero for all balances within the tolerance.
    boundary : ndarray of bool, shape (nodes,)
        Whether it is at most zero for some of them, but not below zero for all. The others are
        free, or nodes without a single weight.
    """

    sums: SmallestSums
    frozen: Mask
    boundary: Mask


@dataclass(frozen=True, eq=False)
class SmallestSums:
    """The smallest sums of balances on one side of a network, and the sets that have them.

    Attributes
    ----------
    least : ndarray, shape (nodes,)
        For each single node the smallest ``c(S)``, of the type of the balances. Entries of other
        nodes have no meaning.
    """

    least: Balances
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
    """Lists of values by key, for pairs of a key and a value."""

    def __init__(self, keys: Indices, values: Indices, count: int) -> None:
        self._values = values[np.argsort(keys, kind="stable")]
        self._ends = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=count))])

    def __getitem__(self, key: int) -> list[int]:
        found: list[int] = self._values[self._ends[key] : self._ends[key + 1]].tolist()
        return found
