"""Tilted laws for importance sampling, and the choice of a tilt for each cell.

A law of a weight W is *tilted* by ``kappa >= 0`` when its density is multiplied by
``exp(-kappa w^2)`` and normalised by ``Z(kappa) = E[exp(-kappa W^2)]``, so that small weights
become more likely. Here are ``Z``, the mean of ``W^2`` under the tilted law, and the parameters by
which the kernels draw from it. All laws but the constant one have a density proportional to
``exp(-k w^2)`` on an interval ``[-b, b]``, before and after tilting.

Every cell has a nearly optimal tilt. It is rounded to one of a discrete set of tilts, so that
cells with the same tilt share their samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from obstruction.schemes.laws import CONSTANT, CUT_STD, NORMAL, TRUNCATED, UNIFORM, Law

FloatArray: TypeAlias = NDArray[np.float64]

LEVEL: Final = 20
"""Tilts are numbered in units of ``2**-LEVEL``, the finest grid that any d <= 1e9 asks for."""

_SPACING: Final = 0.75
"""Largest distance of neighbouring tilts, in standard deviations of the sum S under them."""

_FEW: Final = 32
"""With fewer inputs than these, neighbouring tilts are as close as with these.

If kappa exceeds ``1/(2a)``, exp(kappa S) grows faster than the tail of a normal output falls. At
this distance between nodes the weights still have their first 16 moments.
"""

_STEEPEST: Final = 700.0  # log(1 + 2 kappa) of the largest kappa considered
_SMALL: Final = 1e-6  # a normal with a narrower cut is uniform to rounding
_HALVINGS: Final = 60  # steps of bisection


# --- cells ---------------------------------------------------------------------------------


class Cells(NamedTuple):
    """Cells in which a neuron is pathological iff ``a V^2 > S``, the sum of d W^2 and beta B^2.

    The laws of the hidden weights W, the output weight V and the bias B are common to all cells;
    ``d``, ``a`` and ``beta`` have one entry per cell.
    """

    hidden: Law
    output: Law
    bias: Law
    d: FloatArray
    a: FloatArray
    beta: FloatArray

    def at(self, rows: NDArray[np.int64]) -> Cells:
        """Return the cells at the given places."""
        return self._replace(d=self.d[rows], a=self.a[rows], beta=self.beta[rows])

    def least_and_largest(self) -> tuple[FloatArray, FloatArray]:
        """Return the smallest and the largest value of S."""
        bias = np.where(self.beta > 0.0, self.bias.bound, 0.0)
        with np.errstate(invalid="ignore"):
            largest = self.d * self.hidden.bound**2 + self.beta * bias**2
        fixed = self.d * (self.hidden == CONSTANT) + self.beta * (self.bias == CONSTANT)
        return fixed, largest

    def edge(self) -> FloatArray:
        """Return the largest value of ``a V^2``; with a = 0 it is that for a = 1."""
        return np.where(self.a > 0.0, self.a, 1.0) * self.output.bound**2

    def never(self) -> NDArray[np.bool_]:
        """Return where the probability p that a neuron is pathological is exactly 0."""
        return np.asarray((self.a == 0.0) | (self.edge() <= self.least_and_largest()[0]))

    def always(self) -> NDArray[np.bool_]:
        """Return where p is exactly 1."""
        least = self.a if self.output == CONSTANT else 0.0
        return np.asarray(np.isinf(self.a) | (least > self.least_and_largest()[1]))

    def mean(self, kappa: FloatArray) -> FloatArray:
        """Return the mean of S when the laws of W and B are tilted."""
        bias = np.where(self.beta > 0.0, mean_square(self.bias, kappa * self.beta), 0.0)
        return self.d * mean_square(self.hidden, kappa) + self.beta * bias


# --- one weight under a tilt ---------------------------------------------------------------


def _shape(law: Law) -> tuple[float, float]:
    """Return (k, b) of a law whose density is proportional to ``exp(-k w^2)`` on ``[-b, b]``."""
    return {NORMAL: (0.5, math.inf), UNIFORM: (0.0, UNIFORM.bound)}.get(
        law, (CUT_STD**2 / 2.0, TRUNCATED.bound)
    )


def log_mean_exp(law: Law, kappa: FloatArray) -> FloatArray:
    """Return ``log Z(kappa) = log E[exp(-kappa W^2)]``."""
    if law == CONSTANT:
        return -kappa
    if law == NORMAL:
        return -0.5 * np.log1p(2.0 * kappa)
    k, b = _shape(law)
    x = b * np.sqrt(k + kappa)
    return _log_mean_from_zero(x) - _log_mean_from_zero(np.asarray(b * math.sqrt(k)))


def _log_mean_from_zero(x: FloatArray) -> FloatArray:
    """Return the logarithm of the mean of ``exp(-t^2)`` for t uniform on ``[0, x]``."""
    x = np.maximum(x, 1e-150)
    return np.asarray(np.log(special.erf(x) / x) + math.log(math.pi) / 2 - math.log(2))


def mean_square(law: Law, kappa: FloatArray) -> FloatArray:
    """Return the mean of ``W^2`` under the law tilted by ``kappa``."""
    if law == CONSTANT:
        return np.ones_like(kappa)
    if law == NORMAL:
        return 1.0 / (1.0 + 2.0 * kappa)
    k, b = _shape(law)
    x = np.maximum(b * np.sqrt(k + kappa), 1e-3)
    with np.errstate(under="ignore"):
        missing = 2.0 / math.sqrt(math.pi) * x * np.exp(-x * x) / special.erf(x)
    return np.asarray((1.0 - missing) * b * b / (2.0 * x * x))


def edge_and_scale(law: Law, kappa: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the edge and the scale by which the kernel knows a tilted law."""
    if law == CONSTANT:
        return np.ones_like(kappa), np.ones_like(kappa)
    if law == NORMAL:
        return np.ones_like(kappa), 1.0 / (0.5 + kappa)
    k, b = _shape(law)
    x = np.maximum(b * np.sqrt(k + kappa), _SMALL)
    return np.asarray(special.erf(x)), (b / x) ** 2


