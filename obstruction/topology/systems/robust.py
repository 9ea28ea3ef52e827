"""Draw the conclusions on signs that hold in the certificate of every scalar, all at once.

These are the conclusions of `obstruction.topology.systems.signs` without blame that follow from
columns with several scalars, and from products in which at least two cells lead to a conclusion.
Almost all conclusions are of this kind, so they are drawn for whole arrays of rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obstruction.topology.systems.magnitudes import IntArray
from obstruction.topology.systems.rows import Rows

Mask = NDArray[np.bool_]


class Robust:
    """The conclusions that hold, numbered as by `obstruction.topology.systems.signs.at_most`.

    Attributes
    ----------
    holds : ndarray of bool, shape (2 * variables,)
        Which conclusions hold.
    supports : ndarray of bool, shape (rows,)
        Which rows of products lead to one about the variable of their product.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.holds = np.zeros(2 * rows.variables, dtype=bool)
        self.supports = np.zeros(len(rows), dtype=bool)
        self._ways = np.zeros(2 * rows.variables, dtype=np.int64)
        self._at_most = 2 * rows.variable + (rows.coefficient < 0)
        at_least = 2 * rows.variable + (rows.coefficient > 0)
        self._users = np.argsort(at_least, kind="stable")
        counts = np.bincount(at_least, minlength=2 * rows.variables)
        self._ends = np.cumsum(counts)
        self._starts = self._ends - counts
        # For each row the number of terms that may be negative, and the sum of their entries.
        self._open = np.diff(rows.starts)
        self._sums = np.bincount(
            rows.row, weights=np.arange(rows.row.size), minlength=len(rows)
        ).astype(np.int64)
        # Two cells of a product lead to a conclusion, or one with several scalars.
        self._weight = np.where(_part_alone(rows), 1, 2)

    def start(self) -> tuple[IntArray, IntArray]:
        """Draw all conclusions from columns that several scalars have; return as `extend` does."""
        rows = self._rows
        single = np.diff(rows.starts) == 1
        entries = rows.starts[:-1][single]
        # One conclusion for equal columns of one entry, whether in one tensor or in several.
        conclusion = self._at_most[entries]
        scalars = np.bincount(conclusion, np.where(rows.alone[single], 1, 2))
        return self._draw(entries[scalars[conclusion] >= 2])

    def more(self) -> IntArray:
        """Return the rows of single scalars that may lead to further conclusions."""
        rows = self._rows
        open_ = rows.row[~self.holds[self._at_most]]
        return np.unique(open_[rows.alone[open_]])

    def extend(self, conclusions: list[int]) -> tuple[IntArray, IntArray]:
        """Add conclusions; return those that follow, themselves included, and new supports."""
        new = np.unique(np.array(conclusions, dtype=np.int64))
        new = new[~self.holds[new]]
        self.holds[new] = True
        others, supports = self._draw(self._follow(new))
        return np.concatenate([new, others]), supports

    def users(self, conclusions: IntArray, wanted: Mask) -> list[int]:
        """Return the rows that use conclusions as premises, as far as they are wanted."""
        used = self._users[_ranges(self._starts[conclusions], self._ends[conclusions])]
        row = self._rows.row[used]
        found: list[int] = np.unique(row[wanted[row]]).tolist()
        return found

    def _draw(self, entries: IntArray) -> tuple[IntArray, IntArray]:
        """Draw conclusions from entries whose terms are at most zero, and all that follow."""
        before = self.supports.copy()
        found = [np.zeros(0, dtype=np.int64)]
        while entries.size:
            found.append(self._conclude(entries))
            entries = self._follow(found[-1])
        return np.concatenate(found), np.flatnonzero(self.supports & ~before)

    def _conclude(self, entries: IntArray) -> IntArray:
        """Return the new conclusions that the terms of these entries are at most zero."""
        rows = self._rows
        of_node = rows.variable[entries] < rows.nodes
        drawn = self._at_most[entries[of_node]]
        leading = np.unique(entries[~of_node])
        row = rows.row[leading]
        leading, row = leading[~self.supports[row]], row[~self.supports[row]]
        self.supports[row] = True
        np.add.at(self._ways, self._at_most[leading], self._weight[row])
        through = self._at_most[leading]
        drawn = np.unique(np.concatenate([drawn, through[self._ways[through] > 1]]))
        new: IntArray = drawn[~self.holds[drawn]]
        self.holds[new] = True
        return new

    def _follow(self, new: IntArray) -> IntArray:
        """Return the entries of which new conclusions show that their terms are at most zero."""
        rows = self._rows
        used = self._users[_ranges(self._starts[new], self._ends[new])]
        row = rows.row[used]
        np.subtract.at(self._open, row, 1)
        np.subtract.at(self._sums, row, used)
        row = np.unique(row[~rows.alone[row]])
        last = self._sums[row[self._open[row] == 1]]
        done = row[self._open[row] == 0]
        return np.concatenate([last, _ranges(rows.starts[done], rows.starts[done + 1])])


def _part_alone(rows: Rows) -> Mask:
    """Return for each row of a product whether a cell of its part may have a single scalar."""
    masks = [side.alone for block in rows.blocks for side in block.sides]
    return np.concatenate(masks) if masks else np.zeros(0, dtype=bool)


def _ranges(starts: IntArray, ends: IntArray) -> IntArray:
    """Return the numbers from each start to below its end."""
    counts = ends - starts
    shifts = np.repeat(starts - (np.cumsum(counts) - counts), counts)
    numbers: IntArray = np.arange(counts.sum()) + shifts
    return numbers
