"""The smallest sum of values over a closed set of nodes.

A set of nodes is *closed* if it holds every successor of its nodes. The closed set with the
smallest sum of values is given by a minimum cut (Picard, "Maximal closure of a graph and
applications to combinatorial problems", 1976). Before that, nodes with the same neighbours and
nodes with a single successor are merged, after which most graphs need no cut or a small one. All
values are scaled to whole numbers, so nothing is rounded.
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
    """Return the smallest sum of values over all closed sets of nodes, and such a set.

    Parameters
    ----------
    values : sequence of int, float or Fraction, length n
        One finite value for each node. Floats count as the binary fractions that they are.
    successors : sequence of iterables of int, length n
        The nodes that each node leads to, each once. The graph has no cycles.

    Returns
    -------
    value : Fraction
        At most 0, for the empty set is closed.
    members : list of int
        The nodes of a set with that sum, ascending.

    Examples
    --------
    Node 0 is worth having although it brings node 1 with it:

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

    Nodes that are merged into another are recorded, so that the members of a set in the reduced
    graph can be told in the graph as it was.
    """

    def __init__(self, values: list[int], successors: list[set[int]]) -> None:
        self.values = dict(enumerate(values))
        self.successors = dict(enumerate(successors))
        self.predecessors: dict[int, set[int]] = {v: set() for v in self.values}
        for v, after in self.successors.items():
            for w in after:
                self.predecessors[w].add(v)
        # Pairs of a node and one that was merged into it, which is a member whenever the node is.
        self._merged: list[tuple[int, int]] = []

    def reduce(self) -> None:
        """Apply `_fold` and `_merge` until neither changes the graph."""
        while self._fold() or self._merge():
            pass

    def unfold(self, members: Iterable[int]) -> list[int]:
        """Return the members in the graph as it was."""
        found = set(members)
        for node, along in reversed(self._merged):
            if node in found:
                found.add(along)
        return sorted(found)

    def _fold(self) -> bool:
        """Remove nodes without predecessors whose membership is known.

        Such a node is no member if its value is 0 or more. If its value is negative and it has one
        successor, it is a member whenever that is, and is merged into it. Other negative nodes
        stay.
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
        """Merge nodes with the same predecessors and the same successors.

        All of them with negative values are members or none is, since one that is a member brings
        the successors that the others need. All of the others are members or none is, since a
        predecessor that needs one needs all.
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
    """Return the members of a closed set with the smallest sum."""
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
