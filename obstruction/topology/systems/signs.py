"""Which numbers of a certificate are forced to be at most or at least zero, and by which scalars.

Let ``y`` be a certificate for the scalar ``e``, so that ``sum of a_v y_v <= 0`` for every other
column. If all terms but one are known to be at least zero, this one is at most zero. A channel that
is written by a scalar which enters nothing else has ``y_v <= 0``, one that is read by such a scalar
has ``y_v >= 0``, and so on along all columns. A conclusion may need the column of ``e`` itself.
So for each conclusion the *blame* is kept: the scalars without which it cannot be drawn. It is
found as dominators are, by going down from the set of all scalars until nothing changes: every way
to a conclusion gives the union of the blames of its premises and of its own scalar, if that is
alone in its column, and the blame is the intersection over all ways.

A node with ``y_v <= 0`` and ``y_v >= 0``, both without blame, never matters. Almost all nodes of
almost all networks are of this kind, and no scalar around them can be frozen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.topology.systems.magnitudes import IntArray
from obstruction.topology.systems.robust import Robust
from obstruction.topology.systems.rows import Rows, Scalar

Blame: TypeAlias = frozenset[Scalar]

NOTHING: Final[Blame] = frozenset()
_MOST: Final = 4096
"""Conclusions with more blame are given up, which is no error: they are used for nothing."""


def at_most(variable: int, coefficient: int) -> int:
    """Return the number of the conclusion ``coefficient * y <= 0``."""
    return 2 * variable + (coefficient < 0)


def at_least(variable: int, coefficient: int) -> int:
    """Return the number of the conclusion ``coefficient * y >= 0``."""
    return 2 * variable + (coefficient > 0)


class Signs:
    """The conclusions that can be drawn about a certificate of any scalar of a system."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._blame: list[Blame | None] = [None] * (2 * rows.variables)
        # For conclusions about the variable of a product, the blame by the part that led to it.
        self._parts: dict[int, dict[int, Blame]] = {}
        self._common: dict[int, Blame] = {}
        # Conclusions to be followed: without blame, by one part of a product only, and others.
        self._robust: list[int] = []
        self._single: deque[int] = deque()
        self._others: deque[int] = deque()
        self._run()

    def _run(self) -> None:
        rows = self.rows
        robust = Robust(rows)
        # Rows that may lead to more than what is robust, if their premises are.
        wanted = rows.alone | (np.diff(rows.starts) > 2)
        self._take(*robust.start())
        for row in robust.more().tolist():
            self._use(row)
        while self._robust or self._others or self._single:
            if self._robust:
                new, supports = robust.extend(self._robust)
                self._robust.clear()
                self._take(new, supports)
                for row in robust.users(new, wanted):
                    self._use(row)
                continue
            conclusion = (self._others or self._single).popleft()
            for row in rows.of_variable[conclusion // 2]:
                if any(conclusion == at_least(v, a) for v, a in rows.entries[row]):
                    self._use(row)

    def _take(self, conclusions: IntArray, supports: IntArray) -> None:
        """Take over robust conclusions."""
        rows = self.rows
        for conclusion in conclusions[conclusions < 2 * rows.nodes].tolist():
            self._blame[conclusion] = NOTHING
        for row in supports.tolist():
            self._conclude(row, len(rows.entries[row]) - 1, NOTHING)

    def blame(self, conclusion: int) -> Blame | None:
        """Return the blame of a conclusion about a node, None if it cannot be drawn."""
        return self._blame[conclusion]

    def without(self, conclusion: int, e: Scalar) -> bool:
        """Return whether a conclusion can be drawn without the scalar `e`.

        For the variable of the product that contains `e`, the answer is False.
        """
        parts = self._parts.get(conclusion)
        if parts is None:
            blame = self._blame[conclusion]
            return blame is not None and e not in blame
        if self.rows.extra[e.block] == conclusion // 2:
            return False
        return any(e not in blame for blame in parts.values())

    def zero(self) -> NDArray[np.bool_]:
        """Return which variables are zero in the certificate of every scalar.

        The variable of a product with cells of a single scalar is never among them.
        """
        robust = np.zeros(2 * self.rows.variables, dtype=bool)
        for conclusion, blame in enumerate(self._blame):
            robust[conclusion] = blame is not None and not blame
        for conclusion, parts in self._parts.items():
            robust[conclusion] = any(not blame for blame in parts.values())
        zero = robust[::2] & robust[1::2]
        zero[self.rows.extra[[b for b, cells in enumerate(self.rows.cells) if cells]]] = False
        return zero

    def blamed(self) -> Iterator[Scalar]:
        """Yield the scalars that some conclusion needs, each once."""
        found = {blame for blame in self._blame if blame}
        yield from set().union(*found)

    def _use(self, row: int) -> None:
        """Draw all conclusions that follow from a row."""
        entries = self.rows.entries[row]
        for i, (v, a) in enumerate(entries):
            if self._blame[at_most(v, a)] == NOTHING:
                continue
            premises = [
                self._premise(at_least(w, b), row) for j, (w, b) in enumerate(entries) if j != i
            ]
            if None not in premises:
                self._conclude(row, i, NOTHING.union(*(p for p in premises if p)))

    def _premise(self, conclusion: int, row: int) -> Blame | None:
        """Return the blame of a conclusion if it is used in a row."""
        parts = self._parts.get(conclusion)
        if parts is None:
            return self._blame[conclusion]
        if len(parts) > 1:
            return self._common[conclusion]
        ((part, blame),) = parts.items()
        block, own = int(self.rows.block[row]), int(self.rows.part[row])
        p, q = (own, part) if self.rows.side[row] == 0 else (part, own)
        return blame | {Scalar(block, p, q)} if self.rows.is_alone(block, p, q) else blame

    def _conclude(self, row: int, place: int, blame: Blame) -> None:
        rows = self.rows
        variable, coefficient = rows.entries[row][place]
        conclusion = at_most(variable, coefficient)
        block, part = int(rows.block[row]), int(rows.part[row])
        if rows.alone[row]:
            blame |= {Scalar(block, part, 0)}
        if len(blame) > _MOST:
            return
        if variable < rows.nodes:
            old = self._blame[conclusion]
            new = blame if old is None else old & blame
            if old is None or new != old:
                self._blame[conclusion] = new
                (self._others if new else self._robust).append(conclusion)
            return
        parts = self._parts.setdefault(conclusion, {})
        before = (len(parts) > 1, self._common.get(conclusion))
        if before == (True, NOTHING) or parts.get(part) == NOTHING:
            return
        old = parts.get(part)
        parts[part] = blame if old is None else old & blame
        # Two parts lead to the conclusion by different cells. Only a cell of this product that one
        # of them needs may be needed besides what both need.
        cells = {e for one in parts.values() for e in one if e.block == block}
        common = frozenset.intersection(*parts.values()) | cells
        self._common[conclusion] = common
        if len(parts) == 1:
            if old is None or parts[part] != old:
                self._single.append(conclusion)
        elif (True, common) != before:
            (self._others if common else self._robust).append(conclusion)