# --- the output weight ---------------------------------------------------------------------

_SLOPES: Final = {NORMAL: 0.5, UNIFORM: 1.0 / 3.0, TRUNCATED: CUT_STD**2 / 2.0, CONSTANT: 1.0}
"""The argument ``slope`` of the kernel `weigh`, times a."""

_BEYOND: Final = math.erfc(math.sqrt(2.0))  # P(|X| > 2) of a standard normal X


def log_tail(law: Law, x: FloatArray) -> FloatArray:
    """Return ``log P(V^2 > x)``."""
    root = np.sqrt(_SLOPES[law] * x)
    with np.errstate(divide="ignore", invalid="ignore"):
        if law == NORMAL:
            tail = np.log(special.erfcx(root)) - root * root
        elif law == UNIFORM:
            tail = np.log1p(-np.minimum(root, 1.0))
        elif law == TRUNCATED:
            left = np.maximum(special.erfc(root) - _BEYOND, 0.0)
            tail = np.log(left) - math.log1p(-_BEYOND)
        else:
            tail = np.where(root < 1.0, 0.0, -np.inf)
    return np.asarray(tail)


def _log_hazard(law: Law, x: FloatArray) -> FloatArray:
    """Return ``log(-(d/dx) log P(V^2 > x))`` for a bounded law with a density; inf beyond it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        density = -_SLOPES[law] * x if law == TRUNCATED else 0.0 * x
        factor = math.sqrt(_SLOPES[law]) / (1.0 if law == UNIFORM else math.sqrt(math.pi))
        density = density + math.log(factor) - math.log(2.0 if law == UNIFORM else 1.0)
        if law == TRUNCATED:
            density = density - math.log1p(-_BEYOND)
        hazard = density - np.log(x) / 2.0 - log_tail(law, x)
    return np.where(x < law.bound**2, hazard, np.inf)


# --- tilts ---------------------------------------------------------------------------------


def best_tilt(cells: Cells) -> FloatArray:
    """Return ``log(1 + 2 kappa)`` of a nearly optimal tilt for each cell."""
    if cells.output == NORMAL:
        return np.log1p(1.0 / cells.a)
    low, high = np.zeros_like(cells.d), np.full_like(cells.d, _STEEPEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        kappa = np.expm1(middle) / 2.0
        x = cells.mean(kappa) / cells.a
        if cells.output == CONSTANT:
            more = x > cells.d / (cells.d + 2.0)
        else:
            more = _log_hazard(cells.output, x) > np.log(cells.a) + np.log(kappa)
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return np.where(high < _STEEPEST, (low + high) / 2.0, 0.0)


def _numbers(cells: Cells) -> NDArray[np.int64]:
    """Return the number of every cell's tilt, in units of ``2**-LEVEL``."""
    level = np.ceil(np.log2(np.sqrt(np.maximum(cells.d, _FEW) / 2.0) / _SPACING))
    place = best_tilt(cells) * 2.0**level
    # With a large bias, kappa above 1/(2a) could leave the weights without moments.
    below = (cells.beta > 1.0) & (cells.output == NORMAL)
    nearest = np.where(below, np.floor(place), np.rint(place))
    return (nearest * 2.0 ** (LEVEL - level)).astype(np.int64)


