"""Decide whether a scalar of a network is frozen by the cuts that it closes alone.

For the scalar ``e`` from ``u`` to ``v``, the sets ``S`` of the theorem contain ``u``, do not
contain ``v``, and contain the head of every other scalar whose tail they contain. So they contain
all that can be reached from ``u`` without ``e``. If that includes ``v`` or what is outside, there
is no ``S``. Otherwise the other nodes that may belong to ``S`` are explored, and
`obstruction.topology.closures` finds the set with the smallest sum of balances. Sets with ``e`` as
the only scalar in are decided in the same way, with all scalars reversed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from obstruction.topology.closures import smallest_closed_sum
from obstruction.topology.systems.rows import Rows, Scalar
from obstruction.topology.systems.signs import Signs, at_least


class Cut(NamedTuple):
    """The smallest sum of balances over the sets that one scalar closes alone.

    Attributes
    ----------
    nodes : tuple of int
        A set with the smallest sum for the given balances.
    coefficients : tuple of int
        The coefficient of the scalar's certificate at each node, 1 or -1.
    size : int
        The absolute coefficient of the scalar.
    least : int
        The sum of the balances times the coefficients, in whole units.
    low, high : int
        The smallest and the largest such bound for balances within the tolerances.
    """

    nodes: tuple[int, ...]
    coefficients: tuple[int, ...]
    size: int
    least: int
    low: int
    high: int


class Cuts:
    """The networks among the parts of a system.

    Parameters
    ----------
    rows, signs, zero, sign
        The conditions, the conclusions, the nodes that never matter, and the signs of
        `obstruction.topology.systems.parts`.
    balances, tolerances : sequence of int
        In a common unit, one for each node.
    """

    def __init__(
        self,
        rows: Rows,
        signs: Signs,
        zero: NDArray[np.bool_],
        sign: NDArray[np.int64],
        balances: Sequence[int],
        tolerances: Sequence[int],
    ) -> None:
        self.rows, self.signs = rows, signs
        self.sign: list[int] = sign.tolist()
        self._zero: list[bool] = zero.tolist()
        self._ends: dict[int, list[tuple[int, bool, int | None]]] = {}
        self._balances, self._tolerances = balances, tolerances

    def decide(self, e: Scalar, side: int) -> Cut | None:
        """Return the smallest cut by a scalar out of sets (1) or into sets (-1), if any."""
        column = {v: a for v, a in self.rows.column(e).items() if not self._zero[v]}
        tails = [v for v, a in column.items() if a * self.sign[v] * side < 0]
        if not tails:
            return None
        search = _Search(self, e, side, set(column))
        forced = search.forced(tails[0])
        if forced is None:
            return None
        others, successors = search.optional(forced)

        def value(v: int, shift: int) -> int:
            if v >= self.rows.nodes:
                return 0
            return side * self.sign[v] * self._balances[v] + shift * self._tolerances[v]

        def solve(shift: int) -> tuple[int, list[int]]:
            total = sum(value(v, shift) for v in forced)
            if not others:
                return total, forced
            more, members = _smallest_closed([value(v, shift) for v in others], successors)
            return total + more, [*forced, *(others[i] for i in members)]

        least, members = solve(0)
        slack = any(self._tolerances[v] for v in [*forced, *others] if v < self.rows.nodes)
        low, high = (solve(shift)[0] for shift in (1, -1)) if slack else (least, least)
        nodes = tuple(sorted(v for v in members if v < self.rows.nodes))
        return Cut(
            nodes,
            tuple(-side * self.sign[v] for v in nodes),
            abs(column[tails[0]]),
            -least,
            -low,
            -high,
        )

    def ends(self, v: int) -> list[tuple[int, bool, int | None]]:
        """Return the rows at a node, whether it is the tail there, and what is at the other end."""
        if v not in self._ends:
            entries = self.rows.entries
            self._ends[v] = [(row, *self.end(v, entries[row])) for row in self.rows.of_variable[v]]
        return self._ends[v]

    def end(self, v: int, entries: list[tuple[int, int]]) -> tuple[bool, int | None]:
        """Return whether a node is the tail of a row, and the other end, None if outside."""
        own = next(a for w, a in entries if w == v)
        other = next((w for w, _ in entries if w != v and not self._zero[w]), None)
        return own * self.sign[v] < 0, other


class _Search:
    """The nodes that can belong to a set which the scalar `e` closes alone."""

    def __init__(self, cuts: Cuts, e: Scalar, side: int, ends: set[int]) -> None:
        self._cuts, self._e, self._side, self._ends = cuts, e, side, ends
        rows = cuts.rows
        self._own = rows.row_of(e)
        self._product = int(rows.extra[e.block])  # -1 if the scalar belongs to a list
        self._columns = rows.first[e.block][-1], len(rows.blocks[e.block].sides[-1].alone)
        self._known: dict[int, bool] = {}

    def forced(self, tail: int) -> list[int] | None:
        """Return the nodes that every set contains, None if there is no set."""
        found, place = [tail], {tail}
        if not self._allowed(tail):
            return None
        for v in found:
            for leaves, other in self._neighbours(v):
                if not leaves or other in place:
                    continue
                if other is None or other in self._ends or not self._allowed(other):
                    return None
                place.add(other)
                found.append(other)
        return found

    def optional(self, forced: list[int]) -> tuple[list[int], list[list[int]]]:
        """Return the other nodes that sets may contain, and the places of their successors."""
        inside = set(forced)
        seen: dict[int, list[int]] = {}
        before: dict[int, list[int]] = {}
        bad: list[int] = []
        todo = [w for v in forced for w in self._predecessors(v)]
        while todo:
            v = todo.pop()
            if v in seen or v in inside:
                continue
            seen[v] = []
            for leaves, other in self._neighbours(v):
                if other in inside or other == v:
                    continue
                if other is None or other in self._ends or not self._allowed(other):
                    if leaves:
                        bad.append(v)
                    continue
                if leaves:
                    seen[v].append(other)
                    before.setdefault(other, []).append(v)
                todo.append(other)
        excluded = set(bad)
        while bad:
            for w in before.get(bad.pop(), ()):
                if w not in excluded:
                    excluded.add(w)
                    bad.append(w)
        others = [v for v in seen if v not in excluded]
        place = {v: i for i, v in enumerate(others)}
        return others, [sorted({place[w] for w in seen[v]}) for v in others]

    def _predecessors(self, v: int) -> Iterator[int]:
        for leaves, other in self._neighbours(v):
            if leaves or other is None or other in self._ends:
                continue
            if self._allowed(other):
                yield other

    def _allowed(self, v: int) -> bool:
        """Return whether no conclusion without `e` keeps a node out of all sets."""
        if v not in self._known:
            conclusion = at_least(v, self._side * self._cuts.sign[v])
            self._known[v] = not self._cuts.signs.without(conclusion, self._e)
        return self._known[v]

    def _neighbours(self, v: int) -> Iterator[tuple[bool, int | None]]:
        """Yield the other end of each row but that of `e`, and whether the row leaves `v`.

        The other end is None if the row leads out of the network.
        """
        for row, tail, other in self._cuts.ends(v):
            if row != self._own:
                yield tail is (self._side > 0), other
            if self._product >= 0 and v != self._product:
                yield from self._through_cells(v, row)

    def _through_cells(self, v: int, row: int) -> Iterator[tuple[bool, int | None]]:
        """Yield the same for the cells beside `e`, which the variable of its product leaves out."""
        rows, e = self._cuts.rows, self._e
        start, count = self._columns
        if row == self._own:
            parts: Sequence[int] = [q for q in range(count) if q != e.q]
        elif start <= row < start + count and row != start + e.q:
            parts = [row - start]
        else:
            return
        terms = rows.terms(e.block, 0, e.p)
        for q in parts:
            entries = [*terms, *rows.terms(e.block, 1, q)]
            if sum(a for w, a in entries if w == v):  # other than zero, so no loop
                tail, other = self._cuts.end(v, entries)
                yield tail is (self._side > 0), other


def _smallest_closed(values: list[int], successors: list[list[int]]) -> tuple[int, list[int]]:
    """Return the smallest sum over closed sets of a graph with cycles, and such a set.

    Of the nodes of a cycle all belong to a closed set or none does, so they are merged.
    """
    if all(value >= 0 for value in values):
        return 0, []
    n = len(values)
    tails = np.repeat(np.arange(n), [len(after) for after in successors])
    heads = np.array([w for after in successors for w in after], dtype=np.int64)
    graph = coo_array((np.ones(heads.size), (tails, heads)), shape=(n, n))
    count, merged = connected_components(graph, connection="strong")
    totals = [0] * count
    after: list[set[int]] = [set() for _ in range(count)]
    for v, m in enumerate(merged.tolist()):
        totals[m] += values[v]
        after[m].update(merged[successors[v]].tolist())
    for m, heads_of in enumerate(after):
        heads_of.discard(m)
    total, members = smallest_closed_sum(totals, after)
    chosen = np.isin(merged, members)
    return int(total), np.flatnonzero(chosen).tolist()
