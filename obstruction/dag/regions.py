"""Which weights a set of nodes could freeze, from the shape of the network alone.

A weight out of node ``u`` is the only one out of some set ``S`` exactly if ``u`` has no other
weight out. For another one would lead into ``S``; from there every way on stays in ``S`` or
leaves it by ``u``'s weight, and as there are no cycles, none comes back to ``u``; but every hidden
node leads to an output. ``S`` then lies in the *region* of ``u``: the nodes all of whose ways on
lead to ``u``. And ``S`` is closed in it: with a node it holds all nodes that this one leads to. The
same holds for weights in, with all arrows turned round.

So the smallest ``c(S)`` is a sum over one node, unless a node of the region leads to ``u`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.dag.closures import smallest_closed_sum

Indices: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Balances: TypeAlias = NDArray[Any]
"""One balance a node: float64, or objects that are Python integers and fractions."""


class Region(NamedTuple):
    """The nodes all of whose ways on lead to one node.

    Attributes
    ----------
    others : list of int
        These nodes.
    successors : list of lists of int
        For each of them, which of the others it leads to, as places in `others`.
    """

    others: list[int]
    successors: list[list[int]]


@dataclass(frozen=True, eq=False)
class Side:
    """The hidden nodes of a network and where their weights lead, seen from one side.

    Parameters
    ----------
    nodes : int
        How many there are, numbered from 0.
    tails, heads : ndarray of int, shape (arcs,)
        Arcs between them, each once, without cycles. Arcs from each of many nodes to each of many
        others may be told as arcs to a further node of balance 0 and from there on.
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
        """Return the other side: weights in instead of weights out."""
        return Side(self.nodes, self.heads, self.tails, leaves, single)

    @cached_property
    def centres(self) -> Indices:
        """The single nodes whose region is not empty."""
        alone = (self._ways == 1) & ~self.leaves
        return np.unique(self.heads[alone[self.tails] & self.single[self.heads]])

    def region(self, u: int) -> Region:
        """Return the region of a single node, found by peeling it off against the arrows."""
        others: list[int] = []
        leading: dict[int, int] = {}
        todo = [u]
        while todo:
            for w in self._into[todo.pop()]:
                leading[w] = leading.get(w, 0) + 1
                if leading[w] == self._ways[w]:
                    others.append(w)
                    todo.append(w)
        place = {w: i for i, w in enumerate(others)}
        return Region(others, [[place[x] for x in self._out[w] if x != u] for w in others])

    def smallest_sums(self, balances: Balances) -> Balances:
        """Return for each single node the smallest ``c(S)`` over the sets ``S`` of its weight.

        Returns
        -------
        ndarray, shape (nodes,)
            Of the kind of `balances`; what it says of nodes that are not single means nothing.
        """
        least = balances.copy()
        for u in self.centres.tolist():
            others, successors = self.region(u)
            more, _ = smallest_closed_sum([balances[w] for w in others], successors)
            exact = Fraction(balances[u]) + more
            least[u] = float(exact) if least.dtype == np.float64 else exact
        return least

    def members(self, u: int, balances: Balances) -> list[int]:
        """Return the nodes of a set ``S`` with the smallest ``c(S)`` for a single node."""
        others, successors = self.region(u)
        _, found = smallest_closed_sum([balances[w] for w in others], successors)
        return sorted([u, *(others[i] for i in found)])

    @cached_property
    def _ways(self) -> Indices:
        return np.bincount(self.tails, minlength=self.nodes) + self.leaves

    @cached_property
    def _into(self) -> _Lists:
        return _Lists(self.heads, self.tails, self.nodes)

    @cached_property
    def _out(self) -> _Lists:
        return _Lists(self.tails, self.heads, self.nodes)


class _Lists:
    """For each key the values that come with it."""

    def __init__(self, keys: Indices, values: Indices, count: int) -> None:
        self._values = values[np.argsort(keys, kind="stable")]
        self._ends = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=count))])

    def __getitem__(self, key: int) -> list[int]:
        found: list[int] = self._values[self._ends[key] : self._ends[key + 1]].tolist()
        return found
