"""Tensors of scalars, and which balances each scalar enters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obstruction.topology.systems.magnitudes import IntArray


@dataclass(frozen=True, eq=False)
class Membership:
    """The nodes that the scalars of a tensor enter by one law.

    Attributes
    ----------
    first : int
        The node with label 0.
    labels : ndarray of int
        Broadcasts to the shape of the tensor. A scalar with label ``k >= 0`` enters the node
        ``first + k``; one with label -1 enters none.
    coefficient : int
        The balance of that node contains ``coefficient * w²``. It is positive where the scalar is
        written to a channel and negative where it is read from it.
    """

    first: int
    labels: NDArray[Any]
    coefficient: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of scalars.

    Attributes
    ----------
    name : str
    shape : tuple of int
    memberships : sequence of Membership
        If a scalar enters a node several times, its coefficients are added.
    """

    name: str
    shape: tuple[int, ...]
    memberships: Sequence[Membership]

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape, or (1,) if the tensor is a number."""
        return tuple(self.shape) or (1,)

    def check(self, nodes: int) -> None:
        """Raise a `ValueError` if a membership does not fit the tensor or the nodes."""
        for place, one in enumerate(self.memberships):
            name = f"tensor {self.name!r}, membership {place}"
            labels = np.asarray(one.labels)
            if labels.dtype.kind not in "iu":
                raise ValueError(f"{name}: labels must be integers, not {labels.dtype}")
            try:
                np.broadcast_shapes(labels.shape, self.shape)
                fits = np.broadcast_shapes(labels.shape, self.shape) == tuple(self.shape)
            except ValueError:
                fits = False
            if not fits:
                raise ValueError(
                    f"{name}: labels of shape {labels.shape} must broadcast to {self.shape}"
                )
            least, most = int(labels.min(initial=0)), int(labels.max(initial=-1))
            if least < -1 or one.first < 0 or one.first + most >= nodes:
                raise ValueError(
                    f"{name}: labels are from {least} to {most} and first = {one.first}; they must "
                    f"be -1 or lead to one of {nodes:,} nodes"
                )
            if one.coefficient == 0 or one.coefficient != int(one.coefficient):
                raise ValueError(
                    f"{name}: coefficient = {one.coefficient!r}: must be an integer other than 0"
                )


@dataclass(frozen=True, eq=False)
class Group:
    """The memberships of a tensor whose labels vary along the same axes.

    The scalars are divided into *parts*: those that enter the same nodes by these memberships.

    Attributes
    ----------
    axes : tuple of int
        The axes, in ascending order.
    numbers : ndarray of int64
        The part of each index along the axes, in C order.
    nodes, coefficients : ndarray of int64, shape (parts, entries)
        The nodes that each part enters, in ascending order, then -1 where there are no more.
    counts, first : ndarray of int64, shape (parts,)
        How many indices along the axes each part has, and the first of them.
    """

    axes: tuple[int, ...]
    numbers: IntArray
    nodes: IntArray
    coefficients: IntArray
    counts: IntArray
    first: IntArray

    @classmethod
    def of_rows(
        cls, axes: tuple[int, ...], numbers: IntArray, nodes: IntArray, coefficients: IntArray
    ) -> Group:
        """Return a group from parts of which some may be equal."""
        nodes, coefficients = _canonical(nodes, coefficients)
        if nodes.shape[1] > 1:
            rows = np.concatenate([nodes, coefficients], axis=1)
            kept, same = np.unique(rows, axis=0, return_index=True, return_inverse=True)[1:]
            numbers = same.ravel()[numbers]
            nodes, coefficients = nodes[kept], coefficients[kept]
        _, first, counts = np.unique(numbers, return_index=True, return_counts=True)
        return cls(axes, numbers, nodes, coefficients, counts, first)

    def __len__(self) -> int:
        return len(self.nodes)

    def times(self, other: Group, dims: tuple[int, ...]) -> Group:
        """Return both groups as one, along the axes of both."""
        axes = self.axes + other.axes
        pairs = self.numbers[:, None] * len(other) + other.numbers
        order = np.argsort(axes)
        numbers = pairs.reshape([dims[i] for i in axes]).transpose(order).ravel()
        first, second = np.divmod(np.arange(len(self) * len(other)), len(other))
        nodes = np.concatenate([self.nodes[first], other.nodes[second]], axis=1)
        coefficients = np.concatenate(
            [self.coefficients[first], other.coefficients[second]], axis=1
        )
        return Group.of_rows(tuple(sorted(axes)), numbers, nodes, coefficients)


def groups_of(tensor: Tensor) -> list[Group]:
    """Return the groups of a tensor, at most two, whose axes are disjoint."""
    dims = tensor.dims
    sets: list[tuple[set[int], list[tuple[Membership, IntArray]]]] = []
    for one in tensor.memberships:
        axes, labels = _varying(one.labels, len(dims))
        together = [(one, labels)]
        for old in [old for old in sets if old[0] & axes]:
            sets.remove(old)
            axes |= old[0]
            together = old[1] + together
        sets.append((axes, together))
    constant = [member for axes, members in sets if not axes for member in members]
    varying = [(axes, members) for axes, members in sets if axes] or [(set(), [])]
    varying[0][1].extend(constant)
    if not varying[0][1]:
        return []
    groups = [_group(tuple(sorted(axes)), members, dims) for axes, members in varying]
    while len(groups) > 1 and (len(groups) > 2 or min(map(len, groups)) == 1):
        first, second, *groups = sorted(groups, key=len)
        groups.append(first.times(second, dims))
    return groups


def _varying(labels: NDArray[Any], dimensions: int) -> tuple[set[int], IntArray]:
    """Return the axes along which labels vary, and the labels with length 1 along all others."""
    array = np.asarray(labels)
    array = array.reshape((1,) * (dimensions - array.ndim) + array.shape)
    axes = set()
    for axis in range(dimensions):
        if array.shape[axis] > 1:
            start = array.take([0], axis=axis)
            if array.strides[axis] and np.any(array != start):
                axes.add(axis)
            else:
                array = start
    return axes, array.astype(np.int64)


def _group(
    axes: tuple[int, ...], members: list[tuple[Membership, IntArray]], dims: tuple[int, ...]
) -> Group:
    shape = tuple(n if i in axes else 1 for i, n in enumerate(dims))
    columns = [np.broadcast_to(labels, shape).ravel() for _, labels in members]
    numbers = np.zeros(columns[0].size, dtype=np.int64)
    kept = np.zeros(1, dtype=np.int64)
    for column in columns:
        key = numbers * (int(column.max()) + 2) + column + 1
        _, kept, numbers = np.unique(key, return_index=True, return_inverse=True)
    labels = np.stack([column[kept] for column in columns], axis=1)
    first = np.array([one.first for one, _ in members])
    factors = np.array([one.coefficient for one, _ in members])
    nodes = np.where(labels >= 0, labels + first, -1)
    return Group.of_rows(axes, numbers, nodes, np.where(labels >= 0, factors, 0))


def _canonical(nodes: IntArray, coefficients: IntArray) -> tuple[IntArray, IntArray]:
    """Add the coefficients of equal nodes in each row, sort the nodes, and drop empty columns."""
    nodes, coefficients = nodes.copy(), coefficients.copy()
    width = nodes.shape[1]
    for i in range(width):
        for j in range(i + 1, width):
            same = (nodes[:, i] == nodes[:, j]) & (nodes[:, i] >= 0)
            coefficients[same, i] += coefficients[same, j]
            coefficients[same, j] = 0
            nodes[same, j] = -1
    nodes[coefficients == 0] = -1
    last = np.iinfo(np.int64).max
    order = np.argsort(np.where(nodes < 0, last, nodes), axis=1, kind="stable")
    nodes = np.take_along_axis(nodes, order, axis=1)
    coefficients = np.take_along_axis(coefficients, order, axis=1)
    used = max(1, int(np.count_nonzero(np.any(nodes >= 0, axis=0))))
    return nodes[:, :used], coefficients[:, :used]
