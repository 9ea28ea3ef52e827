"""Real integrals, for output weights of a bounded law and few or constant hidden weights.

With few hidden weights the contour integral oscillates and decays slowly. This module uses, in the
units of `obstruction.exact.transforms`,

    p = E_V G(alpha V^2 - c),
    G(t) = P(U_1^2 + ... + U_d^2 + beta B^2 < t) = E_B F_d(t - beta B^2),

where the distribution functions satisfy ``F_d(t) = E_U F_{d-1}(t - U^2)``. For bounded laws ``F_d``
has kinks at ``t = 1, 2, ..., d``. To the right of a kink it has half-integer powers of the
distance, and to the left it has none. So on each piece it is analytic in ``x = sqrt(t - kink)``,
and a Chebyshev series of 30 terms is accurate to the last digits. On the first piece ``F_d`` can be
tiny, and ``t^(d/2)`` is a separate factor. The outer integrals use Gauss-Legendre rules in the same
variables, on pieces that become smaller towards two close kinks. Every term is positive, so the
relative error does not depend on p.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.polynomial import chebyshev
from scipy import special

from obstruction.exact.checks import FloatArray
from obstruction.exact.f_distribution import gauss_legendre
from obstruction.exact.transforms import INSIDE, NORM, SHIFT
from obstruction.schemes.laws import CONSTANT, NORMAL, TRIANGULAR, TRUNCATED, UNIFORM, Law

FEW: Final = 16
"""The largest number of hidden weights for which this module is used without random biases."""
FEW_BIASED: Final = 7
"""The largest number with random biases."""

_TERMS: Final = 30
_NODES: Final = 20
_CHUNK: Final = 128
_KINKS_OF_NORMAL: Final = (0.0, 4.0, 16.0, 36.0, 64.0, 110.0)
"""The ends of the pieces for a sum of normal squares. Beyond the last, the function is 1."""
_CUTS_OF_BIAS: Final[dict[Law, tuple[float, ...]]] = {
    UNIFORM: (0.0, 1.0),
    TRUNCATED: (0.0, 1.0),
    NORMAL: (0.0, 2.4, 4.8, 7.2, 9.6),
}
"""The ends of the pieces of the density of a bias. Beyond the last, it is 0 or negligible."""


def density(law: Law, u: FloatArray) -> FloatArray:
    """Return the density of the size of a weight at ``u >= 0``, in its unit."""
    if law == UNIFORM:
        return np.ones_like(u)
    if law == TRIANGULAR:
        return 2.0 * (1.0 - u)
    if law == TRUNCATED:
        return np.exp(-SHIFT * u * u) / NORM
    return math.sqrt(2.0 / math.pi) * np.exp(-0.5 * u * u)


def distribution(law: Law, u: FloatArray) -> FloatArray:
    """Return the probability that the size of a weight is below ``u >= 0``, in its unit."""
    if law == UNIFORM:
        return np.asarray(np.minimum(u, 1.0))
    if law == TRUNCATED:
        return np.asarray(special.erf(math.sqrt(SHIFT) * np.minimum(u, 1.0)) / INSIDE)
    return np.asarray(special.erf(u / math.sqrt(2.0)))


def tail(law: Law, above: FloatArray, rest: FloatArray) -> FloatArray:
    """Return P((above + rest) V^2 > rest) for V of a bounded law and nonnegative terms."""
    alpha = above + rest
    length = above / alpha / (1.0 + np.sqrt(rest / alpha))
    if law == UNIFORM:
        return length
    if law == TRIANGULAR:
        return length * length
    nodes, weights = gauss_legendre(_NODES)
    return length * (density(law, 1.0 - length[:, None] * nodes) @ weights)


@dataclass(frozen=True)
class Pieces:
    """The distribution function of a sum of ``d`` squares, piece by piece."""

    law: Law
    d: int
    kinks: tuple[float, ...]
    series: tuple[FloatArray, ...] = ()

    def __call__(self, piece: int, x: FloatArray, scale: FloatArray) -> FloatArray:
        """Return ``F_d(kinks[piece] + x^2) / scale^d``, where `scale` is 1 except on piece 0."""
        front: FloatArray = (x / scale) ** self.d
        if self.law == NORMAL:
            m, half = self.d / 2.0, (self.kinks[piece] + x * x) / 2.0
            if piece:
                return np.asarray(special.gammainc(m, half))
            rest = special.hyp1f1(1.0, m + 1.0, half) * np.exp(-half)
            return np.asarray(front * rest / (2.0**m * special.gamma(m + 1.0)))
        values = _clenshaw(self.series[piece], x)
        return values if piece else front * values


def _clenshaw(series: FloatArray, x: FloatArray) -> FloatArray:
    """Return the sum of a Chebyshev series on [0, 1]."""
    twice = 4.0 * x - 2.0
    after, later = np.full_like(x, series[-1]), np.zeros_like(x)
    for coefficient in series[-2:0:-1]:
        after, later = twice * after - later + coefficient, after
    return np.asarray(0.5 * twice * after - later + series[0])


@functools.cache
def pieces(law: Law, d: int) -> Pieces:
    """Return the distribution function of a sum of ``d`` squares."""
    if d == 0:
        return Pieces(law, 0, (0.0,))
    if law == NORMAL:
        return Pieces(law, d, _KINKS_OF_NORMAL)
    kinks = tuple(float(k) for k in range(d + 1))
    x = (1.0 + np.cos(np.pi * (np.arange(_TERMS) + 0.5) / _TERMS)) / 2.0
    if law == UNIFORM:
        first = np.full_like(x, (math.pi / 4.0) ** (d / 2.0) / math.gamma(d / 2.0 + 1.0))
    else:
        ball = (math.pi / SHIFT) ** (d / 2.0) / (2.0 * NORM) ** d
        first = ball * special.gammainc(d / 2.0, SHIFT * x * x) / x**d
    values, one = [first], np.ones((_TERMS, 1))
    for k in range(1, d):
        t = (k + x * x)[:, None]
        values.append(_add_bias(pieces(law, d - 1), law, one, t, one)[:, 0])
    series = tuple(
        np.asarray(chebyshev.chebfit(2.0 * x - 1.0, value, _TERMS - 1), dtype=np.float64)
        for value in values
    )
    return Pieces(law, d, kinks, series)


def _add_bias(
    base: Pieces, law: Law, beta: FloatArray, t: FloatArray, scale: FloatArray
) -> FloatArray:
    """Return E F(t - beta B^2) / scale^d for beta > 0, in the shape of t.

    The piece of F right of ``kink`` is integrated over the angle ``theta``, where
    ``x = R cos(theta)`` and ``sqrt(beta) B = R sin(theta)`` with ``R^2 = t - kink``. Angles are
    measured from the nearer axis.
    """
    nodes, weights = gauss_legendre(_NODES)
    root = np.sqrt(beta)
    rest = np.maximum(t - base.kinks[-1], 0.0)
    total = distribution(law, np.sqrt(rest) / root)
    for k in range(len(base.kinks) - 1):
        square = np.maximum(t - base.kinks[k], 0.0)
        if not square.any():
            break
        width = base.kinks[k + 1] - base.kinks[k]
        for low, high in itertools.pairwise(_CUTS_OF_BIAS[law]):
            # the points (sqrt(beta) b, x) at both ends of this part
            over = np.maximum(square - width, 0.0)
            b_low = np.maximum(root * low, np.sqrt(over))
            b_high = np.minimum(root * high, np.sqrt(square))
            if not (b_low < b_high).any():
                continue
            from_kink = np.sqrt(np.minimum(np.maximum(square - (root * low) ** 2, 0.0), width))
            x_low = np.where(over > 0.0, from_kink, np.sqrt(np.maximum(square - b_low**2, 0.0)))
            x_high = np.sqrt(np.maximum(square - (root * high) ** 2, 0.0))
            x_high = np.minimum(x_high, x_low)
            near = b_high < x_high * 2.0
            start = np.where(near, np.arctan2(b_low, x_low), np.arctan2(x_high, b_high))
            stop = np.where(near, np.arctan2(b_high, x_high), np.arctan2(x_low, b_low))
            length = np.where(b_low < b_high, np.maximum(stop - start, 0.0), 0.0)
            angle = start[..., None] + length[..., None] * nodes
            one, other = np.sin(angle), np.cos(angle)
            radius = np.sqrt(square)[..., None]
            x = radius * np.where(near[..., None], other, one)
            b = radius / root[..., None] * np.where(near[..., None], one, other)
            terms = base(k, np.minimum(x, math.sqrt(width)), scale[..., None]) * density(law, b) * x
            total = total + length / root * (terms @ weights)
    return total


def solve(
    output: Law, hidden: Law, bias: Law, d: int, alpha: FloatArray, beta: FloatArray, c: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return (exponent, factor) of p for alpha > c and ``beta`` all zero or all positive."""
    result = np.empty_like(alpha)
    scale = np.sqrt(np.minimum(alpha - c, 1.0))
    for start in range(0, alpha.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        cells = alpha[part], beta[part], c[part], scale[part]
        result[part] = _mean(output, pieces(hidden, d), bias, *cells)
    return d * np.log(scale), result


def _mean(
    output: Law,
    base: Pieces,
    bias: Law,
    alpha: FloatArray,
    beta: FloatArray,
    c: FloatArray,
    scale: FloatArray,
) -> FloatArray:
    """Return E_V G(alpha V^2 - c) / scale^d, by pieces of G."""
    kinks = np.array(base.kinks)
    biased = bool(beta.any())
    cuts = np.square(_CUTS_OF_BIAS[bias]) if biased else np.zeros(1)
    breaks = np.sort((kinks + beta[:, None, None] * cuts[:, None]).reshape(alpha.size, -1), axis=1)
    gap = alpha - c
    if output == CONSTANT:
        if biased:
            return _add_bias(base, bias, beta[:, None], gap[:, None], scale[:, None])[:, 0]
        return _at(base, gap, scale)
    nodes, weights = gauss_legendre(_NODES)
    total = tail(output, np.maximum(gap - breaks[:, -1], 0.0), c + breaks[:, -1])
    before = -c  # the last singular point below, which is V = 0 at first
    for i in range(breaks.shape[1] - 1):
        low, high = np.minimum(breaks[:, i], gap), np.minimum(breaks[:, i + 1], gap)
        if i and (breaks[:, i] > breaks[:, i - 1]).any():
            before = np.where(breaks[:, i] > breaks[:, i - 1], breaks[:, i - 1], before)
        active = np.flatnonzero(high > low)
        if not active.size:
            continue
        reach = np.sqrt(high[active] - low[active])
        near = np.sqrt(low[active] - before[active])
        near = np.where(near > 0.0, np.clip(near, 1e-8 * reach, reach), reach)
        steps = max(0, math.ceil(math.log(float(np.max(reach / near))) / math.log(4.0)))
        edges = [np.zeros_like(reach)]
        edges += [reach * (near / reach) ** ((steps - j) / max(steps, 1)) for j in range(steps + 1)]
        base_t = (low + c)[active, None]
        for left, right in itertools.pairwise(edges):
            x = left[:, None] + (right - left)[:, None] * nodes
            t = low[active, None] + x * x
            if biased:
                inner = _add_bias(base, bias, beta[active, None], t, scale[active, None])
            else:
                inner = base(i, x, scale[active, None])
            size = np.sqrt(base_t + x * x)
            measure = density(output, size / np.sqrt(alpha[active, None])) * (x / size)
            total[active] += (right - left) * ((measure * inner) @ weights) / np.sqrt(alpha[active])
    return total


def _at(base: Pieces, t: FloatArray, scale: FloatArray) -> FloatArray:
    """Return F(t) / scale^d."""
    result = np.ones_like(t)
    for k in range(len(base.kinks) - 1):
        here = (t >= base.kinks[k]) & (t < base.kinks[k + 1])
        result[here] = base(k, np.sqrt(t[here] - base.kinks[k]), scale[here])
    return result
