"""The conditions on a certificate, one sparse row each.

A certificate gives every node ``v`` a number ``y_v`` such that ``sum of a_v y_v <= 0`` for the
column ``a`` of every scalar but one. In a product of sides ``P`` and ``Q``, the conditions
``a_p y + a_q y <= 0`` of all cells hold if and only if there is a number ``h`` with
``a_p y <= h`` for every ``p`` in ``P`` and ``a_q y <= -h`` for every ``q`` in ``Q``. So a product
has one more variable and ``|P| + |Q|`` rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from obstruction.topology.systems.blocks import Block
from obstruction.topology.systems.magnitudes import IntArray
from obstruction.topology.systems.system import System

T = TypeVar("T")


class Scalar(NamedTuple):
    """A scalar that is alone in its column: part ``p`` of a list, or cell ``(p, q)``."""

    block: int
    p: int
    q: int


class Runs(Generic[T]):
    """Consecutive parts of a list.

    Parameters
    ----------
    items : list
    ends : ndarray of int64
        Where each part starts, and where the last one ends.
    """

    def __init__(self, items: list[T], ends: IntArray) -> None:
        self._items, self._ends = items, ends.tolist()

    def __getitem__(self, part: int) -> list[T]:
        return self._items[self._ends[part] : self._ends[part + 1]]


class Rows:
    """The rows of a system, with variables for nodes and, after them, for products.

    Attributes
    ----------
    variables : int
    starts : ndarray of int64, shape (rows + 1,)
        Where the entries of each row start.
    variable, coefficient : ndarray of int64, shape (entries,)
        The coefficient of the variable of a product is the size of one of its nodes' coefficients.
    block, side, part : ndarray of int64, shape (rows,)
        The block of each row, its side in a product or -1 in a list, and its part.
    alone : ndarray of bool, shape (rows,)
        Whether a part of a list has a single scalar. False for rows of a product.
    first : list of tuple
        For each block the row of the first part of each side.
    extra : ndarray of int64, shape (blocks,)
        The variable of each product, -1 for lists.
    """

    def __init__(self, system: System) -> None:
        self.nodes = system.nodes
        self.blocks: Sequence[Block] = system.blocks
        tables: list[tuple[NDArray[Any], ...]] = []
        extra = np.full(len(system.blocks), -1)
        self.first: list[tuple[int, ...]] = []
        self.variables, rows = system.nodes, 0
        for b, block in enumerate(system.blocks):
            firsts = []
            product = len(block.sides) == 2
            if product:
                extra[b] = self.variables
                self.variables += 1
                unit = int(np.abs(block.sides[0].coefficients).max(initial=0)) or 1
            for s, side in enumerate(block.sides):
                firsts.append(rows)
                nodes, factors = side.nodes, side.coefficients
                count = len(nodes)
                rows += count
                if product:
                    column = np.full((count, 1), extra[b])
                    nodes = np.concatenate([nodes, column], axis=1)
                    column = np.full((count, 1), (-unit, unit)[s])
                    factors = np.concatenate([factors, column], axis=1)
                used = nodes >= 0
                tables.append(
                    (
                        used.sum(axis=1),
                        nodes[used],
                        factors[used],
                        np.full(count, b),
                        np.full(count, s if product else -1),
                        np.arange(count),
                        side.alone & (not product),
                    )
                )
            self.first.append(tuple(firsts))
        empty = np.zeros(0, dtype=np.int64)
        columns = [np.concatenate(c) for c in zip(*tables, strict=True)] if tables else [empty] * 7
        lengths, *parts, alone = columns
        self.variable: IntArray
        self.coefficient: IntArray
        self.block: IntArray
        self.side: IntArray
        self.part: IntArray
        self.variable, self.coefficient, self.block, self.side, self.part = parts
        self.alone = alone.astype(bool)
        self.starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.extra = extra

    def __len__(self) -> int:
        return len(self.block)

    @cached_property
    def row(self) -> IntArray:
        """The row of each entry."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @cached_property
    def entries(self) -> Runs[tuple[int, int]]:
        """For each row its variables and coefficients."""
        pairs = zip(self.variable.tolist(), self.coefficient.tolist(), strict=True)
        return Runs(list(pairs), self.starts)

    @cached_property
    def of_variable(self) -> Runs[int]:
        """For each variable the rows that contain it."""
        order = np.argsort(self.variable, kind="stable")
        counts = np.bincount(self.variable, minlength=self.variables)
        return Runs(self.row[order].tolist(), np.concatenate([[0], np.cumsum(counts)]))

    @cached_property
    def cells(self) -> list[bool]:
        """For each block whether it is a product with cells that have a single scalar."""
        return [
            len(block.sides) == 2 and all(bool(side.alone.any()) for side in block.sides)
            for block in self.blocks
        ]

    def is_alone(self, block: int, p: int, q: int) -> bool:
        """Return whether a cell of a product has a single scalar."""
        first, second = self.blocks[block].sides
        return bool(first.alone[p] and second.alone[q])

    def scalars_of_lists(self) -> Iterator[tuple[int, Scalar]]:
        """Yield the row and the scalar of each part of a list with a single one."""
        rows = np.flatnonzero(self.alone)
        places = zip(self.block[rows].tolist(), self.part[rows].tolist(), strict=True)
        for row, (b, p) in zip(rows.tolist(), places, strict=True):
            yield row, Scalar(b, p, 0)

    def row_of(self, e: Scalar) -> int:
        """Return the row of a scalar of a list, or of part ``p`` of a product."""
        return self.first[e.block][0] + e.p

    def column(self, e: Scalar) -> dict[int, int]:
        """Return the coefficient of a scalar in each node that it enters."""
        column: dict[int, int] = {}
        sides = enumerate((e.p, e.q)[: len(self.first[e.block])])
        for v, a in [term for side, part in sides for term in self.terms(e.block, side, part)]:
            column[v] = column.get(v, 0) + a
        return {v: a for v, a in column.items() if a}

    def terms(self, block: int, side: int, part: int) -> list[tuple[int, int]]:
        """Return the nodes and coefficients of a part, without the variable of the product."""
        entries = self.entries[self.first[block][side] + part]
        return [term for term in entries if term[0] < self.nodes]
