"""The closed form for normal hidden and output weights, by the Fisher-Snedecor distribution.

With ``a = Var W2 / Var W1`` a neuron is pathological iff ``a V^2 > chi2_d`` for a standard normal
``V``. The probability of this is a regularised incomplete beta function (Nurisso et al. 2024,
App. F):

    p(d, a) = P(F_{1,d} > d/a) = I_{a/(1+a)}(d/2, 1/2).

With ``m = d/2``, ``lam = log(1 + 1/a)`` and ``x0 = sqrt(m lam)``, the substitution
``t = exp(-(x0 + s)^2 / m)`` in the beta integral gives

    p = exp(-m lam) J(lam) / J(0),
    J(lam) = int_0^inf exp(-s (2 x0 + s)) sqrt(u / (1 - exp(-u))) ds,   u = lam + s (2 x0 + s) / m.

The integrand is positive and smooth for every ``d`` and ``a``, so nothing cancels and
Gauss-Legendre rules are accurate everywhere. Only the factor in front can underflow. For
``1 <= d <= 1e7`` and ``1e-12 <= a <= 1e12`` the relative error of ``p`` is at most 1e-12, and about
1e-15 if ``p`` is not small. The error of ``log p`` is at most ``1e-14 max(1, |log p|)``.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np

from obstruction.exact.checks import FloatArray

_CUT: Final = 37.0
"""The integral is cut where exp(-s (2 x0 + s)) = exp(-37), below half a unit in the last place."""
_NODES: Final = 40
"""The number of Gauss-Legendre nodes for an error of the integral of 3e-15 for all d and a."""
_FEWER: Final = 24
"""The number of nodes for d >= 4, where the integrand is smoother on the scale of its decay."""
_CHUNK: Final = 1024
"""The number of cells evaluated together, so that they fit into the processor's cache."""


def factors(d: FloatArray, a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (exponent, factor) with p = exp(exponent) * factor."""
    with np.errstate(all="ignore"):  # np.where evaluates both branches everywhere
        lam = np.where(a < 1.0, np.log1p(a) - np.log(a), np.log1p(1.0 / a))
    proper = np.flatnonzero((lam > 0.0) & (lam < np.inf))  # elsewhere p is 1 or 0
    sizes, which = np.unique(d.flat[proper], return_inverse=True)
    whole = _integral(sizes, np.zeros_like(sizes))
    factor = np.ones(a.shape)
    factor.flat[proper] = _integral(sizes[which], lam.flat[proper]) / whole[which]
    exponent = np.array(-d / 2.0 * lam)
    one, two = (proper[d.flat[proper] == size] for size in (1.0, 2.0))  # elementary formulas
    exponent.flat[one] = exponent.flat[two] = 0.0
    factor.flat[one] = np.arctan(np.sqrt(a.flat[one])) * 2.0 / np.pi
    root = np.sqrt(1.0 + a.flat[two])
    factor.flat[two] = a.flat[two] / root / (root + 1.0)
    return exponent, factor


def _integral(d: FloatArray, lam: FloatArray) -> FloatArray:
    """Return the integral J of the module's docstring for two vectors, chunk by chunk."""
    result = np.empty_like(lam)
    for cells, count in ((np.flatnonzero(d < 4.0), _NODES), (np.flatnonzero(d >= 4.0), _FEWER)):
        nodes, weights = gauss_legendre(count)
        for start in range(0, cells.size, _CHUNK):
            chunk = cells[start : start + _CHUNK]
            m, low = d[chunk, None] / 2.0, lam[chunk, None]
            x0 = np.sqrt(m * low)
            length = _CUT / (x0 + np.sqrt(x0 * x0 + _CUT))  # s (2 x0 + s) = _CUT there
            s = length * nodes
            exponent = s * (2.0 * x0 + s)
            u = low + exponent / m
            values = np.exp(-exponent) * np.sqrt(-u / np.expm1(-u))
            result[chunk] = length[:, 0] * np.sum(weights * values, axis=1)
    return result


@functools.cache
def gauss_legendre(count: int) -> tuple[FloatArray, FloatArray]:
    """Return nodes and weights on [0, 1] for an even count, the nodes near 0 to full precision.

    The nodes of NumPy's `leggauss` on [-1, 1] would lose two digits near the ends by rounding.
    Newton's method on ``P_n(cos theta)``, with the recurrence for the differences of ``P_k`` in
    ``1 - cos theta``, keeps all digits.
    """
    theta = np.pi * (np.arange(1, count // 2 + 1) - 0.25) / (count + 0.5)
    for _ in range(5):  # the last iteration only improves the weights
        gap = 2.0 * np.sin(theta / 2.0) ** 2
        value, step = 1.0 - gap, -gap
        for k in range(1, count):
            before = value
            step = k / (k + 1) * step - (2 * k + 1) / (k + 1) * gap * value
            value = value + step
        weights = (np.sin(theta) / (count * before)) ** 2
        theta = theta + value * np.sin(theta) / (count * (before - (1.0 - gap) * value))
    nodes = np.sin(theta / 2.0) ** 2
    return np.concatenate([nodes, 1.0 - nodes[::-1]]), np.concatenate([weights, weights[::-1]])
