"""Sums of squares that neither overflow nor underflow, whatever the sizes of the weights.

The norms of two rows of one layer may differ by a factor of 1e163. Then no common scale has room
for both squares. So each sum has its own power of two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

_LEAST = -(2**40)
"""The exponent of zero, below all others."""


@dataclass(frozen=True, eq=False)
class Scaled:
    """Real numbers ``values * 2^exponents``, one power of two for each.

    Attributes
    ----------
    values : ndarray of float64, shape (n,)
        Zero, or between 0.5 and 1 in absolute value.
    exponents : ndarray of int64, shape (n,)
        A very small number where the value is zero.
    """

    values: FloatArray
    exponents: IntArray

    @classmethod
    def of(cls, values: ArrayLike, exponents: ArrayLike = 0) -> Scaled:
        """Return the numbers ``values * 2^exponents``."""
        fractions, powers = np.frexp(np.asarray(values, dtype=np.float64))
        shifted = powers.astype(np.int64) + np.asarray(exponents, dtype=np.int64)
        return cls(fractions, np.where(fractions == 0.0, _LEAST, shifted))

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return int(self.values.size)

    def __add__(self, other: Scaled) -> Scaled:
        common = np.maximum(self.exponents, other.exponents)
        return Scaled.of(self.at(common) + other.at(common), common)

    def __sub__(self, other: Scaled) -> Scaled:
        return self + Scaled(-other.values, other.exponents)

    def times(self, factor: ArrayLike) -> Scaled:
        """Return the products with factors of moderate size."""
        return Scaled.of(self.values * np.asarray(factor, dtype=np.float64), self.exponents)

    def at(self, exponents: ArrayLike) -> FloatArray:
        """Return the numbers divided by ``2^exponents``. Small ones may become zero."""
        shift = np.maximum(self.exponents - np.asarray(exponents), -5000)
        divided: FloatArray = np.ldexp(self.values, np.minimum(shift, 5000).astype(np.int32))
        return divided

    def larger(self, other: Scaled) -> Scaled:
        """Return the larger of each two numbers, none of which is negative."""
        common = np.maximum(self.exponents, other.exponents)
        first = self.at(common) >= other.at(common)
        return Scaled(
            np.where(first, self.values, other.values),
            np.where(first, self.exponents, other.exponents),
        )

    def sums(self, places: IntArray, size: int) -> Scaled:
        """Return the sums over equal places, which are from 0 to below `size`."""
        most = np.full(size, _LEAST)
        np.maximum.at(most, places, self.exponents)
        parts = self.at(most[places])
        return Scaled.of(np.bincount(places, weights=parts, minlength=size), most)

    def part(self, places: IntArray) -> Scaled:
        """Return the numbers at some places."""
        return Scaled(self.values[places], self.exponents[places])


def whole_numbers(*arrays: Scaled) -> tuple[Fraction, list[list[int]]]:
    """Return exact multiples of a common unit, and the unit, a power of two.

    Examples
    --------
    >>> unit, (whole,) = whole_numbers(Scaled.of([1.5, -0.25, 0.0]))
    >>> [number * unit for number in whole]
    [Fraction(3, 2), Fraction(-1, 4), Fraction(0, 1)]
    """
    used = [array.exponents[array.values != 0.0] for array in arrays]
    least = min((int(exponents.min()) for exponents in used if exponents.size), default=0) - 53
    whole = []
    for array in arrays:
        digits = np.ldexp(array.values, 53).astype(np.int64).tolist()
        shifts = (array.exponents - 53 - least).tolist()
        whole.append([d << s if d else 0 for d, s in zip(digits, shifts, strict=True)])
    return Fraction(2) ** least, whole


def square_root(number: Fraction) -> float:
    """Return the square root of a number >= 0 that may lie far outside the range of floats.

    Examples
    --------
    >>> square_root(Fraction(10) ** -640)
    1e-320
    """
    if number <= 0:
        return 0.0
    half = (number.numerator.bit_length() - number.denominator.bit_length()) // 2
    root = float(number / Fraction(4) ** half) ** 0.5
    try:
        return math.ldexp(root, half)
    except OverflowError:
        return math.inf


def sums_of_squares(name: str, weights: ArrayLike, groups: list[Places]) -> list[Scaled]:
    """Return for each of several groupings of the scalars of a tensor the sums of squares.

    Raises
    ------
    ValueError
        If a weight is not finite.
    """
    array = np.asarray(weights)
    array = array.reshape(array.shape or (1,))
    largest = max(float(array.max(initial=0.0)), -float(array.min(initial=0.0)))
    if not np.isfinite(largest):
        raise ValueError(f"weights[{name!r}]: must be finite numbers")
    common = int(np.frexp(largest)[1])
    shift = common if abs(common) > 200 else 0
    totals = [np.zeros(group.dims) for group in groups]
    for start, part in _slices(array):
        numbers = part.astype(np.float64)
        if shift:
            numbers = np.ldexp(numbers, -shift)
        squares = np.square(numbers, out=numbers)
        for group, total in zip(groups, totals, strict=True):
            group.add(total, start, squares)
    return [
        group.refined(array, Scaled.of(group.totals(total), 2 * shift))
        for group, total in zip(groups, totals, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class Places:
    """A grouping of the scalars of a tensor by their indices along some axes.

    Attributes
    ----------
    shape : tuple of int
        The shape of the tensor.
    axes : tuple of int
        In ascending order.
    numbers : ndarray of int64
        The number of the group for each index along the axes, in C order.
    count : int
        How many groups there are.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    numbers: IntArray
    count: int

    @property
    def dims(self) -> tuple[int, ...]:
        """The lengths of the tensor's axes, 1 for those that are not among `axes`."""
        return tuple(n if i in self.axes else 1 for i, n in enumerate(self.shape))

    @property
    def _others(self) -> tuple[int, ...]:
        return tuple(i for i in range(len(self.shape)) if i not in self.axes)

    def add(self, total: FloatArray, start: int, part: FloatArray) -> None:
        """Add the sums of a slice of the tensor that starts at an index of its first axis."""
        reduced = part.sum(axis=self._others, keepdims=True)
        if 0 in self.axes:
            total[start : start + len(part)] += reduced
        else:
            total += reduced

    def totals(self, total: FloatArray) -> FloatArray:
        """Return the sums of the groups."""
        return np.bincount(self.numbers, total.ravel(), self.count).astype(np.float64)

    def refined(self, array: NDArray[Any], sums: Scaled) -> Scaled:
        """Return sums of which the very small ones are computed anew, each at its own scale."""
        least = sums.exponents.max(initial=_LEAST) - 900
        if not np.any(small := sums.exponents < least) or not array.any():
            return sums
        most = np.abs(array).max(axis=self._others, keepdims=True, initial=0)
        powers = Scaled.of(most.ravel()).exponents
        shifts = np.full(self.count, _LEAST)
        np.maximum.at(shifts, self.numbers, powers)
        small &= shifts > _LEAST
        if not small.any():
            return sums
        wanted = np.where(small, -shifts, -10_000).astype(np.int32)
        factors = wanted[self.numbers].reshape(self.dims)
        total = np.zeros(self.dims)
        for start, part in _slices(array):
            rows = factors[start : start + len(part)] if 0 in self.axes else factors
            self.add(total, start, np.square(np.ldexp(part.astype(np.float64), rows)))
        anew = Scaled.of(self.totals(total), 2 * shifts)
        return Scaled(
            np.where(small, anew.values, sums.values),
            np.where(small, anew.exponents, sums.exponents),
        )


def _slices(array: NDArray[Any]) -> list[tuple[int, NDArray[Any]]]:
    """Return slices along the first axis, each of about a million scalars, and their starts."""
    step = max(1, 2**20 * len(array) // max(array.size, 1))
    return [(start, array[start : start + step]) for start in range(0, len(array), step)]
