"""A conservation law: numbers, made of the parameters, that gradient flow keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.int64]
Kind: TypeAlias = Literal["balance", "scale", "matrix", "constant", "shift"]

KINDS: Final[tuple[Kind, ...]] = ("balance", "scale", "matrix", "constant", "shift")
"""The kinds of laws.

balance
    ``sum(written²) - sum(read²)`` of a channel, which is scaled where it is written and scaled back
    where it is read.
scale
    ``sum(block²)`` of a block of weights before a normalisation, which does not see its length.
matrix
    ``W Wᵀ - Rᵀ R`` of linear neurons, or of the queries and keys, or values and outputs, of a head.
constant
    A parameter that the outputs do not depend on, such as a bias before batch normalisation.
shift
    The sum of weights along an axis, of which a following operation subtracts the mean.
"""


@dataclass(frozen=True, eq=False)
class Term:
    """The scalars of one parameter that enter a law.

    Attributes
    ----------
    tensor : str
        The name of the parameter.
    labels : ndarray of int64
        Broadcasts to the shape of the parameter. For every scalar, which number of the law it
        enters, from 0; -1 if it enters none.
    coefficient : int
        Positive if the scalars write, negative if they read. The law contains
        ``coefficient * w²`` (``coefficient * w`` in linear laws) for every scalar ``w``.
    """

    tensor: str
    labels: Labels
    coefficient: int


@dataclass(frozen=True, eq=False)
class Law:
    """Numbers of one kind that gradient flow keeps, one for each label.

    Attributes
    ----------
    kind : {"balance", "scale", "matrix", "constant", "shift"}
        See `KINDS`.
    size : int
        The number of conserved numbers. A matrix law with blocks of side ``b`` has
        ``b * (b + 1) / 2`` for each block.
    terms : tuple of Term
        The scalars that enter, those that write first.
    labels : int
        The number of labels of the terms.
    block : int
        The side of the blocks of a matrix law, 1 for all others.
    violation : ndarray of float64, shape (labels,)
        The largest violation of the law by gradients at random parameters, relative to the sum of
        the absolute values of all scalars in it. For norms of blocks this is the drift that the
        small number ``eps`` in a normalisation causes at the actual parameters.
    change : float
        The largest relative change of the outputs when the law's own transformation was applied.
    """

    kind: Kind
    terms: tuple[Term, ...]
    labels: int
    violation: FloatArray
    change: float
    block: int = 1

    @property
    def size(self) -> int:
        """The number of conserved numbers."""
        blocks = self.labels // self.block
        return blocks * (self.block * (self.block + 1) // 2)

    @property
    def quadratic(self) -> bool:
        """Whether the law is about squares of parameters; if not, it is about parameters."""
        return self.kind in ("balance", "scale", "matrix")

    @property
    def places(self) -> Labels:
        """The label to which each number belongs: for an entry of a block, that of its row."""
        if self.kind != "matrix":
            return np.arange(self.labels)
        rows, _ = np.triu_indices(self.block)
        blocks = np.arange(self.labels // self.block) * self.block
        return (blocks[:, None] + rows).reshape(-1)

    def values(self, parameters: Mapping[str, FloatArray]) -> FloatArray:
        """Return the conserved numbers at given parameters, shape ``(size,)``.

        Those of a matrix law are the entries on and above the diagonal of its blocks.
        """
        if self.kind == "matrix":
            return self._matrices(parameters)
        total = np.zeros(self.labels)
        for term in self.terms:
            value = np.asarray(parameters[term.tensor], dtype=np.float64)
            powers = value * value if self.quadratic else value
            total += term.coefficient * summed(powers, term.labels, self.labels)
        return total

    def scale(self, parameters: Mapping[str, FloatArray]) -> FloatArray:
        """Return the sum of the absolute values of all terms, shape ``(labels,)``."""
        total = np.zeros(self.labels)
        for term in self.terms:
            value = np.asarray(parameters[term.tensor], dtype=np.float64)
            powers = value * value if self.quadratic else np.abs(value)
            total += abs(term.coefficient) * summed(powers, term.labels, self.labels)
        return total

    def counts(self, shapes: Mapping[str, tuple[int, ...]], sign: int) -> Labels:
        """Return how many scalars write (``sign = 1``) or read (``-1``), shape ``(labels,)``."""
        total = np.zeros(self.labels, dtype=np.int64)
        for term in self.terms:
            if term.coefficient * sign > 0:
                size = int(np.prod(shapes[term.tensor], dtype=np.int64)) // term.labels.size
                places = term.labels[term.labels >= 0]
                total += size * np.bincount(places, minlength=self.labels)
        return total

    def _matrices(self, parameters: Mapping[str, FloatArray]) -> FloatArray:
        side = self.block
        total = np.zeros((self.labels // side, side, side))
        for term in self.terms:
            value = np.asarray(parameters[term.tensor], dtype=np.float64)
            for rows in slices(value, term.labels, self.labels):
                stack = rows.reshape(len(total), side, -1)
                total += term.coefficient * (stack @ stack.transpose(0, 2, 1))
        return total[:, *np.triu_indices(side)].reshape(-1)


def summed(values: FloatArray, labels: Labels, width: int) -> FloatArray:
    """Return the sum of values over every label, shape ``(width,)``."""
    others = tuple(a for a in range(values.ndim) if labels.shape[a] == 1 and values.shape[a] != 1)
    part = values.sum(axis=others, keepdims=True) if others else values
    flat = np.broadcast_to(labels, part.shape).reshape(-1)
    used = flat >= 0
    sums: FloatArray = np.bincount(flat[used], part.reshape(-1)[used], width).astype(np.float64)
    return sums


def slices(values: NDArray[Any], labels: Labels, width: int) -> list[NDArray[Any]]:
    """Return arrays of shape ``(width, rest)`` whose rows hold the scalars of each label.

    There are several arrays if the places along the axes of the labels share labels.
    """
    _, _, rows = _fronted(values, labels)
    return [rows[place] for place in _places(labels, width)]


def with_slices(
    values: FloatArray,
    labels: Labels,
    width: int,
    change: Callable[[NDArray[Any]], NDArray[Any]],
) -> FloatArray:
    """Return values in which a function has changed the arrays that `slices` returns."""
    axes, shape, rows = _fronted(values, labels)
    rows = rows.copy()
    for place in _places(labels, width):
        rows[place] = change(rows[place])
    found: FloatArray = np.moveaxis(rows.reshape(shape), range(len(axes)), axes)
    return found


def _fronted(
    values: NDArray[Any], labels: Labels
) -> tuple[list[int], tuple[int, ...], NDArray[Any]]:
    """Return the axes of labels, the shape with these in front, and a row for each place there."""
    axes = [a for a in range(values.ndim) if labels.shape[a] != 1]
    if not axes:
        axes = [a for a in range(values.ndim) if values.shape[a] == 1][:1]
    front = np.moveaxis(values, axes, range(len(axes)))
    lead = int(np.prod(front.shape[: len(axes)], dtype=np.int64))
    return axes, front.shape, front.reshape(lead, -1)


def _places(labels: Labels, width: int) -> NDArray[np.int64]:
    """Return the places of each label along the axes of labels, a row for each repetition."""
    flat = labels.reshape(-1)
    order = np.argsort(flat, kind="stable")
    order = order[flat[order] >= 0]
    return order.reshape(width, -1).T
