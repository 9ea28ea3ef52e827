"""The contour integral, for output weights of a bounded law and many hidden weights.

Weights are measured in the units of `obstruction.exact.transforms`. A neuron is pathological iff
``D = alpha V^2 - S > 0`` with ``S = c + sum of d squares + beta B^2``. By Laplace inversion

    p = (1 / 2 pi i) int exp(Psi(z)) dz,   exp(Psi(z)) = E exp(z D) / z,   Re z = s > 0

(Daniels 1954; Lugannani and Rice 1980). The line runs through the real saddle point of ``Psi``. The
trapezoidal rule sums ``exp(Psi(z) - Psi(s))`` until its terms are negligible. For every shift
``delta`` of the line that meets no singularity, the error of the rule is at most about
``exp(-2 pi delta / h + Psi(s + delta) - Psi(s))``, which determines the step ``h``.

If ``alpha`` is above 1.1 times the mean of ``S``, p is not small and the saddle point is near the
pole at 0. In this case the formula of the density of V is continued beyond its bound:

    p = p(V continued) + int_1^inf density(u) P(S > alpha u^2) du.

The first term is a real integral, and the second a contour integral left of the pole, ``s < 0``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from obstruction.exact import craig_integral as craig
from obstruction.exact.checks import FloatArray
from obstruction.exact.transforms import (
    INSIDE,
    MEAN,
    AnyArray,
    log_beyond,
    log_top,
    log_transform,
    slope,
)
from obstruction.schemes.laws import CONSTANT, NORMAL, TRIANGULAR, UNIFORM, Law

_CHUNK: Final = 512
"""The number of cells that are integrated together."""
_DIGITS: Final = 36.0
"""The step of the trapezoidal rule is chosen for a relative error of exp(-36)."""
_NEGLIGIBLE: Final = 5e-13
"""A sum ends if its last terms times their number are below this fraction of it."""
_HUMPS: Final = 40.0
"""With fewer hidden weights terms can fall and rise again, so a whole block must be negligible."""
_MOST: Final = 200_000
"""The largest number of terms of a sum. More would be an error, which has never occurred."""
_SHIFTS: Final = (0.15, 0.3, 0.5, 0.7, 0.85, 0.95)


@dataclass(frozen=True)
class Cells:
    """Cells with an ``alpha`` and a sum ``S = c + U_1^2 + ... + U_d^2 + beta B^2`` each."""

    hidden: Law
    bias: Law
    d: FloatArray
    alpha: FloatArray
    beta: FloatArray
    c: FloatArray

    def take(self, cells: Any) -> Cells:
        """Return the cells at the given indices."""
        parts = (part[cells] for part in (self.d, self.alpha, self.beta, self.c))
        return Cells(self.hidden, self.bias, *parts)

    def mean(self) -> FloatArray:
        """Return the mean of S without c."""
        return self.d * MEAN[self.hidden] + self.beta * MEAN[self.bias]

    def log_transform(self, z: AnyArray) -> AnyArray:
        """Return log E exp(-z (S - c))."""
        value = self.d * log_transform(self.hidden, z)
        if self.beta.any():
            value = value + log_transform(self.bias, self.beta * z)
        return value

    def slope(self, z: FloatArray) -> FloatArray:
        """Return minus the derivative of `log_transform`."""
        value = self.d * slope(self.hidden, z)
        if self.beta.any():
            value = value + self.beta * slope(self.bias, self.beta * z)
        return value


def solve(output: Law, cells: Cells) -> tuple[FloatArray, FloatArray]:
    """Return (exponent, factor) of p, for alpha > c and a bounded output law."""
    exponent, factor = np.zeros_like(cells.alpha), np.zeros_like(cells.alpha)
    limit = 1.0 if output == CONSTANT else 1.1
    upper = cells.alpha - cells.c > limit * cells.mean()
    for part, function in ((~upper, _right), (upper, _left)):
        where = np.flatnonzero(part)
        for start in range(0, where.size, _CHUNK):
            chunk = where[start : start + _CHUNK]
            exponent[chunk], factor[chunk] = function(output, cells.take(chunk))
    return exponent, factor


def _right(output: Law, cells: Cells) -> tuple[FloatArray, FloatArray]:
    """Integrate right of the pole at 0."""

    def psi(x: Cells, z: AnyArray) -> AnyArray:
        return (x.alpha - x.c) * z + log_top(output, x.alpha * z) + x.log_transform(z) - np.log(z)

    def rise(z: FloatArray) -> FloatArray:
        # the derivative of log E exp(w (U^2 - 1)) at w = alpha z
        top = slope(output, -cells.alpha * z) - 1.0
        return (cells.alpha - cells.c) + cells.alpha * top - cells.slope(z) - 1.0 / z

    gap = cells.alpha - cells.c
    s = _saddle(rise, 1.0 / cells.alpha / 2.0, (cells.d / 2.0 + 12.0) / gap)
    at = psi(cells, s)
    shifts = [-s * part for part in _SHIFTS] + [s * part for part in (0.3, 1.0, 3.0, 9.0, 30.0)]
    h = _step(lambda shift: psi(cells, s + shift) - at, shifts)
    return at, _trapezoid(psi, cells, s, h, at)


def _left(output: Law, cells: Cells) -> tuple[FloatArray, FloatArray]:
    """Return p = base + sign * (integral left of the pole at 0)."""

    def psi(x: Cells, z: AnyArray) -> AnyArray:
        return (
            (x.alpha - x.c) * z + log_beyond(output, -x.alpha * z) + x.log_transform(z) - np.log(-z)
        )

    if output == CONSTANT:
        base, sign = np.ones_like(cells.alpha), -1.0
    elif output == UNIFORM:
        base, sign = 1.0 - np.sqrt(cells.c / cells.alpha) - _mean_root(cells), 1.0
    elif output == TRIANGULAR:  # E (1 - q)^2 with q^2 = S / alpha; the density is negative beyond
        root = np.sqrt(cells.c / cells.alpha) + _mean_root(cells)
        base = 1.0 - 2.0 * root + (cells.c + cells.mean()) / cells.alpha
        sign = -1.0
    else:
        whole = craig.solve(cells.alpha / 4.0, cells.c, cells.log_transform, cells.slope)
        base = (np.exp(whole[0]) * whole[1] - (1.0 - INSIDE)) / INSIDE
        sign = 1.0
    # the distance from 0 to the next singularity on the left
    below = np.full_like(cells.alpha, 0.5 if cells.hidden == NORMAL else np.inf)
    if cells.bias == NORMAL:
        with np.errstate(divide="ignore"):
            below = np.minimum(below, 0.5 / cells.beta)
    reach = cells.d + cells.beta  # the bound of S - c, if S is bounded
    where = np.flatnonzero(
        ~np.isinf(below) | (cells.alpha - cells.c < reach)
    )  # where S can be > alpha
    cells, below, gap = cells.take(where), below[where], (reach - cells.alpha + cells.c)[where]
    ends = np.where(np.isinf(below), 1.0, below)

    def place(q: FloatArray) -> FloatArray:
        return np.where(np.isinf(below), q, ends * (q / (1.0 + q)))

    def rise(q: FloatArray) -> FloatArray:
        r = place(q)
        log = log_beyond(output, cells.alpha * r)
        step = (log_beyond(output, cells.alpha * r * (1.0 + 1e-6)) - log) / (r * 1e-6)
        return cells.c - cells.alpha + step + cells.slope(-r) - 1.0 / r

    high = np.where(np.isinf(below), (cells.d / 2.0 + 12.0) / np.maximum(gap, 1e-300), 1e12)
    q = _saddle(rise, 0.02 / reach[where], np.maximum(high, 1.0 / reach[where]))
    r = place(q)
    with np.errstate(all="ignore"):
        at = psi(cells, -r)
    alive = np.flatnonzero(at > -45.0)  # Chernoff's bound
    where, cells, r, at, below = where[alive], cells.take(alive), r[alive], at[alive], below[alive]
    room = np.minimum(below - r, 31.0 * r)
    shifts = [r * part for part in _SHIFTS] + [-room * part for part in (0.01, 0.03, 0.1, 0.3, 0.8)]
    h = _step(lambda shift: psi(cells, -r + shift) - at, shifts)
    base[where] += sign * np.exp(at) * _trapezoid(psi, cells, -r, h, at)
    return np.zeros_like(base), base


def _mean_root(cells: Cells) -> FloatArray:
    """Return (E sqrt S - sqrt c) / sqrt alpha.

    It is ``int_0^inf exp(-c y^2) (1 - E exp(-y^2 (S - c))) / y^2 dy / sqrt(pi alpha)``, a sum of
    positive terms after the substitution ``y = scale sinh t``.
    """
    h = 0.13
    t = h * np.arange(1, 300)
    scale = 1.0 / np.sqrt(cells.mean() + cells.c)
    total = scale**2 * cells.mean() / 2.0  # the term at 0
    wide = cells.take((slice(None), None))
    for block in np.array_split(t, 6):
        x = (scale[:, None] * np.sinh(block)) ** 2
        terms = np.exp(-wide.c * x) * -np.expm1(wide.log_transform(x)) / x
        total = total + np.sum(terms * np.cosh(block), axis=1) * scale**2
    return h * total / scale / np.sqrt(np.pi * cells.alpha)


def _saddle(
    rise: Callable[[FloatArray], FloatArray], low: FloatArray, high: FloatArray
) -> FloatArray:
    """Return the root of an increasing function to one percent, by bisection in the logarithm."""
    low, high = np.log(low), np.log(high)
    rounds = math.ceil(math.log2(max(float(np.max(high - low, initial=1.0)), 1.0) / 0.01))
    with np.errstate(all="ignore"):
        for _ in range(rounds):
            middle = (low + high) / 2.0
            above = rise(np.exp(middle)) > 0.0
            low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.exp((low + high) / 2.0)


def _step(change: Callable[[FloatArray], FloatArray], shifts: list[FloatArray]) -> FloatArray:
    """Return the step of the trapezoidal rule, the smaller of those for shifts to either side."""
    best = {True: np.zeros_like(shifts[0]), False: np.zeros_like(shifts[0])}
    with np.errstate(all="ignore"):
        for k, shift in enumerate(shifts):
            side = k < len(_SHIFTS)
            h = 2.0 * np.pi * np.abs(shift) / (_DIGITS + np.maximum(change(shift), -_DIGITS / 2))
            best[side] = np.fmax(best[side], h)
    return np.minimum(best[True], best[False])


def _trapezoid(
    psi: Callable[[Cells, AnyArray], AnyArray],
    cells: Cells,
    s: FloatArray,
    h: FloatArray,
    at: FloatArray,
) -> FloatArray:
    """Return (h / 2 pi) sum over all integers k of exp(psi(s + i h k) - psi(s))."""
    total = np.full_like(s, 0.5)
    active = np.arange(s.size)
    first, count = 1, 24
    while active.size and first < _MOST:
        size = max(1, 2**15 // count)
        ended = np.zeros(active.size, dtype=np.bool_)
        for start in range(0, active.size, size):
            part = active[start : start + size]
            z = s[part, None] + 1j * (h[part, None] * np.arange(first, first + count))
            with np.errstate(all="ignore"):
                terms = np.exp(psi(cells.take((part, None)), z) - at[part, None])
            total[part] += np.sum(terms.real, axis=1)
            sizes = np.abs(terms)
            last = np.where(
                cells.d[part] < _HUMPS, np.max(sizes, axis=1), np.max(sizes[:, -3:], axis=1)
            )
            ended[start : start + size] = last * first < _NEGLIGIBLE * np.abs(total[part])
        active = active[~ended]
        first, count = first + count, min(count + count // 2, 256)
    if active.size:
        cell = cells.take(active[0])
        raise ArithmeticError(
            f"the contour integral did not settle within {_MOST:,} terms at d = {cell.d:g}, "
            f"alpha = {cell.alpha:g}, beta = {cell.beta:g}; please report this"
        )
    return h / np.pi * total