class Tilt(NamedTuple):
    """A tilt with its cells, in the kernel's terms."""

    number: int
    rows: NDArray[np.int64]
    kappa: float
    columns: NDArray[np.int64]
    first: NDArray[np.int64]
    cells: FloatArray
    log_scale: FloatArray  # logarithm of the factor on the kernel's weights
    log_bound: FloatArray  # logarithm of a bound on the weights

    @property
    def effort(self) -> int:
        """The rough cost of one sample."""
        return int(self.columns[-1]) + 4 * len(self.rows)

    @classmethod
    def of(cls, number: int, rows: NDArray[np.int64], cells: Cells) -> Tilt:
        """Describe the cells of a tilt, which are in the order of d and beta."""
        kappa = math.expm1(number * 2.0**-LEVEL) / 2.0
        columns, first = np.unique(cells.d, return_index=True)
        tilts = np.full_like(cells.d, kappa)
        # The weight is scaled to 1 at a typical sum, so that it neither overflows nor underflows.
        largest = np.minimum(cells.edge(), cells.least_and_largest()[1])
        sums = np.minimum(cells.mean(tilts), cells.edge() * (1.0 - 1.0 / (cells.d + 2.0)))
        sums = np.maximum(sums, cells.least_and_largest()[0])
        tail = log_tail(cells.output, sums / cells.a)
        shift = kappa * sums + np.where(np.isfinite(tail), tail, 0.0)
        log_mean = cells.d * log_mean_exp(cells.hidden, np.asarray(kappa))
        log_mean = log_mean + log_mean_exp(cells.bias, kappa * cells.beta)
        slope = _SLOPES[cells.output] / cells.a
        described = np.stack(
            [shift, slope, cells.beta, *edge_and_scale(cells.bias, kappa * cells.beta)], axis=1
        )
        bound = log_mean + (kappa * largest if kappa else 0.0)
        sizes, starts = columns.astype(np.int64), np.append(first, cells.d.size)
        return cls(number, rows, kappa, sizes, starts, described, log_mean + shift, bound)


def grouped(cells: Cells) -> Iterator[Tilt]:
    """Yield the tilts with the cells whose probability is not certain."""
    rows = np.flatnonzero(~(cells.never() | cells.always()))
    open_cells = cells.at(rows)
    numbers = _numbers(open_cells)
    order = np.lexsort((open_cells.beta, open_cells.d, numbers))
    for part in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
        if part.size:
            yield Tilt.of(int(numbers[part[0]]), rows[part], open_cells.at(part))
