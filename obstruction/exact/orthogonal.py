"""The probability that a neuron with orthogonal weights is pathological.

A matrix of hidden weights of shape (l, d) is ``g`` times a uniformly distributed semi-orthogonal
matrix. Its rows have the length ``g`` if ``l <= d``. Otherwise its columns are orthonormal, and the
square of a row is ``g^2 S`` with ``S ~ Beta(d/2, (l - d)/2)``. The output weights are a vector of
length ``h`` that is uniform on a sphere, so the square of one is ``h^2 R`` with
``R ~ Beta(1/2, (l - 1)/2)``. A neuron is therefore pathological with the probability

    p = P(R > rho S),   rho = (g / h)^2,   and S = 1 for l <= d.

The tail ``P(R > r)`` is that of the F distribution with ``a = (1 - r) / r`` and ``l - 1`` inputs.
With ``S = sin(t)^2`` one integral over ``t`` remains, which the trapezoidal rule computes after the
substitution ``t = end / (1 + exp(-x))``. The integrand has one hump in ``x``, decays exponentially
at both ends and is positive, so the relative error does not depend on p. It is at most 1e-11 for
``l <= 1e5``. The neurons of a network depend on each other, so nothing is known about several.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from scipy import special

from obstruction.exact import f_distribution as normal
from obstruction.exact.checks import FloatArray

Factors: TypeAlias = tuple[FloatArray, FloatArray]

LARGEST_WIDTH: Final = 10**6
"""The largest l at which the integral is accurate."""

_NODES: Final = 240
"""The number of nodes of the trapezoidal rule."""
_COARSE: Final = 100
"""The number of nodes among which the hump is looked for."""
_REACH: Final = 100.0
"""The hump is looked for between -100 and 100. Beyond, the integrand is below exp(-50)."""
_CUT: Final = 38.0
"""The integral is cut where the integrand is below exp(-38) times its maximum."""
_CHUNK: Final = 64
"""The number of cells evaluated together."""


def factors(d: FloatArray, l: FloatArray, rho: float) -> Factors:
    """Return (exponent, factor) with ``p = exp(exponent) * factor``.

    Parameters
    ----------
    d, l : ndarray
        Inputs and hidden neurons, of one shape.
    rho : float
        The square of the gain of the hidden weights over that of the output weights, in [0, inf].
    """
    exponent, factor = np.zeros(l.shape), np.zeros(l.shape)
    if rho == 0.0:
        return exponent, factor + 1.0
    if rho == np.inf:
        return exponent, factor
    if rho < 1.0:
        factor[l == 1.0] = 1.0
        short = (l <= d) & (l > 1.0)
        ratio = np.full(int(short.sum()), (1.0 - rho) / rho)
        exponent[short], factor[short] = normal.factors(l[short] - 1.0, ratio)
    cells = np.flatnonzero(l > d)
    for start in range(0, cells.size, _CHUNK):
        chunk = cells[start : start + _CHUNK]
        own = d.flat[chunk][:, None], l.flat[chunk][:, None], rho
        exponent.flat[chunk], factor.flat[chunk] = _long(*own)
    return exponent, factor


def _long(d: FloatArray, l: FloatArray, rho: float) -> Factors:
    """Return the factors for l > d, for columns of cells."""
    quarter = np.pi / 2.0
    end = quarter if rho <= 1.0 else np.arctan(1.0 / np.sqrt(rho - 1.0))

    def log_density(x: FloatArray, last: float) -> FloatArray:
        """Return the log density of x = log(t / (last - t)), up to a constant."""
        t, left = last * special.expit(x), last * special.expit(-x)
        sine, cosine = np.sin(t), np.sin(quarter - last + left)
        slope = special.log_expit(x) + special.log_expit(-x) + np.log(last)
        return np.asarray((d - 1.0) * np.log(sine) + (l - d - 1.0) * np.log(cosine) + slope)

    def log_all(x: FloatArray) -> FloatArray:
        return log_density(x, quarter)

    def log_pathological(x: FloatArray) -> FloatArray:
        t, left = end * special.expit(x), end * special.expit(-x)
        if rho <= 1.0:
            above = (1.0 - rho) + rho * np.sin(left) ** 2
        else:
            above = rho * np.sin(left) * np.sin(end + t)
        tail = normal.factors(np.broadcast_to(l - 1.0, x.shape), above / (rho * np.sin(t) ** 2))
        with np.errstate(divide="ignore"):
            return log_density(x, end) + tail[0] + np.log(tail[1])

    top, part = _integral(log_pathological, d.shape[0])
    whole_top, whole = _integral(log_all, d.shape[0])
    return top - whole_top, part / whole


def _integral(log_integrand: Callable[[FloatArray], FloatArray], cells: int) -> Factors:
    """Return (exponent, factor) of the integrals of functions with one hump each."""
    low, high = np.full((cells, 1), -_REACH), np.full((cells, 1), _REACH)
    share = np.linspace(0.0, 1.0, _COARSE)
    for _ in range(4):
        x = low + (high - low) * share
        values = log_integrand(x)
        top = values.max(axis=1, keepdims=True)
        inside = values > top - _CUT
        first = np.maximum(inside.argmax(axis=1) - 1, 0)
        last = np.minimum(_COARSE - inside[:, ::-1].argmax(axis=1), _COARSE - 1)
        rows = np.arange(cells)
        low, high = x[rows, first][:, None], x[rows, last][:, None]
    x = low + (high - low) * np.linspace(0.0, 1.0, _NODES)
    terms = np.exp(log_integrand(x) - top)
    return top[:, 0], terms.sum(axis=1) * (high - low)[:, 0] / (_NODES - 1)
