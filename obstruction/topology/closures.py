"""Find the smallest sum of values over the closed sets of nodes of a graph.

A set of nodes is *closed* if it contains every successor of its nodes. A minimum cut gives the
closed set with the smallest sum of values (Picard, "Maximal closure of a graph and applications to
combinatorial problems", 1976). Before the cut, nodes with the same neighbours and nodes with a
single successor are merged, so that most graphs need no cut or only a small one. All values are
scaled to whole numbers, so nothing is rounded.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias

Number: TypeAlias = int | float | Fraction


def smallest_closed_sum(
    values: Sequence[Number], successors: Sequence[Iterable[int]]
) -> tuple[Fraction, list[int]]:
    """Return the smallest sum of values over all closed sets, and the nodes of such a set.

    `values` are finite, and floats are exact binary fractions. `successors` lists the successors
    of each node, each once, in a graph without cycles. The sum is at most 0, since the empty set is
    closed. The nodes are in ascending order.

    Examples
    --------
    Node 0 has a value below 0 and requires node 1, and their sum is still below 0:

    >>> smallest_closed_sum([-3, 1, -1, 5], [[1], [], [3], []])
    (Fraction(-2, 1), [0, 1])
    """
    fractions = [Fraction(value) for value in values]
    unit = math.lcm(*(value.denominator for value in fractions))
    whole = [value.numerator * (unit // value.denominator) for value in fractions]
    graph = _Reduced(whole, [set(after) for after in successors])
    graph.reduce()
    members = graph.unfold(_by_minimum_cut(graph.values, graph.successors))
    return Fraction(sum(whole[v] for v in members), unit), members


class _Reduced:
    """A graph that is reduced without changing its smallest closed sum.

    It records merged nodes, so that a set in the reduced graph gives one in the original graph.
    """

    def __init__(self, values: list[int], successors: list[set[int]]) -> None:
        self.values = dict(enumerate(values))
        self.successors = dict(enumerate(successors))
        self.predecessors: dict[int, set[int]] = {v: set() for v in self.values}
        for v, after in self.successors.items():
            for w in after:
                self.predecessors[w].add(v)
        # Pairs of a node and a second one merged into it: both are members, or neither is.
        self._merged: list[tuple[int, int]] = []

    def reduce(self) -> None:
        """Apply `_fold` and `_merge` until neither changes the graph."""
        while self._fold() or self._merge():
            pass

    def unfold(self, members: Iterable[int]) -> list[int]:
        """Return the members of the same set in the original graph."""
        found = set(members)
        for node, along in reversed(self._merged):
            if node in found:
                found.add(along)
        return sorted(found)

    def _fold(self) -> bool:
        """Remove nodes without predecessors whose membership is known.

        Such a node is no member if its value is 0 or more. If its value is negative and it has one
        successor, it is a member exactly if that successor is, so it is merged into it. A negative
        node without successors, or with several, stays.
        """
        todo = [v for v in self.values if not self.predecessors[v]]
        folded = False
        while todo:
            v = todo.pop()
            after = self.successors[v]
            if self.values[v] < 0:
                if len(after) != 1:
                    continue
                (w,) = after
                self.values[w] += self.values[v]
                self._merged.append((w, v))
            todo.extend(w for w in after if len(self.predecessors[w]) == 1)
            self._remove(v)
            folded = True
        return folded

    def _merge(self) -> bool:
        """Merge nodes with the same predecessors, the same successors and the same kind of value.

        Of nodes with negative values either all are members or none is, since one member already
        requires all their successors. The same holds for the other nodes, since a predecessor
        that requires one of them requires all.
        """
        first: dict[Hashable, int] = {}
        merged = False
        for v in list(self.values):
            before, after = frozenset(self.predecessors[v]), frozenset(self.successors[v])
            w = first.setdefault((before, after, self.values[v] < 0), v)
            if w != v:
                self.values[w] += self.values[v]
                self._merged.append((w, v))
                self._remove(v)
                merged = True
        return merged

    def _remove(self, v: int) -> None:
        for w in self.successors.pop(v):
            self.predecessors[w].discard(v)
        for w in self.predecessors.pop(v):
            self.successors[w].discard(v)
        del self.values[v]


def _by_minimum_cut(values: dict[int, int], successors: dict[int, set[int]]) -> set[int]:
    """Return the nodes of a closed set with the smallest sum."""
    if all(value >= 0 for value in values.values()):
        return set()
    if not any(successors.values()):
        return {v for v, value in values.items() if value < 0}
    import networkx

    graph = networkx.DiGraph()
    for v, value in values.items():
        if value < 0:
            graph.add_edge("source", v, capacity=-value)
        elif value > 0:
            graph.add_edge(v, "sink", capacity=value)
        graph.add_edges_from((v, w) for w in successors[v])  # of infinite capacity
    if "sink" not in graph:
        return set(values)
    _, (inside, _) = networkx.minimum_cut(graph, "source", "sink")
    return {v for v in inside if v != "source"}
