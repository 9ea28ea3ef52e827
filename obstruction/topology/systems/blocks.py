"""Blocks of scalars: the columns of a large system of balances, in short.

In a *list*, every part is a column of its own. In a *product* of two sides, every part of the first
side is combined with every part of the second, and the column of this *cell* is the sum of both:
each scalar of a matrix is read from the channel of its column and written to that of its row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from obstruction.topology.systems.magnitudes import IntArray, Scaled
from obstruction.topology.systems.tensors import Group, Tensor

_SPLIT_FROM = 512
"""Lists with fewer parts are not searched for products."""


class Side(NamedTuple):
    """Parts of columns.

    Attributes
    ----------
    nodes, coefficients : ndarray of int64, shape (parts, entries)
        The nodes that each part enters, then -1 where there are no more.
    alone : ndarray of bool, shape (parts,)
        In a list, whether the part has a single scalar. In a product, a cell has a single scalar if
        both of its parts are alone.
    """

    nodes: IntArray
    coefficients: IntArray
    alone: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Block:
    """A list or a product of scalars of one tensor.

    Attributes
    ----------
    tensor : Tensor
    sides : tuple of Side
        One side in a list, two in a product.
    sums : tuple of Scaled, or None
        The sum of squares of each part of each side, if weights are known.
    axes : tuple of int
        The axes of the tensor that `flat` numbers, in this order.
    flat : ndarray of int64, or tuple (first, size, second)
        The index along the axes of each part, or each cell; in a tuple, that of cell ``(p, q)`` is
        ``first[p] * size + second[q]``.
    """

    tensor: Tensor
    sides: tuple[Side, ...]
    sums: tuple[Scaled, ...] | None
    axes: tuple[int, ...]
    flat: IntArray | tuple[IntArray, int, IntArray]

    def position(self, p: int, q: int = 0) -> tuple[int, ...]:
        """Return the index in the tensor of the first scalar of a part or a cell."""
        if isinstance(self.flat, tuple):
            flat = int(self.flat[0][p]) * self.flat[1] + int(self.flat[2][q])
        else:
            flat = int(self.flat[p, q] if len(self.sides) == 2 else self.flat[p])
        dims = [self.tensor.dims[axis] for axis in self.axes]
        index = [0] * len(self.tensor.dims)
        for axis, i in zip(self.axes, np.unravel_index(flat, dims or (1,)), strict=False):
            index[axis] = int(i)
        return tuple(index[: len(self.tensor.shape)])


def blocks_of(
    tensor: Tensor, groups: list[Group], sums: list[Scaled] | None = None
) -> Iterator[Block]:
    """Yield the blocks of a tensor, from its groups and their sums of squares, if known."""
    dims = tensor.dims
    if not groups:
        return
    axes = tuple(axis for group in groups for axis in group.axes)
    repeated = math.prod(n for axis, n in enumerate(dims) if axis not in axes) > 1
    sides = tuple(
        Side(group.nodes, group.coefficients, (group.counts == 1) & (not repeated))
        for group in groups
    )
    if len(groups) == 1:
        yield from _lists_and_products(tensor, sides[0], groups[0], sums[0] if sums else None)
        return
    size = math.prod(dims[axis] for axis in groups[1].axes)
    flat = (groups[0].first, size, groups[1].first)
    yield Block(tensor, sides, tuple(sums) if sums else None, axes, flat)


def _lists_and_products(
    tensor: Tensor, side: Side, group: Group, sums: Scaled | None
) -> Iterator[Block]:
    """Yield the products in a list, and what remains of the list."""
    remaining = np.ones(len(group), dtype=bool)
    for cells in _products(side, group):
        remaining[cells] = False
        rows, columns = cells[:, 0], cells[0]
        first = Side(side.nodes[rows, :1], side.coefficients[rows, :1], side.alone[rows] | True)
        second = Side(side.nodes[columns, 1:], side.coefficients[columns, 1:], side.alone[columns])
        both = None
        if sums is not None:
            square = sums.part(cells.ravel())
            places = np.divmod(np.arange(cells.size), cells.shape[1])
            both = tuple(square.sums(at, n) for at, n in zip(places, cells.shape, strict=True))
        yield Block(tensor, (first, second), both, group.axes, group.first[cells])
    if remaining.any():
        kept = np.flatnonzero(remaining)
        left = Side(side.nodes[kept], side.coefficients[kept], side.alone[kept])
        sizes = None if sums is None else (sums.part(kept),)
        yield Block(tensor, (left,), sizes, group.axes, group.first[kept])


def _products(side: Side, group: Group) -> Iterator[IntArray]:
    """Yield matrices of parts, whose rows share the first node and whose columns all else."""
    if len(group) < _SPLIT_FROM or side.nodes.shape[1] < 2:
        return
    parts = np.flatnonzero(side.nodes[:, 1] >= 0)
    keys = np.stack([side.nodes[parts, 0], side.coefficients[parts, 0]], axis=1)
    others = [side.nodes[parts, 1:], side.coefficients[parts, 1:], side.alone[parts, None]]
    one = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    other = np.unique(np.concatenate(others, axis=1), axis=0, return_inverse=True)[1].ravel()
    order = np.lexsort((other, one))
    parts, one, other = parts[order], one[order], other[order]
    counts = np.bincount(one)
    starts = np.cumsum(counts) - counts
    codes = np.random.default_rng(0).integers(2**63, size=other.max() + 1, dtype=np.uint64)
    sets = np.add.reduceat(codes[other], starts)
    classes = np.unique(
        np.stack([sets, counts.astype(np.uint64)], axis=1), axis=0, return_inverse=True
    )
    same = classes[1].ravel()
    order = np.argsort(same, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(same))[:-1]):
        width = int(counts[rows[0]])
        if len(rows) > 1 and width > 1:
            places = starts[rows, None] + np.arange(width)
            if np.all(other[places] == other[places[0]]):
                yield parts[places]
